"""One request, from its head to the last octet of its response.

Owns the order of events, the lifetime that client and upstream share, and the time limits.  Must
not know sockets or parsers: the two sides are seams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure

from pyproxy.account import Account
from pyproxy.carrier import Flow
from pyproxy.errors import (
    BadRequest,
    BadResponse,
    ClientTimeout,
    FirstByteTimeout,
    InternalError,
    LateRefusal,
    LoopDetected,
    Malformed,
    MethodRefused,
    ProxyError,
    ReadTimeout,
    WriteTimeout,
)
from pyproxy.policy.instead import Instead
from pyproxy.policy.routing import Peer, Route, RoutingTable, Step
from pyproxy.relay.content import ContentSink, Download, Upload
from pyproxy.relay.limits import LOOKS, Sweeper
from pyproxy.relay.watching import Followed, Watched, uncoded
from pyproxy.semantics.cache_status import said
from pyproxy.semantics.fields import Fields, tokens
from pyproxy.semantics.forwarding import (
    ALLOWED_METHODS,
    HOP_BOUNDED,
    connection_options,
    hops_left,
    one_hop_less,
)
from pyproxy.semantics.framing import NO_CONTENT, Framing, Kind
from pyproxy.semantics.handshake import SWITCH, opening_key, opens_websocket
from pyproxy.semantics.logins import logs_in
from pyproxy.semantics.messages import ResponseHead, noted_values
from pyproxy.semantics.trace_context import begun_in, continued_in
from pyproxy.sides import Bond, ClientSide, UpstreamRequest, UpstreamResponse, UpstreamSide

if TYPE_CHECKING:
    from pyproxy.insertion import Insertion

_LOGIN = frozenset({b"N", b"n"})
"""What a connection's login begins with: Negotiate, NTLM."""


MAX_INTERIMS = 1000
"""Interim responses to one request: a sign of life each second for a quarter of an hour.

A client of HTTP/1.0 is sent none, so nothing else paces an upstream that sends them without end.
"""


