"""``python -m pyproxy top``: the board of a proxy that runs, in a terminal."""

from __future__ import annotations

import argparse
import curses
import locale
import queue
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

import attrs

from pyproxy.admin.command import Trouble, asked, token_of
from pyproxy.terminal.link import Link, add_place
from pyproxy.terminal.screen import Gone, Screen, is_terminal, taken
from pyproxy.terminal.view import Mode, View

EVENTS = "/api/board/events"

MOST_WAITING = 64
"""News that wait to be shown; the site is read no further then."""

MOST_STOPS = 4
"""Orders to stop that wait for their answers."""

PAUSE = 1.0
"""Seconds until a site that was away is asked again."""

WAIT = 0.1
"""Seconds for a key to be pressed; the screen is painted anew behind them."""

News = tuple[Literal["news", "away", "message"], Any]


@attrs.define(eq=False)
class Watching:
    """Asks the site, beside the screen.

    The threads end with the process: none of them has anything that had to be put in order.
    Attributes: news, what was told and is not shown yet.
    """

    place: str
    token: str | None
    news: queue.Queue[News] = attrs.Factory(lambda: queue.Queue(MOST_WAITING))
    _stops: threading.Semaphore = attrs.Factory(lambda: threading.Semaphore(MOST_STOPS))

    def begin(self, link: Link) -> None:
        """Go on with a stream that has begun."""
        threading.Thread(target=self._watch, args=(link,), daemon=True).start()

    def _watch(self, link: Link) -> None:
        while True:
            try:
                for name, document in link.events():
                    if name == "board":
                        self.news.put(("news", document))
                self.news.put(("away", f"{self.place}: it has ended"))
            except Trouble as trouble:
                self.news.put(("away", str(trouble)))
            link = self._again()

    def _again(self) -> Link:
        while True:
            time.sleep(PAUSE)
            try:
                return Link.open(self.place, EVENTS, self.token)
            except Trouble as trouble:
                self.news.put(("away", str(trouble)))

    def stop(self, name: str) -> None:
        """End an exchange; what became of it is told."""
        if self._stops.acquire(blocking=False):
            threading.Thread(target=self._stop, args=(name,), daemon=True).start()
        else:
            self.news.put(("message", f"{name}: not stopped, others are being stopped still"))

    def _stop(self, name: str) -> None:
        try:
            asked(self.place, "POST", "/api/board/stop", {"id": name}, self.token)
            said = f"{name}: stopped"
        except Trouble as trouble:
            said = f"{name}: {trouble}"
        finally:
            self._stops.release()
        self.news.put(("message", said))


def show(screen: Screen, view: View, news: queue.Queue[News]) -> None:
    """Show what is told until a key ends it.  Raises: Gone."""
    ahead = 0.0
    while view.mode is not Mode.OVER:
        for _ in range(MOST_WAITING):
            try:
                kind, said = news.get_nowait()
            except queue.Empty:
                break
            if kind == "news":
                view.known.take(said)
                view.away = ""
                # Times are the proxy's, whose clock may go wrong, or this one.
                ahead = view.known.now - time.time()
            elif kind == "away":
                view.away = said
            else:
                view.message = said
        now = view.known.now if view.away else time.time() + ahead
        screen.paint(view.lines(*screen.size, now))
        for key in screen.keys(WAIT):
            view.key(key, now)


def main(arguments: Sequence[str]) -> int:
    """Show the board.  Returns: the status to end with."""
    parser = argparse.ArgumentParser(
        prog="pyproxy top", description="Show what a proxy that runs has open, as it goes."
    )
    add_place(parser)
    options = parser.parse_args(arguments)
    # Without it curses writes no character beyond ASCII.
    locale.setlocale(locale.LC_ALL, "")
    try:
        if not is_terminal():
            raise Trouble(f"top needs a terminal; without one read {options.admin}{EVENTS}")
        token = token_of(options.token)
        link = Link.open(options.admin, EVENTS, token)
        watching = Watching(options.admin, token)
        with taken() as screen:
            watching.begin(link)
            show(screen, View(options.admin, watching.stop), watching.news)
    except KeyboardInterrupt:
        pass
    except Gone:
        return 1
    except Trouble as trouble:
        sys.stderr.write(f"pyproxy: {trouble}\n")
        return 1
    except curses.error as error:
        sys.stderr.write(f"pyproxy: this terminal cannot show it: {error}\n")
        return 1
    return 0
