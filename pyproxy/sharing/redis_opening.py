"""Opening a connection to a Redis: names, addresses, sockets, TLS."""

from __future__ import annotations

from typing import cast

import attrs
from twisted.internet import error
from twisted.internet.abstract import isIPAddress
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IOpenSSLClientConnectionCreator,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from zope.interface import implementer

from pyproxy.relay.transports import IProxyReactor
from pyproxy.sharing.redis_connection import RedisConnection, Tally, explain
from pyproxy.sharing.redis_errors import RedisAway
from pyproxy.sharing.redis_place import RedisPlace

MAX_ADDRESSES = 4
"""Addresses of a name that are tried, in their order."""


@implementer(IResolutionReceiver)
@attrs.define(eq=False)
class _Lookup:
    """A lookup of a name.  It cannot be ended: who tries again meanwhile waits for the same one."""

    addresses: list[IAddress] = attrs.Factory(list)
    over: bool = False
    waiting: list[Deferred[None]] = attrs.Factory(list)

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Take note that it has begun."""

    def addressResolved(self, address: IAddress) -> None:
        """Take an address."""
        self.addresses.append(address)

    def resolutionComplete(self) -> None:
        """Tell all who wait."""
        self.over = True
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(None)

    def done(self) -> Deferred[None]:
        """Fire when it is over."""
        done: Deferred[None] = Deferred(self.waiting.remove)
        if self.over:
            done.callback(None)
        else:
            self.waiting.append(done)
        return done


@attrs.define(eq=False)
class _Connections(Factory):
    """Makes connections, and knows them."""

    _clock: IReactorTime
    _tally: Tally
    _opened: list[RedisConnection]

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> RedisConnection:
        """Make one."""
        connection = RedisConnection(self._clock, self._tally)
        self._opened.append(connection)
        return connection


@attrs.define(eq=False)
class Opening:
    """Opens connections to one place.

    Args: what makes TLS connections to it; None for one that trusts the system's authorities.
    """

    _reactor: IProxyReactor
    _place: RedisPlace
    _tally: Tally
    _creator: IOpenSSLClientConnectionCreator | None = None
    _lookup: _Lookup | None = None

    async def open(self, limit: float) -> RedisConnection:
        """Open a connection and log in.

        Args: limit in seconds, for all of it.
        Raises: RedisAway, which says why.
        """
        opened: list[RedisConnection] = []
        opening = Deferred.fromCoroutine(self._open(limit, opened))
        opening.addTimeout(limit, self._reactor)
        try:
            return await opening
        except CancelledError:
            _end(opened)
            raise
        except Exception as cause:  # whatever it is, the next attempt may succeed
            raise RedisAway(_end(opened) or explain(cause)) from cause

    async def _open(self, limit: float, opened: list[RedisConnection]) -> RedisConnection:
        factory = _Connections(self._reactor, self._tally, opened)
        endpoints = await self._endpoints(limit)
        for number, endpoint in enumerate(endpoints, 1):
            if self._place.tls:
                endpoint = wrapClientTLS(self._tls(), endpoint)
            try:
                connection = cast(RedisConnection, await endpoint.connect(factory))
            except (error.ConnectError, OSError):
                if number == len(endpoints):
                    raise
                continue
            await connection.greet(self._place, limit)
            return connection
        raise error.DNSLookupError("no address")

    async def _endpoints(self, limit: float) -> list[IStreamClientEndpoint]:
        place, reactor = self._place, self._reactor
        if place.path is not None:
            return [UNIXClientEndpoint(reactor, place.path, limit)]
        if isIPAddress(place.host):
            return [TCP4ClientEndpoint(reactor, place.host, place.port, limit)]
        if ":" in place.host:
            return [TCP6ClientEndpoint(reactor, place.host, place.port, limit)]
        found: list[IStreamClientEndpoint] = []
        addresses = (await self._addresses())[:MAX_ADDRESSES]
        for address in addresses:
            each = limit / len(addresses)
            if isinstance(address, IPv4Address):
                found.append(TCP4ClientEndpoint(reactor, address.host, place.port, each))
            elif isinstance(address, IPv6Address):
                found.append(TCP6ClientEndpoint(reactor, address.host, place.port, each))
        return found

    async def _addresses(self) -> list[IAddress]:
        """Look the name up, anew for each attempt, but never twice at the same time."""
        lookup = self._lookup
        if lookup is None or lookup.over:
            self._lookup = lookup = _Lookup()
            self._reactor.nameResolver.resolveHostName(lookup, self._place.host, self._place.port)
        await lookup.done()
        return lookup.addresses

    def _tls(self) -> IOpenSSLClientConnectionCreator:
        if self._creator is None:
            # Imported for rediss only: it costs 30 ms and 3 MiB.
            from twisted.internet.ssl import optionsForClientTLS

            self._creator = optionsForClientTLS(self._place.host)
        return self._creator


def _end(opened: list[RedisConnection]) -> str | None:
    """End what was opened; return why it was of no use, if it had ended by itself."""
    why = None
    for connection in opened:
        if connection.gone.called:
            why = str(connection.gone.result)
        connection.end("it was not opened")
    return why
