"""A store on disk, for long contents and for what has to outlive the process; several may share it.

Nothing here waits for the disk: what the kernel has in memory of a content is read at once; for all
else one thread of its own changes things in their order, some read, and who asks is told within
50 ms that nothing is known when they do not answer.  It needs no repair after a process was killed,
since a file gets its name when it is whole, nor after a loss of power, since what was not written
then has another digest or checksum.  What leaves a full store is told in ``folder``.  However many
files are there, it serves at once: they are counted behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from pyproxy.cache.disk.access import Access, Away
from pyproxy.cache.disk.block import Handle, PageCache, Torn
from pyproxy.cache.disk.content import DiskContent, DiskFilling
from pyproxy.cache.disk.file import Aside, write_head
from pyproxy.cache.disk.find import Changes, Find, Looked, look
from pyproxy.cache.disk.folder import Folder
from pyproxy.cache.disk.lane import nobody
from pyproxy.cache.disk.names import FOLDERS, Names, room_of
from pyproxy.cache.disk.shared import Shared
from pyproxy.cache.disk.walk import walk
from pyproxy.cache.seams import Chosen, ContentLost, Entry, Found
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.stored import StoredResponse

T = TypeVar("T")

FIND_SECONDS = 0.04
"""How long a lookup waits for the disk."""

UNWRITTEN_BYTES = 32 * 1024 * 1024
"""Octets that wait in memory to be written, of all contents together."""

RECOUNT_SECONDS = 600.0
"""In this time every sub-folder is counted again."""

MAX_IDLE = 64
"""Files that stay open for a while after a lookup, for who holds their content only later."""


@attrs.define(eq=False)
class DiskStore:
    """Keeps entries in a folder.

    Attributes:
        folder: the files, which only the threads touch.
        access: the threads.
        entry: octets that one content may have.
        hot: nothing: another process may have removed what this one remembers.
        patience: how long a lookup waits for the disk, in seconds.
        shared: blocks that were read last.
        page_cache: what the kernel has in memory.
    """

    folder: Folder
    entry: int
    access: Access
    hot: Mapping[bytes, Entry] = attrs.Factory(dict)
    patience: float = FIND_SECONDS
    shared: Shared = attrs.Factory(Shared)
    page_cache: PageCache = attrs.Factory(PageCache)
    _changes: Changes = attrs.Factory(Changes)
    _keeping: dict[bytes, list[DiskFilling]] = attrs.Factory(dict)
    _filling: set[DiskFilling] = attrs.Factory(set)
    _idle: deque[DiskContent] = attrs.Factory(deque)
    _unwritten: int = 0
    _torn: int = 0
    _slow: int = 0
    _recount: IDelayedCall | None = None

    @classmethod
    def at(cls, path: str, size: int, entry: int, reactor: IProxyReactor) -> DiskStore:
        """Open a store.  Args: its folder, its bound, and that of one content, in octets.

        Raises: Unfit.
        """
        store = cls(Folder.at(path, size), entry, Access(reactor))
        store._count(0, first=True)
        return store

    def resize(self, memory: int, entry: int) -> None:
        """Have another bound for one content from now on."""
        self.entry = entry

    # asking

    def find(self, key: bytes, found: Found) -> None:
        """Look a key up."""
        find = self._changes.begin(Find(key, found))
        kept = list(self._keeping.get(key, ()))

        def looked(result: Looked | Exception) -> None:
            self._found(find, kept, self._seen(result))

        if not self.access.look(looked, look, self.folder, find):
            self._found(find, kept, Looked())
        else:
            find.timer = self.access.reactor.callLater(self.patience, self._late, find, kept)

    def _late(self, find: Find, kept: list[DiskFilling]) -> None:
        self._slow += 1
        find.timer = None
        self._found(find, kept, Looked())

    def _seen(self, result: Looked | Exception) -> Looked:
        """Return what was found, without what is no entry; that is removed."""
        if isinstance(result, Exception):
            self.access.failed(result)
            return Looked()
        for name, inode in result.torn:
            self._torn += 1
            self.access.change(nobody, self.folder.remove, name, None, inode)
        return result

    def _found(self, find: Find, kept: list[DiskFilling], looked: Looked) -> None:
        """Answer a lookup: by what is being kept, newest first, and what is on the disk."""
        if find.over or find.found is None or find.key is None:
            return
        find.over = True
        self._changes.finds.discard(find)
        if find.timer is not None:
            find.timer.cancel()
        if find.key in find.forgotten:
            kept = []
        entries: dict[object, Entry] = {}
        for filling in [*self._keeping.get(find.key, ()), *kept]:
            if filling.mark not in find.removed:
                entries.setdefault(filling.head.varies, Entry(find.key, filling.head, filling))
        contents: list[DiskContent] = []
        for name, known in looked.entries:
            head = find.head(known)
            if head is not None and head.varies not in entries:
                content = DiskContent(self, name, known)
                contents.append(content)
                entries[head.varies] = Entry(find.key, head, content)
        find.found(list(entries.values()))
        for content in contents:
            if content.is_open:
                self._idle.append(content)
        while len(self._idle) > MAX_IDLE:
            self._idle.popleft().settle()

    # filling

    def fill(self, key: bytes, head: StoredResponse, length: int | None) -> DiskFilling | None:
        """Begin to write a content."""
        least = room_of("", len(key) + (length or 0))
        if self.access.off or (length or 0) > self.entry or least > self.folder.bound:
            return None
        if self._unwritten >= UNWRITTEN_BYTES:
            return None
        filling = DiskFilling(self, key, head, self.folder.aside())
        self._filling.add(filling)
        return filling

    def reserve(self, octets: int) -> bool:
        """Make room in memory for octets that will be written; tell whether there is."""
        if self.access.off or self._unwritten + octets > UNWRITTEN_BYTES:
            return False
        self._unwritten += octets
        return True

    def give_back(self, octets: int) -> None:
        """Count octets no more that were reserved."""
        self._unwritten -= octets

    def append(self, filling: DiskFilling, blocks: Sequence[bytes]) -> bool:
        """Have blocks of a content written; tell whether they will be."""

        def written(result: object) -> None:
            filling.written(isinstance(result, Exception))

        return self.access.change(written, filling.aside.append, blocks, filling.key, filling.head)

    def keep(self, filling: DiskFilling, blocks: Sequence[bytes]) -> None:
        """Make an entry of a content, once its last blocks are written."""
        self._filling.discard(filling)
        key, head, aside = filling.key, filling.head, filling.aside
        filling.name = Names.of(key).one(head.varies)
        here = self._keeping.setdefault(key, [])
        here[:] = [filling, *(one for one in here if one.head.varies != head.varies)]

        def kept(result: object) -> None:
            self._unkeep(filling)
            filling.kept(isinstance(result, Exception))

        if not self.access.change(kept, _keep, self.folder, aside, blocks, key, head):
            kept(Away())

    def _unkeep(self, filling: DiskFilling) -> None:
        here = self._keeping.get(filling.key, [])
        if filling in here:
            here.remove(filling)
            if not here:
                del self._keeping[filling.key]

    def discard(self, filling: DiskFilling) -> None:
        """Store nothing of a content."""
        self._filling.discard(filling)
        self.access.change(lambda _: filling.discarded(), filling.aside.discard)

    # reading

    def read(
        self, content: DiskContent, function: Callable[..., T], *arguments: Any
    ) -> Deferred[T]:
        """Read of a content, or fail with ContentLost; a file that is torn is removed."""

        def lost(failure: Failure) -> None:
            error = failure.value
            if isinstance(error, Torn):
                self._torn += 1
                self._remove([(content.name, content.mark)])
            elif isinstance(error, OSError):
                self.access.failed(error)
            raise ContentLost(f"the stored response cannot be read: {error}") from error

        reading = self.access.ask(function, *arguments)
        reading.addErrback(lost)
        return reading

    def let_go(self, handle: Handle) -> None:
        """Close a file, in a thread: the last who has a removed file open waits for the disk."""
        self.access.look(nobody, _drop, handle)

    # changing

    def refresh(self, entry: Entry, head: StoredResponse) -> None:
        """Give an entry another head."""
        entry.head = head
        entry.ready = None
        content = entry.content
        if not isinstance(content, DiskContent):
            return
        if isinstance(content, DiskFilling):
            content.head = head
        mark, name = content.mark, content.name
        self._changes.refresh(mark, head)

        def refreshed(result: bool | Exception) -> None:
            self._changes.refreshed(mark, head)
            if result is not True:
                self._remove([(name, mark)])

        self.access.change(refreshed, write_head, self.folder.place(name), mark, entry.key, head)

    def remove(self, entry: Entry) -> None:
        """Have one entry no more."""
        entry.live = False
        content = entry.content
        if isinstance(content, DiskContent):
            if isinstance(content, DiskFilling):
                self._unkeep(content)
            self._remove([(content.name, content.mark)])

    def _remove(self, files: Sequence[tuple[str, bytes]]) -> None:
        marks = [mark for _, mark in files]
        self._changes.remove(marks)
        self.access.change(lambda _: self._changes.gone(marks), self.folder.remove_all, files)

    def invalidate(self, key: bytes) -> None:
        """Have no entry of a key any more."""
        self._keeping.pop(key, None)
        self._changes.forget(key)
        self.access.change(lambda _: self._changes.forgot(key), self.folder.remove_key, key)

    # for people

    def purge(self, chosen: Chosen) -> Deferred[int]:
        """Remove all entries that are chosen.  It fails with Away."""
        return Deferred.fromCoroutine(self._purge(chosen))

    async def _purge(self, chosen: Chosen) -> int:
        kept = [one for here in self._keeping.values() for one in here]
        files = [(one.name, one.mark) for one in kept if chosen(one.key, one.head)]
        for one in kept:
            if (one.name, one.mark) in files:
                self._unkeep(one)
        count = await self._removed(files)
        async for some in walk(self.access, self.folder, self._changes, self._seen, chosen):
            count += await self._removed([(name, known.mark) for name, known, _ in some])
        return count

    async def _removed(self, files: Sequence[tuple[str, bytes]]) -> int:
        if not files:
            return 0
        marks = [mark for _, mark in files]
        self._changes.remove(marks)
        try:
            return await self.access.ask_writer(self.folder.remove_all, files)
        finally:
            self._changes.gone(marks)

    def entries(self, chosen: Chosen, limit: int) -> Deferred[Sequence[Entry]]:
        """Return some of the entries that are chosen, as they are now.  It fails with Away."""
        return Deferred.fromCoroutine(self._some(chosen, limit))

    async def _some(self, chosen: Chosen, limit: int) -> Sequence[Entry]:
        some: dict[bytes, Entry] = {}
        for here in list(self._keeping.values()):
            for one in here:
                if chosen(one.key, one.head):
                    some[one.mark] = Entry(one.key, one.head, one)
        async for entries in walk(self.access, self.folder, self._changes, self._seen, chosen):
            for name, known, head in entries:
                if known.mark not in some:
                    some[known.mark] = Entry(known.key, head, DiskContent(self, name, known))
            if len(some) >= limit:
                break
        return list(some.values())[:limit]

    def figures(self) -> Mapping[str, int | str]:
        """Return sizes and counts: of all processes, but for what this one alone has done.

        ``unwritten``: octets in memory; ``torn``: files that were not what was written; ``slow``:
        lookups that the disk did not answer in time; ``off``: 1 once it is not used any more.
        """
        folder = self.folder
        return {
            "store": "disk",
            "entries": folder.tally.count,
            "bytes": folder.tally.octets,
            "bound": folder.bound,
            "evicted": folder.evicted,
            "unwritten": self._unwritten,
            "torn": self._torn,
            "slow": self._slow,
            "off": int(self.access.off),
        }

    def close(self) -> None:
        """Let go of everything; what was kept already is still written by the thread."""
        if self._recount is not None:
            self._recount.cancel()
            self._recount = None
        for filling in list(self._filling):
            filling.drop()
        self._settle()
        for find in list(self._changes.finds):
            self._found(find, [], Looked())
        self.access.close()

    def _settle(self) -> None:
        self.shared.clear()
        while self._idle:
            self._idle.popleft().settle()

    # the disk

    def _count(self, number: int, first: bool) -> None:
        """Count the sub-folders, one after the other; at the beginning without a pause."""

        def counted(_: object) -> None:
            following = (number + 1) % FOLDERS
            more = first and following > 0
            if self.access.off:
                return
            if more:
                self._count(following, first)
            else:
                pause = RECOUNT_SECONDS / FOLDERS
                self._recount = self.access.reactor.callLater(pause, self._again, following)

        if number == 0:
            self.access.change(nobody, self.folder.sweep)
        self.access.change(counted, self.folder.count, number)

    def _again(self, number: int) -> None:
        self._recount = None
        self._settle()
        self._count(number, first=False)


def _keep(
    folder: Folder, aside: Aside, blocks: Sequence[bytes], key: bytes, head: StoredResponse
) -> None:
    aside.append(blocks, key, head)
    folder.keep(aside, key, head)


def _drop(handle: Handle) -> None:
    """Refer to a file for the last time."""
