"""Writes leave in the turn in which they are made, and no octet overtakes another."""

from __future__ import annotations

import gc
import socket
import struct
from typing import Any, cast
from weakref import ref

from twisted.internet import main, tcp
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pyproxy.relay.writing import SMALL_BYTES, backlog, is_plain, writer

LARGE = b"L" * 65536


class SocketTestCase(SynchronousTestCase):
    """A case with Twisted's own TCP transport and a real pair of sockets."""

    def setUp(self) -> None:
        """Join a transport and a socket."""
        self.reactor: Any = MemoryReactorClock()
        self.transport, self.ours, self.peer = self.connect()
        self.writer: Any = writer(self.transport)
        self.write: Any = self.writer.write

    def connect(self) -> tuple[Any, socket.socket, socket.socket]:
        """Return a transport, its socket, and its peer's."""
        ours, peer = socket.socketpair()
        for end in (ours, peer):
            end.setblocking(False)
            self.addCleanup(end.close)
        server: Any = None
        transport: Any = tcp.Server(ours, Protocol(), ("127.0.0.1", 1), server, 1, self.reactor)
        return transport, ours, peer

    def end_turn(self) -> None:
        """Let the reactor's turn end."""
        self.reactor.advance(0)

    def arrived(self) -> bytes:
        """Return what the peer can read now."""
        return self.read(self.peer)

    def read(self, peer: socket.socket) -> bytes:
        """Return what can be read now."""
        octets = b""
        while True:
            try:
                read = peer.recv(1 << 20)
            except BlockingIOError:
                return octets
            if not read:
                return octets
            octets += read

    def give(self, octets: bytes) -> None:
        """Write octets."""
        self.write(octets)


