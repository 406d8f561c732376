"""The board at the admin site: who sees it, who may stop what it shows, and what it is told."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.address import IPv4Address, UNIXAddress

from pyproxy.admin.feed import INTERVAL, MOST_WATCHERS, SILENCE
from pyproxy.life.desk import Document
from pyproxy.observe.board_rows import MOVING
from pyproxy.observe.hour import Hour
from pyproxy.observe.tracing import Tracers
from tests.admin.kit import AdminTestCase, Connection
from tests.demo.kit import Answer, read_answer

TOKEN = b"a-token-that-nobody-guesses"
ELSEWHERE = IPv4Address("TCP", "192.0.2.1", 9000)
EVENTS = b"GET /api/board/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
PAGE = ("/", "/board.js", "/board.css", "/board.svg", "/login.js")
JSON = "Content-Type: application/json"


class Desk:
    """A board of which a test says what stands there.

    Attributes: rows that are open; stopped, what was to be ended; looks, how often somebody has
        looked; quiet, nothing has changed for those who have looked; tracers, who follow exchanges.
    """

    def __init__(self) -> None:
        self.rows: list[Document] = [row(4)]
        self.stopped: list[object] = []
        self.looks = 0
        self.quiet = False
        self.tracers: Tracers | None = None

    def look(self, seen: tuple[int, int] | None) -> Document:
        """Tell what has changed."""
        self.looks += 1
        old = self.quiet and seen is not None
        count = len(self.rows)
        return {
            "version": self.looks,
            "reset": not old,
            "rows": [] if old else self.rows,
            "moved": {},
            "gone": [],
            "ended": [],
            "epoch": 7,
            "counts": {"open": count, "hidden": 0, "routes": {"/": count}},
            "hour": None if old else Hour().shown(0.0),
        }

    def stop(self, epoch: int, number: int) -> int:
        """Take note."""
        self.stopped.append((epoch, number))
        return 1

    def stop_all(self, route: str) -> int:
        """Take note."""
        self.stopped.append(route)
        return 2


def row(number: int) -> Document:
    """Return a row."""
    return {"number": number, "route": "/", "began": 0.0, **dict.fromkeys(MOVING)}


class BoardTestCase(AdminTestCase):
    """A case with a board of one request that is open."""

    def setUp(self) -> None:
        """Open it."""
        super().setUp()
        self.desk = self.served.board = Desk()

    def watch(self, connection: Connection | None = None) -> Connection:
        """Open the stream of events."""
        connection = connection or self.connect()
        connection.send(EVENTS)
        return connection

    def told(self, connection: Connection) -> list[Any]:
        """Return what a reader has been told, and forget it."""
        octets = connection.transport.value()
        connection.transport.clear()
        lines = octets.split(b"\n")
        return [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]

    def stop(self, said: object, *lines: str, **more: Any) -> Answer:
        """Ask for an end."""
        content = json.dumps(said).encode()
        fields = lines or (JSON,)
        return self.ask("POST", "/api/board/stop", *fields, content=content, **more)


class PageTests(BoardTestCase):
    """The page and what it is made of."""

    def test_policy(self) -> None:
        """Nothing of it is inline or from elsewhere, no page frames it, no type is guessed."""
        for path in (*PAGE, "/x", "/api/routes"):
            with self.subTest(path=path):
                answer = self.ask("GET", path)
                (policy,) = answer.fields_of("Content-Security-Policy")
                self.assertIn("default-src 'none'", policy)
                self.assertIn("script-src 'self'", policy)
                self.assertIn("frame-ancestors 'none'", policy)
                self.assertNotIn("unsafe", policy)
                self.assertEqual(["nosniff"], answer.fields_of("X-Content-Type-Options"))
                self.assertEqual(["no-referrer"], answer.fields_of("Referrer-Policy"))

    def test_files(self) -> None:
        """Each file has its type, and the page has no script and no style in itself."""
        for path, kind in (
            ("/", "text/html; charset=utf-8"),
            ("/board.js", "text/javascript; charset=utf-8"),
            ("/board.css", "text/css; charset=utf-8"),
            ("/board.svg", "image/svg+xml"),
        ):
            answer = self.ask("GET", path)
            self.assertEqual((200, kind), (answer.status, answer.field("Content-Type")))
        page = self.ask("GET", "/").content
        for inline in (b"<style", b" style=", b" onclick=", b"http://", b"https://"):
            self.assertNotIn(inline, page)

    def test_nothing_becomes_html(self) -> None:
        """The script never takes a text for HTML or for a script."""
        script = self.ask("GET", "/board.js").content
        for way in (b"innerHTML", b"outerHTML", b"insertAdjacentHTML", b"document.write", b"eval("):
            self.assertNotIn(way, script)


class PlaceTests(BoardTestCase):
    """Without a token the board is for this machine alone."""

    def test_beyond_loopback(self) -> None:
        """Who comes from elsewhere sees nothing of it and stops nothing; all else is there."""
        for path in ("/", "/api/board/events"):
            answer = self.connect(ELSEWHERE).ask("GET", path, host="192.0.2.1:9000")
            self.assertEqual(403, answer.status)
            self.assertIn("admin_token", answer.json["detail"])
        stopping = self.connect(ELSEWHERE).ask(
            "POST", "/api/board/stop", JSON, host="192.0.2.1:9000", content=b'{"route": "/"}'
        )
        self.assertEqual((403, []), (stopping.status, self.desk.stopped))
        for path in ("/healthz", "/readyz", "/api/routes"):
            answer = self.connect(ELSEWHERE).ask("GET", path, host="192.0.2.1:9000")
            self.assertEqual(200, answer.status)

    def test_here(self) -> None:
        """Loopback and a Unix socket are this machine."""
        for address in (IPv4Address("TCP", "127.0.0.2", 9000), UNIXAddress("/run/a")):
            self.assertEqual(200, self.connect(address).ask("GET", "/").status)


class TokenTests(BoardTestCase):
    """With a token nobody sees anything who has not shown it, but for health and readiness."""

    def setUp(self) -> None:
        """Have a token."""
        super().setUp()
        self.condition.config = attrs.evolve(self.condition.config, admin_token=TOKEN)

    def cookie(self, answer: Answer) -> str:
        """Return what a browser sends back."""
        (cookie,) = answer.fields_of("Set-Cookie")
        return f"Cookie: {cookie.partition(';')[0]}"

    def test_without(self) -> None:
        """Whatever is asked for without it, or with another, says how to show it."""
        for lines in ((), ("Authorization: Bearer other",), ("Cookie: pyproxy-admin=other",)):
            for path in ("/api", "/api/routes", "/board.js", "/api/board/events", "/metrics"):
                with self.subTest(path=path, lines=lines):
                    answer = self.ask("GET", path, *lines)
                    self.assertEqual(401, answer.status)
                    self.assertEqual("Bearer", answer.field("WWW-Authenticate"))
            self.assertEqual(401, self.stop({"route": "/"}, JSON, *lines).status)
        self.assertEqual([], self.desk.stopped)

    def test_health(self) -> None:
        """Probes need none; they are told no more than strangers are."""
        self.condition.failures = ("a.toml:3: a secret place",)
        self.assertEqual(200, self.ask("GET", "/healthz").status)
        self.assertEqual({"status": "serving"}, self.ask("GET", "/readyz").json)

    def test_bearer(self) -> None:
        """Programs show it with every request."""
        answer = self.ask("GET", "/api/routes", f"Authorization: Bearer {TOKEN.decode()}")
        self.assertEqual(200, answer.status)

    def test_query(self) -> None:
        """A browser shows it once, and has a cookie that no script and no other site uses."""
        answer = self.ask("GET", f"/?token={TOKEN.decode()}")
        self.assertEqual((303, "./"), (answer.status, answer.field("Location")))
        (cookie,) = answer.fields_of("Set-Cookie")
        self.assertIn("HttpOnly", cookie)
        self.assertIn("SameSite=strict", cookie)
        self.assertNotIn(TOKEN.decode(), cookie)
        for path in ("/", "/board.js", "/api/routes"):
            self.assertEqual(200, self.ask("GET", path, self.cookie(answer)).status)

    def test_form(self) -> None:
        """Or it types it into the form that stands in the page's place."""
        page = self.ask("GET", "/?token=wrong")
        self.assertEqual(401, page.status)
        self.assertIn(b'type="password"', page.content)
        wrong = self.ask("POST", "/api/login", JSON, content=b'{"token": "wrong"}')
        self.assertEqual((403, []), (wrong.status, wrong.fields_of("Set-Cookie")))
        right = self.ask("POST", "/api/login", JSON, content=b'{"token": "%b"}' % TOKEN)
        self.assertEqual(200, right.status)
        self.assertEqual(200, self.ask("GET", "/", self.cookie(right)).status)

    def test_other_token(self) -> None:
        """Another token, after a reload, takes all cookies back."""
        cookie = self.cookie(self.ask("GET", f"/?token={TOKEN.decode()}"))
        other = b"another-token-that-nobody-has"
        self.condition.config = attrs.evolve(self.condition.config, admin_token=other)
        self.assertEqual(401, self.ask("GET", "/", cookie).status)

    def test_from_elsewhere(self) -> None:
        """With it the board is there for other machines too."""
        bearer = f"Authorization: Bearer {TOKEN.decode()}"
        answer = self.connect(ELSEWHERE).ask("GET", "/", bearer, host="192.0.2.1:9000")
        self.assertEqual(200, answer.status)

    def test_socket(self) -> None:
        """A Unix socket is guarded by its permissions."""
        self.assertEqual(200, self.connect(UNIXAddress("/run/a")).ask("GET", "/").status)


