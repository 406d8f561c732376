"""A start after a kill: what the killed process left behind hinders nobody, what lives stays.

A container gives the new process the old one's number.  Here a shell writes down its own number,
and becomes the proxy.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import unittest
from functools import partial
from pathlib import Path

from tests.live.kit import (
    CHECKOUT,
    PATIENCE,
    START_LIMIT,
    ScriptedUpstream,
    Wire,
    eventually,
    request,
)

TWISTD = Path(sys.executable).with_name("twistd")

AT_ONCE = 3
"""Rounds in which two start at the same time."""

PROXIED = b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 8443\r\n"

LEAVE = """
import os, socket, sys
pid, path, pid_file = sys.argv[1:]
os.symlink(pid, path + ".lock")
socket.socket(socket.AF_UNIX).bind(path)
open(pid_file, "w").write(pid)
"""

LAUNCH = '"$0" -c "$1" $$ s p && shift && exec "$0" "$@"'
"""Leaves behind what a killed process with this very number would have, and becomes another."""


def heeds_sigterm(pid: int) -> bool:
    """Tell whether a process has a handler for it by now, which it has once its reactor runs."""
    found = re.search(r"SigCgt:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())
    return found is not None and bool(int(found[1], 16) >> (signal.SIGTERM - 1) & 1)


class Started:
    """A ``twistd pyproxy`` process that may not stay, with its output."""

    def __init__(self, directory: str, *command: str) -> None:
        self._output = Path(tempfile.mkstemp(dir=directory, prefix="output-")[1])
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def output(self) -> str:
        """Return all that it has printed."""
        return self._output.read_text()

    def listens(self) -> bool:
        """Tell whether it listens, once that is decided."""
        eventually(
            lambda: "Listening on" in self.output() or self.process.poll() is not None, START_LIMIT
        )
        return "Listening on" in self.output() and self.process.poll() is None

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """End it in order; return its status."""
        eventually(lambda: heeds_sigterm(self.process.pid))
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.kill()


class RestartTestCase(unittest.TestCase):
    """A case with a directory, and an upstream for every proxy that it starts there."""

    def setUp(self) -> None:
        """Make the directory and the upstream."""
        temporary = tempfile.TemporaryDirectory(prefix="restart-", ignore_cleanup_errors=True)
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name
        self.path = Path(self.directory, "s")
        self.pid_file = Path(self.directory, "p")
        self.upstream = ScriptedUpstream()
        self.addCleanup(self.upstream.close)

    def command(self, *options: str, pid_file: str = "p") -> list[str]:
        """Return a command line without the interpreter."""
        return [
            *(str(TWISTD), "-n", f"--pidfile={pid_file}", "pyproxy"),
            *("--target", self.upstream.url, *options),
        ]

    def run_command(self, *command: str) -> Started:
        """Run a command to the end of the test at most."""
        started = Started(self.directory, *command)
        self.addCleanup(started.kill)
        return started

    def start(self, *options: str, pid_file: str = "p") -> Started:
        """Start a proxy."""
        return self.run_command(sys.executable, *self.command(*options, pid_file=pid_file))

    def start_again(self, *options: str) -> Started:
        """Start a proxy that has the number of a killed one, and finds what that left behind."""
        launch = ["sh", "-c", LAUNCH, sys.executable, LEAVE]
        return self.run_command(*launch, *self.command(*options))

    def ask(self, first: bytes = b"") -> int:
        """Ask by the socket; return the status."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(str(self.path))
        with Wire(sock) as client:
            client.send(first + request())
            return client.read_response().status

    def assert_listens(self, started: Started) -> None:
        """Fail unless it listens."""
        self.assertTrue(started.listens(), started.output())

    def assert_refused(self, started: Started, why: str) -> None:
        """Fail unless it ended by itself, without a traceback, and says why."""
        self.assertFalse(started.listens(), started.output())
        self.assertEqual(1, started.process.wait(PATIENCE))
        self.assertRegex(started.output(), why)
        self.assertNotIn("Traceback", started.output())

    def names(self) -> set[str]:
        """Return what is in the directory, but for the outputs."""
        return {each for each in os.listdir(self.directory) if not each.startswith("output-")}


class SameNumberTests(RestartTestCase):
    """The new process has the old one's number."""

    def test_every_kind_of_listener(self) -> None:
        """It starts, serves, says in its log what it took over, and leaves nothing at its end."""
        for number, (options, first, mode, says) in enumerate(
            (
                (["--listen=unix:s"], b"", 0o666, "with its lock, which names process"),
                (["--listen=unix:s:mode=600", "--workers=2"], b"", 0o600, "with its lock"),
                (["--listen=haproxy:unix:s"], PROXIED, 0o666, "with its lock"),
                (["--listen=unix:s:lockfile=0:mode=640"], b"", 0o640, "on s: taken over"),
            )
        ):
            with self.subTest(options):
                started = self.start_again(*options)
                self.assert_listens(started)
                self.assertEqual(200, self.ask(first))
                self.assertIn("Nobody accepts connections on s: taken over", started.output())
                self.assertIn(says, started.output())
                self.assertIn("Nobody holds the pid file", started.output())
                pid = str(started.process.pid)
                self.assertEqual(pid, self.pid_file.read_text())
                self.assertEqual(pid, os.readlink(f"{self.path}.lock"))
                self.assertEqual(mode, stat.S_IMODE(self.path.stat().st_mode))
                self.assertIn(started.end(), (0, -signal.SIGTERM), started.output())
                self.assertNotIn("Traceback", started.output())
                # A lock that was not asked for was not heeded either.
                left = {"s.lock"} if number == 3 else set()
                self.assertEqual(left, self.names())

    def test_killed(self) -> None:
        """A proxy that is killed again and again comes again, workers and all."""
        for options in (["--listen=unix:s"], ["--listen=unix:s", "--workers=2"]):
            for _ in range(2):
                started = self.start(*options)
                self.assert_listens(started)
                self.assertEqual(200, self.ask())
                started.kill()
                self.assertEqual({"s", "s.lock", "p"}, self.names())
                # The number belongs to somebody else by now: to this test.
                Path(f"{self.path}.lock").unlink()
                Path(f"{self.path}.lock").symlink_to(str(os.getpid()))
            started = self.start(*options)
            self.assert_listens(started)
            self.assertIn(started.end(), (0, -signal.SIGTERM))


