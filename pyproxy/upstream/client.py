"""treq's client seam without treq's conveniences.

``treq.client.HTTPClient`` keeps one cookie jar for all, asks for gzip and decodes it, re-encodes
URLs, upper-cases methods, follows redirects and buffers.  This client gives treq's response type
over an agent that does none of that.
"""

from __future__ import annotations

from http.cookiejar import CookieJar
from typing import Any

from treq.response import _Response

from pyproxy.exchange import UpstreamRequest
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.semantics.fields import Fields
from pyproxy.semantics.framing import Framing
from pyproxy.semantics.messages import ResponseHead
from pyproxy.upstream.agent import ForwardingAgent
from pyproxy.upstream.connection import UpstreamResponse

_NO_COOKIES: Any = CookieJar()
"""The jar that treq's response type asks for; nothing is ever put into it."""


class ForwardedResponse(_Response):
    """treq's response, with the facts of the wire beside it.

    Attributes: see ``upstream.connection.UpstreamResponse``.
    """

    original: UpstreamResponse

    def __init__(self, original: UpstreamResponse) -> None:
        super().__init__(original, _NO_COOKIES)
        self.head: ResponseHead = original.head
        self.framing: Framing = original.framing
        self.options: list[bytes] = original.options

    def detach(self) -> tuple[WebSocketEnd, bytes]:
        """Make the connection of a 101 an end of a WebSocket; return it, and what came behind."""
        return self.original.detach()

    @property
    def trailers(self) -> Fields:
        """The trailer section, once the content ended."""
        return self.original.trailers


class ForwardingClient:
    """Sends requests as they are and gives treq responses."""

    def __init__(self, agent: ForwardingAgent) -> None:
        self._agent = agent

    async def send(self, request: UpstreamRequest) -> ForwardedResponse:
        """Send a request; return the response once its head is there.  Raises: UpstreamError."""
        return ForwardedResponse(await self._agent.send(request))
