"""Names that stand for several addresses: attempts in turn, with a clock that is set by hand."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IReactorPluggableNameResolver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pyproxy.relay.transports import IProxyReactor
from pyproxy.upstream.racing import (
    ATTEMPT_DELAY,
    FAMILY_SECONDS,
    RacingEndpoint,
    in_turn,
    most_telling,
)
from tests.memory import Names

LIMIT = 5.0
PORT = 80


def four(number: int) -> IPv4Address:
    """Return an address of four numbers."""
    return IPv4Address("TCP", f"192.0.2.{number}", PORT)


def six(number: int) -> IPv6Address:
    """Return an address of the newer kind."""
    return IPv6Address("TCP", f"2001:db8::{number}", PORT)


@implementer(IReactorPluggableNameResolver)
class Wires(MemoryReactorClock):
    """A reactor whose connects end as the test says.  Attributes: attempts, open ones by host."""

    def __init__(self, names: Names) -> None:
        super().__init__()
        self.nameResolver = names
        self.begun: list[str] = []
        self.attempts: dict[str, tuple[ClientFactory, Any]] = {}
        self.refused_at_once: set[str] = set()

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: ClientFactory,
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> Any:
        """Begin an attempt."""
        connector: Any = super().connectTCP(host, port, factory, timeout, bindAddress)
        self.begun.append(host)
        if host in self.refused_at_once:
            raise OSError(errno.ENETUNREACH, "no way")
        self.attempts[host] = factory, connector
        return connector

    def succeed(self, host: str) -> StringTransport:
        """Let an attempt succeed; return the transport."""
        factory, _ = self.attempts.pop(host)
        transport = StringTransport()
        protocol = factory.buildProtocol(four(1))
        assert protocol is not None
        protocol.makeConnection(transport)
        return transport

    def fail(self, host: str, cause: Exception | None = None) -> None:
        """Let an attempt fail."""
        factory, connector = self.attempts.pop(host)
        factory.clientConnectionFailed(connector, Failure(cause or error.ConnectionRefusedError()))

    @property
    def pending(self) -> list[str]:
        """The hosts of attempts that were not given up."""
        return [
            host
            for host, (_, connector) in self.attempts.items()
            if not getattr(connector, "stoppedConnecting", False)
        ]


class RacingTestCase(SynchronousTestCase):
    """A case with an endpoint of one name."""

    def setUp(self) -> None:
        """Let the name stand for an address of each family."""
        self.begin([six(1), four(1)])

    def begin(self, addresses: Sequence[IAddress] | None) -> None:
        """Let the name stand for some addresses, or for what is answered later."""
        self.names = Names(addresses)
        self.wires = Wires(self.names)
        reactor = cast(IProxyReactor, self.wires)
        self.endpoint = RacingEndpoint(reactor, "a_name.test.", PORT, LIMIT)

    def connect(self) -> Deferred[IProtocol]:
        """Connect."""
        return self.endpoint.connect(Factory.forProtocol(Protocol))

    def assert_nothing_left(self) -> None:
        """Check that neither an attempt nor a timer goes on."""
        self.assertEqual([], self.wires.pending)
        self.assertEqual([], self.wires.getDelayedCalls())


class TurnTests(SynchronousTestCase):
    """In which order addresses are tried."""

    def test_interleaved(self) -> None:
        """The families take turns, each in the resolver's order.  RFC 8305 4."""
        for addresses, first, expected in (
            ([six(1), six(2), four(1), four(2)], None, [six(1), four(1), six(2), four(2)]),
            ([four(1), six(1), six(2)], None, [four(1), six(1), six(2)]),
            ([six(1), six(2), six(3), four(1)], None, [six(1), four(1), six(2), six(3)]),
            ([six(1), four(1), four(2)], IPv4Address, [four(1), six(1), four(2)]),
            ([six(1), six(2)], IPv4Address, [six(1), six(2)]),
            ([four(1), four(1), six(1), four(1)], None, [four(1), six(1)]),
            ([], None, []),
            ([], IPv6Address, []),
        ):
            found = in_turn(addresses, first)
            self.assertEqual(expected, found, addresses)

    @given(st.lists(st.one_of(st.integers(1, 5).map(four), st.integers(1, 5).map(six))))
    def test_all_once(self, addresses: list[IAddress]) -> None:
        """Each address is tried once, and each family in the resolver's order."""
        found = in_turn(addresses, None)
        self.assertEqual(set(addresses), set(found))
        for family in (IPv4Address, IPv6Address):
            self.assertEqual(
                [one for one in dict.fromkeys(addresses) if type(one) is family],
                [one for one in found if type(one) is family],
            )


