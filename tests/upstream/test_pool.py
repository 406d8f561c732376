"""Idle connections of one origin."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.relay.limits import Sweeper
from pyproxy.relay.sockets import SilenceCheck
from pyproxy.upstream import pool as pool_module
from pyproxy.upstream.connection import Connection
from pyproxy.upstream.manners import TRUSTED_AFTER, Manners
from pyproxy.upstream.pool import IDLE_SECONDS, REST_SECONDS, SHOWN_SECONDS, Pool
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
        connection = Connection(False, self.pool.put, not_lost, no_websocket, self.manners)
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

    def rest(self, count: int) -> None:
        """Let connections rest in silence, one after the other."""
        for _ in range(count):
            connection = self.open()
            connection.suspect = True
            self.pool.put(connection)
            self.assertIsNone(self.pool.take())
            self.network.advance(REST_SECONDS + 2)
            self.assertIs(connection, self.pool.take())

    def suspect(self) -> Connection:
        """Put a connection back on which content may follow."""
        connection = self.open()
        connection.suspect = True
        self.pool.put(connection)
        return connection

    def test_trusted(self) -> None:
        """After some that rested in silence the others need not rest."""
        self.rest(TRUSTED_AFTER)
        connection = self.suspect()
        self.assertIs(connection, self.pool.take())

    def test_caught(self) -> None:
        """Content on one takes the trust back; to earn it again takes twice as many."""
        self.rest(TRUSTED_AFTER)
        self.wire(self.suspect()).deliver(b"content")
        self.rest(2 * TRUSTED_AFTER)
        self.assertIsNotNone(self.suspect() and self.pool.take())
        self.wire(self.suspect()).deliver(b"content")
        self.rest(4 * TRUSTED_AFTER)
        self.assertTrue(self.manners.known_silent)

    def test_caught_while_it_rests(self) -> None:
        """Content on a resting one begins the count anew."""
        self.rest(TRUSTED_AFTER - 1)
        self.wire(self.suspect()).deliver(b"content")
        self.rest(TRUSTED_AFTER)
        self.assertTrue(self.manners.known_silent)

    def test_surplus(self) -> None:
        """In whose place another was opened is closed after its rest, and counts all the same.

        An upstream that serves one connection at a time would let the other wait for 30 s.
        """
        for _ in range(TRUSTED_AFTER):
            connection = self.suspect()
            self.pool.opens_another()
            self.network.advance(REST_SECONDS + 2)
            self.assertEqual((True, 0), (self.closed(connection), self.pool.size))
        self.assertTrue(self.manners.known_silent)

    def test_many_speak_for_their_origin(self) -> None:
        """In a burst some that are silent at a time are enough, unless the origin was caught."""
        for caught in (False, True):
            self.manners.caught, self.manners.known_silent = caught, False
            resting = [self.suspect() for _ in range(TRUSTED_AFTER)]
            self.assertIsNone(self.pool.take())
            self.network.rightNow += SHOWN_SECONDS
            taken = self.pool.take()
            self.assertEqual(not caught, taken in resting)
            self.assertEqual(not caught, self.manners.known_silent)
            self.pool._resting.clear()
            self.pool._idle.clear()

    def test_one_speaks_against_it(self) -> None:
        """One of them that has something to say is enough for the contrary."""
        resting = [self.suspect() for _ in range(TRUSTED_AFTER)]
        self.wire(resting[0]).kernel[1].send(b"content")
        self.network.rightNow += SHOWN_SECONDS
        self.assertIsNone(self.pool.take())
        self.assertFalse(self.manners.known_silent)

    def test_closed_while_it_rests(self) -> None:
        """A close is no content; neither is what comes where none was declared."""
        self.rest(TRUSTED_AFTER)
        self.wire(self.suspect()).lose()
        plain = self.open()
        self.pool.put(plain)
        self.wire(plain).deliver(b"HTTP/1.1 408 Request Timeout")
        self.assertTrue(self.manners.known_silent)

    def test_caught_by_the_kernel(self) -> None:
        """Content that the reactor has not read yet is left for it: it tells of the origin."""
        self.rest(TRUSTED_AFTER)
        connection = self.suspect()
        self.wire(connection).kernel[1].send(b"content")
        self.assertIsNone(self.pool.take())
        self.assertFalse(self.closed(connection))
        self.wire(connection).deliver(b"content")
        self.assertTrue(self.closed(connection))
        self.assertFalse(self.manners.known_silent)

    def test_keep_alive(self) -> None:
        """A connection is not used in the last second that the upstream keeps it; nor kept then."""
        for limit, used in ((4.0, 3.9), (4.0, 4.0), (0.0, 0.0)):
            connection = self.open()
            connection.idle_limit = limit
            self.pool.put(connection)
            self.assertEqual(int(limit > 0), self.pool.size)
            self.network.rightNow += used
            taken = self.pool.take()
            self.assertEqual(used < limit, taken is connection)
            self.assertEqual(used >= limit, self.closed(connection))

    def test_keep_alive_swept(self) -> None:
        """Nor is it kept open until somebody asks for it."""
        connection = self.open()
        connection.idle_limit = 3.0
        self.pool.put(connection)
        self.network.pass_time(5, 1)
        self.assertEqual((True, 0), (self.closed(connection), self.pool.size))

    def test_close(self) -> None:
        """A closed pool keeps nothing any more."""
        one, other = self.open(), self.open()
        self.pool.put(one)
        self.pool.close()
        self.pool.put(other)
        self.assertEqual((True, True, 0), (self.closed(one), self.closed(other), self.pool.size))
