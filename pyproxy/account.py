"""What happened to one exchange, filled as it goes and closed once.

Owns the facts, and who closed; who keeps accounts, and what becomes of a closed one, is theirs who
began it.  Where nobody keeps any an exchange has none, and pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from pyproxy.carrier import Carrier
from pyproxy.errors import (
    ConnectFailed,
    ConnectionTerminated,
    ConnectTimeout,
    ProxyError,
    ResponseIncomplete,
)
from pyproxy.semantics.dialects.reading import Usage
from pyproxy.semantics.trace_context import TraceContext

_CLOSED_BY_UPSTREAM = (ConnectFailed, ConnectionTerminated, ResponseIncomplete)
CLIENT, UPSTREAM, PROXY = "client", "upstream", "proxy"
"""Who closed an exchange before its good end; an operator may, too."""


Pairs = tuple[tuple[bytes, bytes], ...]
"""Names and values of fields, in their order."""


@attrs.define(eq=False, repr=False)
class Noted:
    """The fields of an exchange that somebody follows.

    Attributes:
        received: from the client.
        forwarded: to the upstream.
        responded: from the upstream, or from the cache.
        answered: to the client.
    """

    received: Pairs = ()
    forwarded: Pairs = ()
    responded: Pairs = ()
    answered: Pairs = ()


@attrs.define(eq=False, repr=False)
class Account:
    """What happened to one exchange; it may hold credentials, which whoever shows it masks.

    Attributes:
        number: of this process, from 1.
        request_id: the request's name in logs and error texts.
        clock: gives seconds of the epoch.
        on_end: is given the account once it is closed.
        began: when the head was read; this and all that follow in seconds of the epoch.
        method, target: as they came; empty where no head could be read.
        minor_version: of HTTP/1, as the client speaks it.
        scheme: of the client's connection.
        client: the address that is believed, empty for a Unix socket.
        referer, user_agent: as they came, empty without.
        host: as it was asked for.
        route: as ``plan.name_of`` names it, empty where none was found.
        logged: it stands in the access log.
        websocket: it has become one.
        passed: routing and guards have let it pass.
        asked: it was handed to the upstream's side.
        connected: its head was written to a connection.
        responded: the head of the response is there.
        first, last: content of the response was passed to the client for the first time, the last.
        first_token, last_token: the same for events that carry a piece of a model's answer.
        ended: all was over.
        reused: the connection had answered another request before.
        peer: origin that was asked, empty for none.
        attempts: connections that the request was written to, or tried to be.
        received, sent: octets of content from and to the client; of a WebSocket, with its frames.
        messages_received, messages_sent: of a WebSocket.
        status: what the client was sent, 0 for nothing.
        closed_by: ``client``, ``upstream``, ``proxy`` or ``operator``; empty for a good end.
        error: the error type of what the proxy ended it for; detail: in words, not masked.
        cache: what ``Cache-Status`` said: ``hit``, or why the upstream was asked.
        model: as the upstream names it.
        dialect: in which its answer was read.
        usage: what the answer took, None where nobody looked.
        events, comments: of an event stream; output_events: those with a piece of the answer.
        outcome: of a watched answer: ``ended``, ``truncated``, ``empty``, ``failed``.
        trace: the trace to which the request belongs.
        trace_begun: it was begun here.
        noted: its fields, None unless somebody follows it.
        carrier: who carries the exchange and can end it, None once it is over.
        span: the place in it of this exchange, None unless that is recorded; upstream_span, of what
            is asked of the upstream, which gets that as its ``traceparent``.
        asked_target: what the upstream was asked for.
    """

    number: int
    request_id: str
    clock: Callable[[], float]
    on_end: Callable[[Account], None]
    began: float
    method: bytes = b""
    target: bytes = b""
    minor_version: int = 1
    scheme: bytes = b""
    client: bytes = b""
    referer: bytes = b""
    user_agent: bytes = b""
    host: bytes = b""
    route: str = ""
    logged: bool = True
    websocket: bool = False
    passed: float | None = None
    asked: float | None = None
    connected: float | None = None
    responded: float | None = None
    first: float | None = None
    last: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    ended: float | None = None
    reused: bool = False
    peer: str = ""
    attempts: int = 1
    received: int = 0
    sent: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    status: int = 0
    closed_by: str = ""
    error: str = ""
    detail: str = ""
    cache: str = ""
    model: str | None = None
    dialect: str | None = None
    usage: Usage | None = None
    events: int = 0
    comments: int = 0
    output_events: int = 0
    outcome: str = ""
    trace: TraceContext | None = None
    trace_begun: bool = False
    noted: Noted | None = None
    carrier: Carrier | None = None
    span: TraceContext | None = None
    upstream_span: TraceContext | None = None
    asked_target: bytes = b""

    def end(self, status: int, sent: int, error: ProxyError | None, left: bool) -> None:
        """Close the account; a second time changes nothing.

        Args: what the client was sent; why the proxy ended it, if it did; whether the client was
            gone before the end.
        """
        if self.ended is not None:
            return
        self.ended = self.clock()
        # It holds the account too.
        self.carrier = None
        self.status, self.sent = status, sent
        if error is not None:
            self.error, self.detail = error.error_type, error.for_log
        if not self.closed_by:
            self.closed_by = closed_by(error, left)
        self.on_end(self)

    @property
    def server_timing(self) -> bytes:
        """The value of ``Server-Timing`` when the response's head is there, in milliseconds.

        ``proxy`` until it was asked for, ``connect`` until that was written to a connection,
        ``upstream`` until the head was there; ``cache`` where no upstream was asked for this.
        """
        if self.connected is None:
            parts = [_timing(b"cache", self.asked, self.responded)]
        else:
            parts = [
                _timing(b"connect", self.asked, self.connected),
                _timing(b"upstream", self.connected, self.responded),
            ]
        return b", ".join(
            part for part in (_timing(b"proxy", self.began, self.asked), *parts) if part
        )


def _timing(name: bytes, begin: float | None, end: float | None) -> bytes:
    """Return a metric in milliseconds.  Spec: Server Timing 3.1."""
    if begin is None or end is None:
        return b""
    return b"%b;dur=%.1f" % (name, max(0.0, end - begin) * 1000)


def closed_by(error: ProxyError | None, left: bool) -> str:
    """Return who ended an exchange early, empty for a good end.

    The upstream has when its connection ended, or none came about; a limit that was over is the
    proxy's doing.
    """
    if error is None:
        return CLIENT if left else ""
    if isinstance(error, _CLOSED_BY_UPSTREAM) and not isinstance(error, ConnectTimeout):
        return UPSTREAM
    return PROXY
