"""What becomes of a request's head on its way to the upstream."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.fields import Fields
from pyproxy.semantics.forwarding import (
    HOP_BY_HOP,
    WRITTEN_BY_US,
    FieldRules,
    Hop,
    connection_options,
    host_of,
)
from pyproxy.semantics.framing import CHUNKED, NO_CONTENT, Framing
from pyproxy.semantics.messages import RequestHead
from pyproxy.semantics.to_upstream import (
    MAX_KNOWN_HOST_BYTES,
    MAX_KNOWN_HOSTS,
    RequestForwarding,
)
from pyproxy.semantics.urls import parse_target
from tests.semantics.kit import TRUSTED, UNTRUSTED, head_of

ORIGIN = parse_target("https://api.example.com/base/").origin
PSEUDONYM = b"pyproxy-1"
OURS: Fields = [
    (b"X-Forwarded-For", b"192.0.2.1"),
    (b"X-Forwarded-Proto", b"https"),
    (b"X-Forwarded-Host", b"client.example"),
    (b"X-Forwarded-Port", b"443"),
    (b"Via", b"1.1 pyproxy-1"),
]
TO_TARGET: Fields = [(b"Host", b"api.example.com")]


def forwarded(
    fields: Fields,
    rules: FieldRules | None = None,
    hop: Hop = UNTRUSTED,
    framing: Framing = NO_CONTENT,
    minor_version: int = 1,
    preserve_host: bool = False,
) -> Fields:
    """Return what becomes of a request's fields; a Host is put before them if they have none."""
    if minor_version == 1 and not any(name.lower() == b"host" for name, _ in fields):
        fields = [(b"Host", b"client.example"), *fields]
    head = RequestHead(b"GET", b"/", minor_version, fields)
    forwarding = RequestForwarding(ORIGIN, PSEUDONYM, rules or FieldRules(), preserve_host)
    return forwarding.fields(head, connection_options(head), host_of(head), hop, framing)


