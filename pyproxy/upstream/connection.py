"""One connection to an upstream: writes requests, reads responses, one after the other.

Owns what HTTP/1.1 says about a client's connection.  Must not know how connections are opened
or kept.
Spec: RFC 9112.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHandshakeListener,
    IProtocol,
    IPushProducer,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from pyproxy.errors import (
    BadResponse,
    ConnectionTerminated,
    HeadTooLarge,
    InternalError,
    Malformed,
    ProxyError,
    ResponseHeadTooLarge,
    ResponseIncomplete,
)
from pyproxy.relay.content import RESPONSE_DONE, Upload
from pyproxy.relay.pausing import RELAYED, Hold, Valve
from pyproxy.relay.reading import read_by_itself, read_in_place
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.relay.sockets import SilenceCheck, hand_over, read_before_loss, said_goodbye, unsent
from pyproxy.relay.transports import StreamTransport
from pyproxy.relay.writing import backlog, writer
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.forwarding import connection_options, persists
from pyproxy.semantics.framing import (
    NO_CONTENT,
    ContentReader,
    content_reader,
    declares_content,
    response_framing,
)
from pyproxy.semantics.handshake import check_switch
from pyproxy.semantics.messages import (
    HeadReader,
    ResponseHead,
    parse_response_head,
    split_head,
    write_head,
)
from pyproxy.sides import UpstreamRequest
from pyproxy.upstream.response import ForwardedResponse
from pyproxy.upstream.sending import Sending, send_whole

if TYPE_CHECKING:
    from pyproxy.relay.ends import RelayedEnd


class State(Enum):
    """Where a connection is between two requests."""

    OPENING = "opening"  # no request may be sent yet
    IDLE = "idle"
    AWAITING = "awaiting a response's head"
    RECEIVING = "receiving a response's content"
    SWITCHED = "a WebSocket's"
    CLOSED = "closed"


@implementer(IPushProducer)
class ReadFlow:
    """What the receiver of a response's content sees as its transport."""

    __slots__ = ("_connection", "_valve")

    def __init__(self, connection: Connection, valve: Valve) -> None:
        self._connection = connection
        self._valve = valve

    def pauseProducing(self) -> None:
        """Stop reading from the upstream."""
        self._valve.hold(Hold.FULL)

    def resumeProducing(self) -> None:
        """Read from the upstream again."""
        self._valve.release(Hold.FULL)

    def stopProducing(self) -> None:
        """Close the connection: nobody wants the rest."""
        self._connection.abort()

    loseConnection = abortConnection = stopProducing


Unanswered = Callable[["Connection", UpstreamRequest, ProxyError], None]
"""Called with a connection that ended before it answered a request, and why."""


