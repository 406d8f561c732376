"""One connection to an upstream: what it writes, and how it ends or serves the next request."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, fail
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHandshakeListener,
    IPushProducer,
    ISSLTransport,
    ITransport,
)
from zope.interface import directlyProvides
from zope.interface.verify import verifyObject

from pyproxy.errors import ConnectionTerminated, InternalError
from pyproxy.policy.routing import Peer
from pyproxy.relay.content import Upload
from pyproxy.relay.pausing import Hold, Valve
from pyproxy.semantics.framing import CHUNKED, Framing, Kind
from pyproxy.upstream.agent import Awaited
from pyproxy.upstream.connection import Connection
from pyproxy.upstream.manners import Manners
from pyproxy.upstream.response import ForwardedResponse
from tests.memory import CLIENT, OK, UPSTREAM, Network, no_websocket, not_lost
from tests.upstream.kit import (
    CHUNKED_OK,
    ORIGIN,
    Asked,
    ConnectionTestCase,
    Content,
    Opened,
    Receiver,
)


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
        connection = Connection(True, self.idle.append, not_lost, no_websocket, Manners(ORIGIN))
        self.network.transport(CLIENT, UPSTREAM).join(connection)
        self.assertNoResult(connection.ready)
        self.assertFalse(connection.usable)
        connection.handshakeCompleted()
        self.successResultOf(connection.ready)
        self.assertTrue(connection.usable)

    def test_lost_in_the_handshake(self) -> None:
        """The loss is told to who waits, and to nobody else."""
        connection = Connection(True, self.idle.append, not_lost, no_websocket, Manners(ORIGIN))
        transport = self.network.transport(CLIENT, UPSTREAM)
        transport.join(connection)
        transport.lose(ConnectionLost)
        self.failureResultOf(connection.ready, ConnectionLost)
        self.assertEqual([], self.idle)

    def test_cancelled_in_the_handshake(self) -> None:
        """Cancelling closes it."""
        connection = Connection(True, self.idle.append, not_lost, no_websocket, Manners(ORIGIN))
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
        asking = Awaited(Peer(ORIGIN), b"gEt", b"//a%2fB?", fields, None)
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


class EndingTests(ConnectionTestCase):
    """How connections end, and when they do not."""

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
            connection = Connection(
                secure, self.idle.append, not_lost, no_websocket, Manners(ORIGIN)
            )
            transport.join(connection)
            connection.handshakeCompleted()
            connection.look()
            network.settle()
            self.assertEqual(secure and gone, transport.lost is not None, (secure, gone))

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
