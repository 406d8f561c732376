"""One timer keeps every time limit."""

from __future__ import annotations

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.relay.limits import MAX_INTERVAL, MIN_INTERVAL, Sweeper


@attrs.define(eq=False)
class Waiter:
    """Somebody who waits, and notes when it was asked; it wants to be asked after a pause."""

    pause: float = 0.0
    asked: list[float] = attrs.Factory(list)

    def check(self, now: float) -> float:
        """Note the time."""
        self.asked.append(now)
        return now + self.pause


@attrs.define(eq=False)
class Broken:
    """Somebody who cannot be asked."""

    def check(self, now: float) -> float:
        """Fail."""
        raise RuntimeError("a defect")


class SweeperTests(SynchronousTestCase):
    """Everybody who waits is asked once soon, then when they want to be."""

    def setUp(self) -> None:
        """Start a sweeper of one second."""
        self.clock = Clock()
        self.clock.advance(100)
        self.sweeper = Sweeper(self.clock, 1.0)
        self.sweeper.start()

    def test_asks_again_when_it_was_told_to(self) -> None:
        """The first time at the next sweep, then not before its time."""
        one = Waiter(pause=2.5)
        self.sweeper.watch(one)
        for _ in range(8):
            self.clock.advance(1)
        self.assertEqual([101.0, 104.0, 107.0], one.asked)

    def test_watched_anew(self) -> None:
        """Who is watched again is asked at the next sweep, whatever it said before."""
        one = Waiter(pause=100.0)
        self.sweeper.watch(one)
        self.clock.advance(1)
        self.sweeper.watch(one)
        self.clock.advance(1)
        self.assertEqual([101.0, 102.0], one.asked)
        self.assertEqual(1, self.sweeper.watched)

    def test_ending_in_its_own_check(self) -> None:
        """Who leaves while it is asked is not watched any more."""
        sweeper = self.sweeper

        class Leaving:
            def check(self, now: float) -> float:
                sweeper.unwatch(self)
                return now

        sweeper.watch(Leaving())
        self.clock.advance(1)
        self.assertEqual(0, sweeper.watched)

    def test_asks_once_per_interval(self) -> None:
        """Every one of them that wants to be asked at once again, with the clock's seconds."""
        one, other = Waiter(), Waiter()
        self.sweeper.watch(one)
        self.sweeper.watch(one)
        self.clock.advance(1)
        self.sweeper.watch(other)
        self.clock.advance(1)
        self.assertEqual(([101.0, 102.0], [102.0]), (one.asked, other.asked))
        self.assertEqual(102.0, self.sweeper.now)

    def test_one_timer(self) -> None:
        """A thousand waits cost one timer, and none after the end."""
        for _ in range(1000):
            self.sweeper.watch(Waiter())
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        self.sweeper.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.sweeper.stop()

    def test_unwatch(self) -> None:
        """Who waits no more is asked no more; even twice."""
        one = Waiter()
        self.sweeper.watch(one)
        self.sweeper.unwatch(one)
        self.sweeper.unwatch(one)
        self.clock.advance(1)
        self.assertEqual([], one.asked)

    def test_leaving_during_a_sweep(self) -> None:
        """Who is asked may end others."""
        sweeper = self.sweeper
        others = [Waiter() for _ in range(5)]

        class Ending:
            def check(self, now: float) -> float:
                for other in others:
                    sweeper.unwatch(other)
                return now

        for each in others:
            sweeper.watch(each)
        sweeper.watch(Ending())
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertLessEqual(max(len(other.asked) for other in others), 1)

    def test_a_defect_ends_nothing_else(self) -> None:
        """One who fails is logged; the others' limits are kept, and his next one too."""
        one = Waiter()
        self.sweeper.watch(Broken())
        self.sweeper.watch(one)
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual(2, len(one.asked))
        self.assertEqual(2, len(self.flushLoggedErrors(RuntimeError)))

    def test_interval(self) -> None:
        """The shortest limit is kept to within a quarter of it, within reason."""
        for limits, interval in (
            ((300.0, 2.0), 0.5),
            ((300.0, 60.0), MAX_INTERVAL),
            ((0.01, 60.0), MIN_INTERVAL),
        ):
            clock = Clock()
            waiter = Waiter()
            sweeper = Sweeper.for_limits(clock, limits)
            sweeper.watch(waiter)
            sweeper.start()
            clock.advance(interval * 0.9)
            self.assertEqual([], waiter.asked)
            clock.advance(interval * 0.2)
            self.assertEqual(1, len(waiter.asked))
            sweeper.stop()
