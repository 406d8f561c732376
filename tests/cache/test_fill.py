"""A content on its way: to its clients at once, into the store when it is whole."""

from __future__ import annotations

from pyproxy.cache.fill import TAIL_BYTES
from pyproxy.policy.cache_policy import CachePolicy
from pyproxy.policy.routing import Limits
from tests.cache.kit import FRESH, CacheTestCase, answer, asked, bounded, caching, read, unchunked
from tests.memory import LONG, MemoryTransport, request, response

HEAD = response(FRESH, b"Content-Length: 10")
CHUNKED = response(FRESH, b"Transfer-Encoding: chunked")


def paused(transport: MemoryTransport) -> bool:
    """Tell whether nothing is read from the other end."""
    return transport.paused


class StreamTests(CacheTestCase):
    """Who asks first gets each octet as it comes."""

    def test_at_once(self) -> None:
        """The client has the first octets before the upstream has sent the last."""
        self.start()
        client = self.client(asked())
        self.answer(HEAD + b"hello")
        told = read(client.take())
        self.assertEqual(b"hello", told.content)
        self.assertEqual(b"fwd=uri-miss; fwd-status=200; stored", told.cache)
        self.assertEqual(0, self.entries)
        self.deliver(self.open[0], b"world")
        self.assertEqual(b"world", client.take())
        self.assertEqual(1, self.entries)
        again = self.get()
        self.assertEqual(b"helloworld", again.content)
        self.assertEqual(b"hit; ttl=60", again.cache)

    def test_chunks(self) -> None:
        """Each read of chunked content is a chunk for the client; it is stored without them."""
        self.start()
        client = self.client(asked())
        upstream, _ = self.question()
        self.deliver(upstream, CHUNKED + b"3\r\nabc\r\n")
        self.assertEqual((b"abc", None), unchunked(read(client.take()).content))
        self.deliver(upstream, b"2\r\nde\r\n0\r\n\r\n")
        self.assertEqual((b"de", b"\r\n"), unchunked(client.take()))
        told = self.get()
        self.assertEqual((b"abcde", b"5"), (told.content, told.fields[b"content-length"]))

    def test_trailers(self) -> None:
        """Trailers go to all who read while they come; they are not stored."""
        self.start()
        one = self.client(asked(b"TE: trailers", b"Connection: TE"))
        upstream, _ = self.question()
        self.deliver(upstream, CHUNKED + b"3\r\nabc\r\n")
        two = self.client(asked())
        self.deliver(upstream, b"0\r\nX-Sum: 1\r\n\r\n")
        for client in (one, two):
            content = read(client.take()).content
            self.assertEqual((b"abc", b"X-Sum: 1\r\n\r\n"), unchunked(content))
        self.assertNotIn(b"x-sum", self.get().fields)

    def test_until_close(self) -> None:
        """A content that ends with the upstream's connection, in order, is whole."""
        self.start()
        client = self.client(asked())
        upstream, _ = self.question()
        self.deliver(upstream, response(FRESH, content=b"abc"))
        self.leave(upstream)
        self.assertEqual((b"abc", b"\r\n"), unchunked(read(client.take()).content))
        self.assertEqual(b"abc", self.get().content)

    def test_no_content(self) -> None:
        """Neither 204 nor a length of 0 has any, from the upstream or from the store."""
        for status, length in ((b"204 No Content", b"X: 1"), (b"200 OK", b"Content-Length: 0")):
            self.start()
            octets = response(FRESH, length, status_line=b"HTTP/1.1 " + status)
            client = self.client(asked())
            self.answer(octets)
            first = client.take()
            self.deliver(client, asked())
            for told in (read(first), read(client.take())):
                self.assertEqual(status[:3], b"%d" % told.status)
                self.assertEqual((b"", b""), (told.content, told.rest))
            self.assert_asked(0)

    def test_old_client(self) -> None:
        """A client of HTTP/1.0 gets content of unknown length until the connection closes."""
        self.start()
        client = self.client(asked(minor=0))
        self.answer(CHUNKED + b"3\r\nabc\r\n0\r\n\r\n")
        told = read(client.take())
        self.assertEqual(b"abc", told.content)
        self.assertNotIn(b"transfer-encoding", told.fields)
        self.assertIsNotNone(client.lost)
        hit = self.client(asked(b"Connection: keep-alive", minor=0))
        told = read(hit.take())
        self.assertEqual((b"abc", b"keep-alive"), (told.content, told.fields[b"connection"]))
        self.assertIsNone(hit.lost)

    def test_pipelined(self) -> None:
        """Requests that come together are answered in order; the connection stays."""
        self.start()
        self.ask(answer(FRESH, content=b"one"), target=b"/1")
        targets = (b"/1", b"/2", b"/1", b"/2", b"/1")
        client = self.client(b"".join(asked(target=target) for target in targets))
        self.answer(answer(FRESH, content=b"two"))
        octets, seen = client.take(), []
        for _ in targets:
            told = read(octets)
            seen.append(told.content)
            octets = told.rest
        self.assertEqual([b"one", b"two", b"one", b"two", b"one"], seen)
        self.assertIsNone(client.lost)
        self.assertEqual(b"", octets)

    def test_large(self) -> None:
        """A content of many blocks comes out as it went in, also to a slow client."""
        self.start()
        content = LONG * 200
        client = self.client(asked())
        self.answer(answer(FRESH, content=content))
        self.assertEqual(content, self.all_of(client))
        again = self.client(asked())
        self.assertEqual(content, self.all_of(again))
        self.assert_asked(0)

    def all_of(self, client: MemoryTransport) -> bytes:
        """Return the content of a response that comes in parts."""
        return read(self.rest_of(client)).content


