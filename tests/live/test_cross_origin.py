"""With an injected credential no foreign web page is served: each row over a raw socket.

What a browser really sends is seen in ``test_browser``.
"""

from __future__ import annotations

from tests.live.kit import LiveTestCase, Response
from tests.live.websocket import HANDSHAKE as UPGRADE
from tests.live.websocket import switching

EVIL = b"Origin: https://evil.example"
CROSS = b"Sec-Fetch-Site: cross-site"
SIMPLE_POST = (
    b"POST /v1/chat/completions HTTP/1.1",
    b"Content-Type: text/plain",
    b"Content-Length: 2",
)
HANDSHAKE = (b"GET /v1/realtime HTTP/1.1", *UPGRADE)


class CrossOriginTestCase(LiveTestCase):
    """A case that asks as a page's browser does."""

    environment = {"LIVE_KEY": "sk-the-operators"}

    @property
    def here(self) -> bytes:
        """The proxy as most ask for it."""
        return b"127.0.0.1:%d" % self.proxy.port

    def send(self, *lines: bytes, host: bytes | None = None) -> Response:
        """Send a request of some lines; content follows a Content-Length."""
        body = b"{}" if any(line.startswith(b"Content-Length") for line in lines) else b""
        return self.ask(*lines, body=body, host=self.here if host is None else host)

    def assert_refused(self, status: int, remedy: bytes, *lines: bytes, **host: bytes) -> None:
        """Check that a request is refused with a remedy, and the upstream hears nothing of it."""
        response = self.send(*lines, **host)
        self.assertEqual((status, True), (response.status, remedy in response.body), lines)
        self.assertEqual([b"pyproxy; error=http_request_denied"], self.proxy_status(response))
        self.assertEqual([], self.upstream.requests, lines)

    def proxy_status(self, response: Response) -> list[bytes]:
        """Return Proxy-Status without its details."""
        return [one.partition(b"; details")[0] for one in response.head.values(b"proxy-status")]

    def assert_served(self, *lines: bytes, **host: bytes) -> None:
        """Check that a request arrives, with the credential."""
        self.upstream.forget()
        response = self.send(*lines, **host)
        self.assertEqual(200, response.status, lines)
        sent = self.upstream.request.value(b"authorization")
        self.assertEqual(b"Bearer sk-the-operators", sent)
        self.upstream.forget()


class DefaultTests(CrossOriginTestCase):
    """With nothing but a credential."""

    proxy_arguments = ("--header", "Authorization: Bearer ${{LIVE_KEY}}")

    def test_foreign_pages(self) -> None:
        """403 with the remedy: by Origin, and without one by the browser's mark."""
        for lines in (
            (*SIMPLE_POST, EVIL, CROSS),
            (*SIMPLE_POST, EVIL),
            (*SIMPLE_POST, b"Origin: null"),
            (*SIMPLE_POST, CROSS, b"Sec-Fetch-Mode: no-cors"),
            (*SIMPLE_POST, CROSS, b"Sec-Fetch-Mode: navigate"),
            (*SIMPLE_POST, b"Origin: http://localhost.evil.example"),
            (*SIMPLE_POST, b"Origin: http://localhost:3000", EVIL),
            (b"GET /image HTTP/1.1", CROSS, b"Sec-Fetch-Mode: no-cors"),
            (b"GET /image HTTP/1.1", b"Sec-Fetch-Site: same-site", b"Sec-Fetch-Mode: no-cors"),
            (b"OPTIONS /v1/models HTTP/1.1", EVIL, b"Access-Control-Request-Method: POST"),
            (*HANDSHAKE, EVIL),
        ):
            self.assert_refused(403, b"--allow-origin", *lines)

    def test_foreign_names(self) -> None:
        """421 with the remedy, whatever else is said."""
        for host in (
            b"evil.example",
            b"evil.example:8000",
            b"127.0.0.1.evil.example",
            b"192.0.2.1",
        ):
            for lines in (
                (b"GET /v1/models HTTP/1.1",),
                (b"GET /v1/models HTTP/1.1", b"X-Forwarded-Host: localhost"),
                (b"GET /v1/models HTTP/1.1", b"Origin: http://" + host),
                (b"GET /v1/models HTTP/1.1", b"Sec-Fetch-Site: same-origin"),
                (b"GET http://" + host + b"/v1/models HTTP/1.1",),
                SIMPLE_POST,
                HANDSHAKE,
            ):
                self.assert_refused(421, b"--allow-host", *lines, host=host)

    def test_served(self) -> None:
        """Clients that are no browsers, own pages, a developer's front end, a followed link."""
        port = b":%d" % self.proxy.port
        for host in (self.here, b"localhost" + port, b"[::1]" + port, b"LOCALHOST"):
            self.assert_served(b"GET /v1/models HTTP/1.1", host=host)
        own = b"Origin: http://" + self.here
        for lines in (
            SIMPLE_POST,
            (*SIMPLE_POST, own, b"Sec-Fetch-Site: same-origin"),
            (*SIMPLE_POST, b"Origin: http://localhost:3000", b"Sec-Fetch-Site: cross-site"),
            (*SIMPLE_POST, b"Origin: https://[::1]:5173"),
            (b"GET /chat HTTP/1.1", CROSS, b"Sec-Fetch-Mode: navigate"),
            (b"GET /chat HTTP/1.1", b"Sec-Fetch-Site: none", b"Sec-Fetch-Mode: navigate"),
        ):
            self.assert_served(*lines)

    def test_http_1_0_without_host(self) -> None:
        """A check of a load balancer's names no host; no browser does that."""
        response = self.proxy.ask(b"GET /health HTTP/1.0\r\n\r\n")
        self.assertEqual(200, response.status)

    def test_the_connection_goes_on(self) -> None:
        """A refusal is an answer like any other, when nothing of the request is still to come."""
        with self.proxy.client() as client:
            asked = b"GET / HTTP/1.1\r\nHost: %b\r\n" % self.here
            client.send(asked + EVIL + b"\r\n\r\n")
            self.assertEqual(403, client.read_response().status)
            client.send(asked + b"\r\n")
            self.assertEqual(200, client.read_response().status)

    def test_websocket_of_an_own_page(self) -> None:
        """A handshake of a developer's own page reaches the upstream."""
        self.upstream.script = lambda wire: wire.send(switching(wire.read_head()))
        with self.proxy.client() as client:
            lines = [*HANDSHAKE, b"Host: " + self.here, b"Origin: http://localhost:5173", b"", b""]
            client.send(b"\r\n".join(lines))
            self.assertEqual(101, client.read_head().status)


