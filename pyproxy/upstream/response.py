"""A response whose head is there: treq's response type over the facts of the wire."""

from __future__ import annotations

from http.cookiejar import CookieJar
from typing import Any, Protocol, cast

from treq.response import _Response
from twisted.internet.interfaces import IProtocol
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse

from pyproxy.relay.headers import WireHeaders
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.semantics.fields import Fields
from pyproxy.semantics.framing import ContentReader, Framing, Kind
from pyproxy.semantics.messages import ResponseHead

_NO_COOKIES: Any = CookieJar()
"""The jar that treq's response type asks for; nothing is ever put into it."""


class ResponseSource(Protocol):
    """What reads a response; ``receiving.ResponseReader`` is one."""

    def deliver(self, receiver: IProtocol) -> None:
        """Give the content, from its first octet, to a receiver."""

    def detach(self) -> tuple[WebSocketEnd, bytes]:
        """Make the connection of a 101 an end of a WebSocket; return it, and what came behind."""


class ForwardedResponse(_Response):
    """A response of treq's type; nothing of it is kept, decoded or followed.

    treq's own wraps another response.  This one is both, since one is made for every exchange.

    Attributes:
        head: as it came; without its fields once an exchange has passed them on.
        framing: how its content is delimited.
        options: its connection options.
        trailers: the trailer section, once the content ended.
    """

    stored = False
    request = None
    previousResponse = None
    _cookiejar = _NO_COOKIES

    def __init__(
        self,
        source: ResponseSource,
        head: ResponseHead,
        framing: Framing,
        options: list[bytes],
        reader: ContentReader | None = None,
    ) -> None:
        self.head = head
        self.framing = framing
        self.options = options
        self.trailers: Fields = []
        self._source = source
        self._reader = reader

    @property
    def original(self) -> IResponse:  # type: ignore[override]
        """The response that treq's functions read: itself."""
        return cast(IResponse, self)

    @property
    def version(self) -> tuple[bytes, int, int]:
        """The version, as IResponse has it."""
        return (b"HTTP", 1, self.head.minor_version)

    @property
    def code(self) -> int:
        """The status code."""
        return self.head.status

    @property
    def phrase(self) -> bytes:
        """The reason phrase."""
        return self.head.reason

    @property
    def headers(self) -> Headers:
        """The fields, as twisted.web has them."""
        return WireHeaders(self.head.fields)

    @property
    def length(self) -> int:
        """Octets of content, or UNKNOWN_LENGTH."""
        if self.framing.kind in (Kind.CHUNKED, Kind.UNTIL_CLOSE):
            return cast(int, UNKNOWN_LENGTH)
        return self.framing.length

    @property
    def overhead(self) -> int:
        """How many of the octets that were delivered are the coding's, and no content."""
        return 0 if self._reader is None else self._reader.overhead

    def setPreviousResponse(self, response: IResponse) -> None:
        """Refuse a history: nothing here follows redirects."""
        raise NotImplementedError("a forwarded response has no previous response")

    def deliverBody(self, protocol: IProtocol) -> None:
        """Let the content flow to a protocol, which may pause it through its transport."""
        self._source.deliver(protocol)

    def detach(self) -> tuple[WebSocketEnd, bytes]:
        """Make the connection of a 101 an end of a WebSocket; return it, and what came behind."""
        return self._source.detach()
