"""One connection of a client: answers its requests in order, and ends in time.

Owns how a server's connection persists, pauses and ends.  Must not know how requests are read; that
is ``incoming``'s.
Spec: RFC 9112 9.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pyproxy.errors import ClientTimeout, ProxyError, Unavailable
from pyproxy.ingress.face import ChannelFace
from pyproxy.ingress.incoming import RequestReader
from pyproxy.ingress.request import ClientRequest
from pyproxy.ingress.seams import SiteSide, State, Terms
from pyproxy.policy.routing import Limits
from pyproxy.relay.content import Upload
from pyproxy.relay.lookout import LINGER_SECONDS, Lookout
from pyproxy.relay.reading import read_by_itself, read_in_place
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.relay.sockets import acknowledge, hand_over, has_left, said_goodbye, tune, unsent
from pyproxy.relay.writing import backlog, writer
from pyproxy.semantics.fields import Write
from pyproxy.semantics.forwarding import persists
from pyproxy.semantics.messages import RequestHead
from pyproxy.sides import Bond


@implementer(IPushProducer)
class Channel(ChannelFace):
    """A client's connection.

    It is registered once, for its whole life, as the producer that its transport pauses when full:
    what it produces is the response at hand.

    Attributes:
        site: whose connection it is.
        send: sends octets, at once where that is possible.
        hop: what requests on it are told about the client.
        persists: whether the client means to send more after the present request.
        state: what may still happen on it.
        request: the one that is being answered.
        full: the client's transport has enough to write.
        bond: what binds upstream connections to this one, None while none is bound.
    """

    send: Write

    def __init__(self, site: SiteSide) -> None:
        self.site = site
        self.persists = False
        self.state = State.OPEN
        self.request: ClientRequest | None = None
        self.bond: Bond | None = None
        self.full = False
        self._requests = RequestReader(self)
        self._source: IPushProducer | None = None
        self._since = 0.0
        self._unsent = 0
        self._met: Terms | None = None
        self._lookout = Lookout(site.reactor, self._look_for_client)

    def connectionMade(self) -> None:
        """Begin to wait for a head."""
        transport = self.transport
        self._since = self.site.sweeper.now
        self._writer = writer(transport)
        self.send = self._writer.write
        tune(transport, self.site.silence_limit)
        read_in_place(transport, self._requests.feed_in_place)
        transport.registerProducer(self, True)
        self.site.opened(self)
        self.site.sweeper.watch(self)

    def dataReceived(self, data: bytes) -> None:
        """Read a part of a request, when the transport does not read in place."""
        self._requests.feed(data)

    def _meet(self) -> None:
        """Take note of who the client is; a PROXY header comes before the first request."""
        self._met = self.site.terms
        transport = self.transport
        self.hop = self.site.hop(transport.getPeer(), transport.getHost(), self.isSecure())

    def head_begun(self) -> None:
        """Give a head that comes in parts its whole time, from its first octets on."""
        self._since = self.site.sweeper.now

    # answering

    def begin(
        self, head: RequestHead, upload: Upload | None, options: list[bytes], host: bytes
    ) -> None:
        """Answer a request whose head has come.

        Args: its connection options; its Host, empty without one.
        """
        self.persists = persists(head.minor_version, options)
        if self._met is not self.site.terms:
            self._meet()
        self.request = request = ClientRequest(self, head, upload, options, host)
        request.process()

    def acknowledge(self) -> None:
        """Acknowledge at once what has come; see ``sockets.acknowledge``."""
        acknowledge(self.transport)

    def refuse(self, error: ProxyError, head: RequestHead | None = None) -> None:
        """Answer what is no request, and end the connection."""
        self.persists = False
        # The rest of what was refused may still be coming.
        self.linger()
        if self._met is not self.site.terms:
            self._meet()
        self.request = request = ClientRequest(self, head, None, [], b"")
        request.refuse(error)

    def response_ended(self, request: ClientRequest, keep: bool) -> None:
        """Go on to the next request, or end the connection when this was the last."""
        if self.site.logs or request.account is not None:
            self.site.log(request)
        self.request = None
        self._source = None
        self._since = self.site.sweeper.now
        if not keep or self.site.closing:
            self._end()
        elif self._requests.pending:
            self._requests.begin_pending()

    def switch(
        self,
        request: ClientRequest,
        head: bytes,
        upstream: WebSocketEnd,
        octets: bytes,
        limits: Limits,
    ) -> None:
        """Send the head of a 101 and hand the connection over to a WebSocket.

        Args: octets that the upstream sent behind its 101.
        """
        transport, site = self.transport, self.site
        # What can fail comes before the 101.
        client, pair = site.websockets.pair(request, transport, upstream, limits)
        self.send(head)
        self._writer.flush()
        early = self._requests.pending
        self.request = None
        transport.unregisterProducer()
        read_by_itself(transport)
        hand_over(transport, client)
        site.opened(client)
        self._let_go()
        self._requests.read_on()
        pair.open(early, octets)

    def bind(self) -> Bond:
        """Return the bond of this connection, made if there was none."""
        if self.bond is None:
            # Behind a lost login the client has to begin anew: it would send the rest of one, or a
            # request that relies on it, to a new connection.
            self.bond = Bond(self.end_soon)
        return self.bond

    def _let_go(self) -> None:
        """Have nothing more to do with the connection."""
        self.state = State.CLOSED
        if self.bond is not None:
            self.bond.close()
            self.bond = None
        self._requests.forget()
        self._source = None
        self._lookout.end()
        self.site.sweeper.unwatch(self)
        self.site.closed(self)

    def response_broken(self, request: ClientRequest, flush: bool) -> None:
        """End the connection inside a response.

        Args: flush to send what was written before; without it the connection is reset, so that a
            response that ends with the connection is not taken for whole.
        """
        self.site.log(request)
        self.request = None
        self._source = None
        if flush:
            # Earlier responses that are still on their way must not be lost with this one.
            self._writer.flush()
            self._end(linger=bool(backlog(self.transport) or self.unsent()))
        else:
            self.linger()
            self._writer.flush()
            self.transport.abortConnection()

    def _end(self, linger: bool = False) -> None:
        """Close, but give a client that still sends the time to read its response.

        Args: linger, whether to do so also when nothing of its next request has come.
        """
        whole = self._requests.between_requests and self.state is State.OPEN and not linger
        self._requests.forget()
        self.linger()
        self._writer.flush()
        self._requests.read_on()
        self.transport.unregisterProducer()
        if whole or self.isSecure():
            self.transport.loseConnection()
        else:
            # Closing now would reset the connection, and the response with it (RFC 9112 9.6).
            self.transport.loseWriteConnection()

    def later(self, call: Callable[[], None]) -> None:
        """Call something in the reactor's next turn."""
        self.site.reactor.callLater(0, call)

    def linger(self) -> None:
        """Begin no more requests; ``check`` ends the connection in time."""
        if self.state is not State.CLOSED:
            self.state = State.LINGERING
            self._since = self.site.sweeper.now
            self.site.sweeper.watch(self)

    # pausing

    def flow_from(self, source: IPushProducer | None) -> None:
        """Name who has to pause when the client's transport is full."""
        self._source = source
        if source is not None and self.full:
            source.pauseProducing()

    def pauseProducing(self) -> None:
        """Pause the response: the client's transport is full."""
        self.full = True
        if self.isSecure():
            self._lookout.begin()
        if self._source is not None:
            self._source.pauseProducing()

    def resumeProducing(self) -> None:
        """Let the response flow again."""
        self.full = False
        if self._source is not None:
            self._source.resumeProducing()
        if self._requests.pending:
            self._requests.begin_pending()

    def stopProducing(self) -> None:
        """Take note that the transport is lost; ``connectionLost`` follows and does the work."""

    def unsent(self) -> int:
        """Return how many octets wait in the kernel for the client to take them."""
        return unsent(self.transport)

    # leaving

    def reading_pauses(self) -> None:
        """Stop reading, and begin to look whether the client is still there."""
        self.transport.pauseProducing()
        self._lookout.begin()

    def reading_resumes(self) -> None:
        """Read again."""
        self.transport.resumeProducing()

    def cut_off(self) -> None:
        """End the connection at once: the client sends without an end."""
        self.transport.abortConnection()

    @property
    def takes_coding(self) -> bool:
        """Whether chunked content may stay in its coding."""
        return self.site.forwards_all

    def _look_for_client(self) -> bool:
        """Notice that a client left although its socket is not read.

        A FIN behind unread octets shows in the socket's state only; of a TLS client's good-bye see
        ``said_goodbye``.
        """
        held = self._requests.held
        if self.state is State.CLOSED:
            return False
        if said_goodbye(self.transport) or (held and has_left(self.transport)):
            self.transport.abortConnection()
            return False
        return held or self.full

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the exchange at hand: the client is gone."""
        read_by_itself(self.transport)
        self._let_go()
        request, self.request = self.request, None
        if request is not None:
            request.connectionLost(reason)
            self.site.log(request)

    def check(self, now: float) -> float:
        """Keep the limits of a connection that waits for its client; return when to look again.

        Spec: RFC 9112 9.5.
        """
        site = self.site
        if self.state is State.LINGERING:
            limit = site.client_limit if self.unsent() else LINGER_SECONDS
            if not self._takes(now) and now - self._since >= limit:
                self.transport.abortConnection()
            return now
        if self.request is not None:
            # It may end at once; the limit counts from then.
            return now + site.client_limit
        if now - self._since >= site.client_limit and not self._takes(now):
            if self._requests.in_head:
                within = f"within {site.client_limit:g} s"
                self.refuse(ClientTimeout(f"the request's head was not complete {within}"))
            else:
                self._end()
            if self.state is not State.OPEN:
                return now
        return self._since + site.client_limit

    def _takes(self, now: float) -> bool:
        """Tell whether the client took octets of its last response since this was asked last."""
        waiting = self.unsent()
        took = waiting != self._unsent
        if took:
            self._unsent, self._since = waiting, now
        return took

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.request is not None

    def end_soon(self) -> None:
        """End the connection behind the present response; at once without one."""
        if self.request is not None:
            self.request.end_connection()
        elif self.state is State.OPEN:
            self._end()

    def end_if_idle(self) -> None:
        """End the connection unless there is a request, or the beginning of one."""
        if self.request is None and self.state is State.OPEN and self._requests.between_requests:
            self._end()

    def shut_down(self) -> None:
        """End the connection because the proxy ends."""
        if self.request is not None:
            self.request.end(Unavailable("the proxy is ending"))
        elif self.state is State.OPEN:
            self._end()

    def abandon(self) -> None:
        """Wait no longer for the client: the rest is the kernel's to send."""
        self._writer.flush()
        self.transport.loseConnection()

    def loseConnection(self) -> None:
        """End the connection after what was written."""
        self._end()
