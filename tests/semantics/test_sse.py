"""Event streams: events are the standard's, however the octets are split."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.sse import MAX_EVENT_BYTES, MAX_RETRY_DIGITS, Event, EventReader
from tests.semantics import strict

PIECES = st.sampled_from(
    [
        b"data", b"event", b"id", b"retry", b"other", b"Data", b":", b": ", b" ", b"\n", b"\r",
        b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r", b"data: {}\n\n", b"event: a\ndata: b\n\n",
        b"id: 7\n", b"id: \0\n", b"retry: 12\n", b"retry: x\n", b": ping\n\n", b"data:\n",
        b"data\n", b"event:\n", b"\xef\xbb\xbf", b"\xef", b"\xbb", b"\xff", b"\0", b"x", b"1",
        b"\x0b", b"\x0c", b"\x1c", b"\xc2\x85", b"\xe2\x80\xa8",
    ]
)  # fmt: skip
"""What a stream is made of, and what other languages take for the end of a line."""

STREAMS = st.lists(PIECES, max_size=30).map(b"".join)


class SlowReader:
    """Reads a whole stream by the words of the standard, octet by octet.

    Spec: WHATWG HTML 9.2.5, 9.2.6.
    """

    def __init__(self, stream: bytes) -> None:
        self.events: list[tuple[bytes, bytes, bytes]] = []
        self.comments = 0
        self.retry_ms: int | None = None
        self.last_event_id = b""
        self.data_buffer = b""
        self.event_type_buffer = b""
        self.id_buffer = b""
        if stream[:3] == b"\xef\xbb\xbf":
            stream = stream[3:]
        line = b""
        after_cr = False
        for octet in (stream[at : at + 1] for at in range(len(stream))):
            if octet == b"\n" and after_cr:
                after_cr = False
                continue
            after_cr = octet == b"\r"
            if octet in (b"\r", b"\n"):
                self.line(line)
                line = b""
            else:
                line += octet

    def line(self, line: bytes) -> None:
        if line == b"":
            self.dispatch()
        elif line[:1] == b":":
            self.comments += 1
        elif b":" in line:
            at = line.index(b":")
            value = line[at + 1 :]
            self.field(line[:at], value[1:] if value[:1] == b" " else value)
        else:
            self.field(line, b"")

    def field(self, name: bytes, value: bytes) -> None:
        if name == b"event":
            self.event_type_buffer = value
        elif name == b"data":
            self.data_buffer += value + b"\n"
        elif name == b"id":
            if b"\0" not in value:
                self.id_buffer = value
        elif name == b"retry":
            if value and all(octet in b"0123456789" for octet in value):
                self.retry_ms = int(value)

    def dispatch(self) -> None:
        self.last_event_id = self.id_buffer
        if self.data_buffer == b"":
            self.event_type_buffer = b""
            return
        data = self.data_buffer[:-1]
        self.events.append((self.event_type_buffer, data, self.last_event_id))
        self.data_buffer = self.event_type_buffer = b""


def read(*pieces: bytes) -> tuple[EventReader, list[Event]]:
    """Feed pieces to a reader; return it and the events."""
    reader = EventReader()
    return reader, [event for piece in pieces for event in reader.feed(piece)]


class EventReaderTests(SynchronousTestCase):
    """WHATWG HTML 9.2."""

    def test_of_the_standard(self) -> None:
        """The standard's own examples.  9.2.6."""
        for stream, events in (
            (b"data: YHOO\ndata: +2\ndata: 10\n\n", [(b"", b"YHOO\n+2\n10", b"")]),
            (
                b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n%b"
                % b"data:  third event\n\n",
                [
                    (b"", b"first event", b"1"),
                    (b"", b"second event", b""),
                    (b"", b" third event", b""),
                ],
            ),
            (b"data\n\ndata\ndata\n\ndata:", [(b"", b"", b""), (b"", b"\n", b"")]),
            (b"data:test\n\ndata: test\n\n", [(b"", b"test", b""), (b"", b"test", b"")]),
            (b"event: add\ndata: 73857293\n\n", [(b"add", b"73857293", b"")]),
        ):
            self.assertEqual(events, read(stream)[1], stream)

    def test_line_ends(self) -> None:
        """LF, CR and CRLF end a line, nothing else does, and CRLF only one.  9.2.5."""
        stream = b"event: a\ndata: {}\n\ndata: [\x0b\x0c\x1c\xc2\x85]\n\n: c\n\n"
        _, expected = read(stream)
        self.assertEqual(2, len(expected))
        for end in (b"\r", b"\r\n"):
            for pieces in strict.splits(stream.replace(b"\n", end)):
                reader, events = read(*pieces)
                self.assertEqual(expected, events)
                self.assertEqual(1, reader.comments)
                self.assertEqual(0, reader.waiting)

    def test_cr_ends_at_once(self) -> None:
        """A CR at the end of a read ends its line; nobody waits for an LF."""
        self.assertEqual([(b"", b"x", b"")], read(b"data: x\r\n\r")[1])
        self.assertEqual(
            [(b"", b"x", b""), (b"", b"y", b"")], read(b"data: x\r\r", b"\ndata: y\n\n")[1]
        )

    def test_bom(self) -> None:
        """One BOM at the beginning is none of the stream's, however it is split.  9.2.5."""
        for pieces in strict.splits(b"\xef\xbb\xbfdata: x\n\n"):
            self.assertEqual([(b"", b"x", b"")], read(*pieces)[1])
        self.assertEqual([], read(b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n")[1])
        self.assertEqual([], read(b"\n\xef\xbb\xbfdata: x\n\n")[1])
        self.assertEqual([(b"", b"x", b"")], read(b"\xef\xbb\xbf\ndata: x\n\n")[1])

    def test_plain(self) -> None:
        """One plain event a read is read like any other; a view too."""
        reader, _ = read(b": ready\n\n")
        for _ in range(3):
            self.assertEqual([(b"", b"{}", b"")], reader.feed(memoryview(b"data: {}\n\n")))
            self.assertEqual([(b"a", b"{}", b"")], reader.feed(b"event: a\ndata: {}\n\n"))
            self.assertEqual([], reader.feed(b"event: a\n: data: {}\n\n"))
            self.assertEqual([], reader.feed(b"id: 7\n\n"))
            self.assertEqual([(b"", b"a\nb", b"7")], reader.feed(b"data: a\ndata: b\n\n"))
            self.assertEqual([(b"a", b"b", b"")], reader.feed(b"event: a\nid\ndata: b\n\n"))
            self.assertEqual([], reader.feed(b""))
            self.assertEqual(0, reader.waiting)

    def test_retry(self) -> None:
        """A reconnection time is digits; a value that is none changes nothing.  9.2.6."""
        for value, expected in (
            (b"0", 0),
            (b"1500", 1500),
            (b"9" * MAX_RETRY_DIGITS, int("9" * MAX_RETRY_DIGITS)),
            (b"9" * (MAX_RETRY_DIGITS + 1), 7),
            (b"9" * 5000, 7),
            (b"", 7),
            (b"-1", 7),
            (b"1 ", 7),
            (b"\xd9\xa3", 7),
        ):
            self.assertEqual(
                expected, read(b"retry: 7\nretry: " + value + b"\n")[0].retry_ms, value
            )

    def test_id(self) -> None:
        """An ID holds for the events after it; one with a NUL is none.  9.2.6."""
        reader, events = read(b"id: 1\nid: \0\ndata: x\n\ndata: y\n\nid: 2\n\n")
        self.assertEqual([(b"", b"x", b"1"), (b"", b"y", b"1")], events)
        self.assertEqual(b"2", reader.last_event_id)

    def test_waiting(self) -> None:
        """What of an event has begun is known; comments begin none."""
        for stream, waiting in (
            (b"", 0),
            (b"d", 1),
            (b"data: x", 7),
            (b"data: x\n", 7),
            (b"data: x\r", 7),
            (b"data: x\nda", 9),
            (b"event: a\n", 8),
            (b"data: x\n\n", 0),
            (b"data: x\n\r", 0),
            (b":", 1),
            (b": ping\n", 0),
            (b"data: x\n\n: pi", 4),
            (b"data: x\n: ping\n", 7),
        ):
            for pieces in strict.splits(stream):
                self.assertEqual(waiting, read(*pieces)[0].waiting, stream)

    def test_too_long(self) -> None:
        """An event past the bound is counted, its data are not kept; the next one is whole."""
        fits = MAX_EVENT_BYTES - len(b"data: ")
        for stream, expected in (
            (b"data: %b" % (b"x" * fits), [(b"", b"x" * fits, b"")]),
            (b"data: %b" % (b"x" * (fits + 1)), [(b"", None, b"")]),
            (b"data: %b" % (b"x" * (fits + 100)), [(b"", None, b"")]),
            (b"data:%b" % (b"x" * (fits + 2)), [(b"", None, b"")]),
            (b"event: a\nid: 1\ndata: %b\ndata: y" % (b"x" * fits), [(b"a", None, b"1")]),
            (b"data: %b\nevent: a\nid: 1" % (b"x" * fits), [(b"a", None, b"1")]),
            (b"data: y\nevent:%b\nid: 1" % (b"x" * fits), [(b"x" * fits, None, b"1")]),
            (b"data: y\nevent: %b" % (b"x" * (fits + 100)), [(b"", None, b"")]),
            (b"data: y\nid: %b" % (b"x" * (fits + 100)), [(b"", None, b"")]),
            (b"data: y\n:%b" % (b"x" * (fits + 100)), [(b"", b"y", b"")]),
            (b"other: %b" % (b"x" * (fits + 200_000)), []),
        ):
            for bom in (b"", b"\xef\xbb\xbf", b"data: first\n\n"):
                for end in (b"\n", b"\r\n"):
                    octets = bom + stream.replace(b"\n", end) + end + end + b"data: z" + end + end
                    for size in (len(octets), 65536, len(octets) - 9):
                        pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
                        reader, events = read(*pieces)
                        ids = b"1" if b"\nid: 1" in stream else b""
                        if bom.startswith(b"data"):
                            self.assertEqual((b"", b"first", b""), events.pop(0))
                        self.assertEqual([*expected, (b"", b"z", ids)], events, stream[:20])
                        self.assertEqual(sum(d is None for _, d, _ in expected), reader.too_long)
                        self.assertEqual(0, reader.waiting)

    def test_many_lines_are_bounded(self) -> None:
        """Lines of data count together."""
        reader, _ = read(b"data: x\n" * (MAX_EVENT_BYTES // 7))
        self.assertEqual([(b"", None, b"")], reader.feed(b"data: x\ndata: x\n\n"))
        self.assertEqual(1, reader.too_long)

    @given(STREAMS, st.lists(st.integers(0, 200), max_size=8))
    def test_against_the_standard(self, stream: bytes, cuts: list[int]) -> None:
        """Events, comments, ID and time are those of the slow reader for any split."""
        slow = SlowReader(stream)
        places = [0, *sorted(cuts), len(stream)]
        pieces = [stream[at:to] for at, to in pairwise(places)]
        for way in (pieces, [stream], [stream[at : at + 1] for at in range(len(stream))]):
            reader, events = read(*way)
            self.assertEqual(slow.events, events)
            self.assertEqual(slow.comments, reader.comments)
            self.assertEqual(slow.retry_ms, reader.retry_ms)
            self.assertEqual(slow.id_buffer, reader.last_event_id)

    @given(st.lists(STREAMS, max_size=6))
    def test_nothing_waits_at_a_boundary(self, streams: list[bytes]) -> None:
        """Where nothing waits, a comment and an event can be put in, and the others stay."""
        stream = b"".join(streams)
        expected = SlowReader(stream).events
        probe = EventReader()
        for place in range(len(stream)):
            probe.feed(stream[place : place + 1])
            if probe.waiting == 0:
                put_in = stream[: place + 1] + b": ping\n\n" + stream[place + 1 :]
                self.assertEqual(expected, SlowReader(put_in).events)

    def test_hostile_input_is_linear(self) -> None:
        """No octets make the reader slow, read at once or one by one."""
        for octets in (b"data: x\n\n", b"\n", b"\r", b"x", b"data:\n", b":\r\n", b"\xef\xbb\xbf"):
            stream = octets * (strict.CROWD // len(octets))
            self.assertLess(strict.cpu_seconds(read, stream), strict.CPU_BUDGET)
            single = [stream[at : at + 1] for at in range(len(stream))]
            self.assertLess(strict.cpu_seconds(read, *single), strict.CPU_BUDGET)
