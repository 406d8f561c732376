"""``/metrics`` at the admin site."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher

from pyproxy.admin.metrics import OCTETS_A_TURN, WRITE_LIMIT
from pyproxy.admin.site import AdminSite
from pyproxy.life.desk import Document, NobodyAnswers
from pyproxy.life.measuring import Measuring
from pyproxy.observe.metrics import Metrics
from tests.admin.kit import AdminTestCase, Connection, Served
from tests.demo.kit import Answer, read_answer
from tests.observe.ended import of_model, over
from tests.observe.exposed import Exposed, read

OPEN_METRICS = "Accept: application/openmetrics-text"
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
MOST_TURNS = 1000

TURN = 1e-6
"""Seconds that a turn of the reactor takes here."""


class TurningClock(Clock):
    """A clock on which what is called later is called in another turn, as by a reactor."""

    def callLater(self, delay: float, callable: Any, *args: Any, **kw: Any) -> Any:  # noqa: A002
        """Call in the next turn, or later."""
        return super().callLater(max(delay, TURN), callable, *args, **kw)


@attrs.define
class Asked(Served):
    """Answers what is asked of its metrics when the test says so.

    Attributes: asked, what is to be answered.
    """

    asked: list[Deferred[Document | None]] = attrs.Factory(list)

    def ask_metrics(self, asked: Measuring) -> Deferred[Document | None]:
        """Take note."""
        self.asked.append(Deferred())
        return self.asked[-1]


class MetricsTestCase(AdminTestCase):
    """A case with a site and what counts."""

    def setUp(self) -> None:
        """Count."""
        super().setUp()
        self.condition.config = attrs.evolve(self.condition.config, metrics=True)
        self.clock = TurningClock()
        self.site = AdminSite(self.condition, self.served, self.clock)
        self.metrics = self.served.metrics = Metrics.of(Clock())

    def turn(self, connection: Connection) -> None:
        """Let the reactor turn until all is written."""
        for _ in range(MOST_TURNS):
            if connection.transport.value().endswith(b"0\r\n\r\n"):
                return
            self.clock.advance(TURN)
        self.fail("it is never done")

    def scrape(self, *lines: str) -> Answer:
        """Ask, and let all be written."""
        connection = self.connect()
        head = "\r\n".join(["GET /metrics HTTP/1.1", "Host: localhost", *lines, "", ""])
        connection.send(head.encode("latin-1"))
        self.turn(connection)
        return read_answer(connection.transport.value(), "GET")

    def exposed(self) -> Exposed:
        """Return what is exposed."""
        answer = self.scrape()
        self.assertEqual((200, True), (answer.status, answer.complete))
        return read(answer.content.decode("utf-8"))


class PageTests(MetricsTestCase):
    """What is answered."""

    def test_text(self) -> None:
        """All that was counted, in Prometheus' text format."""
        self.metrics.record(of_model(route="/é"))
        answer = self.scrape()
        self.assertEqual("text/plain; version=0.0.4; charset=utf-8", answer.field("Content-Type"))
        found = read(answer.content.decode("utf-8"))
        self.assertEqual(11, found.value("pyproxy_tokens_total", gen_ai_token_type="output"))
        self.assertEqual(0, found.value("http_server_active_requests", http_route="/é"))

    def test_open_metrics(self) -> None:
        """OpenMetrics for who asks for it."""
        self.metrics.record(over())
        answer = self.scrape(OPEN_METRICS)
        self.assertTrue((answer.field("Content-Type") or "").startswith("application/openmetrics"))
        self.assertTrue(answer.content.endswith(b"# EOF\n"))
        read(answer.content.decode("utf-8"))

    def test_condition(self) -> None:
        """How the proxy is: its reloads, its build."""
        found = self.exposed()
        self.assertEqual(1, found.value("pyproxy_config_generation"))
        self.assertEqual(1, found.value("pyproxy_config_last_reload_successful"))
        self.assertEqual(0, found.value("pyproxy_config_reload_failures_total"))
        self.assertEqual(1, found.value("pyproxy_build_info"))
        self.assertEqual(0, found.value("pyproxy_silent_workers"))
        self.condition.failures, self.condition.refusals = ("a",), 3
        found = self.exposed()
        self.assertEqual(0, found.value("pyproxy_config_last_reload_successful"))
        self.assertEqual(3, found.value("pyproxy_config_reload_failures_total"))

    def test_open(self) -> None:
        """What is open now, by route."""
        opened = [over(route="/a"), over(route="/a"), over(route="/a", websocket=True)]
        self.metrics.opened = lambda: opened
        found = self.exposed()
        self.assertEqual(2, found.value("http_server_active_requests", http_route="/a"))
        self.assertEqual(1, found.value("pyproxy_websockets_open", http_route="/a"))

    def test_off(self) -> None:
        """Without ``metrics`` it is 404, and how there would be some."""
        self.condition.config = attrs.evolve(self.condition.config, metrics=False)
        answer = self.ask("GET", "/metrics")
        self.assertEqual(404, answer.status)
        self.assertIn("metrics = true", answer.json["detail"])

    def test_methods(self) -> None:
        """It can be read only; HEAD has the fields alone."""
        self.assertEqual("GET, HEAD", self.ask("POST", "/metrics").field("Allow"))
        head = self.ask("HEAD", "/metrics", OPEN_METRICS)
        self.assertEqual((200, b""), (head.status, head.content))

    def test_guarded(self) -> None:
        """No web page of another site reads it: it names routes and models."""
        self.assertEqual(421, self.ask("GET", "/metrics", host="pyproxy.example:9000").status)
        answer = self.ask("GET", "/metrics", "Origin: https://a.example")
        self.assertEqual(403, answer.status)


