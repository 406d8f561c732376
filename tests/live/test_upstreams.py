"""Odd responses: docs/upstreams.rst says what becomes of each form, and each is tried here."""

from __future__ import annotations

import csv
import re
import sys
import time
from pathlib import Path

from pyproxy.semantics.oddities import Oddity
from tests.live.kit import (
    CHECKOUT,
    Closed,
    LiveTestCase,
    Response,
    Script,
    Wire,
    answer,
    answer_and_close,
    request,
)
from tests.live.odd_responses import ROWS, Row, Verdict
from tests.live.readers import read_by_python

PAGE = Path(CHECKOUT, "docs", "upstreams.rst")


def page_rows() -> list[list[str]]:
    """Return the cells of each row of the page's tables."""
    lines = [
        line.strip()
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith('   "')
    ]
    return list(csv.reader(lines, skipinitialspace=True))


class PageTests(LiveTestCase):
    """The page and these tests say the same."""

    def test_page(self) -> None:
        """Each row of the page is tried, and each form that is tried has a row with its verdict."""
        said = [(cells[0], cells[-1].partition(":")[0].partition(";")[0]) for cells in page_rows()]
        tried = dict.fromkeys((row.form, row.verdict.value) for row in ROWS)
        self.assertEqual(list(tried), said)

    def test_readers(self) -> None:
        """What the page says of Python's reader is what it does of each form."""
        if sys.version_info[:2] != (3, 11):
            self.skipTest("the page speaks of Python 3.11")
        said = {cells[0]: cells[3] for cells in page_rows()}
        for row in ROWS:
            with self.subTest(row.form, octets=row.octets):
                self.assertEqual(said[row.form], read_by_python(row))

    def test_oddities(self) -> None:
        """Everything that the log can say of a response is on the page as a form."""
        self.assertEqual(set(Oddity), {row.oddity for row in ROWS if row.oddity})


class OddResponseTests(LiveTestCase):
    """A response is refused only where two readers in use read it differently."""

    def answered(self, row: Row) -> Response | None:
        """Return what a client gets of a row's response, None for one that is broken off."""
        reply = answer_and_close if row.closes else _say
        self.upstream.script = reply(row.octets)
        with self.proxy.client() as client:
            client.send(request(row.method + b" / HTTP/1.1"))
            try:
                return client.read_response(row.method)
            except Closed:
                return None

    def test_rows(self) -> None:
        """What the page says of a form is what a client sees."""
        for row in ROWS:
            with self.subTest(row.form):
                response = self.answered(row)
                if row.verdict is Verdict.BROKEN:
                    self.assertIn(response and response.status, (None, 502))
                    continue
                assert response is not None
                if row.verdict is Verdict.REFUSED:
                    self.assertEqual(502, response.status)
                    continue
                self.assertNotEqual(502, response.status)
                empty = row.method == b"HEAD" or response.status in (204, 304)
                self.assertEqual(b"" if empty else b"ok", response.body)
                self.assertIn(row.passes, response.head.octets)
                self.assertNotIn(row.stays_out, response.head.octets)

    def test_status_lines(self) -> None:
        """Whatever its blanks and version, a status line arrives in the right form."""
        for line in (b"HTTP/1.1  404  Not", b"HTTP/1.1\t404\tNot", b"HTTP/2.0 404 Not"):
            self.upstream.script = answer(line + b"\r\nContent-Length: 2\r\n\r\nno")
            self.assertEqual(b"HTTP/1.1 404 Not", self.ask().head.start_line)

    def test_next_response(self) -> None:
        """Behind each of them the next client gets its own response, whole."""
        for row in ROWS:
            with self.subTest(row.form):
                self.answered(row)
                self.upstream.script = answer()
                self.assertEqual((200, b"ok"), (self.ask().status, self.ask().body))

    def test_connection(self) -> None:
        """An upstream that may be wrong about where its response ends is asked on another one.

        The page says where; the connection of any other response that is mended serves again.
        """
        cells = {form: cell for form, *_, cell in page_rows()}
        for row in ROWS:
            ends = "the last one on its connection" in cells[row.form]
            if row.closes or not (ends or row.verdict is Verdict.MENDED):
                continue
            with self.subTest(row.form, octets=row.octets):
                self.upstream.drop_connections()
                time.sleep(0.02)
                self.upstream.connections = 0
                for _ in range(2):
                    self.answered(row)
                self.assertEqual(2 if ends else 1, self.upstream.connections)

    def test_cookie_comes_back(self) -> None:
        """What a cookie holds comes back to who set it; NUL, CR and LF never pass."""
        cookie = b"k=" + bytes({*range(1, 32), 127} - {9, 10, 13})
        self.ask(b"GET / HTTP/1.1", b"Cookie: " + cookie)
        self.assertEqual(cookie, self.upstream.request.value(b"cookie"))
        self.upstream.heads.clear()
        for never in (b"\0", b"\r", b"\n"):
            self.assertEqual(400, self.ask(b"GET / HTTP/1.1", b"Cookie: k=a" + never + b"b").status)
        for other in (b"X: a\x01", b"Cookie2: a\x01", b"Host: a\x01", b"Cookie\x01: a"):
            self.assertEqual(400, self.ask(b"GET / HTTP/1.1", other).status, other)
        self.assertEqual([], self.upstream.heads)

    def test_said_once(self) -> None:
        """The log says once of each peer and kind what was odd; it repeats nothing of it."""
        for _ in range(2):
            for row in ROWS:
                if row.oddity is not None:
                    self.answered(row)
        for oddity in Oddity:
            self.assertIsNotNone(self.proxy.wait_log(re.escape(oddity.value)), oddity)
            log = self.proxy.log()
            self.assertEqual(1, log.count(f"{self.upstream.url} sent {oddity.value}"), oddity)
        self.assertNotIn("k=a", self.proxy.log())


def _say(octets: bytes) -> Script:
    """Return a script that sends octets as they are, to HEAD too."""

    def script(wire: Wire) -> None:
        wire.read_body(wire.read_head())
        wire.send(octets)

    return script


class BrokenHeadTests(LiveTestCase):
    """A head that breaks off is no missing answer."""

    def test_broken_head(self) -> None:
        """It is ``http_response_incomplete``; a close before any of it is not (RFC 9209 2.3)."""
        for octets, error in (
            (b"", b"connection_terminated"),
            (b"HTTP", b"http_response_incomplete"),
            (b"HTTP/1.1 200 OK\r\nContent-Le", b"http_response_incomplete"),
            (b"HTTP/1.1 200 OK\r\nX: y\r\n", b"http_response_incomplete"),
            (b"HTTP/1.1 200 OK\nX: y\n", b"http_response_incomplete"),
            (b"HTTP/1.1 100 Continue\r\n\r\n", b"connection_terminated"),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTT", b"http_response_incomplete"),
            (b"HTTP/1.1  100 Continue\r\n\r\n", b"connection_terminated"),
            (b"HTTP/1.1  100 Continue\r\n\r\nHTT", b"http_response_incomplete"),
        ):
            with self.subTest(octets):
                self.upstream.script = answer_and_close(octets)
                response = self.ask()
                self.assertEqual(502, response.status)
                self.assertIn(b"error=" + error, response.value(b"proxy-status") or b"")
