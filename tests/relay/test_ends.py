"""The two ends of a WebSocket as autobahn's classes: the frames of the proxy's own."""

from __future__ import annotations

from typing import Any, cast

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pyproxy.ingress.seams import SiteSide
from pyproxy.ingress.websocket import ClientWebSocket, ClientWebSocketFactory
from pyproxy.relay.ends import RelayedEnd
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.frames import MAX_CONTROL_BYTES, parse_header, unmasked
from pyproxy.semantics.urls import parse_target
from pyproxy.upstream.websocket import UpstreamWebSocket, UpstreamWebSocketFactory
from tests.memory import Network, StageTestCase

ORIGIN = parse_target("http://127.0.0.1:9000").origin

ATTRIBUTES = {"transport", "connected", "factory", "_pair", "_octets"}
"""What an end holds: its connection, and where its octets go."""


class Recorder:
    """A pair, and a direction, that note what they are told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def feed(self, octets: bytes) -> None:
        """Take octets."""
        self.told.append(octets)

    def read_lost(self, end: object) -> None:
        """Take note of a FIN."""
        self.told.append(("read_lost", end))

    def lost(self, end: object) -> None:
        """Take note of a loss."""
        self.told.append(("lost", end))

    def shut_down(self) -> None:
        """Take note."""
        self.told.append("shut_down")

    def abandon(self) -> None:
        """Take note."""
        self.told.append("abandon")


class EndTestCase(StageTestCase):
    """A case with an end of each kind."""

    def setUp(self) -> None:
        """Make the ends as the proxy does."""
        self.site: SiteSide = self.stage().site
        reactor = cast(IProxyReactor, Network())
        self.factories = (
            ClientWebSocketFactory(self.site),
            UpstreamWebSocketFactory(ORIGIN, reactor),
        )
        self.client, self.upstream = (self.end(factory) for factory in self.factories)

    def end(self, factory: Any) -> Any:
        """Return an end on a connection."""
        end = factory.buildProtocol(None)
        end.makeConnection(StringTransport())
        return end

    def sent(self, end: Any) -> tuple[int, bool, bytes]:
        """Return the one frame that an end sent: its first octet, whether masked, its payload."""
        octets = end.transport.value()
        end.transport.clear()
        header = parse_header(octets)
        assert header is not None
        self.assertEqual(len(octets), header.size + header.length)
        return octets[0], bool(header.mask), unmasked(octets[header.size :], header.mask)


class FrameTests(EndTestCase):
    """Close and Ping, written by autobahn."""

    def test_close(self) -> None:
        """A code and a reason; masked towards the upstream only.  RFC 6455 5.1, 5.5.1."""
        for end, masked in ((self.client, False), (self.upstream, True)):
            end.send_close(1001, "the proxy is ending")
            self.assertEqual((0x88, masked, b"\x03\xe9the proxy is ending"), self.sent(end))

    def test_long_reason(self) -> None:
        """A control frame has no more than 125 octets of payload.  RFC 6455 5.5."""
        for end, masked in ((self.client, False), (self.upstream, True)):
            for size in (122, 123, 124, 1000):
                end.send_close(1009, "r" * size)
                payload = b"\x03\xf1" + b"r" * min(size, MAX_CONTROL_BYTES - 2)
                self.assertEqual((0x88, masked, payload), self.sent(end))

    def test_reason_in_other_letters(self) -> None:
        """A reason is UTF-8 wherever it was cut.  RFC 6455 5.5.1."""
        for size in (1, 200):
            self.client.send_close(1000, "ü" * size)
            _, _, payload = self.sent(self.client)
            self.assertEqual("?" * min(size, 123), payload[2:].decode("utf-8"))

    def test_ping(self) -> None:
        """A Ping with its payload.  RFC 6455 5.5.2."""
        for end, masked in ((self.client, False), (self.upstream, True)):
            end.send_ping(b"8 octets")
            self.assertEqual((0x89, masked, b"8 octets"), self.sent(end))

    def test_masks_differ(self) -> None:
        """Each frame has a mask of its own.  RFC 6455 5.3."""
        seen = set()
        for _ in range(20):
            self.upstream.send_ping(b"8 octets")
            header = parse_header(self.upstream.transport.value())
            assert header is not None
            seen.add(header.mask)
            self.upstream.transport.clear()
        self.assertGreater(len(seen), 15)


class AutobahnTests(EndTestCase):
    """What of autobahn is used, and what is left out."""

    def test_classes(self) -> None:
        """To a client we are a server, to an upstream a client; the factories are autobahn's."""
        ours, theirs = self.factories
        self.assertIsInstance(ours, WebSocketServerFactory)
        self.assertIsInstance(theirs, WebSocketClientFactory)
        self.assertEqual((True, False), (ours.isServer, theirs.isServer))
        for end, base, kind, factory in (
            (self.client, WebSocketServerProtocol, ClientWebSocket, ours),
            (self.upstream, WebSocketClientProtocol, UpstreamWebSocket, theirs),
        ):
            self.assertIsInstance(end, base)
            self.assertIs(kind, type(end))
            self.assertIs(factory, end.factory)
            verifyObject(IHalfCloseableProtocol, end)

    def test_nothing_else_is_asked_for(self) -> None:
        """Autobahn's ``__init__`` and ``connectionMade`` are skipped, and ``sendFrame`` lacks none.

        Whatever a version of autobahn came to need in ``sendFrame`` would fail here.
        """
        for end in (self.client, self.upstream):
            for send in (lambda each: each.send_close(1000, ""), lambda each: each.send_ping(b"")):
                send(end)
                self.assertEqual(ATTRIBUTES, set(vars(end)))
                self.assertEqual(b"", self.sent(end)[2].removeprefix(b"\x03\xe8"))

    def test_state_of_an_endpoint(self) -> None:
        """None of what an endpoint keeps (6 KiB) is there, nor a timer of its own."""
        for end in (self.client, self.upstream):
            for name in ("state", "openHandshakeTimeoutCall", "data", "trafficStats"):
                self.assertNotIn(name, vars(end))
        reactor = cast(Network, self.site.reactor)
        (sweep,) = reactor.getDelayedCalls()
        self.assertIn("LoopingCall", str(sweep))


