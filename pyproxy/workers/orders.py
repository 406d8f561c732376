"""What the parent says to a worker that runs: orders, and the sockets that go with them.

One socket for each worker, downwards only; what a worker says goes up with its log.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from pyproxy.workers.handover import LENGTH, Order, framed

MOST_SOCKETS = 200
"""Sockets that go with one octet; Linux takes 253."""

READ_SIZE = 65536


def octets_of(order: Order) -> bytes:
    """Return an order as it is sent: to write a large one once is enough for all workers."""
    return framed(pickle.dumps(order))


@attrs.define(eq=False)
class _Letter:
    """Octets that have to be sent, and the descriptors that go with the first of them."""

    octets: memoryview
    descriptors: list[int] = attrs.Factory(list)


@implementer(IWriteDescriptor)
class OrderLine:
    """The parent's end: sends without ever waiting for who reads.

    How much may wait is bounded by who gives orders: a worker that does not take one in time is
    killed.
    Attributes: for_child, the other end, until ``child_has_it``.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._socket, self.for_child = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._letters: list[_Letter] = []
        self._writing = False

    def child_has_it(self) -> None:
        """Close the worker's end here, once the worker was started with it, or was not."""
        self.for_child.close()

    def write(self, octets: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send octets; descriptors, which may be closed afterwards, come with the first of them."""
        rest = memoryview(octets)
        copies: list[int] = []
        try:
            for descriptor in descriptors:
                copies.append(os.dup(descriptor))
        except OSError:
            _close(copies)
            raise
        while copies:
            self._letters.append(_Letter(rest[:1], copies[:MOST_SOCKETS]))
            copies, rest = copies[MOST_SOCKETS:], rest[1:]
        self._letters.append(_Letter(rest))
        self.doWrite()

    def close(self) -> None:
        """Say no more; for the worker that is the end of its parent."""
        if self._writing:
            self._writing = False
            self._reactor.removeWriter(self)
        self._drop()
        self._socket.close()

    def _drop(self) -> None:
        """Have nothing to send, and keep no socket open for that."""
        for letter in self._letters:
            _close(letter.descriptors)
        self._letters.clear()

    # what the reactor calls

    def doWrite(self) -> None:
        """Write what the socket takes now, the rest when it takes more."""
        try:
            while self._letters:
                self._write(self._letters[0])
        except BlockingIOError:
            pass
        except OSError:
            # The worker is no more: its end is about to be told.
            self._drop()
        if bool(self._letters) is not self._writing:
            self._writing = not self._writing
            change = self._reactor.addWriter if self._writing else self._reactor.removeWriter
            change(self)

    def _write(self, letter: _Letter) -> None:
        if letter.descriptors:
            sent = socket.send_fds(self._socket, [letter.octets], letter.descriptors)
            _close(letter.descriptors)
            letter.descriptors = []
        else:
            sent = self._socket.send(letter.octets)
        letter.octets = letter.octets[sent:]
        if not letter.octets:
            self._letters.pop(0)

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def connectionLost(self, reason: Failure) -> None:
        """Have nothing more to say."""
        self.close()

    def logPrefix(self) -> str:
        """Name this in a log."""
        return "orders"


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


@implementer(IReadDescriptor)
class OrderReader:
    """The worker's end: reads orders, and notices the end of the parent.

    Args: descriptor of the socket; obey gets an order, and takes the sockets that go with it from
        the front of a list; end is called when there is no parent any more.
    """

    def __init__(
        self, descriptor: int, obey: Callable[[Order, list[int]], None], end: Callable[[], None]
    ) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._obey = obey
        self._end = end
        self._kept = b""
        self._descriptors: list[int] = []

    def doRead(self) -> Exception | None:  # type: ignore[override]
        """Read what has come, and obey what is whole."""
        try:
            octets, descriptors, _, _ = socket.recv_fds(self._socket, READ_SIZE, MOST_SOCKETS)
        except BlockingIOError:
            return None
        except OSError:
            return ConnectionDone()
        if not octets:
            return ConnectionDone()
        self._descriptors += descriptors
        self._kept += octets
        while len(self._kept) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._kept)[0]
            if len(self._kept) < end:
                break
            content, self._kept = self._kept[LENGTH.size : end], self._kept[end:]
            self._obey(pickle.loads(content), self._descriptors)
        return None

    def connectionLost(self, reason: Failure) -> None:
        """End with the parent."""
        self._end()

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """Name this in a log."""
        return "orders"
