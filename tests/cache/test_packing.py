"""Heads that leave the process, and what comes back in their place."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.cache.packing import MAX_PACKED, VERSION, Unreadable, digest_of, pack, unpack
from pyproxy.semantics.stored import StoredResponse
from tests.cache import HEADS, head_of


def signed(body: bytes) -> bytes:
    """Put before a body what stands before a packed head."""
    version = bytes((VERSION,))
    return version + digest_of(version, body) + body


GOOD = json.loads(pack(head_of(b"abc", ((b"accept", b"x"),), [b"tag"]), b"key")[17:])

DEEP = 100_000

ODD: tuple[tuple[int, object], ...] = (
    (0, 7), (0, None), (0, "\u0100"), (1, "200"), (1, 99), (1, 1000), (1, True), (1, 200.0),
    (2, None), (2, "a\r\nSet-Cookie: x"), (3, {}), (3, [["a"]]), (3, [["a", "b", "c"]]),
    (3, [["", "b"]]), (3, [["a b", "c"]]), (3, [["a", "b\r\nc: d"]]), (3, [["a", "b\0"]]),
    (3, [["a", None]]), (3, [["a", "b"]] * 257), (4, 1), (4, "1"), (4, float("nan")), (5, None),
    (6, None), (6, [["a", 1]]), (6, [[None, "a"]]), (7, -1), (7, 2**63), (7, 1.0), (7, False),
    (8, 1), (8, "a\n"), (9, []), (10, None), (11, 0), (12, None), (13, True), (14, "x"),
    (15, None), (15, [1]), (15, "abc"),
    (16, None), (16, "AAAA"), (16, "A"), (16, "!" * 16), (16, "\u00ff"), (16, "A" * 160016),
)  # fmt: skip
"""A place in the list, and what must not stand there."""


class PackingTests(SynchronousTestCase):
    """What may come from anywhere is what was written, or it is refused."""

    @given(HEADS, st.binary(max_size=60))
    def test_round(self, head: StoredResponse, key: bytes) -> None:
        """What is packed comes back as it was, to the last type."""
        found, back = unpack(pack(head, key))
        self.assertEqual((found, back), (key, head))
        self.assertEqual(repr(back), repr(head))

    def test_flipped(self) -> None:
        """A single bit that is another is seen."""
        octets = pack(head_of(b"abc"), b"key")
        for place in range(len(octets)):
            for bit in range(8):
                flipped = bytearray(octets)
                flipped[place] ^= 1 << bit
                with self.assertRaises(Unreadable):
                    unpack(bytes(flipped))

    def test_cut(self) -> None:
        """A part of it is nothing, and so is more than it."""
        octets = pack(head_of(b"abc"), b"key")
        for end in range(len(octets)):
            with self.assertRaises(Unreadable):
                unpack(octets[:end])
        with self.assertRaises(Unreadable):
            unpack(octets + b" ")

    @given(st.binary(max_size=200))
    def test_noise(self, noise: bytes) -> None:
        """Any octets, with and without the right digest, raise nothing else."""
        for octets in (noise, signed(noise)):
            with contextlib.suppress(Unreadable):
                unpack(octets)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=16) | st.dictionaries(st.text(), inner),
            max_leaves=40,
        ),
        st.integers(0, 16),
    )
    def test_other_json(self, value: object, place: int) -> None:
        """JSON of another form with the right digest raises nothing else."""
        for body in (value, [*GOOD[:place], value, *GOOD[place + 1 :]]):
            with contextlib.suppress(Unreadable):
                unpack(signed(json.dumps(body).encode()))

    def test_odd_values(self) -> None:
        """Values of a wrong type or range are refused, and what would end a field line."""
        unpack(signed(json.dumps(GOOD).encode()))
        for place, value in ODD:
            with self.assertRaises(Unreadable, msg=f"{place}: {value!r}"):
                unpack(signed(json.dumps([*GOOD[:place], value, *GOOD[place + 1 :]]).encode()))

    def test_deep(self) -> None:
        """Nesting without an end does not use up the stack."""
        with self.assertRaises(Unreadable):
            unpack(signed(b"[" * DEEP + b"]" * DEEP))

    def test_too_long(self) -> None:
        """More than the bound is not even digested."""
        with self.assertRaisesRegex(Unreadable, "length"):
            unpack(signed(b" " * MAX_PACKED))
