"""``python -m pyproxy`` is ``twistd -n --pidfile= pyproxy``, in one word."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pyproxy import __version__

CHECKOUT = Path(__file__).parents[1]

LIMIT = 60.0
"""Seconds that a start may take on a busy machine."""

MAIN = ("-m", "pyproxy")
TWISTD = (
    *("-c", "from twisted.scripts.twistd import run; run()"),
    *("--nodaemon", "--pidfile=", "pyproxy"),
)

FILE = """
[[listeners]]
endpoint = "tcp:0:interface=127.0.0.1"
[[routes]]
answer = { text = "fine" }
"""


@attrs.frozen
class Ended:
    """How a process ended, and what it said."""

    status: int
    output: str
    errors: str


class MainTests(SynchronousTestCase):
    """Whatever ends without a proxy ends as twistd ends it."""

    def setUp(self) -> None:
        """Write a configuration that can be used, and one that cannot."""
        directory = self.enterContext(tempfile.TemporaryDirectory(prefix="main-"))
        self.good, self.bad = Path(directory, "good.toml"), Path(directory, "bad.toml")
        self.good.write_text(FILE)
        self.bad.write_text(FILE + "max_body = 'lots'\nconect_timeout = 5\n")

    def both(self, *arguments: str) -> Ended:
        """Run both with arguments; return how both ended."""
        processes = [
            subprocess.Popen(
                [sys.executable, *command, *arguments],
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for command in (MAIN, TWISTD)
        ]
        for process in processes:
            self.addCleanup(process.kill)
        ours, theirs = (self.ended(process) for process in processes)
        self.assertEqual(theirs, ours)
        self.assertNotIn("Traceback", ours.output + ours.errors)
        return ours

    def ended(self, process: subprocess.Popen[str]) -> Ended:
        """Wait for a process; return how it ended, whatever it calls itself in an error."""
        output, errors = process.communicate(timeout=LIMIT)
        output = re.sub(r"(?m)^\S+ --nodaemon: ", "twistd: ", output)
        return Ended(process.returncode, output, errors)

    def test_version(self) -> None:
        """Our version, and status 0."""
        self.assertEqual(Ended(0, f"pyproxy {__version__}\n", ""), self.both("--version"))

    def test_help(self) -> None:
        """The help, and status 0."""
        ended = self.both("--help")
        self.assertEqual(0, ended.status)
        for option in ("--target", "--config", "--watch"):
            self.assertIn(option, ended.output)

    def test_wrong(self) -> None:
        """What is wrong is said in one's own name, and alone; the status is 1."""
        for arguments, what in (
            (("--tarpit",), "--tarpit"),
            (("http://h",), "the target goes with --target"),
            ((), "--target is missing"),
            (("--target", "ftp://h", "--port=x"), "--port x: it has to be a number"),
            (("--config", str(self.bad)), f"{self.bad}:7: routes[0].conect_timeout"),
        ):
            process = subprocess.Popen(
                [sys.executable, *MAIN, *arguments],
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            self.addCleanup(process.kill)
            output, errors = process.communicate(timeout=LIMIT)
            self.assertEqual((1, ""), (process.returncode, output))
            self.assertTrue(errors.startswith("pyproxy: "), errors)
            self.assertIn(what, errors)

    def test_check(self) -> None:
        """A configuration that can be used is status 0 and no word; any other 1, and why."""
        self.assertEqual(Ended(0, "", ""), self.both("--check", "--config", str(self.good)))
        ended = self.both("--check", "--config", str(self.bad))
        self.assertEqual((1, ""), (ended.status, ended.output))
        self.assertIn(f"{self.bad}:6: routes[0].max_body = lots: ", ended.errors)
        self.assertIn(f"{self.bad}:7: routes[0].conect_timeout: ", ended.errors)
        self.assertEqual(1, self.both("--check", "--target", "ftp://h").status)

    def test_print(self) -> None:
        """The configuration as a file, and status 0."""
        ended = self.both("--print-config", "--demo", "--port=0")
        self.assertEqual((0, ""), (ended.status, ended.errors))
        self.assertIn("demo = true", ended.output)
