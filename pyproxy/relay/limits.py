"""Time limits of everything that waits, kept by one timer.

A wait costs two set operations instead of a timer of its own; whoever waits is asked now and then
whether it moved.  A limit is therefore kept to within one interval.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

MIN_INTERVAL = 0.05
MAX_INTERVAL = 1.0


class Waiting(Protocol):
    """Somebody who waits and wants to be asked about it."""

    def check(self, now: float) -> None:
        """End the wait when it has lasted too long.  Args: now in seconds of the clock."""


@attrs.define(eq=False)
class Sweeper:
    """Asks everybody who waits, once per interval.

    Attributes:
        now: the clock's seconds at the last sweep; cheap, and late by at most one interval.
    """

    _clock: IReactorTime
    _interval: float
    now: float = 0.0
    _waiting: set[Waiting] = attrs.Factory(set)
    _call: LoopingCall | None = None
    _log: Logger = Logger()

    @classmethod
    def for_limits(cls, clock: IReactorTime, limits: Iterable[float]) -> Sweeper:
        """Make a sweeper that keeps the shortest of some limits to within a quarter of it."""
        interval = min(limits) / 4
        return cls(clock, max(MIN_INTERVAL, min(MAX_INTERVAL, interval)), clock.seconds())

    def start(self) -> None:
        """Begin to sweep."""
        self.now = self._clock.seconds()
        self._call = LoopingCall(self._sweep)
        self._call.clock = self._clock
        done = self._call.start(self._interval, now=False)
        done.addErrback(
            lambda failure: self._log.failure("the sweep of time limits ended", failure)
        )

    def stop(self) -> None:
        """End the sweeping; nobody's limit is kept any more."""
        if self._call is not None and self._call.running:
            self._call.stop()

    def watch(self, waiting: Waiting) -> None:
        """Ask somebody from now on."""
        self._waiting.add(waiting)

    def unwatch(self, waiting: Waiting) -> None:
        """Ask somebody no more."""
        self._waiting.discard(waiting)

    def _sweep(self) -> None:
        self.now = now = self._clock.seconds()
        for waiting in list(self._waiting):
            try:
                waiting.check(now)
            except Exception:  # noqa: BLE001
                # One defect must not end every other limit.
                self._log.failure("a time limit could not be kept")
