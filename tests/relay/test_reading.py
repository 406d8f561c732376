"""Reading a plain socket in place, over real sockets and Twisted's own transport."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

from twisted.internet import main, tcp
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.relay.reading import READ_BYTES, read_buffer, read_by_itself, read_in_place


class Ended(Protocol):
    """Notes what its transport reads for it, and how it ended."""

    def __init__(self) -> None:
        self.read = b""
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Note octets."""
        self.read += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note the end."""
        self.reason = reason


class Subclass(tcp.Server):
    """A transport that may do more than Twisted's own."""


class Failing:
    """A socket that cannot be read, for a reason."""

    def __init__(self, cause: OSError) -> None:
        self.cause = cause

    def recv_into(self, _: memoryview) -> int:
        """Fail."""
        raise self.cause


class ReadingTestCase(SynchronousTestCase):
    """A case with two ends of a connection: Twisted's, and the test's."""

    def setUp(self) -> None:
        """Join the ends and read in place."""
        self.reactor: Any = MemoryReactorClock()
        self.seen: list[memoryview] = []
        self.taken = b""
        self.transport, self.protocol, self.peer = self.connect()
        read_in_place(self.transport, self.take)

    def connect(self, kind: Any = tcp.Server) -> tuple[Any, Ended, socket.socket]:
        """Return a transport that is read, its protocol, and its peer's socket."""
        listening = socket.create_server(("127.0.0.1", 0))
        peer = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
        listening.close()
        for end in (ours, peer):
            self.addCleanup(end.close)
        ours.setblocking(False)
        protocol = Ended()
        nobody: Any = None
        transport = kind(ours, protocol, ("127.0.0.1", 1), nobody, 1, self.reactor)
        protocol.makeConnection(transport)
        transport.startReading()
        return transport, protocol, peer

    def take(self, octets: memoryview) -> None:
        """Note a view, and a copy of what it shows."""
        self.seen.append(octets)
        self.taken += octets

    def turn(self, transport: Any) -> None:
        """Do as a reactor does with a transport that can be read."""
        if transport not in self.reactor.getReaders():
            return
        why = transport.doRead()
        if why is not None:
            self.reactor.removeReader(transport)
            if why is main.CONNECTION_DONE:
                transport.readConnectionLost(Failure(why))
            else:
                transport.connectionLost(Failure(why))


class InPlaceTests(ReadingTestCase):
    """What has arrived is handed over as a view of the one buffer."""

    def test_view(self) -> None:
        """A read is a view of the shared buffer, as long as what has arrived."""
        for octets in (b"abc", b"de"):
            self.peer.send(octets)
            self.turn(self.transport)
        self.assertEqual(b"abcde", self.taken)
        self.assertEqual([3, 2], [len(view) for view in self.seen])
        self.assertEqual(b"", self.protocol.read)
        for view in self.seen:
            self.assertIs(memoryview, type(view))
            self.assertIs(read_buffer().obj, view.obj)

    def test_used_again(self) -> None:
        """The next read, of whichever connection, has the same place."""
        other, _, peer = self.connect()
        read_in_place(other, self.take)
        self.peer.send(b"abc")
        self.turn(self.transport)
        self.assertEqual(b"abc", self.seen[0])
        peer.send(b"XYZ")
        self.turn(other)
        self.assertEqual((b"XYZ", b"XYZ"), (self.seen[0], self.seen[1]))
        self.assertEqual(b"abcXYZ", self.taken)

    def test_size(self) -> None:
        """One read takes what the buffer holds, and no more."""
        self.assertEqual(READ_BYTES, len(read_buffer()))
        self.assertIs(read_buffer(), read_buffer())
        self.peer.setblocking(False)
        sent = 0
        while sent < 3 * READ_BYTES:
            try:
                sent += self.peer.send(bytes(READ_BYTES))
            except BlockingIOError:
                if not self.seen:
                    self.assertGreater(sent, 0)
                self.turn(self.transport)
        while len(self.taken) < sent:
            self.turn(self.transport)
        self.assertEqual(sent, len(self.taken))
        self.assertLessEqual(max(len(view) for view in self.seen), READ_BYTES)

    def test_nothing_to_read(self) -> None:
        """A reactor that was mistaken ends nothing, nor does a signal."""
        self.assertIsNone(self.transport.doRead())
        for cause in (BlockingIOError(), InterruptedError()):
            transport, protocol, _ = self.connect()
            self.break_socket(transport, cause)
            self.assertIsNone(transport.doRead())
            self.assertIsNone(protocol.reason)
        self.assertEqual([], self.seen)

    def break_socket(self, transport: Any, cause: OSError) -> None:
        """Let the reads of a socket fail."""
        transport.socket, below = Failing(cause), transport.socket
        read_in_place(transport, self.take)
        transport.socket = below

    def test_end(self) -> None:
        """A FIN ends the connection as it ends Twisted's own."""
        self.compare(lambda peer: peer.shutdown(socket.SHUT_WR))

    def test_end_behind_octets(self) -> None:
        """What came before the FIN is handed over first."""
        self.peer.send(b"last")
        self.peer.close()
        self.turn(self.transport)
        self.assertIsNone(self.protocol.reason)
        self.turn(self.transport)
        self.assertEqual(b"last", self.taken)
        assert self.protocol.reason is not None
        self.assertIsNotNone(self.protocol.reason.check(main.CONNECTION_DONE.__class__))

    def test_reset(self) -> None:
        """A reset ends the connection as it ends Twisted's own."""

        def reset(peer: socket.socket) -> None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()

        self.compare(reset)

    def test_other_errors(self) -> None:
        """Whatever else the kernel says of a socket, the connection is lost."""
        for number in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EBADF):
            transport, _, _ = self.connect()
            self.break_socket(transport, OSError(number, "no more"))
            self.assertIs(main.CONNECTION_LOST, transport.doRead())

    def compare(self, end: Any) -> None:
        """Check that an end is the same for a transport in place and for one by itself."""
        plain, protocol, peer = self.connect()
        end(self.peer)
        end(peer)
        for transport in (self.transport, plain):
            self.turn(transport)
        assert protocol.reason is not None
        assert self.protocol.reason is not None
        self.assertIs(protocol.reason.type, self.protocol.reason.type)
        self.assertEqual([], self.seen)
        self.assertNotIn(self.transport, self.reactor.getReaders())

    def test_paused_inside_a_read(self) -> None:
        """Who takes octets may pause the transport: it is not read again before it resumes."""

        def pause(octets: memoryview) -> None:
            self.take(octets)
            self.transport.pauseProducing()

        read_in_place(self.transport, pause)
        for octets in (b"abc", b"de"):
            self.peer.send(octets)
            self.turn(self.transport)
        self.assertEqual(b"abc", self.taken)
        self.transport.resumeProducing()
        self.turn(self.transport)
        self.assertEqual(b"abcde", self.taken)


