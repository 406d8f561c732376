"""Bodies pass both ways, piece by piece, with the framing that each side needs."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable

from tests.live.kit import (
    LAST_CHUNK,
    PATIENCE,
    Closed,
    LiveTestCase,
    Wire,
    answer,
    answer_and_close,
    chunk,
    eventually,
    request,
)


class RequestBodyTests(LiveTestCase):
    """Content on its way to the upstream."""

    def test_content_length(self) -> None:
        """A body with Content-Length keeps it (RFC 9112 6.2)."""
        body = bytes(range(256)) * 1000
        response = self.ask(
            b"POST /up HTTP/1.1",
            b"Content-Length: %d" % len(body),
            b"X-After: 1",
            body=body,
        )
        self.assertEqual(response.status, 200)
        self.assertEqual(self.upstream.request.value(b"content-length"), b"%d" % len(body))
        self.assertEqual(self.upstream.request.values(b"transfer-encoding"), [])
        self.assertEqual(self.upstream.bodies, [body])

    def test_empty_content_length(self) -> None:
        """``Content-Length: 0`` is kept, and its absence is kept too (RFC 9110 8.6)."""
        self.ask(b"POST / HTTP/1.1", b"Content-Length: 0")
        self.ask(b"POST / HTTP/1.1")
        self.assertEqual(
            [head.values(b"content-length") for head in self.upstream.requests],
            [[b"0"], []],
        )
        for head in self.upstream.requests:
            self.assertEqual(head.values(b"transfer-encoding"), [])

    def test_chunked(self) -> None:
        """A chunked body goes on chunked, with every octet (RFC 9112 7.1)."""
        pieces = [b"a", b"\r\n0\r\n\r\n", bytes(70000), b"end"]
        body = b"".join(map(chunk, pieces)) + LAST_CHUNK
        response = self.ask(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", body=body)
        self.assertEqual(response.status, 200)
        self.assertTrue(self.upstream.request.chunked)
        self.assertEqual(self.upstream.request.values(b"content-length"), [])
        self.assertEqual(self.upstream.bodies, [b"".join(pieces)])

    def test_chunk_spelling(self) -> None:
        """Upper-case and zero-led sizes and chunk extensions are understood (RFC 9112 7.1.1)."""
        body = b'00A;a=b;c="d;e"\r\n0123456789\r\n1;x\r\n!\r\n000;last\r\n\r\n'
        response = self.ask(b"POST / HTTP/1.1", b"transfer-encoding: Chunked", body=body)
        self.assertEqual(response.status, 200)
        self.assertEqual(self.upstream.bodies, [b"0123456789!"])

    def test_trailers(self) -> None:
        """Trailers reach the upstream behind the last chunk (RFC 9110 6.5)."""
        seen: list[tuple[tuple[bytes, bytes], ...]] = []

        def script(wire: Wire) -> None:
            wire.read_head()
            seen.append(wire.read_chunks()[1])
            wire.send(b"HTTP/1.1 204 No Content\r\n\r\n")

        self.upstream.script = script
        response = self.ask(
            b"POST / HTTP/1.1",
            b"Trailer: X-Sum, X-Twice",
            b"Transfer-Encoding: chunked",
            body=chunk(b"abc") + b"0\r\nX-Sum: \xe91\r\nX-Twice: 1\r\nx-twice: 2\r\n\r\n",
        )
        self.assertEqual(response.status, 204)
        self.assertEqual(seen, [((b"X-Sum", b"\xe91"), (b"X-Twice", b"1"), (b"x-twice", b"2"))])
        self.assertEqual(self.upstream.request.value(b"trailer"), b"X-Sum, X-Twice")

    def test_get_with_body(self) -> None:
        """Any method may carry content (RFC 9110 9.3.1)."""
        self.ask(b"GET / HTTP/1.1", b"Content-Length: 3", body=b"abc")
        self.ask(
            b"DELETE / HTTP/1.1",
            b"Transfer-Encoding: chunked",
            body=chunk(b"x") + LAST_CHUNK,
        )
        self.assertEqual(self.upstream.bodies, [b"abc", b"x"])

    def test_pieces_are_passed_on_at_once(self) -> None:
        """The upstream has the head and each piece before the next is sent (FIELD 8)."""
        for framed in (True, False):
            with self.subTest(chunked=framed):
                got: list[bytes] = []

                def script(wire: Wire, framed: bool = framed, got: list[bytes] = got) -> None:
                    head = wire.read_head()
                    got.append(b"head")
                    for _ in range(3):
                        got.append(wire.read_chunk() if framed else wire.read_exactly(4))
                    if framed:
                        wire.read_body(head)
                    wire.send(b"HTTP/1.1 204 No Content\r\n\r\n")

                self.upstream.script = script
                with self.proxy.client() as client:
                    framing = b"Transfer-Encoding: chunked" if framed else b"Content-Length: 12"
                    client.send(request(b"POST / HTTP/1.1", framing))
                    self.await_count(got, 1)
                    for count in range(3):
                        piece = b"ab%d\n" % count
                        client.send(chunk(piece) if framed else piece)
                        self.await_count(got, count + 2)
                    if framed:
                        client.send(LAST_CHUNK)
                    self.assertEqual(client.read_response().status, 204)
                self.assertEqual(got, [b"head", b"ab0\n", b"ab1\n", b"ab2\n"])

    def await_count(self, got: list[bytes], count: int) -> None:
        """Wait until the upstream has so many pieces."""
        self.assertTrue(eventually(lambda: len(got) >= count), f"only {got} before the next piece")


class ResponseBodyTests(LiveTestCase):
    """Content on its way to the client."""

    def test_content_length(self) -> None:
        """A body with Content-Length keeps it (RFC 9112 6.2)."""
        body = bytes(range(256)) * 1000
        self.upstream.script = answer(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        response = self.ask()
        self.assertEqual(response.body, body)
        self.assertEqual(response.value(b"content-length"), b"%d" % len(body))
        self.assertFalse(response.head.chunked)

    def test_chunked(self) -> None:
        """A chunked body arrives whole and ends with its last chunk (RFC 9112 7.1)."""
        pieces = [b"a", b"\r\n0\r\n\r\n", bytes(70000), b"end"]
        self.upstream.script = answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"".join(map(chunk, pieces))
            + LAST_CHUNK
        )
        with self.proxy.client() as client:
            for _ in range(2):
                client.send(request())
                response = client.read_response()
                self.assertEqual(response.body, b"".join(pieces))
                self.assertTrue(response.head.chunked)

    def test_until_close(self) -> None:
        """A body that ends with the connection arrives whole, with a proper end (RFC 9112 6.3)."""
        self.upstream.script = answer_and_close(b"HTTP/1.1 200 OK\r\n\r\n" + b"abc" * 50000)
        self.assertEqual(self.ask().body, b"abc" * 50000)

    def test_trailers(self) -> None:
        """Trailers reach the client behind the last chunk (RFC 9110 6.5)."""
        self.upstream.script = answer(
            b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
            + chunk(b"abc")
            + b"0\r\nX-Sum: \xe91\r\nX-Other: 2\r\n\r\n"
        )
        response = self.ask(b"GET / HTTP/1.1", b"TE: trailers", b"Connection: TE")
        self.assertEqual(response.body, b"abc")
        self.assertEqual(response.trailers, ((b"X-Sum", b"\xe91"), (b"X-Other", b"2")))
        self.assertEqual(response.value(b"trailer"), b"X-Sum")

    def test_nothing_is_decoded(self) -> None:
        """A content coding is the client's and upstream's affair (FIELD 3; RFC 9110 8.4)."""
        body = gzip.compress(b"words " * 1000)
        self.upstream.script = answer(
            b'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nETag: "a"\r\nVary: Accept-Encoding\r\n'
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        response = self.ask(b"GET / HTTP/1.1", b"Accept-Encoding: br;q=1, gzip;q=0.2")
        self.assertEqual(response.body, body)
        self.assertEqual(response.value(b"content-encoding"), b"gzip")
        self.assertEqual(response.value(b"etag"), b'"a"')
        self.assertEqual(self.upstream.request.value(b"accept-encoding"), b"br;q=1, gzip;q=0.2")

    def test_responses_without_content(self) -> None:
        """HEAD, 204 and 304 end with their head, whatever their fields say (RFC 9112 6.3)."""
        for method, head in (
            (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"),
            (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (b"HEAD", b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\n"),
            (b"HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
            (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
            (
                b"GET",
                b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 1234\r\n\r\n',
            ),
            (b"DELETE", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        ):
            with self.subTest(method=method, head=head), self.proxy.client() as client:
                self.upstream.script = answer(head)
                client.send(request(method + b" / HTTP/1.1"))
                response = client.read_response(method)
                self.assertEqual(response.status, int(head[9:12]))
                if b"1234" in head:
                    self.assertEqual(response.value(b"content-length"), b"1234")
                self.assertTrue(client.quiet(0.1), "octets behind a response without content")
                self.upstream.script = answer()
                client.send(request())
                self.assertEqual(client.read_response().body, b"ok")

    def test_early_octets_are_passed_on_at_once(self) -> None:
        """Head first, then each piece before the next one is sent (invariant 2; FIELD 2)."""
        framings: tuple[tuple[bytes, Callable[[bytes], bytes], bytes], ...] = (
            (b"Transfer-Encoding: chunked\r\n", chunk, LAST_CHUNK),
            (b"Content-Length: 24\r\n", bytes, b""),
            (b"Connection: close\r\n", bytes, b""),
        )
        for fields, frame, end in framings:
            with self.subTest(fields=fields), self.proxy.client() as client:
                go = threading.Semaphore(0)

                def script(
                    wire: Wire,
                    fields: bytes = fields,
                    frame: Callable[[bytes], bytes] = frame,
                    end: bytes = end,
                    go: threading.Semaphore = go,
                ) -> None:
                    wire.read_head()
                    wire.send(
                        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + fields + b"\r\n"
                    )
                    for count in range(3):
                        if not go.acquire(timeout=PATIENCE):
                            raise AssertionError(f"piece {count} has not passed")
                        wire.send(frame(b"data: %d\n" % count))
                    if not go.acquire(timeout=PATIENCE):
                        raise AssertionError("the last piece has not passed")
                    wire.send(end)
                    if b"close" in fields or not end:
                        wire.close()

                self.upstream.script = script
                client.send(request())
                head = client.read_head()
                self.assertEqual(head.value(b"content-type"), b"text/event-stream")
                for count in range(3):
                    go.release()
                    piece = client.read_chunk() if head.chunked else client.read_exactly(8)
                    self.assertEqual(piece, b"data: %d\n" % count)
                go.release()
                if head.chunked:
                    self.assertEqual(client.read_chunks(), ([], ()))
                self.upstream.check()

    def test_both_ways_at_once(self) -> None:
        """A response may begin before its request has ended, and both go on (RFC 9112 9.3)."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while piece := wire.read_chunk():
                wire.send(chunk(piece.upper()))
            wire.read_trailers()
            wire.send(LAST_CHUNK)

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked"))
            head = client.read_head()
            self.assertEqual(head.status, 200)
            for piece in (b"one", b"two", b"three"):
                client.send(chunk(piece))
                self.assertEqual(client.read_chunk(), piece.upper())
            client.send(LAST_CHUNK)
            self.assertEqual(client.read_chunks(), ([], ()))
            if head.values(b"connection") == [b"close"]:
                self.assertEqual(client.read_to_end(), b"")
                return
            self.upstream.script = answer()
            client.send(request())
            self.assertEqual(client.read_response().body, b"ok")

    def test_early_response(self) -> None:
        """A response during the upload reaches the client while it still sends (RFC 9112 9.5)."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.read_exactly(10)
            wire.send(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            wire.finish()
            wire.wait_closed()
            wire.close()

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(request(b"POST / HTTP/1.1", b"Content-Length: 1000000", body=bytes(10)))
            response = client.read_response()
        self.assertEqual((response.status, response.body), (403, b"no"))


class InterimTests(LiveTestCase):
    """1xx responses."""

    def test_continue_end_to_end(self) -> None:
        """Only the upstream says 100, and the body follows (RFC 9110 10.1.1)."""
        go = threading.Event()

        def script(wire: Wire) -> None:
            head = wire.read_head()
            if head.value(b"expect") != b"100-continue":
                raise AssertionError("Expect was not passed on")
            if not go.wait(PATIENCE):
                raise AssertionError("the client is not ready")
            if not wire.quiet(0.1):
                raise AssertionError("a body came before 100")
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            wire.read_body(head)
            wire.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(request(b"POST / HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 4"))
            eventually(lambda: self.upstream.heads)
            self.assertTrue(client.quiet(0.3), "the proxy said 100 by itself")
            go.set()
            self.assertEqual(client.read_head().status, 100)
            client.send(b"body")
            self.assertEqual(client.read_response().status, 201)
        self.assertEqual(self.upstream.bodies, [b"body"])

    def test_early_refusal(self) -> None:
        """An early 401 or 413 reaches the client without the body being sent (RFC 9110 10.1.1)."""
        for status in (b"401 Unauthorized", b"413 Content Too Large"):

            def script(wire: Wire, status: bytes = status) -> None:
                wire.read_head()
                wire.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nno")
                try:
                    after = wire.read_to_end()
                except Closed:
                    after = b""
                if after:
                    raise AssertionError(f"after the refusal came {after!r}")
                wire.close()

            with self.subTest(status=status), self.proxy.client() as client:
                self.upstream.script = script
                client.send(
                    request(
                        b"POST / HTTP/1.1",
                        b"Expect: 100-continue",
                        b"Content-Length: 4",
                    )
                )
                response = client.read_response()
                self.assertEqual((response.status, response.body), (int(status[:3]), b"no"))
                self.assertEqual(response.interim, ())

    def test_early_hints(self) -> None:
        """Interim responses pass on before the final one exists (RFC 9110 15.2, RFC 8297)."""
        go = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 102 Processing\r\n\r\n")
            wire.send(
                b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nlink: </b>\r\n\r\n"
            )
            if not go.wait(PATIENCE):
                raise AssertionError("the hints have not passed")
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(request())
            self.assertEqual(client.read_head().status, 102)
            hints = client.read_head()
            self.assertEqual(hints.status, 103)
            self.assertEqual(hints.values(b"link"), [b"</a.css>; rel=preload", b"</b>"])
            go.set()
            self.assertEqual(client.read_response().body, b"ok")

    def test_old_client_gets_no_interim_response(self) -> None:
        """No 1xx goes to an HTTP/1.0 client (RFC 9110 15.2)."""
        self.upstream.script = answer(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        )
        response = self.ask(b"GET / HTTP/1.0")
        self.assertEqual((response.status, response.interim), (200, ()))


class OldVersionTests(LiveTestCase):
    """HTTP/1.0 on either side."""

    def test_old_client(self) -> None:
        """An HTTP/1.0 client gets no chunks; its body ends with the close (RFC 9112 7.1)."""
        self.upstream.script = answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + chunk(b"abc")
            + chunk(b"def")
            + LAST_CHUNK
        )
        with self.proxy.client() as client:
            client.send(request(b"GET / HTTP/1.0", host=None))
            head = client.read_head()
            self.assertEqual(head.values(b"transfer-encoding"), [])
            self.assertEqual(client.read_to_end(), b"abcdef")
        self.assertTrue(self.upstream.request.start_line.endswith(b" HTTP/1.1"))

    def test_old_client_with_a_body(self) -> None:
        """An HTTP/1.0 client may send content with a length, and is answered and closed."""
        with self.proxy.client() as client:
            client.send(request(b"POST / HTTP/1.0", b"Content-Length: 3", body=b"abc"))
            self.assertEqual(client.read_response().body, b"ok")
            self.assertEqual(client.read_to_end(), b"")
        self.assertEqual(self.upstream.bodies, [b"abc"])

    def test_old_client_that_keeps_alive(self) -> None:
        """``Connection: keep-alive`` of HTTP/1.0 is kept, or declined by closing (RFC 9112 9.3)."""
        with self.proxy.client() as client:
            client.send(request(b"GET / HTTP/1.0", b"Connection: keep-alive"))
            response = client.read_response()
            if (response.value(b"connection") or b"").lower() == b"keep-alive":
                client.send(request(b"GET / HTTP/1.0"))
                self.assertEqual(client.read_response().body, b"ok")
            self.assertEqual(client.read_to_end(), b"")

    def test_old_upstream(self) -> None:
        """An HTTP/1.0 upstream that ends its body by closing is understood (RFC 9112 6.3)."""
        self.upstream.script = answer_and_close(b"HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\nold words")
        with self.proxy.client() as client:
            client.send(request())
            response = client.read_response()
            self.assertEqual(response.body, b"old words")
            self.assertEqual(response.head.start_line, b"HTTP/1.1 200 OK")

    def test_old_upstream_is_not_kept(self) -> None:
        """A connection to an HTTP/1.0 upstream is not persistent by itself (RFC 9112 9.3)."""
        self.upstream.script = answer(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.upstream.drop_connections()
        for _ in range(2):
            self.assertEqual(self.ask().body, b"ok")
        self.assertEqual(self.upstream.connections, 2)

    def test_connection_close_of_the_client(self) -> None:
        """A client's ``Connection: close`` is honoured and answered in kind (RFC 9112 9.6)."""
        with self.proxy.client() as client:
            client.send(request(b"GET / HTTP/1.1", b"Connection: close"))
            response = client.read_response()
            self.assertEqual((response.value(b"connection") or b"").lower(), b"close")
            self.assertEqual(client.read_to_end(), b"")