@attrs.define(eq=False)
class Exchange:
    """A request and its response.

    It goes on by calls, not as a coroutine; docs/adr/0007-small-exchange.rst has what that saves.
    """

    _client: ClientSide
    _upstream: UpstreamSide
    _table: RoutingTable
    _sweeper: Sweeper
    _failure: ProxyError | None = None
    _left: bool = False
    _starting: bool = True
    _over: bool = False
    _route: Route = attrs.field(init=False)
    _host: bytes = b""
    _interims: int = 0
    _account: Account | None = None
    _request: UpstreamRequest | None = None
    _response: UpstreamResponse | None = None
    _download: Download | None = None
    _insertion: Insertion | None = None
    _seen: tuple[object, ...] = ()
    _since: float = 0.0
    _log: Logger = Logger()

    # from the request to the response

    def start(self) -> None:
        """Begin; it ends by itself, by ``cancel`` or by ``fail``, and always quietly."""
        try:
            self._forward()
        except Exception as cause:  # noqa: BLE001 - the one place where the unknown is logged
            self._end(cause)
        self._starting = False
        if self._left:
            self._end(None)
        elif self._failure is not None:
            self._end(self._failure)

    def _forward(self) -> None:
        """Find the route, refuse what may not pass, and send the request to the upstream."""
        client = self._client
        head, upload, options = client.head, client.upload, client.options
        opens = bool(options) and opens_websocket(head, options)
        if opens:
            # Frames sent too early, behind a handshake that is refused, would be read as a request.
            client.end_connection()
        route, target, authority = self._table.find(head, client.asked_host)
        # A target in absolute-form outranks Host.  Spec: RFC 9112 3.2.2.
        self._host = host = client.asked_host if authority is None else authority
        account = self._account = client.account
        if account is not None or not route.logs:
            self._note_route(route, host)
        if route.guard is not None:
            route.guard.admit(head, host, client.hop)
        if route.instead is not None:
            self._answer_instead(route.instead, target)
            return
        to_upstream = route.to_upstream
        if to_upstream.passed_here(head):
            raise LoopDetected("this request has already passed through this proxy")
        step = route.step
        at_once = upload is None and route.watch is None and not route.server_timing
        if step is not None and at_once and self._answered_at_once(step, target):
            return
        framing = NO_CONTENT if upload is None else upload.framing
        key = opening_key(head, options, framing) if opens else None
        self._route = route
        if upload is not None:
            self._attach(upload)
        fields = to_upstream.fields(head, options, host, client.hop, framing)
        if head.method in HOP_BOUNDED and self._answered_as_final_recipient(head.method, fields):
            return
        fields += () if key is None else SWITCH
        bond, names = client.bond, head.names
        # Most that have Authorization have a key in it: they pay no call for what few have.
        if (
            b"authorization" in head.noted
            and (
                head.fields[names.index(b"authorization")][1][:1] in _LOGIN
                or names.count(b"authorization") > 1
            )
            and logs_in(head)
        ):
            bond = client.bind()
        # Who watches content, or puts something in, does not want it in its coding.
        peer, touched = route.peer, route.watch is not None or route.insertions is not None
        coded = client.takes_chunks and not touched
        if account is not None:
            self._note_asked(account, peer, target, fields)
        self._request = request = UpstreamRequest(
            self, peer, head.method, target, fields, upload, key, coded, bond, account
        )
        self._since = self._sweeper.now
        self._sweeper.watch(self)
        if step is None and not touched:
            self._upstream.send(request)
        else:
            self._send(request)

    def _send(self, request: UpstreamRequest) -> None:
        """Send a request on a route that has more to do with it."""
        route = self._route
        if route.insertions is None:
            self._pass_on(request)
            return
        # Where no route puts anything in, nobody waits for this at the start.
        from pyproxy.insertion import Insertion

        self._insertion = insertion = Insertion(
            self._client, route.insertions, route.to_client, self._host, self._sweeper, self.fail
        )
        insertion.prepare(request, self._pass_on)

    def _pass_on(self, request: UpstreamRequest) -> None:
        """Send a request to the upstream, or to the step before it."""
        step, client = self._route.step, self._client
        if step is None:
            self._upstream.send(request)
        else:
            step.send(request, client.head, self._host, client.hop)

    def _note_route(self, route: Route, host: bytes) -> None:
        """Take note of which route it is."""
        if not route.logs:
            self._client.unlogged = True
        account = self._account
        if account is not None:
            account.route, account.host, account.logged = route.name, host, route.logs

    def _note_asked(self, account: Account, peer: Peer, target: bytes, fields: Fields) -> None:
        """Take note of a request that goes to the upstream, as part of its trace."""
        account.passed = account.asked = account.clock()
        account.peer, account.asked_target = peer.origin.shown, target
        if account.trace is not None and account.trace_begun:
            fields[:] = begun_in(account.upstream_span or account.trace, fields)
        elif account.upstream_span is not None:
            fields[:] = continued_in(account.upstream_span, fields)
        if account.noted is not None:
            account.noted.forwarded = tuple(fields)

    def interim(self, head: ResponseHead) -> None:
        """Pass on an interim response.  Spec: RFC 9110 15.2."""
        self._interims += 1
        if self._interims > MAX_INTERIMS:
            self._end(BadResponse(f"the upstream sent more than {MAX_INTERIMS} interim responses"))
            return
        to_client = self._route.to_client
        fields = to_client.fields(head, connection_options(head), b"")
        if self._request is not None and self._request.connection is not None:
            self._client.flow_from(self._request.connection.source)
        self._client.inform(head.status, to_client.reason(head.reason), fields)

    def responded(self, response: UpstreamResponse) -> None:
        """Pass on the head of the final response, and let its content flow."""
        if self._over:
            return
        client, to_client = self._client, self._route.to_client
        head, account = response.head, self._account
        try:
            reason = to_client.reason(head.reason)
            fields = to_client.fields(head, response.options, self._host)
            framing = response.framing
            if account is not None:
                self._note_response(account, response, fields)
            if head.status == 101:
                self._switch(response, reason, fields)
                return
            sink: ContentSink | None = client
            insertion = self._insertion
            if insertion is not None:
                sink = insertion.begin(response, reason, fields)
            else:
                if self._route.watch is not None:
                    framing = uncoded(framing)
                client.begin(head.status, reason, fields, framing)
            self._response = response
            download: Download
            if sink is None:
                assert insertion is not None
                download = insertion.late_answer(self._late_answer_ended)
            elif account is None:
                download = Download(sink, self._content_ended)
            else:
                download = self._followed(account, response, sink)
            self._download = download
            response.deliverBody(download)
            if not self._over:
                head.forget_fields()
        except Exception as cause:  # noqa: BLE001 - the unknown is logged at the end
            self._end(cause)

    def _note_response(self, account: Account, response: UpstreamResponse, fields: Fields) -> None:
        """Take note of a response, and tell the client of it where the route does.

        Args: the fields that the client will get.
        """
        account.responded = account.clock()
        account.status = response.head.status
        if self._route.step is not None:
            account.cache = said(response.head.fields)
        if self._route.server_timing:
            fields.append((b"Server-Timing", account.server_timing))
        if account.noted is not None:
            account.noted.responded = tuple(response.head.fields)
            account.noted.answered = tuple(fields)

    def _followed(
        self, account: Account, response: UpstreamResponse, sink: ContentSink
    ) -> Download:
        """Return what takes a content of which an account is kept."""
        watch = self._route.watch
        if watch is not None and self._client.head.method != b"HEAD":
            watcher = watch(account, response.head)
            if watcher is not None:
                return Watched(sink, self._content_ended, account, watcher)
        return Followed(sink, self._content_ended, account)

    def _content_ended(self, broken: BaseException | None) -> None:
        """End the response as its content ended."""
        response = self._response
        if self._over or response is None:
            return
        if broken is not None:
            self._end(broken)
            return
        # The connection is the pool's again.
        self._request = None
        if self._insertion is not None:
            self._insertion.finish()
        self._let_go()
        try:
            trailers = response.trailers
            if trailers:
                trailers = self._route.to_client.trailers(trailers, response.options)
            self._client.finish_content(trailers)
        except Exception as cause:  # noqa: BLE001 - the unknown is logged at the end
            self._tell(cause)

    def _late_answer_ended(self, broken: BaseException | None) -> None:
        """Say in an event what the upstream answered, when its client was told of a stream."""
        response = self._response
        if self._over or response is None:
            return
        if broken is None:
            self._request = None
        status = response.head.status
        self._end(LateRefusal(f"the upstream answered {status}, and no event stream"))

    def _switch(self, response: UpstreamResponse, reason: bytes, fields: Fields) -> None:
        """Make a WebSocket of both connections; with that the exchange is over."""
        upstream, octets = response.detach()
        self._request = None
        try:
            self._client.switch(reason, [*fields, *SWITCH], upstream, octets, self._route.limits)
        except Exception:
            upstream.transport.abortConnection()
            raise
        self._let_go()

    def _answered_as_final_recipient(self, method: bytes, fields: Fields) -> bool:
        """Answer a request that may be forwarded no further; else count the hop in its fields.

        Returns: whether it was answered.
        Spec: RFC 9110 7.6.2, 9.3.7.
        """
        left = hops_left(fields)
        if left is None:
            return False
        if left > 0:
            fields[:] = one_hop_less(fields)
            return False
        if method == b"TRACE":
            raise MethodRefused("this proxy does not answer TRACE itself")
        self._let_go()
        self._client.begin(204, b"No Content", [(b"Allow", ALLOWED_METHODS)], NO_CONTENT)
        self._client.finish_content([])
        return True

    def _answer_instead(self, instead: Instead, rest: bytes) -> None:
        """Answer where no upstream is asked.  Args: what follows the route's path in the target."""
        if self._account is not None:
            self._account.passed = self._account.clock()
        self._let_go()
        self._client.answer(*instead.reply(rest))

    def _answered_at_once(self, step: Step, target: bytes) -> bool:
        """Answer by what a step has at hand; tell whether it had anything."""
        client = self._client
        reply = step.reply(client.head, self._host, target, client.hop)
        if reply is None:
            return False
        content, account = reply.content, self._account
        if account is not None:
            account.passed = account.responded = account.clock()
            account.status, account.cache = reply.status, said(reply.fields)
            if content:
                account.first = account.last = account.responded
            if account.noted is not None:
                account.noted.answered = tuple(reply.fields)
        client.begin(reply.status, reply.reason, reply.fields, Framing(Kind.LENGTH, len(content)))
        if content:
            client.write_content(content)
            client.note_sent(len(content))
        self._let_go()
        client.finish_content([])
        return True

    def _attach(self, upload: Upload) -> None:
        """Bind the request's content to the route's rules.  Raises: ContentTooLarge."""
        forwarding, options = self._route.to_upstream, self._client.options
        upload.admit_trailers = lambda trailers: forwarding.trailers(trailers, options)
        upload.max_content = most = self._route.limits.max_content
        if most is not None and max(upload.framing.length, upload.count - upload.overhead) > most:
            raise upload.too_large()
        upload.fail = self.fail

    # how it ends

    def cancel(self) -> None:
        """End everything at once: the client is gone."""
        self._left = True
        if not self._starting:
            self._end(None)

    def fail(self, error: ProxyError) -> None:
        """End everything because of an error, and say so to the client if that is possible."""
        self._failure = self._failure or error
        if not self._starting:
            self._end(error)

    def unanswered(self, error: ProxyError) -> None:
        """End because no response will come."""
        if self._request is not None and self._request.bond is not None:
            # The login went with the upstream's connection: the client has to begin anew.
            self._client.end_connection()
        self._end(error)

    def bind(self) -> Bond:
        """Return the bond of the client's connection, made if there was none."""
        return self._client.bind()

    def _let_go(self) -> None:
        """Have nothing more to do with either side."""
        self._over = True
        self._sweeper.unwatch(self)
        if self._response is not None and self._download is not None:
            self._client.note_sent(self._download.count - self._response.overhead)
            if isinstance(self._download, Followed):
                self._download.close(whole=False, left=self._left)
            # It holds this exchange through what it calls at the end: that would be a cycle.
            self._download = None
        if self._insertion is not None:
            self._insertion.close()
        upload = self._client.upload
        if upload is not None:
            upload.fail = None
            if self._account is not None:
                self._account.received = upload.count - upload.overhead

    def _end(self, cause: BaseException | None) -> None:
        """End early: close the upstream's connection and say why to the client, if it is there.

        What the exchange was ended for outranks what its parts make of that.
        Args: None when the client is gone.
        """
        if self._over:
            return
        self._let_go()
        if self._request is not None:
            self._request.withdraw()
        if cause is not None and not self._left:
            self._tell(cause)

    def _tell(self, cause: BaseException) -> None:
        """Say to the client what ended the exchange early."""
        error = self._failure or self._as_error(cause)
        if self._request is not None:
            error.fields = marks = self._request.marks
            if self._account is not None and marks and not self._account.cache:
                self._account.cache = said(marks)
        if self._client.begun:
            if self._insertion is not None:
                self._insertion.tell(error)
            self._client.abort(error)
        else:
            self._client.refuse(error)

    def _as_error(self, cause: BaseException) -> ProxyError:
        if isinstance(cause, ProxyError):
            return cause
        if isinstance(cause, Malformed):
            return BadRequest(f"the request is malformed: {cause}")
        self._log.error(
            "request {id} ended by a defect",
            id=self._client.request_id,
            log_failure=Failure(cause),
        )
        return InternalError("the proxy could not handle this exchange")

    def flow(self) -> Flow:
        """Return how it flows at this moment."""
        upload, download, request = self._client.upload, self._download, self._request
        connection = None if request is None else request.connection
        return Flow(
            0 if upload is None else upload.count - upload.overhead,
            0 if download is None else download.count,
            0 if download is None else self._client.unsent(),
            0 if connection is None else connection.unsent(),
        )

    # time limits

    def check(self, now: float) -> float:
        """End the exchange when nothing has moved for too long; return when to be asked again."""
        request, download, upload = self._request, self._download, self._client.upload
        if request is None:
            return now
        connection = request.connection
        if connection is not None:
            connection.look()
        sent = 0 if upload is None else upload.count
        uploading = upload is not None and not upload.complete and not self._awaits_continue(upload)
        unsent = 0 if connection is None else connection.unsent()
        seen = (
            sent,
            uploading,
            connection is not None,
            unsent,
            -1 if download is None else download.count,
            0 if download is None else (self._insertion or self._client).unsent(),
        )
        limit, error = self._limit(request, upload, uploading)
        if seen != self._seen:
            self._seen, self._since = seen, now
        elif now - self._since >= limit:
            self.fail(error)
        if unsent or (upload is not None and not upload.complete):
            # The connection is looked at above on behalf of what goes to the upstream.
            return now
        # The wait that follows this one may have a shorter limit.
        shortest = limit if download is not None else min(limit, self._route.limits.idle)
        return min(self._since + limit, now + shortest / LOOKS)

    def _limit(
        self, request: UpstreamRequest, upload: Upload | None, uploading: bool
    ) -> tuple[float, ProxyError]:
        """Return how long the present wait may last, and what it is called when it lasts longer."""
        limits = self._route.limits
        if self._download is not None:
            if (self._insertion or self._client).unsent():
                return limits.idle, ClientTimeout(
                    f"the client took nothing of its response for {limits.idle:g} s"
                )
            return limits.idle, ReadTimeout(f"nothing moved for {limits.idle:g} s in a response")
        if request.connection is not None and upload is not None and uploading:
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
            and b"100-continue" in tokens(noted_values(self._client.head, b"expect"))
        )
