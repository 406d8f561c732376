"""One direction of an open WebSocket: octets from a source to a sink, as they are.

Frames are only counted, so that a frame of the proxy's own (a Close, a Ping) stands between two
others.  Owns the reading and the pauses of its direction.  Must not know what ends a WebSocket, nor
how a frame is written: that is the ends' own.
Spec: RFC 6455 5.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Generic, Protocol, TypeVar

import attrs
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from pyproxy.relay.reading import read_by_itself, read_in_place
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.relay.sockets import acknowledge, half_close
from pyproxy.relay.writing import Writer, backlog, writer
from pyproxy.semantics.chunked import HELD_BACK_BYTES
from pyproxy.semantics.frames import FrameCount, FrameWatch


class State(Enum):
    """What becomes of a direction's octets."""

    OPEN = "they pass"
    CLOSING = "those of the frame at hand pass, then comes a Close frame of ours"
    OVER = "they are dropped"


class Frames(Protocol):
    """What a direction knows of its frames; see ``semantics.frames``."""

    left: int
    closing: bool
    messages: int

    @property
    def at_boundary(self) -> bool:
        """Whether what has passed ends with a whole frame."""

    @property
    def closed(self) -> bool:
        """Whether a Close frame has passed whole."""

    def finish_frame(self, octets: bytes) -> bytes:
        """Return octets only as far as the frame at hand goes."""


F = TypeVar("F", bound=Frames)


@implementer(IPushProducer)
@attrs.define(eq=False)
class Direction(Generic[F]):
    """A direction, whichever way its frames are counted.

    It is the producer that the sink's transport pauses when full.

    Attributes:
        count: octets of the source that passed.
        paused: the source is not read, because the sink is full.
        source_done: nothing more comes from the source, or nobody listens any more.
        sink_done: the sink was told that nothing more comes, or is gone.
    """

    _source: WebSocketEnd
    _sink: WebSocketEnd
    _on_pause: Callable[[], None]
    _frames: F
    count: int = 0
    paused: bool = False
    source_done: bool = False
    sink_done: bool = False
    _to_the_end: bool = False
    _state: State = State.OPEN
    _close: tuple[int, str] = (0, "")
    _writer: Writer = attrs.field(init=False)
    _write: Callable[[bytes | memoryview], None] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._writer = writer(self._sink.transport)
        self._write = self._writer.write

    def open(self) -> None:
        """Let octets pass."""
        self._sink.transport.registerProducer(self, True)

    @property
    def arrived(self) -> int:
        """How many octets came from the source, without what answers our pings."""
        return self.count

    @property
    def closing(self) -> bool:
        """Whether a Close frame of the source has begun to pass."""
        return self._frames.closing

    @property
    def closed(self) -> bool:
        """Whether a Close frame of the source has passed whole."""
        return self._frames.closed

    @property
    def messages(self) -> int:
        """How many messages of the source have passed, where they are counted."""
        return self._frames.messages

    # octets

    def feed(self, octets: bytes) -> None:
        """Take octets that the source's transport has read."""
        if self._state is State.OPEN:
            self._take(octets)
            if 0 < self._frames.left < HELD_BACK_BYTES:
                acknowledge(self._source.transport)
        elif self._state is State.CLOSING:
            self._pass(self._frames.finish_frame(octets))
            if self._frames.at_boundary:
                self._send_close()

    def _take(self, octets: bytes) -> None:
        raise NotImplementedError

    def _pass(self, octets: bytes) -> None:
        if octets:
            self.count += len(octets)
            self._write(octets)

    # pauses

    def pauseProducing(self) -> None:
        """Stop reading from the source: the sink is full."""
        if not self.source_done and not self._to_the_end:
            self.paused = True
            self._source.transport.pauseProducing()
            self._on_pause()

    def resumeProducing(self) -> None:
        """Read from the source again."""
        if self.paused:
            self.paused = False
            self._source.transport.resumeProducing()

    def read_to_the_end(self) -> None:
        """Read what is left of a source that has sent its FIN, although the sink is full.

        That is what the kernel holds of it, and no more.
        """
        self._to_the_end = True
        self.resumeProducing()

    def stopProducing(self) -> None:
        """Take note that the sink is lost; its ``connectionLost`` follows and does the work."""

    # ending

    def close(self, code: int, reason: str) -> None:
        """End with a Close frame of ours where the frame at hand ends."""
        if self._state is State.OPEN:
            self._stop_reading_in_place()
            self._state = State.CLOSING
            self._close = (code, reason)
            if self._frames.at_boundary:
                self._send_close()

    def _send_close(self) -> None:
        if not self.closing:
            self._writer.flush()
            self._sink.send_close(*self._close)
        self.finish()

    def finish(self) -> None:
        """Pass nothing more; the sink learns of the end behind what was written to it."""
        self.drop()
        self._writer.flush()
        if not self.sink_done:
            self.sink_done = True
            transport = self._sink.transport
            transport.unregisterProducer()
            half_close(transport)

    def drop(self) -> None:
        """Pass nothing more; what still comes is read and dropped."""
        self._stop_reading_in_place()
        self._state = State.OVER
        self.resumeProducing()

    def _stop_reading_in_place(self) -> None:
        """Let the source's transport read for itself again, if it did not."""


