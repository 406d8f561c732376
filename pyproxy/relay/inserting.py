"""What is put into an event stream on its way to a client: pings, and a last word when it breaks.

Stands between a download and the client's writer where a route asks for it, and nowhere else.  It
passes whole events on, so that all of its own stands between two of them: the beginning of one
waits here for its end, up to a bound.  A client makes nothing of it before either.
Spec: WHATWG HTML 9.2.5, 9.2.6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IPushProducer

from pyproxy.errors import BadResponse, ProxyError, ReadTimeout
from pyproxy.policy.insertions import Insertions
from pyproxy.relay.content import ContentSink, Download
from pyproxy.relay.limits import LOOKS, Sweeper
from pyproxy.semantics.asking import without_usage
from pyproxy.semantics.dialects.members import NONE, Members, parse_members
from pyproxy.semantics.error_events import error_event
from pyproxy.semantics.fields import Fields, Octets, essence, lacking, tokens, values
from pyproxy.semantics.http_dates import write_date
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.sse import MAX_EVENT_BYTES, EventReader
from pyproxy.semantics.usage import UsageReader

PING = b": ping\n\n"
"""A comment, which every reader of event streams drops."""

MAX_ANSWER_BYTES = 64 * 1024
"""Octets of an answer in place of a stream that are read for what it says."""

MAX_HELD_BYTES = MAX_EVENT_BYTES
"""Octets of an event that wait for its end; of a longer one they pass as they come."""

_BOM = b"\xef\xbb\xbf"
_DIGESTS = frozenset(
    {b"content-digest", b"repr-digest", b"digest", b"content-md5", b"content-range"}
)
_ENDS = (b"\n\n", b"\n\r\n", b"\n\r", b"\r\r")


class Client(ContentSink, Protocol):
    """What an inserter asks of the client's side."""

    @property
    def request_id(self) -> str:
        """The request's name in logs and error texts."""

    def note_sent(self, octets: int) -> None:
        """Take note of how many octets of content were written."""

    def unsent(self) -> int:
        """Return how many octets the client has still to take."""


def takes_more(head: ResponseHead) -> bool:
    """Tell whether a response is an event stream that something may be put into.

    Not into a coding, and not into what a digest speaks for.
    """
    if head.status != 200 or not _DIGESTS.isdisjoint(head.names):
        return False
    fields = head.fields
    if any(coding != b"identity" for coding in tokens(values(fields, b"content-encoding"))):
        return False
    if not _DIGESTS.isdisjoint(tokens(values(fields, b"trailer"))):
        return False
    types = values(fields, b"content-type")
    return len(types) == 1 and essence(types[0]) == b"text/event-stream"


def without_length(fields: Fields) -> Fields:
    """Return fields of a response whose length is not known any more."""
    return lacking(fields, (b"content-length",))


def _nobody(error: ProxyError) -> None:
    """Stand for an exchange that is over."""


def early_head(now: float) -> ResponseHead:
    """Return the head of an event stream that nobody has answered with yet.

    Args: now, in seconds of the epoch.
    """
    fields = [
        (b"Date", write_date(now)),
        (b"Content-Type", b"text/event-stream"),
        (b"Cache-Control", b"no-cache"),
    ]
    return ResponseHead(200, b"OK", 1, fields)


class LateAnswer(Download):
    """An answer that is no event stream, and comes when the head of one was sent."""

    __slots__ = ("_kept",)

    def __init__(self, sink: ContentSink, ended: Callable[[BaseException | None], None]) -> None:
        """Begin.  Args: as ``Download`` has them; nothing is written to the sink."""
        super().__init__(sink, ended)
        self._kept = b""

    def dataReceived(self, data: Octets) -> None:
        """Keep it; past the bound it is not waited for."""
        self.count += len(data)
        if self.count > MAX_ANSWER_BYTES:
            self._kept = b""
            self._ended(BadResponse("an answer in place of an event stream is too long"))
        else:
            self._kept += bytes(data)

    @property
    def answer(self) -> Members:
        """Its members, if it is a JSON object in bounds."""
        return parse_members(self._kept)


