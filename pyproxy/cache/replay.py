"""A stored event stream, event by event: each is sent by itself, at once or when it came before."""

from __future__ import annotations

from bisect import bisect_right

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pyproxy.cache.delivery import Delivery, Readable
from pyproxy.semantics.event_ends import EventEnds
from pyproxy.semantics.event_errors import EventErrors
from pyproxy.semantics.event_times import MAX_EVENTS, EventTimes
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.framing import UNTIL_CLOSE
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.stored import StoredResponse

EVENT_COST = 1024
"""Octets that could be sent in the time that it takes to send an event by itself."""


@attrs.define(eq=False)
class Recording:
    """Where the events of a stream end, and when they came.

    Attributes:
        refuses: it is not to be stored: more came than are remembered, or one is an error.
    """

    _since: float
    events: EventTimes = attrs.Factory(EventTimes)
    refuses: bool = False
    _ends: EventEnds = attrs.Factory(EventEnds)
    _errors: EventErrors = attrs.Factory(EventErrors)

    def take(self, octets: Octets, now: float) -> None:
        """Take note of octets that have come."""
        if self.refuses:
            return
        ends = self._ends.feed(octets)
        if len(self.events.ends) + len(ends) > MAX_EVENTS or self._errors.feed(octets):
            self.refuses = True
            self.events = EventTimes()
        elif ends:
            self.events.add(ends, now - self._since)


@attrs.define(eq=False)
class _Window:
    """Gives parts of what a store has given, so that it is not asked again for every event.

    Attributes:
        count: how many octets are there.
    """

    _content: Readable
    count: int
    _start: int = 0
    _piece: bytes = b""

    def read(self, start: int) -> Octets | Deferred[bytes]:
        """Return some octets from a place on."""
        offset = start - self._start
        if 0 <= offset < len(self._piece):
            return memoryview(self._piece)[offset:]
        piece = self._content.read(start)
        if isinstance(piece, Deferred):
            return piece.addCallback(self._keep, start)
        return self._keep(bytes(piece), start)

    def _keep(self, piece: bytes, start: int) -> bytes:
        self._start, self._piece = start, piece
        return piece

    def hold(self) -> None:
        """Be kept for a reader."""
        self._content.hold()

    def release(self) -> None:
        """Be kept for one reader less."""
        self._content.release()


@attrs.define(eq=False)
class Replay(Delivery):
    """Delivers a stored event stream.

    Attributes:
        events: where they end, and when they came.
        paced: each waits as long as it did when it was recorded.
    """

    events: EventTimes = attrs.Factory(EventTimes)
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
        end, events = stored.length or 0, EventTimes.unpack(stored.events)
        window = _Window(content, content.count)
        replay = cls(head, UNTIL_CLOSE, window, reactor, end=end, events=events, paced=paced)
        replay._began = reactor.seconds()
        replay.hold()
        return replay

    def _may_go_on(self) -> bool:
        place = bisect_right(self.events.ends, self.position)
        if place == len(self.events.ends):
            self._until = self.end
            return True
        self._until = self.events.ends[place]
        # The end of a turn comes after so many small writes too.
        self._turn += EVENT_COST
        due = self._began + self.events.after_ms[place] / 1000
        left = due - self._reactor.seconds()
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
