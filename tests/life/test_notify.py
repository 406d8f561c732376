"""What systemd hears, through a real socket of the kind that it listens on."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
import tempfile
import threading
import time

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.life.notify import Notifier
from pyproxy.semantics.hosts import MAX_SOCKET_BYTES

PERIOD = "30000000"
"""A watchdog's period as systemd writes it: 30 s in microseconds."""

PATIENCE = 30.0
"""Seconds for something that must not wait at all."""

SYSTEMD_READS = 4096
"""Octets of a message; of a longer one systemd takes nothing."""


def open_sockets() -> set[int]:
    """Return the numbers of this process's sockets."""
    found = set()
    for number in range(256):
        try:
            mode = os.fstat(number).st_mode
        except OSError:
            continue
        if stat.S_ISSOCK(mode):
            found.add(number)
    return found


class NotifyTestCase(SynchronousTestCase):
    """A case with a socket in systemd's place."""

    def place(self) -> str:
        """Return a short path: those of trial's own directories may be too long for a socket."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        return os.path.join(directory, "notify")

    def listen(self, name: str | None = None) -> str:
        """Listen as systemd does.  Returns: what NOTIFY_SOCKET says.  Args: name, if not any."""
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.systemd.setblocking(False)
        place = name or self.place()
        self.systemd.bind("\0" + place[1:] if place[0] == "@" else place)
        return place

    def notifier(self, place: str, **more: str) -> Notifier:
        """Make a notifier of an environment."""
        notifier = Notifier.of({"NOTIFY_SOCKET": place, **more})
        assert notifier is not None
        self.addCleanup(notifier.close)
        return notifier

    def heard(self) -> list[str]:
        """Return the lines of the next message."""
        return self.systemd.recv(65536).decode("utf-8").split("\n")


class EnvironmentTests(NotifyTestCase):
    """What systemd says."""

    def test_nobody_wants_to_know(self) -> None:
        """Without NOTIFY_SOCKET there is no notifier, and no watchdog either."""
        for environment in ({}, {"NOTIFY_SOCKET": ""}, {"WATCHDOG_USEC": PERIOD}):
            with self.subTest(environment=environment):
                self.assertIsNone(Notifier.of(environment))

    def test_children_do_not_inherit(self) -> None:
        """All three variables are taken out of the environment, and nothing else."""
        environment = {
            "NOTIFY_SOCKET": self.listen(),
            "WATCHDOG_USEC": PERIOD,
            "WATCHDOG_PID": "1",
            "PATH": "/bin",
        }
        notifier = Notifier.of(environment)
        assert notifier is not None
        self.addCleanup(notifier.close)
        self.assertEqual({"PATH": "/bin"}, environment)

    def test_descriptor_is_not_inherited(self) -> None:
        """The socket is closed when a process becomes another program."""
        before = open_sockets()
        self.notifier("/nowhere")
        (mine,) = open_sockets() - before
        self.assertTrue(fcntl.fcntl(mine, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)

    def test_watchdog(self) -> None:
        """Half of the watchdog's period passes at most, if it waits for this process."""
        place, mine = self.listen(), str(os.getpid())
        for variables, seconds in (
            ({"WATCHDOG_USEC": PERIOD, "WATCHDOG_PID": mine}, 15.0),
            ({"WATCHDOG_USEC": PERIOD}, 15.0),
            ({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": mine}, 0.5),
            ({"WATCHDOG_USEC": PERIOD, "WATCHDOG_PID": "1"}, None),
            ({"WATCHDOG_USEC": "0", "WATCHDOG_PID": mine}, None),
            ({"WATCHDOG_USEC": "soon", "WATCHDOG_PID": mine}, None),
            ({"WATCHDOG_PID": mine}, None),
        ):
            with self.subTest(variables=variables):
                self.assertEqual(seconds, self.notifier(place, **variables).watchdog_seconds)


class PlaceTests(NotifyTestCase):
    """Where systemd listens."""

    def test_abstract_names(self) -> None:
        """``@`` stands for the octet zero of an abstract name, of any length."""
        start = f"@pyproxy-{os.getpid()}-"
        for name in (f"{start}x", start.ljust(MAX_SOCKET_BYTES + 1, "y")):
            with self.subTest(length=len(name)):
                self.notifier(self.listen(name)).alive()
                self.assertEqual(["WATCHDOG=1"], self.heard())

    def test_longest_path(self) -> None:
        """A path may be as long as the kernel takes it, of any octets."""
        stem = self.place() + "\udcff"
        path = stem + "n" * (MAX_SOCKET_BYTES - len(os.fsencode(stem)))
        self.notifier(self.listen(path)).alive()
        self.assertEqual(["WATCHDOG=1"], self.heard())

    def test_other_kinds(self) -> None:
        """An address that is no Unix socket is said in the log, and not used."""
        with capturedLogs() as events:
            self.assertIsNone(Notifier.of({"NOTIFY_SOCKET": "vsock:2:1234"}))
        self.assertEqual(1, len(events))


class MessageTests(NotifyTestCase):
    """What the service says."""

    def setUp(self) -> None:
        """Have somebody who listens."""
        self.told = self.notifier(self.listen())

    def test_ready(self) -> None:
        """``ready`` says so, with a status."""
        self.told.ready("3 routes")
        self.assertEqual(["READY=1", "STATUS=3 routes"], self.heard())

    def test_reloading(self) -> None:
        """A reload is told with its time, in one message and in microseconds of CLOCK_MONOTONIC."""
        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        self.told.reloading()
        after = time.clock_gettime(time.CLOCK_MONOTONIC)
        what, when = self.heard()
        self.assertEqual("RELOADING=1", what)
        name, _, value = when.partition("=")
        self.assertEqual("MONOTONIC_USEC", name)
        self.assertTrue(int(before * 1e6) <= int(value) <= int(after * 1e6) + 1)

    def test_stopping(self) -> None:
        """``stopping`` says so, with a status."""
        self.told.stopping("waiting for 2 streams")
        self.assertEqual(["STOPPING=1", "STATUS=waiting for 2 streams"], self.heard())

    def test_status(self) -> None:
        """A status alone changes nothing else."""
        self.told.status("12 streams, café")
        self.assertEqual(["STATUS=12 streams, café"], self.heard())

    def test_alive(self) -> None:
        """The watchdog hears what it waits for."""
        self.told.alive()
        self.assertEqual(["WATCHDOG=1"], self.heard())

    def test_status_is_one_line(self) -> None:
        """No line end or other control of a status is told, nor what is no text."""
        self.told.status("a\nREADY=1\rb\0c\x85d\u2028e\udcfff")
        self.assertEqual(["STATUS=a READY=1 b c d e f"], self.heard())

    def test_status_is_short(self) -> None:
        """A long status is cut, so that systemd takes the message that it stands in."""
        self.told.ready("\U0001f600" * SYSTEMD_READS)
        message = self.systemd.recv(65536)
        self.assertTrue(message.startswith(b"READY=1\nSTATUS=\xf0"))
        self.assertLess(len(message), SYSTEMD_READS)


class TroubleTests(NotifyTestCase):
    """Nobody takes what is told."""

    def test_nobody_listens(self) -> None:
        """An error is logged once and raises nothing; what is told later arrives."""
        place = self.place()
        notifier = self.notifier(place)
        with capturedLogs() as events:
            notifier.ready("")
            notifier.alive()
        self.assertEqual(1, len(events))
        self.listen(place)
        notifier.alive()
        self.assertEqual(["WATCHDOG=1"], self.heard())

    def test_too_long_a_path(self) -> None:
        """A path that no socket can have is logged once, too."""
        notifier = self.notifier("/" + "n" * 200)
        with capturedLogs() as events:
            notifier.alive()
            notifier.alive()
        self.assertEqual(1, len(events))

    def test_full_queue(self) -> None:
        """A queue that nobody reads does not make the service wait."""
        notifier = self.notifier(self.listen())

        def tell_too_much() -> None:
            for _ in range(100_000):
                notifier.alive()

        told = threading.Thread(target=tell_too_much, daemon=True)
        with capturedLogs() as events:
            told.start()
            told.join(PATIENCE)
        self.assertFalse(told.is_alive())
        self.assertEqual(1, len(events))
        self.assertEqual(["WATCHDOG=1"], self.heard())

    def test_systemd_begins_again(self) -> None:
        """Who listens anew at the same place is told from then on."""
        place = self.listen()
        notifier = self.notifier(place)
        self.systemd.close()
        os.unlink(place)
        self.listen(place)
        notifier.ready("again")
        self.assertEqual(["READY=1", "STATUS=again"], self.heard())
