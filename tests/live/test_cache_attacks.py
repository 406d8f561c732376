"""Attacks by clients: what one sends decides nothing of what others get.

Sources: Kettle, "Practical Web Cache Poisoning" (2018) and "Web Cache Entanglement" (2020); Gil,
"Web Cache Deception" (2017); Nguyen et al., "Your Cache Has Fallen" (CCS 2019); Mirheidari et al.,
"Cached and Confused" (USENIX Security 2020).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.live.caches import CacheTestCase, echo, fresh, is_hit, page, told
from tests.live.kit import (
    PATIENCE,
    Closed,
    Head,
    Wire,
    answer,
    eventually,
    request,
)

EVIL = b"evil.example"

LONGER = "{ heuristic = true }"
"""What a route says that keeps more than it has to."""


def reflects(*names: bytes) -> Callable[[Head], bytes]:
    """Return what makes a page, fresh for a minute, of some of a request's fields."""

    def say(head: Head) -> bytes:
        return fresh(b"|".join(b",".join(head.values(name)) for name in names))

    return say


class UnkeyedTests(CacheTestCase):
    """Upstreams build pages on fields that they do not name in ``Vary``."""

    NAMES = (
        b"X-Forwarded-Host",
        b"X-Forwarded-Proto",
        b"X-Forwarded-Port",
        b"X-Forwarded-Scheme",
        b"X-Forwarded-Prefix",
        b"X-Forwarded-Server",
        b"X-Host",
        b"X-Original-Host",
        b"X-Original-URL",
        b"X-Rewrite-URL",
        b"X-HTTP-Method-Override",
        b"X-HTTP-Method",
        b"X-Method-Override",
        b"Forwarded",
    )

    def check(self, field: bytes) -> None:
        """Nobody else gets what one request with a field has brought; not while it comes either."""
        self.upstream.script = echo(reflects(*self.NAMES))
        for value in (EVIL, b"host=" + EVIL):
            with self.subTest(field, value=value):
                target = b"%b/%b/%d" % (self.page, field, len(value))
                evil = self.get(target, field + b": " + value)
                clean = self.get(target)
                self.assertEqual(200, clean.status)
                self.assertNotIn(EVIL, clean.body)
                self.assertNotIn(EVIL, self.assert_kept(target=target).body)
                # Nor the other way about: who sends it gets what was made for it, or what all get.
                again = self.get(target, field + b": " + value)
                self.assertEqual(evil.body, again.body)

    def test_all(self) -> None:
        """Each by itself."""
        for name in self.NAMES:
            self.check(name)

    def test_names(self) -> None:
        """In other case, and with ``_``, which CGI takes for ``-``."""
        for name in (b"x-ORIGINAL-url", b"X_Original_URL", b"X_FORWARDED_HOST"):
            self.check(name)

    def test_together(self) -> None:
        """Two fields whose values could be taken for one of another."""
        self.upstream.script = echo(reflects(*self.NAMES))
        one = self.get(None, b"X-Host: a", b"X-Original-Host: b")
        two = self.get(None, b"X-Host: a\tx-original-host:b")
        three = self.get(None, b"X-Host: a", b"X-Host: b")
        for response in (one, two, three):
            self.assertFalse(is_hit(response))

    def test_while_it_comes(self) -> None:
        """A clean request does not wait for an evil one."""
        go = threading.Event()

        def script(wire: Wire) -> None:
            head = wire.read_head()
            if EVIL in head.octets:
                go.wait(PATIENCE)
            wire.send(reflects(*self.NAMES)(head))

        self.upstream.script = script
        with self.proxy.client() as client:
            line = b"GET %b HTTP/1.1" % self.page
            client.send(request(line, b"X-Original-URL: " + EVIL))
            self.assertTrue(eventually(lambda: self.asked() == 1))
            self.assertNotIn(EVIL, self.get().body)
            go.set()
            client.read_response()
        self.assertNotIn(EVIL, self.assert_kept().body)


class TrustedTests(UnkeyedTests):
    """The same from a peer whose word is believed."""

    top = 'trust_proxy = ["127.0.0.1"]'


