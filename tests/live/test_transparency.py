"""What the proxy was not asked to change passes as it came; what it must change, changes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from tests.live.kit import (
    OK,
    Head,
    LiveTestCase,
    Proxy,
    ScriptedUpstream,
    answer,
    free_port,
    request,
    upstream_and_proxy,
)
from tests.live.websocket import open_pair

FORWARDED = {
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-port",
}
WRITTEN_BY_PROXY = FORWARDED | {b"host", b"via"}
"""Names of request fields that the proxy may write."""


def lines(head: Head) -> list[bytes]:
    """Return the raw field lines of a head."""
    return head.octets.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]


def lines_of_client(head: Head) -> list[bytes]:
    """Return the raw field lines that the proxy did not write."""
    return [line for line in lines(head) if line.partition(b":")[0].lower() not in WRITTEN_BY_PROXY]


class TargetsTests(LiveTestCase):
    """The request line, without a prefix."""

    def seen(self, start_line: bytes, *fields: bytes) -> bytes:
        """Send a request and return the request line that the upstream saw."""
        self.upstream.heads.clear()
        response = self.ask(start_line, *fields)
        self.assertEqual((response.status, response.body), (200, b"ok"), response)
        return self.upstream.request.start_line

    def test_octets_are_kept(self) -> None:
        """The target reaches the upstream octet by octet (invariant 1; FIELD 9; RFC 9110 7.7)."""
        for target in (
            b"/",
            b"/a%2Fb",
            b"/a%2fb",
            b"/a//b",
            b"//a",
            b"///",
            b"/%25",
            b"/100%2525",
            b"/a;b=c;d",
            b"/a?",
            b"/?",
            b"/a??b?c",
            b"/a?b=c&b=c&&=&%3d",
            b"/a?b=/../c",
            b"/%C3%A9/%e2%82%ac?%C3%A9",
            b"/~a/%7Ea",
            b"/a+b%20c?a+b%20c",
            b"/:@!$&'()*,=",
            b"/a/",
            b"/a/.",
            b"/a/./b",
            b"/a/../b",
            b"/...",
            b"/..a",
            b"/a..",
            b"/" + b"x" * 4000,
        ):
            with self.subTest(target=target):
                self.assertEqual(
                    self.seen(b"GET " + target + b" HTTP/1.1"),
                    b"GET " + target + b" HTTP/1.1",
                )

    def test_methods(self) -> None:
        """Every token is a method, and its case is kept (RFC 9110 9.1)."""
        for method in (
            b"GET",
            b"PUT",
            b"DELETE",
            b"OPTIONS",
            b"TRACE",
            b"PATCH",
            b"QUERY",
            b"PROPFIND",
            b"M-SEARCH",
            b"get",
            b"Post",
            b"!#$%&'*+-.^_`|~09Az",
        ):
            with self.subTest(method=method):
                self.assertEqual(
                    self.seen(method + b" /m HTTP/1.1"),
                    method + b" /m HTTP/1.1",
                )

    def test_absolute_form(self) -> None:
        """Absolute-form goes to the configured target only, in origin-form (RFC 9112 3.2.2)."""
        for target, origin in (
            (b"http://evil.example/x%2F?y", b"/x%2F?y"),
            (b"http://evil.example:81//x", b"//x"),
            (b"http://evil.example", b"/"),
            (b"http://evil.example?q", b"/?q"),
            (b"https://evil.example/x", b"/x"),
            (b"HTTP://evil.example/x", b"/x"),
            (b"ws://evil.example/x?y", b"/x?y"),
            (b"wss://evil.example", b"/"),
        ):
            with self.subTest(target=target):
                self.assertEqual(
                    self.seen(b"GET " + target + b" HTTP/1.1"),
                    b"GET " + origin + b" HTTP/1.1",
                )
                self.assertEqual(
                    self.upstream.request.value(b"host"),
                    b"127.0.0.1:%d" % self.upstream.port,
                )

    def test_absolute_form_names_the_forwarded_host(self) -> None:
        """The authority of absolute-form wins over Host (RFC 9112 3.2.2)."""
        self.seen(b"GET http://authority.example/x HTTP/1.1")
        self.assertEqual(self.upstream.request.value(b"x-forwarded-host"), b"authority.example")

    def test_options_asterisk(self) -> None:
        """``OPTIONS *`` asks the upstream as a whole (RFC 9112 3.2.4)."""
        self.assertEqual(self.seen(b"OPTIONS * HTTP/1.1"), b"OPTIONS * HTTP/1.1")

    def test_connect(self) -> None:
        """CONNECT is refused with 405, and never reaches the upstream (RFC 9110 9.3.6, 15.5.6)."""
        for target in (b"evil.example:443", b"127.0.0.1:%d" % self.upstream.port):
            response = self.ask(b"CONNECT " + target + b" HTTP/1.1")
            self.assertEqual(response.status, 405)
            self.assertNotEqual(response.head.values(b"allow"), [], "405 without Allow")
        self.assertEqual(self.upstream.heads, [])

    def test_climbing(self) -> None:
        """A target that climbs out is 400, however it is encoded (FIELD 9; RFC 3986 6.2.2.3)."""
        for target in (
            b"/..",
            b"/../",
            b"/../x",
            b"/a/../../x",
            b"/%2e%2e/x",
            b"/%2E./x",
            b"/.%2e",
            b"/a/..%2f..%2fx",
            b"/..%2fx",
            b"/..%2Fx",
            b"/%252e%252e/x",
            b"/..%252fx",
            b"/..;/x",
            b"/..;a=b/x",
            b"/..\\x",
            b"/..%5cx",
            b"/..%5Cx",
            b"/..%3b/x",
            b"http://front.example/../x",
        ):
            with self.subTest(target=target):
                response = self.ask(b"GET " + target + b" HTTP/1.1")
                self.assertEqual(response.status, 400, target)
        self.assertEqual(self.upstream.heads, [])


class PrefixTests(LiveTestCase):
    """A prefix in front, a base path behind."""

    proxy_arguments = ("--prefix", "/defm")
    base = "/base/"

    def test_mapping(self) -> None:
        """The prefix gives way to the base, the rest keeps its octets (FIELD 9)."""
        for target, mapped in (
            (b"/defm/a?b", b"/base/a?b"),
            (b"/defm/", b"/base/"),
            (b"/defm/?", b"/base/?"),
            (b"/defm//a", b"/base//a"),
            (b"/defm/a%2Fb//c%25;d?", b"/base/a%2Fb//c%25;d?"),
            (b"/defm/a/../b", b"/base/a/../b"),
            (b"/defm/defm/a", b"/base/defm/a"),
            (b"http://any.example/defm/a?b", b"/base/a?b"),
        ):
            with self.subTest(target=target):
                self.upstream.heads.clear()
                self.assertEqual(self.ask(b"GET " + target + b" HTTP/1.1").status, 200)
                self.assertEqual(self.upstream.request.target, mapped)

    def test_not_under_the_prefix(self) -> None:
        """What the prefix does not cover, segment by segment, is 404."""
        for target in (
            b"/defmx",
            b"/",
            b"/def",
            b"/x/defm/a",
            b"/DEFM/a",
            b"/defm%2Fa",
            b"//defm/a",
        ):
            with self.subTest(target=target):
                self.assertEqual(self.ask(b"GET " + target + b" HTTP/1.1").status, 404, target)
        self.assertEqual(self.upstream.heads, [])

    def test_climbing(self) -> None:
        """No spelling of two dots leads out of the base (FIELD 9)."""
        for rest in (
            b"/../x",
            b"/..",
            b"/%2e%2e/x",
            b"/%2e%2e%2fx",
            b"/..%2fx",
            b"/a/..%2f..%2fx",
            b"/%252e%252e/x",
            b"/%252e%252e%252fx",
            b"/..;/x",
            b"/..\\x",
            b"/..%5cx",
            b"/a/../../defm/x",
        ):
            with self.subTest(rest=rest):
                self.assertEqual(self.ask(b"GET /defm" + rest + b" HTTP/1.1").status, 400, rest)
        self.assertEqual(self.upstream.heads, [])

    def respond(self, *fields: bytes, status: bytes = b"302 Found") -> Head:
        """Let the upstream answer with these fields; return the head that the client gets."""
        head = b"\r\n".join([b"HTTP/1.1 " + status, *fields, b"Content-Length: 0", b"", b""])
        self.upstream.script = answer(head)
        return self.ask(b"GET /defm/a HTTP/1.1").head

    def assert_under_prefix(self, url: bytes | None, rest: str) -> None:
        """Check that a URL leads to the front, relative or not."""
        parts = urlsplit((url or b"").decode())
        self.assertIn((parts.scheme, parts.netloc), [("", ""), ("http", "front.example")])
        self.assertEqual(parts._replace(scheme="", netloc="").geturl(), rest)

    def test_locations_come_back_under_the_prefix(self) -> None:
        """Location, Content-Location and Refresh that point at the target point at the front."""
        origin = self.upstream.url.encode()
        for url, rest in (
            (origin + b"/base/x%2Fy?z#f", "/defm/x%2Fy?z#f"),
            (origin + b"/base/", "/defm/"),
            (b"/base/x?", "/defm/x?"),
            (origin.removeprefix(b"http:") + b"/base/x", "/defm/x"),
            (origin.replace(b"http", b"HTTP") + b"/base/x", "/defm/x"),
        ):
            with self.subTest(url=url):
                head = self.respond(b"Location: " + url, b"Content-Location: " + url)
                for name in (b"location", b"content-location"):
                    value = head.value(name) or b""
                    self.assertEqual(value.endswith(b"?"), url.endswith(b"?"))
                    self.assert_under_prefix(value, rest.removesuffix("?"))
                value = self.respond(b"Refresh: 5; url=" + url).value(b"refresh") or b""
                start, _, found = value.partition(b"=")
                self.assertEqual(start.lower(), b"5; url")
                self.assert_under_prefix(found, rest.removesuffix("?"))

    def test_other_locations_stay(self) -> None:
        """A location elsewhere, or one that needs no mapping, keeps its octets."""
        for url in (
            b"https://other.example/base/x",
            b"http://127.0.0.1:%d.evil.example/base/x" % self.upstream.port,
            b"http://127.0.0.1:%d@evil.example/base/x" % self.upstream.port,
            b"http://127.0.0.1:1/base/x",
            b"x/y?z",
            b"?z",
            b"#f",
            b"/basement/x",
            b"mailto:a@b.example",
        ):
            with self.subTest(url=url):
                self.assertEqual(self.respond(b"Location: " + url).value(b"location"), url)

    def test_cookie_paths_come_back_under_the_prefix(self) -> None:
        """Path and Domain of cookies follow the prefix; the rest stays (RFC 6265 4.1)."""
        head = self.respond(
            b'Set-Cookie: a="b,c"; Expires=Wed, 09 Jun 2027 10:18:14 GMT; Path=/base/x; HttpOnly',
            b"set-cookie: b=; SameSite=None; path=/base/; Secure; Partitioned",
            b"Set-Cookie: c=/base/x; Domain=127.0.0.1; Path=/basement",
            b"Set-Cookie: d=e; Domain=other.example",
        )
        cookies = head.values(b"set-cookie")
        self.assertEqual(
            cookies[0],
            b'a="b,c"; Expires=Wed, 09 Jun 2027 10:18:14 GMT; Path=/defm/x; HttpOnly',
        )
        self.assertIn(
            cookies[1],
            (
                b"b=; SameSite=None; path=/defm/; Secure; Partitioned",
                b"b=; SameSite=None; path=/defm; Secure; Partitioned",
                b"b=; SameSite=None; Path=/defm/; Secure; Partitioned",
            ),
        )
        self.assertTrue(cookies[2].startswith(b"c=/base/x"), cookies[2])
        self.assertNotIn(b"127.0.0.1", cookies[2])
        self.assertIn(b"Path=/basement", cookies[2])
        self.assertEqual(len(cookies), 4)


class FieldsTests(LiveTestCase):
    """Fields in both directions."""

    def test_request_fields_are_kept(self) -> None:
        """Order, duplicates, case and octets above 0x7f pass up (RFC 9110 5.3, 5.5)."""
        sent = [
            b"X-B: 1",
            b"x-a: 2",
            b"X-B: 3",
            b"Cookie: a=1",
            b"COOKIE: b=2",
            b"X-High: caf\xc3\xa9 \xff\x80",
            b"X-Empty:",
            b"X-Quoted: \"a, b\" , 'c'",
            b"X-Tab: a\tb",
            b"Accept: a/b, */*;q=0.1",
            b"Authorization: Bearer of-the-client",
            b"!#$%&'*+-.^_`|~: odd",
        ]
        self.ask(b"GET / HTTP/1.1", *sent)
        seen = [line.rstrip() for line in lines_of_client(self.upstream.request)]
        self.assertEqual(seen, sent)

    def test_nothing_is_added_to_a_request(self) -> None:
        """No User-Agent, Accept-Encoding, Cookie or other field of ours goes out."""
        self.ask()
        self.assertEqual(set(self.upstream.request.names()) - WRITTEN_BY_PROXY, set())
        self.assertEqual(
            len(set(self.upstream.request.names())), len(self.upstream.request.names())
        )

    def test_response_head_is_kept(self) -> None:
        """Status, reason and fields pass to the client, in order, as octets (RFC 9110 5.3)."""
        sent = [
            b"x-b: 1",
            b"X-A: 2",
            b"X-B: 3",
            b"Set-Cookie: a=1",
            b"Set-Cookie: b=2",
            b"X-High: caf\xc3\xa9 \xff",
            b"Server: theirs",
            b"Date: Wed, 09 Jun 2021 10:18:14 GMT",
            b"X-Empty:",
            b'WWW-Authenticate: Basic realm="a, b"',
            b"WWW-Authenticate: Bearer",
            b"Content-Length: 2",
        ]
        self.upstream.script = answer(
            b"\r\n".join([b"HTTP/1.1 299 Quite \xe9 Odd", *sent, b"", b"ok"])
        )
        head = self.ask().head
        self.assertEqual(head.start_line, b"HTTP/1.1 299 Quite \xe9 Odd")
        seen = [line.rstrip() for line in lines(head) if not line.lower().startswith(b"via:")]
        self.assertEqual(seen, sent)

    def test_nothing_is_added_to_a_response(self) -> None:
        """A bare response gets Date at most, and Via (RFC 9110 6.6.1, 7.6.3)."""
        names = self.ask().head.names()
        self.assertEqual(set(names) - {b"content-length", b"date", b"via"}, set())

    def test_empty_reason(self) -> None:
        """A status line without a reason is valid (RFC 9112 4)."""
        self.upstream.script = answer(b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n")
        self.assertIn(self.ask().head.start_line, (b"HTTP/1.1 200 ", b"HTTP/1.1 200"))

    def test_redirects_are_not_followed(self) -> None:
        """A redirect is the client's to follow (DESIGN: treq)."""
        self.upstream.script = answer(
            b"HTTP/1.1 307 Go\r\nLocation: https://other.example/\r\nContent-Length: 0\r\n\r\n"
        )
        self.assertEqual(self.ask().status, 307)
        self.assertEqual(len(self.upstream.heads), 1)

    def test_hop_by_hop_request_fields(self) -> None:
        """Hop-by-hop fields and those that Connection nominates end here (RFC 9110 7.6.1)."""
        self.ask(
            b"GET / HTTP/1.1",
            b"Connection: keep-alive, X-Nominated",
            b"X-Kept: 1",
            b"connection: x-also ,, ",
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: keep-alive",
            b"x-nominated: secret",
            b"X-Also: secret",
            b"TE: gzip, trailers;q=0.5, deflate",
        )
        head = self.upstream.request
        for name in (b"keep-alive", b"proxy-connection", b"x-nominated", b"x-also"):
            self.assertNotIn(name, head.names())
        self.assertEqual(head.values(b"x-kept"), [b"1"])
        for value in head.values(b"te"):
            self.assertNotIn(b"gzip", value)
        self.assertNotIn(b"nominated", head.octets.lower())

    def test_te_trailers_is_kept(self) -> None:
        """``TE: trailers`` reaches the upstream (RFC 9110 10.1.4)."""
        self.ask(b"GET / HTTP/1.1", b"TE: trailers", b"Connection: TE")
        self.assertEqual(self.upstream.request.value(b"te"), b"trailers")

    def test_upgrade_to_h2c_is_taken_out(self) -> None:
        """The only upgrade is websocket; h2c never tunnels past the rules (FIELD 19)."""
        response = self.ask(
            b"GET / HTTP/1.1",
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        )
        self.assertEqual(response.status, 200)
        for name in (b"upgrade", b"http2-settings"):
            self.assertNotIn(name, self.upstream.request.names())
        self.assertNotIn(b"h2c", self.upstream.request.octets)

    def test_nominating_what_the_proxy_writes(self) -> None:
        """Connection strips what the client sent, not what the proxy adds (RFC 9110 7.6.1)."""
        self.ask(
            b"GET / HTTP/1.1",
            b"Connection: close, Host, X-Forwarded-For, X-Forwarded-Proto, Via",
            b"X-Forwarded-For: 6.6.6.6",
        )
        head = self.upstream.request
        self.assertEqual(head.value(b"host"), b"127.0.0.1:%d" % self.upstream.port)
        self.assertEqual(head.value(b"x-forwarded-for"), b"127.0.0.1")
        self.assertEqual(head.value(b"x-forwarded-proto"), b"http")
        self.assertEqual(len(head.values(b"via")), 1)

    def test_nominating_content_length(self) -> None:
        """Connection cannot take the framing off a body: one message stays one message."""
        smuggled = request(b"GET /smuggled HTTP/1.1")
        with self.proxy.client() as client:
            client.send(
                request(
                    b"POST / HTTP/1.1",
                    b"Connection: keep-alive, Content-Length",
                    b"Content-Length: %d" % len(smuggled),
                    body=smuggled,
                )
            )
            response = client.read_response()
        if response.status == 200:
            self.assertEqual(self.upstream.bodies, [smuggled])
        else:
            self.assertEqual(response.status, 400)
        self.assertNotIn(b"/smuggled", [head.target for head in self.upstream.requests])

    def test_hop_by_hop_response_fields(self) -> None:
        """The same holds towards the client (RFC 9110 7.6.1)."""
        self.upstream.script = answer(
            b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Nominated\r\nX-Nominated: 1\r\n"
            b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\n"
            b"X-Kept: 1\r\n"
            b"Content-Length: 2\r\n\r\nok"
        )
        head = self.ask().head
        self.assertNotIn(b"nominated", head.octets.lower())
        self.assertNotIn(b"h2c", head.octets.lower())
        self.assertNotIn(b"timeout=5", head.octets.lower())
        self.assertNotIn(b"proxy-connection", head.names())
        self.assertEqual(head.values(b"x-kept"), [b"1"])

    def test_host_is_the_targets(self) -> None:
        """Host names the target (RFC 9110 7.2)."""
        self.ask()
        self.assertEqual(self.upstream.request.value(b"host"), b"127.0.0.1:%d" % self.upstream.port)

    def test_forwarded_fields_are_written(self) -> None:
        """X-Forwarded-For, -Proto, -Host and -Port tell what the client asked for.

        The port is that of the host: behind a mapped port it is not the one we listen on.
        """
        for host, port in (
            (b"127.0.0.1:%d" % self.proxy.port, b"%d" % self.proxy.port),
            (b"front.example", b"80"),
            (b"front.example:9000", b"9000"),
            (b"[::1]", b"80"),
            (b"[::1]:9000", b"9000"),
        ):
            self.upstream.heads.clear()
            self.ask(host=host)
            head = self.upstream.request
            self.assertEqual(head.value(b"x-forwarded-for"), b"127.0.0.1")
            self.assertEqual(head.value(b"x-forwarded-proto"), b"http")
            self.assertEqual(head.value(b"x-forwarded-host"), host)
            self.assertEqual(head.value(b"x-forwarded-port"), port)

    def test_forged_forwarded_fields_are_dropped(self) -> None:
        """An untrusted client cannot write X-Forwarded-* itself."""
        self.ask(
            b"GET / HTTP/1.1",
            b"X-Forwarded-For: 6.6.6.6",
            b"x-forwarded-for: 7.7.7.7",
            b"X-Forwarded-Proto: https",
            b"X-FORWARDED-HOST: forged.example",
            b"X-Forwarded-Port: 666",
        )
        head = self.upstream.request
        self.assertEqual(head.value(b"x-forwarded-for"), b"127.0.0.1")
        self.assertEqual(head.value(b"x-forwarded-proto"), b"http")
        self.assertEqual(head.value(b"x-forwarded-host"), b"front.example")
        self.assertNotIn(b"666", head.octets)

    def test_via(self) -> None:
        """Via gets our entry behind those that are there (RFC 9110 7.6.3)."""
        self.ask(b"GET / HTTP/1.1", b"Via: 1.0 fred, 1.1 p.example")
        entries = b", ".join(self.upstream.request.values(b"via")).split(b", ")
        self.assertEqual(entries[:2], [b"1.0 fred", b"1.1 p.example"])
        self.assertEqual(len(entries), 3)
        self.assertTrue(entries[2].startswith(b"1.1 "), entries)

    def test_via_of_an_old_client(self) -> None:
        """Via tells the version that was received (RFC 9110 7.6.3)."""
        self.ask(b"GET / HTTP/1.0")
        self.assertTrue((self.upstream.request.value(b"via") or b"").startswith(b"1.0 "))

    def test_cookies_do_not_leak(self) -> None:
        """A cookie set for one client never goes out with another's request (FIELD 10; no jar)."""
        self.upstream.script = answer(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: session=a\r\nContent-Length: 0\r\n\r\n"
        )
        self.assertEqual(self.ask().value(b"set-cookie"), b"session=a")
        self.ask()
        with self.proxy.client() as client:
            for _ in range(2):
                client.send(request())
                client.read_response()
        for head in self.upstream.requests:
            self.assertEqual(head.values(b"cookie"), [])


