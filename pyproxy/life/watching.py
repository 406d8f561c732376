"""Notices that files have changed: by looking at them, which works on every file system.

A file that is replaced by another (an editor's way, Kubernetes' for a ConfigMap) is seen as well as
one that is written into.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

INTERVAL = 1.0
"""Seconds between two looks; a change is told once two looks in a row have seen the same."""

_log = Logger("pyproxy")

Looks = dict[Path, tuple[int, int, int] | None]
"""What tells one state of a file from another: inode, size, time in ns; None without a file."""


class FileWatch:
    """Looks at files and tells when they have changed and been left alone for a look.

    Args: changed is called then.
    """

    def __init__(self, clock: IReactorTime, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._known: Looks = {}
        self._last: Looks = {}
        self._call = LoopingCall(self._look)
        self._call.clock = clock

    def start(self) -> None:
        """Begin to look."""
        done = self._call.start(INTERVAL, now=False)
        done.addErrback(lambda failure: _log.failure("files are not watched any more", failure))

    def watch(self, files: Collection[Path]) -> None:
        """Look at these from now on.

        Of those known before, a change since then is still told.
        """
        now = _looks(files)
        self._known = {path: self._known.get(path, seen) for path, seen in now.items()}
        self._last = now

    def stop(self) -> None:
        """Look no more."""
        if self._call.running:
            self._call.stop()

    def _look(self) -> None:
        now = _looks(self._known)
        if now != self._known and now == self._last:
            self._known = now
            self._changed()
        self._last = now


def _looks(files: Collection[Path]) -> Looks:
    return {path: _look_of(path) for path in files}


def _look_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