class AllowedTests(CrossOriginTestCase):
    """With what the operator allows."""

    proxy_arguments = (
        *("--header", "Authorization: Bearer ${{LIVE_KEY}}"),
        *("--allow-host", "chat.example.com", "--allow-host", "*.apps.example"),
        *("--allow-origin", "https://app.example.com"),
        *("--trust-proxy", "127.0.0.1/32"),
    )

    def test_hosts(self) -> None:
        """The named ones, and none that only resemble them."""
        for host in (b"chat.example.com", b"CHAT.example.com:8443", b"a.apps.example"):
            self.assert_served(b"GET / HTTP/1.1", host=host)
        for host in (b"evilchat.example.com", b"apps.example", b"example.com"):
            self.assert_refused(421, b"--allow-host", b"GET / HTTP/1.1", host=host)

    def test_origins(self) -> None:
        """The named one, compared whole."""
        self.assert_served(*SIMPLE_POST, b"Origin: https://app.example.com", CROSS)
        for origin in (
            b"http://app.example.com",
            b"https://app.example.com:8443",
            b"https://app.example.com.evil.example",
            b"https://example.com",
        ):
            self.assert_refused(403, b"--allow-origin", *SIMPLE_POST, b"Origin: " + origin)

    def test_behind_a_trusted_proxy(self) -> None:
        """What it says of the client's request is judged, and not its own Host."""
        told = (b"X-Forwarded-Host: chat.example.com", b"X-Forwarded-Proto: https")
        backend = b"backend.internal"
        self.assert_served(*SIMPLE_POST, *told, host=backend)
        own = b"Origin: https://chat.example.com"
        self.assert_served(*SIMPLE_POST, *told, own, host=backend)
        self.assert_refused(
            421, b"--allow-host", *SIMPLE_POST, b"X-Forwarded-Host: evil.example", host=backend
        )
        self.assert_refused(403, b"--allow-origin", *SIMPLE_POST, *told, EVIL, host=backend)


class NoCredentialTests(LiveTestCase):
    """Without an injected credential nothing of this is asked."""

    proxy_arguments = ("--header", "X-Plain: 1")

    def test_everything_passes(self) -> None:
        """Every name, every page."""
        for lines in ((*SIMPLE_POST[:2], EVIL, CROSS), HANDSHAKE[:1], (*SIMPLE_POST[:1], EVIL)):
            self.assertEqual(200, self.ask(*lines, host=b"evil.example").status)