class StreamHintsTests(LiveTestCase):
    """Fields that ask the next hop to pass an event stream on at once (FIELD 2)."""

    def hints(self, proxy: Proxy, *fields: bytes) -> tuple[list[bytes], list[bytes]]:
        """Return X-Accel-Buffering and Cache-Control as the client gets them."""
        head = b"\r\n".join([b"HTTP/1.1 200 OK", *fields, b"Content-Length: 2", b"", b"ok"])
        self.upstream.script = answer(head)
        response = proxy.ask(request()).head
        return response.values(b"x-accel-buffering"), response.values(b"cache-control")

    def test_event_stream(self) -> None:
        """An event stream without them gets both; other types get none."""
        stream = b"Content-Type: text/event-stream; charset=utf-8"
        self.assertEqual(self.hints(self.proxy, stream), ([b"no"], [b"no-transform"]))
        self.assertEqual(self.hints(self.proxy, b"Content-Type: text/plain"), ([], []))

    def test_what_the_upstream_says_stays(self) -> None:
        """An upstream that says it itself is not corrected."""
        stream = b"Content-Type: text/event-stream"
        said = (b"X-Accel-Buffering: yes", b"Cache-Control: no-cache, no-transform")
        self.assertEqual(
            self.hints(self.proxy, stream, *said), ([b"yes"], [b"no-cache, no-transform"])
        )

    def test_option(self) -> None:
        """``--no-stream-hints`` leaves event streams as they came."""
        with Proxy("--target", self.upstream.url, "--no-stream-hints") as proxy:
            self.assertEqual(self.hints(proxy, b"Content-Type: text/event-stream"), ([], []))


