"""The board of one process: what is open, what has ended, and the means to end it.

Nothing of it is reckoned unless somebody looks; what has ended meanwhile is kept in bounds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from pyproxy.account import Account
from pyproxy.carrier import Flow
from pyproxy.observe.board_rows import MOVING, Lookout, ended_of, fixed_of, is_good, moving_of
from pyproxy.observe.book import MOST_ENDED, Book, Document
from pyproxy.observe.hour import Hour
from pyproxy.observe.masking import Mask
from pyproxy.observe.tracing import Tracers

MOST_ROWS = 2000
"""Rows of one process; what is open beyond is counted."""

_NO_FLOW = Flow()


class Source(Protocol):
    """Who keeps the accounts; ``observe.accounts.Accounts`` is one.

    Attributes: open, accounts that are not closed, by number, the oldest first.
    """

    open: dict[int, Account]


class Board:
    """What one process shows.

    Args: who keeps the accounts; seconds of the epoch; what marks this life of the process.
    Attributes: mask, what takes credentials out; tracers, who follow exchanges, None where nobody
        can.
    """

    def __init__(
        self, source: Source, clock: Callable[[], float], epoch: int, mask: Mask | None = None
    ) -> None:
        self.mask = mask or Mask()
        self.tracers: Tracers | None = None
        self._source = source
        self._clock = clock
        self._epoch = epoch
        self._book = Book[int](MOVING)
        self._lookouts: dict[int, Lookout] = {}
        self._over: deque[Account] = deque(maxlen=MOST_ENDED)
        self._hour = Hour()
        self._told_hour = (0, 0)

    def ended(self, account: Account) -> None:
        """Take note of an account that was closed: a sink of accounts."""
        self._over.append(account)
        ended = account.began if account.ended is None else account.ended
        # A token is what somebody waits for; where none was read, any content.
        moment = account.first_token or account.first
        first = None if moment is None else max(moment - account.began, 0.0)
        self._hour.add(ended, max(ended - account.began, 0.0), first, not is_good(account))

    def look(self, seen: tuple[int, int] | None) -> Document:
        """Return what has changed.

        Args: the epoch and the version that were told last; None for nothing yet.
        Returns: as ``Book.news``, with ``epoch``, ``counts`` (``open``, ``hidden`` without a row,
            open by ``routes``) and ``hour``, None when nothing was counted since.
        """
        now = self._clock()
        self._book.step()
        self._gather(now)
        known = seen is not None and seen[0] == self._epoch
        news = self._book.news(seen[1] if seen is not None and known else None)
        hour = (self._hour.changes, int(now // 60))
        changed = news["reset"] or hour != self._told_hour
        self._told_hour = hour
        return {
            **news,
            "epoch": self._epoch,
            "counts": self._counts(),
            "hour": self._hour.shown(now) if changed else None,
        }

    def _gather(self, now: float) -> None:
        book, lookouts, accounts = self._book, self._lookouts, self._source.open
        for number in book.names - accounts.keys():
            book.remove(number)
            del lookouts[number]
        while self._over:
            book.end(ended_of(self._over.popleft(), self.mask))
        for number, account in accounts.items():
            if number not in book:
                if len(book) >= MOST_ROWS:
                    continue
                lookouts[number] = Lookout(moved=account.began)
            lookout = lookouts[number]
            flow = _NO_FLOW if account.carrier is None else account.carrier.flow()
            lookout.look(flow, now)
            moving = moving_of(account, flow, lookout, now, self.mask)
            if number in book:
                book.move(number, moving)
            else:
                book.open(number, fixed_of(account, self.mask), moving)

    def _counts(self) -> Document:
        accounts = self._source.open
        routes: dict[str, int] = {}
        for account in accounts.values():
            if account.route:
                routes[account.route] = routes.get(account.route, 0) + 1
        hidden = len(accounts) - len(self._book)
        return {"open": len(accounts), "hidden": hidden, "routes": routes}

    def stop(self, epoch: int, number: int) -> int:
        """End an exchange.  Args: the life of the process that it was seen in.  Returns: 1 or 0."""
        account = self._source.open.get(number) if epoch == self._epoch else None
        return 0 if account is None else _stop(account)

    def stop_all(self, route: str) -> int:
        """End all exchanges of a route.  Returns: how many."""
        return sum(_stop(one) for one in list(self._source.open.values()) if one.route == route)


def _stop(account: Account) -> int:
    if account.carrier is None or account.ended is not None:
        return 0
    account.closed_by = account.closed_by or "operator"
    account.carrier.stop()
    return 1
