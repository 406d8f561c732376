"""Processes with limits: start, wait for a port or a line, end by id.

Everything listens on loopback.  A process gets a process group of its own; whoever starts it ends
it, together with what it started and left in that group.  Knows nothing of WebSockets.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, TypeVar

import attrs

CHECKOUT = Path(__file__).resolve().parents[1]

START_LIMIT = 60.0
"""Seconds that a process may take until it listens."""

STOP_LIMIT = 10.0
"""Seconds that a process gets to end after SIGTERM before it is killed."""

SETTLE_LIMIT = 10.0
"""Seconds for the proxy to write the last line of its access log."""

POLL_INTERVAL = 0.02
LOG_TAIL = 2000
TROUBLE = re.compile(
    r"Traceback \(most recent call last\)|Unhandled [Ee]rror|Unhandled in Deferred"
)
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "NODE_OPTIONS")

T = TypeVar("T")


class StartError(Exception):
    """A process did not come up; the text says why."""


class OutOfTime(Exception):
    """A process had not ended within its limit; the text names it and its last line."""


@attrs.frozen
class Process:
    """A process that we started; its output goes to a file."""

    popen: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        """Return all that it has written so far."""
        return self.log.read_text("utf-8", "backslashreplace")

    def last_words(self) -> str:
        """Return the last line that it has written."""
        text = self.output()[-LOG_TAIL:].strip()
        return text.rpartition("\n")[2] or "it wrote nothing"

    def wait_port(self, port: int, limit: float = START_LIMIT) -> None:
        """Wait until something accepts connections on a loopback port.

        Raises: StartError when the process has ended or the time is over.
        """
        self._await(lambda: _accepts(port), f"nothing listens on port {port}", limit)

    def wait_line(self, pattern: str, limit: float = START_LIMIT) -> re.Match[str]:
        """Wait until the output matches a pattern.

        Raises: StartError when the process has ended or the time is over.
        """
        return self._await(lambda: re.search(pattern, self.output()), f"no {pattern!r}", limit)

    def _await(self, look: Callable[[], T | None], what: str, limit: float) -> T:
        end = time.monotonic() + limit
        while not (found := look()):
            if self.popen.poll() is not None:
                raise StartError(f"exit status {self.popen.returncode}: {self.last_words()}")
            if time.monotonic() > end:
                raise StartError(f"{what} after {limit:g} s: {self.last_words()}")
            time.sleep(POLL_INTERVAL)
        return found

    def stop(self) -> int:
        """End the process, and what is left of its group; return its status."""
        if self.popen.poll() is None:
            self.popen.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(STOP_LIMIT)
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        return self.popen.wait(STOP_LIMIT)


@attrs.frozen
class Proxy:
    """A ``twistd -n pyproxy`` process and the port that it listens on."""

    process: Process
    port: int

    def faults(self) -> list[str]:
        """Return what is wrong with the process or its log; empty when nothing is."""
        found = []
        text = self.process.output()
        if trouble := TROUBLE.search(text):
            found.append(f"the proxy logged a traceback:\n{text[trouble.start() :][:LOG_TAIL]}")
        if (status := self.process.popen.poll()) not in (None, 0, -signal.SIGTERM):
            found.append(f"the proxy ended with status {status}: {self.process.last_words()}")
        return found

    def opened(self) -> int:
        """Count the WebSockets in the access log; each gets its line when it ends."""
        return len(re.findall(r'HTTP/1\.1" 101 ', self.process.output()))

    def wait_opened(self, wanted: int, limit: float = SETTLE_LIMIT) -> int:
        """Wait until the access log has so many WebSockets; return how many it has."""
        end = time.monotonic() + limit
        while (opened := self.opened()) < wanted and time.monotonic() < end:
            time.sleep(POLL_INTERVAL)
        return opened


def inherited() -> dict[str, str]:
    """Return our variables less those that lead another environment's program to our files."""
    return {key: value for key, value in os.environ.items() if key not in _FOREIGN}


@contextmanager
def running(
    command: Sequence[str | Path],
    directory: Path,
    name: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """Run a command in a directory until the block is left; its output goes to ``NAME.log``."""
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [str(word) for word in command],
            cwd=directory,
            env={**inherited(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process = Process(popen, log)
    try:
        yield process
    finally:
        process.stop()


def run(
    command: Sequence[str | Path],
    directory: Path,
    name: str,
    limit: float,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run a command to its end; return its status and what it wrote.

    Raises: OutOfTime when it has not ended after ``limit`` seconds; it is ended then.
    """
    with running(command, directory, name, environment) as process:
        try:
            status = process.popen.wait(limit)
        except subprocess.TimeoutExpired:
            last = process.last_words()
            raise OutOfTime(f"{name} had not ended after {limit:g} s: {last}") from None
        return status, process.output()


@contextmanager
def proxy(target: str, directory: Path, *options: str, name: str = "proxy") -> Iterator[Proxy]:
    """Run ``twistd -n pyproxy`` from this checkout in front of a target."""
    command: list[str | Path] = [
        sys.executable,
        Path(sys.executable).with_name("twistd"),
        *("-n", "--pidfile=", "pyproxy", "--target", target, "--port", "0", *options),
    ]
    with running(command, directory, name, {"PYTHONPATH": str(CHECKOUT)}) as process:
        found = process.wait_line(r"Listening on http://[^\s/]+:(\d+)")
        yield Proxy(process, int(found[1]))


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def end_on_sigterm() -> None:
    """Let SIGTERM leave every block on the way out, so that no process of ours stays behind."""
    signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
