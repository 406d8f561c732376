"""Who stands in X-Forwarded-For and Forwarded."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.nodes import address_of, chain_of
from tests.semantics import strict

V4 = IPv4Address("192.0.2.7")
V6 = IPv6Address("2001:db8::1")

NODES = (
    (b"192.0.2.7", V4),
    (b"192.0.2.7:51008", V4),
    (b"192.0.2.7:_port", V4),
    (b'"192.0.2.7:51008"', V4),
    (b"2001:db8::1", V6),
    (b"2001:DB8:0::1", V6),
    (b"[2001:db8::1]", V6),
    (b"[2001:db8::1]:443", V6),
    (b'"[2001:db8::1]"', V6),
    (b'"[2001:db8::1]:443"', V6),
    (b'"[2001:db8::1]:_port"', V6),
    (b'"\\[2001:db8::1\\]:443"', V6),
    (b"2001:db8::1:443", IPv6Address("2001:db8::1:443")),
    (b"fe80::1%eth0", IPv6Address("fe80::1")),
    (b"[fe80::1%25eth0]:1", IPv6Address("fe80::1")),
    (b"::ffff:192.0.2.7", V4),
    (b"[::ffff:192.0.2.7]:51008", V4),
)

NO_ADDRESSES = (
    b"",
    b"_hidden",
    b"_hidden:443",
    b"unknown",
    b"Unknown",
    b"unknown:443",
    b"localhost",
    b"client.example:80",
    b"192.0.2",
    b"192.0.2.7.1",
    b"192.0.2.256",
    b"192.0.02.7",
    b"192.0.2.7:",
    b"192.0.2.7:123456",
    b"192.0.2.7:x",
    b"192.0.2.7 :80",
    b"192.0.2.7/24",
    b"3221225991",
    b"0xc0000207",
    b"[192.0.2.7]",
    b"[192.0.2.7]:80",
    b"192.0.2.7%eth0",
    b"[2001:db8::1",
    b"2001:db8::1]",
    b"[2001:db8::1]443",
    b"[2001:db8::1]:",
    b"[]",
    b":",
    b":80",
    b'"',
    b'""',
    b'"192.0.2.7',
    b"192.0.2.7\xb2",
    b"%eth0",
)


class AddressTests(SynchronousTestCase):
    """The address of a node."""

    def test_addresses(self) -> None:
        """With and without a port, bracketed, quoted, mapped.  RFC 7239 6."""
        for node, address in NODES:
            self.assertEqual(address, address_of(node), node)

    def test_none(self) -> None:
        """What hides an address has none, and neither has what is no node.  RFC 7239 6.2, 6.3."""
        for node in NO_ADDRESSES:
            self.assertIsNone(address_of(node), node)

    @given(st.ip_addresses(), st.none() | st.integers(0, 65535))
    def test_every_address(self, address: IPv4Address | IPv6Address, port: int | None) -> None:
        """Every address is found in each of its spellings."""
        expected = getattr(address, "ipv4_mapped", None) or address
        shown = str(address).encode()
        suffix = b"" if port is None else b":%d" % port
        if address.version == 6:
            self.assertEqual(expected, address_of(shown))
            shown = b"[" + shown + b"]"
        for node in (shown + suffix, b'"' + shown + suffix + b'"'):
            self.assertEqual(expected, address_of(node), node)

    @given(st.lists(st.sampled_from([*b'[]:.%"\\_129af x']), max_size=20).map(bytes))
    def test_nothing_else(self, node: bytes) -> None:
        """Whatever stands there, it is an address or None."""
        address = address_of(node)
        self.assertEqual(address, address and ip_address(str(address)))


class ChainTests(SynchronousTestCase):
    """The nodes of a request."""

    def assert_chain(self, expected: list[bytes], *fields: tuple[bytes, bytes]) -> None:
        """Check what is read out of some fields."""
        self.assertEqual(expected, chain_of(list(fields)))

    def test_x_forwarded_for(self) -> None:
        """All lines are one list, in their order."""
        self.assert_chain(
            [b"a", b"b:1", b'"[c]:2"'],
            (b"X-Forwarded-For", b"a, b:1,"),
            (b"A", b"b"),
            (b"x-forwarded-for", b'"[c]:2"'),
        )
        self.assert_chain([])

    def test_forwarded(self) -> None:
        """Each element has one ``for``, in any case of its letters.  RFC 7239 4."""
        self.assert_chain(
            [b"a", b"[b]:1", b"_c", b"d"],
            (b"Forwarded", b'for=a;proto=http, by=x ; FOR="[b]:1";host="h, for=e;for=f"'),
            (b"forwarded", b"For=_c,for=d"),
        )

    def test_element_that_does_not_say(self) -> None:
        """An element without ``for``, or with two, says nothing of its own hop.  RFC 7239 4."""
        for element in (
            b"proto=https",
            b"for=a;for=b",
            b"for=a;proto=http;FOR=a",
            b"for",
            b"for =a",
            b'host="h;for=a',
            b'host="h;for=a"',
            b'host="h\\";for=a"',
        ):
            lines = [(b"Forwarded", line) for line in (b"for=x", element, b"for=y")]
            self.assertEqual([b"x", b"", b"y"], chain_of(lines), element)

    def test_both(self) -> None:
        """X-Forwarded-For wins, even an empty one: Forwarded may be the client's own."""
        forwarded = (b"Forwarded", b"for=6.6.6.6")
        self.assert_chain([b"a"], forwarded, (b"X-Forwarded-For", b"a"))
        self.assert_chain([], (b"X-Forwarded-For", b""), forwarded)

    def test_hostile_lines_are_linear(self) -> None:
        """No line makes the search slow."""
        for part in (b'"', b";", b"for=", b'for="', b"\\", b'"\\', b",", b"a=b;", b'="\\"'):
            line = part * (strict.CROWD // len(part))
            taken = strict.cpu_seconds(chain_of, [(b"Forwarded", line)])
            self.assertLess(taken, strict.CPU_BUDGET, part)
        for part in (b"1", b"1.", b":", b"[", b"%", b"[:%", b'"[:'):
            node = part * (strict.CROWD // len(part))
            self.assertLess(strict.cpu_seconds(address_of, node), strict.CPU_BUDGET, part)