class LeavingTests(CacheTestCase):
    """A fetch lasts as long as somebody wants it."""

    def test_alone(self) -> None:
        """The only client leaves: nothing is stored and the upstream's connection is closed."""
        for begun in (b"", HEAD + b"hello"):
            self.start()
            client = self.client(asked())
            upstream, _ = self.question()
            self.deliver(upstream, begun)
            self.leave(client)
            self.assertIsNotNone(upstream.lost)
            self.assertEqual((0, []), (self.entries, self.fetches))
            self.assertEqual(0, self.used)

    def test_finish(self) -> None:
        """Where the operator asks for it, the fetch goes on to its end, and is stored."""
        for begun in (b"", HEAD[:20], HEAD, HEAD + b"hello"):
            self.start(cache=CachePolicy(finish=True))
            client = self.client(asked())
            upstream, _ = self.question()
            self.deliver(upstream, begun)
            self.leave(client)
            self.assertIsNone(upstream.lost)
            self.deliver(upstream, (HEAD + b"helloworld")[len(begun) :])
            self.assertEqual((1, []), (self.entries, self.fetches))
            self.assertEqual(b"helloworld", self.get().content)
            self.assertEqual(0, self.proxy._sweeper.watched - 1)

    def test_finish_in_time(self) -> None:
        """The limits hold for it too: the first octet's, and that of silence in the content."""
        for begun in (b"", HEAD + b"hello"):
            limits = Limits(first_byte=2.0, idle=2.0)
            self.start(cache=CachePolicy(finish=True), limits=limits)
            client = self.client(asked())
            upstream, _ = self.question()
            self.deliver(upstream, begun)
            self.leave(client)
            self.wait(1.0)
            self.assertIsNone(upstream.lost)
            self.wait(3.0)
            self.assertIsNotNone(upstream.lost)
            self.assertEqual((0, []), (self.entries, self.fetches))

    def test_finish_slowly(self) -> None:
        """One that moves is not too slow."""
        self.start(cache=CachePolicy(finish=True), limits=Limits(first_byte=2.0, idle=2.0))
        client = self.client(asked())
        upstream, _ = self.question()
        self.deliver(upstream, HEAD)
        self.leave(client)
        for number in range(10):
            self.wait(1.5)
            self.deliver(upstream, b"%d" % number)
        self.assertEqual(b"0123456789", self.get().content)

    def test_finish_not_stored(self) -> None:
        """What would not be stored is not finished."""
        self.start(cache=CachePolicy(finish=True))
        client = self.client(asked())
        upstream, _ = self.question()
        self.leave(client)
        self.deliver(upstream, response(b"Cache-Control: no-store", b"Content-Length: 10"))
        self.assertIsNotNone(upstream.lost)
        self.assertEqual([], self.fetches)

    def test_other_reader(self) -> None:
        """Another client gets all of it when the first leaves, whoever that is."""
        for leaves in (0, 1):
            self.start()
            clients = [self.client(asked())]
            upstream, _ = self.question()
            self.deliver(upstream, HEAD + b"hello")
            clients.append(self.client(asked()))
            self.leave(clients[leaves])
            self.deliver(upstream, b"world")
            self.assertEqual(b"helloworld", read(clients[1 - leaves].take()).content)
            self.assertEqual(b"helloworld", self.get().content)

    def test_last_reader(self) -> None:
        """It ends with the last of them."""
        self.start()
        one = self.client(asked())
        upstream, _ = self.question()
        self.deliver(upstream, HEAD + b"hello")
        two = self.client(asked())
        self.leave(one)
        self.assertIsNone(upstream.lost)
        self.leave(two)
        self.assertIsNotNone(upstream.lost)
        self.assertEqual((0, 0), (self.entries, self.used))

    def test_after_the_end(self) -> None:
        """Who still reads what has come whole keeps nobody's connection."""
        self.start()
        one, two = self.client(asked()), self.client(asked(), room=10)
        upstream, _ = self.question()
        self.deliver(upstream, HEAD + b"hello")
        self.deliver(upstream, b"world")
        self.assertEqual(b"helloworld", read(one.take()).content)
        self.leave(two)
        self.assertIsNone(upstream.lost)
        self.assertEqual(1, self.entries)


