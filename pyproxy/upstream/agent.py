"""An IAgent that changes nothing: opens and reuses connections, and sends again only what is safe.

The stock Agent hides interim responses and trailers, orders fields anew and retries on its own;
this one is what the invariants need.  Spec: RFC 9110 9.2.2, RFC 9112 9.3.1.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import attrs
from twisted.internet import defer, error
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from pyproxy.errors import (
    ConnectFailed,
    ConnectionRefused,
    ConnectionTerminated,
    ConnectTimeout,
    InternalError,
    NameNotResolved,
    ProxyError,
)
from pyproxy.relay.ends import RelayedEnd
from pyproxy.relay.headers import fields_of
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.fields import Fields, values
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.urls import Origin, parse_target
from pyproxy.sides import ForwardedResponse as Response
from pyproxy.sides import UpstreamRequest
from pyproxy.upstream.connection import Connection
from pyproxy.upstream.pool import Pool

if TYPE_CHECKING:
    from pyproxy.upstream.websocket import UpstreamWebSocketFactory

_log = Logger()

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""Methods whose request may arrive twice.  Spec: RFC 9110 9.2.2."""


@attrs.frozen
class Trust:
    """Whom TLS connections accept.  Attributes: as the arguments of ``trust.client_creator``."""

    authorities: Any = None
    insecure: bool = False


class Awaited:
    """Asks on behalf of somebody who awaits a Deferred; interim responses are dropped.

    Attributes:
        request: what was asked.
        response: fires with the response, or fails with an UpstreamError.
    """

    def __init__(
        self,
        origin: Origin,
        method: bytes,
        target: bytes,
        fields: Fields,
        content: IBodyProducer | None,
    ) -> None:
        self.request = UpstreamRequest(self, origin, method, target, fields, content)
        self.response: Deferred[Response] = Deferred(lambda _: self.request.withdraw())

    def interim(self, head: ResponseHead) -> None:
        """Drop it."""

    def responded(self, response: Response) -> None:
        """Hand the response over."""
        self.response.callback(response)

    def unanswered(self, error: ProxyError) -> None:
        """Hand the error over."""
        self.response.errback(error)


@implementer(IAgent)
@attrs.define(eq=False)
class ForwardingAgent:
    """Sends requests as they are, over connections that it keeps per origin."""

    _reactor: IProxyReactor
    _sweeper: Sweeper
    _connect_limit: float
    _trust: Trust = attrs.Factory(Trust)
    _pools: dict[Origin, Pool] = attrs.Factory(dict)
    _creators: dict[str, IOpenSSLClientConnectionCreator] = attrs.Factory(dict)
    _websockets: dict[Origin, UpstreamWebSocketFactory] = attrs.Factory(dict)
    _last_origin: Origin | None = None
    _last_pool: Pool = attrs.field(init=False)

    def send(self, request: UpstreamRequest) -> None:
        """Send a request; who asks is told of the response, or why there is none.

        A request goes out a second time only when the first went to a kept connection that closed
        without an octet of reply, the method is idempotent and there is no content.
        """
        pool = self._pool(request.origin)
        connection = pool.take()
        if connection is not None:
            connection.send(request)
        else:
            self._send_on_new(request, pool)

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
        ):
            self._send_on_new(request, self._pool(request.origin))
        else:
            request.asking.unanswered(reason)

    def _send_on_new(self, request: UpstreamRequest, pool: Pool) -> None:
        """Open a connection and send a request on it."""
        opening = Deferred.fromCoroutine(self._connect(request.origin, pool))
        request.opening = opening

        def opened(connection: Connection) -> None:
            request.opening = None
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
        awaited = Awaited(target.origin, method, path, fields, content)
        self.send(awaited.request)
        return cast(IResponse, await awaited.response)

    def close(self) -> None:
        """Close every kept connection."""
        for pool in self._pools.values():
            self._sweeper.unwatch(pool)
            pool.close()

    def _pool(self, origin: Origin) -> Pool:
        if origin is self._last_origin:
            # Mostly there is one; to hash an origin takes a call.
            return self._last_pool
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(self._sweeper)
            self._sweeper.watch(pool)
        self._last_origin, self._last_pool = origin, pool
        return pool

    # opening connections

    async def _connect(self, origin: Origin, pool: Pool) -> Connection:
        """Open a connection.  Raises: ConnectFailed."""
        opening = Deferred.fromCoroutine(self._open(origin, pool))
        opening.addTimeout(self._connect_limit, self._reactor)
        try:
            return await opening
        except (defer.TimeoutError, error.TimeoutError) as cause:
            raise ConnectTimeout(
                f"no connection to the upstream within {self._connect_limit:g} s"
            ) from cause

    def _endpoint(self, origin: Origin) -> IStreamClientEndpoint:
        """Return where to connect; an address needs neither a resolver nor a second attempt."""
        kind: Any = HostnameEndpoint
        if isIPAddress(origin.host):
            kind = TCP4ClientEndpoint
        elif isIPv6Address(origin.host):
            kind = TCP6ClientEndpoint
        endpoint = kind(self._reactor, origin.host, origin.port, timeout=self._connect_limit)
        return cast(IStreamClientEndpoint, endpoint)

    def _creator(self, host: str) -> IOpenSSLClientConnectionCreator:
        """Return what makes TLS connections to a host; reading authorities costs milliseconds."""
        creator = self._creators.get(host)
        if creator is None:
            # Imported for https only: it costs 30 ms and 3 MiB.
            from pyproxy.upstream.trust import client_creator

            trust = self._trust
            creator = client_creator(host, trust.authorities, trust.insecure)
            self._creators[host] = creator
        return creator

    def _websocket(self, origin: Origin) -> RelayedEnd:
        """Return a new upstream's end of a WebSocket."""
        factory = self._websockets.get(origin)
        if factory is None:
            # Imported where it is asked for: autobahn costs 80 ms and 5 MiB.
            from pyproxy.upstream.websocket import UpstreamWebSocketFactory

            factory = self._websockets[origin] = UpstreamWebSocketFactory(origin, self._reactor)
        return cast(RelayedEnd, factory.buildProtocol(None))

    async def _open(self, origin: Origin, pool: Pool) -> Connection:
        secure = origin.scheme == "https"
        endpoint = self._endpoint(origin)
        if secure:
            endpoint = wrapClientTLS(self._creator(origin.host), endpoint)
        make_websocket = partial(self._websocket, origin)
        factory = Factory.forProtocol(
            lambda: Connection(secure, pool.put, self._unanswered, make_websocket)
        )
        factory.noisy = False
        try:
            connection = cast(Connection, await endpoint.connect(factory))
        except error.ConnectingCancelledError as cause:
            raise CancelledError from cause
        except error.ConnectionRefusedError as cause:
            raise ConnectionRefused("the upstream refused the connection") from cause
        except error.DNSLookupError as cause:
            raise NameNotResolved("the upstream's name has no address") from cause
        except error.TimeoutError:
            raise
        except (error.ConnectError, error.UserError, OSError) as cause:
            raise ConnectFailed(
                f"the upstream cannot be reached ({type(cause).__name__})"
            ) from cause
        try:
            return await connection.ready
        except CancelledError:
            raise
        except Exception as cause:
            from pyproxy.upstream.trust import explain_tls

            refusal = getattr(connection.transport, "certificate_refusal", None)
            raise explain_tls(Failure(cause), refusal) from cause
