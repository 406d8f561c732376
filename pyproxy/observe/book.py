"""Rows that change, told as what has changed since somebody looked.

Must not know what the rows are about.  How far behind a reader is costs nothing: what he has missed
is told once, as it is now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

import attrs

MOST_ENDED = 200
"""Ended rows that are kept."""

MOST_GONE = 4096
"""Names of rows that went which are kept; who has missed more is told everything anew."""

Document = dict[str, Any]
"""An object of JSON."""

Id = TypeVar("Id", bound=Hashable)


@attrs.define(eq=False)
class _Row:
    """A row.  Attributes: born, changed: the versions that it is new and last changed in."""

    fixed: Document
    moving: list[Any]
    born: int
    changed: int


@attrs.define(eq=False)
class Book(Generic[Id]):
    """Rows by their names, and those that ended.

    Attributes:
        moving: names of the values of a row that may change.
        version: of what stands here now.
    """

    moving: tuple[str, ...]
    version: int = 0
    _rows: dict[Id, _Row] = attrs.Factory(dict)
    _gone: deque[tuple[int, Id]] = attrs.Factory(deque)
    _ended: deque[tuple[int, Document]] = attrs.Factory(lambda: deque(maxlen=MOST_ENDED))
    _forgotten: int = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: Id) -> bool:
        return name in self._rows

    @property
    def names(self) -> frozenset[Id]:
        """The names of all rows."""
        return frozenset(self._rows)

    def step(self) -> None:
        """Begin a new version: what changes from now on is news to all who have looked."""
        self.version += 1

    def open(self, name: Id, fixed: Document, moving: list[Any]) -> None:
        """Add a row.  Args: what stays; the values of what changes."""
        self._rows[name] = _Row(fixed, moving, self.version, self.version)

    def move(self, name: Id, moving: list[Any]) -> None:
        """Take a row's values, which may be the same."""
        row = self._rows[name]
        if row.moving != moving:
            row.moving, row.changed = moving, self.version

    def remove(self, name: Id) -> None:
        """Take a row away, if it is there."""
        if self._rows.pop(name, None) is not None:
            self._gone.append((self.version, name))
            if len(self._gone) > MOST_GONE:
                self._forgotten, _ = self._gone.popleft()

    def end(self, row: Document) -> None:
        """Add a row to those that ended."""
        self._ended.append((self.version, row))

    def row(self, name: Id) -> Document | None:
        """Return a whole row."""
        row = self._rows.get(name)
        return None if row is None else self._whole(row)

    def news(self, since: int | None) -> Document:
        """Return what has changed.

        Args: the version that was told last; None for nothing yet.
        Returns: ``version``; ``reset``, whether all that was told before is void; ``rows`` that are
            new, ``moved`` values by name, names that are ``gone``, and rows that ``ended``.
        """
        reset = since is None or not self._forgotten <= since <= self.version
        last = -1 if reset or since is None else since
        rows = [row for row in self._rows.items() if row[1].changed > last]
        return {
            "version": self.version,
            "reset": reset,
            "rows": [self._whole(row) for _, row in rows if row.born > last],
            "moved": {str(name): row.moving for name, row in rows if row.born <= last},
            "gone": [] if reset else [name for version, name in self._gone if version > last],
            "ended": [row for version, row in self._ended if version > last],
        }

    def _whole(self, row: _Row) -> Document:
        return {**row.fixed, **dict(zip(self.moving, row.moving, strict=True))}
