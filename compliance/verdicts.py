"""Verdicts of the Autobahn test suite, and what differs between two ways to a server.

Pure: reports come in as data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import attrs

BEST_FIRST = (
    "OK",
    "INFORMATIONAL",
    "NON-STRICT",
    "WRONG CODE",
    "UNCLEAN",
    "UNIMPLEMENTED",
    "FAILED BY CLIENT",
    "FAILED",
)
"""What the suite calls a behavior."""


@attrs.frozen
class Verdict:
    """What the suite says of one run of one case."""

    behavior: str
    behavior_close: str
    close_code: int | None
    """The code in the Close frame that the server sent; None when it sent none."""

    def no_worse_than(self, other: Verdict) -> bool:
        """Tell whether nothing about this one is worse than about another.

        What the suite calls the same has to have the same close code as well.
        """
        if self.ranks == other.ranks:
            return self == other
        return all(mine <= theirs for mine, theirs in zip(self.ranks, other.ranks, strict=True))

    @property
    def ranks(self) -> tuple[int, int]:
        """How good behavior and behavior_close are; zero is the best, the unknown the worst."""
        mine = (self.behavior, self.behavior_close)
        first, second = (
            BEST_FIRST.index(each) if each in BEST_FIRST else len(BEST_FIRST) for each in mine
        )
        return first, second

    def __str__(self) -> str:
        code = "no Close" if self.close_code is None else str(self.close_code)
        return f"{self.behavior}/{self.behavior_close}/{code}"


Report = Mapping[str, Verdict]
"""The verdict on each case, by its number."""


def read_report(index: Mapping[str, Mapping[str, Mapping[str, object]]], agent: str) -> Report:
    """Return the verdicts in the suite's ``index.json`` on one server."""
    return {
        case: Verdict(
            behavior=str(found["behavior"]),
            behavior_close=str(found["behaviorClose"]),
            close_code=code if isinstance(code := found["remoteCloseCode"], int) else None,
        )
        for case, found in index.get(agent, {}).items()
    }


def case_order(case: str) -> tuple[int, ...]:
    """Return what cases are sorted by, so that 2.10 comes behind 2.9."""
    return tuple(int(part) for part in case.split("."))


@attrs.define
class Comparison:
    """All verdicts on one server, direct and through the proxy, the repeated runs too.

    The proxy is to blame for a verdict that is worse than every verdict which the server ever got
    without it: where a server gives several, by its own timing, the worst of them counts.
    """

    cases: Sequence[str]
    """Every case that was to run."""
    direct: dict[str, list[Verdict]] = attrs.field(factory=dict)
    proxied: dict[str, list[Verdict]] = attrs.field(factory=dict)

    def add(self, direct: Report, proxied: Report) -> None:
        """Add a run of some of the cases each way."""
        for kept, report in ((self.direct, direct), (self.proxied, proxied)):
            for case, verdict in report.items():
                kept.setdefault(case, []).append(verdict)

    def missing(self) -> list[str]:
        """Return the cases that have no verdict on one of the ways, or on both."""
        return [
            each for each in self.cases if not (self.direct.get(each) and self.proxied.get(each))
        ]

    def unsettled(self) -> list[str]:
        """Return the cases with a verdict that the proxy is to blame for."""
        return [case for case in self._complete() if any(self._blamed(case))]

    def differences(self) -> list[str]:
        """Return the cases whose best verdict through the proxy is one that it is to blame for."""
        return [case for case in self._complete() if all(self._blamed(case))]

    def _blamed(self, case: str) -> list[bool]:
        """Return of each verdict through the proxy whether it is worse than every direct one."""
        return [
            not any(proxied.no_worse_than(direct) for direct in self.direct[case])
            for proxied in self.proxied[case]
        ]

    def unsteady(self) -> list[str]:
        """Return the cases with different verdicts that are no differences."""
        differences = set(self.differences())
        return [
            case
            for case in self._complete()
            if case not in differences and len({*self.direct[case], *self.proxied[case]}) > 1
        ]

    def _complete(self) -> list[str]:
        missing = set(self.missing())
        return [case for case in self.cases if case not in missing]

    def totals(self) -> list[tuple[str, int, int]]:
        """Return the number of cases by the first verdict: behavior, direct, proxied."""
        direct, proxied = (
            Counter(f"{all_[0].behavior}/{all_[0].behavior_close}" for all_ in way.values())
            for way in (self.direct, self.proxied)
        )
        return [(name, direct[name], proxied[name]) for name in sorted({*direct, *proxied})]

    def document(self) -> dict[str, object]:
        """Return everything as data for JSON."""
        return {
            "cases": {
                case: {
                    "direct": [attrs.asdict(each) for each in self.direct.get(case, ())],
                    "proxied": [attrs.asdict(each) for each in self.proxied.get(case, ())],
                }
                for case in self.cases
            },
            "differences": self.differences(),
            "missing": self.missing(),
            "unsteady": self.unsteady(),
        }


def table(comparison: Comparison, cases: Iterable[str]) -> str:
    """Return a line for each case with its verdicts both ways, in the order of the runs."""
    lines = [f"  {'case':<10} {'direct':<40} through the proxy"]
    for case in cases:
        direct, proxied = (
            _runs(way.get(case, ())) for way in (comparison.direct, comparison.proxied)
        )
        lines.append(f"  {case:<10} {direct:<40} {proxied}")
    return "\n".join(lines) + "\n"


def _runs(verdicts: Iterable[Verdict]) -> str:
    counted = Counter(verdicts).items()
    return (
        ", ".join(f"{many} x {each}" if many > 1 else str(each) for each, many in counted) or "none"
    )


def totals_table(comparison: Comparison) -> str:
    """Return a line for each verdict with the number of cases both ways."""
    lines = [f"  {'verdict':<40} {'direct':>7} {'proxied':>8}"]
    lines += [f"  {name:<40} {one:>7} {two:>8}" for name, one, two in comparison.totals()]
    return "\n".join(lines) + "\n"
