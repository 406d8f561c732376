"""One connection to an upstream: its life, from one request to the next until it ends.

Owns what HTTP/1.1 says about a client's connection.  Must not know how connections are opened
or kept, nor how a response is read: that is ``receiving``'s.
Spec: RFC 9112 9.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Set
from enum import Enum
from math import inf
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from pyproxy.errors import InternalError, ProxyError
from pyproxy.relay.content import Upload
from pyproxy.relay.pausing import RELAYED, Valve
from pyproxy.relay.reading import read_by_itself, read_in_place
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.relay.sockets import (
    SilenceCheck,
    acknowledge,
    end_tls,
    ended_tls,
    hand_over,
    read_before_loss,
    said_goodbye,
    tcp_socket,
    unsent,
)
from pyproxy.relay.transports import StreamTransport
from pyproxy.relay.writing import backlog, writer
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.messages import write_head
from pyproxy.semantics.oddities import Oddity
from pyproxy.sides import Bond, UpstreamRequest
from pyproxy.upstream.manners import Manners
from pyproxy.upstream.receiving import ResponseReader
from pyproxy.upstream.seams import ReadFlow
from pyproxy.upstream.sending import Sending, send_whole

if TYPE_CHECKING:
    from pyproxy.relay.ends import RelayedEnd


class State(Enum):
    """Where a connection is in its life."""

    OPENING = "opening"  # no request may be sent yet
    IDLE = "idle"
    BUSY = "a request was sent, and its response is not whole"
    CLOSED = "closed"


Unanswered = Callable[["Connection", UpstreamRequest, ProxyError], None]
"""Called with a connection that ended before it answered a request, and why."""


@implementer(IHandshakeListener, IPushProducer)
class Connection(Protocol):
    """A connection to an upstream.

    It is registered once, for its whole life, as the producer that its transport pauses when full:
    what it produces is the content of the request at hand.  Octets of responses go to a
    ``ResponseReader``, which tells of a response's end by ``answered`` or ``unanswered``.

    Attributes:
        ready: fires when requests may be sent, for TLS after the handshake.
        source: pauses and stops what comes from the upstream.
        silent: asks the kernel whether a connection that was kept is open and has nothing to say;
            it may know what the reactor has not seen yet.
        replied: an octet of reply to the present request has come.
        kept: it has answered a request before.
        suspect: content may follow the last response, which declared some that was not due.
        doubted: the response before the last one was suspect; the last may have been its content.
        spoke: octets came that nobody had asked for.
        surplus: another connection was opened while it rested; the pool's to set.
        idle_since: when it became idle, in seconds; the pool's to set.
        idle_limit: for how many seconds the upstream lets a request come after that.
        use_before: until when a request may be sent, in seconds of the clock; the pool's to set.
        bond: of the client's connection that it belongs to, None for everybody's.
    """

    bond: Bond | None = None
    spoke = surplus = False
    idle_limit = use_before = inf

    transport: StreamTransport  # type: ignore[assignment]
    source: IPushProducer
    silent: Callable[[], bool]

    def __init__(
        self,
        secure: bool,
        on_idle: Callable[[Connection], None],
        unanswered: Unanswered,
        make_websocket: Callable[[], RelayedEnd],
        manners: Manners,
    ) -> None:
        self.ready: Deferred[Connection] = Deferred(lambda _: self.abort())
        self.replied = False
        self.kept = False
        self.suspect = self.doubted = False
        self.idle_since = 0.0
        self._secure = secure
        self._on_idle = on_idle
        self._unanswered = unanswered
        self._make_websocket = make_websocket
        self._manners = manners
        self._state = State.OPENING
        self._sending: Sending | None = None

    # opening

    def connectionMade(self) -> None:
        """Become ready at once without TLS."""
        transport = self.transport
        # What an endpoint put between the two has done its work: half a KiB for each connection.
        hand_over(transport, self)
        if (handle := tcp_socket(transport)) is not None:
            # Without it a relay shows steps of 40 ms (Nagle's algorithm and delayed ACKs).
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._flow = Valve(transport)
        self.source = ReadFlow(self, self._flow)
        self._responses = ResponseReader(self, self._flow)
        self._writer = writer(transport)
        self._write_out = self._writer.write
        # An early 413 stands behind the reset that a write meets.
        read_before_loss(transport)
        read_in_place(transport, self.dataReceived)
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
        self._state = State.BUSY
        self._responses.request = request
        self.replied = False
        request.connection = self
        account = request.account
        if account is not None:
            account.connected, account.reused = account.clock(), self.kept
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
        self._responses.fail(InternalError("the request's content could not be produced"))

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

    def dataReceived(self, data: Octets) -> None:
        """Read a part of a response.  Args: data, as a view if its place will be used again."""
        if self._state is State.BUSY:
            self._responses.feed(data)
            return
        # Octets that nobody asked for could be taken for the next response.
        idle = self.usable
        self.spoke = True
        self.abort()
        if idle:
            self._on_idle(self)

    def answered(self, request: UpstreamRequest, persists: bool) -> None:
        """Become idle after a whole response, or end.

        Args: persists, whether the upstream and the octets it sent allow for another request.
        """
        whole = True
        if request.content is not None:
            whole = self._all_sent()
            self._stop_sending()
        if persists and whole:
            self._state = State.IDLE
            if not self.kept:
                self.kept = True
                self.silent = SilenceCheck(self.transport).holds
            if self._flow.held:
                self._flow.release(RELAYED)
            self._on_idle(self)
            return
        if whole:
            self.close()
        else:
            self.abort()
        self.ends()

    def ends(self) -> None:
        """Take note that no other request goes on it: with it ends a login that belongs to it."""
        if self.bond is not None:
            self.bond.lost()

    def unanswered(self, request: UpstreamRequest, error: ProxyError) -> None:
        """Tell who opened the connection that a request has got no response."""
        self._unanswered(self, request, error)

    def note(self, oddities: Set[Oddity]) -> None:
        """Take note of what was odd in a response."""
        self._manners.note(oddities)

    def content_followed(self) -> None:
        """Take note that undue content has followed a response."""
        self._manners.content_followed()

    def bind(self, request: UpstreamRequest, bond: Bond) -> None:
        """Belong to a client's connection from now on."""
        self.bond = bond
        former = bond.connections.get(request.peer)
        bond.connections[request.peer] = self
        if former is not None and former is not self:
            former.abort()

    def acknowledge(self, lasting: bool = True) -> None:
        """Acknowledge at once what has come; see ``sockets.acknowledge``."""
        acknowledge(self.transport, lasting)

    def become_websocket(self) -> WebSocketEnd:
        """Hand the transport over to an end of a WebSocket, and return that."""
        end = self._make_websocket()
        self._state = State.CLOSED
        self._forget_exchange()
        self._writer.flush()
        self.transport.unregisterProducer()
        read_by_itself(self.transport)
        end.makeConnection(self.transport)
        hand_over(self.transport, end)
        self._flow.release(RELAYED)
        return end

    def _all_sent(self) -> bool:
        """Tell whether the request's content has left this process."""
        return (self._sending is None or self._sending.done) and not backlog(self.transport)

    def _stop_sending(self) -> None:
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.stop()

    def _forget_exchange(self) -> None:
        self._responses.forget()
        self._stop_sending()

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
            end_tls(self.transport)
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
        if self._secure and ended_tls(self.transport):
            return True
        return bool(reason.check(ConnectionDone)) and not self._writer.failed

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell whoever waits, or who keeps the connection."""
        read_by_itself(self.transport)
        state, self._state = self._state, State.CLOSED
        if state is State.OPENING and not self.ready.called:
            self.ready.errback(reason)
        elif state is State.BUSY:
            self._responses.connection_lost(self._ended_in_order(reason))
        elif state is not State.CLOSED:
            self._on_idle(self)
