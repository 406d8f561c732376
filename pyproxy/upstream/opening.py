"""Opening connections to one origin: names, addresses, TLS and the limit of the wait.

Translates what Twisted, OpenSSL and the resolver say into errors of ours.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, cast

from twisted.internet import defer, error
from twisted.internet.abstract import isIPAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from pyproxy.errors import (
    ConnectFailed,
    ConnectionRefused,
    ConnectTimeout,
    Exhausted,
    NameNotResolved,
    ProxyError,
)
from pyproxy.policy.routing import Peer
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.urls import Origin
from pyproxy.upstream.connection import Connection, Unanswered
from pyproxy.upstream.local import LocalEndpoint
from pyproxy.upstream.manners import Manners
from pyproxy.upstream.racing import OWN_FAULT, RacingEndpoint, number_of

if TYPE_CHECKING:
    from pyproxy.relay.ends import RelayedEnd

_OF_SOCKETS = {
    errno.ENOENT: "the upstream's Unix socket does not exist",
    errno.ENOTDIR: "the upstream's Unix socket does not exist",
    errno.EACCES: "this process may not use the upstream's Unix socket",
}
"""What the kernel says of a Unix socket.  Spec: unix(7), connect(2)."""


class Opener(Factory):
    """Opens connections to a peer; one for all of them, since each keeps its factory."""

    noisy = False

    def __init__(
        self,
        peer: Peer,
        reactor: IProxyReactor,
        on_idle: Callable[[Connection], None],
        unanswered: Unanswered,
        manners: Manners,
    ) -> None:
        """Prepare.  Args: what is called, as ``Connection`` has it."""
        self._peer = peer
        self._origin = origin = peer.origin
        self._reactor = reactor
        self._limit = peer.connect_limit
        self._on_idle = on_idle
        self._unanswered = unanswered
        self._manners = manners
        self._secure = origin.scheme == "https"

    def buildProtocol(self, addr: object) -> Connection:
        """Make a connection's protocol."""
        return Connection(
            self._secure, self._on_idle, self._unanswered, self.make_websocket, self._manners
        )

    async def open(self) -> Connection:
        """Open a connection.  Raises: ConnectFailed, Exhausted."""
        opening = Deferred.fromCoroutine(self._open())
        opening.addTimeout(self._limit, self._reactor)
        try:
            return await opening
        except (defer.TimeoutError, error.TimeoutError) as cause:
            raise ConnectTimeout(
                f"no connection to the upstream within {self._limit:g} s"
            ) from cause

    async def _open(self) -> Connection:
        try:
            connection = cast(Connection, await self._endpoint.connect(self))
        except error.ConnectingCancelledError as cause:
            raise CancelledError from cause
        except error.DNSLookupError as cause:
            raise NameNotResolved("the upstream's name has no address") from cause
        except error.TimeoutError:
            raise
        except (error.ConnectError, error.UserError, OSError) as cause:
            raise _explain(cause, self._origin) from cause
        try:
            return await connection.ready
        except CancelledError:
            raise
        except Exception as cause:
            from pyproxy.upstream.trust import explain_tls

            refusal = getattr(connection.transport, "certificate_refusal", None)
            raise explain_tls(Failure(cause), refusal) from cause

    @cached_property
    def _endpoint(self) -> IStreamClientEndpoint:
        """Where to connect, and how."""
        endpoint = _endpoint(self._origin, self._reactor, self._limit)
        if self._secure:
            # Imported for https only: it costs 30 ms and 3 MiB.
            from pyproxy.upstream.trust import client_creator

            peer = self._peer
            creator = client_creator(peer.origin.name, peer.authorities, peer.insecure)
            endpoint = wrapClientTLS(creator, endpoint)
        return endpoint

    @cached_property
    def _websockets(self) -> Factory:
        # Imported where it is asked for: autobahn costs 80 ms and 5 MiB.
        from pyproxy.upstream.websocket import UpstreamWebSocketFactory

        return UpstreamWebSocketFactory(self._origin, self._reactor)

    def make_websocket(self) -> RelayedEnd:
        """Return a new upstream's end of a WebSocket."""
        return cast("RelayedEnd", self._websockets.buildProtocol(None))


def _endpoint(origin: Origin, reactor: IProxyReactor, limit: float) -> IStreamClientEndpoint:
    """Return where an origin is; an address needs neither a resolver nor a second attempt."""
    host, port = origin.host, origin.port
    if origin.socket is not None:
        return LocalEndpoint(reactor, origin.socket, limit)
    if isIPAddress(host):
        return TCP4ClientEndpoint(reactor, host, port, limit)
    if ":" in host:
        zoned = f"{host}%{origin.zone}" if origin.zone else host
        return TCP6ClientEndpoint(reactor, zoned, port, limit)
    return RacingEndpoint(reactor, host, port, limit)


def _explain(cause: Exception, origin: Origin) -> ProxyError:
    """Translate why a connection did not come about."""
    number = number_of(cause)
    why = errno.errorcode.get(number, type(cause).__name__)
    if number in OWN_FAULT:
        return Exhausted(f"the proxy cannot open a connection ({why})")
    if isinstance(cause, error.ConnectionRefusedError):
        return ConnectionRefused("the upstream refused the connection")
    if isinstance(cause, socket.gaierror):
        return ConnectFailed("this machine has no network interface of the upstream's zone")
    reasons = {} if origin.socket is None else _OF_SOCKETS
    return ConnectFailed(f"{reasons.get(number, 'the upstream cannot be reached')} ({why})")
