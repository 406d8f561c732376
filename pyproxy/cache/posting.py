"""POST on a route that caches it: its content is read first, being a part of what is asked."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from pyproxy.errors import InternalError
from pyproxy.policy.cache_policy import PostPolicy
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.messages import RequestHead, ResponseHead
from pyproxy.sides import UpstreamRequest

_log = Logger()


@attrs.frozen(eq=False)
class Posting:
    """What is peculiar to a POST.

    Attributes:
        answered: told of the head of the upstream's response.
    """

    policy: PostPolicy
    answered: Callable[[ResponseHead], None]


def may_be_kept(head: RequestHead, request: UpstreamRequest, policy: PostPolicy) -> bool:
    """Tell whether a POST can be looked up: its length is known, in bounds, and it just comes."""
    content = request.content
    if b"expect" in head.noted or request.bond is not None:
        return False
    if content is None:
        return True
    length = content.length
    return length != UNKNOWN_LENGTH and int(length) <= policy.whole


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


@implementer(IConsumer)
@attrs.define(eq=False)
class Reading:
    """The content of a POST on its way into memory; its length bounds it.

    A request's ``opening`` until it is there.
    """

    _request: UpstreamRequest
    _read: Callable[[bytes], None]
    _octets: bytearray = attrs.Factory(bytearray)
    _done: Deferred[None] | None = None

    def start(self, content: IBodyProducer) -> None:
        """Read; the client's exchange limits how long that may take."""
        self._request.opening = self
        self._done = done = content.startProducing(self)
        done.addCallback(self._ended)
        done.addErrback(self._failed)

    def write(self, data: Octets) -> None:
        """Take octets."""
        self._octets += data

    def _ended(self, _: None) -> None:
        self._request.opening = self._done = None
        self._read(bytes(self._octets))

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        _log.failure("the content of a request could not be looked up", failure)
        self._request.asking.unanswered(InternalError("the request could not be looked up"))

    def cancel(self) -> None:
        """Give it up: the client has left."""
        self._request.opening = None
        done, self._done = self._done, None
        if done is not None:
            done.cancel()

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Refuse: what produces is known from the beginning."""
        raise NotImplementedError("content is produced by its request")

    def unregisterProducer(self) -> None:
        """Refuse: see ``registerProducer``."""
        raise NotImplementedError("content is produced by its request")
