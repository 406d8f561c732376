"""Counts of the last hour."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.observe.hour import BOUNDS, MINUTES, Hour, together

NOON = 43_200.0


class HourTests(SynchronousTestCase):
    """An hour."""

    def test_counts(self) -> None:
        """Each exchange counts once in its minute, and in the range that its times are in."""
        hour = Hour()
        hour.add(NOON, 0.001, None, failed=False)
        hour.add(NOON + 60, 1e6, 0.0011, failed=True)
        shown = hour.shown(NOON + 60)
        self.assertEqual([1, 1], shown["minutes"][-2:])
        self.assertEqual([0, 1], shown["failed"][-2:])
        self.assertEqual((1, 1), (shown["duration"][0], shown["duration"][len(BOUNDS)]))
        self.assertEqual([0, 1, 0], shown["first"][:3])
        self.assertEqual(1, sum(shown["first"]))

    def test_forgets(self) -> None:
        """What is older than an hour is told no more, and kept no longer."""
        hour = Hour()
        for minute in range(3 * MINUTES):
            hour.add(NOON + 60 * minute, 1.0, 1.0, failed=False)
        self.assertEqual(MINUTES, len(hour._minutes))
        shown = hour.shown(NOON + 60 * (3 * MINUTES - 1))
        self.assertEqual([1] * MINUTES, shown["minutes"])
        self.assertEqual([0] * MINUTES, hour.shown(NOON + 60 * 5 * MINUTES)["minutes"])

    def test_clock_set_back(self) -> None:
        """A clock that is set back lets no more be kept."""
        hour = Hour()
        for minute in reversed(range(3 * MINUTES)):
            hour.add(NOON + 60 * minute, 1.0, None, failed=False)
        self.assertLessEqual(len(hour._minutes), MINUTES)

    def test_together(self) -> None:
        """Of several processes the sums; one that was asked a minute before is moved by one."""
        hours = [Hour(), Hour()]
        for hour in hours:
            hour.add(NOON, 1.0, 1.0, failed=True)
        whole = together([hours[0].shown(NOON), hours[1].shown(NOON + 60)])
        self.assertEqual([2, 0], whole["minutes"][-2:])
        self.assertEqual([2, 0], whole["failed"][-2:])
        self.assertEqual((2, 2), (sum(whole["first"]), sum(whole["duration"])))
