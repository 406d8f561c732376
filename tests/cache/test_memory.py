"""The store in memory: what its bound counts, and which heads are at hand."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pyproxy.cache.blocks import Blocks
from pyproxy.cache.memory import (
    APART_BYTES,
    HOT_BYTES,
    HOT_SHARE,
    MAX_HOT,
    NODE_BYTES,
    MemoryFilling,
    MemoryStore,
)
from pyproxy.cache.records import SMALL_BYTES
from pyproxy.cache.seams import BLOCK_BYTES, Entry
from pyproxy.semantics.stored import Varies
from tests.cache import head_of
from tests.cache.stores import BOUND, ENTRY, StoreCase, anything

GZIP: Varies = ((b"accept-encoding", b"gzip"),)


class BoundTests(StoreCase):
    """The bound counts everything."""

    def setUp(self) -> None:
        super().setUp()
        self.memory = MemoryStore(BOUND, ENTRY)

    @property
    def used(self) -> int:
        """What is counted."""
        return int(self.memory.figures()["bytes"])

    def test_entry(self) -> None:
        """An entry counts its key, its head, its content and what Python needs."""
        fields = sum(len(name) + len(value) for name, value in head_of().fields)
        for count, beside in ((SMALL_BYTES, 0), (SMALL_BYTES + 1, APART_BYTES)):
            before = self.used
            self.store(self.memory, b"%d" % count * 25, b"c" * count)
            least = before + 75 + count + NODE_BYTES + beside
            self.assertGreater(self.used, least + 16)
            self.assertLess(self.used, least + fields)

    def test_fetched(self) -> None:
        """What is still being fetched counts, until it is dropped; kept, it counts once."""
        filling = self.begin(self.memory, b"a", b"x" * 1000)
        self.assertEqual(self.used, 1000)
        filling.drop()
        filling.drop()
        self.assertEqual(self.used, 0)
        filling = self.begin(self.memory, b"a", b"x" * 1000)
        filling.keep(head_of(b"x" * 1000))
        self.assertLess(self.used, 2000)

    def test_nothing_is_left(self) -> None:
        """Once all is removed, in whichever way, nothing is counted."""
        for number in range(40):
            key = b"%d" % (number // 2)
            self.store(self.memory, key, b"x" * number, varies=GZIP if number % 2 else ())
        for entry in self.find(self.memory, b"0"):
            self.memory.refresh(entry, head_of(tags=[b"x" * 100], varies=entry.head.varies))
            self.memory.remove(entry)
        self.find(self.memory, b"1")
        self.memory.invalidate(b"1")
        self.find(self.memory, b"2")
        self.assertEqual(self.result(self.memory.purge(anything)), 36)
        self.assertEqual((self.used, self.memory.figures()["entries"]), (0, 0))
        self.assertEqual(self.memory.hot, {})

    def test_fetches_make_others_leave(self) -> None:
        """A fetch takes the place of entries; none takes that of fetches."""
        store = MemoryStore(100_000, 100_000)
        self.store(store, b"old", b"x" * 50_000)
        first = store.fill(b"a", head_of(), None)
        second = store.fill(b"b", head_of(), None)
        assert first is not None
        assert second is not None
        self.assertTrue(first.write(b"x" * 60_000))
        self.assertEqual(self.find(store, b"old"), [])
        self.assertFalse(second.write(b"x" * 60_000))
        self.assertEqual(store.figures()["bytes"], 60_000)
        first.keep(head_of(b"x" * 60_000))
        self.assertTrue(second.write(b"x" * 60_000))
        self.assertEqual(self.find(store, b"a"), [])

    def test_resize(self) -> None:
        """With a smaller bound entries leave at once, and one content may have less."""
        for number in range(20):
            self.store(self.memory, b"%d" % number, b"x" * 10_000)
        self.memory.resize(50_000, 5_000)
        self.assertLessEqual(self.used, 50_000)
        self.assertEqual(self.memory.figures()["bound"], 50_000)
        self.assertIsNone(self.memory.fill(b"a", head_of(), 5_001))
        self.assertGreater(len(self.keys(self.memory)), 2)
        self.memory.resize(BOUND, ENTRY)
        self.store(self.memory, b"a", b"x" * 100_000)
        self.assertEqual(len(self.find(self.memory, b"a")), 1)

    def test_closed(self) -> None:
        """After a close nothing is there, and nothing comes of what was being written."""
        self.store(self.memory, b"a", b"x")
        filling = self.begin(self.memory, b"b", b"x")
        self.memory.close()
        filling.keep(head_of(b"x"))
        self.assertEqual(self.keys(self.memory), set())
        self.assertEqual(self.used, 0)


class HotTests(StoreCase):
    """Entries at hand."""

    def setUp(self) -> None:
        super().setUp()
        self.memory = MemoryStore(BOUND, ENTRY)

    def test_asked_for(self) -> None:
        """An entry is at hand once it was asked for, and costs more from then on."""
        self.store(self.memory, b"a", b"x")
        before = int(self.memory.figures()["bytes"])
        self.assertIsNone(self.memory.hot.get(b"a"))
        entry = self.one(self.memory, b"a")
        self.assertIs(self.memory.hot.get(b"a"), entry)
        self.assertIs(self.one(self.memory, b"a"), entry)
        self.assertEqual(int(self.memory.figures()["bytes"]), before + HOT_BYTES)

    def test_only_of_its_key(self) -> None:
        """An entry is at hand as long as it is the only one of its key."""
        self.store(self.memory, b"a", b"x")
        entry = self.one(self.memory, b"a")
        self.store(self.memory, b"a", b"y", varies=GZIP)
        self.assertIsNone(self.memory.hot.get(b"a"))
        other = next(one for one in self.find(self.memory, b"a") if one is not entry)
        self.assertIsNone(self.memory.hot.get(b"a"))
        self.memory.remove(other)
        self.assertIs(self.memory.hot.get(b"a"), entry)

    def test_gone(self) -> None:
        """An entry that is replaced or removed is at hand no more, and knows it."""
        self.store(self.memory, b"a", b"x")
        old = self.one(self.memory, b"a")
        self.store(self.memory, b"a", b"y")
        self.assertFalse(old.live)
        self.assertIsNone(self.memory.hot.get(b"a"))
        entry = self.one(self.memory, b"a")
        self.memory.invalidate(b"a")
        self.assertFalse(entry.live)
        self.assertIsNone(self.memory.hot.get(b"a"))

    def test_share(self) -> None:
        """Heads at hand take no more than their share of a small bound."""
        store = MemoryStore(HOT_SHARE * HOT_BYTES * 10, ENTRY)
        for number in range(100):
            self.store(store, b"%d" % number, b"x")
            self.one(store, b"%d" % number)
        self.assertEqual(len(store.hot), 10)
        self.assertEqual(set(store.hot), {b"%d" % number for number in range(90, 100)})
        self.assertGreater(int(store.figures()["entries"]), 90)
        self.assertLess(10, MAX_HOT)

    def test_cooled(self) -> None:
        """An entry whose head was packed again can still be refreshed and removed."""
        store = MemoryStore(HOT_SHARE * HOT_BYTES, ENTRY)
        for key in (b"a", b"b"):
            self.store(store, key, b"x")
        entry = self.one(store, b"a")
        self.one(store, b"b")
        self.assertEqual(set(store.hot), {b"b"})
        store.refresh(entry, head_of(b"x", status=203))
        again = self.one(store, b"a")
        self.assertIsNot(again, entry)
        self.assertEqual(again.head.status, 203)
        store.refresh(entry, head_of(b"x", status=204))
        self.assertEqual(again.head.status, 204)
        store.remove(entry)
        self.assertEqual(self.find(store, b"a"), [])
        self.assertFalse(again.live)

    def test_visited_when_served(self) -> None:
        """Who serves an entry at hand says so to the entry, and the eviction heeds it."""
        store = MemoryStore(40_000, ENTRY)
        self.store(store, b"a", b"x" * 5_000)
        entry = self.one(store, b"a")
        for number in range(20):
            entry.visited = True
            self.store(store, b"%d" % number, b"x" * 5_000)
        self.assertIs(store.hot.get(b"a"), entry)

    def test_spared_once(self) -> None:
        """Who was asked for once is spared once, at hand or not."""
        for cooled in (False, True):
            store = MemoryStore(44_000, ENTRY)
            for number in range(7):
                self.store(store, b"%d" % number, b"x" * 5_000)
            self.one(store, b"0")
            if cooled:
                self.one(store, b"6")
                self.one(store, b"5")
            store.resize(19_000, ENTRY)
            self.assertEqual(self.keys(store), {b"0", b"5", b"6"})
            self.one(store, b"5")
            self.one(store, b"6")
            store.resize(14_000, ENTRY)
            self.assertEqual(self.keys(store), {b"5", b"6"})

    def test_moved(self) -> None:
        """Whoever leaves, who is at hand is still known: to refresh, to cool and to remove."""
        store = MemoryStore(HOT_SHARE * HOT_BYTES * 4, ENTRY)
        for number in range(8):
            self.store(store, b"%d" % number, b"%d" % number)
        entries = [self.one(store, b"%d" % number) for number in (5, 6, 7)]
        for number in (0, 6, 1):
            store.invalidate(b"%d" % number)
        for entry in entries:
            store.refresh(entry, head_of(status=203))
        self.assertEqual([entry.live for entry in entries], [True, False, True])
        for number in (2, 3, 4):
            self.one(store, b"%d" % number)
        for key in (b"5", b"7"):
            entry = self.one(store, key)
            self.assertEqual((entry.head.status, self.octets(entry.content)), (203, key))
            store.remove(entry)
        self.assertEqual(self.keys(store), {b"2", b"3", b"4"})


class BlocksTests(StoreCase):
    """Octets that grow."""

    def test_pieces(self) -> None:
        """Whatever the pieces, the blocks have one size, and the last one the rest."""
        octets = bytes(range(256)) * 1030
        for step in (1000, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, len(octets)):
            blocks = Blocks()
            for start in range(0, len(octets), step):
                blocks.append(memoryview(octets)[start : start + step])
                self.assertEqual(blocks.count, min(len(octets), start + step))
            for closed in (False, True):
                if closed:
                    blocks.close()
                self.assertEqual(self.octets(blocks), octets)
                self.assertEqual(self.octets(blocks, 70_001), octets[70_001:])
                self.assertEqual(blocks.read(len(octets)), b"")
                self.assertEqual(len(blocks.read(0)), BLOCK_BYTES)
        self.assertEqual(Blocks(b"abc").read(1), b"bc")

    def test_shared(self) -> None:
        """Readers of a whole block share it."""
        blocks = Blocks(bytes(BLOCK_BYTES))
        self.assertIs(blocks.read(0), blocks.read(0))


class MemoryMachine(RuleBasedStateMachine):
    """A store beside a dictionary that knows what it may tell."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore(60_000, 20_000)
        self.known: dict[tuple[bytes, Varies], bytes] = {}
        self.open: list[tuple[bytes, MemoryFilling, bytes]] = []

    keys = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
    varies = st.sampled_from([(), GZIP])

    @rule(key=keys, content=st.integers(0, 25_000), number=st.integers(0, 255))
    def begin(self, key: bytes, content: int, number: int) -> None:
        """Begin to write."""
        octets = bytes((number,)) * content
        filling = self.store.fill(key, head_of(octets), None)
        if filling is not None and filling.write(octets):
            self.open.append((key, filling, octets))
        elif filling is not None:
            filling.drop()

    @precondition(lambda self: self.open)
    @rule(varies=varies)
    def keep(self, varies: Varies) -> None:
        """Make an entry."""
        key, filling, octets = self.open.pop(0)
        filling.keep(head_of(octets, varies))
        self.known[key, varies] = octets

    @precondition(lambda self: self.open)
    @rule()
    def drop(self) -> None:
        """Store nothing."""
        _, filling, _ = self.open.pop()
        filling.drop()

    @rule(key=keys, remove=st.booleans())
    def look(self, key: bytes, remove: bool) -> None:
        """Find what was kept last, or nothing."""
        found: list[Entry] = []
        self.store.find(key, found.extend)
        for entry in found:
            assert entry.content.count == len(self.known[key, entry.head.varies])
            assert entry.content.read(0) == self.known[key, entry.head.varies]
            if remove:
                self.store.remove(entry)
                del self.known[key, entry.head.varies]

    @rule(key=keys)
    def invalidate(self, key: bytes) -> None:
        """Forget a key."""
        self.store.invalidate(key)
        self.known = {name: octets for name, octets in self.known.items() if name[0] != key}

    @rule(size=st.sampled_from([30_000, 60_000]))
    def resize(self, size: int) -> None:
        """Have another bound."""
        self.store.resize(size, 20_000)

    @invariant()
    def bounded(self) -> None:
        """No more than the bound is counted, nor less than what is being written."""
        writing = sum(len(octets) for _, _, octets in self.open)
        used = self.store.figures()["bytes"]
        assert isinstance(used, int)
        assert writing <= used <= max(self.store.memory, writing)
        for key, entry in self.store.hot.items():
            assert entry.live
            assert entry.key == key


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

del MemoryMachine
