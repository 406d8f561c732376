"""Stored streams of events, as they are sent once more."""

from __future__ import annotations

from typing import cast

import attrs
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.cache.blocks import Blocks
from pyproxy.cache.delivery import TURN_BYTES
from pyproxy.cache.replay import EVENT_COST, Recording, Replay
from pyproxy.cache.seams import BLOCK_BYTES, ContentLost
from pyproxy.errors import ResponseIncomplete
from pyproxy.policy.cache_policy import Pace
from pyproxy.policy.routing import Limits
from pyproxy.relay.content import RESPONSE_DONE
from pyproxy.semantics.event_times import MAX_EVENTS, EventTimes
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.stored import StoredResponse
from tests.cache.kit import answer, bounded, caching, read
from tests.cache.posts import (
    ASKED,
    CHUNKED,
    EVENTS,
    HIT,
    STORED,
    STREAM,
    PostTestCase,
    chunk,
    chunks_of,
    keeping,
    post,
)
from tests.memory import MemoryTransport, request, response

LONG = tuple(b"data: %b\n\n" % (b"%d" % number * 3000) for number in range(9))
"""Events of which few fit into a transport."""


class StreamTestCase(PostTestCase):
    """A case with a route that keeps streams."""

    def keep(self, *events: bytes, pace: Pace = "at-once", each: float = 0.0) -> None:
        """Have a stream stored."""
        self.start(cache=keeping(events=True, pace=pace), limits=Limits(idle=30))
        client = self.client(post())
        self.stream(client, *(events or EVENTS), each=each)
        self.leave(client)
        self.assertEqual(1, self.entries)

    def timers(self) -> int:
        """Return how many timers run that are of a replay."""
        calls = cast(list[DelayedCall], self.network.getDelayedCalls())
        return len([call for call in calls if getattr(call.func, "__name__", "") == "_due"])

    def replay(self) -> MemoryTransport:
        """Connect a client that asks for the stream."""
        client = self.client(post())
        self.assert_asked(0)
        return client

    def content(self, client: MemoryTransport, had: bytes = b"") -> list[bytes]:
        """Return the chunks of the content that a client has got."""
        return chunks_of(read(had + client.take()).content)


