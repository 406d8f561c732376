"""What every store promises, sentence by sentence of ``seams``; a store's tests inherit it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pyproxy.cache.seams import BLOCK_BYTES, Content, Entry, Filling, Store
from pyproxy.semantics.stored import StoredResponse, Varies
from tests.cache import head_of
from tests.turning import TurningTestCase

BOUND = 4 * 1024 * 1024
ENTRY = 1024 * 1024

GZIP: Varies = ((b"accept-encoding", b"gzip"),)
PLAIN: Varies = ((b"accept-encoding", None),)
EMPTY: Varies = ((b"accept-encoding", b""),)

LONG = bytes(range(256)) * 1000
"""A content of several blocks, which ends within one."""


class StoreCase(TurningTestCase):
    """A case that waits for what a store answers."""

    def result(self, waited: Deferred[Any]) -> Any:
        """Return what comes out of a wait, or raise it."""
        results: list[Any] = []
        waited.addBoth(results.append)
        self.turn_until(lambda: results)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def find(self, store: Store, key: bytes) -> Sequence[Entry]:
        """Look a key up."""
        found: list[Sequence[Entry]] = []
        store.find(key, found.append)
        self.turn_until(lambda: found)
        self.assertEqual(len(found), 1)
        return found[0]

    def one(self, store: Store, key: bytes) -> Entry:
        """Look a key up that has one entry."""
        (entry,) = self.find(store, key)
        return entry

    def octets(self, content: Content, start: int = 0) -> bytes:
        """Read a content to its end."""
        content.hold()
        try:
            pieces = []
            while start < content.count:
                piece = content.read(start)
                if isinstance(piece, Deferred):
                    piece = self.result(piece)
                assert isinstance(piece, bytes)
                self.assertTrue(0 < len(piece) <= BLOCK_BYTES)
                pieces.append(piece)
                start += len(piece)
            return b"".join(pieces)
        finally:
            content.release()

    def begin(self, store: Store, key: bytes, content: bytes = b"", **head: Any) -> Filling:
        """Write a content, but for its end."""
        filling = store.fill(key, head_of(content, **head), len(content))
        assert filling is not None
        filling.hold()
        for place in range(0, len(content), 10_000):
            self.assertTrue(filling.write(memoryview(content)[place : place + 10_000]))
        return filling

    def store(self, store: Store, key: bytes, content: bytes = b"", **head: Any) -> None:
        """Store a response."""
        filling = self.begin(store, key, content, **head)
        filling.keep(head_of(content, **head))
        filling.release()

    def keys(self, store: Store) -> set[bytes]:
        """Return the keys of all entries."""
        return {entry.key for entry in self.result(store.entries(anything, 1000))}


def anything(key: bytes, head: StoredResponse) -> bool:
    """Choose every entry."""
    return True


def tagged(tag: bytes) -> Callable[[bytes, StoredResponse], bool]:
    """Choose those with a tag."""
    return lambda key, head: tag in head.tags


class StoreTests(StoreCase):
    """What every store does."""

    def make_store(self, bound: int = BOUND, entry: int = ENTRY) -> Store:
        """Make an empty store."""
        raise NotImplementedError

    def settle(self, store: Store) -> None:
        """Wait until everything that was asked of a store is done."""

    def test_none(self) -> None:
        """A key that nobody has stored has no entries."""
        store = self.make_store()
        self.assertEqual(self.find(store, b"a"), [])
        self.assertIsNone(store.hot.get(b"a"))

    def test_kept(self) -> None:
        """What was kept is found at once, and later: its head and its content."""
        store = self.make_store()
        for number, content in enumerate((b"", b"a", LONG[:BLOCK_BYTES], LONG)):
            key = b"key \0 \xff %d" % number
            self.store(store, key, content, tags=[b"t"])
            for _ in range(2):
                entry = self.one(store, key)
                self.assertEqual(entry.key, key)
                self.assertEqual(entry.head, head_of(content, tags=[b"t"]))
                self.assertEqual(entry.content.count, len(content))
                self.assertEqual(self.octets(entry.content), content)
                self.assertTrue(entry.live)
                self.settle(store)

    def test_read_from_a_place(self) -> None:
        """A read begins anywhere, goes no further than a block, and has none from the end on."""
        store = self.make_store()
        for content in (LONG[:1000], LONG):
            self.store(store, b"a", content)
            self.settle(store)
            held = self.one(store, b"a").content
            for start in (0, 1, 999, BLOCK_BYTES - 1, BLOCK_BYTES, len(content) - 1):
                if start < len(content):
                    self.assertEqual(self.octets(held, start), content[start:])
            for start in (len(content), len(content) + 7):
                self.assertEqual(held.read(start), b"")

    def test_unknown_length(self) -> None:
        """A content whose length nobody knows before is kept as any other."""
        store = self.make_store()
        filling = store.fill(b"a", head_of(), None)
        assert filling is not None
        self.assertTrue(filling.write(LONG))
        filling.keep(head_of(LONG))
        self.assertEqual(self.octets(self.one(store, b"a").content), LONG)

    def test_copied(self) -> None:
        """The octets of a view are taken before ``write`` returns."""
        store = self.make_store()
        filling = self.begin(store, b"a")
        piece = bytearray(b"abc")
        filling.write(memoryview(piece))
        piece[:] = b"xyz"
        filling.keep(head_of(b"abc"))
        self.assertEqual(self.octets(self.one(store, b"a").content), b"abc")

    def test_variants(self) -> None:
        """Entries of one key that ``Vary`` tells apart are all found."""
        store = self.make_store()
        variants = {GZIP: b"gzip", PLAIN: b"plain", EMPTY: b"empty"}
        for varies, content in variants.items():
            self.store(store, b"a", content, varies=varies)
        self.settle(store)
        found = {one.head.varies: self.octets(one.content) for one in self.find(store, b"a")}
        self.assertEqual(found, variants)
        self.assertIsNone(store.hot.get(b"a"))

    def test_replaced(self) -> None:
        """An entry takes the place of one with the same key and the same ``varies``."""
        for varies in ((), GZIP):
            for wait in (False, True):
                store = self.make_store()
                self.store(store, b"a", b"other", varies=PLAIN)
                self.store(store, b"a", b"old", varies=varies)
                if wait:
                    self.settle(store)
                self.store(store, b"a", b"new", varies=varies)
                for _ in range(2):
                    contents = sorted(self.octets(one.content) for one in self.find(store, b"a"))
                    self.assertEqual(contents, [b"new", b"other"])
                    self.settle(store)

    def test_replaced_while_read(self) -> None:
        """Who reads what is replaced goes on."""
        store = self.make_store()
        self.store(store, b"a", LONG)
        self.settle(store)
        held = self.one(store, b"a").content
        held.hold()
        self.store(store, b"a", b"new")
        self.settle(store)
        self.assertEqual(self.octets(held), LONG)
        held.release()

    def test_dropped(self) -> None:
        """What is dropped is not stored, however often; who holds it may read it."""
        store = self.make_store()
        for content in (b"abc", LONG):
            filling = self.begin(store, b"a", content)
            filling.drop()
            filling.drop()
            self.assertFalse(filling.write(b"more"))
            filling.keep(head_of(content))
            self.settle(store)
            self.assertEqual(self.find(store, b"a"), [])
            self.assertEqual(self.octets(filling), content)
            filling.release()

    def test_dropped_after_it_was_kept(self) -> None:
        """Once kept, it stays."""
        store = self.make_store()
        filling = self.begin(store, b"a", b"abc")
        filling.keep(head_of(b"abc"))
        filling.drop()
        filling.keep(head_of(b"abc"))
        self.settle(store)
        self.assertEqual(self.octets(self.one(store, b"a").content), b"abc")

    def test_too_long(self) -> None:
        """A declared length over the bound of an entry is refused; so is what grows over it."""
        store = self.make_store(entry=100)
        self.assertIsNone(store.fill(b"a", head_of(), 101))
        filling = store.fill(b"a", head_of(), None)
        assert filling is not None
        filling.hold()
        self.assertTrue(filling.write(b"x" * 100))
        self.assertFalse(filling.write(b"y"))
        self.assertEqual(self.octets(filling), b"x" * 100)
        filling.drop()
        filling.release()
        self.assertEqual(self.find(store, b"a"), [])

    def test_larger_than_the_store(self) -> None:
        """A content that is longer than the whole bound is refused."""
        store = self.make_store(bound=ENTRY)
        self.assertIsNone(store.fill(b"a", head_of(), ENTRY))

    def test_read_while_it_is_written(self) -> None:
        """What was taken is read at once, from any place, while more comes."""
        store = self.make_store()
        filling = store.fill(b"a", head_of(LONG), len(LONG))
        assert filling is not None
        filling.hold()
        for end in range(0, len(LONG), 7001):
            self.assertTrue(filling.write(LONG[filling.count : end]))
            self.assertEqual(filling.count, end)
            self.turn(1)
            place = max(0, end - BLOCK_BYTES - 17)
            self.assertEqual(self.octets(filling, place), LONG[place:end])
        filling.write(LONG[filling.count :])
        self.settle(store)
        self.assertEqual(self.octets(filling), LONG)
        filling.keep(head_of(LONG))
        self.assertEqual(self.octets(filling), LONG)
        self.settle(store)
        self.assertEqual(self.octets(filling), LONG)
        filling.release()

    def test_not_found_before_it_is_kept(self) -> None:
        """What is being written is no entry."""
        store = self.make_store()
        filling = self.begin(store, b"a", LONG)
        self.settle(store)
        self.assertEqual(self.find(store, b"a"), [])
        self.assertEqual(self.keys(store), set())
        filling.drop()

    def test_refreshed(self) -> None:
        """A refreshed entry has the new head and the old content, at once and later."""
        store = self.make_store()
        for content in (b"abc", LONG):
            self.store(store, b"a", content)
            for wait in (False, True, True):
                if wait:
                    self.settle(store)
                entry = self.one(store, b"a")
                entry.ready = object()
                status = entry.head.status + 1
                store.refresh(entry, head_of(content, status=status))
                self.assertEqual(entry.head.status, status)
                self.assertIsNone(entry.ready)
                for _ in range(2):
                    found = self.one(store, b"a")
                    self.assertEqual(found.head, head_of(content, status=status))
                    self.assertEqual(self.octets(found.content), content)
                    self.settle(store)

    def test_removed(self) -> None:
        """One entry is removed, and no other; again is as once."""
        for wait in (False, True):
            store = self.make_store()
            self.store(store, b"a", b"1", varies=GZIP)
            self.store(store, b"a", b"2", varies=PLAIN)
            if wait:
                self.settle(store)
            entry = next(one for one in self.find(store, b"a") if one.head.varies == GZIP)
            for _ in range(2):
                store.remove(entry)
                self.assertFalse(entry.live)
                self.assertEqual(self.octets(self.one(store, b"a").content), b"2")
                self.settle(store)

    def test_removed_when_replaced(self) -> None:
        """To remove an entry that was replaced leaves what took its place."""
        store = self.make_store()
        self.store(store, b"a", b"old")
        self.settle(store)
        old = self.one(store, b"a")
        self.store(store, b"a", b"new")
        store.remove(old)
        for _ in range(2):
            self.assertEqual(self.octets(self.one(store, b"a").content), b"new")
            self.settle(store)

    def test_invalidated(self) -> None:
        """A key has no entries any more, and those of others stay; later ones are kept."""
        for wait in (False, True):
            store = self.make_store()
            self.store(store, b"a", b"1", varies=GZIP)
            self.store(store, b"a", b"2")
            self.store(store, b"b", b"3")
            if wait:
                self.settle(store)
            store.invalidate(b"a")
            store.invalidate(b"none")
            for _ in range(2):
                self.assertEqual(self.find(store, b"a"), [])
                self.assertEqual(self.octets(self.one(store, b"b").content), b"3")
                self.settle(store)
            self.store(store, b"a", b"4")
            for _ in range(2):
                self.assertEqual(self.octets(self.one(store, b"a").content), b"4")
                self.settle(store)

    def test_invalidated_during_a_lookup(self) -> None:
        """A lookup that is answered after an invalidation tells of nothing from before."""
        store = self.make_store()
        self.store(store, b"a", b"1")
        self.settle(store)
        for _ in range(20):
            found: list[Sequence[Entry]] = []
            store.find(b"a", found.append)
            before = bool(found)
            store.invalidate(b"a")
            self.turn_until(partial(len, found))
            if not before:
                self.assertEqual(found, [[]])
            self.store(store, b"a", b"1")

    def test_read_after_its_removal(self) -> None:
        """Who holds a content reads it to its end, whatever is removed meanwhile."""

        def purge(store: Store, entry: Entry) -> None:
            self.assertEqual(self.result(store.purge(anything)), 1)

        def invalidate(store: Store, entry: Entry) -> None:
            store.invalidate(entry.key)

        def remove_one(store: Store, entry: Entry) -> None:
            store.remove(entry)

        for remove in (purge, invalidate, remove_one):
            store = self.make_store()
            self.store(store, b"a", LONG)
            self.settle(store)
            entry = self.one(store, b"a")
            entry.content.hold()
            remove(store, entry)
            self.settle(store)
            self.assertEqual(self.find(store, b"a"), [])
            self.assertEqual(self.octets(entry.content), LONG)
            entry.content.release()

    def test_purged_by_tag(self) -> None:
        """A purge removes what is chosen by its head, and says how many."""
        store = self.make_store()
        for number in range(20):
            self.store(store, b"%d" % number, b"x", tags=[b"even", b"odd"][number % 2 :][:1])
        self.assertEqual(self.result(store.purge(tagged(b"odd"))), 10)
        for _ in range(2):
            self.assertEqual(self.keys(store), {b"%d" % number for number in range(0, 20, 2)})
            self.settle(store)
        self.assertEqual(self.result(store.purge(tagged(b"odd"))), 0)

    def test_purged_by_prefix(self) -> None:
        """A purge removes what is chosen by its key, all variants of it."""
        store = self.make_store()
        for varies in (GZIP, PLAIN):
            self.store(store, b"/a/1", b"x", varies=varies)
        self.store(store, b"/a/2", LONG)
        self.store(store, b"/b", b"x")
        self.settle(store)
        self.assertEqual(self.result(store.purge(lambda key, head: key.startswith(b"/a/"))), 3)
        self.assertEqual(self.keys(store), {b"/b"})

    def test_purged_while_entries_come(self) -> None:
        """What comes meanwhile does not keep a purge from its end; what was there is gone."""
        store = self.make_store()
        for number in range(50):
            self.store(store, b"old %d" % number, b"x", tags=[b"t"])
        self.settle(store)
        results: list[int] = []
        store.purge(tagged(b"t")).addCallback(results.append)
        number = 0

        def done() -> bool:
            nonlocal number
            if number < 200:
                self.store(store, b"new %d" % number, b"x")
                number += 1
            return bool(results)

        self.turn_until(done)
        self.assertEqual(results, [50])
        self.settle(store)
        self.assertTrue(all(key.startswith(b"new") for key in self.keys(store)))
        self.assertEqual(len(self.find(store, b"new 0")), 1)

    def test_entries(self) -> None:
        """Some of what is chosen is shown, no more than a limit, and its content can be read."""
        store = self.make_store()
        self.assertEqual(self.result(store.entries(anything, 10)), [])
        for number in range(10):
            self.store(store, b"%d" % number, b"x%d" % number, tags=[b"t"] if number < 4 else [])
        for _ in range(2):
            self.assertEqual(len(self.result(store.entries(anything, 3))), 3)
            chosen = self.result(store.entries(tagged(b"t"), 100))
            self.assertEqual({one.key for one in chosen}, {b"0", b"1", b"2", b"3"})
            for one in chosen:
                self.assertEqual(self.octets(one.content), b"x" + one.key)
            self.settle(store)

    def test_figures(self) -> None:
        """Sizes and counts are told."""
        store = self.make_store()
        self.settle(store)
        figures = store.figures()
        self.assertEqual((figures["entries"], figures["evicted"]), (0, 0))
        empty = int(figures["bytes"])
        for number in range(3):
            self.store(store, b"%d" % number, LONG)
        self.settle(store)
        figures = store.figures()
        self.assertEqual(figures["entries"], 3)
        self.assertGreaterEqual(int(figures["bytes"]) - empty, 3 * len(LONG))
        self.assertIsInstance(figures["store"], str)
        self.result(store.purge(anything))
        self.settle(store)
        self.assertEqual(store.figures()["entries"], 0)
        self.assertEqual(store.figures()["bytes"], empty)

    def test_closed(self) -> None:
        """A close drops what is being written; nothing fails after it."""
        store = self.make_store()
        filling = self.begin(store, b"a", LONG)
        store.close()
        filling.keep(head_of(LONG))
        filling.drop()
        filling.release()
        self.assertEqual(self.find(store, b"a"), [])
        store.invalidate(b"a")

    def test_bound(self) -> None:
        """Whatever is stored, read, removed and refreshed, the bound is kept."""
        bound = 600_000
        store = self.make_store(bound=bound, entry=150_000)
        chance = random.Random(9111)
        for _ in range(300):
            key = b"%d" % chance.randrange(40)
            varies = chance.choice(((), (), GZIP, PLAIN))
            what = chance.randrange(10)
            if what < 6:
                content = chance.randbytes(chance.choice((10, 1000, 70_000, 149_000)))
                filling = store.fill(key, head_of(content, varies=varies), None)
                if filling is not None and filling.write(content) and chance.random() < 0.9:
                    filling.keep(head_of(content, varies=varies))
                elif filling is not None:
                    filling.drop()
            elif what == 6:
                store.invalidate(key)
            else:
                for entry in self.find(store, key):
                    if what == 7:
                        store.refresh(entry, head_of(varies=entry.head.varies, tags=[b"x" * 99]))
                    elif what == 8:
                        store.remove(entry)
            if chance.random() < 0.2:
                self.settle(store)
            self.assertLessEqual(int(store.figures()["bytes"]), bound)
        self.settle(store)
        self.assertGreater(int(store.figures()["evicted"]), 0)
        self.assertGreater(int(store.figures()["bytes"]), bound // 3)

    def test_asked_for(self) -> None:
        """What was asked for stays when others have to leave."""
        store = self.make_store(bound=200_000, entry=100_000)
        for number in range(5):
            self.store(store, b"%d" % number, b"x" * 10_000)
        self.settle(store)
        for number in range(5, 60):
            self.one(store, b"0")
            self.store(store, b"%d" % number, b"x" * 10_000)
            self.settle(store)
        self.one(store, b"0")
        self.assertEqual(self.find(store, b"1"), [])
        self.assertGreater(int(store.figures()["evicted"]), 30)
