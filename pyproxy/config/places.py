"""Where in a TOML file a key stands.

``tomllib`` does not say; but the shortest beginning of the file that can be read and has the key
ends with it.
"""

from __future__ import annotations

import time
import tomllib
from bisect import bisect_left
from typing import Any

import attrs

from pyproxy.config.walker import KeyPath

MOST_SECONDS = 2.0
"""Seconds of CPU for the lines of all that is wrong: for each the file is read several times."""


@attrs.define
class Places:
    """Finds the lines of keys in one file that can be read as a whole."""

    text: str
    _lines: list[str] = attrs.field(init=False)
    _whole: dict[str, Any] = attrs.field(init=False)
    _end: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        # Not splitlines(): TOML knows one line end only.
        self._lines = [line + "\n" for line in self.text.split("\n")]
        self._whole = self._beginning(len(self._lines))
        self._end = time.process_time() + MOST_SECONDS

    def line(self, path: KeyPath) -> int:
        """Return the number of the line that a key, or the nearest table around it, stands on.

        Of a value over several lines it is the last.
        Returns: from 1 on; 1 for the file itself; 0 when to look would take too long.
        """
        if time.process_time() > self._end:
            return 0
        while path and not _has(self._whole, path):
            path = path[:-1]
        places = range(len(self._lines) + 1)
        return max(1, bisect_left(places, True, key=lambda end: _has(self._beginning(end), path)))

    def _beginning(self, lines: int) -> dict[str, Any]:
        """Read so many of the first lines, or as many fewer as it takes to have a file."""
        while lines:
            try:
                return tomllib.loads("".join(self._lines[:lines]))
            except tomllib.TOMLDecodeError:
                # Inside a value that goes over several lines.
                lines -= 1
        return {}


def _has(document: Any, path: KeyPath) -> bool:
    """Tell whether a document has a key."""
    for part in path:
        if isinstance(part, int):
            if not isinstance(document, list) or len(document) <= part:
                return False
        elif not isinstance(document, dict) or part not in document:
            return False
        document = document[part]
    return True
