"""Turn the rounds into medians, ratios, a table and JSON.  Measures nothing."""

from __future__ import annotations

import statistics
from typing import Any

import attrs

from benchmarks.measures import Figure, Measure
from benchmarks.systems import SUBJECT

Key = tuple[str, str, str]
"""Measure, figure, system."""


@attrs.define
class Results:
    """What every round brought."""

    rounds: dict[Key, list[float]] = attrs.Factory(dict)
    errors: dict[tuple[str, str], int] = attrs.Factory(dict)
    failures: list[str] = attrs.Factory(list)
    skipped: dict[str, str] = attrs.Factory(dict)
    notes: dict[str, str] = attrs.Factory(dict)

    def add(self, measure: Measure, system: str, values: dict[str, float]) -> None:
        """Take the figures of one system in one round."""
        for figure in measure.figures:
            if figure.name in values:
                key = (measure.name, figure.name, system)
                self.rounds.setdefault(key, []).append(values[figure.name])
        errors = int(values.get("errors", 0))
        if errors:
            place = (measure.name, system)
            self.errors[place] = self.errors.get(place, 0) + errors

    def median(self, measure: Measure, figure: Figure, system: str) -> float | None:
        """Return a figure's median over the rounds, None when there was none."""
        values = self.rounds.get((measure.name, figure.name, system))
        return statistics.median(values) if values else None

    def ratio(self, measure: Measure, figure: Figure, peer: str) -> float | None:
        """Return the subject's median by a peer's; None without two positive medians."""
        ours = self.median(measure, figure, SUBJECT)
        theirs = self.median(measure, figure, peer)
        if ours is None or theirs is None or ours <= 0 or theirs <= 0:
            return None
        return ours / theirs


def table(results: Results, measures: list[Measure], systems: list[str]) -> str:
    """Return the medians of every system, then the subject's ratios to its peers."""
    peers = [name for name in systems if name not in (SUBJECT, "direct")]
    medians = [["measure", "figure", "unit", *systems]]
    ratios = [["measure", "figure", "better is", *(f"/{peer}" for peer in peers)]]
    for measure in measures:
        for figure in measure.figures:
            row = [measure.name, figure.name, figure.unit]
            medians.append(row + [_number(results.median(measure, figure, n)) for n in systems])
            row = [measure.name, figure.name, "more" if figure.more_is_better else "less"]
            ratios.append(row + [_ratio(results.ratio(measure, figure, n)) for n in peers])
    parts = [_aligned(medians)]
    if SUBJECT in systems and peers:
        parts += ["", f"{SUBJECT} divided by each of the others:", "", _aligned(ratios)]
    return "\n".join([*parts, *_remarks(results)])


def document(results: Results, measures: list[Measure], systems: list[str]) -> dict[str, Any]:
    """Return everything that was found, ready for JSON."""
    figures = []
    for measure in measures:
        for figure in measure.figures:
            keys = {name: (measure.name, figure.name, name) for name in systems}
            figures.append(
                {
                    "measure": measure.name,
                    "title": measure.title,
                    "figure": figure.name,
                    "unit": figure.unit,
                    "more_is_better": figure.more_is_better,
                    "rounds": {
                        n: results.rounds[k] for n, k in keys.items() if k in results.rounds
                    },
                    "median": {n: results.median(measure, figure, n) for n in systems},
                    "ratio": {
                        n: results.ratio(measure, figure, n) for n in systems if n != SUBJECT
                    },
                }
            )
    return {
        "notes": results.notes,
        "figures": figures,
        "errors": [
            {"measure": measure, "system": system, "errors": count}
            for (measure, system), count in results.errors.items()
        ],
        "failures": results.failures,
        "skipped": results.skipped,
    }


def _remarks(results: Results) -> list[str]:
    remarks = [""]
    remarks += [f"{name}: {text}" for name, text in results.notes.items()]
    remarks += [f"skipped: {name}: {why}" for name, why in results.skipped.items()]
    remarks += [
        f"ERRORS: {measure}, {system}: {count} while the time ran"
        for (measure, system), count in results.errors.items()
    ]
    remarks += [f"FAILED: {failure}" for failure in results.failures]
    return remarks


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        texts = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        texts += [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join(texts).rstrip())
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)
