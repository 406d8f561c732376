"""Unix sockets: what nobody accepts on is taken over, what somebody accepts on never."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.testing import EventLoggingObserver, MemoryReactor
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pyproxy import unix_port
from pyproxy.turn import Turn
from pyproxy.unix_port import ListeningReactor, UNIXPort, accepts

ROOT = Path(__file__).parents[1]

ROUNDS = 10

AT_ONCE = """
import os, socket, sys
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from pyproxy.unix_port import UNIXPort

def start(path, go, tell, stay):
    os.read(go, 1)
    try:
        UNIXPort(os.fsencode(path), Factory(), 50, 0o666, MemoryReactor(), 1).startListening()
    except CannotListenError:
        os.write(tell, b"-")
        return
    os.write(tell, b"+")
    os.read(stay, 1)

path, rounds, owner = sys.argv[1], int(sys.argv[2]), sys.argv[3]
for each in range(rounds):
    leftover = socket.socket(socket.AF_UNIX)
    if not os.path.lexists(path):
        leftover.bind(path)
    leftover.close()
    if os.path.lexists(path + ".lock"):
        os.unlink(path + ".lock")
    os.symlink(owner or str(os.getpid()), path + ".lock")
    pipes = [os.pipe() for _ in range(3)]
    (go, begin), (told, tell), (stay, end) = pipes
    children = []
    for _ in range(4):
        if (child := os.fork()) == 0:
            os.close(begin)
            os.close(end)
            start(path, go, tell, stay)
            os._exit(0)
        children.append(child)
    os.close(begin)
    said = b""
    while len(said) < 4:
        said += os.read(told, 4)
    os.close(end)
    for child in children:
        os.waitpid(child, 0)
    for each in (go, told, tell, stay):
        os.close(each)
    print(bytes(sorted(said)).decode())
"""


class UnixPortTestCase(SynchronousTestCase):
    """A case with a place for a socket."""

    def setUp(self) -> None:
        """Make a directory, and hear the log."""
        temporary = tempfile.TemporaryDirectory(prefix="unix-")
        self.addCleanup(temporary.cleanup)
        self.path = Path(temporary.name, "s")
        self.lock = Path(temporary.name, "s.lock")
        self.events = EventLoggingObserver()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)

    def leave_socket(self, backlog: int | None = None) -> socket.socket:
        """Make a socket; with a backlog somebody listens on it."""
        left = socket.socket(socket.AF_UNIX)
        self.addCleanup(left.close)
        left.bind(str(self.path))
        if backlog is None:
            left.close()
        else:
            left.listen(backlog)
        return left

    def leave_lock(self, owner: object) -> None:
        """Make a lock that names a process."""
        self.lock.symlink_to(str(owner))

    def listen(self, **how: Any) -> Any:
        """Listen as an endpoint does."""
        port: Any = ListeningReactor(MemoryReactor()).listenUNIX(
            str(self.path), Factory(), **{"wantPID": 1, **how}
        )
        self.assertTrue(verifyObject(IListeningPort, port))
        self.addCleanup(port.socket.close)
        return port

    def refused(self, **how: Any) -> str:
        """Listen where that cannot be; return why."""
        error = self.assertRaises(CannotListenError, self.listen, **how)
        return str(error)

    def logged(self) -> str:
        """Return the warnings."""
        texts = [str(each.get("log_format")) for each in self.events if "path" in each]
        return "\n".join(texts)

    def names(self) -> list[str]:
        """Return what is in the directory."""
        return sorted(os.listdir(self.path.parent))


def dead_process() -> int:
    """Return the number of a process that is no more."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