class SliceTests(MetricsTestCase):
    """It is written while streams go on."""

    def setUp(self) -> None:
        """Have much to write."""
        super().setUp()
        for number in range(200):
            self.metrics.record(of_model(route=f"/{number}"))

    def begun(self) -> Connection:
        """Return a connection on which a part is written."""
        connection = self.connect()
        connection.send(REQUEST)
        while not connection.transport.value():
            self.clock.advance(TURN)
        return connection

    def test_turns(self) -> None:
        """No turn of the reactor writes much."""
        connection = self.connect()
        connection.send(REQUEST)
        most = 0
        while not connection.transport.value().endswith(b"0\r\n\r\n"):
            before = len(connection.transport.value())
            self.clock.advance(TURN)
            most = max(most, len(connection.transport.value()) - before)
        self.assertLess(most, 2.5 * OCTETS_A_TURN)
        answer = read_answer(connection.transport.value(), "GET")
        self.assertGreater(len(answer.content), 20 * OCTETS_A_TURN)

    def test_backpressure(self) -> None:
        """A reader that takes nothing is not written to, and goes on when it takes more."""
        connection = self.begun()
        producer = connection.transport.producer
        assert producer is not None
        producer.pauseProducing()
        held = len(connection.transport.value())
        for _ in range(5):
            self.clock.advance(TURN)
        self.assertEqual(held, len(connection.transport.value()))
        producer.resumeProducing()
        self.turn(connection)
        self.assertTrue(read_answer(connection.transport.value(), "GET").complete)

    def test_too_slow(self) -> None:
        """A reader that takes too long is left; nothing is cut off as if it were whole."""
        connection = self.begun()
        producer = connection.transport.producer
        assert producer is not None
        producer.pauseProducing()
        self.clock.advance(WRITE_LIMIT)
        self.assertTrue(connection.transport.disconnecting)
        self.assertFalse(read_answer(connection.transport.value(), "GET").complete)

    def test_leaves(self) -> None:
        """A reader that leaves costs no turn more."""
        connection = self.begun()
        connection.leave()
        self.assertEqual([], self.clock.getDelayedCalls())


class WaitTests(MetricsTestCase):
    """Processes that answer late, or not."""

    def setUp(self) -> None:
        """Answer when the test says so."""
        super().setUp()
        self.served = self.processes = Asked()
        self.site = AdminSite(self.condition, self.served, self.clock)
        self.metrics.record(over())

    def known(self) -> Document:
        """Return what the only process says."""
        return {"workers": {0: self.metrics.page(0)}}

    def test_together(self) -> None:
        """Who asks meanwhile is told the same; who left is not waited for."""
        one, two, three = self.connect(), self.connect(), self.connect()
        for connection in (one, two, three):
            connection.send(REQUEST)
        self.assertEqual(1, len(self.processes.asked))
        two.leave()
        self.processes.asked[0].callback(self.known())
        for connection in (one, three):
            self.turn(connection)
            self.assertIn(b'http_route="/"', connection.transport.value())
        self.assertEqual(b"", two.transport.value())

    def test_nobody_answers(self) -> None:
        """What is known of reloads is told all the same, and what was counted before."""
        first = self.connect()
        first.send(REQUEST)
        self.processes.asked[0].callback(self.known())
        self.turn(first)
        second = self.connect()
        second.send(REQUEST)
        self.processes.asked[1].errback(NobodyAnswers("none"))
        self.turn(second)
        found = read(read_answer(second.transport.value(), "GET").content.decode())
        self.assertEqual(1, found.value("http_server_request_duration_seconds_count"))
        self.assertEqual(1, found.value("pyproxy_silent_workers"))
        self.assertEqual(0, found.value("pyproxy_serving_processes"))

    def test_defect(self) -> None:
        """Anything else is 500, and in the log."""
        heard = EventLoggingObserver()
        globalLogPublisher.addObserver(heard)
        self.addCleanup(globalLogPublisher.removeObserver, heard)
        connection = self.connect()
        connection.send(REQUEST)
        self.processes.asked[0].errback(RuntimeError("odd"))
        self.assertEqual(500, read_answer(connection.transport.value(), "GET").status)
        self.assertEqual(1, len(heard))
        self.flushLoggedErrors(RuntimeError)
