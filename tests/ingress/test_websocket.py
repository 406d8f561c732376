"""A WebSocket through the whole proxy, in memory: how it opens, passes and ends."""

from __future__ import annotations

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from zope.interface.verify import verifyObject

from pyproxy.errors import ClientMessageTooBig, ReadTimeout, ResponseIncomplete, Unavailable
from pyproxy.ingress.site import LAST_REQUEST_SECONDS
from pyproxy.policy.routing import Limits
from pyproxy.relay.direction import Direction
from pyproxy.relay.lookout import LINGER_SECONDS, LOOK_INTERVAL
from tests.memory import MemoryTransport, Stage, StageTestCase, request, response, status_of

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
"""The example of RFC 6455 1.3, with its answer."""
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

HANDSHAKE = request(
    b"GET /chat?a=%2F HTTP/1.1",
    b"Upgrade: WebSocket",
    b"Connection: keep-alive, Upgrade",
    b"Sec-WebSocket-Key: " + KEY,
    b"Sec-WebSocket-Version: 13",
    b"Referer: http://front.test/",
)
SWITCHING = response(
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Accept: " + ACCEPT,
    b"Sec-WebSocket-Protocol: chat",
    status_line=b"HTTP/1.1 101 Switching Protocols",
)
TEXT = b"\x81\x02hi"
LARGE = b"\x82\x7e\x80\x00" + bytes(0x8000)
MASKED_TEXT = b"\x81\x82\x00\x00\x00\x00hi"
CLOSE = b"\x88\x02\x03\xe8"
MASKED_CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"
GOING_AWAY = b"\x03\xe9"
TOO_BIG = b"\x03\xf1"


def unmask(frame: bytes) -> bytes:
    """Return the payload of a short masked frame."""
    mask, payload = frame[2:6], frame[6:]
    return bytes(octet ^ mask[at % 4] for at, octet in enumerate(payload))


class WebSocketTestCase(StageTestCase):
    """A case with an open WebSocket."""

    limits = Limits()

    def setUp(self) -> None:
        """Set the stage and open a WebSocket."""
        self.scene: Stage = self.stage(limits=self.limits)
        self.network = self.scene.network
        self.client, self.upstream = self.open()

    def open(self, early: bytes = b"", behind: bytes = b"") -> tuple[MemoryTransport, ...]:
        """Open a WebSocket; returns the proxy's ends, with the 101 taken."""
        client = self.scene.client(HANDSHAKE + early)
        self.asked = self.scene.answer(SWITCHING + behind)
        self.answered, _, self.got = client.take().partition(b"\r\n\r\n")
        return client, self.scene.upstream

    def assert_over(self) -> None:
        """Check that nothing is left of the one WebSocket but a line in the log."""
        self.network.settle()
        self.assertIsNotNone(self.client.lost)
        self.assertIsNotNone(self.upstream.lost)
        self.assertEqual(set(), self.scene.site._connections)
        self.assertEqual(1, len(self.scene.logged))
        self.assertEqual(101, self.scene.logged[0].status)
        (sweep,) = self.network.getDelayedCalls()
        self.assertIn("LoopingCall", str(sweep))


