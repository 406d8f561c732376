"""The two sides of an exchange, as it sees them and as they see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from twisted.internet.interfaces import IPushProducer
from twisted.web.iweb import IBodyProducer

from pyproxy.account import Account
from pyproxy.errors import ProxyError
from pyproxy.policy.routing import Limits, Peer
from pyproxy.relay.content import Download, Upload
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.semantics.fields import Field, Fields, Write
from pyproxy.semantics.forwarding import Hop
from pyproxy.semantics.framing import Framing
from pyproxy.semantics.messages import RequestHead, ResponseHead


class ClientSide(Protocol):
    """What an exchange needs of the client's side.

    Attributes:
        begun: the head of the final response was sent.
        upload: the request's content, or None without any.
        takes_chunks: the client knows the chunked coding.
        hop: what is known of the connection.
        options: the request's connection options.
        asked_host: the request's Host, empty without one.
        request_id: the request's name in logs and error texts.
        bond: of the client's connection, None unless an upstream connection belongs to it.
        account: what happens to the request, None where nobody wants to know.
    """

    head: RequestHead
    takes_chunks: bool
    hop: Hop
    options: list[bytes]
    asked_host: bytes
    upload: Upload | None
    begun: bool
    unlogged: bool
    bond: Bond | None
    account: Account | None

    @property
    def request_id(self) -> str:
        """The request's name in logs and error texts."""

    def inform(self, status: int, reason: bytes, fields: Fields) -> None:
        """Send an interim response."""

    def begin(self, status: int, reason: bytes, fields: Fields, framing: Framing) -> None:
        """Send the head of the final response."""

    @property
    def write_content(self) -> Write:
        """What sends octets of content, in their coding when that is chunked; after ``begin``."""

    def note_sent(self, octets: int) -> None:
        """Take note of how many octets of content were written."""

    def finish_content(self, trailers: Fields) -> None:
        """Send the end of the response."""

    def end_connection(self) -> None:
        """Let the response be the last one on the client's connection."""

    def switch(
        self, reason: bytes, fields: Fields, upstream: WebSocketEnd, octets: bytes, limits: Limits
    ) -> None:
        """Answer 101 and become one end of a WebSocket with the upstream's end.

        Args: octets that the upstream sent behind its own 101.
        """

    def answer(self, status: int, reason: bytes, fields: Fields, content: bytes) -> None:
        """Send a whole response of the proxy's own, with its Content-Length among the fields."""

    def refuse(self, error: ProxyError) -> None:
        """Send the response that an error becomes."""

    def abort(self, error: ProxyError) -> None:
        """Break the response off, so that the client cannot take it for whole."""

    def flow_from(self, source: IPushProducer | None) -> None:
        """Name who has to pause when the client's transport is full."""

    def unsent(self) -> int:
        """Return how many octets the client has still to take."""

    def bind(self) -> Bond:
        """Return the bond of the client's connection, made if there was none."""


class UpstreamConnection(Protocol):
    """What an exchange asks of the connection that its request was written to."""

    @property
    def source(self) -> IPushProducer:
        """What to pause for a client that does not take interim responses."""

    def unsent(self) -> int:
        """Return how many octets the upstream has still to take."""

    def look(self) -> None:
        """Notice an upstream that has left although nothing was heard of it."""

    def abort(self) -> None:
        """Close the connection at once; nobody is told anything more."""


class Opening(Protocol):
    """A connection that is being opened for a request."""

    def cancel(self) -> None:
        """Give it up; nobody is told anything more."""


class UpstreamResponse(Protocol):
    """What an exchange needs of the upstream's response: treq's response, and the wire's facts."""

    head: ResponseHead
    framing: Framing
    options: list[bytes]
    trailers: Fields

    @property
    def stored(self) -> bool:
        """Whether it comes whole out of a cache."""

    @property
    def overhead(self) -> int:
        """How many of the octets that were delivered are the coding's, and no content."""

    def deliverBody(self, protocol: Download) -> None:
        """Let the content flow."""

    def detach(self) -> tuple[WebSocketEnd, bytes]:
        """Make the connection of a 101 an end of a WebSocket; return it, and what came behind."""


class Asking(Protocol):
    """Who sent a request to an upstream, and is told what becomes of it; ``Exchange`` is one."""

    def interim(self, head: ResponseHead) -> None:
        """Take an interim response."""

    def responded(self, response: UpstreamResponse) -> None:
        """Take the final response; its head is there."""

    def unanswered(self, error: ProxyError) -> None:
        """Take note that no response will come."""

    def bind(self) -> Bond | None:
        """Return the bond of the client's connection; None where there is no such connection."""


@attrs.define(eq=False)
class Bond:
    """What binds upstream connections to one client's connection.

    A login that belongs to a connection (Negotiate, NTLM) would be every client's otherwise.

    Attributes:
        lost: called when such a connection has ended, or will behind its present response, and the
            login with it.
        connections: by origin; nobody else uses them, and they end with the client's.
    """

    lost: Callable[[], None]
    connections: dict[Peer, UpstreamConnection] = attrs.Factory(dict)

    def close(self) -> None:
        """Close them all: the client's connection has ended."""
        connections, self.connections = self.connections, {}
        for connection in connections.values():
            connection.abort()


@attrs.define(eq=False)
class UpstreamRequest:
    """A request as it goes to the upstream.

    Attributes:
        asking: who is told of the response, or that there is none.
        fields: empty once the head of the response is there.
        content: what follows the head; content of UNKNOWN_LENGTH is sent in chunks.
        websocket_key: the key of an opening handshake, None for any other request.
        coded: chunked content of the response is wanted in its coding, without its last chunk.
        bond: of the client's connection, if it has one; its connections serve this request.
        account: what happens to it, None where nobody wants to know.
        opening: the connection that is being opened for it, if one is.
        connection: what it was written to, once that is there.
        marks: fields of the response that an error becomes, whoever ends it.
    """

    asking: Asking
    peer: Peer
    method: bytes
    target: bytes
    fields: Fields
    content: IBodyProducer | None = None
    websocket_key: bytes | None = None
    coded: bool = False
    bond: Bond | None = None
    account: Account | None = None
    opening: Opening | None = None
    connection: UpstreamConnection | None = None
    marks: tuple[Field, ...] = ()

    def withdraw(self) -> None:
        """Ask no more: close the connection, or open none."""
        if self.connection is not None:
            self.connection.abort()
        elif self.opening is not None:
            self.opening.cancel()


class UpstreamSide(Protocol):
    """What an exchange needs of the upstream's side."""

    def send(self, request: UpstreamRequest) -> None:
        """Send a request; who asks is told what becomes of it, perhaps before this returns."""
