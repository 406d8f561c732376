"""What requests ask of caches."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.fields import Field
from pyproxy.semantics.wishes import NO_WISHES, SPECIAL, Wishes, wishes_of
from tests.semantics.kit import CONTROLS, names_of


def wishes(*fields: Field) -> Wishes:
    """Return what a request with some fields asks."""
    return wishes_of(fields, names_of(fields))


def control(value: bytes) -> Wishes:
    """Return what a Cache-Control asks."""
    return wishes((b"Cache-Control", value))


class ControlTests(SynchronousTestCase):
    """Cache-Control and Pragma."""

    def test_nothing(self) -> None:
        """Other fields say nothing to a cache."""
        self.assertIs(NO_WISHES, wishes((b"Accept", b"no-cache"), (b"Cookie", b"no-store")))
        self.assertEqual(NO_WISHES, control(b"ext, public"))

    def test_directives(self) -> None:
        """Each directive of a request.  RFC 9111 5.2.1, RFC 5861 4."""
        for value, expected in (
            (b"no-cache", Wishes(no_cache=True)),
            (b"no-store", Wishes(no_store=True)),
            (b"Only-If-Cached", Wishes(only_if_cached=True)),
            (b"max-age=0", Wishes(max_age=0)),
            (b"min-fresh=5, max-age=9", Wishes(max_age=9, min_fresh=5)),
            (b"max-stale=5", Wishes(max_stale=5)),
            (b"max-stale", Wishes(max_stale=math.inf)),
            (b"max-stale=5, max-stale", Wishes(max_stale=math.inf)),
            (b"stale-if-error=5", Wishes(stale_if_error=5)),
        ):
            with self.subTest(value=value):
                self.assertEqual(expected, control(value))

    def test_odd(self) -> None:
        """What cannot be read lets nothing be staler."""
        for value, expected in (
            (b"max-stale=x", Wishes(max_stale=0)),
            (b"max-stale=", Wishes(max_stale=0)),
            (b"max-stale=-1", Wishes(max_stale=0)),
            (b"stale-if-error=x", Wishes(stale_if_error=0)),
            (b"max-age=x", Wishes(max_age=0)),
            (b"no-cache;", Wishes(no_cache=True)),
            (b'x="no-cache', Wishes(no_cache=True)),
            (b'x="no-cache"', NO_WISHES),
        ):
            with self.subTest(value=value):
                self.assertEqual(expected, control(value))

    def test_pragma(self) -> None:
        """Pragma counts where there is no Cache-Control.  RFC 9111 5.4."""
        pragma = (b"pragma", b"x, No-Cache")
        self.assertTrue(wishes(pragma).no_cache)
        self.assertFalse(wishes((b"Pragma", b"cache")).no_cache)
        self.assertFalse(wishes((b"Cache-Control", b"max-age=1"), pragma).no_cache)
        self.assertFalse(wishes((b"Cache-Control", b""), pragma).no_cache)

    @given(st.lists(st.sampled_from(CONTROLS), max_size=6).map(b"".join))
    def test_whatever_comes(self, value: bytes) -> None:
        """Whatever stands there, it is read; times are never less than nothing."""
        said = control(value)
        for seconds in (said.max_age, said.min_fresh, said.max_stale, said.stale_if_error):
            self.assertTrue(seconds is None or seconds >= 0)


class ConditionTests(SynchronousTestCase):
    """Conditions and ranges."""

    def test_conditions(self) -> None:
        """Every line of a list counts; several dates are none.  RFC 9110 13.1.3, 13.1.5."""
        for fields, expected in (
            ([(b"If-None-Match", b'"a"')], Wishes(if_none_match=(b'"a"',))),
            (
                [(b"if-none-match", b'"a"'), (b"If-None-Match", b"*")],
                Wishes(if_none_match=(b'"a"', b"*")),
            ),
            ([(b"If-Modified-Since", b"x")], Wishes(if_modified_since=b"x")),
            ([(b"If-Modified-Since", b"x")] * 2, Wishes(if_modified_since=b"x, x")),
            ([(b"Range", b"bytes=0-1")], Wishes(range=b"bytes=0-1")),
            ([(b"Range", b"bytes=0-1")] * 2, Wishes(range=b"bytes=0-1, bytes=0-1")),
            ([(b"If-Range", b'"a"')], Wishes(if_range=b'"a"')),
            ([(b"If-Range", b'"a"')] * 2, Wishes(if_range=b'"a", "a"')),
            ([(b"If-Match", b'"a"')], Wishes(guarded=True)),
            ([(b"If-Unmodified-Since", b"")], Wishes(guarded=True)),
        ):
            with self.subTest(fields=fields):
                self.assertEqual(expected, wishes(*fields))

    def test_conditional(self) -> None:
        """What may be answered by 304 or 412; a range alone is none of that.  RFC 9110 13.1."""
        for name, conditional in (
            (b"if-match", True),
            (b"if-none-match", True),
            (b"if-modified-since", True),
            (b"if-unmodified-since", True),
            (b"if-range", False),
            (b"range", False),
            (b"cache-control", False),
        ):
            with self.subTest(name=name):
                self.assertIn(name, SPECIAL)
                self.assertEqual(conditional, wishes((name, b"x")).conditional)
        self.assertFalse(NO_WISHES.conditional)
