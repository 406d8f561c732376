"""An open WebSocket: two connections as one machine.

Owns how both ends live and end together, the limit of silence and the pings.  Must not know HTTP;
the octets are the two directions' own.
Spec: RFC 6455 5.5, 7.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from functools import partial

import attrs
from twisted.internet.interfaces import IReactorTime

from pyproxy.carrier import Flow
from pyproxy.errors import (
    ClientMessageTooBig,
    ProxyError,
    ReadTimeout,
    ResponseIncomplete,
    Stopped,
    Unavailable,
    UpstreamMessageTooBig,
)
from pyproxy.policy.routing import Limits
from pyproxy.relay.direction import PlainDirection, WatchedDirection
from pyproxy.relay.limits import LOOKS, Sweeper
from pyproxy.relay.lookout import Lookout
from pyproxy.relay.patience import Patience
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.relay.sockets import has_left, has_reset, not_sent, said_goodbye, tune, unsent
from pyproxy.relay.writing import backlog
from pyproxy.semantics.frames import FrameCount, FrameWatch, MessageCount

PING_BYTES = 8
"""Octets of payload in our pings: random ones, so that no other Pong is taken for the answer."""


AnyDirection = PlainDirection | WatchedDirection


class State(Enum):
    """Where a WebSocket is; it only ever goes on to a later one."""

    OPEN = "octets pass both ways"
    ENDING = "an end sends nothing more, or is gone"
    CLOSING = "the proxy ended it: both ends were sent a Close, or are when a frame ends"
    OVER = "both ends are gone"


@attrs.define(eq=False)
class Pair:
    """The two ends of an open WebSocket, which live and end together.

    ===============================  ============================================================
    what an end does                 what becomes of the other
    ===============================  ============================================================
    sends a FIN behind its Close     gets the FIN too, and may still answer
    the client sends a FIN alone     the same; but it is reset when it takes nothing before the FIN
    the client leaves otherwise      the upstream gets what is on its way, and is closed
    the upstream leaves otherwise    the client gets what is on its way, then a FIN
    ===============================  ============================================================

    A client's FIN alone may mean that it has closed, or only that it has said all: TCP does not
    tell (a Unix socket does).  A client that has closed answers the next octets with a reset, and
    has left then.

    An end is closed once it has sent its FIN, or nobody listens to it, and it was told of the end.

    Attributes:
        client: the client's end.
        error: why the proxy, or the upstream's end, ended it; None otherwise.
        client_left: the client went away without a closing handshake.
        messages: how many passed, from the client and from the upstream; counted if ``counts``.
    """

    client: WebSocketEnd
    _upstream: WebSocketEnd
    _limits: Limits
    _clock: IReactorTime
    _sweeper: Sweeper
    _on_end: Callable[[Pair], None]
    _counts: bool = False
    error: ProxyError | None = None
    client_left: bool = False
    _state: State = State.OPEN
    _gone: tuple[WebSocketEnd, ...] = ()
    _cut: tuple[WebSocketEnd, ...] = ()
    _heard: int = 0
    _heard_at: float = 0.0
    _pinged_at: float = 0.0
    _drained: tuple[int, ...] = ()
    _patience: Patience = attrs.field(init=False)
    _to_upstream: AnyDirection = attrs.field(init=False)
    _to_client: AnyDirection = attrs.field(init=False)
    _lookout: Lookout = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._lookout = Lookout(self._clock, self._look)
        self._patience = Patience(self._limits.idle)
        self._heard_at = self._pinged_at = self._sweeper.now
        if self._limits.ws_ping is None and self._limits.max_message is None:
            on_pause = self._lookout.begin
            count = MessageCount if self._counts else FrameCount
            self._to_upstream = PlainDirection(self.client, self._upstream, on_pause, count())
            self._to_client = PlainDirection(self._upstream, self.client, on_pause, count())
        else:
            self._watch()
        # The client's connection was set up so when it began.
        tune(self._upstream.transport, self._limits.idle)

    def _watch(self) -> None:
        """Make directions whose frames are looked at."""
        most, pings = self._limits.max_message, self._limits.ws_ping is not None
        up, down = (FrameWatch(most, os.urandom(PING_BYTES) if pings else b"") for _ in range(2))
        on_pause = self._lookout.begin
        self._to_upstream = WatchedDirection(self.client, self._upstream, on_pause, up)
        self._to_client = WatchedDirection(self._upstream, self.client, on_pause, down)
        self._to_upstream.join(down, partial(self._too_big, ClientMessageTooBig))
        self._to_client.join(up, partial(self._too_big, UpstreamMessageTooBig))

    def open(self, from_client: bytes, from_upstream: bytes) -> None:
        """Begin.  Args: octets that came together with the opening handshake."""
        self.client.join(self, self._to_upstream)
        self._upstream.join(self, self._to_client)
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
        """Octets of the upstream that passed to the client."""
        return self._to_client.count

    @property
    def received(self) -> int:
        """Octets of the client that passed to the upstream."""
        return self._to_upstream.count

    @property
    def messages(self) -> tuple[int, int]:
        """Messages of the client and of the upstream that passed, where they are counted."""
        return self._to_upstream.messages, self._to_client.messages

    def flow(self) -> Flow:
        """Return how it flows at this moment."""
        to_client, to_upstream = self.client.transport, self._upstream.transport
        return Flow(
            self.received,
            self.sent,
            backlog(to_client) + unsent(to_client),
            backlog(to_upstream) + unsent(to_upstream),
            sum(self.messages),
        )

    # how it ends

    def stop(self) -> None:
        """End because the operator wants that."""
        self.end(Stopped("the operator has stopped this WebSocket"))

    def end(self, error: ProxyError) -> None:
        """End both ends with a Close frame that says why."""
        if self._state is State.CLOSING or self._state is State.OVER:
            return
        self._state = State.CLOSING
        self.error = self.error or error
        self._lookout.begin()
        for direction in (self._to_client, self._to_upstream):
            direction.close(error.close_code, error.detail)
        self._close_finished()

    def shut_down(self) -> None:
        """End because the proxy ends."""
        self.end(Unavailable("the proxy is ending"))

    def abandon(self) -> None:
        """Be over, and wait no longer for the ends: the rest is the kernel's to send."""
        for end in (self.client, self._upstream):
            if end not in self._gone:
                end.transport.loseConnection()
        self._be_over()

    def _too_big(self, kind: type[ProxyError]) -> None:
        self.end(kind(f"a message has more than {self._limits.max_message} bytes"))

    def read_lost(self, end: WebSocketEnd) -> None:
        """Take note that an end sends nothing more.  Spec: RFC 6455 7.1.1."""
        self._sends_no_more(end, gone=has_reset(end.transport))

    def _sends_no_more(self, end: WebSocketEnd, gone: bool) -> None:
        """Pass an end's FIN on.  Args: whether it is known not to listen any more either."""
        from_end, to_end = self._directions(end)
        expected = self._ends_well(from_end)
        self._begin_to_end(end)
        from_end.source_done = True
        from_end.finish()
        if not expected:
            if end is self.client and not gone:
                self._patience.pass_fin(self._upstream.transport, self._clock.seconds())
            else:
                self._forsake_upstream(end)
                to_end.finish()
        self._close_finished()

    def lost(self, end: WebSocketEnd) -> None:
        """Take note that an end is gone."""
        from_end, to_end = self._directions(end)
        expected = self._ends_well(from_end)
        self._begin_to_end(end)
        self._gone += (end,)
        from_end.source_done = to_end.sink_done = True
        to_end.drop()
        from_end.finish()
        if not expected:
            self._forsake_upstream(end)
        self._close_finished()

    def _ends_well(self, from_end: AnyDirection) -> bool:
        """Whether an end may go: its Close has passed, or it was sent one of ours."""
        return self._state is State.CLOSING or from_end.closed

    def _forsake_upstream(self, end: WebSocketEnd) -> None:
        """Listen to the upstream no more, if it is the client that left.

        One that goes on although it had the client's FIN is reset, so that it learns of it now.
        """
        patience = self._patience
        if end is self.client and patience.forsaken_at is None:
            if patience.half_closed and not self._to_client.source_done:
                self._cut_off(self._upstream)
            self._to_client.source_done = True
            patience.forsaken_at = self._clock.seconds()

    def _cut_off(self, end: WebSocketEnd) -> None:
        """Reset an end's connection; to close it as well would undo that."""
        self._cut += (end,)
        end.transport.abortConnection()

    def _begin_to_end(self, end: WebSocketEnd) -> None:
        """Take note of what ended it first."""
        if self._state is not State.OPEN:
            return
        self._state = State.ENDING
        self._lookout.begin()
        if self._to_client.closing or self._to_upstream.closing:
            return
        if end is self.client:
            self.client_left = True
        else:
            self.error = ResponseIncomplete("the upstream left without a Close frame")

    def _close_finished(self) -> None:
        """Close the ends that have nothing more to say or to be told."""
        for end in (self.client, self._upstream):
            from_end, to_end = self._directions(end)
            done = from_end.source_done and to_end.sink_done
            if done and end not in self._gone + self._cut and not self._would_wait(end):
                end.transport.loseConnection()
        if len(self._gone) == 2:
            self._be_over()

    def _would_wait(self, end: WebSocketEnd) -> bool:
        """Whether a close would stay in the kernel, for an upstream whose client has left.

        It stands behind octets that the upstream does not take; ``_look`` resets it instead.
        """
        forsaken = end is self._upstream and self._patience.forsaken_at is not None
        return forsaken and not_sent(end.transport) > 0

    def _be_over(self) -> None:
        if self._state is not State.OVER:
            self._state = State.OVER
            self._lookout.end()
            self._sweeper.unwatch(self)
            self._on_end(self)

    def _directions(self, end: WebSocketEnd) -> tuple[AnyDirection, AnyDirection]:
        """Return the direction from an end, and the one to it."""
        if end is self.client:
            return self._to_upstream, self._to_client
        return self._to_client, self._to_upstream

    # time

    def _look(self) -> bool:
        """Look after ends that are ending, and after those that cannot be heard."""
        self._hear_goodbyes()
        if self.client not in self._gone:
            if self._to_upstream.paused:
                self._look_for_client()
            elif self._patience.half_closed and has_reset(self.client.transport):
                # Its FIN was its last event: a socket that is not read tells nobody of more.
                self._cut_off(self.client)
        if self._state is State.OPEN:
            return self._to_upstream.paused or self._to_client.paused
        now = self._clock.seconds()
        for end in (self.client, self._upstream):
            if end not in self._gone and self._time_is_over(end, now):
                self._cut_off(end)
        return self._state is not State.OVER

    def _look_for_client(self) -> None:
        """Notice that a client left although its socket is not read.

        A FIN behind octets that nobody reads shows in the socket's state only.  There may be a
        Close among them, so they are read before it is judged.
        """
        transport = self.client.transport
        if has_reset(transport):
            self._cut_off(self.client)
        elif has_left(transport):
            self._to_upstream.read_to_the_end()

    def _hear_goodbyes(self) -> None:
        """Notice a TLS end that left although octets wait for it; see ``said_goodbye``."""
        for end in (self.client, self._upstream):
            if end not in self._gone and said_goodbye(end.transport):
                _, to_end = self._directions(end)
                self._sends_no_more(end, gone=True)
                to_end.finish()
                self._close_finished()

    def _time_is_over(self, end: WebSocketEnd, now: float) -> bool:
        """Tell whether an end that is ending has been given enough time."""
        patience = self._patience
        if end is self._upstream and patience.upstream_is_overdue(end.transport, now):
            return True
        from_end, to_end = self._directions(end)
        return patience.is_over(end, (from_end.count, to_end.count), now)

    def _draining(self) -> tuple[int, ...]:
        """Return what has still to be taken by ends that are so full that nothing is read."""
        pairs = ((self._to_client, self.client), (self._to_upstream, self._upstream))
        full = [end.transport for direction, end in pairs if direction.paused]
        return tuple(backlog(transport) + unsent(transport) for transport in full)

    def check(self, now: float) -> float:
        """Keep the limit of silence, and send pings; return when to be asked again."""
        limits = self._limits
        heard = self._to_client.arrived + self._to_upstream.arrived
        drained = self._draining()
        if heard > self._heard or drained != self._drained:
            self._heard, self._heard_at, self._drained = max(heard, self._heard), now, drained
        elif limits.ws_idle is not None and now - self._heard_at >= limits.ws_idle:
            self.end(ReadTimeout(f"nothing came for {limits.ws_idle:g} s"))
            return now
        if limits.ws_ping is not None and now - self._pinged_at >= limits.ws_ping:
            self._pinged_at = now
            for direction in (self._to_client, self._to_upstream):
                if self._state is State.OPEN and isinstance(direction, WatchedDirection):
                    direction.ping()
        return self._next_look(now)

    def _next_look(self, now: float) -> float:
        """Return when a limit may be over, or a ping is due."""
        idle, ping = self._limits.ws_idle, self._limits.ws_ping
        due = [] if ping is None else [self._pinged_at + ping]
        if idle is not None:
            due += (self._heard_at + idle, now + idle / LOOKS)
        return min(due, default=now)
