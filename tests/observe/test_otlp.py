"""Spans on their way: batches, bounds, a collector that is away, slow, busy or mute, the end."""

from __future__ import annotations

import re
from typing import Any, cast

from twisted.internet import error
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pyproxy import __version__
from pyproxy.observe import otlp
from pyproxy.observe.otlp import (
    CLOSE_LIMIT,
    LONGEST_WAIT,
    MAX_BATCH,
    MAX_BATCH_BYTES,
    MAX_QUEUED,
    MAX_QUEUED_BYTES,
    MAX_TRIES,
    PAUSE,
    POST_LIMIT,
    Counts,
    Exporter,
)
from pyproxy.observe.otlp_post import MAX_ANSWER_BYTES, Answer, Destination
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.urls import parse_target
from pyproxy.upstream.agent import ForwardingAgent
from tests.memory import UPSTREAM_PORT, MemoryTransport, Network, response
from tests.observe.collector import decode

TAKEN = response(b"Content-Length: 2", content=b"{}")
BUSY = response(b"Content-Length: 0", status_line=b"HTTP/1.1 503 Service Unavailable")
SPAN = b'{"traceId":"%032x","spanId":"%016x","name":"%b"}'

_length = re.compile(rb"Content-Length: ([0-9]+)\r\n").search


def span(number: int = 1, name: bytes = b"a") -> bytes:
    """Return a small span."""
    return SPAN % (number, number, name)


class ExporterTestCase(SynchronousTestCase):
    """A case with an exporter, whose collector the test plays."""

    def setUp(self) -> None:
        """Start it."""
        self.network = Network()
        self.addCleanup(self.network.close)
        self.observer = EventLoggingObserver.createWithCleanup(
            self,  # type: ignore[arg-type]
            globalLogPublisher,
        )
        reactor = cast(IProxyReactor, self.network)
        self.sweeper = Sweeper.for_limits(self.network, (60.0,))
        agent = ForwardingAgent(reactor, self.sweeper)
        target = parse_target(f"http://127.0.0.1:{UPSTREAM_PORT}/otlp/")
        self.exporter = Exporter(
            self.network, agent, Destination(target, ((b"X-Key", b"sekret"),), "front"), lambda: 0.0
        )

    def wait(self, seconds: float) -> None:
        """Let time go by."""
        self.network.pass_time(seconds, max(0.05, seconds / 100))

    def take(self, *spans: bytes) -> None:
        """Give it spans."""
        self.exporter.take(spans)
        self.network.settle()

    def asked(self) -> tuple[MemoryTransport, bytes, bytes]:
        """Return the connection on which a request has come, its head and content."""
        (one,) = (one for one in self.network.opened if one.lost is None and one.value())
        octets = b""
        while part := one.take():
            octets += part
            self.network.settle()
        head, _, content = octets.partition(b"\r\n\r\n")
        length = _length(head + b"\r\n")
        assert length is not None
        self.assertEqual(int(length[1]), len(content))
        return one, head, content

    def names(self) -> list[str]:
        """Return the names of the spans in the request that has come, and take them."""
        one, _, content = self.asked()
        one.deliver(TAKEN)
        self.network.settle()
        return [found.name for found in decode(content)]

    def answer(self, octets: bytes) -> None:
        """Answer the request that has come."""
        one, _, _ = self.asked()
        one.deliver(octets)
        self.network.settle()

    def lines(self) -> list[str]:
        """Return what was said."""
        events = [one for one in self.observer if one["log_level"] >= LogLevel.info]
        return [one["log_format"].format(**one) for one in events if "where" in one or "why" in one]

    def assert_counts(self, **counts: int) -> None:
        """Check what became of spans."""
        self.assertEqual(Counts(**counts), self.exporter.counts)

    def assert_idle(self) -> None:
        """Check that nothing goes on."""
        self.assertEqual((0, []), (self.exporter.queued, self.network.getDelayedCalls()))


