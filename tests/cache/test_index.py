"""The index of the store in memory: who is found, as the table grows and shrinks."""

from __future__ import annotations

import gc

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.cache.index import Index
from pyproxy.cache.records import beginning, key_of, read, written


def record_of(number: int, key: int) -> bytes:
    """Make a record that no other is equal to."""
    return written(b"%d" % key, b"%d" % number, b"")


class RecordTests(SynchronousTestCase):
    """What a record holds."""

    @given(st.binary(), st.binary(), st.binary())
    def test_parts(self, key: bytes, head: bytes, content: bytes) -> None:
        """What was written is read."""
        record = written(key, head, content)
        self.assertEqual(read(record), (key, head, content))
        self.assertEqual(key_of(record), key)

    @given(st.binary(max_size=3), st.binary(max_size=3), st.binary())
    def test_beginning(self, one: bytes, other: bytes, head: bytes) -> None:
        """A record begins as those of its key do, and as no others."""
        self.assertEqual(written(one, head, b"").startswith(beginning(other)), one == other)


class IndexTests(SynchronousTestCase):
    """Places by key."""

    @given(st.lists(st.tuples(st.sampled_from("aart"), st.integers(0, 40)), max_size=300))
    def test_model(self, script: list[tuple[str, int]]) -> None:
        """All that is there is found by its key, and nothing else, wherever it moved to."""
        index = Index()
        model: dict[int, set[bytes]] = {}
        for number, (what, which) in enumerate(script):
            if what == "a":
                record = record_of(number, which)
                self.assertEqual(index.add(record, None), len(index))
                model.setdefault(which, set()).add(record)
            elif what == "t":
                index.trim()
            elif len(index):
                place = which % len(index) + 1
                record = index.records[place]
                model[int(key_of(record))].discard(record)
                index.remove(place)
            for key in range(41):
                places = index.find(b"%d" % key)
                self.assertEqual({index.records[place] for place in places}, model.get(key, set()))
        self.assertEqual(len(index), sum(map(len, model.values())))

    def test_all_of_a_key(self) -> None:
        """The entries of a key can be removed in turn."""
        for others in (0, 5):
            index = Index()
            for number in range(20):
                index.add(record_of(number, 0 if number % 2 else number), None)
            for number in range(others):
                index.add(record_of(number, 100 + number), None)
            for place in index.find(b"0"):
                index.remove(place)
            self.assertEqual(index.find(b"0"), [])
            self.assertEqual(
                set(index),
                {b"%d" % n for n in range(2, 20, 2)} | {b"%d" % (100 + n) for n in range(others)},
            )

    def test_columns(self) -> None:
        """Contents and serial numbers move with their record."""
        index = Index()
        serials = {}
        for number in range(10):
            place = index.add(record_of(number, number), b"content of %d" % number)
            serials[number] = index.serials[place]
        for number in (9, 0, 4):
            (place,) = index.find(b"%d" % number)
            index.remove(place)
            del serials[number]
        for number, serial in serials.items():
            (place,) = index.find(b"%d" % number)
            self.assertEqual(index.serials[place], serial)
            self.assertEqual(index.contents[place], b"content of %d" % number)

    def test_short_chains(self) -> None:
        """There are as many chains as places, however many entries came and went."""
        index = Index()
        for number in range(5000):
            index.add(record_of(number, number), None)
        for _ in range(4000):
            index.remove(len(index) // 2 + 1)
        self.assertEqual(len(index._chains), 1001)
        self.assertGreater(sum(1 for chain in index._chains if chain), 500)

    def test_not_looked_at(self) -> None:
        """The collector does not look at the lists, and what they hold is freed with them."""
        index = Index()
        self.assertFalse(gc.is_tracked(index.records))
        for number in range(100):
            index.add(record_of(number, number), None)
        self.assertFalse(gc.is_tracked(index.records))
        self.assertFalse(gc.is_tracked(index.contents))
