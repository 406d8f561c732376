"""A client's connection: requests answered in order, ended in time."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from zope.interface.verify import verifyObject

from pyproxy.ingress.channel import Channel
from pyproxy.policy.routing import Limits
from pyproxy.relay.lookout import LINGER_SECONDS, LOOK_INTERVAL
from tests.ingress.kit import CHUNKED, ENDLESS, ChannelTestCase
from tests.memory import MemoryTransport, request, response, status_of

TINY = Limits(max_content=2)


class PersistenceTests(ChannelTestCase):
    """Which connections are kept."""

    def test_table(self) -> None:
        """By version and connection option (RFC 9112 9.3)."""
        for line, option, kept in (
            (b"GET / HTTP/1.1", b"X: y", True),
            (b"GET / HTTP/1.1", b"Connection: close", False),
            (b"GET / HTTP/1.1", b"Connection: Keep-Alive, Close", False),
            (b"GET / HTTP/1.0", b"X: y", False),
            (b"GET / HTTP/1.0", b"Connection: keep-alive", True),
        ):
            client = self.scene.client(request(line, option))
            self.scene.answer()
            self.assertEqual(kept, client.lost is None, (line, option))
            self.assertEqual(not kept, b"Connection: close\r\n" in client.value())

    def test_closed_in_order(self) -> None:
        """A last response is followed by a close, not by a reset."""
        client = self.scene.client(request(b"GET / HTTP/1.1", b"Connection: close"))
        self.scene.answer()
        assert client.lost is not None
        self.assertIsNotNone(client.lost.check(ConnectionDone))
        self.assertFalse(client.disconnected)

    def test_early_response(self) -> None:
        """A response before the end of the upload is whole, and the connection ends after it."""
        client = self.scene.client(
            request(b"POST / HTTP/1.1", b"Content-Length: 1000", content=b"a")
        )
        self.scene.answer(response(b"Content-Length: 0", status_line=b"HTTP/1.1 413 Too Large"))
        self.assertEqual(413, status_of(client.value()))
        self.assertIn(b"Connection: close\r\n", client.value())
        self.assertTrue(client.half_closed)


class LingeringTests(ChannelTestCase):
    """Who is refused and still sends gets its response."""

    def test_refused_inside_its_content(self) -> None:
        """A client whose request is refused while it sends is read on (RFC 9112 9.6).

        It may read its response only once it has sent everything.
        """
        for fields, part in (
            (b"Content-Length: 1000000", b"abc"),
            (b"Transfer-Encoding: chunked", b"ffff\r\nabc"),
        ):
            for status, settings in ((404, {"prefix": b"/api"}), (413, {"limits": TINY})):
                for apart in (True, False):
                    scene = self.stage(**settings)
                    octets = request(b"POST / HTTP/1.1", fields)
                    client = scene.client(octets if apart else octets + part)
                    if apart:
                        client.deliver(part)
                    scene.network.settle()
                    self.assertEqual(status, status_of(client.value()))
                    self.assertTrue(client.half_closed)
                    self.assertFalse(client.paused, (fields, status, apart))

    def test_lingering(self) -> None:
        """A refused client that still sends gets its response: no reset, but a limit."""
        client = self.scene.client(ENDLESS)
        self.assertTrue(client.half_closed)
        self.assertIsNone(client.lost)
        client.deliver(bytes(100_000))
        self.network.pass_time(LINGER_SECONDS - 1.5, 0.5)
        self.assertIsNone(client.lost)
        self.network.pass_time(4, 0.5)
        self.assertIsNotNone(client.lost)


class PausingTests(ChannelTestCase):
    """Backpressure on responses."""

    def test_slow_client(self) -> None:
        """A client that does not read stops the upstream's socket; reading starts it again."""
        client = self.scene.client(request(), room=1000)
        self.scene.answer(CHUNKED)
        self.assertFalse(self.scene.upstream.paused)
        self.scene.answer(b"7d0\r\n" + bytes(2000) + b"\r\n")
        self.assertEqual("paused", self.scene.upstream.producerState)
        self.assertLess(len(client.take()), 2200)
        self.assertEqual("producing", self.scene.upstream.producerState)

    def test_full_before_the_content(self) -> None:
        """A transport that the head alone has filled pauses the content before it flows."""
        client = self.scene.client(request(), room=10)
        self.scene.answer(CHUNKED)
        self.assertEqual("paused", self.scene.upstream.producerState)
        client.take()
        self.assertEqual("producing", self.scene.upstream.producerState)

    def test_full_before_the_response(self) -> None:
        """A transport that is full already pauses the next response from its first octet."""
        client = self.scene.client(request(), room=100)
        self.scene.answer(response(b"Content-Length: 2000", content=bytes(2000)))
        client.deliver(request())
        self.network.settle()
        self.assertEqual(1, len(self.scene.logged))
        self.assertEqual(b"", self.scene.upstream.value())
        client.take()
        self.network.settle()
        self.assertEqual(b"GET / HTTP/1.1|", self.asked())

    def test_producer(self) -> None:
        """The channel is a push producer, registered once for its whole life."""
        client = self.scene.client(request())
        producer = client.producer
        self.assertTrue(verifyObject(IPushProducer, producer))
        self.scene.answer()
        self.assertIs(producer, client.producer)


