"""Configuration files for nginx, as an upstream and as a proxy.  Starts nothing."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from benchmarks.payloads import ANSWER_LENGTH, RESPONSE_FIELDS, SMALL, TRANSFER_LENGTH, content

_MAIN = """\
{user}worker_processes 1;
worker_rlimit_nofile 16384;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{
    worker_connections {connections};
}}
http {{
    access_log off;
    default_type application/octet-stream;
    client_body_temp_path {directory}/client_body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 0;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    sendfile on;
    tcp_nodelay on;
    {http}
    upstream origin {{
        server 127.0.0.1:{origin};
        keepalive 2048;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        {server}
    }}
}}
"""

CONNECTIONS = 17408
"""8,000 streams are 16,000 connections, and it closes some when less than a sixteenth is free."""

_POOLED = """proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_read_timeout 300s;
            proxy_request_buffering off;
            client_body_buffer_size 256k;"""

# Measured on the machine of docs/performance.rst: with the default buffers (4 KiB, and no
# buffering) a download cost 2260 us/MiB instead of 340, an answer of 100 KiB 229 us instead of 50.
# A request's body that is buffered first, in memory, cost 450 us/MiB instead of 310.
_BUFFERED = """proxy_buffering on;
            proxy_buffer_size 64k;
            proxy_buffers 16 64k;
            proxy_busy_buffers_size 256k;
            proxy_max_temp_file_size 0;"""

# An event goes on when it comes.  A flood cost 0.53 us an event with 4 KiB, 0.34 with 16.
_UNBUFFERED = """proxy_buffering off;
            proxy_buffer_size 8k;"""

# A frame longer than this buffer is read in pieces of it, so the default of 4 KiB costs much.
_WEBSOCKET_PASS = """proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_buffering off;
            proxy_buffer_size {buffer};
            proxy_buffers 8 {buffer};
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;"""


def find() -> str | None:
    """Return where nginx is installed, or None."""
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def command(executable: str, directory: Path) -> list[str]:
    """Return the command line that runs the configuration in a directory."""
    log = str(directory / "error.log")
    return [executable, "-e", log, "-p", str(directory), "-c", str(directory / "nginx.conf")]


def write_proxy(directory: Path, origin: int, port: int) -> None:
    """Write a reverse proxy with a pool of idle upstream connections; event streams unbuffered."""
    locations = [_location("/", _POOLED, _BUFFERED), _location("/events", _POOLED, _UNBUFFERED)]
    _write(directory, origin, port, "\n        ".join(locations))


def write_websocket_proxy(directory: Path, origin: int, port: int, buffer: str) -> None:
    """Write a reverse proxy that passes the opening handshake on.

    Args: buffer, how much it reads at once, as nginx writes it.
    """
    server = _location("/", _WEBSOCKET_PASS.format(buffer=buffer))
    _write(directory, origin, port, server)


def write_upstream(directory: Path, origin: int, port: int) -> None:
    """Write an upstream of fixed answers and files; ``/upload`` goes on to the origin."""
    (directory / "answer").write_bytes(content(ANSWER_LENGTH))
    (directory / "download").write_bytes(content(TRANSFER_LENGTH))
    small = SMALL.decode("ascii").replace("\n", "\\n")
    answer = f'return 200 "{small}";'
    fields = "\n".join(f'add_header {name} "{value}";' for name, value in RESPONSE_FIELDS.items())
    server = f"""root {directory};
        open_file_cache max=16;
        location = /small {{ default_type text/plain; {answer} }}
        location = /post {{ default_type text/plain; {answer} }}
        location = /own {{ default_type text/plain; return 200 "$arg_mark {small}"; }}
        location = /fields {{ default_type text/plain; {fields} {answer} }}
        {_location("= /upload", _POOLED)}
        location = /answer {{ }}
        location = /download {{ }}"""
    _write(directory, origin, port, server)


def write_keepable(directory: Path, port: int, contents: dict[str, int]) -> None:
    """Write an upstream of files that may be kept for an hour.  Args: contents, lengths by name."""
    for name, length in contents.items():
        (directory / name).write_bytes(content(length))
    server = f"""root {directory};
        open_file_cache max=16;
        add_header Cache-Control max-age=3600;"""
    _write(directory, port, port, server)


def write_cache(directory: Path, origin: int, port: int) -> None:
    """Write a reverse proxy that keeps what may be kept, in files that the kernel holds."""
    http = f"proxy_cache_path {directory}/kept keys_zone=kept:10m max_size=1g;"
    cached = """proxy_cache kept;
            proxy_cache_lock on;"""
    _write(directory, origin, port, _location("/", _POOLED, _BUFFERED, cached), http)


def _location(path: str, *directives: str) -> str:
    inside = "".join(f"\n            {lines}" for lines in directives)
    return f"location {path} {{{inside}\n        }}"


def _write(directory: Path, origin: int, port: int, server: str, http: str = "") -> None:
    # A master that runs as root gives its workers another user, who could not read the directory.
    user = f"user {pwd.getpwuid(0).pw_name};\n" if os.geteuid() == 0 else ""
    text = _MAIN.format(
        user=user,
        directory=directory,
        origin=origin,
        port=port,
        server=server,
        http=http,
        connections=CONNECTIONS,
    )
    (directory / "nginx.conf").write_text(text)
