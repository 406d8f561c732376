"""A terminal: lines onto it, keys from it.

Owns how it is left: as it was found.
"""

from __future__ import annotations

import curses
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import attrs

from pyproxy.terminal.view import Line

_NAMES = {
    curses.KEY_UP: "up",
    curses.KEY_DOWN: "down",
    curses.KEY_LEFT: "left",
    curses.KEY_RIGHT: "right",
    curses.KEY_PPAGE: "page up",
    curses.KEY_NPAGE: "page down",
    curses.KEY_HOME: "home",
    curses.KEY_END: "end",
    curses.KEY_BACKSPACE: "back",
    curses.KEY_ENTER: "enter",
    curses.KEY_RESIZE: "resize",
    "\n": "enter",
    "\r": "enter",
    "\x1b": "escape",
    "\x7f": "back",
    "\b": "back",
    "\t": "tab",
    "\f": "redraw",
}

_COLOURS = {"good": curses.COLOR_GREEN, "warn": curses.COLOR_YELLOW, "bad": curses.COLOR_RED}

_ESCAPE_MS = 25
"""Milliseconds in which what follows an escape has to come to be one key with it."""

_ENDS = (signal.SIGTERM, signal.SIGHUP)


class Gone(Exception):
    """Nobody is at the terminal any more."""


def is_terminal() -> bool:
    """Tell whether somebody sees what is written, and can press keys."""
    return sys.stdin.isatty() and sys.stdout.isatty()


@attrs.define(eq=False)
class Screen:
    """A terminal that is taken."""

    _window: curses.window
    _tones: dict[str, int]
    _poll: select.poll

    @property
    def size(self) -> tuple[int, int]:
        """Cells of a line, and lines."""
        height, width = self._window.getmaxyx()
        return width, height

    def paint(self, lines: Sequence[Line]) -> None:
        """Show lines; curses writes what is different only."""
        window = self._window
        window.erase()
        for y, line in enumerate(lines):
            # The cursor has no place behind the last cell.
            with suppress(curses.error):
                window.move(y, 0)
                for text, tone in line:
                    window.addstr(text, self._tones.get(tone, 0))
        window.refresh()

    def keys(self, seconds: float) -> Iterator[str]:
        """Wait for keys, so long at most; give all that were pressed.

        ``resize`` is one of them, and what the lines are painted on has its new size then.
        Raises: Gone.
        """
        for _, events in self._poll.poll(seconds * 1000):
            if events & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                raise Gone
        while True:
            try:
                key = self._window.get_wch()
            except curses.error:
                return
            name = _NAMES.get(key, key if isinstance(key, str) else "")
            if name == "redraw":
                self._window.redrawwin()
            elif name:
                yield name


@contextmanager
def taken() -> Iterator[Screen]:
    """Take the terminal; give it back however it ends, SIGTERM and SIGHUP among the ways.

    Raises: curses.error where the terminal can do too little, or is not known.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in _ENDS}
    try:
        window = curses.initscr()
        try:
            yield _screen(window)
        finally:
            curses.endwin()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _screen(window: curses.window) -> Screen:
    curses.noecho()
    curses.cbreak()
    curses.set_escdelay(_ESCAPE_MS)
    window.keypad(True)
    window.nodelay(True)
    with suppress(curses.error):
        curses.curs_set(0)
    poll = select.poll()
    poll.register(sys.stdin.fileno(), select.POLLIN)
    return Screen(window, _tones(), poll)


def _tones() -> dict[str, int]:
    tones = {"head": curses.A_BOLD, "here": curses.A_REVERSE, "dim": curses.A_DIM}
    tones |= {"warn": curses.A_BOLD, "bad": curses.A_BOLD}
    if os.environ.get("NO_COLOR"):
        return tones
    with suppress(curses.error):
        curses.start_color()
        curses.use_default_colors()
        for number, (tone, colour) in enumerate(_COLOURS.items(), 1):
            curses.init_pair(number, colour, -1)
            tones[tone] = curses.color_pair(number)
    return tones
