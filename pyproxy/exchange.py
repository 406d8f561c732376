"""One request's story, from its head to the last octet of its response.

Owns the order of events, the lifetime that client and upstream share, and the time limits.  Must
not know sockets or parsers: the two sides are seams.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer

from pyproxy.errors import (
    BadRequest,
    ClientTimeout,
    ContentTooLarge,
    FirstByteTimeout,
    InternalError,
    LoopDetected,
    Malformed,
    MethodRefused,
    ProxyError,
    ReadTimeout,
    WriteTimeout,
)
from pyproxy.policy.routing import Limits, Route, RoutingTable
from pyproxy.relay.content import Download, Upload
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.semantics.fields import Fields, tokens, values
from pyproxy.semantics.forwarding import (
    ALLOWED_METHODS,
    HOP_BOUNDED,
    Hop,
    connection_options,
    hops_left,
    one_hop_less,
)
from pyproxy.semantics.framing import NO_CONTENT, Framing, Kind
from pyproxy.semantics.handshake import SWITCH, opening_key, opens_websocket
from pyproxy.semantics.messages import RequestHead, ResponseHead
from pyproxy.semantics.urls import Origin


class ClientSide(Protocol):
    """What an exchange needs of the client's side.

    Attributes:
        begun: the head of the final response was sent.
        upload: the request's content, or None without any.
        options: the request's connection options.
        asked_host: the request's Host, empty without one.
        request_id: the request's name in logs and error texts.
    """

    head: RequestHead
    options: list[bytes]
    asked_host: bytes
    upload: Upload | None
    begun: bool

    @property
    def request_id(self) -> str:
        """The request's name in logs and error texts."""

    @property
    def hop(self) -> Hop:
        """What is known of the connection."""

    def inform(self, status: int, reason: bytes, fields: Fields) -> None:
        """Send an interim response."""

    def begin(self, status: int, reason: bytes, fields: Fields, framing: Framing) -> None:
        """Send the head of the final response."""

    def flush(self) -> None:
        """Send the head, if no content has taken it along."""

    def write_content(self, content: bytes) -> None:
        """Send octets of content."""

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

    def refuse(self, error: ProxyError) -> None:
        """Send the response that an error becomes."""

    def abort(self, error: ProxyError) -> None:
        """Break the response off, so that the client cannot take it for whole."""

    def flow_from(self, source: IPushProducer | None) -> None:
        """Name who has to pause when the client's transport is full."""

    def unsent(self) -> int:
        """Return how many octets the client has still to take."""


@attrs.define(eq=False)
class UpstreamRequest:
    """A request as it goes to the upstream.

    Attributes:
        origin: whom it is for.
        content: what follows the head; content of UNKNOWN_LENGTH is sent in chunks.
        on_interim: called with the head of each interim response.
        websocket_key: the key of an opening handshake, None for any other request.
        connected: a connection is there, and the head is written to it.
        source: what to pause for a client that does not take interim responses; set with it.
        unsent: how many octets the upstream has still to take; set with it.
    """

    origin: Origin
    method: bytes
    target: bytes
    fields: Fields
    content: IBodyProducer | None = None
    on_interim: Callable[[ResponseHead], None] | None = None
    websocket_key: bytes | None = None
    connected: bool = False
    source: IPushProducer | None = None
    unsent: Callable[[], int] | None = None


class ForwardedResponse(Protocol):
    """What an exchange needs of the upstream's response: treq's response, and the wire's facts."""

    head: ResponseHead
    framing: Framing
    options: list[bytes]

    @property
    def trailers(self) -> Fields:
        """The trailer section, once the content ended."""

    def deliverBody(self, protocol: Download) -> None:
        """Let the content flow."""

    def detach(self) -> tuple[WebSocketEnd, bytes]:
        """Make the connection of a 101 an end of a WebSocket; return it, and what came behind."""


