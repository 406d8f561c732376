"""A worker's log goes to its parent, and never stops the worker."""

from __future__ import annotations

import fcntl
import os
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, Logger, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pyproxy.workers.logpipe import DELAY, ROOM, LogPipe
from pyproxy.workers.records import READY, STREAMS, TAKEN, Record, RecordReader


class Reactor(MemoryReactorClock):
    """A reactor that knows who waits to write."""

    def callFromThread(self, callable: Any, *args: Any) -> None:  # noqa: A002
        """Call in the next turn."""
        self.callLater(0, callable, *args)


class LogPipeTests(SynchronousTestCase):
    """The worker's end of the pipe."""

    def setUp(self) -> None:
        """Make a small pipe and a log on it."""
        self.read_end, write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
        self.addCleanup(os.close, write_end)
        self.addCleanup(self.hang_up)
        self.reactor = Reactor()
        self.pipe = LogPipe(self.reactor, write_end)
        self.assertTrue(verifyObject(ILogObserver, self.pipe))
        self.log = Logger("pyproxy.access", observer=LogPublisher(self.pipe))
        self.reader = RecordReader()

    def hang_up(self) -> None:
        """Close the parent's end."""
        if self.read_end >= 0:
            os.close(self.read_end)
            self.read_end = -1

    def take(self) -> list[Record]:
        """Read what is in the pipe now."""
        try:
            return list(self.reader.feed(os.read(self.read_end, 65536)))
        except BlockingIOError:
            return []

    def take_all(self) -> list[Record]:
        """Read until nothing comes, letting the pipe write."""
        records: list[Record] = []
        while more := self.take():
            records += more
            if self.reactor.writers:
                self.pipe.doWrite()
        return records

    def test_together(self) -> None:
        """Lines of one moment go in one write, a moment later."""
        for number in range(3):
            self.log.info("{line}", line=f"line {number}")
        self.assertEqual([], self.take())
        self.reactor.advance(DELAY)
        records = self.take()
        self.assertEqual(["line 0", "line 1", "line 2"], [record.text for record in records])
        self.assertEqual({("pyproxy.access", 1)}, {(r.namespace, r.level) for r in records})
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_urgent(self) -> None:
        """A warning goes at once, and behind what came before it."""
        self.log.info("before")
        self.log.warn("now")
        self.assertEqual(["before", "now"], [record.text for record in self.take()])
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_traceback(self) -> None:
        """A failure is one record with all its lines."""
        try:
            raise KeyError("gone")
        except KeyError:
            self.log.failure("it failed", Failure())
        (record,) = self.take()
        self.assertTrue(record.text.startswith("it failed\nTraceback"), record.text)
        self.assertIn("KeyError: 'gone'", record.text)

    def test_process_lines(self) -> None:
        """What a process says of itself is left to the parent; its errors are not."""
        log = Logger("log_legacy", observer=LogPublisher(self.pipe))
        log.info("ProxySite starting on 8000")
        log.critical("it broke")
        self.assertEqual(["it broke"], [record.text for record in self.take()])

    def test_ready(self) -> None:
        """That it serves is told at once."""
        self.pipe.ready()
        self.assertEqual([READY], [record.level for record in self.take()])

    def test_full_pipe(self) -> None:
        """When the parent reads nothing the worker goes on, and nothing is lost up to ROOM."""
        for number in range(100):
            self.log.warn("{line}", line=f"{number} " + "x" * 200)
        self.assertIn(self.pipe, self.reactor.writers)
        records = self.take_all()
        self.assertEqual(list(range(100)), [int(record.text.split()[0]) for record in records])
        self.assertFalse(self.reactor.writers)

    def test_bound(self) -> None:
        """Past ROOM lines are dropped as wholes, and their number is told."""
        count = 2 * ROOM // 1000
        for number in range(count):
            self.log.warn("{line}", line=f"{number} " + "x" * 1000)
        records = self.take_all()
        *kept, told = records
        self.assertEqual(list(range(len(kept))), [int(record.text.split()[0]) for record in kept])
        self.assertLess(sum(len(record.text) for record in kept), ROOM + 8192)
        self.assertIn(f"{count - len(kept)} lines of the log were dropped", told.text)
        self.log.warn("after")
        self.assertEqual(["after"], [record.text for record in self.take()])

    def test_told_past_the_bound(self) -> None:
        """What the parent is told is never dropped: it waits for that, and would kill the worker.

        It stands behind the lines that were there before it, and before those that come later.
        """
        for length in (1000, 1):
            for _ in range(2 * ROOM // 1000):
                self.log.warn("{line}", line="x" * length)
        for what, text in ((READY, ""), (TAKEN, "7"), (STREAMS, "12")):
            self.pipe.tell(what, text)
            self.log.warn("{line}", line="late")
        records = self.take_all()
        self.assertEqual(
            [(READY, ""), (TAKEN, "7"), (STREAMS, "12")],
            [(record.level, record.text) for record in records[-4:-1]],
        )
        self.assertIn("lines of the log were dropped", records[-1].text)
        self.assertNotIn("late", [record.text for record in records])

    def test_told_in_order(self) -> None:
        """What is told comes at once, behind what was logged before."""
        self.log.info("before")
        self.pipe.tell(TAKEN, "2")
        self.assertEqual(["before", "2"], [record.text for record in self.take()])
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_parent_gone(self) -> None:
        """Without a parent lines go nowhere, and nothing is kept."""
        self.hang_up()
        self.log.warn("nobody hears this")
        self.log.info("nor this")
        self.pipe.tell(STREAMS, "1")
        self.assertFalse(self.reactor.getDelayedCalls() or self.reactor.writers)

    def test_finish(self) -> None:
        """What is left at the end is written then."""
        self.log.info("last words")
        self.pipe.finish()
        self.assertEqual(["last words"], [record.text for record in self.take()])

    def test_thread(self) -> None:
        """A line from another thread comes through the reactor."""
        self.pipe._thread += 1
        self.log.warn("from a thread")
        self.assertEqual([], self.take())
        self.reactor.advance(0)
        (record,) = self.take()
        self.assertEqual("from a thread", record.text)
