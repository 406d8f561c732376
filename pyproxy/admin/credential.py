"""The admin site's token: who has shown it, once, and has a cookie since.

Where there is none only those who come by way of this machine see and stop what others do.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import attrs
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.web.server import Request

from pyproxy.semantics.origins import is_loopback_host

COOKIE = b"pyproxy-admin"

COOKIE_SECONDS = 30 * 24 * 3600
"""Seconds for which a browser keeps it."""

_BEARER = b"bearer "


@attrs.frozen
class Credential:
    """What has to be shown.  Args: returns the token in use, None where nothing has to be shown."""

    _ask: Callable[[], bytes | None]

    @property
    def _token(self) -> bytes | None:
        return self._ask()

    @property
    def wanted(self) -> bool:
        """Whether there is a token."""
        return self._token is not None

    def is_token(self, shown: bytes) -> bool:
        """Tell whether that is the token, in a time that says nothing of it."""
        token = self._token
        return token is not None and hmac.compare_digest(shown, token)

    def admits(self, request: Request) -> bool:
        """Tell whether a request shows it, or comes by a socket that files guard."""
        if self._token is None or by_socket(request):
            return True
        said = request.getHeader(b"Authorization") or b""
        if said[: len(_BEARER)].lower() == _BEARER and self.is_token(said[len(_BEARER) :].strip()):
            return True
        cookie = request.getCookie(COOKIE) or b""
        return hmac.compare_digest(cookie, self._mark)

    def remember(self, request: Request) -> None:
        """Let the browser show from now on that it had the token."""
        request.addCookie(
            COOKIE,
            self._mark,
            path=b"/",
            max_age=b"%d" % COOKIE_SECONDS,
            secure=request.isSecure(),
            httpOnly=True,
            sameSite=b"strict",
        )

    @property
    def _mark(self) -> bytes:
        """What the cookie holds: it follows from the token, and the token does not from it."""
        return hmac.digest(self._token or b"", b"pyproxy admin site", hashlib.sha256).hex().encode()


def by_socket(request: Request) -> bool:
    """Tell whether a request came through a Unix socket."""
    return isinstance(request.getHost(), UNIXAddress)


def from_here(request: Request) -> bool:
    """Tell whether a request came to loopback, where only this machine gets by itself."""
    host = request.getHost()
    if isinstance(host, IPv4Address | IPv6Address):
        return is_loopback_host(host.host.encode("ascii"))
    return isinstance(host, UNIXAddress)
