"""Where a Redis is, and what it wants to know of who comes."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import attrs

DEFAULT_PORT = 6379
MAX_PATH_BYTES = 107
"""Octets that the path of a Unix socket may have.  Spec: unix(7)."""

_UNFIT = re.compile(r"[\x00-\x20\x7f]")
_DATABASE = re.compile(r"[0-9]{1,9}")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9._-]{1,64})?")

_FORMS = "redis://[user:password@]host[:port][/database], rediss:// or unix:///path?db=0"


@attrs.frozen
class RedisPlace:
    """A server, a database in it, and a login.

    Attributes:
        path: of a Unix socket, in place of host and port.
        user: None for the one that is called ``default``.
        tls: the connection is encrypted, and the server shows a certificate for ``host``.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    path: str | None = None
    db: int = 0
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    tls: bool = False

    @property
    def name(self) -> str:
        """What it is called in a log; without any login."""
        if self.path is not None:
            return f"unix:{self.path} database {self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port} database {self.db}"


def place_of(url: str) -> RedisPlace:
    """Return the place that a URL names.

    Raises: ValueError with a sentence that quotes nothing of the URL, as a password may stand in
        any part of one that is written wrongly.
    """
    if _UNFIT.search(url):
        raise ValueError("a Redis URL must not have spaces or control characters in it")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"that is no URL; a Redis URL is {_FORMS}") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"the scheme of a Redis URL has to be one of {_FORMS}")
    if parts.fragment or url.endswith("#"):
        raise ValueError('a Redis URL has no "#"; in a password it is written %23')
    user, password = _login(parts.netloc)
    if parts.scheme == "unix":
        path, db = _socket(parts)
        return RedisPlace(path=path, db=db, user=user, password=password)
    if parts.query or url.endswith("?"):
        raise ValueError('a Redis URL of a host has no "?"; in a password it is written %3F')
    host, port = _address(parts)
    database = parts.path.removeprefix("/")
    return RedisPlace(
        host, port, None, _database(database or "0"), user, password, parts.scheme == "rediss"
    )


def _login(netloc: str) -> tuple[str | None, str | None]:
    """Return a user and a password, each None when there is none."""
    login, at, _ = netloc.rpartition("@")
    if not at:
        return None, None
    user, colon, password = login.partition(":")
    if not colon or not password:
        raise ValueError(
            "a Redis URL with a login needs a password: user:password@, or :password@ alone"
        )
    try:
        return unquote(user, errors="strict") or None, unquote(password, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("the login of a Redis URL has to be UTF-8, percent-encoded") from None


def _address(parts: SplitResult) -> tuple[str, int]:
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(
            "the port of a Redis URL has to be a number up to 65535; in a password "
            '":", "/", "?", "#" and "@" are percent-encoded'
        ) from None
    if not _HOST.fullmatch(host):
        raise ValueError(f"a Redis URL needs a host name or an address; it is {_FORMS}")
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError("the port of a Redis URL has to be a number from 1 to 65535")
    return host, port or DEFAULT_PORT


def _socket(parts: SplitResult) -> tuple[str, int]:
    if parts.netloc.rpartition("@")[2]:
        raise ValueError("a Redis URL of a socket has no host: unix:///path, with three slashes")
    path = unquote(parts.path, errors="surrogateescape")
    octets = path.encode("utf-8", "surrogateescape")
    if not path.startswith("/") or path == "/" or "\0" in path:
        raise ValueError("the path of a Redis socket has to be absolute: unix:///path")
    if len(octets) > MAX_PATH_BYTES:
        raise ValueError(f"the path of a Redis socket is longer than {MAX_PATH_BYTES} octets")
    found = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.query and (list(found) != ["db"] or parts.query.count("=") != 1):
        raise ValueError("after its path a Redis URL of a socket may have ?db=0 and nothing else")
    return path, _database(found.get("db", "0"))


def _database(digits: str) -> int:
    if not _DATABASE.fullmatch(digits):
        raise ValueError("the database of a Redis URL has to be a number")
    return int(digits)