class BrokenTests(CacheTestCase):
    """A content that is not whole is not stored, and nobody takes it for whole."""

    def test_broken_off(self) -> None:
        """Shorter than its length, or without the last chunk."""
        for begun in (HEAD + b"hello", CHUNKED + b"5\r\nhello\r\n", CHUNKED + b"5\r\nhel"):
            self.start()
            clients = [self.client(asked()), self.client(asked())]
            upstream, _ = self.question()
            self.deliver(upstream, begun)
            self.leave(upstream)
            for client in clients:
                told = read(client.take())
                self.assertIn(b"hel", told.content)
                if b"content-length" not in told.fields:
                    self.assertIsNone(unchunked(told.content)[1])
                self.assertTrue(client.lost or client.disconnecting or client.half_closed)
            self.assertEqual((0, 0), (self.entries, self.used))
            self.assertEqual([], self.fetches)
            for client in clients:
                self.leave(client)

    def test_malformed(self) -> None:
        """The same for chunks that are none."""
        self.start()
        client = self.client(asked())
        upstream, _ = self.question()
        self.deliver(upstream, CHUNKED + b"5\r\nhello\r\n")
        self.deliver(upstream, b"nonsense\r\n")
        self.assertIsNone(unchunked(read(client.take()).content)[1])
        self.assertEqual((0, 0), (self.entries, self.used))
        self.assertIsNotNone(upstream.lost)

    def test_excess(self) -> None:
        """What follows a whole content is none of it; the connection is not used again."""
        self.start()
        client = self.client(asked())
        upstream, _ = self.question()
        self.deliver(upstream, HEAD + b"helloworld" + b"HTTP/1.1 200 OK\r\n\r\n")
        self.assertEqual(b"helloworld", read(client.take()).content)
        self.assertEqual(b"helloworld", self.get().content)
        self.assertIsNotNone(upstream.lost)


