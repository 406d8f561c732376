"""Writes leave at once, and no octet overtakes another."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.relay.writing import backlog, is_plain, view_writer, writer

LARGE = b"L" * 65536


class SocketTestCase(SynchronousTestCase):
    """A case with Twisted's own TCP transport and a real pair of sockets."""

    make: Any = staticmethod(writer)

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
        self.write: Any = self.make(self.transport)

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


class WriterTests(SocketTestCase):
    """Octets leave now as far as that goes."""

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


class ViewWriterTests(WriterTests):
    """A writer that takes views does all that a writer does, and its views may be used again."""

    make = staticmethod(view_writer)

    def reuse(self, octets: bytes) -> None:
        """Write octets from the one buffer, then spoil it."""
        buffer = bytearray(octets)
        self.write(memoryview(buffer))
        buffer[:] = b"!" * len(buffer)

    def test_used_again(self) -> None:
        """What waits was copied: whole, or what the socket left of it."""
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        octets = bytes(range(256)) * 1024
        for _ in range(8):
            self.reuse(octets)
        self.assertGreater(backlog(self.transport), 0)
        received = self.arrived()
        self.assertLess(len(received), 8 * len(octets))
        while backlog(self.transport):
            self.transport.doWrite()
            received += self.arrived()
        self.assertEqual(8 * octets, received)

    def test_ending_transport(self) -> None:
        """What is written to a transport that has its FIN still to send goes before that."""
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self.reuse(LARGE * 16)
        self.transport.loseWriteConnection()
        self.reuse(LARGE)
        received = self.arrived()
        for _ in range(100):
            self.transport.doWrite()
            received += self.arrived()
        self.assertEqual(LARGE * 17, received)
        self.reuse(LARGE)
        self.assertEqual(b"", self.arrived())

    def test_other_transports(self) -> None:
        """Any other transport is given octets of its own."""
        transport: Any = StringTransport()
        self.write = view_writer(transport)
        self.reuse(LARGE)
        self.write(b"more")
        self.assertEqual(LARGE + b"more", transport.value())


class BacklogTests(SocketTestCase):
    """How many octets wait in a transport."""

    def test_counted(self) -> None:
        """Those that Twisted put aside count, in both of its buffers; the kernel's do not."""
        self.write(LARGE)
        self.assertEqual(0, backlog(self.transport))
        self.transport.write(b"aside")
        self.assertEqual(5, backlog(self.transport))
        self.transport.doWrite()
        self.assertEqual(0, backlog(self.transport))

    def test_begun(self) -> None:
        """What of a buffer has left already does not count."""
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        octets = LARGE * 64
        self.transport.write(octets)
        for _ in range(3):
            self.transport.doWrite()
        self.transport.write(b"behind")
        left = backlog(self.transport)
        self.assertTrue(0 < left < len(octets))
        self.assertEqual(len(octets) + 6 - len(self.arrived()), left)

    def test_unknown(self) -> None:
        """Where it cannot be known it is 0."""
        transport: Any = StringTransport()
        transport.write(LARGE)
        self.assertEqual(0, backlog(transport))


class PlainTests(SocketTestCase):
    """Which transports are written to at once."""

    def test_kinds(self) -> None:
        """A socket of Twisted's, and no subclass, which may do more in its write."""

        class Subclass(tcp.Server):
            pass

        nobody: Any = None
        made: Any = Subclass(self.ours, Protocol(), ("127.0.0.1", 1), nobody, 2, self.reactor)
        other: Any = StringTransport()
        self.assertTrue(is_plain(self.transport))
        self.assertFalse(is_plain(made) or is_plain(other))
