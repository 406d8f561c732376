"""What two parsers could read differently is refused; what is too large or too slow is bounded."""

from __future__ import annotations

import ssl
import threading
import time

from tests.live.kit import (
    LAST_CHUNK,
    PATIENCE,
    Closed,
    LiveTestCase,
    RawClient,
    Response,
    answer,
    answer_and_close,
    chunk,
    eventually,
    request,
)

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: front.example\r\n\r\n"
HOST = b"Host: front.example\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
GET = b"GET / HTTP/1.1\r\n" + HOST

AMBIGUOUS_LENGTHS = {
    "Content-Length with Transfer-Encoding": b"Content-Length: 3\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding with Content-Length": b"Transfer-Encoding: chunked\r\nContent-Length: 0",
    "two lengths": b"Content-Length: 3\r\nContent-Length: 4",
    "a list of lengths": b"Content-Length: 3, 4",
    "plus": b"Content-Length: +3",
    "minus": b"Content-Length: -3",
    "hexadecimal": b"Content-Length: 0x3",
    "underscore": b"Content-Length: 1_0",
    "fraction": b"Content-Length: 3.0",
    "inner space": b"Content-Length: 3 3",
    "empty length": b"Content-Length:",
    "word": b"Content-Length: three",
    "wide digit": b"Content-Length: \xef\xbc\x93",
    "superscript": b"Content-Length: \xb3",
    "gzip behind chunked": b"Transfer-Encoding: chunked, gzip",
    "chunked twice": b"Transfer-Encoding: chunked, chunked",
    "chunked on two lines": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "identity on a second line": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "empty coding": b"Transfer-Encoding:",
    "quoted coding": b'Transfer-Encoding: "chunked"',
    "vertical tab": b"Transfer-Encoding: \x0bchunked",
    "parameter": b"Transfer-Encoding: chunked;a=b",
}
UNKNOWN_CODINGS = {
    "unknown coding": b"Transfer-Encoding: xchunked",
    "gzip before chunked": b"Transfer-Encoding: gzip, chunked",
    "gzip on a line before": b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    "gzip": b"Transfer-Encoding: gzip",
    "identity": b"Transfer-Encoding: identity",
    "parameters": b"Transfer-Encoding: x;a=b, chunked",
}
REASONS: dict[str, tuple[bytes, int, bytes]] = {
    "fragment": (b"GET /x?page=1#y HTTP/1.1\r\n" + HOST, 400, b"a fragment (#)"),
    "userinfo": (b"GET http://user:sekret@a/ HTTP/1.1\r\n" + HOST, 400, b"userinfo"),
    "another scheme": (b"GET ftp://a/ HTTP/1.1\r\n" + HOST, 400, b"another scheme"),
    "no host in a URL": (b"GET http:///a HTTP/1.1\r\n" + HOST, 400, b"without a proper host"),
    "no path": (b"GET a:80 HTTP/1.1\r\n" + HOST, 400, b"neither a path"),
    "asterisk": (b"GET * HTTP/1.1\r\n" + HOST, 400, b"OPTIONS only"),
    "no Host": (b"GET / HTTP/1.1\r\n", 400, b"no Host"),
    "two Hosts": (b"GET / HTTP/1.1\r\n" + HOST + HOST, 400, b"more than one Host"),
    "userinfo in Host": (b"GET / HTTP/1.1\r\nHost: u:sekret@a\r\n", 400, b"a Host with userinfo"),
    "space in the target": (b"GET /a b HTTP/1.1\r\n" + HOST, 400, b"%20"),
    "two spaces": (b"GET  / HTTP/1.1\r\n" + HOST, 400, b"more than one space"),
    "tab": (b"GET\t/ HTTP/1.1\r\n" + HOST, 400, b"a tab"),
    "lower case": (b"GET / http/1.1\r\n" + HOST, 400, b"capital ones"),
    "HTTP/0.9": (b"GET /", 400, b"HTTP/0.9"),
    "no target": (b"GET HTTP/1.1\r\n" + HOST, 400, b"no target"),
    "another protocol": (b"OPTIONS rtsp://a/ RTSP/1.0\r\n", 400, b"another protocol"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", 505, b"the preface of HTTP/2"),
    "another version": (b"GET / HTTP/1.2\r\n" + HOST, 505, b"a version of HTTP"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32), 400, b"TLS handshake"),
    "PROXY": (b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\n" + GET, 400, b"PROXY protocol"),
    "PROXY 2": (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c", 400, b"PROXY protocol"),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400, b"bare CR or LF"),
    "a status line": (b"HTTP/1.1 200 OK\r\n", 400, b"a status line"),
    "unknown coding": (
        POST + b"Transfer-Encoding: zip, chunked\r\n",
        501,
        b"transfer coding other than",
    ),
}
"""What clients send by mistake, and words of the reason that they are given."""

MALFORMED_FIELDS = {
    "bare CR in a value": b"X: a\rb",
    "bare CR before the end": b"X: a\r\r\nY: b",
    "bare LF in a value": b"X: a\nTransfer-Encoding: chunked",
    "NUL in a value": b"X: a\x00b",
    "space before the colon": b"X : a",
    "tab before the colon": b"X\t: a",
    "space before the colon of a length": b"Content-Length : 3",
    "obs-fold": b"X: a\r\n b",
    "obs-fold of a coding": b"Transfer-Encoding:\r\n chunked",
    "empty name": b": a",
    "no colon": b"X",
    "name with a bracket": b"X(y): a",
    "name with NUL": b"X\x00: a",
    "name with a high octet": b"X\xe9: a",
}
BAD_CHUNKS = {
    "no digit": b"\r\nabc\r\n",
    "no hexadecimal digit": b"g\r\nabc\r\n",
    "0x": b"0x3\r\nabc\r\n",
    "plus": b"+3\r\nabc\r\n",
    "minus": b"-3\r\nabc\r\n",
    "space before": b" 3\r\nabc\r\n",
    "underscore": b"1_0\r\n0123456789abcdef\r\n",
    "too many digits": b"0" * 17 + b"3\r\nabc\r\n",
    "too large": b"fffffffffffffffff\r\nabc\r\n",
    "bare LF behind the size": b"3\nabc\r\n",
    "bare CR in an extension": b"3;a\rb\r\nabc\r\n",
    "bare LF in an extension": b"3;a\nb\r\nabc\r\n",
    "NUL in an extension": b"3;a\x00b\r\nabc\r\n",
    "no CRLF behind the data": b"3\r\nabcd\r\n",
    "bare LF behind the data": b"3\r\nabc\n0\r\n\r\n",
}
BAD_TRAILERS = {
    "space before the colon": b"0\r\nX : a\r\n\r\n",
    "obs-fold": b"0\r\nX: a\r\n b\r\n\r\n",
    "no colon": b"0\r\nX\r\n\r\n",
    "NUL": b"0\r\nX: \x00\r\n\r\n",
    "bare LF": b"0\r\nX: a\n\r\n\r\n",
}

READ_IN_ONE_WAY = {
    "Content-Length with Transfer-Encoding",
    "Transfer-Encoding with Content-Length",
    "identity",
    "chunked twice",
    "chunked on two lines",
    "empty coding",
    "space before the colon",
    "tab before the colon",
    "obs-fold",
    "space before",
    "too many digits",
}
"""What a response may have all the same; docs/upstreams.rst has the rows."""


class ClientMessageTests(LiveTestCase):
    """Messages of clients."""

    def refusal(self, octets: bytes) -> Response:
        """Send octets, return the only response; check that the connection closes behind it."""
        with self.proxy.client() as client:
            client.send(octets)
            response = client.read_response()
            try:
                after = client.read_to_end()
            except Closed:
                after = b""
            self.assertEqual(after, b"", "something came behind the refusal")
            return response

    def assert_refused(self, octets: bytes, status: int = 400) -> None:
        """Check that the client gets the status and the upstream nothing."""
        self.assertEqual(self.refusal(octets).status, status)
        self.assertEqual(self.upstream.heads, [])

    def test_body_length(self) -> None:
        """Framing that can be read in two ways is 400, and goes nowhere (RFC 9112 6.1, 6.3)."""
        for name, fields in AMBIGUOUS_LENGTHS.items():
            with self.subTest(name):
                body = chunk(b"abc") + LAST_CHUNK + SMUGGLED
                self.assert_refused(POST + fields + b"\r\n\r\n" + body)

    def test_unknown_coding(self) -> None:
        """A transfer coding that is not understood is 501, and goes nowhere (RFC 9112 6.1)."""
        for name, fields in UNKNOWN_CODINGS.items():
            with self.subTest(name):
                body = chunk(b"abc") + LAST_CHUNK + SMUGGLED
                self.assert_refused(POST + fields + b"\r\n\r\n" + body, 501)
                old = POST.replace(b"1.1", b"1.0")
                self.assert_refused(old + fields + b"\r\n\r\n" + body, 400)
                length = b"\r\nContent-Length: 3"
                self.assert_refused(POST + fields + length + b"\r\n\r\n" + body, 400)

    def test_old_version_with_coding(self) -> None:
        """Transfer-Encoding in HTTP/1.0 is faulty framing (RFC 9112 6.1)."""
        body = chunk(b"abc") + LAST_CHUNK
        self.assert_refused(
            POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + body
        )

    def test_fields(self) -> None:
        """Malformed field lines are 400 (RFC 9112 5.1, 5.2; RFC 9110 5.5)."""
        for name, fields in MALFORMED_FIELDS.items():
            with self.subTest(name):
                self.assert_refused(GET + fields + b"\r\n\r\n" + SMUGGLED)
                self.assert_refused(
                    GET.replace(HOST, b"") + fields + b"\r\n" + HOST + b"\r\n" + SMUGGLED
                )

    def test_line_ends(self) -> None:
        """Only CRLF ends a line of a head (RFC 9112 2.2, invariant 6)."""
        for octets in (
            b"GET / HTTP/1.1\nHost: front.example\n\n",
            b"GET / HTTP/1.1\r\nHost: front.example\n\r\n",
            b"GET / HTTP/1.1\nHost: front.example\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: front.example\r\n\n",
            b"GET / HTTP/1.1\rHost: front.example\r\r",
            b"GET / HTTP/1.1\r\n Host: front.example\r\nHost: front.example\r\n\r\n",
        ):
            with self.subTest(octets=octets):
                self.assert_refused(octets + SMUGGLED)

    def test_host(self) -> None:
        """No Host, two of them, or one that is none, is 400 (RFC 9112 3.2)."""
        for fields in (
            b"",
            b"Host: a\r\nHost: b\r\n",
            b"Host: a\r\nhost: a\r\n",
            b"Host: a b\r\n",
            b"Host: a/b\r\n",
            b"Host: a@b\r\n",
            b"Host: a, b\r\n",
            b"Host: a:x\r\n",
        ):
            with self.subTest(fields=fields):
                self.assert_refused(b"GET / HTTP/1.1\r\n" + fields + b"\r\n")

    def test_request_line(self) -> None:
        """A request line has one shape (RFC 9112 3)."""
        for line in (
            b"GET  / HTTP/1.1",
            b"GET /  HTTP/1.1",
            b"GET\t/ HTTP/1.1",
            b" GET / HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b"GET /a b HTTP/1.1",
            b"GET /a\tb HTTP/1.1",
            b"GET /a\x00b HTTP/1.1",
            b"GET /a\rb HTTP/1.1",
            b"GET /a#b HTTP/1.1",
            b"GET a HTTP/1.1",
            b"GET * HTTP/1.1",
            b"GET http:///a HTTP/1.1",
            b"GET /",
            b"GET / http/1.1",
            b"GET / HTTP/1",
            b"GET / HTTP/11",
            b"GET / HTTP/1.1x",
            b"GET / HTTPS/1.1",
            b"GET / XTTP/1.1",
            b"G(T / HTTP/1.1",
            b"\x16\x03\x01\x02",
        ):
            with self.subTest(line=line):
                self.assert_refused(line + b"\r\n" + HOST + b"\r\n")

    def test_version(self) -> None:
        """A major version that we do not speak is 505 (RFC 9110 15.6.6)."""
        for version in (b"HTTP/2.0", b"HTTP/3.0", b"HTTP/9.9"):
            with self.subTest(version=version):
                self.assert_refused(b"GET / " + version + b"\r\n" + HOST + b"\r\n", 505)

    def test_http2_preface(self) -> None:
        """The preface of HTTP/2 is refused, not passed on (FIELD 19; RFC 9113 3.4)."""
        self.assertIn(self.refusal(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status, (400, 505))
        self.assertEqual(self.upstream.heads, [])

    def test_reasons(self) -> None:
        """A refusal says what came, in words that lead to the mistake, and quotes nothing."""
        for name, (octets, status, words) in REASONS.items():
            with self.subTest(name):
                response = self.refusal(octets + b"\r\n")
                self.assertEqual(status, response.status)
                self.assertIn(words, response.body)
                self.assertIn(words, b",".join(response.head.values(b"proxy-status")))
                self.assertNotIn(b"sekret", response.head.octets + response.body)
        self.assertEqual(self.upstream.heads, [])

    def test_refusal_of_too_little(self) -> None:
        """A client of HTTP/0.9 says no more than its line: it is answered at the line's end."""
        response = self.refusal(b"GET /\r\n")
        self.assertEqual(400, response.status)
        self.assertIn(b"HTTP/0.9", response.body)

    def test_tls_on_a_plain_port(self) -> None:
        """A TLS client on a port without TLS is closed at once, and the log says what it was."""
        context = ssl.create_default_context()
        with self.proxy.client() as client, self.assertRaises(ssl.SSLError):
            context.wrap_socket(client.sock, server_hostname="localhost")
        self.assertTrue(eventually(lambda: "it is a TLS handshake" in self.log()))

    def test_chunks(self) -> None:
        """A bad chunk is 400, and the upstream's message stays incomplete (RFC 9112 7.1)."""
        for name, octets in (BAD_CHUNKS | BAD_TRAILERS).items():
            with self.subTest(name):
                self.upstream.bodies.clear()
                response = self.refusal(
                    POST
                    + b"Transfer-Encoding: chunked\r\n\r\n"
                    + chunk(b"good")
                    + octets
                    + LAST_CHUNK
                    + SMUGGLED
                )
                self.assertEqual(response.status, 400)
                time.sleep(0.02)
                self.assertEqual(self.upstream.bodies, [], "the upstream got a complete message")
                self.assertNotIn(b"/smuggled", [head.target for head in self.upstream.requests])

    def test_refusal_behind_a_good_request(self) -> None:
        """A refusal waits its turn behind the response to an earlier request (RFC 9112 9.3.2)."""
        with self.proxy.client() as client:
            client.send(GET + b"\r\n" + POST + b"Content-Length: x\r\n\r\n")
            self.assertEqual(client.read_response().body, b"ok")
            self.assertEqual(client.read_response().status, 400)
        self.assertEqual(len(self.upstream.heads), 1)

    def test_fields_too_large(self) -> None:
        """A head without end is 431, and memory stays bounded (RFC 6585 5)."""
        memory = self.proxy.rss()
        for fields in (b"X: %s\r\n" % (b"a" * 4_000_000), b"X: a\r\n" * 400_000):
            with self.subTest(fields=fields[:10]):
                self.assertEqual(self.refusal_of_large(GET + fields + b"\r\n"), 431)
        self.assertEqual(self.upstream.heads, [])
        self.assertLess(self.proxy.rss() - memory, 16 * 1024 * 1024)

    def test_too_many_fields(self) -> None:
        """The number of fields is bounded too: 431 (RFC 6585 5)."""
        fields = b"".join(b"X-%d:\r\n" % count for count in range(5000))
        self.assertEqual(self.refusal_of_large(GET + fields + b"\r\n"), 431)
        self.assertEqual(self.upstream.heads, [])

    def test_target_too_long(self) -> None:
        """A request line without end is 414 (RFC 9112 3, RFC 9110 15.5.15)."""
        line = b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n"
        self.assertEqual(self.refusal_of_large(line + HOST + b"\r\n"), 414)
        self.assertEqual(self.upstream.heads, [])

    def test_method_too_long(self) -> None:
        """A method without end is refused likewise."""
        self.assertIn(self.refusal_of_large(b"G" * 1_000_000 + b" / HTTP/1.1\r\n"), (400, 414, 501))

    def test_trailers_too_large(self) -> None:
        """Trailers have the same bound as a head."""
        octets = POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"abc") + b"0\r\n"
        status = self.refusal_of_large(octets + b"X: a\r\n" * 400_000 + b"\r\n")
        self.assertIn(status, (400, 431))
        self.assertEqual(self.upstream.bodies, [])

    def test_chunk_extension_without_end(self) -> None:
        """Chunk extensions are bounded (RFC 9112 7.1.1)."""
        octets = POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"3;" + b"a" * 1_000_000
        self.assertIn(self.refusal_of_large(octets), (400, 413, 431))
        self.assertEqual(self.upstream.bodies, [])

    def refusal_of_large(self, octets: bytes) -> int:
        """Send octets while the proxy may refuse at any moment; return the status.

        Spec: RFC 9112 9.6 (the refusal must survive that the client goes on sending).
        """
        with self.proxy.client() as client:
            sender = threading.Thread(target=_send_all, args=(client, octets), daemon=True)
            sender.start()
            status = client.read_response().status
            client.wait_closed()
            sender.join(PATIENCE)
            return status


def _send_all(client: RawClient, octets: bytes) -> None:
    """Send what the proxy may refuse to read."""
    try:
        client.send(octets)
    except (Closed, TimeoutError):
        return


class UpstreamMessageTests(LiveTestCase):
    """Messages of upstreams."""

    def assert_bad_gateway(self, octets: bytes) -> None:
        """Check that such a response is 502, and that its connection is not used again."""
        self.upstream.script = answer(octets)
        with self.proxy.client() as client:
            client.send(request())
            self.assertEqual(client.read_response().status, 502)
            self.upstream.script = answer()
            client.send(request())
            self.assertEqual(client.read_response().body, b"ok")

    def test_body_length(self) -> None:
        """Ambiguous framing of a response is 502 (RFC 9112 6.3)."""
        for name, fields in AMBIGUOUS_LENGTHS.items():
            if name not in READ_IN_ONE_WAY:
                with self.subTest(name):
                    body = chunk(b"abc") + LAST_CHUNK
                    self.assert_bad_gateway(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\n" + body)

    def test_fields(self) -> None:
        """Malformed field lines of a response are 502 (RFC 9112 5.1, 5.2)."""
        for name, fields in MALFORMED_FIELDS.items():
            if name in READ_IN_ONE_WAY:
                continue
            with self.subTest(name):
                self.assert_bad_gateway(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + fields + b"\r\n\r\nok"
                )

    def test_status_line(self) -> None:
        """A status line has one shape (RFC 9112 4)."""
        for line in (
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 abc OK",
            b"HTTP/1.1 +20 OK",
            b"HTTP/1.1 099 OK",
            b"HTTP/1 200 OK",
            b"http/1.1 200 OK",
            b"ICY 200 OK",
            b"garbage",
            b"",
            b"HTTP/1.1 200 O\x00K",
            b"HTTP/1.1 200 O\rK",
        ):
            with self.subTest(line=line):
                self.assert_bad_gateway(line + b"\r\nContent-Length: 2\r\n\r\nok")

    def test_line_ends(self) -> None:
        """CR alone ends no line of a head (RFC 9112 2.2)."""
        self.assert_bad_gateway(b"HTTP/1.1 200 OK\rContent-Length: 2\r\rok")
        self.assert_bad_gateway(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\r\nok")

    def test_switching_unasked(self) -> None:
        """A 101 that nobody asked for is 502 (RFC 9110 15.2.2; FIELD 19)."""
        self.assert_bad_gateway(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        )

    def test_head_without_end(self) -> None:
        """A response head without end is 502, and memory stays bounded."""
        memory = self.proxy.rss()
        self.upstream.script = answer(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 8_000_000)
        self.assertEqual(self.ask().status, 502)
        self.assertLess(self.proxy.rss() - memory, 16 * 1024 * 1024)

    def test_chunks(self) -> None:
        """A bad chunk breaks the client's message; it never ends clean (RFC 9112 7.1)."""
        for name, octets in (BAD_CHUNKS | BAD_TRAILERS).items():
            if name in READ_IN_ONE_WAY:
                continue
            with self.subTest(name), self.proxy.client() as client:
                self.upstream.script = answer(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + chunk(b"good")
                    + octets
                    + LAST_CHUNK
                )
                client.send(request())
                try:
                    response = client.read_response()
                except Closed:
                    continue
                self.assertEqual(response.status, 502, "a broken message ended clean")

    def test_octets_behind_a_response(self) -> None:
        """What follows a response belongs to nobody: no next request gets it (RFC 9112 9.2)."""
        second = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"
        for first in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        ):
            with self.subTest(first=first), self.proxy.client() as client:
                self.upstream.script = answer(first + second)
                client.send(request())
                self.assertNotIn(b"stray", client.read_response().body)
                self.upstream.script = answer()
                client.send(request())
                self.assertEqual(client.read_response().body, b"ok")

    def test_response_before_a_request(self) -> None:
        """Octets on an idle connection end it; they answer nobody (RFC 9112 9.2)."""
        self.upstream.drop_connections()
        self.assertEqual(self.ask().body, b"ok")
        self.upstream.shout(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 5\r\n\r\nstray")
        time.sleep(0.1)
        response = self.ask()
        self.assertEqual((response.status, response.body), (200, b"ok"))

    def test_garbage_then_close(self) -> None:
        """An upstream that speaks another protocol is 502."""
        self.upstream.script = answer_and_close(b"SSH-2.0-OpenSSH_9.2\r\n")
        self.assertEqual(self.ask().status, 502)


class BodyLimitTests(LiveTestCase):
    """``--max-body``."""

    proxy_arguments = ("--max-body", "1k")

    def test_length(self) -> None:
        """A length above the limit is 413 at once; nothing goes up (RFC 9110 15.5.14)."""
        response = self.ask(b"POST / HTTP/1.1", b"Content-Length: 1025")
        self.assertEqual(response.status, 413)
        self.assertEqual(self.upstream.heads, [])

    def test_expected_continue(self) -> None:
        """The limit answers Expect by a final response, so the body stays where it is."""
        response = self.ask(b"POST / HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 1025")
        self.assertEqual((response.status, response.interim), (413, ()))

    def test_at_the_limit(self) -> None:
        """A body of just the limit passes, chunked or not."""
        body = bytes(1024)
        self.ask(b"POST / HTTP/1.1", b"Content-Length: 1024", body=body)
        framed = chunk(body[:1000]) + chunk(body[1000:]) + LAST_CHUNK
        self.ask(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", body=framed)
        self.assertEqual(self.upstream.bodies, [body, body])

    def test_chunked(self) -> None:
        """Chunks above the limit are 413, and the upstream's message stays incomplete."""
        framed = chunk(bytes(1000)) + chunk(bytes(25)) + LAST_CHUNK
        response = self.ask(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", body=framed)
        self.assertEqual(response.status, 413)
        self.assertFalse(eventually(lambda: self.upstream.bodies, 0.2))
