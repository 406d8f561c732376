"""A store in the memory of one process.

Its bound counts everything: keys, heads, contents, what is still being fetched, and what Python
needs for each.  Heads wait packed, since most are never asked for again: a head of eight fields
takes 1.6 KiB as objects and 0.15 KiB packed, for 6 us when it is stored and 3 us when it is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import cooperate

from pyproxy.cache.blocks import Blocks
from pyproxy.cache.eviction import Sieve
from pyproxy.cache.heads import packed, unpacked
from pyproxy.cache.seams import Chosen, Entry, Found
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.stored import StoredResponse

NODE_BYTES = 272
"""What an entry takes beside its octets: the node, its place in the index, headers of objects.

Measured by ``benchmarks/cache_index.py``.
"""

HOT_BYTES = 2400
"""What an entry takes more while its head is there as objects."""

MAX_HOT = 8192
"""Entries whose heads are there as objects: those that were asked for last."""

HOT_SHARE = 8
"""All of them take no more than this part of the bound."""

SLICE = 500
"""Entries that a purge looks at before others have their turn."""


class _Node:
    """An entry in the index and in the queue."""

    __slots__ = ("content", "entry", "key", "newer", "older", "packed", "visited")

    def __init__(self, key: bytes, packed: bytes, content: Blocks | bytes) -> None:
        self.key = key
        self.packed = packed
        self.content = content
        self.visited = False
        self.entry: Entry | None = None
        self.newer: object | None = None
        self.older: object | None = None

    @property
    def size(self) -> int:
        """What it takes, in octets."""
        content = self.content
        count = len(content) if isinstance(content, bytes) else content.count
        hot = 0 if self.entry is None else HOT_BYTES
        return NODE_BYTES + len(self.key) + len(self.packed) + count + hot

    def blocks(self) -> Blocks:
        """Return the content as it is read."""
        return Blocks.of(self.content) if isinstance(self.content, bytes) else self.content

    def holds(self, content: object) -> bool:
        """Tell whether a content that somebody was told of is its own."""
        own = self.content
        return content is own or (isinstance(content, Blocks) and content.is_of(own))

    def head(self) -> StoredResponse:
        """Return the head, whether it is there as objects or not."""
        return unpacked(self.packed) if self.entry is None else self.entry.head

    def spare(self) -> bool:
        """Tell whether it was asked for, and forget that."""
        entry = self.entry
        visited = self.visited or (entry is not None and entry.visited)
        self.visited = False
        if entry is not None:
            entry.visited = False
        return visited


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
    _index: dict[bytes, _Node | list[_Node]] = attrs.Factory(dict)
    _queue: Sieve[_Node] = attrs.Factory(Sieve)
    _warm: dict[_Node, None] = attrs.Factory(dict)
    _used: int = 0
    _count: int = 0
    _evicted: int = 0
    _filling: set[MemoryFilling] = attrs.Factory(set)

    # asking

    def find(self, key: bytes, found: Found) -> None:
        """Look a key up."""
        entries = [self._entry(node) for node in self._nodes(key)]
        # As objects their heads take more: what was just asked for is not what leaves for that.
        self._shrink()
        found(entries)

    def _nodes(self, key: bytes) -> Sequence[_Node]:
        here = self._index.get(key)
        if here is None:
            return ()
        return here if isinstance(here, list) else (here,)

    def _entry(self, node: _Node) -> Entry:
        """Return the entry of a node that is asked for."""
        node.visited = True
        if node.entry is None:
            node.entry = Entry(node.key, unpacked(node.packed), node.blocks())
            self._used += HOT_BYTES
            self._warm[node] = None
            if self._index.get(node.key) is node:
                self.hot[node.key] = node.entry
            if len(self._warm) > max(1, min(MAX_HOT, self.memory // HOT_SHARE // HOT_BYTES)):
                self._cool(next(iter(self._warm)))
        return node.entry

    def _cool(self, node: _Node) -> None:
        """Have the head of a node as octets only; who has the entry may use it on."""
        del self._warm[node]
        self.hot.pop(node.key, None)
        if node.entry is not None:
            # Whether it still is in the store would not be known to it any more.
            node.visited = node.visited or node.entry.visited
            node.entry.live = False
            node.entry = None
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
        for node in list(self._nodes(key)):
            if node.head().varies == head.varies:
                self._remove(node)
        node = _Node(key, packed(head), content.whole())
        self._used += node.size - content.count
        self._count += 1
        here = self._index.get(key)
        if here is None:
            self._index[key] = node
        else:
            self.hot.pop(key, None)
            if isinstance(here, list):
                here.append(node)
            else:
                self._index[key] = [here, node]
        self._queue.add(node)
        self._shrink()

    def _shrink(self) -> None:
        """Evict until everything fits."""
        while self._used > self.memory:
            node = self._queue.victim()
            if node is None:
                return
            self._evicted += 1
            self._remove(node)

    def resize(self, memory: int, entry: int) -> None:
        """Have other bounds from now on."""
        self.memory, self.entry = memory, entry
        self._shrink()

    # changing

    def refresh(self, entry: Entry, head: StoredResponse) -> None:
        """Give an entry another head."""
        entry.head = head
        entry.ready = None
        for node in self._nodes(entry.key):
            if node.holds(entry.content):
                if node.entry is not None:
                    node.entry.head = head
                    node.entry.ready = None
                octets = packed(head)
                self._used += len(octets) - len(node.packed)
                node.packed = octets
        self._shrink()

    def remove(self, entry: Entry) -> None:
        """Have one entry no more, whoever else was told of it."""
        entry.live = False
        for node in list(self._nodes(entry.key)):
            # Once its head was packed again, another entry stands for it.
            if node.holds(entry.content):
                self._remove(node)

    def invalidate(self, key: bytes) -> None:
        """Have no entry of a key any more."""
        for node in list(self._nodes(key)):
            self._remove(node)

    def _remove(self, node: _Node) -> None:
        if node.entry is not None:
            self._cool(node)
        here = self._index[node.key]
        if isinstance(here, list):
            here.remove(node)
            if len(here) == 1:
                self._index[node.key] = here[0]
                if here[0].entry is not None:
                    self.hot[node.key] = here[0].entry
        else:
            del self._index[node.key]
        self._queue.remove(node)
        self._used -= node.size
        self._count -= 1

    # for people

    def purge(self, chosen: Chosen) -> Deferred[int]:
        """Remove all entries that are chosen, a slice at a time."""
        gone = 0

        def removed(node: _Node) -> None:
            nonlocal gone
            gone += 1
            self._remove(node)

        done = self._walk(chosen, removed)
        return done.addCallback(lambda _: gone)

    def entries(self, chosen: Chosen, limit: int) -> Deferred[Sequence[Entry]]:
        """Return some of the entries that are chosen, as they are now."""
        some: list[Entry] = []

        def take(node: _Node) -> None:
            if len(some) < limit:
                some.append(Entry(node.key, unpacked(node.packed), node.blocks()))

        return self._walk(chosen, take, lambda: len(some) >= limit).addCallback(lambda _: some)

    def _walk(
        self,
        chosen: Chosen,
        take: Callable[[_Node], None],
        enough: Callable[[], bool] = lambda: False,
    ) -> Deferred[None]:
        """Look at every entry that is here now."""

        def steps(keys: Iterable[bytes]) -> Iterator[None]:
            for number, key in enumerate(keys):
                for node in list(self._nodes(key)):
                    if chosen(key, unpacked(node.packed)):
                        take(node)
                if enough():
                    return
                if number % SLICE == SLICE - 1:
                    yield

        task = cooperate(steps(list(self._index)))
        return task.whenDone().addCallback(lambda _: None)

    def figures(self) -> Mapping[str, int | str]:
        """Return sizes and counts."""
        return {
            "store": "memory",
            "entries": self._count,
            "bytes": self._used,
            "bound": self.memory,
            "evicted": self._evicted,
        }

    def close(self) -> None:
        """Have nothing any more, and take nothing that is being written."""
        for filling in list(self._filling):
            filling.drop()
        self.hot.clear()
        self._index.clear()
        self._warm.clear()
        self._queue = Sieve()
        self._used = self._count = 0


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
