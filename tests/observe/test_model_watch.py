"""What a model answers, watched on its way through a proxy in memory."""

from __future__ import annotations

import gzip
import json
from typing import Any

from pyproxy.account import Account
from pyproxy.observe.model_watch import MAX_JSON_BYTES, EventWatch, watch
from pyproxy.policy.cache_policy import CachePolicy, PostPolicy
from pyproxy.semantics.messages import ResponseHead
from tests.accounting import keep
from tests.cache.kit import FRESH, CacheTestCase, answer
from tests.memory import MemoryTransport, Stage, StageTestCase, in_chunks, request, response
from tests.semantics import answers
from tests.semantics.answers import STREAMS, WHOLE, Answer, Event, written

TYPE = b"Content-Type: text/event-stream"
CHUNKS = b"Transfer-Encoding: chunked"
JSON = b"Content-Type: application/json"
END = b"0\r\n\r\n"


def event(name: bytes, data: bytes) -> bytes:
    """Return the octets of an event."""
    lines = b"".join(b"data: %b\n" % line for line in data.split(b"\n"))
    return (b"event: %b\n" % name if name else b"") + lines + b"\n"


def stream(events: list[Event], **style: Any) -> list[bytes]:
    """Return the events of an answer as octets."""
    return [event(name, written(data, **style)) for name, data in events]


class WatchTestCase(StageTestCase):
    """A case with a route that is watched."""

    def setUp(self) -> None:
        """Set the stage."""
        self.scene: Stage = self.stage(usage=True)
        self.network = self.scene.network
        self.accounts, self.closed = keep(self.scene.site)

    def open(self, *fields: bytes, asked: bytes = request()) -> MemoryTransport:
        """Ask, and answer with a head; return the client with that taken."""
        client = self.scene.client(asked)
        self.scene.answer(response(*fields))
        self.head, _, rest = client.take().partition(b"\r\n\r\n")
        self.assertEqual(b"", rest)
        return client

    def wait(self) -> float:
        """Let a second go by; return the time."""
        self.network.pass_time(1.0, 0.5)
        return self.network.seconds()

    def send(self, octets: bytes) -> None:
        """Let the upstream send octets in one chunk."""
        self.scene.upstream.deliver(in_chunks(octets, len(octets)))

    def last(self) -> Account:
        """Return the account that was closed last."""
        self.network.settle()
        self.assertEqual({}, self.accounts.open)
        return self.closed[-1]

    def watched(self, events: list[bytes], *fields: bytes, end: bytes = END) -> Account:
        """Return the account of a stream."""
        client = self.open(*(fields or (TYPE,)), CHUNKS)
        for one in events:
            self.send(one)
        self.scene.upstream.deliver(end)
        whole = b"".join(events)
        self.assertEqual(b"".join(in_chunks(one, len(one)) for one in events) + end, client.take())
        self.assertEqual(len(whole), self.last().sent)
        return self.last()

    def assert_read(self, account: Account, read: Answer) -> None:
        """Check what was read of a whole answer."""
        self.assertEqual(
            (read.dialect, read.model, read.usage, "ended", ""),
            (account.dialect, account.model, account.usage, account.outcome, account.closed_by),
        )
        self.assertEqual(len(read.events), account.events)
        self.assertEqual(len(read.said), account.output_events)


