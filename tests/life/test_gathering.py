"""How what all processes have counted comes together."""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.life.desk import Document, NobodyAnswers
from pyproxy.life.gathering import MOST_PAGES, Gatherer
from pyproxy.life.measuring import Measuring
from pyproxy.observe.metrics import ROWS_AT_ONCE, Metrics
from pyproxy.observe.totals import Totals
from tests.observe.ended import over


@attrs.define(eq=False)
class Processes:
    """Processes that answer.  Attributes: starts, from which row they were asked."""

    metrics: dict[int, Metrics]
    starts: list[int] = attrs.Factory(list)
    error: Exception | None = None

    def ask_metrics(self, asked: Measuring) -> Deferred[Document | None]:
        """Answer at once."""
        self.starts.append(asked.start)
        if self.error is not None:
            return fail(self.error)
        pages = {number: one.page(asked.start) for number, one in self.metrics.items()}
        return succeed({"workers": pages, "silent": []} if pages else None)


class GathererTests(SynchronousTestCase):
    """Two processes."""

    def setUp(self) -> None:
        """Start them."""
        self.processes = Processes({1: Metrics.of(Clock()), 2: Metrics.of(Clock())})
        self.totals = Totals()
        self.gatherer = Gatherer(self.totals, self.processes)

    def count(self) -> int:
        """Gather; return how many rows there are."""
        self.assertIsNone(self.successResultOf(self.gatherer.gather()))
        *_, rows = self.totals.sum()
        return len(rows)

    def test_pages(self) -> None:
        """They are asked until none has more."""
        for number in range(2 * ROWS_AT_ONCE + 1):
            self.processes.metrics[1].record(over(route=f"/{number}"))
        self.processes.metrics[2].record(over(route="/x"))
        self.assertEqual(2 * ROWS_AT_ONCE + 2, self.count())
        self.assertEqual([0, ROWS_AT_ONCE, 2 * ROWS_AT_ONCE], self.processes.starts)

    def test_without_end(self) -> None:
        """A process that says that it has ever more is not asked for ever."""

        class Endless(Metrics):
            def page(self, start: int) -> Document:
                return {**super().page(start), "more": True}

        self.processes.metrics[1] = Endless.of(Clock())
        self.assertEqual(0, self.count())
        self.assertEqual(MOST_PAGES, len(self.processes.starts))

    def test_none(self) -> None:
        """Nothing is counted, or nobody answers: that is no error."""
        self.processes.metrics = {}
        self.assertEqual(0, self.count())
        self.processes.error = NobodyAnswers("none runs")
        self.assertEqual(0, self.count())
        self.assertEqual(0, self.totals.living)

    def test_defect(self) -> None:
        """Any other error is told to all who wait, and the next time is a new one."""
        self.processes.error = KeyError("a")
        self.failureResultOf(self.gatherer.gather(), KeyError)
        self.processes.error = None
        self.assertEqual(0, self.count())
