"""What several processes counted, as one: counters never fall, gauges are of those that live.

Must not know how a process is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import add
from typing import Any

import attrs

from pyproxy.observe.families import LAG
from pyproxy.observe.rows import Key, Names, Numbers

ROWS_A_PIECE = 64
"""Rows that are added in one piece: 0.3 ms."""


@attrs.define(eq=False)
class _Process:
    """What a process has said last.

    Attributes:
        rows: its own keys and numbers, in its order.
        fresh: it has said so since it was asked last.
    """

    name: str
    rows: list[tuple[Key, Numbers]] = attrs.Factory(list)
    lag: Numbers = attrs.Factory(list)
    gauges: dict[str, float] = attrs.Factory(dict)
    open: dict[str, list[int]] = attrs.Factory(dict)
    fresh: bool = False


@attrs.define(eq=False)
class Totals:
    """Keeps what was said last, and adds it up.

    Attributes: silent, how many processes were asked last and have not answered.
    """

    silent: int = 0
    _names: Names = attrs.Factory(Names)
    _gone: dict[Key, Numbers] = attrs.Factory(dict)
    _gone_lag: Numbers = attrs.Factory(lambda: [0] * LAG.size)
    _processes: dict[int, _Process] = attrs.Factory(dict)

    def ask_anew(self) -> None:
        """Take note that all are asked: who does not answer now has no gauges."""
        for process in self._processes.values():
            process.fresh = False

    def take(self, worker: int, page: Mapping[str, Any]) -> None:
        """Take what a process says: a page of ``Metrics``.

        Args: the worker's number; of two processes that had the same the first has ended.
        """
        process = self._processes.get(worker)
        if process is None or process.name != page["process"]:
            if process is not None:
                self._let_go(process)
            process = self._processes[worker] = _Process(page["process"])
        start = page["start"]
        if start > len(process.rows):
            # The pages before were another process's.
            return
        if start == 0:
            process.open = page["open"]
            process.fresh = True
        rows = [(_key_of(key), numbers) for key, numbers in page["rows"]]
        process.rows[start : start + len(rows)] = rows
        process.lag, process.gauges = page["lag"], page["gauges"]

    def _let_go(self, process: _Process) -> None:
        for key, numbers in process.rows:
            _add(self._gone, self._names.admit(key), numbers)
        if process.lag:
            self._gone_lag[:] = map(add, self._gone_lag, process.lag)

    def sum(self) -> Iterator[dict[Key, Numbers]]:
        """Add the rows of all, a piece at each step; the last one has them whole."""
        total: dict[Key, Numbers] = {}
        sources = [list(self._gone.items()), *(list(one.rows) for one in self._processes.values())]
        for rows in sources:
            for number, (key, numbers) in enumerate(rows, 1):
                _add(total, self._names.admit(key), numbers)
                if number % ROWS_A_PIECE == 0:
                    yield total
        yield total

    @property
    def lag(self) -> Numbers:
        """How late the event loops of all were."""
        total = list(self._gone_lag)
        for process in self._processes.values():
            if process.lag:
                total[:] = map(add, total, process.lag)
        return total

    @property
    def living(self) -> int:
        """How many processes have answered."""
        return sum(process.fresh for process in self._processes.values())

    def gauge(self, name: str) -> float:
        """Return the sum of a gauge, over those that have answered."""
        living = (one for one in self._processes.values() if one.fresh)
        return sum(process.gauges.get(name, 0) for process in living)

    def open(self, routes: Iterable[str]) -> dict[str, list[int]]:
        """Return how many requests and how many WebSockets are open, by route.

        Args: routes that are there if nothing is open, too.
        """
        counts = {route: [0, 0] for route in routes}
        for process in self._processes.values():
            if process.fresh:
                for route, numbers in process.open.items():
                    known = counts.setdefault(self._names.route(route), [0, 0])
                    known[:] = map(add, known, numbers)
        return counts


def _add(rows: dict[Key, Numbers], key: Key, numbers: Numbers) -> None:
    known = rows.get(key)
    rows[key] = list(numbers) if known is None else list(map(add, known, numbers))


def _key_of(key: list[str]) -> Key:
    route, method, status, model = key
    return route, method, status, model
