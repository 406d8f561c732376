"""A response's content on its way into a store, and to everybody who asks for it meanwhile.

The upstream is read as fast as it sends while there is room: no client slows the others.  Once a
bound is reached nothing will be stored, and it goes on as without a cache, at the clients' pace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from pyproxy.cache.delivery import Delivery
from pyproxy.cache.replay import Recording
from pyproxy.cache.seams import Filling
from pyproxy.errors import ClientTimeout, ResponseIncomplete
from pyproxy.relay.content import RESPONSE_DONE
from pyproxy.semantics.fields import Fields, Octets
from pyproxy.semantics.stored import StoredResponse
from pyproxy.sides import UpstreamResponse

TAIL_BYTES = 1024 * 1024
"""Octets behind a bound that wait for the slowest reader of a response that many share."""


_log = Logger()


@implementer(IProtocol)
@attrs.define(eq=False)
class Fill:
    """The content of one response, while it comes.

    Attributes:
        head: as it will be stored.
        length: octets that were declared, None when none were.
        recording: when its events come, if that is to be stored too.
        count: octets that have come.
        readers: who gets them.
        over: it has ended, or was given up.
        overflowed: a bound was reached, nothing will be stored.
        stored: it was given to the store.
    """

    head: StoredResponse
    _response: UpstreamResponse
    _filling: Filling
    _closed: Callable[[], None]
    _unread: Callable[[], None]
    _now: Callable[[], float]
    length: int | None = None
    recording: Recording | None = None
    count: int = 0
    readers: list[Delivery] = attrs.Factory(list)
    over: bool = False
    overflowed: bool = False
    stored: bool = False
    _kept: int = 0
    _spent: bool = False
    _spoiled: bool = False
    _tail: deque[tuple[int, bytes]] = attrs.Factory(deque)
    _flow: IPushProducer | None = None
    _paused: bool = False

    takes_views = True

    def __attrs_post_init__(self) -> None:
        self._filling.hold()

    # from the upstream

    def makeConnection(self, transport: object) -> None:
        """Know what to pause."""
        self._flow = transport  # type: ignore[assignment]

    def connectionMade(self) -> None:
        """Nothing is done before there is content."""

    def logPrefix(self) -> str:
        """Return the name in Twisted's log."""
        return "Fill"

    def dataReceived(self, data: Octets) -> None:
        """Store octets, and give them to who has read all before them."""
        start = self.count
        recording = self.recording
        if recording is not None:
            recording.take(data, self._now())
        if not self.overflowed:
            if self._takes(data):
                self._kept += len(data)
            else:
                self.overflowed = True
                # Nobody may begin to read what will not be there as a whole.
                self._closed()
        if self.overflowed or len(self.readers) > 1:
            # Who cannot pass it on at once shares these octets with the others.
            data = bytes(data)
            if self.overflowed:
                self._tail.append((start, data))
        self.count += len(data)
        for reader in self.readers.copy():
            reader.grown(data, start)
        if self.overflowed:
            if self.readers:
                self.moved()
            else:
                self._unread()

    def _takes(self, data: Octets) -> bool:
        """Store octets; tell whether that could be done."""
        try:
            return self._filling.write(data)
        except Exception:  # noqa: BLE001 - the clients get their response all the same
            _log.failure("a response could not be stored")
            return False

    def _keep(self) -> None:
        """Make an entry of what has come."""
        events = b"" if self.recording is None else self.recording.events.pack()
        try:
            self._filling.keep(attrs.evolve(self.head, length=self.count, events=events))
        except Exception:  # noqa: BLE001 - the clients get their response all the same
            _log.failure("a response could not be kept")
        else:
            self.stored = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Store what has come, if it is all."""
        if self.over:
            return
        self.over = True
        self._flow = None
        whole = reason is RESPONSE_DONE
        refused = self.recording is not None and self.recording.refuses
        if whole and not (self.overflowed or self._spoiled or refused):
            self._keep()
        else:
            self._filling.drop()
        self._closed()
        trailers: Fields = self._response.trailers if whole else []
        failure = None if whole else reason.value
        for reader in self.readers.copy():
            reader.ended(failure, trailers)
        self._let_go()

    def spoil(self) -> None:
        """Store nothing of it; who reads goes on."""
        self._spoiled = True

    def abandon(self) -> None:
        """Want no more of it; who reads is told that the content is broken off."""
        if not self.over:
            self.over = True
            self._flow = None
            self._filling.drop()
            for reader in self.readers.copy():
                reader.give_up(ResponseIncomplete("the response was given up"))
            self._let_go()

    def _let_go(self) -> None:
        """Hold the store's octets no longer, once nobody reads them any more."""
        if not self._spent and not self.readers:
            self._spent = True
            self._filling.release()

    # to the readers

    def join(self, reader: Delivery) -> None:
        """Have another reader, from the beginning."""
        self.readers.append(reader)

    def leave(self, reader: Delivery) -> None:
        """Have a reader less; without any the rest may be of no use."""
        if reader in self.readers:
            self.readers.remove(reader)
        if self.over:
            self._let_go()
        elif self.readers:
            self.moved()
        else:
            self._unread()

    def read(self, start: int) -> bytes | Deferred[bytes]:
        """Return some octets from a place on."""
        if start < self._kept:
            return self._filling.read(start)
        for place, octets in self._tail:
            if start < place + len(octets):
                return octets[start - place :]
        return b""

    def hold(self) -> None:
        """Readers are known by ``join``."""

    def release(self) -> None:
        """Readers are known by ``leave``."""

    def moved(self) -> None:
        """Forget what everybody has read; pause the upstream, or run it again.

        Where many share what outgrew its bound, one that lags by more than TAIL_BYTES behind
        another that waits is broken off.
        """
        if not self.overflowed or not self.readers:
            return
        slowest = min(self.readers, key=lambda reader: reader.position)
        if slowest.position >= self._kept and not self.over:
            # What was to be stored is of no use to anybody.
            self._filling.drop()
        while self._tail and self._tail[0][0] + len(self._tail[0][1]) <= slowest.position:
            self._tail.popleft()
        lag = self.count - max(slowest.position, self._kept)
        if lag > TAIL_BYTES and any(reader.position == self.count for reader in self.readers):
            slowest.give_up(ClientTimeout("the client is too slow for a response that many share"))
        elif self._flow is not None:
            self._press(lag > (TAIL_BYTES if len(self.readers) > 1 else 0))

    def _press(self, full: bool) -> None:
        """Pause the upstream or run it again."""
        if full != self._paused and self._flow is not None:
            self._paused = full
            if full:
                self._flow.pauseProducing()
            else:
                self._flow.resumeProducing()
