"""What the README and the quickstart tell people to type, typed.

Ports are others than theirs, which may be taken.  Commands that need somebody's service are checked
without it, in ``tests/test_docs.py``.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from contextlib import suppress
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path

from tests.documents import DOCS, README, Block, blocks, commands
from tests.live.kit import CHECKOUT, PATIENCE, START_LIMIT, eventually, free_port

QUICKSTART = DOCS / "quickstart.rst"

WORDS = 12
"""Of an answer that comes slowly: five seconds are enough for what happens meanwhile."""


def shown(page: Path, language: str, word: str) -> Block:
    """Return the one block of a page in a language that has a word."""
    found = [
        block
        for block in blocks(page.read_text("utf-8"))
        if block.language == language and word in block.text
    ]
    if len(found) != 1:
        raise AssertionError(f"{page.name} has {len(found)} blocks with {word}")
    return found[0]


class TypedTestCase(unittest.TestCase):
    """A directory in which commands are typed, with the programs of this environment."""

    def setUp(self) -> None:
        """Make the directory, and choose ports in place of those in the documents."""
        self.directory = Path(tempfile.mkdtemp(prefix="typed-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.ports = {"8000": str(free_port()), "8001": str(free_port())}
        programs = Path(sys.executable).parent
        self.environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
        }

    def with_ports(self, text: str) -> str:
        """Return a text with ports that are free."""
        return re.sub(r"\b(8000|8001)\b", lambda found: self.ports[found[0]], text)

    def start(
        self, name: str, words: list[str], stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """Start a program that goes on; what it says goes into a file of its name."""
        with (self.directory / name).open("wb") as output:
            process = subprocess.Popen(
                words,
                cwd=self.directory,
                env=self.environment,
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End a program that still runs."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def said(self, name: str) -> str:
        """Return what a program has said so far."""
        return (self.directory / name).read_text("utf-8", "backslashreplace")

    def type(self, text: str) -> str:
        """Type a block into a shell; return what its commands said.  They have to end well."""
        done = subprocess.run(
            ["/bin/sh", "-ec", self.with_ports(text)],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
            check=False,
        )
        self.assertEqual(0, done.returncode, f"{text}\n{done.stdout}{done.stderr}")
        return done.stdout

    def wait(self, name: str, word: str, limit: float = PATIENCE) -> None:
        """Wait until a program has said a word."""
        self.assertTrue(eventually(lambda: word in self.said(name), limit), self.said(name))


class ReloadTests(TypedTestCase):
    """Two backends under one address, and a reload while a chat streams."""

    def setUp(self) -> None:
        """Write the file, and start the two backends and the proxy as the README says."""
        super().setUp()
        self.file = self.directory / "pyproxy.toml"
        self.file.write_text(self.with_ports(shown(README, "toml", "[[routes]]").text))
        (server,) = commands(shown(README, "sh", "http.server"))
        self.start("server", [self.with_ports(word) for word in server])
        self.wait("server", "Serving HTTP")
        (twistd,) = [
            words
            for block in blocks(README.read_text("utf-8"))
            for words in commands(block)
            if words[0] == "twistd" and words[-2:] == ["--config", "pyproxy.toml"]
        ]
        self.proxy = self.start("proxy", [*twistd, "--port", self.ports["8000"]])
        self.wait("proxy", "Listening on", START_LIMIT)

    def status(self, path: str) -> int:
        """Ask the proxy; return the status."""
        connection = HTTPConnection("127.0.0.1", int(self.ports["8000"]), timeout=PATIENCE)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def chat(self) -> subprocess.Popen[bytes]:
        """Ask the model as the README does, for a shorter answer; return when it has begun."""
        (curl,) = commands(shown(README, "sh", "demo-slow"))
        words = [self.with_ports(word) for word in curl]
        words[-1] = words[-1].replace('"stream"', f'"words": {WORDS}, "stream"')
        process = self.start("chat", words)
        self.wait("chat", "data: ")
        return process

    def test_reload(self) -> None:
        """The chat goes on to its end, new requests go by the new file."""
        self.assertEqual(
            (200, 200), (self.status("/model/v1/models"), self.status("/pyproxy.toml"))
        )
        self.assertEqual(404, self.status("/ai/v1/models"))
        chat = self.chat()
        self.type(shown(README, "sh", "kill -HUP").text)
        self.wait("proxy", "Reloaded")
        self.assertIn('"demo-slow"', self.type(shown(README, "sh", "/ai/v1/models").text))
        self.assertEqual(404, self.status("/model/v1/models"), "the old route is gone")
        self.assertNotIn("[DONE]", self.said("chat"), "the chat was over before")
        self.assertEqual(0, chat.wait(PATIENCE), self.said("chat"))
        self.assertIn("data: [DONE]", self.said("chat"))
        self.assertEqual(WORDS, len(re.findall(r'"content": ?" ?[^" ]', self.said("chat"))))

    def test_mistake(self) -> None:
        """A file with a mistake changes nothing, and ``--check`` says so before."""
        text = self.file.read_text()
        self.file.write_text(text.replace("/model/", "/ai/") + "nonsense = 1\n")
        line = len(text.splitlines()) + 1
        (check,) = commands(shown(README, "sh", "--check"))
        done = subprocess.run(
            check,
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(1, done.returncode)
        os.kill(self.proxy.pid, signal.SIGHUP)
        wrong = f"pyproxy.toml:{line}: routes[1].nonsense: there is no such key"
        self.assertIn(wrong, done.stdout + done.stderr)
        self.wait("proxy", wrong)
        self.assertEqual(
            (200, 404), (self.status("/model/v1/models"), self.status("/ai/v1/models"))
        )

    def test_end(self) -> None:
        """SIGTERM lets the chat end, and accepts nobody meanwhile."""
        chat = self.chat()
        self.proxy.send_signal(signal.SIGTERM)
        refused = eventually(self._refuses)
        self.assertTrue(refused, "connections are still accepted")
        self.assertIsNone(chat.poll(), self.said("chat"))
        self.assertEqual(0, chat.wait(PATIENCE), self.said("chat"))
        self.assertIn("data: [DONE]", self.said("chat"))
        self.assertEqual(0, self.proxy.wait(PATIENCE), self.said("proxy"))

    def _refuses(self) -> bool:
        try:
            self.status("/model/v1/models")
        except ConnectionRefusedError:
            return True
        return False


class DemoTests(TypedTestCase):
    """Clients in front of the demo."""

    def setUp(self) -> None:
        """Start the proxy in front of the demo, as the README says."""
        super().setUp()
        (twistd,) = commands(shown(README, "sh", "--demo"))
        self.start("proxy", [self.with_ports(word) for word in twistd])
        self.wait("proxy", "Listening on", START_LIMIT)

    def test_curl(self) -> None:
        """The stream of the README, and that of the quickstart."""
        for page in (README, QUICKSTART):
            said = self.type(shown(page, "sh", '"model": "demo",').text)
            self.assertGreater(said.count("data: {"), 10, page)
            self.assertTrue(said.rstrip().endswith("data: [DONE]"), said)

    def test_page(self) -> None:
        """The page to open in a browser is there."""
        self.assertIn("``http://127.0.0.1:8000/chat``", README.read_text("utf-8"))
        said = self.type("curl -sSf http://127.0.0.1:8000/chat")
        self.assertIn("<html", said)

    def test_python(self) -> None:
        """The two clients of the quickstart, with a model that is there."""
        if find_spec("openai") is None:
            self.skipTest("openai comes with the extra `test`")
        for word in ("chat.completions", "realtime"):
            program = self.with_ports(shown(QUICKSTART, "python", word).text)
            path = self.directory / "client.py"
            path.write_text(program.replace("gpt-4o-mini", "demo"))
            self.assertIn("no model thinks here", self.type("python client.py"))

    def test_websocket(self) -> None:
        """The echo of the quickstart."""
        if find_spec("websockets") is None:
            self.skipTest("websockets comes with the extra `test`")
        *_, client = commands(shown(QUICKSTART, "sh", "-m websockets"))
        process = self.start("echo", [self.with_ports(word) for word in client], subprocess.PIPE)
        assert process.stdin is not None
        self.wait("echo", "Connected")
        process.stdin.write(b"Hello\n")
        process.stdin.flush()
        self.wait("echo", "< Hello")
        process.stdin.close()
        self.assertEqual(0, process.wait(PATIENCE), self.said("echo"))


class DaemonTests(TypedTestCase):
    """The proxy in the background, as in the quickstart."""

    def test_daemon(self) -> None:
        """It starts, writes its pid and its log, and ends by its pid."""
        start, kill = self.commands_of_daemon()
        self.type(f"{start} --demo")
        pid = int(self.said("pyproxy.pid"))
        self.addCleanup(self.kill, pid)
        self.assertTrue(eventually(lambda: "Listening on" in self.said("pyproxy.log"), START_LIMIT))
        self.type(kill)
        gone = eventually(lambda: not Path(f"/proc/{pid}").exists())
        self.assertTrue(gone, self.said("pyproxy.log"))
        self.assertFalse((self.directory / "pyproxy.pid").exists())

    def kill(self, pid: int) -> None:
        """End what a failed test has left."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def commands_of_daemon(self) -> tuple[str, str]:
        """Return the command that starts it, the demo for a target, and the one that ends it."""
        text = shown(QUICKSTART, "sh", "--logfile").text.replace("\\\n", " ")
        start, kill = text.splitlines()
        target = "--target https://api.example.com"
        self.assertIn(target, start)
        return start.replace("venv/bin/", "").replace(target, ""), kill
