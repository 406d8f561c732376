"""One direction of an open WebSocket: octets from a source to a sink, as they are.

Frames are only counted, so that a frame of the proxy's own (a Close, a Ping) stands between two
others.  Owns the reading and the pauses of its direction.  Must not know what ends a WebSocket, nor
how a frame is written: that is the ends' own.
Spec: RFC 6455 5.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from twisted.internet import main
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from pyproxy.relay.sockets import half_close
from pyproxy.relay.transports import StreamTransport
from pyproxy.relay.writing import backlog, is_plain, writer
from pyproxy.semantics.frames import FrameCount, FrameWatch

READ_BYTES = 256 * 1024
"""Octets of one read from a plain socket; what the sink does not take waits in its transport.

One buffer serves every WebSocket: a read is passed on before the next one.
"""

_buffer = bytearray(READ_BYTES)
_view = memoryview(_buffer)


class SocketPair(Protocol):
    """What an end tells of its connection; ``websocket.Pair`` is one."""

    def read_lost(self, end: SocketEnd) -> None:
        """Take note that an end sends nothing more."""

    def lost(self, end: SocketEnd) -> None:
        """Take note that an end is gone."""

    def shut_down(self) -> None:
        """End because the proxy ends."""


class SocketEnd(Protocol):
    """One end of a WebSocket, as its pair sees it."""

    transport: StreamTransport

    def join(self, pair: SocketPair, flow: Flow) -> None:
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
    def arrived(self) -> int:
        """How many octets came from the source, without what answered our pings."""
        return self.count + self._frames.held

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
