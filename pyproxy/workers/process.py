"""A worker's process, from its parent's side: how it is started, and what it says."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger, globalLogPublisher
from twisted.python.failure import Failure

from pyproxy.observe.twistd_log import ACCESS, READY_TEXT, TO_FILE, publish_line
from pyproxy.workers import child
from pyproxy.workers.handover import FIRST_SOCKET, LOG, TALLY
from pyproxy.workers.orders import OrderLine
from pyproxy.workers.records import (
    ANSWER,
    LEVELS,
    READY,
    STREAMS,
    TAKEN,
    Record,
    RecordReader,
)

MAX_OUTPUT = 64 * 1024
"""Octets of a worker's standard output and error that wait for the rest of what it says."""

PAUSE = 0.1
"""Seconds after which what it said counts as whole: a traceback comes line by line."""

_log = Logger("pyproxy")


@attrs.frozen
class Told:
    """Whom to tell what a worker says: that it is ready, what it has taken, how many streams.

    Attributes: answered gets what it answers to a question; line, what is for the access log's
        own file.
    """

    ready: Callable[[], None]
    taken: Callable[[int], None]
    streams: Callable[[int], None]
    ended: Callable[[str], None]
    answered: Callable[[str], None] = lambda text: None
    line: Callable[[str], None] = lambda text: None


class WorkerProtocol(ProcessProtocol):
    """Takes what a worker says: its log, and what it tells its parent."""

    def __init__(self, clock: IReactorTime, number: int, told: Told) -> None:
        self._clock = clock
        self._number = number
        self._told = told
        self._records = RecordReader()
        self._said = b""
        self._call: IDelayedCall | None = None

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Take records of the log, and what else the process writes."""
        if childFD != LOG:
            self._take_output(data)
            return
        for record in self._records.feed(data):
            if record.level == READY:
                self._told.ready()
            elif record.level == TAKEN:
                self._told.taken(int(record.text))
            elif record.level == STREAMS:
                self._told.streams(int(record.text))
            elif record.level == ANSWER:
                self._told.answered(record.text)
            elif record.namespace == TO_FILE:
                self._told.line(record.text)
            else:
                relay(record, self._number)

    def _take_output(self, data: bytes) -> None:
        self._said += data
        if self._call is not None:
            call, self._call = self._call, None
            call.cancel()
        if len(self._said) > MAX_OUTPUT:
            self._tell()
        else:
            self._call = self._clock.callLater(PAUSE, self._tell)

    def _tell(self) -> None:
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()
        said, self._said = self._said.strip(b"\n"), b""
        if said:
            text = said.decode("utf-8", "backslashreplace")
            _log.error("Worker {number} said: {text}", number=self._number, text=text)

    def processEnded(self, reason: Failure) -> None:
        """Tell how it ended; all that it said has come before."""
        self._tell()
        self._told.ended(how_it_ended(reason.value))


def relay(record: Record, number: int) -> None:
    """Publish a worker's event as if it were one of this process."""
    if record.namespace == ACCESS:
        # These do not tell which worker wrote them.
        publish_line(record.text, record.time, worker=number)
        return
    level = LEVELS[record.level]
    globalLogPublisher(
        {
            "log_time": record.time,
            "log_level": level,
            "log_namespace": record.namespace,
            "log_format": READY_TEXT,
            "line": record.text,
            "worker": number,
            "log_system": f"{record.namespace}#{level.name} worker {number}",
        }
    )


def how_it_ended(reason: Any) -> str:
    """Return how a process ended, as the end of a sentence."""
    if reason.signal is None:
        return f"exited with status {reason.exitCode}"
    try:
        name = signal.Signals(reason.signal).name
    except ValueError:
        name = f"signal {reason.signal}"
    return f"was killed by {name}"


@attrs.frozen
class Running:
    """A process that can be told to end.  Args: hangs up, which tells it; it heeds no SIGTERM."""

    _transport: Any
    _hang_up: Callable[[], None]

    @property
    def pid(self) -> int | None:
        """Its number."""
        number: int | None = self._transport.pid
        return number

    def end(self) -> None:
        """Tell it to end."""
        self._hang_up()

    def kill(self) -> None:
        """Kill it."""
        try:
            self._transport.signalProcess("KILL")
        except ProcessExitedAlready:
            # Its end is about to be told.
            pass


def spawn(
    reactor: Any, protocol: WorkerProtocol, orders: OrderLine, tally: int, sockets: Sequence[int]
) -> Running:
    """Start a worker: a fresh interpreter with its ends of pipes and the listening sockets."""
    descriptors: dict[int, int | str] = {
        0: orders.for_child.fileno(),
        1: "r",
        2: "r",
        LOG: "r",
        TALLY: tally,
    }
    descriptors.update(enumerate(sockets, FIRST_SOCKET))
    # Safe path: the script's own directory must not stand before the standard library.
    command = [sys.executable, "-P", str(Path(child.__file__))]
    with _interrupts_held():
        return Running(
            reactor.spawnProcess(protocol, command[0], command, env=None, childFDs=descriptors),
            orders.close,
        )


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Block SIGINT, which a process inherits for its whole life.

    Control-C goes to all processes of a terminal; the parent alone decides what it means.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
