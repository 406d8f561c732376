"""An IAgent that changes nothing: opens and reuses connections, and sends again only what is safe.

The stock Agent hides interim responses and trailers, orders fields anew and retries on its own;
this one is what the invariants need.  Spec: RFC 9110 9.2.2, RFC 9112 9.3.1.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from pyproxy.errors import ConnectionTerminated, InternalError, ProxyError
from pyproxy.policy.routing import Peer
from pyproxy.relay.headers import fields_of
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.fields import Fields, values
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.urls import parse_target
from pyproxy.sides import UpstreamRequest, UpstreamResponse
from pyproxy.upstream.connection import Connection
from pyproxy.upstream.manners import Manners
from pyproxy.upstream.opening import Opener
from pyproxy.upstream.pool import Pool

_log = Logger()

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""Methods whose request may arrive twice.  Spec: RFC 9110 9.2.2."""


class Awaited:
    """Asks on behalf of somebody who awaits a Deferred; interim responses are dropped.

    Attributes:
        request: what was asked.
        response: fires with the response, or fails with a ProxyError.
    """

    def __init__(
        self,
        peer: Peer,
        method: bytes,
        target: bytes,
        fields: Fields,
        content: IBodyProducer | None,
    ) -> None:
        self.request = UpstreamRequest(self, peer, method, target, fields, content)
        self.response: Deferred[UpstreamResponse] = Deferred(lambda _: self.request.withdraw())

    def interim(self, head: ResponseHead) -> None:
        """Drop it."""

    def responded(self, response: UpstreamResponse) -> None:
        """Hand the response over."""
        self.response.callback(response)

    def unanswered(self, error: ProxyError) -> None:
        """Hand the error over."""
        self.response.errback(error)

    def bind(self) -> None:
        """Have no client's connection: the upstream's is used for nothing else then."""


@attrs.frozen(eq=False)
class _Upstream:
    """What is kept for a peer: its idle connections, and what opens more."""

    peer: Peer
    pool: Pool
    opener: Opener


@implementer(IAgent)
@attrs.define(eq=False)
class ForwardingAgent:
    """Sends requests as they are, over connections that it keeps per peer."""

    _reactor: IProxyReactor
    _sweeper: Sweeper
    _upstreams: dict[Peer, _Upstream] = attrs.Factory(dict)
    _last: _Upstream | None = None

    def send(self, request: UpstreamRequest) -> None:
        """Send a request; who asks is told of the response, or why there is none.

        A request goes out a second time only when the first went to a kept connection that closed
        without an octet of reply, the method is idempotent and there is no content; and never when
        that connection carried a client's login, which the request would be without.
        """
        upstream = self._upstream(request.peer)
        pool = upstream.pool
        connection = pool.take() if request.bond is None else pool.take_bound(request)
        if connection is not None:
            connection.send(request)
        elif request.bond is None and (wait := pool.decides_in()):
            request.opening = self._reactor.callLater(wait, self._decided, request, upstream)
        else:
            self._send_on_new(request, upstream)

    def _decided(self, request: UpstreamRequest, upstream: _Upstream) -> None:
        """Send a request that has waited for whether connections need to rest."""
        request.opening = None
        connection = upstream.pool.take()
        if connection is not None:
            connection.send(request)
        else:
            self._send_on_new(request, upstream)

    def _unanswered(
        self, connection: Connection, request: UpstreamRequest, reason: ProxyError
    ) -> None:
        """Send again what a kept connection has lost, if that is safe; else tell who asks."""
        request.connection = None
        if (
            isinstance(reason, ConnectionTerminated)
            and connection.kept
            and not connection.replied
            and request.method in IDEMPOTENT
            and request.content is None
            and request.bond is None
        ):
            if request.account is not None:
                request.account.attempts += 1
            self._send_on_new(request, self._upstream(request.peer))
        else:
            request.asking.unanswered(reason)

    def _send_on_new(self, request: UpstreamRequest, upstream: _Upstream) -> None:
        """Open a connection and send a request on it."""
        upstream.pool.opens_another()
        opening = Deferred.fromCoroutine(upstream.opener.open())
        request.opening = opening

        def opened(connection: Connection) -> None:
            request.opening = None
            if request.bond is not None:
                connection.bind(request, request.bond)
            connection.send(request)

        def failed(failure: Failure) -> None:
            request.opening = None
            if failure.check(CancelledError):
                # Whoever cancelled it asks no more.
                return
            error = failure.value
            if not isinstance(error, ProxyError):
                _log.failure("a connection could not be opened", failure)
                error = InternalError("the proxy could not open a connection to the upstream")
            request.asking.unanswered(error)

        opening.addCallbacks(opened, failed)
        opening.addErrback(lambda failure: _log.failure("a request could not be sent", failure))

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Send a request that somebody made with twisted.web's or treq's words."""
        return Deferred.fromCoroutine(self._request(method, uri, headers, bodyProducer))

    async def _request(
        self, method: bytes, uri: bytes, headers: Headers | None, content: IBodyProducer | None
    ) -> IResponse:
        url, mark, query = uri.partition(b"#")[0].partition(b"?")
        target = parse_target(url.decode("ascii"))
        fields = [] if headers is None else list(fields_of(headers))
        if not values(fields, b"host"):
            fields.insert(0, (b"Host", target.origin.authority))
        if content is not None and content.length == UNKNOWN_LENGTH:
            fields.append((b"Transfer-Encoding", b"chunked"))
        elif content is not None:
            fields.append((b"Content-Length", b"%d" % content.length))
        path = (target.base or b"/") + mark + query
        awaited = Awaited(Peer(target.origin), method, path, fields, content)
        self.send(awaited.request)
        return cast(IResponse, await awaited.response)

    @property
    def idle(self) -> int:
        """How many connections are kept, to all upstreams."""
        return sum(upstream.pool.size for upstream in self._upstreams.values())

    def close(self) -> None:
        """Close every kept connection."""
        for upstream in self._upstreams.values():
            self._sweeper.unwatch(upstream.pool)
            upstream.pool.close()

    def keep(self, peers: Collection[Peer]) -> None:
        """Close the idle connections to all others: no route leads there any more."""
        for peer in [peer for peer in self._upstreams if peer not in peers]:
            upstream = self._upstreams.pop(peer)
            self._sweeper.unwatch(upstream.pool)
            upstream.pool.close()
        self._last = None

    def _upstream(self, peer: Peer) -> _Upstream:
        last = self._last
        if last is not None and peer is last.peer:
            # Mostly there is one; to look for it takes a call.
            return last
        upstream = self._upstreams.get(peer)
        if upstream is None:
            manners = Manners(peer.origin)
            pool = Pool(self._sweeper, self._reactor.seconds, manners)
            self._sweeper.watch(pool)
            opener = Opener(peer, self._reactor, pool.put, self._unanswered, manners)
            upstream = self._upstreams[peer] = _Upstream(peer, pool, opener)
        self._last = upstream
        return upstream
