"""What a proxy takes out of a head, and what it puts in."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.fields import Field, Fields
from pyproxy.semantics.forwarding import (
    FORBIDDEN_TRAILERS,
    HOP_BY_HOP,
    WRITTEN_BY_US,
    FieldRules,
    Hop,
    client_of,
    connection_options,
    forwardable_trailers,
    hops_left,
    host_of,
    one_hop_less,
    persists,
)
from pyproxy.semantics.framing import CHUNKED, NO_CONTENT, Framing
from pyproxy.semantics.messages import RequestHead, ResponseHead
from pyproxy.semantics.secrets import MASK, SecretMask
from pyproxy.semantics.to_client import ResponseForwarding
from pyproxy.semantics.to_upstream import RequestForwarding
from pyproxy.semantics.urls import Origin, PathMapping, parse_target
from tests.semantics import strict

ORIGIN = parse_target("https://api.example.com/base/").origin
UNTRUSTED = Hop(b"192.0.2.1", b"https", b"8000", False)
TRUSTED = Hop(b"10.0.0.1", b"http", b"8000", True)
PSEUDONYM = b"pyproxy-1"

OURS: Fields = [
    (b"X-Forwarded-For", b"192.0.2.1"),
    (b"X-Forwarded-Proto", b"https"),
    (b"X-Forwarded-Host", b"client.example"),
    (b"X-Forwarded-Port", b"8000"),
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


def returned(
    fields: Fields,
    mapping: PathMapping | None = None,
    rules: FieldRules | None = None,
    origin: Origin = ORIGIN,
    status: int = 200,
    secrets: tuple[bytes, ...] = (),
    host: bytes = b"client.example",
    stream_hints: bool = True,
    preserve_host: bool = False,
) -> Fields:
    """Return what becomes of a response's fields."""
    mapping = mapping or PathMapping(b"/defm", b"/base/")
    forwarding = ResponseForwarding(
        origin, mapping, rules or FieldRules(), SecretMask(secrets), stream_hints, preserve_host
    )
    head = ResponseHead(status, b"", 1, fields)
    return forwarding.fields(head, connection_options(head), host)


def head_of(*fields: Field) -> RequestHead:
    """Return the head of a request with some fields."""
    return RequestHead(b"GET", b"/", 1, list(fields))


def returned_value(name: bytes, value: bytes, **options: object) -> bytes:
    """Return what becomes of the value of one response field."""
    [(_, mapped)] = returned([(name, value)], **options)  # type: ignore[arg-type]
    return mapped


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

    def test_nominated_host(self) -> None:
        """Host is the target's own, whether the client nominated its own or not.  RFC 9110 7.2."""
        for preserve_host, expected in ((False, b"api.example.com"), (True, b"client.example")):
            fields = forwarded([(b"Connection", b"Host")], preserve_host=preserve_host)
            hosts = [value for name, value in fields if name.lower() == b"host"]
            self.assertEqual([expected], hosts)
            asked: Fields = [(b"A", b"b"), (b"HOST", b"client.example"), (b"Connection", b"host")]
            fields = forwarded(asked, preserve_host=preserve_host)
            self.assertEqual([(b"A", b"b"), (b"HOST", expected)], fields[:2])

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
            (b"X-Forwarded-Port", b"8000"),
            (b"Via", b"1.1 pyproxy-1"),
        ]
        self.assertEqual([*TO_TARGET, *expected], forwarded([], hop=TRUSTED))

    def test_port_of_a_trusted_proxy(self) -> None:
        """What a trusted proxy says of host and scheme says the port too, not our own one."""
        for claims, port in (
            ([(b"X-Forwarded-Proto", b"https")], b"443"),
            ([(b"X-Forwarded-Host", b"public.example")], b"80"),
            ([(b"X-Forwarded-Host", b"public.example:8443")], b"8443"),
            ([(b"X-Forwarded-Host", b"[::1]:81"), (b"X-Forwarded-Proto", b"https")], b"81"),
            ([(b"X-Forwarded-Host", b"[::1]")], b"80"),
            ([(b"X-Forwarded-Proto", b"gopher")], b"8000"),
            ([(b"X-Forwarded-For", b"203.0.113.9")], b"8000"),
        ):
            self.assertIn((b"X-Forwarded-Port", port), forwarded(claims, hop=TRUSTED), claims)

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


