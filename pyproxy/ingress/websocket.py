"""The client's end of a WebSocket: to it we are a server, hence autobahn's server classes.

What is used of them stands in ``relay.ends``.
"""

from __future__ import annotations

from typing import cast

import attrs
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol

from pyproxy.account import Account
from pyproxy.errors import ProxyError
from pyproxy.ingress.request import ClientRequest
from pyproxy.ingress.seams import LOGGED_FIELDS, SiteSide
from pyproxy.policy.routing import Limits
from pyproxy.relay.ends import RelayedEnd
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.relay.transports import StreamTransport
from pyproxy.relay.websocket import Pair
from pyproxy.semantics.forwarding import Hop
from pyproxy.semantics.messages import RequestHead


@attrs.define(eq=False)
class WebSocketRecord:
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
    unlogged: bool = False
    account: Account | None = None
    asked_host: bytes = b""

    @classmethod
    def of(cls, request: ClientRequest) -> WebSocketRecord:
        """Begin the record of a WebSocket that a request opened."""
        head = request.head
        shown = [field for field in head.fields if field[0].lower() in LOGGED_FIELDS]
        head = RequestHead(head.method, head.target, head.minor_version, shown)
        record = cls(head, request.hop, request.began_at, request.request_id)
        record.unlogged, record.account = request.unlogged, request.account
        record.asked_host = request.asked_host
        if record.account is not None:
            record.account.websocket = True
        return record

    def end(self, pair: Pair) -> None:
        """Take note of how it ended."""
        self.sentLength, self.error, self.left = pair.sent, pair.error, pair.client_left
        if self.account is not None:
            self.account.received = pair.received
            self.account.messages_received, self.account.messages_sent = pair.messages


# The two bases of autobahn's own class declare some attributes with different types.
class ClientWebSocket(RelayedEnd, WebSocketServerProtocol):  # type: ignore[misc]
    """Our end of the connection from the client, once it was sent a 101."""

    busy = True

    def end_soon(self) -> None:
        """Go on, as all that is open does."""

    def end_if_idle(self) -> None:
        """Go on: a WebSocket that is silent is not idle."""

    def shut_down(self) -> None:
        """End the WebSocket because the proxy ends."""
        if self._pair is not None:
            self._pair.shut_down()

    def abandon(self) -> None:
        """Wait no longer for either end."""
        if self._pair is not None:
            self._pair.abandon()


class ClientWebSocketFactory(WebSocketServerFactory):
    """Makes the clients' ends, and pairs each with the upstream's."""

    protocol = ClientWebSocket  # type: ignore[assignment]
    noisy = False

    def __init__(self, site: SiteSide) -> None:
        super().__init__(reactor=site.reactor)  # type: ignore[no-untyped-call]
        self._site = site

    def pair(
        self,
        request: ClientRequest,
        transport: StreamTransport,
        upstream: WebSocketEnd,
        limits: Limits,
    ) -> tuple[ClientWebSocket, Pair]:
        """Make the client's end of a WebSocket and pair it with the upstream's.

        Args: the request that opened it, and the client's transport, which is not handed over yet.
        """
        site = self._site
        client = cast(ClientWebSocket, self.buildProtocol(None))
        client.makeConnection(transport)
        logs = site.logs and not (request.unlogged and request.account is None)
        record = WebSocketRecord.of(request) if logs else None

        def ended(pair: Pair) -> None:
            site.closed(client)
            if record is not None:
                record.end(pair)
                site.log(record)

        counts = request.account is not None
        pair = Pair(client, upstream, limits, site.reactor, site.sweeper, ended, counts)
        if request.account is not None:
            request.account.carrier = pair
        return client, pair