class SendingTests(ExporterTestCase):
    """A collector that is there."""

    def test_request(self) -> None:
        """One POST, with its fields, which OpenTelemetry's own message can be read from."""
        self.take(span(1), span(2, b"b"))
        self.wait(PAUSE + 0.1)
        one, head, content = self.asked()
        line, *fields = head.split(b"\r\n")
        self.assertEqual(b"POST /otlp/v1/traces HTTP/1.1", line)
        self.assertEqual(
            [
                b"Host: 127.0.0.1:%d" % UPSTREAM_PORT,
                b"User-Agent: pyproxy/" + __version__.encode(),
                b"Content-Type: application/json",
                b"Content-Length: %d" % len(content),
                b"X-Key: sekret",
            ],
            fields,
        )
        first, second = decode(content)
        self.assertEqual(("a", "b"), (first.name, second.name))
        self.assertEqual("front", first.service["service.name"])
        self.assertEqual(__version__, first.service["service.version"])
        self.assertIn("service.instance.id", first.service)
        one.deliver(TAKEN)
        self.network.settle()
        self.assert_counts(sent=2)
        self.assert_idle()

    def test_together(self) -> None:
        """What comes within the pause goes together; the connection is used again."""
        self.take(span())
        self.wait(PAUSE / 2)
        self.take(span(2, b"b"))
        self.wait(PAUSE / 2 + 0.1)
        self.assertEqual(["a", "b"], self.names())
        self.take(span(3, b"c"))
        self.wait(PAUSE + 0.1)
        self.assertEqual(["c"], self.names())
        self.assertEqual(1, len(self.network.opened))
        self.assert_counts(sent=3)
        self.assert_idle()

    def test_full_batch(self) -> None:
        """A full batch does not wait; the rest of it waits its time."""
        for number in range(1, MAX_BATCH + 2):
            self.take(span(number))
        self.assertEqual(MAX_BATCH, len(self.names()))
        self.wait(PAUSE + 0.1)
        self.assertEqual(1, len(self.names()))

    def test_large_spans(self) -> None:
        """Octets bound a batch too, but for one that is larger alone."""
        for size in (MAX_BATCH_BYTES // 2, MAX_BATCH_BYTES // 2, MAX_BATCH_BYTES * 2):
            self.take(span(1, b"x" * size))
        found = [self.names() for _ in range(2)]
        self.wait(PAUSE + 0.1)
        found.append(self.names())
        sizes = [len("".join(names)) for names in found]
        self.assertEqual([1, 1, 4], [size * 2 // MAX_BATCH_BYTES for size in sizes])

    def test_rejected(self) -> None:
        """What was rejected is counted.  OTLP/HTTP, Partial Success."""
        content = b'{"partialSuccess":{"rejectedSpans":"1","errorMessage":"no"}}'
        self.take(span(1), span(2))
        self.wait(PAUSE + 0.1)
        self.answer(response(b"Content-Length: %d" % len(content), content=content))
        self.assert_counts(sent=1, rejected=1)

    def test_answers(self) -> None:
        """Whatever a collector says of it, a number is found or none."""
        for content, rejected in (
            (b"", 0),
            (b"{}", 0),
            (b"[]", 0),
            (b"x", 0),
            (b"[" * 20_000, 0),
            (b'{"partialSuccess":null}', 0),
            (b'{"partialSuccess":{"rejectedSpans":null}}', 0),
            (b'{"partialSuccess":{"rejectedSpans":1e999}}', 0),
            (b'{"partialSuccess":{"rejectedSpans":-1}}', 0),
            (b'{"partialSuccess":{"rejectedSpans":7}}', 7),
        ):
            self.assertEqual(rejected, Answer(200, None, content).rejected, content[:50])

    def test_long_answer(self) -> None:
        """Of an answer without end no more is read than its bound; its status is enough."""
        self.take(span())
        self.wait(PAUSE + 0.1)
        one, _, _ = self.asked()
        one.deliver(response(b"Content-Length: 1000000000"))
        for _ in range(MAX_ANSWER_BYTES // 8192 + 1):
            if one.lost is None:
                one.deliver(b"x" * 8192)
                self.network.settle()
        self.assertIsNotNone(one.lost)
        self.assert_counts(sent=1)
        self.assert_idle()

    def test_aim(self) -> None:
        """Another collector from the next request on."""
        self.take(span())
        self.exporter.aim(Destination(parse_target(f"http://127.0.0.1:{UPSTREAM_PORT}")))
        self.wait(PAUSE + 0.1)
        one, head, content = self.asked()
        self.assertTrue(head.startswith(b"POST /v1/traces HTTP/1.1"))
        self.assertNotIn(b"sekret", head)
        self.assertEqual("pyproxy", decode(content)[0].service["service.name"])
        one.deliver(TAKEN)
        self.network.settle()

    def test_path(self) -> None:
        """Whoever writes the whole path means the same."""
        for url in ("http://h", "http://h/", "http://h/v1/traces"):
            self.assertEqual(b"/v1/traces", Destination(parse_target(url)).path)


class TroubleTests(ExporterTestCase):
    """A collector that is away, busy, mute, or says no."""

    def away(self) -> None:
        """Let nobody listen there."""
        self.network.listening[UPSTREAM_PORT] = error.ConnectionRefusedError()

    def test_away(self) -> None:
        """It is tried a few times, less and less often; then the batch is dropped and counted."""
        self.away()
        self.take(span())
        self.wait(PAUSE + 0.1)
        failures = []
        for _ in range(40):
            failures.append(self.exporter.counts.failures)
            self.wait(0.5)
        self.assertEqual(MAX_TRIES, self.exporter.counts.failures)
        # 1, 2, 4, 8 seconds.
        self.assertEqual([2, 4, 8, 16], [failures.count(tries) for tries in range(1, MAX_TRIES)])
        self.assert_counts(dropped=1, failures=MAX_TRIES)
        self.assert_idle()
        (first, second) = self.lines()
        self.assertIn("Spans do not reach http://127.0.0.1:9000/otlp/v1/traces: ", first)
        self.assertIn("Spans dropped: 1 (", second)

    def test_back(self) -> None:
        """It is said once that it is away, and that it is there again; nothing was lost."""
        self.away()
        self.take(span())
        self.wait(PAUSE + 1.1)
        self.network.listening[UPSTREAM_PORT] = None
        self.wait(2.1)
        self.assertEqual(["a"], self.names())
        self.assert_counts(sent=1, failures=2)
        self.assertEqual(2, len(self.lines()))
        self.assertIn("again", self.lines()[1])

    def test_bound(self) -> None:
        """No more wait than the bound; the others are dropped at once, and said once a minute."""
        self.away()
        for number in range(1, MAX_QUEUED + 1001):
            self.take(span(number))
        # A batch is on its way.
        self.assertEqual(MAX_QUEUED, self.exporter.queued)
        self.assert_counts(dropped=1000 - MAX_BATCH, failures=1)
        said = [line for line in self.lines() if "dropped" in line]
        self.assertEqual(["Spans dropped: 1 (the queue is full)"], said)
        self.wait(600)
        self.assert_counts(dropped=MAX_QUEUED + 1000, failures=5 * MAX_TRIES)
        self.assert_idle()

    def test_bound_of_octets(self) -> None:
        """Nor do they take more octets; the spans of one account stay together."""
        self.away()
        large = span(1, b"x" * (MAX_QUEUED_BYTES // 8))
        for _ in range(20):
            self.take(large, large)
        self.assertLessEqual(self.exporter._queued_bytes, MAX_QUEUED_BYTES)
        self.assertEqual(0, self.exporter.counts.dropped % 2)
        self.wait(600)
        self.assert_counts(dropped=40, failures=self.exporter.counts.failures)
        self.assertEqual(0, self.exporter._queued_bytes)

    def test_busy(self) -> None:
        """Some statuses may be followed by another try.  OTLP/HTTP, Retryable Response Codes."""
        for status in (429, 502, 503, 504):
            self.take(span())
            self.wait(PAUSE + 0.1)
            self.answer(BUSY.replace(b"503", b"%d" % status))
            self.wait(1.1)
            self.assertEqual(["a"], self.names())
        self.assert_counts(sent=4, failures=4)

    def test_refused(self) -> None:
        """Others may not."""
        for status in (400, 401, 404, 500, 301):
            self.take(span())
            self.wait(PAUSE + 0.1)
            self.answer(BUSY.replace(b"503", b"%d" % status))
            self.assert_idle()
        self.assert_counts(dropped=5, failures=5)

    def test_retry_after(self) -> None:
        """It may ask for a while, but not for too long a one."""
        self.take(span())
        self.wait(PAUSE + 0.1)
        for value, wait in ((b"7", 7), (b"0", 2), (b"100000", LONGEST_WAIT), (b"soon", 8)):
            self.answer(BUSY.replace(b"\r\n\r\n", b"\r\nRetry-After: %b\r\n\r\n" % value))
            self.wait(wait - 0.5)
            self.assertEqual([], [one for one in self.network.opened if one.value()], value)
            self.wait(1)
        self.assertEqual(["a"], self.names())

    def test_mute(self) -> None:
        """One that says nothing costs its connection, not more."""
        self.take(span())
        self.wait(PAUSE + 0.1)
        one, _, _ = self.asked()
        self.wait(POST_LIMIT + 0.2)
        self.assertIsNotNone(one.lost)
        self.wait(1.1)
        self.assertEqual(["a"], self.names())
        self.assert_counts(sent=1, failures=1)
        self.assertIn("it said nothing for 10 s", self.lines()[0])

    def test_slow(self) -> None:
        """One that answers piece by piece has the same time for all of it."""
        self.take(span())
        self.wait(PAUSE + 0.1)
        one, _, _ = self.asked()
        for octet in response(b"Content-Length: 100"):
            one.deliver(bytes([octet]))
            self.wait(0.05)
        self.wait(POST_LIMIT)
        self.assertIsNotNone(one.lost)
        self.assert_counts(failures=1)

    def test_broken(self) -> None:
        """One that closes in the middle of its head was not heard; of its content, it was."""
        for octets in (b"HTTP/1.1 2", response(b"Content-Length: 9", content=b"{}")):
            self.take(span())
            self.wait(PAUSE + 0.1)
            one, _, _ = self.asked()
            one.deliver(octets)
            self.network.settle()
            one.lose()
            self.network.settle()
            self.wait(1.1)
        self.wait(PAUSE)
        self.assertEqual(["a"], self.names())
        self.assert_counts(sent=2, failures=1)

    def test_garbage(self) -> None:
        """One that speaks something else."""
        self.take(span())
        self.wait(PAUSE + 0.1)
        self.answer(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\r\n\r\n")
        self.assertEqual(1, self.exporter.counts.failures)


class EndTests(ExporterTestCase):
    """The end of the proxy."""

    def close(self) -> list[object]:
        """Close it; return what tells that it is done."""
        done: list[object] = []
        self.exporter.close().addCallback(done.append)
        self.network.settle()
        return done

    def assert_closed(self) -> None:
        """Check that nothing is left."""
        self.assert_idle()
        self.network.settle()
        self.assertEqual([], [one for one in self.network.opened if one.lost is None])
        self.assertEqual(0, self.sweeper.watched)

    def test_nothing(self) -> None:
        """Where nothing waits, at once."""
        self.assertEqual([None], self.close())
        self.assert_closed()

    def test_waiting(self) -> None:
        """What waits is sent, and waited for."""
        self.take(span())
        done = self.close()
        self.assertEqual([], done)
        self.assertEqual(["a"], self.names())
        self.assertEqual([None], done)
        self.assert_counts(sent=1)
        self.assert_closed()

    def test_idle_connection(self) -> None:
        """A kept connection ends."""
        self.take(span())
        self.wait(PAUSE + 0.1)
        self.names()
        self.assertEqual([None], self.close())
        self.assert_closed()

    def test_away(self) -> None:
        """Each batch is tried once more, and nothing is waited for."""
        self.network.listening[UPSTREAM_PORT] = error.ConnectionRefusedError()
        self.take(span())
        self.wait(PAUSE + 0.1)
        for number in range(2, 2 * MAX_BATCH):
            self.take(span(number))
        done = self.close()
        self.assertEqual([None], done)
        self.assert_counts(dropped=2 * MAX_BATCH - 1, failures=4)
        self.assert_closed()

    def test_mute(self) -> None:
        """One that says nothing is waited for so long, and no longer; what is left is counted."""
        for number in range(1, 2 * MAX_BATCH + 1):
            self.take(span(number))
        done = self.close()
        self.wait(CLOSE_LIMIT - 0.2)
        self.assertEqual([], done)
        self.wait(0.3)
        self.assertEqual([None], done)
        self.assert_counts(dropped=2 * MAX_BATCH)
        self.assert_closed()
        self.assertIn("Spans dropped: ", self.lines()[0])

    def test_connecting(self) -> None:
        """Nor is one waited for that cannot be reached."""
        self.network.listening.pop(UPSTREAM_PORT)
        self.take(span())
        self.wait(PAUSE + 0.1)
        done = self.close()
        self.wait(CLOSE_LIMIT + 0.1)
        self.assertEqual([None], done)
        self.assert_closed()

    def test_too_late(self) -> None:
        """What comes after the end is dropped."""
        self.close()
        self.take(span())
        self.assert_counts(dropped=1)
        self.assert_closed()


class BoundsTests(SynchronousTestCase):
    """How the bounds go together."""

    def test_bounds(self) -> None:
        """Several batches wait, and the last request of all is over within the end's limit."""
        self.assertGreaterEqual(MAX_QUEUED, 2 * MAX_BATCH)
        self.assertGreaterEqual(MAX_QUEUED_BYTES, 2 * MAX_BATCH_BYTES)
        names: Any = vars(otlp)
        self.assertLess(names["CLOSE_LIMIT"], names["POST_LIMIT"])
