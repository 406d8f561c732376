"""Workers take turns at accepting."""

from __future__ import annotations

import os
from typing import Any

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.workers.tally import AHEAD, BATCH, TURNS, WAIT, Tally, make_board, take_turns, vacate


class TallyTestCase(SynchronousTestCase):
    """A case with a board for three workers."""

    def setUp(self) -> None:
        """Make the board; two workers are present."""
        self.board = make_board(3)
        self.addCleanup(os.close, self.board)
        self.one, self.two, self.three = (Tally(self.board, 3, n) for n in (1, 2, 3))
        self.one.come()
        self.two.come()


class TallyTests(TallyTestCase):
    """Who goes first."""

    def test_equal(self) -> None:
        """Among equals nobody waits, nor for one who is not there."""
        self.one.count(2)
        self.assertFalse(self.one.is_ahead() or self.two.is_ahead())

    def test_more_open(self) -> None:
        """Who has clearly more open lets the other go first; the other does not wait."""
        self.one.count(AHEAD)
        self.assertFalse(self.one.is_ahead())
        self.one.count(AHEAD + 1)
        self.assertTrue(self.one.is_ahead())
        self.assertFalse(self.two.is_ahead())

    def test_share(self) -> None:
        """With many open a difference counts by its share."""
        self.two.count(800)
        self.one.count(900)
        self.assertFalse(self.one.is_ahead())
        self.one.count(903)
        self.assertTrue(self.one.is_ahead())

    def test_short_ones(self) -> None:
        """Connections that are closed at once count too: they are taken in turn."""
        self.one.take(TURNS)
        self.assertFalse(self.one.is_ahead())
        self.one.take(1)
        self.assertTrue(self.one.is_ahead())
        self.one.count(0)
        self.two.count(1)
        self.assertFalse(self.one.is_ahead(), "it has fewer open")

    def test_newcomer(self) -> None:
        """A new worker counts from where the others are: they need not wait for it to catch up."""
        self.one.take(1000)
        self.two.take(1001)
        self.three.come()
        self.three.take(TURNS)
        self.assertFalse(self.two.is_ahead())

    def test_leaving(self) -> None:
        """Nobody waits for one that has left, whatever it still says."""
        self.one.count(100)
        self.assertTrue(self.one.is_ahead())
        self.two.leave()
        self.two.count(3)
        self.two.take(1)
        self.assertFalse(self.one.is_ahead())

    def test_death(self) -> None:
        """Nor for one that died, once its parent has taken note."""
        self.one.count(100)
        vacate(self.board, 2)
        self.assertFalse(self.one.is_ahead())


@attrs.define(eq=False)
class FakePort:
    """A port in whose queue connections wait."""

    waiting: int
    numberAccepts: int = 100
    sessionno: int = 0
    connected: bool = True
    disconnecting: bool = False
    reading: bool = True
    doRead: Any = None

    def __attrs_post_init__(self) -> None:
        self.doRead = self.accept

    def accept(self) -> None:
        """Accept as many as are wanted and there."""
        some = min(self.waiting, self.numberAccepts)
        self.waiting -= some
        self.sessionno += some
        # As Twisted's own does, for the next turn.
        self.numberAccepts += 20

    def stopReading(self) -> None:
        """Stop."""
        self.reading = False

    def startReading(self) -> None:
        """Go on."""
        self.reading = True


class TurnsTests(TallyTestCase):
    """A port that takes turns."""

    def port(self, waiting: int) -> tuple[FakePort, Clock]:
        """Make the first worker's port."""
        port, clock = FakePort(waiting), Clock()
        take_turns(port, clock, self.one)
        return port, clock

    def test_one_a_turn(self) -> None:
        """One connection is accepted a turn, not a hundred."""
        port, _ = self.port(64)
        for left in (63, 62, 61):
            port.doRead()
            self.assertEqual(left, port.waiting)

    def test_waits(self) -> None:
        """Who is ahead waits a moment, and then takes what nobody else took."""
        port, clock = self.port(64)
        self.one.count(AHEAD + 1)
        port.doRead()
        self.assertEqual((64, False), (port.waiting, port.reading))
        clock.advance(WAIT)
        self.assertEqual((64 - BATCH, True), (port.waiting, port.reading))

    def test_closed_meanwhile(self) -> None:
        """A port that is closed while it waits accepts nothing more."""
        port, clock = self.port(64)
        self.one.count(AHEAD + 1)
        port.doRead()
        port.disconnecting = True
        clock.advance(WAIT)
        self.assertEqual((64, False), (port.waiting, port.reading))
