"""One connection to an upstream: what it writes, and how it reads responses."""

from __future__ import annotations

from typing import Any, cast

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHandshakeListener,
    IPushProducer,
    ISSLTransport,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer, IResponse
from zope.interface import directlyProvides, implementer
from zope.interface.verify import verifyObject

from pyproxy.errors import (
    BadResponse,
    ConnectionTerminated,
    InternalError,
    ProxyError,
    ResponseHeadTooLarge,
    ResponseIncomplete,
)
from pyproxy.relay.content import Upload
from pyproxy.relay.ends import RelayedEnd
from pyproxy.relay.pausing import Hold, Valve
from pyproxy.semantics.framing import CHUNKED, Framing, Kind
from pyproxy.semantics.messages import FIRST_PIECE_BYTES, MAX_HEAD_BYTES, ResponseHead
from pyproxy.semantics.urls import Origin
from pyproxy.sides import UpstreamRequest
from pyproxy.upstream.agent import Awaited
from pyproxy.upstream.connection import Connection, ReadFlow
from pyproxy.upstream.response import ForwardedResponse
from tests.memory import (
    CLIENT,
    OK,
    UPSTREAM,
    MemoryTransport,
    Network,
    cuts_around,
    no_websocket,
    not_lost,
    splits,
)

ORIGIN = Origin("http", "127.0.0.1", 9000, b"127.0.0.1:9000")
CHUNKED_OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Receiver(Protocol):
    """Notes the content that it gets, and how it ended."""

    def __init__(self) -> None:
        self.content = b""
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Note octets."""
        self.content += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note the end."""
        self.reason = reason

    @property
    def whole(self) -> bool:
        """Whether the content ended as its framing says."""
        return self.reason is not None and self.reason.check(ResponseDone) is not None


