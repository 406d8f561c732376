"""Opening connections to one origin: names, addresses, TLS and the limit of the wait.

Translates what Twisted, OpenSSL and the resolver say into errors of ours.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import cached_property
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
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from pyproxy.errors import (
    ConnectFailed,
    ConnectionRefused,
    ConnectTimeout,
    Exhausted,
    NameNotResolved,
)
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.urls import Origin
from pyproxy.upstream.connection import Connection, Unanswered

if TYPE_CHECKING:
    from pyproxy.relay.ends import RelayedEnd

_OWN_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What the kernel says when this machine, and not the upstream, lacks something.

Not EADDRNOTAVAIL: it means that no local port is left, or that the target has an address of a kind
that this machine does not use.
"""


@attrs.frozen
class Trust:
    """Whom TLS connections accept.  Attributes: as the arguments of ``trust.client_creator``."""

    authorities: Any = None
    insecure: bool = False


class Opener(Factory):
    """Opens connections to an origin; one for all of them, since each keeps its factory."""

    noisy = False

    def __init__(
        self,
        origin: Origin,
        reactor: IProxyReactor,
        limit: float,
        trust: Trust,
        on_idle: Callable[[Connection], None],
        unanswered: Unanswered,
    ) -> None:
        """Prepare.  Args: limit in seconds, TLS included; the rest as ``Connection`` has it."""
        self._origin = origin
        self._reactor = reactor
        self._limit = limit
        self._trust = trust
        self._on_idle = on_idle
        self._unanswered = unanswered
        self._secure = origin.scheme == "https"

    def buildProtocol(self, addr: object) -> Connection:
        """Make a connection's protocol."""
        return Connection(self._secure, self._on_idle, self._unanswered, self.make_websocket)

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
        except error.ConnectionRefusedError as cause:
            raise ConnectionRefused("the upstream refused the connection") from cause
        except error.DNSLookupError as cause:
            raise NameNotResolved("the upstream's name has no address") from cause
        except error.TimeoutError:
            raise
        except (error.ConnectError, error.UserError, OSError) as cause:
            number = getattr(cause, "osError", None) or getattr(cause, "errno", None)
            why = errno.errorcode.get(number or 0, type(cause).__name__)
            if number in _OWN_FAULT:
                raise Exhausted(f"the proxy cannot open a connection ({why})") from cause
            raise ConnectFailed(f"the upstream cannot be reached ({why})") from cause
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
        """Where to connect; an address needs neither a resolver nor a second attempt."""
        host, kind = self._origin.host, cast(Any, HostnameEndpoint)
        if isIPAddress(host):
            kind = TCP4ClientEndpoint
        elif isIPv6Address(host):
            kind = TCP6ClientEndpoint
        endpoint = kind(self._reactor, host, self._origin.port, timeout=self._limit)
        if self._secure:
            # Imported for https only: it costs 30 ms and 3 MiB.
            from pyproxy.upstream.trust import client_creator

            creator = client_creator(host, self._trust.authorities, self._trust.insecure)
            endpoint = wrapClientTLS(creator, endpoint)
        return cast(IStreamClientEndpoint, endpoint)

    @cached_property
    def _websockets(self) -> Factory:
        # Imported where it is asked for: autobahn costs 80 ms and 5 MiB.
        from pyproxy.upstream.websocket import UpstreamWebSocketFactory

        return UpstreamWebSocketFactory(self._origin, self._reactor)

    def make_websocket(self) -> RelayedEnd:
        """Return a new upstream's end of a WebSocket."""
        return cast("RelayedEnd", self._websockets.buildProtocol(None))