class ResponseFieldsTests(SynchronousTestCase):
    """A response's fields on their way to the client."""

    def test_untouched(self) -> None:
        """Order, case, duplicates and octets from 0x80 stay; nothing is added."""
        fields = [
            (b"server", b"x"),
            (b"X-A", b"1"),
            (b"x-a", b"2"),
            (b"Content-Length", b"5"),
            (b"Content-Encoding", b"gzip"),
            (b"Content-Type", b"text/html; charset=\xff"),
            (b"Via", b"1.1 backend"),
            (b"Trailer", b"x"),
        ]
        self.assertEqual(fields, returned(fields))

    def test_hop_by_hop(self) -> None:
        """Fields of one connection go, and those that Connection nominates.  RFC 9110 7.6.1."""
        for name in HOP_BY_HOP:
            self.assertEqual([], returned([(name.title(), b"x")]), name)
        fields = [(b"X-A", b"1"), (b"Connection", b"x-a"), (b"X-B", b"2")]
        self.assertEqual([(b"X-B", b"2")], returned(fields))

    def test_upgrade_required(self) -> None:
        """A 426 says that WebSocket is asked for, as a field of the new hop; nothing else does.

        RFC 9110 15.5.22: the one upgrade that can be made through a proxy is to WebSocket.
        """
        version = (b"Sec-WebSocket-Version", b"13")
        switch = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]
        for value in (b"websocket", b"WebSocket", b"h2c, websocket"):
            for option in (b"upgrade", b"close, Upgrade"):
                fields = [(b"upgrade", value), (b"Connection", option), version]
                self.assertEqual([version, *switch], returned(fields, status=426), fields)
                for status in (101, 200, 400, 401, 503):
                    self.assertEqual([version], returned(fields, status=status), status)
        for value in (b"h2c", b"TLS/1.0, HTTP/1.1", b"", b"websocket/13"):
            fields = [(b"Upgrade", value), (b"Connection", b"Upgrade"), version]
            self.assertEqual([version], returned(fields, status=426), value)
        self.assertEqual([version], returned([version], status=426))
        twice = [(b"Upgrade", b"websocket"), (b"Upgrade", b"websocket"), version]
        self.assertEqual([version, *switch], returned(twice, status=426))

    def test_length_where_there_is_no_content(self) -> None:
        """Content-Length is kept for HEAD and 304, and never stands beside 1xx and 204.

        RFC 9110 8.6.
        """
        fields = [(b"Content-Length", b"5")]
        for status, expected in ((100, []), (103, []), (204, []), (200, fields), (304, fields)):
            self.assertEqual(expected, returned(fields, status=status), status)

    def test_operators_rules(self) -> None:
        """A field that is set replaces every one of its name; a removed one goes."""
        rules = FieldRules(((b"X-A", b"new"),), frozenset({b"server"}))
        fields = [(b"x-a", b"1"), (b"Server", b"x"), (b"B", b"2"), (b"X-A", b"3")]
        self.assertEqual([(b"B", b"2"), (b"X-A", b"new")], returned(fields, rules=rules))


