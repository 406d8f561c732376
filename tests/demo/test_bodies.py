"""Contents in both directions are measured exactly and kept nowhere."""

from __future__ import annotations

import hashlib

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.demo.bodies import PIECE, download_octets, shown
from tests.demo.kit import DemoClient


def sha256(octets: bytes) -> str:
    """Return a SHA-256 in hexadecimal."""
    return hashlib.sha256(octets).hexdigest()


class EchoTests(SynchronousTestCase):
    """``/echo``."""

    def test_shows_what_was_received(self) -> None:
        """The method's case, the target's octets, the fields' order and duplicates are kept."""
        client = DemoClient()
        client.protocol.dataReceived(
            b"pAtch /echo/a%2Fb//%25?x=%zz& HTTP/1.1\r\nX-B: 1\r\nHost: h\r\nX-A: \xe9\r\n"
            b"X-B: 2\r\nContent-Length: 5\r\n\r\nhello"
        )
        received = client.answer().json
        self.assertEqual(received["method"], "pAtch")
        self.assertEqual(received["target"], "/echo/a%2Fb//%25?x=%zz&")
        self.assertEqual(received["version"], "HTTP/1.1")
        # How names are spelled differs from one version of twisted.web to another.
        self.assertEqual(
            [[name.lower(), value] for name, value in received["fields"]],
            [["x-b", "1"], ["host", "h"], ["x-a", "é"], ["x-b", "2"], ["content-length", "5"]],
        )
        self.assertEqual(received["body"], {"bytes": 5, "sha256": sha256(b"hello")})

    def test_credentials_are_masked(self) -> None:
        """Of a credential the scheme and the beginning of its hash are shown, never itself."""
        digits = sha256(b"sk-secret")[:8]
        for name, value, expected in (
            (b"Authorization", b"Bearer sk-secret", f"Bearer ***{digits}"),
            (b"proxy-authorization", b"Basic sk-secret", f"Basic ***{digits}"),
            (b"AUTHORIZATION", b"sk-secret", f"***{digits}"),
            (b"Cookie", b"sk-secret", f"***{digits}"),
            (b"Cookie", b"a=1; b=2", f"***{sha256(b'a=1; b=2')[:8]}"),
            (b"Api-Key", b"sk-secret", f"***{digits}"),
            (b"X-Api-Key", b"sk-secret", f"***{digits}"),
            (b"X-Goog-Api-Key", b"sk-secret", f"***{digits}"),
            (b"X-Other", b"sk-secret", "sk-secret"),
        ):
            with self.subTest(name=name, value=value):
                self.assertEqual(shown(name, value), expected)

    def test_forms_are_not_parsed(self) -> None:
        """A form is a content like any other, also one that is no form at all."""
        fields = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = DemoClient().ask("POST", "/echo", b"no form", fields)
        self.assertEqual(answer.json["body"]["bytes"], 7)


class UploadTests(SynchronousTestCase):
    """``/upload``."""

    def test_counts_and_hashes_chunks(self) -> None:
        """A chunked content is measured as it arrives, wherever it is cut."""
        client = DemoClient()
        wire = b"PUT /upload HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        wire += b"5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n"
        for octet in wire:
            client.protocol.dataReceived(bytes([octet]))
        self.assertEqual(client.answer().json, {"bytes": 12, "sha256": sha256(b"hello, world")})

    def test_answers_an_empty_content(self) -> None:
        """No content is a content of no octets."""
        self.assertEqual(DemoClient().ask("POST", "/upload").json["sha256"], sha256(b""))


