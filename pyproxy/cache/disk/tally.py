"""How much a cache on disk holds, told to all processes that share it.

A small file has the octets and the count of entries of each sub-folder.  Who adds or removes an
entry does it, and writes that down, under a lock of this file; a process that is killed in between
leaves one wrong number until the sub-folder is counted again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Iterator, Sequence

import attrs

from pyproxy.cache.disk.block import Handle
from pyproxy.cache.disk.names import FOLDERS

LOCK_SECONDS = 0.5
"""How long the lock is waited for; who holds it longer was stopped, and the count may be off."""

_LOCK_STEP = 0.001

_ALL = struct.Struct(f"<{2 * FOLDERS}q")
_ONE = struct.Struct("<2q")


@attrs.define(eq=False)
class Tally:
    """The count of all entries.  One thread of a process uses it at a time.

    Attributes:
        octets: of all entries, as they were when this process last looked.
        count: entries.
        counts: entries of each sub-folder.
    """

    _handle: Handle
    octets: int = 0
    count: int = 0
    counts: Sequence[int] = (0,) * FOLDERS

    @classmethod
    def at(cls, path: str) -> Tally:
        """Open it, and make it if need be.  Raises: OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = Handle(os.open(path, flags, 0o600))
        tally = cls(handle)
        with tally.locked():
            if os.fstat(handle.number).st_size != _ALL.size:
                os.ftruncate(handle.number, 0)
                os.pwrite(handle.number, bytes(_ALL.size), 0)
        tally.look()
        return tally

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the lock, or go on without it after LOCK_SECONDS; tell which."""
        held = self._lock()
        try:
            yield held
        finally:
            if held:
                fcntl.flock(self._handle.number, fcntl.LOCK_UN)

    def _lock(self) -> bool:
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._handle.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    return False
                time.sleep(_LOCK_STEP)
            else:
                return True

    def look(self) -> None:
        """See what all processes have counted."""
        octets = os.pread(self._handle.number, _ALL.size, 0)
        if len(octets) == _ALL.size:
            numbers = _ALL.unpack(octets)
            self.octets = max(0, sum(numbers[::2]))
            self.counts = numbers[1::2]
            self.count = max(0, sum(self.counts))

    def add(self, folder: int, octets: int, count: int) -> None:
        """Count more or, below 0, less in a sub-folder; the lock is held."""
        known = os.pread(self._handle.number, _ONE.size, folder * _ONE.size)
        had = _ONE.unpack(known) if len(known) == _ONE.size else (0, 0)
        self.put(folder, had[0] + octets, had[1] + count)

    def put(self, folder: int, octets: int, count: int) -> None:
        """Know what a sub-folder holds; the lock is held."""
        octets, count = max(0, octets), max(0, count)
        os.pwrite(self._handle.number, _ONE.pack(octets, count), folder * _ONE.size)
        self.look()