class AtOnceTests(StreamTestCase):
    """Each event by itself, without a pause."""

    def test_boundaries(self) -> None:
        """Each event is a chunk of its own, wherever the upstream's octets were cut."""
        for pieces in (
            EVENTS,
            (STREAM,),
            tuple(STREAM[place : place + 1] for place in range(len(STREAM))),
            (STREAM[:12], STREAM[12:43], STREAM[43:]),
        ):
            self.keep(*pieces)
            client = self.replay()
            told = read(client.take())
            self.assertEqual((200, HIT), (told.status, told.cache))
            self.assertEqual([*EVENTS, b""], chunks_of(told.content))
            self.assertEqual(b"text/event-stream", told.fields[b"content-type"])
            self.assertNotIn(b"content-length", told.fields)
            self.assertEqual(0, self.timers())
            self.leave(client)

    def test_first(self) -> None:
        """The first client gets it as it comes, event by event; Cache-Status says so."""
        self.start(cache=keeping(events=True))
        client = self.client(post())
        upstream, _ = self.question()
        self.deliver(upstream, CHUNKED)
        told = read(client.take())
        self.assertEqual(STORED, told.cache)
        for event in EVENTS:
            self.deliver(upstream, chunk(event))
            self.assertEqual(chunk(event), client.take())
        self.deliver(upstream, b"0\r\n\r\n")
        self.assertEqual(b"0\r\n\r\n", client.take())

    def test_known_length(self) -> None:
        """One that came with a length is replayed as one that did not."""
        self.start(cache=keeping(events=True))
        stream = answer(b"Content-Type: Text/Event-Stream; charset=utf-8", content=STREAM)
        self.assertEqual(STORED, self.ask_post(reply=stream).cache)
        told = read(self.replay().take())
        self.assertNotIn(b"content-length", told.fields)
        self.assertEqual([*EVENTS, b""], chunks_of(told.content))

    def test_rest(self) -> None:
        """What follows the last event is sent too: it is for the client to drop it."""
        self.keep(b"data: 1\n\n", b"data: half")
        self.assertEqual([b"data: 1\n\n", b"data: half", b""], self.content(self.replay()))

    def test_no_event(self) -> None:
        """A stream in which no event ends is sent as any other content."""
        self.keep(b"data: half")
        told = read(self.replay().take())
        self.assertEqual((HIT, b"data: half"), (told.cache, told.content))

    def test_old_client(self) -> None:
        """A client that knows no chunks gets the stream until the connection closes."""
        self.keep()
        length = b"Content-Length: %d" % len(ASKED)
        octets = request(b"POST / HTTP/1.0", b"Content-Type: application/json", length)
        client = self.client(octets + ASKED)
        told = read(client.take())
        self.assertEqual((HIT, STREAM), (told.cache, told.content))
        self.network.settle()
        self.assertIsNotNone(client.lost)

    def test_next_request(self) -> None:
        """The connection serves the next request behind it."""
        self.keep()
        client = self.client(post() + post())
        octets = self.rest_of(client)
        self.assertEqual(2, octets.count(b"data: [DONE]\n\n\r\n0\r\n\r\n"))

    def test_pause(self) -> None:
        """A client that takes nothing is given no more than it has room for, and then the rest."""
        self.keep(*LONG)
        client = self.client(post(), room=8000)
        held = client.take()
        self.assertLess(len(held), 8000 + 2 * len(LONG[0]))
        self.assertEqual([*LONG, b""], chunks_of(read(held + self.rest_of(client)).content))

    def test_leaves(self) -> None:
        """A client that leaves in the middle leaves nothing; the stream is there for others."""
        self.keep(*LONG)
        client = self.client(post(), room=100)
        self.leave(client)
        self.assertEqual([*LONG, b""], chunks_of(read(self.rest_of(self.replay())).content))

    def test_across_blocks(self) -> None:
        """Events come whole across the blocks of a store, and no two come as one."""
        events = [b"data: %b\n\n" % (b"%d" % number * 7000) for number in range(10, 30)]
        self.keep(*events)
        chunks = chunks_of(read(self.rest_of(self.replay())).content)
        self.assertTrue(b"".join(events) == b"".join(chunks))
        places, ends = set(), 0
        for one in chunks:
            ends += len(one)
            places.add(ends)
        ends = 0
        for event in events:
            ends += len(event)
            self.assertIn(ends, places)

    def test_collapsed(self) -> None:
        """Who asks meanwhile gets the same stream, as far as it is, and then as it comes."""
        self.start(cache=keeping(events=True, pace="as-recorded"))
        first = self.client(post())
        upstream, _ = self.question()
        self.deliver(upstream, CHUNKED + chunk(EVENTS[0]))
        second = self.replay()
        told = read(second.take())
        self.assertEqual(b"fwd=uri-miss; fwd-status=200; collapsed", told.cache)
        self.assertEqual(chunk(EVENTS[0]), told.content)
        first.take()
        self.deliver(upstream, chunk(EVENTS[1]) + b"0\r\n\r\n")
        self.assertEqual(chunk(EVENTS[1]) + b"0\r\n\r\n", second.take())
        self.assertEqual(first.value(), chunk(EVENTS[1]) + b"0\r\n\r\n")


