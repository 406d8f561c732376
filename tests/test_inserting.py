"""Event streams into which something is put, through a whole proxy in memory."""

from __future__ import annotations

from typing import Any

from pyproxy.errors import LateRefusal
from pyproxy.policy.insertions import Asks, Insertions
from pyproxy.policy.routing import Limits
from pyproxy.relay.inserting import PING
from pyproxy.semantics.asking import MAX_ASKED_BYTES
from pyproxy.semantics.chunked import chunk
from tests.memory import MemoryTransport, Stage, StageTestCase, request, response
from tests.test_budget import EVENT, left_over

EVENTS = b"Content-Type: text/event-stream"
CHUNKED = b"Transfer-Encoding: chunked"
CHAT = request(b"POST /v1/chat/completions HTTP/1.1", b"Content-Length: 2", content=b"{}")
LIMITS = Limits(first_byte=20.0, idle=10.0)
ALL = Insertions(ping=2.0, stall=8.0, error_event=True)
WORD = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n'
DONE = b"data: [DONE]\n\n"
EARLY = Insertions(ping=2.0, early=True, error_event=True)
ASKS = Insertions(asks=Asks.AT_END)
WANTS = b'{"messages":[],"stream":true}'
ASKED = b'{"stream_options":{"include_usage":true},"messages":[],"stream":true}'


class InsertingTestCase(StageTestCase):
    """A case with a stream that is open."""

    def begin(
        self,
        *fields: bytes,
        asked: bytes = CHAT,
        content: bytes = b"",
        insertions: Insertions = ALL,
        **settings: Any,
    ) -> tuple[Stage, MemoryTransport]:
        """Open a stream."""
        scene = self.stage(limits=LIMITS, insertions=insertions, **settings)
        client = scene.client(asked)
        scene.answer(response(EVENTS, *fields, content=content))
        return scene, client

    def head_and_content(self, octets: bytes) -> tuple[bytes, bytes]:
        """Part a response."""
        head, _, content = octets.partition(b"\r\n\r\n")
        return head.lower(), content


class FramingTests(InsertingTestCase):
    """However the upstream delimits its content, and whatever the client speaks."""

    def test_chunked(self) -> None:
        """Chunks, made anew."""
        scene, client = self.begin(CHUNKED, content=chunk(WORD))
        head, content = self.head_and_content(client.take())
        self.assertIn(b"transfer-encoding: chunked", head)
        self.assertEqual(chunk(WORD), content)
        scene.network.pass_time(3.0)
        self.assertEqual(chunk(PING), client.take())
        scene.upstream.deliver(b"0\r\n\r\n")
        self.assertEqual(b"0\r\n\r\n", client.take())
        self.assertEqual(len(WORD) + len(PING), scene.logged[0].sentLength)

    def test_length(self) -> None:
        """A length that was declared holds no more."""
        scene, client = self.begin(b"Content-Length: %d" % (2 * len(WORD)), content=WORD)
        head, content = self.head_and_content(client.take())
        self.assertNotIn(b"content-length", head)
        scene.network.pass_time(3.0)
        scene.upstream.deliver(WORD)
        self.assertEqual(
            chunk(WORD) + chunk(PING) + chunk(WORD) + b"0\r\n\r\n", content + client.take()
        )

    def test_until_close(self) -> None:
        """The upstream's close is the end."""
        scene, client = self.begin(content=WORD)
        scene.network.pass_time(3.0)
        scene.upstream.lose()
        _, content = self.head_and_content(client.take())
        self.assertEqual(chunk(WORD) + chunk(PING) + b"0\r\n\r\n", content)

    def test_old_client(self) -> None:
        """One of HTTP/1.0 gets no chunks; the end of its connection is that of the content."""
        scene, client = self.begin(CHUNKED, asked=request(b"GET / HTTP/1.0"), content=chunk(WORD))
        scene.network.pass_time(3.0)
        scene.upstream.deliver(b"0\r\n\r\n")
        head, content = self.head_and_content(client.take())
        self.assertIn(b"connection: close", head)
        self.assertEqual(WORD + PING, content)

    def test_left_alone(self) -> None:
        """What is no event stream, is coded, or has no content."""
        for fields, asked in (
            ((b"Content-Encoding: gzip", b"Content-Length: 5"), CHAT),
            ((b"Content-Type: text/plain", b"Content-Length: 5"), CHAT),
            ((b"Content-Length: 5",), request(b"HEAD / HTTP/1.1")),
        ):
            scene, client = self.begin(*fields, asked=asked)
            scene.network.pass_time(5.0)
            head, content = self.head_and_content(client.take())
            self.assertIn(b"content-length: 5", head)
            self.assertEqual(b"", content, fields)

    def test_no_cycle(self) -> None:
        """What a stream made is free when it ends."""
        scene = self.stage(insertions=ALL)
        scene.site.logs = False

        def stream() -> None:
            client = scene.client(CHAT)
            scene.answer(response(EVENTS, CHUNKED, content=EVENT + b"0\r\n\r\n"))
            scene.upstream.lose()
            client.lose()

        stream()
        plain = self.stage()
        plain.site.logs = False

        def without() -> None:
            client = plain.client(CHAT)
            plain.answer(response(EVENTS, CHUNKED, content=EVENT + b"0\r\n\r\n"))
            plain.upstream.lose()
            client.lose()

        without()
        self.assertEqual(left_over(without), left_over(stream))


