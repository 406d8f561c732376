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
    upstream origin {{
        server 127.0.0.1:{origin};
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        {server}
    }}
}}
"""

CONNECTIONS = 8192
WEBSOCKET_CONNECTIONS = 16384
"""5,000 pairs are 10,000 connections."""

_PASS = """proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_read_timeout 300s;"""

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
    """Write a streaming reverse proxy with a pool of idle upstream connections."""
    _write(directory, origin, port, f"location / {{\n            {_PASS}\n        }}")


def write_websocket_proxy(directory: Path, origin: int, port: int, buffer: str) -> None:
    """Write a reverse proxy that passes the opening handshake on.

    Args: buffer, how much it reads at once, as nginx writes it.
    """
    server = f"location / {{\n            {_WEBSOCKET_PASS.format(buffer=buffer)}\n        }}"
    _write(directory, origin, port, server, WEBSOCKET_CONNECTIONS)


def write_upstream(directory: Path, origin: int, port: int) -> None:
    """Write an upstream of fixed answers and files; ``/upload`` goes on to the origin."""
    (directory / "answer").write_bytes(content(ANSWER_LENGTH))
    (directory / "download").write_bytes(content(TRANSFER_LENGTH))
    small = SMALL.decode("ascii").replace("\n", "\\n")
    answer = f'return 200 "{small}";'
    fields = "\n".join(f'add_header {name} "{value}";' for name, value in RESPONSE_FIELDS.items())
    server = f"""root {directory};
        location = /small {{ default_type text/plain; {answer} }}
        location = /post {{ default_type text/plain; {answer} }}
        location = /fields {{ default_type text/plain; {fields} {answer} }}
        location = /upload {{
            {_PASS}
        }}
        location = /answer {{ }}
        location = /download {{ }}"""
    _write(directory, origin, port, server)


def _write(
    directory: Path, origin: int, port: int, server: str, connections: int = CONNECTIONS
) -> None:
    # A master that runs as root gives its workers another user, who could not read the directory.
    user = f"user {pwd.getpwuid(0).pw_name};\n" if os.geteuid() == 0 else ""
    text = _MAIN.format(
        user=user,
        directory=directory,
        origin=origin,
        port=port,
        server=server,
        connections=connections,
    )
    (directory / "nginx.conf").write_text(text)
