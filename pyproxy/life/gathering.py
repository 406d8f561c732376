"""How what all processes have counted comes together.

Must not know how it is written for who asked.
"""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred

from pyproxy.life.desk import NobodyAnswers
from pyproxy.life.measuring import Measured, Measuring
from pyproxy.observe.metrics import ROWS_AT_ONCE
from pyproxy.observe.rows import MAX_ROWS
from pyproxy.observe.totals import Totals

MOST_PAGES = MAX_ROWS // ROWS_AT_ONCE + 1
"""How often a process is asked for more rows."""


@attrs.define(eq=False)
class Gatherer:
    """Gathers what all processes have counted; who asks meanwhile waits for the same.

    One after the other, as an older answer that came later would make counters fall.
    """

    totals: Totals
    _measured: Measured
    _waiting: list[Deferred[None]] = attrs.Factory(list)

    def gather(self) -> Deferred[None]:
        """Bring the totals up to date, as far as processes answer."""
        waiting: Deferred[None] = Deferred(self._left)
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            Deferred.fromCoroutine(self._gather()).addBoth(self._gathered)
        return waiting

    async def _gather(self) -> None:
        self.totals.ask_anew()
        for number in range(MOST_PAGES):
            try:
                found = await self._measured.ask_metrics(Measuring(number * ROWS_AT_ONCE))
            except NobodyAnswers:
                return
            pages = {} if found is None else found["workers"]
            for worker, page in pages.items():
                self.totals.take(worker, page)
            if not any(page["more"] for page in pages.values()):
                return

    def _gathered(self, result: object) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.called:
                one.callback(result)  # type: ignore[arg-type]

    def _left(self, waiting: Deferred[None]) -> None:
        """Gather to the end, though nobody waits for it any more."""
