"""Which worker runs, which is started again, and how all of them end."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.workers.supervisor import (
    FIRST_DELAY,
    KILL_LIMIT,
    MOST_DELAY,
    START_LIMIT,
    STOP_LIMIT,
    YOUNG,
    State,
    Supervisor,
)


@attrs.define(eq=False)
class FakeProcess:
    """A process that does what the test says."""

    pid: int | None
    number: int
    ready: Callable[[], None]
    ended: Callable[[str], None]
    signals: list[str] = attrs.Factory(list)

    def end(self) -> None:
        """Take note."""
        self.signals.append("END")

    def kill(self) -> None:
        """Take note."""
        self.signals.append("KILL")


class SupervisorTestCase(SynchronousTestCase):
    """A case with processes and a clock in the test's hand."""

    def setUp(self) -> None:
        """Make a supervisor of two workers, and listen to what it logs."""
        self.clock = Clock()
        self.processes: list[FakeProcess] = []
        self.refusal: OSError | None = None
        self.supervisor = Supervisor(self.clock, self.spawn, 2)
        self.observer = EventLoggingObserver.createWithCleanup(
            self,  # type: ignore[arg-type]
            globalLogPublisher,
        )

    def spawn(
        self, number: int, ready: Callable[[], None], ended: Callable[[str], None]
    ) -> FakeProcess:
        """Start a process."""
        if self.refusal is not None:
            raise self.refusal
        process = FakeProcess(100 + len(self.processes), number, ready, ended)
        self.processes.append(process)
        return process

    def start(self) -> tuple[FakeProcess, FakeProcess]:
        """Start, and let both be ready."""
        self.supervisor.start()
        one, two = self.processes
        one.ready()
        two.ready()
        return one, two

    def logged(self, level: LogLevel) -> list[str]:
        """Return what was logged at a level."""
        return [formatEvent(event) for event in self.observer if event["log_level"] is level]


