"""How late the event loop is: what a call sees that is due at fixed times."""

from __future__ import annotations

from bisect import bisect_left

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from pyproxy.observe.families import LAG

INTERVAL = 0.5
"""Seconds between two looks."""

_log = Logger("pyproxy")


@attrs.define(eq=False)
class LoopLag:
    """Measures while it runs.

    Attributes: numbers, as ``families.LAG`` has them.
    """

    _clock: IReactorTime
    numbers: list[float] = attrs.Factory(lambda: [0] * LAG.size)
    _due: float = 0.0
    _call: LoopingCall | None = None

    def start(self) -> None:
        """Begin."""
        self._due = self._clock.seconds() + INTERVAL
        self._call = call = LoopingCall(self._look)
        call.clock = self._clock
        done = call.start(INTERVAL, now=False)
        done.addErrback(lambda failure: _log.failure("the lag is measured no more", failure))

    def stop(self) -> None:
        """Measure no more."""
        if self._call is not None and self._call.running:
            self._call.stop()

    def _look(self) -> None:
        now = self._clock.seconds()
        late = max(0.0, now - self._due)
        numbers = self.numbers
        numbers[bisect_left(LAG.bounds, late)] += 1
        numbers[-1] += late
        # Whoever was late for several times is called once for them.
        self._due += INTERVAL * (1 + late // INTERVAL)
