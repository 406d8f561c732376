"""The responses on an upstream's connection: from its octets to who asked, and to who receives.

Owns where a response's head and content begin and end, and who is told of them.  Must not know
what becomes of the connection before and after: that is ``connection``'s.
Spec: RFC 9112 4-7.
"""

from __future__ import annotations

from collections.abc import Set

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure

from pyproxy.errors import (
    BadResponse,
    ConnectionTerminated,
    HeadTooLarge,
    InternalError,
    Malformed,
    ProxyError,
    ResponseHeadTooLarge,
    ResponseIncomplete,
    UpstreamError,
)
from pyproxy.relay.content import RESPONSE_DONE
from pyproxy.relay.pausing import Hold, Valve
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.forwarding import connection_options, persists
from pyproxy.semantics.framing import (
    NO_CONTENT,
    ContentReader,
    Framing,
    content_reader,
    declares_content,
    response_framing,
)
from pyproxy.semantics.handshake import check_switch
from pyproxy.semantics.logins import asks_for_login, idle_limit
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.odd_chunks import ODD_CHUNKS
from pyproxy.semantics.oddities import ENDS_CONNECTION, NOTHING_ODD, Oddity
from pyproxy.sides import UpstreamRequest
from pyproxy.upstream.heads import ResponseHeads
from pyproxy.upstream.response import ForwardedResponse
from pyproxy.upstream.seams import ConnectionSide

_OF_CONNECTION = frozenset({b"keep-alive", b"proxy-authenticate", b"www-authenticate"})
"""Fields that say something of their connection, beside Connection itself."""


def _translate(error: Malformed) -> UpstreamError:
    """Return what a malformed response becomes."""
    if isinstance(error, HeadTooLarge):
        return ResponseHeadTooLarge(f"the upstream's response has {error}")
    return BadResponse(f"the upstream's response is malformed: {error}")


