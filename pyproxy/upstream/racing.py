"""Connecting to a name that stands for several addresses: the first that answers wins.

Twisted's HostnameEndpoint begins its next attempt when 300 ms are over, also when the one before
was refused at once, and takes no name with an underscore.
Spec: RFC 8305.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence

import attrs
from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from pyproxy.relay.transports import IProxyReactor

ATTEMPT_DELAY = 0.25
"""Seconds for which an attempt is alone before the next begins too.  Spec: RFC 8305 5, 8."""

FAMILY_SECONDS = 600.0
"""How long the family that worked is tried first.  Spec: RFC 6555 4.2, RFC 8305 4."""

OWN_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What the kernel says when this machine, and not the upstream, lacks something.

Not EADDRNOTAVAIL: it means that no local port is left, or that the target has an address of a kind
that this machine does not use.
"""

Place = IPv4Address | IPv6Address
"""An address with its port, as Twisted connects to it."""


def in_turn(addresses: Iterable[IAddress], first: type[Place] | None) -> list[Place]:
    """Return addresses in the order in which they are tried: one family, then the other, in turn.

    Within a family the resolver's order stays (RFC 6724).  Args: the family to begin with, if there
    is any of it; else the first address says it.
    Spec: RFC 8305 4.
    """
    # A name that stands in a file of hosts twice comes twice.
    known = [one for one in dict.fromkeys(addresses) if isinstance(one, IPv4Address | IPv6Address)]
    if not any(type(one) is first for one in known):
        first = type(known[0]) if known else None
    ours = [one for one in known if type(one) is first]
    others = [one for one in known if type(one) is not first]
    longest = max(len(ours), len(others))
    return [one for place in range(longest) for side in (ours, others) for one in side[place:][:1]]


def most_telling(failures: Sequence[Failure]) -> Failure:
    """Return the failure of several attempts that says most: the last of the best kind.

    That a machine was there and refused says more than that there is no way to another one.
    """
    return max(reversed(failures), key=_worth)


def _worth(failure: Failure) -> int:
    cause = failure.value
    if number_of(cause) in OWN_FAULT:
        return 3
    if isinstance(cause, error.ConnectionRefusedError):
        return 2
    return 1 if isinstance(cause, error.TimeoutError | error.TCPTimedOutError) else 0


def number_of(cause: BaseException | None) -> int:
    """Return the kernel's number of a failure, 0 without any."""
    return getattr(cause, "osError", None) or getattr(cause, "errno", None) or 0


@implementer(IResolutionReceiver)
class _Receiver:
    """Collects the addresses of a name.  Attributes: found, which fires with all of them."""

    def __init__(self) -> None:
        self.found: Deferred[list[IAddress]] = Deferred()
        self._addresses: list[IAddress] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Take note of nothing: a resolution cannot be cancelled."""

    def addressResolved(self, address: IAddress) -> None:
        """Take an address."""
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        """Hand the addresses over."""
        self.found.callback(self._addresses)


class _Race:
    """Attempts to connect, of which the first to succeed wins.

    Attributes:
        winner: the protocol that was connected, and its address's family.
        failures: why attempts failed.
    """

    def __init__(self, reactor: IProxyReactor, factory: IProtocolFactory, limit: float) -> None:
        self._reactor = reactor
        self._factory = factory
        self._limit = limit
        self._pending: list[Deferred[IProtocol]] = []
        self._news: Deferred[None] = Deferred()
        self.winner: tuple[IProtocol, type[Place]] | None = None
        self.failures: list[Failure] = []

    def begin(self, address: Place) -> None:
        """Begin one more attempt."""
        self._news = Deferred()
        family = type(address)
        endpoint = _endpoint(self._reactor, address, self._limit)
        attempt: Deferred[IProtocol] = endpoint.connect(self._factory)
        self._pending.append(attempt)

        def won(protocol: IProtocol) -> None:
            self._pending.remove(attempt)
            self.winner = protocol, family
            self._tell()

        def failed(failure: Failure) -> None:
            self._pending.remove(attempt)
            self.failures.append(failure)
            self._tell()

        attempt.addCallbacks(won, failed)

    async def news(self, seconds: float) -> None:
        """Wait until an attempt has ended since the last one began, but only so long."""
        timer = self._reactor.callLater(seconds, self._tell)
        try:
            await self._news
        finally:
            if timer.active():
                timer.cancel()

    async def end(self) -> None:
        """Wait until an attempt has won, or all have failed."""
        while self._pending and self.winner is None:
            self._news = Deferred()
            await self._news

    def stop(self) -> None:
        """Give up every attempt that is still under way; nobody waits for news any more."""
        self._news = Deferred()
        for attempt in list(self._pending):
            attempt.cancel()

    def _tell(self) -> None:
        if not self._news.called:
            self._news.callback(None)


def _endpoint(reactor: IProxyReactor, address: Place, limit: float) -> IStreamClientEndpoint:
    if isinstance(address, IPv4Address):
        return TCP4ClientEndpoint(reactor, address.host, address.port, limit)
    # A link-local address means nothing without its zone.
    host = f"{address.host}%{address.scopeID}" if address.scopeID else address.host
    return TCP6ClientEndpoint(reactor, host, address.port, limit)


@implementer(IStreamClientEndpoint)
@attrs.define(eq=False)
class RacingEndpoint:
    """Connects to a name; remembers which family of addresses worked.

    Args: limit of one attempt, in seconds; whoever connects sets that of the whole, in which the
        name is looked up too.
    """

    _reactor: IProxyReactor
    _name: str
    _port: int
    _limit: float
    _family: type[Place] | None = None
    _until: float = 0.0

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; to cancel that ends every attempt."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        receiver = _Receiver()
        # Asked for now: a reactor may change its resolver.
        resolver = self._reactor.nameResolver
        resolver.resolveHostName(receiver, self._name, portNumber=self._port)
        addresses = in_turn(await receiver.found, self._worked())
        if not addresses:
            raise error.DNSLookupError(f"no address of {self._name}")
        race = _Race(self._reactor, factory, self._limit)
        try:
            for address in addresses:
                race.begin(address)
                await race.news(ATTEMPT_DELAY)
                if race.winner is not None:
                    break
            await race.end()
        finally:
            race.stop()
        if race.winner is None:
            most_telling(race.failures).raiseException()
        protocol, family = race.winner
        self._remember(family)
        return protocol

    def _worked(self) -> type[Place] | None:
        return self._family if self._reactor.seconds() < self._until else None

    def _remember(self, family: type[Place]) -> None:
        """Take note of what worked; what was remembered already is not prolonged by that."""
        if family is not self._worked():
            self._family, self._until = family, self._reactor.seconds() + FAMILY_SECONDS
