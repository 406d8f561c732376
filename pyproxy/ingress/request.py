"""One request of a client, as twisted.web's resource tree and as an exchange see it.

Owns how a response is framed towards the client.  Must not know what the response is about.
"""

from __future__ import annotations

from functools import cached_property
from io import BytesIO
from typing import Any, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IConsumer
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import datetimeToString, parse_qs
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource

from pyproxy.account import Account
from pyproxy.carrier import Flow
from pyproxy.errors import BadRequest, ProxyError, Stopped
from pyproxy.ingress.seams import ChannelSide, SiteSide
from pyproxy.policy.routing import Limits
from pyproxy.relay.content import Upload
from pyproxy.relay.headers import WireHeaders
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.relay.transports import StreamTransport
from pyproxy.semantics.chunked import chunk, last_chunk
from pyproxy.semantics.fields import Fields, Octets, Write, values
from pyproxy.semantics.framing import (
    Framing,
    Kind,
)
from pyproxy.semantics.messages import RequestHead, write_head
from pyproxy.semantics.problems import problem
from pyproxy.sides import Bond

MAX_COLLECTED_BYTES = 1024 * 1024
"""Content that is collected for a mounted resource which does not stream: a form, no upload."""

_NO_HEAD = RequestHead(b"", b"", 1, [])


def _drop(content: Octets) -> None:
    """Send nothing: the response has no content."""


def _in_chunks(write: Write) -> Write:
    """Return what writes content as chunks.

    No method of the request: kept in the request itself, that would be a cycle.
    """
    return lambda content: write(chunk(content))


class Ending(Protocol):
    """How an exchange is ended from the client's side."""

    def cancel(self) -> None:
        """End it: the client is gone."""

    def fail(self, error: ProxyError) -> None:
        """End it because of an error, and say so to the client."""

    def flow(self) -> Flow:
        """Return how it flows."""


