"""``python -m pyproxy cache``: asks the admin site of a proxy that runs about its cache.

Knows the site by its address only, and needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

LIMIT = 75.0
"""Seconds for the site to connect and to answer; it takes 65 at most."""

MOST_OCTETS = 64 * 1024 * 1024
"""Octets of an answer that are read."""

_is_port = re.compile(r"tcp:([0-9]{1,5})").fullmatch

_WAYS = "http://127.0.0.1:9000, tcp:9000 (on this machine) or unix:/run/pyproxy-admin.sock"


class Trouble(Exception):
    """Why there is no answer, as a sentence."""


class UnixConnection(HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=LIMIT)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LIMIT)
        self.sock.connect(self._path)


def connection_to(place: str) -> HTTPConnection:
    """Return a connection to an admin site, not open yet.

    Args: a URL without a path, ``tcp:PORT``, ``unix:PATH``, or a path that begins with ``/``.
    Raises: Trouble.
    """
    if place.startswith(("/", "unix:/")):
        return UnixConnection(place.removeprefix("unix:"))
    if port := _is_port(place):
        place = f"http://127.0.0.1:{port[1]}"
    try:
        parts = urlsplit(place)
        host, number = parts.hostname, parts.port
    except ValueError:
        host, number = None, None
    if not host or parts.scheme not in ("http", "https") or parts.path not in ("", "/"):
        raise Trouble(f"--admin has to be where the admin site is, such as {_WAYS}")
    kind = HTTPConnection if parts.scheme == "http" else HTTPSConnection
    return kind(host, number, timeout=LIMIT)


def asked(
    place: str, method: str, target: str, content: object = None, token: str | None = None
) -> Any:
    """Return what the site answers, from JSON.

    Args: content, sent as JSON; the site's token, if it has one.  Raises: Trouble.
    """
    connection = connection_to(place)
    headers = {} if content is None else {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    octets = None if content is None else json.dumps(content).encode("ascii")
    try:
        connection.request(method, target, octets, headers)
        response = connection.getresponse()
        answer = json.loads(response.read(MOST_OCTETS))
    except OSError as error:
        raise Trouble(f"{place}: {error.strerror or error or 'it does not answer'}") from error
    except (HTTPException, ValueError) as error:
        raise Trouble(f"{place}: what answers there is no admin site") from error
    finally:
        connection.close()
    if response.status != 200:
        detail = answer.get("detail") if isinstance(answer, dict) else None
        raise Trouble(f"{place}: {detail or f'it answers {response.status}'}")
    return answer


def main(arguments: Sequence[str]) -> int:
    """Ask what the command line says, and print the answer as JSON.

    Returns: the status to end with: 1 without an answer, or with one that lacks some workers'.
    """
    options = _parser().parse_args(arguments)
    try:
        answer = _ask(options)
    except Trouble as trouble:
        sys.stderr.write(f"pyproxy: {trouble}\n")
        return 1
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    if silent := answer.get("silent"):
        numbers = ", ".join(map(str, silent))
        sys.stderr.write(f"pyproxy: these workers have not answered: {numbers}\n")
        return 1
    return 0


def token_of(file: str | None) -> str | None:
    """Return the token that a file holds.  Raises: Trouble."""
    if file is None:
        return None
    try:
        return Path(file.removeprefix("@")).read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise Trouble(f"--admin-token {file}: {error}") from error


def _ask(options: argparse.Namespace) -> Any:
    token = token_of(options.admin_token)
    if options.what == "show":
        return asked(options.admin, "GET", "/api/cache", token=token)
    names = ("url", "prefix", "tag")
    which = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.what == "purge":
        return asked(options.admin, "POST", "/api/cache/purge", which, token)
    query = urlencode({**which, "limit": options.limit})
    return asked(options.admin, "GET", f"/api/cache/entries?{query}", token=token)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyproxy cache", description="Ask a proxy that runs about its cache."
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="show|entries|purge")
    for name, text in (
        ("show", "Print what is stored, and how often it was of use, by route."),
        ("entries", "Print stored responses."),
        ("purge", "Remove stored responses."),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--admin", required=True, metavar="PLACE", help=f"Where the admin site is: {_WAYS}."
        )
        command.add_argument(
            "--admin-token", metavar="@FILE", help="The file of the site's token, if it has one."
        )
        if name == "show":
            continue
        which = command.add_mutually_exclusive_group(required=True)
        which.add_argument("--url", help="The URL that clients ask for; all its variants.")
        which.add_argument("--prefix", help="What such URLs begin with.")
        which.add_argument("--tag", help="One of their tags, from Cache-Tag.")
        if name == "entries":
            command.add_argument(
                "--limit", type=int, default=100, metavar="N", help="How many at most (100)."
            )
    return parser
