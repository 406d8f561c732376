"""The systems that are compared: how each is started.  Starts nothing itself."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Protocol

import attrs

from benchmarks import nginx

DIRECT = "direct"
"""The name under which the upstream itself is measured, with nothing between."""

SUBJECT = "pyproxy"
"""The system whose ratios to the others are reported."""


class System(Protocol):
    """A proxy that can be put in front of an upstream."""

    @property
    def name(self) -> str:
        """Return the name in tables and on the command line."""

    def missing(self) -> str | None:
        """Return what this machine lacks to run it, or None."""

    def command(self, directory: Path, origin: int, port: int) -> list[str]:
        """Return a command that forwards a loopback port to another.

        Args: directory, empty and the system's own; origin, the upstream's port; port, its own.
        """


def _module_missing(name: str) -> str | None:
    if importlib.util.find_spec(name) is None:
        return f"no module {name} for {sys.executable}"
    return None


@attrs.frozen
class Pyproxy:
    """The proxy of this repository, as a user runs it."""

    name: str = SUBJECT

    def missing(self) -> str | None:
        return _module_missing("pyproxy") or _module_missing("twisted")

    def command(self, directory: Path, origin: int, port: int) -> list[str]:
        twistd = "from twisted.scripts.twistd import run; run()"
        return [
            *(sys.executable, "-c", twistd, "-n", "--pidfile=", "pyproxy"),
            *("--target", f"http://127.0.0.1:{origin}", "--port", str(port), "--no-access-log"),
        ]


@attrs.frozen
class Nginx:
    """Nginx without buffering, with one worker and a pool of upstream connections."""

    name: str = "nginx"

    def missing(self) -> str | None:
        return None if nginx.find() else "no nginx on the path"

    def command(self, directory: Path, origin: int, port: int) -> list[str]:
        nginx.write_proxy(directory, origin, port)
        return nginx.command(nginx.find() or "nginx", directory)


@attrs.frozen
class Aiohttp:
    """A pooled aiohttp proxy."""

    name: str = "aiohttp"

    def missing(self) -> str | None:
        return _module_missing("aiohttp")

    def command(self, directory: Path, origin: int, port: int) -> list[str]:
        return _peer("aiohttp_proxy", origin, port)


@attrs.frozen
class Treq:
    """A twisted.web site in front of treq over the stock Agent."""

    name: str = "treq"

    def missing(self) -> str | None:
        return _module_missing("treq")

    def command(self, directory: Path, origin: int, port: int) -> list[str]:
        return _peer("treq_proxy", origin, port)


def _peer(module: str, origin: int, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", f"benchmarks.peers.{module}"),
        *("--target", f"http://127.0.0.1:{origin}", "--port", str(port)),
    ]


SYSTEMS: tuple[System, ...] = (Pyproxy(), Nginx(), Aiohttp(), Treq())
