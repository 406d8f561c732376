"""An open WebSocket: two connections as one machine.

Octets pass as they are, both ways; frames are only counted, so that a frame of the proxy's own (a
Close, a Ping) stands between two others.  Owns the pauses of both directions and how the two ends
end together.  Must not know HTTP, nor how a frame is written: that is the ends' own.
Spec: RFC 6455 5, 7.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from twisted.internet import main
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from pyproxy.errors import (
    ClientMessageTooBig,
    ProxyError,
    ReadTimeout,
    ResponseIncomplete,
    Unavailable,
    UpstreamMessageTooBig,
)
from pyproxy.policy.routing import Limits
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.sockets import half_close, has_left, unsent
from pyproxy.relay.transports import StreamTransport
from pyproxy.relay.writing import backlog, is_plain, writer
from pyproxy.semantics.frames import FrameCount, FrameWatch

READ_BYTES = 256 * 1024
"""Octets of one read from a plain socket; what the sink does not take waits in its transport.

One buffer serves every WebSocket: a read is passed on before the next one.
"""

CLOSE_SECONDS = 5.0
"""How long an end may take to close its side once it was told of the end; nginx lingers as long."""

LOOK_INTERVAL = 0.05
"""How often ends that are ending, or cannot be heard, are looked at, in seconds.

Half of the 100 ms within which the upstream is to be closed behind a client that left.
"""

PING_BYTES = 8
"""Octets of payload in our pings: random ones, so that no other Pong is taken for the answer."""

_buffer = bytearray(READ_BYTES)
_view = memoryview(_buffer)


class SocketEnd(Protocol):
    """One end of a WebSocket, as its pair sees it."""

    transport: StreamTransport

    def join(self, pair: Pair, flow: Flow) -> None:
        """Take part in a pair.  Args: what takes the octets that come from this end."""

    def send_close(self, code: int, reason: str) -> None:
        """Send a Close frame."""

    def send_ping(self, payload: bytes) -> None:
        """Send a Ping frame."""


class Course(Enum):
    """What becomes of a direction's octets."""

    OPEN = "they pass"
    CUTTING = "those of the frame at hand pass, then comes a Close frame of ours"
    OVER = "they are dropped"


