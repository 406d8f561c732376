"""Rows that change, told as what has changed."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.observe.book import MOST_ENDED, MOST_GONE, Book

_STEPS = st.lists(
    st.lists(
        st.tuples(st.sampled_from(("open", "move", "remove", "end")), st.integers(0, 5)), max_size=6
    ),
    max_size=12,
)


class Reader:
    """A page: what it shows follows from what it is told.

    Attributes: rows by name, as they are shown.
    """

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.version: int | None = None

    def read(self, book: Book[int]) -> None:
        """Take what has changed."""
        news = book.news(self.version)
        self.version = news["version"]
        if news["reset"]:
            self.rows.clear()
        for name in news["gone"]:
            self.rows.pop(str(name), None)
        for row in news["rows"]:
            self.rows[str(row["name"])] = row
        for name, (value,) in news["moved"].items():
            self.rows[name] = {**self.rows[name], "value": value}


class BookTests(SynchronousTestCase):
    """A book."""

    def setUp(self) -> None:
        """Have an empty one."""
        self.book = Book[int](("value",))

    def test_first(self) -> None:
        """Who has seen nothing is told all, who has seen all nothing."""
        self.book.step()
        self.book.open(1, {"name": 1}, [0])
        self.book.end({"name": 0})
        news = self.book.news(None)
        self.assertTrue(news["reset"])
        self.assertEqual([{"name": 1, "value": 0}], news["rows"])
        self.assertEqual([{"name": 0}], news["ended"])
        again = self.book.news(news["version"])
        for part in ("reset", "rows", "moved", "gone", "ended"):
            self.assertFalse(again[part], part)

    def test_moved(self) -> None:
        """A value that changes is told alone, however often it did; the same one is no news."""
        self.book.step()
        self.book.open(1, {"name": 1}, [0])
        seen = self.book.news(None)["version"]
        for value in (0, 1, 2):
            self.book.step()
            self.book.move(1, [value])
        news = self.book.news(seen)
        self.assertEqual(([], {"1": [2]}), (news["rows"], news["moved"]))
        self.book.step()
        self.book.move(1, [2])
        self.assertEqual({}, self.book.news(news["version"])["moved"])

    def test_bounds(self) -> None:
        """What went, and what ended, is kept in bounds; who has missed more is told all anew."""
        seen = self.book.news(None)["version"]
        for name in range(MOST_GONE + 1):
            self.book.step()
            self.book.open(name, {"name": name}, [0])
            self.book.remove(name)
            self.book.end({"name": name})
        news = self.book.news(seen)
        self.assertTrue(news["reset"])
        self.assertEqual(MOST_ENDED, len(news["ended"]))
        self.assertEqual(MOST_GONE, news["ended"][-1]["name"])
        self.assertFalse(self.book.news(news["version"] - 5)["reset"])

    def test_another_book(self) -> None:
        """A version that never was here is of another book."""
        self.assertTrue(self.book.news(99)["reset"])

    @given(_STEPS, st.data())
    @settings(max_examples=100, deadline=None)
    def test_readers(self, steps: list[list[tuple[str, int]]], data: st.DataObject) -> None:
        """Whenever somebody reads, and whatever happened, he shows what stands there."""
        book = Book[int](("value",))
        often, seldom = Reader(), Reader()
        value = 0
        for step in steps:
            book.step()
            for what, name in step:
                value += 1
                if what == "open" and name not in book:
                    book.open(name, {"name": name}, [value])
                elif what == "move" and name in book:
                    book.move(name, [value])
                elif what == "remove":
                    book.remove(name)
                elif what == "end":
                    book.end({"name": name})
            often.read(book)
            if data.draw(st.booleans()):
                seldom.read(book)
        seldom.read(book)
        shown = {str(row["name"]): row for row in book.news(None)["rows"]}
        self.assertEqual(shown, often.rows)
        self.assertEqual(shown, seldom.rows)
