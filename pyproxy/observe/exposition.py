"""Metrics as the text that Prometheus reads, in pieces that are short to write.

Spec: Prometheus text exposition format 0.0.4; OpenMetrics 1.0.0, whose only differences here are
the names of counters and of information, and the last line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

import attrs

from pyproxy.observe.families import FAMILIES, LABELS, Family, Histogram, Single
from pyproxy.observe.rows import Key, Numbers

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = b"application/openmetrics-text; version=1.0.0; charset=utf-8"

ROWS_A_PIECE = 16
"""Rows of one family that are written in one piece: 0.2 ms."""

_escaped = re.compile(r'[\\"\n]')
_ESCAPES = {"\\": r"\\", '"': r"\"", "\n": r"\n"}


@attrs.frozen
class Samples:
    """The values of a family that is no part of rows, each with the values of its labels."""

    family: Single
    values: Sequence[tuple[Sequence[str], float]]


def escape(value: str) -> str:
    """Return a label's value as it stands between its quotation marks."""
    return _escaped.sub(lambda match: _ESCAPES[match[0]], value)


def labels_of(names: Iterable[str], values: Iterable[str]) -> str:
    """Return labels without the braces around them; one without a value is left out."""
    pairs = zip(names, values, strict=True)
    return ",".join(f'{name}="{escape(value)}"' for name, value in pairs if value)


def pieces(
    rows: Mapping[Key, Numbers],
    lag: tuple[Histogram, Numbers],
    singles: Iterable[Samples],
    open_metrics: bool = False,
) -> Iterator[str]:
    """Yield the whole text, a piece at each step."""
    listed = sorted(rows.items())
    labelled: list[tuple[str, Numbers]] = []
    for number, (key, numbers) in enumerate(listed, 1):
        labelled.append((_row_labels(key), numbers))
        if number % (4 * ROWS_A_PIECE) == 0:
            yield ""
    for family in FAMILIES:
        yield _heading(family, open_metrics)
        for start in range(0, len(labelled), ROWS_A_PIECE):
            yield "".join(_family(family, labelled[start : start + ROWS_A_PIECE]))
    yield _heading(lag[0], open_metrics) + "".join(_family(lag[0], [("", lag[1])]))
    for samples in singles:
        yield _single(samples, open_metrics)
    if open_metrics:
        yield "# EOF\n"


@lru_cache(8192)
def _row_labels(key: Key) -> str:
    return labels_of(LABELS, key)


def _heading(family: Family | Single, open_metrics: bool) -> str:
    name = family.name
    if isinstance(family, Single):
        kind = family.kind
    else:
        kind = "histogram" if isinstance(family, Histogram) else "counter"
    if open_metrics and name.endswith("_info"):
        kind = "info"
    if open_metrics and kind in ("counter", "info"):
        name = name.removesuffix("_total").removesuffix("_info")
    return f"# HELP {name} {family.help}\n# TYPE {name} {kind}\n"


def _family(family: Family, rows: Iterable[tuple[str, Numbers]]) -> Iterator[str]:
    """Yield the lines of a family: of each row all, or none."""
    write = _histogram_lines if isinstance(family, Histogram) else _counter_lines
    for labels, numbers in rows:
        own = numbers[family.at : family.at + family.size]
        if not family.rare or any(own):
            yield write(family, labels, own)


def _histogram_lines(family: Family, labels: str, own: Numbers) -> str:
    more = labels and f"{labels},"
    buckets = list(accumulate(own[:-1]))
    lines = [
        f"{start}{more}{end}{count}"
        for (start, end), count in zip(_les(family), buckets, strict=True)
    ]
    braces = f"{{{labels}}}" if labels else ""
    lines.append(f"{family.name}_sum{braces} {float(own[-1])!r}")
    lines.append(f"{family.name}_count{braces} {buckets[-1]}\n")
    return "\n".join(lines)


@lru_cache(64)
def _les(family: Family) -> list[tuple[str, str]]:
    """Return what stands before and behind the labels of a bucket's row."""
    assert isinstance(family, Histogram)
    bounds = [*map(repr, family.bounds), "+Inf"]
    return [(f"{family.name}_bucket{{", f'le="{bound}"}} ') for bound in bounds]


def _counter_lines(family: Family, labels: str, own: Numbers) -> str:
    assert not isinstance(family, Histogram)
    lines = []
    for value, number in zip(family.values, own, strict=True):
        more = f'{family.label}="{value}"' if family.label else ""
        both = ",".join(filter(None, (labels, more)))
        lines.append(f"{family.name}{{{both}}} {number}\n")
    return "".join(lines)


def _single(samples: Samples, open_metrics: bool) -> str:
    family = samples.family
    lines = [_heading(family, open_metrics)]
    for values, number in samples.values:
        labels = labels_of(family.labels, values)
        lines.append(
            f"{family.name}{{{labels}}} {number!r}\n" if labels else f"{family.name} {number!r}\n"
        )
    return "".join(lines)


def wants_open_metrics(accept: str) -> bool:
    """Tell whether a reader likes OpenMetrics at least as much as plain text.

    Args: the field ``Accept``.
    """
    best = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for member in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in member.split(";"))
        said = dict(part.split("=", 1) for part in parameters if "=" in part)
        if media_type in best and said.get("version", "1.0.0") in ("1.0.0", "0.0.4"):
            best[media_type] = max(best[media_type], _quality(said.get("q", "1")))
    open_metrics, plain = best.values()
    return open_metrics > 0 and open_metrics >= plain


def _quality(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0