class LimitTests(InsertingTestCase):
    """Pings are no life of the upstream."""

    def test_idle(self) -> None:
        """The limit of silence goes on under them, also while the kernel holds the last one."""
        for held in (b"", b"x"):
            scene, client = self.begin(CHUNKED, insertions=Insertions(ping=1.0))
            scene.network.pass_time(5.0)
            client.kernel[0].send(held)
            scene.network.pass_time(7.0)
            self.assertIn(chunk(PING), client.take())
            self.assertEqual(504, scene.logged[0].error and scene.logged[0].error.status)

    def test_stall(self) -> None:
        """An upstream that sends comments alone is not waited for without end."""
        scene, client = self.begin(CHUNKED)
        for _ in range(9):
            scene.upstream.deliver(chunk(b": ka\n\n"))
            scene.network.pass_time(1.0)
        got = client.take()
        self.assertIn(b"no event came from the upstream for 8 s", got)
        self.assertFalse(got.endswith(b"0\r\n\r\n"))
        self.assertTrue(scene.upstream.lost or scene.upstream.disconnected)


class BreakTests(InsertingTestCase):
    """What a client gets of a stream that breaks off."""

    def test_dialects(self) -> None:
        """A last event as its reader knows it, and no end."""
        for target, name in (
            (b"/v1/chat/completions", b'data: {"error"'),
            (b"/v1/responses", b"event: error"),
            (b"/v1/messages", b"event: error"),
        ):
            asked = request(b"POST %b HTTP/1.1" % target, b"Content-Length: 0")
            scene, client = self.begin(CHUNKED, asked=asked)
            scene.upstream.deliver(chunk(b"data: ha"))
            scene.upstream.lose()
            scene.network.settle()
            _, got = self.head_and_content(client.take())
            self.assertIn(name, got)
            self.assertNotIn(b"data: ha", got)
            self.assertFalse(got.endswith(b"0\r\n\r\n"))
            self.assertTrue(client.half_closed or client.lost)
            self.assertIsNotNone(scene.logged[0].error)

    def test_shown_by_the_stream(self) -> None:
        """What the stream shows outranks the path."""
        asked = request(b"POST /anything HTTP/1.1", b"Content-Length: 0")
        for content, said in ((WORD, b'data: {"error"'), (b"data: 1\n\n", b"")):
            scene, client = self.begin(CHUNKED, asked=asked, content=chunk(content))
            scene.upstream.lose()
            scene.network.settle()
            _, got = self.head_and_content(client.take())
            self.assertIn(said, got)
            self.assertEqual(bool(said), b"error" in got)
            self.assertFalse(got.endswith(b"0\r\n\r\n"))

    def test_client_left(self) -> None:
        """Nobody is told, and no ping follows."""
        scene, client = self.begin(CHUNKED)
        client.lose()
        scene.network.pass_time(5.0)
        self.assertEqual(1, len(scene.logged))
        self.assertTrue(scene.logged[0].left)


def post(content: bytes, *fields: bytes, target: bytes = b"/v1/chat/completions") -> bytes:
    """Return a request with JSON."""
    return request(
        b"POST %b HTTP/1.1" % target,
        b"Content-Type: application/json",
        *(fields or (b"Content-Length: %d" % len(content),)),
        content=content,
    )