class PaceTests(StreamTestCase):
    """Each event when it came before."""

    def test_paced(self) -> None:
        """Each waits as long as it did, from the head on, and is sent at once then."""
        self.keep(*EVENTS, pace="as-recorded", each=2.0)
        client = self.replay()
        told = read(client.take())
        self.assertEqual((b"", 1), (told.content, self.timers()))
        self.assertIn(b"hit; ttl=", told.cache)
        for event in EVENTS:
            self.wait(1.8)
            self.assertEqual(b"", client.take())
            self.wait(0.4 if event is EVENTS[0] else 0.2)
            expected = chunk(event) + (b"0\r\n\r\n" if event is EVENTS[-1] else b"")
            self.assertEqual(expected, client.take())
        self.assertEqual(0, self.timers())

    def test_together(self) -> None:
        """What came together is sent together, each event by itself."""
        self.start(cache=keeping(events=True, pace="as-recorded"))
        first = self.client(post())
        upstream, _ = self.question()
        self.deliver(upstream, CHUNKED + chunk(b"".join(EVENTS[:2])))
        self.wait(3)
        self.deliver(upstream, chunk(b"".join(EVENTS[2:])) + b"0\r\n\r\n")
        self.leave(first)
        client = self.replay()
        told = read(client.take())
        self.assertEqual(list(EVENTS[:2]), chunks_of(told.content))
        self.wait(3.2)
        self.assertEqual([*EVENTS[2:], b""], chunks_of(client.take()))

    def test_other_pace(self) -> None:
        """How it is sent is the route's of now, whichever it was when it was stored."""
        self.keep(*EVENTS, each=2.0)
        self.assertEqual([*EVENTS, b""], self.content(self.replay()))
        self.take(caching(cache=keeping(events=True, pace="as-recorded")))
        client = self.replay()
        self.assertEqual([], self.content(client))
        self.leave(client)

    def test_leaves(self) -> None:
        """A client that leaves while an event waits takes its timer along."""
        self.keep(*EVENTS, pace="as-recorded", each=2.0)
        watched = self.proxy._sweeper.watched
        client = self.replay()
        self.wait(2.2)
        self.assertEqual((1, list(EVENTS[:1])), (self.timers(), self.content(client)))
        self.leave(client)
        self.assertEqual(0, self.timers())
        self.assertEqual(watched, self.proxy._sweeper.watched)

    def test_pauses(self) -> None:
        """A client that was slow for a while gets at once what was due meanwhile, and no more."""
        self.keep(*LONG, pace="as-recorded", each=1.0)
        client = self.client(post(), room=8000)
        self.wait(5.5)
        held = client.take()
        self.assertLess(len(held), 8000 + 2 * len(LONG[0]))
        self.network.settle()
        held += self.rest_of(client)
        self.assertEqual(list(LONG[:5]), chunks_of(read(held).content))
        self.wait(5)
        self.assertEqual([*LONG, b""], chunks_of(read(held + self.rest_of(client)).content))

    def test_several(self) -> None:
        """Each client has its own time."""
        self.keep(*EVENTS, pace="as-recorded", each=2.0)
        early = self.replay()
        self.wait(2.2)
        late = self.replay()
        self.wait(2.2)
        self.assertEqual(list(EVENTS[:2]), self.content(early))
        self.assertEqual(list(EVENTS[:1]), self.content(late))
        for client in (early, late):
            self.leave(client)
        self.assertEqual(0, self.timers())

    def test_gone_meanwhile(self) -> None:
        """What the store has no more goes on to its end for who has it already."""
        self.keep(*EVENTS, pace="as-recorded", each=2.0)
        client = self.replay()
        self.cache.store.resize(1, 1)
        self.assertEqual(0, self.entries)
        self.wait(9)
        self.assertEqual([*EVENTS, b""], self.content(client))

    def test_proxy_ends(self) -> None:
        """A proxy that ends leaves no timer: ``stop`` looks for them."""
        self.keep(*EVENTS, pace="as-recorded", each=2.0)
        self.replay()
        self.assertEqual(1, self.timers())


