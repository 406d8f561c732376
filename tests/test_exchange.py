"""One request's story: its time limits, its cancelling, its errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.testing import StringTransport

from pyproxy.account import Account
from pyproxy.errors import ClientTimeout, ConnectionTerminated, InternalError, ProxyError
from pyproxy.exchange import MAX_INTERIMS, Exchange
from pyproxy.policy.routing import Limits, RoutingTable
from pyproxy.relay.content import RESPONSE_DONE, Download, Upload
from pyproxy.relay.limits import LOOKS
from pyproxy.relay.pausing import Valve
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.semantics.fields import Fields, Octets
from pyproxy.semantics.forwarding import Hop
from pyproxy.semantics.framing import CHUNKED as IN_CHUNKS
from pyproxy.semantics.framing import NO_CONTENT, Framing, Kind
from pyproxy.semantics.messages import RequestHead, ResponseHead
from pyproxy.sides import Bond, UpstreamRequest
from pyproxy.upstream.agent import ForwardingAgent
from tests.memory import Stage, StageTestCase, request, response, status_of

CHUNKED = response(b"Transfer-Encoding: chunked")
LIMITS = Limits(connect=3.0, first_byte=20.0, idle=10.0, upload=5.0)
POST = request(b"POST / HTTP/1.1", b"Content-Length: 100000")
SLACK = 1.5
"""A limit is kept to within an interval and a part of it; movement is seen at the look after it."""


class ExchangeTestCase(StageTestCase):
    """A case with short limits, each of another length."""

    def setUp(self) -> None:
        """Set the stage."""
        self.scene: Stage = self.stage(limits=LIMITS, client_limit=4.0)
        self.network = self.scene.network

    def pass_time(self, seconds: float) -> None:
        """Let time go by."""
        self.network.pass_time(seconds, 0.25)


class LookTests(StageTestCase):
    """An open exchange is looked at when its time may have come, and not at every sweep."""

    IDLE = 320.0

    def looks(self, seconds: float, act: Callable[[], object] = lambda: None) -> int:
        """Return how often what waits is asked in some seconds, doing something in each."""
        asked = 0

        def count(frame: FrameType, event: str, argument: object) -> None:
            nonlocal asked
            if event == "call" and frame.f_code.co_name == "check":
                asked += "Pool" not in frame.f_code.co_qualname

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            for _ in range(round(seconds)):
                act()
                self.scene.network.pass_time(1.0, 1.0)
        finally:
            sys.setprofile(before)
        return asked

    def setUp(self) -> None:
        """Set the stage, with limits as long as the defaults are."""
        limits = Limits(first_byte=self.IDLE, idle=self.IDLE, upload=60.0)
        self.scene = self.stage(limits=limits, client_limit=60.0)

    def test_silent_stream(self) -> None:
        """LOOKS times in the time of its limit; its client's connection not even so often."""
        self.scene.client(request())
        self.scene.answer(CHUNKED + b"1\r\nx\r\n")
        self.assertLessEqual(self.looks(self.IDLE / 2), LOOKS // 2 + 2 + 4)

    def test_before_the_first_octet(self) -> None:
        """The same while a model thinks."""
        self.scene.client(request())
        self.assertLessEqual(self.looks(self.IDLE / 2), LOOKS // 2 + 2 + 4)

    def test_a_stall_after_movement(self) -> None:
        """A stream that moved ends neither before its limit nor long after it."""
        client = self.scene.client(request())
        self.scene.answer(CHUNKED)
        upstream = self.scene.upstream
        self.looks(self.IDLE, lambda: upstream.deliver(b"1\r\nx\r\n"))
        self.looks(self.IDLE - 1)
        self.assertIsNone(client.lost)
        self.looks(1 + self.IDLE / LOOKS + 2)
        self.assertIsNotNone(client.lost)

    def test_a_shorter_limit_follows(self) -> None:
        """After a long wait for the head a short limit of silence is kept all the same."""
        scene = self.stage(limits=Limits(first_byte=1000.0, idle=8.0, upload=60.0))
        client = scene.client(request())
        scene.network.pass_time(500, 1.0)
        scene.answer(CHUNKED)
        scene.network.pass_time(8, 1.0)
        self.assertIsNone(client.lost)
        scene.network.pass_time(5, 1.0)
        self.assertIsNotNone(client.lost)

    def test_idle_connection(self) -> None:
        """A kept connection whose client says nothing is asked once or twice in its time."""
        client = self.scene.client(request())
        self.scene.answer()
        self.assertLessEqual(self.looks(58), 3)
        self.assertIsNone(client.lost)
        self.looks(5)
        self.assertIsNotNone(client.lost)


class LimitTests(ExchangeTestCase):
    """Each wait has its own limit; none counts the whole (FIELD 4)."""

    def assert_ends(self, client: Any, limit: float, status: int, error_type: bytes) -> None:
        """Check that the present wait ends at its limit, with its error."""
        before = client.value()
        self.pass_time(limit - 0.5)
        self.assertEqual(before, client.value())
        self.pass_time(0.5 + 2 * SLACK)
        self.assertEqual(status, status_of(client.value()))
        self.assertIn(b"; error=" + error_type, client.value())

    def test_connect(self) -> None:
        """To an open connection."""
        del self.network.listening[9000]
        self.assert_ends(self.scene.client(request()), 3.0, 504, b"connection_timeout")

    def test_first_byte(self) -> None:
        """From the end of the request to the response's head."""
        client = self.scene.client(request())
        self.assert_ends(client, 20.0, 504, b"http_response_timeout")
        self.assertIsNotNone(self.scene.upstream.lost)

    def test_first_byte_begins_after_the_upload(self) -> None:
        """An upload that moves does not use up the time for the first byte."""
        client = self.scene.client(POST)
        for _ in range(10):
            client.deliver(bytes(10000))
            self.scene.upstream.take()
            self.pass_time(4)
        self.assert_ends(client, 20.0 - 4 - SLACK, 504, b"http_response_timeout")

    def test_interim_responses_do_not_count(self) -> None:
        """The limit is for the final head: an upstream cannot say 102 for ever (FIELD 5)."""
        client = self.scene.client(request())
        for _ in range(3):
            self.pass_time(15)
            if self.scene.upstream.lost is None:
                self.scene.answer(b"HTTP/1.1 102 Processing\r\n\r\n")
        self.assertIn(b" 102 Processing", client.value())
        self.assertIn(b" 504 Gateway Timeout", client.value())

    def test_idle(self) -> None:
        """Between two movements in a response; the client's message stays incomplete."""
        client = self.scene.client(request())
        self.scene.answer(CHUNKED + b"3\r\nabc\r\n")
        client.take()
        for _ in range(4):
            self.pass_time(8)
            self.scene.answer(b"1\r\nd\r\n")
            self.assertIsNone(client.lost)
        self.pass_time(10 + 2 * SLACK)
        self.assertIsNotNone(client.lost)
        self.assertIsNotNone(self.scene.upstream.lost)
        self.assertNotIn(b"0\r\n\r\n", client.value())

    def test_slow_client(self) -> None:
        """A client that takes octets, however slowly, lets the response go on."""
        client = self.scene.client(request(), room=100)
        self.scene.answer(CHUNKED + b"ff\r\n" + bytes(255) + b"\r\n")
        self.assertTrue(self.scene.upstream.paused)
        ours, theirs = client.kernel
        for _ in range(6):
            ours.sendall(bytes(1000))
        for _ in range(5):
            self.pass_time(8)
            theirs.recv(1000)
        self.assertIsNone(client.lost)
        self.assertIsNone(self.scene.upstream.lost)
        self.pass_time(10 + 2 * SLACK)
        self.assertIsNotNone(self.scene.upstream.lost)
        # What was written before may still be taken, for as long as a client's limit.
        self.pass_time(4 + 2 * SLACK)
        self.assertIsNotNone(client.lost)

    def test_upload_from_a_client_that_stops(self) -> None:
        """Between two movements of the upload, by the client's fault."""
        client = self.scene.client(POST)
        for _ in range(4):
            client.deliver(b"abc")
            self.scene.upstream.take()
            self.pass_time(3)
        self.assert_ends(client, 5.0 - 3 - SLACK, 408, b"http_request_error")
        self.assertIsNotNone(self.scene.upstream.lost)

    def test_upload_to_an_upstream_that_stops(self) -> None:
        """The same by the upstream's fault."""
        self.network.room = 100
        client = self.scene.client(POST)
        client.deliver(bytes(1000))
        self.assert_ends(client, 5.0, 504, b"connection_write_timeout")

    def test_awaiting_continue(self) -> None:
        """A client that awaits 100 Continue holds its content back rightly."""
        client = self.scene.client(
            request(b"POST / HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 3")
        )
        self.assert_ends(client, 20.0, 504, b"http_response_timeout")

    def test_after_continue(self) -> None:
        """Once it was told to go on it has to."""
        client = self.scene.client(
            request(b"POST / HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 3")
        )
        self.pass_time(10)
        self.scene.answer(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.take()
        self.assert_ends(client, 5.0, 408, b"http_request_error")

    def test_nothing_is_watched_afterwards(self) -> None:
        """An exchange that ended is not asked any more, however it ended."""
        watched = self.scene.sweeper.watched
        client = self.scene.client(request())
        self.scene.answer()
        client.deliver(request())
        self.network.settle()
        client.lose()
        self.network.settle()
        # The pool of the origin is watched from now on.
        self.assertEqual(watched + 1, self.scene.sweeper.watched)


class EndTests(ExchangeTestCase):
    """How an exchange ends early."""

    def test_upstream_dies_before_its_head(self) -> None:
        """The client gets 502, with the way out named, and may go on."""
        client = self.scene.client(request(b"GET / HTTP/1.1", b"Accept: application/json"))
        self.scene.upstream.lose()
        self.network.settle()
        self.assertEqual(502, status_of(client.value()))
        self.assertIn(b"Content-Type: application/problem+json", client.value())
        self.assertIn(b"error=connection_terminated", client.value())
        self.assertIsNone(client.lost)

    def test_upstream_dies_in_its_content(self) -> None:
        """The client's message stays incomplete (invariant 3, FIELD 16)."""
        for head, piece in (
            (CHUNKED, b"3\r\nabc\r\n"),
            (response(b"Content-Length: 9"), b"abc"),
        ):
            client = self.scene.client(request())
            self.scene.answer(head + piece)
            self.scene.upstream.lose()
            self.network.settle()
            self.assertIsNotNone(client.lost)
            self.assertTrue(client.value().endswith(piece))

    def test_old_client_of_a_broken_response(self) -> None:
        """Where only the close would end the content, a broken one is a reset."""
        client = self.scene.client(request(b"GET / HTTP/1.0"))
        self.scene.answer(CHUNKED + b"3\r\nabc\r\n")
        self.scene.upstream.lose()
        self.network.settle()
        self.assertTrue(client.disconnected)

    def test_content_past_its_bound(self) -> None:
        """Declared or not, it is 413, and the upstream's connection is closed."""
        limits = Limits(max_content=10)
        for fields, content, opened in (
            (b"Content-Length: 11", b"", 0),
            (b"Transfer-Encoding: chunked", b"b\r\nhello world\r\n", 1),
        ):
            scene = self.stage(limits=limits)
            client = scene.client(request(b"POST / HTTP/1.1", fields))
            client.deliver(content)
            scene.network.settle()
            self.assertEqual(413, status_of(client.value()))
            self.assertEqual(opened, len(scene.network.opened))
            self.assertNotIn(b"hello", b"".join(one.value() for one in scene.network.opened))

    def test_content_past_its_bound_at_once(self) -> None:
        """The same when head and content came in one read."""
        scene = self.stage(limits=Limits(max_content=10))
        client = scene.client(
            request(
                b"POST / HTTP/1.1",
                b"Transfer-Encoding: chunked",
                content=b"b\r\nhello world\r\n0\r\n\r\n",
            )
        )
        self.assertEqual(413, status_of(client.value()))
        self.assertNotIn(b"hello", b"".join(one.value() for one in scene.network.opened))

    def test_a_defect(self) -> None:
        """An unknown exception is logged once; the client gets 500 and no traceback."""

        def send(agent: ForwardingAgent, upstream_request: UpstreamRequest) -> None:
            raise ZeroDivisionError("a defect")

        self.patch(ForwardingAgent, "send", send)
        scene = self.stage()
        client = scene.client(request())
        self.assertEqual(500, status_of(client.value()))
        self.assertNotIn(b"ZeroDivision", client.value())
        self.assertIsInstance(scene.logged[0].error, InternalError)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_refused_by_the_rules(self) -> None:
        """What is refused before the upstream is asked never reaches it."""
        scene = self.stage(prefix=b"/api")
        for octets, status in (
            (request(b"GET /other HTTP/1.1"), 404),
            (request(b"GET /api/..%2f.. HTTP/1.1"), 400),
            (request(b"CONNECT h:443 HTTP/1.1"), 405),
            (request(b"GET /api HTTP/1.1", b"Via: 1.1 pyproxy-test"), 508),
        ):
            self.assertEqual(status, status_of(scene.client(octets).value()), octets)
        self.assertEqual([], scene.network.opened)

    def test_max_forwards(self) -> None:
        """It counts down for OPTIONS, ends here at nought, and is a number (RFC 9110 7.6.2)."""
        self.scene.client(request(b"OPTIONS /a HTTP/1.1", b"Max-Forwards: 5"))
        self.assertIn(b"\r\nMax-Forwards: 4\r\n", self.scene.answer())
        opened = len(self.network.opened)
        for method, bound, status in (
            (b"OPTIONS", b"0", 204),
            (b"TRACE", b"0", 405),
            (b"OPTIONS", b"many", 400),
        ):
            client = self.scene.client(request(method + b" / HTTP/1.1", b"Max-Forwards: " + bound))
            self.assertEqual(status, status_of(client.value()), method)
        self.assertEqual(opened, len(self.network.opened))

    def test_client_leaves(self) -> None:
        """A client that left is told nothing, and the log says nothing but its line."""
        client = self.scene.client(request())
        client.lose()
        self.network.settle()
        self.assertEqual(b"", client.value())
        self.assertTrue(self.scene.upstream.disconnected)
        self.assertEqual([0], [each.status for each in self.scene.logged])

    def test_limit_and_leaving_at_once(self) -> None:
        """A client that leaves while a limit ends its exchange disturbs nobody."""
        client = self.scene.client(request())
        self.pass_time(20 + 2 * SLACK)
        client.lose()
        self.network.settle()
        self.assertEqual(1, len(self.scene.logged))
        self.assertEqual([], self.flushLoggedErrors())

    def test_trailers(self) -> None:
        """Trailers go through; those that frame, route or authenticate do not."""
        client = self.scene.client(request())
        self.scene.answer(CHUNKED + b"0\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\n")
        self.assertTrue(client.value().endswith(b"0\r\nX-Sum: 1\r\n\r\n"))

    def test_interim_responses_without_end(self) -> None:
        """An upstream that sends nothing else is given up, whatever its client speaks."""
        early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        for version in (b"1.0", b"1.1"):
            client = self.scene.client(request(b"GET / HTTP/" + version))
            self.scene.answer(early * MAX_INTERIMS)
            self.assertIsNone(self.scene.upstream.lost)
            self.scene.answer(early * 3)
            self.assertIn(b"HTTP/1.1 502 Bad Gateway", client.value())
            self.assertIsNotNone(self.scene.upstream.lost)

    def test_malformed_interim_response(self) -> None:
        """One that names framing as an option of its connection ends the exchange with 502."""
        client = self.scene.client(request())
        self.scene.answer(
            response(
                b"Connection: Content-Length", status_line=b"HTTP/1.1 103 Early Hints", content=b""
            )
        )
        self.assertEqual(502, status_of(client.value()))
        self.assertIn(b"error=http_protocol_error", client.value())
        self.assertIsNotNone(self.scene.upstream.lost)

    def test_request_trailers(self) -> None:
        """The same for those of a request."""
        self.scene.client(
            request(
                b"POST / HTTP/1.1",
                b"Transfer-Encoding: chunked",
                content=b"0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n",
            )
        )
        self.assertTrue(self.scene.upstream.value().endswith(b"0\r\nX-Sum: 1\r\n\r\n"))


class Client:
    """A client's side that notes what becomes of its request.

    Attributes:
        told: what it had to do, in order.
        broken: what fails when it has to do it.
    """

    def __init__(self, method: bytes = b"GET", upload: Upload | None = None) -> None:
        self.head = RequestHead(method, b"/", 1, [(b"Host", b"front.test")])
        self.takes_chunks = True
        self.unlogged = False
        self.account: Account | None = None
        self.hop = Hop(b"192.0.2.1", b"http", b"80", False)
        self.options: list[bytes] = []
        self.asked_host = b"front.test"
        self.upload = upload
        self.begun = False
        self.request_id = "1"
        self.told: list[object] = []
        self.broken = ""
        self.sent = 0
        self.source: IPushProducer | None = None
        self.bond: Bond | None = None

    def bind(self) -> Bond:
        """Note it."""
        self.note("bind")
        self.bond = Bond(lambda: None)
        return self.bond

    def note(self, what: str, *facts: object) -> None:
        """Note something, or fail."""
        if what == self.broken:
            raise ZeroDivisionError("a defect")
        self.told.append((what, *facts))

    def inform(self, status: int, reason: bytes, fields: Fields) -> None:
        """Note an interim response."""
        self.note("inform", status)

    def begin(self, status: int, reason: bytes, fields: Fields, framing: Framing) -> None:
        """Note the head."""
        self.note("begin", status)
        self.begun = True

    def write_content(self, content: Octets) -> None:
        """Note content."""
        self.note("write", bytes(content))

    def note_sent(self, octets: int) -> None:
        """Note how many octets of content were written."""
        self.sent = octets

    def finish_content(self, trailers: Fields) -> None:
        """Note the end."""
        self.note("finish", trailers)

    def end_connection(self) -> None:
        """Note that this is the last response."""
        self.note("last")

    def switch(
        self, reason: bytes, fields: Fields, upstream: WebSocketEnd, octets: bytes, limits: Limits
    ) -> None:
        """Note a 101."""
        self.note("switch")

    def answer(self, status: int, reason: bytes, fields: Fields, content: bytes) -> None:
        """Note a whole response."""
        self.told.append(status)

    def refuse(self, error: ProxyError) -> None:
        """Note an error."""
        self.note("refuse", type(error))

    def abort(self, error: ProxyError) -> None:
        """Note an error that came too late for a response."""
        self.note("abort", type(error))

    def flow_from(self, source: IPushProducer | None) -> None:
        """Note who has to pause."""
        self.source = source

    def unsent(self) -> int:
        """Tell that everything was taken."""
        return 0


class Answer:
    """A response whose content the test delivers."""

    def __init__(self, framing: Framing = IN_CHUNKS) -> None:
        self.head = ResponseHead(200, b"OK", 1, [])
        self.framing = framing
        self.options: list[bytes] = []
        self.trailers: Fields = []
        self.overhead = 0
        self.stored = False
        self.download: Download | None = None

    def deliverBody(self, protocol: Download) -> None:
        """Take note of who receives the content."""
        self.download = protocol
        protocol.makeConnection(StringTransport())

    def detach(self) -> tuple[WebSocketEnd, bytes]:
        """Fail: no WebSocket was asked for."""
        raise AssertionError("a WebSocket was opened")


class Wire:
    """A connection to the upstream: to be paused, asked and closed."""

    def __init__(self) -> None:
        self.source: IPushProducer = StringTransport()
        self.aborted = 0

    def unsent(self) -> int:
        """Tell that everything was taken."""
        return 0

    def look(self) -> None:
        """See that the upstream is there."""

    def abort(self) -> None:
        """Take note."""
        self.aborted += 1


class Upstream:
    """An upstream's side that does what the test says as soon as it has a request."""

    def __init__(self) -> None:
        self.request: UpstreamRequest | None = None
        self.wire = Wire()
        self.at_once: list[Any] = []

    def send(self, request: UpstreamRequest) -> None:
        """Take a request, and act."""
        self.request = request
        request.connection = self.wire
        for act in self.at_once:
            act(request.asking)


class CallTests(StageTestCase):
    """Whatever order the two sides call in, the exchange ends once, and says so once."""

    def setUp(self) -> None:
        """Make an exchange between two sides that the test plays."""
        scene: Stage = self.stage()
        root: Any = scene.root
        self.sweeper = scene.sweeper
        self.table: RoutingTable = root.table
        self.idle = self.sweeper.watched
        self.client, self.upstream = Client(), Upstream()

    def begin(self, *at_once: Any) -> Exchange:
        """Begin the exchange; acts happen while the request is sent."""
        self.upstream.at_once = list(at_once)
        exchange = Exchange(self.client, self.upstream, self.table, self.sweeper)
        self.exchange = exchange
        exchange.start()
        return exchange

    def assert_over(self, *told: object, aborted: int) -> None:
        """Check what the client was told, and that nothing more comes of anything."""
        self.assertEqual(list(told), self.client.told)
        self.assertEqual(aborted, self.upstream.wire.aborted)
        self.assertEqual(self.idle, self.sweeper.watched)
        self.exchange.cancel()
        self.exchange.fail(ClientTimeout("late"))
        self.exchange.unanswered(ConnectionTerminated("late"))
        self.exchange.responded(Answer())
        self.exchange.check(1e9)
        self.assertEqual(list(told), self.client.told)
        self.assertEqual(aborted, self.upstream.wire.aborted)

    def whole(self, answer: Answer, *pieces: bytes) -> Any:
        """Return an act: the upstream answers whole."""

        def act(asking: Any) -> None:
            asking.responded(answer)
            assert answer.download is not None
            for piece in pieces:
                answer.download.dataReceived(piece)
            answer.download.connectionLost(RESPONSE_DONE)

        return act

    def test_answered_at_once(self) -> None:
        """An answer that is whole before the sending returns is an answer."""
        answer = Answer()
        answer.trailers = [(b"X-Sum", b"1"), (b"Content-Length", b"3")]
        self.begin(self.whole(answer, b"a", b"b"))
        self.assert_over(
            ("begin", 200),
            ("write", b"a"),
            ("write", b"b"),
            ("finish", [(b"X-Sum", b"1")]),
            aborted=0,
        )

    def test_unanswered_at_once(self) -> None:
        """So is the loss of a request."""
        self.begin(lambda asking: asking.unanswered(ConnectionTerminated("gone")))
        self.assert_over(("refuse", ConnectionTerminated), aborted=1)

    def test_client_leaves_at_once(self) -> None:
        """A client that leaves while its request is sent is told nothing; it is withdrawn."""
        self.begin(lambda asking: asking.cancel())
        self.assert_over(aborted=1)

    def test_client_leaves_an_answer_at_once(self) -> None:
        """The same when the response has begun meanwhile."""
        self.begin(lambda asking: asking.responded(Answer()), lambda asking: asking.cancel())
        self.assert_over(("begin", 200), aborted=1)

    def test_failed_at_once(self) -> None:
        """What the exchange is ended for while its request is sent outranks what follows."""
        late = ConnectionTerminated("late")
        self.begin(
            lambda asking: asking.fail(ClientTimeout("slow")),
            lambda asking: asking.unanswered(late),
        )
        self.assert_over(("refuse", ClientTimeout), aborted=1)

    def test_broken_off(self) -> None:
        """An error after the head breaks the response off; before it, it is the response."""
        exchange, answer = self.begin(), Answer()
        exchange.responded(answer)
        assert answer.download is not None
        answer.download.connectionLost()
        self.assertEqual(1, len(self.flushLoggedErrors()))
        self.assert_over(("begin", 200), ("abort", InternalError), aborted=1)

    def test_interim(self) -> None:
        """A client that does not take interim responses pauses the upstream's connection."""
        exchange = self.begin()
        exchange.interim(ResponseHead(103, b"", 1, []))
        self.assertEqual([("inform", 103)], self.client.told)
        self.assertIs(self.upstream.wire.source, self.client.source)
        self.whole(Answer(NO_CONTENT))(exchange)
        self.assertIsNone(self.client.source)
        self.assert_over(("inform", 103), ("begin", 200), ("finish", []), aborted=0)

    def test_upload_is_let_go(self) -> None:
        """The content of an exchange that is over ends nothing any more."""
        upload = Upload(Framing(Kind.LENGTH, 3), Valve(StringTransport()))
        self.client = Client(b"POST", upload)
        exchange = self.begin()
        self.assertIsNotNone(upload.fail)
        exchange.cancel()
        self.assertIsNone(upload.fail)
        self.assert_over(aborted=1)

    def test_defect_with_the_head(self) -> None:
        """An unknown exception at the response's head is logged once, and ends both sides."""
        self.client.broken = "begin"
        self.begin(lambda asking: asking.responded(Answer()))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assert_over(("refuse", InternalError), aborted=1)

    def test_defect_at_the_end(self) -> None:
        """An unknown exception at the content's end is logged once, and breaks the response off."""
        self.client.broken = "finish"
        exchange, answer = self.begin(), Answer()
        self.whole(answer)(exchange)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual([("begin", 200), ("abort", InternalError)], self.client.told)
