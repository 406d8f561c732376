"""What Python's collector of cycles need not look at."""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.collector import importing


class ImportingTests(SynchronousTestCase):
    """Nothing is collected while modules are imported."""

    def setUp(self) -> None:
        """Leave the collector as it was."""
        self.addCleanup(gc.enable)
        self.addCleanup(gc.unfreeze)

    def test_rest(self) -> None:
        """The collector rests, and what was made meanwhile is never its business."""
        before = gc.get_freeze_count()
        with importing():
            self.assertFalse(gc.isenabled())
            made = [[number] for number in range(1000)]
        self.assertTrue(gc.isenabled())
        self.assertGreaterEqual(gc.get_freeze_count() - before, len(made))

    def test_failure(self) -> None:
        """A module that cannot be imported does not keep it from working."""

        def fail() -> None:
            with importing():
                raise ImportError

        self.assertRaises(ImportError, fail)
        self.assertTrue(gc.isenabled())

    def test_off(self) -> None:
        """Who has switched it off wants it to stay so."""
        gc.disable()
        with importing():
            self.assertFalse(gc.isenabled())
        self.assertFalse(gc.isenabled())
