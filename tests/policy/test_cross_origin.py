"""Who may spend a credential that the proxy adds: no foreign web page."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.values import parse_allowed_host, parse_allowed_origin
from pyproxy.errors import CrossOriginRefused, MisdirectedRequest
from pyproxy.policy.cross_origin import Guard
from pyproxy.semantics.fields import Field
from pyproxy.semantics.forwarding import Hop
from pyproxy.semantics.messages import RequestHead
from pyproxy.semantics.origins import MAX_ORIGIN_BYTES

DIRECT = Hop(b"127.0.0.1", b"http", b"8000", False, b"127.0.0.1")
BEYOND = Hop(b"192.0.2.7", b"http", b"8000", False, b"192.0.2.9")
BEHIND = Hop(b"127.0.0.1", b"http", b"8000", True, b"127.0.0.1")
BY_SOCKET = Hop(b"", b"http", b"", False)
OVER_TLS = Hop(b"192.0.2.7", b"https", b"8443", False, b"192.0.2.9")

OPEN, REFUSED, MISDIRECTED = None, CrossOriginRefused, MisdirectedRequest

HERE = b"localhost:8000"

Verdict = type[Exception] | None


def guard(*hosts: str, origins: tuple[str, ...] = ()) -> Guard:
    """Make a guard of what an operator allows."""
    return Guard.of(map(parse_allowed_host, hosts), map(parse_allowed_origin, origins))


DEFAULT = guard()


def field(line: bytes) -> Field:
    """Return a field of its line."""
    name, _, value = line.partition(b": ")
    return name, value


class GuardTestCase(SynchronousTestCase):
    """A case that asks a guard about requests."""

    def judge(
        self, guard: Guard, host: bytes, *lines: bytes, hop: Hop = DIRECT, method: bytes = b"POST"
    ) -> Verdict:
        """Return how a guard ends a request, None when it lets it pass."""
        head = RequestHead(method, b"/v1/chat", 1, [(b"Host", host), *map(field, lines)])
        try:
            guard.admit(head, host, hop)
        except (CrossOriginRefused, MisdirectedRequest) as error:
            return type(error)
        return None


class HostTests(GuardTestCase):
    """A name that somebody else points here is not the proxy's (DNS rebinding)."""

    def test_own_names(self) -> None:
        """Loopback by every name, and the address that the request came to."""
        for host, hop, verdict in (
            (b"localhost", DIRECT, OPEN),
            (b"LOCALHOST:1", DIRECT, OPEN),
            (b"127.0.0.1:8000", DIRECT, OPEN),
            (b"127.0.0.2", DIRECT, OPEN),
            (b"[::1]:8000", DIRECT, OPEN),
            (b"dev.localhost:8000", DIRECT, OPEN),
            (b"192.0.2.9:8000", BEYOND, OPEN),
            (b"localhost:8000", BEYOND, OPEN),
            (b"192.0.2.8:8000", BEYOND, MISDIRECTED),
            (b"192.0.2.9:8000", DIRECT, MISDIRECTED),
            (b"evil.example", DIRECT, MISDIRECTED),
            (b"evil.example:8000", DIRECT, MISDIRECTED),
            (b"localhost.evil.example", DIRECT, MISDIRECTED),
            (b"127.0.0.1.evil.example", DIRECT, MISDIRECTED),
            (b"api.example.com", BEYOND, MISDIRECTED),
            (b"localhost", BY_SOCKET, OPEN),
            (b"evil.example", BY_SOCKET, MISDIRECTED),
            (b"a" * (MAX_ORIGIN_BYTES + 1), DIRECT, MISDIRECTED),
            (b"a,b", DIRECT, MISDIRECTED),
        ):
            self.assertEqual(verdict, self.judge(DEFAULT, host, hop=hop), host)

    def test_no_name(self) -> None:
        """Without a name it was no browser that asked."""
        self.assertEqual(OPEN, self.judge(DEFAULT, b"", hop=BEYOND))

    def test_allowed(self) -> None:
        """What --allow-host names: a host, what is below a suffix, everything."""
        named = guard("chat.example.com", "*.apps.example", "10.1.2.3", "[2001:db8::1]")
        for host, verdict in (
            (b"chat.example.com", OPEN),
            (b"CHAT.example.com:8443", OPEN),
            (b"chat.example.com.", OPEN),
            (b"www.chat.example.com", MISDIRECTED),
            (b"evilchat.example.com", MISDIRECTED),
            (b"a.apps.example", OPEN),
            (b"a.b.apps.example:1", OPEN),
            (b"apps.example", MISDIRECTED),
            (b"evilapps.example", MISDIRECTED),
            (b"10.1.2.3:80", OPEN),
            (b"[2001:DB8:0::1]", OPEN),
            (b"10.1.2.4", MISDIRECTED),
        ):
            self.assertEqual(verdict, self.judge(named, host), host)
        self.assertEqual(OPEN, self.judge(guard("any"), b"evil.example"))

    def test_behind_a_trusted_proxy(self) -> None:
        """What counts is the host that it says was asked for, all of them if it names several."""
        named = guard("chat.example.com")
        for lines, verdict in (
            ((b"X-Forwarded-Host: chat.example.com",), OPEN),
            ((b"X-Forwarded-Host: evil.example",), MISDIRECTED),
            ((b"X-Forwarded-Host: localhost, evil.example",), MISDIRECTED),
            ((b"X-Forwarded-Host: localhost", b"X-Forwarded-Host: evil.example"), MISDIRECTED),
            ((b'Forwarded: for=192.0.2.1;host="chat.example.com"',), OPEN),
            ((b"Forwarded: host=evil.example",), MISDIRECTED),
            ((b"X-Forwarded-Host: chat.example.com", b"Forwarded: host=evil"), MISDIRECTED),
        ):
            self.assertEqual(verdict, self.judge(named, b"backend", *lines, hop=BEHIND), lines)
        # Without such a field it is the Host that it sent.
        self.assertEqual(OPEN, self.judge(named, b"chat.example.com", hop=BEHIND))
        self.assertEqual(MISDIRECTED, self.judge(named, b"backend", hop=BEHIND))

    def test_a_browser_beside_the_trusted_proxy(self) -> None:
        """A page that was asked for by our own port writes no host over the one in its address."""
        told = b"X-Forwarded-Host: localhost"
        for host, hop, verdict in (
            (b"evil.example:8000", BEHIND, MISDIRECTED),
            (b"localhost:8000", BEHIND, OPEN),
            (b"backend", BEHIND, OPEN),
            (b"evil.example:8001", BEHIND, OPEN),
            (b"evil.example", attrs.evolve(BEHIND, port=b"80"), MISDIRECTED),
            (b"evil.example", attrs.evolve(BEHIND, port=b"443", scheme=b"https"), MISDIRECTED),
            (b"backend:8000", attrs.evolve(BEHIND, address=b"10.0.0.1"), OPEN),
            (b"", BEHIND, OPEN),
        ):
            self.assertEqual(verdict, self.judge(DEFAULT, host, told, hop=hop), (host, hop))
        forwarded = b"Forwarded: host=localhost"
        self.assertEqual(
            MISDIRECTED, self.judge(DEFAULT, b"evil.example:8000", forwarded, hop=BEHIND)
        )

    def test_a_stranger_says_what_he_likes(self) -> None:
        """Nobody else is believed."""
        forged = b"X-Forwarded-Host: localhost"
        self.assertEqual(MISDIRECTED, self.judge(DEFAULT, b"evil.example", forged))


