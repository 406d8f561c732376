"""Which worker runs, which is started again and when, and how all of them end.

Knows processes only by what they are asked and what they tell; no pipe, no socket.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

FIRST_DELAY = 0.1
MOST_DELAY = 30.0
"""Seconds from a worker's death to its next start: doubled as long as it dies young."""

YOUNG = 10.0
"""Seconds after which a worker counts as well: its death is the first again."""

START_LIMIT = 60.0
"""Seconds in which a worker has to say that it accepts connections."""

STOP_LIMIT = 5.0
"""Seconds in which a worker has to end; the proxy gives its connections two of them."""

KILL_LIMIT = 2.0
"""Seconds that the kernel may take for a killed one."""

_log = Logger("pyproxy")


class Process(Protocol):
    """A worker's process."""

    @property
    def pid(self) -> int | None:
        """Its number."""

    def end(self) -> None:
        """Tell it to end, at once but in order."""

    def kill(self) -> None:
        """Kill it.  One that has ended already does not mind."""


Spawn = Callable[[int, Callable[[], None], Callable[[str], None]], Process]
"""Starts worker N; tells when it is ready, and how it has ended.  Raises: OSError."""


class State(Enum):
    """Where a worker stands."""

    ABSENT = "absent"
    STARTING = "starting"
    SERVING = "serving"
    WAITING = "waiting"


@attrs.define(eq=False)
class Worker:
    """One place among the workers; processes come and go in it.

    Attributes:
        deaths: how often it died young in a row.
        call: what comes next by itself: a start, or the end of the patience with a slow one.
    """

    number: int
    state: State = State.ABSENT
    process: Process | None = None
    pid: int | None = None
    started_at: float = 0.0
    deaths: int = 0
    call: IDelayedCall | None = None

    def cancel(self) -> None:
        """Let nothing come by itself."""
        call, self.call = self.call, None
        if call is not None:
            call.cancel()


class Supervisor:
    """Keeps a number of workers running."""

    def __init__(self, clock: IReactorTime, spawn: Spawn, count: int) -> None:
        self._clock = clock
        self._spawn = spawn
        self._workers = [Worker(number) for number in range(1, count + 1)]
        self._served = False
        self._ending = False
        self._all_ended: list[Deferred[None]] = []
        self._limit: IDelayedCall | None = None

    @property
    def states(self) -> list[State]:
        """Where each worker stands."""
        return [worker.state for worker in self._workers]

    def start(self) -> None:
        """Start every worker."""
        for worker in self._workers:
            self._start(worker)

    def _start(self, worker: Worker) -> None:
        worker.call = None
        worker.state = State.STARTING
        worker.started_at = self._clock.seconds()
        try:
            process = self._spawn(
                worker.number, partial(self._ready, worker), partial(self._ended, worker)
            )
        except OSError as error:
            self._ended(worker, f"could not be started ({error})")
            return
        worker.process, worker.pid = process, process.pid
        worker.call = self._clock.callLater(START_LIMIT, self._too_slow, worker)

    def _ready(self, worker: Worker) -> None:
        if worker.state is not State.STARTING or self._ending:
            return
        worker.cancel()
        worker.state = State.SERVING
        self._served = True
        _log.info("{who} serves", who=_name(worker))

    def _too_slow(self, worker: Worker) -> None:
        worker.call = None
        _log.error(
            "{who} is not ready after {limit:g} s; it is killed",
            who=_name(worker),
            limit=START_LIMIT,
        )
        _kill(worker)

    def _ended(self, worker: Worker, how: str) -> None:
        worker.cancel()
        worker.process = None
        if self._ending:
            worker.state = State.ABSENT
            if how != "exited with status 0":
                _log.warn("{who} {how}", who=_name(worker), how=how)
            self._look_for_end()
            return
        starting = worker.state is State.STARTING and not self._served
        if starting and how != "was killed by SIGTERM":
            # (Somebody who ends the whole group of processes does that too.)
            _log.critical(
                "No worker has started yet, so nothing is served; what worker {number} said of the "
                "cause stands above",
                number=worker.number,
            )
        if self._clock.seconds() - worker.started_at >= YOUNG:
            worker.deaths = 0
        delay = min(MOST_DELAY, FIRST_DELAY * 2**worker.deaths)
        # Bounded, as the power of two would not be for ever.
        worker.deaths = min(worker.deaths + 1, 16)
        worker.state = State.WAITING
        worker.call = self._clock.callLater(delay, self._start, worker)
        _log.warn(
            "{who} {how}; it is started again in {delay:g} s",
            who=_name(worker),
            how=how,
            delay=delay,
        )

    # the end

    def let_end(self, limit: float) -> Deferred[None]:
        """Start no worker again: somebody has told them to end.

        Args: seconds that they have for it; they are killed then.
        Returns: fires when all have ended.
        """
        self._ending = True
        ended: Deferred[None] = Deferred()
        self._all_ended.append(ended)
        for worker in self._workers:
            worker.cancel()
            if worker.process is None:
                worker.state = State.ABSENT
        if self._limit is not None:
            self._limit.cancel()
        self._limit = self._clock.callLater(limit, self._kill, limit)
        self._look_for_end()
        return ended

    def stop(self) -> Deferred[None]:
        """Tell every worker to end, and kill those that do not.

        Returns: fires when all have ended, or after STOP_LIMIT and KILL_LIMIT.
        """
        for worker in self._workers:
            if worker.process is not None:
                worker.process.end()
        return self.let_end(STOP_LIMIT)

    def kill(self, number: int) -> None:
        """Kill a worker; another is started in its place."""
        _kill(self._workers[number - 1])

    def _kill(self, limit: float) -> None:
        for worker in self._workers:
            if worker.process is not None:
                _log.warn(
                    "{who} has not ended after {limit:g} s; it is killed",
                    who=_name(worker),
                    limit=limit,
                )
                _kill(worker)
        self._limit = self._clock.callLater(KILL_LIMIT, self._abandon)

    def _abandon(self) -> None:
        self._limit = None
        for worker in self._workers:
            if worker.process is not None:
                _log.error("{who} was killed and is still there", who=_name(worker))
                worker.process = None
        self._look_for_end()

    def _look_for_end(self) -> None:
        if not self._ending or any(worker.process for worker in self._workers):
            return
        limit, self._limit = self._limit, None
        if limit is not None:
            limit.cancel()
        waiting, self._all_ended = self._all_ended, []
        for ended in waiting:
            ended.callback(None)


def _name(worker: Worker) -> str:
    return f"Worker {worker.number} (pid {worker.pid})"


def _kill(worker: Worker) -> None:
    if worker.process is not None:
        worker.process.kill()
