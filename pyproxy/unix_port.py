"""Unix sockets that outlive a kill: one that nobody accepts on is taken over, with its lock.

Twisted asks whether the process is alive that the lock names.  In a container that is, after a
kill, often the very process that asks.  Here a connection tells: who gets one has found somebody.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from pyproxy.turn import Busy, Turn

LOOKS = 3
"""Times that nobody may accept before that is believed of a place which another process locked."""

GRACE = 0.05
"""Seconds between two looks; a stranger, who waits for no turn, may be between bind and listen."""

ORPHANS = 2.0
"""Seconds in which the workers of a parent that was killed end, and their socket with them."""

FULL_QUEUE_TELLS = sys.platform == "linux"
"""Whether a connection to a full queue ends in another way than one to a place without anybody."""

_log = Logger("pyproxy")


class ListeningReactor:
    """A reactor that listens on Unix sockets by this module, and on everything else as ever."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenUNIX(
        self, address: str, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> IListeningPort:
        """Listen, as IReactorUNIX says it.

        Raises: CannotListenError, also when somebody accepts connections there.
        """
        port = UNIXPort(os.fsencode(address), factory, backlog, mode, self._reactor, wantPID)
        port.startListening()
        return port


class UNIXPort(unix.Port):
    """A Unix socket that takes the place of one that nobody accepts on, and leaves only its own."""

    _file: os.stat_result | None = None
    """What bind has made; None before that, and where no file belongs to the socket."""

    def __init__(
        self, path: bytes, factory: Any, backlog: int, mode: int, reactor: Any, lock: int
    ) -> None:
        super().__init__(path, factory, backlog, mode, reactor, lock)
        self._path = path

    def startListening(self) -> None:
        """Listen.  Raises: CannotListenError."""
        path = self._path
        try:
            with _in_turn(path) as alone:
                if alone:
                    make_room(path, bool(self.wantPID))
                super().startListening()  # type: ignore[no-untyped-call]
                self._file = _stat(path)
        except CannotListenError:
            self._unlock()
            raise
        except OSError as error:
            self._unlock()
            raise CannotListenError(None, path, error) from error

    def connectionLost(self, reason: Failure) -> None:
        """Close, and remove the socket and its lock unless others have taken this place."""
        ours = self._file
        try:
            there = _stat(self._path)
            if ours is not None and (there is None or os.path.samestat(ours, there)):
                if there is not None:
                    os.unlink(self._path)
                self._unlock()
        except OSError as error:
            _log.warn("The socket stays behind: {error}", error=error)
        tcp.Port.connectionLost(self, reason)

    def _unlock(self) -> None:
        lock: Any = self.lockFile
        if lock is not None and lock.locked and owner_of(self._path) == os.getpid():
            lock.unlock()


@contextmanager
def _in_turn(path: bytes) -> Iterator[bool]:
    """Be the only one that starts there.  Gives: False where that cannot be had."""
    turn = Turn(path)
    try:
        alone = not path.startswith(b"\0") and turn.acquire()
    except Busy as error:
        raise CannotListenError(None, path, "another process is starting there") from error
    try:
        yield alone
    finally:
        turn.release()


def make_room(path: bytes, lock: bool) -> None:
    """Remove a socket that nobody accepts on, and its lock.

    Args: lock is False where a lock is neither asked for nor heeded.
    Raises: CannotListenError when somebody accepts there, and when that cannot be told.
    """
    owner = owner_of(path) if lock else None
    there = _stat(path)
    if there is None and (owner is None or not _lives(owner)):
        # Free; Twisted itself clears away the lock of a process that is no more.
        return
    if there is not None and not stat.S_ISSOCK(there.st_mode):
        raise CannotListenError(None, path, "something is there that is no socket")
    if _somebody_accepts(path, owner):
        raise CannotListenError(None, path, "another process accepts connections there")
    if there is not None:
        os.unlink(path)
    if owner is not None:
        os.unlink(_lock_of(path))
    _log.warn(
        "Nobody accepts connections on {path}: taken over{lock}",
        path=os.fsdecode(path),
        lock="" if owner is None else f", with its lock, which names process {owner}",
    )


def _somebody_accepts(path: bytes, owner: int | None) -> bool:
    """Tell whether a connection finds somebody; with patience for what is just changing.

    Raises: CannotListenError when that cannot be told.
    """
    if owner is not None and not _lives(owner):
        end = time.monotonic() + ORPHANS
        while (found := accepts(path)) and time.monotonic() < end:
            time.sleep(GRACE)
        return found
    for look in range(1 if owner == os.getpid() else LOOKS):
        time.sleep(GRACE if look else 0)
        if accepts(path):
            return True
    # Where it does not tell, the lock of a living process is heeded.
    return not (FULL_QUEUE_TELLS or owner in (None, os.getpid()))


def accepts(path: bytes) -> bool:
    """Tell whether somebody accepts connections on a socket.

    Raises: CannotListenError when that cannot be told.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            # The queue is full: it is somebody's.
            return True
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError as error:
            why = f"whether somebody accepts connections there is not to be told ({error.strerror})"
            raise CannotListenError(None, path, why) from error
    return True


def _lock_of(path: bytes) -> bytes:
    """Return where Twisted puts a socket's lock: a symbolic link to the number of a process."""
    return path + b".lock"


def owner_of(path: bytes) -> int | None:
    """Return the number of the process that the lock of a socket names; None without a lock.

    Zero when the lock names none.
    """
    try:
        return int(os.readlink(_lock_of(path)))
    except ValueError:
        return 0
    except OSError:
        return None


def _lives(pid: int) -> bool:
    if pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def _stat(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, ValueError):
        # The second: a name in Linux's abstract space, which begins with NUL.
        return None