class UpstreamSide(Protocol):
    """What an exchange needs of the upstream's side."""

    async def send(self, request: UpstreamRequest) -> ForwardedResponse:
        """Send a request; return the response once its head is there.  Raises: UpstreamError."""


@attrs.define(eq=False)
class Exchange:
    """A request and its response."""

    _client: ClientSide
    _upstream: UpstreamSide
    _table: RoutingTable
    _sweeper: Sweeper
    _story: Deferred[None] | None = None
    _failure: ProxyError | None = None
    _left: bool = False
    _route: Route = attrs.field(init=False)
    _interims: int = 0
    _request: UpstreamRequest | None = None
    _download: Download | None = None
    _seen: tuple[object, ...] = ()
    _since: float = 0.0
    _log: Logger = Logger()

    def start(self) -> None:
        """Begin; the story ends by itself, by ``cancel`` or by ``fail``, and always quietly."""
        self._story = Deferred.fromCoroutine(self._run())
        self._story.addErrback(self._defect)
        if self._failure is not None or self._left:
            # It came while the story ran for the first time, before it could be cancelled.
            self._story.cancel()

    def cancel(self) -> None:
        """End everything at once: the client is gone."""
        self._left = True
        if self._story is not None:
            self._story.cancel()

    def fail(self, error: ProxyError) -> None:
        """End everything because of an error, and say so to the client if that is possible."""
        self._failure = self._failure or error
        if self._story is not None:
            self._story.cancel()

    async def _run(self) -> None:
        try:
            await self._forward()
        except Exception as cause:  # noqa: BLE001 - the one place where the unknown is logged
            self._end(cause)
        finally:
            self._sweeper.unwatch(self)
            if self._client.upload is not None:
                self._client.upload.fail = None

    async def _forward(self) -> None:
        client = self._client
        head, upload = client.head, client.upload
        opens = opens_websocket(head, client.options)
        if opens:
            # Frames sent too early, behind a handshake that is refused, would be read as a request.
            client.end_connection()
        routed = self._table.find(head)
        route = routed.route
        # A target in absolute-form outranks Host.  Spec: RFC 9112 3.2.2.
        host = client.asked_host if routed.authority is None else routed.authority
        options = client.options
        if route.to_upstream.passed_here(head.fields):
            raise LoopDetected("this request has already passed through this proxy")
        framing = NO_CONTENT if upload is None else upload.framing
        key = opening_key(head, options, framing) if opens else None
        self._route = route
        self._attach(upload)
        fields = route.to_upstream.fields(head, options, host, client.hop, framing)
        if head.method in HOP_BOUNDED and (left := hops_left(fields)) is not None:
            if left == 0:
                self._answer_as_final_recipient(head.method)
                return
            fields = one_hop_less(fields)
        if key is not None:
            fields += SWITCH
        origin = route.target.origin
        self._request = UpstreamRequest(
            origin, head.method, routed.target, fields, upload, self._interim, key
        )
        self._since = self._sweeper.now
        self._sweeper.watch(self)
        response = await self._upstream.send(self._request)
        answer = response.head
        reason = route.to_client.reason(answer.reason)
        fields = route.to_client.fields(answer.fields, response.options, answer.status, host)
        if answer.status == 101:
            self._switch(response, reason, fields)
            return
        client.begin(answer.status, reason, fields, response.framing)
        self._download = download = Download(client)
        response.deliverBody(download)
        client.flush()
        await download.done
        client.finish_content(route.to_client.trailers(response.trailers, response.options))

    def _switch(self, response: ForwardedResponse, reason: bytes, fields: Fields) -> None:
        """Make a WebSocket of both connections; with that the exchange is over."""
        upstream, octets = response.detach()
        try:
            self._client.switch(reason, [*fields, *SWITCH], upstream, octets, self._route.limits)
        except Exception:
            upstream.transport.abortConnection()
            raise

    def _interim(self, head: ResponseHead) -> None:
        """Pass on an interim response.  Spec: RFC 9110 15.2."""
        self._interims += 1
        options = connection_options(head.fields)
        fields = self._route.to_client.fields(head.fields, options, head.status, b"")
        if self._request is not None:
            self._client.flow_from(self._request.source)
        self._client.inform(head.status, self._route.to_client.reason(head.reason), fields)

    def _answer_as_final_recipient(self, method: bytes) -> None:
        """Answer a request that may be forwarded no further.  Spec: RFC 9110 7.6.2, 9.3.7."""
        if method == b"TRACE":
            raise MethodRefused("this proxy does not answer TRACE itself")
        self._client.begin(204, b"No Content", [(b"Allow", ALLOWED_METHODS)], NO_CONTENT)
        self._client.finish_content([])

    def _attach(self, upload: Upload | None) -> None:
        """Bind the request's content to the route's rules.  Raises: ContentTooLarge."""
        if upload is None:
            return
        forwarding, options = self._route.to_upstream, self._client.options
        upload.admit_trailers = lambda trailers: forwarding.trailers(trailers, options)
        upload.max_content = most = self._route.limits.max_content
        if most is not None and upload.framing.kind is Kind.LENGTH and upload.framing.length > most:
            raise ContentTooLarge(f"the content has more than {most} bytes")
        upload.fail = self.fail

    def _end(self, cause: Exception) -> None:
        """Say to the client what ended the exchange early, unless it is gone.

        What the exchange was cancelled for outranks what the cancelled parts make of it.
        """
        if self._left:
            return
        if self._failure is not None:
            error = self._failure
        elif isinstance(cause, ProxyError):
            error = cause
        elif isinstance(cause, Malformed):
            error = BadRequest(f"the request is malformed: {cause}")
        else:
            self._log.failure("request {id} ended by a defect", id=self._client.request_id)
            error = InternalError("the proxy could not handle this exchange")
        if self._client.begun:
            self._client.abort(error)
        else:
            self._client.refuse(error)

    def _defect(self, failure: Failure) -> None:
        self._log.failure("an exchange could not be ended", failure)

    # time limits

    def check(self, now: float) -> None:
        """End the exchange when nothing has moved for too long."""
        request, download, upload = self._request, self._download, self._client.upload
        if request is None:
            return
        sent = 0 if upload is None else upload.count
        uploading = upload is not None and not upload.complete and not self._awaits_continue(upload)
        seen = (
            sent,
            uploading,
            request.connected,
            0 if request.unsent is None else request.unsent(),
            -1 if download is None else download.count,
            0 if download is None else self._client.unsent(),
        )
        if seen != self._seen:
            self._seen, self._since = seen, now
            return
        limit, error = self._limit(request, upload, uploading)
        if now - self._since >= limit:
            self.fail(error)

    def _limit(
        self, request: UpstreamRequest, upload: Upload | None, uploading: bool
    ) -> tuple[float, ProxyError]:
        """Return how long the present wait may last, and what it is called when it lasts longer."""
        limits = self._route.limits
        if self._download is not None:
            if self._client.unsent():
                return limits.idle, ClientTimeout(
                    f"the client took nothing of its response for {limits.idle:g} s"
                )
            return limits.idle, ReadTimeout(f"nothing moved for {limits.idle:g} s in a response")
        if request.connected and upload is not None and uploading:
            if upload.paused:
                return limits.upload, WriteTimeout(
                    f"the upstream took none of the content for {limits.upload:g} s"
                )
            return limits.upload, ClientTimeout(
                f"no content came from the client for {limits.upload:g} s"
            )
        return limits.first_byte, FirstByteTimeout(
            f"no response came from the upstream within {limits.first_byte:g} s"
        )

    def _awaits_continue(self, upload: Upload) -> bool:
        """Whether the client rightly holds its content back.  Spec: RFC 9110 10.1.1."""
        return (
            upload.count == 0
            and self._interims == 0
            and b"100-continue" in tokens(values(self._client.head.fields, b"expect"))
        )
