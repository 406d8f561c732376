"""What the connections of a site share, and what is known of a client."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from pyproxy.semantics.forwarding import Hop
from tests.memory import PROXY, Stage, StageTestCase, request

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