class StreamTests(WatchTestCase):
    """Event streams."""

    def test_dialects(self) -> None:
        """Each dialect, whatever is sent at once; the client gets the same octets."""
        for read in STREAMS:
            if read.dialect != "ollama":
                events = stream(read.events)
                self.assert_read(self.watched(events), read)
                self.assert_read(self.watched([b"".join(events)]), read)
                self.assert_read(self.watched([b": ping\n\n", *events]), read)
                self.assertEqual(1, self.last().comments)

    def test_times(self) -> None:
        """When the model began to speak, and when it last did."""
        self.open(TYPE, CHUNKS)
        times = {}
        for number, octets in enumerate(stream(answers.CHAT.events)):
            times[number] = self.wait()
            self.send(octets)
            (account,) = self.accounts.open.values()
            self.assertEqual(number + 1, account.events)
        self.assertEqual("gpt-4.1-mini", account.model)
        over = self.wait()
        self.scene.upstream.deliver(END)
        said = sorted(answers.CHAT.said)
        account = self.last()
        self.assertEqual(
            (times[said[0]], times[said[-1]], times[0], times[number], over),
            (
                account.first_token,
                account.last_token,
                account.first,
                account.last,
                account.ended,
            ),
        )

    def test_split(self) -> None:
        """Events in parts are the same."""
        octets = b"".join(stream(answers.ANTHROPIC.events))
        self.assert_read(
            self.watched([octets[at : at + 7] for at in range(0, len(octets), 7)]),
            answers.ANTHROPIC,
        )

    def test_framings(self) -> None:
        """With a length, or to the end of the connection, and for an old client."""
        octets = b"".join(stream(answers.CHAT.events))
        client = self.open(TYPE, b"Content-Length: %d" % len(octets))
        self.scene.upstream.deliver(octets)
        self.assertEqual(octets, client.take())
        self.assert_read(self.last(), answers.CHAT)
        client = self.open(TYPE)
        self.scene.upstream.deliver(octets)
        self.scene.upstream.lose()
        self.assertEqual(in_chunks(octets, len(octets)) + END, client.take())
        self.assert_read(self.last(), answers.CHAT)
        client = self.open(TYPE, CHUNKS, asked=request(b"GET / HTTP/1.0"))
        self.send(octets)
        self.scene.upstream.deliver(END)
        self.assertEqual(octets, client.take())
        self.assert_read(self.last(), answers.CHAT)

    def test_trailers(self) -> None:
        """They pass."""
        events = stream(answers.CHAT.events)
        self.assert_read(self.watched(events, end=b"0\r\nX-Sum: 1\r\n\r\n"), answers.CHAT)

    def test_quiet_failures(self) -> None:
        """What looks like success and is none."""
        events = stream(answers.CHAT.events)
        failed = event(b"", b'{"error":{"message":"overloaded","code":503}}')
        for part, outcome in (
            (events[:-1], "truncated"),
            (events[:2], "truncated"),
            ([b": hello\n\n"], "empty"),
            ([events[-1]], "empty"),
            ([failed], "failed"),
            ([*events[:2], failed], "failed"),
        ):
            account = self.watched(part)
            self.assertEqual(
                (outcome, "", 200), (account.outcome, account.closed_by, account.status)
            )

    def test_nothing(self) -> None:
        """A stream that ends at once is empty."""
        self.open(TYPE, CHUNKS)
        self.scene.upstream.deliver(END)
        self.assertEqual(("empty", 0), (self.last().outcome, self.last().events))

    def test_unknown_dialect(self) -> None:
        """Its events are counted, and nothing is said of a model."""
        account = self.watched([event(b"tick", b"%d" % number) for number in range(20)])
        self.assertEqual(
            ("ended", 20, 0, None, None),
            (
                account.outcome,
                account.events,
                account.output_events,
                account.dialect,
                account.usage,
            ),
        )

    def test_cancelled(self) -> None:
        """A client that leaves: what was read so far stands, and nobody calls that truncated."""
        read = answers.ANTHROPIC
        start = [name for name, _ in read.events].index(b"message_start")
        for count in range(len(read.events) + 1):
            client = self.open(TYPE, CHUNKS)
            for octets in stream(read.events)[:count]:
                self.send(octets)
            client.lose()
            account = self.last()
            whole = count == len(read.events)
            self.assertEqual(
                ("client", count, "ended" if whole else ""),
                (account.closed_by, account.events, account.outcome),
            )
            if count > start:
                assert account.usage is not None
                self.assertEqual(read.usage.input_tokens, account.usage.input_tokens)

    def test_broken(self) -> None:
        """An upstream that leaves: the stream is truncated, unless it had said its last."""
        read = answers.CHAT
        for count in range(len(read.events) + 1):
            client = self.open(TYPE, CHUNKS)
            for octets in stream(read.events)[:count]:
                self.send(octets)
            self.scene.upstream.lose()
            whole = count == len(read.events)
            account = self.last()
            self.assertEqual(
                ("upstream", "http_response_incomplete", "ended" if whole else "truncated"),
                (account.closed_by, account.error, account.outcome),
            )
            self.assertFalse(client.take().endswith(END))

    def test_limit(self) -> None:
        """The proxy's own limit truncates it, too."""
        self.open(TYPE, CHUNKS)
        self.send(stream(answers.CHAT.events)[0])
        self.network.pass_time(400, 5.0)
        account = self.last()
        self.assertEqual(("proxy", "truncated"), (account.closed_by, account.outcome))


