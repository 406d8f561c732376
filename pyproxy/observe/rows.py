"""Rows of numbers by what they are of, in bounded number.

Owns which values a label may take: what a client or an upstream names cannot make new rows without
end, here and where the rows of several processes come together.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from pyproxy.observe.families import METHODS, NUMBERS, OTHER, OTHER_METHOD

MAX_ROUTES = 1000
"""Routes with rows of their own, those of earlier configurations among them."""

MAX_MODELS = 100
"""Models with rows of their own."""

MAX_ROWS = 5000
"""Rows of one process, or of all together; a row is about 100 numbers."""

MAX_NAME = 128
"""Characters of a model's name that are kept."""

Key = tuple[str, str, str, str]
"""What a row is of: route, method, class of the status, model or nothing; see ``LABELS``."""

Numbers = list[float]


@attrs.define(eq=False)
class Names:
    """What rows may be of.

    Once a name has become OTHER it stays that, so that no row ever loses what was counted in it.

    Args: shown, what a model's name looks like where everybody may read it.
    """

    _shown: Callable[[str], str] = lambda name: name
    _keys: set[Key] = attrs.Factory(set)
    _routes: set[str] = attrs.Factory(set)
    _models: set[str] = attrs.Factory(set)

    def admit(self, key: Key) -> Key:
        """Return a key, or the one under which it is counted."""
        if key in self._keys:
            return key
        route, method, status, model = key
        route = self.route(route)
        if model:
            model = _admitted(self._shown(model)[:MAX_NAME], self._models, MAX_MODELS)
        if method not in METHODS:
            method = OTHER_METHOD
        key = (route, method, status, model)
        if key not in self._keys and len(self._keys) >= MAX_ROWS:
            return (OTHER, OTHER_METHOD, status, OTHER if model else "")
        self._keys.add(key)
        return key

    def route(self, name: str) -> str:
        """Return a route's name, or OTHER."""
        return _admitted(name, self._routes, MAX_ROUTES)


@attrs.define(eq=False)
class Rows:
    """Rows that are there from the first time that they are asked for.

    Attributes: order, all of them, the oldest first: a place in it is for good.
    """

    _names: Names
    order: list[tuple[Key, Numbers]] = attrs.Factory(list)
    _rows: dict[Key, Numbers] = attrs.Factory(dict)

    def row(self, key: Key) -> Numbers:
        """Return the row of a key, or the one in which what is too much is counted."""
        row = self._rows.get(key)
        if row is None:
            key = self._names.admit(key)
            row = self._rows.get(key)
            if row is None:
                row = self._rows[key] = [0] * NUMBERS
                self.order.append((key, row))
        return row


def _admitted(value: str, known: set[str], most: int) -> str:
    """Return a value, or OTHER where there is room for no more of its kind."""
    if value not in known:
        if len(known) >= most:
            return OTHER
        known.add(value)
    return value
