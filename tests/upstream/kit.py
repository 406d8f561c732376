"""An open connection to an upstream, for tests: who asks, who receives, who writes content."""

from __future__ import annotations

from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from pyproxy.errors import ProxyError
from pyproxy.policy.routing import Peer
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.urls import Origin
from pyproxy.sides import UpstreamRequest
from pyproxy.upstream.agent import Awaited
from pyproxy.upstream.connection import Connection
from pyproxy.upstream.manners import Manners
from pyproxy.upstream.response import ForwardedResponse
from tests.memory import CLIENT, UPSTREAM, MemoryTransport, Network, no_websocket

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
        super().__init__(Peer(ORIGIN), method, b"/", [(b"Host", b"h")], content)
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
    def new(cls, manners: Manners | None = None) -> Opened:
        """Open a connection.  Args: what is known of its origin, if anything is."""
        network = Network()
        transport = network.transport(CLIENT, UPSTREAM)
        idle: list[Connection] = []
        lost: list[tuple[Connection, UpstreamRequest, ProxyError]] = []

        def unanswered(connection: Connection, request: UpstreamRequest, error: ProxyError) -> None:
            lost.append((connection, request, error))
            request.asking.unanswered(error)

        manners = manners or Manners(ORIGIN)
        connection = Connection(False, idle.append, unanswered, no_websocket, manners)
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
