"""What is put into event streams stands between events; the stream's own stay as they are."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.errors import ProxyError, ReadTimeout
from pyproxy.policy.insertions import Insertions
from pyproxy.relay import inserting
from pyproxy.relay.inserting import PING, Inserter, takes_more, without_length
from pyproxy.relay.limits import Sweeper
from pyproxy.semantics.error_events import CHAT
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.messages import ResponseHead
from tests.semantics.test_sse import STREAMS, SlowReader

ERROR = ReadTimeout("nothing moved")
PIECES = st.lists(st.tuples(STREAMS, st.booleans()), max_size=6)
"""Reads of a stream, each with whether a silence follows."""


class Sink:
    """A client's side that takes what it gets.

    Attributes:
        got: octets so far.
        waiting: how many it says that it has still to take.
    """

    request_id = "r1"

    def __init__(self) -> None:
        self.got = b""
        self.waiting = 0
        self.sent = 0
        self.source: IPushProducer | None = None

    def write_content(self, content: Octets) -> None:
        """Take octets; none would be the end of chunked content."""
        assert content
        self.got += content

    def flow_from(self, source: IPushProducer | None) -> None:
        """Name who has to pause."""
        self.source = source

    def note_sent(self, octets: int) -> None:
        """Take note of the count."""
        self.sent = octets

    def unsent(self) -> int:
        """Return what is still to be taken."""
        return self.waiting


class Scene:
    """An inserter with its client and a clock."""

    def __init__(self, **insertions: object) -> None:
        self.clock = Clock()
        self.sweeper = Sweeper(self.clock, 1.0)
        self.sweeper.start()
        self.sink = Sink()
        self.errors: list[ProxyError] = []
        self.inserter = Inserter(
            self.sink,
            Insertions(**insertions),  # type: ignore[arg-type]
            self.sweeper,
            self.fail,
            CHAT,
        )
        self.inserter.open()

    def fail(self, error: ProxyError) -> None:
        """End, as an exchange does."""
        self.errors.append(error)
        self.inserter.close()

    def pass_time(self, seconds: int) -> None:
        """Let time go by."""
        for _ in range(seconds):
            self.clock.advance(1)


def summary(reader: SlowReader) -> tuple[object, ...]:
    """Return what a reader made of a stream, comments apart."""
    return reader.events, reader.retry_ms, reader.id_buffer


class PingTests(SynchronousTestCase):
    """Comments in a silence."""

    def check_stream(self, pieces: Sequence[tuple[bytes, bool]]) -> None:
        """Pass a stream with silences; its events have to be the same."""
        scene = Scene(ping=3.0)
        for piece, silent in pieces:
            if piece:
                scene.inserter.write_content(memoryview(piece))
            if silent:
                scene.pass_time(3)
        scene.inserter.finish()
        stream = b"".join(piece for piece, _ in pieces)
        got = scene.sink.got
        self.assertEqual(summary(SlowReader(stream)), summary(SlowReader(got)))
        self.assertEqual(len(got), scene.inserter.count)

    @given(PIECES)
    @example([(b"", True), (b"\xef\xbb\xbfdata: 1\n\n", False)])
    @example([(b"\xef\xbb\xbf", True), (b"data: 1\n\n", False)])
    @example([(b"data: 1\r", True), (b"\n\r", True), (b"\ndata: 2\r\r", True)])
    def test_same_events(self, pieces: Sequence[tuple[bytes, bool]]) -> None:
        """Whatever is inserted, the client's events are the upstream's."""
        self.check_stream(pieces)

    @given(PIECES)
    def test_same_events_without_room(self, pieces: Sequence[tuple[bytes, bool]]) -> None:
        """The same for events that are too long to be held."""
        before, inserting.MAX_HELD_BYTES = inserting.MAX_HELD_BYTES, 4
        try:
            self.check_stream(pieces)
        finally:
            inserting.MAX_HELD_BYTES = before

    def test_every_split(self) -> None:
        """At every octet of a stream, a silence."""
        stream = b": hello\r\n\r\nevent: a\r\ndata: 1\r\n\r\ndata: 2\n\ndata: 3\n\n"
        for place in range(len(stream) + 1):
            self.check_stream([(stream[:place], True), (stream[place:], True)])
        self.check_stream([(stream[at : at + 1], True) for at in range(len(stream))])

    def test_when(self) -> None:
        """Once in each such time without an octet, and not before."""
        scene = Scene(ping=3.0)
        scene.pass_time(2)
        self.assertEqual(b"", scene.sink.got)
        scene.pass_time(1)
        self.assertEqual(PING, scene.sink.got)
        scene.pass_time(2)
        scene.inserter.write_content(b": comment\n\n")
        scene.pass_time(2)
        self.assertEqual(PING + b": comment\n\n", scene.sink.got)
        scene.pass_time(4)
        self.assertTrue(scene.sink.got.endswith(b"\n\n" + PING * 2))

    def test_slow_client(self) -> None:
        """One that takes nothing gets no more pings to take, and they are no movement."""
        scene = Scene(ping=2.0)
        scene.inserter.write_content(b"data: 1\n\n")
        scene.sink.waiting = 9
        self.assertEqual(9, scene.inserter.unsent())
        scene.pass_time(20)
        self.assertEqual(b"data: 1\n\n", scene.sink.got)
        scene.sink.waiting = 0
        scene.pass_time(2)
        self.assertTrue(scene.sink.got.endswith(PING))
        scene.sink.waiting = len(PING)
        self.assertEqual(0, scene.inserter.unsent())
        scene.inserter.write_content(b"data: 2\n\n")
        self.assertEqual(len(PING), scene.inserter.unsent())

    def test_whole_events_at_once(self) -> None:
        """The beginning of an event waits for its end, and nothing else does."""
        scene = Scene(ping=2.0)
        for piece, got in (
            (b"data: 1\n\ndata: 2", b"data: 1\n\n"),
            (b"\n", b""),
            (b"\n", b"data: 2\n\n"),
            (b"data: 3\r\n\r\nda", b"data: 3\r\n\r\n"),
            (b"ta: 4\r\rid", b"data: 4\r\r"),
        ):
            scene.sink.got = b""
            scene.inserter.write_content(piece)
            self.assertEqual(got, scene.sink.got, piece)
        scene.sink.got = b""
        scene.inserter.finish()
        self.assertEqual(b"id", scene.sink.got)

    def test_long_event(self) -> None:
        """One past the bound passes as it comes, without a ping inside."""
        self.patch(inserting, "MAX_HELD_BYTES", 100)
        scene = Scene(ping=2.0)
        scene.inserter.write_content(b"data: " + bytes(100))
        self.assertEqual(106, scene.inserter.count)
        scene.inserter.write_content(b"more")
        scene.pass_time(5)
        self.assertEqual(110, scene.inserter.count)
        scene.inserter.write_content(b"\n\n")
        scene.pass_time(2)
        self.assertTrue(scene.sink.got.endswith(b"more\n\n" + PING))

    def test_nothing_after_the_end(self) -> None:
        """No ping follows, and nobody waits any more."""
        scene = Scene(ping=2.0, stall=2.0)
        scene.inserter.finish()
        scene.inserter.close()
        scene.pass_time(9)
        self.assertEqual((b"", [], 0), (scene.sink.got, scene.errors, scene.sweeper.watched))


class StallTests(SynchronousTestCase):
    """A limit that counts events."""

    def test_comments(self) -> None:
        """Comments of the upstream's, pings of ours and halves of events do not count."""
        scene = Scene(ping=1.0, stall=5.0)
        for piece in (b": ka\n\n", b"data: 1", b"1", b": ka"):
            scene.pass_time(1)
            self.assertEqual([], scene.errors)
            scene.inserter.write_content(piece)
        scene.pass_time(1)
        (error,) = scene.errors
        self.assertEqual("connection_read_timeout", error.error_type)

    def test_events(self) -> None:
        """With an event in time it goes on."""
        scene = Scene(stall=3.0)
        for _ in range(5):
            scene.pass_time(2)
            scene.inserter.write_content(b"data: 1\n\n")
        self.assertEqual([], scene.errors)
        scene.pass_time(3)
        self.assertEqual(1, len(scene.errors))

    def test_slow_client(self) -> None:
        """It is not the upstream's fault when the client takes nothing."""
        scene = Scene(stall=3.0)
        scene.inserter.write_content(b"data: 1\n\n")
        scene.sink.waiting = 9
        scene.pass_time(20)
        self.assertEqual([], scene.errors)
        scene.sink.waiting = 0
        scene.pass_time(1)
        self.assertEqual([], scene.errors)
        scene.pass_time(3)
        self.assertEqual(1, len(scene.errors))


