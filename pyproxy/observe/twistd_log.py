"""The access log's way into twistd's log: what is a line already is not formatted again.

Twisted makes each event's time anew with a zone of its own, and its text with a formatter: 33 us a
line, nearly half a small exchange.  A line that is ready takes 5.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Any, cast

from twisted.logger import FileLogObserver, LogEvent, LogLevel, globalLogPublisher

ACCESS = "pyproxy.access"
"""The namespace of the access log."""

TO_FILE = "pyproxy.access.file"
"""The namespace of lines that a worker sends to its parent, for the access log's own file."""

READY_TEXT = "{line}"
"""The ``log_format`` of an event whose whole text stands ready as its ``line``."""

Format = Callable[[LogEvent], str | None]


def publish_to_file(line: str) -> None:
    """Send a line to the parent, which has the file that it is for."""
    publish_line(line, log_namespace=TO_FILE)


def publish_line(line: str, now: float | None = None, **more: object) -> None:
    """Log a line of the access log.  Args: when, in seconds of the epoch; more for its event."""
    globalLogPublisher(
        {
            "log_level": LogLevel.info,
            "log_namespace": ACCESS,
            "log_format": READY_TEXT,
            "log_time": time() if now is None else now,
            "line": line,
            **more,
        }
    )


class LineFormat:
    """Formats lines of the access log as another format does, which it asks once a second.

    Every other event it leaves to that; lines too, if it tells more of the time than the second, or
    writes anything behind them.
    """

    def __init__(self, otherwise: Format) -> None:
        self._otherwise = otherwise
        self._second = -1
        self._start: str | None = None

    def __call__(self, event: LogEvent) -> str | None:
        """Return the text of an event."""
        if event.get("log_namespace") != ACCESS or "line" not in event:
            return self._otherwise(event)
        second = int(event["log_time"])
        if second != self._second:
            self._second = second
            self._start = self._start_of(second, event)
        if self._start is None:
            return self._otherwise(event)
        return f"{self._start}{event['line']}\n"

    def _start_of(self, second: int, event: LogEvent) -> str | None:
        """Return what stands before every line of a second; None when that cannot be said."""
        first, last = (
            self._otherwise({**event, "log_time": now, "line": "x"})
            for now in (second, second + 0.999)
        )
        if first is None or first != last or not first.endswith("x\n"):
            return None
        return first[:-2]


def take_lines(observer: object) -> None:
    """Let an observer that writes text to a file take lines of the access log as they are."""
    if isinstance(observer, FileLogObserver) and not isinstance(observer.formatEvent, LineFormat):
        observer.formatEvent = LineFormat(observer.formatEvent)


def take_lines_everywhere() -> None:
    """Let whoever writes this process's log, twistd's file in most, take lines as they are."""
    # A publisher has no public way to ask for its observers.
    for observer in cast(Any, globalLogPublisher)._observers:
        take_lines(observer)
