"""How busy each worker is, in memory that all of them see: so that they take turns.

The kernel wakes every worker for a connection, and the one that happens to run first would take
nearly all of them (measured: 985 of 1,000).
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from typing import Any

from twisted.internet.interfaces import IDelayedCall

ABSENT = 0xFFFFFFFF
"""In the place of a number of connections: nobody is there to take one."""

AHEAD = 2
"""Connections that a worker may have open above another before it lets that one go first."""

TURNS = 4
"""Connections that it may have taken above another while both have as many open."""

WAIT = 0.001
"""Seconds that a worker which is ahead leaves a connection to the others."""

BATCH = 8
"""Connections that it takes then at once, since nobody else did."""

_pair = struct.Struct("=II")


def make_board(workers: int) -> int:
    """Make the memory for a number of workers; return its descriptor."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pyproxy-tally")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.write(descriptor, _pair.pack(ABSENT, 0) * workers)
    return descriptor


def vacate(descriptor: int, number: int) -> None:
    """Take a worker out that cannot do so itself any more."""
    os.pwrite(descriptor, _pair.pack(ABSENT, 0), (number - 1) * _pair.size)


class Tally:
    """What all workers have, and one of them writes about itself.

    Args: the board's descriptor; how many workers there are.
    Attributes: number, of this worker, from 1.
    """

    def __init__(self, descriptor: int, workers: int, number: int) -> None:
        self._memory = mmap.mmap(descriptor, workers * _pair.size)
        self.number = number
        self._place = (number - 1) * _pair.size
        self._others = [
            place for place in range(0, workers * _pair.size, _pair.size) if place != self._place
        ]
        self._present = False
        self._open = 0
        self._taken = 0

    def come(self) -> None:
        """Take part; as if this worker had taken as many as the one with the fewest."""
        present = [taken for count, taken in self._seen() if count != ABSENT]
        self._taken = min(present, default=0)
        self._present = True
        self.count(self._open)

    def leave(self) -> None:
        """Take part no more: nobody waits for this worker."""
        self._present = False
        _pair.pack_into(self._memory, self._place, ABSENT, 0)

    def count(self, connections: int) -> None:
        """Say how many connections are open."""
        self._open = connections
        if self._present:
            _pair.pack_into(self._memory, self._place, connections, self._taken)

    def take(self, connections: int) -> None:
        """Say that so many were accepted."""
        self._taken = (self._taken + connections) & 0x7FFFFFFF
        self.count(self._open)

    def is_ahead(self) -> bool:
        """Tell whether another worker should go first."""
        for count, taken in self._seen():
            more = self._open - count
            if more > AHEAD + count // 8 or (more >= 0 and self._taken - taken > TURNS):
                return True
        return False

    def _seen(self) -> list[tuple[int, int]]:
        return [_pair.unpack_from(self._memory, place) for place in self._others]


def take_turns(port: Any, reactor: Any, tally: Tally) -> None:
    """Let a port accept one connection a turn, and leave it to others when this worker is ahead.

    Twisted's own ports accept up to a hundred in a turn: a burst would be one worker's alone.
    """
    accept = port.doRead
    waiting: list[IDelayedCall] = []

    def accept_in_turn() -> None:
        if waiting:
            return
        if tally.is_ahead():
            port.stopReading()
            waiting.append(reactor.callLater(WAIT, go_on))
        else:
            take(1)

    def take(most: int) -> None:
        port.numberAccepts = most
        before = port.sessionno
        accept()
        tally.take(port.sessionno - before)

    def go_on() -> None:
        waiting.clear()
        if port.connected and not port.disconnecting:
            port.startReading()
            take(BATCH)

    port.doRead = accept_in_turn
