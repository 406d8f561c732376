"""What the parts of the client's side ask of each other.

A request and the reader of requests ask the channel, all of them the site.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

import attrs
from twisted.internet.interfaces import IAddress, IPushProducer, IReactorTime

from pyproxy.account import Account
from pyproxy.errors import ProxyError
from pyproxy.policy.routing import Limits
from pyproxy.relay.content import Upload
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.relay.transports import StreamTransport
from pyproxy.semantics.fields import Write
from pyproxy.semantics.forwarding import Hop, Network
from pyproxy.semantics.messages import RequestHead
from pyproxy.sides import Bond

LOGGED_FIELDS = frozenset({b"forwarded", b"referer", b"user-agent", b"x-forwarded-for"})
"""Request fields that the access log asks for, in lower case."""


class State(Enum):
    """Where a client's connection is."""

    OPEN = "open"
    LINGERING = "no more requests begin, the client may still be sending"
    CLOSED = "closed"


class SiteSide(Protocol):
    """What a channel and its requests ask of their site; ``site.ProxySite`` is one."""

    reactor: IReactorTime
    resource: Any
    sweeper: Sweeper
    client_limit: float
    silence_limit: float
    closing: bool
    logs: bool
    accounts: Accounting | None
    terms: Terms

    # A channel and a request of this ring; naming them here would close a circle of imports.
    def opened(self, channel: Any) -> None:
        """Take note of a connection."""

    def closed(self, channel: Any) -> None:
        """Forget a connection."""

    def log(self, request: Any) -> None:
        """Write the access log's line for a request that has ended."""

    @property
    def websockets(self) -> Any:
        """The factory of the clients' ends of WebSockets."""

    @property
    def forwards_all(self) -> bool:
        """Whether nothing is mounted: no tree is walked, and content may stay in its coding."""

    def getResourceFor(self, request: Any) -> Any:
        """Return the resource that serves a request."""

    def next_request_id(self) -> str:
        """Return a name for a request."""

    def is_secure(self, transport: StreamTransport) -> bool:
        """Tell whether a connection is under TLS."""

    def hop(self, peer: IAddress, host: IAddress, secure: bool) -> Hop:
        """Return what requests of a connection are told about the client."""


class Logged(Protocol):
    """What the access log is told of a request that has ended; ``request.ClientRequest`` is one.

    Attributes:
        status: what the client was sent, 0 when nothing was.
        sentLength: octets of content that were written.
        error: why the proxy itself ended the exchange, if it did.
        left: the client was gone before the end of the response.
        began_at: seconds of the clock when the head was complete.
        unlogged: it gets no line.
        account: what happened to it, None where nobody wants to know.
    """

    head: RequestHead
    hop: Hop
    status: int
    sentLength: int
    error: ProxyError | None
    left: bool
    began_at: float
    unlogged: bool
    account: Account | None

    @property
    def request_id(self) -> str:
        """The request's name in logs and error texts."""


class Accounting(Protocol):
    """Who keeps accounts; ``observe.accounts.Accounts`` is one."""

    def begin(self, request: Any) -> Account:
        """Open the account of a request."""


@attrs.frozen
class Terms:
    """On which terms clients are served; a reload brings others.

    Attributes:
        client_limit: seconds that a head may take to arrive, and that an idle connection is kept.
        trusted: networks whose word of a client is believed.
        trust_unix: the same for whoever comes by a Unix socket.
        access_log: is told of each request that has ended; None for no log.
        silence_limit: seconds that a client may acknowledge nothing.
        accounts: keeps an account of each request; None where nobody wants to know.
    """

    client_limit: float = 75.0
    trusted: tuple[Network, ...] = ()
    trust_unix: bool = False
    access_log: Callable[[Logged], None] | None = None
    silence_limit: float = 300.0
    accounts: Accounting | None = None


class ChannelSide(Protocol):
    """What a request asks of its connection; ``channel.Channel`` is one."""

    transport: StreamTransport
    send: Write
    site: SiteSide
    hop: Hop
    persists: bool
    bond: Bond | None

    def bind(self) -> Bond:
        """Return the connection's bond, made if there was none."""

    def response_ended(self, request: Any, keep: bool) -> None:
        """Go on to the next request, or end the connection."""

    def response_broken(self, request: Any, flush: bool) -> None:
        """End the connection inside a response."""

    def switch(
        self, request: Any, head: bytes, upstream: WebSocketEnd, octets: bytes, limits: Limits
    ) -> None:
        """Send the head of a 101 and hand the connection over to a WebSocket."""

    def flow_from(self, source: IPushProducer | None) -> None:
        """Name who has to pause when the client's transport is full."""

    def unsent(self) -> int:
        """Return how many octets wait for the client to take them."""

    def getPeer(self) -> IAddress:
        """Return the client's address."""

    def getHost(self) -> IAddress:
        """Return the address that the client connected to."""


class RequestSink(Protocol):
    """What takes the requests that come in on a connection; ``channel.Channel`` is one.

    Attributes:
        state: no request begins unless the connection is open.
        request: the one that is being answered; no other begins before its end.
        full: the client does not read its responses; no request begins meanwhile.
    """

    state: State
    request: Any
    full: bool

    @property
    def takes_coding(self) -> bool:
        """Whether chunked content may stay in its coding."""

    def head_begun(self) -> None:
        """Take note that the first octets of a head have come, but not all of it."""

    def begin(
        self, head: RequestHead, upload: Upload | None, options: list[bytes], host: bytes
    ) -> None:
        """Begin to answer a request.

        Args: its connection options; its Host, empty without one.
        """

    def acknowledge(self) -> None:
        """Acknowledge at once what has come; the client may hold the rest back until then."""

    def refuse(self, error: ProxyError, head: RequestHead | None) -> None:
        """Answer what is no request, and end the connection."""

    def later(self, call: Callable[[], None]) -> None:
        """Call something in the reactor's next turn."""

    def linger(self) -> None:
        """Begin no more requests."""

    def reading_pauses(self) -> None:
        """Read no more of the client's octets."""

    def reading_resumes(self) -> None:
        """Read the client's octets again."""

    def cut_off(self) -> None:
        """End the connection at once: the client sends without an end."""
