"""The systems that are compared: how each is started.  Starts nothing itself."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Protocol

import attrs

from benchmarks import caddy, haproxy, nginx

DIRECT = "direct"
"""The name under which the upstream itself is measured, with nothing between."""

SUBJECT = "pyproxy"
"""The system whose ratios to the others are reported."""

HTTP = ("fixed", "streams")
"""The upstreams of requests; the one of WebSockets is ``echo``."""


@attrs.frozen
class Origin:
    """An upstream that runs."""

    name: str
    port: int


class System(Protocol):
    """A proxy that can be put in front of an upstream."""

    @property
    def name(self) -> str:
        """Return the name in tables and on the command line."""

    @property
    def upstreams(self) -> tuple[str, ...]:
        """Return the names of the upstreams that it can stand before."""

    def missing(self) -> str | None:
        """Return what this machine lacks to run it, or None."""

    def command(self, directory: Path, origin: Origin, port: int) -> list[str]:
        """Return a command that forwards a loopback port to an upstream.

        Args: directory, empty and the system's own; port, its own.
        """


def module_missing(name: str) -> str | None:
    """Return that a module is not installed, or None when it is."""
    if importlib.util.find_spec(name) is None:
        return f"no module {name} for {sys.executable}"
    return None


@attrs.frozen
class Pyproxy:
    """The proxy of this repository, as a user runs it."""

    name: str = SUBJECT
    upstreams: tuple[str, ...] = (*HTTP, "echo")

    def missing(self) -> str | None:
        return module_missing("pyproxy") or module_missing("twisted")

    def command(self, directory: Path, origin: Origin, port: int) -> list[str]:
        twistd = "from twisted.scripts.twistd import run; run()"
        return [
            *(sys.executable, "-c", twistd, "-n", "--pidfile=", "pyproxy"),
            *("--target", f"http://127.0.0.1:{origin.port}"),
            *("--port", str(port), "--no-access-log"),
        ]


@attrs.frozen
class Nginx:
    """Nginx with one worker, a pool of upstream connections and its buffers in memory."""

    name: str = "nginx"
    upstreams: tuple[str, ...] = (*HTTP, "echo")
    websocket_buffer: str = "64k"

    def missing(self) -> str | None:
        return None if nginx.find() else "no nginx on the path"

    def command(self, directory: Path, origin: Origin, port: int) -> list[str]:
        if origin.name == "echo":
            nginx.write_websocket_proxy(directory, origin.port, port, self.websocket_buffer)
        else:
            nginx.write_proxy(directory, origin.port, port)
        return nginx.command(nginx.find() or "nginx", directory)


@attrs.frozen
class Haproxy:
    """HAProxy in its HTTP mode with one thread."""

    name: str = "haproxy"
    upstreams: tuple[str, ...] = (*HTTP, "echo")

    def missing(self) -> str | None:
        return None if haproxy.find() else "no haproxy on the path"

    def command(self, directory: Path, origin: Origin, port: int) -> list[str]:
        haproxy.write_proxy(directory, origin.port, port)
        return haproxy.command(haproxy.find() or "haproxy", directory)


@attrs.frozen
class Caddy:
    """Caddy with one processor for Go; event streams are flushed at once, as it does by itself."""

    name: str = "caddy"
    upstreams: tuple[str, ...] = (*HTTP, "echo")

    def missing(self) -> str | None:
        return None if caddy.find() else "no caddy on the path"

    def command(self, directory: Path, origin: Origin, port: int) -> list[str]:
        caddy.write_proxy(directory, origin.port, port)
        return caddy.command(caddy.find() or "caddy", directory)


@attrs.frozen
class Aiohttp:
    """A pooled aiohttp proxy; for WebSockets, where that halves its cost, on uvloop."""

    name: str = "aiohttp"
    upstreams: tuple[str, ...] = (*HTTP, "echo")

    def missing(self) -> str | None:
        return module_missing("aiohttp")

    def command(self, directory: Path, origin: Origin, port: int) -> list[str]:
        loop = ["--uvloop"] if origin.name == "echo" else []
        return [*_peer("aiohttp_proxy", origin, port), *loop]


@attrs.frozen
class FastapiProxyLib:
    """The reverse proxy of the package fastapi-proxy-lib, on uvicorn."""

    name: str = "fastapi-proxy-lib"
    upstreams: tuple[str, ...] = HTTP

    def missing(self) -> str | None:
        needed = ("fastapi_proxy_lib", "fastapi", "uvicorn")
        return next(filter(None, map(module_missing, needed)), None)

    def command(self, directory: Path, origin: Origin, port: int) -> list[str]:
        return _peer("fastapi_proxy", origin, port)


@attrs.frozen
class Treq:
    """A twisted.web site in front of treq over the stock Agent; no WebSockets."""

    name: str = "treq"
    upstreams: tuple[str, ...] = HTTP

    def missing(self) -> str | None:
        return module_missing("treq")

    def command(self, directory: Path, origin: Origin, port: int) -> list[str]:
        return _peer("treq_proxy", origin, port)


@attrs.frozen
class Autobahn:
    """A pair of autobahn protocols that hand messages to each other; WebSockets only."""

    name: str = "autobahn"
    upstreams: tuple[str, ...] = ("echo",)

    def missing(self) -> str | None:
        return module_missing("autobahn")

    def command(self, directory: Path, origin: Origin, port: int) -> list[str]:
        return _peer("autobahn_proxy", origin, port)


def _peer(module: str, origin: Origin, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", f"benchmarks.peers.{module}"),
        *("--target", f"http://127.0.0.1:{origin.port}", "--port", str(port)),
    ]


SYSTEMS: tuple[System, ...] = (
    Pyproxy(),
    Nginx(),
    Nginx("nginx256k", ("echo",), "256k"),
    Haproxy(),
    Caddy(),
    Aiohttp(),
    Treq(),
    FastapiProxyLib(),
    Autobahn(),
)
