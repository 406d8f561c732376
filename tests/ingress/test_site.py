"""What the connections of a site share, and what is known of a client."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress

from pyproxy.ingress.site import LAST_REQUEST_SECONDS
from pyproxy.semantics.forwarding import Hop
from tests.memory import (
    PROXY,
    MemoryTransport,
    Stage,
    StageTestCase,
    in_chunks,
    request,
    response,
    status_of,
)

FORGED = (b"X-Forwarded-For: 203.0.113.9", b"X-Forwarded-Proto: https")


def ipv4(host: str) -> IPv4Address:
    """Return a client's address."""
    return IPv4Address("TCP", host, 50000)


def ipv6(host: str) -> IPv6Address:
    """Return a client's address."""
    return IPv6Address("TCP", host, 50000)


class HopTests(StageTestCase):
    """What an upstream is told about a client, and whose word is believed."""

    TRUSTED = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))

    def hop(self, peer: IAddress, trust_unix: bool = False) -> Hop:
        """Return what is known of a client."""
        return self.stage(trusted=self.TRUSTED, trust_unix=trust_unix).site.hop(peer, PROXY, False)

    def test_addresses(self) -> None:
        """The address, whether it is trusted; mapped IPv4 is IPv4, a zone is dropped."""
        for peer, address, trusted in (
            (ipv4("192.0.2.1"), b"192.0.2.1", False),
            (ipv4("10.1.2.3"), b"10.1.2.3", True),
            (ipv6("2001:db8::1"), b"2001:db8::1", True),
            (ipv6("fe80::1%eth0"), b"fe80::1", False),
            (ipv6("::ffff:10.1.2.3"), b"10.1.2.3", True),
            (ipv6("::ffff:192.0.2.1"), b"192.0.2.1", False),
        ):
            expected = Hop(address, b"http", b"8000", trusted, b"192.0.2.9")
            self.assertEqual(expected, self.hop(peer))

    def test_where_it_came_to(self) -> None:
        """The address that the client connected to; none for a Unix socket and for nonsense."""
        site = self.stage().site
        for host, local in (
            (ipv4("192.0.2.9"), b"192.0.2.9"),
            (ipv6("::ffff:192.0.2.9"), b"192.0.2.9"),
            (ipv6("fe80::1%eth0"), b"fe80::1"),
            (ipv4("garbage"), b""),
            (UNIXAddress("/s"), b""),
        ):
            self.assertEqual(local, site.hop(ipv4("192.0.2.1"), host, False).local, host)

    def test_unix(self) -> None:
        """A Unix socket has no address; it is trusted only by its own word."""
        for trust in (False, True):
            hop = self.hop(UNIXAddress(None), trust)
            self.assertEqual((b"", trust), (hop.address, hop.trusted))

    def test_scheme_and_port(self) -> None:
        """Those that the client connected to."""
        site = self.stage().site
        self.assertEqual(b"https", site.hop(ipv4("192.0.2.1"), PROXY, True).scheme)
        self.assertEqual(b"", site.hop(ipv4("192.0.2.1"), UNIXAddress("/s"), False).port)

    def test_nonsense(self) -> None:
        """What a PROXY header says of the client may be no address and no port at all."""
        for host in ("", "garbage", "999.1.1.1", "203.0.113.007", "10.0.0.1,10.0.0.2", "\u00e4"):
            hop = self.hop(ipv4(host))
            self.assertEqual((b"", False), (hop.address, hop.trusted), host)
        site = self.stage().site
        for port in (-80, 0, 65536):
            asked = IPv4Address("TCP", "192.0.2.9", port)
            self.assertEqual(b"", site.hop(ipv4("192.0.2.1"), asked, False).port)

    def test_forged(self) -> None:
        """A stranger's X-Forwarded-* are dropped, a trusted proxy's are continued."""
        for host, chain, scheme in (
            ("192.0.2.1", b"192.0.2.1", b"http"),
            ("10.0.0.1", b"203.0.113.9, 10.0.0.1", b"https"),
        ):
            scene = self.stage(trusted=self.TRUSTED)
            scene.client(request(b"GET / HTTP/1.1", *FORGED), peer=ipv4(host))
            sent = scene.answer()
            self.assertIn(b"\r\nX-Forwarded-For: " + chain + b"\r\n", sent)
            self.assertIn(b"\r\nX-Forwarded-Proto: " + scheme + b"\r\n", sent)