class ReferenceTests(SynchronousTestCase):
    """References that point at the target come back under the prefix."""

    def test_mapped(self) -> None:
        """Location and Content-Location become paths under the prefix.  RFC 9110 10.2.2, 8.7."""
        for value, expected in (
            (b"https://api.example.com/base/a?b#c", b"/defm/a?b#c"),
            (b"HTTPS://API.example.COM/base/a", b"/defm/a"),
            (b"https://api.example.com:443/base/a", b"/defm/a"),
            (b"https://api.example.com/base", b"/defm"),
            (b"https://api.example.com/base?x", b"/defm?x"),
            (b"//api.example.com/base/a", b"/defm/a"),
            (b"/base/a%2Fb//", b"/defm/a%2Fb//"),
            (b"/base/caf\xc3\xa9", b"/defm/caf\xc3\xa9"),
        ):
            for name in (b"Location", b"content-location"):
                self.assertEqual(expected, returned_value(name, value), value)

    def test_other_places_stay(self) -> None:
        """What points elsewhere, or is relative to the request, is not ours to change."""
        for value in (
            b"",
            b"a",
            b"../a",
            b"?a",
            b"#a",
            b"/",
            b"/basement",
            b"/other/a",
            b"https://api.example.com",
            b"https://api.example.com/other",
            b"https://api.example.com:8443/base/a",
            b"https://api.example.com.evil.example/base/a",
            b"https://evil.example/base/a",
            b"https://api.example.com@evil.example/base/a",
            b"https://u@api.example.com/base/a",
            b"https://api.example.com:/base/a",
            b"http://api.example.com/base/a",
            b"http://api.example.com:443/base/a",
            b"//evil.example/base",
            b"///base/a",
            b"mailto:a@b",
            b"https:/base/a",
        ):
            for name in (b"Location", b"Content-Location", b"Refresh"):
                shown = value if name != b"Refresh" else b"0;url=" + value
                self.assertEqual(shown, returned_value(name, shown), value)

    def test_target_without_base(self) -> None:
        """The bare origin of a target without a base path is the prefix."""
        mapping = PathMapping(b"/defm", b"")
        for value, expected in (
            (b"https://api.example.com", b"/defm/"),
            (b"https://api.example.com?a", b"/defm/?a"),
            (b"https://api.example.com/a", b"/defm/a"),
            (b"/a", b"/defm/a"),
        ):
            self.assertEqual(expected, returned_value(b"Location", value, mapping=mapping))

    def test_default_port_of_http(self) -> None:
        """Port 80 is http's own, and 8080 is not.  RFC 9110 4.2.1."""
        origin = parse_target("http://h:8080").origin
        plain = parse_target("http://h").origin
        mapping = PathMapping(b"/defm", b"")
        for value, expected, where in (
            (b"http://h:80/a", b"/defm/a", plain),
            (b"http://h/a", b"/defm/a", plain),
            (b"http://h:8080/a", b"http://h:8080/a", plain),
            (b"http://h:8080/a", b"/defm/a", origin),
            (b"http://h/a", b"http://h/a", origin),
            (b"http://h:80/a", b"http://h:80/a", origin),
        ):
            mapped = returned_value(b"Location", value, mapping=mapping, origin=where)
            self.assertEqual(expected, mapped, value)

    def test_preserved_host(self) -> None:
        """An upstream that was told the client's host points at it: that is the proxy as well."""
        value = b"http://Client.example/base/a"
        self.assertEqual(value, returned_value(b"Location", value))
        self.assertEqual(b"/defm/a", returned_value(b"Location", value, preserve_host=True))
        for host in (b"", b"other.example"):
            mapped = returned_value(b"Location", value, preserve_host=True, host=host)
            self.assertEqual(value, mapped)

    def test_no_reference_to_another_host_is_made(self) -> None:
        """A path on the target never becomes a reference to another host.

        RFC 3986 4.2 (``//``); WHATWG URL 4.4: browsers read ``\\`` as ``/`` and drop tabs.
        """
        for base in (b"", b"/base"):
            mapping = PathMapping(b"", base)
            for path in (b"//evil.example", b"/\\evil.example", b"/\t/evil.example", b"/\t\\evil"):
                value = b"https://api.example.com" + base + path
                mapped = returned_value(b"Location", value, mapping=mapping)
                second = mapped.replace(b"\t", b"").replace(b"\\", b"/")[:2]
                self.assertNotEqual(b"//", second, value)

    def test_refresh(self) -> None:
        """The URL of Refresh is mapped, all around it is kept.  WHATWG HTML 4.2.4.3."""
        for value, expected in (
            (b"5; url=/base/a", b"5; url=/defm/a"),
            (b"0;URL=https://api.example.com/base/a", b"0;URL=/defm/a"),
            (b"5, Url = '/base/a'", b"5, Url = '/defm/a'"),
            (b'5;url="/base/a"', b'5;url="/defm/a"'),
            (b"url=/base/a", b"url=/defm/a"),
            (b"5", b"5"),
            (b"5; nonsense", b"5; nonsense"),
            (b"5; url=", b"5; url="),
            (b"5; url=/other", b"5; url=/other"),
            (b"5; url=\"/base/a\" x='y'", b"5; url=\"/defm/a\" x='y'"),
            (b"5; url='/other", b"5; url='/other"),
            (b'0;url="', b'0;url="'),
        ):
            self.assertEqual(expected, returned_value(b"Refresh", value), value)

    def test_hostile_refresh_is_linear(self) -> None:
        """No Refresh makes the search slow."""
        for value in (
            b"0" + b" " * strict.CROWD + b"x",
            b"0;url=x" + b" " * strict.CROWD + b"y",
            b'0;url="x' + b" " * strict.CROWD,
            b"0;url=" + b" " * strict.CROWD + b"/base/a",
        ):
            taken = strict.cpu_seconds(returned_value, b"Refresh", value)
            self.assertLess(taken, strict.CPU_BUDGET, value[:8])