class OpeningTests(WebSocketTestCase):
    """From an exchange to a pair of ends."""

    def test_fields(self) -> None:
        """Both ends get each other's fields, and the upgrade of their own hop.  RFC 6455 4."""
        lines = self.asked.split(b"\r\n")
        self.assertEqual(b"GET /chat?a=%2F HTTP/1.1", lines[0])
        self.assertIn(b"Sec-WebSocket-Key: " + KEY, lines)
        self.assertEqual(1, self.asked.lower().count(b"\r\nupgrade:"))
        self.assertEqual(1, self.asked.lower().count(b"\r\nconnection:"))
        self.assertIn(b"Connection: Upgrade", lines)
        answered = self.answered.split(b"\r\n")
        self.assertEqual(b"HTTP/1.1 101 Switching Protocols", answered[0])
        self.assertIn(b"Sec-WebSocket-Protocol: chat", answered)
        self.assertIn(b"Upgrade: websocket", answered)
        self.assertIn(b"Connection: Upgrade", answered)

    def test_octets_that_came_with_the_handshake(self) -> None:
        """What stands behind either handshake in the same packet is data (FIELD 20)."""
        _, upstream = self.open(early=MASKED_TEXT, behind=TEXT)
        self.assertEqual(TEXT, self.got)
        self.assertEqual(MASKED_TEXT, upstream.take())

    def test_refused(self) -> None:
        """Another answer passes whole; what was sent behind the handshake is no request."""
        client = self.scene.client(HANDSHAKE + request(b"GET /evil HTTP/1.1"))
        self.scene.answer(
            response(b"Content-Length: 2", status_line=b"HTTP/1.1 403 Forbidden", content=b"no")
        )
        answer = client.take()
        self.assertEqual(403, status_of(answer))
        self.assertTrue(answer.endswith(b"\r\nConnection: close\r\n\r\nno"))
        self.network.settle()
        self.assertNotIn(b"evil", self.scene.upstream.take())

    def test_wrong_answers(self) -> None:
        """A 101 that does not answer the key opens nothing.  RFC 6455 4.1."""
        for switching in (
            SWITCHING.replace(ACCEPT, KEY),
            SWITCHING.replace(b"Upgrade: websocket\r\n", b""),
            SWITCHING.replace(b"Connection: Upgrade\r\n", b""),
            SWITCHING.replace(b"HTTP/1.1", b"HTTP/1.0"),
        ):
            client = self.scene.client(HANDSHAKE)
            self.scene.answer(switching)
            self.assertEqual(502, status_of(client.take()))
            self.assertIsNotNone(self.scene.upstream.lost)

    def test_bad_handshakes(self) -> None:
        """What is no opening handshake is answered here.  RFC 6455 4.2.1, 4.4."""
        opened = len(self.network.opened)
        for old, new, status in (
            (b"Version: 13", b"Version: 12", 426),
            (b"Key: " + KEY, b"Key: short", 400),
            (b"Referer", b"Content-Length: 3\r\nReferer", 400),
        ):
            client = self.scene.client(HANDSHAKE.replace(old, new))
            answer = client.take()
            self.assertEqual(status, status_of(answer))
            self.assertIn(b"\r\nConnection: close\r\n", answer)
        self.assertEqual(opened, len(self.network.opened))

    def test_client_leaves_before_the_answer(self) -> None:
        """A handshake is an exchange: its client leaves, and the upstream is closed."""
        client = self.scene.client(HANDSHAKE)
        client.lose(ConnectionLost)
        self.network.settle()
        self.assertIsNotNone(self.scene.upstream.lost)

    def test_interface(self) -> None:
        """The ends know what half a close is."""
        for end in (self.client.protocol, self.upstream.protocol):
            verifyObject(IHalfCloseableProtocol, end)


class PassingTests(WebSocketTestCase):
    """Octets pass as they are."""

    def test_both_ways(self) -> None:
        """Each read is a write, whatever the frames in it."""
        for octets in (TEXT, b"\xff\x00\x01", b"\x00", LARGE[:100], LARGE[100:]):
            self.upstream.deliver(octets)
            self.assertEqual(octets, self.client.take())
            self.client.deliver(octets)
            self.assertEqual(octets, self.upstream.take())

    def test_full_client(self) -> None:
        """A client that does not read stops the reading from the upstream."""
        for _ in range(3):
            self.upstream.deliver(LARGE)
        self.assertTrue(self.upstream.paused)
        self.assertFalse(self.client.paused)
        self.client.take()
        self.assertFalse(self.upstream.paused)

    def test_full_upstream(self) -> None:
        """An upstream that does not read stops the reading from the client."""
        for _ in range(3):
            self.client.deliver(LARGE)
        self.assertTrue(self.client.paused)
        self.network.pass_time(1)
        self.assertIsNone(self.client.lost)
        self.upstream.take()
        self.assertFalse(self.client.paused)

    def test_producer(self) -> None:
        """What a transport pauses is the direction to it."""
        self.assertIsInstance(self.client.producer, Direction)
        self.assertIsInstance(self.upstream.producer, Direction)


