"""An open WebSocket: two connections as one machine.

Owns how both ends live and end together, the limit of silence and the pings.  Must not know HTTP;
the octets are the two directions' own.
Spec: RFC 6455 5.5, 7.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pyproxy.errors import (
    ClientMessageTooBig,
    ProxyError,
    ReadTimeout,
    ResponseIncomplete,
    Unavailable,
    UpstreamMessageTooBig,
)
from pyproxy.policy.routing import Limits
from pyproxy.relay.flow import Flow, SocketEnd
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.sockets import has_left, tune, unsent
from pyproxy.relay.writing import backlog
from pyproxy.semantics.frames import FrameCount, FrameWatch

CLOSE_SECONDS = 5.0
"""How long an end may take to close its side once it was told of the end; nginx lingers as long."""

LOOK_INTERVAL = 0.05
"""How often ends that are ending, or cannot be heard, are looked at, in seconds.

Half of the 100 ms within which the upstream is to be closed behind a client that left.
"""

PING_BYTES = 8
"""Octets of payload in our pings: random ones, so that no other Pong is taken for the answer."""


class Pair:
    """The two ends of an open WebSocket, which live and end together.

    Attributes:
        error: why the proxy, or the upstream's end, ended it; None otherwise.
        client_left: the client went away without a closing handshake.
    """

    __slots__ = (
        "_client",
        "_clock",
        "_ending",
        "_forsaken",
        "_gone",
        "_heard",
        "_heard_at",
        "_limits",
        "_look_call",
        "_on_end",
        "_pinged_at",
        "_seen",
        "_sweeper",
        "_to_client",
        "_to_upstream",
        "_upstream",
        "client_left",
        "error",
    )

    def __init__(
        self,
        client: SocketEnd,
        upstream: SocketEnd,
        limits: Limits,
        clock: IReactorTime,
        sweeper: Sweeper,
        on_end: Callable[[Pair], None],
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._limits = limits
        self._clock = clock
        self._sweeper = sweeper
        self._on_end = on_end
        self._ending = False
        self._forsaken = False
        self._gone: tuple[SocketEnd, ...] = ()
        self._seen: dict[SocketEnd, tuple[object, float]] = {}
        self._look_call: IDelayedCall | None = None
        self._heard = 0
        self._heard_at = self._pinged_at = sweeper.now
        self.error: ProxyError | None = None
        self.client_left = False
        ping = b"" if limits.ws_ping is None else os.urandom(PING_BYTES)
        self._to_upstream = self._flow(client, upstream, ping, ClientMessageTooBig)
        self._to_client = self._flow(upstream, client, ping, UpstreamMessageTooBig)

    def _flow(
        self, source: SocketEnd, sink: SocketEnd, ping: bytes, too_big: type[ProxyError]
    ) -> Flow:
        most = self._limits.max_message
        watched = ping or most is not None
        frames = FrameWatch(most, ping) if watched else FrameCount()
        error = f"a message has more than {most} bytes"
        return Flow(source, sink, frames, ping, self._look_soon, lambda: self.end(too_big(error)))

    def open(self, from_client: bytes, from_upstream: bytes) -> None:
        """Begin.  Args: octets that came together with the opening handshake."""
        self._client.join(self, self._to_upstream)
        self._upstream.join(self, self._to_client)
        # The client's connection was set up so when it began.
        tune(self._upstream.transport, self._limits.idle)
        self._to_upstream.open()
        self._to_client.open()
        if self._limits.ws_idle is not None or self._limits.ws_ping is not None:
            self._sweeper.watch(self)
        if from_upstream:
            self._to_client.feed(from_upstream)
        if from_client:
            self._to_upstream.feed(from_client)

    @property
    def sent(self) -> int:
        """Octets that went to the client."""
        return self._to_client.count

    # how it ends

    def end(self, error: ProxyError) -> None:
        """End both ends with a Close frame that says why."""
        if self._ending:
            return
        self.error = error
        self._begin_to_end()
        for flow in (self._to_client, self._to_upstream):
            flow.close(error.close_code, error.detail)
        self._settle()

    def shut_down(self) -> None:
        """End because the proxy ends."""
        self.end(Unavailable("the proxy is ending"))

    def read_lost(self, end: SocketEnd) -> None:
        """Take note that an end sends nothing more.

        Behind a Close frame that leaves the other direction as it is: the Close that answers may
        still come.  Without one the end is gone.
        """
        flow, back = self._flows(end)
        flow.source_done = True
        handshake = self.error is not None or flow.closed
        self._begin_to_end(end)
        flow.finish()
        if not handshake:
            self._forsake(end, back)
        self._settle()

    def lost(self, end: SocketEnd) -> None:
        """Take note that an end is gone."""
        flow, back = self._flows(end)
        flow.source_done = back.sink_done = True
        self._gone += (end,)
        self._begin_to_end(end)
        back.drop()
        flow.finish()
        if end is self._client:
            self._forsake(end, back)
        self._settle()

    def _forsake(self, end: SocketEnd, back: Flow) -> None:
        """Tell an end nothing more; nobody listens to the upstream for a client that left."""
        if end is self._client:
            self._forsaken = back.source_done = True
        back.finish()

    def _begin_to_end(self, end: SocketEnd | None = None) -> None:
        """Take note of what ended it first.  Args: the end that did, None for the proxy."""
        if self._ending:
            return
        self._ending = True
        self._sweeper.unwatch(self)
        self._look_soon()
        if end is None or self._to_client.closing or self._to_upstream.closing:
            return
        if end is self._client:
            self.client_left = True
        else:
            self.error = ResponseIncomplete("the upstream left without a Close frame")

    def _settle(self) -> None:
        """Close the ends that have nothing more to say or to be told."""
        for end in (self._client, self._upstream):
            flow, back = self._flows(end)
            if flow.source_done and back.sink_done and end not in self._gone:
                end.transport.loseConnection()
        if len(self._gone) == 2 and self._on_end is not _nobody:
            on_end, self._on_end = self._on_end, _nobody
            if self._look_call is not None:
                self._look_call.cancel()
                self._look_call = None
            on_end(self)

    def _flows(self, end: SocketEnd) -> tuple[Flow, Flow]:
        """Return the direction from an end, and the one to it."""
        if end is self._client:
            return self._to_upstream, self._to_client
        return self._to_client, self._to_upstream

    # time

    def _look_soon(self) -> None:
        if self._look_call is None:
            self._look_call = self._clock.callLater(LOOK_INTERVAL, self._look)

    def _look(self) -> None:
        """Look after ends that are ending, and after a client that cannot be heard."""
        self._look_call = None
        now = self._clock.seconds()
        if self._ending:
            for end in (self._client, self._upstream):
                flow, _ = self._flows(end)
                still = self._still(end, flow.count, now)
                if end not in self._gone and still >= self._patience(end):
                    end.transport.abortConnection()
        elif not self._to_upstream.paused:
            self._seen.clear()
            return
        elif self._still(self._upstream, 0, now) and has_left(self._client.transport):
            # A FIN behind unread octets shows in the socket's state only.
            self._client.transport.abortConnection()
        if len(self._gone) < 2:
            self._look_soon()

    def _still(self, end: SocketEnd, count: int, now: float) -> float:
        """Return for how long nothing has moved at an end, in seconds.

        Args: what came from it, in octets, if that counts.
        """
        moved = (count, backlog(end.transport), unsent(end.transport))
        seen, since = self._seen.get(end, (None, now))
        if moved != seen:
            self._seen[end] = (moved, now)
            return 0.0
        return now - since

    def _patience(self, end: SocketEnd) -> float:
        """Return how long an end that is ending may keep still, in seconds."""
        if end is self._upstream and self._forsaken:
            return LOOK_INTERVAL / 2
        if backlog(end.transport) or unsent(end.transport):
            return self._limits.idle
        return CLOSE_SECONDS

    def check(self, now: float) -> None:
        """Keep the limit of silence, and send pings."""
        limits = self._limits
        heard = self._to_client.arrived + self._to_upstream.arrived
        if heard != self._heard:
            self._heard, self._heard_at = heard, now
        elif limits.ws_idle is not None and now - self._heard_at >= limits.ws_idle:
            self.end(ReadTimeout(f"no frame came for {limits.ws_idle:g} s"))
            return
        if limits.ws_ping is not None and now - self._pinged_at >= limits.ws_ping:
            self._pinged_at = now
            self._to_client.ping()
            self._to_upstream.ping()


def _nobody(pair: Pair) -> None:
    """Stand in for who was told already."""
