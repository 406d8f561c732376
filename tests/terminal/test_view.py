"""The screen as lines, and what keys change of it, without a terminal."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.terminal import columns
from pyproxy.terminal.known import Row
from pyproxy.terminal.view import MOST_FILTER, Mode, View
from pyproxy.terminal.written import cells
from tests.terminal.kit import NOW, news, over, row

WIDTH, HEIGHT = 160, 12


class ViewTestCase(SynchronousTestCase):
    """A case with a screen."""

    def setUp(self) -> None:
        """Show nothing yet."""
        self.stopped: list[str] = []
        self.view = View("http://site", self.stopped.append)

    def press(self, *keys: str) -> None:
        """Press keys."""
        for key in keys:
            self.view.key(key, NOW)

    def screen(self, width: int = WIDTH, height: int = HEIGHT) -> list[str]:
        """Return the lines as text."""
        return ["".join(text for text, _ in line) for line in self.view.lines(width, height, NOW)]

    def ids(self) -> list[str]:
        """Return the rows that are seen, from above."""
        return [line.split()[0] for line in self.screen()[3:-1] if line]

    def here(self) -> str:
        """Return the row that is chosen; empty for none."""
        for line in self.view.lines(WIDTH, HEIGHT, NOW)[3:-1]:
            if line and line[0][1] == "here":
                return line[0][0].strip()
        return ""


class ScreenTests(ViewTestCase):
    """What stands where."""

    def test_rows(self) -> None:
        """The sums, the heads, a row for each, and what keys there are."""
        self.view.known.take(
            news(rows=[row(1, websocket=True), row(2, slow="client", tokens=1234)])
        )
        lines = self.screen()
        self.assertEqual(HEIGHT, len(lines))
        self.assertIn("2 open   1 WebSockets   0 events/s   slow: 1 clients, 0 upstreams", lines[0])
        self.assertTrue(lines[0].endswith("live"))
        self.assertIn("asked for", lines[2])
        self.assertIn("GET /2", lines[4])
        self.assertIn("1,234", lines[4])
        self.assertIn("10.0 s", lines[4])
        self.assertIn("q quit", lines[-1])

    def test_sizes(self) -> None:
        """No line is longer than the screen, and there are no more than it has."""
        self.view.known.take(news(rows=[row(one, target="/日本" * 40) for one in range(30)]))
        for width in (0, 1, 7, 20, 40, 80, 133, 300):
            for height in (0, 1, 2, 3, 4, 5, 40):
                lines = self.screen(width, height)
                self.assertEqual(height, len(lines))
                if width > 60:
                    self.assertLessEqual(max(map(cells, lines), default=0), width)

    def test_spared(self) -> None:
        """Where there is less room there are fewer columns, and what was asked for stays."""
        self.view.known.take(news(rows=[row(1)]))
        wide, narrow = self.screen(240)[2], self.screen(64)[2]
        for title in ("client", "upstream", "waits"):
            self.assertIn(title, wide)
            self.assertNotIn(title, narrow)
        for title in ("request", "asked for", "state", "age"):
            self.assertIn(title, narrow)

    def test_troubles(self) -> None:
        """What is not as it should be is said."""
        told = news()
        told["counts"].update(hidden=1500, silent=[2], failures=1, phase="draining")
        self.view.known.take(told)
        for words in ("1,500 more", "do not answer now: 2", "refused", "is draining"):
            self.assertIn(words, self.screen(300)[1])

    def test_away(self) -> None:
        """While the site is away that is said, and the rows stay."""
        self.assertTrue(self.screen()[0].endswith("connecting"))
        self.view.known.take(news(rows=[row(1)]))
        self.view.away = "http://site: Connection refused"
        lines = self.screen()
        self.assertTrue(lines[0].endswith("AWAY"))
        self.assertIn("Connection refused", lines[1])
        self.assertIn("GET /1", lines[3])

    def test_ended(self) -> None:
        """Another key shows what has ended, the last one first."""
        self.view.known.take(news(ended=[over(1), over(2, began=NOW - 5), over(3, status=503)]))
        self.press("tab")
        self.assertEqual("1-2", self.ids()[0])
        self.assertIn("1.5 s", self.screen()[3])
        self.press("tab")
        self.assertEqual([], self.ids())


class KeyTests(ViewTestCase):
    """What keys do."""

    def setUp(self) -> None:
        """Have rows, more than there is room for."""
        super().setUp()
        rows = [row(one, began=NOW - 100 + one, sent=one % 3) for one in range(1, 21)]
        self.view.known.take(news(rows=rows))

    def test_choose(self) -> None:
        """The chosen row stays chosen wherever it goes, and on the screen."""
        self.assertEqual("", self.here())
        self.press("down")
        self.assertEqual("1-1", self.here())
        self.press("end")
        self.assertEqual("1-20", self.here())
        self.press("up", "k", "j")
        self.assertEqual("1-19", self.here())
        self.press("r")
        self.assertEqual("1-19", self.here())
        self.press("home")
        self.assertEqual("1-20", self.ids()[0])
        self.press("page down")
        self.assertEqual("1-12", self.here())
        self.press("escape")
        self.assertEqual("", self.here())

    def test_goes(self) -> None:
        """When the chosen row goes, the one in its place is chosen."""
        self.press("down", "down")
        self.view.known.take(news(gone=["1-2"]))
        self.assertEqual("1-3", self.here())

    def test_sort(self) -> None:
        """Every column can be sorted by; of what is alike the older one stands above."""
        titles = [column.title for column in columns.OPEN]
        self.press(*[">"] * titles.index("sent"))
        self.assertIn("sentv", self.screen()[2])
        self.assertEqual(["1-2", "1-5", "1-8"], self.ids()[:3])
        self.press("r")
        self.assertEqual(["1-3", "1-6", "1-9"], self.ids()[:3])
        for _ in range(2 * len(titles)):
            self.press("<")
            self.assertEqual(20, len(self.view.rows(NOW)))
        self.press("tab")
        for _ in columns.ENDED:
            self.press("right")
            self.screen()

    def test_filter(self) -> None:
        """All words of the filter have to stand in a row, in whatever letters."""
        self.press("/", *"GET /1", "back", "9", "enter")
        self.assertIs(Mode.ROWS, self.view.mode)
        self.assertEqual(["1-9"], self.ids())
        self.assertIn("1 rows with: GET /9", self.screen()[1])
        self.press("/", *"x" * (MOST_FILTER + 9), "up")
        self.assertEqual(MOST_FILTER, len(self.view.filter))
        self.press("escape")
        self.assertEqual(("", 20), (self.view.filter, len(self.view.rows(NOW))))

    def test_stop(self) -> None:
        """A row is stopped once that is confirmed, and never one that was not chosen."""
        self.press("x")
        self.assertIn("choose a row", self.screen()[1])
        self.press("down", "x")
        self.assertIn("Stop 1-1?", self.screen()[1])
        self.press("n")
        self.press("y")
        self.assertEqual([], self.stopped)
        self.press("x")
        self.view.known.take(news(gone=["1-1"]))
        self.assertIn("it has ended", self.screen()[1])
        self.press("y")
        self.assertEqual(["1-1"], self.stopped)

    def test_none(self) -> None:
        """Without rows keys do nothing; what has ended cannot be stopped."""
        self.view.known.take(news(reset=True, ended=[over(1)]))
        self.press("down", "end", "x")
        self.assertEqual((Mode.ROWS, ""), (self.view.mode, self.here()))
        self.press("tab", "down", "x", "y")
        self.assertEqual([], self.stopped)

    def test_quit(self) -> None:
        """A key ends it, but not while it is a part of the filter."""
        self.press("/", "q")
        self.assertIs(Mode.FILTER, self.view.mode)
        self.press("enter", "q")
        self.assertIs(Mode.OVER, self.view.mode)


class ColumnTests(SynchronousTestCase):
    """What columns say of a row."""

    def said(self, title: str, **more: Any) -> str:
        """Return what a column says."""
        (column,) = (one for one in columns.OPEN if one.title == title)
        return column.text(Row(row(**more)), NOW)

    def test_texts(self) -> None:
        """What is not known stays empty."""
        self.assertEqual("", self.said("model"))
        self.assertEqual("", self.said("tokens"))
        self.assertEqual("", self.said("first", first=None))
        self.assertEqual("", self.said("waits"))
        self.assertEqual("2.0 KiB 0 B", self.said("waits", to_client=2048))
        self.assertEqual("p:1", self.said("upstream"))

    def test_pace(self) -> None:
        """Where nobody reads events octets are counted."""
        (column,) = (one for one in columns.OPEN if one.title == "events")
        one = Row(row())
        one.note(NOW - 2)
        self.assertEqual("", column.text(one, NOW))
        one.values["sent"] = 4096
        self.assertEqual("2.0 KiB/s", column.text(one, NOW))
        one.values["events"] = 6
        self.assertEqual("3.0/s", column.text(one, NOW))