class ResponseReader:
    """Reads the responses on a connection, one after the other.

    A head becomes a ``ForwardedResponse`` and goes to who asks; its content goes to the receiver
    that is given to the response, and waits until then.

    Attributes:
        request: what the response answers; the connection's to set, None when no response is due.
    """

    __slots__ = (
        "_connection",
        "_content",
        "_ended",
        "_flow",
        "_heads",
        "_odd_content",
        "_persists",
        "_receiver",
        "_response",
        "_switched",
        "_takes_views",
        "_undelivered",
        "request",
    )

    def __init__(self, connection: ConnectionSide, flow: Valve) -> None:
        """Prepare.  Args: flow is held while content waits for its receiver."""
        self.request: UpstreamRequest | None = None
        self._connection = connection
        self._flow = flow
        self._heads = ResponseHeads(connection, self._begin, self._refuse)
        # The content's reader and the response are there from its head on.
        self._content: ContentReader | None = None
        self._response: ForwardedResponse | None = None
        self._receiver: IProtocol | None = None
        self._takes_views = False
        self._switched = False
        self._undelivered: Octets = b""
        self._ended: Failure | None = None
        self._persists = False
        self._odd_content: Set[Oddity] = NOTHING_ODD

    def feed(self, octets: Octets) -> None:
        """Read a part of a response.  Args: octets, as a view if their place will be used again."""
        reader, receiver = self._content, self._receiver
        if reader is None:
            if self._switched:
                self._undelivered = bytes(self._undelivered) + octets
            elif self.request is not None:
                self._connection.replied = True
                self._heads.feed(self.request, octets)
            return
        # Content: read here, since every event of a stream would pay for one more call.
        if not self._takes_views:
            octets = bytes(octets)
        try:
            content = reader.feed(octets)
        except Malformed as error:
            self._refuse(error)
            return
        if reader.oddities:
            self._note_odd_content(reader.oddities)
        if receiver is None:
            self._undelivered = bytes(self._undelivered) + content
            return
        if content:
            receiver.dataReceived(content)  # type: ignore[arg-type]
        if self._content is reader:
            if reader.complete:
                self._end_response(reader)
            elif reader.awaits_more:
                self._connection.acknowledge()

    # heads

    def _begin(self, request: UpstreamRequest, head: ResponseHead, rest: Octets) -> Octets:
        """Tell who asks of a response; content of a final one waits until somebody receives it.

        Returns: what another head may begin in.
        Raises: Malformed.
        """
        if head.status < 200:
            return self._begin_interim(request, head, rest)
        try:
            framing = response_framing(head, request.method)
            options = connection_options(head)
        except Malformed:
            head, framing, options = self._mended(head, request.method)
        reader = content_reader(framing, request.coded, ODD_CHUNKS)
        self._persists = persists(head.minor_version, options)
        if self._heads.odd:
            self._heed_oddities()
        side = self._connection
        side.doubted, side.suspect = side.suspect, False
        if reader.complete:
            self._begin_without_content(head, rest)
        elif rest:
            self._undelivered = reader.feed(rest)
            if reader.oddities:
                self._note_odd_content(reader.oddities)
        if not reader.complete:
            # Of an unknown length it may be an event stream, whose events shall cost no more.
            self._connection.acknowledge(reader.awaits_more)
        if head.noted & _OF_CONNECTION:
            self._heed_connection_fields(request, head)
        if not self._persists:
            self._connection.ends()
        self._content = reader
        self._response = response = ForwardedResponse(self, head, framing, options, reader)
        # It will not be sent again, and a stream may stay open for long: half a KiB of each.
        request.fields = []
        request.asking.responded(response)
        if self._receiver is None and self._content is reader:
            self._await_receiver()
        return b""

    def _await_receiver(self) -> None:
        # The place of a view will be used again.
        self._undelivered = bytes(self._undelivered)
        self._flow.hold(Hold.UNCLAIMED)

    def _begin_interim(self, request: UpstreamRequest, head: ResponseHead, rest: Octets) -> Octets:
        """Tell who asks of an interim response, or of a switch.  Returns, raises: as ``_begin``."""
        if head.status == 101:
            self._begin_switch(request, head, bytes(rest))
            return b""
        request.asking.interim(head)
        if self.request is None:  # it may have been withdrawn just now
            return b""
        if not rest:
            # The next head is due.
            self._connection.acknowledge()
        return rest

    def _mended(
        self, head: ResponseHead, method: bytes
    ) -> tuple[ResponseHead, Framing, list[bytes]]:
        """Return a head in the right form, its framing and its options.  Raises: Malformed."""
        head = self._heads.mended(head, method)
        return head, response_framing(head, method), connection_options(head)

    def _heed_oddities(self) -> None:
        """Say what was odd, and rely no more on an upstream that may not know where it ends."""
        oddities = self._heads.oddities
        self._persists = self._persists and ENDS_CONNECTION.isdisjoint(oddities)
        self._connection.note(oddities)

    def _begin_without_content(self, head: ResponseHead, rest: Octets) -> None:
        """End the connection behind a response that is followed by what nobody asked for.

        It would be taken for the next response.
        """
        self._connection.suspect = declares_content(head)
        if rest:
            self._persists = False
            if self._connection.suspect:
                self._connection.content_followed()

    def _heed_connection_fields(self, request: UpstreamRequest, head: ResponseHead) -> None:
        """Heed how long the upstream keeps the connection, and whether it logs connections in.

        One that is logged in belongs to who asks from then on.
        """
        if b"keep-alive" in head.noted:
            self._connection.idle_limit = idle_limit(head)
        if asks_for_login(head):
            bond = request.asking.bind()
            if bond is None:
                self._persists = False
            else:
                self._connection.bind(request, bond)

    def _begin_switch(self, request: UpstreamRequest, head: ResponseHead, rest: bytes) -> None:
        """Take a 101 for the response, if it is the one that was asked for.  Raises: Malformed."""
        if request.websocket_key is None:
            raise Malformed("it switches protocols, which nobody asked for")
        options = connection_options(head)
        check_switch(head, options, request.websocket_key)
        if self._heads.odd:
            self._heed_oddities()
        self._switched = True
        self._undelivered = rest
        request.asking.responded(ForwardedResponse(self, head, NO_CONTENT, options))
        if self._switched:
            self._flow.hold(Hold.UNCLAIMED)

    def detach(self) -> tuple[WebSocketEnd, bytes]:
        """Hand the connection over to a WebSocket; return its end, and what came behind the 101."""
        if not self._switched:
            raise InternalError("this connection did not become a WebSocket's")
        end = self._connection.become_websocket()
        octets, self._undelivered = bytes(self._undelivered), b""
        return end, octets

    # content

    def deliver(self, receiver: IProtocol) -> None:
        """Give the response's content, from its first octet, to a receiver.

        One whose ``takes_views`` is true may be given views, whose place is used again.
        """
        self._receiver = receiver
        self._takes_views = getattr(receiver, "takes_views", False)
        receiver.makeConnection(self._connection.source)  # type: ignore[arg-type]
        content = self._undelivered
        if content:
            self._undelivered = b""
            octets = content if self._takes_views else bytes(content)
            receiver.dataReceived(octets)  # type: ignore[arg-type]
        reader = self._content
        if self._ended is not None:
            receiver.connectionLost(self._ended)
        elif reader is not None and reader.complete:
            self._end_response(reader)
        else:
            self._flow.release(Hold.UNCLAIMED)

    def _end_response(self, reader: ContentReader) -> None:
        """Hand the connection back, then tell the receiver."""
        request, response, receiver = self.request, self._response, self._receiver
        if request is None or response is None:
            return
        if reader.trailers:
            response.trailers = reader.trailers
        self.forget()
        self._connection.answered(request, self._persists and not reader.excess)
        if receiver is not None:
            receiver.connectionLost(RESPONSE_DONE)

    def _note_odd_content(self, oddities: Set[Oddity]) -> None:
        """Say what was odd as soon as it comes: a stream may have no end."""
        if oddities != self._odd_content:
            self._odd_content = oddities
            self._connection.note(oddities)

    # ending

    def forget(self) -> None:
        """Read nothing more for the present request."""
        self.request = self._response = self._content = self._receiver = None
        self._takes_views = self._switched = False
        self._odd_content = NOTHING_ODD
        if self._heads.odd:
            self._heads.forget()

    def _refuse(self, error: Malformed) -> None:
        """End because of what cannot be read."""
        self.fail(_translate(error))

    def fail(self, error: ProxyError) -> None:
        """Close the connection and tell whoever waits for the response."""
        request, response, receiver = self.request, self._response, self._receiver
        if response is not None and receiver is None:
            self._ended = Failure(error)
        self._connection.abort()
        if receiver is not None:
            receiver.connectionLost(Failure(error))
        elif request is not None and response is None:
            if self._connection.suspect and isinstance(error, BadResponse):
                # What came is most likely the content that its last head declared.
                self._connection.content_followed()
            self._connection.unanswered(request, error)

    def connection_lost(self, in_order: bool) -> None:
        """Tell whoever waits; only a clean end of the connection can be the end of content."""
        reader = self._content
        self._persists = False
        if self._switched:
            self.forget()
        elif reader is None and self._heads.empty:
            self.fail(ConnectionTerminated("the upstream closed the connection before it answered"))
        elif reader is None:
            self.fail(ResponseIncomplete("the upstream closed the connection inside a head"))
        elif reader.close() and in_order:
            if self._receiver is not None:
                self._end_response(reader)
        else:
            self.fail(ResponseIncomplete("the upstream closed the connection inside a response"))
