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
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from pyproxy.errors import (
    ConnectFailed,
    ConnectionRefused,
    ConnectionTerminated,
    ConnectTimeout,
    NameNotResolved,
)
from pyproxy.exchange import UpstreamRequest
from pyproxy.relay.ends import RelayedEnd
from pyproxy.relay.headers import fields_of
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.fields import values
from pyproxy.semantics.urls import Origin, parse_target
from pyproxy.upstream.connection import Connection, UpstreamResponse
from pyproxy.upstream.pool import Pool

if TYPE_CHECKING:
    from pyproxy.upstream.websocket import UpstreamWebSocketFactory

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""Methods whose request may arrive twice.  Spec: RFC 9110 9.2.2."""


@attrs.frozen
class Trust:
    """Whom TLS connections accept.  Attributes: as the arguments of ``trust.client_creator``."""

    authorities: Any = None
    insecure: bool = False


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

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request; return the response once its head is there.

        A request goes out a second time only when the first went to a kept connection that closed
        without an octet of reply, the method is idempotent and there is no content.
        Raises: UpstreamError.
        """
        pool = self._pool(request.origin)
        safe_to_send_again = request.method in IDEMPOTENT and request.content is None
        connection = pool.take()
        if connection is not None:
            try:
                return await connection.send(request)
            except ConnectionTerminated:
                if connection.replied or not safe_to_send_again:
                    raise
            request.connected = False
        connection = await self._connect(request.origin, pool)
        return await connection.send(request)

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
        request = UpstreamRequest(target.origin, method, path, fields, content)
        return await self.send(request)

    def close(self) -> None:
        """Close every kept connection."""
        for pool in self._pools.values():
            self._sweeper.unwatch(pool)
            pool.close()

    def _pool(self, origin: Origin) -> Pool:
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(self._sweeper)
            self._sweeper.watch(pool)
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
        factory = Factory.forProtocol(lambda: Connection(secure, pool.put, make_websocket))
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
