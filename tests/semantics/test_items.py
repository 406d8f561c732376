"""Lines and items of JSON: they end where they end, however the octets are split."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.items import MAX_ITEM_BYTES, Item, ItemReader, LineReader
from tests.semantics import strict

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('"\\[]{}\n,:aé')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(st.sampled_from('"\\]}a'), max_size=3), VALUES, max_size=3)
CUTS = st.lists(st.integers(0, 200), max_size=8)


def read(reader: LineReader | ItemReader, *pieces: bytes) -> list[Item]:
    """Feed pieces to a reader; return what has ended."""
    return [item for piece in pieces for item in reader.feed(piece)]


def cut(octets: bytes, cuts: list[int]) -> list[bytes]:
    """Cut octets at places."""
    return [octets[at:to] for at, to in pairwise([0, *sorted(cuts), len(octets)])]


class LineReaderTests(SynchronousTestCase):
    """Lines of JSON."""

    def test_lines(self) -> None:
        """A line ends with LF; CR before it is white space; empty lines are none."""
        stream = b'{"a":1}\n\n{"b":2}\r\n \r\n{"c":3}'
        for pieces in strict.splits(stream):
            reader = LineReader()
            self.assertEqual([b'{"a":1}', b'{"b":2}\r'], read(reader, *pieces))
            self.assertEqual(7, reader.waiting)
            self.assertEqual([b'{"c":3}'], reader.close())
            self.assertEqual([], reader.close())
        self.assertEqual([b"x"], LineReader().feed(memoryview(b"x\n")))

    def test_too_long(self) -> None:
        """A line past the bound is known of and not kept; the next one is whole."""
        fits = b"x" * MAX_ITEM_BYTES
        for stream, expected in (
            (fits, fits),
            (fits + b"x", None),
            (fits + b"x" * 200_000, None),
        ):
            octets = stream + b"\nnext\n"
            for size in (len(octets), 65536, len(octets) - 6):
                pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
                self.assertEqual([expected, b"next"], read(LineReader(), *pieces))

    @given(st.lists(OBJECTS, max_size=5), CUTS)
    def test_any_split(self, values: list[object], cuts: list[int]) -> None:
        """Lines are the same for any split."""
        stream = b"".join(json.dumps(value).encode() + b"\n" for value in values)
        lines = read(LineReader(), *cut(stream, cuts))
        self.assertEqual(values, [json.loads(line or b"") for line in lines])


class ItemReaderTests(SynchronousTestCase):
    """Items of an array."""

    def test_items(self) -> None:
        """Objects and arrays in an array are items; other values are none."""
        stream = b' [{"a":[{}]}\n,\r\n[1,[2]] , 3, "{", "\\"[", {"b":"}\\\\"}\n]\n'
        for pieces in strict.splits(stream):
            reader = ItemReader()
            items = read(reader, *pieces)
            self.assertEqual([b'{"a":[{}]}', b"[1,[2]]", b'{"b":"}\\\\"}'], items)
            self.assertEqual(0, reader.waiting)
        self.assertEqual([b"{}"], ItemReader().feed(memoryview(b"[{}")))

    def test_objects_in_a_row(self) -> None:
        """Objects that stand in no array are items themselves, with anything in between."""
        stream = b'{"a":1}\n{"b":{}}[{"c":"\\u005d"}]{}]'
        for pieces in strict.splits(stream):
            items = read(ItemReader(), *pieces)
            self.assertEqual([b'{"a":1}', b'{"b":{}}', b'{"c":"\\u005d"}', b"{}"], items)

    def test_waiting(self) -> None:
        """Octets of a begun item are known of."""
        for stream, waiting in ((b"[", 0), (b'[{"a"', 4), (b"[{},", 0), (b'["{', 0)):
            for pieces in strict.splits(stream):
                reader = ItemReader()
                read(reader, *pieces)
                self.assertEqual(waiting, reader.waiting, stream)

    def test_too_long(self) -> None:
        """An item past the bound is known of and not kept; the next one is whole."""
        for spare, fits in ((4, True), (3, False), (-200_000, False)):
            item = b'["%b"]' % (b"x" * (MAX_ITEM_BYTES - spare))
            octets = b"[" + item + b",{}]"
            for size in (len(octets), 65536, len(octets) - 6):
                pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
                self.assertEqual([item if fits else None, b"{}"], read(ItemReader(), *pieces))

    @given(st.lists(OBJECTS, max_size=5), CUTS, st.sampled_from([None, 1]), st.booleans())
    def test_any_split(
        self, values: list[object], cuts: list[int], indent: int | None, ascii_only: bool
    ) -> None:
        """Items are the same for any split, spaced or not."""
        stream = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
        for pieces in (cut(stream, cuts), [stream[at : at + 1] for at in range(len(stream))]):
            items = read(ItemReader(), *pieces)
            self.assertEqual(values, [json.loads(item or b"") for item in items])

    @given(st.lists(st.sampled_from([b"[", b"{", b"]", b"}", b'"', b"\\", b"x"]), max_size=40))
    def test_never_raises(self, pieces: list[bytes]) -> None:
        """What is no JSON gives the same for any split too."""
        items = read(ItemReader(), *pieces)
        self.assertEqual(items, ItemReader().feed(b"".join(pieces)))

    def test_hostile_input_is_linear(self) -> None:
        """No octets make a reader slow, read at once or one by one."""
        for octets in (b"[", b"{", b"[]", b'"', b"\\", b'"\\', b"\n", b'{"a":'):
            stream = octets * (strict.CROWD // len(octets))
            single = [stream[at : at + 1] for at in range(len(stream))]
            for kind in (LineReader, ItemReader):
                self.assertLess(strict.cpu_seconds(read, kind(), stream), strict.CPU_BUDGET)
                self.assertLess(strict.cpu_seconds(read, kind(), *single), strict.CPU_BUDGET)