class ErrorEventTests(SynchronousTestCase):
    """The last word of a stream that breaks off."""

    @given(PIECES)
    def test_behind_whole_events(self, pieces: Sequence[tuple[bytes, bool]]) -> None:
        """It follows the events that had ended, and half an event is not among them."""
        scene = Scene(ping=3.0, error_event=True)
        for piece, silent in pieces:
            if piece:
                scene.inserter.write_content(piece)
            if silent:
                scene.pass_time(3)
        scene.inserter.tell(ERROR)
        before = SlowReader(b"".join(piece for piece, _ in pieces)).events
        after = SlowReader(scene.sink.got).events
        self.assertEqual(before, after[: len(before)])
        (last,) = after[len(before) :]
        self.assertIn(b"nothing moved", last[1])
        self.assertEqual(len(scene.sink.got), scene.sink.sent)

    def test_nothing_to_say(self) -> None:
        """Not asked for, behind the stream's own end, or inside an event: what is there passes."""
        for settings, stream in (
            ({"ping": 1.0}, b"data: 1\n\ndata: 2"),
            ({"error_event": True}, b"data: [DONE]\n\n"),
            ({"error_event": True}, b"data: " + bytes(inserting.MAX_HELD_BYTES)),
        ):
            scene = Scene(**settings)
            scene.inserter.write_content(stream)
            scene.inserter.tell(ERROR)
            self.assertEqual(stream, scene.sink.got)


class WhichTests(SynchronousTestCase):
    """Which responses are event streams that take more."""

    def test_which(self) -> None:
        """In no coding, whole, and without a digest."""
        events = (b"Content-Type", b"Text/Event-Stream; charset=utf-8")
        for status, fields, takes in (
            (200, [events], True),
            (200, [events, (b"Content-Encoding", b"identity")], True),
            (200, [events, (b"Content-Encoding", b"gzip")], False),
            (200, [events, (b"Repr-Digest", b"x")], False),
            (200, [events, (b"Trailer", b"Content-Digest")], False),
            (200, [events, events], False),
            (200, [(b"Content-Type", b"application/json")], False),
            (200, [], False),
            (206, [events], False),
            (500, [events], False),
        ):
            head = ResponseHead(status, b"", 1, fields)
            self.assertIs(takes, takes_more(head), (status, fields))

    def test_length(self) -> None:
        """Its length is not known any more."""
        other = (b"Server", b"x")
        self.assertEqual([other], without_length([(b"content-LENGTH", b"4"), other]))
