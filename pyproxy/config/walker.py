"""From a document of tables and values to facts, or to all that is wrong with it at once.

The schema's classes say what may stand where; nothing of it is repeated here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import attrs

from pyproxy.config.kinds import (
    Kind,
    Named,
    Several,
    Shape,
    Sources,
    Switch,
    Table,
    Tables,
    WrongParts,
    doc_of,
    headings_of,
    is_required,
    keys_of,
    shape_of,
)

T = TypeVar("T")

KeyPath = tuple[str | int, ...]
"""Where something stands: ``("routes", 0, "path")``."""

_MISSING = object()

_may_hold_secret = re.compile(
    r"@|\b(?:api[_-]?key|token|secret|password)=|-----BEGIN|\b(?:basic|bearer|token)\b|\bsk-",
    re.IGNORECASE,
).search
"""What a credential looks like that stands where none belongs."""


@attrs.frozen
class Problem:
    """Something that is wrong in a document.

    Attributes:
        path: of the key it is about.
        why: what would be right.
        value: what stands there, as it may be shown; None for nothing to show.
    """

    path: KeyPath
    why: str
    value: str | None = None


def shown_path(path: KeyPath) -> str:
    """Return a key path as people write it: ``routes[0].path``."""
    text = ""
    for part in path:
        if isinstance(part, str):
            # A name with a colon or a blank may be a field that was written as a whole.
            part = part.partition(":")[0].partition(" ")[0]
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part.replace("_", "").replace("-", "").isalnum() and part.isascii()
            text += ("." if text else "") + (part if bare else f'"{part}"')
    return text or "the file"


@attrs.define
class Walker:
    """Reads tables and remembers what is wrong in them."""

    sources: Sources
    problems: list[Problem] = attrs.Factory(list)
    _whole: type | None = None

    def wrong(self, path: KeyPath, why: str, value: object = _MISSING) -> None:
        """Remember something that is wrong."""
        shown = None if value is _MISSING else _shown(value)
        self.problems.append(Problem(path, why, shown))

    def also_wrong(self, path: KeyPath, why: str, value: object = _MISSING) -> None:
        """Remember what is wrong with something as a whole.

        Not if there is something wrong in it, or around it, already: that may be the reason.
        """
        for problem in self.problems:
            shorter = min(len(path), len(problem.path))
            if path[:shorter] == problem.path[:shorter]:
                return
        self.wrong(path, why, value)

    def table(self, of: type[T], document: object, path: KeyPath = ()) -> T | None:
        """Read a table.

        Returns: what is right in it, with defaults for what is not, so that more can be looked at;
            None when that cannot be.
        """
        if not isinstance(document, Mapping):
            self.wrong(path, "it has to be a table", document)
            return None
        if not path:
            self._whole = of
        keys = keys_of(of)
        for name in document:
            if name not in keys:
                self.wrong((*path, name), self._unknown_key(name, keys))
        found: dict[str, Any] = {}
        for name, field in keys.items():
            if name in document:
                before, shape = len(self.problems), shape_of(field)
                value = self._value(shape, document[name], (*path, name))
                if len(self.problems) == before or (
                    isinstance(shape, Tables | Named | Table | Switch) and value is not None
                ):
                    found[name] = value
            elif is_required(field):
                self.wrong((*path, name), _missing(name, field))
        choice: tuple[str, ...] = getattr(of, "EXACTLY_ONE_OF", ())
        if choice and sum(name in document for name in choice) != 1:
            self.wrong(path, f"it has to have exactly one of {', '.join(choice)}")
        if any(is_required(field) and name not in found for name, field in keys.items()):
            return None
        return of(**found)

    def _unknown_key(self, name: str, keys: Iterable[str]) -> str:
        """Return what is wrong with a key that is none here, and where it is one."""
        headings = {} if self._whole is None else headings_of(self._whole)
        places = [
            f"under {heading}" if heading else "at the top of the file, before the first table"
            for of, heading in headings.items()
            if name in keys_of(of)
        ]
        if places:
            return f"there is no such key here; it stands {' or '.join(places)}"
        return unknown("there is no such key", name, keys)

    def _value(self, shape: Shape, value: Any, path: KeyPath) -> Any:
        """Read what stands under a key."""
        if isinstance(shape, Kind):
            return self._one(shape, value, path)
        if isinstance(shape, Table):
            return self.table(shape.of, value, path)
        if isinstance(shape, Switch):
            return self._switch(shape, value, path)
        if isinstance(shape, Named):
            if not isinstance(value, Mapping):
                self.wrong(path, "it has to be a table of tables", value)
                return None
            return {name: self.table(shape.of, one, (*path, name)) for name, one in value.items()}
        if not isinstance(value, list):
            what = "an array of tables" if isinstance(shape, Tables) else "a list"
            self.wrong(path, f"it has to be {what}", value)
            return None
        if len(value) < shape.least:
            self.wrong(path, f"it has to have at least {shape.least}")
        places = [(one, (*path, number)) for number, one in enumerate(value)]
        if isinstance(shape, Several):
            return tuple(self._one(shape.kind, one, place) for one, place in places)
        return tuple(self.table(shape.of, one, place) for one, place in places)

    def _switch(self, shape: Switch, value: Any, path: KeyPath) -> Any:
        if isinstance(value, Mapping):
            return self.table(shape.of, value, path)
        if not isinstance(value, bool):
            self.wrong(path, "it has to be true, false or a table", value)
            return None
        return value and shape.of()

    def _one(self, kind: Kind, value: Any, path: KeyPath) -> Any:
        try:
            return kind.read(value, self.sources)
        except WrongParts as error:
            for part, why in error.parts:
                self.wrong((*path, *part), why)
            return None
        except ValueError as error:
            self.wrong(path, str(error), _MISSING if kind.secret else value)
            return None


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return what is wrong with a name, and which one may be meant.  Args: what, in words."""
    # Imported where something is wrong only.
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), 1, 0.6)
    if near:
        return f"{what}; did you mean {near[0]}?"
    return f"{what}; there are {', '.join(sorted(known))}"


def _missing(name: str, field: attrs.Attribute[Any]) -> str:
    """Return that a key is missing, and what has to stand there."""
    shape = shape_of(field)
    if isinstance(shape, Tables):
        return f"it is missing; write at least one [[{name}]]"
    what = f" ({shape.name})" if isinstance(shape, Kind) else ""
    return f"it is missing{what}: {doc_of(field).removesuffix('.')}"


def _shown(value: object) -> str | None:
    """Return a value as an error shows it; nothing of what may hold a secret deep inside."""
    if isinstance(value, Mapping | list):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if _may_hold_secret(text):
        return None
    return text if len(text) <= 80 else text[:77] + "..."
