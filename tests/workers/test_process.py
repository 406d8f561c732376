"""A worker's process from its parent's side."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, eventAsText, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.observe.twistd_log import TO_FILE
from pyproxy.workers.handover import FIRST_SOCKET, LOG, TALLY
from pyproxy.workers.orders import OrderLine
from pyproxy.workers.process import MAX_OUTPUT, PAUSE, Running, Told, WorkerProtocol, spawn
from pyproxy.workers.records import READY, STREAMS, TAKEN, Record


class FakeTransport:
    """A process that has ended already."""

    pid = 7

    def signalProcess(self, name: str) -> None:
        """Refuse."""
        raise ProcessExitedAlready


class WorkerProtocolTests(SynchronousTestCase):
    """What a worker says."""

    def setUp(self) -> None:
        """Start the third worker."""
        self.observer = EventLoggingObserver.createWithCleanup(
            self,  # type: ignore[arg-type]
            globalLogPublisher,
        )
        self.told: list[str] = []
        self.clock = Clock()
        told = Told(
            lambda: self.told.append("ready"),
            lambda generation: self.told.append(f"taken {generation}"),
            lambda streams: self.told.append(f"streams {streams}"),
            self.told.append,
            line=lambda line: self.told.append(f"line {line}"),
        )
        self.protocol = WorkerProtocol(self.clock, 3, told)
        self.transport: Any = FakeTransport()
        self.protocol.makeConnection(self.transport)

    def test_tells(self) -> None:
        """What it tells its parent is no line of a log."""
        for what, text in ((READY, ""), (TAKEN, "7"), (STREAMS, "12")):
            self.protocol.childDataReceived(LOG, Record(9.0, what, text=text).octets())
        self.assertEqual(["ready", "taken 7", "streams 12"], self.told)
        self.assertEqual(0, len(list(self.observer)))

    def test_line_for_a_file(self) -> None:
        """What is for the access log's own file stands in no other."""
        record = Record(9.0, 1, TO_FILE, "{}")
        self.protocol.childDataReceived(LOG, record.octets())
        self.assertEqual(["line {}"], self.told)
        self.assertEqual(0, len(list(self.observer)))

    def test_log(self) -> None:
        """Lines of the access log look as one process writes them; others name their worker."""
        octets = Record(9.0, 1, "pyproxy.access", "GET {x}").octets() + Record(9.5, READY).octets()
        self.protocol.childDataReceived(LOG, octets)
        self.protocol.childDataReceived(LOG, Record(10.0, 2, "pyproxy", "a\nb").octets())
        access, other = self.observer
        self.assertEqual("[pyproxy.access#info] GET {x}", self.shown(access))
        self.assertEqual("[pyproxy#warn worker 3] a\nb", self.shown(other))
        self.assertEqual((9.0, LogLevel.warn), (access["log_time"], other["log_level"]))
        self.assertEqual(["ready"], self.told)

    def shown(self, event: Any) -> str:
        """Return a line as twistd writes it, without its time."""
        return eventAsText(event, includeTimestamp=False)

    def test_output(self) -> None:
        """What it writes besides is logged together when it pauses, and in bounded pieces."""
        for part in (b"Traceback\n  File", b" x\nKeyError\n"):
            self.protocol.childDataReceived(2, part)
            self.clock.advance(PAUSE / 2)
        self.assertEqual(0, len(list(self.observer)))
        self.clock.advance(PAUSE)
        self.protocol.childDataReceived(1, b"x" * (MAX_OUTPUT + 1))
        self.assertEqual(
            ["Worker 3 said: Traceback\n  File x\nKeyError", "Worker 3 said: xxx"],
            [formatEvent(event).replace("x" * MAX_OUTPUT, "xx") for event in self.observer],
        )
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_end(self) -> None:
        """How it ended is told last, after the rest of what it said."""
        self.protocol.childDataReceived(2, b"killed")
        self.protocol.processEnded(Failure(ProcessTerminated(None, 9)))
        self.protocol.processEnded(Failure(ProcessTerminated(1)))
        self.protocol.processEnded(Failure(ProcessTerminated(None, 99)))
        self.assertEqual("Worker 3 said: killed", formatEvent(self.observer[0]))
        self.assertEqual(
            ["was killed by SIGKILL", "exited with status 1", "was killed by signal 99"],
            self.told,
        )
        self.assertEqual([], self.clock.getDelayedCalls())


class SpawnTests(SynchronousTestCase):
    """How a worker is started."""

    def test_command(self) -> None:
        """A fresh interpreter; no part of the configuration stands in its arguments."""

        class Reactor:
            """Takes note of the process."""

            started: tuple[Any, ...] = ()

            def spawnProcess(self, *args: Any, **named: Any) -> FakeTransport:
                """Take note."""
                self.started = (args, named)
                return FakeTransport()

        reactor = Reactor()
        nobody = Told(lambda: None, lambda _: None, lambda _: None, lambda _: None)
        orders = OrderLine(reactor)
        self.addCleanup(orders.child_has_it)
        theirs = orders.for_child.fileno()
        process = spawn(reactor, WorkerProtocol(Clock(), 1, nobody), orders, 20, [30, 31])
        (_, executable, command), named = reactor.started
        self.assertEqual(sys.executable, executable)
        self.assertEqual((3, True), (len(command), command[-1].endswith("child.py")))
        self.assertEqual(
            {
                0: theirs,
                1: "r",
                2: "r",
                LOG: "r",
                TALLY: 20,
                FIRST_SOCKET: 30,
                FIRST_SOCKET + 1: 31,
            },
            named["childFDs"],
        )
        self.assertIsNone(named["env"])
        self.assertEqual(7, process.pid)
        process.end()
        self.assertEqual(b"", orders.for_child.recv(1), "it is not hung up on")

    def test_killed_too_late(self) -> None:
        """A process that has just ended minds no signal."""
        Running(FakeTransport(), lambda: None).kill()
