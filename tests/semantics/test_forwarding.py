"""What both directions have to know of a head."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.forwarding import (
    FORBIDDEN_TRAILERS,
    HOP_BY_HOP,
    WRITTEN_BY_US,
    client_of,
    connection_options,
    forwardable_trailers,
    hops_left,
    host_of,
    one_hop_less,
    persists,
)
from pyproxy.semantics.messages import RequestHead
from tests.semantics import strict
from tests.semantics.kit import TRUSTED, UNTRUSTED, head_of


class ConnectionTests(SynchronousTestCase):
    """What Connection says."""

    def test_options(self) -> None:
        """Options are a list over all lines, without case.  RFC 9110 7.6.1."""
        head = head_of((b"Connection", b"Close, X-A"), (b"A", b"b"), (b"connection", b", x-b"))
        self.assertEqual([b"close", b"x-a", b"x-b"], connection_options(head))
        self.assertEqual([], connection_options(head_of((b"A", b"b"))))
        self.assertEqual([], connection_options(head_of((b"Connection", b" , "))))
        for value in (b"keep-alive", b"Keep-Alive", b",keep-alive"):
            options = connection_options(head_of((b"Connection", value)))
            self.assertEqual([b"keep-alive"], options)

    def test_framing_fields_are_never_nominated(self) -> None:
        """A message is read in two ways where the fields that frame it are one hop's.

        RFC 9110 7.6.1: fields for all recipients must not be nominated.
        """
        for name in (b"content-length", b"Transfer-Encoding"):
            strict.refusal(connection_options, head_of((b"Connection", b"close, " + name)))
            strict.refusal(connection_options, head_of((b"connection", name)))

    def test_options_are_tokens(self) -> None:
        """What is no token could hide a nomination from one of two parsers.  RFC 9110 7.6.1."""
        for value in (b'"x, content-length', b"close; x", b"a b"):
            strict.refusal(connection_options, head_of((b"Connection", value)))

    def test_persistence(self) -> None:
        """HTTP/1.1 goes on unless ``close``, HTTP/1.0 only with ``keep-alive``.  RFC 9112 9.3."""
        for minor_version, options, expected in (
            (1, [], True),
            (1, [b"close"], False),
            (1, [b"keep-alive"], True),
            (1, [b"keep-alive", b"close"], False),
            (0, [], False),
            (0, [b"keep-alive"], True),
            (0, [b"close", b"keep-alive"], False),
            (1, [b"x-close"], True),
        ):
            self.assertEqual(expected, persists(minor_version, options), (minor_version, options))


class HostTests(SynchronousTestCase):
    """Which host a client asked for."""

    def host(self, *hosts: bytes, minor: int = 1) -> bytes:
        """Return the host of a request with some Host fields."""
        return host_of(RequestHead(b"GET", b"/", minor, [(b"hOST", host) for host in hosts]))

    def test_host(self) -> None:
        """Host says it; HTTP/1.0 may do without.  RFC 9112 3.2."""
        self.assertEqual(b"h:80", self.host(b"h:80"))
        self.assertEqual(b"", self.host(b""))
        self.assertEqual(b"", self.host(minor=0))

    def test_refused(self) -> None:
        """No Host in HTTP/1.1, two of them or a wrong one gets 400.  RFC 9112 3.2."""
        strict.refusal(self.host)
        strict.refusal(self.host, b"h", b"h")
        strict.refusal(self.host, b"h", b"i", minor=0)
        for bad in (b"a b", b"u@h", b"h/", b"h:x", b"http://h", b"a, b", b"h?"):
            strict.refusal(self.host, bad)

    def test_reasons(self) -> None:
        """The text says what is wrong with it."""
        for reason, hosts in (
            ("no Host", ()),
            ("more than one Host", (b"h", b"h")),
            ("userinfo", (b"u:p@h",)),
            ("no host with or without a port", (b"http://h",)),
        ):
            self.assertIn(reason, str(strict.refusal(self.host, *hosts)))


class ClientTests(SynchronousTestCase):
    """Who the client is."""

    def test_client_of_a_chain(self) -> None:
        """The client is the last address that no trusted proxy has.  RFC 7239 8.1."""
        trusted = (ip_network("10.0.0.0/8"),)
        for chain, hop, client in (
            (b"203.0.113.9", UNTRUSTED, UNTRUSTED.address),
            (b"203.0.113.9", TRUSTED, b"203.0.113.9"),
            (b"6.6.6.6, 203.0.113.9, 10.1.1.1", TRUSTED, b"203.0.113.9"),
            (b"10.2.2.2, 10.1.1.1", TRUSTED, b"10.2.2.2"),
            (b"6.6.6.6, unknown, 10.1.1.1", TRUSTED, b"10.1.1.1"),
            (b"", TRUSTED, TRUSTED.address),
        ):
            fields = [(b"X-Forwarded-For", chain)]
            self.assertEqual(client, client_of(fields, hop, trusted), chain)

    def test_spellings(self) -> None:
        """With a port or without, bracketed or quoted: it is the same address.  RFC 7239 6."""
        trusted = (ip_network("10.0.0.0/8"), ip_network("2001:db8:f::/48"))
        for node, client in (
            (b"192.0.2.7", b"192.0.2.7"),
            (b"192.0.2.7:51008", b"192.0.2.7"),
            (b'"192.0.2.7:51008"', b"192.0.2.7"),
            (b"::ffff:192.0.2.7", b"192.0.2.7"),
            (b"2001:db8::1", b"2001:db8::1"),
            (b"[2001:db8::1]", b"2001:db8::1"),
            (b"[2001:db8::1]:443", b"2001:db8::1"),
            (b'"[2001:db8::1]:443"', b"2001:db8::1"),
            (b"fe80::1%eth0", b"fe80::1"),
            # Who hides, and what is no address: the proxy that says so is the last one known.
            (b"_hidden", b"10.1.1.1"),
            (b'"_hidden:1"', b"10.1.1.1"),
            (b"unknown", b"10.1.1.1"),
            (b"nonsense", b"10.1.1.1"),
        ):
            for behind in (b"10.1.1.1", b"10.1.1.1:5000", b"[2001:db8:f::1]:1, 10.1.1.1"):
                if client == b"10.1.1.1" and b"[" in behind:
                    client = b"2001:db8:f::1"
                chain = b"6.6.6.6, %b, %b" % (node, behind)
                fields = [(b"X-Forwarded-For", chain)]
                self.assertEqual(client, client_of(fields, TRUSTED, trusted), chain)
                self.assertEqual(UNTRUSTED.address, client_of(fields, UNTRUSTED, trusted))

    def test_forwarded(self) -> None:
        """Forwarded alone tells it too; beside X-Forwarded-For it does not count.  RFC 7239 5.2."""
        trusted = (ip_network("10.0.0.0/8"),)
        for value, client in (
            (b"for=192.0.2.7", b"192.0.2.7"),
            (b'for=6.6.6.6, For="192.0.2.7:51008";proto=https, for=10.1.1.1', b"192.0.2.7"),
            (b'proto=https;for="[2001:db8::1]:443"', b"2001:db8::1"),
            (b"for=6.6.6.6, for=_hidden;by=10.1.1.1", TRUSTED.address),
            (b"for=6.6.6.6, for=unknown, for=10.1.1.1", b"10.1.1.1"),
            (b"for=6.6.6.6, proto=https", TRUSTED.address),
            (b"for=6.6.6.6;for=192.0.2.7", TRUSTED.address),
        ):
            fields = [(b"Forwarded", value)]
            self.assertEqual(client, client_of(fields, TRUSTED, trusted), value)
            self.assertEqual(UNTRUSTED.address, client_of(fields, UNTRUSTED, trusted))
            fields.append((b"X-Forwarded-For", b"203.0.113.9"))
            self.assertEqual(b"203.0.113.9", client_of(fields, TRUSTED, trusted), value)


class MaxForwardsTests(SynchronousTestCase):
    """How many hops an OPTIONS or a TRACE may still make."""

    def test_hops(self) -> None:
        """Max-Forwards is one decimal number; without it there is no bound.  RFC 9110 7.6.2."""
        for fields, expected in (
            ([], None),
            ([(b"A", b"1")], None),
            ([(b"Max-Forwards", b"0")], 0),
            ([(b"max-forwards", b"10")], 10),
            ([(b"MAX-FORWARDS", b"999999999")], 999999999),
        ):
            self.assertEqual(expected, hops_left(fields), fields)

    def test_refused(self) -> None:
        """A Max-Forwards that two hops could read differently is refused.  RFC 9110 7.6.2."""
        for value in (b"", b"-1", b"+1", b"1.0", b"0x1", b"1, 1", b"one", b"\xb2", b"9" * 10):
            strict.refusal(hops_left, [(b"Max-Forwards", value)])
        strict.refusal(hops_left, [(b"Max-Forwards", b"1"), (b"max-forwards", b"1")])

    def test_lowered(self) -> None:
        """The number is one less at the next hop; all else is kept.  RFC 9110 7.6.2."""
        self.assertEqual(
            [(b"A", b"5"), (b"mAx-Forwards", b"9"), (b"a", b"5")],
            one_hop_less([(b"A", b"5"), (b"mAx-Forwards", b"10"), (b"a", b"5")]),
        )


class TrailerTests(SynchronousTestCase):
    """Which trailers may pass."""

    def test_passed(self) -> None:
        """Trailers keep order, case and duplicates.  RFC 9110 6.5."""
        trailers = [(b"Digest", b"x"), (b"grpc-status", b"0"), (b"digest", b"\xff")]
        self.assertEqual(trailers, forwardable_trailers(trailers))
        self.assertEqual([], forwardable_trailers([]))

    def test_refused(self) -> None:
        """Fields that frame, route or authenticate do not count in trailers.  RFC 9110 6.5.1."""
        for name in FORBIDDEN_TRAILERS | HOP_BY_HOP | WRITTEN_BY_US:
            for spelling in (name, name.title()):
                self.assertEqual([], forwardable_trailers([(spelling, b"x")]), spelling)
        for name in (
            b"Transfer-Encoding",
            b"Content-Length",
            b"Host",
            b"Connection",
            b"Set-Cookie",
        ):
            self.assertEqual([], forwardable_trailers([(name, b"x")]), name)

    def test_nominated(self) -> None:
        """Names that must not pass either are dropped with them."""
        trailers = [(b"X-A", b"1"), (b"X-B", b"2")]
        self.assertEqual([(b"X-B", b"2")], forwardable_trailers(trailers, frozenset({b"x-a"})))

    def test_aliases(self) -> None:
        """A trailer that CGI and WSGI upstreams take for one of ours is dropped as that one is.

        RFC 3875 4.1.18.
        """
        for name in (b"X_Forwarded_For", b"x-forwarded_proto"):
            self.assertEqual([], forwardable_trailers([(name, b"x")]), name)
        guarded = frozenset({b"x-api-key"})
        self.assertEqual([], forwardable_trailers([(b"X_Api_Key", b"x")], guarded))