class ClientRequest(server.Request):
    """A request that begins at the end of its head.

    A resource whose ``streams`` is true gets it at once and answers through ``begin``,
    ``write_content`` and ``finish_content``; any other resource gets it with its content collected
    and answers as in every twisted.web.

    Attributes:
        status: what the client was sent, 0 when nothing was.
        sentLength: octets of content that were written.
        error: why the proxy itself ended the exchange, if it did.
        exchange: what answers the request, once it has begun to.
        left: the client was gone before the end of the response.
        began_at: seconds of the clock when the head was complete.
        unlogged: the access log has no line for it.
        account: what happens to it, None where nobody wants to know.
    """

    channel: ChannelSide  # type: ignore[assignment]
    site: SiteSide  # type: ignore[assignment]
    transport: StreamTransport  # type: ignore[assignment]
    queued = 0  # twisted.web's finish() asks for it.
    # Set where it is otherwise: each name that all instances have costs every open stream memory,
    # and from 30 on CPython does not share the table of their names any more.
    unlogged = False
    account: Account | None = None

    def __init__(
        self,
        channel: ChannelSide,
        head: RequestHead | None,
        upload: Upload | None,
        options: list[bytes],
        host: bytes,
    ) -> None:
        # server.Request's own attributes are made when somebody asks for them: making them all
        # would cost more than the exchange does.
        self.channel = channel
        self.transport = channel.transport
        self.head = head or _NO_HEAD
        self.upload = upload
        self.hop = channel.hop
        self.flow_from = channel.flow_from
        self.unsent = channel.unsent
        self.options = options
        self.asked_host = host
        self.bond = channel.bond
        self.begun = False
        self.status = 0
        self.error: ProxyError | None = None
        self.exchange: Ending | None = None
        self.left = False
        self.began_at = channel.site.reactor.seconds() if channel.site.logs else 0.0
        self.takes_chunks = self.head.minor_version == 1
        self._chunked = False
        self.write_content: Write = channel.send
        self._delimited = True
        self._without_content = self.head.method == b"HEAD"
        self._persists = channel.persists
        accounts = channel.site.accounts
        if accounts is not None:
            self.account = account = accounts.begin(self)
            account.carrier = self

    # what an exchange asks for

    @cached_property
    def request_id(self) -> str:
        """A name for this request, unique to this process's life, in logs and error texts."""
        return self.channel.site.next_request_id()

    def inform(self, status: int, reason: bytes, fields: Fields) -> None:
        """Send an interim response; an HTTP/1.0 client would not know it.  Spec: RFC 9110 15.2."""
        if self.head.minor_version == 1 and not self.begun:
            self.channel.send(write_head(b"HTTP/1.1 %d %b" % (status, reason), fields))

    def begin(self, status: int, reason: bytes, fields: Fields, framing: Framing) -> None:
        """Send the head of the final response.

        Args: fields without framing of the connection (Content-Length may be among them, and
            stays); what this connection needs is appended to them.
        Spec: RFC 9112 6.1, 6.3, 9.3, 9.6.
        """
        self.begun = True
        self.status = status
        minor = self.head.minor_version
        if framing.kind is Kind.CHUNKED or framing.kind is Kind.UNTIL_CLOSE:
            if minor == 1:
                self._chunked = True
                if framing.kind is Kind.UNTIL_CLOSE:
                    self.write_content = _in_chunks(self.channel.send)
                fields.append((b"Transfer-Encoding", b"chunked"))
            else:
                self._delimited = self._persists = False
        elif framing.kind is Kind.NONE:
            self._without_content = True
        if self._without_content:
            self.write_content = _drop
        if self.channel.site.closing or (self.upload is not None and not self.upload.complete):
            self._persists = False
        if not self._persists:
            fields.append((b"Connection", b"close"))
        elif minor == 0:
            fields.append((b"Connection", b"keep-alive"))
        self.channel.send(write_head(b"HTTP/1.1 %d %b" % (status, reason), fields))

    def note_sent(self, octets: int) -> None:
        """Take note of how many octets of content were written."""
        if not self._without_content:
            self.sentLength = octets

    def finish_content(self, trailers: Fields) -> None:
        """Send the end of the response."""
        if self._chunked and not self._without_content:
            self.channel.send(last_chunk(trailers))
        # With the cycle the collector would have to free all that the exchange made.
        self.exchange = None
        self.channel.response_ended(self, self._persists)

    def bind(self) -> Bond:
        """Return the bond of the client's connection, made if there was none."""
        self.bond = bond = self.channel.bind()
        return bond

    def end_connection(self) -> None:
        """Let the response be the last one on the connection."""
        self._persists = False

    def switch(
        self, reason: bytes, fields: Fields, upstream: WebSocketEnd, octets: bytes, limits: Limits
    ) -> None:
        """Answer 101 and become one end of a WebSocket with the upstream's end.

        Args: octets that the upstream sent behind its own 101.
        """
        head = write_head(b"HTTP/1.1 101 %b" % reason, fields)
        self.channel.switch(self, head, upstream, octets, limits)

    def refuse(self, error: ProxyError) -> None:
        """Send the response that an error becomes."""
        self.error = error
        accept = values(self.head.fields, b"accept")
        fields, content = problem(error, self.request_id, accept)
        if isinstance(error, BadRequest):
            self._persists = False
        self.answer(error.status, error.title.encode("ascii"), fields, content)

    def answer(self, status: int, reason: bytes, fields: Fields, content: bytes) -> None:
        """Send a whole response of the proxy's own, with its Content-Length among the fields.

        Spec: RFC 9110 6.6.1; what the upstream answers gets no Date of ours.
        """
        fields.insert(0, (b"Date", datetimeToString(self.channel.site.reactor.seconds())))
        self.begin(status, reason, fields, Framing(Kind.LENGTH, len(content)))
        if content:
            self.write_content(content)
            self.note_sent(len(content))
        self.finish_content([])

    def abort(self, error: ProxyError) -> None:
        """Break the response off, so that the client cannot take it for whole."""
        self.error = error
        self.channel.response_broken(self, flush=self._delimited)

    def end(self, error: ProxyError) -> None:
        """End the request because the proxy has to."""
        if self.exchange is not None:
            self.exchange.fail(error)
        else:
            self.channel.response_broken(self, flush=False)

    # what who looks at its account asks for

    def flow(self) -> Flow:
        """Return how it flows."""
        return Flow() if self.exchange is None else self.exchange.flow()

    def stop(self) -> None:
        """End it because the operator wants that."""
        self.end(Stopped("the operator has stopped this request"))

    # what the resource tree asks for

    def process(self) -> None:
        """Find the resource and let it answer."""
        self.site = self.channel.site
        resource: Any = self.site.resource
        try:
            if not self.site.forwards_all:
                self.prepath = []
                self.postpath = self.path[1:].split(b"/")
                resource = self.site.getResourceFor(self)
            if getattr(resource, "streams", False):
                resource.render(self)
            else:
                self._collect(resource)
        except Exception:  # noqa: BLE001 - twisted.web logs it and answers 500
            self.processingFailed(Failure())  # type: ignore[no-untyped-call]

    def _collect(self, resource: IResource) -> None:
        """Render a resource that does not stream, once the content is there."""
        collected = BytesIO()
        self.content = collected
        if self.upload is None:
            self.render(resource)  # type: ignore[no-untyped-call]
            return
        self.upload.max_content = MAX_COLLECTED_BYTES
        self.upload.fail = self.refuse
        done = self.upload.startProducing(cast(IConsumer, collected))
        done.addCallback(lambda _: collected.seek(0))
        done.addCallback(lambda _: self._render(resource))
        done.addErrback(self._not_rendered)

    def _not_rendered(self, failure: Failure) -> None:
        """Answer 500 as twisted.web does, unless the client is gone."""
        if self._disconnected:
            self._log.failure("a resource failed after its client left", failure)
        else:
            self.processingFailed(failure)  # type: ignore[no-untyped-call]

    def _render(self, resource: IResource) -> None:
        self.render(resource)  # type: ignore[no-untyped-call]

    def write(self, data: bytes) -> None:
        """Send content of a resource that does not stream."""
        self.begun = True
        self.status = self.code
        super().write(data)  # type: ignore[no-untyped-call]

    def _cleanup(self) -> None:
        """End a response that a resource finished in twisted.web's way."""
        notifications, self.notifications = self.notifications, []
        self.channel.response_ended(self, self._persists)
        for waiting in notifications:
            waiting.callback(None)

    def connectionLost(self, reason: Failure) -> None:
        """Tell whoever asked that the client is gone."""
        self._disconnected = self.left = True
        if self.exchange is not None:
            self.exchange.cancel()
        notifications, self.notifications = self.notifications, []
        for waiting in notifications:
            waiting.errback(reason)

    # twisted.web's names for the head

    @property
    def method(self) -> bytes:  # type: ignore[override]
        """The method, as it came."""
        return self.head.method

    @property
    def uri(self) -> bytes:  # type: ignore[override]
        """The target, as it came."""
        return self.head.target

    @property
    def path(self) -> bytes:  # type: ignore[override]
        """The target without its query, as octets."""
        return self.head.target.partition(b"?")[0]

    @property
    def clientproto(self) -> bytes:  # type: ignore[override]
        """The version that the client speaks."""
        return b"HTTP/1.%d" % self.head.minor_version

    @cached_property
    def requestHeaders(self) -> Headers:  # type: ignore[override]
        """The fields, as twisted.web has them."""
        return WireHeaders(self.head.fields)

    @cached_property
    def responseHeaders(self) -> Headers:  # type: ignore[override]
        """The fields of the response of a resource that does not stream."""
        return Headers()

    @cached_property
    def notifications(self) -> list[Deferred[None]]:  # type: ignore[override]
        """Who wants to know of the end of the request."""
        return []

    @cached_property
    def cookies(self) -> list[bytes]:  # type: ignore[override]
        """Set-Cookie values of a resource that does not stream."""
        return []

    @cached_property
    def args(self) -> dict[bytes, list[bytes]]:  # type: ignore[override]
        """The query's parameters; content is not parsed."""
        query = self.head.target.partition(b"?")[2]
        return cast(dict[bytes, list[bytes]], parse_qs(query, keep_blank_values=True))

    @cached_property
    def _adapterCache(self) -> dict[str, object]:  # type: ignore[override]
        """What ``Componentized`` keeps."""
        return {}

    @property
    def client(self) -> IAddress:
        """The client's address."""
        return self.channel.getPeer()

    @property
    def host(self) -> IAddress:
        """The address that the client connected to."""
        return self.channel.getHost()
