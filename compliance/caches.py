"""The caches that the public tests are run against: how each is started.  Starts nothing itself.

Each is set up as its own documentation says for a shared cache in front of one upstream, and keeps
what it stores in memory or below a directory of its own.  None is told to store what says nothing
about its freshness, or to serve what is stale: the tests would be about those settings then.
"""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from compliance.processes import CHECKOUT

SUBJECT = "pyproxy"
"""The system whose failures count."""

Words = list[str | Path]

# proxy_cache_background_update is for stale-while-revalidate, which a response asks for itself.
_NGINX = """\
{user}worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{
    worker_connections 2048;
}}
http {{
    access_log off;
    client_body_temp_path {directory}/client_body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    proxy_cache_path {directory}/cache levels=1:2 keys_zone=responses:8m max_size=64m;
    upstream origin {{
        server 127.0.0.1:{origin};
        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache responses;
            proxy_cache_revalidate on;
            proxy_cache_background_update on;
            proxy_cache_lock on;
        }}
    }}
}}
"""

_SQUID = """\
http_port 127.0.0.1:{port} accel defaultsite=127.0.0.1:{origin} no-vhost
cache_peer 127.0.0.1 parent {origin} 0 no-query no-digest originserver name=origin
http_access allow all
cache_peer_access origin allow all
cache_mem 64 MB
access_log none
cache_log {directory}/cache.log
cache_store_log none
pid_filename none
pinger_enable off
shutdown_lifetime 1 second
"""

_PYPROXY = """\
[[listeners]]
endpoint = "tcp:{port}:interface=127.0.0.1"

[upstreams.origin]
target = "http://127.0.0.1:{origin}"

[[routes]]
path = "/"
upstream = "origin"
{route}
"""


@attrs.frozen
class Cache:
    """A cache that can be put in front of an upstream.

    Attributes:
        name: as on the command line and in tables.
        program: what runs it, by name or path.
        command: makes its configuration in an empty directory of its own, for the port of the
            upstream and its own, both on loopback, and returns how to run it.
        version: the words behind the program that make it tell its version; none for the proxy,
            which is this checkout.
        environment: variables that it needs.
    """

    name: str
    program: str
    command: Callable[[str, Path, int, int], Words]
    version: tuple[str, ...]
    environment: Mapping[str, str] = attrs.field(factory=dict)

    def find(self) -> str | None:
        """Return where its program is, or None when this machine has none."""
        return shutil.which(self.program, path=f"{os.environ.get('PATH', '')}:{_SBIN}")


_SBIN = "/usr/sbin:/usr/local/sbin"


def caching_route(lines: Sequence[str] = ("cache = true",)) -> Cache:
    """Return the proxy of this checkout with a route that says this, too, in TOML."""

    def command(program: str, directory: Path, origin: int, port: int) -> Words:
        configuration = directory / "pyproxy.toml"
        route = "\n".join(lines)
        configuration.write_text(_PYPROXY.format(origin=origin, port=port, route=route))
        return [sys.executable, program, "-n", "--pidfile=", "pyproxy", "--config", configuration]

    twistd = Path(sys.executable).with_name("twistd")
    return Cache(SUBJECT, str(twistd), command, (), {"PYTHONPATH": str(CHECKOUT)})


def _nginx(program: str, directory: Path, origin: int, port: int) -> Words:
    # A master that runs as root gives its workers another user, who could not read the directory.
    user = f"user {pwd.getpwuid(0).pw_name};\n" if os.geteuid() == 0 else ""
    configuration = directory / "nginx.conf"
    configuration.write_text(
        _NGINX.format(user=user, directory=directory, origin=origin, port=port)
    )
    return [program, "-e", directory / "error.log", "-p", directory, "-c", configuration]


def _varnish(program: str, directory: Path, origin: int, port: int) -> Words:
    # The built-in VCL; what has no freshness of its own is not kept, what was fresh is kept for an
    # hour as something to validate (the package's own settings for it).
    return [
        *(program, "-F", "-j", "none", "-n", directory / "varnish", "-T", "none"),
        *("-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{origin}", "-s", "malloc,64m"),
        *("-p", "default_ttl=0", "-p", "default_grace=0", "-p", "default_keep=3600"),
    ]


def _squid(program: str, directory: Path, origin: int, port: int) -> Words:
    configuration = directory / "squid.conf"
    configuration.write_text(_SQUID.format(directory=directory, origin=origin, port=port))
    return [program, "-N", "-f", configuration]


CACHES = (
    caching_route(),
    Cache("nginx", "nginx", _nginx, ("-v",)),
    Cache("varnish", "varnishd", _varnish, ("-V",)),
    Cache("squid", "squid", _squid, ("-v",)),
)
"""In the order of the tables."""
