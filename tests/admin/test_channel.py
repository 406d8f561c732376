"""What a connection to the admin site may cost."""

from __future__ import annotations

from twisted.logger import capturedLogs

from pyproxy.admin.channel import LAST_OCTETS_LIMIT, REQUEST_LIMIT
from pyproxy.admin.site import MAX_CONNECTIONS
from tests.admin.kit import AdminTestCase, Connection


class LimitTests(AdminTestCase):
    """How long it may take."""

    def ended_after(self, connection: Connection, seconds: float) -> bool:
        """Tell whether a connection is closed when so many seconds have passed, and not before."""
        self.clock.advance(seconds - 0.1)
        before = connection.transport.disconnecting
        self.clock.advance(0.2)
        return not before and bool(connection.transport.disconnecting)

    def test_nothing_comes(self) -> None:
        """A connection without a request is closed in time."""
        self.assertTrue(self.ended_after(self.connect(), REQUEST_LIMIT))

    def test_slow_request(self) -> None:
        """A request has to be whole in time; what comes of it puts nothing off."""
        for octets in (b"GET / HTTP/1.1\r\nX-A: ", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"):
            with self.subTest(octets=octets):
                connection = self.connect()
                connection.send(octets)
                self.clock.advance(REQUEST_LIMIT / 2)
                connection.send(b"a")
                self.assertTrue(self.ended_after(connection, REQUEST_LIMIT / 2))

    def test_idle(self) -> None:
        """A connection that is not used again is closed in time, without a line in the log."""
        connection = self.connect()
        for _ in range(3):
            self.clock.advance(REQUEST_LIMIT - 1)
            self.assertEqual(200, connection.ask("GET", "/").status)
        with capturedLogs() as events:
            self.assertTrue(self.ended_after(connection, REQUEST_LIMIT))
        self.assertEqual([], events)

    def test_reader_that_reads_nothing(self) -> None:
        """Octets that nobody takes keep a connection open for a moment, and no longer."""
        connection = self.connect()
        connection.ask("GET", "/")
        self.assertTrue(self.ended_after(connection, REQUEST_LIMIT))
        self.assertFalse(connection.transport.disconnected)
        self.clock.advance(LAST_OCTETS_LIMIT)
        self.assertTrue(connection.transport.disconnected)

    def test_large_head(self) -> None:
        """A head of more than 16 KiB is refused, and its connection closed."""
        connection = self.connect()
        connection.send(b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 3000)
        self.assertTrue(connection.transport.value().startswith(b"HTTP/1.1 400 "))
        self.assertTrue(connection.transport.disconnecting)


class NumberTests(AdminTestCase):
    """How many there may be."""

    def test_oldest_makes_room(self) -> None:
        """One connection more than there may be takes the place of the oldest."""
        connections = [self.connect() for _ in range(MAX_CONNECTIONS)]
        self.assertFalse(any(one.transport.disconnected for one in connections))
        connections += [self.connect(), self.connect()]
        self.assertEqual(
            [True, True, *[False] * MAX_CONNECTIONS],
            [bool(one.transport.disconnected) for one in connections],
        )
        self.assertEqual(200, connections[-1].ask("GET", "/").status)

    def test_closed_ones_do_not_count(self) -> None:
        """A connection that has ended takes nobody's place."""
        first = self.connect()
        for _ in range(2 * MAX_CONNECTIONS):
            self.connect().leave()
        self.assertFalse(first.transport.disconnected)
        first.leave()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_end_of_the_site(self) -> None:
        """When the site is not listened for any more its connections end."""
        self.site.doStart()
        connection = self.connect()
        self.site.doStop()
        self.assertTrue(connection.transport.disconnecting)
