"""Event streams: where events begin and end in a stream of octets, and what they say.

Owns the syntax of ``text/event-stream``; what the data of an event means is not its matter.
Spec: WHATWG HTML 9.2.5, 9.2.6.
"""

from __future__ import annotations

from pyproxy.semantics.fields import Octets

MAX_EVENT_BYTES = 1024 * 1024
"""Octets in the lines of one event, comments and line ends apart, that are kept for its data.

The longest that a client needs is the last one of OpenAI Responses, which repeats the answer and
what was asked; a picture in an event may be longer.
"""

MAX_RETRY_DIGITS = 15
"""Digits of a reconnection time; more are left out like a value that is no number."""

Event = tuple[bytes, bytes | None, bytes]
"""Name, data and last event ID of an event.

The name is empty where none was given, which means ``message``.  The data are its lines joined by
LF, or None for an event past MAX_EVENT_BYTES.  A plain tuple: a named one takes 0.2 us.
"""

_BOM = b"\xef\xbb\xbf"
_LINE_ENDS = b"\r\n"
_COLON = ord(":")


class EventReader:
    """Reads one event stream, split at any octet.

    Attributes:
        comments: comment lines so far.
        too_long: events past MAX_EVENT_BYTES so far.
        last_event_id: the ID that holds for the next event; the standard's buffer.
        retry_ms: the reconnection time in milliseconds; None until one was given.
    """

    __slots__ = (
        "_after_cr",
        "_at_first_line",
        "_data",
        "_has_data",
        "_idle",
        "_line",
        "_line_size",
        "_name",
        "_size",
        "comments",
        "last_event_id",
        "retry_ms",
        "too_long",
    )

    def __init__(self) -> None:
        self.comments = 0
        self.too_long = 0
        self.last_event_id = b""
        self.retry_ms: int | None = None
        self._at_first_line = True
        self._after_cr = False
        # Nothing is begun; the first line is not plain, a BOM may stand before it.
        self._idle = False
        self._line = bytearray()
        self._line_size = 0
        self._name = b""
        self._data: list[bytes] = []
        self._has_data = False
        self._size = 0

    @property
    def waiting(self) -> int:
        """Octets of an event, or of a line, that has begun and not ended; line ends apart.

        While it is 0, whole events and comments can be put in between.
        """
        return self._size + self._line_size

    def feed(self, octets: Octets) -> list[Event]:
        """Take octets; return the events that have ended with them.

        One plain event a read is what an upstream that flushes each gives; here it takes half the
        time of the other way.
        """
        data = octets if type(octets) is bytes else bytes(octets)
        end = len(data) - 2
        if self._idle and data.endswith(b"\n\n") and b"\r" not in data and end <= MAX_EVENT_BYTES:
            first = data.find(b"\n")
            if first == end:
                if data.startswith(b"data: "):
                    return [(b"", data[6:end], self.last_event_id)]
            elif data.find(b"\n", first + 1) == end:
                if data.startswith(b"event: ") and data.startswith(b"data: ", first + 1):
                    return [(data[7:first], data[first + 7 : end], self.last_event_id)]
        return self._read(data) if data else []

    def _read(self, data: bytes) -> list[Event]:
        """Read a stretch of the stream, whatever is in it."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
            if not data:
                return []
        self._after_cr = data.endswith(b"\r")
        lines = data.splitlines()
        rest = b"" if data[-1] in _LINE_ENDS else lines.pop()
        events: list[Event] = []
        if lines and self._line_size:
            lines[0] = self._whole_line(lines[0])
        if lines and self._at_first_line:
            lines[0] = lines[0].removeprefix(_BOM)
            self._at_first_line = False
        for line in lines:
            if line.startswith(b"data: ") and self._size + len(line) <= MAX_EVENT_BYTES:
                self._size += len(line)
                self._data.append(line[6:])
                self._has_data = True
            elif line:
                self._field(line)
            else:
                self._end_event(events)
        if rest:
            self._keep(rest)
        self._idle = not (self._at_first_line or self._size or self._line_size or self._after_cr)
        return events

    def _keep(self, rest: bytes) -> None:
        """Keep the beginning of a line, up to the bound; behind it only its length counts."""
        self._line_size += len(rest)
        if len(self._line) <= MAX_EVENT_BYTES + len(_BOM):
            self._line += rest[: MAX_EVENT_BYTES + len(_BOM) + 1 - len(self._line)]

    def _whole_line(self, rest: bytes) -> bytes:
        """Return the line that was begun, with its end."""
        self._keep(rest)
        line = bytes(self._line)
        self._line = bytearray()
        self._line_size = 0
        return line

    def _field(self, line: bytes) -> None:
        """Read a line that is not empty."""
        if line[0] == _COLON:
            self.comments += 1
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        self._size += min(len(line), MAX_EVENT_BYTES + 1)
        if name == b"data":
            self._has_data = True
            self._data.append(value)
        if self._size > MAX_EVENT_BYTES:
            self._data.clear()
        if len(line) > MAX_EVENT_BYTES:
            return
        if name == b"event":
            self._name = value
        elif name == b"id" and b"\0" not in value:
            self.last_event_id = value
        elif name == b"retry" and value.isdigit() and len(value) <= MAX_RETRY_DIGITS:
            self.retry_ms = int(value)

    def _end_event(self, events: list[Event]) -> None:
        """Read an empty line; without data it ends an event that is none."""
        if self._has_data:
            data = None if self._size > MAX_EVENT_BYTES else b"\n".join(self._data)
            self.too_long += data is None
            events.append((self._name, data, self.last_event_id))
            self._has_data = False
            self._data.clear()
        self._name = b""
        self._size = 0
