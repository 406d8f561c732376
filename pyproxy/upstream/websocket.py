"""The upstream's end of a WebSocket: to it we are a client, hence autobahn's client classes.

What is used of them stands in ``relay.ends``.
"""

from __future__ import annotations

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.interfaces import IReactorTime

from pyproxy.relay.ends import RelayedEnd
from pyproxy.semantics.urls import Origin


# The two bases of autobahn's own class declare some attributes with different types.
class UpstreamWebSocket(RelayedEnd, WebSocketClientProtocol):  # type: ignore[misc]
    """Our end of the connection to the upstream, once it has answered 101."""


class UpstreamWebSocketFactory(WebSocketClientFactory):
    """Makes the ends of one upstream.

    Args: the http or https origin, which becomes a ws or wss one.  Spec: RFC 6455 3.
    """

    protocol = UpstreamWebSocket  # type: ignore[assignment]
    noisy = False

    def __init__(self, origin: Origin, reactor: IReactorTime) -> None:
        super().__init__(url=origin.websocket_url, reactor=reactor)  # type: ignore[no-untyped-call]