class PreservedHostTests(LiveTestCase):
    """``--preserve-host``."""

    proxy_arguments = ("--preserve-host",)

    def test_host_is_the_clients(self) -> None:
        """Host stays what the client sent."""
        self.ask(host=b"Front.Example:81")
        self.assertEqual(self.upstream.request.value(b"host"), b"Front.Example:81")


class TrustedProxyTests(LiveTestCase):
    """``--trust-proxy``: the client is a proxy of ours."""

    proxy_arguments = ("--trust-proxy", "10.0.0.0/8", "--trust-proxy", "127.0.0.0/8")

    def test_forwarded_fields_are_kept(self) -> None:
        """What a trusted proxy says stays, and the chain grows by its address."""
        self.ask(
            b"GET / HTTP/1.1",
            b"X-Forwarded-For: 203.0.113.7",
            b"X-Forwarded-Proto: https",
            b"X-Forwarded-Host: real.example",
            b"X-Forwarded-Port: 444",
        )
        head = self.upstream.request
        chain = b", ".join(head.values(b"x-forwarded-for"))
        self.assertEqual(chain, b"203.0.113.7, 127.0.0.1")
        self.assertEqual(head.value(b"x-forwarded-proto"), b"https")
        self.assertEqual(head.value(b"x-forwarded-host"), b"real.example")
        self.assertEqual(head.value(b"x-forwarded-port"), b"444")

    def test_missing_forwarded_fields_are_written(self) -> None:
        """What a trusted proxy leaves out is written as for anybody."""
        self.ask()
        head = self.upstream.request
        self.assertEqual(head.value(b"x-forwarded-for"), b"127.0.0.1")
        self.assertEqual(head.value(b"x-forwarded-proto"), b"http")
        self.assertEqual(head.value(b"x-forwarded-host"), b"front.example")

    def test_client_in_the_log(self) -> None:
        """The log names the client that a trusted proxy names, with or without a port.

        Of a WebSocket too, whose line comes long after its fields.  RFC 7239 6.
        """
        fields = (
            (b"X-Forwarded-For: 192.0.2.7:51008", "192.0.2.7"),
            (b"X-Forwarded-For: [2001:db8::1]:443", "2001:db8::1"),
            (b'Forwarded: for="[2001:db8::2]:443"', "2001:db8::2"),
            (b"Forwarded: for=203.0.113.9", "203.0.113.9"),
        )
        for number, (field, client) in enumerate(fields):
            self.upstream.script = answer()
            self.ask(b"GET /%d HTTP/1.1" % number, field)
            target = b"/ws%d" % number
            open_pair(self.proxy, self.upstream, field, target=target).close()
            for path in (f"/{number}", f"/ws{number}"):
                found = self.proxy.wait_log(rf'\S+ - - \[[^]]*\] "GET {path} ')
                self.assertEqual(client, found and found.split(" ")[0], path)

    def test_spelling_is_kept(self) -> None:
        """What a trusted proxy wrote goes on as it wrote it, our element behind."""
        chain = b"192.0.2.7:51008, [2001:db8::1]:443, _hidden"
        elements = b'for="[2001:db8::1]:443";proto=https'
        self.ask(b"GET / HTTP/1.1", b"X-Forwarded-For: " + chain, b"Forwarded: " + elements)
        head = self.upstream.request
        self.assertEqual(head.value(b"x-forwarded-for"), chain + b", 127.0.0.1")
        forwarded = head.value(b"forwarded") or b""
        self.assertTrue(forwarded.startswith(elements + b", for=127.0.0.1;"), forwarded)


