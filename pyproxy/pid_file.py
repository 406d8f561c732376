"""The pid file that twistd was told of: its holder locks it, so that a lock and no number tells.

twistd does not start while the file names a living process.  After a kill that may be a process
which got the number since; in a container it is often the very one that starts.
"""

from __future__ import annotations

import atexit
import fcntl
import os

from twisted.application.service import Service
from twisted.logger import Logger

from pyproxy.turn import Busy, Turn

_log = Logger("pyproxy")

_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK


class PidFile(Service):
    """A pid file, from before twistd looks at it until this process ends.

    Between ``clear`` and the start of this service nobody else looks: two that start at once do
    not both find it free.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._turn = Turn(os.fsencode(self._path))
        self._lock = -1

    def clear(self) -> None:
        """Remove the file when it is nobody's, so that twistd does not take it for somebody's.

        What is still in doubt then, twistd decides.
        Raises: SystemExit when another process holds it.
        """
        try:
            self._turn.acquire()
        except Busy:
            raise SystemExit(f"Another process starts with the pid file {self._path}") from None
        # Whatever ends the start; a daemon's parents end without this.
        atexit.register(self._turn.release)
        try:
            file = os.open(self._path, os.O_RDONLY | _FLAGS)
        except OSError:
            return
        try:
            self._judge(file)
        except SystemExit:
            self._turn.release()
            raise
        finally:
            os.close(file)

    def _judge(self, file: int) -> None:
        content = os.read(file, 64).strip()
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = content.decode("ascii", "backslashreplace")
            raise SystemExit(
                f"Another pyproxy is running, PID {pid}; it holds the pid file {self._path}"
            ) from None
        except OSError:
            # No locks here: the number alone tells.
            pass
        if is_left_behind(content):
            try:
                os.remove(self._path)
            except OSError as error:
                _log.warn("The pid file is left behind, and stays: {error}", error=error)
                return
            _log.warn(
                "Nobody holds the pid file {path}: taken over; it named process {pid}",
                path=self._path,
                pid=content.decode("ascii") or "(none)",
            )

    def privilegedStartService(self) -> None:
        """Hold the file that twistd has written by now, and let others look.

        Raises: SystemExit when another process holds it.
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        try:
            self._hold()
        finally:
            self._turn.release()

    def _hold(self) -> None:
        try:
            # Open for writing: over a network a lock for oneself alone asks for that.
            self._lock = os.open(self._path, os.O_RDWR | _FLAGS)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Only where there can be no turns.
            _log.critical("Another pyproxy holds the pid file {path}", path=self._path)
            raise SystemExit(f"pyproxy: another one holds the pid file {self._path}") from None
        except OSError:
            # Without a lock it is a pid file as twistd has always had it.
            pass


def is_left_behind(content: bytes) -> bool:
    """Tell whether an unlocked pid file is certainly nobody's.

    It names this process, which has written nothing yet; or a process that runs another program
    than a Python, or none any more; or no process, as after a kill before the number was written.
    """
    if not content:
        return True
    if not content.isdigit():
        return False
    pid = int(content)
    return pid == os.getpid() or _runs_something_else(pid) or _runs_nothing(pid)


def _runs_something_else(pid: int) -> bool:
    """Tell whether a process is none of twistd's; False also where that cannot be seen."""
    try:
        program, ours = (os.readlink(f"/proc/{each}/exe") for each in (pid, os.getpid()))
    except OSError:
        return False
    return program != ours and not os.path.basename(program).startswith(("python", "pypy"))


def _runs_nothing(pid: int) -> bool:
    """Tell whether a process has ended, and only its parent has not asked how.  Spec: proc(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in (b"Z", b"X")
