"""Draw what a run found: a panel of horizontal bars for each measure, as SVG without a library.

Run with ``python -m benchmarks.plot figures.json performance.svg [--rst FILE]`` on what
``python -m benchmarks --json figures.json`` wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from benchmarks.report import Document, FigureEntry, number, rest
from benchmarks.systems import DIRECT, SUBJECT

PANELS = (
    ("small", "CPU"),
    ("fields", "CPU"),
    ("post", "CPU"),
    ("answer", "CPU"),
    ("download", "CPU"),
    ("upload", "CPU"),
    ("events", "CPU"),
    ("flood", "CPU"),
    ("ws-64", "CPU"),
    ("ws-64k", "CPU"),
    ("memory", "stream"),
    ("start", "start"),
)
"""Measure and figure of each panel, in reading order; less is better in all of them."""

COLUMNS = 2
WIDTH = 720
MARGIN = 8
GAP = 30
HEADING = 46
BAR = 15
STEP = 22
LABELS = 112
NUMBERS = 48
SPACE_BELOW = 22

LONGEST = 6.0
"""A bar ends at so many times the subject's, or the rest could not be told apart."""

OURS = "#c2410c"
THEIRS = "#94a3b8"
INK = "#1e293b"
QUIET = "#64748b"


def svg(found: Document) -> str:
    """Return a drawing of the panels of a run that have figures."""
    entries = {(entry["measure"], entry["figure"]): entry for entry in found["figures"]}
    panels = [entries[place] for place in PANELS if _bars(entries.get(place))]
    heights = [HEADING + STEP * len(_bars(entry)) + SPACE_BELOW for entry in panels]
    rows = [slice(at, at + COLUMNS) for at in range(0, len(panels), COLUMNS)]
    top = MARGIN
    drawn: list[str] = []
    width = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS
    for row in rows:
        for column, entry in enumerate(panels[row]):
            left = MARGIN + column * (width + GAP)
            drawn.append(f'<g transform="translate({left:g} {top:g})">')
            drawn += _panel(entry, width)
            drawn.append("</g>")
        top += max(heights[row])
    return "\n".join([*_opening(top), *drawn, "</svg>", ""])


def _opening(height: float) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:g}"'
        f' viewBox="0 0 {WIDTH} {height:g}" font-family="Helvetica, Arial, sans-serif" role="img">'
    )
    yield "<title>What a unit of work costs each proxy; less is better</title>"
    yield f'<rect width="{WIDTH}" height="{height:g}" fill="#ffffff"/>'


def _bars(entry: FigureEntry | None) -> list[tuple[str, float]]:
    """Return systems and figures, the lowest first."""
    if entry is None:
        return []
    medians = ((name, value) for name, value in entry["median"].items() if name != DIRECT)
    return sorted(((n, v) for n, v in medians if v is not None and v >= 0), key=lambda bar: bar[1])


def _panel(entry: FigureEntry, width: float) -> Iterator[str]:
    bars = _bars(entry)
    ours = dict(bars).get(SUBJECT)
    longest = max(value for _, value in bars)
    whole = longest if not ours else min(longest, LONGEST * ours)
    room = width - LABELS - NUMBERS
    figure = "" if entry["figure"] == entry["measure"] else f"{entry['figure']}, "
    yield _text(0, 14, entry["measure"], size=15, weight="bold")
    yield _text(width, 14, figure + entry["unit"], fill=QUIET, anchor="end")
    yield _text(0, 32, entry["title"], fill=QUIET)
    for at, (system, value) in enumerate(bars):
        top = HEADING + at * STEP
        length = max(1.0, room * min(value, whole) / whole) if whole else 1.0
        strong = system == SUBJECT
        fill = OURS if strong else THEIRS
        weight = "bold" if strong else "normal"
        yield _text(LABELS - 8, top + 12, system, anchor="end", weight=weight)
        yield (
            f'<rect class="bar" data-system={quoteattr(system)} x="{LABELS}" y="{top}"'
            f' width="{length:.1f}" height="{BAR}" rx="2" fill="{fill}"/>'
        )
        if value > whole:
            yield _torn(LABELS + length - 26, top)
        yield _text(LABELS + length + 6, top + 12, number(value), weight=weight)


def _torn(left: float, top: float) -> str:
    """Draw the gap of a bar that is longer than there is room."""
    low, high = top + BAR + 1, top - 1
    points = f"{left:.1f},{low} {left + 6:.1f},{high} {left + 12:.1f},{high} {left + 6:.1f},{low}"
    return f'<polygon points="{points}" fill="#ffffff"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    fill: str = INK,
    anchor: str = "start",
    weight: str = "normal",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:g}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"'
        f' font-weight="{weight}">{escape(text)}</text>'
    )


def main(arguments: Sequence[str]) -> int:
    """Draw a run that was written as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=svg.__doc__)
    parser.add_argument("figures", type=Path, help="what --json wrote")
    parser.add_argument("drawing", type=Path, help="the SVG to write")
    parser.add_argument("--rst", type=Path, metavar="FILE", help="write the tables there, too")
    asked = parser.parse_args(arguments)
    found: Document = json.loads(asked.figures.read_text())
    asked.drawing.write_text(svg(found))
    if asked.rst is not None:
        asked.rst.write_text(rest(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
