"""Messages come back as they went, within bounds, and every WebSocket comes to an end."""

from __future__ import annotations

import random
import zlib

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pyproxy.demo.dialogue import Echo
from pyproxy.demo.handshake import MESSAGE_LIMIT, OpeningHandshake
from pyproxy.demo.websocket import CLOSE_SECONDS, WebSocket, WebSocketFactory
from tests.demo.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    Frame,
    closing,
    from_client,
    from_server,
    head,
)
from tests.demo.kit import WebSocketClient

DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate"}
DEFLATE_TAIL = b"\x00\x00\xff\xff"

ROOM = 100_000
"""Octets that a client takes before its socket is full."""

READ_SIZE = 65536
"""Octets that a real socket is read at a time."""


def echo(room: int | None = None, *, fields: dict[str, str] | None = None) -> WebSocketClient:
    """Return a client of the echo, its handshake done."""
    client = WebSocketClient(room)
    assert client.open("/ws/echo", fields).status == 101
    return client


def opened(
    factory: WebSocketFactory, transport: StringTransport, most: int = MESSAGE_LIMIT
) -> WebSocket:
    """Return an echo without a site, its handshake done; it compresses."""
    websocket = factory.build(Echo(), None, most)
    websocket.makeConnection(transport)
    handshake = OpeningHandshake(KEY.encode(), (), b"permessage-deflate")
    websocket.dataReceived(handshake.head(None))
    assert b"permessage-deflate" in transport.value()
    transport.clear()
    return websocket


