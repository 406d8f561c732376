"""Requests as they come in: read strictly however they are cut, one after the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyproxy.ingress.incoming import (
    MAX_BEGUN_AT_ONCE,
    MAX_LINGER_BYTES,
    MAX_PIPELINED_BYTES,
)
from pyproxy.semantics.framing import CHUNKED as IN_CHUNKS
from pyproxy.semantics.framing import content_reader
from pyproxy.semantics.messages import FIRST_PIECE_BYTES, MAX_HEAD_BYTES
from tests.ingress.kit import CHUNKED, ENDLESS, ChannelTestCase
from tests.ingress.test_websocket import HANDSHAKE, SWITCHING
from tests.memory import (
    LONG,
    OK,
    MemoryTransport,
    Stage,
    cuts_around,
    in_chunks,
    request,
    response,
    splits,
    status_of,
)


class ReadingTests(ChannelTestCase):
    """Requests, however they are cut."""

    REQUESTS = (
        (request(b"GET /a?b HTTP/1.1"), b"GET /a?b HTTP/1.1|"),
        (request(b"POST / HTTP/1.1", b"Content-Length: 3", content=b"abc"), b"POST / HTTP/1.1|abc"),
        (request(b"PUT / HTTP/1.1", b"Content-Length: 0"), b"PUT / HTTP/1.1|"),
        (b"\r\n" + request(), b"GET / HTTP/1.1|"),
        (request(b"GET / HTTP/1.0"), b"GET / HTTP/1.1|"),
    )

    def test_every_split(self) -> None:
        """A request is read the same however the network cuts it."""
        for octets, expected in self.REQUESTS:
            client = self.scene.client()
            for pieces in splits(octets):
                if client.lost is not None or client.disconnecting:
                    client = self.scene.client()
                for piece in pieces:
                    client.deliver(piece)
                self.network.settle()
                self.assertEqual(expected, self.asked(), pieces)
                self.scene.answer()
                self.assertTrue(client.take().endswith(b"\r\n\r\nok"))

    def test_many_that_are_refused(self) -> None:
        """Many requests that are answered at once leave turns to others; all are answered."""
        scene = self.stage(prefix=b"/api")
        client = scene.client()
        many = 3 * MAX_BEGUN_AT_ONCE + 1
        client.deliver(request(b"GET /other HTTP/1.1") * many)
        answers = client.take().count(b"HTTP/1.1 404 ")
        self.assertEqual(MAX_BEGUN_AT_ONCE, answers)
        for _ in range(3):
            scene.network.settle()
            answers += client.take().count(b"HTTP/1.1 404 ")
        self.assertEqual(many, answers)

    def test_many_and_gone(self) -> None:
        """A client that leaves meanwhile is answered no more."""
        scene = self.stage(prefix=b"/api")
        client = scene.client()
        client.deliver(request(b"GET /other HTTP/1.1") * 3 * MAX_BEGUN_AT_ONCE)
        client.lose()
        scene.network.settle()
        self.assertEqual(MAX_BEGUN_AT_ONCE, len(scene.logged))

    def test_chunks_in_every_split(self) -> None:
        """Chunked content and its trailers arrive whole; how it is cut is the network's."""
        octets = request(
            b"POST / HTTP/1.1",
            b"Transfer-Encoding: chunked",
            content=b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\n",
        )
        client = self.scene.client()
        for pieces in splits(octets):
            for piece in pieces:
                client.deliver(piece)
            self.network.settle()
            sent = self.scene.answer()
            _, _, chunks = sent.partition(b"\r\n\r\n")
            content = b""
            while not chunks.startswith(b"0\r\n"):
                size, _, rest = chunks.partition(b"\r\n")
                content += rest[: int(size, 16)]
                chunks = rest[int(size, 16) + 2 :]
            self.assertEqual((b"abcde", b"0\r\nX-T: 1\r\n\r\n"), (content, chunks))
            client.take()

    @given(st.lists(st.sampled_from([b"/a", b"/b?c", b"//"]), min_size=1, max_size=5), st.data())
    def test_pipelined_in_any_split(self, targets: list[bytes], data: st.DataObject) -> None:
        """Requests that came together are answered one after the other, in order."""
        scene = Stage()
        octets = b"".join(
            request(b"POST %b HTTP/1.1" % target, b"Content-Length: 2", content=b"xy")
            for target in targets
        )
        cuts = sorted(data.draw(st.sets(st.integers(1, len(octets) - 1), max_size=6)))
        client = scene.client()
        for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True):
            client.deliver(octets[start:end])
        scene.network.settle()
        for target in targets:
            sent = scene.answer(response(b"X: " + target, b"Content-Length: 0"))
            self.assertTrue(sent.startswith(b"POST %b HTTP/1.1\r\n" % target))
            self.assertTrue(sent.endswith(b"\r\n\r\nxy"))
            self.assertIn(b"X: %b\r\n" % target, client.take())
        scene.close()

    def test_one_at_a_time(self) -> None:
        """The second of two pipelined requests waits for the end of the first response."""
        client = self.scene.client(request(b"GET /1 HTTP/1.1") + request(b"GET /2 HTTP/1.1"))
        self.assertEqual(b"GET /1 HTTP/1.1|", self.asked())
        self.scene.answer(CHUNKED)
        self.assertEqual(b"", self.scene.upstream.value())
        self.scene.answer(b"0\r\n\r\n")
        self.assertEqual(b"GET /2 HTTP/1.1|", self.asked())
        self.scene.answer()
        self.assertTrue(client.value().endswith(b"ok"))

    def test_the_end_of_the_head_is_enough(self) -> None:
        """Trap, twisted.web server: the exchange begins before the content has arrived."""
        client = self.scene.client(request(b"POST / HTTP/1.1", b"Content-Length: 1000000"))
        self.assertEqual(b"POST / HTTP/1.1|", self.asked())
        client.deliver(b"abc")
        self.assertEqual(b"abc", self.scene.upstream.take())

    def test_expect_is_end_to_end(self) -> None:
        """Trap, twisted.web server: the proxy never says 100 Continue by itself."""
        client = self.scene.client(
            request(b"POST / HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 3")
        )
        self.assertIn(b"Expect: 100-continue\r\n", self.scene.upstream.value())
        self.assertEqual(b"", client.value())
        self.scene.answer(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(b"HTTP/1.1 100 Continue\r\n\r\n", client.take())

    def test_forms_are_not_parsed(self) -> None:
        """Trap, twisted.web server: a form is content like any other."""
        form = request(
            b"POST / HTTP/1.1",
            b"Content-Type: application/x-www-form-urlencoded",
            b"Content-Length: 7",
            content=b"a=1&b=%",
        )
        self.scene.client(form)
        self.assertEqual(b"POST / HTTP/1.1|a=1&b=%", self.asked())

    def test_method_case(self) -> None:
        """Trap, treq: a method is not upper-cased; extension methods pass."""
        for method in (b"get", b"PURGE", b"x!#$%&'*+-.^_`|~9"):
            self.scene.client(request(method + b" / HTTP/1.1"))
            self.assertTrue(self.asked().startswith(method + b" / "))


class InPlaceTests(ChannelTestCase):
    """Reads of a plain socket come as views, and their place is used again at once."""

    END = b"0\r\nX-T: 1\r\n\r\n"
    FAT = b"X: " + b"x" * FIRST_PIECE_BYTES

    # The fields, and what follows the head.
    REQUESTS = (
        ((b"Content-Length: %d" % len(LONG),), LONG),
        ((b"Transfer-Encoding: chunked",), in_chunks(LONG, len(LONG)) + END),
        ((b"Transfer-Encoding: chunked",), in_chunks(LONG, 700) + END),
        ((FAT, b"Content-Length: %d" % len(LONG)), LONG),
        ((FAT, b"Transfer-Encoding: chunked"), in_chunks(LONG, 5000) + END),
    )

    def posted(self, scene: Stage) -> bytes:
        """Return the content of the request that the upstream was sent."""
        head, _, octets = scene.upstream.take().partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"POST / HTTP/1.1\r\n"))
        if b"chunked" not in head:
            return octets
        reader = content_reader(IN_CHUNKS)
        content = bytes(reader.feed(octets))
        self.assertEqual((True, b""), (reader.complete, reader.excess))
        self.assertEqual([(b"X-T", b"1")], reader.trailers)
        return content

    def deliver(self, client: MemoryTransport, pieces: tuple[bytes, ...]) -> None:
        """Let pieces arrive, each in a turn of its own."""
        for piece in pieces:
            self.assertFalse(client.paused)
            client.deliver_in_place(piece)
            self.network.settle()

    def test_every_border(self) -> None:
        """Head and content arrive whole, however they are cut, and nothing keeps a view."""
        for fields, rest in self.REQUESTS:
            head = request(b"POST / HTTP/1.1", *fields)
            whole = len(head) + len(rest)
            borders = len(head), FIRST_PIECE_BYTES, len(head) + FIRST_PIECE_BYTES, whole
            kept = self.scene.client()
            for pieces in cuts_around(head + rest, *borders):
                self.deliver(kept, pieces)
                self.assertEqual(LONG, self.posted(self.scene), [len(piece) for piece in pieces])
                self.scene.answer()
                self.assertEqual(OK, kept.take())

    def test_no_connection_yet(self) -> None:
        """The same when the upstream's connection has to be opened first."""
        for fields, rest in self.REQUESTS:
            head = request(b"POST / HTTP/1.1", *fields)
            for pieces in cuts_around(head + rest, len(head), len(head) + len(rest), reach=2):
                scene = self.stage()
                self.scene, self.network = scene, scene.network
                client = scene.client()
                self.deliver(client, pieces)
                self.assertEqual(LONG, self.posted(scene))
                scene.answer()
                self.assertEqual(OK, client.take())

    def test_while_a_connection_is_opened(self) -> None:
        """What came with the head waits, copied, and the socket is not read meanwhile."""
        del self.network.listening[9000]
        client = self.scene.client()
        head = request(b"POST / HTTP/1.1", b"Content-Length: %d" % (2 * len(LONG)))
        client.deliver_in_place(head + LONG)
        self.assertTrue(client.paused)

    def test_pipelined(self) -> None:
        """Requests behind content in the same read are answered in their order."""
        first = request(b"POST / HTTP/1.1", b"Content-Length: %d" % len(LONG), content=LONG)
        chunks = in_chunks(LONG, 5000) + self.END
        second = request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", content=chunks)
        last = request(b"GET /last HTTP/1.1")
        octets = first + second + last
        borders = len(first), len(first) + len(second), len(octets)
        client = self.scene.client()
        for pieces in cuts_around(octets, *borders):
            self.deliver(client, pieces)
            for _ in range(2):
                self.assertEqual(LONG, self.posted(self.scene))
                self.scene.answer()
            self.assertEqual(b"GET /last HTTP/1.1|", self.asked())
            self.scene.answer()
            self.assertEqual(3 * OK, client.take())

    def test_content_without_an_end_of_the_head_before(self) -> None:
        """Empty lines in content are content, also where a head was cut before its last octets."""
        content = b"\r\n\r\n" * FIRST_PIECE_BYTES
        head = request(b"POST / HTTP/1.1", b"Content-Length: %d" % len(content))
        client = self.scene.client()
        for pieces in cuts_around(head + content, len(head)):
            self.deliver(client, pieces)
            self.assertEqual(content, self.posted(self.scene))
            self.scene.answer()
            self.assertEqual(OK, client.take())

    def test_empty_lines_before(self) -> None:
        """Empty lines before a request are skipped in a large read too (RFC 9112 2.2)."""
        octets = request(b"POST / HTTP/1.1", b"Content-Length: %d" % len(LONG), content=LONG)
        client = self.scene.client()
        for lines in (1, 2, 3):
            self.deliver(client, (b"\r\n" * lines + octets,))
            self.assertEqual(LONG, self.posted(self.scene))
            self.scene.answer()
            self.assertEqual(OK, client.take())

    def test_refused(self) -> None:
        """What is no request gets its answer, however large the read it comes in."""
        for octets, status in (
            (LONG, 400),
            (request(b"GET  / HTTP/1.1", content=LONG), 400),
            (request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", content=b"x" + LONG), 400),
            (request(b"GET / HTTP/1.1", b"X: " + b"a" * MAX_HEAD_BYTES), 431),
            (request(b"GET /" + b"a" * 40000 + b" HTTP/1.1"), 414),
        ):
            client = self.scene.client()
            client.deliver_in_place(octets)
            self.network.settle()
            self.assertEqual(status, status_of(client.take()), octets[:40])
            client.deliver_in_place(request() + LONG)
            self.network.settle()
            self.assertEqual(b"", client.take())
        self.assertEqual([], self.network.opened)

    def test_responses(self) -> None:
        """Content reaches the client whole, read by read, however the upstream's are cut."""
        hints = response(b"Link: a", status_line=b"HTTP/1.1 103 Early Hints")
        length = response(b"Content-Length: %d" % len(LONG))
        for head, rest in (
            (length, LONG),
            (hints + length, LONG),
            (CHUNKED, in_chunks(LONG, len(LONG)) + self.END),
        ):
            for pieces in cuts_around(head + rest, len(head), len(head) + len(rest)):
                client = self.scene.client(request())
                for piece in pieces:
                    self.scene.upstream.deliver_in_place(piece)
                told, _, octets = client.take().partition(b"\r\n\r\n")
                if head.startswith(hints):
                    self.assertEqual(hints[:-4], told)
                    told, _, octets = octets.partition(b"\r\n\r\n")
                if head is CHUNKED:
                    reader = content_reader(IN_CHUNKS)
                    octets = bytes(reader.feed(octets))
                    self.assertEqual([(b"X-T", b"1")], reader.trailers)
                self.assertEqual(LONG, octets)
                self.assertIsNone(client.lost)
        self.assertEqual(1, len(self.network.opened))

    def test_slow_client(self) -> None:
        """A client that does not read stops the upstream's socket, and misses nothing."""
        client = self.scene.client(request(), room=1000)
        self.scene.upstream.take()
        self.scene.upstream.deliver_in_place(response(b"Content-Length: %d" % (2 * len(LONG))))
        self.scene.upstream.deliver_in_place(LONG)
        self.assertTrue(self.scene.upstream.paused)
        self.assertTrue(client.take().endswith(LONG))
        self.assertFalse(self.scene.upstream.paused)
        self.scene.upstream.deliver_in_place(LONG)
        self.assertEqual(LONG, client.take())

    def test_slow_upstream(self) -> None:
        """An upstream that does not read stops the client's socket, and misses nothing."""
        self.network.room = 1000
        client = self.scene.client(
            request(b"POST / HTTP/1.1", b"Content-Length: %d" % (2 * len(LONG)))
        )
        client.deliver_in_place(LONG)
        self.assertTrue(client.paused)
        self.assertTrue(self.scene.upstream.take().endswith(LONG))
        self.assertFalse(client.paused)
        client.deliver_in_place(LONG)
        self.assertEqual(LONG, self.scene.upstream.take())

    def test_behind_a_handshake(self) -> None:
        """What a client sends behind its opening handshake is kept for the WebSocket."""
        behind = b"\x81\xfe\x30\x00\0\0\0\0" + LONG
        client = self.scene.client()
        client.deliver_in_place(HANDSHAKE + behind)
        self.network.settle()
        self.scene.upstream.take()
        self.scene.upstream.deliver_in_place(SWITCHING + LONG)
        self.assertTrue(client.take().endswith(LONG))
        self.assertEqual(behind, self.scene.upstream.take())


class RefusalTests(ChannelTestCase):
    """What is no request is answered and ends the connection."""

    TABLE = (
        (b"GET /\r\n\r\n", 400),
        (request(b"GET  / HTTP/1.1"), 400),
        (request(b"GET / HTTP/2.0"), 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (request(b"GET / HTTP/1.1", b"Host: other"), 400),
        (request(b"GET / HTTP/1.1", b"X : y"), 400),
        (b"GET / HTTP/1.1\nHost: h\n\n", 400),
        (request(b"GET / HTTP/1.1", b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400),
        (request(b"GET / HTTP/1.1", b"Transfer-Encoding: gzip, chunked"), 501),
        (request(b"GET / HTTP/1.1", b"Transfer-Encoding: chunked, gzip"), 400),
        (request(b"GET / HTTP/1.1", b"Connection: content-length", b"Content-Length: 0"), 400),
        (request(b"GET /" + b"a" * 40000 + b" HTTP/1.1"), 414),
        (request(b"GET / HTTP/1.1", b"X: " + b"a" * 70000), 431),
    )

    def test_table(self) -> None:
        """The status, nothing to the upstream, and the end; behind a good request too."""
        for octets, status in self.TABLE:
            for before in (b"", request()):
                scene = self.stage()
                client = scene.client(before + octets)
                if before:
                    scene.answer()
                    self.assertTrue(client.value().startswith(OK))
                    client.deliver(b"")
                told = client.take().removeprefix(OK if before else b"")
                self.assertEqual(status, status_of(told), octets[:60])
                self.assertIn(b"Connection: close\r\n", told)
                self.assertEqual(bool(before), bool(scene.network.opened))
                client.deliver(request())
                scene.network.settle()
                self.assertEqual(b"", client.value())

    def test_refused_in_the_content(self) -> None:
        """A bad chunk ends the exchange on both sides."""
        client = self.scene.client(
            request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", content=b"3\r\nabc\r\n")
        )
        client.deliver(b"xyz\r\n")
        self.network.settle()
        self.assertEqual(400, status_of(client.value()))
        self.assertIsNotNone(self.scene.upstream.lost)
        self.assertNotIn(b"\r\n0\r\n", self.scene.upstream.value())

    def test_lingering_is_bounded(self) -> None:
        """A client that sends without end is cut off."""
        client = self.scene.client(ENDLESS)
        piece = bytes(MAX_LINGER_BYTES // 16)
        for _ in range(17):
            client.deliver(piece)
        self.network.settle()
        self.assertIsNotNone(client.lost)


class FlowTests(ChannelTestCase):
    """Who may stop the reading of requests."""

    def test_slow_upstream(self) -> None:
        """An upstream that does not read stops the client's socket."""
        self.network.room = 1000
        client = self.scene.client(request(b"POST / HTTP/1.1", b"Content-Length: 100000"))
        client.deliver(bytes(2000))
        self.assertEqual("paused", client.producerState)
        self.scene.upstream.take()
        self.assertEqual("producing", client.producerState)

    def test_no_upstream_yet(self) -> None:
        """While the connection is opened one read of content waits, and no more is read."""
        del self.network.listening[9000]
        client = self.scene.client(request(b"POST / HTTP/1.1", b"Content-Length: 100000"))
        self.assertEqual("producing", client.producerState)
        client.deliver(bytes(2000))
        self.assertEqual("paused", client.producerState)

    def test_pipeline(self) -> None:
        """Octets of later requests are read up to a bound, and never more than a read past it."""
        client = self.scene.client(request())
        client.deliver(request() * (MAX_PIPELINED_BYTES // len(request())))
        self.assertEqual("producing", client.producerState)
        client.deliver(request() * 3)
        self.assertEqual("paused", client.producerState)


class AcknowledgingTests(ChannelTestCase):
    """What leaves a request unfinished is acknowledged at once: the rest may wait for that."""

    SIZED = request(b"POST / HTTP/1.1", b"Content-Length: 9")
    CODED = request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked")

    def told(self, *pieces: bytes) -> list[int]:
        """Let a request arrive in pieces; return how often the socket was told after each."""
        client = self.scene.client()
        after = []
        for piece in pieces:
            client.deliver(piece)
            self.network.settle()
            after.append(len(client.socket.told))
            client.socket.told.clear()
        self.assertTrue(self.scene.answer())
        self.assertTrue(client.take())
        return after

    def test_whole(self) -> None:
        """A read that ends a request costs nothing more, and so does one between two."""
        for pieces in (
            (request(), request()),
            (self.SIZED + b"123456789",),
            (self.CODED + b"1\r\na\r\n0\r\n\r\n",),
            (b"\r\n" + request(),),
        ):
            self.assertEqual([0] * len(pieces), self.told(*pieces), pieces)

    def test_unfinished(self) -> None:
        """Each read that leaves a head, or content of a known length, unfinished."""
        for pieces, expected in (
            ((request()[:9], request()[9:]), [1, 0]),
            ((self.SIZED, b"123456789"), [1, 0]),
            ((self.SIZED + b"123", b"456", b"789"), [1, 1, 0]),
            ((self.CODED, b"5\r\nab", b"cde\r\n", b"0\r\n\r\n"), [1, 1, 0, 0]),
        ):
            self.assertEqual(expected, self.told(*pieces), pieces)
