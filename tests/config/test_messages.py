"""Every mistake that the schema knows gets a message: line, key, and what would be right."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import attrs
import tomli_w
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.file import load_file
from pyproxy.config.kinds import Switch, Table, is_required, keys_of, shape_of
from pyproxy.config.loader import ConfigError
from pyproxy.config.tables import Root, Route

WHOLE: dict[str, Any] = {
    "listeners": [{"endpoint": "tcp:0:interface=127.0.0.1"}],
    "upstreams": {"a": {"target": "http://127.0.0.1:9"}},
    "routes": [{"path": "/", "upstream": "a"}],
}
"""A document that is right."""

WRONG: tuple[Any, ...] = (True, -1, 1e12, "", "\x01", [1], [[]], {"": 1}, {"strange": {}})
"""Values of which every key refuses at least one."""

REQUIRED: dict[str, dict[str, Any]] = {
    "redirect": {"to": "https://a.example/"},
    "post": {"ttl": 1},
}
"""What the tables within tables have to have besides."""

_message = re.compile(r"(?P<line>\d+): (?P<path>[^:=]+?)(?: = .*?)?: (?P<why>.{12,})", re.DOTALL)


Put = Callable[[dict[str, Any]], dict[str, Any]]
"""Puts keys into one table of the document."""


@attrs.frozen
class Place:
    """A table in the document: its class, its path, and what puts keys into it."""

    of: type
    path: str
    put: Put


def places() -> Iterator[Place]:
    """Give every table of the schema."""

    def into(name: str, number: int | str) -> Put:
        def put(keys: dict[str, Any]) -> dict[str, Any]:
            if name not in WHOLE:
                return {**WHOLE, name: keys}
            if isinstance(number, int):
                table = {**WHOLE[name][number], **keys}
                if "redirect" in keys or "answer" in keys:
                    del table["upstream"]
                return {**WHOLE, name: [table]}
            return {**WHOLE, name: {number: {**WHOLE[name][number], **keys}}}

        return put

    def under(put: Put, name: str) -> Put:
        return lambda keys: put({name: {**REQUIRED.get(name, {}), **keys}})

    def within(place: Place) -> Iterator[Place]:
        yield place
        for name, field in keys_of(place.of).items():
            shape = shape_of(field)
            if isinstance(shape, Table | Switch):
                inner = Place(shape.of, f"{place.path}{name}.", under(place.put, name))
                yield from within(inner)

    yield Place(Root, "", lambda keys: {**WHOLE, **keys})
    for name, number, path in (
        ("listeners", 0, "listeners[0]."),
        ("upstreams", "a", "upstreams.a."),
        ("routes", 0, "routes[0]."),
        ("defaults", "", "defaults."),
        ("cache", "", "cache."),
    ):
        of: Any = shape_of(keys_of(Root)[name])
        yield from within(Place(of.of, path, into(name, number)))


class MessageTests(SynchronousTestCase):
    """Each key wrong in turn, each unknown, each missing."""

    def setUp(self) -> None:
        """Name a file."""
        self.path = Path(self.mktemp())

    def errors(self, document: dict[str, Any]) -> list[str]:
        """Return what is said of a document."""
        self.path.write_text(tomli_w.dumps(document))
        try:
            load_file(self.path, {}, lambda description: None, None, False)
        except ConfigError as error:
            return [one.removeprefix(f"{self.path}:") for one in error.errors]
        return []

    def check(self, document: dict[str, Any], path: str) -> str:
        """Check that something is said of a key, or within it, with a line; return it."""
        errors = self.errors(document)
        lines = self.path.read_text().count("\n")
        for error in errors:
            found = _message.fullmatch(error)
            self.assertIsNotNone(found, error)
            assert found is not None
            self.assertTrue(1 <= int(found["line"]) <= lines, error)
        within = re.compile(re.escape(path) + r"(?:[.\[].*)?", re.DOTALL)
        of_it = [error for error in errors if within.fullmatch(_path_of(error))]
        self.assertTrue(of_it, f"nothing is said of {path}: {errors}")
        return of_it[0]

    def test_right(self) -> None:
        """The document itself is right."""
        self.assertEqual([], self.errors(WHOLE))

    def test_wrong(self) -> None:
        """A value that cannot be: of every key there is one, and each has a message."""
        for place in places():
            for name in keys_of(place.of):
                refused = 0
                for value in WRONG:
                    document = place.put({name: value})
                    if self.errors(document):
                        self.check(document, f"{place.path}{name}")
                        refused += 1
                self.assertTrue(refused, f"{place.path}{name} takes everything")

    def test_unknown(self) -> None:
        """A name that is nearly right: the right one is in the message."""
        for place in places():
            for name in keys_of(place.of):
                said = self.check(place.put({f"{name}x": 1}), f"{place.path}{name}x")
                self.assertIn(f"did you mean {name}?", said)
            said = self.check(place.put({"qqqqqqqq": 1}), f"{place.path}qqqqqqqq")
            self.assertIn("there are ", said)

    def test_exactly_one(self) -> None:
        """Of keys that take each other's place none, or several: the table is named."""
        values: dict[str, Any] = {"upstream": "a", "redirect": REQUIRED["redirect"], "answer": {}}
        self.assertEqual(set(Route.EXACTLY_ONE_OF), set(values))
        for count in (0, 2, 3):
            for names in combinations(values, count):
                route = {"path": "/", **{name: values[name] for name in names}}
                said = self.check({**WHOLE, "routes": [route]}, "routes[0]")
                self.assertIn("exactly one of", said)

    def test_missing(self) -> None:
        """A key without which there is nothing."""
        seen = 0
        for place in places():
            required = [name for name, field in keys_of(place.of).items() if is_required(field)]
            for name in required:
                document = place.put({})
                table: Any = document
                for part in re.findall(r"[a-z_]+|\d+", place.path):
                    table = table[int(part) if part.isdigit() else part]
                table.pop(name, None) if table is not WHOLE else None
                kept = {key: one for key, one in document.items() if place.path or key != name}
                self.assertIn("missing", self.check(kept, f"{place.path}{name}"))
                seen += 1
        self.assertGreater(seen, 2)


def _path_of(error: str) -> str:
    found = _message.fullmatch(error)
    return "" if found is None else found["path"]