class JsonTests(WatchTestCase):
    """Answers that are no event streams."""

    def test_whole(self) -> None:
        """A JSON answer is read at its end."""
        for content, dialect, model, usage in WHOLE:
            octets = written(content)
            for size in (len(octets), 9):
                pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
                account = self.watched(pieces, JSON + b"; charset=utf-8")
                self.assertEqual(
                    (dialect, model, usage, "ended"),
                    (
                        account.dialect,
                        account.model,
                        account.usage,
                        account.outcome,
                    ),
                )
                self.assertEqual(isinstance(content, list), account.first_token is not None)

    def test_other_json(self) -> None:
        """What is no answer of a model: nothing is said of it."""
        for octets in (b"{}", b"[1,2]", b'[{"a":1}]', b"7", b"{", b" ", b'{"usage":7}'):
            account = self.watched([octets], JSON)
            self.assertEqual(
                ("", None, None, 0), (account.outcome, account.model, account.usage, account.events)
            )

    def test_error(self) -> None:
        """An error in a 200."""
        account = self.watched([b'{"error":{"message":"no"}}'], JSON)
        self.assertEqual("failed", account.outcome)

    def test_bound(self) -> None:
        """Up to its bound an answer is read, and not beyond."""
        content: dict[str, Any] = {"model": "m", "choices": [{"message": {"content": ""}}]}
        content["usage"] = {"prompt_tokens": 1, "completion_tokens": 2}
        size = len(json.dumps(content))
        for more, model in ((0, "m"), (1, None)):
            content["choices"] = [{"message": {"content": "x" * (MAX_JSON_BYTES - size + more)}}]
            octets = json.dumps(content).encode()
            self.assertEqual(MAX_JSON_BYTES + more, len(octets))
            half = len(octets) // 2
            account = self.watched([octets[:half], octets[half:]], JSON)
            self.assertEqual(model, account.model)

    def test_broken(self) -> None:
        """A part of an answer is none."""
        octets = written(WHOLE[0][0])
        self.open(JSON, b"Content-Length: %d" % len(octets))
        self.scene.upstream.deliver(octets[:-1])
        self.scene.upstream.lose()
        self.assertEqual((None, "upstream"), (self.last().model, self.last().closed_by))

    def test_lines(self) -> None:
        """Ollama's lines; the last one may have no end."""
        for read in STREAMS:
            if read.dialect == "ollama":
                lines = [written(data) + b"\n" for _, data in read.events]
                self.assert_read(self.watched(lines, b"Content-Type: application/x-ndjson"), read)
                lines[-1] = lines[-1].rstrip()
                account = self.watched(lines, b"Content-Type: application/x-ndjson")
                self.assert_read(account, read)
                self.assertIsNotNone(account.first_token)
        account = self.watched(lines[:-1], b"Content-Type: application/x-ndjson")
        self.assertEqual("truncated", account.outcome)

    def test_array(self) -> None:
        """Gemini's array, item by item."""
        read = answers.GEMINI
        items = [written(data) for _, data in read.events]
        pieces = [b"[" + items[0], *(b",\r\n" + item for item in items[1:]), b"]"]
        account = self.watched(pieces, JSON)
        self.assert_read(account, read)
        self.assertIsNotNone(account.first_token)
        self.assert_read(self.watched([b" ", *pieces], JSON), read)

    def test_unknown_lines(self) -> None:
        """Lines that nobody knows are not looked at for long."""
        lines = [b'{"n":%d}\n' % number for number in range(20)]
        account = self.watched(lines, b"Content-Type: application/x-ndjson")
        self.assertEqual(("", None), (account.outcome, account.dialect))


class WhatIsWatchedTests(WatchTestCase):
    """What is looked at, and what is not."""

    def test_heads(self) -> None:
        """By the head of the response."""
        events = (b"Content-Type", b"text/event-stream; charset=utf-8")
        for status, fields, watched in (
            (200, [events], True),
            (201, [events, (b"Content-Encoding", b"identity")], True),
            (200, [(b"Content-Type", b"Application/JSON")], True),
            (200, [(b"Content-Type", b"application/vnd.api+json")], True),
            (200, [events, (b"Content-Encoding", b"gzip")], False),
            (200, [events, (b"Content-Encoding", b"identity, br")], False),
            (200, [events, events], False),
            (200, [(b"Content-Type", b"text/html")], False),
            (200, [], False),
            (204, [events], False),
            (206, [events], False),
            (304, [events], False),
            (429, [events], False),
            (503, [events], False),
        ):
            head = ResponseHead(status, b"", 1, fields)
            found = watch(Account(1, "", float, print, 0.0), head)
            self.assertIs(watched, found is not None, (status, fields))

    def test_coded(self) -> None:
        """Content in a coding passes as it is, and nothing is said of it."""
        octets = gzip.compress(b"".join(stream(answers.CHAT.events)))
        account = self.watched([octets], TYPE, b"Content-Encoding: gzip")
        self.assertEqual(("", 0, None), (account.outcome, account.events, account.model))

    def test_head_request(self) -> None:
        """The answer to HEAD has no content to look at."""
        self.scene.client(request(b"HEAD / HTTP/1.1"))
        self.scene.answer(response(TYPE, b"Content-Length: 0"))
        self.assertEqual("", self.last().outcome)

    def test_not_asked_for(self) -> None:
        """A route that does not ask is not watched, and its chunks stay as they are."""
        self.scene = self.stage()
        self.network = self.scene.network
        self.accounts, self.closed = keep(self.scene.site)
        client = self.open(TYPE, CHUNKS)
        two = in_chunks(b"data: x\n\n", 5)
        self.scene.upstream.deliver(two + END)
        self.assertEqual(two + END, client.take())
        self.assertEqual(("", 0), (self.last().outcome, self.last().events))

    def test_slow_client(self) -> None:
        """What is watched is held back as everything is."""
        client = self.scene.client(request(), room=8)
        self.scene.answer(response(TYPE, CHUNKS))
        self.send(stream(answers.CHAT.events)[0])
        self.assertTrue(self.scene.upstream.paused)
        while client.take():
            self.network.settle()
        self.assertFalse(self.scene.upstream.paused)


