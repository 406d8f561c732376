"""A program in a pseudo terminal: what it writes, what is typed, and how large the terminal is."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Self

from tests.live.kit import PATIENCE

CHECKOUT = Path(__file__).parents[2]

_ORDER = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[()][A-Z0-9]|[=>78cDEHMNOZ])")


LAST_LINE = b"q quit"
"""What the last line of every screen begins with."""


class Terminal:
    """A process of pyproxy in a terminal of its own.

    Args: what stands behind ``python -m pyproxy``; cells of a line, and lines; of which kind it is:
        vt220 has no colours, and no order that repeats a character, so words stay whole.
    Attributes: octets, all that was written.
    """

    def __init__(
        self, *arguments: str, size: tuple[int, int] = (140, 30), kind: str = "vt220"
    ) -> None:
        self.octets = b""
        self._mine, its = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(its)
        # What it was is looked at when the process has ended.
        self._its = its
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pyproxy", *arguments],
            stdin=its,
            stdout=its,
            stderr=its,
            cwd=CHECKOUT,
            env={**os.environ, "TERM": kind, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(CHECKOUT)},
            start_new_session=True,
        )

    def resize(self, width: int, height: int) -> None:
        """Give it another size."""
        fcntl.ioctl(self._mine, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        if hasattr(self, "process"):
            self.process.send_signal(signal.SIGWINCH)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._mine, keys.encode("utf-8"))

    def read(self, limit: float) -> bool:
        """Read what comes within a limit; tell whether anything did."""
        if not select.select([self._mine], [], [], limit)[0]:
            return False
        try:
            octets = os.read(self._mine, 65536)
        except OSError:
            # Linux says so when nobody holds the other end.
            return False
        self.octets += octets
        return bool(octets)

    def shows(self, *words: str, but: str | None = None) -> bool:
        """Wait until a screen, painted as a whole, has all words, and another one not."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            screen = self.screen()
            if all(word in screen for word in words) and (but is None or but not in screen):
                return True
        return False

    def screen(self) -> str:
        """Let the whole screen be painted, and return it with the orders left out."""
        while self.read(0):
            pass
        self.octets = b""
        self.type("\f")
        end = time.monotonic() + PATIENCE
        # It is painted from top to bottom.
        while LAST_LINE not in self.octets and time.monotonic() < end:
            self.read(0.1)
        return _ORDER.sub(b" ", self.octets).decode("utf-8", "replace")

    def ends(self) -> int:
        """Wait for its end, and read what it says last; return its status."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.05)
        while self.read(0.1):
            pass
        return self.process.wait(0)

    @property
    def is_as_before(self) -> bool:
        """Whether the terminal is set as it was."""
        return termios.tcgetattr(self._its) == self.before

    def hang_up(self) -> None:
        """Let go of the terminal as a window that is closed."""
        os.close(self._its)
        os.close(self._mine)
        self._its = self._mine = -1

    def close(self) -> None:
        """End the process if it goes on."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        for number in (self._mine, self._its):
            if number >= 0:
                os.close(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
