"""Exchanges that somebody follows step by step: the next one that is wanted, of one process.

While nobody waits for one nothing is looked at, and no fields are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from pyproxy.account import Account, Noted
from pyproxy.observe.book import Document
from pyproxy.observe.masking import Mask
from pyproxy.observe.steps import Steps
from pyproxy.semantics.messages import RequestHead

KEPT = 10.0
"""Seconds for which an exchange is followed of which nobody asks."""

MOST_TRACERS = 8
"""Who follow at one time in one process; one more takes the place of the oldest."""

MOST_CANDIDATES = 64
"""Exchanges of which the route is not known yet, for each of them."""

OnBegin = Callable[[Account, RequestHead], None]


class Source(Protocol):
    """Who keeps the accounts; ``observe.accounts.Accounts`` is one.

    Attributes: on_begin, is told of each account that begins, and of its head; None for nobody.
    """

    on_begin: OnBegin | None


@attrs.frozen
class Wanted:
    """Which exchange is wanted; what is empty may be anything.

    Attributes:
        method: of the request.
        path: what the target's path begins with.
        host: as asked for, with its port or without.
        route: its name.
    """

    method: bytes = b""
    path: bytes = b""
    host: bytes = b""
    route: str = ""

    def may_be(self, account: Account) -> bool:
        """Tell whether an exchange is wanted, as far as its head says."""
        if self.method not in (b"", account.method):
            return False
        host = account.host.lower()
        if self.host and self.host.lower() not in (host, host.rpartition(b":")[0]):
            return False
        return path_of(account.target).startswith(self.path)


@attrs.define(eq=False)
class _Tracer:
    """Somebody who follows.

    Attributes: asked_at, when he did last; candidates, that may be his; steps, of what is his.
    """

    wanted: Wanted
    asked_at: float
    candidates: list[Account] = attrs.Factory(list)
    steps: Steps | None = None

    @property
    def waits(self) -> bool:
        """Whether he takes another candidate."""
        return self.steps is None and len(self.candidates) < MOST_CANDIDATES

    def judge(self) -> None:
        """Choose the first candidate that is wanted; one of which that is not known may be it."""
        while self.steps is None and self.candidates:
            account = self.candidates[0]
            if self.wanted.route and not account.route and account.ended is None:
                return
            if self.wanted.route in ("", account.route):
                self.steps = Steps(account)
                self.candidates.clear()
            else:
                del self.candidates[0]


class Tracers:
    """Who follows exchanges of one process.

    Args: who keeps the accounts; seconds of the epoch; what marks this life of the process; returns
        what takes credentials out.
    """

    def __init__(
        self, source: Source, clock: Callable[[], float], epoch: int, mask: Callable[[], Mask]
    ) -> None:
        self._source = source
        self._clock = clock
        self._epoch = epoch
        self._mask = mask
        self._tracers: dict[str, _Tracer] = {}

    def look(self, name: str, wanted: Wanted, told: int, epoch: int | None) -> Document:
        """Follow on, or begin to.

        Args: who follows; how many steps he was told; the life of the process in which he has
            chosen an exchange, None before that.
        Returns: ``lost``, whether his is no more; ``began`` of the one that was found, None before
            that; ``steps`` that he was not told, and whether it is ``over``.
        """
        now = self._clock()
        self._forget(now)
        tracer = self._tracers.get(name)
        if tracer is None and epoch is None:
            tracer = self._tracers[name] = _Tracer(wanted, now)
            while len(self._tracers) > MOST_TRACERS:
                del self._tracers[next(iter(self._tracers))]
        if tracer is None or epoch not in (None, self._epoch):
            return {"epoch": self._epoch, "lost": True, "began": None, "steps": [], "over": False}
        tracer.asked_at = now
        tracer.judge()
        self._heed()
        steps = tracer.steps
        if steps is None:
            return {"epoch": self._epoch, "lost": False, "began": None, "steps": [], "over": False}
        return {
            "epoch": self._epoch,
            "lost": False,
            "began": steps.account.began,
            "steps": steps.after(told, self._mask()),
            "over": steps.account.ended is not None,
        }

    def leave(self, name: str) -> None:
        """Let somebody follow no more."""
        self._tracers.pop(name, None)
        self._heed()

    def _begin(self, account: Account, head: RequestHead) -> None:
        self._forget(account.began)
        for tracer in self._tracers.values():
            if tracer.waits and tracer.wanted.may_be(account):
                if account.noted is None:
                    account.noted = Noted(tuple(head.fields))
                tracer.candidates.append(account)
                tracer.judge()
        self._heed()

    def _forget(self, now: float) -> None:
        old = [name for name, one in self._tracers.items() if one.asked_at < now - KEPT]
        for name in old:
            del self._tracers[name]

    def _heed(self) -> None:
        """Look at what begins only as long as somebody waits for it."""
        waits = any(tracer.waits for tracer in self._tracers.values())
        self._source.on_begin = self._begin if waits else None


def path_of(target: bytes) -> bytes:
    """Return the path of a target, and what follows it.  Spec: RFC 9112 3.2."""
    scheme, separator, rest = target.partition(b"://")
    if target.startswith(b"/") or not separator or not scheme.isalnum():
        return target
    return b"/" + rest.partition(b"/")[2]
