"""A store in the memory of one process.

Its bound counts everything: keys, heads, contents, what is still being fetched, and what Python
needs for each.  Heads wait packed, since most are never asked for again: a head of eight fields
takes 1.6 KiB as objects and 0.15 KiB packed, for 11 us when it is stored and 4 us when it is found.
A million entries with such heads, keys of 44 octets and contents of 100 take 365 MiB, and no call
waits for the others: nothing is moved or looked at for all of them at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import cooperate

from pyproxy.cache.blocks import Blocks
from pyproxy.cache.eviction import Sieve
from pyproxy.cache.heads import packed, unpacked
from pyproxy.cache.index import Index
from pyproxy.cache.records import SMALL_BYTES, read, written
from pyproxy.cache.seams import BLOCK_BYTES, Chosen, Entry, Found
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.stored import StoredResponse

NODE_BYTES = 88
"""What an entry takes beside its record: its places in index and queue, headers of objects.

Measured by ``benchmarks/cache_index.py``.
"""

APART_BYTES = 64
"""What a content takes more when it is apart from its record, for each of its blocks."""

HOT_BYTES = 2400 + SMALL_BYTES
"""What an entry takes more while its head is there as objects, and a small content once more."""

MAX_HOT = 8192
"""Entries whose heads are there as objects: those that were asked for last."""

HOT_SHARE = 8
"""All of them take no more than this part of the bound."""

SLICE = 500
"""Entries that a purge looks at before others have their turn."""


@attrs.define(eq=False)
class MemoryEntry(Entry):
    """An entry of this store.

    Attributes:
        serial: tells it from others that have its key, or had it.
        place: where it is, while it is live.
    """

    serial: int = 0
    place: int = 0


@attrs.define(eq=False)
class MemoryStore:
    """Keeps entries up to a bound; SIEVE says which leave.

    Attributes:
        memory: octets that everything together may take.
        entry: octets that one content may have.
        hot: entries that are the only ones of their key and whose heads are there as objects.
    """

    memory: int
    entry: int
    hot: dict[bytes, Entry] = attrs.Factory(dict)
    _index: Index = attrs.Factory(Index)
    _queue: Sieve = attrs.Factory(Sieve)
    _warm: OrderedDict[int, MemoryEntry] = attrs.Factory(OrderedDict)
    _used: int = 0
    _evicted: int = 0
    _filling: set[MemoryFilling] = attrs.Factory(set)

    # asking

    def find(self, key: bytes, found: Found) -> None:
        """Look a key up."""
        hot = self.hot.get(key)
        if hot is not None:
            hot.visited = True
            found([hot])
            return
        places = self._index.find(key)
        entries = [self._entry(place, len(places) == 1) for place in places]
        # As objects their heads take more: what was just asked for is not what leaves for that.
        self._shrink()
        found(entries)

    def _entry(self, place: int, alone: bool) -> MemoryEntry:
        """Return the entry at a place that is asked for, perhaps the only one of its key."""
        entry = self._at_hand(place)
        if entry is None:
            entry = self._at(place)
            self._used += HOT_BYTES
            self._warm[entry.serial] = entry
            # From now on the entry has it.
            self._queue.visited[place] = False
            if len(self._warm) > max(1, min(MAX_HOT, self.memory // HOT_SHARE // HOT_BYTES)):
                self._cool(next(iter(self._warm.values())))
        entry.visited = True
        if alone:
            self.hot[entry.key] = entry
        return entry

    def _at_hand(self, place: int) -> MemoryEntry | None:
        """Return the entry at a place if its head is there as objects."""
        return self._warm.get(self._index.serials[place])

    def _at(self, place: int) -> MemoryEntry:
        """Return an entry of what is at a place."""
        key, head, content = read(self._index.records[place])
        apart = self._index.contents[place]
        blocks = apart if isinstance(apart, Blocks) else Blocks.of(content or apart or b"")
        return MemoryEntry(
            key, unpacked(head), blocks, serial=self._index.serials[place], place=place
        )

    def _place(self, entry: Entry) -> int:
        """Return where an entry is that somebody was told of; 0 when it is not any more."""
        if isinstance(entry, MemoryEntry):
            for place in self._index.find(entry.key):
                if self._index.serials[place] == entry.serial:
                    return place
        return 0

    def _cool(self, entry: MemoryEntry) -> None:
        """Have the head of an entry as octets only; who has the entry may use it on."""
        del self._warm[entry.serial]
        self.hot.pop(entry.key, None)
        self._queue.visited[entry.place] |= entry.visited
        # Whether it still is in the store would not be known to it any more.
        entry.live = False
        self._used -= HOT_BYTES

    # filling

    def fill(self, key: bytes, head: StoredResponse, length: int | None) -> MemoryFilling | None:
        """Begin to write a content."""
        least = len(key) + NODE_BYTES + (length or 0)
        if (length is not None and length > self.entry) or least > self.memory:
            return None
        filling = MemoryFilling(self, key)
        self._filling.add(filling)
        return filling

    def filled(self, filling: MemoryFilling) -> None:
        """Know that a content is no longer being written."""
        self._filling.discard(filling)

    def reserve(self, octets: int) -> bool:
        """Make room for octets that are being fetched; tell whether there is."""
        self._used += octets
        self._shrink()
        if self._used <= self.memory:
            return True
        self._used -= octets
        return False

    def give_back(self, octets: int) -> None:
        """Count octets no more that were reserved."""
        self._used -= octets

    def put(self, key: bytes, head: StoredResponse, content: Blocks) -> None:
        """Make an entry of what was fetched; its octets are reserved already."""
        for place in self._index.find(key):
            if unpacked(read(self._index.records[place])[1]).varies == head.varies:
                self._remove(place)
        small = content.count <= SMALL_BYTES
        record = written(key, packed(head), content.read(0) if small else b"")
        place = self._index.add(record, None if small else content.whole())
        self._queue.add()
        self._used += self._size(place) - content.count
        self.hot.pop(key, None)
        self._shrink()

    def _size(self, place: int) -> int:
        """Return what an entry takes, but for its head as objects."""
        apart = self._index.contents[place]
        size = NODE_BYTES + len(self._index.records[place])
        if apart is not None:
            count = len(apart) if isinstance(apart, bytes) else apart.count
            size += count + APART_BYTES * (1 + count // BLOCK_BYTES)
        return size

    def _shrink(self) -> None:
        """Evict until everything fits."""
        while self._used > self.memory:
            place = self._victim()
            if not place:
                return
            self._evicted += 1
            self._remove(place)

    def _victim(self) -> int:
        """Return who has to go; 0 when there is nobody."""
        while True:
            place = self._queue.victim()
            entry = self._at_hand(place)
            if entry is None or not entry.visited:
                return place
            entry.visited = False
            self._queue.visited[place] = True

    def resize(self, memory: int, entry: int) -> None:
        """Have other bounds from now on."""
        self.memory, self.entry = memory, entry
        self._shrink()
        self._trim()

    # changing

    def refresh(self, entry: Entry, head: StoredResponse) -> None:
        """Give an entry another head."""
        entry.head = head
        entry.ready = None
        place = self._place(entry)
        if place:
            key, _, content = read(self._index.records[place])
            self._used -= self._size(place)
            self._index.records[place] = written(key, packed(head), content)
            self._used += self._size(place)
            warm = self._at_hand(place)
            # Once its head was packed again, another entry stands for it.
            if warm is not None:
                warm.head = head
                warm.ready = None
        self._shrink()

    def remove(self, entry: Entry) -> None:
        """Have one entry no more, whoever else was told of it."""
        entry.live = False
        place = self._place(entry)
        if place:
            self._remove(place)
            others = self._index.find(entry.key)
            if len(others) == 1 and (other := self._at_hand(others[0])) is not None:
                self.hot[entry.key] = other

    def invalidate(self, key: bytes) -> None:
        """Have no entry of a key any more."""
        for place in self._index.find(key):
            self._remove(place)

    def _remove(self, place: int) -> None:
        entry = self._at_hand(place)
        if entry is not None:
            self._cool(entry)
        self._used -= self._size(place)
        self._index.remove(place)
        self._queue.remove(place)
        if place < len(self._index.records):
            moved = self._at_hand(place)
            if moved is not None:
                moved.place = place

    def _trim(self) -> None:
        """Give back what was needed for more entries than there are."""
        self._index.trim()
        self._queue.trim()

    # for people

    def purge(self, chosen: Chosen) -> Deferred[int]:
        """Remove all entries that are chosen, a slice at a time."""
        gone = 0

        def removed(place: int) -> None:
            nonlocal gone
            gone += 1
            self._remove(place)

        def ended(_: None) -> int:
            self._trim()
            return gone

        return self._walk(chosen, removed).addCallback(ended)

    def entries(self, chosen: Chosen, limit: int) -> Deferred[Sequence[Entry]]:
        """Return some of the entries that are chosen, as they are now."""
        some: list[Entry] = []

        def take(place: int) -> None:
            if len(some) < limit:
                some.append(self._at(place))

        return self._walk(chosen, take, lambda: len(some) >= limit).addCallback(lambda _: some)

    def _walk(
        self,
        chosen: Chosen,
        take: Callable[[int], None],
        enough: Callable[[], bool] = lambda: False,
    ) -> Deferred[None]:
        """Look at every entry that is here now."""

        def steps() -> Iterator[None]:
            # Where one is removed, the last one moves to: behind the walk nothing is left out.
            for number, place in enumerate(range(len(self._index), 0, -1)):
                if place <= len(self._index):
                    key, head, _ = read(self._index.records[place])
                    if chosen(key, unpacked(head)):
                        take(place)
                if enough():
                    return
                if number % SLICE == SLICE - 1:
                    yield

        return cooperate(steps()).whenDone().addCallback(lambda _: None)

    def figures(self) -> Mapping[str, int | str]:
        """Return sizes and counts."""
        return {
            "store": "memory",
            "entries": len(self._index),
            "bytes": self._used,
            "bound": self.memory,
            "evicted": self._evicted,
        }

    def close(self) -> None:
        """Have nothing any more, and take nothing that is being written."""
        for filling in list(self._filling):
            filling.drop()
        self.hot.clear()
        self._warm.clear()
        self._index = Index()
        self._queue = Sieve()
        self._used = 0


class MemoryFilling(Blocks):
    """A content on its way into memory."""

    __slots__ = ("_key", "_open", "_store")

    def __init__(self, store: MemoryStore, key: bytes) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._open = True

    def write(self, octets: Octets) -> bool:
        """Take octets, when one content's bound and everybody's allow it."""
        store = self._store
        if not self._open or self.count + len(octets) > store.entry:
            return False
        if not store.reserve(len(octets)):
            return False
        self.append(octets)
        return True

    def keep(self, head: StoredResponse) -> None:
        """Make an entry of it."""
        if self._open:
            self._open = False
            self._store.filled(self)
            self._store.put(self._key, head, self)

    def drop(self) -> None:
        """Store nothing; who reads it holds it."""
        if self._open:
            self._open = False
            self._store.filled(self)
            # It is counted no more, but for what readers hold: at most what their fetch has read.
            self._store.give_back(self.count)
