"""The board in a terminal, over two workers: a process of its own in a pseudo terminal."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.live.kit import PATIENCE, eventually, free_port
from tests.live.terminal import CHECKOUT, Terminal
from tests.live.test_board import TOKEN, BoardTestCase

DOWN, UP, ESCAPE = "\x1b[B", "\x1b[A", "\x1b"


class TopTestCase(BoardTestCase):
    """A case with a terminal."""

    def top(self, *more: str, size: tuple[int, int] = (140, 30)) -> Terminal:
        """Show the board in a terminal."""
        arguments = ("top", "--admin", self.url, *more)
        return self.stack.enter_context(Terminal(*arguments, size=size))


class RowsTests(TopTestCase):
    """What stands there, and what keys change of it."""

    def test_rows(self) -> None:
        """Requests of both workers stand there; the filter leaves what matches; it ends by a key.

        The terminal is as it was then.
        """
        clients = [self.open(f"/a/{name}") for name in ("one", "two", "three")]
        top = self.top()
        self.assertTrue(top.shows("3 open", "GET /a/one", "GET /a/three", "streaming", "live"))
        top.type("/two\r")
        self.assertTrue(top.shows("GET /a/two", "1 rows with: two", but="GET /a/one"))
        top.type(ESCAPE)
        self.assertTrue(top.shows("GET /a/one", but="rows with"))
        clients[0].close()
        self.assertTrue(top.shows("2 open", but="GET /a/one"))
        top.type("\t")
        self.assertTrue(top.shows("GET /a/one", "the client left", "how it ended"))
        top.type("q")
        self.assertEqual(0, top.ends())
        self.assertTrue(top.is_as_before)

    def test_sort(self) -> None:
        """The order follows the column that was chosen, and can be turned."""
        for name in ("b", "c", "a"):
            self.open(f"/a/{name}")
        top = self.top()
        self.assertTrue(top.shows("3 open"))

        def order() -> str:
            screen = top.screen()
            return "".join(sorted("abc", key=lambda name: screen.find(f"GET /a/{name}")))

        self.assertEqual("bca", order())
        top.type(">>")
        self.assertTrue(eventually(lambda: order() == "abc"))
        top.type("r")
        self.assertTrue(eventually(lambda: order() == "cba"))

    def test_resize(self) -> None:
        """It follows the terminal's size, down to nothing, and back."""
        self.open()
        top = self.top()
        self.assertTrue(top.shows("GET /a/x", "client"))
        for size in ((40, 8), (5, 2), (1, 1), (200, 50)):
            top.resize(*size)
            if size == (40, 8):
                self.assertTrue(top.shows("request", but="client"))
        self.assertTrue(top.shows("GET /a/x", "waits", "slow"))
        top.type("q")
        self.assertEqual(0, top.ends())

    def test_hostile(self) -> None:
        """What a client has said gives the terminal no orders."""
        self.open("/a/\u009b2Jx")
        top = self.top()
        self.assertTrue(top.shows("GET /a/"))
        self.assertNotIn(b"\xc2\x9b", top.octets)


class StopTests(TopTestCase):
    """The key that stops an exchange."""

    def test_stop(self) -> None:
        """It ends the chosen one, once that is confirmed, and no other."""
        clients = [self.open(f"/a/{number}") for number in range(3)]
        top = self.top()
        self.assertTrue(top.shows("3 open"))
        top.type("x")
        self.assertTrue(top.shows("choose a row first"))
        top.type(DOWN + DOWN + "x")
        self.assertTrue(top.shows("Stop ", "y/n   GET /a/1"))
        top.type("n")
        self.assertTrue(top.shows("3 open", but="Stop "))
        top.type("xy")
        self.assertTrue(self.is_broken(clients[1]))
        self.assertTrue(top.shows("2 open", "stopped", but="GET /a/1"))
        top.type("\t")
        self.assertTrue(top.shows("GET /a/1", "stopped here"))


class EndTests(TopTestCase):
    """How it ends, and what it says when the proxy does."""

    workers = 1

    def test_away(self) -> None:
        """It says that the site is away, shows what was, and goes on once it is back."""
        self.open()
        top = self.top()
        self.assertTrue(top.shows("GET /a/x", "live"))
        self.proxy.stop()
        self.assertTrue(top.shows("AWAY", "away, trying again", "Connection refused", "GET /a/x"))
        self.proxy.start()
        self.assertTrue(top.shows("0 open", "live", but="GET /a/x"))

    def test_signals(self) -> None:
        """Signals end it, and the terminal is as it was."""
        for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 0), (signal.SIGHUP, 129)):
            top = self.top()
            self.assertTrue(top.shows("live"))
            top.process.send_signal(number)
            self.assertEqual(status, top.ends())
            self.assertTrue(top.is_as_before)
            self.assertNotIn(b"Traceback", top.octets)

    def test_hang_up(self) -> None:
        """It ends with its terminal."""
        top = self.top()
        self.assertTrue(top.shows("live"))
        top.hang_up()
        self.assertNotEqual(0, top.process.wait(PATIENCE))


class TokenTests(TopTestCase):
    """A site that wants a token."""

    workers = 1
    token = True

    def test_token(self) -> None:
        """With the token it shows the board, without one it says what is wanted."""
        path = Path(self.enterContext(TemporaryDirectory())) / "token"
        path.write_text(TOKEN)
        self.assertTrue(self.top("--token", f"@{path}").shows("0 open", "live"))
        top = self.top()
        self.assertEqual(1, top.ends())
        self.assertIn(b"Show the token", top.octets)


class NoSiteTests(TopTestCase):
    """Where there is nothing to show, or nowhere to show it."""

    workers = 1

    def test_nobody(self) -> None:
        """Without a site it says so at once."""
        top = self.stack.enter_context(Terminal("top", "--admin", f"tcp:{free_port()}"))
        self.assertEqual(1, top.ends())
        self.assertIn(b"Connection refused", top.octets)

    def test_terminals(self) -> None:
        """A terminal with colours is given back as well; one that nobody knows is refused."""
        top = self.stack.enter_context(Terminal("top", "--admin", self.url, kind="xterm-256color"))
        self.assertTrue(top.shows("live", "0 open"))
        top.type("q")
        self.assertEqual((0, True), (top.ends(), top.is_as_before))
        top = self.stack.enter_context(Terminal("top", "--admin", self.url, kind="no-such"))
        self.assertEqual((1, True), (top.ends(), top.is_as_before))
        self.assertIn(b"this terminal cannot show it", top.octets)

    def test_no_terminal(self) -> None:
        """Without a terminal it says where the same is to be read."""
        found = subprocess.run(
            [sys.executable, "-m", "pyproxy", "top", "--admin", self.url],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=CHECKOUT,
            check=False,
        )
        self.assertEqual(1, found.returncode)
        self.assertIn("/api/board/events", found.stderr)