class CookieTests(SynchronousTestCase):
    """Cookies of the target become cookies of the proxy."""

    def cookie(self, value: bytes, mapping: PathMapping | None = None) -> bytes:
        """Return what becomes of a Set-Cookie."""
        return returned_value(b"Set-Cookie", value, mapping=mapping)

    def test_path(self) -> None:
        """Path lies under the prefix as it lay under the base.  RFC 6265 5.2.4."""
        for value, expected in (
            (b"a=b; Path=/base/", b"a=b; Path=/defm/"),
            (b"a=b; path=/base/c; Secure", b"a=b; path=/defm/c; Secure"),
            (b"a=b;PATH = /base", b"a=b;PATH =/defm"),
            (b"a=b; Path=/", b"a=b; Path=/defm"),
            (b"a=b; Path=/other", b"a=b; Path=/other"),
            (b"a=b; Path=base", b"a=b; Path=base"),
            (b"a=b; Path=", b"a=b; Path="),
        ):
            self.assertEqual(expected, self.cookie(value), value)

    def test_domain(self) -> None:
        """A Domain that is the target's, or above it, goes; the cookie is the proxy's then.

        RFC 6265 5.2.3.
        """
        for value, expected in (
            (b"a=b; Domain=api.example.com; Secure", b"a=b; Secure"),
            (b"a=b; domain=.API.Example.com", b"a=b"),
            (b"a=b;Domain=example.com;Path=/base/", b"a=b;Path=/defm/"),
            (b"a=b; Domain=other.example", b"a=b; Domain=other.example"),
            (b"a=b; Domain=i.example.com", b"a=b; Domain=i.example.com"),
            (b"a=b; Domain=x.api.example.com", b"a=b; Domain=x.api.example.com"),
            (b"a=b; Domain=", b"a=b; Domain="),
            (b"a=b; Domain", b"a=b; Domain"),
        ):
            self.assertEqual(expected, self.cookie(value), value)

    def test_untouched(self) -> None:
        """The pair and every other attribute stay octet by octet."""
        for value in (
            b"",
            b"a",
            b"a=b",
            b"path=/base; HttpOnly",
            b'a="b=c"; Expires=Thu, 01 Jan 1970 00:00:00 GMT;Max-Age=0 ;  SameSite=None',
            b"a=caf\xc3\xa9; X=\xff",
            b"__Host-a=b; Path=/; Secure",
        ):
            self.assertEqual(value, self.cookie(value), value)

    def test_host_prefix(self) -> None:
        """``__Host-`` demands ``Path=/``, in any case of its letters.  RFC 6265bis 4.1.3.2, 5.7."""
        for name in (b"__Host-a", b"__host-a", b" __HOST-a"):
            value = name + b"=b; Path=/; Secure"
            self.assertEqual(value, self.cookie(value), value)

    def test_path_without_value(self) -> None:
        """An empty Path means the default path and stays empty.  RFC 6265 5.2.4."""
        for mapping in (
            PathMapping(b"", b""),
            PathMapping(b"/defm", b""),
            PathMapping(b"", b"/base"),
        ):
            for value in (b"a=b; Path", b"a=b; Path=", b"a=b; path= ; Secure"):
                self.assertEqual(value, self.cookie(value, mapping), value)

    def test_each_cookie_alone(self) -> None:
        """Several cookies are several fields, in their order.  RFC 6265 3."""
        fields = [(b"Set-Cookie", b"a=1; Path=/base/"), (b"X", b"y"), (b"set-cookie", b"b=2")]
        expected = [(b"Set-Cookie", b"a=1; Path=/defm/"), (b"X", b"y"), (b"set-cookie", b"b=2")]
        self.assertEqual(expected, returned(fields))


