"""Writes that reach the kernel in the turn in which they are made, together, without epoll.

Twisted's transports put octets aside until the reactor says that the socket can take them: two
calls of epoll_ctl, one more turn of the reactor and a copy of all that waits.  A relay mostly
writes to a socket that can take them now.  Large pieces leave at once; small ones at the end of the
turn, one after the other, since that wakes a sleeping peer once instead of once for each.  What it
gives stands in docs/adr/0004-writes-at-once.rst.
"""

from __future__ import annotations

import errno
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

from twisted.internet import tcp, unix
from twisted.logger import Logger

from pyproxy.relay.transports import StreamTransport

SMALL_BYTES = 16 * 1024
"""What at most waits for the end of a turn, for each connection."""

_PLAIN = (tcp.Server, tcp.Client, unix.Server, unix.Client)

_log = Logger()


def is_plain(transport: StreamTransport) -> bool:
    """Tell whether a transport is a socket of Twisted's, with nothing on it.

    A subclass (TLS in place, a test's) may do more in write than to put octets aside.
    """
    kind: type[object] = type(transport)
    return kind in _PLAIN


class Writer(Protocol):
    """What writes octets to a connection, in order.

    Attributes:
        failed: the peer had reset the connection; reading it may look like an orderly end after
            that, since the kernel tells of a reset once.
    """

    failed: bool

    def write(self, octets: bytes | memoryview) -> None:
        """Send octets; a view's place may be used again afterwards."""

    def flush(self) -> None:
        """Send now what waits for the end of the turn: the connection is about to be closed."""


def writer(transport: StreamTransport) -> Writer:
    """Return what writes to a transport.

    Whoever writes with the transport's own ``write`` beside it, or closes it, flushes first.  A
    transport that is no plain socket (TLS, a test's) is written to as usual.
    """
    if is_plain(transport):
        return _SocketWriter(cast(tcp.Connection, transport))
    return _TransportWriter(transport)


def backlog(transport: StreamTransport) -> int:
    """Return how many octets wait in a transport; 0 where that cannot be known."""
    begun = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
    return int(begun + getattr(transport, "_tempDataLen", 0))


class _TransportWriter:
    """Writes to a transport as everybody does."""

    __slots__ = ("_write", "failed")

    def __init__(self, transport: StreamTransport) -> None:
        self.failed = False
        self._write = transport.write

    def write(self, octets: bytes | memoryview) -> None:
        """Send octets in time."""
        self._write(octets if type(octets) is bytes else bytes(octets))

    def flush(self) -> None:
        """Nothing waits here."""


class _Turn:
    """The writers whose octets leave at the end of the reactor's present turn."""

    __slots__ = ("due",)

    def __init__(self) -> None:
        self.due: list[_SocketWriter] = []

    def begin(self, reactor: Any) -> None:
        """Let the reactor say when the turn ends."""
        if hasattr(reactor, "at_turn_end"):
            reactor.at_turn_end(self.end)
        else:
            # A reactor that is not ours begins its next turn with this.
            reactor.callLater(0, self.end)

    def end(self) -> None:
        """Let everything leave."""
        due, self.due = self.due, []
        for one in due:
            waiting = one.waiting
            if not waiting:
                continue
            one.waiting = b""
            try:
                one.send_now(b"", waiting)
            except Exception:  # noqa: BLE001
                # What pauses because of a write may fail; the other connections must not.
                _log.failure("a connection could not be written to")


_turns: WeakKeyDictionary[Any, _Turn] = WeakKeyDictionary()
"""The turn of each reactor that runs in this process."""


class _SocketWriter:
    """Writes to a socket, and puts aside only what it does not take.

    Attributes:
        waiting: octets that leave at the end of the turn.
    """

    __slots__ = ("_send", "_socket", "_transport", "_turn", "failed", "waiting")

    def __init__(self, transport: tcp.Connection) -> None:
        reactor: Any = transport.reactor
        turn = _turns.get(reactor)
        if turn is None:
            turn = _turns[reactor] = _Turn()
        self.failed = False
        self._turn = turn
        self._transport = transport
        self._socket = transport.socket
        self._send = transport.socket.send
        self.waiting = b""

    def write(self, octets: bytes | memoryview) -> None:
        """Send octets in this turn as far as that goes, the rest in time."""
        waiting = self.waiting
        if len(octets) + len(waiting) > SMALL_BYTES:
            self.waiting = b""
            self.send_now(waiting, octets)
        elif waiting:
            self.waiting = waiting + octets
        elif octets:
            self.waiting = octets if type(octets) is bytes else bytes(octets)
            turn = self._turn
            if not turn.due:
                turn.begin(self._transport.reactor)
            turn.due.append(self)

    def flush(self) -> None:
        """Send now what waits for the end of the turn."""
        waiting = self.waiting
        if waiting:
            self.waiting = b""
            self.send_now(b"", waiting)

    def send_now(self, first: bytes, octets: bytes | memoryview) -> None:
        """Send octets, and others before them, as far as that goes; the rest in time."""
        transport = self._transport
        sent = 0
        if not (transport._tempDataBuffer or transport.dataBuffer or transport._aborting):
            try:
                sent = self._socket.sendmsg((first, octets)) if first else self._send(octets)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                # After a FIN it is EPIPE: that was an orderly end.  What it means for the
                # connection the transport finds out when it writes or reads.
                sent = 0
                self.failed = self.failed or error.errno != errno.EPIPE
        if sent < len(first):
            transport.write(first[sent:])
            sent = len(first)
        sent -= len(first)
        if sent < len(octets):
            transport.write(bytes(octets[sent:]))