class OddRequestTests(CacheTestCase):
    """Requests that get errors, and others that are not quite what they seem."""

    policy = LONGER

    def test_content(self) -> None:
        """A GET with content is never stored, nor served what is (a fat GET)."""

        def say(head: Head) -> bytes:
            return fresh(self.upstream.bodies[-1] or b"clean")

        self.upstream.script = echo(say)
        for fields, body in (
            ((b"Content-Length: 4",), b"evil"),
            ((b"Transfer-Encoding: chunked",), b"4\r\nevil\r\n0\r\n\r\n"),
        ):
            with self.subTest(fields):
                fat = self.get(None, *fields, body=body)
                self.assertEqual((b"evil", "fwd=bypass"), (fat.body, told(fat).split(";")[0]))
                target = self.page + b"/" + body[:1]
                self.assertEqual(b"clean", self.get(target).body)
                before = self.asked()
                again = self.get(target, *fields, body=body)
                self.assertEqual(b"evil", again.body)
                self.assertEqual(before + 1, self.asked())
                self.assertEqual(b"clean", self.assert_kept(target=target).body)

    def test_own_errors(self) -> None:
        """What the proxy itself refuses is not stored."""
        self.upstream.script = answer(fresh(b"clean"))
        line = b"GET %b HTTP/1.1" % self.page
        for octets in (
            request(line, b"X-Long: " + b"x" * 100_000),
            request(line, *[b"X-%d: y" % number for number in range(5000)]),
            request(line, b"X-Odd: a\0b"),
            request(line, b"X Odd: a"),
            request(line, b"Host: other.example"),
            request(line, b"Content-Length: 1", b"Transfer-Encoding: chunked"),
            request(line, b"Expect: what"),
            request(b"GET %b HTTP/3.1" % self.page),
            request(b"GET %b%b HTTP/1.1" % (self.page, b"x" * 100_000)),
        ):
            with self.subTest(octets[:60]):
                try:
                    status = self.proxy.ask(octets).status
                except Closed:
                    status = 400
                self.assertIn(status, (200, 400, 414, 417, 431, 505))
        response = self.get()
        self.assertEqual((200, b"clean"), (response.status, response.body))
        self.assertEqual(b"clean", self.assert_kept().body)

    def test_own_errors_for_waiting(self) -> None:
        """No response at all is not stored: who asks next has the upstream asked."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.close()

        self.upstream.script = script
        self.assertEqual(502, self.get().status)
        self.upstream.script = answer(fresh(b"clean"))
        self.assertEqual(b"clean", self.assert_asks().body)

    def test_errors_of_the_upstream(self) -> None:
        """An error that does not say for how long is not stored, whatever provoked it."""
        statuses = (b"400 Bad", b"403 No", b"404 No", b"405 No", b"413 Much", b"431 Much", b"500 X")
        for status in statuses:
            with self.subTest(status):
                target = self.page + b"/" + status[:3]
                self.upstream.script = answer(page(b"error", status=status))
                self.get(target, b"X-Metachar: \x07", b"X-Much: " + b"x" * 30_000)
                self.upstream.script = answer(fresh(b"clean"))
                self.assertEqual(b"clean", self.assert_asks(target=target).body)

    def test_errors_that_say_so(self) -> None:
        """An error that says for how long is stored, as for any status code (RFC 9111 3)."""
        self.upstream.script = answer(fresh(b"gone", status=b"404 Not Found"))
        self.get()
        self.assertEqual(404, self.assert_kept().status)

    def test_errors_of_a_wish(self) -> None:
        """What only a range or a condition has brought about is not kept, whatever it says."""
        for field, status in (
            (b"Range: bytes=999-", b"416 Range Not Satisfiable"),
            (b"Range: bytes=999-", b"400 Bad Request"),
            (b'If-Match: "x"', b"412 Precondition Failed"),
            (b"If-Unmodified-Since: Wed, 01 Jan 2020 00:00:00 GMT", b"412 Precondition Failed"),
            (b"Range: bytes=0-1", b"206 Partial Content"),
            (b'If-None-Match: "x"', b"304 Not Modified"),
            (b"Expect: 100-continue", b"417 Expectation Failed"),
        ):
            with self.subTest(field, status=status):
                target = b"%b/%d" % (self.page, hash((field, status)) & 0xFFFFFF)
                octets = fresh(b"" if status[:3] == b"304" else b"no", status=status)
                self.upstream.script = answer(octets)
                self.assertEqual(int(status[:3]), self.get(target, field).status)
                self.upstream.script = answer(fresh(b"clean"))
                self.assertEqual(b"clean", self.assert_asks(target=target).body)

    def test_bad_ranges(self) -> None:
        """What is no range is answered by the whole, or by the upstream, and changes nothing."""
        self.upstream.script = answer(fresh(b"0123456789"))
        self.get()
        many = b",".join(b"%d-" % number for number in range(1000))
        for said in (
            b"bytes=-",
            b"bytes=",
            b"bytes=5-1",
            b"bytes=a-b",
            b"bytes=--1",
            b"bytes=0-99999999999999999999999",
            b"bytes=99999999999999999999999-",
            b"bytes=-0",
            b"bytes=\t0-1",
            b"octets=0-1",
            b"bytes 0-1",
            b"bytes=" + many,
        ):
            with self.subTest(said[:40]):
                response = self.get(None, b"Range: " + said)
                self.assertIn(response.status, (200, 206, 416))
                self.assertIn(response.body, (b"0123456789", b"01", b""))
                self.assertEqual(b"0123456789", self.assert_kept().body)

    def test_methods(self) -> None:
        """What another method has brought is not told for GET."""
        self.upstream.script = echo(lambda head: fresh(head.method))
        for method in (b"OPTIONS", b"POST", b"PUT", b"PROPFIND", b"get", b"GETX"):
            with self.subTest(method):
                response = self.get(method=method)
                self.assertEqual((method, "fwd=method"), (response.body, told(response)[:10]))
                self.assertEqual(b"GET", self.assert_asks().body)
                # Safe or not: the next begins anew.
                self.page += b"x"

    def test_smuggling(self) -> None:
        """A request inside the content of another is content (RFC 9112 11.2)."""
        inner = request(b"GET %b HTTP/1.1" % self.page, b"X-Host: " + EVIL)
        self.upstream.script = echo(reflects(b"X-Host"))
        fields = (b"Content-Length: %d" % len(inner),)
        self.get(self.page + b"/other", *fields, method=b"POST", body=inner)
        self.assertEqual(1, self.asked())
        self.assertEqual(b"", self.assert_asks().body)


class DeceptionTests(CacheTestCase):
    """A victim is led to a URL that looks like a file; the attacker asks for it afterwards."""

    policy = LONGER

    SUFFIXES = (
        b"/x.css",
        b";x.css",
        b"%2fx.css",
        b"%2f..%2fx.css",
        b"/..%2fx.css",
        b"%00x.css",
        b"%0ax.css",
        b"%3fx.css",
        b"%23x.css",
        b"?x.css",
        b"//x.css",
        b"/.css",
    )

    def check(self, *fields: bytes) -> None:
        """What came with these fields for the victim is not served to the attacker."""
        own = page(b"account of the victim", *fields)
        for suffix in self.SUFFIXES:
            with self.subTest(suffix):
                self.upstream.script = answer(own)
                target = self.page + b"/account" + suffix
                self.assertEqual(b"account of the victim", self.get(target, b"Cookie: a=b").body)
                self.upstream.script = answer(page(b"log in"))
                self.assertEqual(b"log in", self.assert_asks(target=target).body)

    def test_nothing_said(self) -> None:
        """A name that ends in ``.css`` is no permission."""
        self.check()

    def test_forbidden(self) -> None:
        """Nor does it outrank what the page says."""
        self.check(b"Cache-Control: private, max-age=60")
        self.check(b"Cache-Control: no-store")
        self.check(b"Cache-Control: no-cache, max-age=60")
        self.check(b"Pragma: no-cache", b"Expires: 0")

    def test_set_cookie(self) -> None:
        """With heuristics, what sets a cookie is not kept."""
        modified = b"Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT"
        self.check(modified, b"Set-Cookie: session=victim")

    def test_set_cookie_that_says_so(self) -> None:
        """With an explicit lifetime it is, which RFC 9111 7.3 leaves to the origin."""
        self.upstream.script = answer(fresh(b"ok", b"Set-Cookie: theme=dark"))
        self.get()
        self.assertEqual(b"theme=dark", self.assert_kept().value(b"set-cookie"))


class UsersTests(CacheTestCase):
    """What one user gets is not for another."""

    @staticmethod
    def own(*said: bytes) -> Callable[[Head], bytes]:
        """Return what makes a page of the user's name."""

        def say(head: Head) -> bytes:
            user = head.value(b"authorization") or head.value(b"cookie") or b"nobody"
            return page(user, *said)

        return say

    def test_authorization(self) -> None:
        """A response to a request with Authorization is not kept, unless it says so (3.5)."""
        self.upstream.script = echo(self.own(b"Cache-Control: max-age=60"))
        for user in (b"Bearer alice", b"Bearer bob"):
            self.assertEqual(user, self.assert_asks(b"Authorization: " + user).body)
        self.assertEqual(b"nobody", self.assert_asks().body)

    def test_authorization_at_once(self) -> None:
        """Not even of two who ask at the same time."""
        go = threading.Event()
        say = self.own(b"Cache-Control: max-age=60")

        def script(wire: Wire) -> None:
            head = wire.read_head()
            go.wait(PATIENCE)
            wire.send(say(head))

        self.upstream.script = script
        users = (b"Bearer alice", b"Bearer bob", b"Bearer carol")
        line = b"GET %b HTTP/1.1" % self.page
        clients = [self.enterContext(self.proxy.client()) for _ in users]
        for client, user in zip(clients, users, strict=True):
            client.send(request(line, b"Authorization: " + user))
        self.assertTrue(eventually(lambda: self.asked() >= 1))
        go.set()
        self.assertEqual(list(users), [client.read_response().body for client in clients])
        self.assertEqual(3, self.asked())

    def test_public(self) -> None:
        """What the origin calls public, or gives shared caches, is for all (RFC 9111 3.5)."""
        for said in (b"public, max-age=60", b"s-maxage=60"):
            self.page += b"x"
            self.upstream.script = answer(page(b"news", b"Cache-Control: " + said))
            self.get(None, b"Authorization: Bearer alice")
            self.assertEqual(b"news", self.assert_kept(b"Authorization: Bearer bob").body)

    def test_cookies(self) -> None:
        """Cookies tell users apart where the origin says so, in ``Vary`` or by ``private``."""
        for said in (
            (b"Cache-Control: max-age=60", b"Vary: Cookie"),
            (b"Cache-Control: max-age=60", b"Vary: accept, COOKIE , Accept-Language"),
            (b"Cache-Control: max-age=60", b"Vary: Accept", b"Vary: Cookie"),
            (b"Cache-Control: private, max-age=60",),
            (b'Cache-Control: PRIVATE, max-age="60"',),
            (b"Cache-Control: max-age=60", b"Cache-Control: private"),
            (b'Cache-Control: x="a, max-age=60", private',),
        ):
            with self.subTest(said):
                self.page += b"x"
                self.upstream.script = echo(self.own(*said))
                for user in (b"id=alice", b"id=bob", b"id=alice; id=bob"):
                    self.assertEqual(user, self.assert_asks(b"Cookie: " + user).body)
                self.assertEqual(b"nobody", self.assert_asks().body)

    def test_origins(self) -> None:
        """What may be read by pages of one origin is not told to another (WHATWG Fetch, CORS)."""

        def say(head: Head) -> bytes:
            origin = head.value(b"origin")
            allow = (b"Access-Control-Allow-Origin: " + origin,) if origin else ()
            return fresh(b"data", b"Vary: Origin", *allow)

        self.upstream.script = echo(say)
        allowed = b"access-control-allow-origin"
        origins = (b"https://a.example", b"https://b.example", b"null")
        for origin in origins:
            self.assertEqual(origin, self.get(None, b"Origin: " + origin).value(allowed))
        self.assertIsNone(self.get().value(allowed))
        for origin in origins:
            self.assertEqual(origin, self.assert_kept(b"Origin: " + origin).value(allowed))
        self.assertIsNone(self.assert_kept().value(allowed))
        self.assertEqual(4, self.asked())


