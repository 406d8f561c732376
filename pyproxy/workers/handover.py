"""What the parent hands to a worker, through a socket that nobody else reads.

Neither a command line nor an environment shows any of it.  It is pickled: the octets come from our
own parent alone.
"""

from __future__ import annotations

import os
import pickle
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs

from pyproxy.config.endpoints import FILE_ARGUMENT, unquoted
from pyproxy.config.schema import Config, Listen
from pyproxy.life.board import BoardAsked
from pyproxy.life.desk import Asked
from pyproxy.life.measuring import Measuring

LOG = 3
"""The descriptor on which a worker writes its log."""

TALLY = 4
"""The descriptor of the memory in which the workers take turns."""

FIRST_SOCKET = 5
"""The descriptor of a worker's first listening socket."""

LENGTH = struct.Struct("!I")

_systemd = re.compile(r"\A((?:haproxy:)*)systemd:.*", re.DOTALL)

_STANDINS = {"AF_INET": "tcp:0", "AF_INET6": "tcp6:0", "AF_UNIX": "unix:adopted"}


@attrs.frozen
class Bound:
    """A bound socket, and the place to listen that it is for.

    Attributes:
        number: by which parent and workers name it.
        family: as the socket module names it.
        files: the content of the files that the endpoint names, which only the parent may be able
            to read.
    """

    number: int
    listen: Listen
    family: str
    files: Mapping[str, bytes] = attrs.field(factory=dict, repr=False)

    @contextmanager
    def adopting(self) -> Iterator[Listen]:
        """Give the place as a worker has to read it, until it is open.

        Its files are copies in memory; sockets that systemd had opened for the parent are any
        socket.
        """
        if self.listen.description is None:
            yield self.listen
            return
        copies: list[int] = []

        def held(match: re.Match[str]) -> str:
            content = self.files.get(unquoted(match[2]))
            if content is None or not hasattr(os, "memfd_create"):
                return match[0]
            copies.append(_in_memory(content))
            return f"{match[1]}=/proc/self/fd/{copies[-1]}"

        standin = _STANDINS.get(self.family, "tcp:0")
        description = _systemd.sub(
            rf"\1{standin}", FILE_ARGUMENT.sub(held, self.listen.description)
        )
        try:
            yield attrs.evolve(self.listen, description=description)
        finally:
            for copy in copies:
                os.close(copy)


@attrs.frozen
class Taking:
    """A configuration to serve by from now on.

    Attributes:
        generation: its number.
        places: all that are open; a worker that has not seen one gets its socket with this.
    """

    generation: int
    config: Config
    places: tuple[Bound, ...]


@attrs.frozen
class Draining:
    """Accept no more, let what is open end by itself for so many seconds, and end."""

    timeout: float


Question = Asked | Measuring | BoardAsked
"""What a parent asks its workers: about their caches, what they have counted, what is open."""


@attrs.frozen
class Asking:
    """Answer a question.  Args: number, by which the answer names it."""

    number: int
    asked: Question


Order = Taking | Draining | Asking
"""What a parent says to a worker that runs."""


@attrs.frozen
class Handover:
    """All that a worker needs to know when it starts.

    Attributes:
        reactor: the module whose ``install`` makes a reactor like the parent's.
        workers: how many there are.
        first: by what it serves; its sockets are there, in order, from FIRST_SOCKET on.
    """

    pseudonym: bytes
    reactor: str
    workers: int
    first: Taking

    def octets(self) -> bytes:
        """Return it as a worker reads it: the path of modules first, since the rest needs it."""
        return framed(pickle.dumps((sys.path, pickle.dumps(self))))


def framed(content: bytes) -> bytes:
    """Return octets with their length before them."""
    return LENGTH.pack(len(content)) + content


def _in_memory(content: bytes) -> int:
    """Return the descriptor of a file that exists in this process only."""
    descriptor = os.memfd_create("pyproxy")
    os.write(descriptor, content)
    return descriptor
