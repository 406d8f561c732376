"""Contents that are written over time, and the clock of server-sent events among them.

One object paces them all: each piece has its moment, a full socket holds the next piece back, and
a client that leaves ends the stream at once.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Generic, TypeVar

import attrs
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from pyproxy.demo.places import text_content, whole_number

T = TypeVar("T")

TimedPiece = tuple[bytes, float]
"""Octets, and the seconds to wait after them."""

End = Callable[[Request], None]
"""What becomes of a response after its last piece."""

LONGEST_MS = 3_600_000
"""The longest wait that a parameter may ask for."""

DEFAULT_TICK_MS = 1000

DEFAULT_SLOW_MS = 3000

_EVENT_ID_DIGITS = 12

ENDLESS = 10**9
"""Events of a clock that nobody stops: more than thirty years of them."""


class Flow(enum.Enum):
    """Whether a stream may write."""

    OPEN = enum.auto()
    PAUSED = enum.auto()
    OVER = enum.auto()


@attrs.define(eq=False)
class Pace(Generic[T]):
    """Hand pieces on, each at its moment.

    Each moment counts from the moment before, so that they do not drift; after a pause they count
    from its end.

    Args:
        pieces: with the seconds to wait after each.
        take: gets each piece.
        end: is called after the last.
    """

    _clock: IReactorTime
    _pieces: Iterator[tuple[T, float]]
    _take: Callable[[T], object]
    _end: Callable[[], object]
    _due: float = attrs.field(default=0.0, init=False)
    _flow: Flow = attrs.field(default=Flow.OPEN, init=False)
    _timer: IDelayedCall | None = attrs.field(default=None, init=False)

    def start(self, delay: float) -> None:
        """Begin after a delay in seconds."""
        self._due = self._clock.seconds() + delay
        self._advance()

    def pause(self) -> None:
        """Hold the next piece back."""
        if self._flow is Flow.OPEN:
            self._flow = Flow.PAUSED
            self._cancel_timer()

    def resume(self) -> None:
        """Go on; a piece whose moment has passed is handed on now."""
        if self._flow is Flow.PAUSED:
            self._flow = Flow.OPEN
            self._due = max(self._due, self._clock.seconds())
            self._advance()

    def stop(self) -> None:
        """Hand nothing on any more, not even the end."""
        self._flow = Flow.OVER
        self._cancel_timer()

    def _advance(self) -> None:
        """Hand on what is due, and wait for what is not."""
        self._timer = None
        while self._flow is Flow.OPEN:
            wait = self._due - self._clock.seconds()
            if wait > 0:
                self._timer = self._clock.callLater(wait, self._advance)
                return
            timed = next(self._pieces, None)
            if timed is None:
                self._flow = Flow.OVER
                self._end()
            else:
                piece, wait_after = timed
                self._due += wait_after
                self._take(piece)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@implementer(IPushProducer)
class TimedStream:
    """Write pieces to a response, each at its moment, then finish it.

    Pieces without a wait are written until the client's socket is full, which is at most one piece
    more than the transport's own bound.
    """

    def __init__(
        self, request: Request, clock: IReactorTime, pieces: Iterator[TimedPiece], end: End
    ) -> None:
        self._request = request
        self._end = end
        self._pace = Pace(clock, pieces, request.write, self._finish)

    def start(self, delay: float) -> None:
        """Begin after a delay in seconds; the head goes out with the first piece."""
        self._request.notifyFinish().addErrback(self._client_left)
        self._request.registerProducer(self, True)
        self._pace.start(delay)

    def pauseProducing(self) -> None:
        """Hold the next piece back: the client's socket is full."""
        self._pace.pause()

    def resumeProducing(self) -> None:
        """Go on."""
        self._pace.resume()

    def stopProducing(self) -> None:
        """End without finishing the response: there is nobody to read it."""
        self._pace.stop()

    def _client_left(self, reason: Failure) -> None:
        self._pace.stop()

    def _finish(self) -> None:
        self._end(self._request)


def finish(request: Request) -> None:
    """End a response that is whole."""
    request.unregisterProducer()
    request.finish()


def hang_up(request: Request) -> None:
    """Close the connection behind what has been written, the response unfinished."""
    request.unregisterProducer()
    request.loseConnection()


def leave_open(request: Request) -> None:
    """Say nothing more; the client ends it."""


def stream(
    request: Request,
    clock: IReactorTime,
    pieces: Iterable[TimedPiece],
    *,
    delay: float = 0.0,
    end: End = finish,
) -> int:
    """Write pieces as the response's content; to ``HEAD``, none of them.

    Args:
        delay: seconds to the first byte, head included.
        end: what is done after the last piece.
    """
    if request.method == b"HEAD":
        request.finish()
    else:
        TimedStream(request, clock, iter(pieces), end).start(delay)
    return NOT_DONE_YET


def declare_event_stream(request: Request) -> None:
    """Say in the head that server-sent events follow.

    Spec: WHATWG HTML 9.2.
    """
    request.setHeader(b"Content-Type", b"text/event-stream; charset=utf-8")
    request.setHeader(b"Cache-Control", b"no-cache")


def event(data: str, *, event_id: int | None = None) -> bytes:
    """Return one server-sent event.

    Args: data: a single line.
    """
    identified = "" if event_id is None else f"id: {event_id}\n"
    return f"{identified}data: {data}\n\n".encode()


def tick_forever(request: Request, clock: IReactorTime) -> int:
    """Answer ``GET /sse/clock``: an event each ``interval_ms``, ``count`` of them or endlessly.

    An ``EventSource`` that comes back with ``Last-Event-ID`` goes on counting from there.
    """
    interval_ms = whole_number(
        request, "interval_ms", default=DEFAULT_TICK_MS, least=1, most=LONGEST_MS
    )
    count = whole_number(request, "count", default=ENDLESS, least=1, most=ENDLESS)
    last = request.getHeader(b"Last-Event-ID") or b""
    first = int(last) + 1 if last.isdigit() and len(last) <= _EVENT_ID_DIGITS else 1
    declare_event_stream(request)
    numbers = range(first, first + count)
    return stream(request, clock, _ticks(clock, numbers, interval_ms / 1000))


def _ticks(clock: IReactorTime, numbers: range, interval: float) -> Iterator[TimedPiece]:
    for number in numbers:
        now = datetime.fromtimestamp(clock.seconds(), UTC).isoformat(timespec="milliseconds")
        wait_after = interval if number < numbers[-1] else 0.0
        yield event(json.dumps({"tick": number, "time": now}), event_id=number), wait_after


def wait_first(request: Request, clock: IReactorTime) -> int:
    """Answer ``GET /slow``: nothing, not even a head, for ``first_byte_ms``; then a sentence."""
    wait_ms = whole_number(
        request, "first_byte_ms", default=DEFAULT_SLOW_MS, least=0, most=LONGEST_MS
    )
    content = text_content(request, f"This took {wait_ms} ms to its first byte.\n")
    request.setHeader(b"Content-Length", str(len(content)).encode())
    return stream(request, clock, [(content, 0.0)], delay=wait_ms / 1000)