class KeyTests(CacheTestCase):
    """What is another URL to any upstream is another key."""

    def setUp(self) -> None:
        """Answer with what was asked for."""
        super().setUp()
        names = (b"x-forwarded-host",)
        self.upstream.script = echo(
            lambda head: fresh(head.target + b" " + b",".join(map(head.value, names)))  # type: ignore[arg-type]
        )

    def test_targets(self) -> None:
        """Not even the order of a query's parts, or an empty one, is thought away."""
        base = self.page
        for target in (
            base,
            base + b"?",
            base + b"?a=1&b=2",
            base + b"?b=2&a=1",
            base + b"?a=1&b=2&",
            base + b"?a=1;b=2",
            base + b"?A=1&b=2",
            base + b"?a=1&b=2&utm_source=x",
            base + b"/",
            base + b"//",
            base + b"/a",
            base + b"/A",
            base + b"/%61",
            base + b"/%2e",
            base + b"/a%2Fb",
            base + b"/a%2fb",
            base + b"/a/b",
            base + b"/%20",
            base + b"/+",
            base + b"/a%0d%0aX:%20y",
        ):
            with self.subTest(target):
                first = self.get(target)
                self.assertFalse(is_hit(first))
                self.assertEqual(target, first.body.split(b" ")[0])
                self.assertEqual(first.body, self.assert_kept(target=target).body)

    def host(self, line: bytes, host: bytes) -> tuple[bytes, bool]:
        """Ask by a host; return what the upstream was told, and whether it was asked before."""
        response = self.ask(line, host=host)
        self.assertEqual(200, response.status)
        return response.body, is_hit(response)

    def test_hosts(self) -> None:
        """Each host has its own; only its case does not count (RFC 9110 4.2.3)."""
        line = b"GET %b HTTP/1.1" % self.page
        for host in (
            b"front.example",
            b"other.example",
            b"front.example.",
            b"front.example:8080",
            b"127.0.0.1",
            b"[::1]",
        ):
            with self.subTest(host):
                told_of, hit = self.host(line, host)
                self.assertFalse(hit)
                self.assertEqual(host, told_of.split(b" ")[1].lower())
                self.assertEqual((told_of, True), self.host(line, host))
        self.assertTrue(self.host(line, b"FRONT.Example")[1])

    def test_port_of_the_scheme(self) -> None:
        """A host with the scheme's own port is never told as another."""
        line = b"GET %b HTTP/1.1" % self.page
        self.host(line, b"front.example")
        told_of, hit = self.host(line, b"front.example:80")
        if not hit:
            self.assertIn(b"front.example", told_of)

    def test_absolute_form(self) -> None:
        """The host of an absolute target counts, not the Host field (RFC 9112 3.2.2)."""
        self.get()
        same = b"GET http://front.example%b HTTP/1.1" % self.page
        told_of, _ = self.host(same, EVIL)
        self.assertNotIn(EVIL, told_of)
        other = b"GET http://%b%b HTTP/1.1" % (EVIL, self.page)
        told_of, hit = self.host(other, b"front.example")
        self.assertEqual((True, False), (EVIL in told_of, hit))
        self.assertNotIn(EVIL, self.assert_kept().body)

    def test_splitting(self) -> None:
        """What is stored of a field cannot end it."""
        for field in (b"X-Evil: a\0b", b"X-Evil: a\rSet-Cookie: b=c", b"X-Evil : a\nb"):
            with self.subTest(field):
                self.page += b"x"
                self.upstream.script = answer(fresh(b"ok", field))
                for _ in range(2):
                    response = self.get()
                    self.assertIsNone(response.value(b"set-cookie"))
                    for octet in (b"\0", b"\r", b"\n"):
                        self.assertNotIn(octet, b"".join(v for _, v in response.head.fields))

    def test_url_in_a_field(self) -> None:
        """A URL that is reflected keeps its coding, so it cannot end a field."""
        self.upstream.script = echo(lambda head: fresh(b"", b"Location: " + head.target))
        target = self.page + b"/%0d%0aSet-Cookie:%20a=b"
        self.get(target)
        response = self.assert_kept(target=target)
        self.assertEqual(target, (response.value(b"location") or b"")[-len(target) :])
        self.assertIsNone(response.value(b"set-cookie"))
