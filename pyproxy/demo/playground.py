"""The playground: a page that chats through whatever it was fetched through.

Owns the page's files and what a browser may do with them: all comes from here, nothing of it is
inline, and no other page frames it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from twisted.web.server import Request

from pyproxy.demo.places import Answer

ASSETS = ("chat.css", "chat.js", "chat.svg")
"""What the page is made of, besides itself."""

_MEDIA_TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}

_NO_BOARD = b'data-board=""'

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Spec: W3C Content Security Policy Level 3."""

_SAFETY = (
    (b"Cache-Control", b"no-cache"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Content-Security-Policy", _POLICY),
    (b"Referrer-Policy", b"no-referrer"),
)
"""Fields of every file."""


def page(board: Callable[[], str]) -> Answer:
    """Return what answers with the page.

    Args: board: tells the scheme and the port of the board, at the page's host; empty for none.
    """
    octets = files("pyproxy.demo").joinpath("chat.html").read_bytes()

    def answer(request: Request) -> bytes:
        _declare(request, "html")
        return octets.replace(_NO_BOARD, b'data-board="%b"' % board().encode("ascii"), 1)

    return answer


def asset(name: str) -> Answer:
    """Return what answers with a file that belongs to the page."""
    octets = files("pyproxy.demo").joinpath(name).read_bytes()

    def answer(request: Request) -> bytes:
        _declare(request, name.rpartition(".")[2])
        return octets

    return answer


def _declare(request: Request, kind: str) -> None:
    request.setHeader(b"Content-Type", _MEDIA_TYPES[kind])
    for field in _SAFETY:
        request.setHeader(*field)
