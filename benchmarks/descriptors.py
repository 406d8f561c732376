"""What a process tree has open, as the kernel tells it.  Knows Linux and its ``/proc``."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


@attrs.frozen
class Open:
    """Counted descriptors."""

    all: int
    upstream: int
    """Connections that the tree has made itself, idle ones included."""

    @property
    def others(self) -> int:
        """Return what is open without the connections to the upstream."""
        return self.all - self.upstream


def descriptors_missing(what: str, needed: int) -> str | None:
    """Return that a process may not open as many as something needs, or None when it may."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        return f"{what} need {needed} descriptors, a process here gets {allowed} (ulimit -Hn)"
    return None


def count(pids: Iterable[int], port: int) -> Open:
    """Count what processes have open.  Args: port, where they are listening."""
    names = [name for pid in pids for name in _names(pid)]
    ours = {name[8:-1] for name in names if name.startswith("socket:[")}
    made = sum(inode in ours and local != port for local, inode in _connections())
    return Open(len(names), made)


def _names(pid: int) -> Iterator[str]:
    directory = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(directory)
    except FileNotFoundError:
        return
    for number in numbers:
        try:
            yield os.readlink(f"{directory}/{number}")
        except FileNotFoundError:
            continue  # Closed in this moment.


def _connections() -> Iterator[tuple[int, str]]:
    """Yield the local port and the inode of each TCP socket of the machine."""
    for table in TABLES:
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            words = line.split()
            yield int(words[1].rpartition(":")[2], 16), words[9]