class EventTests(EndTestCase):
    """What an end tells of its connection."""

    def ends(self) -> list[tuple[RelayedEnd, Recorder]]:
        """Return both ends, joined to what notes what it is told."""
        joined = []
        for end in (self.client, self.upstream):
            recorder = Recorder()
            end.join(recorder, recorder)
            joined.append((end, recorder))
        return joined

    def test_events(self) -> None:
        """Octets, a FIN, the loss; our own FIN is no news."""
        for end, recorder in self.ends():
            end.dataReceived(b"octets")
            end.writeConnectionLost()
            end.readConnectionLost()
            end.connectionLost()
            self.assertEqual([b"octets", ("read_lost", end), ("lost", end)], recorder.told)

    def test_after_the_loss(self) -> None:
        """A lost end holds nobody, and tells nothing more."""
        for end, recorder in self.ends():
            end.connectionLost()
            recorder.told.clear()
            end.dataReceived(b"late")
            end.readConnectionLost()
            end.connectionLost()
            self.assertEqual([], recorder.told)
            self.assertEqual((None, None), (end._pair, end._octets))

    def test_before_it_is_joined(self) -> None:
        """An end without a pair tells nobody."""
        for end in (self.client, self.upstream):
            end.dataReceived(b"early")
            end.readConnectionLost()
            end.connectionLost()

    def test_site(self) -> None:
        """The site asks the client's end to shut down, or to be abandoned."""
        (client, recorder), _ = self.ends()
        assert isinstance(client, ClientWebSocket)
        client.shut_down()
        client.abandon()
        self.assertEqual(["shut_down", "abandon"], recorder.told)
        client.connectionLost()
        client.shut_down()
        client.abandon()
        self.assertEqual([("lost", client)], recorder.told[2:])


class UrlTests(SynchronousTestCase):
    """The upstream's factory knows whom it speaks to."""

    def test_translated(self) -> None:
        """An http target is a ws one, an https target a wss one.  RFC 6455 3."""
        for url, websocket_url, secure in (
            ("http://up.test", "ws://up.test", False),
            ("https://up.test", "wss://up.test", True),
            ("http://up.test:8080/base", "ws://up.test:8080", False),
            ("https://[::1]:8443", "wss://[::1]:8443", True),
            ("https://up.test.:8443", "wss://up.test.:8443", True),
            ("http://[fe80::1%25eth0]", "ws://[fe80::1]", False),
            ("unix:/run/x.sock", "ws://localhost", False),
        ):
            reactor = cast(IProxyReactor, Network())
            factory = UpstreamWebSocketFactory(parse_target(url).origin, reactor)
            self.assertEqual(websocket_url, factory.url)
            self.assertEqual(secure, factory.isSecure)
