"""A request's content on its way to the upstream's connection."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IConsumer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from pyproxy.relay.content import Upload
from pyproxy.semantics.chunked import chunk, last_chunk
from pyproxy.semantics.fields import Fields, Octets, Write


def send_whole(content: Upload, write: Write) -> bool:
    """Send content that is here already, without a Deferred for it; tell whether it was."""
    whole = content.take_whole()
    if whole is None:
        return False
    if content.length == UNKNOWN_LENGTH:
        chunks = whole if content.coded or not whole else chunk(whole)
        write(chunks + last_chunk(content.trailers))
    elif whole:
        write(whole)
    return True


@implementer(IConsumer)
class Sending:
    """Content that is still being sent.

    Attributes:
        done: all of it was written.
    """

    _log = Logger()

    def __init__(self, content: IBodyProducer, write: Write, broken: Callable[[], None]) -> None:
        """Prepare.  Args: broken is called when the content cannot be produced."""
        self.done = False
        self._content = content
        self._write = write
        self._broken = broken
        self._stopped = False
        self._chunked = content.length == UNKNOWN_LENGTH
        # Only our own producer gives content in its coding.
        self._bare = self._chunked and not getattr(content, "coded", False)

    def start(self) -> None:
        """Let the content come."""
        sent = self._content.startProducing(self)
        sent.addCallback(self._sent)
        sent.addErrback(self._failed)

    def write(self, data: Octets) -> None:
        """Send octets of content."""
        self._write(chunk(data) if self._bare else data)

    def _sent(self, _: object) -> None:
        self.done = True
        if self._chunked and not self._stopped:
            # Only our own producer has trailers; IBodyProducer does not know them.
            trailers: Fields = getattr(self._content, "trailers", [])
            self._write(last_chunk(trailers))

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("request content could not be produced", failure)
        self._broken()

    def pause(self) -> None:
        """Hold the content back: the transport is full."""
        if not self.done:
            self._content.pauseProducing()

    def resume(self) -> None:
        """Let the content come again."""
        if not self.done:
            self._content.resumeProducing()

    def stop(self) -> None:
        """Take no more of it."""
        self._stopped = True
        if not self.done:
            self._content.stopProducing()

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Refuse: the content is produced by what this was made with."""
        raise NotImplementedError("a connection's content is produced by its request")

    def unregisterProducer(self) -> None:
        """Refuse: see ``registerProducer``."""
        raise NotImplementedError("a connection's content is produced by its request")
