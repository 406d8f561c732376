"""Writes leave at once, and no octet overtakes another."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.relay.writing import writer

LARGE = b"L" * 65536


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

    def test_at_once(self) -> None:
        """A piece is there without a turn of the reactor."""
        for octets in (b"s", LARGE):
            self.write(octets)
            self.assertEqual(octets, self.arrived())
            self.assertNotIn(self.transport, self.reactor.getWriters())

    def test_order(self) -> None:
        """A piece does not overtake what waits in the transport."""
        self.write(b"1")
        self.transport.write(b"2")
        self.write(LARGE)
        self.transport.write(b"3")
        self.write(b"4")
        self.transport.doWrite()
        self.write(b"5")
        self.assertEqual(b"12" + LARGE + b"345", self.arrived())

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
