"""What stands on the screen, and what keys change of it; no terminal is needed to know either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

import attrs

from pyproxy.terminal import columns
from pyproxy.terminal.columns import Column, is_wanted, laid_out
from pyproxy.terminal.known import Known, Row
from pyproxy.terminal.written import cells, fitted, number, plain

MOST_FILTER = 200
"""Characters of the filter."""

ABOVE = 3
"""Lines above the rows: the sums, what there is to say, and the columns' heads."""

_HELP = (
    "q quit  / filter  < > sort by  r turn  tab ended  x stop it",
    "q quit  / filter  < > sort by  r turn  tab open",
)

Part = tuple[str, str]
"""Text, and how it looks: ``good``, ``warn``, ``bad``, ``head``, ``dim``, ``here`` or nothing."""

Line = list[Part]


class Mode(Enum):
    """What a key means."""

    ROWS = "leads through the rows"
    FILTER = "goes into the filter"
    STOP = "says whether it is meant"
    OVER = "nothing any more"


@attrs.define(eq=False)
class View:
    """The screen.

    Attributes:
        place: where the admin site is.
        stop: ends an exchange, by its row's name.
        known: the rows.
        away: why nothing is told now; empty while it is.
        message: what became of an order.
        mode: what a key means.
        filter: words that all have to stand in a row.
    """

    place: str
    stop: Callable[[str], object]
    known: Known = attrs.Factory(Known)
    away: str = ""
    message: str = ""
    mode: Mode = Mode.ROWS
    filter: str = ""
    _ended: bool = False
    _by: list[Column] = attrs.Factory(lambda: [columns.OPEN[0], columns.ENDED[-1]])
    _turned: list[bool] = attrs.Factory(lambda: [False, False])
    _here: str = ""
    _at: int = 0
    _first: int = 0
    _page: int = 1

    # rows

    @property
    def _columns(self) -> Sequence[Column]:
        return columns.ENDED if self._ended else columns.OPEN

    def rows(self, now: float) -> list[Row]:
        """Return the rows that stay, in their order."""
        source = self.known.ended if self._ended else self.known.open
        words = self.filter.lower().split()
        by = self._by[self._ended]
        falls = by.falls != self._turned[self._ended]
        # Of rows that are alike the older one stays above.
        return sorted(
            (row for row in source.values() if is_wanted(row, words)),
            key=lambda row: by.value(row, now),
            reverse=falls,
        )

    def _settle(self, rows: Sequence[Row], room: int) -> None:
        """Keep the chosen row where it went, and on the screen."""
        self._page = max(room, 1)
        names = [row["id"] for row in rows]
        if self._here in names:
            self._at = names.index(self._here)
        elif self.mode is not Mode.STOP:
            self._at = max(min(self._at, len(names) - 1), 0)
            self._here = names[self._at] if names and self._here else ""
        self._first = min(self._first, self._at, max(len(names) - room, 0))
        self._first = max(self._first, self._at - room + 1, 0)

    # keys

    def key(self, key: str, now: float) -> None:
        """Take a key: a character, or a name such as ``up``, ``enter``, ``escape``, ``back``."""
        self.message = ""
        if self.mode is Mode.FILTER:
            self._filter_key(key)
        elif self.mode is Mode.STOP:
            self.mode = Mode.ROWS
            if key in ("y", "Y"):
                self.message = f"stopping {self._here}"
                self.stop(self._here)
        else:
            self._row_key(key, now)

    def _filter_key(self, key: str) -> None:
        if key in ("enter", "escape"):
            self.mode = Mode.ROWS
            if key == "escape":
                self.filter = ""
        elif key == "back":
            self.filter = self.filter[:-1]
        elif len(key) == 1 and key.isprintable():
            self.filter = (self.filter + key)[:MOST_FILTER]

    def _row_key(self, key: str, now: float) -> None:
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -self._page}
        far = {"page down": self._page, "home": -MOST_FAR, "end": MOST_FAR}
        if key in ("q", "Q"):
            self.mode = Mode.OVER
        elif key == "/":
            self.mode = Mode.FILTER
        elif key == "escape":
            self.filter = self._here = ""
        elif key == "tab":
            self._ended = not self._ended
            self._here, self._at, self._first = "", 0, 0
        elif key in ("<", ">", "left", "right"):
            self._sort(1 if key in (">", "right") else -1)
        elif key in ("r", "R"):
            self._turned[self._ended] = not self._turned[self._ended]
        elif step := {**steps, **far}.get(key):
            self._go(step, now)
        elif key in ("x", "X") and not self._ended:
            if self._here in self.known.open:
                self.mode = Mode.STOP
            else:
                self.message = "choose a row first, with the arrows"

    def _sort(self, step: int) -> None:
        known = self._columns
        self._by[self._ended] = known[(known.index(self._by[self._ended]) + step) % len(known)]
        self._turned[self._ended] = False

    def _go(self, step: int, now: float) -> None:
        names = [row["id"] for row in self.rows(now)]
        if not names:
            return
        if self._here in names:
            self._at = names.index(self._here) + step
        elif step not in (1, -1):
            self._at += step
        self._at = max(min(self._at, len(names) - 1), 0)
        self._here = names[self._at]

    # the screen

    def lines(self, width: int, height: int, now: float) -> list[Line]:
        """Return the lines of a screen of so many cells.  Args: the proxy's time."""
        rows = self.rows(now)
        room = max(height - ABOVE - 1, 0)
        self._settle(rows, room)
        laid = laid_out(self._columns, width)
        shown = rows[self._first : self._first + room]
        body = [self._row(row, laid, now) for row in shown]
        body += [[] for _ in range(room - len(body))]
        lines = [self._sums(width, now), self._notes(width, len(rows)), self._heads(laid), *body]
        lines.append([(fitted(_HELP[self._ended], width), "dim")])
        return lines[:height]

    def _sums(self, width: int, now: float) -> Line:
        known = self.known
        rows = known.open.values()
        slow = [row["slow"] for row in rows]
        pace = sum(row.rates(now)[0] for row in rows)
        parts = [
            f"{number(known.counts.get('open', 0))} open",
            f"{number(sum(bool(row['websocket']) for row in rows))} WebSockets",
            f"{pace:,.0f} events/s",
            f"slow: {slow.count('client'):,} clients, {slow.count('upstream'):,} upstreams",
        ]
        state = "AWAY" if self.away else "live" if known.now else "connecting"
        text = fitted(f"{'   '.join(parts)}   {self.place}", max(width - len(state) - 1, 0))
        return [(text + " ", "head"), (state[:width], "bad" if self.away else "good")]

    def _notes(self, width: int, count: int) -> Line:
        if self.mode is Mode.STOP:
            row = self.known.open.get(self._here)
            what = "it has ended" if row is None else f"{row['method']} {row['target']}"
            # The question stands first: what it is about may be long.
            return [(fitted(f"Stop {self._here}?  y/n   {what}", width), "warn")]
        if self.mode is Mode.FILTER:
            return [(fitted(f"filter: {_tail(self.filter, width - 9)}_", width), "warn")]
        if self.away:
            text = f"The admin site is away, trying again: {self.away}"
            return [(fitted(text, width), "bad")]
        if self.message:
            return [(fitted(self.message, width), "warn")]
        said = _troubles(self.known)
        if self.filter:
            said.append(f"{count} rows with: {self.filter}")
        return [(fitted("  ".join(said), width), "warn")]

    def _heads(self, laid: Sequence[tuple[Column, int]]) -> Line:
        by = self._by[self._ended]
        sign = "v" if by.falls != self._turned[self._ended] else "^"
        line: Line = []
        for column, width in laid:
            title = f"{column.title}{sign}" if column is by else column.title
            line.append((fitted(title, width, column.right), "head"))
            line.append((" " * columns.GAP, "head"))
        return line[:-1]

    def _row(self, row: Row, laid: Sequence[tuple[Column, int]], now: float) -> Line:
        here = row["id"] == self._here
        line: Line = []
        for column, width in laid:
            tone = "here" if here else "dim" if self.away else column.tone(row)
            line.append((fitted(column.text(row, now), width, column.right), tone))
            line.append((" " * columns.GAP, "here" if here else ""))
        return line[:-1]


MOST_FAR = 1_000_000
"""Rows that lie further than any."""


def _tail(text: str, width: int) -> str:
    text = plain(text)
    while text and cells(text) > max(width, 0):
        text = text[1:]
    return text


def _troubles(known: Known) -> list[str]:
    """Return what is not as it should be, in sentences."""
    counts, said = known.counts, []
    if hidden := counts.get("hidden"):
        said.append(f"{number(hidden)} more are open and not shown.")
    if silent := counts.get("silent"):
        said.append(f"These workers do not answer now: {', '.join(map(str, silent))}.")
    if counts.get("failures"):
        said.append("The last reload was refused: /readyz says why.")
    phase = counts.get("phase", "serving")
    if phase != "serving":
        said.append(f"The proxy is {phase}.")
    return said
