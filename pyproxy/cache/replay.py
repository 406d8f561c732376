"""A stored event stream, event by event: each is sent by itself, at once or when it came before."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pyproxy.cache.delivery import Delivery, Readable
from pyproxy.semantics.event_ends import EventEnds
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.framing import UNTIL_CLOSE
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.stored import StoredResponse

MAX_EVENTS = 10_000
"""Events of one stream that are remembered; a longer one is not stored."""


EVENT_COST = 1024
"""Octets that could be sent in the time that it takes to send an event by itself."""


@attrs.define(eq=False)
class Recording:
    """Where the events of a stream end, and when they came.

    Attributes:
        events: ends, in octets from the beginning, and seconds since the head.
    """

    _since: float
    events: list[tuple[int, float]] = attrs.Factory(list)
    _ends: EventEnds = attrs.Factory(EventEnds)

    @property
    def full(self) -> bool:
        """Whether more came than are remembered."""
        return len(self.events) > MAX_EVENTS

    def take(self, octets: Octets, now: float) -> None:
        """Take note of octets that have come."""
        after = round(max(0.0, now - self._since), 3)
        if not self.full:
            self.events += ((end, after) for end in self._ends.feed(octets))


@attrs.define(eq=False)
class Replay(Delivery):
    """Delivers a stored event stream.

    Attributes:
        events: as ``Recording`` has them.
        paced: each waits as long as it did when it was recorded.
    """

    events: Sequence[tuple[int, float]] = ()
    paced: bool = False
    _began: float = 0.0
    _timer: IDelayedCall | None = None

    @classmethod
    def of(
        cls,
        head: ResponseHead,
        content: Readable,
        stored: StoredResponse,
        paced: bool,
        reactor: IReactorTime,
    ) -> Replay:
        """Deliver a stored stream.  Args: head, as the client gets it, and what is stored."""
        end, events = stored.length or 0, stored.events
        replay = cls(head, UNTIL_CLOSE, content, reactor, end=end, events=events, paced=paced)
        replay._began = reactor.seconds()
        replay.hold()
        return replay

    def _may_go_on(self) -> bool:
        place = bisect_right(self.events, (self.position, float("inf")))
        if place == len(self.events):
            self._until = self.end
            return True
        self._until, after = self.events[place]
        # The end of a turn comes after so many small writes too.
        self._turn += EVENT_COST
        left = self._began + after - self._reactor.seconds()
        if self.paced and left > 0:
            self._reading = True
            self._timer = self._reactor.callLater(left, self._due)
            return False
        return True

    def _due(self) -> None:
        self._timer = None
        self._again()

    def _let_go(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        super()._let_go()