class TakeoverTests(UnixPortTestCase):
    """A socket that nobody accepts on, and its lock, are taken over."""

    def test_whoever_the_lock_names(self) -> None:
        """Ourselves, another living process, a dead one, nothing sensible; or there is no lock."""
        for owner in (os.getpid(), os.getppid(), dead_process(), "nonsense", None):
            with self.subTest(owner=owner):
                self.leave_socket()
                if owner is not None:
                    self.leave_lock(owner)
                port = self.listen()
                self.assertTrue(accepts(os.fsencode(self.path)))
                self.assertEqual(str(os.getpid()), os.readlink(self.lock))
                self.assertIn("Nobody accepts connections on", self.logged())
                self.events._events.clear()
                port.connectionLost(Failure(ConnectionDone()))
                self.assertEqual([], self.names())

    def test_a_lock_without_a_socket(self) -> None:
        """Where there is no socket nobody can accept."""
        for owner in (os.getpid(), os.getppid(), dead_process()):
            with self.subTest(owner=owner):
                self.leave_lock(owner)
                self.listen().connectionLost(Failure(ConnectionDone()))
                self.assertEqual([], self.names())

    def test_without_a_lock(self) -> None:
        """``lockfile=0``: the socket is taken over, no lock is made, and none is heeded."""
        self.leave_socket()
        self.leave_lock(os.getppid())
        self.listen(wantPID=0)
        self.assertTrue(accepts(os.fsencode(self.path)))
        self.assertEqual(str(os.getppid()), os.readlink(self.lock))

    def test_mode(self) -> None:
        """The mode is the one that was asked for."""
        self.leave_socket()
        self.leave_lock(os.getpid())
        self.listen(mode=0o640)
        self.assertEqual(0o640, stat.S_IMODE(self.path.stat().st_mode))

    def test_free(self) -> None:
        """A free place is taken without a word."""
        self.listen()
        self.assertEqual("", self.logged())
        self.assertEqual(["s", "s.lock"], self.names())

    def test_four_at_once(self) -> None:
        """Of four that find the same socket left behind one gets it, in every round.

        The lock names a living process that holds nothing, then one that is no more.
        """
        for owner in ("", str(dead_process())):
            ended = subprocess.run(
                [sys.executable, "-c", AT_ONCE, str(self.path), str(ROUNDS), owner],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual(["+---"] * ROUNDS, ended.stdout.split(), ended.stderr)


class RefusalTests(UnixPortTestCase):
    """What somebody accepts on, and what is no socket, stays as it is."""

    def test_live(self) -> None:
        """Whoever the lock names, a connection finds somebody."""
        self.patch(unix_port, "ORPHANS", 0.1)
        self.leave_socket(5)
        for owner in (os.getpid(), os.getppid(), dead_process(), None):
            with self.subTest(owner=owner):
                if owner is not None:
                    self.leave_lock(owner)
                left = self.names()
                self.assertIn("another process accepts connections there", self.refused())
                self.assertEqual(left, self.names())
                if owner is not None:
                    self.lock.unlink()
        self.assertTrue(accepts(os.fsencode(self.path)))

    def test_twice_in_one_process(self) -> None:
        """A second endpoint of the same path is refused, and the first one serves."""
        self.listen()
        self.assertIn("another process accepts", self.refused())
        self.assertTrue(accepts(os.fsencode(self.path)))
        self.assertEqual(["s", "s.lock"], self.names())

    def test_full_queue(self) -> None:
        """A process that is busy, its queue full, is somebody."""
        self.leave_socket(0)
        self.leave_lock(os.getpid())
        clients = []
        for _ in range(3):
            client = socket.socket(socket.AF_UNIX)
            self.addCleanup(client.close)
            client.setblocking(False)
            clients.append(client.connect_ex(str(self.path)))
        self.assertNotEqual(0, clients[-1])
        self.assertIn("another process accepts", self.refused())

    def test_orphans(self) -> None:
        """Whose lock names a dead process may be about to end: its end is waited for."""
        program = (
            "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]);"
            "s.listen(); print(flush=True); time.sleep(0.3)"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, str(self.path)], stdout=subprocess.PIPE
        ) as orphan:
            assert orphan.stdout is not None
            orphan.stdout.readline()
            self.leave_lock(dead_process())
            self.listen()
        self.assertTrue(accepts(os.fsencode(self.path)))

    def test_no_socket(self) -> None:
        """A file, a directory, a link, a dead link: refused, and never removed."""
        target = self.path.with_name("target")
        target.touch()
        makers: tuple[Callable[[], object], ...] = (
            self.path.touch,
            self.path.mkdir,
            lambda: self.path.symlink_to(target),
            lambda: self.path.symlink_to("nowhere"),
        )
        for make in makers:
            make()
            for owner in (None, os.getpid(), dead_process()):
                if owner is not None:
                    self.leave_lock(owner)
                before = os.lstat(self.path).st_ino
                self.assertTrue(re.search("no socket|already in use", self.refused()), owner)
                self.assertEqual(before, os.lstat(self.path).st_ino)
                self.lock.unlink(missing_ok=True)
            self.path.rmdir() if self.path.is_dir() else self.path.unlink()

    def test_another_kind_of_socket(self) -> None:
        """Whether somebody is at a socket for datagrams is not asked by a connection."""
        left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(left.close)
        left.bind(str(self.path))
        self.assertIn("is not to be told", self.refused())
        self.assertEqual(["s"], self.names())

    def test_not_permitted(self) -> None:
        """Another user's socket, to which this one may not connect, stays."""
        self.leave_socket(5)
        self.path.chmod(0)
        if os.geteuid() == 0:
            self.path.parent.chmod(0o777)
            os.seteuid(65534)
            self.addCleanup(os.seteuid, 0)
        self.assertIn("is not to be told (Permission denied)", self.refused())
        self.assertEqual(["s"], self.names())

    def test_no_directory(self) -> None:
        """A directory that is not there is an error of listening like others."""
        self.path = self.path / "deeper"
        self.assertRegex(self.refused(), "No such file or directory|Not a directory")

    def test_somebody_is_starting(self) -> None:
        """While it is another process's turn nothing is judged; and it is not waited for ever."""
        self.leave_socket()
        turn = Turn(os.fsencode(self.path))
        turn.acquire()
        self.addCleanup(turn.release)
        self.patch(Turn.acquire, "__defaults__", (0.02,))
        self.assertIn("another process is starting there", self.refused())
        self.assertEqual(["s", "s.guard"], self.names())

    def test_elsewhere(self) -> None:
        """Where a full queue looks like an empty place a lock of a living process is heeded."""
        self.patch(unix_port, "FULL_QUEUE_TELLS", False)
        self.leave_socket()
        self.leave_lock(os.getppid())
        self.assertIn("another process accepts", self.refused())
        self.lock.unlink()
        self.leave_lock(os.getpid())
        self.listen()