class SupervisorTests(SupervisorTestCase):
    """Two workers, from their start to their end."""

    def test_start(self) -> None:
        """Each worker starts at once, and is said to serve when it says so."""
        self.supervisor.start()
        self.assertEqual([1, 2], [process.number for process in self.processes])
        self.assertEqual([State.STARTING] * 2, self.supervisor.states)
        self.processes[1].ready()
        self.assertEqual([State.STARTING, State.SERVING], self.supervisor.states)
        self.assertEqual(["Worker 2 (pid 101) serves"], self.logged(LogLevel.info))

    def test_restart(self) -> None:
        """One that dies is started again after a moment, the other is left alone."""
        one, two = self.start()
        self.clock.advance(YOUNG)
        one.ended("was killed by SIGKILL")
        self.assertEqual([State.WAITING, State.SERVING], self.supervisor.states)
        self.clock.advance(FIRST_DELAY)
        self.assertEqual([1, 2, 1], [process.number for process in self.processes])
        self.processes[2].ready()
        self.assertEqual([State.SERVING] * 2, self.supervisor.states)
        self.assertEqual([], two.signals)
        (line,) = self.logged(LogLevel.warn)
        self.assertEqual(
            "Worker 1 (pid 100) was killed by SIGKILL; it is started again in 0.1 s", line
        )

    def test_backoff(self) -> None:
        """Who dies young waits twice as long each time, up to a bound."""
        self.start()
        waits: list[float] = []
        for _ in range(12):
            self.processes[-1].ended("exited with status 1")
            (call,) = self.clock.getDelayedCalls()
            waits.append(round(call.getTime() - self.clock.seconds(), 1))
            self.clock.advance(waits[-1])
        self.assertEqual([0.1, 0.2, 0.4, 0.8, 1.6, 3.2], waits[:6])
        self.assertEqual([MOST_DELAY] * 3, waits[-3:])

    def test_backoff_ends(self) -> None:
        """A worker that lived for a while starts again as quickly as the first time."""
        self.start()
        for _ in range(4):
            self.processes[-1].ended("exited with status 1")
            self.clock.advance(MOST_DELAY)
        self.clock.advance(YOUNG)
        before = len(self.processes)
        self.processes[-1].ended("was killed by SIGSEGV")
        self.clock.advance(FIRST_DELAY)
        self.assertEqual(before + 1, len(self.processes))

    def test_nobody_starts(self) -> None:
        """When no worker has ever served that is said as what it is, and tried again."""
        self.supervisor.start()
        self.processes[0].ended("exited with status 1")
        (line,) = self.logged(LogLevel.critical)
        self.assertIn("nothing is served", line)
        self.clock.advance(FIRST_DELAY)
        self.assertEqual(3, len(self.processes))

    def test_no_process(self) -> None:
        """A machine that gives no process is asked again later."""
        self.refusal = BlockingIOError(11, "Resource temporarily unavailable")
        self.supervisor.start()
        self.assertEqual([State.WAITING] * 2, self.supervisor.states)
        self.assertIn("could not be started", self.logged(LogLevel.warn)[0])
        self.refusal = None
        self.clock.advance(FIRST_DELAY)
        self.assertEqual([State.STARTING] * 2, self.supervisor.states)

    def test_never_ready(self) -> None:
        """A worker that does not get ready is killed, and so started again."""
        self.supervisor.start()
        one, two = self.processes
        two.ready()
        self.clock.advance(START_LIMIT)
        self.assertEqual((["KILL"], []), (one.signals, two.signals))
        one.ended("was killed by SIGKILL")
        self.clock.advance(FIRST_DELAY)
        self.assertEqual(3, len(self.processes))

    def test_stop(self) -> None:
        """Every worker is told, and the end is when the last has gone; nothing is left."""
        one, two = self.start()
        stopped = self.supervisor.stop()
        self.assertEqual((["END"], ["END"]), (one.signals, two.signals))
        one.ended("exited with status 0")
        self.assertNoResult(stopped)
        two.ended("exited with status 0")
        self.successResultOf(stopped)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([State.ABSENT] * 2, self.supervisor.states)
        self.assertEqual(2, len(self.processes))
        self.assertEqual([], self.logged(LogLevel.warn))

    def test_stop_kills(self) -> None:
        """One that does not end is killed after the limit."""
        one, two = self.start()
        stopped = self.supervisor.stop()
        one.ended("exited with status 0")
        self.clock.advance(STOP_LIMIT)
        self.assertEqual((["END"], ["END", "KILL"]), (one.signals, two.signals))
        self.assertNoResult(stopped)
        two.ended("was killed by SIGKILL")
        self.successResultOf(stopped)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_gives_up(self) -> None:
        """One that even the kernel cannot end does not keep the service."""
        self.start()
        stopped = self.supervisor.stop()
        self.clock.advance(STOP_LIMIT)
        self.clock.advance(KILL_LIMIT)
        self.successResultOf(stopped)
        self.assertEqual(2, len(self.logged(LogLevel.error)))
        self.processes[0].ended("was killed by SIGKILL")
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_while_waiting(self) -> None:
        """A worker that waits for its next start is not started any more."""
        one, two = self.start()
        one.ended("was killed by SIGKILL")
        two.ended("was killed by SIGKILL")
        self.successResultOf(self.supervisor.stop())
        self.clock.advance(MOST_DELAY)
        self.assertEqual(2, len(self.processes))

    def test_stop_while_starting(self) -> None:
        """A worker that is not ready yet is told too, and its word comes too late."""
        self.supervisor.start()
        one, two = self.processes
        stopped = self.supervisor.stop()
        one.ready()
        self.assertEqual(["END"], one.signals)
        for process in (one, two):
            process.ended("was killed by SIGTERM")
        self.successResultOf(stopped)
        self.assertEqual([], self.logged(LogLevel.info))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_before_start(self) -> None:
        """A service that never started can be stopped."""
        self.successResultOf(self.supervisor.stop())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_kill(self) -> None:
        """One worker is killed and started again; the other is left alone."""
        one, two = self.start()
        self.supervisor.kill(2)
        self.assertEqual(([], ["KILL"]), (one.signals, two.signals))
        two.ended("was killed by SIGKILL")
        # It is gone already, and nobody minds.
        self.supervisor.kill(2)
        self.clock.advance(FIRST_DELAY)
        self.assertEqual([1, 2, 2], [process.number for process in self.processes])
        self.assertEqual([], self.processes[2].signals)


