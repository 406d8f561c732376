"""Contents of a cache on disk: those that are there, and those that are being written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred

from pyproxy.cache.disk.block import Extent, Handle, PageCache, read_block
from pyproxy.cache.disk.file import INLINE_BYTES, Aside, Read, mark_in, opened
from pyproxy.cache.disk.folder import Folder
from pyproxy.cache.disk.shared import Shared
from pyproxy.cache.seams import BLOCK_BYTES, ContentLost
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.stored import StoredResponse

T = TypeVar("T")


class Keeper(Protocol):
    """What contents ask of their store.

    Attributes:
        entry: octets that one content may have.
        shared: blocks that were read last.
        page_cache: what the kernel has in memory.
    """

    folder: Folder
    entry: int
    shared: Shared
    page_cache: PageCache

    def reserve(self, octets: int) -> bool:
        """Make room in memory for octets that will be written; tell whether there is."""

    def give_back(self, octets: int) -> None:
        """Count octets no more that were reserved."""

    def append(self, filling: DiskFilling, blocks: Sequence[bytes]) -> bool:
        """Have blocks written; tell whether they will be."""

    def keep(self, filling: DiskFilling, blocks: Sequence[bytes]) -> None:
        """Make an entry, once the last blocks are written."""

    def discard(self, filling: DiskFilling) -> None:
        """Store nothing."""

    def read(
        self, content: DiskContent, function: Callable[..., T], *arguments: Any
    ) -> Deferred[T]:
        """Read of a content, or fail with ContentLost."""

    def let_go(self, handle: Handle) -> None:
        """Close a file."""


class DiskContent:
    """The content of a file.

    A short one was read together with the head.  A longer one has the file open while somebody
    holds it, and for a while before; it is opened again by its name for who reads without.  A block
    that was just read, or that the kernel has in memory, is given at once.

    Attributes:
        count: octets.
        name: of the file.
        mark: of the file.
    """

    __slots__ = ("_all", "_handle", "_holds", "_start", "_store", "count", "mark", "name")

    def __init__(self, store: Keeper, name: str, known: Read) -> None:
        self._store = store
        self._all = known.content
        self._handle = known.handle
        self._start = known.extent.start
        self._holds = 0
        self.count = known.extent.count
        self.mark = known.mark
        self.name = name

    def read(self, start: int) -> bytes | Deferred[bytes]:
        """Return some octets from a place on."""
        if start >= self.count:
            return b""
        number, offset = divmod(start, BLOCK_BYTES)
        if self._all is not None:
            return self._all[start:] if start else self._all
        return self._from_file(number, offset)

    def _from_file(self, number: int, offset: int) -> bytes | Deferred[bytes]:
        """Read a block of the file.  A Deferred fails with ContentLost."""
        store, place = self._store, (self.mark, number)
        block = store.shared.get(place)
        if block is None and self._handle is not None:
            extent = Extent(self.mark, self._start, self.count)
            block = store.page_cache.read(self._handle, extent, number)
            if block is not None:
                store.shared.put(place, block)
        if block is not None:
            return block[offset:] if offset else block
        reading = self._waited_for(number)
        return reading.addCallback(lambda block: block[offset:]) if offset else reading

    def _waited_for(self, number: int) -> Deferred[bytes]:
        """Read a block in a thread, once for all who have the file open and want it now."""
        store, place, handle = self._store, (self.mark, number), self._handle
        extent = Extent(self.mark, self._start, self.count)
        if handle is not None:
            others = store.shared.join(place)
            if others is not None:
                return others
            reading = store.read(self, read_block, handle, extent, number)
            return store.shared.first(place, reading)

        def came(result: tuple[bytes, Handle]) -> bytes:
            block, opened_now = result
            if self._holds and self._handle is None:
                self._handle = opened_now
            return block

        path = store.folder.place(self.name)
        return store.read(self, _open_and_read, path, extent, number).addCallback(came)

    def hold(self) -> None:
        """Have the file open."""
        self._holds += 1

    def release(self) -> None:
        """Have it open for one reader less."""
        self._holds -= 1
        self.settle()

    @property
    def is_open(self) -> bool:
        """Whether it has the file open."""
        return self._handle is not None

    def settle(self) -> None:
        """Let go of the file when nobody holds it."""
        if self._holds <= 0 and self._handle is not None:
            handle, self._handle = self._handle, None
            self._store.let_go(handle)


def _open_and_read(path: str, extent: Extent, number: int) -> tuple[bytes, Handle]:
    """Read a block of a file that has to be opened.  Raises: ContentLost, Torn, OSError."""
    handle = opened(path)
    if handle is None or mark_in(handle) != extent.mark:
        raise ContentLost("the stored response was removed")
    return read_block(handle, extent, number), handle


class _State(Enum):
    OPEN = auto()
    KEPT = auto()
    STORED = auto()
    DROPPED = auto()


class DiskFilling(DiskContent):
    """A content on its way to the disk.

    A short one waits in memory for its end and is written at once.  A longer one is written aside
    block by block, in the writer's thread; what was written is read from the file again.

    Attributes:
        key: of the entry that it may become.
        head: of that entry, from ``keep`` on.
        aside: what writes it, the writer's alone but for its marks.
        unwritten: octets of it that are in memory and count there.
    """

    __slots__ = (
        "_blocks",
        "_sent",
        "_state",
        "_tail",
        "_writing",
        "aside",
        "head",
        "key",
        "unwritten",
    )

    def __init__(self, store: Keeper, key: bytes, head: StoredResponse, aside: Aside) -> None:
        super().__init__(store, "", Read(Extent(aside.mark, aside.start, 0), key, head, 0))
        self.key = key
        self.head = head
        self.aside = aside
        self.unwritten = 0
        self._blocks: dict[int, bytes] = {}
        self._tail = bytearray()
        self._state = _State.OPEN
        self._sent = 0
        self._writing = False

    def write(self, octets: Octets) -> bool:
        """Take octets, when the bounds allow it and the disk does not lag behind."""
        store = self._store
        if self._state is not _State.OPEN or self.count + len(octets) > store.entry:
            return False
        if not store.reserve(len(octets)):
            return False
        self.unwritten += len(octets)
        self.count += len(octets)
        tail = self._tail
        tail += octets
        if len(tail) >= BLOCK_BYTES:
            whole = len(tail) // BLOCK_BYTES * BLOCK_BYTES
            number = (self.count - len(tail)) // BLOCK_BYTES
            for place in range(0, whole, BLOCK_BYTES):
                self._blocks[number] = bytes(tail[place : place + BLOCK_BYTES])
                number += 1
            del tail[:whole]
        if self.count > INLINE_BYTES and self._blocks and not self._writing:
            self._write_on()
        return True

    def _unsent(self) -> list[bytes]:
        """Return the blocks that the writer has not been given yet, and count them as given."""
        blocks = [block for number, block in self._blocks.items() if number >= self._sent]
        self._sent += len(blocks)
        return blocks

    def _write_on(self) -> None:
        """Have the whole blocks written that are there; more may come meanwhile."""
        self._writing = self._store.append(self, self._unsent())

    def written(self, failed: bool) -> None:
        """Take note that blocks are in the file, or cannot be; then they stay where they are."""
        self._writing = False
        if not failed:
            self._handle, self._start = self.aside.handle, self.aside.start
            self._forget(self._sent)
            if self._state is _State.OPEN and self._blocks:
                self._write_on()
        elif self._state is _State.OPEN:
            self.drop()
        self.settle()

    def _forget(self, end: int) -> None:
        """Have the blocks before a place in the file only."""
        for number in [number for number in self._blocks if number < end]:
            octets = len(self._blocks.pop(number))
            self.unwritten -= octets
            self._store.give_back(octets)

    def read(self, start: int) -> bytes | Deferred[bytes]:
        """Return some octets from a place on, out of memory while they are there."""
        if start >= self.count:
            return b""
        number, offset = divmod(start, BLOCK_BYTES)
        block = self._blocks.get(number)
        if block is not None:
            return block[offset:] if offset else block
        if self._tail and number == self.count // BLOCK_BYTES:
            return bytes(self._tail[offset:])
        if self._handle is None and self._state is not _State.STORED:
            raise ContentLost("the response was not stored")
        return self._from_file(number, offset)

    def keep(self, head: StoredResponse) -> None:
        """Make an entry of it."""
        if self._state is not _State.OPEN:
            return
        self._state = _State.KEPT
        self.head = head
        number = self.count // BLOCK_BYTES
        if self._tail:
            self._blocks[number] = bytes(self._tail)
            self._tail = bytearray()
        self._store.keep(self, self._unsent())

    def kept(self, failed: bool) -> None:
        """Take note that the file has its name, or that nothing was stored."""
        self._state = _State.DROPPED if failed else _State.STORED
        self._handle, self.aside.handle = self.aside.handle, None
        self._start = self.aside.start
        if not failed:
            self._forget(self._sent)
        self.settle()

    def discarded(self) -> None:
        """Take note that the file is gone."""
        self.aside.handle = None

    def drop(self) -> None:
        """Store nothing; who holds it may read on."""
        if self._state is _State.OPEN:
            self._state = _State.DROPPED
            self._store.discard(self)
            self.settle()

    def settle(self) -> None:
        """Let go of what nobody holds, once it is over."""
        if self._holds > 0 or self._state in (_State.OPEN, _State.KEPT) or self._writing:
            return
        self._blocks.clear()
        self._tail = bytearray()
        self._store.give_back(self.unwritten)
        self.unwritten = 0
        super().settle()