class RequestFieldsTests(SynchronousTestCase):
    """A request's fields on their way to the upstream."""

    def test_untouched(self) -> None:
        """Order, case, duplicates and octets from 0x80 stay; nothing is invented but our own."""
        fields = [
            (b"X-B", b"2"),
            (b"HOST", b"client.example"),
            (b"x-a", b"1"),
            (b"X-A", b"1"),
            (b"Accept", b""),
            (b"X-Raw", b"caf\xc3\xa9 \xff"),
            (b"Content-Length", b"5"),
            (b"Expect", b"100-continue"),
            (b"Trailer", b"x"),
        ]
        expected = [*fields, *OURS]
        expected[1] = (b"HOST", b"api.example.com")
        self.assertEqual(expected, forwarded(fields))

    def test_hop_by_hop(self) -> None:
        """Fields of one connection go, nominated or not.  RFC 9110 7.6.1."""
        for name in HOP_BY_HOP:
            for spelling in (name, name.title(), name.upper()):
                self.assertEqual([*TO_TARGET, *OURS], forwarded([(spelling, b"x")]), spelling)

    def test_nominated(self) -> None:
        """What Connection nominates goes with it, on every line and in any case.

        RFC 9110 7.6.1.
        """
        fields = [
            (b"X-A", b"1"),
            (b"Connection", b"keep-alive, x-a"),
            (b"x-A", b"2"),
            (b"X-B", b"3"),
            (b"CONNECTION", b"X-C"),
            (b"x-c", b"4"),
        ]
        self.assertEqual([*TO_TARGET, (b"X-B", b"3"), *OURS], forwarded(fields))

    def test_opening_handshake(self) -> None:
        """What the two ends agree on passes as it is; Upgrade is a matter of each hop.

        RFC 6455 4.1, RFC 9110 7.8.
        """
        handshake = [
            (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
            (b"sec-websocket-version", b"13"),
            (b"Sec-WebSocket-Protocol", b"a, b"),
            (b"Sec-WebSocket-Extensions", b"permessage-deflate; client_max_window_bits"),
            (b"Sec-WebSocket-Protocol", b"c"),
            (b"Sec-WebSocket-Extensions", b"x-other"),
            (b"Origin", b"https://app.example"),
            (b"Cookie", b"a=b"),
        ]
        hop = [(b"Upgrade", b"websocket"), (b"Connection", b"keep-alive, Upgrade")]
        self.assertEqual([*TO_TARGET, *handshake, *OURS], forwarded([*hop, *handshake]))

    def test_ours_cannot_be_nominated_away(self) -> None:
        """Stripping comes before writing: a client cannot take the operator's key out."""
        rules = FieldRules(((b"Authorization", b"Bearer key"),))
        fields = [
            (b"Connection", b"Authorization, Via, X-Forwarded-For, Forwarded"),
            (b"Authorization", b"Bearer theirs"),
        ]
        expected = [*TO_TARGET, *OURS, (b"Authorization", b"Bearer key")]
        self.assertEqual(expected, forwarded(fields, rules))

    def test_te(self) -> None:
        """Of TE only ``trailers`` passes, as a new hop's own field.  RFC 9110 10.1.4, 6.5.1."""
        kept = [(b"TE", b"trailers"), (b"Connection", b"TE")]
        for lines, expected in (
            ([b"trailers"], kept),
            ([b"gzip, Trailers;"], []),
            ([b"gzip, Trailers"], kept),
            ([b"gzip", b"trailers"], kept),
            ([b"trailers", b"gzip"], kept),
            ([b"gzip;q=0.5"], []),
            ([b"xtrailers"], []),
        ):
            fields = [(b"Connection", b"TE"), *((b"te", line) for line in lines)]
            self.assertEqual([*TO_TARGET, *OURS, *expected], forwarded(fields), lines)

    def test_chunked(self) -> None:
        """Chunked content goes on in chunks of our own.  RFC 9112 6.1."""
        fields = [(b"Transfer-Encoding", b"chunked"), (b"A", b"b")]
        expected = [*TO_TARGET, (b"A", b"b"), *OURS, (b"Transfer-Encoding", b"chunked")]
        self.assertEqual(expected, forwarded(fields, framing=CHUNKED))

    def test_host(self) -> None:
        """Host is the target's, where the client's stood.  RFC 9110 7.2."""
        fields = [(b"A", b"b"), (b"host", b"client.example:8000")]
        self.assertEqual((b"host", b"api.example.com"), forwarded(fields)[1])
        self.assertEqual(
            (b"host", b"client.example:8000"), forwarded(fields, preserve_host=True)[1]
        )

    def test_host_of_an_old_client(self) -> None:
        """A request without Host gets the target's, first.  RFC 9110 7.2."""
        for preserve_host in (False, True):
            fields = forwarded([(b"A", b"b")], minor_version=0, preserve_host=preserve_host)
            self.assertEqual([*TO_TARGET, (b"A", b"b")], fields[:2])
            self.assertEqual((b"Via", b"1.0 pyproxy-1"), fields[-1])
            self.assertNotIn(b"X-Forwarded-Host", dict(fields))

    def test_empty_host_is_not_preserved(self) -> None:
        """A Host that says nothing is not worth preserving.  RFC 9112 3.2."""
        fields = forwarded([(b"Host", b"")], preserve_host=True)
        self.assertEqual((b"Host", b"api.example.com"), fields[0])

    def test_operators_rules(self) -> None:
        """A field that is set replaces every one of its name; a removed one goes."""
        rules = FieldRules(
            ((b"X-A", b"new"), (b"X-A", b"newer"), (b"Via", b"mine")), frozenset({b"x-b"})
        )
        fields = [(b"x-a", b"1"), (b"X-B", b"2"), (b"X-A", b"3"), (b"X-C", b"4"), (b"via", b"5")]
        expected = [*TO_TARGET, (b"X-C", b"4"), *OURS[:-1], *rules.set]
        self.assertEqual(expected, forwarded(fields, rules))

    def test_operators_host(self) -> None:
        """The operator's Host replaces the target's."""
        rules = FieldRules(((b"Host", b"virtual.example"),))
        expected = [*OURS, (b"Host", b"virtual.example")]
        self.assertEqual(expected, forwarded([], rules))
        old = forwarded([], rules, minor_version=0)
        self.assertEqual(1, [name.lower() for name, _ in old].count(b"host"))

    def test_operator_removes_ours(self) -> None:
        """The operator may keep the client's address to himself."""
        rules = FieldRules((), WRITTEN_BY_US | {b"via"})
        self.assertEqual(TO_TARGET, forwarded([], rules))

    def test_operator_removes_te(self) -> None:
        """A field that the operator removes does not come back by another way."""
        rules = FieldRules((), frozenset({b"te"}))
        fields = [(b"TE", b"trailers"), (b"Connection", b"TE")]
        self.assertNotIn(b"TE", dict(forwarded(fields, rules)))

    def test_aliases_of_guarded_fields(self) -> None:
        """``X_Api_Key`` is ``X-Api-Key`` to CGI, WSGI and PHP upstreams: the client's goes.

        RFC 3875 4.1.18.
        """
        rules = FieldRules(((b"X-Api-Key", b"key"),), frozenset({b"x-user"}))
        for name in (
            b"X_Api_Key",
            b"x-api_key",
            b"X_USER",
            b"X_Forwarded_For",
            b"x-forwarded_proto",
            b"X_Forwarded-Host",
        ):
            for hop in (UNTRUSTED, TRUSTED):
                names = [field[0] for field in forwarded([(name, b"theirs")], rules, hop)]
                self.assertNotIn(name, names)
        harmless = (b"X_Other", b"1")
        self.assertIn(harmless, forwarded([harmless], rules))

    def test_trailers(self) -> None:
        """What a route replaces or removes holds for trailers too.  RFC 9110 6.5."""
        rules = FieldRules(((b"X-Api-Key", b"sk-key"),), frozenset({b"x-gone"}))
        trailers = [(b"x-api-key", b"1"), (b"X-Gone", b"2"), (b"X-Hop", b"3"), (b"X", b"sk-key")]
        forwarding = RequestForwarding(ORIGIN, PSEUDONYM, rules)
        self.assertEqual([trailers[3]], forwarding.trailers(trailers, [b"x-hop"]))

    def test_nominated_host(self) -> None:
        """Host is the target's own, whether the client nominated its own or not.  RFC 9110 7.2."""
        for preserve_host, expected in ((False, b"api.example.com"), (True, b"client.example")):
            fields = forwarded([(b"Connection", b"Host")], preserve_host=preserve_host)
            hosts = [value for name, value in fields if name.lower() == b"host"]
            self.assertEqual([expected], hosts)
            asked: Fields = [(b"A", b"b"), (b"HOST", b"client.example"), (b"Connection", b"host")]
            fields = forwarded(asked, preserve_host=preserve_host)
            self.assertEqual([(b"A", b"b"), (b"HOST", expected)], fields[:2])


class OriginOfClientTests(SynchronousTestCase):
    """Who the client is, told to the upstream."""

    claims: Fields = [
        (b"X-Forwarded-For", b"203.0.113.9"),
        (b"x-forwarded-for", b"203.0.113.10, 203.0.113.11"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"public.example"),
        (b"X-Forwarded-Port", b"443"),
        (b"Forwarded", b"for=203.0.113.9"),
    ]

    def test_untrusted(self) -> None:
        """What a client says about itself is dropped and written anew.  RFC 7239 8.1."""
        self.assertEqual([*TO_TARGET, *OURS], forwarded(self.claims))

    def test_trusted(self) -> None:
        """A trusted proxy's claims stay, and its own address is added to them.  RFC 7239 4."""
        expected = [
            *TO_TARGET,
            (b"X-Forwarded-For", b"203.0.113.9, 203.0.113.10, 203.0.113.11, 10.0.0.1"),
            (b"X-Forwarded-Proto", b"https"),
            (b"X-Forwarded-Host", b"public.example"),
            (b"X-Forwarded-Port", b"443"),
            (b"Forwarded", b'for=203.0.113.9, for=10.0.0.1;proto=http;host="client.example"'),
            (b"Via", b"1.1 pyproxy-1"),
        ]
        self.assertEqual(expected, forwarded(self.claims, hop=TRUSTED))

    def test_trusted_without_claims(self) -> None:
        """Where a trusted proxy says nothing, the connection does; Forwarded is never begun."""
        expected = [
            (b"X-Forwarded-For", b"10.0.0.1"),
            (b"X-Forwarded-Proto", b"http"),
            (b"X-Forwarded-Host", b"client.example"),
            (b"X-Forwarded-Port", b"80"),
            (b"Via", b"1.1 pyproxy-1"),
        ]
        self.assertEqual([*TO_TARGET, *expected], forwarded([], hop=TRUSTED))

    def port(self, host: bytes, hop: Hop = UNTRUSTED, claims: Fields | None = None) -> bytes | None:
        """Return the X-Forwarded-Port that goes with a Host."""
        fields = forwarded([(b"Host", host), *(claims or [])], hop=hop)
        return dict(fields).get(b"X-Forwarded-Port")

    def test_port(self) -> None:
        """X-Forwarded-Port agrees with X-Forwarded-Host: its port, else the scheme's.

        The port that we listen on may be another one behind a mapped port.
        """
        plain = Hop(b"192.0.2.1", b"http", b"8000", False)
        unix = Hop(b"", b"https", b"", False)
        for host, of_http, of_https in (
            (b"h", b"80", b"443"),
            (b"h:9000", b"9000", b"9000"),
            (b"h:", b"80", b"443"),
            (b"[::1]", b"80", b"443"),
            (b"[2001:db8::8443]", b"80", b"443"),
            (b"[::1]:81", b"81", b"81"),
            (b"h" * 300 + b":82", b"82", b"82"),
        ):
            for _ in range(2):
                self.assertEqual(of_http, self.port(host, plain), host)
                self.assertEqual(of_https, self.port(host, UNTRUSTED), host)
                self.assertEqual(of_https, self.port(host, unix), host)

    def test_port_without_host(self) -> None:
        """Where no host is told, the port is the one that the connection came to, if it has any."""
        for hop, port in (
            (UNTRUSTED, b"8000"),
            (TRUSTED, b"8000"),
            (Hop(b"", b"http", b"", False), None),
        ):
            self.assertEqual(port, self.port(b"", hop))
            fields = forwarded([], hop=hop, minor_version=0)
            self.assertEqual(port, dict(fields).get(b"X-Forwarded-Port"))

    def test_port_of_a_trusted_proxy(self) -> None:
        """What a trusted proxy says of host and scheme says the port too, not our own one."""
        for claims, port in (
            ([(b"X-Forwarded-Proto", b"https")], b"443"),
            ([(b"X-Forwarded-Proto", b"HTTPS")], b"443"),
            ([(b"X-Forwarded-Proto", b"wss")], b"443"),
            ([(b"X-Forwarded-Host", b"public.example")], b"80"),
            ([(b"X-Forwarded-Host", b"public.example:8443")], b"8443"),
            ([(b"X-Forwarded-Host", b"[::1]:81"), (b"X-Forwarded-Proto", b"https")], b"81"),
            ([(b"X-Forwarded-Host", b"[::1]")], b"80"),
            ([(b"X-Forwarded-Host", b"a:81, b:82")], b"81"),
            ([(b"X-Forwarded-Host", b"a"), (b"X-Forwarded-Host", b"b:82")], b"80"),
            ([(b"X-Forwarded-Host", b"a"), (b"X-Forwarded-Proto", b"https, http")], b"443"),
            ([(b"X-Forwarded-Host", b"a:81"), (b"X-Forwarded-Port", b"82")], b"82"),
            ([(b"X-Forwarded-Proto", b"gopher")], b"8000"),
            ([(b"X-Forwarded-For", b"203.0.113.9")], b"80"),
        ):
            self.assertEqual(port, self.port(b"client.example", TRUSTED, claims), claims)
        claims = [(b"X-Forwarded-Proto", b"https")]
        self.assertEqual(b"8443", self.port(b"client.example:8443", TRUSTED, claims))
        self.assertEqual(b"443", self.port(b"", TRUSTED, claims))

    def test_known_hosts_are_bounded(self) -> None:
        """However many hosts clients ask for, and however long: what is kept of them is bounded."""
        forwarding = RequestForwarding(ORIGIN, PSEUDONYM)
        most = 0
        for number in range(3 * MAX_KNOWN_HOSTS):
            for host in (b"h%d:%d" % (number, number), b"%d" % number * MAX_KNOWN_HOST_BYTES):
                head = head_of((b"Host", host))
                fields = forwarding.fields(head, [], host, UNTRUSTED, NO_CONTENT)
                port = b"%d" % number if b":" in host else b"443"
                self.assertEqual(port, dict(fields)[b"X-Forwarded-Port"])
            most = max(most, len(forwarding._ports))
        self.assertEqual(MAX_KNOWN_HOSTS, most)
        self.assertLessEqual(max(len(host) for _, host in forwarding._ports), MAX_KNOWN_HOST_BYTES)

    def test_no_alias_is_believed(self) -> None:
        """A trusted proxy passes on what its client wrote with ``_``: no claim of its own."""
        fields = forwarded([(b"X_Forwarded_For", b"203.0.113.9")], hop=TRUSTED)
        self.assertIn((b"X-Forwarded-For", b"10.0.0.1"), fields)

    def test_unix_socket(self) -> None:
        """A peer without an address adds none."""
        hop = Hop(b"", b"http", b"", False)
        expected = [
            (b"X-Forwarded-Proto", b"http"),
            (b"X-Forwarded-Host", b"client.example"),
            (b"X-Forwarded-Port", b"80"),
            (b"Via", b"1.1 pyproxy-1"),
        ]
        self.assertEqual([*TO_TARGET, *expected], forwarded([], hop=hop))
        fields = dict(forwarded(self.claims, hop=Hop(b"", b"http", b"", True)))
        self.assertEqual(b"203.0.113.9, 203.0.113.10, 203.0.113.11", fields[b"X-Forwarded-For"])
        self.assertIn(b"for=unknown;proto=http", fields[b"Forwarded"])

    def test_forwarded_of_ipv6(self) -> None:
        """An IPv6 node is bracketed and quoted; an unknown host is left out.  RFC 7239 6."""
        fields = forwarded(
            [(b"Forwarded", b"for=a"), (b"Forwarded", b"for=b")],
            hop=Hop(b"2001:db8::1", b"https", b"1", True),
            minor_version=0,
        )
        expected = b'for=a, for=b, for="[2001:db8::1]";proto=https'
        self.assertEqual(expected, dict(fields)[b"Forwarded"])
        self.assertEqual(b"2001:db8::1", dict(fields)[b"X-Forwarded-For"])


class ViaTests(SynchronousTestCase):
    """Via and loops."""

    def test_appended(self) -> None:
        """Our Via comes after those of the hops before.  RFC 9110 7.6.3."""
        fields = forwarded([(b"Via", b"1.0 other"), (b"via", b"1.1 third")])
        lines = [value for name, value in fields if name.lower() == b"via"]
        self.assertEqual([b"1.0 other", b"1.1 third", b"1.1 pyproxy-1"], lines)

    def test_loop(self) -> None:
        """Our own name in Via is a loop; a similar one is none.  RFC 9110 7.6.3."""
        forwarding = RequestForwarding(ORIGIN, PSEUDONYM)
        for value, expected in (
            (b"1.1 pyproxy-1", True),
            (b"1.0 a, HTTP/1.1 pyproxy-1 (comment), 1.1 b", True),
            (b"1.1\tpyproxy-1", True),
            (b"1.1 pyproxy-12", False),
            (b"1.1 xpyproxy-1", False),
            (b"1.1 pyproxy", False),
            (b"", False),
        ):
            self.assertEqual(expected, forwarding.passed_here(head_of((b"vIa", value))), value)
        head = head_of((b"Via", b"1.1 a"), (b"A", b"b"), (b"Via", b"1.1 pyproxy-1"))
        self.assertTrue(forwarding.passed_here(head))
        self.assertFalse(forwarding.passed_here(head_of()))

    def test_our_own_via_is_found(self) -> None:
        """What we write is what we look for."""
        self.assertTrue(RequestForwarding(ORIGIN, PSEUDONYM).passed_here(head_of(*forwarded([]))))
