"""The configuration file for Caddy as a proxy.  Starts nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

IDLE_CONNECTIONS = 2048
"""As many as the soak has clients."""


def find() -> str | None:
    """Return where Caddy is installed, or None."""
    return shutil.which("caddy")


def command(executable: str, directory: Path) -> list[str]:
    """Return the command line that runs the configuration in a directory."""
    return [
        # It has one CPU like the others, and writes nothing outside of the directory.
        *("env", "GOMAXPROCS=1", f"XDG_DATA_HOME={directory}", f"XDG_CONFIG_HOME={directory}"),
        *(executable, "run", "--config", str(directory / "caddy.json")),
    ]


def write_proxy(directory: Path, origin: int, port: int) -> None:
    """Write a reverse proxy with a pool of idle upstream connections.

    Without a flush_interval Caddy flushes event streams and content of unknown length at once.
    """
    proxy = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"127.0.0.1:{origin}"}],
        "transport": {
            "protocol": "http",
            "compression": False,
            "keep_alive": {"idle_timeout": "300s", "max_idle_conns_per_host": IDLE_CONNECTIONS},
        },
    }
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "automatic_https": {"disable": True},
        "protocols": ["h1"],
        "routes": [{"handle": [proxy]}],
    }
    configuration = {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": {"http": {"grace_period": "1s", "servers": {"proxy": server}}},
    }
    (directory / "caddy.json").write_text(json.dumps(configuration, indent=2))