class EchoTests(SynchronousTestCase):
    """What comes back."""

    def test_every_message(self) -> None:
        """Text comes back as text and binary as binary, of any length of length (6455 5.2)."""
        client = echo()
        for size in (0, 1, 125, 126, 65535, 65536, 300_000):
            for opcode in (TEXT, BINARY):
                with self.subTest(size=size, opcode=opcode):
                    client.tell(Frame(opcode, b"x" * size))
                    self.assertEqual(client.heard(), [Frame(opcode, b"x" * size)])

    def test_any_cut(self) -> None:
        """Frames are read wherever the wire cuts them, one octet at a time too."""
        client = echo()
        frames = [Frame(TEXT, "Grüße".encode()), Frame(PING, b"p"), Frame(BINARY, b"\x00\xff")]
        wire = b"".join(map(from_client, frames))
        for size in (1, 2, 3, len(wire)):
            with self.subTest(size=size):
                for start in range(0, len(wire), size):
                    client.protocol.dataReceived(wire[start : start + size])
                self.assertEqual(client.heard(), [frames[0], Frame(PONG, b"p"), frames[2]])

    def test_fragments_are_joined(self) -> None:
        """A message of several frames is one message; a ping may stand amid them (6455 5.4)."""
        client = echo()
        client.tell(
            Frame(TEXT, b"a", fin=False),
            Frame(CONTINUATION, b"b", fin=False),
            Frame(PING, b"now"),
            Frame(CONTINUATION, b"c"),
        )
        self.assertEqual(client.heard(), [Frame(PONG, b"now"), Frame(TEXT, b"abc")])

    def test_frames_behind_the_handshake(self) -> None:
        """Octets that came in one packet with the handshake are frames, whole or half."""
        for size in (5, 100_000):
            with self.subTest(size=size):
                message = Frame(BINARY, b"x" * size)
                wire = from_client(message) * 2
                client = WebSocketClient()
                client.open("/ws/echo", behind=wire[:-3])
                self.assertEqual(client.transport.producerState, "producing")
                client.protocol.dataReceived(wire[-3:])
                self.assertEqual(client.heard(), [message, message])

    def test_pongs_are_taken(self) -> None:
        """A pong that nobody asked for is no mistake (6455 5.5.3)."""
        client = echo()
        client.tell(Frame(PONG, b"x"), Frame(TEXT, b"y"))
        self.assertEqual(client.heard(), [Frame(TEXT, b"y")])

    def test_compressed_messages(self) -> None:
        """With permessage-deflate both ends compress, each with what went before (7692 7.2)."""
        client = echo(fields=DEFLATE)
        compressor, decompressor = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)
        for number in range(3):
            message = b"the same again and again " * 100
            wire = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)
            client.tell(Frame(TEXT, wire.removesuffix(DEFLATE_TAIL), compressed=True))
            (frame,) = client.heard()
            self.assertTrue(frame.compressed)
            self.assertLess(len(frame.payload), len(message) // 10, number)
            self.assertEqual(decompressor.decompress(frame.payload + DEFLATE_TAIL), message)

    def test_message_that_compression_makes_longer(self) -> None:
        """A message that keeps the bound comes back, also when it would not if compressed."""
        transport = StringTransport()
        websocket = opened(WebSocketFactory(Clock()), transport, most=1000)
        message = Frame(BINARY, random.Random(3).randbytes(1000))
        websocket.dataReceived(from_client(message))
        self.assertEqual(from_server(transport.value()), [message])


class BackpressureTests(SynchronousTestCase):
    """A client that sends and does not read."""

    def test_full_socket_stops_the_reading(self) -> None:
        """No more is read than was under way, and all of it comes back in the end (FIELD 8)."""
        client = echo(ROOM)
        self.assertTrue(verifyObject(IPushProducer, client.producer))
        messages = [Frame(BINARY, bytes([number % 256]) * 1000) for number in range(500)]
        wire = b"".join(map(from_client, messages))
        sent, pauses, frames = 0, 0, []
        while sent < len(wire):
            while client.transport.producerState == "producing" and sent < len(wire):
                client.protocol.dataReceived(wire[sent : sent + READ_SIZE])
                sent += READ_SIZE
            pauses += client.transport.producerState == "paused"
            self.assertLess(len(client.transport.value()), ROOM + READ_SIZE + 1000)
            frames += client.read_all()
        self.assertEqual(frames, messages)
        self.assertGreater(pauses, 2)

    def test_full_socket_stops_the_pongs(self) -> None:
        """Pings are answered as messages are: while somebody reads."""
        client = echo(ROOM)
        pings = [Frame(PING, b"x" * 125)] * (2 * ROOM // 125)
        client.tell(*pings)
        self.assertEqual(client.transport.producerState, "paused")

    def test_message_past_the_bound(self) -> None:
        """A message too long is refused at its first frame that says so, with 1009 (7.4.1)."""
        client = echo()
        announced = head(Frame(BINARY), masked=True, announced=MESSAGE_LIMIT + 1) + bytes(4)
        client.protocol.dataReceived(announced)
        self.assertEqual([frame.close_code for frame in client.heard()], [1009])

    def test_fragments_past_the_bound(self) -> None:
        """The bound holds for all fragments of a message together."""
        client = echo()
        client.tell(Frame(BINARY, b"x", fin=False))
        client.protocol.dataReceived(
            head(Frame(CONTINUATION), masked=True, announced=MESSAGE_LIMIT) + bytes(4)
        )
        self.assertEqual([frame.close_code for frame in client.heard()], [1009])


class EndTests(SynchronousTestCase):
    """How a WebSocket ends."""

    def setUp(self) -> None:
        """Take the log."""
        self.logged = self.enterContext(capturedLogs())

    def assert_silent(self) -> None:
        """Check that nothing was logged."""
        self.assertEqual([event.get("log_format") for event in self.logged], [])

    def test_close_comes_back(self) -> None:
        """The client's Close is answered by the same code and reason, then by the end (5.5.1)."""
        for close in (
            closing(),
            closing(1000),
            closing(1001, "bye"),
            closing(3000, "Grüße"),
            closing(4999, "x" * 123),
        ):
            with self.subTest(close=close):
                client = echo()
                client.tell(close, Frame(TEXT, b"too late"))
                self.assertEqual(client.heard(), [close])
                self.assertTrue(client.transport.disconnecting)
                self.assertFalse(client.transport.disconnected, "the end was a reset")
                client.leave()
                self.assertEqual(client.clock.getDelayedCalls(), [])
        self.assert_silent()

    def test_client_that_leaves(self) -> None:
        """A client may leave without a word."""
        client = echo()
        client.tell(Frame(TEXT, b"half", fin=False))
        client.leave()
        self.assertEqual(client.clock.getDelayedCalls(), [])
        self.assert_silent()

    def test_client_that_leaves_a_full_socket(self) -> None:
        """What resumes afterwards does no harm."""
        client = echo(ROOM)
        client.tell(*[Frame(BINARY, b"x" * 1000)] * 200)
        producer = client.producer
        client.leave()
        producer.stopProducing()
        self.assertEqual(client.clock.getDelayedCalls(), [])
        self.assert_silent()

    def test_broken_frames(self) -> None:
        """What breaks the protocol is answered by a Close with its code (7.4.1)."""
        for wire, code in (
            (head(Frame(TEXT, b"x")) + b"x", 1002),
            (from_client(Frame(3)), 1002),
            (from_client(Frame(11)), 1002),
            (from_client(Frame(TEXT, b"x", compressed=True)), 1002),
            (from_client(Frame(CONTINUATION, b"x")), 1002),
            (from_client(Frame(PING, b"x", fin=False)), 1002),
            (from_client(closing(999)), 1002),
            (from_client(closing(1006)), 1002),
            (from_client(Frame(CLOSE, b"x")), 1002),
            (from_client(Frame(TEXT, b"\xff")), 1007),
            (from_client(Frame(TEXT, b"\xc3")), 1007),
        ):
            with self.subTest(wire=wire):
                client = echo()
                client.protocol.dataReceived(wire)
                frame = client.heard()[0]
                self.assertEqual((frame.opcode, frame.close_code), (CLOSE, code))
                client.clock.advance(CLOSE_SECONDS)
                self.assertTrue(client.transport.disconnecting)
                client.leave()
        self.assert_silent()

    def test_extension_with_bad_parameters(self) -> None:
        """An offer that is none is refused, and nothing is left open (RFC 7692 7)."""
        client = WebSocketClient()
        answer = client.open(
            "/ws/echo", {"Sec-WebSocket-Extensions": "permessage-deflate; nonsense=1"}
        )
        self.assertEqual(answer.status, 400)
        self.assertTrue(client.transport.disconnecting)
        client.leave()
        self.assert_silent()

    def test_site_goes_away(self) -> None:
        """When the site stops, every client gets a Close 1001 and is waited for (7.4.1)."""
        client = echo()
        client.site.stopFactory()
        self.assertEqual([frame.close_code for frame in client.heard()], [1001])
        client.tell(Frame(TEXT, b"too late"))
        self.assertEqual(client.heard(), [])
        self.assertFalse(client.transport.disconnecting)
        client.tell(closing(1001))
        self.assertTrue(client.transport.disconnecting)
        self.assertFalse(client.transport.disconnected, "the end was a reset")
        client.leave()
        self.assertEqual(client.clock.getDelayedCalls(), [])
        self.assert_silent()

    def test_site_goes_away_without_an_answer(self) -> None:
        """A client that does not answer is not waited for any longer than the limit."""
        client = echo()
        client.site.stopFactory()
        client.clock.advance(CLOSE_SECONDS * 0.9)
        self.assertFalse(client.transport.disconnected)
        client.clock.advance(CLOSE_SECONDS * 0.2)
        self.assertTrue(client.transport.disconnected)
        client.leave()
        self.assertEqual(client.clock.getDelayedCalls(), [])
        self.assert_silent()

    def test_site_goes_away_without_websockets(self) -> None:
        """Nothing happens to those whose WebSocket has ended, or never was."""
        client = echo()
        client.tell(closing())
        client.leave()
        client.heard()
        client.site.stopFactory()
        WebSocketClient().site.stopFactory()
        self.assertEqual(client.heard(), [])
        self.assertEqual(client.clock.getDelayedCalls(), [])

    def test_nothing_is_left(self) -> None:
        """The site forgets a WebSocket that has ended, and its timers were the site's own."""
        from twisted.internet import reactor

        before = IReactorTime(reactor).getDelayedCalls()
        for ends in ((), (closing(),), (Frame(3),)):
            with self.subTest(ends=ends):
                factory = WebSocketFactory(Clock())
                websocket = opened(factory, StringTransport())
                self.assertEqual(factory.are_open, {websocket})
                websocket.dataReceived(b"".join(map(from_client, ends)))
                websocket.connectionLost()
                self.assertEqual(factory.are_open, set())
                self.assertEqual(factory.clock.getDelayedCalls(), [])
                self.assertEqual(IReactorTime(reactor).getDelayedCalls(), before)
