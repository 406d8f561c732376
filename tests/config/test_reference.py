"""The references and the schema are those of the options and the tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config import reference
from pyproxy.config.beside import Key, key_of
from pyproxy.config.kinds import Named, Switch, Table, Tables, doc_of, keys_of, shape_of
from pyproxy.config.printing import document_of
from pyproxy.config.tables import Listener, Root, Route, Upstream
from pyproxy.tap import Options

ROOT = Path(__file__).resolve().parents[2]

WITHOUT_KEY = {"check", "config", "help", "print-config", "version", "watch"}
"""Options that say what to do with a configuration, or where it is; a file says none of that."""


def options() -> dict[str, bool]:
    """Return the long names of all options, and whether each has an argument."""
    return {name.removesuffix("="): name.endswith("=") for name in Options().longOpt}


class ReferenceTests(SynchronousTestCase):
    """``python -m pyproxy.config.reference`` was run after the last change."""

    def test_up_to_date(self) -> None:
        """The three files are what the options and the tables say."""
        for path, text in (
            (reference.OPTIONS, reference.options()),
            (reference.KEYS, reference.keys()),
            (reference.SCHEMA, reference.schema()),
        ):
            self.assertEqual(text, (ROOT / path).read_text("utf-8"), path)

    def test_every_key(self) -> None:
        """Every key of every table stands there, with a sentence that ends."""
        text = reference.keys()
        tables: list[type] = [Root]
        while tables:
            for name, field in keys_of(tables.pop()).items():
                self.assertRegex(text, rf"\.\. confval:: (?:[a-z]+\.)*{name}\n")
                self.assertTrue(doc_of(field).endswith("."), name)
                shape = shape_of(field)
                if isinstance(shape, Table | Tables | Named | Switch):
                    tables.append(shape.of)

    def test_every_option(self) -> None:
        """Every option stands there once, with what its argument is, and a sentence that ends."""
        parts = re.split(r"^\.\. option:: --", reference.options(), flags=re.MULTILINE)[1:]
        self.assertEqual(
            sorted(options()),
            re.findall(r"^\.\. option:: --([a-z-]+)", reference.options(), re.MULTILINE),
        )
        for part in parts:
            head, _, sentence, *rest = part.splitlines()
            name = head.split(" ")[0].rstrip(",")
            self.assertEqual(options()[name], " " in head, head)
            self.assertRegex(sentence, r"^   [A-Z].*\.$")
            self.assertEqual(name not in WITHOUT_KEY, any(":confval:" in line for line in rest))

    def test_markup(self) -> None:
        """What reStructuredText would take for markup is written as it is meant."""
        text = reference.options()
        self.assertIn("only :option:`--port` and :option:`--listen` go beside it", text)
        self.assertIn("``http(s)://HOST[:PORT][/PATH]`` or ``unix:/SOCKET``.", text)
        self.assertIn("``Name: value``; ``${VARIABLE}`` and ``@FILE`` expand", text)
        self.assertIn("``*.SUFFIX`` or ``any``", text)
        self.assertIn("X-Forwarded-\\* are", text)
        self.assertIn("the client's Host to the target instead of the target's.", text)

    def test_defaults_and_spellings(self) -> None:
        """Defaults stand where there are any, short options beside the long ones."""
        text = reference.options()
        self.assertRegex(text, r"option:: --port PORT, -p PORT\n\n.*\n\n   Default: ``8000``\.")
        self.assertRegex(
            text, r"option:: --max-body SIZE\n\n.*\n\n   In the file: :confval:`routes"
        )
        self.assertRegex(
            text, r"option:: --no-access-log\n\n.*\n\n   In .*access_log` ``= false``\."
        )
        self.assertIn(":confval:`upstreams.set_headers`, :confval:`routes.set_headers`.", text)


class KeyTests(SynchronousTestCase):
    """Each option has a key that says the same."""

    def test_every_option(self) -> None:
        """What an option says stands under its key when the command line is printed as a file."""
        for name, has_argument in options().items():
            key = key_of(name)
            if name in WITHOUT_KEY:
                self.assertIsNone(key, name)
                continue
            assert key is not None, name
            repeatable = isinstance(Options()[name], list)
            value: Any = ["A: 7"] if repeatable else "7" if has_argument else 1
            self.assertIn("7" if has_argument else key.value, str(said(key, name, value)).lower())

    def test_place(self) -> None:
        """The places, as people are told of them."""
        for name, place in (
            ("workers", "workers at its top"),
            ("open", "open = true at its top"),
            ("target", "target under [upstreams.NAME]"),
            ("demo", "demo = true under [upstreams.NAME]"),
            ("prefix", "path under [[routes]]"),
            ("max-body", "max_body under [[routes]] or [defaults]"),
            ("no-stream-hints", "stream_hints = false under [[routes]] or [defaults]"),
            ("remove-header", "remove_headers under [upstreams.NAME], [[routes]] or [defaults]"),
        ):
            key = key_of(name)
            assert key is not None, name
            self.assertEqual(place, key.place)


def said(key: Key, option: str, value: object) -> object:
    """Return what stands under a key in the file that says the same as one option."""
    document = document_of({**Options(), option: value})
    tables: dict[type, dict[str, Any]] = {
        Root: document,
        Upstream: document["upstreams"]["target"],
        Route: document["routes"][0],
        Listener: document["listeners"][0],
    }
    found = [tables[table][key.name] for table in key.tables if key.name in tables.get(table, {})]
    return found[0] if found else None
