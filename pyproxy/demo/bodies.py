"""Contents in both directions: what arrived, a sink, and a source of any size."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http import HTTPStatus

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from pyproxy.demo.places import Refusal, json_content, text_content, whole_number
from pyproxy.demo.request import DemoRequest
from pyproxy.demo.streams import LONGEST_MS, TimedPiece, stream

PIECE = 64 * 1024
"""Octets of a download that are written at a time."""

DOWNLOAD_LIMIT = 2**50

DEFAULT_DOWNLOAD = 1024 * 1024

CREDENTIAL_FIELDS = frozenset(
    {
        b"authorization",
        b"proxy-authorization",
        b"cookie",
        b"api-key",
        b"x-api-key",
        b"x-goog-api-key",
    }
)

_CYCLE = 251  # a prime, so that a piece lost or doubled shows in the octets after it
_PATTERN = bytes(range(_CYCLE)) * (PIECE // _CYCLE + 2)

_STATUS_FIELDS: dict[int, tuple[bytes, bytes]] = {
    401: (b"WWW-Authenticate", b'Bearer realm="demo"'),
    429: (b"Retry-After", b"1"),
    503: (b"Retry-After", b"1"),
}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def echo(request: DemoRequest) -> bytes:
    """Answer with what was received, credentials masked."""
    return json_content(
        request,
        {
            "method": request.method.decode("latin-1"),
            "target": request.uri.decode("latin-1"),
            "version": request.clientproto.decode("latin-1"),
            "fields": [
                [name.decode("latin-1"), shown(name, value)]
                for name, value in request.fields.in_order
            ],
            "body": _measured(request),
        },
    )


def shown(name: bytes, value: bytes) -> str:
    """Return a field's value, or of a credential its scheme and the beginning of its hash.

    ``Bearer sk-1`` becomes ``Bearer ***`` and the first eight digits of the SHA-256 of ``sk-1``:
    whoever knows the key sees that it arrived, nobody else learns it.
    """
    if name.lower() not in CREDENTIAL_FIELDS:
        return value.decode("latin-1")
    scheme, space, secret = b"", b"", value
    if name.lower().endswith(b"authorization") and b" " in value:
        scheme, space, secret = value.partition(b" ")
    return f"{(scheme + space).decode('latin-1')}***{hashlib.sha256(secret).hexdigest()[:8]}"


def sink(request: DemoRequest) -> bytes:
    """Answer with the size and the hash of a content of which nothing was kept."""
    return json_content(request, _measured(request))


def source(request: Request, clock: IReactorTime) -> int:
    """Answer ``GET /download``: ``bytes`` octets, with a length or, if ``chunked=1``, without.

    ``interval_ms`` puts a wait after each piece of 64 KiB.
    """
    size = whole_number(request, "bytes", default=DEFAULT_DOWNLOAD, least=0, most=DOWNLOAD_LIMIT)
    chunked = whole_number(request, "chunked", default=0, least=0, most=1)
    interval_ms = whole_number(request, "interval_ms", default=0, least=0, most=LONGEST_MS)
    request.setHeader(b"Content-Type", b"application/octet-stream")
    if not chunked:
        request.setHeader(b"Content-Length", str(size).encode())
    return stream(request, clock, _download(size, interval_ms / 1000))


def download_octets(offset: int, length: int) -> bytes:
    """Return a part of any download: the octet at offset ``n`` is ``n`` modulo 251.

    Args: length: at most ``PIECE``.
    """
    start = offset % _CYCLE
    return _PATTERN[start : start + length]


def _download(size: int, wait_after: float) -> Iterator[TimedPiece]:
    for offset in range(0, size, PIECE):
        yield download_octets(offset, min(PIECE, size - offset)), wait_after


def status(request: Request) -> bytes:
    """Answer ``/status/NNN`` with that status, and the field that usually comes with it."""
    digits = b"/".join(request.postpath or [])
    if not (digits.isdigit() and len(digits) == 3 and 200 <= int(digits) <= 599):
        raise Refusal(400, "Ask for /status/ and a number from 200 to 599.")
    code = int(digits)
    phrase = HTTPStatus(code).phrase if code in set(HTTPStatus) else "Unassigned"
    request.setResponseCode(code, phrase.encode("ascii"))
    if code in _REDIRECTS:
        host: bytes = request.getHeader(b"Host") or b"localhost"
        request.setHeader(b"Location", b"http://" + host + b"/status/200")
    elif code in _STATUS_FIELDS:
        request.setHeader(*_STATUS_FIELDS[code])
    return b"" if code in (204, 304) else text_content(request, f"Status {code}, as asked for.\n")


def _measured(request: DemoRequest) -> dict[str, int | str]:
    return {"bytes": request.content_length, "sha256": request.content_sha256}
