"""A connection to the admin site, and its requests, as twisted.web has them, with bounds."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.server import Request

from pyproxy.relay.transports import StreamTransport

REQUEST_LIMIT = 75.0
"""Seconds for a whole request to come, and for an idle connection to be used again."""

LAST_OCTETS_LIMIT = 5.0
"""Seconds for the last octets to leave when a connection is ended."""


class Keeper(Protocol):
    """Whoever knows which connections are open; ``AdminSite`` is one."""

    def opened(self, channel: AdminChannel) -> None:
        """Take note of a connection."""

    def closed(self, channel: AdminChannel) -> None:
        """Forget a connection."""


class AdminRequest(Request):
    """A request whose content, if it has any, is dropped as it comes."""

    def gotLength(self, length: int | None) -> None:
        """Take the end of the head; nothing is kept, whatever the length."""
        super().gotLength(0)  # type: ignore[no-untyped-call]

    def handleContentChunk(self, data: bytes) -> None:
        """Drop octets of the content."""


class AdminChannel(HTTPChannel):
    """A connection that its site knows and can end."""

    site: Keeper
    transport: StreamTransport  # type: ignore[assignment]
    _ending = False

    def connectionMade(self) -> None:
        """Begin."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.site.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End."""
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.site.closed(self)

    def resetTimeout(self) -> None:
        """Let the limit run on: a head that comes octet by octet would put it off for ever."""

    def timeoutConnection(self) -> None:
        """End; twisted.web's way writes a line for every connection that is not used again."""
        self.end()

    def end(self) -> None:
        """Close the connection when all octets have left; at the second time at once."""
        if self._ending:
            self.transport.abortConnection()
            return
        self._ending = True
        self.loseConnection()  # type: ignore[no-untyped-call]
        self.setTimeout(LAST_OCTETS_LIMIT)  # type: ignore[no-untyped-call]
