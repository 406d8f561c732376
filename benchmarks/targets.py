"""What the project asks of its own proxy, as data, and whether a run fulfils it.

A bound is a ratio to a peer in the same run, or a figure by itself where no peer is named.  Delays
are compared as they are, not by what a proxy adds: that is a small difference of larger figures,
noisy and at times negative, and with the peer's own figure for a bound both say the same.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

HOLDS = "holds"
MISSED = "MISSED"
UNKNOWN = "not measured"

Median = Callable[[str, str, str], float | None]
"""Returns the median of a measure's figure for a system, None when there was none."""


@attrs.frozen
class Bound:
    """The worst that is allowed: so many times the peer's figure and as much more, or so much."""

    value: float
    peer: str | None = None
    plus: float = 0.0
    """In the figure's unit; what is measured is the ratio of what is above it."""


@attrs.frozen
class Target:
    """What one figure has to be at least, and what it should become."""

    measure: str
    figure: str
    at_least: Bound
    aim: Bound
    more_is_better: bool = False


@attrs.frozen
class Finding:
    """A bound beside what was measured."""

    bound: Bound
    measured: float | None
    verdict: str


@attrs.frozen
class Judged:
    """A target beside what was measured."""

    target: Target
    value: float | None
    at_least: Finding
    aim: Finding


TARGETS = (
    Target("small", "CPU", Bound(0.45, "aiohttp"), Bound(2.5, "nginx")),
    Target("small", "rate", Bound(2.2, "aiohttp"), Bound(0.4, "nginx"), more_is_better=True),
    Target("latency", "median", Bound(1.0, "aiohttp"), Bound(1.0, "caddy")),
    Target("fields", "CPU", Bound(0.55, "aiohttp"), Bound(0.7, "caddy")),
    Target("post", "CPU", Bound(0.55, "aiohttp"), Bound(1.0, "caddy")),
    Target("answer", "CPU", Bound(0.6, "aiohttp"), Bound(0.6, "caddy")),
    Target("steps", "p99", Bound(1.0, "nginx", plus=1000), Bound(1.0, "caddy")),
    Target("steps", "p99.9", Bound(1.0, "nginx", plus=1000), Bound(1.0, "caddy")),
    Target("idle-8000", "CPU", Bound(1.0), Bound(0.5)),
    Target("download", "CPU", Bound(1.0, "aiohttp"), Bound(1.2, "nginx")),
    Target("upload", "CPU", Bound(0.7, "aiohttp"), Bound(1.2, "nginx")),
    Target("events", "CPU", Bound(0.8, "aiohttp"), Bound(1.3, "nginx")),
    Target("events-latency", "median", Bound(1.0, "aiohttp"), Bound(1.0, "caddy")),
    Target("flood", "CPU", Bound(1.0, "aiohttp"), Bound(2.0, "nginx")),
    Target("memory", "stream", Bound(14.0), Bound(8.0)),
    Target("start", "start", Bound(600.0), Bound(400.0)),
)


def judge(target: Target, subject: str, median: Median) -> Judged:
    """Compare a target with what was measured."""
    value = median(target.measure, target.figure, subject)

    def find(bound: Bound) -> Finding:
        measured = value
        if bound.peer is not None:
            peer = median(target.measure, target.figure, bound.peer)
            measured = None
            if value is not None and peer is not None and peer > 0:
                measured = (value - bound.plus) / peer
        if measured is None:
            return Finding(bound, None, UNKNOWN)
        good = measured >= bound.value if target.more_is_better else measured <= bound.value
        return Finding(bound, measured, HOLDS if good else MISSED)

    return Judged(target, value, find(target.at_least), find(target.aim))


def missed(judged: list[Judged]) -> list[Judged]:
    """Return those that do not hold at least; one that could not be measured does not."""
    return [one for one in judged if one.at_least.verdict != HOLDS]