class LogTests(SynchronousTestCase):
    """The operator is told what to allow; the client is not told what it asked for."""

    def test_named_in_the_log(self) -> None:
        """The host, or the origin, within a bound."""
        for lines, named in (
            ([(b"Host", b"evil.example:80")], "evil.example:80"),
            ([(b"Host", b"a" * 500)], "a" * 100),
            ([(b"Host", HERE), (b"Origin", b"https://evil.example")], "https://evil.example"),
            ([(b"Host", HERE), (b"Origin", b"")], "nobody"),
        ):
            head = RequestHead(b"GET", b"/", 1, lines)
            error = self.assertRaises(
                (MisdirectedRequest, CrossOriginRefused), DEFAULT.admit, head, lines[0][1], DIRECT
            )
            self.assertIn(f"{named} ", error.for_log)
            self.assertNotIn("evil", error.detail)


class OriginTests(GuardTestCase):
    """A page is known by its origin, compared whole."""

    def test_direct(self) -> None:
        """The asked host's own, loopback on any port; nobody else's, however alike it looks."""
        for origin, hop, host, verdict in (
            (b"http://localhost:8000", DIRECT, HERE, OPEN),
            (b"http://localhost:3000", DIRECT, HERE, OPEN),
            (b"https://localhost:3000", DIRECT, HERE, OPEN),
            (b"http://127.0.0.1:5173", DIRECT, HERE, OPEN),
            (b"http://[::1]:5173", DIRECT, HERE, OPEN),
            (b"http://app.localhost", DIRECT, HERE, OPEN),
            (b"https://evil.example", DIRECT, HERE, REFUSED),
            (b"null", DIRECT, HERE, REFUSED),
            (b"", DIRECT, HERE, REFUSED),
            (b"http://localhost.evil.example", DIRECT, HERE, REFUSED),
            (b"http://localhost:8000.evil.example", DIRECT, HERE, REFUSED),
            (b"http://evil.example/localhost", DIRECT, HERE, REFUSED),
            (b"http://localhost@evil.example", DIRECT, HERE, REFUSED),
            (b"http://localhost:3000, http://evil.example", DIRECT, HERE, REFUSED),
            (b"file://", DIRECT, HERE, REFUSED),
            (b"evil://localhost", DIRECT, HERE, REFUSED),
            (b"http://" + b"a" * MAX_ORIGIN_BYTES, DIRECT, HERE, REFUSED),
            (b"http://192.0.2.9:8000", BEYOND, b"192.0.2.9:8000", OPEN),
            (b"http://192.0.2.9:8001", BEYOND, b"192.0.2.9:8000", REFUSED),
            (b"https://192.0.2.9:8000", BEYOND, b"192.0.2.9:8000", REFUSED),
            (b"http://192.0.2.9", BEYOND, b"192.0.2.9:8000", REFUSED),
            (b"http://192.0.2.9", BEYOND, b"192.0.2.9", OPEN),
            (b"https://192.0.2.9:8443", OVER_TLS, b"192.0.2.9:8443", OPEN),
            (b"https://192.0.2.9", OVER_TLS, b"192.0.2.9", OPEN),
            (b"http://192.0.2.9:443", OVER_TLS, b"192.0.2.9", REFUSED),
        ):
            verdict_now = self.judge(DEFAULT, host, b"Origin: " + origin, hop=hop)
            self.assertEqual(verdict, verdict_now, (origin, host))

    def test_any_name_is_no_origin(self) -> None:
        """Who allows every host still has no page but the asked host's own."""
        wide = guard("any")
        for origin, host, verdict in (
            (b"http://a.example:8000", b"a.example:8000", OPEN),
            (b"http://b.example:8000", b"a.example:8000", REFUSED),
            (b"http://b.example", b"b.example/", REFUSED),
            (b"http://a.example", b"a" * MAX_ORIGIN_BYTES, REFUSED),
        ):
            self.assertEqual(verdict, self.judge(wide, host, b"Origin: " + origin), (origin, host))

    def test_allowed(self) -> None:
        """What --allow-origin names: an origin, or those of all subdomains."""
        named = guard(
            origins=(
                "https://chat.example.com",
                "http://dev.example:3000",
                "https://*.apps.example:8443",
                "tauri://localhost",
            )
        )
        for origin, verdict in (
            (b"https://chat.example.com", OPEN),
            (b"https://chat.example.com:443", OPEN),
            (b"http://chat.example.com", REFUSED),
            (b"https://chat.example.com:8443", REFUSED),
            (b"https://chat.example.com.evil.example", REFUSED),
            (b"https://evilchat.example.com", REFUSED),
            (b"http://dev.example:3000", OPEN),
            (b"http://dev.example", REFUSED),
            (b"https://a.apps.example:8443", OPEN),
            (b"https://a.b.apps.example:8443", OPEN),
            (b"https://apps.example:8443", REFUSED),
            (b"https://evilapps.example:8443", REFUSED),
            (b"https://a.apps.example", REFUSED),
            (b"http://a.apps.example:8443", REFUSED),
            (b"tauri://localhost", OPEN),
            (b"null", REFUSED),
        ):
            self.assertEqual(verdict, self.judge(named, HERE, b"Origin: " + origin), origin)

    def test_repeated(self) -> None:
        """Two origins are none."""
        both = (b"Origin: http://localhost:8000", b"Origin: https://evil.example")
        for lines in (both, both[::-1], (both[0], both[0])):
            self.assertEqual(REFUSED, self.judge(DEFAULT, HERE, *lines), lines)

    def test_behind_a_trusted_proxy(self) -> None:
        """Its word for scheme and host makes the origin that is the asked host's own."""
        named = guard("chat.example.com")
        told = (b"X-Forwarded-Proto: HTTPS", b"X-Forwarded-Host: chat.example.com")
        in_one = (b"Forwarded: for=192.0.2.1;proto=https;host=chat.example.com",)
        for lines, origin, verdict in (
            (told, b"https://chat.example.com", OPEN),
            (told, b"http://chat.example.com", REFUSED),
            (told, b"https://chat.example.com:8443", REFUSED),
            (in_one, b"https://chat.example.com", OPEN),
            (in_one, b"https://evil.example", REFUSED),
            ((b"X-Forwarded-Proto: wss", told[1]), b"https://chat.example.com", OPEN),
            (told[1:], b"http://chat.example.com", OPEN),
            (told[1:], b"https://chat.example.com", REFUSED),
        ):
            got = self.judge(named, b"backend", *lines, b"Origin: " + origin, hop=BEHIND)
            self.assertEqual(verdict, got, (lines, origin))


