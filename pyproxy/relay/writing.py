"""Writes that reach the kernel at once when nothing waits before them.

Twisted's transports put octets aside until the reactor says that the socket can take them: two
calls of epoll_ctl, one more turn of the reactor and a copy of all that waits.  A relay mostly
writes to a socket that can take them now.  What it gives, and where it costs, stands in
docs/adr/0004-writes-at-once.rst.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet import tcp, unix

from pyproxy.relay.transports import StreamTransport

_PLAIN = (tcp.Server, tcp.Client, unix.Server, unix.Client)


def is_plain(transport: StreamTransport) -> bool:
    """Tell whether a transport is a socket of Twisted's, with nothing on it.

    A subclass (TLS in place, a test's) may do more in write than to put octets aside.
    """
    kind: type[object] = type(transport)
    return kind in _PLAIN


def writer(transport: StreamTransport) -> Callable[[bytes], None]:
    """Return what writes octets to a transport, in order with the transport's own ``write``.

    A transport that is no plain socket (TLS, a test's) is written to as usual.
    """
    if is_plain(transport):
        return _ThroughWriter(cast(tcp.Connection, transport)).write
    return transport.write


def view_writer(transport: StreamTransport) -> Callable[[bytes | memoryview], None]:
    """Return a ``writer`` that also takes views whose place is used again.

    What has to wait is copied.  It is for one who writes no more once he has closed the transport,
    in whichever way.
    """
    if is_plain(transport):
        return _ViewWriter(cast(tcp.Connection, transport)).write
    write = transport.write
    return lambda octets: write(bytes(octets))


def backlog(transport: StreamTransport) -> int:
    """Return how many octets wait in a transport; 0 where that cannot be known."""
    begun = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
    return int(begun + getattr(transport, "_tempDataLen", 0))


class _ThroughWriter:
    """Writes to a socket, and puts aside only what it does not take."""

    __slots__ = ("_transport",)

    def __init__(self, transport: tcp.Connection) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Send octets now as far as that goes, the rest in time."""
        transport = self._transport
        if (
            transport._tempDataBuffer
            or transport.dataBuffer
            or not transport.connected
            or transport.disconnecting
            or transport._aborting
            or transport._writeDisconnected
            or transport._writeDisconnecting
        ):
            transport.write(data)
            return
        try:
            sent = transport.socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            # The transport will meet the same error, and knows how to end.
            sent = 0
        if sent < len(data):
            transport.write(data[sent:] if sent else data)


class _ViewWriter:
    """Writes as ``_ThroughWriter`` does, with less to ask: that is 0.7 us of the 13 of a frame."""

    __slots__ = ("_send", "_transport")

    def __init__(self, transport: tcp.Connection) -> None:
        self._transport = transport
        self._send = transport.socket.send

    def write(self, octets: bytes | memoryview) -> None:
        """Send octets now as far as that goes, the rest in time."""
        transport = self._transport
        sent = 0
        if not (transport._tempDataBuffer or transport.dataBuffer or transport._aborting):
            try:
                sent = self._send(octets)
            except OSError:
                # It is full, or the transport will meet the same error, and knows how to end.
                sent = 0
        if sent < len(octets):
            transport.write(bytes(octets[sent:]))
