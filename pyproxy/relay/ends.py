"""What both ends of a relayed WebSocket have in common, whichever class of autobahn's they extend.

autobahn parses messages and keeps the state of an endpoint for each connection; here the two
endpoints are the client and the upstream, and a relay that parsed their messages would lose
fragments and extensions.  So its protocols stand for the ends, and write the few frames that are
the proxy's own; what passes does not go through them.  See docs/adr/0005-websocket-relay.rst.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pyproxy.relay.seams import OctetSink, WebSocketPair
from pyproxy.relay.transports import StreamTransport
from pyproxy.semantics.frames import CLOSE, MAX_CONTROL_BYTES, PING


@implementer(IHalfCloseableProtocol)
class RelayedEnd:
    """One end; to be mixed in before autobahn's ``WebSocketServerProtocol`` or ``…ClientProtocol``.

    Of these it uses ``sendFrame``, which masks what goes to servers and asks for the class
    attributes below and for ``factory.isServer``.  Their ``__init__`` and ``connectionMade``, which
    make what an endpoint needs (6 KiB a connection), are left out.
    """

    transport: StreamTransport
    factory: Any
    connected = 0

    logFrames = False
    applyMask = True
    maskClientFrames = True
    maskServerFrames = False

    def __init__(self) -> None:
        self._pair: WebSocketPair | None = None
        self._octets: OctetSink | None = None

    def makeConnection(self, transport: StreamTransport) -> None:
        """Take note of the transport."""
        self.transport = transport
        self.connected = 1

    def join(self, pair: WebSocketPair, direction: OctetSink) -> None:
        """Take part in a pair.  Args: what takes the octets that come from this end."""
        self._pair = pair
        self._octets = direction

    def dataReceived(self, data: bytes) -> None:
        """Pass octets on."""
        if self._octets is not None:
            self._octets.feed(data)

    def readConnectionLost(self) -> None:
        """Take note that the peer sent a FIN."""
        if self._pair is not None:
            self._pair.read_lost(self)

    def writeConnectionLost(self) -> None:
        """Take note that our own FIN was sent; nothing follows from it."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take note that the connection is no more, and let go of the pair."""
        pair, self._pair, self._octets = self._pair, None, None
        if pair is not None:
            pair.lost(self)

    def send_close(self, code: int, reason: str) -> None:
        """Send a Close frame.  Spec: RFC 6455 5.5.1."""
        text = reason.encode("ascii", "replace")[: MAX_CONTROL_BYTES - 2]
        cast(Any, self).sendFrame(opcode=CLOSE, payload=code.to_bytes(2, "big") + text)

    def send_ping(self, payload: bytes) -> None:
        """Send a Ping frame.  Spec: RFC 6455 5.5.2."""
        cast(Any, self).sendFrame(opcode=PING, payload=payload)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Send the octets that ``sendFrame`` made."""
        self.transport.write(data)