class EndingTests(WebSocketTestCase):
    """Both ends live and end together."""

    def test_closing_handshake(self) -> None:
        """A FIN behind a Close leaves the way back open.  RFC 6455 7.1.1."""
        self.client.deliver(MASKED_CLOSE)
        self.client.end_reading()
        self.assertEqual(MASKED_CLOSE, self.upstream.take())
        self.assertTrue(self.upstream.half_closed)
        self.upstream.deliver(CLOSE)
        self.assertEqual(CLOSE, self.client.take())
        self.upstream.end_reading()
        self.assert_over()
        self.assertFalse(self.scene.logged[0].left)
        self.assertIsNone(self.scene.logged[0].error)

    def test_upstream_closes_first(self) -> None:
        """The same the other way round: the client's Close still arrives."""
        self.upstream.deliver(CLOSE)
        self.upstream.end_reading()
        self.assertEqual(CLOSE, self.client.take())
        self.assertTrue(self.client.half_closed)
        self.client.deliver(MASKED_CLOSE)
        self.assertEqual(MASKED_CLOSE, self.upstream.take())
        self.client.end_reading()
        self.assert_over()

    def test_half_closed_for_too_long(self) -> None:
        """An end that does not close its side is cut off."""
        self.client.deliver(MASKED_CLOSE)
        self.client.end_reading()
        self.network.pass_time(LINGER_SECONDS - 1)
        self.assertIsNone(self.upstream.lost)
        self.network.pass_time(1.5)
        self.assert_over()

    def test_client_gone(self) -> None:
        """A client that leaves takes the upstream along (FIELD 1)."""
        client, upstream = self.open()
        client.lose()
        self.network.settle()
        self.assertIsNotNone(upstream.lost)
        self.assertTrue(self.scene.logged[-1].left)
        self.assertIsNone(self.scene.logged[-1].error)

    def test_client_has_said_all(self) -> None:
        """A client's FIN without a Close is passed on at once; what is said then reaches it."""
        self.client.end_reading()
        self.network.settle()
        self.assertTrue(self.upstream.half_closed)
        self.assertFalse(self.client.half_closed)
        self.upstream.deliver(TEXT + CLOSE)
        self.assertEqual(TEXT + CLOSE, self.client.take())
        self.upstream.end_reading()
        self.network.settle()
        self.assert_over()
        self.assertTrue(self.scene.logged[-1].left)
        self.assertIsNone(self.scene.logged[-1].error)

    def test_client_gone_while_the_upstream_does_not_read(self) -> None:
        """What is left in the transport does not keep the upstream for long."""
        self.client.deliver(LARGE * 3)
        self.client.lose(ConnectionLost)
        self.network.pass_time(3 * LOOK_INTERVAL, LOOK_INTERVAL)
        self.assert_over()

    def test_client_gone_unheard(self) -> None:
        """A FIN behind octets that are not read is noticed too (FIELD 1)."""
        self.client.deliver(LARGE * 3)
        self.assertTrue(self.client.paused)
        self.client.kernel[1].close()
        self.network.pass_time(5 * LOOK_INTERVAL, LOOK_INTERVAL)
        self.assert_over()

    def test_upstream_gone(self) -> None:
        """The client gets what came before, then the end; a Close is never made up."""
        for leave in (MemoryTransport.end_reading, MemoryTransport.lose):
            client, upstream = self.open()
            upstream.deliver(TEXT)
            leave(upstream)
            self.network.settle()
            self.assertEqual(TEXT, client.take())
            self.assertTrue(client.half_closed)
            self.assertIsNotNone(upstream.lost)
            client.end_reading()
            self.network.settle()
            self.assertIsNotNone(client.lost)
            self.assertIsInstance(self.scene.logged[-1].error, ResponseIncomplete)

    def test_client_lingers(self) -> None:
        """A client that goes on sending to an upstream that left is dropped in time."""
        self.upstream.lose(ConnectionLost)
        for _ in range(7):
            self.client.deliver(MASKED_TEXT)
            self.network.pass_time(1)
        self.assert_over()

    def test_slow_client(self) -> None:
        """Octets that the client still takes keep its connection, for hours if need be."""
        self.upstream.deliver(LARGE * 3)
        self.upstream.lose(ConnectionLost)
        self.network.pass_time(2)
        self.assertIsNone(self.client.lost)
        self.assertEqual(LARGE * 3, self.client.take())

    def test_log(self) -> None:
        """The record holds what the log shows, and no other field."""
        self.upstream.deliver(TEXT)
        self.client.lose()
        self.network.settle()
        (record,) = self.scene.logged
        self.assertEqual([(b"Referer", b"http://front.test/")], record.head.fields)
        self.assertEqual(len(TEXT), record.sentLength)


