"""The admin site: what is where, and what it says."""

from __future__ import annotations

import attrs
from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.logger import capturedLogs

from pyproxy.admin.pages import Page, in_json
from pyproxy.life.condition import Phase
from tests.admin.kit import AdminTestCase

PATHS = ("/api", "/healthz", "/readyz", "/api/config", "/api/routes")

CACHE_PATHS = ("/api/cache", "/api/cache/entries", "/api/cache/purge")
OTHER_PATHS = (
    "/",
    "/board.css",
    "/board.js",
    "/board.svg",
    "/login.js",
    "/api/board/events",
    "/api/board/stop",
    "/api/trace",
    "/api/login",
    *CACHE_PATHS,
    "/metrics",
)


class HealthTests(AdminTestCase):
    """``/healthz``."""

    def test_alive(self) -> None:
        """Who can answer is alive, whatever it does, and says so."""
        for phase in Phase:
            with self.subTest(phase=phase):
                self.condition.phase = phase
                answer = self.ask("GET", "/healthz")
                self.assertEqual(200, answer.status)
                self.assertEqual({"status": "alive"}, answer.json)


class ReadinessTests(AdminTestCase):
    """``/readyz``."""

    def test_serving(self) -> None:
        """It is 200 while the proxy serves, and says how it is."""
        self.served.open = 12
        self.condition.generation = 3
        self.condition.taken_at = 1_700_000_000.9
        answer = self.ask("GET", "/readyz")
        self.assertEqual(200, answer.status)
        self.assertEqual(
            {
                "status": "serving",
                "generation": 3,
                "taken_at": "2023-11-14T22:13:20Z",
                "streams": 12,
                "failures": [],
            },
            answer.json,
        )

    def test_not_serving(self) -> None:
        """It is 503 before the proxy serves and while it drains, and says which."""
        for phase, status in (
            (Phase.STARTING, "starting"),
            (Phase.LEAVING, "draining, still accepting connections"),
            (Phase.DRAINING, "draining"),
        ):
            with self.subTest(phase=phase):
                self.condition.phase = phase
                answer = self.ask("GET", "/readyz")
                self.assertEqual((503, status), (answer.status, answer.json["status"]))

    def test_failed_reload(self) -> None:
        """What was wrong with the last reload is shown; it is 503 where the file asks for that."""
        self.condition.failures = ("a.toml:3: routes[0].path: it has to begin with `/`", "bé")
        for unready, status in ((False, 200), (True, 503)):
            with self.subTest(unready=unready):
                self.condition.config = attrs.evolve(
                    self.condition.config, unready_on_failed_reload=unready
                )
                answer = self.ask("GET", "/readyz")
                self.assertEqual(status, answer.status)
                self.assertEqual("serving", answer.json["status"])
                self.assertEqual(list(self.condition.failures), answer.json["failures"])

    def test_strangers(self) -> None:
        """Whoever asks by a name of his own, as probes may, is told no more than what it is."""
        self.condition.failures = ("a.toml:3: routes[0].path: it has to begin with `/`",)
        answer = self.ask("GET", "/readyz", host="evil.example")
        self.assertEqual((200, {"status": "serving"}), (answer.status, answer.json))
        self.condition.phase = Phase.DRAINING
        answer = self.ask("GET", "/readyz", host="evil.example")
        self.assertEqual((503, {"status": "draining"}), (answer.status, answer.json))


class ConfigurationTests(AdminTestCase):
    """``/api/config``."""

    def test_config(self) -> None:
        """The configuration is the text of TOML in use, also after a reload."""
        for text in ("workers = 1\n", '[upstreams.é]\ntarget = "http://a/"\n'):
            with self.subTest(text=text):
                self.condition.printed = text
                answer = self.ask("GET", "/api/config")
                self.assertEqual(200, answer.status)
                self.assertEqual("application/toml; charset=utf-8", answer.field("Content-Type"))
                self.assertEqual(text, answer.content.decode("utf-8"))

    def test_routes(self) -> None:
        """The routes are those in use, also after a reload."""
        self.assertEqual([True], ["target" in one for one in self.ask("GET", "/api/routes").json])
        config = self.condition.config
        self.condition.config = attrs.evolve(config, routes=config.routes * 2)
        self.assertEqual(2, len(self.ask("GET", "/api/routes").json))


