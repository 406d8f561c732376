"""What the board's pages are fed: one look at all processes for all who watch, and no queue.

A reader that takes nothing is told nothing; once he takes again he is told what has changed since.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pyproxy.life.board import BoardAsked, BoardLook, BoardStop, BoardStopAll
from pyproxy.life.desk import Document, NobodyAnswers
from pyproxy.observe.board_rows import MOVING
from pyproxy.observe.table import Table

INTERVAL = 0.1
"""Seconds between two looks, at least."""

ROWS_A_SECOND = 4000
"""Rows that are told in a second: where more change the looks are rarer."""

MOST_PAUSE = 2.0
"""Seconds between two looks, however much changes."""

SILENCE = 10.0
"""Seconds after which a reader is told something although nothing has changed."""

MOST_WATCHERS = 16
"""Readers at one time."""

_log = Logger("pyproxy")

Ask = Callable[[BoardAsked], Deferred[Document | None]]
"""Asks every process; see ``life.condition.Serving``."""


class Outlet(Protocol):
    """What carries events to a reader; ``twisted.web.server.Request`` is one."""

    def write(self, data: bytes) -> object:
        """Send octets."""

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> object:
        """Name whom to pause."""

    def unregisterProducer(self) -> object:
        """Pause nobody any more."""

    def finish(self) -> object:
        """End the response."""


@implementer(IPushProducer)
@attrs.define(eq=False)
class Watcher:
    """A reader.

    Attributes: told, the version that he was told last; paused, he takes nothing now.
    """

    _outlet: Outlet
    _feed: Feed
    told: int | None = None
    told_at: float = 0.0
    paused: bool = False
    _said: str = ""

    def begin(self) -> None:
        """Begin to read."""
        self._outlet.registerProducer(self, True)

    def tell(self, now: float, table: Table, more: Document) -> int:
        """Tell what has changed.  Args: what is told with it.  Returns: how many rows that were."""
        if self.paused:
            return 0
        news = table.news(self.told)
        news["counts"].update(more)
        if self.told is None:
            news["moving"] = MOVING
        said = json.dumps(news["counts"])
        rows = sum(len(news[part]) for part in ("rows", "moved", "gone", "ended"))
        if not rows and not news["hour"] and said == self._said and self.told is not None:
            self.told = news["version"]
            if now - self.told_at < SILENCE:
                return 0
        self.told, self.told_at, self._said = news["version"], now, said
        event = {name: value for name, value in news.items() if value or name == "counts"}
        text = json.dumps({**event, "now": now}, separators=(",", ":"))
        self._outlet.write(b"event: board\ndata: %b\n\n" % text.encode("ascii"))
        return rows

    def end(self) -> None:
        """Be told nothing more."""
        self._outlet.unregisterProducer()
        self._outlet.finish()

    def pauseProducing(self) -> None:
        """Be told nothing for a while."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Be told again, from the next look on."""
        self.paused = False

    def stopProducing(self) -> None:
        """Leave."""
        self._feed.leave(self)


class Feed:
    """Looks while somebody watches, and tells all of them.

    Args: what is told of the proxy itself with every summary.
    """

    def __init__(self, ask: Ask, clock: IReactorTime, more: Callable[[], Document]) -> None:
        self._ask = ask
        self._clock = clock
        self._more = more
        self._table = Table()
        self._watchers: list[Watcher] = []
        self._next: IDelayedCall | None = None
        self._looking: Deferred[Any] | None = None

    @property
    def full(self) -> bool:
        """Whether no more readers are taken."""
        return len(self._watchers) >= MOST_WATCHERS

    def watch(self, outlet: Outlet) -> Watcher:
        """Take a reader, who is told all at once."""
        watcher = Watcher(outlet, self)
        self._watchers.append(watcher)
        watcher.begin()
        if self._next is not None and self._next.active():
            self._next.cancel()
            self._next = None
        if self._looking is None:
            self._look()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Let a reader go; nobody is asked any more behind the last one."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)
        if not self._watchers:
            self._rest()

    def close(self) -> None:
        """End the streams of all readers."""
        watchers, self._watchers = self._watchers, []
        self._rest()
        for watcher in watchers:
            watcher.end()

    def _rest(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None
        if self._looking is not None:
            self._looking.cancel()

    def _look(self) -> None:
        self._next = None
        asked = self._ask(BoardLook(self._table.seen))
        looking: Deferred[Any] = asked.addCallbacks(self._known, self._unknown)
        looking.addErrback(lambda failure: _log.failure("the board could not be told", failure))
        self._looking = looking
        looking.addCallback(self._again)

    def _known(self, found: Document | None) -> int:
        answers = {} if found is None else found["processes"]
        self._table.take(
            {int(number): answer for number, answer in answers.items()},
            () if found is None else found["silent"],
        )
        return self._tell()

    def _unknown(self, failure: Failure) -> int:
        if failure.check(CancelledError):
            return 0
        failure.trap(NobodyAnswers)
        self._table.take({}, tuple(self._table.seen))
        return self._tell()

    def _tell(self) -> int:
        now, more = self._clock.seconds(), self._more()
        return sum([watcher.tell(now, self._table, more) for watcher in list(self._watchers)])

    def _again(self, rows: int | None) -> None:
        self._looking = None
        if self._watchers:
            pause = min(max(INTERVAL, (rows or 0) / ROWS_A_SECOND), MOST_PAUSE)
            self._next = self._clock.callLater(pause, self._look)

    # ending exchanges

    def stop(self, name: str) -> Deferred[Document | None] | None:
        """End the exchange of a row.  Returns: None when there is no such row (any more)."""
        place = self._table.place(name)
        return None if place is None else self._ask(BoardStop(*place))

    def stop_all(self, route: str) -> Deferred[Document | None]:
        """End all exchanges of a route."""
        return self._ask(BoardStopAll(route))
