"""Give a proxy process names of the test's own, as an operator's name service would."""

from __future__ import annotations

import json
import socket
import tempfile
import unittest
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.live.kit import CHECKOUT

_CODE = """
import json, os, socket

_known = json.loads(os.environ["LIVE_NAMES"])
_ask = socket.getaddrinfo


def getaddrinfo(host, port, *more, **named):
    if host not in _known:
        return _ask(host, port, *more, **named)
    if not _known[host]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")
    return [one for each in _known[host] for one in _ask(each, port, *more, **named)]


socket.getaddrinfo = getaddrinfo
"""


def name_service(case: unittest.TestCase, known: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return an environment in which names stand for addresses, in order; without any: unknown."""
    directory = tempfile.TemporaryDirectory()
    case.addCleanup(directory.cleanup)
    # Python runs a module of this name at its start.
    Path(directory.name, "sitecustomize.py").write_text(_CODE)
    return {"PYTHONPATH": f"{directory.name}:{CHECKOUT}", "LIVE_NAMES": json.dumps(known)}


def link_local() -> tuple[str, str]:
    """Return an address of this machine with the zone that it needs, or loopback and its zone."""
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, _, _, scope, _, interface = line.split()
        if scope == "20":
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)), interface
    return "::1", "lo"