class MapTests(AdminTestCase):
    """What is where."""

    def test_index(self) -> None:
        """``/api`` lists what there is."""
        self.assertEqual(sorted((*PATHS, *OTHER_PATHS)), self.ask("GET", "/api").json)

    def test_mounted(self) -> None:
        """What is mounted later is found, listed, and kept from foreign pages."""
        self.site.root.putChild(b"figures", Page(lambda: in_json(1)))
        self.site.api.putChild(b"streams", Page(lambda: in_json(2)))
        for path, value in (("/figures", 1), ("/api/streams", 2)):
            with self.subTest(path=path):
                self.assertEqual(value, self.ask("GET", path).json)
                self.assertIn(path, self.ask("GET", "/api").json)
                self.assertEqual(421, self.ask("GET", path, host="evil.example").status)

    def test_query(self) -> None:
        """A query changes nothing."""
        self.assertEqual(200, self.ask("GET", "/healthz?verbose").status)

    def test_nothing_is_elsewhere(self) -> None:
        """A path that leads nowhere is 404, whatever the method."""
        for path in (
            "/x",
            "/api/",
            "/api/x",
            "/api/config/",
            "/api%2Fconfig",
            "/healthz/",
            "/healthz/x",
            "//healthz",
            "//",
            "http://127.0.0.1:9000/healthz",
        ):
            for method in ("GET", "HEAD", "POST"):
                with self.subTest(path=path, method=method):
                    answer = self.ask(method, path)
                    self.assertEqual(404, answer.status)
                    self.assertEqual("application/problem+json", answer.field("Content-Type"))

    def test_other_methods(self) -> None:
        """A page can be read only; Allow says by which methods."""
        for path in PATHS:
            for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"):
                with self.subTest(path=path, method=method):
                    answer = self.ask(method, path)
                    self.assertEqual(405, answer.status)
                    self.assertEqual("GET, HEAD", answer.field("Allow"))
                    self.assertEqual("Method Not Allowed", answer.json["title"])


class AnswerTests(AdminTestCase):
    """What all answers have in common."""

    def test_json(self) -> None:
        """JSON has a line end, and says that it is JSON."""
        for path in PATHS:
            if path != "/api/config":
                with self.subTest(path=path):
                    answer = self.ask("GET", path)
                    self.assertEqual("application/json", answer.field("Content-Type"))
                    self.assertTrue(answer.content.endswith(b"\n"))

    def test_fields(self) -> None:
        """No cache keeps an answer, no browser guesses its type, and none tells versions."""
        for path, host in (*((path, "[::1]") for path in PATHS), ("/x", "[::1]"), ("/", "a.test")):
            with self.subTest(path=path, host=host):
                answer = self.ask("GET", path, host=host)
                self.assertEqual(["no-store"], answer.fields_of("Cache-Control"))
                self.assertEqual(["nosniff"], answer.fields_of("X-Content-Type-Options"))
                self.assertIsNone(answer.field("Server"))

    def test_head(self) -> None:
        """HEAD gets the fields that GET gets, and nothing behind them."""
        for path in (*PATHS, "/x"):
            with self.subTest(path=path):
                got, connection = self.ask("GET", path), self.connect()
                head = connection.ask("HEAD", path)
                self.assertEqual((got.status, got.fields), (head.status, head.fields))
                self.assertEqual(str(len(got.content)), head.field("Content-Length"))
                self.assertTrue(connection.transport.value().endswith(b"\r\n\r\n"))

    def test_connection_persists(self) -> None:
        """A connection serves one request after the other, refusals too."""
        connection = self.connect()
        for target, status in (("/x", 404), ("/api/config", 200), ("/api", 200)):
            with self.subTest(target=target):
                self.assertEqual(status, connection.ask("GET", target).status)
                self.assertFalse(connection.transport.disconnecting)

    def test_content_is_dropped(self) -> None:
        """The content of a request, of any length, is read past and not kept."""
        for framing, content in (
            (b"Content-Length: 300000", bytes(150_000)),
            (b"Transfer-Encoding: chunked", b"249f0\r\n" + bytes(150_000) + b"\r\n"),
        ):
            with self.subTest(framing=framing):
                connection = self.connect()
                connection.send(b"POST / HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n\r\n")
                connection.send(content)
                (request,) = connection.requests
                self.assertEqual(b"", request.content.getvalue())
                connection.send(bytes(150_000) if b"Length" in framing else b"0\r\n\r\n")
                self.assertTrue(connection.transport.value().startswith(b"HTTP/1.1 405 "))
                self.assertEqual(200, connection.ask("GET", "/").status)

    def test_nothing_is_logged(self) -> None:
        """Neither a request nor the start of the site writes a line, or sets a timer."""
        with capturedLogs() as events:
            self.site.doStart()
            self.assertEqual([], self.clock.getDelayedCalls())
            for method in ("GET", "HEAD", "POST"):
                self.ask(method, "/")
            self.site.doStop()
        self.assertEqual([], events)

    def test_alpn(self) -> None:
        """Over TLS it offers what it speaks, whatever twisted.web could speak."""
        factory = IProtocolNegotiationFactory(self.site)
        self.assertEqual([b"http/1.1"], factory.acceptableProtocols())
