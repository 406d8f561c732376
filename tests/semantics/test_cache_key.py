"""What tells stored responses apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.cache_key import BELIEVED, KEYED, key_of, plain_key
from pyproxy.semantics.fields import Field
from tests.semantics import strict
from tests.semantics.kit import names_of

PLAIN = plain_key(b"space", b"https", b"h.example", b"/a?b")
SPELLINGS = sorted(KEYED | {name.replace(b"-", b"_") for name in KEYED})

some_values = st.lists(st.sampled_from([*b'a,;:/ "=']), max_size=5).map(bytes)
some_fields = st.lists(
    st.tuples(st.sampled_from([*SPELLINGS[:6], b"accept", b"cookie"]), some_values), max_size=4
)


def key(*fields: Field, trusted: bool = False) -> bytes:
    """Return the key of a request with some fields."""
    return key_of(PLAIN, fields, names_of(fields), trusted)


def keyed_lines(fields: list[Field]) -> list[Field]:
    """Return the fields that a key has to tell apart, those of each name in their order."""
    lines = [field for field in fields if field[0].replace(b"_", b"-") in KEYED]
    return sorted(lines, key=lambda field: field[0])


class PlainTests(SynchronousTestCase):
    """The key without fields."""

    def test_parts(self) -> None:
        """Each part counts; a host's case does not.  RFC 9110 4.2.3."""
        parts = (b"space", b"https", b"h.example", b"/a?b")
        self.assertEqual(PLAIN, plain_key(b"space", b"https", b"H.Example", b"/a?b"))
        for place in range(4):
            other = list(parts)
            other[place] += b"x"
            self.assertNotEqual(PLAIN, plain_key(*other))
        self.assertNotEqual(PLAIN, plain_key(b"space", b"https", b"h.example", b"/A?b"))

    def test_other_fields(self) -> None:
        """Fields that nobody takes for a part of the URL are left to ``Vary``."""
        self.assertEqual(PLAIN, key())
        self.assertEqual(PLAIN, key((b"Accept", b"a"), (b"Cookie", b"b"), (b"X_Y", b"c")))


class PoisoningTests(SynchronousTestCase):
    """Fields that an upstream may believe.  Kettle, "Practical Web Cache Poisoning"."""

    def test_each(self) -> None:
        """One that has such a field never shares with one that has not, or another value."""
        for name in SPELLINGS:
            with self.subTest(name=name):
                one = key((name.title(), b"/admin"))
                self.assertNotEqual(PLAIN, one)
                self.assertEqual(one, key((b"Accept", b"x"), (name.upper(), b"/admin")))
                self.assertNotEqual(one, key((name, b"/Admin")))
                self.assertNotEqual(one, key((name, b"")))
                self.assertNotEqual(one, key((name, b"/admin"), (name, b"/admin")))

    def test_lines(self) -> None:
        """Two lines are not one with a comma: upstreams take the first, the last or both."""
        name = b"X-Original-URL"
        keys = {
            key((name, b"/a,/b")),
            key((name, b"/a"), (name, b"/b")),
            key((name, b"/b"), (name, b"/a")),
            key((name, b"/a")),
            key((name, b"/b")),
        }
        self.assertEqual(5, len(keys))

    def test_names_with_underscores(self) -> None:
        """CGI and WSGI make ``X-Original-URL`` of ``X_Original_URL``, other upstreams do not."""
        keys = {
            key(),
            key((b"X-Original-URL", b"/a")),
            key((b"X_Original_URL", b"/a")),
            key((b"X-Original_URL", b"/a")),
            key((b"SCRIPT_NAME", b"/a")),
        }
        self.assertEqual(5, len(keys))

    def test_order_between_names(self) -> None:
        """In which order fields of different names stand does not matter.  RFC 9110 5.3."""
        one, other = (b"X-Host", b"a"), (b"X-Original-URL", b"/b")
        self.assertEqual(key(one, other), key(other, one))

    @given(some_fields, some_fields)
    def test_every_difference_counts(self, one: list[Field], other: list[Field]) -> None:
        """Keys are equal only where all of these fields are."""
        self.assertEqual(keyed_lines(one) == keyed_lines(other), key(*one) == key(*other))

    def test_forwarded_host_of_anybody(self) -> None:
        """What is dropped before the upstream sees it is no part of the key."""
        for name in (*BELIEVED, b"forwarded", b"x_forwarded_host"):
            with self.subTest(name=name):
                self.assertEqual(PLAIN, key((name, b"host=evil.example")))


class TrustedTests(SynchronousTestCase):
    """What a trusted proxy says."""

    def test_believed(self) -> None:
        """Its X-Forwarded-* reach the upstream, so they are a part of the key."""
        for name in BELIEVED:
            with self.subTest(name=name):
                one = key((name, b"a"), trusted=True)
                self.assertNotEqual(PLAIN, one)
                self.assertNotEqual(one, key((name, b"b"), trusted=True))
                self.assertNotEqual(
                    key((name, b"a, b"), trusted=True),
                    key((name, b"a"), (name, b"b"), trusted=True),
                )

    def forwarded(self, *values: bytes) -> bytes:
        """Return the key of a request with Forwarded."""
        return key(*((b"Forwarded", value) for value in values), trusted=True)

    def test_clients(self) -> None:
        """Clients share whatever their addresses are.  RFC 7239 5.2."""
        one = self.forwarded(b"for=192.0.2.1;host=a.example;proto=https")
        for value in (
            b"for=192.0.2.2;host=a.example;proto=https",
            b'For="[2001:db8::1]:4711";host=a.example;proto=https',
            b"for=_hidden ;host=a.example;proto=https",
        ):
            with self.subTest(value=value):
                self.assertEqual(one, self.forwarded(value))
        self.assertEqual(self.forwarded(b"for=a, by=b"), self.forwarded(b"for=c,by=d"))

    def test_hosts(self) -> None:
        """Whatever an upstream may take for a host tells responses apart.  RFC 7239 5.3, 5.4."""
        values = (
            (b"for=x",),
            (b"for=x;host=a",),
            (b"for=x;host=b",),
            (b"for=x;proto=http",),
            (b"for=x;host=a;host=b, for=y",),
            (b"for=x;host=b;host=a, for=y",),
            (b"for=x;host=a, for=y",),
            (b"for=x, for=y;host=a",),
            (b"for=x", b"for=y;host=a"),
            (b'for="x;host=a"',),
            (b'for="x;host=b"',),
            (b'for="x;host=a',),
            (b"for=x y;host=a",),
            (b"host=a;x=for=y",),
            (b"host=a;x=for=z",),
        )
        keys = {self.forwarded(*lines) for lines in values}
        self.assertEqual(len(values), len(keys))

    def test_hostile_values_are_linear(self) -> None:
        """No value makes it slow."""
        for part in (b"for=", b";", b" ", b'for="', b"for=a,", b"for=a;", b";for= ", b"\t;"):
            value = part * (strict.CROWD // len(part))
            self.assertLess(strict.cpu_seconds(self.forwarded, value), strict.CPU_BUDGET, part)