class LiveTests(RestartTestCase):
    """A proxy that lives is never pushed aside."""

    def test_socket(self) -> None:
        """Its socket is refused to others, by the name of another lock too, and it goes on."""
        for options in ([], ["--workers=2"]):
            first = self.start("--listen=unix:s", *options)
            self.assert_listens(first)
            for listen in ("unix:s", "haproxy:unix:s", "unix:s:lockfile=0"):
                second = self.start(f"--listen={listen}", pid_file="")
                self.assert_refused(second, "another process accepts connections there")
            # As another container sees it, in which nobody has that number.
            lock = Path(f"{self.path}.lock")
            lock.unlink()
            lock.symlink_to("4194304999")
            self.assert_refused(self.start("--listen=unix:s", pid_file=""), "another process acc")
            self.assertEqual(200, self.ask())
            lock.unlink()
            lock.symlink_to(str(first.process.pid))
            self.assertIn(first.end(), (0, -signal.SIGTERM), first.output())
            self.assertEqual(set(), self.names())

    def test_pid_file(self) -> None:
        """Its pid file is refused to others, whatever number is in it."""
        first = self.start("--port=0")
        self.assert_listens(first)
        own = self.pid_file.read_text()
        for text in (own, "4194304999"):
            self.pid_file.write_text(text)
            self.assert_refused(self.start("--port=0"), f"Another pyproxy is running, PID {text}")
            self.assertEqual(text, self.pid_file.read_text())
        self.assertIn(first.end(), (0, -signal.SIGTERM))
        self.assertEqual(set(), self.names())

    def test_daemon(self) -> None:
        """A daemon holds its pid file as well, and what guards the start ends with the start."""
        command = [*self.command("--port=0"), "--no-access-log"]
        command[command.index("-n")] = "--logfile=output-log"
        for _ in range(2):
            started = self.run_command(sys.executable, *command)
            self.assertEqual(0, started.process.wait(START_LIMIT), started.output())
            pid = int(self.pid_file.read_text())
            try:
                self.assertEqual({"p"}, self.names())
                self.assert_refused(self.start("--port=0"), f"is running, PID {pid}")
                self.assertTrue(eventually(partial(heeds_sigterm, pid)))
            finally:
                os.kill(pid, signal.SIGTERM)
            self.assertTrue(eventually(lambda: not self.names()))

    def test_not_a_pid_file(self) -> None:
        """What is no pid file stays, and twistd says so."""
        self.pid_file.write_text("precious")
        self.assert_refused(self.start("--port=0"), "non-numeric value")
        self.assertEqual("precious", self.pid_file.read_text())

    def test_not_a_socket(self) -> None:
        """What is no socket stays, and the one line that matters says so."""
        self.path.write_text("precious")
        refused = self.start("--listen=unix:s")
        self.assert_refused(refused, "something is there that is no socket.*nothing was started")
        self.assertEqual("precious", self.path.read_text())
        self.assertEqual({"s"}, self.names())


class AtOnceTests(RestartTestCase):
    """Of two that start at once one wins."""

    def one_of_two(self, *options: str, pid_file: str) -> Started:
        """Start two; return the one that listens, once the other one has given up."""
        started = [self.start(*options, pid_file=pid_file) for _ in range(2)]
        for each in started:
            each.listens()
        text = "\n".join(each.output() for each in started)
        (winner,) = [each for each in started if each.listens()] or self.fail(text)
        (loser,) = [each for each in started if each is not winner]
        self.assertEqual(1, loser.process.wait(PATIENCE), text)
        self.assertNotIn("Traceback", text)
        self.assertEqual(1, len(re.findall("Listening on", text)), text)
        return winner

    def test_socket(self) -> None:
        """On the socket and the lock that a killed process left behind."""
        for _ in range(AT_ONCE):
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(self.path))
            Path(f"{self.path}.lock").symlink_to(str(os.getpid()))
            winner = self.one_of_two("--listen=unix:s", pid_file="")
            self.assertEqual(200, self.ask())
            self.assertIn(winner.end(), (0, -signal.SIGTERM), winner.output())
            self.assertEqual(set(), self.names())

    def test_pid_file(self) -> None:
        """With the pid file of a process that is no more, or without any."""
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        for text in (str(ended.pid), "", None):
            if text is not None:
                self.pid_file.write_text(text)
            winner = self.one_of_two("--port=0", pid_file="p")
            self.assertEqual(str(winner.process.pid), self.pid_file.read_text())
            self.assertIn(winner.end(), (0, -signal.SIGTERM), winner.output())
            self.assertEqual(set(), self.names())
