"""Looking at a connection now and then."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.relay.lookout import LOOK_INTERVAL, Lookout

PROMISE = 0.1
"""Seconds in which an upstream is closed once its client has left."""


class LookoutTests(SynchronousTestCase):
    """One timer, as long as there is something to look for."""

    def setUp(self) -> None:
        """Begin with nothing to look for."""
        self.clock = Clock()
        self.looks: list[float] = []
        self.most = 3
        self.lookout = Lookout(self.clock, self.look)

    def look(self) -> bool:
        """Take note, and look for so many times."""
        self.looks.append(round(self.clock.seconds() / LOOK_INTERVAL, 3))
        return len(self.looks) < self.most

    def pass_time(self, intervals: int) -> None:
        """Let so many intervals pass."""
        self.clock.pump([LOOK_INTERVAL] * intervals)

    def test_nothing_before_it_begins(self) -> None:
        """A lookout that was only made costs no timer."""
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_until_there_is_nothing_more(self) -> None:
        """It looks once per interval, and no more once the answer is no."""
        self.lookout.begin()
        self.pass_time(10)
        self.assertEqual([1, 2, 3], self.looks)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_begun_again(self) -> None:
        """Beginning while it looks changes nothing; once it has stopped it looks anew."""
        for _ in range(5):
            self.lookout.begin()
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        self.pass_time(10)
        self.most = 4
        self.lookout.begin()
        self.pass_time(10)
        self.assertEqual([1, 2, 3, 11], self.looks)

    def test_begun_within_a_look(self) -> None:
        """A look that finds a reason to begin does not double the timer."""

        def look() -> bool:
            self.looks.append(self.clock.seconds())
            self.lookout.begin()
            return True

        self.lookout = Lookout(self.clock, look)
        self.lookout.begin()
        self.pass_time(4)
        self.assertEqual(4, len(self.looks))
        self.assertEqual(1, len(self.clock.getDelayedCalls()))

    def test_ended(self) -> None:
        """Nothing is looked at any more, and no timer is left; twice is once."""
        self.lookout.begin()
        for _ in range(2):
            self.lookout.end()
            self.assertEqual([], self.clock.getDelayedCalls())
        self.pass_time(3)
        self.assertEqual([], self.looks)

    def test_ended_within_a_look(self) -> None:
        """A look that ends it, and says that there is nothing more, leaves no timer."""

        def look() -> bool:
            self.lookout.end()
            return False

        self.lookout = Lookout(self.clock, look)
        self.lookout.begin()
        self.pass_time(2)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_three_looks_are_in_time(self) -> None:
        """To see, to see that nothing moved, to end: within what is promised (FIELD 1)."""
        self.assertLess(3 * LOOK_INTERVAL, PROMISE)