class NotStoredTests(StreamTestCase):
    """Streams that are not stored."""

    def test_refused(self) -> None:
        """Where the route does not say so; coded, or without a sure end."""
        stream = b"Content-Type: text/event-stream"
        close = b"Connection: close"
        for events, reply, why in (
            (False, answer(stream, content=STREAM), b"event-stream"),
            (True, answer(stream, b"Content-Encoding: gzip"), b"content-encoding"),
            (True, answer(stream, b"Cache-Control: no-store"), b"no-store"),
            (True, response(stream, close, content=STREAM), b"until-close"),
        ):
            self.start(cache=keeping(events=events))
            client = self.client(post())
            upstream, _ = self.question()
            self.deliver(upstream, reply)
            if why == b"until-close":
                self.leave(upstream)
            self.assertIn(b"detail=" + why, read(client.take()).cache)
            self.assertEqual(0, self.entries)

    def test_broken_off(self) -> None:
        """One that breaks off; all who read are told, and it is asked for anew."""
        self.start(cache=keeping(events=True))
        clients = [self.client(post()), self.client(post())]
        upstream, _ = self.question()
        self.deliver(upstream, CHUNKED + chunk(EVENTS[0]))
        self.leave(upstream)
        for client in clients:
            self.assertEqual(list(EVENTS[:1]), self.content(client))
            self.assertIsNotNone(client.lost)
        self.assertEqual(0, self.entries)
        self.stream(self.client(post()), *EVENTS)

    def test_nobody_waits(self) -> None:
        """One whose only client leaves in the middle, unless the route finishes it."""
        for finish, entries in ((False, 0), (True, 1)):
            policy = attrs.evolve(keeping(events=True), finish=finish)
            self.start(cache=policy)
            client = self.client(post())
            upstream, _ = self.question()
            self.deliver(upstream, CHUNKED + chunk(EVENTS[0]))
            self.leave(client)
            self.assertEqual(finish, upstream.lost is None)
            if finish:
                self.deliver(upstream, chunk(EVENTS[1]) + b"0\r\n\r\n")
                self.assertEqual([*EVENTS[:2], b""], self.content(self.replay()))
            self.assertEqual(entries, self.entries)

    def test_errors(self) -> None:
        """One in which an error comes, in the way of any provider."""
        for event in (
            b'event: error\ndata: {"type":"error"}\n\n',
            b'data: {"error":{"message":"overloaded"}}\n\n',
        ):
            self.start(cache=keeping(events=True))
            self.stream(self.client(post()), EVENTS[0], event, *EVENTS)
            self.assertEqual(0, self.entries)
            self.stream(self.client(post()), *EVENTS)
            self.assertEqual(1, self.entries)

    def test_too_many(self) -> None:
        """One with more events than are remembered; the clients get all of them."""
        for count, entries in ((MAX_EVENTS, 1), (MAX_EVENTS + 1, 0)):
            self.start(cache=keeping(events=True))
            client = self.client(post(), room=10**6)
            self.stream(client, b"a\n\n" * (count - 1), b"a\n\n")
            self.assertEqual(entries, self.entries)
        self.start(cache=keeping(events=True))

    def test_too_long(self) -> None:
        """One that outgrows the store's bound for one content."""
        self.start(bounded(caching(cache=keeping(events=True)), 10**6, 20000))
        self.stream(self.client(post()), *LONG)
        self.assertEqual(0, self.entries)


class RecordingTests(SynchronousTestCase):
    """When events came."""

    def test_times(self) -> None:
        """The time of an event is that of its last octet, counted from the head."""
        recording = Recording(100.0)
        for octets, now in ((b"data: 1\n", 101.0), (b"\ndata: 2", 102.5), (b"\n\n", 103.25)):
            recording.take(octets, now)
        events = recording.events
        self.assertEqual(([9, 18], [2500, 3250]), (list(events.ends), list(events.after_ms)))

    def test_many(self) -> None:
        """Past the bound nothing is remembered, and nothing more is looked at."""
        recording = Recording(0.0)
        recording.take(b"a\n\n" * MAX_EVENTS, 1.0)
        self.assertFalse(recording.refuses)
        for octets in (b"a\n\n", b"a\n\n" * 9):
            recording.take(octets, 1.0)
            self.assertTrue(recording.refuses)
        self.assertEqual(0, len(recording.events.ends))


@attrs.define(eq=False)
class Client:
    """Takes a replay, event by event."""

    pieces: list[bytes] = attrs.Factory(list)
    reason: Failure | None = None
    replay: Replay | None = None

    def makeConnection(self, transport: Replay) -> None:
        """Know what to pause."""
        self.replay = transport

    def dataReceived(self, data: Octets) -> None:
        """Take octets."""
        self.pieces.append(bytes(data))

    def connectionLost(self, reason: Failure) -> None:
        """Take note of the end."""
        self.reason = reason


@attrs.define(eq=False)
class Slow:
    """A content that a store gives later, and how often it is asked.

    Attributes:
        waiting: what is being asked for, and from where.
    """

    octets: bytes
    count: int
    waiting: list[tuple[int, Deferred[bytes]]] = attrs.Factory(list)
    reads: int = 0
    held: int = 0

    def read(self, start: int) -> Deferred[bytes]:
        """Return a block later."""
        self.reads += 1
        later: Deferred[bytes] = Deferred()
        self.waiting.append((start, later))
        return later

    def give(self) -> None:
        """Give what was asked for."""
        start, later = self.waiting.pop()
        later.callback(self.octets[start : start + BLOCK_BYTES])

    def hold(self) -> None:
        """Be kept for a reader."""
        self.held += 1

    def release(self) -> None:
        """Be kept for one reader less."""
        self.held -= 1