class EndTests(UnixPortTestCase):
    """At its end a socket takes along what is its own."""

    def test_taken_over(self) -> None:
        """Whose place was taken meanwhile leaves the other's socket and lock alone."""
        first = self.listen()
        self.path.unlink()
        self.leave_socket(5)
        first.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(["s", "s.lock"], self.names())
        self.assertTrue(accepts(os.fsencode(self.path)))

    def test_removed(self) -> None:
        """A socket that somebody has removed is no error, and its lock goes."""
        port = self.listen()
        self.path.unlink()
        port.connectionLost(Failure(ConnectionDone()))
        self.assertEqual([], self.names())

    def test_lock_of_another(self) -> None:
        """A lock that names another process by now stays."""
        port = self.listen()
        self.lock.unlink()
        self.leave_lock(os.getppid())
        port.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(["s.lock"], self.names())

    def test_not_permitted(self) -> None:
        """Who may not remove it any more says so in the log, and closes."""
        port = self.listen()
        self.path.parent.chmod(0o500)
        self.addCleanup(self.path.parent.chmod, 0o700)
        if os.geteuid() == 0:
            os.seteuid(65534)
            self.addCleanup(os.seteuid, 0)
        port.connectionLost(Failure(ConnectionDone()))
        self.assertIn(
            "The socket stays behind: {error}", [each["log_format"] for each in self.events]
        )

    def test_lock_is_not_left(self) -> None:
        """A socket that cannot be bound leaves no lock."""
        self.path = self.path.with_name("n" * 120)
        self.refused()
        self.assertEqual([], self.names())


class SubclassTests(SynchronousTestCase):
    """What is not ours is Twisted's."""

    def test_everything_else(self) -> None:
        """Other listening goes to the reactor itself."""
        reactor = MemoryReactor()
        ListeningReactor(reactor).listenTCP(0, Factory())
        self.assertEqual(1, len(reactor.tcpServers))

    def test_abstract(self) -> None:
        """A name in the abstract space has no file, so nothing to take over."""
        if sys.platform != "linux":
            return
        name = b"\0pyproxy-" + os.urandom(8).hex().encode()
        port = UNIXPort(name, Factory(), 5, 0o666, MemoryReactor(), 0)
        port.startListening()
        self.assertTrue(accepts(name))
        port.connectionLost(Failure(ConnectionDone()))
        self.assertFalse(accepts(name))
