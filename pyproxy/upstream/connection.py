"""One connection to an upstream: writes requests, reads responses, one after the other.

Owns what HTTP/1.1 says about a client's connection.  Must not know how connections are opened
or kept.
Spec: RFC 9112.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IHandshakeListener,
    IProtocol,
    IPushProducer,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer, IResponse
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
from pyproxy.exchange import UpstreamRequest
from pyproxy.relay.ends import RelayedEnd
from pyproxy.relay.headers import WireHeaders
from pyproxy.relay.pausing import Hold, Valve
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.relay.sockets import hand_over, is_silent, read_before_loss, unsent
from pyproxy.relay.transports import StreamTransport
from pyproxy.relay.writing import backlog, writer
from pyproxy.semantics.fields import Fields
from pyproxy.semantics.forwarding import connection_options, persists
from pyproxy.semantics.framing import (
    NO_CONTENT,
    ContentReader,
    Framing,
    Kind,
    chunk,
    content_reader,
    declares_content,
    last_chunk,
    response_framing,
)
from pyproxy.semantics.handshake import check_switch
from pyproxy.semantics.messages import HeadReader, ResponseHead, parse_response_head, write_head

_RESPONSE_DONE = Failure(ResponseDone())


class State(Enum):
    """Where a connection is between two requests."""

    OPENING = "opening"  # no request may be sent yet
    IDLE = "idle"
    AWAITING = "awaiting a response's head"
    RECEIVING = "receiving a response's content"
    SWITCHED = "a WebSocket's"
    CLOSED = "closed"


@implementer(IResponse)
class UpstreamResponse:
    """A response whose head is there.

    Attributes:
        head: as it came.
        framing: how its content is delimited.
        options: its connection options.
    """

    request = None
    previousResponse = None

    def __init__(
        self, connection: Connection, head: ResponseHead, framing: Framing, options: list[bytes]
    ) -> None:
        self.head = head
        self.framing = framing
        self.options = options
        self.trailers: Fields = []
        self._connection = connection

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

    def setPreviousResponse(self, response: IResponse) -> None:
        """Refuse a history: nothing here follows redirects."""
        raise NotImplementedError("a forwarded response has no previous response")

    def deliverBody(self, protocol: IProtocol) -> None:
        """Let the content flow to a protocol, which may pause it through its transport."""
        self._connection.deliver(protocol)

    def detach(self) -> tuple[WebSocketEnd, bytes]:
        """Make the connection of a 101 an end of a WebSocket; return it, and what came behind."""
        return self._connection.detach()


@implementer(IPushProducer)
class ReadFlow:
    """What the receiver of a response's content sees as its transport."""

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


