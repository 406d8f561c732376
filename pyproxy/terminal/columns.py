"""The columns of the board in a terminal: what they say of a row, and what rows are sorted by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs

from pyproxy.terminal.known import Row
from pyproxy.terminal.written import number, octets, seconds

GAP = 1
"""Cells between two columns."""

LEAST = 12
"""Cells of the column that takes what the others leave."""


@attrs.frozen
class Column:
    """A column.

    Attributes:
        title: its head, and its name.
        width: cells; 0 for what the others leave.
        text: what it says of a row at a time.
        value: what rows are sorted by.
        right: it stands on the right.
        spared: the column with the highest number goes first where there is no room; 0 never.
        tone: how it looks.
        falls: the highest stand first, unless somebody turns it.
    """

    title: str
    width: int
    text: Callable[[Row, float], str]
    value: Callable[[Row, float], float | str]
    right: bool = False
    spared: int = 0
    tone: Callable[[Row], str] = lambda row: ""
    falls: bool = False


def _said(title: str, width: int, name: str, spared: int = 0) -> Column:
    def text(row: Row, now: float) -> str:
        return row[name] or ""

    return Column(title, width, text, text, spared=spared)


def _pace(row: Row, now: float) -> str:
    events, sent = row.rates(now)
    if row["events"]:
        return f"{events:.1f}/s" if events else ""
    return f"{octets(sent)}/s" if sent else ""


def _pace_value(row: Row, now: float) -> float:
    events, sent = row.rates(now)
    return events or sent / 1e6


def _queued(row: Row, now: float) -> str:
    waits = row["to_client"], row["to_upstream"]
    return " ".join(map(octets, waits)) if any(waits) else ""


def _status_tone(row: Row) -> str:
    status = row["status"] or 0
    return "bad" if status >= 500 else "warn" if status >= 400 else ""


_ID = Column("request", 9, lambda row, now: row["id"], lambda row, now: row["began"])
_ROUTE = _said("route", 12, "route", 3)
_TARGET = Column(
    "asked for",
    0,
    lambda row, now: f"{row['method']} {row['target']}",
    lambda row, now: row["target"],
)
_CLIENT = _said("client", 15, "client", 5)
_MODEL = _said("model", 16, "model", 6)
_PEER = Column(
    "upstream",
    20,
    lambda row, now: row["peer"].partition("://")[2] or row["peer"],
    lambda row, now: row["peer"],
    spared=9,
)
_FIRST = Column(
    "first",
    7,
    lambda row, now: seconds(row["first"]),
    lambda row, now: math.inf if row["first"] is None else row["first"],
    right=True,
    spared=4,
    falls=True,
)
_TOKENS = Column(
    "tokens",
    7,
    lambda row, now: number(row["tokens"]),
    lambda row, now: -1 if row["tokens"] is None else row["tokens"],
    right=True,
    spared=2,
    falls=True,
)
_SENT = Column(
    "sent",
    8,
    lambda row, now: octets(row["sent"]),
    lambda row, now: row["sent"],
    right=True,
    spared=7,
    falls=True,
)

OPEN = (
    _ID,
    _ROUTE,
    _TARGET,
    _CLIENT,
    _MODEL,
    _PEER,
    Column(
        "state",
        24,
        lambda row, now: row["state"],
        lambda row, now: row["state"],
        tone=lambda row: "warn" if row["slow"] else "" if row["first"] is None else "good",
    ),
    Column(
        "age",
        8,
        lambda row, now: seconds(now - row["began"]),
        lambda row, now: now - row["began"],
        right=True,
        falls=True,
    ),
    _FIRST,
    Column("events", 9, _pace, _pace_value, right=True, spared=1, falls=True),
    _TOKENS,
    _SENT,
    Column(
        "waits",
        13,
        _queued,
        lambda row, now: row["to_client"] + row["to_upstream"],
        right=True,
        spared=10,
        falls=True,
    ),
    Column(
        "slow",
        8,
        lambda row, now: row["slow"],
        lambda row, now: row["slow"],
        spared=8,
        tone=lambda row: "warn",
        falls=True,
    ),
)
"""Of what is open."""

ENDED = (
    _ID,
    _ROUTE,
    _TARGET,
    _CLIENT,
    _MODEL,
    Column(
        "status",
        6,
        lambda row, now: str(row["status"] or ""),
        lambda row, now: row["status"],
        right=True,
        spared=1,
        tone=_status_tone,
    ),
    Column(
        "how it ended",
        24,
        lambda row, now: row["how"],
        lambda row, now: row["how"],
        tone=lambda row: "good" if row["good"] else "bad",
    ),
    Column(
        "duration",
        9,
        lambda row, now: seconds(row["duration"]),
        lambda row, now: row["duration"],
        right=True,
        falls=True,
    ),
    _FIRST,
    _TOKENS,
    _SENT,
    Column(
        "ended",
        12,
        lambda row, now: f"{seconds(now - row['began'] - row['duration'])} ago",
        lambda row, now: row["began"] + row["duration"],
        right=True,
        spared=8,
        falls=True,
    ),
)
"""Of what has ended."""

_SEARCHED = (
    "id route method target host client model peer state how slow status".split()  # noqa: SIM905
)


def laid_out(columns: Sequence[Column], width: int) -> list[tuple[Column, int]]:
    """Return the columns for which there is room, and how many cells each has."""
    kept = list(columns)

    def rest() -> int:
        return width - sum(column.width for column in kept) - GAP * (len(kept) - 1)

    while rest() < LEAST and any(column.spared for column in kept):
        kept.remove(max(kept, key=lambda column: column.spared))
    return [(column, column.width or max(rest(), 0)) for column in kept]


def is_wanted(row: Row, words: Sequence[str]) -> bool:
    """Tell whether all words, in small letters, stand in a row."""
    if not words:
        return True
    text = " ".join(str(row[name]) for name in _SEARCHED if row[name] is not None).lower()
    return all(word in text for word in words)