class StopTests(BoardTestCase):
    """The stop button."""

    def setUp(self) -> None:
        """Have somebody watch."""
        super().setUp()
        self.watch()

    def test_one(self) -> None:
        """A row's exchange is ended, in the life of its process in which it was seen."""
        answer = self.stop({"id": "1-4"})
        self.assertEqual((200, 1), (answer.status, answer.json["stopped"]))
        self.assertEqual([(7, 4)], self.desk.stopped)

    def test_route(self) -> None:
        """All exchanges of a route are ended."""
        self.assertEqual(2, self.stop({"route": "/"}).json["stopped"])
        self.assertEqual(["/"], self.desk.stopped)

    def test_unknown(self) -> None:
        """What no row shows is not there."""
        for name in ("1-5", "2-4", "x", "1-4-4", "é"):
            self.assertEqual(404, self.stop({"id": name}).status)
        self.assertEqual([], self.desk.stopped)

    def test_nonsense(self) -> None:
        """What says nothing is refused, and so is what says too much."""
        twice = {"id": "1-4", "route": "/"}
        nonsense: tuple[object, ...] = (None, [], {}, {"id": 4}, {"id": ""}, twice, {"x": "y"})
        for said in nonsense:
            self.assertEqual(400, self.stop(said).status)
        self.assertEqual(400, self.stop({"route": "x" * 1000}).status)
        self.assertEqual(405, self.ask("GET", "/api/board/stop").status)
        answer = self.ask("POST", "/api/board/stop", JSON, content=b"{")
        self.assertEqual((400, []), (answer.status, self.desk.stopped))

    def test_another_site(self) -> None:
        """No page of another site presses it, by whatever way, and no name of its own."""
        for lines in (
            ("Origin: http://evil.example",),
            ("Origin: null",),
            ("Sec-Fetch-Site: cross-site",),
            ("Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"),
        ):
            with self.subTest(lines=lines):
                self.assertEqual(403, self.stop({"route": "/"}, JSON, *lines).status)
        self.assertEqual(421, self.stop({"route": "/"}, host="evil.example").status)
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            self.assertEqual(415, self.stop({"route": "/"}, f"Content-Type: {kind}").status)
        self.assertEqual([], self.desk.stopped)

    def test_own_page(self) -> None:
        """The board's own page does."""
        lines = ("Origin: http://127.0.0.1:9000", "Sec-Fetch-Site: same-origin")
        self.assertEqual(200, self.stop({"route": "/"}, JSON, *lines).status)