class LetEndTests(SupervisorTestCase):
    """Workers that somebody else has told to end."""

    LIMIT = 20.0

    def test_ends(self) -> None:
        """No worker is sent a signal or started again; the end is when the last has gone."""
        one, two = self.start()
        ended = self.supervisor.let_end(self.LIMIT)
        one.ended("exited with status 0")
        self.clock.advance(self.LIMIT - 1)
        self.assertNoResult(ended)
        self.assertEqual(([], []), (one.signals, two.signals))
        two.ended("exited with status 0")
        self.successResultOf(ended)
        self.assertEqual([State.ABSENT] * 2, self.supervisor.states)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual(2, len(self.processes))
        self.assertEqual([], self.logged(LogLevel.warn))

    def test_odd_end(self) -> None:
        """An end in another way than in order is told, and is an end."""
        one, two = self.start()
        ended = self.supervisor.let_end(self.LIMIT)
        one.ended("was killed by SIGSEGV")
        two.ended("exited with status 0")
        self.successResultOf(ended)
        self.assertEqual(["Worker 1 (pid 100) was killed by SIGSEGV"], self.logged(LogLevel.warn))

    def test_limit(self) -> None:
        """Who has not ended in time is killed, with a word; the others are not."""
        one, two = self.start()
        ended = self.supervisor.let_end(self.LIMIT)
        one.ended("exited with status 0")
        self.clock.advance(self.LIMIT)
        self.assertEqual(([], ["KILL"]), (one.signals, two.signals))
        self.assertEqual(
            ["Worker 2 (pid 101) has not ended after 20 s; it is killed"],
            self.logged(LogLevel.warn),
        )
        self.assertNoResult(ended)
        two.ended("was killed by SIGKILL")
        self.successResultOf(ended)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_abandoned(self) -> None:
        """One that even the kernel cannot end is not waited for."""
        self.start()
        ended = self.supervisor.let_end(self.LIMIT)
        self.clock.pump([self.LIMIT, KILL_LIMIT])
        self.successResultOf(ended)
        self.assertEqual(2, len(self.logged(LogLevel.error)))

    def test_not_started(self) -> None:
        """Workers that are starting end too; one that waits for its next start is not started."""
        self.supervisor.start()
        one, two = self.processes
        one.ended("exited with status 1")
        ended = self.supervisor.let_end(self.LIMIT)
        self.assertEqual([State.ABSENT, State.STARTING], self.supervisor.states)
        two.ready()
        self.assertNoResult(ended)
        two.ended("exited with status 0")
        self.successResultOf(ended)
        self.clock.advance(MOST_DELAY)
        self.assertEqual(2, len(self.processes))
        self.assertEqual([], self.logged(LogLevel.info))

    def test_nobody(self) -> None:
        """Nobody is there to wait for."""
        self.successResultOf(self.supervisor.let_end(self.LIMIT))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_meanwhile(self) -> None:
        """A stop shortens the wait, and both who wait are told of the one end."""
        one, two = self.start()
        ended = self.supervisor.let_end(self.LIMIT)
        stopped = self.supervisor.stop()
        self.assertEqual((["END"], ["END"]), (one.signals, two.signals))
        self.clock.advance(STOP_LIMIT)
        self.assertEqual(["END", "KILL"], one.signals)
        for process in (one, two):
            process.ended("was killed by SIGKILL")
        for waiting in (ended, stopped):
            self.assertIsNone(self.successResultOf(waiting))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stop_while_killed(self) -> None:
        """A stop after the limit gives the kernel its time anew."""
        self.start()
        ended = self.supervisor.let_end(self.LIMIT)
        self.clock.advance(self.LIMIT)
        stopped = self.supervisor.stop()
        self.clock.advance(KILL_LIMIT)
        self.assertNoResult(stopped)
        for process in self.processes:
            process.ended("was killed by SIGKILL")
        for waiting in (ended, stopped):
            self.successResultOf(waiting)
        self.assertEqual([], self.clock.getDelayedCalls())
