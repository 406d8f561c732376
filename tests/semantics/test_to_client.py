"""What becomes of a response's head on its way to the client."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.fields import Fields
from pyproxy.semantics.forwarding import (
    HOP_BY_HOP,
    FieldRules,
    connection_options,
)
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.secrets import MASK, SecretMask
from pyproxy.semantics.to_client import ResponseForwarding
from pyproxy.semantics.urls import Origin, PathMapping, parse_target
from tests.semantics import strict

ORIGIN = parse_target("https://api.example.com/base/").origin


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


def returned_value(name: bytes, value: bytes, **options: object) -> bytes:
    """Return what becomes of the value of one response field."""
    [(_, mapped)] = returned([(name, value)], **options)  # type: ignore[arg-type]
    return mapped


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

    def test_what_leads_past_the_proxy(self) -> None:
        """Alt-Svc of the upstream is taken out everywhere; the operator's own stays.  RFC 7838 3.

        A browser would go where it says from then on, past the proxy and without its key.
        """
        theirs = [(b"Alt-Svc", b'h3=":443"; ma=86400'), (b"A", b"b"), (b"alt-svc", b"clear")]
        for status in (103, 200, 204, 304, 404, 500):
            self.assertEqual([(b"A", b"b")], returned(theirs, status=status), status)
        own = (b"Alt-Svc", b'h2="front.example:443"')
        self.assertEqual([(b"A", b"b"), own], returned(theirs, rules=FieldRules((own,))))
        forwarding = ResponseForwarding(ORIGIN, PathMapping(b"", b""))
        self.assertEqual([(b"A", b"b")], forwarding.trailers(theirs, []))

    def test_trailers(self) -> None:
        """What a route replaces, removes or keeps secret holds for trailers too.  RFC 9110 6.5."""
        rules = FieldRules(((b"X-Api-Key", b"sk-key"),), frozenset({b"x-gone"}))
        trailers = [(b"x-api-key", b"1"), (b"X-Gone", b"2"), (b"X-Hop", b"3"), (b"X", b"sk-key")]
        mapping = PathMapping(b"", b"")
        forwarding = ResponseForwarding(ORIGIN, mapping, rules, SecretMask([b"sk-key"]))
        self.assertEqual([(b"X", MASK)], forwarding.trailers(trailers, [b"x-hop"]))
        self.assertEqual([], forwarding.trailers([], []))


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
            b"http://api.example.com:8080/base/a",
            b"http://api.example.com:8443/base/a",
            b"https://api.example.com:80/base/a",
            b"http://evil.example/base/a",
            b"ftp://api.example.com/base/a",
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

    def test_final_dot(self) -> None:
        """A target's name with its final dot, and without it, is the same host.  RFC 1034 3.1."""
        mapping = PathMapping(b"/defm", b"")
        for url in ("https://secure.test.:8443", "https://secure.test:8443"):
            origin = parse_target(url).origin
            for value in (b"https://secure.test:8443/a", b"https://secure.test.:8443/a"):
                mapped = returned_value(b"Location", value, mapping=mapping, origin=origin)
                self.assertEqual(b"/defm/a", mapped, value)
            cookie = b"a=b; Domain=secure.test"
            mapped = returned_value(b"Set-Cookie", cookie, mapping=mapping, origin=origin)
            self.assertEqual(b"a=b", mapped)

    def test_unix_socket(self) -> None:
        """What an upstream at a Unix socket takes for its name is the proxy's.  RFC 9110 10.2.2."""
        mapping = PathMapping(b"/defm", b"")
        origin = parse_target("unix:/run/x.sock").origin
        mapped = returned_value(b"Location", b"http://localhost/a", mapping=mapping, origin=origin)
        self.assertEqual(b"/defm/a", mapped)

    def test_named_by(self) -> None:
        """Default port and final dot may stand there or not; anything else is another's."""
        mapping = PathMapping(b"/defm", b"")
        for url, authority, named in (
            ("http://h", b"h", True),
            ("http://h", b"h:80", True),
            ("http://h", b"h.", True),
            ("http://h.", b"h", True),
            ("http://h.:81", b"h:81", True),
            ("http://h:81", b"h.:81", True),
            ("http://h:81", b"h", False),
            ("http://h", b"h:443", False),
            ("http://h", b"h..", False),
            ("http://[::1]:81", b"[::1]:81", True),
            ("http://[fe80::1%25lo]", b"[fe80::1]", True),
            ("unix:/run/x.sock", b"localhost", True),
        ):
            value, origin = b"http://" + authority + b"/a", parse_target(url).origin
            mapped = returned_value(b"Location", value, mapping=mapping, origin=origin)
            self.assertEqual(b"/defm/a" if named else value, mapped, (url, authority))

    def test_either_scheme(self) -> None:
        """The target's own host and port are the target in either scheme.

        A client that followed ``http://`` to an https target would leave the proxy and its key.
        """
        secure, other = parse_target("https://h").origin, parse_target("https://h:8443").origin
        plain, local = parse_target("http://h").origin, parse_target("http://[::1]:8001").origin
        mapping = PathMapping(b"/defm", b"")
        for value, where, mapped in (
            (b"http://h/a", secure, True),
            (b"HTTP://H/a", secure, True),
            (b"http://h:80/a", secure, True),
            (b"http://h:443/a", secure, True),
            (b"wss://h/a", secure, True),
            (b"ws://h/a", secure, True),
            (b"http://h:8443/a", secure, False),
            (b"http://h:8443/a", other, True),
            (b"https://h:8443/a", other, True),
            # Another port is another server's, as far as anybody knows.
            (b"http://h/a", other, False),
            (b"http://h:80/a", other, False),
            (b"https://h/a", other, False),
            (b"http://h:443/a", other, False),
            # To ask for https is to ask for another target, unless it is the port that we ask.
            (b"https://h/a", plain, False),
            (b"https://h:443/a", plain, False),
            (b"https://[::1]:8001/a", local, True),
            (b"http://[::1]:8001/a", local, True),
            (b"https://[::1]/a", local, False),
            (b"http://[::1]/a", local, False),
        ):
            for name in (b"Location", b"Content-Location", b"Refresh"):
                start = b"0;url=" if name == b"Refresh" else b""
                found = returned_value(name, start + value, mapping=mapping, origin=where)
                self.assertEqual(start + (b"/defm/a" if mapped else value), found, value)

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

    def test_reason_phrase(self) -> None:
        """A reason phrase carries no injected secret either.  RFC 9112 4."""
        target = parse_target("http://h")
        down = ResponseForwarding(
            target.origin, PathMapping(b"", b""), secrets=SecretMask([b"sk-key"])
        )
        self.assertEqual(b"hi " + MASK, down.reason(b"hi sk-key"))