@implementer(IHandshakeListener, IPushProducer, IConsumer)
class Connection(Protocol):
    """A connection to an upstream.

    It is registered once, for its whole life, as the producer that its transport pauses when full:
    what it produces is the content of the request at hand.

    Attributes:
        ready: fires when requests may be sent, for TLS after the handshake.
        replied: an octet of reply to the present request has come.
        suspect: content may follow the last response, which declared some that was not due.
        idle_since: when it became idle, in seconds; the pool's to set.
    """

    transport: StreamTransport  # type: ignore[assignment]
    _log = Logger()

    def __init__(
        self,
        secure: bool,
        on_idle: Callable[[Connection], None],
        make_websocket: Callable[[], RelayedEnd],
    ) -> None:
        self.ready: Deferred[Connection] = Deferred(lambda _: self.abort())
        self.replied = False
        self.suspect = False
        self.idle_since = 0.0
        self._secure = secure
        self._on_idle = on_idle
        self._make_websocket = make_websocket
        self._state = State.OPENING
        self._heads = HeadReader(b"HTTP/1.")
        self._request: UpstreamRequest | None = None
        self._sending: IBodyProducer | None = None
        self._chunked = False
        self._head = b""
        self._answered: Deferred[UpstreamResponse] | None = None
        self._response: UpstreamResponse | None = None
        self._reader: ContentReader | None = None
        self._receiver: IProtocol | None = None
        self._undelivered = b""
        self._ended: Failure | None = None
        self._persists = False

    # opening

    def connectionMade(self) -> None:
        """Become ready at once without TLS."""
        transport = self.transport
        # Without it a relay shows steps of 40 ms (Nagle's algorithm and delayed ACKs).
        transport.setTcpNoDelay(True)
        self._flow = Valve(transport)
        self._read_flow = ReadFlow(self, self._flow)
        self._write_out = writer(transport)
        # An early 413 stands behind the reset that a write meets.
        read_before_loss(transport)
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

    def send(self, request: UpstreamRequest) -> Deferred[UpstreamResponse]:
        """Write a request.

        Returns: fires with the response once its head is there; fails with an UpstreamError.
            Cancelling it closes the connection.
        """
        self._state = State.AWAITING
        self._request = request
        self.replied = False
        answered: Deferred[UpstreamResponse] = Deferred(lambda _: self.abort())
        self._answered = answered
        request.connected = True
        request.source = self._read_flow
        request.unsent = self._unsent
        head = write_head(b"%b %b HTTP/1.1" % (request.method, request.target), request.fields)
        content = request.content
        if content is None:
            self._write_out(head)
        else:
            # The first content, if it is there already, leaves together with the head.
            self._head = head
            self._sending = content
            self._chunked = content.length == UNKNOWN_LENGTH
            sent = content.startProducing(self)
            sent.addCallback(self._content_sent, content)
            sent.addErrback(self._content_broken)
            self._flush(b"")
        return answered

    def write(self, content: bytes) -> None:
        """Send octets of the request's content."""
        self._flush(chunk(content) if self._chunked else content)

    def _flush(self, octets: bytes) -> None:
        """Send octets, behind the head if that still waits."""
        if self._head:
            octets, self._head = self._head + octets, b""
        if octets:
            self._write_out(octets)

    def _content_sent(self, _: None, content: IBodyProducer) -> None:
        self._sending = None
        if self._chunked and self._state is not State.CLOSED:
            # Only our own producer has trailers; IBodyProducer does not know them.
            trailers: Fields = getattr(content, "trailers", [])
            self._flush(last_chunk(trailers))

    def _content_broken(self, failure: Failure) -> None:
        self._sending = None
        if not failure.check(CancelledError):
            self._log.failure("request content could not be produced", failure)
        self._fail(InternalError("the request's content could not be produced"))

    def pauseProducing(self) -> None:
        """Hold the request's content back: the transport is full."""
        if self._sending is not None:
            self._sending.pauseProducing()

    def resumeProducing(self) -> None:
        """Let the request's content come again."""
        if self._sending is not None:
            self._sending.resumeProducing()

    def stopProducing(self) -> None:
        """Take note that the transport is lost; ``connectionLost`` follows and does the work."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Refuse: content is produced by whoever ``send`` was given."""
        raise NotImplementedError("a connection's content is produced by its request")

    def unregisterProducer(self) -> None:
        """Refuse: see ``registerProducer``."""
        raise NotImplementedError("a connection's content is produced by its request")

    # receiving

    def dataReceived(self, data: bytes) -> None:
        """Read a part of a response."""
        if self._state is State.RECEIVING:
            self._read_content(data)
        elif self._state is State.AWAITING:
            self._read_heads(data)
        elif self._state is State.SWITCHED:
            self._undelivered += data
        else:
            # Octets that nobody asked for could be taken for the next response.
            idle = self.usable
            self.abort()
            if idle:
                self._on_idle(self)

    def _read_heads(self, data: bytes) -> None:
        self.replied = True
        try:
            while (found := self._heads.feed(data)) is not None:
                octets, data = found
                head = parse_response_head(octets)
                if head.status >= 200:
                    self._begin_response(head, data)
                    return
                request = self._request
                if head.status == 101:
                    self._begin_switch(head, data)
                    return
                if request is not None and request.on_interim is not None:
                    request.on_interim(head)
                if not data:
                    return
        except HeadTooLarge as error:
            self._fail(ResponseHeadTooLarge(f"the upstream's response has {error}"))
        except Malformed as error:
            self._fail(BadResponse(f"the upstream's response is malformed: {error}"))

    def _begin_switch(self, head: ResponseHead, rest: bytes) -> None:
        """Take a 101 for the response, if it is the one that was asked for.  Raises: Malformed."""
        key = None if self._request is None else self._request.websocket_key
        if key is None or self._answered is None:
            raise Malformed("it switches protocols, which nobody asked for")
        options = connection_options(head.fields)
        check_switch(head, options, key)
        self._state = State.SWITCHED
        self._undelivered = rest
        answered, self._answered = self._answered, None
        answered.callback(UpstreamResponse(self, head, NO_CONTENT, options))
        if self._state is State.SWITCHED:
            self._flow.hold(Hold.UNCLAIMED)

    def detach(self) -> tuple[WebSocketEnd, bytes]:
        """Hand the connection over to a WebSocket; return its end, and what came behind the 101."""
        if self._state is not State.SWITCHED:
            raise InternalError("this connection did not become a WebSocket's")
        end = self._make_websocket()
        octets, self._undelivered = self._undelivered, b""
        self._state = State.CLOSED
        self._forget_exchange()
        self.transport.unregisterProducer()
        end.makeConnection(self.transport)
        hand_over(self.transport, end)
        self._flow.release(Hold.FULL | Hold.UNCLAIMED)
        return end, octets

    def _begin_response(self, head: ResponseHead, rest: bytes) -> None:
        request, answered = self._request, self._answered
        if request is None or answered is None:
            return
        framing = response_framing(head, request.method)
        options = connection_options(head.fields)
        reader = content_reader(framing)
        self._persists = persists(head.minor_version, options)
        self.suspect = reader.complete and declares_content(head)
        if reader.complete:
            # Octets after a response without content would be taken for the next response.
            self._persists = self._persists and not rest
        elif rest:
            self._undelivered = reader.feed(rest)
        self._state = State.RECEIVING
        self._reader = reader
        self._answered = None
        self._response = UpstreamResponse(self, head, framing, options)
        answered.callback(self._response)
        if self._receiver is None and self._reader is reader:
            self._flow.hold(Hold.UNCLAIMED)

    def deliver(self, receiver: IProtocol) -> None:
        """Give the response's content, from its first octet, to a receiver."""
        self._receiver = receiver
        receiver.makeConnection(cast(ITransport, self._read_flow))
        if self._undelivered:
            content, self._undelivered = self._undelivered, b""
            receiver.dataReceived(content)
        if self._ended is not None:
            receiver.connectionLost(self._ended)
        elif self._reader is not None and self._reader.complete:
            self._end_response(self._reader)
        else:
            self._flow.release(Hold.UNCLAIMED)

    def _read_content(self, data: bytes) -> None:
        reader, receiver = self._reader, self._receiver
        if reader is None:
            return
        try:
            content = reader.feed(data)
        except Malformed as error:
            self._fail(BadResponse(f"the upstream's response is malformed: {error}"))
            return
        if receiver is None:
            self._undelivered += content
            return
        if content:
            receiver.dataReceived(content)
        if reader.complete and self._reader is reader:
            self._end_response(reader)

    def _end_response(self, reader: ContentReader) -> None:
        """Hand the connection back, then tell the receiver."""
        receiver, response = self._receiver, self._response
        if response is not None:
            response.trailers = reader.trailers
        whole = self._sending is None and not backlog(self.transport)
        self._forget_exchange()
        if self._persists and whole and not reader.excess:
            self._state = State.IDLE
            self._flow.release(Hold.FULL | Hold.UNCLAIMED)
            self._on_idle(self)
        elif whole:
            self.close()
        else:
            self.abort()
        if receiver is not None:
            receiver.connectionLost(_RESPONSE_DONE)

    def _forget_exchange(self) -> None:
        sending, self._sending = self._sending, None
        self._request = self._answered = self._response = self._reader = self._receiver = None
        if sending is not None:
            sending.stopProducing()

    # ending

    @property
    def usable(self) -> bool:
        """Whether a request may be sent, as far as this process was told."""
        return self._state is State.IDLE

    def silent(self) -> bool:
        """Ask the kernel whether an idle connection is still open and has nothing to say.

        Costs one system call; the reactor may not have seen yet what the kernel knows.
        """
        return is_silent(self.transport)

    def _unsent(self) -> int:
        """Return how many octets wait in the kernel for the upstream to take them."""
        return unsent(self.transport)

    def close(self) -> None:
        """Close an idle connection."""
        self._state = State.CLOSED
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

    def _fail(self, error: ProxyError) -> None:
        """Close the connection and tell whoever waits for the response."""
        answered, receiver = self._answered, self._receiver
        if self._response is not None and receiver is None:
            self._ended = Failure(error)
        self.abort()
        if answered is not None:
            answered.errback(error)
        elif receiver is not None:
            receiver.connectionLost(Failure(error))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell whoever waits; only a clean end can be the end of content."""
        opening = self._state is State.OPENING
        closed_here = self._state is State.CLOSED
        reader = self._reader
        self._state = State.CLOSED
        self._persists = False
        if opening and not self.ready.called:
            self.ready.errback(reason)
        elif closed_here:
            return
        elif self._answered is not None:
            self._fail(
                ConnectionTerminated("the upstream closed the connection before it answered")
            )
        elif reader is not None and reader.close() and reason.check(ConnectionDone):
            if self._receiver is not None:
                self._end_response(reader)
        elif reader is not None:
            self._fail(ResponseIncomplete("the upstream closed the connection inside a response"))
        else:
            self._on_idle(self)