class Inserter:
    """Stands before a client's side of one response.

    Attributes:
        count: octets of content that were written to the client.
        answer: what the upstream answered in place of a stream, for the last event.
    """

    __slots__ = (
        "_asked",
        "_begin",
        "_client",
        "_dialect",
        "_event_at",
        "_fail",
        "_fresh",
        "_held",
        "_insertions",
        "_inside",
        "_last_at",
        "_last_data",
        "_own_last",
        "_reader",
        "_streams",
        "_sweeper",
        "_telling",
        "_write",
        "answer",
        "count",
    )

    def __init__(
        self,
        client: Client,
        insertions: Insertions,
        sweeper: Sweeper,
        fail: Callable[[ProxyError], None],
        dialect: str | None,
        asked: bool = False,
    ) -> None:
        """Prepare.

        Args: fail, which ends the exchange when the stream stalls; the dialect that was asked for;
            whether a usage was asked for that the client did not ask for.
        """
        self.count = 0
        self._client = client
        self._insertions = insertions
        self._sweeper = sweeper
        self._fail = fail
        self._dialect = dialect
        self._asked = asked
        self._reader = EventReader()
        self._telling = UsageReader() if insertions.error_event else None
        self._last_data = b""
        self._held = bytearray()
        self._inside = False
        self._fresh = True
        self._own_last = False
        self._last_at = self._event_at = 0.0
        self._begin: Callable[[], bool] | None = None
        self._streams = False
        self.answer: Members = NONE

    def wait(self, begin: Callable[[], bool]) -> None:
        """Send pings, and a head before the first, before there is a response.

        Args: begin, which sends the head, and tells whether it could.
        """
        self._begin = begin
        self._last_at = self._sweeper.now
        self._sweeper.watch(self)

    def open(self) -> None:
        """Begin: the response is there, and its head was sent."""
        self._begin = None
        self._streams = True
        self._write = self._client.write_content
        self._last_at = self._event_at = self._sweeper.now
        if self._insertions.waits:
            self._sweeper.watch(self)

    # as the client's side of a download

    def flow_from(self, source: IPushProducer | None) -> None:
        """Name who has to pause when the client's transport is full; None for nobody."""
        self._client.flow_from(source)

    def unsent(self) -> int:
        """Return how many octets the client has still to take, if any are not only our own.

        What we put in is no movement of the stream.
        """
        return 0 if self._own_last else self._client.unsent()

    def write_content(self, content: Octets) -> None:
        """Pass on content as far as it ends events."""
        octets = bytes(content)
        events = self._reader.feed(octets)
        self._last_at = now = self._sweeper.now
        if events:
            self._event_at = now
            if self._telling is not None:
                for name, data, _ in events:
                    self._telling.event(name, data)
                    self._last_data = data or b""
        if not self._reader.waiting:
            if self._held:
                octets = bytes(self._held) + octets
                self._held.clear()
            self._inside = False
            self._pass(octets)
        elif self._inside:
            self._pass(octets)
        else:
            self._hold(octets)

    def _hold(self, octets: bytes) -> None:
        """Keep octets from where the last event ends."""
        held = self._held
        start = max(0, len(held) - 2)
        held += octets
        cut = max(
            place + len(end) if (place := held.rfind(end, start)) >= 0 else 0 for end in _ENDS
        )
        if len(held) - cut > MAX_HELD_BYTES:
            self._inside = True
            cut = len(held)
        if cut:
            octets = bytes(held[:cut])
            del held[:cut]
            self._pass(octets)

    def _pass(self, octets: bytes) -> None:
        """Write octets of the stream; a BOM behind something of ours would be no BOM any more."""
        if self._fresh:
            self._fresh = False
            if self.count:
                octets = octets.removeprefix(_BOM)
        if self._asked:
            octets = without_usage(octets)
        if octets:
            self._own_last = False
            self.count += len(octets)
            self._write(octets)

    # what is put in

    def check(self, now: float) -> float:
        """Send a ping when it is time for one; end a stream that stalls."""
        ping, stall = self._insertions.ping, self._insertions.stall
        again = []
        if stall is not None and self._streams:
            if self.unsent():
                # The client holds it up, and not the upstream; until when has to be seen.
                self._event_at = now
                again.append(now + stall / LOOKS)
            elif now - self._event_at >= stall:
                self._fail(ReadTimeout(f"no event came from the upstream for {stall:g} s"))
                return now
            again.append(self._event_at + stall)
        if ping is not None:
            if now - self._last_at >= ping:
                self._last_at = now
                self._ping()
            again.append(self._last_at + ping)
        return min(again)

    def _ping(self) -> None:
        """Send a ping, unless an event is on its way or the client has not taken the last one."""
        if self._begin is not None:
            if not self._begin():
                return
            self._begin = None
            self._write = self._client.write_content
        if not self._inside and not self._client.unsent():
            self._put(PING)

    def _put(self, octets: bytes) -> None:
        """Write octets of our own."""
        self._own_last = True
        self.count += len(octets)
        self._write(octets)

    # ending

    def finish(self) -> None:
        """Pass on what is left of a stream that came to its end."""
        if self._held:
            held, self._held = bytes(self._held), bytearray()
            self._pass(held)

    def close(self) -> None:
        """Have nothing more to wait for."""
        self._sweeper.unwatch(self)
        # It is the exchange's, which has this: a cycle.
        self._fail = _nobody
        self._begin = None
        self._client.note_sent(self.count)

    def tell(self, error: ProxyError) -> None:
        """Say in a last event why the stream breaks off, if its reader would know what that is.

        Nothing is said inside an event, nor behind the stream's own last word; what is left of an
        event without its end passes where nothing is said.
        """
        event, telling = b"", self._telling
        if telling is not None and not self._inside and not telling.finished:
            dialect = telling.dialect or self._dialect
            event = error_event(
                dialect, error, self._client.request_id, self._last_data, self.answer
            )
        if event:
            self._held.clear()
            self._put(event)
        else:
            self.finish()
        self._client.note_sent(self.count)
