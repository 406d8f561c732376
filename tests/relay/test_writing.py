"""Large writes leave at once, and no octet overtakes another."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.relay.writing import MIN_THROUGH_BYTES, writer

LARGE = b"L" * MIN_THROUGH_BYTES
SMALL = b"s" * (MIN_THROUGH_BYTES - 1)


class WriterTests(SynchronousTestCase):
    """Over Twisted's own TCP transport and a real pair of sockets."""

    def setUp(self) -> None:
        """Join a transport and a socket."""
        ours, self.peer = socket.socketpair()
        for end in (ours, self.peer):
            end.setblocking(False)
            self.addCleanup(end.close)
        self.ours = ours
        self.reactor: Any = MemoryReactorClock()
        server: Any = None
        transport: Any = tcp.Server(ours, Protocol(), ("127.0.0.1", 1), server, 1, self.reactor)
        self.transport = transport
        self.write: Any = writer(self.transport)

    def arrived(self) -> bytes:
        """Return what the peer can read now."""
        octets = b""
        while True:
            try:
                read = self.peer.recv(1 << 20)
            except BlockingIOError:
                return octets
            if not read:
                return octets
            octets += read

    def test_large(self) -> None:
        """A large piece is there without a turn of the reactor."""
        self.write(LARGE)
        self.assertEqual(LARGE, self.arrived())
        self.assertNotIn(self.transport, self.reactor.getWriters())

    def test_small(self) -> None:
        """A small piece waits for the others of its turn."""
        self.write(SMALL)
        self.assertEqual(b"", self.arrived())
        self.transport.doWrite()
        self.assertEqual(SMALL, self.arrived())

    def test_order(self) -> None:
        """A large piece does not overtake what waits, also when the transport wrote it."""
        self.write(b"1")
        self.write(LARGE)
        self.transport.write(b"2")
        self.write(LARGE)
        self.transport.doWrite()
        self.assertEqual(b"1" + LARGE + b"2" + LARGE, self.arrived())

    def test_more_than_the_socket_takes(self) -> None:
        """What the socket does not take waits in the transport, and whoever produces is paused."""
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        octets = bytes(range(256)) * 16384
        self.write(octets)
        self.write(LARGE)
        received = self.arrived()
        self.assertLess(len(received), len(octets))
        self.assertIn(self.transport, self.reactor.getWriters())
        while len(received) < len(octets) + len(LARGE):
            self.transport.doWrite()
            received += self.arrived()
        self.assertEqual(octets + LARGE, received)

    def test_peer_is_gone(self) -> None:
        """The transport meets the error, and ends as it always does."""
        self.peer.close()
        self.write(LARGE)
        self.assertIsInstance(self.transport.doWrite(), Exception)

    def test_ending(self) -> None:
        """Nothing is sent on a connection that is being aborted."""
        self.transport.abortConnection()
        self.write(LARGE)
        self.assertEqual(b"", self.arrived())

    def test_other_transports(self) -> None:
        """Any other transport is written to as usual."""
        transport: Any = StringTransport()
        writer(transport)(LARGE)
        self.assertEqual(LARGE, transport.value())
