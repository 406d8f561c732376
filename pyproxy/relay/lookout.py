"""Looking at a connection now and then, where no event would tell what has become of it."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

LOOK_INTERVAL = 0.03
"""Seconds between two looks.

Three of them take less than the 100 ms in which the upstream is to be closed behind a client that
left: one may pass before that is seen, and two until what is on its way is given up.
"""

LINGER_SECONDS = 5.0
"""Seconds that a peer which was told of the end may take to close its side; nginx has 5 s too."""


@attrs.define(eq=False)
class Lookout:
    """Looks again and again until there is nothing more to look for.

    Args: look returns whether to look once more.
    """

    _clock: IReactorTime
    _look: Callable[[], bool]
    _call: IDelayedCall | None = None

    def begin(self) -> None:
        """Look after an interval, unless that is going to happen anyway."""
        if self._call is None:
            self._call = self._clock.callLater(LOOK_INTERVAL, self._now)

    def end(self) -> None:
        """Look no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _now(self) -> None:
        self._call = None
        if self._look():
            self.begin()
