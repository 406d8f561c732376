"""The two directions of an exchange's content: counted, bounded, paused and cancelled here.

Neither direction ever holds more than one read of octets: who cannot pass them on stops the socket
they come from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProtocol, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from pyproxy.errors import ContentTooLarge, ProxyError
from pyproxy.relay.pausing import RELAYED, Hold, Valve
from pyproxy.semantics.fields import Fields, Octets, Write
from pyproxy.semantics.framing import Framing, Kind

RESPONSE_DONE = Failure(ResponseDone())
"""How a response's content ends well; one for all, since to make it costs more than to send it."""


@implementer(IBodyProducer)
class Upload:
    """A request's content on its way from the client's connection to the upstream's.

    The client's side pushes octets in as it reads them; until the upstream's side asks for them
    the client's socket is not read any more, so at most one read waits here.

    Attributes:
        length: octets, or UNKNOWN_LENGTH for chunked content.
        count: octets of content that came from the client.
        complete: the client sent all of it.
        coded: chunked content comes in its coding, without its last chunk.
        overhead: octets among ``count`` that are the coding's, and no content.
        fail: ends the exchange because of an error; nobody's any more once the exchange is over.
    """

    def __init__(
        self,
        framing: Framing,
        flow: Valve,
        max_content: int | None = None,
        coded: bool = False,
    ) -> None:
        self.framing = framing
        self.coded = coded
        self.overhead = 0
        self.length = framing.length if framing.kind is Kind.LENGTH else UNKNOWN_LENGTH
        self.count = 0
        self.complete = False
        self.max_content = max_content
        self.fail: Callable[[ProxyError], None] | None = None
        self.admit_trailers: Callable[[Fields], Fields] | None = None
        self._flow = flow
        self._trailers: Fields = []
        self._consumer: IConsumer | None = None
        self._stopped = False
        self._waiting: list[bytes] = []
        self._done: Deferred[None] | None = None

    @property
    def paused(self) -> bool:
        """Whether the upstream, and not the client, keeps the octets from moving."""
        return self._flow.held

    @property
    def trailers(self) -> Fields:
        """The client's trailer section, once complete, as ``admit_trailers`` leaves it."""
        return (
            self._trailers if self.admit_trailers is None else self.admit_trailers(self._trailers)
        )

    # the client's side

    def preload(self, content: Octets) -> None:
        """Take octets that came together with the head, before anybody asks for content."""
        if content:
            self.count += len(content)
            self._waiting.append(bytes(content))

    def await_claim(self) -> None:
        """Let the client send no more before the upstream asks for what is here."""
        if self._waiting and not self.complete:
            self._flow.hold(Hold.UNCLAIMED)

    def write(self, content: Octets) -> None:
        """Pass on octets that the client sent."""
        self.count += len(content)
        if self.max_content is not None and self.count - self.overhead > self.max_content:
            self.refuse(self.too_large())
        elif self._consumer is not None:
            self._consumer.write(content)  # type: ignore[arg-type]
        elif not self._stopped:
            self._waiting.append(bytes(content))
            self._flow.hold(Hold.UNCLAIMED)

    def too_large(self) -> ContentTooLarge:
        """Return what becomes of content past its bound."""
        return ContentTooLarge(f"the content has more than {self.max_content} bytes")

    def finish(self, trailers: Fields) -> None:
        """Note the end of the content."""
        self.complete = True
        self._trailers = trailers
        # The upstream's transport may be full for a while; the next request can be read meanwhile.
        self._flow.release(RELAYED)
        if self._done is not None:
            done, self._done = self._done, None
            done.callback(None)

    def refuse(self, error: ProxyError) -> None:
        """End the exchange because of what the client sent, or did not send."""
        self.stopProducing()
        if self.fail is not None:
            self.fail(error)

    # the upstream's side

    def take_whole(self) -> bytes | None:
        """Return all content when it is here already, None when some is still to come."""
        if not self.complete:
            return None
        waiting, self._waiting = self._waiting, []
        return waiting[0] if len(waiting) == 1 else b"".join(waiting)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Begin to write content to the upstream's connection.

        Returns: fires when the last octet was written, and never when it is stopped before.
        """
        self._consumer = consumer
        done: Deferred[None] = Deferred(lambda _: self.stopProducing())
        waiting, self._waiting = self._waiting, []
        for content in waiting:
            consumer.write(content)
        if self.complete:
            done.callback(None)
        else:
            self._done = done
            self._flow.release(Hold.UNCLAIMED)
        return done

    def pauseProducing(self) -> None:
        """Stop reading from the client: the upstream's transport is full."""
        if not self.complete:
            self._flow.hold(Hold.FULL)

    def resumeProducing(self) -> None:
        """Read from the client again."""
        self._flow.release(Hold.FULL)

    def stopProducing(self) -> None:
        """Take no more content; what still comes is dropped."""
        self._stopped = True
        self._consumer = None
        self._done = None
        self._waiting.clear()
        self._flow.release(RELAYED)


class ContentSink(Protocol):
    """The client's side of a response's content."""

    @property
    def write_content(self) -> Write:
        """What sends octets of content."""

    def flow_from(self, source: IPushProducer | None) -> None:
        """Name who has to pause when the client's transport is full; None for nobody."""


@implementer(IProtocol)
class Download:
    """A response's content on its way from the upstream's connection to the client's.

    Every read of the upstream is one write to the client.

    Attributes:
        count: octets of content that came from the upstream.
        takes_views: content may come as views, whose place is used again.
    """

    __slots__ = ("_ended", "_sink", "_write", "count")

    takes_views = True

    def __init__(self, sink: ContentSink, ended: Callable[[BaseException | None], None]) -> None:
        """Begin.  Args: ended is called at the end, with why when the upstream broke off."""
        self.count = 0
        self._sink = sink
        self._write = sink.write_content
        self._ended = ended

    def makeConnection(self, transport: object) -> None:
        """Let the client's transport pause the upstream."""
        self._sink.flow_from(transport)  # type: ignore[arg-type]

    def connectionMade(self) -> None:
        """Nothing is done before there is content."""

    def logPrefix(self) -> str:
        """Return the name in Twisted's log."""
        return "Download"

    def dataReceived(self, data: Octets) -> None:
        """Pass on octets as they were read."""
        self.count += len(data)
        self._write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell how the content ended."""
        self._sink.flow_from(None)
        self._ended(None if reason is RESPONSE_DONE else reason.value)
