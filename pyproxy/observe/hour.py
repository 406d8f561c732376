"""How many exchanges ended in each minute of the last hour, and how long they took."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import attrs

MINUTES = 60
"""Minutes that are remembered."""

BOUNDS = tuple(0.001 * 2**power for power in range(23))
"""Upper bounds of the ranges in which times are counted, in seconds; one range more is longer."""

Document = dict[str, Any]


def _none() -> list[int]:
    return [0] * (len(BOUNDS) + 1)


@attrs.define(eq=False)
class _Minute:
    number: int
    ended: int = 0
    failed: int = 0
    first: list[int] = attrs.Factory(_none)
    duration: list[int] = attrs.Factory(_none)


@attrs.define(eq=False)
class Hour:
    """Counts by minutes; what is older than an hour is forgotten.

    Attributes: changes, how often something was counted.
    """

    changes: int = 0
    _minutes: dict[int, _Minute] = attrs.Factory(dict)

    def add(self, at: float, duration: float, first: float | None, failed: bool) -> None:
        """Count an exchange.

        Args: when it ended, in seconds of the epoch; seconds from its head to its end, and to its
            first content, None without any.
        """
        number = int(at // 60)
        minute = self._minutes.get(number)
        if minute is None:
            self._minutes[number] = minute = _Minute(number)
            for old in [one for one in self._minutes if one <= number - MINUTES]:
                del self._minutes[old]
            while len(self._minutes) > MINUTES:
                # The clock was set back.
                del self._minutes[max(self._minutes)]
        self.changes += 1
        minute.ended += 1
        minute.failed += failed
        minute.duration[bisect_left(BOUNDS, duration)] += 1
        if first is not None:
            minute.first[bisect_left(BOUNDS, first)] += 1

    def shown(self, now: float) -> Document:
        """Return all counts.

        Returns: the number of the present ``minute``; how many ``minutes`` long ended in each, and
            ``failed``, the present one last; how many in each range of times to the ``first``
            content and of ``duration``; the ``bounds`` of those ranges in seconds.
        """
        present = int(now // 60)
        hour = [self._minutes.get(one) for one in range(present - MINUTES + 1, present + 1)]
        known = [minute for minute in hour if minute is not None]
        return {
            "minute": present,
            "minutes": [0 if minute is None else minute.ended for minute in hour],
            "failed": [0 if minute is None else minute.failed for minute in hour],
            "first": _sums(minute.first for minute in known),
            "duration": _sums(minute.duration for minute in known),
            "bounds": list(BOUNDS),
        }


def _sums(lists: Iterable[list[int]]) -> list[int]:
    return [sum(column) for column in zip(_none(), *lists, strict=True)]


def together(hours: Iterable[Document]) -> Document:
    """Return the counts of several processes as one; their present minutes may differ by some."""
    all_hours = list(hours)
    present = max(hour["minute"] for hour in all_hours)
    total: Document = Hour().shown(present * 60)
    for hour in all_hours:
        late = min(present - hour["minute"], MINUTES)
        for name in ("minutes", "failed"):
            values = hour[name][late:] + [0] * late
            total[name] = [a + b for a, b in zip(total[name], values, strict=True)]
        for name in ("first", "duration"):
            total[name] = [a + b for a, b in zip(total[name], hour[name], strict=True)]
    return total
