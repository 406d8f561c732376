"""What several processes counted, as one: whoever ends, counters never fall."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.observe.families import DURATION_BOUNDS, LAG, OTHER
from pyproxy.observe.metrics import ROWS_AT_ONCE, Metrics
from pyproxy.observe.rows import MAX_MODELS, Key
from pyproxy.observe.totals import Totals
from tests.observe.ended import over

CONNECTIONS = "pyproxy_client_connections"
REQUESTS = slice(0, len(DURATION_BOUNDS) + 1)
"""Where the first family, the durations, has its buckets."""


def process(connections: int = 1) -> Metrics:
    """Return what counts in a process that was just started."""
    metrics = Metrics.of(Clock())
    metrics.gauges[CONNECTIONS] = lambda: connections
    return metrics


def tell(totals: Totals, worker: int, metrics: Metrics) -> None:
    """Let a process tell all that it has, as it comes through a pipe."""
    start, more = 0, True
    while more:
        page: dict[str, Any] = json.loads(json.dumps(metrics.page(start)))
        totals.take(worker, page)
        start, more = start + ROWS_AT_ONCE, page["more"]


def requests(totals: Totals) -> dict[Key, float]:
    """Return how many requests of what have ended."""
    *_, rows = totals.sum()
    return {key: sum(numbers[REQUESTS]) for key, numbers in rows.items()}


class TotalsTests(SynchronousTestCase):
    """Two workers."""

    def setUp(self) -> None:
        """Start them."""
        self.totals = Totals()
        self.one, self.two = process(3), process(4)

    def gather(self, *workers: tuple[int, Metrics]) -> None:
        """Ask all; let some answer."""
        self.totals.ask_anew()
        for number, metrics in workers:
            tell(self.totals, number, metrics)

    def count(self, path: str = "/") -> float:
        """Return the requests of a route."""
        return sum(number for key, number in requests(self.totals).items() if key[0] == path)

    def test_sums(self) -> None:
        """Rows of the same are added, others stand beside each other, gauges are sums."""
        self.one.record(over(route="/a"))
        self.two.record(over(route="/a"))
        self.two.record(over(route="/b"))
        self.gather((1, self.one), (2, self.two))
        self.assertEqual((2, 1), (self.count("/a"), self.count("/b")))
        self.assertEqual((7, 2), (self.totals.gauge(CONNECTIONS), self.totals.living))

    def test_again(self) -> None:
        """What is told again is not counted twice."""
        self.one.record(over())
        for _ in range(3):
            self.gather((1, self.one))
        self.assertEqual(1, self.count())

    def test_many_rows(self) -> None:
        """Several pages, also with rows that came between them."""
        for number in range(ROWS_AT_ONCE * 2 + 10):
            self.one.record(over(route=f"/{number}"))
        page = json.loads(json.dumps(self.one.page(0)))
        self.totals.take(1, page)
        self.one.record(over(route="/0"))
        tell(self.totals, 1, self.one)
        self.assertEqual(ROWS_AT_ONCE * 2 + 11, sum(requests(self.totals).values()))

    def test_worker_ends(self) -> None:
        """What it counted stays, what it had open does not; its successor begins at nothing."""
        self.one.record(over())
        self.two.record(over())
        self.two.opened = lambda: [over()]
        self.gather((1, self.one), (2, self.two))
        self.assertEqual({"/": [1, 0]}, self.totals.open(["/"]))
        self.gather((1, self.one))
        self.assertEqual((2, 3, 1), (self.count(), self.totals.gauge(CONNECTIONS), 1))
        self.assertEqual({"/": [0, 0]}, self.totals.open(["/"]))
        successor = process(5)
        self.gather((1, self.one), (2, successor))
        self.assertEqual((2, 8), (self.count(), self.totals.gauge(CONNECTIONS)))
        successor.record(over())
        self.gather((1, self.one), (2, successor))
        self.assertEqual(3, self.count())

    def test_silent(self) -> None:
        """A worker that does not answer has counted what it said last."""
        self.one.record(over())
        self.gather((1, self.one))
        self.gather()
        self.assertEqual((1, 0), (self.count(), self.totals.living))

    def test_page_of_a_successor(self) -> None:
        """A second page whose first was of another process is left for the next time."""
        for number in range(ROWS_AT_ONCE + 1):
            self.one.record(over(route=f"/{number}"))
        self.totals.take(1, self.two.page(0))
        self.totals.take(1, json.loads(json.dumps(self.one.page(ROWS_AT_ONCE))))
        self.assertEqual({}, requests(self.totals))
        self.gather((1, self.one))
        self.assertEqual(ROWS_AT_ONCE + 1, sum(requests(self.totals).values()))

    def test_lag(self) -> None:
        """It is summed too, and stays."""
        for metrics in (self.one, self.two):
            metrics.lag.numbers[0] += 5
            metrics.lag.numbers[-1] += 0.25
        self.gather((1, self.one), (2, self.two))
        self.gather((1, process()), (2, self.two))
        self.assertEqual((10, 0.5), (self.totals.lag[0], self.totals.lag[-1]))
        self.assertEqual(LAG.size, len(self.totals.lag))

    def test_models(self) -> None:
        """Of many workers together there are no more models than of one."""
        for number in range(MAX_MODELS):
            self.one.record(over(model=f"a{number}"))
            self.two.record(over(model=f"b{number}"))
        self.gather((1, self.one), (2, self.two))
        models = {key[3] for key in requests(self.totals)}
        self.assertEqual((MAX_MODELS + 1, True), (len(models), OTHER in models))
        before = requests(self.totals)
        # In the other order, and with the first of them gone.
        self.gather((2, self.two), (1, process()))
        self.assertEqual(before, requests(self.totals))

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("record"), st.integers(0, 2), st.sampled_from("abcdef")),
                st.tuples(st.just("gather"), st.sets(st.integers(0, 2)), st.just("")),
                st.tuples(st.just("end"), st.integers(0, 2), st.just("")),
            )
        )
    )
    def test_never_falls(self, steps: list[tuple[str, Any, str]]) -> None:
        """Whatever happens in whichever order, no counter is ever less than it was."""
        totals = Totals()
        workers = {number: process() for number in range(3)}
        before: dict[Key, float] = {}
        for step, which, model in steps:
            if step == "record":
                workers[which].record(over(model=model))
            elif step == "end":
                workers[which] = process()
            else:
                totals.ask_anew()
                for number in which:
                    tell(totals, number, workers[number])
                now = requests(totals)
                for key, count in before.items():
                    self.assertGreaterEqual(now[key], count)
                before = now
