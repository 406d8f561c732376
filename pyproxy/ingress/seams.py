"""What the parts of the client's side ask of each other: request of channel, channel of site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IAddress, IPushProducer, IReactorTime

from pyproxy.relay.limits import Sweeper
from pyproxy.relay.transports import StreamTransport
from pyproxy.semantics.forwarding import Hop


class SiteSide(Protocol):
    """What a channel and its requests ask of their site; ``site.ProxySite`` is one."""

    reactor: IReactorTime
    sweeper: Sweeper
    client_limit: float
    silence_limit: float
    closing: bool

    # A channel and a request of this ring; naming them here would close a circle of imports.
    def opened(self, channel: Any) -> None:
        """Take note of a connection."""

    def closed(self, channel: Any) -> None:
        """Forget a connection."""

    def log(self, request: Any) -> None:
        """Write the access log's line for a request that has ended."""

    def getResourceFor(self, request: Any) -> Any:
        """Return the resource that serves a request."""

    def next_request_id(self) -> str:
        """Return a name for a request."""

    def is_secure(self, transport: StreamTransport) -> bool:
        """Tell whether a connection is under TLS."""

    def hop(self, peer: IAddress, host: IAddress, secure: bool) -> Hop:
        """Return what requests of a connection are told about the client."""


class ChannelSide(Protocol):
    """What a request asks of its connection; ``channel.Channel`` is one."""

    transport: StreamTransport
    send: Callable[[bytes], None]
    site: SiteSide
    hop: Hop
    persists: bool
    options: list[bytes]
    asked_host: bytes

    def response_ended(self, request: Any, keep: bool) -> None:
        """Go on to the next request, or end the connection."""

    def response_broken(self, request: Any, flush: bool) -> None:
        """End the connection inside a response."""

    def flow_from(self, source: IPushProducer | None) -> None:
        """Name who has to pause when the client's transport is full."""

    def unsent(self) -> int:
        """Return how many octets wait for the client to take them."""

    def getPeer(self) -> IAddress:
        """Return the client's address."""

    def getHost(self) -> IAddress:
        """Return the address that the client connected to."""