class StreamHintTests(SynchronousTestCase):
    """Event streams pass the next hop at once."""

    stream = (b"Content-Type", b"text/event-stream")
    hints: Fields = [(b"X-Accel-Buffering", b"no"), (b"Cache-Control", b"no-transform")]

    def test_hints(self) -> None:
        """An event stream tells the next hop neither to buffer nor to transform it.

        RFC 9111 5.2.2.6.
        """
        for value in (
            b"text/event-stream",
            b"Text/Event-Stream; charset=utf-8",
            b"text/event-stream;x",
        ):
            field = (b"content-type", value)
            self.assertEqual([field, *self.hints], returned([field]))

    def test_other_content(self) -> None:
        """Nothing is added to content of another type."""
        for value in (b"application/json", b"", b"x-text/event-stream", b"text/event-streams"):
            field = (b"Content-Type", value)
            self.assertEqual([field], returned([field]), value)

    def test_off(self) -> None:
        """The hints are an option."""
        self.assertEqual([self.stream], returned([self.stream], stream_hints=False))

    def test_upstreams_own(self) -> None:
        """What the upstream says itself is kept."""
        theirs = [self.stream, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"yes")]
        self.assertEqual(theirs, returned(theirs))

    def test_operators_own(self) -> None:
        """What the operator sets or removes is not added beside it."""
        mine = (b"Cache-Control", b"no-store")
        rules = FieldRules((mine,), frozenset({b"x-accel-buffering"}))
        self.assertEqual([self.stream, mine], returned([self.stream], rules=rules))


class ReflectedSecretTests(SynchronousTestCase):
    """An injected secret never reaches a client."""

    def test_masked(self) -> None:
        """A secret that the upstream repeats is masked, wherever in a value it stands."""
        fields = [
            (b"X-Echo", b"Bearer sk-key!"),
            (b"Location", b"https://api.example.com/base/?k=sk-key&l=sk-key"),
            (b"X-Other", b"sk-ke"),
        ]
        expected = [
            (b"X-Echo", b"Bearer ***!"),
            (b"Location", b"/defm/?k=***&l=***"),
            (b"X-Other", b"sk-ke"),
        ]
        self.assertEqual(expected, returned(fields, secrets=(b"sk-key",)))

    def test_trailers_and_interim_responses(self) -> None:
        """Fields of any section can be cleared of secrets, without touching a length."""
        forwarding = ResponseForwarding(
            ORIGIN, PathMapping(b"", b""), secrets=SecretMask([b"sk-key", b"1234"])
        )
        fields = [(b"Digest", b"sk-key"), (b"Content-Length", b"1234"), (b"A", b"b")]
        self.assertEqual(
            [(b"Digest", b"***"), fields[1], fields[2]], forwarding.without_secrets(fields)
        )

    def test_secret_within_another(self) -> None:
        """Of two secrets of which one begins with the other, nothing is left over."""
        for secrets in ((b"sk-key", b"sk-key-long"), (b"sk-key-long", b"sk-key")):
            fields = returned([(b"X-Echo", b"sk-key-long sk-key")], secrets=secrets)
            self.assertNotIn(b"long", fields[0][1], secrets)
            self.assertIn(MASK, fields[0][1])

    def test_framing_is_not_masked(self) -> None:
        """A secret that looks like a length does not change the length.  RFC 9112 6.3."""
        fields = [(b"Content-Length", b"12345")]
        self.assertEqual(fields, returned(fields, secrets=(b"1234",)))

    def test_percent_encoded(self) -> None:
        """A secret in a redirect's query is percent-encoded, and a secret still."""
        value = returned_value(b"Location", b"/base/?k=a%2Fb%2Bsekret", secrets=(b"a/b+sekret",))
        self.assertNotIn(b"sekret", value)


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

    def test_of_a_route(self) -> None:
        """What a route replaces, removes or keeps secret holds for trailers too.  RFC 9110 6.5."""
        target = parse_target("http://h")
        rules = FieldRules(((b"X-Api-Key", b"sk-key"),), frozenset({b"x-gone"}))
        trailers = [(b"x-api-key", b"1"), (b"X-Gone", b"2"), (b"X-Hop", b"3"), (b"X", b"sk-key")]
        up = RequestForwarding(target.origin, b"p", rules)
        self.assertEqual([trailers[3]], up.trailers(trailers, [b"x-hop"]))
        mapping = PathMapping(b"", b"")
        down = ResponseForwarding(target.origin, mapping, rules, SecretMask([b"sk-key"]))
        self.assertEqual([(b"X", MASK)], down.trailers(trailers, [b"x-hop"]))
        self.assertEqual([], down.trailers([], []))

    def test_reason_phrase(self) -> None:
        """A reason phrase carries no injected secret either.  RFC 9112 4."""
        target = parse_target("http://h")
        down = ResponseForwarding(
            target.origin, PathMapping(b"", b""), secrets=SecretMask([b"sk-key"])
        )
        self.assertEqual(b"hi " + MASK, down.reason(b"hi sk-key"))

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
