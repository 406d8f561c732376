"""Turn the rounds into medians, ratios, tables and JSON.  Measures nothing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TypedDict

import attrs

from benchmarks.measures import Figure, Measure
from benchmarks.systems import DIRECT, SUBJECT
from benchmarks.targets import TARGETS, Finding, Judged, Target, judge

Key = tuple[str, str, str]
"""Measure, figure, system."""

Rows = list[list[str]]
"""A table: its head, then its lines."""


class FigureEntry(TypedDict):
    """One figure of one measure."""

    measure: str
    title: str
    figure: str
    unit: str
    more_is_better: bool
    rounds: dict[str, list[float]]
    median: dict[str, float | None]
    ratio: dict[str, float | None]


class ErrorEntry(TypedDict):
    """What went wrong with one system while the time of a measure ran."""

    measure: str
    system: str
    errors: int


class Document(TypedDict):
    """Everything that was found, as it is written to JSON."""

    notes: dict[str, str]
    systems: list[str]
    figures: list[FigureEntry]
    targets: list[list[str]]
    errors: list[ErrorEntry]
    failures: list[str]
    skipped: dict[str, str]


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

    def median(self, measure: str, figure: str, system: str) -> float | None:
        """Return a figure's median over the rounds, None when there was none."""
        values = self.rounds.get((measure, figure, system))
        return statistics.median(values) if values else None

    def ratio(self, measure: str, figure: str, peer: str) -> float | None:
        """Return the subject's median by a peer's; None without two positive medians."""
        ours = self.median(measure, figure, SUBJECT)
        theirs = self.median(measure, figure, peer)
        if ours is None or theirs is None or ours <= 0 or theirs <= 0:
            return None
        return ours / theirs


def table(results: Results, measures: Sequence[Measure], systems: Sequence[str]) -> str:
    """Return the medians of every system, the subject's ratios to its peers, and the remarks."""
    peers = [name for name in systems if name not in (SUBJECT, DIRECT)]
    medians = [["measure", "figure", "unit", *systems]]
    ratios = [["measure", "figure", "better is", *(f"/{peer}" for peer in peers)]]
    for measure in measures:
        for figure in measure.figures:
            at = (measure.name, figure.name)
            row = [*at, figure.unit]
            medians.append(row + [number(results.median(*at, name)) for name in systems])
            row = [*at, "more" if figure.more_is_better else "less"]
            ratios.append(row + [_ratio(results.ratio(*at, name)) for name in peers])
    parts = [_aligned(medians)]
    if SUBJECT in systems and peers:
        parts += ["", f"{SUBJECT} divided by each of the others:", "", _aligned(ratios)]
    return "\n".join([*parts, *_remarks(results)])


def judged(results: Results, measures: Sequence[Measure]) -> list[Judged]:
    """Return the targets of the measures that were asked for, beside what was measured."""
    names = {measure.name for measure in measures}
    return [judge(one, SUBJECT, results.median) for one in TARGETS if one.measure in names]


def targets_rows(judged: Sequence[Judged], measures: Sequence[Measure]) -> Rows:
    """Return the table of targets."""
    units = {(m.name, f.name): f.unit for m in measures for f in m.figures}
    rows = [["measure", "figure", "unit", SUBJECT, "at least", "is", "", "aim", "is", ""]]
    for one in judged:
        at = (one.target.measure, one.target.figure)
        rows.append(
            [
                *(*at, units[at], number(one.value)),
                *_finding(one.target, one.at_least),
                *_finding(one.target, one.aim),
            ]
        )
    return rows


def targets_table(judged: Sequence[Judged], measures: Sequence[Measure]) -> str:
    """Return the table of targets as text, empty when there are none."""
    if not judged:
        return ""
    return "\nTargets:\n\n" + _aligned(targets_rows(judged, measures))


def _finding(target: Target, finding: Finding) -> list[str]:
    sign = ">=" if target.more_is_better else "<="
    bound = finding.bound
    if bound.peer is None:
        return [f"{sign} {bound.value:g}", number(finding.measured), finding.verdict]
    more = f" + {bound.plus:g}" if bound.plus else ""
    allowed = f"{sign} {bound.value:.2f} {bound.peer}{more}"
    return [allowed, _ratio(finding.measured), finding.verdict]


def document(
    results: Results, measures: Sequence[Measure], systems: Sequence[str], judged: Sequence[Judged]
) -> Document:
    """Return everything that was found, ready for JSON."""
    return Document(
        notes=results.notes,
        systems=list(systems),
        figures=[_entry(results, m, f, systems) for m in measures for f in m.figures],
        targets=targets_rows(judged, measures),
        errors=[
            ErrorEntry(measure=measure, system=system, errors=count)
            for (measure, system), count in results.errors.items()
        ],
        failures=results.failures,
        skipped=results.skipped,
    )


def _entry(
    results: Results, measure: Measure, figure: Figure, systems: Sequence[str]
) -> FigureEntry:
    at = (measure.name, figure.name)
    keys = {name: (*at, name) for name in systems}
    return FigureEntry(
        measure=measure.name,
        title=measure.title,
        figure=figure.name,
        unit=figure.unit,
        more_is_better=figure.more_is_better,
        rounds={n: results.rounds[k] for n, k in keys.items() if k in results.rounds},
        median={n: results.median(*at, n) for n in systems},
        ratio={n: results.ratio(*at, n) for n in systems if n != SUBJECT},
    )


def rest(found: Document) -> str:
    """Return the medians, the targets and the notes as reStructuredText."""
    sockets = [entry for entry in found["figures"] if entry["measure"].startswith("ws-")]
    requests = [entry for entry in found["figures"] if entry not in sockets]
    parts = [
        _list_table(title, _medians_rows(entries))
        for title, entries in (("Requests", requests), ("WebSockets", sockets))
        if entries
    ]
    if len(found["targets"]) > 1:
        rows = [[row[0], f"{row[1]}, {row[2]}", *row[3:]] for row in found["targets"][1:]]
        head = found["targets"][0]
        parts.append(_list_table("Targets", [[head[0], head[1], *head[3:]], *rows]))
    parts.append("".join(f":{name}: {text}\n" for name, text in found["notes"].items()))
    return ".. Written by ``python -m benchmarks``: do not edit.\n\n" + "\n".join(parts)


def _medians_rows(entries: Sequence[FigureEntry]) -> Rows:
    """Return a table of the systems that take part; ``added`` says what ``direct`` would."""
    found = [
        name for entry in entries for name, value in entry["median"].items() if value is not None
    ]
    names = [name for name in dict.fromkeys(found) if name != DIRECT]
    rows = [["measure", "figure", *names]]
    for entry in entries:
        medians = [number(entry["median"].get(name)) for name in names]
        rows.append([entry["measure"], f"{entry['figure']}, {entry['unit']}", *medians])
    return rows


def _list_table(title: str, rows: Rows) -> str:
    lines = [f".. list-table:: {title}", "   :header-rows: 1", ""]
    for row in rows:
        for at, cell in enumerate(row):
            # A hyphen alone would begin a list.
            text = "–" if cell == "-" else cell
            lines.append(f"   {'* -' if at == 0 else '  -'} {text}".rstrip())
    return "\n".join([*lines, ""])


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


def number(value: float | None) -> str:
    """Return a figure in three digits or as many as it has before the point."""
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _aligned(rows: Rows) -> str:
    """Return lines with their columns under each other, numbers to the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = [all(map(_is_number, column[1:])) for column in columns]
    lines = []
    for row in rows:
        texts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(texts).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.lstrip("-").replace(".", "", 1).isdigit()
