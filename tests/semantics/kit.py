"""What several tests of the pure rules start from."""

from __future__ import annotations

from collections.abc import Sequence

from pyproxy.semantics.fields import Field
from pyproxy.semantics.forwarding import Hop
from pyproxy.semantics.messages import RequestHead, ResponseHead
from pyproxy.semantics.stored import StoredResponse
from pyproxy.semantics.storing import Asked, stored_of
from pyproxy.semantics.wishes import wishes_of

UNTRUSTED = Hop(b"192.0.2.1", b"https", b"8000", False)
TRUSTED = Hop(b"10.0.0.1", b"http", b"8000", True)


def head_of(*fields: Field) -> RequestHead:
    """Return the head of a request with some fields."""
    return RequestHead(b"GET", b"/", 1, list(fields))


CONTROLS = (
    *(b"no-store", b"private", b"no-cache", b"public", b"max-age=60", b"s-maxage=600"),
    *(b"must-revalidate", b"must-understand", b"stale-if-error=60", b'private="set-cookie"'),
    *(b"max-age", b"max-age=0", b"ext", b"=", b",", b", ", b";", b" ", b'"', b"\\", b"60"),
)
"""Pieces of Cache-Control in and out of order."""

NOW = 1782000000.0
"""A time in the middle of 2026, in seconds of the epoch."""


def names_of(fields: Sequence[Field]) -> list[bytes]:
    """Return the names of fields in lower case."""
    return [name.lower() for name, _ in fields]


def asked_for(*fields: Field, authorized: bool = False, method: bytes = b"GET") -> Asked:
    """Return what the rules know of a request with some fields."""
    names = names_of(fields)
    return Asked(method, fields, names, authorized, wishes_of(fields, names))


def response(*fields: Field, status: int = 200) -> ResponseHead:
    """Return the head of a response with some fields."""
    return ResponseHead(status, b"Reason", 1, list(fields))


def kept(
    *fields: Field,
    asked: Asked | None = None,
    status: int = 200,
    sent_at: float = NOW,
    heuristic: bool = False,
) -> StoredResponse:
    """Return what is stored of a response that came now.  Raises: AssertionError for nothing."""
    head = response(*fields, status=status)
    stored = stored_of(asked or asked_for(), head, sent_at, NOW, heuristic)
    if isinstance(stored, str):
        raise AssertionError(f"not stored: {stored}")
    return stored
