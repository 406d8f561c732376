"""What the parent hands to a worker, through a pipe that nobody else reads.

Neither a command line nor an environment shows any of it.  It is pickled: the octets come from our
own parent alone.
"""

from __future__ import annotations

import os
import pickle
import re
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs

from pyproxy.config.schema import Config, Listen

LOG = 3
"""The descriptor on which a worker writes its log."""

TALLY = 4
"""The descriptor of the memory in which the workers take turns."""

FIRST_SOCKET = 5
"""The descriptor of a worker's first listening socket."""

LENGTH = struct.Struct("!I")

_file = re.compile(r"(?<=:)(privateKey|certKey|extraCertChain|dhParameters)=((?:\\.|[^:\\])+)")
_systemd = re.compile(r"\A((?:haproxy:)*)systemd:.*", re.DOTALL)

_STANDINS = {"AF_INET": "tcp:0", "AF_INET6": "tcp6:0", "AF_UNIX": "unix:adopted"}


@attrs.frozen
class Socket:
    """A bound socket.  Attributes: family as the socket module names it; the descriptor."""

    family: str
    descriptor: int


@attrs.frozen
class Handover:
    """All that a worker needs to know.

    Attributes:
        reactor: the module whose ``install`` makes a reactor like the parent's.
        sockets: one for each place to listen, by the worker's descriptors.
        files: the content of the files that endpoints name, which only the parent may be able to
            read.
    """

    config: Config
    pseudonym: bytes
    reactor: str
    sockets: tuple[Socket, ...]
    files: Mapping[str, bytes] = attrs.Factory(dict)

    def octets(self) -> bytes:
        """Return it as a worker reads it: the path of modules first, since the rest needs it."""
        content = pickle.dumps((sys.path, pickle.dumps(self)))
        return LENGTH.pack(len(content)) + content


def unquoted(argument: str) -> str:
    """Return an argument of an endpoint string as it was meant."""
    return re.sub(r"\\(.)", r"\1", argument)


def read_files(listens: tuple[Listen, ...]) -> dict[str, bytes]:
    """Read the keys and certificates that endpoints name, while the process still may."""
    names = {
        unquoted(match[2])
        for listen in listens
        for match in _file.finditer(listen.description or "")
    }
    return {name: Path(name).read_bytes() for name in names}


def adopting(listen: Listen, socket: Socket, files: Mapping[str, bytes]) -> Listen:
    """Return a place to listen as a worker has to read it.

    Its files are copies in memory; sockets that systemd had opened for the parent are any socket.
    """
    if listen.description is None:
        return listen

    def held(match: re.Match[str]) -> str:
        content = files.get(unquoted(match[2]))
        return match[0] if content is None else f"{match[1]}={_in_memory(content) or match[2]}"

    standin = _STANDINS.get(socket.family, "tcp:0")
    description = _systemd.sub(rf"\1{standin}", _file.sub(held, listen.description))
    return attrs.evolve(listen, description=description)


def _in_memory(content: bytes) -> str:
    """Return the path of a file that exists in this process only; empty where there are none."""
    if not hasattr(os, "memfd_create"):
        return ""
    descriptor = os.memfd_create("pyproxy")
    os.write(descriptor, content)
    return f"/proc/self/fd/{descriptor}"
