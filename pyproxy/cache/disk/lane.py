"""Threads of a store's own, which do what may wait for a disk.

The reactor's threads look up names, and the reactor waits for them when it ends: a disk that hangs
must keep neither.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import attrs
from twisted.logger import Logger

from pyproxy.relay.transports import IProxyReactor

T = TypeVar("T")


Done = Callable[[T | Exception], object]
"""Takes what came out, in the reactor's thread."""

_Job = tuple[Done[Any], Callable[..., Any], tuple[Any, ...]]

_log = Logger()


def nobody(result: object) -> None:
    """Take no note of a result."""


@attrs.define(eq=False)
class Lane:
    """A line of jobs; with one thread they are done in their order.

    Attributes:
        threads: how many there are; they begin with the first job, and never outlive the process.
        most: jobs that may wait or be under way.
        waiting: jobs that do.
    """

    _reactor: IProxyReactor
    threads: int
    most: int
    waiting: int = 0
    _jobs: SimpleQueue[_Job | None] = attrs.Factory(SimpleQueue)
    _results: deque[tuple[Done[Any], Any]] = attrs.Factory(deque)
    _begun: bool = False
    _closed: bool = False
    _told: bool = False

    def call(self, done: Done[T], function: Callable[..., T], *arguments: Any) -> bool:
        """Have something done.

        Returns: False when too many wait or the lane is closed; ``done`` is not called then.
        """
        if self._closed or self.waiting >= self.most:
            return False
        if not self._begun:
            self._begun = True
            for _ in range(self.threads):
                Thread(target=self._run, name="pyproxy-cache", daemon=True).start()
        self.waiting += 1
        self._jobs.put((done, function, arguments))
        return True

    def close(self) -> None:
        """Take no more jobs; the threads end after those that wait."""
        if not self._closed:
            self._closed = True
            for _ in range(self.threads):
                self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            done, function, arguments = job
            try:
                result = function(*arguments)
            except Exception as error:  # noqa: BLE001 - whoever waits gets it
                result = error
            # What a job has been given is let go of before the next one comes.
            del job, function, arguments
            self._results.append((done, result))
            del done, result
            if not self._told:
                self._told = True
                self._reactor.callFromThread(self._tell)

    def _tell(self) -> None:
        # First, so that what is appended from now on either is seen below or tells again.
        self._told = False
        while self._results:
            done, result = self._results.popleft()
            self.waiting -= 1
            try:
                done(result)
            except Exception:  # noqa: BLE001 - one job must not keep the others from being told
                _log.failure("what a store has done could not be told")