@implementer(IPushProducer)
class Flow:
    """One direction of a WebSocket, from a source to a sink.

    It is the producer that the sink's transport pauses when full.

    Attributes:
        count: octets that passed.
        paused: the source is not read, because the sink is full.
        source_done: nothing more comes from the source, or nobody listens any more.
        sink_done: the sink was told that nothing more comes.
    """

    __slots__ = (
        "_close",
        "_course",
        "_frames",
        "_on_pause",
        "_on_too_big",
        "_ping",
        "_ping_due",
        "_plain_sink",
        "_receive",
        "_sink",
        "_source",
        "_write",
        "count",
        "paused",
        "sink_done",
        "source_done",
    )

    def __init__(
        self,
        source: SocketEnd,
        sink: SocketEnd,
        frames: FrameCount | FrameWatch,
        ping: bytes,
        on_pause: Callable[[], None],
        on_too_big: Callable[[], None],
    ) -> None:
        self._source = source
        self._sink = sink
        self._frames = frames
        self._ping = ping
        self._ping_due = False
        self._on_pause = on_pause
        self._on_too_big = on_too_big
        self._course = Course.OPEN
        self._close = (0, "")
        self._write: Callable[[Any], None] = writer(sink.transport)
        self._plain_sink = is_plain(sink.transport)
        self._receive: Callable[[bytearray], int] | None = None
        self.count = 0
        self.paused = False
        self.source_done = False
        self.sink_done = False

    def open(self) -> None:
        """Let octets pass."""
        source = self._source.transport
        self._sink.transport.registerProducer(self, True)
        if is_plain(source) and isinstance(self._frames, FrameCount):
            # Twisted's own doRead makes a new object for each read: at 256 KiB that costs 50 us.
            self._receive = source.socket.recv_into  # type: ignore[attr-defined]
            source.doRead = self._pump  # type: ignore[attr-defined]

    @property
    def closing(self) -> bool:
        """Whether a Close frame of the source has begun to pass."""
        return self._frames.closing

    @property
    def closed(self) -> bool:
        """Whether a Close frame of the source has passed whole."""
        return self._frames.closed

    # octets

    def _pump(self) -> Exception | None:
        """Read what has arrived and send it on; stands in for the source's own ``doRead``.

        Returns: None, or why nothing more can be read, as the reactor wants to have it.
        """
        try:
            size = self._receive(_buffer)  # type: ignore[misc]
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return main.CONNECTION_LOST
        if size == 0:
            return main.CONNECTION_DONE
        self.count += size
        frames = self._frames
        if size < frames.left:
            frames.left -= size
        else:
            frames.follow(_buffer, size)  # type: ignore[union-attr]
        octets = _view[:size]
        self._write(octets if self._plain_sink else bytes(octets))
        return None

    def feed(self, octets: bytes) -> None:
        """Take octets that the source's transport has read."""
        frames = self._frames
        if self._course is Course.OVER:
            return
        if self._course is Course.CUTTING:
            self._pass(frames.finish_frame(octets))
            if frames.at_boundary:
                self._cut()
        elif isinstance(frames, FrameWatch):
            self._feed_watched(frames, octets)
        else:
            frames.follow(octets, len(octets))
            self._pass(octets)

    def _pass(self, octets: bytes) -> None:
        if octets:
            self.count += len(octets)
            self._write(octets)

    def _feed_watched(self, watch: FrameWatch, octets: bytes) -> None:
        ping_may_pass = self._ping_due and not watch.closing
        passed = watch.let_through(octets)
        if ping_may_pass and watch.boundary >= 0:
            self._ping_due = False
            self._pass(passed[: watch.boundary])
            self._sink.send_ping(self._ping)
            passed = passed[watch.boundary :]
        self._pass(passed)
        if watch.too_big:
            self._on_too_big()

    def ping(self) -> None:
        """Send a Ping to the sink once a frame ends, unless it has still to take other octets."""
        if self._course is not Course.OPEN or self.closing or backlog(self._sink.transport):
            return
        if self._frames.at_boundary:
            self._sink.send_ping(self._ping)
        else:
            self._ping_due = True

    # pauses

    def pauseProducing(self) -> None:
        """Stop reading from the source: the sink is full."""
        if not self.source_done:
            self.paused = True
            self._source.transport.pauseProducing()
            self._on_pause()

    def resumeProducing(self) -> None:
        """Read from the source again."""
        if self.paused:
            self.paused = False
            self._source.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Take note that the sink is lost; its ``connectionLost`` follows and does the work."""

    # ending

    def close(self, code: int, reason: str) -> None:
        """End with a Close frame of ours where the frame at hand ends."""
        if self._course is not Course.OPEN:
            return
        self._stop_pumping()
        self._course = Course.CUTTING
        self._close = (code, reason)
        if self._frames.at_boundary:
            self._cut()

    def _cut(self) -> None:
        if not self.closing and not self.sink_done:
            self._sink.send_close(*self._close)
        self.finish()

    def finish(self) -> None:
        """Pass nothing more; the sink learns of the end behind what was written to it."""
        self.drop()
        if not self.sink_done:
            self.sink_done = True
            transport = self._sink.transport
            transport.unregisterProducer()
            half_close(transport)

    def drop(self) -> None:
        """Pass nothing more; what still comes is read and dropped."""
        self._stop_pumping()
        self._course = Course.OVER
        self.resumeProducing()

    def _stop_pumping(self) -> None:
        if self._receive is not None:
            self._receive = None
            # An aborted transport has a doRead of its own there.
            if getattr(self._source.transport, "doRead", None) == self._pump:
                del self._source.transport.doRead  # type: ignore[attr-defined]


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
        heard = self._to_client.count + self._to_upstream.count
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
