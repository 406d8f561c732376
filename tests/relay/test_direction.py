"""The two directions over real sockets: read in place, written at once, bounded."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import main, tcp
from twisted.internet.interfaces import IPushProducer
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pyproxy.policy.routing import Limits
from pyproxy.relay.ends import RelayedEnd
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.reading import READ_BYTES
from pyproxy.relay.sockets import hand_over
from pyproxy.relay.websocket import Pair
from pyproxy.relay.writing import SMALL_BYTES

TEXT = b"\x81\x02hi"
LARGE = b"\x82\x7f" + (1 << 20).to_bytes(8, "big") + bytes(range(256)) * 4096


class End(RelayedEnd):
    """An end whose own frames are short texts."""

    def send_close(self, code: int, reason: str) -> None:
        """Send something that is told apart from what passes."""
        self.transport.write(b"<%d>" % code)


class Noting(socket.socket):
    """A socket that notes when it is told to acknowledge."""

    told: list[bool]

    def __init__(self, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self.told = []

    def setsockopt(self, level: int, name: int, value: Any, *rest: Any) -> None:
        """Take note of TCP_QUICKACK."""
        if (level, name) == (socket.IPPROTO_TCP, socket.TCP_QUICKACK):
            self.told.append(value == 1)
        super().setsockopt(level, name, value, *rest)


class PumpTests(SynchronousTestCase):
    """A pair whose ends are Twisted's own TCP transports."""

    limits = Limits()

    def setUp(self) -> None:
        """Join two sockets by a pair."""
        self.reactor: Any = MemoryReactorClock()
        self.ended: list[Pair] = []
        self.client, self.near = self._end(1)
        self.upstream, self.far = self._end(2)
        sweeper = Sweeper(self.reactor, 1.0)
        self.pair = Pair(
            self.client, self.upstream, self.limits, self.reactor, sweeper, self.ended.append
        )
        self.pair.open(b"", b"")

    def _end(self, number: int) -> tuple[End, socket.socket]:
        one, theirs = socket.socketpair()
        ours = Noting(fileno=one.detach())
        for each in (ours, theirs):
            each.setblocking(False)
            self.addCleanup(each.close)
        nobody: Any = None
        transport: Any = tcp.Server(ours, nobody, ("h", 1), nobody, number, self.reactor)
        transport.startReading()
        end = End()
        end.makeConnection(transport)
        hand_over(transport, end)
        return end, theirs

    def turn(self) -> None:
        """Let every transport that wants to read or write do so until nothing moves."""
        for _ in range(20):
            for each in list(self.reactor.getReaders()):
                self.judge(each, each.doRead(), reading=True)
            for each in list(self.reactor.getWriters()):
                self.judge(each, each.doWrite(), reading=False)
            self.reactor.advance(0)

    def judge(self, transport: Any, why: Exception | None, reading: bool) -> None:
        """Do as the reactor does with what a transport says."""
        if why is None:
            return
        self.reactor.removeReader(transport)
        if reading and why is main.CONNECTION_DONE:
            transport.readConnectionLost(Failure(why))
        else:
            self.reactor.removeWriter(transport)
            transport.connectionLost(Failure(why))

    def push(self, octets: memoryview) -> int:
        """Let the client send what its socket takes."""
        try:
            return self.near.send(octets) if octets else 0
        except BlockingIOError:
            return 0

    def pull(self) -> bytes:
        """Let the upstream read what is there."""
        try:
            return self.far.recv(1 << 20)
        except BlockingIOError:
            return b""

    def test_at_once(self) -> None:
        """One read is one write, without a turn for writing: a small one as the turn ends."""
        self.near.send(TEXT)
        self.client.transport.doRead()  # type: ignore[attr-defined]
        self.reactor.advance(0)
        self.assertEqual(TEXT, self.far.recv(100))
        self.near.send(LARGE[: 2 * SMALL_BYTES])
        self.client.transport.doRead()  # type: ignore[attr-defined]
        self.assertEqual(LARGE[: 2 * SMALL_BYTES], self.far.recv(1 << 20))
        self.assertEqual(set(), set(self.reactor.getWriters()))

    def test_no_object_of_our_own_stands_between(self) -> None:
        """The transport reads straight into the direction."""
        transport: Any = self.client.transport
        verifyObject(IPushProducer, transport.producer)
        self.assertIs(self.upstream.transport.producer, transport.doRead.__self__._take.__self__)  # type: ignore[attr-defined]

    def test_acknowledged(self) -> None:
        """A read that leaves the end of a frame to come is acknowledged at once; no other is."""
        for octets, expected in (
            (TEXT, 0),
            (TEXT * 3 + LARGE[:10], 0),
            (LARGE[10:5000], 0),
            (LARGE[5000:-9000], 1),
            (LARGE[-9000:-5000], 1),
            (LARGE[-5000:] + TEXT, 0),
        ):
            for peer, read in ((self.near, self.client), (self.far, self.upstream)):
                told = read.transport.socket.told  # type: ignore[attr-defined]
                left = memoryview(octets)
                while left:
                    told.clear()
                    left = left[peer.send(left[:SMALL_BYTES]) :]
                    self.turn()
                    self.near.recv(1 << 20) if peer is self.far else self.far.recv(1 << 20)
                self.assertEqual(expected, len(told), octets[:20])

    def test_nothing_to_read(self) -> None:
        """A reactor that was mistaken about it ends nothing."""
        self.assertIsNone(self.client.transport.doRead())  # type: ignore[attr-defined]

    def test_slow_reader(self) -> None:
        """What a full socket does not take waits, at most one read of it; the order is kept."""
        sent, got = 0, bytearray()
        octets = memoryview(LARGE * 4)
        while self.client.transport in self.reactor.getReaders():
            sent += self.push(octets[sent:])
            self.turn()
        transport: Any = self.upstream.transport
        waiting = len(transport.dataBuffer) + transport._tempDataLen
        self.assertGreater(waiting, 0)
        self.assertLessEqual(waiting, READ_BYTES + transport.bufferSize)
        while len(got) < len(octets):
            sent += self.push(octets[sent:])
            self.turn()
            got += self.pull()
        self.assertEqual(bytes(octets), bytes(got))

    def test_reset(self) -> None:
        """A connection that is lost takes the other along, and nothing is left of the pump."""
        transport: Any = self.client.transport
        self.near.close()
        self.turn()
        self.assertEqual([self.pair], self.ended)
        self.assertNotIn("doRead", transport.__dict__)
        self.assertEqual(b"", self.far.recv(1))
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_half_close(self) -> None:
        """A client that only sends no more is told what the upstream says, until that ends too."""
        transport: Any = self.client.transport
        self.near.shutdown(socket.SHUT_WR)
        self.turn()
        self.assertEqual([], self.ended)
        self.assertNotIn("doRead", transport.__dict__)
        self.assertEqual(b"", self.far.recv(1))
        self.far.send(TEXT)
        self.turn()
        self.assertEqual(TEXT, self.near.recv(100))
        self.far.close()
        self.turn()
        self.assertEqual(b"", self.near.recv(1))
        self.assertEqual([self.pair], self.ended)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_reads_after_the_cut(self) -> None:
        """Octets of the frame at hand pass before the Close, and none after it."""
        self.near.send(LARGE[:100])
        self.turn()
        self.pair.shut_down()
        self.assertEqual(LARGE[:100], self.far.recv(1000))
        self.near.send(LARGE[100:1000])
        self.turn()
        self.assertEqual(LARGE[100:1000], self.far.recv(1000))
        self.assertEqual(b"<1001>", self.near.recv(1000))

    def test_abort_in_between(self) -> None:
        """An aborted transport keeps the doRead that Twisted gave it."""
        transport: Any = self.client.transport
        transport.abortConnection()
        given = transport.doRead
        self.pair.shut_down()
        self.assertIs(given, transport.doRead)


class WatchedPumpTests(PumpTests):
    """A direction whose frames are looked at is read by the transport itself."""

    limits = Limits(max_message=1 << 21)

    def test_no_object_of_our_own_stands_between(self) -> None:
        """Twisted's own doRead stays."""
        self.assertNotIn("doRead", self.client.transport.__dict__)
