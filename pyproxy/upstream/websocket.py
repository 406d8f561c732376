"""The upstream's end of a WebSocket, and the factory that makes it: autobahn's, on our relay."""

from __future__ import annotations

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.interfaces import IReactorTime

from pyproxy.relay.ends import RelayedEnd
from pyproxy.semantics.urls import Origin


class UpstreamSocket(RelayedEnd, WebSocketClientProtocol):  # type: ignore[misc]
    """The upstream's end."""


class UpstreamSocketFactory(WebSocketClientFactory):
    """Makes the ends of one upstream.

    Args: the http or https origin, which becomes a ws or wss one.  Spec: RFC 6455 3.
    """

    protocol = UpstreamSocket  # type: ignore[assignment]
    noisy = False

    def __init__(self, origin: Origin, reactor: IReactorTime) -> None:
        super().__init__(url=origin.websocket_url, reactor=reactor)  # type: ignore[no-untyped-call]