@implementer(IHandshakeListener, IPushProducer)
class Connection(Protocol):
    """A connection to an upstream.

    It is registered once, for its whole life, as the producer that its transport pauses when full:
    what it produces is the content of the request at hand.

    Attributes:
        ready: fires when requests may be sent, for TLS after the handshake.
        source: pauses and stops what comes from the upstream.
        silent: asks the kernel whether a connection that was kept is open and has nothing to say;
            it may know what the reactor has not seen yet.
        replied: an octet of reply to the present request has come.
        kept: it has answered a request before.
        suspect: content may follow the last response, which declared some that was not due.
        idle_since: when it became idle, in seconds; the pool's to set.
    """

    transport: StreamTransport  # type: ignore[assignment]
    source: IPushProducer
    silent: Callable[[], bool]

    def __init__(
        self,
        secure: bool,
        on_idle: Callable[[Connection], None],
        unanswered: Unanswered,
        make_websocket: Callable[[], RelayedEnd],
    ) -> None:
        self.ready: Deferred[Connection] = Deferred(lambda _: self.abort())
        self.replied = False
        self.kept = False
        self.suspect = False
        self.idle_since = 0.0
        self._secure = secure
        self._on_idle = on_idle
        self._unanswered = unanswered
        self._make_websocket = make_websocket
        self._state = State.OPENING
        self._heads = HeadReader(b"HTTP/1.")
        self._request: UpstreamRequest | None = None
        self._sending: Sending | None = None
        self._response: ForwardedResponse | None = None
        self._reader: ContentReader | None = None
        self._receiver: IProtocol | None = None
        self._takes_views = False
        self._undelivered: Octets = b""
        self._ended: Failure | None = None
        self._persists = False

    # opening

    def connectionMade(self) -> None:
        """Become ready at once without TLS."""
        transport = self.transport
        # What an endpoint put between the two has done its work: half a KiB for each connection.
        hand_over(transport, self)
        # Without it a relay shows steps of 40 ms (Nagle's algorithm and delayed ACKs).
        transport.setTcpNoDelay(True)
        self._flow = Valve(transport)
        self.source = ReadFlow(self, self._flow)
        self._writer = writer(transport)
        self._write_out = self._writer.write
        # An early 413 stands behind the reset that a write meets.
        read_before_loss(transport)
        read_in_place(transport, self._octets_arrived)
        transport.registerProducer(self, True)
        if not self._secure:
            self._become_ready()

    def handshakeCompleted(self) -> None:
        """Become ready: the upstream has proved who it is."""
        self._become_ready()

    def _become_ready(self) -> None:
        if self._state is State.OPENING:
            self._state = State.IDLE
            self.ready.callback(self)

    # sending

    def send(self, request: UpstreamRequest) -> None:
        """Write a request; who asks is told of the response once its head is there.

        The request is withdrawn by ``abort``, of which nobody is told.
        """
        self._state = State.AWAITING
        self._request = request
        self.replied = False
        request.connection = self
        head = write_head(b"%b %b HTTP/1.1" % (request.method, request.target), request.fields)
        self._write_out(head)
        if request.content is not None:
            self._send_content(request.content)

    def _send_content(self, content: IBodyProducer) -> None:
        if isinstance(content, Upload) and send_whole(content, self._write_out):
            return
        self._sending = sending = Sending(content, self._write_out, self._content_broken)
        sending.start()

    def _content_broken(self) -> None:
        self._sending = None
        self._fail(InternalError("the request's content could not be produced"))

    def pauseProducing(self) -> None:
        """Hold the request's content back: the transport is full."""
        if self._sending is not None:
            self._sending.pause()

    def resumeProducing(self) -> None:
        """Let the request's content come again."""
        if self._sending is not None:
            self._sending.resume()

    def stopProducing(self) -> None:
        """Take note that the transport is lost; ``connectionLost`` follows and does the work."""

    # receiving

    def _octets_arrived(self, octets: memoryview) -> None:
        """Read a part of a response from a place that will be used again."""
        if self._state is State.RECEIVING and self._takes_views:
            self._read_content(octets)
            return
        if self._state is State.AWAITING and self._heads.empty:
            head, rest = split_head(octets)
            self._read_heads(head, rest)
            return
        self.dataReceived(bytes(octets))

    def dataReceived(self, data: bytes) -> None:
        """Read a part of a response."""
        if self._state is State.RECEIVING:
            self._read_content(data)
        elif self._state is State.AWAITING:
            self._read_heads(data)
        elif self._state is State.SWITCHED:
            self._undelivered = bytes(self._undelivered) + data
        else:
            # Octets that nobody asked for could be taken for the next response.
            idle = self.usable
            self.abort()
            if idle:
                self._on_idle(self)

    def _read_heads(self, data: bytes, beyond: memoryview | None = None) -> None:
        """Read the heads of responses.  Args: octets that follow the data, if they stand apart."""
        self.replied = True
        try:
            while (found := self._heads.feed(data)) is not None:
                octets, data = found
                rest: Octets = data
                if beyond is not None:
                    rest, beyond = beyond, None
                head = parse_response_head(octets)
                if head.status >= 200:
                    self._begin_response(head, rest)
                    return
                request = self._request
                if head.status == 101:
                    self._begin_switch(head, bytes(rest))
                    return
                if request is not None:
                    request.asking.interim(head)
                if not rest or self._state is not State.AWAITING:
                    return
                data = bytes(rest)
        except HeadTooLarge as error:
            self._fail(ResponseHeadTooLarge(f"the upstream's response has {error}"))
        except Malformed as error:
            self._fail(BadResponse(f"the upstream's response is malformed: {error}"))

    def _begin_switch(self, head: ResponseHead, rest: bytes) -> None:
        """Take a 101 for the response, if it is the one that was asked for.  Raises: Malformed."""
        request = self._request
        if request is None or request.websocket_key is None:
            raise Malformed("it switches protocols, which nobody asked for")
        options = connection_options(head)
        check_switch(head, options, request.websocket_key)
        self._state = State.SWITCHED
        self._undelivered = rest
        request.asking.responded(ForwardedResponse(self, head, NO_CONTENT, options))
        if self._state is State.SWITCHED:
            self._flow.hold(Hold.UNCLAIMED)

    def detach(self) -> tuple[WebSocketEnd, bytes]:
        """Hand the connection over to a WebSocket; return its end, and what came behind the 101."""
        if self._state is not State.SWITCHED:
            raise InternalError("this connection did not become a WebSocket's")
        end = self._make_websocket()
        octets, self._undelivered = bytes(self._undelivered), b""
        self._state = State.CLOSED
        self._forget_exchange()
        self._writer.flush()
        self.transport.unregisterProducer()
        read_by_itself(self.transport)
        end.makeConnection(self.transport)
        hand_over(self.transport, end)
        self._flow.release(RELAYED)
        return end, octets

    def _begin_response(self, head: ResponseHead, rest: Octets) -> None:
        """Tell who asks of the final response; its content waits until somebody receives it."""
        request = self._request
        if request is None:
            return
        framing = response_framing(head, request.method)
        options = connection_options(head)
        reader = content_reader(framing, request.coded)
        self._persists = persists(head.minor_version, options)
        self.suspect = False
        if reader.complete:
            self.suspect = declares_content(head)
            # Octets after a response without content would be taken for the next response.
            self._persists = self._persists and not rest
        elif rest:
            self._undelivered = reader.feed(rest)
        self._state = State.RECEIVING
        self._reader = reader
        self._response = response = ForwardedResponse(self, head, framing, options, reader)
        # It will not be sent again, and a stream may stay open for long: half a KiB of each.
        request.fields = []
        request.asking.responded(response)
        if self._receiver is None and self._reader is reader:
            # The place of a view will be used again.
            self._undelivered = bytes(self._undelivered)
            self._flow.hold(Hold.UNCLAIMED)

    def deliver(self, receiver: IProtocol) -> None:
        """Give the response's content, from its first octet, to a receiver.

        One whose ``takes_views`` is true may be given views, whose place is used again.
        """
        self._receiver = receiver
        self._takes_views = getattr(receiver, "takes_views", False)
        receiver.makeConnection(self.source)  # type: ignore[arg-type]
        content = self._undelivered
        if content:
            self._undelivered = b""
            octets = content if self._takes_views else bytes(content)
            receiver.dataReceived(octets)  # type: ignore[arg-type]
        reader = self._reader
        if self._ended is not None:
            receiver.connectionLost(self._ended)
        elif reader is not None and reader.complete:
            self._end_response(reader)
        else:
            self._flow.release(Hold.UNCLAIMED)

    def _read_content(self, data: Octets) -> None:
        reader, receiver = self._reader, self._receiver
        if reader is None:
            return
        try:
            content = reader.feed(data)
        except Malformed as error:
            self._fail(BadResponse(f"the upstream's response is malformed: {error}"))
            return
        if receiver is None:
            self._undelivered = bytes(self._undelivered) + content
            return
        if content:
            if self._takes_views:
                receiver.dataReceived(content)  # type: ignore[arg-type]
            else:
                receiver.dataReceived(bytes(content))
        if reader.complete and self._reader is reader:
            self._end_response(reader)

    def _end_response(self, reader: ContentReader) -> None:
        """Hand the connection back, then tell the receiver."""
        receiver, response = self._receiver, self._response
        if response is not None and reader.trailers:
            response.trailers = reader.trailers
        whole = self._request is None or self._request.content is None or self._all_sent()
        self._forget_exchange()
        if self._persists and whole and not reader.excess:
            self._state = State.IDLE
            if not self.kept:
                self.kept = True
                self.silent = SilenceCheck(self.transport).holds
            if self._flow.held:
                self._flow.release(RELAYED)
            self._on_idle(self)
        elif whole:
            self.close()
        else:
            self.abort()
        if receiver is not None:
            receiver.connectionLost(RESPONSE_DONE)

    def _all_sent(self) -> bool:
        """Tell whether the request's content has left this process."""
        return (self._sending is None or self._sending.done) and not backlog(self.transport)

    def _forget_exchange(self) -> None:
        sending, self._sending = self._sending, None
        self._request = self._response = self._reader = self._receiver = None
        self._takes_views = False
        if sending is not None:
            sending.stop()

    # ending

    @property
    def usable(self) -> bool:
        """Whether a request may be sent, as far as this process was told."""
        return self._state is State.IDLE

    def unsent(self) -> int:
        """Return how many octets wait in the kernel for the upstream to take them."""
        return unsent(self.transport)

    def close(self) -> None:
        """Close an idle connection."""
        self._state = State.CLOSED
        self._writer.flush()
        self.transport.unregisterProducer()
        if self._secure:
            # An orderly end of TLS would wait for the upstream's answer, without a limit.
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()

    def abort(self) -> None:
        """Close the connection at once, whatever is under way."""
        self._forget_exchange()
        if self._state is not State.CLOSED:
            self._state = State.CLOSED
            self.transport.abortConnection()

    def look(self) -> None:
        """Notice an upstream that has left unheard; see ``said_goodbye``."""
        if self._secure and said_goodbye(self.transport):
            self.transport.abortConnection()

    def _ended_in_order(self, reason: Failure) -> bool:
        return bool(reason.check(ConnectionDone)) and not self._writer.failed

    def _fail(self, error: ProxyError) -> None:
        """Close the connection and tell whoever waits for the response."""
        request, response, receiver = self._request, self._response, self._receiver
        if response is not None and receiver is None:
            self._ended = Failure(error)
        self.abort()
        if receiver is not None:
            receiver.connectionLost(Failure(error))
        elif request is not None and response is None:
            self._unanswered(self, request, error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell whoever waits; only a clean end can be the end of content."""
        read_by_itself(self.transport)
        opening = self._state is State.OPENING
        closed_here = self._state is State.CLOSED
        reader = self._reader
        awaiting = self._state is State.AWAITING
        self._state = State.CLOSED
        self._persists = False
        if opening and not self.ready.called:
            self.ready.errback(reason)
        elif closed_here:
            return
        elif awaiting:
            self._fail(
                ConnectionTerminated("the upstream closed the connection before it answered")
            )
        elif reader is not None and reader.close() and self._ended_in_order(reason):
            if self._receiver is not None:
                self._end_response(reader)
        elif reader is not None:
            self._fail(ResponseIncomplete("the upstream closed the connection inside a response"))
        else:
            self._on_idle(self)
