"""How late the event loop is."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.observe.families import LAG_BOUNDS
from pyproxy.observe.lag import INTERVAL, LoopLag


class LagTests(SynchronousTestCase):
    """A clock that the test sets."""

    def setUp(self) -> None:
        """Measure."""
        self.clock = Clock()
        self.clock.advance(1234.5)
        self.lag = LoopLag(self.clock)
        self.lag.start()
        self.addCleanup(self.lag.stop)

    def test_in_time(self) -> None:
        """Calls that come when they are due are late by nothing."""
        self.clock.pump([INTERVAL] * 5)
        self.assertEqual((5, 0.0), (self.lag.numbers[0], self.lag.numbers[-1]))

    def test_late(self) -> None:
        """A loop that was held for a time shows as that, and is in time again after it."""
        self.clock.advance(INTERVAL + 0.2)
        self.clock.advance(INTERVAL - 0.2)
        late = LAG_BOUNDS.index(0.25)
        self.assertEqual((1, 1), (self.lag.numbers[0], self.lag.numbers[late]))
        self.assertAlmostEqual(0.2, self.lag.numbers[-1])

    def test_very_late(self) -> None:
        """Held for several intervals: once, with all of the time."""
        self.clock.advance(11 * INTERVAL)
        self.clock.advance(INTERVAL)
        self.assertEqual([1, 1], [number for number in self.lag.numbers[:-1] if number])
        self.assertAlmostEqual(10 * INTERVAL, self.lag.numbers[-1])

    def test_stop(self) -> None:
        """Nothing is left behind."""
        self.lag.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