ALTERNATIVE = (
    b'HTTP/1.1 103 Early Hints\r\nAlt-Svc: h3=":443"\r\nLink: </a>\r\n\r\n'
    b'HTTP/1.1 200 OK\r\nalt-svc: h3=":443"\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n'
    b'0\r\nALT-SVC: h3=":443"\r\nX-Sum: 1\r\n\r\n'
)


class AlternativeTests(LiveTestCase):
    """Alt-Svc, which names another place to ask instead (RFC 7838)."""

    def test_taken_out(self) -> None:
        """It would lead a browser past the proxy: no response, hint or trailer has it."""
        self.upstream.script = answer(ALTERNATIVE)
        response = self.ask()
        (hints,) = response.interim
        self.assertEqual(([], b"</a>"), (hints.values(b"alt-svc"), hints.value(b"link")))
        head = response.head
        self.assertEqual(([], b"y"), (head.values(b"alt-svc"), head.value(b"x")))
        self.assertEqual(response.trailers, ((b"X-Sum", b"1"),))


class OwnAlternativeTests(LiveTestCase):
    """An operator's own Alt-Svc."""

    proxy_arguments = ("--response-header", 'Alt-Svc: h2="front.example:443"')

    def test_stays(self) -> None:
        """It names a place of the operator's, and stands in place of the upstream's."""
        self.upstream.script = answer(ALTERNATIVE)
        head = self.ask().head
        self.assertEqual(head.values(b"alt-svc"), [b'h2="front.example:443"'])


