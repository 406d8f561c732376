"""A request's content that is read whole before the request is sent."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from pyproxy.errors import InternalError
from pyproxy.semantics.fields import Octets
from pyproxy.sides import UpstreamRequest

_log = Logger()


@implementer(IBodyProducer)
@attrs.frozen(eq=False)
class Held:
    """Content that is there, for as many requests as need it."""

    octets: bytes

    @property
    def length(self) -> int:
        """Octets."""
        return len(self.octets)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write all."""
        consumer.write(self.octets)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Nothing more comes."""

    def resumeProducing(self) -> None:
        """Nothing more comes."""

    def stopProducing(self) -> None:
        """Nothing more comes."""


@implementer(IConsumer, IPushProducer)
@attrs.define(eq=False)
class Reading:
    """A request's content on its way into memory; its length bounds it.

    It stands for the request's connection until the content is there, so that the exchange keeps
    the limits of an upload.
    """

    _request: UpstreamRequest
    _read: Callable[[bytes], None]
    _octets: bytearray = attrs.Factory(bytearray)
    _done: Deferred[None] | None = None

    def start(self, content: IBodyProducer) -> None:
        """Read; the client's exchange limits how long that may take."""
        self._request.connection = self
        self._done = done = content.startProducing(self)
        done.addCallback(self._ended)
        done.addErrback(self._failed)

    def write(self, data: Octets) -> None:
        """Take octets."""
        self._octets += data

    def _ended(self, _: None) -> None:
        self._request.connection = self._done = None
        octets = bytes(self._octets)
        self._octets.clear()
        self._read(octets)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        _log.failure("the content of a request could not be looked up", failure)
        self._request.asking.unanswered(InternalError("the request could not be looked up"))

    # as the request's connection

    @property
    def source(self) -> IPushProducer:
        """What to pause: nothing comes from here."""
        return self

    def unsent(self) -> int:
        """Nothing waits to be sent to an upstream."""
        return 0

    def look(self) -> None:
        """There is no upstream that could have left."""

    def abort(self) -> None:
        """Give it up: the client has left, or has sent too much or too slowly."""
        self._request.connection = None
        done, self._done = self._done, None
        if done is not None:
            done.cancel()

    def pauseProducing(self) -> None:
        """Nothing comes from here."""

    def resumeProducing(self) -> None:
        """Nothing comes from here."""

    def stopProducing(self) -> None:
        """Nothing comes from here."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Refuse: what produces is known from the beginning."""
        raise NotImplementedError("content is produced by its request")

    def unregisterProducer(self) -> None:
        """Refuse: see ``registerProducer``."""
        raise NotImplementedError("content is produced by its request")