class SiteTests(StageTestCase):
    """The factory of connections."""

    def test_shut_down_ends_all(self) -> None:
        """After the end no response keeps its connection, and nobody is left."""
        scene = self.stage()
        clients = [scene.client() for _ in range(3)]
        self.shut_down(scene)
        self.assertTrue(all(client.lost is not None for client in clients))
        self.assertTrue(scene.site.closing)

    def shut_down(self, scene: Stage) -> None:
        """Shut a scene's site down and wait for its end."""
        ended = scene.site.shut_down()
        scene.network.settle()
        self.successResultOf(ended)

    def test_shut_down_without_connections(self) -> None:
        """Nobody to wait for."""
        self.shut_down(self.stage())

    def test_shut_down_is_bounded(self) -> None:
        """A client that does not take its last octets is not waited for without end."""
        scene = self.stage()
        client = scene.client(request(), room=10)
        ended = scene.site.shut_down()
        scene.network.pass_time(5)
        self.successResultOf(ended)
        self.assertIsNone(client.lost)

    def test_no_second_log(self) -> None:
        """twisted.web's own access log and its timers stay off (invariant 8)."""
        scene = self.stage()
        scene.site.doStart()
        timers = len(scene.network.getDelayedCalls())
        scene.client()
        self.assertEqual(timers, len(scene.network.getDelayedCalls()))
        scene.site.doStop()

    def test_request_names(self) -> None:
        """Names are unique in a process's life, and differ between processes."""
        one, other = self.stage().site, self.stage().site
        names = {one.next_request_id() for _ in range(100)} | {other.next_request_id()}
        self.assertEqual(101, len(names))