class BoundTests(CacheTestCase):
    """What is larger than it may be is not stored, and reaches its clients whole."""

    CONTENT = bytes(range(256)) * 1024
    PART = 32 * 1024

    def begin(self, entry: int, memory: int = 1024**2) -> None:
        """Start a proxy with bounds."""
        self.start(bounded(caching(), entry=entry, memory=memory))

    def test_known_before(self) -> None:
        """By its length: nobody waits for it, and later ones do not either."""
        self.begin(entry=100)
        clients = [self.client(asked()), self.client(asked())]
        upstream, _ = self.question()
        self.deliver(upstream, answer(FRESH, content=bytes(101)))
        told = read(clients[0].take())
        self.assertEqual(bytes(101), told.content)
        self.assertEqual(b"fwd=uri-miss; fwd-status=200; detail=no-room", told.cache)
        self.answer(answer(FRESH, content=bytes(101)))
        self.assertEqual(bytes(101), read(clients[1].take()).content)
        more = [self.client(asked()) for _ in range(3)]
        self.assert_asked(3)
        for client in more:
            self.leave(client)
        self.assertEqual((0, 0), (self.entries, self.used))

    def test_known_late(self) -> None:
        """By its octets: it goes on to who reads it, and nobody joins any more."""
        self.begin(entry=100)
        client = self.client(asked())
        upstream, _ = self.question()
        self.deliver(upstream, response(FRESH, content=bytes(60)))
        early = self.client(asked())
        self.deliver(upstream, bytes(60))
        late = self.client(asked())
        self.assertEqual(1, len(self.questions))
        self.deliver(upstream, b"end")
        self.leave(upstream)
        for one in (client, early):
            content, rest = unchunked(read(one.take()).content)
            self.assertEqual((bytes(120) + b"end", b"\r\n"), (content, rest))
        self.leave(late)
        self.assertEqual((0, 0), (self.entries, self.used))

    def test_no_memory(self) -> None:
        """The bound of everything holds for what is being fetched."""
        self.begin(entry=1024**2, memory=100_000)
        client = self.client(asked())
        upstream, _ = self.question()
        self.deliver(upstream, response(FRESH))
        content = b""
        for _ in range(20):
            self.deliver(upstream, bytes(10_000))
            self.assertLessEqual(self.used, 100_000)
            content += client.take()
        self.leave(upstream)
        content, rest = unchunked(read(content + client.take()).content)
        self.assertEqual((bytes(200_000), b"\r\n"), (content, rest))
        self.assertEqual((0, 0), (self.entries, self.used))

    def test_slow_client(self) -> None:
        """Past the bound it comes at its client's pace: the upstream is paused meanwhile."""
        self.begin(entry=100_000)
        client = self.client(asked())
        upstream, _ = self.question()
        self.deliver(upstream, response(FRESH))
        place = 0
        while not paused(upstream):
            self.deliver(upstream, self.CONTENT[place : place + self.PART])
            place += self.PART
            self.assertLess(place, 100_000 + 2 * self.PART + 1)
        self.assertGreater(place, 100_000)
        octets = b""
        while place < len(self.CONTENT):
            while paused(upstream):
                part = client.take()
                self.assertTrue(part)
                octets += part
                self.network.settle()
            self.deliver(upstream, self.CONTENT[place : place + self.PART])
            place += self.PART
        self.leave(upstream)
        self.assertEqual(
            (self.CONTENT, b"\r\n"), unchunked(read(octets + self.rest_of(client)).content)
        )
        self.assertEqual((0, 0), (self.entries, self.used))

    def test_within_the_bound(self) -> None:
        """Below it a slow client pauses nobody: the store has what it has not read yet."""
        self.begin(entry=1024**2)
        client = self.client(asked())
        upstream, _ = self.question()
        octets = answer(FRESH, content=self.CONTENT)
        for place in range(0, len(octets), self.PART):
            self.deliver(upstream, octets[place : place + self.PART])
            self.assertFalse(paused(upstream))
        self.assertEqual(1, self.entries)
        self.assertLess(len(client.value()), 3 * self.PART)
        self.assertEqual(self.CONTENT, read(self.rest_of(client)).content)

    def test_slow_among_many(self) -> None:
        """A slow reader does not slow the rest, as long as the store has room."""
        self.begin(entry=1024**2)
        slow, quick = self.client(asked()), self.client(asked())
        upstream, _ = self.question()
        head = response(FRESH, b"Content-Length: %d" % len(self.CONTENT))
        self.deliver(upstream, head)
        octets = b""
        for place in range(0, len(self.CONTENT), self.PART):
            self.deliver(upstream, self.CONTENT[place : place + self.PART])
            octets += quick.take()
        self.assertEqual(self.CONTENT, read(octets).content)
        self.assertEqual(self.CONTENT, read(self.rest_of(slow)).content)

    def test_laggard(self) -> None:
        """Past the bound one that lags by more than TAIL_BYTES is broken off, the rest goes on."""
        self.begin(entry=100_000)
        slow, quick = self.client(asked()), self.client(asked())
        upstream, _ = self.question()
        total = 4 * TAIL_BYTES
        self.deliver(upstream, response(FRESH))
        octets, gone_at = b"", None
        for place in range(0, total, self.PART):
            self.assertFalse(paused(upstream))
            self.deliver(upstream, bytes(self.PART))
            octets += quick.take()
            if gone_at is None and (slow.disconnecting or slow.half_closed):
                gone_at = place
        self.leave(upstream)
        content, rest = unchunked(read(octets + quick.take()).content)
        self.assertEqual((total, b"\r\n"), (len(content), rest))
        assert gone_at is not None
        self.assertGreater(gone_at, TAIL_BYTES)
        self.assertLess(gone_at, TAIL_BYTES + 300_000)
        self.leave(slow)
        self.assertEqual((0, 0), (self.entries, self.used))

    def test_all_slow(self) -> None:
        """Where nobody waits for more, nobody is broken off: the upstream is paused."""
        self.begin(entry=100_000)
        clients = [self.client(asked()), self.client(asked())]
        upstream, _ = self.question()
        total = 3 * TAIL_BYTES
        self.deliver(upstream, response(FRESH))
        sent = 0
        while not paused(upstream):
            self.deliver(upstream, bytes(self.PART))
            sent += self.PART
            self.assertLess(sent, 2 * TAIL_BYTES)
        parts = [b"", b""]
        while sent < total or any(client.value() for client in clients):
            for number, client in enumerate(clients):
                parts[number] += client.take()
            self.network.settle()
            if sent < total and not paused(upstream):
                self.deliver(upstream, bytes(min(self.PART, total - sent)))
                sent += self.PART
        self.leave(upstream)
        for octets, client in zip(parts, clients, strict=True):
            content, rest = unchunked(read(octets + self.rest_of(client)).content)
            self.assertEqual((total, b"\r\n"), (len(content), rest))

    def test_nobody_left(self) -> None:
        """What is not stored is fetched for nobody, also where fetches are finished."""
        config = caching(cache=CachePolicy(finish=True))
        self.start(bounded(config, entry=100, memory=1024**2))
        client = self.client(asked())
        upstream, _ = self.question()
        self.deliver(upstream, response(FRESH, content=bytes(60)))
        self.leave(client)
        self.assertIsNone(upstream.lost)
        self.deliver(upstream, bytes(60))
        self.assertIsNotNone(upstream.lost)
        self.assertEqual((0, 0, []), (self.entries, self.used, self.fetches))


