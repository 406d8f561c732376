"""Reference and schema are those of the tables."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.kinds import Named, Table, Tables, doc_of, keys_of, shape_of
from pyproxy.config.reference import REFERENCE, SCHEMA, reference, schema
from pyproxy.config.tables import Root

ROOT = Path(__file__).resolve().parents[2]


class ReferenceTests(SynchronousTestCase):
    """``python -m pyproxy.config.reference`` was run after the last change."""

    def test_up_to_date(self) -> None:
        """Both files are what the tables say."""
        self.assertEqual(reference(), (ROOT / REFERENCE).read_text("utf-8"))
        self.assertEqual(schema(), (ROOT / SCHEMA).read_text("utf-8"))

    def test_every_key(self) -> None:
        """Every key of every table stands there, with a sentence that ends."""
        text = reference()
        tables: list[type] = [Root]
        while tables:
            for name, field in keys_of(tables.pop()).items():
                self.assertIn(f"``{name}``", text)
                self.assertTrue(doc_of(field).endswith("."), name)
                shape = shape_of(field)
                if isinstance(shape, Table | Tables | Named):
                    tables.append(shape.of)
