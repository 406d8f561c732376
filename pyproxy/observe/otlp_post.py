"""One request that takes spans to a collector, and what the collector said.

Spec: OTLP/HTTP (opentelemetry.io/docs/specs/otlp), which is a POST of one message.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol as Receiver
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from pyproxy import __version__
from pyproxy.errors import ProxyError
from pyproxy.policy.routing import Peer
from pyproxy.relay.content import RESPONSE_DONE
from pyproxy.semantics.fields import Field, Fields, lacking, values
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.urls import Target
from pyproxy.sides import UpstreamRequest, UpstreamResponse

TRACES = b"/v1/traces"
"""The path of spans, below that of the collector."""

MAX_ANSWER_BYTES = 64 * 1024
"""Octets of a collector's answer that are read; with more the connection is closed."""

RETRIED = frozenset({429, 502, 503, 504})
"""Statuses after which the same spans may be sent again.  Spec: OTLP/HTTP Response, Failures."""

_OURS = frozenset({b"content-length", b"content-type", b"host", b"transfer-encoding"})


@attrs.frozen
class Destination:
    """Where spans go.

    Attributes:
        target: the collector; ``/v1/traces`` comes behind its path.
        fields: more fields of each request, which may hold a credential.
        service_name: who sends them, as the collector shows it.
    """

    target: Target
    fields: tuple[Field, ...] = attrs.field(default=(), repr=False)
    service_name: str = "pyproxy"

    @property
    def path(self) -> bytes:
        """The path of the request."""
        return self.target.base.rstrip(b"/").removesuffix(TRACES) + TRACES

    @property
    def shown(self) -> str:
        """The collector as people are told of it."""
        return self.target.origin.shown + self.path.decode("ascii")


@attrs.frozen
class Answer:
    """What a collector said.

    Attributes:
        retry_after: seconds it asks for, None where it does not.
        content: of its response, at most MAX_ANSWER_BYTES.
    """

    status: int
    retry_after: float | None = None
    content: bytes = attrs.field(default=b"", repr=False)

    @property
    def rejected(self) -> int:
        """How many of the spans it did not take.  Spec: OTLP/HTTP, Partial Success."""
        try:
            said: Any = json.loads(self.content)
            return max(0, int(said["partialSuccess"]["rejectedSpans"]))
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return 0


class Agent(Protocol):
    """What sends a request; ``ForwardingAgent`` is one."""

    def send(self, request: UpstreamRequest) -> None:
        """Send a request; who asks is told of the response, or why there is none."""

    def keep(self, peers: Collection[Peer]) -> None:
        """Close the idle connections to all others."""

    def close(self) -> None:
        """Close every kept connection."""


@implementer(IBodyProducer)
@attrs.frozen(eq=False)
class _Whole:
    """Content that is there at once."""

    _octets: bytes

    @property
    def length(self) -> int:
        """How many octets it has."""
        return len(self._octets)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write all of it."""
        consumer.write(self._octets)
        return succeed(None)

    def pauseProducing(self) -> None:
        """All is written."""

    def resumeProducing(self) -> None:
        """All is written."""

    def stopProducing(self) -> None:
        """All is written."""


class Post(Receiver):
    """A POST to a collector.

    Attributes:
        answered: fires with the Answer, or fails with the ProxyError for which there is none;
            cancelled, it closes the connection.
    """

    def __init__(self, agent: Agent, peer: Peer, destination: Destination, content: bytes) -> None:
        self.answered: Deferred[Answer] = Deferred(lambda _: self._request.withdraw())
        self._status = 0
        self._retry_after: float | None = None
        self._kept = b""
        fields: Fields = [
            (b"Host", destination.target.origin.authority),
            (b"User-Agent", b"pyproxy/" + __version__.encode("ascii")),
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(content)),
        ]
        fields += lacking(destination.fields, _OURS)
        whole: Any = _Whole(content)
        self._request = UpstreamRequest(self, peer, b"POST", destination.path, fields, whole)
        agent.send(self._request)

    def interim(self, head: ResponseHead) -> None:
        """Drop it."""

    def bind(self) -> None:
        """Have no client's connection."""

    def responded(self, response: UpstreamResponse) -> None:
        """Read the answer."""
        self._status = response.head.status
        for value in values(response.head.fields, b"retry-after"):
            # A date would need a clock that both agree on.
            self._retry_after = float(value) if value.isdigit() and len(value) < 7 else None
        receiver: Any = self
        response.deliverBody(receiver)

    def unanswered(self, error: ProxyError) -> None:
        """Tell that there is none."""
        self._fire(error)

    def dataReceived(self, data: bytes) -> None:
        """Keep octets of the answer, up to the bound."""
        self._kept += data
        if len(self._kept) > MAX_ANSWER_BYTES:
            self._kept = b""
            self._request.withdraw()
            self._fire(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell what was said; a status is enough, where the rest of it is missing."""
        if reason is not RESPONSE_DONE:
            self._kept = b""
        self._fire(None)

    def _fire(self, error: ProxyError | None) -> None:
        if self.answered.called:
            return
        if error is not None:
            self.answered.errback(Failure(error))
        else:
            self.answered.callback(Answer(self._status, self._retry_after, self._kept))
