"""The playground's files, and what a browser may do with them."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from tests.demo.kit import DemoClient


class PlaygroundTests(SynchronousTestCase):
    """What is served."""

    def test_files(self) -> None:
        """The page and all that it names are there, typed, and allowed nothing from elsewhere."""
        client = DemoClient()
        page = client.ask("GET", "/chat").content.decode()
        names = set(re.findall(r'(?:src|href)="([^"]+)"', page)) - {"./"}
        self.assertEqual({"chat.css", "chat.js", "chat.svg"}, names)
        for name, media_type in (
            ("chat", "text/html; charset=utf-8"),
            ("chat.css", "text/css; charset=utf-8"),
            ("chat.js", "text/javascript; charset=utf-8"),
            ("chat.svg", "image/svg+xml"),
        ):
            with self.subTest(name=name):
                answer = client.ask("GET", f"/{name}")
                self.assertEqual(200, answer.status)
                self.assertEqual(media_type, answer.field("Content-Type"))
                self.assertEqual("nosniff", answer.field("X-Content-Type-Options"))
                policy = answer.field("Content-Security-Policy") or ""
                self.assertIn("default-src 'none'", policy)
                self.assertIn("frame-ancestors 'none'", policy)
                self.assertNotIn("unsafe", policy)

    def test_nothing_is_inline(self) -> None:
        """The page has no script, style or handler of its own, which its policy would not run."""
        page = DemoClient().ask("GET", "/chat").content.decode()
        self.assertEqual(
            [], re.findall(r"(?i)<style|<script>| style=| on[a-z]+=|javascript:", page)
        )

    def test_board(self) -> None:
        """The page is told where the board is at the moment."""
        self.assertIn(b'data-board=""', DemoClient().ask("GET", "/chat").content)
        boards = iter(["http:8001", ""])
        client = DemoClient(board=lambda: next(boards))
        self.assertIn(b'data-board="http:8001"', client.ask("GET", "/chat").content)
        self.assertIn(b'data-board=""', client.ask("GET", "/chat").content)