class DrainTests(WebSocketTestCase):
    """While a drain lasts a WebSocket goes on."""

    def test_goes_on(self) -> None:
        """It is one of what is open; silent is not idle; its end ends the drain."""
        drained = self.scene.site.drain(30.0)
        self.network.pass_time(3 * LAST_REQUEST_SECONDS)
        self.assertEqual(1, self.scene.site.streams)
        self.client.deliver(MASKED_TEXT)
        self.upstream.deliver(TEXT)
        self.assertEqual((MASKED_TEXT, TEXT), (self.upstream.take(), self.client.take()))
        self.assertNoResult(drained)
        self.client.deliver(MASKED_CLOSE)
        self.upstream.deliver(CLOSE)
        self.assertEqual(CLOSE, self.client.take())
        for end in (self.client, self.upstream):
            end.end_reading()
        self.network.settle()
        self.successResultOf(drained)
        self.assertEqual(0, self.scene.site.streams)
        self.assert_over()

    def test_too_long(self) -> None:
        """One that has not ended in time is told so by who ends it then: Close 1001."""
        drained = self.scene.site.drain(5.0)
        self.network.pass_time(5.1)
        self.successResultOf(drained)
        self.assertEqual(b"", self.client.take())
        self.scene.site.shut_down()
        self.assertEqual(GOING_AWAY, self.client.take()[2:4])

    def test_opens_meanwhile(self) -> None:
        """A handshake that was on its way is answered; the connection becomes a WebSocket."""
        other = self.scene.client()
        drained = self.scene.site.drain(30.0)
        other.deliver(HANDSHAKE)
        self.network.settle()
        self.scene.answer(SWITCHING)
        self.assertEqual(101, status_of(other.take()))
        self.network.pass_time(3 * LAST_REQUEST_SECONDS)
        self.assertEqual((2, None), (self.scene.site.streams, other.lost))
        self.assertNoResult(drained)


class ShutdownTests(WebSocketTestCase):
    """When the proxy ends, both ends are told.  RFC 6455 7.4.1."""

    def test_both_ends(self) -> None:
        """Each gets Close 1001, masked towards the upstream, then a FIN."""
        done = self.scene.site.shut_down()
        to_client, to_upstream = self.client.take(), self.upstream.take()
        self.assertEqual(b"\x88", to_client[:1])
        self.assertEqual(GOING_AWAY, to_client[2:4])
        self.assertEqual(b"\x88", to_upstream[:1])
        self.assertTrue(to_upstream[1] & 0x80)
        self.assertEqual(GOING_AWAY, unmask(to_upstream)[:2])
        self.assertTrue(self.client.half_closed)
        self.client.deliver(MASKED_CLOSE)
        self.client.end_reading()
        self.upstream.deliver(CLOSE)
        self.assertNoResult(done)
        self.upstream.end_reading()
        self.assert_over()
        self.successResultOf(done)
        self.assertEqual(b"", self.client.take() + self.upstream.take())
        self.assertIsInstance(self.scene.logged[0].error, Unavailable)

    def test_between_frames(self) -> None:
        """A frame that has begun is finished first; nothing follows the Close."""
        for cut in (1, 3, 50, len(LARGE) - 1):
            client, upstream = self.open()
            upstream.deliver(LARGE[:cut])
            upstream.protocol._pair.shut_down()  # type: ignore[union-attr]
            self.assertEqual(LARGE[:cut], client.take())
            upstream.deliver(LARGE[cut:] + TEXT)
            sent = client.take()
            self.assertEqual(LARGE[cut:], sent[: len(LARGE) - cut])
            self.assertEqual(b"\x88", sent[len(LARGE) - cut :][:1])
            self.assertNotIn(TEXT, sent)

    def test_frame_that_never_ends(self) -> None:
        """The end does not wait for ever for the rest of a frame."""
        self.upstream.deliver(LARGE[:10])
        self.scene.site.shut_down()
        self.network.pass_time(LINGER_SECONDS + 1)
        self.assert_over()

    def test_close_has_passed(self) -> None:
        """An end that was sent a Close by the other gets no second one.  RFC 6455 5.5.1."""
        self.upstream.deliver(CLOSE)
        self.scene.site.shut_down()
        self.assertEqual(CLOSE, self.client.take())


