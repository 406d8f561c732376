"""One at a time: who looks whether a place is taken, and takes it, has its turn there meanwhile.

A place is a path: of a Unix socket, of a pid file.  A locked file beside it shows whose turn it is,
for the moments of a start; the kernel frees it with the process that has it, however that ends, so
nothing of it is ever stale.  That a place is held for a process's life is shown by other means.
"""

from __future__ import annotations

import fcntl
import os
import time

LIMIT = 10.0
"""Seconds to wait for others; they need what a start takes, which is below one."""

PAUSE = 0.01

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Busy(Exception):
    """It is somebody else's turn for longer than any start takes."""


class Turn:
    """A turn at one place."""

    def __init__(self, place: bytes) -> None:
        path = os.path.abspath(place) + b".guard"
        self._directory, self._name = os.path.split(path)
        self._parent = -1
        self._file = -1

    def acquire(self, limit: float = LIMIT) -> bool:
        """Wait for one's turn.

        Returns: False where there can be none: no permission, a file system without locks.
        Raises: Busy after so many seconds.
        """
        try:
            # Kept open: --chroot may give the path another meaning before the turn is over.
            self._parent = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._wait(time.monotonic() + limit)
        except OSError:
            self._close()
            return False
        except Busy:
            self._close()
            raise
        return True

    def _wait(self, end: float) -> None:
        while not self._try():
            if time.monotonic() > end:
                raise Busy(os.fsdecode(os.path.join(self._directory, self._name)))
            time.sleep(PAUSE)

    def _try(self) -> bool:
        """Lock the file; False when it is another's, or was removed by one that is done."""
        file = os.open(self._name, _FLAGS, 0o600, dir_fd=self._parent)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = os.stat(self._name, dir_fd=self._parent, follow_symlinks=False)
            if os.path.samestat(there, os.fstat(file)):
                self._file, file = file, -1
                return True
        except (BlockingIOError, FileNotFoundError):
            pass
        finally:
            if file >= 0:
                os.close(file)
        return False

    def release(self) -> None:
        """Let the next one look.  It does nothing when it is nobody's turn, or another's."""
        if self._file < 0:
            return
        try:
            os.unlink(self._name, dir_fd=self._parent)
        except OSError:
            # The directory is no longer ours to write in; an unlocked file hinders nobody.
            pass
        # Said aloud: a parent that waits for this daemon to start has the same open file.
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._close()

    def _close(self) -> None:
        for descriptor in (self._file, self._parent):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._parent = -1
