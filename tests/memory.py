"""A network without sockets: real agents, connections and sites with only the wire faked.

The transports keep what real ones promise (a full one pauses its producer, a close waits until
a full one was emptied, a loss comes in a later turn); the clock is set by hand.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import attrs
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IConsumer,
    IHalfCloseableProtocol,
    IHostnameResolver,
    IHostResolution,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IResolutionReceiver,
    ITCPTransport,
    ITransport,
)
from twisted.internet.protocol import ClientFactory
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource
from zope.interface import alsoProvides, implementer

from pyproxy.config.schema import Config
from pyproxy.errors import ProxyError
from pyproxy.ingress.channel import Channel
from pyproxy.ingress.resource import PrefixResource
from pyproxy.ingress.seams import Logged, Terms
from pyproxy.ingress.site import ProxySite
from pyproxy.plan import make_plan
from pyproxy.relay.ends import RelayedEnd
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.urls import parse_target
from pyproxy.sides import UpstreamRequest
from pyproxy.upstream.agent import ForwardingAgent
from pyproxy.upstream.client import ForwardingClient
from pyproxy.upstream.connection import Connection
from tests.configs import one_route

ROOM = 64 * 1024
"""Octets that wait in a transport before its producer is paused, as in Twisted's own."""

MOST_TURNS = 200
"""Turns of the reactor in which everything has to come to rest."""

UPSTREAM_PORT = 9000
EPHEMERAL_PORT = 49152
CLIENT = IPv4Address("TCP", "192.0.2.1", 50000)
PROXY = IPv4Address("TCP", "192.0.2.9", 8000)
UPSTREAM = IPv4Address("TCP", "127.0.0.1", UPSTREAM_PORT)