class AttemptTests(RacingTestCase):
    """When attempts begin and how they end."""

    def test_interface(self) -> None:
        """It is what Twisted's TLS wraps."""
        self.assertTrue(verifyObject(IStreamClientEndpoint, self.endpoint))

    def test_asked_for_as_written(self) -> None:
        """The resolver gets the name with its final dot, and with underscores.

        Trap, Twisted's HostnameEndpoint: takes no underscore.
        """
        self.connect()
        self.assertEqual([("a_name.test.", PORT)], self.names.asked)

    def test_first_wins(self) -> None:
        """The first that answers wins, and no other attempt begins."""
        connected = self.connect()
        self.assertEqual(["2001:db8::1"], self.wires.begun)
        self.wires.succeed("2001:db8::1")
        self.successResultOf(connected)
        self.assert_nothing_left()
        self.assertEqual(1, len(self.wires.begun))

    def test_refused(self) -> None:
        """A failed attempt starts the next at once: the clock does not move.  RFC 8305 5.

        Trap, Twisted's HostnameEndpoint: waits 300 ms although the first was refused.
        """
        connected = self.connect()
        self.wires.fail("2001:db8::1")
        self.assertEqual(["192.0.2.1"], self.wires.pending)
        self.wires.succeed("192.0.2.1")
        self.successResultOf(connected)
        self.assert_nothing_left()

    def test_refused_at_once(self) -> None:
        """Also one that fails before it has begun, however many there are."""
        crowd = [six(number) for number in range(1, 2000)]
        self.begin([*crowd, four(1)])
        self.endpoint._family, self.endpoint._until = IPv6Address, 1.0
        self.wires.refused_at_once = {address.host for address in crowd}
        connected = self.connect()
        self.assertEqual(2, len(self.wires.begun))
        self.wires.fail("192.0.2.1")
        self.assertEqual(2000, len(self.wires.begun))
        self.failureResultOf(connected, error.ConnectionRefusedError)

    def test_silent(self) -> None:
        """A pending attempt is joined by the next after 250 ms, not before.  RFC 8305 5, 8."""
        self.assertEqual(0.25, ATTEMPT_DELAY)
        self.begin([six(1), six(2), four(1)])
        connected = self.connect()
        self.wires.advance(0.249)
        self.assertEqual(["2001:db8::1"], self.wires.pending)
        self.wires.advance(0.001)
        self.assertEqual(["2001:db8::1", "192.0.2.1"], self.wires.pending)
        self.wires.advance(0.25)
        self.assertEqual(["2001:db8::1", "192.0.2.1", "2001:db8::2"], self.wires.pending)
        self.wires.succeed("192.0.2.1")
        self.successResultOf(connected)
        self.assert_nothing_left()

    def test_earlier_fails(self) -> None:
        """The failure of an earlier attempt starts the next at once too; the rest stays alone."""
        self.begin([six(1), four(1), six(2), four(2)])
        self.connect()
        self.wires.advance(0.25)
        self.wires.advance(0.1)
        self.wires.fail("2001:db8::1")
        self.assertEqual(["192.0.2.1", "2001:db8::2"], self.wires.pending)
        self.wires.advance(0.24)
        self.assertEqual(2, len(self.wires.pending))
        self.wires.advance(0.01)
        self.assertEqual(3, len(self.wires.pending))

    def test_last_is_waited_for(self) -> None:
        """When all have begun, every pending one may still win."""
        for slow, gone in (("2001:db8::1", "192.0.2.1"), ("192.0.2.1", "2001:db8::1")):
            self.setUp()
            connected = self.connect()
            self.wires.advance(0.25)
            self.wires.advance(2)
            self.wires.fail(gone)
            self.assertNoResult(connected)
            self.wires.succeed(slow)
            self.successResultOf(connected)
            self.assert_nothing_left()

    def test_losers_are_given_up(self) -> None:
        """No attempt goes on behind the winner, and none makes a protocol."""
        connected = self.connect()
        self.wires.advance(0.25)
        loser = self.wires.attempts["192.0.2.1"][1]
        self.wires.succeed("2001:db8::1")
        self.successResultOf(connected)
        self.assertTrue(loser.stoppedConnecting)
        self.assert_nothing_left()

    def test_cancelled(self) -> None:
        """Who leaves ends every attempt."""
        connected = self.connect()
        self.wires.advance(0.25)
        self.assertEqual(2, len(self.wires.pending))
        connected.cancel()
        self.failureResultOf(connected, CancelledError)
        self.assert_nothing_left()

    def test_cancelled_while_the_name_is_looked_up(self) -> None:
        """Who leaves before there is an address: what the resolver says later starts nothing."""
        self.begin(None)
        connected = self.connect()
        connected.cancel()
        self.failureResultOf(connected, CancelledError)
        self.names.answer([four(1)])
        self.assertEqual([], self.wires.begun)

    def test_no_address(self) -> None:
        """A name without an address."""
        self.begin([])
        self.failureResultOf(self.connect(), error.DNSLookupError)

    def test_zone(self) -> None:
        """A link-local address that the resolver found keeps its zone.  RFC 4007 11."""
        self.begin([IPv6Address("TCP", "fe80::1", PORT, 0, 3)])
        self.connect()
        self.assertEqual(["fe80::1%3"], self.wires.begun)


