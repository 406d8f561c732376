"""A connection to the admin site, and its requests, as twisted.web has them, with bounds."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.server import Request

from pyproxy.relay.transports import StreamTransport
from pyproxy.semantics.fields import essence

REQUEST_LIMIT = 75.0
"""Seconds for a whole request to come, and for an idle connection to be used again."""

LAST_OCTETS_LIMIT = 5.0
"""Seconds for the last octets to leave when a connection is ended."""


MAX_CONTENT = 32 * 1024
"""Octets of a request's content that are kept; of more nothing is."""


class Keeper(Protocol):
    """Whoever knows which connections are open; ``AdminSite`` is one."""

    def opened(self, channel: AdminChannel) -> None:
        """Take note of a connection."""

    def closed(self, channel: AdminChannel) -> None:
        """Forget a connection."""


class AdminRequest(Request):
    """A request whose content is kept if it is JSON and short, and dropped as it comes if not.

    So twisted.web never reads a form.

    Attributes:
        is_json: it says that its content is JSON.
        too_long: its JSON was longer than MAX_CONTENT.
    """

    is_json = False
    too_long = False

    def gotLength(self, length: int | None) -> None:
        """Take the end of the head; what is kept is kept in memory, whatever the length."""
        super().gotLength(0)  # type: ignore[no-untyped-call]
        (media_type, *_) = self.requestHeaders.getRawHeaders(b"Content-Type", [b""])
        self.is_json = essence(media_type) == b"application/json"

    def handleContentChunk(self, data: bytes) -> None:
        """Keep octets of the content, or drop all of them."""
        if not self.is_json:
            return
        assert self.content is not None
        if self.too_long or self.content.tell() + len(data) > MAX_CONTENT:
            self.too_long = True
            self.content.seek(0)
            self.content.truncate()
        else:
            self.content.write(data)


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