LONG = bytes(range(256)) * 48
"""Content of several times what is searched for the end of a head."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class MemorySocket:
    """The socket of a transport in memory, as far as options are set on it.

    Attributes:
        told: to acknowledge, each time with True when that should last.
        options: what else of TCP was set.
    """

    def __init__(self, family: socket.AddressFamily) -> None:
        self.family = family
        self.told: list[bool] = []
        self.options: dict[int, int] = {}

    def setsockopt(self, level: int, name: int, value: int) -> None:
        """Take note of it.  Spec: tcp(7), unix(7)."""
        if level != socket.IPPROTO_TCP:
            return
        if self.family == socket.AF_UNIX:
            raise OSError("it is no socket of TCP")
        if name == socket.TCP_QUICKACK:
            self.told.append(value == 1)
        else:
            self.options[name] = value


@implementer(ITransport, IConsumer, IPushProducer)
class MemoryTransport(StringTransport):
    """One end of a TCP connection; the test is the other end.

    Attributes:
        half_closed: a FIN was sent, and reading goes on.
        lost: why the connection is no more, None while it is.
        socket: notes what is set on it.
    """

    def __init__(
        self, clock: IReactorTime, host: IAddress, peer: IAddress, room: int = ROOM
    ) -> None:
        super().__init__(host, peer, lenient=True)
        self.half_closed = False
        self.lost: Failure | None = None
        is_local = isinstance(peer, UNIXAddress)
        self.socket = MemorySocket(socket.AF_UNIX if is_local else socket.AF_INET)
        self._clock = clock
        self._room = room
        self._full = False
        self.protocol: IProtocol | None = None
        self._kernel: tuple[socket.socket, socket.socket] | None = None
        # Of a Unix socket Twisted says so too.
        alsoProvides(self, ITCPTransport)

    # the test's end

    def join(self, protocol: IProtocol) -> None:
        """Connect a protocol."""
        self.protocol = protocol
        protocol.makeConnection(self)

    @property
    def paused(self) -> bool:
        """Whether this end's protocol does not read."""
        return bool(self.producerState == "paused")

    def deliver(self, octets: bytes) -> None:
        """Let octets arrive; a connection that is no more drops them."""
        if self.protocol is not None and not self.disconnecting_at_once:
            self.protocol.dataReceived(octets)

    def deliver_in_place(self, octets: bytes) -> None:
        """Let octets arrive as a plain socket's do: in a place that is used again at once."""
        protocol: Any = self.protocol
        if protocol is not None and not self.disconnecting_at_once:
            place = bytearray(octets)
            is_client = isinstance(protocol, Channel)
            take = protocol._requests.feed_in_place if is_client else protocol.dataReceived
            take(memoryview(place))
            place[:] = b"!" * len(place)

    @property
    def disconnecting_at_once(self) -> bool:
        """Whether nothing is read any more."""
        return self.lost is not None or self.disconnected

    def take(self) -> bytes:
        """Take what was written, as the other end's kernel does."""
        octets: bytes = self.value()
        self.clear()
        producer = self.producer
        if self._full:
            self._full = False
            if producer is not None:
                producer.resumeProducing()
            if self.disconnecting:
                self.loseConnection()
        return octets

    def lose(self, reason: type[Exception] = ConnectionDone) -> None:
        """End the connection: in order, or for another reason."""
        if self.lost is None:
            self.lost = Failure(reason())
            self.connected = False
            if self.protocol is not None:
                self.protocol.connectionLost(self.lost)

    def end_reading(self) -> None:
        """Let the peer's FIN arrive: half of a close, to a protocol that knows what that is."""
        if self.lost is not None or self.disconnecting_at_once:
            return
        protocol: Any = self.protocol
        if IHalfCloseableProtocol.providedBy(protocol):
            protocol.readConnectionLost()
        else:
            self.lose()

    @property
    def kernel(self) -> tuple[socket.socket, socket.socket]:
        """What the kernel knows: this end's socket, and the other end's."""
        if self._kernel is None:
            self._kernel = socket.socketpair()
        return self._kernel

    def close_kernel(self) -> None:
        """Close the sockets that stand for the kernel's knowledge."""
        for end in self._kernel or ():
            end.close()

    # what the proxy calls

    def write(self, data: bytes) -> None:
        """Take octets; past the room the producer is paused."""
        if self.lost is not None or self.disconnecting:
            return
        super().write(data)
        if self.producer is not None and len(self.value()) > self._room:
            self._full = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Take octets."""
        self.write(b"".join(data))

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self.producer = None

    def loseConnection(self) -> None:
        """Close in a later turn, once what was written beyond the room was taken."""
        self.disconnecting = True
        if not self._full:
            self._clock.callLater(0, self.lose)

    def loseWriteConnection(self) -> None:
        """Send a FIN."""
        self.half_closed = True

    def abortConnection(self) -> None:
        """Reset, in a later turn."""
        if not self.disconnected:
            self.disconnected = self.disconnecting = True
            self._clock.callLater(0, self.lose, ConnectionAborted)

    @property
    def no_delay(self) -> bool:
        """Whether Nagle's algorithm is off."""
        return bool(self.socket.options.get(socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Turn Nagle's algorithm off, or on."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(enabled))

    def getHandle(self) -> MemorySocket:
        """Return the socket."""
        return self.socket

    def fileno(self) -> int:
        """Return the descriptor that the kernel is asked about."""
        return -1 if self.lost is not None else self.kernel[0].fileno()


@attrs.define(eq=False)
class Link:
    """Two transports, each the other's other end."""

    one: MemoryTransport
    other: MemoryTransport

    def pump(self) -> bool:
        """Carry octets and ends across once; tell whether anything moved."""
        return self._carry(self.one, self.other) | self._carry(self.other, self.one)

    @staticmethod
    def _carry(source: MemoryTransport, sink: MemoryTransport) -> bool:
        if sink.lost is not None or sink.paused:
            return False
        octets = source.take()
        if octets:
            sink.deliver(octets)
            return True
        if source.lost is not None:
            sink.lose(ConnectionLost if source.disconnected else ConnectionDone)
            return True
        return False


class Network(MemoryReactorClock):
    """A reactor whose connections end in this process.

    Attributes:
        listening: by port or path, who answers: a factory, an exception as the refusal, or None for
            the test itself.  Nothing at all answers elsewhere.
        opened: the proxy's ends of the connections to ports where the test answers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.listening: dict[int | str, IProtocolFactory | Exception | None] = {UPSTREAM_PORT: None}
        self.opened: list[MemoryTransport] = []
        self.room = ROOM
        self._links: list[Link] = []
        self._transports: list[MemoryTransport] = []

    def transport(self, host: IAddress, peer: IAddress, room: int = ROOM) -> MemoryTransport:
        """Make an end of a connection."""
        transport = MemoryTransport(self, host, peer, room)
        self._transports.append(transport)
        return transport

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: ClientFactory,
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> IConnector:
        """Connect in a later turn, or never."""
        connector: IConnector = super().connectTCP(host, port, factory, timeout, bindAddress)
        if port in self.listening:
            self.callLater(0, self._connect, port, factory, connector)
        return connector

    def connectUNIX(
        self, address: str, factory: ClientFactory, timeout: float = 30, checkPID: bool = False
    ) -> IConnector:
        """Connect in a later turn, or never."""
        connector: IConnector = super().connectUNIX(address, factory, timeout, checkPID)
        if address in self.listening:
            self.callLater(0, self._connect, address, factory, connector)
        return connector

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Listen; instead of port 0 on one of the system's choice."""
        listening: IListeningPort = super().listenTCP(
            port or EPHEMERAL_PORT, factory, backlog, interface
        )
        return listening

    def _connect(self, port: int | str, factory: ClientFactory, connector: IConnector) -> None:
        if getattr(connector, "stoppedConnecting", False):
            return
        server = self.listening[port]
        if isinstance(server, Exception):
            factory.clientConnectionFailed(connector, Failure(server))
            return
        address: IAddress
        if isinstance(port, str):
            address = UNIXAddress(port.encode())
        else:
            address = IPv4Address("TCP", "127.0.0.1", port)
        transport = self.transport(CLIENT, address, self.room)
        self.opened.append(transport)
        protocol = factory.buildProtocol(address)
        if protocol is None:
            return
        transport.join(protocol)
        if server is not None:
            self.link(transport, server)

    def link(self, one: MemoryTransport, server: IProtocolFactory) -> None:
        """Let a server be the other end."""
        other = self.transport(UPSTREAM, CLIENT)
        protocol = server.buildProtocol(CLIENT)
        if protocol is not None:
            other.join(protocol)
        self._links.append(Link(one, other))

    def settle(self) -> None:
        """Turn the reactor until nothing moves at this moment of the clock."""
        for _ in range(MOST_TURNS):
            self.advance(0)
            moved = [link.pump() for link in self._links]
            due = [call for call in self.getDelayedCalls() if call.getTime() <= self.seconds()]
            if not any(moved) and not due:
                return
        raise AssertionError("the network does not come to rest")

    def pass_time(self, seconds: float, step: float = 0.05) -> None:
        """Let time go by in small steps."""
        for _ in range(round(seconds / step)):
            self.advance(step)
            self.settle()

    def close(self) -> None:
        """Give back what the kernel lent."""
        for transport in self._transports:
            transport.close_kernel()


@implementer(IHostResolution)
class Resolution:
    """A resolution."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Nothing can be cancelled."""


@implementer(IHostnameResolver)
class Names:
    """Knows one name; with None for its addresses it is mute until the test calls ``answer``."""

    def __init__(self, addresses: Sequence[IAddress] | None) -> None:
        self.addresses = addresses
        self.asked: list[tuple[str, int]] = []
        self._receiver: IResolutionReceiver | None = None

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Answer at once, if there is an answer."""
        self.asked.append((hostName, portNumber))
        resolution = Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        self._receiver = resolutionReceiver
        if self.addresses is not None:
            self.answer(self.addresses)
        return resolution

    def answer(self, addresses: Sequence[IAddress]) -> None:
        """Answer with addresses."""
        assert self._receiver is not None
        for address in addresses:
            self._receiver.addressResolved(address)
        self._receiver.resolutionComplete()


class Stage:
    """A whole proxy between a client and an upstream that the test plays.

    Attributes:
        root: the proxy's resource; more can be mounted on it.
        logged: every request whose line would be in the access log.
    """

    def __init__(
        self, client_limit: float = 60.0, config: Config | None = None, **settings: Any
    ) -> None:
        self.network = Network()
        if config is None:
            target = parse_target(f"http://127.0.0.1:{UPSTREAM_PORT}")
            config = one_route(**{"target": target, "client_limit": client_limit, **settings})
        reactor = cast(IProxyReactor, self.network)
        self.sweeper = Sweeper.for_limits(self.network, config.waits)
        self.sweeper.start()
        self.agent = ForwardingAgent(reactor, self.sweeper)
        plan = make_plan(config, b"pyproxy-test")
        self.root: IResource = PrefixResource(
            plan.table, ForwardingClient(self.agent), self.sweeper
        )
        self.logged: list[Logged] = []
        terms = Terms(config.client_limit, config.trusted, config.trust_unix, self.logged.append)
        self.site = ProxySite(self.root, self.network, self.sweeper, terms)

    def client(
        self, octets: bytes = b"", *, room: int = ROOM, peer: IAddress = CLIENT
    ) -> MemoryTransport:
        """Connect a client that sends octets; returns the proxy's end of its connection."""
        transport = self.network.transport(PROXY, peer, room)
        transport.join(self.site.buildProtocol(peer))
        if octets:
            transport.deliver(octets)
        self.network.settle()
        return transport

    @property
    def upstream(self) -> MemoryTransport:
        """The proxy's end of the newest connection to the upstream."""
        return self.network.opened[-1]

    def answer(self, octets: bytes = OK) -> bytes:
        """Answer on the newest connection to the upstream; returns what had been asked."""
        asked = self.upstream.take()
        self.upstream.deliver(octets)
        self.network.settle()
        return asked

    def close(self) -> None:
        """Stop what runs."""
        self.sweeper.stop()
        self.network.close()


class StageTestCase(SynchronousTestCase):
    """A case with stages that are closed at its end."""

    def stage(self, **settings: Any) -> Stage:
        """Set up a proxy; arguments as ``Config`` has them, or ``config``, a whole one."""
        stage = Stage(**settings)
        self.addCleanup(stage.close)
        return stage


def request(start_line: bytes = b"GET / HTTP/1.1", *fields: bytes, content: bytes = b"") -> bytes:
    """Return the octets of a request."""
    return b"\r\n".join([start_line, b"Host: front.test", *fields, b"", b""]) + content


def response(
    *fields: bytes, status_line: bytes = b"HTTP/1.1 200 OK", content: bytes = b""
) -> bytes:
    """Return the octets of a response."""
    return b"\r\n".join([status_line, *fields, b"", b""]) + content


def splits(octets: bytes) -> list[tuple[bytes, ...]]:
    """Return every way to cut octets in two, and the one that cuts between each two of them."""
    pairs: list[tuple[bytes, ...]] = [
        (octets[:place], octets[place:]) for place in range(1, len(octets))
    ]
    return [*pairs, tuple(octets[place : place + 1] for place in range(len(octets)))]


def cuts_around(octets: bytes, *borders: int, reach: int = 6) -> list[tuple[bytes, ...]]:
    """Return octets whole, and cut in two at every place near a border."""
    places = {
        place
        for border in borders
        for place in range(border - reach, border + reach + 1)
        if 0 < place < len(octets)
    }
    return [(octets,), *((octets[:place], octets[place:]) for place in sorted(places))]


def status_of(octets: bytes) -> int:
    """Return the status of the first response in octets; 0 without any."""
    return int(octets.split(b" ", 2)[1]) if octets.startswith(b"HTTP/1.") else 0


def no_websocket() -> RelayedEnd:
    """Stand for what makes the end of a WebSocket where none is opened."""
    raise AssertionError("a WebSocket was opened")


def not_lost(connection: Connection, request: UpstreamRequest, error: ProxyError) -> None:
    """Stand for who is told of requests without a response where none is lost."""
    raise AssertionError("a request was lost") from error


Act = Callable[[], object]


def in_chunks(content: bytes, size: int) -> bytes:
    """Return content in chunks of a size, without their end."""
    pieces = (content[place : place + size] for place in range(0, len(content), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
