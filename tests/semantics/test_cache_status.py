"""``Cache-Status``."""

from __future__ import annotations

from typing import cast

import http_sf
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.cache_status import NAME, Why, forwarded, hit, not_cached, said

WHYS = {"bypass", "method", "uri-miss", "vary-miss", "request", "stale", "partial"}


def read(value: bytes) -> dict[str, object]:
    """Return the parameters of the one member of a list of structured fields."""
    [(name, found)] = cast(
        "list[tuple[object, dict[str, object]]]", http_sf.parse(value, tltype="list")
    )
    assert str(name).encode("ascii") == NAME
    return {key: said if isinstance(said, bool | int) else str(said) for key, said in found.items()}


class ValueTests(SynchronousTestCase):
    """The field's values, read as structured fields.  RFC 9211 2."""

    def test_hit(self) -> None:
        """A hit says how long it stays fresh, below 0 for a stale one.  RFC 9211 2.1, 2.3."""
        for left, ttl in ((60, 60), (0.9, 0), (-0.5, -1), (-60, -60), (-60.5, -61)):
            with self.subTest(left=left):
                self.assertEqual({"hit": True, "ttl": ttl}, read(hit(left)))
        self.assertEqual({"hit": True, "ttl": 1, "detail": "post"}, read(hit(1, b"post")))

    def test_forwarded(self) -> None:
        """Why it was forwarded, and what became of it.  RFC 9211 2.2, 2.4 to 2.6, 2.8."""
        self.assertEqual({"fwd": "bypass"}, read(forwarded(Why.BYPASS)))
        self.assertEqual(
            {
                "fwd": "stale",
                "fwd-status": 304,
                "stored": True,
                "collapsed": True,
                "detail": "no-room",
            },
            read(forwarded(Why.STALE, 304, True, True, "no-room")),
        )

    def test_reasons(self) -> None:
        """They are those of the specification.  RFC 9211 2.2."""
        self.assertEqual(WHYS, {read(forwarded(why))["fwd"] for why in Why})

    def test_not_cached(self) -> None:
        """A request that nothing answered was neither a hit nor forwarded."""
        self.assertEqual({"detail": "only-if-cached"}, read(not_cached()))

    def test_said(self) -> None:
        """The last word of a cache of this name, in a word."""
        for values, word in (
            ((), ""),
            ((hit(5.0),), "hit"),
            ((hit(-5.0, b"post"),), "hit"),
            ((forwarded(Why.VARY_MISS, 200, True),), "vary-miss"),
            ((not_cached(),), "only-if-cached"),
            ((hit(5.0), forwarded(Why.STALE)), "stale"),
            ((forwarded(Why.STALE), b"other; hit"), "stale"),
            ((b"other; hit", b"pyproxy2; hit", b"pyproxy; odd"), ""),
        ):
            fields = [(b"Cache-Status", value) for value in values]
            self.assertEqual(word, said([(b"X", hit(5.0)), *fields]), values)

    @given(st.floats(-1e12, 1e12), st.sampled_from(Why), st.integers(100, 999))
    def test_always_readable(self, left: float, why: Why, status: int) -> None:
        """Whatever the numbers are, it is a structured field; a hit is not forwarded."""
        self.assertEqual(left < 0, cast("int", read(hit(left))["ttl"]) < 0)
        self.assertNotIn("hit", read(forwarded(why, status)))
