"""The pid file: one that nobody holds is no hindrance, one that somebody holds is."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.application.service import IService, MultiService
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.scripts._twistd_unix import ServerOptions as UnixOptions
from twisted.scripts._twistd_unix import checkPID
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pyproxy.pid_file import PidFile, is_left_behind
from pyproxy.tap import Options, makeService
from pyproxy.turn import Turn


class PidFileTestCase(SynchronousTestCase):
    """A case with a place for a pid file."""

    def setUp(self) -> None:
        """Make a directory, and hear the log."""
        temporary = tempfile.TemporaryDirectory(prefix="pid-")
        self.addCleanup(temporary.cleanup)
        self.path = Path(temporary.name, "twistd.pid")
        self.events = EventLoggingObserver()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)

    def clear(self) -> PidFile:
        """Do what is done before twistd looks."""
        file = PidFile(str(self.path))
        self.addCleanup(file._turn.release)
        file.clear()
        return file

    def start(self) -> PidFile:
        """Do all that is done in a start, twistd's part too."""
        file = self.clear()
        checkPID(str(self.path))
        self.path.write_text(str(os.getpid()))
        file.privilegedStartService()
        self.addCleanup(os.close, file._lock)
        return file

    def other(self, *command: str) -> int:
        """Run a process that stays; return its number."""
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(process.__exit__, None, None, None)
        assert process.stdout is not None
        process.stdout.readline()
        return process.pid


class LeftBehindTests(PidFileTestCase):
    """What a kill has left is taken over, with a line in the log."""

    def test_names_ourselves(self) -> None:
        """The number is this process's own, as in a container that starts again."""
        for content in (f"{os.getpid()}", f"{os.getpid()}\n", ""):
            self.path.write_text(content)
            self.clear()._turn.release()
            checkPID(str(self.path))
            self.assertFalse(self.path.exists())
            self.assertEqual(
                [str(self.path)], [each["path"] for each in self.events if "path" in each]
            )
            self.events._events.clear()

    def test_names_another_program(self) -> None:
        """The number belongs by now to a process that is no Python, so none of twistd's."""
        pid = self.other("sh", "-c", "echo; read x")
        self.path.write_text(str(pid))
        self.clear()
        self.assertFalse(self.path.exists())

    def test_names_nobody(self) -> None:
        """Of a process that is no more twistd removes the file itself."""
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        self.path.write_text(str(ended.pid))
        self.start()
        self.assertEqual(str(os.getpid()), self.path.read_text())

    def test_doubt(self) -> None:
        """Another Python may be a twistd, and what is no number anything: twistd decides."""
        self.assertFalse(is_left_behind(str(self.other(sys.executable, "-c", WAIT)).encode()))
        self.assertFalse(is_left_behind(b"no number"))
        # Ended, but its parent has not asked how: it has a number, and runs nothing.
        ended = subprocess.Popen([sys.executable, "-c", ""])
        self.addCleanup(ended.wait)
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        self.assertTrue(is_left_behind(str(ended.pid).encode()))
        self.assertFalse(is_left_behind(b"4194304999"))
        self.assertFalse(is_left_behind(b"-1"))
        for text in (str(self.other(sys.executable, "-c", WAIT)), "no number"):
            self.path.write_text(text)
            self.clear()._turn.release()
            self.assertRaises(SystemExit, checkPID, str(self.path))
            self.assertEqual(text, self.path.read_text())

    def test_cannot_be_removed(self) -> None:
        """A file in a directory that is not ours stays, and the log says so."""
        self.path.write_text(str(os.getpid()))
        self.path.chmod(0o666)
        self.path.parent.chmod(0o555)
        self.addCleanup(self.path.parent.chmod, 0o700)
        if os.geteuid() == 0:
            os.seteuid(65534)
            self.addCleanup(os.seteuid, 0)
        self.clear()
        self.assertTrue(self.path.exists())
        self.assertIn("stays", str([each["log_format"] for each in self.events]))


WAIT = "import sys; print(flush=True); sys.stdin.read()"

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


class HeldTests(PidFileTestCase):
    """What a living process holds is refused, whatever number it names."""

    def test_held(self) -> None:
        """Held from the start to the end; also where the number means nothing, or ourselves."""
        for text in (str(os.getpid()), "4194304999", ""):
            self.path.write_text(text)
            self.other(sys.executable, "-c", HOLD, str(self.path))
            error = self.assertRaises(SystemExit, self.clear)
            self.assertIn("Another pyproxy is running", str(error))
            self.assertIn(str(self.path), str(error))
            self.assertEqual(text, self.path.read_text())
            self.path.unlink()

    def test_holds(self) -> None:
        """Who has started holds the file, and lets others look."""
        self.start()
        with self.path.open() as file, self.assertRaises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        self.assertEqual([self.path.name], os.listdir(self.path.parent))
        self.assertRaises(SystemExit, self.clear)

    def test_one_at_a_time(self) -> None:
        """While another one starts nobody looks; and it is not waited for ever."""
        self.clear()
        self.patch(Turn.acquire, "__defaults__", (0.02,))
        error = self.assertRaises(SystemExit, self.clear)
        self.assertIn("Another process starts", str(error))

    def test_lost(self) -> None:
        """Where there can be no turns, the lock alone decides who goes on."""
        file = self.clear()
        self.path.write_text(str(os.getpid()))
        self.other(sys.executable, "-c", HOLD, str(self.path))
        self.assertRaises(SystemExit, file.privilegedStartService)
        os.close(file._lock)

    def test_removed(self) -> None:
        """A file that somebody removed in between is no error."""
        file = self.clear()
        file.privilegedStartService()
        self.assertEqual([], os.listdir(self.path.parent))


class OptionsTests(PidFileTestCase):
    """The pid file is the one that twistd was told of."""

    def options(self, pid_file: str | None) -> Options:
        """Read options as twistd does."""
        options = Options()
        twistd = UnixOptions()
        twistd["pidfile"] = pid_file
        options.parent = twistd
        options.parseOptions(["--target=http://127.0.0.1:1", "--port=0"])
        if options.pid_file is not None:
            self.addCleanup(options.pid_file._turn.release)
        return options

    def test_none(self) -> None:
        """Without one the proxy is the whole service."""
        self.assertIsNone(self.options("").pid_file)
        self.assertIsNone(self.options(None).pid_file)

    def test_service(self) -> None:
        """With one it comes before the proxy: who does not get it opens no port."""
        self.path.write_text(str(os.getpid()))
        options = self.options(str(self.path))
        self.assertFalse(self.path.exists())
        service = makeService(options)
        self.assertTrue(verifyObject(IService, service))
        assert isinstance(service, MultiService)
        self.assertIs(options.pid_file, service.services[0])
        self.assertEqual(3, len(service.services))