class LeavingTests(ChannelTestCase):
    """The client goes: its upstream's connection is closed (FIELD 1)."""

    def assert_upstream_closed(self) -> None:
        """Check that nothing is left of the exchange."""
        self.network.settle()
        self.assertTrue(self.scene.upstream.disconnected)
        self.assertIsNotNone(self.scene.upstream.lost)

    def test_every_stage(self) -> None:
        """Before the response, in the upload, in the response."""
        for asked, answered in (
            (request(), b""),
            (request(b"POST / HTTP/1.1", b"Content-Length: 9", content=b"abc"), b""),
            (request(), b"HTTP/1.1 200 OK\r\nContent-"),
            (request(), CHUNKED + b"3\r\nabc\r\n"),
        ):
            client = self.scene.client(asked)
            if answered:
                self.scene.answer(answered)
            client.lose()
            self.assert_upstream_closed()

    def test_during_the_connect(self) -> None:
        """The opening is given up."""
        del self.network.listening[9000]
        client = self.scene.client(request())
        client.lose()
        self.network.settle()
        self.assertTrue(self.network.connectors[-1].stoppedConnecting)

    def test_while_its_socket_is_not_read(self) -> None:
        """A FIN behind unread octets is noticed within the interval."""
        self.network.room = 1000
        client = self.scene.client(request(b"POST / HTTP/1.1", b"Content-Length: 100000"))
        client.deliver(bytes(2000))
        self.assertTrue(client.paused)
        self.network.pass_time(LOOK_INTERVAL * 3)
        self.assertIsNone(client.lost)
        client.kernel[1].close()
        self.network.pass_time(LOOK_INTERVAL)
        self.assertIsNotNone(client.lost)
        self.assert_upstream_closed()

    def test_no_look_without_a_pause(self) -> None:
        """A client whose socket is read costs no timer of its own."""
        before = len(self.network.getDelayedCalls())
        for _ in range(10):
            self.scene.client(request())
        self.network.pass_time(0.5)
        self.assertEqual(before, len(self.network.getDelayedCalls()))

    def test_logged_once(self) -> None:
        """A request whose client left is logged, once."""
        client = self.scene.client(request())
        client.lose()
        self.network.settle()
        self.assertEqual(1, len(self.scene.logged))


class LimitTests(ChannelTestCase):
    """How long a client may take; the limit is ten seconds here."""

    def after(self, client: MemoryTransport, seconds: float) -> bool:
        """Tell whether a connection is there after a time."""
        self.network.pass_time(seconds, 0.5)
        return client.lost is None

    def test_nothing_at_all(self) -> None:
        """A connection without a request is closed without a word."""
        client = self.scene.client()
        self.assertTrue(self.after(client, 8.5))
        self.assertFalse(self.after(client, 3))
        self.assertEqual(b"", client.value())

    def test_part_of_a_head(self) -> None:
        """A head that does not end gets 408, however many octets drip (slowloris)."""
        client = self.scene.client()
        for octet in b"GET / HTTP/1.1\r\nHost: h\r\n":
            client.deliver(bytes([octet]))
            self.network.pass_time(0.5, 0.5)
        self.assertEqual(408, status_of(client.value()))

    def test_idle_between_requests(self) -> None:
        """The time begins anew after every response."""
        client = self.scene.client(request())
        self.scene.answer()
        self.assertTrue(self.after(client, 8))
        client.deliver(request())
        self.network.settle()
        self.scene.answer()
        client.take()
        self.assertTrue(self.after(client, 8))
        self.assertFalse(self.after(client, 4))

    def test_exchange(self) -> None:
        """An exchange is no idle connection, however long it takes."""
        client = self.scene.client(request())
        self.assertTrue(self.after(client, 60))
        self.scene.answer()
        self.assertTrue(client.value().endswith(b"ok"))

    def test_shut_down(self) -> None:
        """Idle connections close in order, who waits for a response gets 503, streams are cut."""
        idle = self.scene.client(request())
        self.scene.answer()
        streaming = self.scene.client(request())
        self.scene.answer(CHUNKED + b"3\r\nabc\r\n")
        waiting = self.scene.client(request())
        ended = self.scene.site.shut_down()
        self.network.settle()
        self.successResultOf(ended)
        for client in (idle, streaming, waiting):
            self.assertIsNotNone(client.lost)
        self.assertFalse(idle.disconnected)
        self.assertEqual(503, status_of(waiting.value()))
        self.assertTrue(streaming.value().endswith(b"3\r\nabc\r\n"))
        self.assertEqual([], [one for one in self.network.opened if one.lost is None][1:])

    def test_nothing_is_left(self) -> None:
        """Nothing of a connection is left behind in the site."""
        client = self.scene.client()
        self.assertIsInstance(client.producer, Channel)
        client.lose()
        self.assertEqual(set(), self.scene.site._connections)
