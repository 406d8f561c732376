"""A response out of the cache, as an exchange sees it: an upstream's response and its connection.

Each reads at its own pace: one that takes nothing holds up nobody else.
"""

from __future__ import annotations

from typing import Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pyproxy.cache.seams import ContentLost
from pyproxy.errors import InternalError, ResponseIncomplete
from pyproxy.relay.content import RESPONSE_DONE, Download
from pyproxy.relay.seams import WebSocketEnd
from pyproxy.semantics.fields import Fields, Octets
from pyproxy.semantics.framing import NO_CONTENT, UNTIL_CLOSE, Framing, Kind
from pyproxy.semantics.messages import ResponseHead

TURN_BYTES = 1024 * 1024
"""Octets that one reader gets before others have their turn, when its client takes all at once."""

_log = Logger()


class Readable(Protocol):
    """Octets that a delivery reads; an entry's content, or a response that is being fetched."""

    count: int

    def read(self, start: int) -> Octets | Deferred[bytes]:
        """Return some octets from a place on."""

    def hold(self) -> None:
        """Be kept for a reader."""

    def release(self) -> None:
        """Be kept for one reader less."""


class Growing(Readable, Protocol):
    """Octets that still come."""

    def join(self, reader: Delivery) -> None:
        """Have another reader."""

    def moved(self) -> None:
        """Take note that a reader has read on."""

    def leave(self, reader: Delivery) -> None:
        """Have a reader no more."""


class Nothing:
    """No content."""

    count = 0

    def read(self, start: int) -> bytes:
        """Return nothing."""
        return b""

    def hold(self) -> None:
        """There is nothing to keep."""

    def release(self) -> None:
        """There is nothing to keep."""


NOTHING = Nothing()


@implementer(IPushProducer)
@attrs.define(eq=False)
class Delivery:
    """One response to one client.

    Attributes:
        position: the next octet to give.
        end: where the content ends; None while nobody knows.
        grows: what tells of more, for a response that is still being fetched.
        failure: why the content will not be whole.
    """

    head: ResponseHead
    framing: Framing
    _content: Readable
    _reactor: IReactorTime
    position: int = 0
    end: int | None = None
    grows: Growing | None = None
    failure: BaseException | None = None
    options: list[bytes] = attrs.Factory(list)
    trailers: Fields = attrs.Factory(list)
    _receiver: Download | None = None
    _paused: bool = False
    _reading: bool = False
    _turn: int = 0
    _until: int | None = None
    _held: bool = False
    _over: bool = False

    overhead = 0

    @classmethod
    def whole(
        cls,
        head: ResponseHead,
        content: Readable,
        span: tuple[int, int] | None,
        reactor: IReactorTime,
    ) -> Delivery:
        """Deliver what is there.  Args: span of the content, None for none of it."""
        if span is None:
            return cls(head, NO_CONTENT, NOTHING, reactor, end=0)
        start, end = span
        framing = Framing(Kind.LENGTH, end - start)
        return cls(head, framing, content, reactor, start, end).hold()

    @classmethod
    def growing(
        cls, head: ResponseHead, content: Growing, length: int | None, reactor: IReactorTime
    ) -> Delivery:
        """Deliver what still comes.  Args: its declared length, None without one."""
        framing = UNTIL_CLOSE if length is None else Framing(Kind.LENGTH, length)
        delivery = cls(head, framing, content, reactor, grows=content)
        content.join(delivery)
        return delivery

    def hold(self) -> Delivery:
        """Keep the content until the delivery has ended."""
        self._content.hold()
        self._held = True
        return self

    # as a response

    @property
    def stored(self) -> bool:
        """Whether it was there whole."""
        return self.grows is None

    def deliverBody(self, protocol: Download) -> None:
        """Let the content flow."""
        if self._over:
            return
        self._receiver = protocol
        protocol.makeConnection(self)
        self.pump()

    def detach(self) -> tuple[WebSocketEnd, bytes]:
        """Refuse: no WebSocket comes out of a cache."""
        raise InternalError("a stored response is no WebSocket")

    # the content

    @property
    def waits(self) -> bool:
        """Whether all that is there was given to a client that takes more."""
        return not self._paused and self._receiver is not None and not self._reading

    def grown(self, octets: Octets, start: int) -> None:
        """Take octets that have just come.  Args: their place."""
        if self.waits and self.position == start and self._receiver is not None:
            self.position += len(octets)
            self._receiver.dataReceived(octets)
        else:
            self.pump()

    def ended(self, failure: BaseException | None, trailers: Fields) -> None:
        """Take note that no more will come."""
        self.end = self._content.count
        self.failure = failure
        self.trailers = trailers
        self.pump()

    def pump(self) -> None:
        """Give what is there, as long as the client takes it."""
        self._turn = 0
        while self.waits and (self.end is None or self.position < self.end):
            if self._turn >= TURN_BYTES:
                self._reading = True
                self._reactor.callLater(0, self._again)
                return
            if self.grows is not None and self.position >= self._content.count:
                return
            if not self._may_go_on():
                return
            try:
                piece = self._content.read(self.position)
            except Exception:  # noqa: BLE001 - the client must not wait for what will not come
                self._lost(Failure())
                return
            if isinstance(piece, Deferred):
                self._reading = True
                piece.addCallback(self._came)
                piece.addErrback(self._lost)
                return
            self._give(piece)
        if self.end is not None and self.position >= self.end and self._receiver is not None:
            self._finish(self.failure)

    def _may_go_on(self) -> bool:
        """Tell whether more may be given now; who says no calls ``_again`` later."""
        return True

    def _again(self) -> None:
        self._reading = False
        self.pump()

    def _came(self, piece: Octets) -> None:
        self._reading = False
        if self._receiver is not None:
            self._give(piece)
            self.pump()

    def _lost(self, failure: Failure) -> None:
        self._reading = False
        if not failure.check(ContentLost):
            _log.failure("a store could not give a content", failure)
        self._finish(ResponseIncomplete("the stored response could not be read to its end"))

    def _give(self, piece: Octets) -> None:
        until = self.end if self._until is None else self._until
        if until is not None and self.position + len(piece) > until:
            piece = piece[: until - self.position]
        if not piece:
            self._finish(ResponseIncomplete("the stored response is shorter than it was"))
            return
        self.position += len(piece)
        self._turn += len(piece)
        if self._receiver is not None:
            self._receiver.dataReceived(piece)
        if self.grows is not None:
            self.grows.moved()

    def _finish(self, failure: BaseException | None) -> None:
        receiver, self._receiver = self._receiver, None
        self._let_go()
        if receiver is not None:
            receiver.connectionLost(RESPONSE_DONE if failure is None else Failure(failure))

    def _let_go(self) -> None:
        self._over = True
        if self._held:
            self._held = False
            self._content.release()
        if self.grows is not None:
            grows, self.grows = self.grows, None
            grows.leave(self)

    def give_up(self, failure: BaseException) -> None:
        """End before the end."""
        self._finish(failure)

    # as what the client's side pauses, and as a connection

    def pauseProducing(self) -> None:
        """Give no more for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Give again."""
        self._paused = False
        if not self._reading:
            self.pump()

    def stopProducing(self) -> None:
        """Give nothing more."""
        self.abort()

    loseConnection = abortConnection = stopProducing

    @property
    def source(self) -> IPushProducer:
        """What to pause."""
        return self

    def unsent(self) -> int:
        """Nothing waits to be sent to an upstream."""
        return 0

    def look(self) -> None:
        """There is nobody who could have left."""

    def abort(self) -> None:
        """Be over: the client has left."""
        self._receiver = None
        self._let_go()