class UntrustedProxyTests(LiveTestCase):
    """``--trust-proxy`` for somebody else."""

    proxy_arguments = ("--trust-proxy", "10.0.0.0/8")

    def test_forwarded_fields_are_dropped(self) -> None:
        """Trust in one network is no trust in another."""
        self.ask(b"GET / HTTP/1.1", b"X-Forwarded-For: 6.6.6.6")
        self.assertEqual(self.upstream.request.value(b"x-forwarded-for"), b"127.0.0.1")


SECRET = "sk-Q7fH2b81xS3"
FILE_SECRET = "file-9Jw4Lm"


class EditedFieldsTests(LiveTestCase):
    """``--header`` and its three siblings."""

    environment: ClassVar[dict[str, str]] = {"LIVE_KEY": SECRET}
    _file = Path(tempfile.gettempdir()) / f"pyproxy-live-{os.getpid()}"
    proxy_arguments = (
        "--header",
        "Authorization: Bearer ${{LIVE_KEY}}",
        "--allow-host=front.example",
        "--header",
        f"X-From-File: @{_file}",
        "--header",
        "X-Plain: a: b",
        "--remove-header",
        "x-drop",
        "--remove-header",
        "User-Agent",
        "--response-header",
        "X-Served: here",
        "--remove-response-header",
        "server",
    )

    def setUp(self) -> None:
        """Write the file that an option names."""
        self._file.write_text(FILE_SECRET + "\n")
        self.addCleanup(self._file.unlink)
        super().setUp()

    def test_fields_are_set(self) -> None:
        """``--header`` replaces what the client sent, with variables and files put in."""
        self.ask(
            b"GET / HTTP/1.1",
            b"Authorization: Bearer of-client",
            b"authorization: 2",
            b"X-Plain: 1",
        )
        head = self.upstream.request
        self.assertEqual(head.value(b"authorization"), b"Bearer " + SECRET.encode())
        self.assertEqual(head.value(b"x-from-file"), FILE_SECRET.encode())
        self.assertEqual(head.value(b"x-plain"), b"a: b")

    def test_fields_are_removed(self) -> None:
        """``--remove-header`` takes every field of that name out."""
        self.ask(
            b"GET / HTTP/1.1",
            b"X-Drop: 1",
            b"x-DROP: 2",
            b"User-Agent: u",
            b"X-Dropped: 3",
        )
        self.assertNotIn(b"x-drop", self.upstream.request.names())
        self.assertNotIn(b"user-agent", self.upstream.request.names())
        self.assertEqual(self.upstream.request.value(b"x-dropped"), b"3")

    def test_response_fields(self) -> None:
        """Response fields are set and removed likewise."""
        self.upstream.script = answer(
            b"HTTP/1.1 200 OK\r\nServer: theirs\r\nX-Served: there\r\nContent-Length: 0\r\n\r\n"
        )
        head = self.ask().head
        self.assertEqual(head.value(b"x-served"), b"here")
        self.assertNotIn(b"theirs", head.octets)

    def test_nominating_a_set_field(self) -> None:
        """A client cannot strip the injected key by nominating it (strip first, then add)."""
        self.ask(b"GET / HTTP/1.1", b"Connection: close, Authorization, X-Plain")
        self.assertEqual(
            self.upstream.request.value(b"authorization"), b"Bearer " + SECRET.encode()
        )

    def test_secrets_stay_inside(self) -> None:
        """No injected secret reaches a client, the log or the process list (FIELD 18)."""
        octets = b"".join(
            self.ask(line, b"Accept: application/json").head.octets
            for line in (
                b"GET / HTTP/1.1",
                b"GET /.. HTTP/1.1",
                b"CONNECT a:1 HTTP/1.1",
            )
        )
        self.upstream.script = lambda wire: wire.close()
        broken = self.ask()
        self.assertEqual(broken.status, 502)
        octets += broken.head.octets + broken.body
        arguments = Path(f"/proc/{self.proxy.pid}/cmdline").read_bytes()
        for secret in (SECRET, FILE_SECRET):
            self.assertNotIn(secret.encode(), octets)
            self.assertNotIn(secret, self.proxy.log())
        self.assertNotIn(SECRET.encode(), arguments)


