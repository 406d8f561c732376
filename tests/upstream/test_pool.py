"""Idle connections of one origin."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.relay.limits import Sweeper
from pyproxy.relay.sockets import SilenceCheck
from pyproxy.upstream import pool as pool_module
from pyproxy.upstream.connection import Connection
from pyproxy.upstream.manners import Manners
from pyproxy.upstream.pool import IDLE_SECONDS, REST_SECONDS, Pool
from tests.memory import CLIENT, UPSTREAM, MemoryTransport, Network, no_websocket, not_lost
from tests.upstream.kit import ORIGIN


class PoolTests(SynchronousTestCase):
    """Bounded in number and in time; the last used is the next used."""

    def setUp(self) -> None:
        """Make a pool that a sweeper watches."""
        self.network = Network()
        self.addCleanup(self.network.close)
        self.sweeper = Sweeper(self.network, 1.0)
        self.sweeper.start()
        self.addCleanup(self.sweeper.stop)
        self.manners = Manners(ORIGIN)
        self.pool = Pool(self.sweeper, self.network.seconds, self.manners)
        self.sweeper.watch(self.pool)

    def open(self) -> Connection:
        """Open a connection that goes to the pool when it is lost, as if it had answered before."""
        connection = Connection(False, self.pool.put, not_lost, no_websocket)
        self.network.transport(CLIENT, UPSTREAM).join(connection)
        connection.silent = SilenceCheck(connection.transport).holds
        return connection

    def wire(self, connection: Connection) -> MemoryTransport:
        """Return a connection's transport."""
        assert isinstance(connection.transport, MemoryTransport)
        return connection.transport

    def closed(self, connection: Connection) -> bool:
        """Tell whether a connection was closed."""
        self.network.settle()
        return self.wire(connection).lost is not None

    def test_last_in_first_out(self) -> None:
        """A quiet pool shrinks, because what was used last is used next."""
        one, other = self.open(), self.open()
        self.pool.put(one)
        self.pool.put(other)
        self.assertIs(other, self.pool.take())
        self.assertIs(one, self.pool.take())
        self.assertIsNone(self.pool.take())

    def test_bound(self) -> None:
        """One too many is closed."""
        self.patch(pool_module, "MAX_IDLE_CONNECTIONS", 3)
        kept = [self.open() for _ in range(4)]
        for connection in kept:
            self.pool.put(connection)
        self.assertEqual(3, self.pool.size)
        self.assertEqual([False] * 3 + [True], [self.closed(one) for one in kept])

    def test_idle_limit(self) -> None:
        """What was idle for too long is closed; the time begins anew with every use."""
        one, other = self.open(), self.open()
        self.pool.put(one)
        self.pool.put(other)
        self.network.pass_time(IDLE_SECONDS - 2, 1)
        taken = self.pool.take()
        assert taken is not None
        self.pool.put(taken)
        self.network.pass_time(4, 1)
        self.assertEqual((True, False), (self.closed(one), self.closed(other)))
        self.assertEqual(1, self.pool.size)
        self.network.pass_time(IDLE_SECONDS, 1)
        self.assertTrue(self.closed(other))

    def test_lost_while_idle(self) -> None:
        """A connection that the upstream closed is forgotten at once (FIELD 7)."""
        connection = self.open()
        self.pool.put(connection)
        self.wire(connection).lose()
        self.assertEqual(0, self.pool.size)
        self.assertIsNone(self.pool.take())

    def test_no_longer_usable(self) -> None:
        """One that spoke unasked is not given away."""
        one, other = self.open(), self.open()
        self.pool.put(one)
        self.pool.put(other)
        self.wire(other).deliver(b"surprise")
        self.assertIs(one, self.pool.take())

    def test_dead_by_the_kernel(self) -> None:
        """A request that may not be sent again gets only what the kernel says is alive."""
        one, other = self.open(), self.open()
        self.pool.put(one)
        self.pool.put(other)
        self.wire(other).kernel[1].close()
        self.assertIs(one, self.pool.take())
        self.assertTrue(self.closed(other))

    def test_unasked_octets_in_the_kernel(self) -> None:
        """What an upstream sent unasked is never taken for a response (RFC 9112 9.2)."""
        connection = self.open()
        self.pool.put(connection)
        self.wire(connection).kernel[1].send(b"HTTP/1.1 200 OK\r\n\r\n")
        self.assertIsNone(self.pool.take())
        self.assertTrue(self.closed(connection))

    def test_suspect(self) -> None:
        """After HEAD with a declared length content may follow; the connection rests first."""
        connection = self.open()
        connection.suspect = True
        self.pool.put(connection)
        self.assertEqual((None, 1), (self.pool.take(), self.pool.size))
        self.network.advance(REST_SECONDS + 2)
        self.assertIs(connection, self.pool.take())

    def test_close(self) -> None:
        """A closed pool keeps nothing any more."""
        one, other = self.open(), self.open()
        self.pool.put(one)
        self.pool.close()
        self.pool.put(other)
        self.assertEqual((True, True, 0), (self.closed(one), self.closed(other), self.pool.size))
