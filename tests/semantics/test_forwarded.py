"""Elements of ``Forwarded`` and their parameters."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.forwarded import parameters, unquoted


class ParameterTests(SynchronousTestCase):
    """One parameter of every element (RFC 7239 4)."""

    def test_forms(self) -> None:
        """Quoted or not, in any case, over several lines; twice in an element is none."""
        for lines, found in (
            ([b"for=192.0.2.1;host=a.example"], [b"a.example"]),
            ([b'for="[::1]"; HOST="a.example:80" ;proto=http'], [b"a.example:80"]),
            ([b"host=a, host=b", b"host=c"], [b"a", b"b", b"c"]),
            ([b"host=a;host=b, host=c"], [b"c"]),
            ([b"for=x", b""], []),
            ([b'for="a;host=b,host=c";host=d'], [b"d"]),
            ([b'host="a\\"b"'], [b'a"b']),
            ([b'for="open;host=b'], []),
        ):
            self.assertEqual(found, parameters(lines, b"host"), lines)

    def test_unquoted(self) -> None:
        """A token is itself; half a quoted string is no quoted string."""
        for value, content in (
            (b"a", b"a"),
            (b'"a"', b"a"),
            (b'""', b""),
            (b'"', b'"'),
            (b'"a', b'"a'),
            (b'"a\\\\b"', b"a\\b"),
        ):
            self.assertEqual(content, unquoted(value), value)