class Defect(Exception):
    """What should not happen."""


class FailingTests(WatchTestCase):
    """A watcher that fails ends alone."""

    def check(self, part: str, failing: Any) -> None:
        """Check that a stream goes on, and that the defect is logged once."""
        self.patch(EventWatch, part, failing)
        events = stream(answers.CHAT.events)
        account = self.watched(events)
        self.assertEqual((200, ""), (account.status, account.closed_by))
        self.assertEqual(1, len(self.flushLoggedErrors(Defect)))

    def test_feed(self) -> None:
        """In the middle."""

        def feed(watcher: EventWatch, octets: bytes, now: float) -> bool:
            raise Defect

        self.check("feed", feed)

    def test_close(self) -> None:
        """At the end."""

        def close(watcher: EventWatch, whole: bool, left: bool) -> None:
            raise Defect

        self.check("close", close)

    def test_order(self) -> None:
        """The client has the octets before the watcher does."""
        client = self.open(TYPE, CHUNKS)
        seen: list[bytes] = []

        def feed(watcher: EventWatch, octets: bytes, now: float) -> bool:
            seen.append(client.take())
            return True

        self.patch(EventWatch, "feed", feed)
        self.send(b"data: x\n\n")
        self.assertEqual([in_chunks(b"data: x\n\n", 9)], seen)


class CacheTests(CacheTestCase):
    """What comes out of a cache is watched like what goes in."""

    def test_hit(self) -> None:
        """A stored answer, from the upstream and from the cache, in either way."""
        self.start(usage=True)
        _, closed = keep(self.proxy.site)
        content, dialect, _, usage = WHOLE[0]
        self.ask(answer(FRESH, JSON, content=written(content)))
        self.get()
        self.get()
        self.assertEqual(["uri-miss", "hit", "hit"], [account.cache for account in closed])
        for account in closed:
            self.assertEqual(
                (dialect, usage, "ended"), (account.dialect, account.usage, account.outcome)
            )

    def test_replay(self) -> None:
        """A stored event stream, replayed."""
        policy = CachePolicy(post=PostPolicy(60, events=True))
        self.start(usage=True, cache=policy)
        _, closed = keep(self.proxy.site)
        octets = b"".join(stream(answers.CHAT.events))
        asked = request(b"POST / HTTP/1.1", b"Content-Length: 2", content=b"{}")
        first = self.client(asked)
        self.answer(response(TYPE, CHUNKS, content=in_chunks(octets, 100) + END))
        self.rest_of(first)
        again = self.client(asked)
        self.assertIn(b"data: [DONE]", self.rest_of(again))
        self.assertEqual(["uri-miss", "hit"], [account.cache for account in closed])
        for account in closed:
            self.assertEqual((answers.CHAT.usage, "ended"), (account.usage, account.outcome))

    def test_passed(self) -> None:
        """What the cache lets pass comes without its coding, too."""
        self.start(usage=True)
        _, closed = keep(self.proxy.site)
        octets = b"".join(stream(answers.CHAT.events))
        client = self.client(request(b"POST / HTTP/1.1", b"Content-Length: 0"))
        self.answer(response(TYPE, CHUNKS, content=in_chunks(octets, 100) + END))
        self.assertTrue(client.take().endswith(in_chunks(octets, len(octets)) + END))
        self.assertEqual(answers.CHAT.usage, closed[0].usage)