class PipelineTests(LiveTestCase):
    """Requests that do not wait for responses."""

    def test_responses_in_order(self) -> None:
        """Pipelined requests are answered in their order (RFC 9112 9.3.2)."""
        first = threading.Event()

        def script(wire: Wire) -> None:
            head = wire.read_head()
            body = wire.read_body(head)
            if head.target == b"/0" and not first.wait(PATIENCE):
                raise AssertionError("nobody let the first go")
            text = head.target + b" " + body
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(
                request(b"GET /0 HTTP/1.1")
                + request(b"POST /1 HTTP/1.1", b"Content-Length: 3", body=b"abc")
                + request(
                    b"POST /2 HTTP/1.1",
                    b"Transfer-Encoding: chunked",
                    body=chunk(b"GET /x HTTP/1.1\r\n\r\n") + LAST_CHUNK,
                )
                + b"\r\n"  # RFC 9112 2.2: an empty line before a request line is ignored
                + request(b"GET /3 HTTP/1.1")
            )
            eventually(lambda: self.upstream.heads)
            self.assertTrue(client.quiet(0.2))
            first.set()
            bodies = [client.read_response().body for _ in range(4)]
        self.assertEqual(bodies, [b"/0 ", b"/1 abc", b"/2 GET /x HTTP/1.1\r\n\r\n", b"/3 "])

    def test_every_split(self) -> None:
        """A request in single octets is the same request (RFC 9112 2.2)."""
        octets = request(
            b"POST /s HTTP/1.1",
            b"Transfer-Encoding: chunked",
            body=chunk(b"abc") + LAST_CHUNK,
        )
        with self.proxy.client() as client:
            for at in range(len(octets)):
                client.send(octets[at : at + 1])
            self.assertEqual(client.read_response().body, b"ok")
        self.assertEqual(self.upstream.bodies, [b"abc"])

    def test_empty_lines_between(self) -> None:
        """Empty lines before a request are ignored, CRLF or bare LF (RFC 9112 2.2).

        They bring no answer that nobody asked for, whenever they come.
        """
        post = request(b"POST / HTTP/1.1", b"Content-Length: 3", body=b"abc")
        for lines in (b"\r\n", b"\n", b"\r\n\r\n", b"\n\n", b"\n\r\n", b"\n" * 1000):
            with self.subTest(lines=lines[:9]), self.proxy.client() as client:
                client.send(lines + post + lines)
                self.assertEqual(client.read_response().body, b"ok")
                self.assertTrue(client.quiet(0.05), "an answer to an empty line")
                client.send(lines)
                self.assertTrue(client.quiet(0.05), "an answer to an empty line")
                client.send(post + lines + request())
                self.assertEqual(client.read_response().body, b"ok")
                self.assertEqual(client.read_response().body, b"ok")
        self.assertEqual([b"abc", b"abc", b""] * 6, self.upstream.bodies)

    def test_empty_lines_without_end(self) -> None:
        """They are no request, and cost no more than a bound (RFC 9112 2.2)."""
        for line in (b"\r\n", b"\n"):
            with self.subTest(line=line), self.proxy.client() as client:
                client.send(request() + line * 200_000)
                self.assertEqual(client.read_response().body, b"ok")
                self.assertEqual(client.read_response().status, 400)
                client.wait_closed()

    def test_many_on_one_connection(self) -> None:
        """A client connection serves request after request."""
        with self.proxy.client() as client:
            for count in range(50):
                client.send(request(b"GET /%d HTTP/1.1" % count))
                self.assertEqual(client.read_response().body, b"ok")
        self.assertEqual(len(self.upstream.heads), 50)
