"""What readers in use make of an odd response: what docs/upstreams.rst says of them is tried."""

from __future__ import annotations

import http.client
import socket

from tests.live.odd_responses import Row

SILENCE = 0.2
"""Seconds of silence after which a reader is taken to wait for the close of the connection."""


def read_by_python(row: Row) -> str:
    """Return what ``http.client`` makes of a row's response, in the words of the page."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(row.octets)
        if row.closes:
            theirs.shutdown(socket.SHUT_WR)
        ours.settimeout(SILENCE)
        response = http.client.HTTPResponse(ours, method=row.method.decode())
        try:
            response.begin()
        except (http.client.HTTPException, ValueError, OSError):
            return "refuses"
        waits = not row.closes and response.length is None and not response.chunked
        if waits and response.status >= 200:
            # It reads until a close that does not come.
            theirs.shutdown(socket.SHUT_WR)
        try:
            content = response.read()
        except (http.client.HTTPException, ValueError, OSError, OverflowError):
            return "breaks"
        return _verdict(row, response.status, content, waits)


def _verdict(row: Row, status: int, content: bytes, waits: bool) -> str:
    meant = b"" if row.method == b"HEAD" or status in (204, 304) else b"ok"
    if status < 200 or row.octets.count(b"HTTP/1.1 ") > 1:
        return f"takes {status}"
    if content == meant:
        return "until close" if waits else "reads"
    return "all is content" if b"ok" in content else "reads nothing"