@implementer(IBodyProducer)
class Content:
    """Content that the test writes."""

    def __init__(self, length: Any = UNKNOWN_LENGTH) -> None:
        self.length = length
        self.consumer: IConsumer | None = None
        self.state = "waiting"
        self.done: Deferred[None] = Deferred()

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Take note of the consumer."""
        self.consumer, self.state = consumer, "producing"
        return self.done

    def write(self, octets: bytes) -> None:
        """Write octets to whoever takes them."""
        assert self.consumer is not None
        self.consumer.write(octets)

    def pauseProducing(self) -> None:
        """Take note."""
        self.state = "paused"

    def resumeProducing(self) -> None:
        """Take note."""
        self.state = "producing"

    def stopProducing(self) -> None:
        """Take note."""
        self.state = "stopped"


class ViewReceiver(Receiver):
    """Notes content that may come as views, whose place is used again."""

    takes_views = True

    def __init__(self) -> None:
        super().__init__()
        self.kinds: list[type] = []

    def dataReceived(self, data: bytes) -> None:
        """Note octets, and what they came as."""
        self.kinds.append(type(data))
        self.content += data


class Asked(Awaited):
    """A request whose response is awaited; interim responses are noted."""

    def __init__(
        self,
        method: bytes = b"GET",
        content: IBodyProducer | None = None,
        websocket_key: bytes | None = None,
    ) -> None:
        super().__init__(ORIGIN, method, b"/", [(b"Host", b"h")], content)
        self.request.websocket_key = websocket_key
        self.interims: list[ResponseHead] = []

    def interim(self, head: ResponseHead) -> None:
        """Note it."""
        self.interims.append(head)

    @property
    def answered(self) -> Deferred[ForwardedResponse]:
        """The response, as the type that it is."""
        return cast("Deferred[ForwardedResponse]", self.response)


@attrs.define(eq=False)
class Opened:
    """An open connection and its transport.

    Attributes:
        idle: who was handed back, or was lost while idle.
        lost: which connection ended before it answered which request, and why.
    """

    network: Network
    transport: MemoryTransport
    connection: Connection
    idle: list[Connection]
    lost: list[tuple[Connection, UpstreamRequest, ProxyError]]

    @classmethod
    def new(cls) -> Opened:
        """Open a connection."""
        network = Network()
        transport = network.transport(CLIENT, UPSTREAM)
        idle: list[Connection] = []
        lost: list[tuple[Connection, UpstreamRequest, ProxyError]] = []

        def unanswered(connection: Connection, request: UpstreamRequest, error: ProxyError) -> None:
            lost.append((connection, request, error))
            request.asking.unanswered(error)

        connection = Connection(False, idle.append, unanswered, no_websocket)
        transport.join(connection)
        return cls(network, transport, connection, idle, lost)

    def send(self, asked: Asked | None = None) -> Deferred[ForwardedResponse]:
        """Send a request; returns what its response will be."""
        asked = asked or Asked()
        self.connection.send(asked.request)
        return asked.answered

    def receive(self, receiver: Receiver, asked: Asked | None = None) -> Deferred[object]:
        """Send a request; a receiver gets the content of its response at once."""
        return self.send(asked).addCallback(ForwardedResponse.deliverBody, receiver)


class ConnectionTestCase(SynchronousTestCase):
    """A case with an open connection."""

    def setUp(self) -> None:
        """Open the connection."""
        opened = Opened.new()
        self.addCleanup(opened.network.close)
        self.network, self.transport = opened.network, opened.transport
        self.connection, self.idle, self.lost = opened.connection, opened.idle, opened.lost
        self.opened = opened

    def send(self, asked: Asked | None = None) -> Deferred[ForwardedResponse]:
        """Send a request; what was written is dropped."""
        answered = self.opened.send(asked)
        self.transport.take()
        return answered

    def receive(self, octets: bytes, asked: Asked | None = None) -> Receiver:
        """Send a request, let a response arrive, and receive its content."""
        answered = self.send(asked)
        self.transport.deliver(octets)
        receiver = Receiver()
        self.successResultOf(answered).deliverBody(receiver)
        return receiver

    def assert_reusable(self, yes: bool) -> None:
        """Check whether the connection was handed back."""
        self.network.settle()
        self.assertEqual([self.connection] if yes else [], self.idle)
        self.assertEqual(yes, self.connection.usable)
        self.assertEqual(yes, self.transport.lost is None)


class OpeningTests(ConnectionTestCase):
    """A connection that was just made."""

    def test_fake(self) -> None:
        """The transport that these tests stand on is one."""
        for interface in (ITransport, IConsumer, IPushProducer):
            self.assertTrue(verifyObject(interface, self.transport))

    def test_interfaces(self) -> None:
        """A connection is what its transport and its requests take it for."""
        for interface in (IHandshakeListener, IPushProducer):
            self.assertTrue(verifyObject(interface, self.connection))
        content = Content()
        self.send(Asked(b"POST", content))
        self.assertTrue(verifyObject(IConsumer, content.consumer))

    def test_no_delay(self) -> None:
        """Trap, Twisted TCP: TCP_NODELAY is set, or a relay shows steps of 40 ms."""
        self.assertTrue(self.transport.no_delay)

    def test_ready(self) -> None:
        """Without TLS it is ready at once."""
        self.assertIs(self.connection, self.successResultOf(self.connection.ready))
        self.assertTrue(self.connection.usable)

    def test_ready_after_the_handshake(self) -> None:
        """With TLS nothing is sent before the upstream has proved who it is."""
        connection = Connection(True, self.idle.append, not_lost, no_websocket)
        self.network.transport(CLIENT, UPSTREAM).join(connection)
        self.assertNoResult(connection.ready)
        self.assertFalse(connection.usable)
        connection.handshakeCompleted()
        self.successResultOf(connection.ready)
        self.assertTrue(connection.usable)

    def test_lost_in_the_handshake(self) -> None:
        """The loss is told to who waits, and to nobody else."""
        connection = Connection(True, self.idle.append, not_lost, no_websocket)
        transport = self.network.transport(CLIENT, UPSTREAM)
        transport.join(connection)
        transport.lose(ConnectionLost)
        self.failureResultOf(connection.ready, ConnectionLost)
        self.assertEqual([], self.idle)

    def test_cancelled_in_the_handshake(self) -> None:
        """Cancelling closes it."""
        connection = Connection(True, self.idle.append, not_lost, no_websocket)
        transport = self.network.transport(CLIENT, UPSTREAM)
        transport.join(connection)
        connection.ready.cancel()
        self.failureResultOf(connection.ready, CancelledError)
        self.network.settle()
        self.assertIsNotNone(transport.lost)


class SendingTests(ConnectionTestCase):
    """What is written is the request as it was given."""

    def test_head(self) -> None:
        """Trap, treq: method, target and fields go out octet for octet, nothing is added."""
        fields = [(b"x-b", b"1"), (b"HOST", b"h"), (b"x-a", b"\xff"), (b"x-b", b"2")]
        asking = Awaited(ORIGIN, b"gEt", b"//a%2fB?", fields, None)
        self.connection.send(asking.request)
        self.assertEqual(
            b"gEt //a%2fB? HTTP/1.1\r\nx-b: 1\r\nHOST: h\r\nx-a: \xff\r\nx-b: 2\r\n\r\n",
            self.transport.value(),
        )

    def test_content_with_a_length(self) -> None:
        """Octets are written as they come."""
        content = Content(5)
        self.send(Asked(b"POST", content))
        content.write(b"abc")
        content.write(b"de")
        content.done.callback(None)
        self.assertEqual(b"abcde", self.transport.value())

    def test_content_in_chunks(self) -> None:
        """Each write is a chunk, and the end is written."""
        content = Content()
        self.send(Asked(b"POST", content))
        content.write(b"abc")
        self.assertEqual(b"3\r\nabc\r\n", self.transport.take())
        content.done.callback(None)
        self.assertEqual(b"0\r\n\r\n", self.transport.value())

    def test_trailers(self) -> None:
        """Trailers of an upload follow its last chunk."""
        upload = Upload(CHUNKED, Valve(self.network.transport(CLIENT, UPSTREAM)))
        self.send(Asked(b"POST", upload))
        upload.finish([(b"X-Sum", b"1"), (b"x-sum", b"2")])
        self.assertEqual(b"0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n", self.transport.value())

    def test_backpressure(self) -> None:
        """A full transport pauses the request's content, and only while there is some."""
        content = Content(10**6)
        self.send(Asked(b"POST", content))
        content.write(bytes(100_000))
        self.assertEqual("paused", content.state)
        self.transport.take()
        self.assertEqual("producing", content.state)
        content.done.callback(None)
        content.write(bytes(100_000))
        self.assertEqual("producing", content.state)

    def test_content_that_cannot_be_produced(self) -> None:
        """The connection is closed, so that half a request cannot be taken for a whole one."""
        content = Content()
        content.done = fail(OSError("a disk broke"))
        answered = self.opened.send(Asked(b"POST", content))
        self.network.settle()
        self.assertIsNotNone(self.transport.lost)
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))
        self.failureResultOf(answered, InternalError)

    def test_one_producer(self) -> None:
        """Content is produced by whom the request names."""
        content = Content()
        self.send(Asked(b"POST", content))
        consumer: Any = content.consumer
        self.assertRaises(NotImplementedError, consumer.registerProducer, self, True)
        self.assertRaises(NotImplementedError, consumer.unregisterProducer)

    def test_whole_content(self) -> None:
        """Content that is here already is one write, one chunk, with its end and trailers."""
        for framing, sent in (
            (Framing(Kind.LENGTH, 6), b"abcdef"),
            (CHUNKED, b"6\r\nabcdef\r\n0\r\nX-Sum: 1\r\n\r\n"),
        ):
            opened = Opened.new()
            upload = Upload(framing, Valve(opened.network.transport(CLIENT, UPSTREAM)))
            upload.preload(b"abc")
            upload.preload(b"def")
            upload.finish([(b"X-Sum", b"1")])
            receiver = Receiver()
            opened.receive(receiver, Asked(b"POST", upload))
            self.assertTrue(opened.transport.take().endswith(b"\r\n\r\n" + sent))
            opened.transport.deliver(OK)
            self.assertTrue(receiver.whole)
            self.assertEqual([opened.connection], opened.idle)

    def test_empty_content_in_chunks(self) -> None:
        """No content is no chunk: an empty one would be the end (RFC 9112 7.1)."""
        upload = Upload(CHUNKED, Valve(self.network.transport(CLIENT, UPSTREAM)))
        upload.preload(b"")
        upload.finish([])
        self.opened.send(Asked(b"POST", upload))
        self.assertTrue(self.transport.value().endswith(b"\r\n\r\n0\r\n\r\n"))

    def test_preloaded_content(self) -> None:
        """What came with the head goes on before what comes behind it."""
        upload = Upload(Framing(Kind.LENGTH, 6), Valve(self.network.transport(CLIENT, UPSTREAM)))
        upload.preload(b"abc")
        self.opened.send(Asked(b"POST", upload))
        self.assertTrue(self.transport.take().endswith(b"\r\n\r\nabc"))
        upload.write(b"def")
        upload.finish([])
        self.assertEqual(b"def", self.transport.value())
        self.transport.deliver(b"HTTP/1.1 204 No Content\r\n\r\n")

    def test_written_to(self) -> None:
        """The request knows its connection: it pauses what comes, and asks what is unsent."""
        asked = Asked()
        self.assertIsNone(asked.request.connection)
        self.send(asked)
        self.assertIs(self.connection, asked.request.connection)
        self.assertTrue(verifyObject(IPushProducer, self.connection.source))
        self.connection.source.pauseProducing()
        self.assertTrue(self.transport.paused)
        self.connection.source.resumeProducing()
        self.assertFalse(self.transport.paused)
        self.assertEqual(0, self.connection.unsent())
        self.transport.kernel[0].sendall(bytes(1000))
        self.assertGreaterEqual(self.connection.unsent(), 1000)


