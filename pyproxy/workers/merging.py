"""Of the answers of several workers one answer.

Each has a cache of its own, unless it says that the store is shared: then one of them tells of it
for all.  What they have counted is left to who asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pyproxy.life.board import (
    BoardLook,
    BoardStop,
    BoardStopAll,
    TraceLeave,
    TraceLook,
    together,
)
from pyproxy.life.desk import Counting, Document, Purging, within
from pyproxy.life.measuring import Measuring
from pyproxy.workers.handover import Question

_SERVED = ("hits", "stale", "validated", "collapsed")


def merged(asked: Question, answers: Mapping[int, Document], silent: Collection[int]) -> Document:
    """Return the answer of all.

    Args: answers by the workers' numbers, one at least; the numbers of those that gave none.
    """
    found: Document
    if isinstance(asked, Measuring):
        found = {"workers": dict(answers)}
    elif isinstance(asked, BoardLook | BoardStop | BoardStopAll | TraceLook | TraceLeave):
        found = together(asked, answers)
    elif isinstance(asked, Counting):
        found = _counts(answers)
    elif isinstance(asked, Purging):
        found = {"purged": sum(answer["purged"] for answer in answers.values())}
    else:
        found = _entries(answers, asked.most)
    return {**found, "silent": sorted(silent)}


def _counts(answers: Mapping[int, Document]) -> Document:
    stores = [answer["store"] for answer in answers.values()]
    store = stores[0] if stores[0]["shared"] else _sum(stores)
    names = dict.fromkeys(name for answer in answers.values() for name in answer["routes"])
    routes = {
        name: _with_rate(
            _sum(one["routes"][name] for one in answers.values() if name in one["routes"])
        )
        for name in names
    }
    return {"store": store, "routes": routes}


def _sum(documents: Iterable[Document]) -> Document:
    """Return the sums of what are numbers; of anything else the first one's."""
    total: Document = {}
    for document in documents:
        for name, value in document.items():
            if name not in total:
                total[name] = value
            elif isinstance(value, int | float) and not isinstance(value, bool):
                total[name] += value
    return total


def _with_rate(route: Document) -> Document:
    """Return a route's figures with the rate that follows from them."""
    served = sum(route[name] for name in _SERVED)
    lookups = served + route["misses"]
    return {**route, "hit_rate": served / lookups if lookups else 0.0}


def _entries(answers: Mapping[int, Document], most: int) -> Document:
    first = next(iter(answers.values()))
    if first["shared"]:
        return dict(first)
    found = [
        {**entry, "worker": number}
        for number, answer in sorted(answers.items())
        for entry in answer["entries"]
    ]
    kept = within(found, most)
    more = len(kept) < len(found) or any(answer["more"] for answer in answers.values())
    return {"entries": kept, "more": more, "shared": False}
