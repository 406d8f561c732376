"""Connecting at a Unix socket, with a clock that is set by hand."""

from __future__ import annotations

import errno
from typing import Any, cast

from twisted.internet import error
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pyproxy.relay.transports import IProxyReactor
from pyproxy.upstream.local import FIRST_PAUSE, LONGEST_PAUSE, LocalEndpoint

PATH = "/run/x.sock"


class LocalTests(SynchronousTestCase):
    """A full socket is tried again; everything else is as with any other."""

    def setUp(self) -> None:
        """Connect."""
        self.reactor = MemoryReactorClock()
        self.endpoint = LocalEndpoint(cast(IProxyReactor, self.reactor), PATH, 5.0)
        self.connected = self.endpoint.connect(Factory.forProtocol(Protocol))

    @property
    def attempts(self) -> int:
        """How many attempts have begun."""
        return len(self.reactor.connectors)

    def end(self, cause: Exception) -> None:
        """Let the newest attempt fail."""
        factory: Any = self.reactor.unixClients[-1][1]
        factory.clientConnectionFailed(self.reactor.connectors[-1], Failure(cause))

    def full(self) -> None:
        """Let the newest attempt fail as Twisted tells of EAGAIN, which it takes for a hang-up."""
        self.end(error.ConnectError(string=cast(str, Failure(CONNECTION_DONE))))

    def test_interface(self) -> None:
        """It is what Twisted's TLS wraps."""
        self.assertTrue(verifyObject(IStreamClientEndpoint, self.endpoint))

    def test_connected(self) -> None:
        """The path is the option's."""
        self.assertEqual(PATH, self.reactor.unixClients[0][0])
        factory: Any = self.reactor.unixClients[0][1]
        factory.buildProtocol(UNIXAddress(PATH)).makeConnection(StringTransport())
        self.successResultOf(self.connected)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_full(self) -> None:
        """Pauses grow up to a bound, so that a crowd that waits costs little.  connect(2).

        Trap, Twisted's Unix sockets: take a full one for one that hung up, without a number.
        """
        pause = FIRST_PAUSE
        for count in range(1, 8):
            self.assertEqual(count, self.attempts)
            self.full()
            self.reactor.advance(pause * 0.99)
            self.assertEqual(count, self.attempts)
            self.reactor.advance(pause * 0.011)
            pause = min(2 * pause, LONGEST_PAUSE)
        self.assertNoResult(self.connected)

    def test_refused(self) -> None:
        """What has a reason is told at once."""
        for cause in (
            error.ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
            error.ConnectError(errno.ENOENT, "no such file"),
            error.ConnectError(errno.EACCES, "denied"),
            error.ConnectBindError(errno.EMFILE, "too many"),
            error.TimeoutError(),
        ):
            self.setUp()
            self.end(cause)
            self.assertIs(cause, self.failureResultOf(self.connected).value)
            self.assertEqual(1, self.attempts)

    def test_cancelled(self) -> None:
        """Who leaves ends the attempt, or the pause."""
        for in_pause in (False, True):
            self.setUp()
            if in_pause:
                self.full()
            else:
                connector: Any = self.reactor.connectors[-1]
            self.connected.cancel()
            self.failureResultOf(self.connected, CancelledError, error.ConnectingCancelledError)
            self.reactor.advance(1)
            self.assertEqual(1, self.attempts)
            self.assertEqual([], self.reactor.getDelayedCalls())
        self.assertTrue(connector.stoppedConnecting)