class NotStoredTests(CacheTestCase):
    """What is never stored passes as without a cache."""

    def test_event_stream(self) -> None:
        """Each event reaches the client in a chunk, and nothing is stored."""
        self.start()
        client = self.client(asked())
        upstream, _ = self.question()
        head = response(FRESH, b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked")
        self.deliver(upstream, head + b"9\r\ndata: 1\n\n\r\n")
        told = read(client.take())
        self.assertEqual((b"data: 1\n\n", None), unchunked(told.content))
        self.assertIn(b"detail=event-stream", told.cache)
        self.deliver(upstream, b"9\r\ndata: 2\n\n\r\n")
        self.assertEqual((b"data: 2\n\n", None), unchunked(client.take()))
        self.deliver(upstream, b"0\r\nX-Sum: 1\r\n\r\n")
        self.assertEqual((b"", b"X-Sum: 1\r\n\r\n"), unchunked(client.take()))
        self.assertEqual((0, []), (self.entries, self.fetches))
        # The connections go on.
        self.deliver(client, asked())
        self.assert_asked(1)

    def test_chunks_that_are_not_stored(self) -> None:
        """Chunked content of a response that is not stored is in chunks for the client too."""
        self.start()
        for minor in (1, 0):
            client = self.client(asked(minor=minor))
            self.answer(response(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n")
            content = read(client.take()).content
            self.assertEqual(b"abc", unchunked(content)[0] if minor else content)

    def test_event_streams_of_many(self) -> None:
        """Nobody waits behind an open event stream."""
        self.start()
        clients = [self.client(asked()) for _ in range(3)]
        upstream, _ = self.question()
        head = response(b"Content-Type: text/event-stream") + b"data: 1\n\n"
        self.deliver(upstream, head)
        self.assert_asked(2)
        for other in self.questions:
            other.take()
            self.deliver(other, head)
        for client in clients:
            self.assertIn(b"data: 1\n\n", client.take())
        clients += [self.client(asked()), self.client(asked())]
        self.assert_asked(2)
        for client in clients:
            self.leave(client)

    def test_websocket(self) -> None:
        """An opening handshake passes; its 101 says that the cache was not asked."""
        self.start()
        client = self.client(
            request(
                b"GET / HTTP/1.1",
                b"Connection: Upgrade",
                b"Upgrade: websocket",
                b"Sec-WebSocket-Version: 13",
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            )
        )
        self.answer(
            response(
                b"Connection: Upgrade",
                b"Upgrade: websocket",
                b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
                status_line=b"HTTP/1.1 101 Switching Protocols",
            )
        )
        told = read(client.take())
        self.assertEqual((101, b"fwd=bypass; fwd-status=101"), (told.status, told.cache))
        self.deliver(client, b"\x81\x82\0\0\0\0hi")
        self.assertEqual(b"hi", self.open[0].take()[-2:])
        self.assertEqual((0, []), (self.entries, self.fetches))
        self.leave(client)
