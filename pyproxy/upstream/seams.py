"""What reads an upstream's responses and its connection ask of each other."""

from __future__ import annotations

from collections.abc import Set
from typing import Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from pyproxy.errors import ProxyError
from pyproxy.relay.pausing import Hold, Valve
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.semantics.oddities import Oddity
from pyproxy.sides import Bond, UpstreamRequest


class ConnectionSide(Protocol):
    """What a reader of responses asks of its connection; ``connection.Connection`` is one.

    Attributes:
        source: pauses and stops what comes from the upstream.
        replied, suspect, doubted, idle_limit: as ``Connection`` has them; the reader's to set.
    """

    source: IPushProducer
    replied: bool
    suspect: bool
    doubted: bool
    idle_limit: float

    def note(self, oddities: Set[Oddity]) -> None:
        """Take note of what was odd in a response."""

    def content_followed(self) -> None:
        """Take note that undue content has followed a response."""

    def bind(self, request: UpstreamRequest, bond: Bond) -> None:
        """Belong to a client's connection from now on."""

    def ends(self) -> None:
        """Take note, ahead of the end of the response, that it is the last one."""

    def answered(self, request: UpstreamRequest, persists: bool) -> None:
        """Take the connection back after a whole response; it may serve another if it persists."""

    def unanswered(self, request: UpstreamRequest, error: ProxyError) -> None:
        """Take note that a request has got no response, and why; the connection was closed."""

    def acknowledge(self, lasting: bool = True) -> None:
        """Acknowledge at once what has come; the upstream may hold the rest back until then."""

    def become_websocket(self) -> WebSocketEnd:
        """Hand the transport over to an end of a WebSocket, and return that."""

    def abort(self) -> None:
        """Close the connection at once, and let the reader ``forget`` its request."""


@implementer(IPushProducer)
class ReadFlow:
    """What the receiver of a response's content sees as its transport."""

    __slots__ = ("_connection", "_valve")

    def __init__(self, connection: ConnectionSide, valve: Valve) -> None:
        self._connection = connection
        self._valve = valve

    def pauseProducing(self) -> None:
        """Stop reading from the upstream."""
        self._valve.hold(Hold.FULL)

    def resumeProducing(self) -> None:
        """Read from the upstream again."""
        self._valve.release(Hold.FULL)

    def stopProducing(self) -> None:
        """Close the connection: nobody wants the rest."""
        self._connection.abort()

    loseConnection = abortConnection = stopProducing
