"""A worker's log: every event becomes a record on the pipe to the parent."""

from __future__ import annotations

import os
import select
import time
from threading import get_ident
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IWriteDescriptor
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from twisted.python.failure import Failure
from zope.interface import implementer

from pyproxy.observe.twistd_log import READY_TEXT
from pyproxy.workers.records import READY, Record, number_of

ROOM = 1024 * 1024
"""Octets of a log that may wait for the parent; past it lines are dropped, counted and told."""

DELAY = 0.05
"""Seconds that a line may wait for others: one write, and one turn of the parent, for all."""

LAST_WORDS = 1.0
"""Seconds in which the parent may take what is left at the end."""


_OF_THE_PROCESS = frozenset({"log_legacy", "twisted.internet.base"})


@implementer(IWriteDescriptor, ILogObserver)
class LogPipe:
    """Writes records without ever waiting for who reads them."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._reactor = reactor
        self._descriptor = descriptor
        self._thread = get_ident()
        self._records: list[bytes] = []
        self._rest = b""
        self._size = 0
        self._dropped = 0
        self._call: IDelayedCall | None = None
        self._writing = False
        self._closed = False

    def __call__(self, event: LogEvent) -> None:
        """Take an event of twisted.logger."""
        level = event.get("log_level", LogLevel.info)
        namespace = event.get("log_namespace") or ""
        if namespace in _OF_THE_PROCESS and level is LogLevel.info:
            # Where ports begin and end, and that the reactor does: the parent says that for all.
            return
        if event.get("log_format") == READY_TEXT:
            # To format a text that is ready costs a third of the whole.
            text = str(event["line"])
        else:
            text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        if not text:
            return
        record = Record(event.get("log_time", 0.0), number_of(level), namespace, text)
        urgent = level not in (LogLevel.debug, LogLevel.info)
        if get_ident() == self._thread:
            self._add(record.octets(), urgent)
        else:
            self._reactor.callFromThread(self._add, record.octets(), urgent)

    def ready(self) -> None:
        """Tell the parent that connections are accepted."""
        self.tell(READY)

    def tell(self, what: int, text: str = "") -> None:
        """Tell the parent what is no line of a log: READY, TAKEN, STREAMS, ANSWER."""
        self._add(Record(time.time(), what, text=text).octets(), True, is_line=False)

    def _add(self, octets: bytes, urgent: bool, is_line: bool = True) -> None:
        if self._closed:
            return
        if is_line and self._size + len(octets) > ROOM:
            self._dropped += 1
            return
        self._records.append(octets)
        self._size += len(octets)
        if urgent:
            self._flush()
        elif self._call is None and not self._writing:
            self._call = self._reactor.callLater(DELAY, self._flush)

    def _flush(self) -> None:
        """Write what the pipe takes now, the rest when it takes more."""
        if self._call is not None:
            call, self._call = self._call, None
            if call.active():
                call.cancel()
        self._write()
        if bool(self._rest) is not self._writing and not self._closed:
            self._writing = not self._writing
            change = self._reactor.addWriter if self._writing else self._reactor.removeWriter
            change(self)

    def _write(self) -> None:
        octets = self._rest + b"".join(self._records)
        self._records.clear()
        try:
            written = os.write(self._descriptor, octets) if octets else 0
        except BlockingIOError:
            written = 0
        except OSError:
            # The parent is no more, and nobody is left to tell; the lifeline ends this process.
            self._close()
            return
        self._rest = octets[written:]
        self._size = len(self._rest)
        if self._dropped and not self._rest:
            text = f"{self._dropped} lines of the log were dropped: they came faster than read"
            self._dropped = 0
            self._records.append(Record(time.time(), 2, "pyproxy", text).octets())
            self._size = len(self._records[0])
            self._write()

    def _close(self) -> None:
        self._closed = True
        self._rest, self._size = b"", 0
        if self._writing:
            self._writing = False
            self._reactor.removeWriter(self)

    def finish(self) -> None:
        """Write what is left, once the reactor has ended."""
        end = time.monotonic() + LAST_WORDS
        self._write()
        while self._rest and not self._closed and (left := end - time.monotonic()) > 0:
            select.select([], [self._descriptor], [], left)
            self._write()

    # what the reactor calls

    def doWrite(self) -> None:
        """Go on writing."""
        self._flush()

    def fileno(self) -> int:
        """Return the pipe's descriptor."""
        return self._descriptor

    def connectionLost(self, reason: Failure) -> None:
        """Take note that the parent reads no more."""
        self._close()

    def logPrefix(self) -> str:
        """Name this in a log."""
        return "log"
