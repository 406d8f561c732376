"""A wire that gathers: what comes soon after each other arrives together.

Whether two frames come in one read or in two is up to the machine: the kernel joins them when the
reader is busy, and so does whatever stands in between.  A server that answers the two differently
does so on its own account.
"""

from __future__ import annotations

import select
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

QUIET = 0.005
"""Seconds without more octets after which what has come goes on."""

MOST = 256 * 1024
"""Octets after which it goes on anyway."""

SILENCE = 600.0
"""Seconds in which nothing comes at all; it ends a connection that was forgotten."""


@contextmanager
def gathering(port: int) -> Iterator[int]:
    """Lay a wire to a port on loopback.  Gives: the port at its other end."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as further:
                _join(self.request, further)

    with Wire(("127.0.0.1", 0), Handler) as wire:
        serving = threading.Thread(target=wire.serve_forever, args=(0.05,), daemon=True)
        serving.start()
        try:
            yield wire.server_address[1]
        finally:
            wire.shutdown()
            serving.join()


class Wire(socketserver.ThreadingTCPServer):
    """Its end where connections arrive."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that breaks is one of the things that the suite tries."""


def _join(one: socket.socket, other: socket.socket) -> None:
    back = threading.Thread(target=_pump, args=(other, one), daemon=True)
    back.start()
    _pump(one, other)
    back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass octets on, the end, and a break as a break."""
    try:
        sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while octets := _gather(source):
            sink.sendall(octets)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        with suppress(OSError):
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sink.shutdown(socket.SHUT_RD)


def _gather(source: socket.socket) -> bytes:
    """Return what comes next, and what comes right behind it; nothing at the end."""
    source.settimeout(SILENCE)
    octets = source.recv(MOST)
    poller = select.poll()
    poller.register(source, select.POLLIN)
    while octets and len(octets) < MOST and poller.poll(QUIET * 1000):
        if not (more := source.recv(MOST)):
            # The end is seen again by the next call.
            break
        octets += more
    return octets
