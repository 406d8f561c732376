"""How long the ends of a WebSocket that is ending may take.

Owns what is remembered of ends for that.  Must not know frames, nor what becomes of an end whose
time is over.
"""

from __future__ import annotations

import attrs

from pyproxy.relay.lookout import LINGER_SECONDS, LOOK_INTERVAL
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.relay.sockets import not_sent, unsent
from pyproxy.relay.transports import StreamTransport
from pyproxy.relay.writing import backlog

ONE_LOOK = LOOK_INTERVAL / 2
"""Seconds that have to lie between two looks, so that something could move; one may come early."""


def held_back(transport: StreamTransport) -> int:
    """Return how many octets have not left for the peer, so that a FIN behind them has not."""
    return backlog(transport) + not_sent(transport)


@attrs.define(eq=False)
class Patience:
    """What an ending WebSocket remembers of its ends, and the limit of silence between octets.

    Attributes:
        forsaken_at: when the client was gone, so that nobody listens to the upstream any more.
    """

    _idle: float
    forsaken_at: float | None = None
    _before_fin: tuple[int, float] | None = None
    _moved: dict[WebSocketEnd, tuple[object, float]] | None = None

    @property
    def half_closed(self) -> bool:
        """Whether the client sent a FIN alone, and may still listen."""
        return self._before_fin is not None

    def pass_fin(self, upstream: StreamTransport, now: float) -> None:
        """Take note of such a FIN; it was passed on to the upstream."""
        self._before_fin = held_back(upstream), now

    def upstream_is_overdue(self, upstream: StreamTransport, now: float) -> bool:
        """Tell whether an upstream whose client left has had its one look.

        So has one that takes nothing of what stands before the client's FIN, and would not learn of
        it: a reset is the one thing that it can be told.
        """
        if self.forsaken_at is not None:
            return now - self.forsaken_at >= ONE_LOOK
        if self._before_fin is None:
            return False
        before, since = self._before_fin
        if before == 0 or now - since < ONE_LOOK:
            return False
        self.pass_fin(upstream, now)
        return self._before_fin[0] >= before

    def is_over(self, end: WebSocketEnd, counts: tuple[int, int], now: float) -> bool:
        """Tell whether an end has been still for too long.

        It may go on for as long as something moves; without that it has LINGER_SECONDS, or while it
        has octets to take the limit of silence.
        Args: how many octets have come from it and went to it.
        """
        if self._moved is None:
            self._moved = {}
        waits = (backlog(end.transport), unsent(end.transport))
        moved = (counts, waits)
        seen, since = self._moved.get(end, (None, now))
        if moved != seen:
            self._moved[end] = (moved, now)
            return False
        return now - since >= (self._idle if any(waits) else LINGER_SECONDS)