class DrainTests(StageTestCase):
    """What is open ends by itself, in time."""

    TIMEOUT = 30.0

    def setUp(self) -> None:
        """Set the stage."""
        self.scene: Stage = self.stage()
        self.network = self.scene.network

    def drain(self, timeout: float = TIMEOUT) -> Deferred[None]:
        """Begin to drain."""
        drained = self.scene.site.drain(timeout)
        self.network.settle()
        return drained

    def deliver(self, client: MemoryTransport, octets: bytes) -> None:
        """Let a client send something."""
        client.deliver(octets)
        self.network.settle()

    def assert_over(self, drained: Deferred[None]) -> None:
        """Fail unless the drain is over, and nothing of it is left but the sweep of limits."""
        self.assertIsNone(self.successResultOf(drained))
        (sweep,) = self.network.getDelayedCalls()
        self.assertIn("LoopingCall", str(sweep))

    def test_nobody(self) -> None:
        """Without a connection it is over at once."""
        self.assert_over(self.drain())

    def test_open_request(self) -> None:
        """A request that is being answered is answered; then the connection ends, and says so."""
        client = self.scene.client(request())
        drained = self.drain()
        self.network.pass_time(2 * LAST_REQUEST_SECONDS)
        self.assertNoResult(drained)
        self.scene.answer()
        told = client.take()
        self.assertEqual(200, status_of(told))
        self.assertIn(b"\r\nConnection: close\r\n", told)
        self.assertIsNotNone(client.lost)
        self.assert_over(drained)

    def test_open_response(self) -> None:
        """A response that has begun to say otherwise ends whole, and the connection with it."""
        client = self.scene.client(request())
        self.scene.answer(response(b"Transfer-Encoding: chunked", content=in_chunks(b"one", 3)))
        told = client.take()
        self.assertNotIn(b"close", told)
        drained = self.drain()
        self.network.pass_time(2 * LAST_REQUEST_SECONDS)
        self.assertNoResult(drained)
        self.scene.answer(in_chunks(b"two", 3) + b"0\r\n\r\n")
        self.assertEqual(in_chunks(b"two", 3) + b"0\r\n\r\n", client.take())
        self.assertIsNotNone(client.lost)
        self.assert_over(drained)

    def test_idle(self) -> None:
        """An idle connection is kept for a last request that may be on its way, and not longer."""
        used, fresh = self.scene.client(request()), self.scene.client()
        self.scene.answer()
        drained = self.drain()
        self.network.pass_time(LAST_REQUEST_SECONDS - 0.1)
        self.assertEqual([None, None], [used.lost, fresh.lost])
        self.network.pass_time(0.2)
        for client in (used, fresh):
            self.assertIsNotNone(client.lost)
        self.assert_over(drained)

    def test_last_request(self) -> None:
        """A request that comes on an idle connection meanwhile is answered, as the last one."""
        client = self.scene.client()
        drained = self.drain()
        self.network.pass_time(LAST_REQUEST_SECONDS - 0.1)
        self.deliver(client, request())
        self.network.pass_time(LAST_REQUEST_SECONDS)
        self.scene.answer()
        told = client.take()
        self.assertEqual(200, status_of(told))
        self.assertIn(b"\r\nConnection: close\r\n", told)
        self.assert_over(drained)

    def test_two_requests(self) -> None:
        """Of several requests that were sent at once one more is answered, and none is begun.

        Spec: RFC 9112 9.6.
        """
        client = self.scene.client(request() + request(b"GET /second HTTP/1.1"))
        drained = self.drain()
        self.scene.answer()
        self.assertEqual(1, client.take().count(b"HTTP/1.1 200"))
        self.assertEqual(b"", self.scene.upstream.take())
        # It still sends, so that a close now would cost it the response.
        self.assertTrue(client.half_closed)
        client.end_reading()
        self.network.settle()
        self.assert_over(drained)

    def test_half_a_head(self) -> None:
        """A head that has begun to come is not cut off, however late the rest comes."""
        octets = request()
        for cut in (1, 10, len(octets) - 1):
            client = self.scene.client(octets[:cut])
            drained = self.drain()
            self.network.pass_time(5 * LAST_REQUEST_SECONDS)
            self.assertIsNone(client.lost)
            self.deliver(client, octets[cut:])
            self.scene.answer()
            self.assertEqual(200, status_of(client.take()))
            self.assert_over(drained)

    def test_never_a_head(self) -> None:
        """A head that never comes whole has its own limit, and is told of it."""
        self.scene = self.stage(client_limit=5.0)
        self.network = self.scene.network
        client = self.scene.client(request()[:10])
        drained = self.drain()
        self.network.pass_time(8)
        self.assertEqual(408, status_of(client.take()))
        client.end_reading()
        self.network.settle()
        self.assert_over(drained)

    def test_content(self) -> None:
        """An upload that is still coming is taken whole."""
        client = self.scene.client(request(b"POST / HTTP/1.1", b"Content-Length: 2", content=b"a"))
        drained = self.drain()
        self.network.pass_time(2 * LAST_REQUEST_SECONDS)
        self.deliver(client, b"b")
        self.assertEqual(b"ab", self.scene.answer()[-2:])
        self.assertEqual(200, status_of(client.take()))
        self.assert_over(drained)

    def test_timeout(self) -> None:
        """What has not ended in time is left as it is, for who ends it: that was the limit."""
        client = self.scene.client(request())
        drained = self.drain()
        self.network.pass_time(self.TIMEOUT - 0.1)
        self.assertNoResult(drained)
        self.network.pass_time(0.2)
        self.assert_over(drained)
        self.assertEqual((None, 1), (client.lost, self.scene.site.streams))

    def test_short_timeout(self) -> None:
        """With less time than a last request has idle connections end with that."""
        idle, busy = self.scene.client(), self.scene.client(request())
        drained = self.drain(1.0)
        self.network.pass_time(0.9)
        self.assertIsNone(idle.lost)
        self.network.pass_time(0.2)
        self.assert_over(drained)
        self.assertEqual((True, None), (idle.lost is not None, busy.lost))

    def test_client_leaves(self) -> None:
        """A client that leaves is one less."""
        client = self.scene.client(request())
        drained = self.drain()
        client.lose()
        self.network.settle()
        self.assert_over(drained)

    def test_shut_down_meanwhile(self) -> None:
        """An end meanwhile is an end at once, with a word to who waits for an answer."""
        idle, busy = self.scene.client(), self.scene.client(request())
        drained = self.drain()
        ended = self.scene.site.shut_down()
        self.network.settle()
        self.assertEqual(503, status_of(busy.take()))
        self.assertIsNotNone(idle.lost)
        self.successResultOf(ended)
        self.assert_over(drained)

    def test_shut_down_afterwards(self) -> None:
        """After a drain that took too long the rest is broken off, as ever."""
        busy = self.scene.client(request())
        drained = self.drain(3.0)
        self.network.pass_time(3.5)
        self.assertEqual((True, b""), (drained.called, busy.take()))
        ended = self.scene.site.shut_down()
        self.network.settle()
        self.assertEqual(503, status_of(busy.take()))
        self.successResultOf(ended)
        self.assert_over(drained)

    def test_shut_down_of_nobody(self) -> None:
        """After a drain that left nobody there is nothing to do."""
        self.scene.client()
        drained = self.drain()
        self.network.pass_time(LAST_REQUEST_SECONDS + 0.1)
        self.successResultOf(self.scene.site.shut_down())
        self.assert_over(drained)

    def test_streams(self) -> None:
        """What is open are requests, from the end of their heads to that of their responses."""
        site = self.scene.site
        self.assertEqual(0, site.streams)
        idle, beginning = self.scene.client(), self.scene.client(request()[:10])
        self.assertEqual(0, site.streams)
        self.deliver(beginning, request()[10:])
        self.assertEqual(1, site.streams)
        other = self.scene.client(request())
        self.assertEqual(2, site.streams)
        self.scene.answer()
        self.assertEqual((200, 1), (status_of(other.take()), site.streams))
        beginning.lose()
        self.network.settle()
        self.assertEqual((0, None), (site.streams, idle.lost))
