"""Where the lines of the access log go: to twistd's log, or to a file of their own.

One process has the file; workers send their lines to their parent.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.logger import Logger
from twisted.python.logfile import LogFile

from pyproxy.observe.twistd_log import publish_line

RETRY = 60.0
"""Seconds until a file that could not be written is tried again."""

FILE_MODE = 0o640
"""Permissions of a file that is new: who asked for what is not everybody's business."""

_log = Logger("pyproxy")


@attrs.frozen
class LogPlace:
    """A file for lines.

    Attributes:
        path: from / on.
        max_size: octets after which it is put aside, and another begun.
        keep: how many of those that were put aside are kept.
    """

    path: str
    max_size: int
    keep: int


@attrs.define(eq=False)
class Output:
    """Writes lines where the configuration in use wants them.

    A file that cannot be written is said once, and the lines go to twistd's log meanwhile.
    """

    _seconds: Callable[[], float]
    _place: LogPlace | None = None
    _file: LogFile | None = None
    _retry_at: float = 0.0

    def take(self, place: LogPlace | None) -> None:
        """Write somewhere else from now on.  Args: None for twistd's log."""
        if place != self._place:
            self.close()
            self._place, self._retry_at = place, 0.0

    def __call__(self, line: str) -> None:
        """Write a line."""
        place = self._place
        if place is None:
            publish_line(line)
            return
        try:
            if self._file is None:
                self._open(place)
            if self._file is not None:
                self._file.write(line + "\n")
                return
        except OSError as error:
            self._failed(place, error)
        publish_line(line)

    def reopen(self) -> None:
        """Open the file anew: somebody has moved it."""
        self.close()
        self._retry_at = 0.0

    def close(self) -> None:
        """Have no file open."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                _log.error("The access log was not closed well: {error}", error=error)

    def _open(self, place: LogPlace) -> None:
        if self._seconds() >= self._retry_at:
            self._file = LogFile.fromFullPath(place.path, place.max_size, FILE_MODE, place.keep)

    def _failed(self, place: LogPlace, error: OSError) -> None:
        self.close()
        self._retry_at = self._seconds() + RETRY
        _log.error(
            "The access log cannot be written to {path}: {error}; its lines stand here meanwhile",
            path=place.path,
            error=error.strerror or str(error),
        )
