"""Our reactor: a short way from an event to its transport, and an end of each turn."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet import main
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python import failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pyproxy.tap import choose_reactor


class Reader:
    """A descriptor that notes what it is told."""

    def __init__(self, reactor: Any, told: list[str], result: Any = None) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.reactor = reactor
        self.told = told
        self.result = result
        self.lost: failure.Failure | None = None
        self.on_read: Callable[[], object] = lambda: None
        self.ours.setblocking(False)
        reactor.addReader(self)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.ours.fileno()

    def logPrefix(self) -> str:
        """Return a name for Twisted's log."""
        return "reader"

    def doRead(self) -> Exception | None:
        """Read; return or raise what it was made with."""
        octets = self.ours.recv(100)
        self.told.append(f"read {octets.decode()}")
        self.on_read()
        if isinstance(self.result, type):
            raise self.result("a defect")
        if self.result is not None:
            return self.result  # type: ignore[no-any-return]
        return None if octets else main.CONNECTION_DONE

    def doWrite(self) -> None:
        """Note that there is room."""
        self.told.append("write")
        self.reactor.removeWriter(self)

    def connectionLost(self, reason: failure.Failure) -> None:
        """Note the end."""
        self.lost = reason
        self.reactor.removeReader(self)
        self.reactor.removeWriter(self)

    def readConnectionLost(self, reason: failure.Failure) -> None:
        """Note the end of what is read."""
        self.connectionLost(reason)

    def close(self) -> None:
        """Close both ends."""
        self.reactor.removeReader(self)
        self.reactor.removeWriter(self)
        self.ours.close()
        self.theirs.close()


class RelayReactorTests(SynchronousTestCase):
    """One turn of the reactor."""

    def setUp(self) -> None:
        """Make a reactor that nobody installs."""
        if sys.platform != "linux":
            raise SkipTest("epoll is Linux's")
        from pyproxy.reactors.epoll import RelayReactor

        self.reactor: Any = RelayReactor()
        self.addCleanup(self.reactor._poller.close)
        self.addCleanup(self.reactor.removeAll)
        self.told: list[str] = []

    def reader(self, result: Any = None) -> Reader:
        """Make a descriptor that is read."""
        reader = Reader(self.reactor, self.told, result)
        self.addCleanup(reader.close)
        return reader

    def test_reads(self) -> None:
        """What has arrived is read in the same turn; without events nothing is called."""
        one, other = self.reader(), self.reader()
        self.reactor.doPoll(0)
        self.assertEqual([], self.told)
        one.theirs.send(b"1")
        other.theirs.send(b"2")
        self.reactor.doPoll(0)
        self.assertEqual(["read 1", "read 2"], sorted(self.told))

    def test_end_of_a_turn(self) -> None:
        """What is put off to the end of a turn follows all of its events, once."""
        self.reactor.at_turn_end(lambda: self.told.append("before"))
        for reader in (self.reader(), self.reader()):
            reader.theirs.send(b"x")
            reader.on_read = lambda: self.reactor.at_turn_end(lambda: self.told.append("end"))
        self.reactor.doPoll(0)
        self.assertEqual(["before", "read x", "read x", "end", "end"], self.told)
        self.reactor.doPoll(0)
        self.assertEqual(5, len(self.told))

    def test_defect_at_the_end(self) -> None:
        """A defect at the end of a turn is logged, and the others have their turn."""
        self.reactor.at_turn_end(lambda: 1 / 0)
        self.reactor.at_turn_end(lambda: self.told.append("end"))
        self.reactor.doPoll(0)
        self.assertEqual(["end"], self.told)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_timed_calls_of_the_end(self) -> None:
        """What the end of a turn wants later is not kept waiting by an older, longer wait."""
        self.assertEqual(3, self.reactor._shorter(3))
        self.assertIsNone(self.reactor._shorter(None))
        self.reactor.callLater(2, lambda: None)
        for timeout in (3, None):
            self.assertLess(abs(2 - self.reactor._shorter(timeout)), 1)
        self.assertEqual(0.5, self.reactor._shorter(0.5))
        self.reactor.at_turn_end(lambda: None)
        self.assertEqual(0, self.reactor._shorter(3))

    def test_lost(self) -> None:
        """A reader whose peer has closed is told so, as by Twisted's own reactor."""
        reader = self.reader()
        reader.theirs.shutdown(socket.SHUT_WR)
        self.reactor.doPoll(0)
        assert reader.lost is not None
        self.assertIsInstance(reader.lost.value, ConnectionDone)
        self.assertNotIn(reader, self.reactor.getReaders())

    def test_error(self) -> None:
        """What a reader returns ends it."""
        reader = self.reader(main.CONNECTION_LOST)
        reader.theirs.send(b"x")
        self.reactor.doPoll(0)
        assert reader.lost is not None
        self.assertIsInstance(reader.lost.value, ConnectionLost)

    def test_defect(self) -> None:
        """A defect in reading is logged and ends that connection only."""
        broken, sound = self.reader(ZeroDivisionError), self.reader()
        broken.theirs.send(b"1")
        sound.theirs.send(b"2")
        self.reactor.doPoll(0)
        self.assertEqual(["read 1", "read 2"], sorted(self.told))
        self.assertIsNotNone(broken.lost)
        self.assertIsNone(sound.lost)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_writes(self) -> None:
        """Who waits for room to write is called as by Twisted's own reactor."""
        reader = self.reader()
        self.reactor.addWriter(reader)
        reader.theirs.send(b"x")
        self.reactor.doPoll(0)
        self.assertEqual(["read x", "write"], self.told)

    def test_hung_up(self) -> None:
        """A reset ends the connection."""
        reader = self.reader()
        reader.theirs.close()
        self.reactor.doPoll(0)
        self.assertIsNotNone(reader.lost)

    def test_removed_in_the_same_turn(self) -> None:
        """Who is removed while the turn runs is not called any more."""
        one, other = self.reader(), self.reader()
        for reader, peer in ((one, other), (other, one)):
            reader.on_read = partial(self.reactor.removeReader, peer)
            reader.theirs.send(b"x")
        self.reactor.doPoll(0)
        self.assertEqual(["read x"], self.told)

    def test_interval(self) -> None:
        """Without events it waits no longer than it is told to, or until something comes."""
        self.reader()
        self.reactor.doPoll(0.001)
        reader = self.reader()
        reader.theirs.send(b"x")
        self.reactor.doPoll(None)
        self.assertEqual(["read x"], self.told)


class ChoiceTests(SynchronousTestCase):
    """Which reactor runs."""

    def test_an_installed_one_stays(self) -> None:
        """``--reactor`` has installed one before our options are read; it is left alone."""
        from twisted.internet import reactor

        choose_reactor()
        self.assertIs(reactor, sys.modules["twisted.internet.reactor"])
