"""Threads that do a store's work, and what becomes of it."""

from __future__ import annotations

from threading import Event, get_ident

from pyproxy.cache.disk.lane import Lane, nobody
from tests.turning import TurningTestCase


def fail() -> None:
    """Fail."""
    raise OSError(5, "broken")


class LaneTests(TurningTestCase):
    """A line of jobs."""

    def lane(self, threads: int = 1, most: int = 1000) -> Lane:
        """Make a lane that ends with the test."""
        lane = Lane(self.reactor, threads, most)
        self.addCleanup(lane.close)
        return lane

    def test_order(self) -> None:
        """One thread does what it is asked in order; the reactor's thread is told in order."""
        lane = self.lane()
        done: list[int] = []
        told: list[object] = []

        def do(number: int) -> int:
            done.append(number)
            return number

        for number in range(100):
            self.assertTrue(lane.call(told.append, do, number))
        self.turn_until(lambda: len(told) == 100)
        self.assertEqual((done, told), ([*range(100)], [*range(100)]))
        self.assertEqual(lane.waiting, 0)

    def test_threads(self) -> None:
        """It is done elsewhere, and told here."""
        told: list[tuple[object, int]] = []
        self.lane().call(lambda result: told.append((result, get_ident())), get_ident)
        self.turn_until(lambda: told)
        self.assertNotEqual(told[0][0], get_ident())
        self.assertEqual(told[0][1], get_ident())

    def test_failure(self) -> None:
        """Who waits gets the failure; the next job is done."""
        told: list[object] = []
        lane = self.lane()
        lane.call(told.append, fail)
        lane.call(told.append, int)
        self.turn_until(lambda: len(told) == 2)
        self.assertIsInstance(told[0], OSError)
        self.assertEqual(told[1], 0)

    def test_failing_listener(self) -> None:
        """One who fails when told is logged, and the others are told."""
        told: list[object] = []
        lane = self.lane()
        lane.call(lambda _: fail(), int)
        lane.call(told.append, int)
        self.turn_until(lambda: told)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_bound(self) -> None:
        """Jobs over the bound are refused, until others are done; and all once it is closed."""
        gate = Event()
        self.addCleanup(gate.set)
        lane = self.lane(most=2)
        self.assertTrue(lane.call(nobody, gate.wait))
        self.assertTrue(lane.call(nobody, int))
        self.assertFalse(lane.call(nobody, int))
        gate.set()
        self.turn_until(lambda: not lane.waiting)
        self.assertTrue(lane.call(nobody, int))
        lane.close()
        lane.close()
        self.assertFalse(lane.call(nobody, int))

    def test_one_that_hangs(self) -> None:
        """With several threads one that hangs does not keep the others."""
        gate = Event()
        self.addCleanup(gate.set)
        lane = self.lane(threads=2)
        told: list[object] = []
        lane.call(nobody, gate.wait)
        lane.call(told.append, int)
        self.turn_until(lambda: told)
