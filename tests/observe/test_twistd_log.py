"""The access log's way into twistd's log."""

from __future__ import annotations

import io
import os
import time
from typing import Any

from twisted.logger import (
    FileLogObserver,
    LogEvent,
    LogLevel,
    LogPublisher,
    formatEventAsClassicLogText,
    textFileLogObserver,
)
from twisted.scripts._twistd_unix import UnixAppLogger
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.observe import twistd_log
from pyproxy.observe.twistd_log import publish_line, take_lines, take_lines_everywhere

LINE = '192.0.2.1 - - [24/Nov/2026:12:00:00 +0000] "GET /{a} HTTP/1.1" 200 5 "-" "-" 0.001'


class LineTests(SynchronousTestCase):
    """What is written is what Twisted itself would have written."""

    def setUp(self) -> None:
        """Publish lines to an observer that takes lines, and to one that does not."""
        self.events: list[LogEvent] = []
        self.short, self.long = io.StringIO(), io.StringIO()
        short = textFileLogObserver(self.short)
        take_lines(short)
        long = textFileLogObserver(self.long)
        self.publisher = LogPublisher(short, long, self.events.append)  # type: ignore[arg-type]
        self.patch(twistd_log, "globalLogPublisher", self.publisher)

    def test_same_text(self) -> None:
        """Whatever the second, and what the line holds."""
        for now in (0.0, 1764072000.0, 1764072000.9, 1764072001.2, 1764072000.1):
            publish_line(LINE, now)
        self.assertEqual(5, self.short.getvalue().count("\n"))
        self.assertEqual(self.long.getvalue(), self.short.getvalue())

    def test_time_zone(self) -> None:
        """The zone that holds at that second: it changes twice a year."""
        self.set_zone("CET-1CEST,M3.5.0,M10.5.0/3")
        for month in (1, 7):
            publish_line(LINE, time.mktime((2026, month, 2, 3, 4, 5, 0, 0, -1)))
        self.assertIn("+0100", self.short.getvalue())
        self.assertIn("+0200", self.short.getvalue())
        self.assertEqual(self.long.getvalue(), self.short.getvalue())

    def set_zone(self, zone: str | None) -> None:
        """Live in a time zone until the test has ended."""
        before = os.environ.pop("TZ", None)
        if zone is not None:
            os.environ["TZ"] = zone
            self.addCleanup(self.set_zone, before)
        time.tzset()

    def test_event(self) -> None:
        """An observer that wants facts gets them, under the access log's namespace."""
        publish_line(LINE, worker=3)
        [event] = self.events
        self.assertEqual(
            ("pyproxy.access", LogLevel.info, LINE, 3),
            tuple(event[key] for key in ("log_namespace", "log_level", "line", "worker")),
        )
        text = formatEventAsClassicLogText(event)
        self.assertTrue(text is not None and text.endswith(f"[pyproxy.access#info] {LINE}\n"))

    def test_other_events(self) -> None:
        """Everything else is Twisted's to format."""
        self.publisher({"log_format": "{x}", "x": 1, "log_namespace": "a", "log_time": 1.0})
        self.publisher({"log_format": "", "log_namespace": "pyproxy.access", "log_time": 1.0})
        self.assertEqual(self.long.getvalue(), self.short.getvalue())
        self.assertIn("[a#-] 1", self.short.getvalue())

    def test_more_of_the_time(self) -> None:
        """A format that tells more than the second is asked for each line."""
        for time_format in ("%H:%M:%S.%f", None):
            with self.subTest(time_format):
                texts = io.StringIO(), io.StringIO()
                short, long = (textFileLogObserver(text, time_format) for text in texts)
                take_lines(short)
                for now in (7.25, 7.5, 8.0):
                    event = {"log_namespace": "pyproxy.access", "log_format": "{line}"}
                    for observer in (short, long):
                        observer({**event, "log_time": now, "line": LINE})
                self.assertEqual(texts[1].getvalue(), texts[0].getvalue())

    def test_other_formats(self) -> None:
        """A format that is no start and a line is asked for each line."""
        text = io.StringIO()
        observer = FileLogObserver(text, lambda event: f"<{event['line']}>")
        take_lines(observer)
        observer({"log_namespace": "pyproxy.access", "log_time": 1.0, "line": LINE})
        self.assertEqual(f"<{LINE}>", text.getvalue())

    def test_whole_log(self) -> None:
        """Every observer of the process's log takes lines, once, whatever else is asked."""
        for _ in range(2):
            take_lines_everywhere()
        publish_line(LINE, 3.0)
        self.assertEqual(self.long.getvalue(), self.short.getvalue())
        self.assertEqual(1, len(self.events))

    def test_twistds_own(self) -> None:
        """The observer that twistd makes for its log file is one of those that take lines."""
        path = self.mktemp()
        log: Any = UnixAppLogger({"logfile": path, "nodaemon": True})
        observer = log._getLogObserver()
        before = observer.formatEvent
        take_lines(observer)
        self.assertIsNot(before, observer.formatEvent)
        for now in (1.0, 1.5):
            event = {"log_namespace": "pyproxy.access", "log_level": LogLevel.info}
            observer({**event, "log_format": "{line}", "log_time": now, "line": LINE})
        with open(path, encoding="utf-8") as file:
            self.assertEqual(2, file.read().count(f" [pyproxy.access#info] {LINE}\n"))