class LoopTests(LiveTestCase):
    """Chains of proxies."""

    def test_a_loop_is_refused(self) -> None:
        """A request that has passed this instance already is 508, at once (RFC 9110 7.6.3)."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with Proxy("--listen", f"tcp:{port}:interface=127.0.0.1", "--target", url) as proxy:
            proxy.port = port
            response = proxy.ask(request())
        self.assertEqual(response.status, 508)

    def test_another_instance_is_no_loop(self) -> None:
        """Two instances in a row are a chain, not a loop."""
        with Proxy("--target", f"http://127.0.0.1:{self.proxy.port}") as outer:
            response = outer.ask(request())
        self.assertEqual((response.status, response.body), (200, b"ok"))
        entries = b",".join(self.upstream.request.values(b"via")).split(b",")
        self.assertEqual(len(entries), 2)


class EndpointTests(LiveTestCase):
    """``--listen``."""

    def test_several_endpoints(self) -> None:
        """Every ``--listen`` is a way in, each leads to the same target."""
        ports = [free_port(), free_port()]
        listen = [f"--listen=tcp:{port}:interface=127.0.0.1" for port in ports]
        with (
            ScriptedUpstream(answer(OK)) as upstream,
            Proxy("--target", upstream.url, *listen) as proxy,
        ):
            for port in ports:
                proxy.port = port
                self.assertEqual(proxy.ask(request()).body, b"ok")

    def test_base_without_slash(self) -> None:
        """A base path binds at a segment's end, with a final slash or without."""
        with upstream_and_proxy(None, base="/base") as (upstream, proxy):
            proxy.ask(request(b"GET /a?b HTTP/1.1"))
            self.assertEqual(upstream.request.target, b"/base/a?b")