class FamilyTests(RacingTestCase):
    """The family that worked is tried first for ten minutes."""

    def by_four(self) -> None:
        """Let one connect work by the second address."""
        connected = self.connect()
        if "2001:db8::1" in self.wires.pending:
            self.wires.fail("2001:db8::1")
        self.wires.succeed("192.0.2.1")
        self.successResultOf(connected)
        self.wires.begun.clear()

    def first(self) -> str:
        """Return whom the next connect tries first; it comes to nothing."""
        connected = self.connect()
        connected.cancel()
        self.failureResultOf(connected)
        first, *_ = self.wires.begun
        self.wires.begun.clear()
        self.wires.attempts.clear()
        return first

    def test_remembered(self) -> None:
        """For ten minutes; then the resolver's order counts again.  RFC 6555 4.2, RFC 8305 4."""
        self.assertEqual(600, FAMILY_SECONDS)
        self.by_four()
        self.assertEqual("192.0.2.1", self.first())
        self.wires.advance(599)
        self.assertEqual("192.0.2.1", self.first())
        self.wires.advance(1)
        self.assertEqual("2001:db8::1", self.first())

    def test_not_prolonged(self) -> None:
        """That it works on does not prolong it: the other family would never be tried again."""
        self.by_four()
        for _ in range(5):
            self.wires.advance(119)
            self.by_four()
        self.wires.advance(5)
        self.assertEqual("2001:db8::1", self.first())

    def test_changes(self) -> None:
        """The other family takes its place as soon as it is the one that works."""
        self.by_four()
        connected = self.connect()
        self.wires.fail("192.0.2.1")
        self.wires.succeed("2001:db8::1")
        self.successResultOf(connected)
        self.wires.begun.clear()
        self.wires.advance(599)
        self.assertEqual("2001:db8::1", self.first())


class FailureTests(RacingTestCase):
    """What is told when every attempt has failed."""

    def test_most_telling(self) -> None:
        """What this machine lacks, then a refusal, then a silence, then anything else."""
        own = error.ConnectBindError(errno.EMFILE, "too many")
        refused = error.ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        silent, no_way = error.TimeoutError(), error.NoRouteError(errno.ENETUNREACH, "no way")
        other = error.ConnectError(errno.EADDRNOTAVAIL, "no such address")
        for causes, best in (
            ((refused, no_way), refused),
            ((no_way, refused), refused),
            ((silent, refused, no_way), refused),
            ((refused, own), own),
            ((own, refused), own),
            ((no_way, silent), silent),
            ((no_way, other), other),
            ((other, no_way), no_way),
        ):
            self.assertIs(best, most_telling([Failure(cause) for cause in causes]).value, causes)

    def test_all_failed(self) -> None:
        """The best failure is told as soon as the last attempt has ended."""
        connected = self.connect()
        self.wires.fail("2001:db8::1", error.ConnectionRefusedError())
        self.wires.fail("192.0.2.1", error.NoRouteError())
        self.failureResultOf(connected, error.ConnectionRefusedError)
        self.assert_nothing_left()
