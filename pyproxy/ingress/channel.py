"""One connection of a client: reads requests strictly, answers them in order.

Begins an exchange at the end of a head, where twisted.web's own channel waits for the whole
content, folds fields and answers ``Expect`` itself.  Owns what HTTP/1.1 says about a server's
connection.
Spec: RFC 9112.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from twisted.internet.interfaces import (
    IPushProducer,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pyproxy.errors import (
    BadRequest,
    ClientError,
    ClientTimeout,
    FieldsTooLarge,
    HeadTooLarge,
    Malformed,
    ProxyError,
    TargetTooLong,
    Unavailable,
    UnknownVersion,
    UriTooLong,
    VersionUnsupported,
)
from pyproxy.ingress.face import ChannelFace
from pyproxy.ingress.request import ClientRequest
from pyproxy.ingress.seams import SiteSide
from pyproxy.policy.routing import Limits
from pyproxy.relay.content import Upload
from pyproxy.relay.lookout import LINGER_SECONDS, Lookout
from pyproxy.relay.pausing import Hold, Valve
from pyproxy.relay.reading import read_by_itself, read_in_place
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.relay.sockets import hand_over, has_left, said_goodbye, tune, unsent
from pyproxy.relay.writing import backlog, writer
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.forwarding import connection_options, host_of, persists
from pyproxy.semantics.framing import ContentReader, content_reader, request_framing
from pyproxy.semantics.messages import (
    HeadReader,
    RequestHead,
    parse_request_head,
    split_head,
)

MAX_PIPELINED_BYTES = 64 * 1024
"""Octets of later requests that are read while one is being answered: one full read.

They are read at all only so that a client that leaves is noticed at once.
"""

MAX_LINGER_BYTES = 64 * 1024 * 1024
"""Octets that are read and dropped of a client that was answered already; more is no accident."""


class State(Enum):
    """Where a client's connection is."""

    OPEN = "open"
    LINGERING = "the last response was sent, the client may still be sending"
    CLOSED = "closed"