class IdleTests(WebSocketTestCase):
    """The limit of silence, and pings."""

    limits = Limits(ws_idle=10.0, ws_ping=3.0)

    def test_silence(self) -> None:
        """Nothing from either end for so long ends both with 1001; our pings are no sign of life.

        FIELD 5: heartbeats must not hide a stall.
        """
        for _ in range(4):
            self.network.pass_time(5)
            self.client.deliver(MASKED_TEXT)
        self.assertIsNone(self.client.lost)
        for _ in range(4):
            ping = self.client.take()[-10:]
            if ping:
                self.client.deliver(b"\x8a\x88\x00\x00\x00\x00" + ping[2:])
            self.network.pass_time(3)
        self.assertIn(GOING_AWAY, self.client.take())
        self.network.pass_time(LINGER_SECONDS + 1)
        self.assert_over()
        self.assertIsInstance(self.scene.logged[0].error, ReadTimeout)

    def test_pings(self) -> None:
        """Both ends get them, masked towards the upstream; the answers go no further."""
        self.network.pass_time(4)
        to_client, to_upstream = self.client.take(), self.upstream.take()
        self.assertEqual(b"\x89\x08", to_client[:2])
        self.assertEqual(b"\x89\x88", to_upstream[:2])
        payload = unmask(to_upstream)
        other, pong = b"\x8a\x02no", b"\x8a\x08" + payload
        self.upstream.deliver(other + pong[:5])
        self.upstream.deliver(pong[5:] + TEXT + pong)
        self.assertEqual(other + TEXT + pong, self.client.take())

    def test_ping_waits_for_the_end_of_a_frame(self) -> None:
        """It is written between two frames only.  RFC 6455 5.4."""
        self.upstream.deliver(LARGE[:9])
        self.network.pass_time(4)
        self.assertEqual(LARGE[:9], self.client.take())
        self.upstream.deliver(LARGE[9:] + TEXT)
        sent = self.client.take()
        self.assertEqual(LARGE[9:] + b"\x89\x08", sent[: len(LARGE) - 7])
        self.assertEqual(TEXT, sent[len(LARGE) - 9 + 10 :])

    def test_no_ping_after_a_close(self) -> None:
        """A Close is the last frame.  RFC 6455 5.5.1."""
        self.upstream.deliver(CLOSE)
        self.network.pass_time(7)
        self.assertEqual(CLOSE, self.client.take())


class MessageTests(WebSocketTestCase):
    """A bound on messages."""

    limits = Limits(max_message=10)

    def test_bound(self) -> None:
        """Fragments count together; past the bound both ends get 1009, and the log says why."""
        fragment = b"\x01\x85\x00\x00\x00\x00hello"
        last = b"\x80\x85\x00\x00\x00\x00world"
        ping = b"\x89\x80\x00\x00\x00\x00"
        self.client.deliver(fragment + ping + last)
        self.client.deliver(fragment)
        self.assertEqual(fragment + ping + last + fragment, self.upstream.take())
        self.client.deliver(b"\x80\x86\x00\x00\x00\x00worlds")
        sent = self.upstream.take()
        self.assertEqual(b"\x88", sent[:1])
        self.assertEqual(TOO_BIG, unmask(sent)[:2])
        self.assertEqual(TOO_BIG, self.client.take()[2:4])
        self.client.end_reading()
        self.upstream.end_reading()
        self.assert_over()
        self.assertIsInstance(self.scene.logged[0].error, ClientMessageTooBig)