class EventsTests(BoardTestCase):
    """The stream that feeds the page."""

    def test_first(self) -> None:
        """A reader is told all at once, as an event stream."""
        connection = self.watch()
        head = read_answer(connection.transport.value(), "GET")
        self.assertEqual("text/event-stream; charset=utf-8", head.field("Content-Type"))
        (news,) = self.told(connection)
        self.assertEqual(["1-4"], [row["id"] for row in news["rows"]])
        self.assertEqual(1, news["counts"]["open"])
        self.assertEqual("serving", news["counts"]["phase"])

    def test_pace(self) -> None:
        """He is told ten times a second at most, and asked for nobody when he has left."""
        connection = self.watch()
        for _ in range(20):
            self.clock.advance(INTERVAL / 2)
        self.assertLessEqual(self.desk.looks, 11)
        connection.leave()
        looks = self.desk.looks
        self.clock.pump([INTERVAL] * 20)
        self.assertEqual(looks, self.desk.looks)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_slow_reader(self) -> None:
        """Who takes nothing is told nothing, and then once what has changed meanwhile."""
        connection = self.watch()
        self.told(connection)
        (request,) = connection.requests
        producer: Any = connection.transport.producer
        producer.pauseProducing()
        for number in range(5, 10):
            self.desk.rows = [row(number)]
            self.clock.advance(INTERVAL)
        self.assertEqual([], self.told(connection))
        producer.resumeProducing()
        self.clock.advance(INTERVAL)
        (news,) = self.told(connection)
        self.assertEqual(["1-9"], [row["id"] for row in news["rows"]])
        self.assertIn("1-4", news["gone"])
        self.assertFalse(request.finished)

    def test_silence(self) -> None:
        """Where nothing changes hardly anything is said."""
        self.desk.quiet = True
        connection = self.watch()
        self.told(connection)
        self.clock.pump([INTERVAL] * int(SILENCE / INTERVAL - 5))
        self.assertEqual([], self.told(connection))
        self.clock.pump([INTERVAL] * 10)
        self.assertEqual(1, len(self.told(connection)))

    def test_most(self) -> None:
        """So many readers at one time; others are told to come later."""
        readers = [self.watch() for _ in range(MOST_WATCHERS)]
        late = self.ask("GET", "/api/board/events")
        self.assertEqual(503, late.status)
        readers[0].leave()
        self.assertEqual(1, len(self.told(self.watch())))

    def test_another_site(self) -> None:
        """No page of another site reads it, nor by a name of its own."""
        for lines, host, status in (
            (("Origin: http://evil.example",), "127.0.0.1:9000", 403),
            ((), "evil.example", 421),
        ):
            answer = self.ask("GET", "/api/board/events", *lines, host=host)
            self.assertEqual((status, 0), (answer.status, self.desk.looks))

    def test_end_of_the_site(self) -> None:
        """It ends with the site."""
        connection = self.watch()
        self.site.doStart()
        self.site.doStop()
        self.assertTrue(connection.transport.value().endswith(b"0\r\n\r\n"))
        looks = self.desk.looks
        self.clock.pump([INTERVAL] * 20)
        self.assertEqual(looks, self.desk.looks)