class ReceivingTests(ConnectionTestCase):
    """How a response is read."""

    WHOLE = (
        (OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", b""),
        (CHUNKED_OK + b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n", b"abc0123456789"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
    )

    def test_every_split(self) -> None:
        """A response is read the same however the network cuts it."""
        for octets, content in self.WHOLE:
            for pieces in splits(octets):
                opened = Opened.new()
                receiver = Receiver()
                opened.receive(receiver)
                for piece in pieces:
                    self.assertFalse(opened.transport.paused)
                    opened.transport.deliver(piece)
                self.assertEqual((content, True), (receiver.content, receiver.whole), pieces)
                self.assertEqual([opened.connection], opened.idle)

    def test_empty_line_before_a_response(self) -> None:
        """An empty line before the status line is read one way, however the network cuts it."""
        outcomes = set()
        for pieces in [(b"\r\n" + OK,), *splits(b"\r\n" + OK)]:
            opened = Opened.new()
            answered = opened.send()
            for piece in pieces:
                opened.transport.deliver(piece)
            outcomes.add(self.outcome(answered))
        self.assertEqual(1, len(outcomes), outcomes)

    def outcome(self, answered: Deferred[ForwardedResponse]) -> str:
        """Return what became of a request."""
        seen: list[str] = []
        answered.addCallbacks(
            lambda response: seen.append(str(response.code)),
            lambda failure: seen.append(failure.type.__name__),
        )
        return "".join(seen)

    @given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.data())
    def test_any_chunks(self, contents: list[bytes], data: st.DataObject) -> None:
        """Any chunks, cut anywhere, are the same content."""
        octets = CHUNKED_OK + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in contents)
        octets += b"0\r\n\r\n"
        cuts = sorted(data.draw(st.sets(st.integers(1, len(octets) - 1), max_size=10)))
        opened = Opened.new()
        receiver = Receiver()
        opened.receive(receiver)
        for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
            opened.transport.deliver(octets[start:end])
        self.assertEqual((b"".join(contents), True), (receiver.content, receiver.whole))

    def test_the_head_is_enough(self) -> None:
        """The response is there with its head; the content may take for ever."""
        answered = self.send()
        self.transport.deliver(CHUNKED_OK)
        response = self.successResultOf(answered)
        self.assertTrue(verifyObject(IResponse, response))
        self.assertEqual(
            (200, b"OK", (b"HTTP", 1, 1)), (response.code, response.phrase, response.version)
        )
        self.assertEqual(UNKNOWN_LENGTH, response.length)
        self.assertEqual([b"chunked"], response.headers.getRawHeaders(b"transfer-encoding"))
        self.assertRaises(NotImplementedError, response.setPreviousResponse, response)

    def test_every_read_is_passed_on(self) -> None:
        """Each read reaches the receiver before the next one is awaited."""
        receiver = self.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\na")
        self.assertEqual(b"a", receiver.content)
        self.transport.deliver(b"bc")
        self.assertEqual(b"abc", receiver.content)
        self.assertIsNone(receiver.reason)
        self.transport.deliver(b"def")
        self.assertTrue(receiver.whole)

    def test_nobody_receives_yet(self) -> None:
        """Until somebody receives the content the socket is not read: one read waits at most."""
        answered = self.send()
        self.transport.deliver(CHUNKED_OK + b"3\r\nabc\r\n")
        self.assertEqual("paused", self.transport.producerState)
        receiver = Receiver()
        self.successResultOf(answered).deliverBody(receiver)
        self.assertEqual(b"abc", receiver.content)
        self.assertEqual("producing", self.transport.producerState)

    def test_whole_before_anybody_receives(self) -> None:
        """A response that was whole in its first read reaches a late receiver whole."""
        receiver = self.receive(OK)
        self.assertEqual((b"ok", True), (receiver.content, receiver.whole))
        self.assert_reusable(True)

    def test_broken_before_anybody_receives(self) -> None:
        """A response that broke off meanwhile is broken for a late receiver too."""
        answered = self.send()
        self.transport.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        self.transport.lose()
        receiver = Receiver()
        self.successResultOf(answered).deliverBody(receiver)
        assert receiver.reason is not None
        self.assertEqual(b"abc", receiver.content)
        self.assertIsNotNone(receiver.reason.check(ResponseIncomplete))

    def test_closed_before_anybody_receives(self) -> None:
        """Content that ends with the connection is whole for a late receiver."""
        answered = self.send()
        self.transport.deliver(b"HTTP/1.1 200 OK\r\n\r\nabc")
        self.transport.lose()
        receiver = Receiver()
        self.successResultOf(answered).deliverBody(receiver)
        self.assertEqual((b"abc", True), (receiver.content, receiver.whole))

    def test_backpressure(self) -> None:
        """Who receives may pause the socket, and end it."""
        receiver = self.receive(CHUNKED_OK + b"3\r\nabc\r\n")
        flow = cast(object, receiver.transport)
        assert isinstance(flow, ReadFlow)
        self.assertTrue(verifyObject(IPushProducer, flow))
        flow.pauseProducing()
        self.assertEqual("paused", self.transport.producerState)
        flow.resumeProducing()
        self.assertEqual("producing", self.transport.producerState)
        flow.stopProducing()
        self.network.settle()
        self.assertIsNotNone(self.transport.lost)

    def test_paused_at_the_end(self) -> None:
        """A connection that goes back is read again: its loss has to be noticed."""
        receiver = self.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        flow = cast(object, receiver.transport)
        assert isinstance(flow, ReadFlow)
        flow.pauseProducing()
        self.transport.deliver(b"def")
        self.assert_reusable(True)
        self.assertEqual("producing", self.transport.producerState)

    def test_trailers(self) -> None:
        """Trap, twisted.web client and httptools: trailers are there, apart from the fields."""
        answered = self.send()
        self.transport.deliver(CHUNKED_OK + b"1\r\na\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n")
        response = self.successResultOf(answered)
        response.deliverBody(Receiver())
        self.assertEqual([(b"X-Sum", b"1"), (b"x-sum", b"2")], response.trailers)

    def test_interim_responses(self) -> None:
        """Trap, twisted.web client: every 1xx is told, 100 and 103 alike, in order."""
        asked = Asked()
        answered = self.send(asked)
        self.transport.deliver(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n"
        )
        self.assertNoResult(answered)
        self.transport.deliver(b"\r\n" + OK)
        self.assertEqual(200, self.successResultOf(answered).code)
        self.assertEqual(
            [(100, []), (103, [(b"Link", b"a")])], [(h.status, h.fields) for h in asked.interims]
        )

    def test_answer_to_head(self) -> None:
        """Trap, httptools: a response to HEAD has no content whatever its fields say."""
        for fields in (b"Content-Length: 10", b"Transfer-Encoding: chunked"):
            opened = Opened.new()
            receiver = Receiver()
            opened.receive(receiver, Asked(b"HEAD"))
            opened.transport.deliver(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n")
            self.assertEqual((b"", True), (receiver.content, receiver.whole))
            self.assertEqual([opened.connection], opened.idle)

    def test_extension_methods(self) -> None:
        """Trap, httptools: a method that nobody has heard of goes out as it is."""
        self.opened.send(Asked(b"x-Purge!"))
        self.assertTrue(self.transport.value().startswith(b"x-Purge! / HTTP/1.1\r\n"))


class EndingTests(ConnectionTestCase):
    """How responses and connections end."""

    def test_reuse(self) -> None:
        """After a whole response the connection serves the next request."""
        for _ in range(3):
            self.idle.clear()
            receiver = self.receive(OK)
            self.assertTrue(receiver.whole)
            self.assert_reusable(True)

    def test_no_reuse(self) -> None:
        """A response that says so, or that leaves octets behind, ends the connection."""
        for octets in (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            OK + OK,
            b"HTTP/1.1 204 No Content\r\n\r\nsurprise",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nsurprise",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\nsurprise",
            CHUNKED_OK + b"2\r\nok\r\n0\r\n\r\nsurprise",
        ):
            opened = Opened.new()
            receiver = Receiver()
            opened.receive(receiver)
            opened.transport.deliver(octets)
            opened.network.settle()
            self.assertTrue(receiver.whole, octets)
            self.assertEqual([], opened.idle, octets)
            self.assertIsNotNone(opened.transport.lost, octets)

    def test_old_upstream_that_keeps_alive(self) -> None:
        """HTTP/1.0 with keep-alive may be used again."""
        self.receive(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")
        self.assert_reusable(True)

    def test_response_before_the_end_of_the_request(self) -> None:
        """An early answer is whole; the connection, mid-request, is not used again."""
        content = Content(10)
        receiver = self.receive(OK, Asked(b"POST", content))
        self.assertTrue(receiver.whole)
        self.assertEqual("stopped", content.state)
        self.assert_reusable(False)

    def test_until_close(self) -> None:
        """A clean close is the end of content that has no other; a reset is none."""
        for reason, whole in ((ConnectionDone, True), (ConnectionLost, False)):
            opened = Opened.new()
            receiver = Receiver()
            opened.receive(receiver)
            opened.transport.deliver(b"HTTP/1.1 200 OK\r\n\r\nabc")
            opened.transport.lose(reason)
            self.assertEqual((b"abc", whole), (receiver.content, receiver.whole))
            self.assertEqual([], opened.idle)

    def test_until_close_after_a_failed_write(self) -> None:
        """A close is no end of content when a write had met a reset: the kernel tells of it once.

        A server that closes with an upload unread sends that reset.
        """
        for failed in (False, True):
            opened = Opened.new()
            receiver = Receiver()
            opened.receive(receiver)
            opened.transport.deliver(b"HTTP/1.1 200 OK\r\n\r\nabc")
            opened.connection._writer.failed = failed
            opened.transport.lose(ConnectionDone)
            self.assertEqual((b"abc", not failed), (receiver.content, receiver.whole))

    def test_goodbye_that_is_not_heard(self) -> None:
        """A TLS upstream that has left, while octets wait for it, is closed when it is looked at.

        Trap, Twisted TLS: it stops reading at the good-bye, and waits for what will never leave.
        """
        network = Network()
        self.addCleanup(network.close)
        for secure, gone in ((True, True), (True, False), (False, True)):
            transport: Any = network.transport(CLIENT, UPSTREAM)
            below = network.transport(CLIENT, UPSTREAM)
            below.disconnecting = gone
            transport.transport = below
            directlyProvides(transport, ISSLTransport)
            connection = Connection(secure, self.idle.append, not_lost, no_websocket)
            transport.join(connection)
            connection.handshakeCompleted()
            connection.look()
            network.settle()
            self.assertEqual(secure and gone, transport.lost is not None, (secure, gone))

    def test_truncated(self) -> None:
        """A close inside a response breaks it (invariant 3), clean or not."""
        for head in (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", CHUNKED_OK):
            for reason in (ConnectionDone, ConnectionLost):
                opened = Opened.new()
                receiver = Receiver()
                opened.receive(receiver)
                opened.transport.deliver(head + b"3\r\nabc")
                opened.transport.lose(reason)
                assert receiver.reason is not None
                self.assertIsNotNone(receiver.reason.check(ResponseIncomplete))

    def test_closed_before_the_head(self) -> None:
        """Whoever waits is told, whether or not a part of the head had come."""
        for octets, replied in ((b"", False), (b"HTTP/1.1 20", True)):
            opened = Opened.new()
            answered = opened.send()
            if octets:
                opened.transport.deliver(octets)
            opened.transport.lose()
            self.failureResultOf(answered, ConnectionTerminated)
            self.assertEqual(replied, opened.connection.replied)

    def test_malformed(self) -> None:
        """A response that two could read differently ends the connection."""
        for octets in (
            b"ICY 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\nX: y\n\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        ):
            opened = Opened.new()
            answered = opened.send()
            opened.transport.deliver(octets)
            self.failureResultOf(answered, BadResponse)
            opened.network.settle()
            self.assertIsNotNone(opened.transport.lost)

    def test_malformed_content(self) -> None:
        """A bad chunk breaks the content that had begun."""
        receiver = self.receive(CHUNKED_OK + b"3\r\nabc\r\n")
        self.transport.deliver(b"xyz\r\n")
        assert receiver.reason is not None
        self.assertIsNotNone(receiver.reason.check(BadResponse))
        self.assert_reusable(False)

    def test_malformed_content_in_the_first_read(self) -> None:
        """Content that is bad from its first octet ends the exchange as well, without a defect."""
        answered = self.send()
        self.transport.deliver(CHUNKED_OK + b"xyz\r\n")
        self.failureResultOf(answered, BadResponse)
        self.assert_reusable(False)

    def test_head_too_large(self) -> None:
        """Trap, httptools: it has no size limits; a head past its bound ends the exchange."""
        answered = self.send()
        self.transport.deliver(b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD_BYTES)
        self.failureResultOf(answered, ResponseHeadTooLarge)

    def test_unsolicited(self) -> None:
        """Octets that nobody asked for could be taken for the next response: the end."""
        self.receive(OK)
        self.idle.clear()
        self.transport.deliver(b"HTTP/1.1 200 OK\r\n\r\n")
        self.assertFalse(self.connection.usable)
        self.network.settle()
        self.assertIsNotNone(self.transport.lost)

    def test_unsolicited_at_once(self) -> None:
        """The same before the first request."""
        self.transport.deliver(b"220 smtp.test ready\r\n")
        self.assertFalse(self.connection.usable)

    def test_lost_while_idle(self) -> None:
        """Who keeps the connection is told."""
        self.receive(OK)
        self.idle.clear()
        self.transport.lose()
        self.assertEqual([self.connection], self.idle)
        self.assertFalse(self.connection.usable)

    def test_cancel_before_the_head(self) -> None:
        """Nobody waits any more: the connection is closed (FIELD 1)."""
        content = Content(10)
        answered = self.send(Asked(b"POST", content))
        answered.cancel()
        self.failureResultOf(answered, CancelledError)
        self.assertTrue(self.transport.disconnected)
        self.assertEqual("stopped", content.state)
        self.assert_reusable(False)

    def test_withdrawn(self) -> None:
        """Of a request that is withdrawn nobody is told: not who asks, not its receiver."""
        for octets in (b"", b"HTTP/1.1 20", CHUNKED_OK, CHUNKED_OK + b"3\r\nabc\r\n"):
            opened = Opened.new()
            receiver = Receiver()
            asked = Asked(b"POST", Content(10))
            answered = opened.receive(receiver, asked)
            if octets:
                opened.transport.deliver(octets)
            asked.request.withdraw()
            self.assertTrue(opened.transport.disconnected)
            opened.network.settle()
            self.assertIsNotNone(opened.transport.lost)
            if not answered.called:
                self.assertNoResult(answered)
            self.assertEqual(([], [], None), (opened.lost, opened.idle, receiver.reason))

    def test_unanswered(self) -> None:
        """Who opened the connection learns which request was lost, why, and what is known of it."""
        asked = Asked()
        answered = self.send(asked)
        self.transport.lose()
        ((connection, request, error),) = self.lost
        self.assertIs(self.connection, connection)
        self.assertIs(asked.request, request)
        self.assertIsInstance(error, ConnectionTerminated)
        self.assertEqual((False, False), (connection.kept, connection.replied))
        self.failureResultOf(answered, ConnectionTerminated)

    def test_kept(self) -> None:
        """It is a kept one from the end of its first response on, and not before."""
        receiver = self.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab")
        self.assertEqual((False, True), (self.connection.kept, self.connection.replied))
        self.transport.deliver(b"c")
        self.assertTrue(receiver.whole)
        self.assertTrue(self.connection.kept)
        answered = self.send()
        self.assertEqual((True, False), (self.connection.kept, self.connection.replied))
        self.transport.lose()
        self.failureResultOf(answered, ConnectionTerminated)

    def test_used_again_at_once(self) -> None:
        """The next request may be sent before the receiver of the last response is told."""
        for head in (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", CHUNKED_OK):
            content = b"2\r\nok\r\n0\r\n\r\n" if head is CHUNKED_OK else b"ok"
            for pieces in ((head + content,), (head, content), (head + content[:1], content[1:])):
                opened = Opened.new()
                second = Asked(b"PUT")

                def use_again(connection: Connection, asked: Asked = second) -> None:
                    connection.send(asked.request)

                opened.connection._on_idle = use_again
                receivers = Receiver(), Receiver()
                opened.receive(receivers[0])
                second.answered.addCallback(ForwardedResponse.deliverBody, receivers[1])
                for piece in pieces:
                    opened.transport.deliver(piece)
                self.assertEqual((b"ok", True), (receivers[0].content, receivers[0].whole))
                self.assertIn(b"PUT / HTTP/1.1\r\n", opened.transport.value())
                self.assertIsNone(receivers[1].reason)
                opened.connection._on_idle = opened.idle.append
                opened.transport.deliver(OK)
                self.assertEqual((b"ok", True), (receivers[1].content, receivers[1].whole))
                self.assertEqual([opened.connection], opened.idle)

    def test_octets_after_an_abort(self) -> None:
        """What arrives after an abort disturbs nobody."""
        answered = self.send()
        answered.cancel()
        self.failureResultOf(answered, CancelledError)
        self.connection.dataReceived(OK)
        self.transport.lose()
        self.assertEqual([], self.idle)

    def test_close(self) -> None:
        """An idle connection is closed in order."""
        self.receive(OK)
        self.connection.close()
        self.network.settle()
        assert self.transport.lost is not None
        self.assertIsNotNone(self.transport.lost.check(ConnectionDone))
        self.assertFalse(self.transport.disconnected)

    def test_abort_twice(self) -> None:
        """A second abort is none."""
        self.connection.abort()
        self.connection.abort()
        self.network.settle()
        self.assert_reusable(False)

    def test_silent(self) -> None:
        """The kernel knows of a close before the reactor does."""
        self.receive(OK)
        self.assertTrue(self.connection.silent())
        self.transport.kernel[1].close()
        self.assertTrue(self.connection.usable)
        self.assertFalse(self.connection.silent())

    def test_upload_is_released(self) -> None:
        """The end of an exchange lets go of the client's socket that its upload held."""
        client = self.network.transport(UPSTREAM, CLIENT)
        valve = Valve(client)
        upload = Upload(Framing(Kind.LENGTH, 10**6), valve)
        self.send(Asked(b"POST", upload))
        upload.write(bytes(200_000))
        self.assertTrue(valve.held)
        self.connection.abort()
        self.assertFalse(valve.held)
        valve.hold(Hold.PIPELINE)


LONG = bytes(range(256)) * 48
"""Content of several times what is searched for the end of a head."""


def in_chunks(content: bytes, size: int) -> bytes:
    """Return content in chunks of a size, without their end."""
    pieces = (content[place : place + size] for place in range(0, len(content), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


class InPlaceTests(ConnectionTestCase):
    """Reads of a plain socket come as views, and their place is used again at once."""

    LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LONG)
    HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    END = b"0\r\nX-Sum: 1\r\n\r\n"
    FAT = b"HTTP/1.1 200 OK\r\nX: %b\r\n" % (b"x" * FIRST_PIECE_BYTES)
    FAT += LENGTH.partition(b"\r\n")[2]

    # The octets before content or a next head, and what follows.
    WHOLE = (
        ((LENGTH,), LONG),
        ((CHUNKED_OK,), in_chunks(LONG, len(LONG)) + END),
        ((CHUNKED_OK,), in_chunks(LONG, 700) + END),
        ((HINTS, LENGTH), LONG),
        ((HINTS, HINTS, CHUNKED_OK), in_chunks(LONG, 5000) + END),
        ((FAT,), LONG),
        ((HINTS, FAT), LONG),
    )

    def receivers(self) -> tuple[Receiver, Receiver]:
        """Return one of each kind."""
        return Receiver(), ViewReceiver()

    def borders(self, heads: tuple[bytes, ...], rest: bytes) -> list[int]:
        """Return where it is interesting to cut a response."""
        ends = [sum(map(len, heads[: count + 1])) for count in range(len(heads))]
        return [*ends, ends[-1] + len(rest), FIRST_PIECE_BYTES, ends[-1] + FIRST_PIECE_BYTES]

    def test_every_border(self) -> None:
        """A response is read the same however it is cut, and nothing keeps a view."""
        for heads, rest in self.WHOLE:
            for pieces in cuts_around(b"".join(heads) + rest, *self.borders(heads, rest)):
                for receiver in self.receivers():
                    opened, asked = Opened.new(), Asked()
                    opened.receive(receiver, asked)
                    for piece in pieces:
                        self.assertFalse(opened.transport.paused)
                        opened.transport.deliver_in_place(piece)
                    context = heads, [len(piece) for piece in pieces]
                    self.assertEqual(LONG, receiver.content, context)
                    self.assertTrue(receiver.whole, context)
                    self.assertEqual([103] * (len(heads) - 1), [h.status for h in asked.interims])
                    self.assertEqual([opened.connection], opened.idle, context)

    def test_late_receiver(self) -> None:
        """What came before anybody receives was copied; one read of it waits."""
        for heads, rest in self.WHOLE:
            for pieces in cuts_around(b"".join(heads) + rest, *self.borders(heads, rest)):
                for receiver in self.receivers():
                    opened = Opened.new()
                    answered = opened.send()
                    waiting = list(pieces)
                    while waiting and not opened.transport.paused:
                        opened.transport.deliver_in_place(waiting.pop(0))
                    self.successResultOf(answered).deliverBody(receiver)
                    for piece in waiting:
                        opened.transport.deliver_in_place(piece)
                    self.assertEqual((LONG, True), (receiver.content, receiver.whole))
                    self.assertEqual([opened.connection], opened.idle)

    def test_nothing_is_copied(self) -> None:
        """Who takes views gets them, from the octets behind the head on; nobody else does."""
        plain, viewing = Receiver(), ViewReceiver()
        for receiver in (plain, viewing):
            opened = Opened.new()
            opened.receive(receiver)
            opened.transport.deliver_in_place(self.LENGTH + LONG[:5000])
            opened.transport.deliver_in_place(LONG[5000:])
            self.assertTrue(receiver.whole)
        self.assertEqual([memoryview, memoryview], viewing.kinds)

    def test_until_close(self) -> None:
        """Content that ends with the connection."""
        for receiver in self.receivers():
            opened = Opened.new()
            opened.receive(receiver)
            opened.transport.deliver_in_place(b"HTTP/1.1 200 OK\r\n\r\n" + LONG)
            opened.transport.deliver_in_place(LONG)
            opened.transport.lose()
            self.assertEqual((LONG * 2, True), (receiver.content, receiver.whole))

    def test_behind_a_response(self) -> None:
        """Octets behind a whole response would be taken for the next one: the connection ends."""
        nothing = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        for method, whole, content in (
            (b"GET", self.LENGTH + LONG, LONG),
            (b"GET", CHUNKED_OK + in_chunks(LONG, 5000) + self.END, LONG),
            (b"GET", nothing, b""),
            (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
            (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
            (b"HEAD", self.LENGTH, b""),
            (b"HEAD", CHUNKED_OK, b""),
        ):
            for behind in (b"x", OK, LONG):
                for pieces in cuts_around(whole + behind, len(whole), reach=2):
                    opened = Opened.new()
                    receiver = ViewReceiver()
                    opened.receive(receiver, Asked(method))
                    for piece in pieces:
                        opened.transport.deliver_in_place(piece)
                    opened.network.settle()
                    self.assertEqual((content, True), (receiver.content, receiver.whole))
                    self.assertFalse(opened.connection.usable)
                    self.assertIsNotNone(opened.transport.lost)

    def test_malformed(self) -> None:
        """What is no response is refused, however large the read it comes in."""
        for octets in (
            LONG,
            b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n" + LONG,
            b"HTTP/1.1 200 OK\nX: y\n\n" + LONG,
            CHUNKED_OK + b"xyz\r\n" + LONG,
            self.HINTS + b"ICY 200 OK\r\n\r\n" + LONG,
        ):
            opened = Opened.new()
            answered = opened.send()
            opened.transport.deliver_in_place(octets)
            self.failureResultOf(answered, BadResponse)
            self.assertTrue(opened.transport.disconnected)

    def test_head_too_large(self) -> None:
        """The bound of a head holds for one that comes in one read."""
        for head in (
            b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % (b"x" * MAX_HEAD_BYTES),
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD_BYTES,
        ):
            opened = Opened.new()
            answered = opened.send()
            opened.transport.deliver_in_place(head)
            self.failureResultOf(answered, ResponseHeadTooLarge)

    def test_behind_a_switch(self) -> None:
        """What comes behind a 101 is the WebSocket's, octet for octet, in one read or in two."""
        switching = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        for behind in (b"", b"\x81\x02hi", LONG):
            for before in (b"", self.HINTS):
                octets = before + switching + behind
                for pieces in cuts_around(octets, len(octets) - len(behind)):
                    opened = Opened.new()
                    end = RelayedEnd()
                    opened.connection._make_websocket = lambda end=end: end  # type: ignore[misc]
                    asked = Asked(websocket_key=b"dGhlIHNhbXBsZSBub25jZQ==")
                    answered = opened.send(asked)
                    for piece in pieces:
                        opened.transport.deliver_in_place(piece)
                    self.assertTrue(opened.transport.paused)
                    self.assertEqual((end, behind), self.successResultOf(answered).detach())
                    self.assertFalse(opened.transport.paused)
                    self.assertIs(opened.transport, end.transport)
                    self.assertIs(end, opened.transport.protocol)

    def test_unsolicited(self) -> None:
        """Octets that nobody asked for end an idle connection, in a view as well."""
        self.transport.deliver_in_place(LONG)
        self.assertFalse(self.connection.usable)
        self.assertTrue(self.transport.disconnected)