class AskTests(InsertingTestCase):
    """A usage that only the operator wants."""

    def ask(self, *pieces: bytes, insertions: Insertions = ASKS) -> tuple[Stage, MemoryTransport]:
        """Send a request in pieces."""
        scene = self.stage(insertions=insertions, limits=LIMITS)
        client = scene.client(pieces[0])
        for piece in pieces[1:]:
            client.deliver(piece)
            scene.network.settle()
        return scene, client

    def test_asked(self) -> None:
        """The upstream is asked, and the client sees nothing of it, however both are split."""
        whole = post(WANTS)
        stream = WORD + USAGE + DONE
        for pieces in ((whole,), (whole[:-9], whole[-9:]), (whole[: -len(WANTS)], WANTS)):
            scene, client = self.ask(*pieces)
            head, content = self.head_and_content(scene.upstream.take())
            self.assertEqual(ASKED, content)
            self.assertIn(b"\r\ncontent-length: %d" % len(ASKED), head)
            self.assertEqual(1, head.count(b"content-length"))
            scene.upstream.deliver(response(EVENTS, CHUNKED))
            for at in range(len(stream)):
                scene.upstream.deliver(chunk(stream[at : at + 1]))
            scene.upstream.deliver(b"0\r\n\r\n")
            _, got = self.head_and_content(client.take())
            self.assertEqual(chunk(WORD) + chunk(DONE) + b"0\r\n\r\n", got)
            self.assertEqual(len(WORD + DONE), scene.logged[0].sentLength)

    def test_continuous(self) -> None:
        """In each chunk too, where the option says so."""
        scene, _ = self.ask(post(WANTS), insertions=Insertions(asks=Asks.IN_EVERY_EVENT))
        self.assertIn(b'"continuous_usage_stats":true', scene.upstream.take())

    def test_own_wish(self) -> None:
        """Who asks gets it."""
        scene, client = self.ask(post(ASKED))
        self.assertTrue(scene.upstream.take().endswith(ASKED))
        scene.upstream.deliver(response(EVENTS, CHUNKED, content=chunk(WORD + USAGE + DONE)))
        _, got = self.head_and_content(client.take())
        # In the upstream's own chunks or ours: what is in them is the same.
        self.assertEqual(chunk(WORD + USAGE + DONE), got)

    def test_passed(self) -> None:
        """What cannot be looked into goes as it came, at once."""
        coded = chunk(WANTS) + b"0\r\n\r\n"
        large = b"Content-Length: %d" % (MAX_ASKED_BYTES + 1)
        for asked in (
            request(b"GET /v1/chat/completions HTTP/1.1"),
            post(WANTS, target=b"/v1/messages"),
            post(WANTS[:9], large),
            post(WANTS, b"Content-Length: %d" % len(WANTS), b"Content-Encoding: gzip"),
            post(coded, b"Transfer-Encoding: chunked"),
            post(b"", b"Content-Length: 9", b"Expect: 100-continue"),
        ):
            scene, client = self.ask(asked)
            got = scene.upstream.take()
            self.assertEqual(asked.partition(b"\r\n\r\n")[2], got.partition(b"\r\n\r\n")[2])
            scene.upstream.deliver(response(EVENTS, CHUNKED, content=chunk(USAGE)))
            self.assertTrue(client.take().endswith(chunk(USAGE)))

    def test_slow_content(self) -> None:
        """A client that does not send its content is not waited for without end."""
        scene, client = self.ask(post(WANTS)[:-1])
        self.assertEqual([], scene.network.opened)
        scene.network.pass_time(70.0, 0.5)
        self.assertIn(b" 408 ", client.take()[:20])

    def test_left(self) -> None:
        """A client that leaves before takes its request along."""
        scene, client = self.ask(post(WANTS)[:-1])
        client.lose()
        scene.network.pass_time(1.0)
        self.assertEqual([], scene.network.opened)
        self.assertEqual(0, scene.sweeper.watched)

    def test_whole_answer(self) -> None:
        """An answer in one piece is left alone."""
        scene, client = self.ask(post(WANTS))
        answer = response(b"Content-Type: application/json", b"Content-Length: 2", content=b"{}")
        scene.upstream.deliver(answer)
        self.assertIn(b"content-length: 2", client.take().lower())

    def test_next_request(self) -> None:
        """What was asked for one request holds for that one alone."""
        scene, client = self.ask(post(WANTS))
        scene.answer(response(EVENTS, CHUNKED, content=chunk(USAGE) + b"0\r\n\r\n"))
        client.take()
        client.deliver(post(ASKED))
        scene.network.settle()
        scene.answer(response(EVENTS, CHUNKED, content=chunk(USAGE) + b"0\r\n\r\n"))
        self.assertIn(USAGE, client.take())