class OwnReadingTests(ReadingTestCase):
    """Transports that read by themselves, or do so again."""

    def test_by_itself_again(self) -> None:
        """Twisted's own reading is restored, from the next read on; twice is as once."""
        self.peer.send(b"abc")
        self.turn(self.transport)
        for _ in range(2):
            read_by_itself(self.transport)
            self.assertNotIn("doRead", self.transport.__dict__)
        self.peer.send(b"de")
        self.turn(self.transport)
        self.assertEqual((b"abc", b"de"), (self.taken, self.protocol.read))

    def test_inside_a_read(self) -> None:
        """Who takes octets may end the reading in place with them, or give it to another."""
        given: list[bytes] = []

        def pass_on(octets: memoryview) -> None:
            self.take(octets)
            read_by_itself(self.transport)

        def give_to_another(octets: memoryview) -> None:
            self.take(octets)
            read_in_place(self.transport, lambda view: given.append(bytes(view)))

        for take in (give_to_another, pass_on):
            read_in_place(self.transport, take)
            for octets in (b"1", b"2"):
                self.peer.send(octets)
                self.turn(self.transport)
        self.assertEqual((b"11", [b"2"], b"2"), (self.taken, given, self.protocol.read))

    def test_never_in_place(self) -> None:
        """A transport that was never read in place is left as it is."""
        transport, protocol, peer = self.connect()
        read_by_itself(transport)
        other: Any = StringTransport()
        read_by_itself(other)
        peer.send(b"abc")
        self.turn(transport)
        self.assertEqual(b"abc", protocol.read)

    def test_aborted(self) -> None:
        """An aborted transport keeps the doRead that Twisted gave it."""
        self.peer.send(b"abc")
        self.transport.abortConnection()
        given = self.transport.doRead
        read_by_itself(self.transport)
        self.assertIs(given, self.transport.doRead)
        self.transport.doRead()
        self.assertEqual(b"", self.taken)
        self.reactor.advance(0)
        self.assertIsNotNone(self.protocol.reason)

    def test_other_transports(self) -> None:
        """What is no socket of Twisted's, or a subclass, goes on to read by itself."""
        transport, protocol, peer = self.connect(Subclass)
        read_in_place(transport, self.take)
        self.assertNotIn("doRead", transport.__dict__)
        peer.send(b"abc")
        self.turn(transport)
        self.assertEqual((b"abc", b""), (protocol.read, self.taken))
        other: Any = StringTransport()
        read_in_place(other, self.take)
        self.assertFalse(hasattr(other, "doRead"))