def _translate(error: Malformed) -> ClientError:
    """Return what a malformed request becomes."""
    text = f"the request is malformed: {error}"
    if isinstance(error, TargetTooLong):
        return UriTooLong(str(error))
    if isinstance(error, HeadTooLarge):
        return FieldsTooLarge(f"the request has {error}")
    if isinstance(error, UnknownVersion):
        return VersionUnsupported(text)
    return BadRequest(text)


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
        options: the present request's connection options.
        asked_host: the present request's Host, empty without one.
    """

    send: Callable[[Octets], None]

    def __init__(self, site: SiteSide) -> None:
        self.site = site
        self.persists = False
        self.options: list[bytes] = []
        self.asked_host = b""
        self._state = State.OPEN
        self._heads = HeadReader()
        self._reader: ContentReader | None = None
        self._request: ClientRequest | None = None
        self._pending = b""
        self._serving = False
        self._full = False
        self._source: IPushProducer | None = None
        self._since = 0.0
        self._dropped = 0
        self._unsent = 0
        self._lookout = Lookout(site.reactor, self._look_for_client)

    def connectionMade(self) -> None:
        """Begin to wait for a head."""
        transport = self.transport
        self._flow = Valve(_Reading(self))
        self.hop = self.site.hop(transport.getPeer(), transport.getHost(), self.isSecure())
        self._since = self.site.sweeper.now
        self._writer = writer(transport)
        self.send = self._writer.write
        tune(transport, self.site.silence_limit)
        read_in_place(transport, self._octets_arrived)
        transport.registerProducer(self, True)
        self.site.opened(self)
        self.site.sweeper.watch(self)

    # reading

    def _octets_arrived(self, octets: memoryview) -> None:
        """Read a part of a request from a place that will be used again."""
        if self._reader is None:
            head, rest = split_head(octets)
            self.dataReceived(head)
            if rest is None:
                return
            octets = rest
        self._read_octets(octets)

    def _read_octets(self, octets: memoryview) -> None:
        if self._reader is None:
            self.dataReceived(bytes(octets))
        else:
            self._read_content(self._reader, octets)

    def dataReceived(self, data: bytes) -> None:
        """Read a part of a request."""
        if self._reader is not None:
            self._read_content(self._reader, data)
        elif self._state is not State.OPEN:
            self._drop(data)
        else:
            self._pending = self._pending + data if self._pending else data
            if self._request is None:
                self._serve()
            if len(self._pending) > MAX_PIPELINED_BYTES:
                self._flow.hold(Hold.PIPELINE)

    def _serve(self) -> None:
        """Begin as many of the requests that are here as can be begun, one after the other.

        A client that does not read its responses gets no further ones.
        """
        if self._serving:
            return
        self._serving = True
        while (
            self._pending and self._request is None and self._state is State.OPEN and not self._full
        ):
            data, self._pending = self._pending, b""
            self._read_head(data)
        self._serving = False
        if self._flow.held and len(self._pending) <= MAX_PIPELINED_BYTES:
            self._flow.release(Hold.PIPELINE)

    def _read_head(self, data: bytes) -> None:
        """Begin the request whose head is whole now; refuse what is none."""
        head = None
        try:
            found = self._heads.feed(data)
            if found is None:
                if 0 < self._heads.kept <= len(data):
                    # Its first octets.
                    self._since = self.site.sweeper.now
                return
            octets, rest = found
            head = parse_request_head(octets)
            framing = request_framing(head)
            self.options = connection_options(head)
            self.persists = persists(head.minor_version, self.options)
            self.asked_host = host_of(head)
            upload = None
            if framing.has_content:
                coded = self.site.forwards_all
                upload = Upload(framing, self._flow, coded=coded)
                rest = self._read_early(upload, content_reader(framing, coded), rest)
        except Malformed as error:
            self._refuse(_translate(error), head)
            return
        self._request = request = ClientRequest(self, head, upload)
        request.process()
        if upload is not None and self._request is request:
            upload.await_claim()
        if rest:
            self.dataReceived(rest)

    def _read_early(self, upload: Upload, reader: ContentReader, data: bytes) -> bytes:
        """Read the content that came together with its head, so that both can go on together.

        Returns: what follows the content.
        """
        upload.preload(reader.feed(data))
        upload.overhead = reader.overhead
        if not reader.complete:
            self._reader = reader
            return b""
        upload.finish(reader.trailers)
        return bytes(reader.excess)

    def _read_content(self, reader: ContentReader, data: Octets) -> None:
        request = self._request
        upload = None if request is None else request.upload
        try:
            content = reader.feed(data)
        except Malformed as error:
            self._reader = None
            self._linger()
            if upload is not None:
                upload.refuse(_translate(error))
            return
        if upload is None:
            self._drop(data)
        elif content:
            upload.overhead = reader.overhead
            upload.write(content)
        if reader.complete:
            self._reader = None
            if upload is not None and self._state is State.OPEN:
                upload.finish(reader.trailers)
            if reader.excess:
                self.dataReceived(bytes(reader.excess))

    def _refuse(self, error: ProxyError, head: RequestHead | None = None) -> None:
        """Answer what is no request, and end the connection."""
        self.persists = False
        # The rest of what was refused may still be coming.
        self._linger()
        self._request = request = ClientRequest(self, head, None)
        request.refuse(error)

    def _drop(self, data: Octets) -> None:
        self._dropped += len(data)
        if self._dropped > MAX_LINGER_BYTES:
            self.transport.abortConnection()

    # answering

    def response_ended(self, request: ClientRequest, keep: bool) -> None:
        """Go on to the next request, or end the connection when this was the last."""
        if self.site.logs:
            self.site.log(request)
        self._request = None
        self._source = None
        self._since = self.site.sweeper.now
        if not keep or self.site.closing:
            self._end()
        elif self._pending:
            self._serve()

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
        early = self._pending
        self._request = None
        transport.unregisterProducer()
        read_by_itself(transport)
        hand_over(transport, client)
        site.opened(client)
        self._let_go()
        self._flow.release(Hold.PIPELINE)
        pair.open(early, octets)

    def _let_go(self) -> None:
        """Have nothing more to do with the connection."""
        self._state = State.CLOSED
        self._pending = b""
        self._reader = None
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
        self._request = None
        self._source = None
        if flush:
            # Earlier responses that are still on their way must not be lost with this one.
            self._writer.flush()
            self._end(linger=bool(backlog(self.transport) or self.unsent()))
        else:
            self._linger()
            self._writer.flush()
            self.transport.abortConnection()

    def _end(self, linger: bool = False) -> None:
        """Close, but give a client that still sends the time to read its response.

        Args: linger, whether to do so also when nothing of its next request has come.
        """
        whole = self._reader is None and not self._pending and self._heads.empty
        whole = whole and self._state is State.OPEN and not linger
        self._reader = None
        self._pending = b""
        self._linger()
        self._writer.flush()
        self._flow.release(Hold.FULL | Hold.UNCLAIMED | Hold.PIPELINE)
        self.transport.unregisterProducer()
        if whole or self.isSecure():
            self.transport.loseConnection()
        else:
            # Closing now would reset the connection, and the response with it (RFC 9112 9.6).
            self.transport.loseWriteConnection()

    def _linger(self) -> None:
        """Begin no more requests; ``check`` ends the connection in time."""
        self._state = State.LINGERING
        self._since = self.site.sweeper.now

    # pausing

    def flow_from(self, source: IPushProducer | None) -> None:
        """Name who has to pause when the client's transport is full."""
        self._source = source
        if source is not None and self._full:
            source.pauseProducing()

    def pauseProducing(self) -> None:
        """Pause the response: the client's transport is full."""
        self._full = True
        if self.isSecure():
            self._lookout.begin()
        if self._source is not None:
            self._source.pauseProducing()

    def resumeProducing(self) -> None:
        """Let the response flow again."""
        self._full = False
        if self._source is not None:
            self._source.resumeProducing()
        if self._pending:
            self._serve()

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

    def _look_for_client(self) -> bool:
        """Notice that a client left although its socket is not read.

        A FIN behind unread octets shows in the socket's state only; of a TLS client's good-bye see
        ``said_goodbye``.
        """
        held = self._flow.held
        if self._state is State.CLOSED:
            return False
        if said_goodbye(self.transport) or (held and has_left(self.transport)):
            self.transport.abortConnection()
            return False
        return held or self._full

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the exchange at hand: the client is gone."""
        read_by_itself(self.transport)
        self._let_go()
        request, self._request = self._request, None
        if request is not None:
            request.connectionLost(reason)
            self.site.log(request)

    def check(self, now: float) -> None:
        """Keep the limits of a connection that waits for its client.  Spec: RFC 9112 9.5."""
        if self._state is State.LINGERING:
            limit = self.site.client_limit if self.unsent() else LINGER_SECONDS
            if not self._takes(now) and now - self._since >= limit:
                self.transport.abortConnection()
        elif self._request is None and now - self._since >= self.site.client_limit:
            if self._takes(now):
                return
            if self._heads.empty:
                self._end()
            else:
                within = f"within {self.site.client_limit:g} s"
                self._refuse(ClientTimeout(f"the request's head was not complete {within}"))

    def _takes(self, now: float) -> bool:
        """Tell whether the client took octets of its last response since this was asked last."""
        waiting = self.unsent()
        took = waiting != self._unsent
        if took:
            self._unsent, self._since = waiting, now
        return took

    def shut_down(self) -> None:
        """End the connection because the proxy ends."""
        if self._request is not None:
            self._request.end(Unavailable("the proxy is ending"))
        elif self._state is State.OPEN:
            self._end()

    def abandon(self) -> None:
        """Wait no longer for the client: the rest is the kernel's to send."""
        self._writer.flush()
        self.transport.loseConnection()

    def loseConnection(self) -> None:
        """End the connection after what was written."""
        self._end()


class _Reading:
    """A channel's transport as its valve sees it."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def pauseProducing(self) -> None:
        self._channel.reading_pauses()

    def resumeProducing(self) -> None:
        self._channel.transport.resumeProducing()
