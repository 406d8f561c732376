"""The configuration file for HAProxy as a proxy.  Starts nothing."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

MOST_CONNECTIONS = 8000
"""Clients at once; each needs two descriptors."""

SPARE_DESCRIPTORS = 256

_MAIN = """\
global
    nbthread 1
    tune.bufsize 65536
    maxconn {connections}
defaults
    mode http
    backlog 1024
    http-reuse always
    option http-no-delay
    timeout connect 20s
    timeout client 300s
    timeout server 300s
    timeout tunnel 1h
frontend clients
    bind 127.0.0.1:{port}
    default_backend origin
backend origin
    server origin 127.0.0.1:{origin}
"""


def find() -> str | None:
    """Return where HAProxy is installed, or None."""
    return shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def command(executable: str, directory: Path) -> list[str]:
    """Return the command line that runs the configuration in a directory."""
    return [executable, "-db", "-q", "-f", str(directory / "haproxy.cfg")]


def write_proxy(directory: Path, origin: int, port: int) -> None:
    """Write a reverse proxy that keeps idle upstream connections and shares them."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = min(MOST_CONNECTIONS, (descriptors - SPARE_DESCRIPTORS) // 2)
    text = _MAIN.format(connections=connections, origin=origin, port=port)
    (directory / "haproxy.cfg").write_text(text)