class DownloadTests(SynchronousTestCase):
    """``/download``."""

    def test_has_its_length_and_its_octets(self) -> None:
        """The content is what its offset says, whatever the size."""
        client = DemoClient()
        for size in (0, 1, 251, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7):
            with self.subTest(size=size):
                answer = client.ask("GET", f"/download?bytes={size}")
                self.assertEqual(answer.field("Content-Length"), str(size))
                self.assertEqual(answer.content, bytes(n % 251 for n in range(size)))

    def test_chunked_has_no_length(self) -> None:
        """``chunked=1`` leaves the length to the chunks (RFC 9112 7.1)."""
        answer = DemoClient().ask("GET", f"/download?bytes={PIECE + 3}&chunked=1")
        self.assertIsNone(answer.field("Content-Length"))
        self.assertEqual(answer.field("Transfer-Encoding"), "chunked")
        self.assertEqual(len(answer.content), PIECE + 3)
        self.assertTrue(answer.complete)

    def test_interval_stands_between_pieces(self) -> None:
        """``interval_ms`` makes a slow download of it."""
        client = DemoClient()
        answer = client.ask("GET", f"/download?bytes={2 * PIECE}&interval_ms=50")
        self.assertEqual((len(answer.content), answer.complete), (PIECE, False))
        client.clock.advance(0.05)
        self.assertEqual(len(client.answer().content), 2 * PIECE)

    def test_paused_socket_stops_the_source(self) -> None:
        """A download that nobody reads writes no further piece, and goes on where it was."""
        client = DemoClient()
        client.send("GET", f"/download?bytes={4 * PIECE}&interval_ms=1")
        producer = client.producer
        producer.pauseProducing()
        client.clock.pump([0.001] * 10)
        self.assertEqual(len(client.answer().content), PIECE)
        producer.resumeProducing()
        client.clock.pump([0.001] * 10)
        answer = client.answer()
        self.assertEqual(answer.content, bytes(n % 251 for n in range(4 * PIECE)))

    def test_full_socket_bounds_the_memory(self) -> None:
        """Of any size no more is written than the socket takes and one piece (FIELD 8)."""
        client = DemoClient(room=PIECE)
        client.send("GET", f"/download?bytes={2**50}")
        self.assertLess(len(client.transport.value()), 2 * PIECE + 1024)
        client.leave()
        client.producer.resumeProducing()
        self.assertLess(len(client.transport.value()), 2 * PIECE + 1024)

    def test_parts_fit_together(self) -> None:
        """Each part continues the one before."""
        self.assertEqual(download_octets(250, 3), bytes([250, 0, 1]))
        self.assertEqual(len(download_octets(250, PIECE)), PIECE)

    def test_bad_parameters_are_refused(self) -> None:
        """A parameter that is no number in its bounds, or doubled, gets 400 and a sentence."""
        for query, sentence in (
            ("bytes=-1", "bytes must be a whole number from 0 to 1125899906842624, not '-1'."),
            ("bytes=1e3", "bytes must be a whole number from 0 to 1125899906842624, not '1e3'."),
            ("chunked=2", "chunked must be a whole number from 0 to 1, not '2'."),
            ("chunked=", "chunked must be a whole number from 0 to 1, not ''."),
            ("bytes=1&bytes=2", "bytes may be given only once."),
        ):
            with self.subTest(query=query):
                answer = DemoClient().ask("GET", f"/download?{query}")
                self.assertEqual((answer.status, answer.sentence), (400, sentence))


class StatusTests(SynchronousTestCase):
    """``/status``."""

    def test_answers_as_asked(self) -> None:
        """Each status comes with the field that belongs to it."""
        client = DemoClient()
        for status, name, value in (
            (200, "Content-Type", "text/plain; charset=utf-8"),
            (302, "Location", "http://demo.test/status/200"),
            (401, "WWW-Authenticate", 'Bearer realm="demo"'),
            (429, "Retry-After", "1"),
        ):
            with self.subTest(status=status):
                answer = client.ask("POST", f"/status/{status}")
                self.assertEqual((answer.status, answer.field(name)), (status, value))

    def test_no_content_where_there_can_be_none(self) -> None:
        """204 and 304 have no content (RFC 9110 6.4.1)."""
        for status in (204, 304):
            with self.subTest(status=status):
                answer = DemoClient().ask("GET", f"/status/{status}")
                self.assertEqual((answer.status, answer.content), (status, b""))

    def test_other_numbers_are_refused(self) -> None:
        """A status that ends no exchange, or is none, is not sent."""
        for path in ("100", "600", "20", "2000", "", "ok", "200/1"):
            with self.subTest(path=path):
                self.assertEqual(DemoClient().ask("GET", f"/status/{path}").status, 400)