@attrs.define(eq=False)
class PlainDirection(Direction[FrameCount]):
    """A direction that passes each read on as it is; a plain socket is read in place."""

    def open(self) -> None:
        """Let octets pass."""
        Direction.open(self)
        read_in_place(self._source.transport, self._octets_arrived)

    def _octets_arrived(self, octets: memoryview) -> None:
        """Pass on octets from a place that will be used again."""
        size = len(octets)
        self.count += size
        frames = self._frames
        if size < frames.left:
            frames.left -= size
        else:
            frames.follow(octets, size)
        self._write(octets)
        if 0 < frames.left < HELD_BACK_BYTES:
            # The source may hold the rest of the frame back until then.
            acknowledge(self._source.transport)

    def _take(self, octets: bytes) -> None:
        self._frames.follow(octets, len(octets))
        self._pass(octets)

    def _stop_reading_in_place(self) -> None:
        read_by_itself(self._source.transport)


@attrs.define(eq=False)
class WatchedDirection(Direction[FrameWatch]):
    """A direction whose frames pass one by one: with a bound on messages, or pings of ours."""

    _answers: FrameWatch = attrs.field(init=False)
    _on_too_big: Callable[[], None] = attrs.field(init=False)
    _ping_due: bool = False

    def join(self, answers: FrameWatch, on_too_big: Callable[[], None]) -> None:
        """Join it to the rest.

        Args: the watch over the other direction, where our pings are answered; what is called when
            a message is too big.
        """
        self._answers = answers
        self._on_too_big = on_too_big

    @property
    def arrived(self) -> int:
        """How many octets came from the source, without what answers our pings."""
        return self.count + self._frames.held

    def _take(self, octets: bytes) -> None:
        watch = self._frames
        ping_may_pass = self._ping_due and not watch.closing
        passed = watch.let_through(octets)
        if ping_may_pass and watch.boundary >= 0:
            self._pass(passed[: watch.boundary])
            self._send_ping()
            passed = passed[watch.boundary :]
        self._pass(passed)
        if watch.too_big:
            self._on_too_big()

    def ping(self) -> None:
        """Send a Ping to the sink once a frame ends, unless it has still to take other octets."""
        if self._state is not State.OPEN or self.closing or backlog(self._sink.transport):
            return
        if self._frames.at_boundary:
            self._send_ping()
        else:
            self._ping_due = True

    def _send_ping(self) -> None:
        self._ping_due = False
        self._writer.flush()
        self._answers.pings += 1
        self._sink.send_ping(self._answers.ping)
