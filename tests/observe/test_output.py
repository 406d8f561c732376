"""Where the lines of the access log go, on a real disk."""

from __future__ import annotations

import stat
from pathlib import Path

from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.observe.output import FILE_MODE, RETRY, LogPlace, Output
from pyproxy.observe.twistd_log import ACCESS, TO_FILE, publish_to_file


class OutputTests(SynchronousTestCase):
    """In a file, or in twistd's log."""

    def setUp(self) -> None:
        """Make a directory, and hear twistd's log."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "access.log"
        self.clock = Clock()
        self.output = Output(self.clock.seconds)
        self.addCleanup(self.output.close)
        self.observer = EventLoggingObserver.createWithCleanup(
            self,  # type: ignore[arg-type]
            globalLogPublisher,
        )

    def place(self, max_size: int = 10_000, keep: int = 2) -> LogPlace:
        """Return the file as a place."""
        return LogPlace(str(self.path), max_size, keep)

    def logged(self) -> list[str | None]:
        """Return the lines in twistd's log."""
        return [event["line"] for event in self.observer if event["log_namespace"] == ACCESS]

    def test_twistds_log(self) -> None:
        """Without a file."""
        self.output("one")
        self.assertEqual(["one"], self.logged())
        self.assertEqual([], list(self.directory.iterdir()))

    def test_file(self) -> None:
        """In a file, and not in twistd's log; what it held stays."""
        self.path.write_text("before\n")
        self.output.take(self.place())
        self.output("one")
        self.output("two")
        self.assertEqual("before\none\ntwo\n", self.path.read_text())
        self.assertEqual([], self.logged())
        self.assertEqual(FILE_MODE, stat.S_IMODE(self.path.stat().st_mode))

    def test_rotated(self) -> None:
        """By size; so many old ones are kept."""
        self.output.take(self.place(max_size=10, keep=2))
        for number in range(10):
            self.output(f"line {number}")
        names = sorted(path.name for path in self.directory.iterdir())
        self.assertEqual(["access.log", "access.log.1", "access.log.2"], names)
        newest = [(self.directory / name).read_text() for name in reversed(names)]
        self.assertEqual("".join(f"line {number}\n" for number in range(4, 10)), "".join(newest))

    def test_reopened(self) -> None:
        """Somebody has moved it."""
        self.output.take(self.place())
        self.output("one")
        moved = self.path.rename(self.directory / "moved")
        self.output("two")
        self.output.reopen()
        self.output("three")
        self.assertEqual("one\ntwo\n", moved.read_text())
        self.assertEqual("three\n", self.path.read_text())

    def test_another_place(self) -> None:
        """A reload may name another file, or none; the same goes on."""
        self.output.take(self.place())
        self.output("one")
        file = self.output._file
        self.output.take(self.place())
        self.assertIs(file, self.output._file)
        self.output.take(LogPlace(str(self.directory / "other"), 100, 1))
        self.output("two")
        self.output.take(None)
        self.output("three")
        self.assertEqual("one\n", self.path.read_text())
        self.assertEqual("two\n", (self.directory / "other").read_text())
        self.assertEqual(["three"], self.logged())

    def test_cannot_be_written(self) -> None:
        """It is said once, and no line is lost; after a while it is tried again."""
        self.path.mkdir()
        self.output.take(self.place())
        self.output("one")
        self.output("two")
        errors = [event for event in self.observer if event["log_level"] is LogLevel.error]
        self.assertEqual(1, len(errors))
        self.assertIn(str(self.path), formatEvent(errors[0]))
        self.assertEqual(["one", "two"], self.logged())
        self.path.rmdir()
        self.clock.advance(RETRY)
        self.output("three")
        self.assertEqual("three\n", self.path.read_text())

    def test_of_a_worker(self) -> None:
        """It sends lines to its parent, under a name of their own."""
        publish_to_file("one")
        (event,) = self.observer
        self.assertEqual((TO_FILE, "one"), (event["log_namespace"], event["line"]))
