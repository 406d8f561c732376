"""Where in a TOML file a key stands.

``tomllib`` does not say; but the shortest beginning of the file that can be read and has the key
ends with it.
"""

from __future__ import annotations

import tomllib
from bisect import bisect_left
from typing import Any

import attrs

from pyproxy.config.walker import KeyPath


@attrs.define
class Places:
    """Finds the lines of keys in one file that can be read as a whole."""

    text: str
    _lines: list[str] = attrs.field(init=False)
    _read: dict[int, dict[str, Any]] = attrs.Factory(lambda: {0: {}})

    def __attrs_post_init__(self) -> None:
        # Not splitlines(): TOML knows one line end only.
        self._lines = [line + "\n" for line in self.text.split("\n")]

    def line(self, path: KeyPath) -> int:
        """Return the number of the line that a key, or the nearest table around it, stands on.

        Of a value over several lines it is the last.  Returns: from 1 on; 1 for the file itself.
        """
        whole = self._beginning(len(self._lines))
        while path and not _has(whole, path):
            path = path[:-1]
        places = range(len(self._lines) + 1)
        return max(1, bisect_left(places, True, key=lambda end: _has(self._beginning(end), path)))

    def _beginning(self, lines: int) -> dict[str, Any]:
        """Read so many of the first lines, or as many fewer as it takes to have a file."""
        while lines not in self._read:
            try:
                self._read[lines] = tomllib.loads("".join(self._lines[:lines]))
            except tomllib.TOMLDecodeError:
                # Inside a value that goes over several lines.
                lines -= 1
        return self._read[lines]


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