class WriterTests(SocketTestCase):
    """Octets leave in this turn as far as that goes."""

    def test_at_once(self) -> None:
        """A piece is there without a turn for writing: a small one as this turn ends."""
        for octets in (b"s", LARGE):
            self.give(octets)
            self.end_turn()
            self.assertEqual(octets, self.arrived())
            self.assertNotIn(self.transport, self.reactor.getWriters())

    def test_large_at_once(self) -> None:
        """What is more than small leaves before the turn ends."""
        self.give(bytes(SMALL_BYTES))
        self.assertEqual(b"", self.arrived())
        self.end_turn()
        self.assertEqual(bytes(SMALL_BYTES), self.arrived())
        self.give(bytes(SMALL_BYTES + 1))
        self.assertEqual(bytes(SMALL_BYTES + 1), self.arrived())
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_small_together(self) -> None:
        """Small pieces of one turn leave together, in order, by one call of the reactor's."""
        for octets in (b"1", b"", b"22", b"333"):
            self.give(octets)
        self.assertEqual(b"", self.arrived())
        self.assertEqual(1, len(self.reactor.getDelayedCalls()))
        self.end_turn()
        self.assertEqual(b"122333", self.arrived())
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_nothing(self) -> None:
        """Nothing is no write, and asks for no turn."""
        self.give(b"")
        self.writer.flush()
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_small_before_large(self) -> None:
        """A large piece takes what waits along, and what comes behind it waits again."""
        self.give(b"1")
        self.give(LARGE)
        self.assertEqual(b"1" + LARGE, self.arrived())
        self.give(b"2")
        self.assertEqual(b"", self.arrived())
        self.end_turn()
        self.assertEqual(b"2", self.arrived())

    def test_small_until_large(self) -> None:
        """What waits is bounded: past the bound all of it leaves."""
        piece = bytes(SMALL_BYTES // 4)
        for _ in range(4):
            self.give(piece)
        self.assertEqual(b"", self.arrived())
        self.give(b"x")
        self.assertEqual(piece * 4 + b"x", self.arrived())
        self.end_turn()
        self.assertEqual(b"", self.arrived())

    def test_flush(self) -> None:
        """A flush sends what waits now; the end of the turn has nothing more to do."""
        self.give(b"1")
        self.writer.flush()
        self.assertEqual(b"1", self.arrived())
        self.writer.flush()
        self.end_turn()
        self.assertEqual(b"", self.arrived())

    def test_flushed_before_a_close(self) -> None:
        """What was flushed goes before a FIN; so does what the socket did not take."""
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        for filled in (b"", LARGE * 16):
            self.give(filled)
            self.give(b"last")
            self.writer.flush()
        self.transport.loseWriteConnection()
        received = b""
        for _ in range(100):
            self.transport.doWrite()
            received += self.arrived()
        self.assertEqual(b"last" + LARGE * 16 + b"last", received)
        self.assertEqual(b"", self.peer.recv(1))

    def test_order(self) -> None:
        """A piece does not overtake what waits in the transport."""
        self.give(b"1")
        self.writer.flush()
        self.transport.write(b"2")
        self.give(LARGE)
        self.transport.write(b"3")
        self.give(b"4")
        self.writer.flush()
        self.transport.doWrite()
        self.give(b"5")
        self.end_turn()
        self.assertEqual(b"12" + LARGE + b"345", self.arrived())

    def test_order_across_turns(self) -> None:
        """Small pieces do not overtake a large one that the socket did not take whole."""
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        octets = bytes(range(256)) * 4096
        expected, received = b"", b""
        for piece in (b"1", octets, b"2", b"3", octets, b"4"):
            expected += piece
            self.give(piece)
        self.assertGreater(backlog(self.transport), 0)
        for _ in range(200):
            self.end_turn()
            self.transport.doWrite()
            received += self.arrived()
        self.assertEqual(expected, received)

    def test_more_than_the_socket_takes(self) -> None:
        """What the socket does not take waits in the transport, and whoever produces is paused."""
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        producer = Producer()
        self.assertTrue(verifyObject(IPushProducer, producer))
        self.transport.registerProducer(producer, True)
        octets = bytes(range(256)) * 16384
        self.give(octets)
        self.assertTrue(producer.paused)
        self.give(LARGE)
        received = self.arrived()
        self.assertLess(len(received), len(octets))
        self.assertIn(self.transport, self.reactor.getWriters())
        while len(received) < len(octets) + len(LARGE):
            self.transport.doWrite()
            received += self.arrived()
        self.assertEqual(octets + LARGE, received)
        self.transport.doWrite()
        self.assertFalse(producer.paused)

    def test_every_rest(self) -> None:
        """A socket that takes only a part, of what waited or of what came, loses and doubles none.

        The part ends at any place around the border between the two.
        """
        for taken in range(6):
            transport, _, peer = self.connect()
            transport.socket = Sparing(transport.socket, taken)
            give = writer(transport).write
            give(b"abc")
            give(LARGE)
            self.assertEqual(len(LARGE) + 3 - taken, backlog(transport))
            transport.socket = transport.socket.below
            received = self.read(peer)
            self.assertEqual(b"abcLLL"[:taken], received)
            while len(received) < len(LARGE) + 3:
                transport.doWrite()
                received += self.read(peer)
            self.assertEqual(b"abc" + LARGE, received)

    def test_peer_is_gone(self) -> None:
        """The transport meets the error, and ends as it always does."""
        self.peer.close()
        for octets in (b"s", LARGE):
            self.give(octets)
            self.end_turn()
            self.assertIsInstance(self.transport.doWrite(), Exception)

    def test_failed(self) -> None:
        """A reset that a write meets is remembered; after a FIN there was none.

        The kernel tells of a reset once, and reading looks like an orderly end afterwards.
        """
        for reset in (True, False):
            for octets in (b"s", LARGE):
                with socket.create_server(("127.0.0.1", 0)) as server:
                    ours = socket.create_connection(server.getsockname())
                    theirs, _ = server.accept()
                self.addCleanup(ours.close)
                ours.setblocking(False)
                transport: Any = tcp.Server(
                    ours, Protocol(), ("127.0.0.1", 1), cast(Any, None), 1, self.reactor
                )
                self.writer = writer(transport)
                linger = struct.pack("ii", 1 if reset else 0, 0)
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                theirs.close()
                if not reset:
                    # The first write is answered by a reset, as nobody is there any more.
                    self.assertEqual(b"", ours.recv(1))
                    ours.shutdown(socket.SHUT_WR)
                self.writer.write(octets)
                self.end_turn()
                self.assertEqual(reset, self.writer.failed, (reset, len(octets)))

    def test_ending(self) -> None:
        """Nothing is sent on a connection that is being aborted."""
        self.give(b"waits")
        self.transport.abortConnection()
        self.give(LARGE)
        self.end_turn()
        self.assertEqual(b"", self.arrived())

    def test_lost(self) -> None:
        """A turn that ends after the connection was lost disturbs nobody."""
        self.give(b"waits")
        self.transport.connectionLost(Failure(main.CONNECTION_LOST))
        self.end_turn()
        self.give(LARGE)
        self.assertEqual(0, backlog(self.transport))

    def test_other_transports(self) -> None:
        """Any other transport is written to as usual."""
        transport: Any = StringTransport()
        self.writer = writer(transport)
        self.write = self.writer.write
        self.give(LARGE)
        self.give(b"more")
        self.writer.flush()
        self.assertEqual(LARGE + b"more", transport.value())


@implementer(IPushProducer)
class Producer:
    """Notes whether it is paused; what it does when it is paused can be told."""

    def __init__(self) -> None:
        self.paused = False

    def pauseProducing(self) -> None:
        """Take note."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Take note."""
        self.paused = False

    def stopProducing(self) -> None:
        """Take note."""
        self.paused = True


class Broken(Producer):
    """A producer with a defect."""

    def pauseProducing(self) -> None:
        """Fail."""
        raise ZeroDivisionError("a defect")


class Sparing:
    """A socket that takes only some octets, once, and none afterwards."""

    def __init__(self, below: socket.socket, taken: int) -> None:
        self.below = below
        self.left = taken

    def send(self, octets: bytes | memoryview) -> int:
        """Take what is left to take."""
        return self.sendmsg([octets])

    def sendmsg(self, pieces: Any) -> int:
        """Take what is left to take."""
        octets = b"".join(pieces)[: self.left]
        if not octets:
            raise BlockingIOError
        self.left = 0
        return self.below.send(octets)


class ViewTests(WriterTests):
    """A writer that is given views does all that a writer does, and they may be used again."""

    def give(self, octets: bytes) -> None:
        """Write octets from the one buffer, then spoil it."""
        buffer = bytearray(octets)
        self.write(memoryview(buffer))
        buffer[:] = b"!" * len(buffer)

    def test_used_again(self) -> None:
        """What waits was copied: whole, or what the socket left of it."""
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        octets = bytes(range(256)) * 1024
        for _ in range(8):
            self.give(octets)
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
        self.give(LARGE * 16)
        self.transport.loseWriteConnection()
        self.give(LARGE)
        received = self.arrived()
        for _ in range(100):
            self.transport.doWrite()
            received += self.arrived()
        self.assertEqual(LARGE * 17, received)
        self.give(LARGE)
        self.assertEqual(b"", self.arrived())


class TurnTests(SocketTestCase):
    """One call of the reactor's ends the turn for all connections."""

    def test_all_connections(self) -> None:
        """Each gets its own octets, and a second turn begins anew."""
        others = [self.connect() for _ in range(3)]
        writers = [writer(transport) for transport, _, _ in others]
        for _ in range(2):
            for number, each in enumerate(writers):
                each.write(b"%d" % number)
            self.assertEqual(1, len(self.reactor.getDelayedCalls()))
            self.end_turn()
            self.assertEqual([b"0", b"1", b"2"], [self.read(peer) for _, _, peer in others])

    def test_a_defect(self) -> None:
        """A connection whose write fails with an unknown error does not keep the others' octets."""
        bad, _, _ = self.connect()
        bad.registerProducer(Broken(), True)
        bad.socket = Sparing(bad.socket, 0)
        bad.bufferSize = 1
        writer(bad).write(b"held")
        self.write(b"sent")
        self.end_turn()
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual(b"sent", self.arrived())

    def test_written_as_the_turn_ends(self) -> None:
        """What is written because of the end of a turn leaves at the end of the next."""
        bad, _, peer = self.connect()
        talking = Talking(self.write)
        bad.registerProducer(talking, True)
        bad.socket = Sparing(bad.socket, 0)
        bad.bufferSize = 1
        writer(bad).write(b"held")
        self.end_turn()
        self.assertEqual(b"", self.read(peer))
        self.end_turn()
        self.assertEqual(b"paused", self.arrived())

    def test_reactors(self) -> None:
        """Each reactor has its own turns."""
        first = self.reactor
        self.write(b"first")
        self.reactor = MemoryReactorClock()
        transport, _, peer = self.connect()
        writer(transport).write(b"second")
        self.end_turn()
        self.assertEqual((b"", b"second"), (self.arrived(), self.read(peer)))
        first.advance(0)
        self.assertEqual(b"first", self.arrived())

    def test_reactor_that_knows_its_turns(self) -> None:
        """A reactor that says when a turn ends is asked; no delayed call is made."""
        self.reactor = Turning()
        transport, _, peer = self.connect()
        writer(transport).write(b"octets")
        self.assertEqual([], self.reactor.getDelayedCalls())
        (end,) = self.reactor.ends
        end()
        self.assertEqual(b"octets", self.read(peer))

    def test_nothing_is_kept(self) -> None:
        """A connection's writer is not kept by the turn that has ended."""
        transport, _, _ = self.connect()
        written: Any = writer(transport)
        # The writer has no room for a weak reference, but its transport has.
        gone = ref(transport)
        written.write(b"x")
        self.end_turn()
        transport.stopReading()
        del transport, written
        gc.collect()
        self.assertIsNone(gone())


class Talking(Producer):
    """A producer that writes to another connection when it is paused."""

    def __init__(self, write: Any) -> None:
        super().__init__()
        self.write = write

    def pauseProducing(self) -> None:
        """Write."""
        self.write(b"paused")


class Turning(MemoryReactorClock):
    """A reactor that says when a turn ends, as those of ours do."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[Any] = []

    def at_turn_end(self, call: Any) -> None:
        """Take note."""
        self.ends.append(call)


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