class EarlyTests(InsertingTestCase):
    """A head before there is one."""

    def wait(self, asked: bytes = post(WANTS), **settings: Any) -> tuple[Stage, MemoryTransport]:
        """Ask, and let the first ping come."""
        scene = self.stage(**{"insertions": EARLY, "limits": LIMITS, **settings})
        client = scene.client(asked)
        scene.network.pass_time(1.0)
        self.assertEqual(b"", client.take())
        scene.network.pass_time(2.0)
        return scene, client

    def test_early(self) -> None:
        """The head comes with the first ping, more pings follow, then the stream's content."""
        for asked in (
            post(WANTS),
            request(b"GET /any HTTP/1.1", b"Accept: a/b, Text/Event-Stream;q=1"),
        ):
            scene, client = self.wait(asked)
            head, content = self.head_and_content(client.take())
            self.assertTrue(head.startswith(b"http/1.1 200 ok"))
            for field in (b"content-type: text/event-stream", b"date: ", b"x-accel-buffering: no"):
                self.assertIn(field, head)
            self.assertEqual(chunk(PING), content)
            scene.network.pass_time(2.0)
            self.assertEqual(chunk(PING), client.take())
            upstream = scene.upstream.take().lower()
            self.assertIn(b"\r\naccept-encoding: identity", upstream)
            scene.upstream.deliver(
                response(EVENTS, b"Content-Length: %d" % len(WORD), content=WORD)
            )
            self.assertEqual(chunk(WORD) + b"0\r\n\r\n", client.take())
            self.assertEqual(len(PING * 2 + WORD), scene.logged[0].sentLength)

    def test_in_time(self) -> None:
        """An answer before the first ping is passed as it is, whatever it says."""
        refusal = response(
            b"Content-Type: application/json",
            b"Content-Length: 2",
            status_line=b"HTTP/1.1 429 Slow Down",
            content=b"{}",
        )
        scene = self.stage(insertions=EARLY, limits=LIMITS)
        client = scene.client(post(WANTS))
        scene.answer(refusal)
        head, content = self.head_and_content(client.take())
        self.assertTrue(head.startswith(b"http/1.1 429 slow down"))
        self.assertEqual(b"{}", content)
        scene.network.pass_time(5.0)
        self.assertEqual(b"", client.take())
        client.deliver(post(WANTS))
        scene.network.settle()
        scene.answer(response(EVENTS, CHUNKED, content=chunk(WORD)))
        self.assertIn(WORD, client.take())

    def test_not_asked_for(self) -> None:
        """Who asks for no stream gets no head of one."""
        for asked in (
            post(b'{"messages":[]}'),
            request(b"GET / HTTP/1.1", b"Accept: */*"),
            request(b"HEAD / HTTP/1.1", b"Accept: text/event-stream"),
        ):
            scene, client = self.wait(asked)
            scene.network.pass_time(4.0)
            self.assertEqual(b"", client.take())

    def test_content_first(self) -> None:
        """No answer begins while its request still comes."""
        asked = request(
            b"POST / HTTP/1.1", b"Accept: text/event-stream", b"Content-Length: 2", content=b"{"
        )
        scene, client = self.wait(asked)
        self.assertEqual(b"", client.take())
        client.deliver(b"}")
        scene.network.pass_time(3.0)
        self.assertTrue(client.take().endswith(chunk(PING)))

    def test_refused_late(self) -> None:
        """What the upstream then answers becomes an event, with its own words."""
        said = b'{"error":{"message":"quota","type":"insufficient_quota","code":"q"}}'
        json_type = b"Content-Type: application/json"
        for fields, content, words in (
            ((json_type,), said, [b'"message": "quota"', b'"code": "q"']),
            ((json_type,), b"{}", [b"the upstream answered 429"]),
            ((json_type,), b"x" * 70_000, [b"the upstream answered 429"]),
            ((EVENTS, b"Content-Encoding: gzip"), b"x", [b"the upstream answered 429"]),
            ((), b"", [b"the upstream answered 429"]),
        ):
            scene, client = self.wait()
            client.take()
            length = b"Content-Length: %d" % len(content)
            line = b"HTTP/1.1 429 Too Many"
            scene.answer(response(*fields, length, status_line=line, content=content))
            got = client.take()
            for word in (b'data: {"error"', *words):
                self.assertIn(word, got)
            self.assertFalse(got.endswith(b"0\r\n\r\n"))
            self.assertTrue(client.half_closed or client.lost)
            self.assertIsInstance(scene.logged[0].error, LateRefusal)

    def test_no_answer(self) -> None:
        """A limit that is over, and an upstream that leaves."""
        scene, client = self.wait(limits=Limits(first_byte=6.0))
        scene.network.pass_time(6.0)
        self.assertIn(b"no response came from the upstream within 6 s", client.take())
        scene, client = self.wait()
        scene.upstream.lose()
        scene.network.settle()
        self.assertIn(b"before it answered", client.take())

    def test_left(self) -> None:
        """A client that leaves takes its request along."""
        scene, client = self.wait()
        client.lose()
        scene.network.pass_time(4.0)
        self.assertTrue(scene.upstream.disconnected)
        self.assertTrue(scene.logged[0].left)

    def test_no_cycle(self) -> None:
        """What was made is free when it ends."""
        scene = self.stage(insertions=EARLY, limits=LIMITS)
        scene.site.logs = False
        asked = request(b"GET / HTTP/1.1", b"Accept: text/event-stream")
        client = scene.client(asked)
        answer = response(EVENTS, CHUNKED, content=EVENT + b"0\r\n\r\n")
        scene.answer(answer)

        def stream() -> None:
            client.deliver(asked)
            scene.answer(answer)
            client.take()

        self.assertEqual(0, left_over(stream))
