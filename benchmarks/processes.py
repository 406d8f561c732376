"""Processes under measurement: start, pin to a CPU, ask the kernel what they used, end.

Knows Linux and its ``/proc``; knows nothing of HTTP.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

STOP_LIMIT = 5.0
"""Seconds that a process gets to end after SIGTERM before it is killed."""

LOG_TAIL = 2000

HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Becomes the command that follows, with a socket as systemd hands it over: sd_listen_fds(3)."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class StartError(Exception):
    """A process did not come up; the text says why."""


@attrs.frozen
class Cpus:
    """Which CPU runs what is measured, and which runs everything else."""

    proxy: int
    load: int

    @classmethod
    def of_this_machine(cls) -> Cpus:
        """Return the first and the last CPU that we may use; one and the same if there is one."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(proxy=allowed[0], load=allowed[-1])

    @property
    def shared(self) -> bool:
        """Whether the load takes time from what is measured."""
        return self.proxy == self.load


@attrs.frozen
class Running:
    """A process that we started, with the processes that it started."""

    popen: subprocess.Popen[bytes]
    log: Path

    def tree(self) -> list[int]:
        """Return the ids of the process and its living descendants."""
        children: dict[int, list[int]] = {}
        for pid, parent in _parents():
            children.setdefault(parent, []).append(pid)
        found = [self.popen.pid]
        for pid in found:
            found.extend(children.get(pid, []))
        return found

    def cpu_seconds(self) -> float:
        """Return the user and system time of the tree, reaped children included."""
        ticks = 0
        for pid in self.tree():
            fields = _stat(pid)
            if fields is not None:
                ticks += sum(int(field) for field in fields[11:15])
        return ticks / _TICKS_PER_SECOND

    def run_ns(self) -> int:
        """Return how long the threads that the tree has now have run; finer than ticks."""
        return sum(_run_ns(pid) for pid in self.tree())

    def resident(self) -> int:
        """Return the resident octets of the tree; pages that two processes share count twice."""
        return sum(_resident(pid) for pid in self.tree())

    def exited(self) -> bool:
        """Return whether the process has ended."""
        return self.popen.poll() is not None

    def last_words(self) -> str:
        """Return the last line that the process has written."""
        text = self.log.read_bytes()[-LOG_TAIL:].decode("utf-8", "replace").strip()
        return text.rpartition("\n")[2] or "it wrote nothing"

    def stop(self) -> None:
        """End the process and whatever is left of its tree."""
        tree = self.tree()
        self.popen.terminate()
        try:
            self.popen.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            # Read again: the tree may have grown, and nothing in it may outlive the measure.
            for pid in {*tree, *self.tree()}:
                _kill(pid)
            self.popen.wait(STOP_LIMIT)


@contextmanager
def running(
    command: list[str],
    directory: Path,
    *,
    cpu: int,
    environment: dict[str, str],
    pass_fds: tuple[int, ...] = (),
) -> Iterator[Running]:
    """Run a command in a directory, on one CPU, until the block is left."""
    log = directory / "output.log"
    with log.open("wb") as output, _on(cpu):
        popen = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
        )
    process = Running(popen, log)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def _on(cpu: int) -> Iterator[None]:
    """Run on one CPU for a moment: a process that is started meanwhile stays there."""
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


def let_a_moment_pass(process: Running, deadline: float) -> None:
    """Wait for a moment while a process comes up.

    Raises: StartError when the process has ended or the time is over.
    """
    if process.exited():
        raise StartError(f"exit status {process.popen.returncode}: {process.last_words()}")
    if time.monotonic() > deadline:
        raise StartError(f"no answer in time: {process.last_words()}")
    time.sleep(0.002)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _stat(pid: int) -> list[str] | None:
    """Return the fields after the name, from the state on; None when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def _run_ns(pid: int) -> int:
    """Return the nanoseconds that the threads of a process were on a CPU; 0 when it is gone."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(path.read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def _parents() -> Iterator[tuple[int, int]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields is not None:
                yield int(name), int(fields[1])


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in lines:
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
