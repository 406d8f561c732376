"""What the board's stream has told: rows that are open, and those that ended.

Must not know how they are shown.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs

MOST_ENDED = 200
"""Ended rows that are kept."""

RATE_SPAN = 2.0
"""Seconds over which a rate is measured."""

Document = dict[str, Any]


@attrs.define(eq=False)
class Row:
    """A row as it was told, by the names of its values.  Attributes: is_open, it goes on."""

    values: Document
    is_open: bool = True
    _samples: deque[tuple[float, int, int]] = attrs.Factory(deque)

    def __getitem__(self, name: str) -> Any:
        """Return a value; None for one that this row has not."""
        return self.values.get(name)

    def note(self, now: float) -> None:
        """Remember how much has flowed."""
        samples = self._samples
        samples.append((now, self["events"] or 0, self["sent"] or 0))
        while len(samples) > 2 and samples[1][0] < now - RATE_SPAN:
            samples.popleft()

    def rates(self, now: float) -> tuple[float, float]:
        """Return events (messages of a WebSocket) and octets to the client in a second."""
        samples = self._samples
        while len(samples) > 1 and samples[1][0] < now - RATE_SPAN:
            samples.popleft()
        if not samples:
            return 0.0, 0.0
        at, events, sent = samples[0]
        span = max(now - max(at, now - RATE_SPAN), 0.5)
        return ((self["events"] or 0) - events) / span, ((self["sent"] or 0) - sent) / span


@attrs.define(eq=False)
class Known:
    """All rows.

    Attributes:
        open, ended: by their names, the oldest first.
        counts: what was told with them of the proxy as a whole.
        now: the proxy's time when it told last, in seconds of the epoch.
    """

    open: dict[str, Row] = attrs.Factory(dict)
    ended: dict[str, Row] = attrs.Factory(dict)
    counts: Document = attrs.Factory(dict)
    now: float = 0.0
    _moving: list[str] = attrs.Factory(list)

    def take(self, news: Document) -> None:
        """Take what has changed, as ``GET /api/board/events`` tells it."""
        self.now = news["now"]
        self._moving = news.get("moving", self._moving)
        self.counts = news["counts"]
        if news.get("reset"):
            self.open.clear()
            self.ended.clear()
        for name in news.get("gone", ()):
            self.open.pop(name, None)
        for values in news.get("rows", ()):
            self._open(Row(values))
        for name, moved in news.get("moved", {}).items():
            row = self.open.get(name)
            if row is not None:
                row.values.update(zip(self._moving, moved, strict=False))
                row.note(self.now)
        for values in news.get("ended", ()):
            self.open.pop(values["id"], None)
            self.ended[values["id"]] = Row(values, is_open=False)
        while len(self.ended) > MOST_ENDED:
            del self.ended[next(iter(self.ended))]

    def _open(self, row: Row) -> None:
        young = row["began"] > self.now - RATE_SPAN
        if young:
            # All that it has was said since it began.
            events, sent = row["events"], row["sent"]
            row.values.update(events=0, sent=0)
            row.note(row["began"])
            row.values.update(events=events, sent=sent)
        else:
            row.note(self.now - RATE_SPAN)
        self.open[row["id"]] = row
