"""The client's end of a WebSocket, and the factory that makes it: autobahn's, on our relay."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import attrs
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.interfaces import IReactorTime

from pyproxy.errors import ProxyError
from pyproxy.ingress.request import ClientRequest
from pyproxy.relay.ends import RelayedEnd
from pyproxy.relay.websocket import Pair
from pyproxy.semantics.forwarding import Hop
from pyproxy.semantics.messages import RequestHead

_SHOWN_FIELDS = frozenset({b"referer", b"user-agent", b"x-forwarded-for"})


@attrs.define(eq=False)
class SocketRecord:
    """What the access log shows of a WebSocket; less than its request holds, since many stay open.

    Attributes: as ``ClientRequest`` has them.
    """

    head: RequestHead
    hop: Hop
    began_at: float
    request_id: str
    status: int = 101
    sentLength: int = 0
    error: ProxyError | None = None
    left: bool = False

    @classmethod
    def of(cls, request: ClientRequest) -> SocketRecord:
        """Begin the record of a WebSocket that a request opened."""
        head = request.head
        shown = [field for field in head.fields if field[0].lower() in _SHOWN_FIELDS]
        head = RequestHead(head.method, head.target, head.minor_version, shown)
        return cls(head, request.hop, request.began_at, request.request_id)

    def end(self, pair: Pair) -> None:
        """Take note of how it ended."""
        self.sentLength, self.error, self.left = pair.sent, pair.error, pair.client_left


class ClientSocket(RelayedEnd, WebSocketServerProtocol):  # type: ignore[misc]
    """The client's end.

    Attributes:
        on_end: called with the pair once both ends are gone.
    """

    on_end: Callable[[Pair], None]

    def shut_down(self) -> None:
        """End the WebSocket because the proxy ends."""
        if self._pair is not None:
            self._pair.shut_down()


class ClientSocketFactory(WebSocketServerFactory):
    """Makes the clients' ends."""

    protocol = ClientSocket  # type: ignore[assignment]
    noisy = False

    def __init__(self, reactor: IReactorTime) -> None:
        super().__init__(reactor=reactor)  # type: ignore[no-untyped-call]

    def pair_with(self, on_end: Callable[[Pair], None]) -> ClientSocket:
        """Make a client's end."""
        end = cast(ClientSocket, self.buildProtocol(None))
        end.on_end = on_end
        return end