class MarkedTests(GuardTestCase):
    """Without an Origin the browser's mark counts (Fetch Metadata)."""

    def test_marks(self) -> None:
        """Another site's request is refused, unless somebody followed a link."""
        for method, site, mode, verdict in (
            (b"POST", b"cross-site", b"no-cors", REFUSED),
            (b"GET", b"cross-site", b"no-cors", REFUSED),
            (b"GET", b"same-site", b"no-cors", REFUSED),
            (b"GET", b"cross-site", b"navigate", OPEN),
            (b"GET", b"same-site", b"navigate", OPEN),
            (b"POST", b"cross-site", b"navigate", REFUSED),
            (b"HEAD", b"cross-site", b"navigate", REFUSED),
            (b"GET", b"cross-site", b"websocket", REFUSED),
            (b"GET", b"cross-site", b"cors", REFUSED),
            (b"GET", b"same-origin", b"no-cors", OPEN),
            (b"GET", b"none", b"navigate", OPEN),
            (b"GET", b"Cross-Site", b"no-cors", REFUSED),
            (b"GET", b"cross-site, cross-site", b"no-cors", REFUSED),
            (b"GET", b"something-new", b"no-cors", REFUSED),
            (b"GET", b"", b"no-cors", REFUSED),
            (b"POST", b"none", b"no-cors", OPEN),
        ):
            lines = (b"Sec-Fetch-Site: " + site, b"Sec-Fetch-Mode: " + mode)
            got = self.judge(DEFAULT, HERE, *lines, method=method)
            self.assertEqual(verdict, got, (method, site, mode))

    def test_plain_navigation(self) -> None:
        """Of a whole window, not of a frame; and not before anybody follows the link."""
        link = (b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Mode: navigate")
        typed = (b"Sec-Fetch-Site: none", b"Sec-Fetch-Mode: navigate")
        own = (b"Sec-Fetch-Site: same-origin", b"Sec-Fetch-Mode: navigate")
        early = b"Sec-Purpose: prefetch;prerender"
        for lines, verdict in (
            ((*link, b"Sec-Fetch-Dest: document"), OPEN),
            ((*link, b"Sec-Fetch-Dest: iframe"), REFUSED),
            ((*link, b"Sec-Fetch-Dest: embed"), REFUSED),
            ((*link, b"Sec-Fetch-Dest: document", b"Sec-Fetch-Dest: document"), REFUSED),
            ((*own, b"Sec-Fetch-Dest: iframe"), OPEN),
            ((*link, early), REFUSED),
            ((*typed, early), REFUSED),
            ((*own, early), OPEN),
            ((early,), REFUSED),
            ((b"Sec-Fetch-Mode: cors",), OPEN),
        ):
            self.assertEqual(verdict, self.judge(DEFAULT, HERE, *lines, method=b"GET"), lines)

    def test_mark_alone(self) -> None:
        """Without a mode, or with two, it is no navigation."""
        mark = b"Sec-Fetch-Site: cross-site"
        for modes in ((), (b"Sec-Fetch-Mode: navigate", b"Sec-Fetch-Mode: cors")):
            self.assertEqual(REFUSED, self.judge(DEFAULT, HERE, mark, *modes, method=b"GET"))
        twice = (b"Sec-Fetch-Site: none", mark)
        self.assertEqual(REFUSED, self.judge(DEFAULT, HERE, *twice))

    def test_referer_proves_nothing(self) -> None:
        """A page that may shows an image of one that may not, which redirects: the browser says
        the page's Referer all the way.
        """
        named = guard(origins=("https://chat.example.com",))
        for page in (b"https://chat.example.com/", b"http://localhost:3000/"):
            for site in (b"cross-site", b"same-site"):
                lines = (b"Sec-Fetch-Site: " + site, b"Referer: " + page)
                self.assertEqual(REFUSED, self.judge(named, HERE, *lines, method=b"GET"), lines)

    def test_origin_outranks_the_mark(self) -> None:
        """A developer's own front end on another port is another site's page, and may."""
        lines = (b"Origin: http://127.0.0.1:3000", b"Sec-Fetch-Site: cross-site")
        self.assertEqual(OPEN, self.judge(DEFAULT, HERE, *lines))

    def test_no_browser(self) -> None:
        """Who says nothing of a page passes."""
        self.assertEqual(OPEN, self.judge(DEFAULT, HERE, b"User-Agent: curl/8"))