class ReplayTests(SynchronousTestCase):
    """A replay by itself."""

    def setUp(self) -> None:
        """Have a clock."""
        self.clock = Clock()

    def of(self, content: Slow | Blocks, events: EventTimes, paced: bool = False) -> Client:
        """Begin a replay."""
        stored = StoredResponse(
            200, b"OK", (), 0.0, 60.0, length=content.count, events=events.pack()
        )
        head = ResponseHead(200, b"OK", 1, [])
        client = Client()
        replay = Replay.of(head, content, stored, paced, self.clock)
        replay.deliverBody(client)  # type: ignore[arg-type]
        return client

    def events(self, count: int, length: int = 10) -> EventTimes:
        """Return events of one length, each a second after the one before."""
        events = EventTimes()
        for number in range(count):
            events.add([(number + 1) * length], float(number))
        return events

    def test_store_is_asked_once(self) -> None:
        """A store is asked for a block once, and not for every event in it."""
        content = Slow(bytes(1000), 1000)
        client = self.of(content, self.events(100))
        self.assertEqual((1, 1, []), (content.reads, content.held, client.pieces))
        content.give()
        self.assertEqual([bytes(10)] * 100, client.pieces)
        self.assertIs(RESPONSE_DONE, client.reason)
        self.assertEqual((1, 0), (content.reads, content.held))

    def test_slow_store(self) -> None:
        """What a store gives after the client has left goes nowhere."""
        content = Slow(bytes(1000), 1000)
        client = self.of(content, self.events(100))
        assert client.replay is not None
        client.replay.stopProducing()
        content.give()
        self.assertEqual(([], None, 0), (client.pieces, client.reason, content.held))

    def test_lost(self) -> None:
        """What a store cannot give breaks the replay off."""
        content = Slow(bytes(1000), 1000)
        client = self.of(content, self.events(100))
        content.waiting.pop()[1].errback(Failure(ContentLost("gone")))
        assert client.reason is not None
        self.assertIsInstance(client.reason.value, ResponseIncomplete)
        self.assertEqual(0, content.held)

    def test_shorter(self) -> None:
        """A content that is shorter than it was breaks the replay off."""
        content = Slow(bytes(1000), 1000)
        client = self.of(content, self.events(100))
        content.octets = b""
        content.give()
        assert client.reason is not None
        self.assertIsInstance(client.reason.value, ResponseIncomplete)

    def test_turns(self) -> None:
        """Others have their turn: small writes take their time too."""
        count = 2 * TURN_BYTES // EVENT_COST
        client = self.of(Blocks(bytes(10 * count)), self.events(count))
        self.assertLessEqual(len(client.pieces), TURN_BYTES // EVENT_COST)
        self.clock.advance(0)
        self.assertEqual([bytes(10)] * count, client.pieces)

    def test_turn_after_the_end(self) -> None:
        """A client that has left between two turns gets no more."""
        count = 2 * TURN_BYTES // EVENT_COST
        client = self.of(Blocks(bytes(10 * count)), self.events(count))
        first = len(client.pieces)
        assert client.replay is not None
        client.replay.abort()
        self.clock.advance(0)
        self.assertEqual((first, None), (len(client.pieces), client.reason))

    def test_paused_while_an_event_waits(self) -> None:
        """An event that is due while the client takes nothing waits for the client."""
        client = self.of(Blocks(bytes(50)), self.events(5), paced=True)
        assert client.replay is not None
        self.assertEqual(1, len(client.pieces))
        client.replay.pauseProducing()
        self.clock.advance(2.5)
        self.assertEqual((1, []), (len(client.pieces), self.clock.getDelayedCalls()))
        client.replay.resumeProducing()
        self.assertEqual((3, 1), (len(client.pieces), len(self.clock.getDelayedCalls())))
        client.replay.pauseProducing()
        client.replay.resumeProducing()
        self.assertEqual((3, 1), (len(client.pieces), len(self.clock.getDelayedCalls())))
        client.replay.abort()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_odd_events(self) -> None:
        """Events that were written down wrong cut the octets elsewhere, and change none of them."""
        octets = bytes(range(100))
        for ends in ([50, 20, 70], [500], [10, 10, 10], [0], [100, 1, 99, 2], [2**63]):
            events = EventTimes()
            events.add(ends, 0.0)
            client = self.of(Blocks(octets), events)
            for _ in range(3):
                self.clock.advance(0)
            self.assertIn(b"".join(client.pieces), octets)
            self.assertIsNotNone(client.reason)
