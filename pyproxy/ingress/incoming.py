"""Requests as they come in on a connection: from octets to heads and content.

Lets a request begin at the end of its head, where twisted.web's own channel waits for the whole
content, folds fields and answers ``Expect`` itself.  Owns where a request ends and the next one
begins, how much is read of later ones, and what is no request at all.  Must not know how a request
is answered, nor how a connection ends.
Spec: RFC 9112.
"""

from __future__ import annotations

from pyproxy.errors import (
    BadRequest,
    ClientError,
    CodingUnsupported,
    FieldsTooLarge,
    HeadTooLarge,
    Malformed,
    TargetTooLong,
    UnknownCoding,
    UnknownVersion,
    UriTooLong,
    VersionUnsupported,
)
from pyproxy.ingress.seams import RequestSink, State
from pyproxy.relay.content import Upload
from pyproxy.relay.pausing import RELAYED, Hold, Valve
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.forwarding import connection_options, host_of
from pyproxy.semantics.framing import ContentReader, content_reader, request_framing
from pyproxy.semantics.messages import HeadReader, parse_request_head, split_head

MAX_PIPELINED_BYTES = 64 * 1024
"""Octets of later requests past which no more are read while one is being answered.

They are read at all only so that a client that leaves is noticed at once; one read may bring more.
"""

MAX_BEGUN_AT_ONCE = 64
"""Requests of one client that begin in one turn of the reactor.

The proxy answers what it refuses at once: one read of such requests took 5 s.
"""

MAX_LINGER_BYTES = 64 * 1024 * 1024
"""Octets that are read and dropped of a client that was answered already; more is no accident."""


def _translate(error: Malformed) -> ClientError:
    """Return what a malformed request becomes."""
    text = f"the request is malformed: {error}"
    if isinstance(error, TargetTooLong):
        return UriTooLong(str(error))
    if isinstance(error, HeadTooLarge):
        return FieldsTooLarge(f"the request has {error}")
    if isinstance(error, UnknownVersion):
        return VersionUnsupported(str(error))
    if isinstance(error, UnknownCoding):
        return CodingUnsupported(str(error))
    return BadRequest(text)


class RequestReader:
    """Reads the requests of one connection, and lets them begin one after the other.

    The sink is told of a request at the end of its head.  Its content goes to its ``Upload``; what
    follows waits until the sink has answered.

    Attributes:
        pending: octets of requests that have not begun.
    """

    __slots__ = ("_beginning", "_content", "_dropped", "_flow", "_heads", "_sink", "pending")

    def __init__(self, sink: RequestSink) -> None:
        self._flow = Valve(self)
        self.pending = b""
        self._sink = sink
        self._heads = HeadReader()
        self._content: ContentReader | None = None
        self._beginning = False
        self._dropped = 0

    # octets

    def feed_in_place(self, octets: memoryview) -> None:
        """Read a part of a request from a place that will be used again."""
        if self._content is None:
            head, rest = split_head(octets)
            self.feed(head)
            if rest is None:
                return
            octets = rest
        self._feed_rest(octets)

    def _feed_rest(self, octets: memoryview) -> None:
        if self._content is None:
            self.feed(bytes(octets))
        else:
            self._read_content(self._content, octets)

    def feed(self, data: bytes) -> None:
        """Read a part of a request."""
        if self._content is not None:
            self._read_content(self._content, data)
        elif self._sink.state is not State.OPEN:
            self._drop(data)
        else:
            self.pending = self.pending + data if self.pending else data
            if self._sink.request is None:
                self.begin_pending()
            if len(self.pending) > MAX_PIPELINED_BYTES:
                self._flow.hold(Hold.PIPELINE)

    def _drop(self, data: Octets) -> None:
        self._dropped += len(data)
        if self._dropped > MAX_LINGER_BYTES:
            self._sink.cut_off()

    # heads

    def begin_pending(self) -> None:
        """Begin as many of the requests that are here as can be begun, one after the other.

        A client that does not read its responses gets no further ones.
        """
        if self._beginning:
            return
        self._beginning = True
        sink = self._sink
        for _ in range(MAX_BEGUN_AT_ONCE):
            if not self.pending or sink.request or sink.state is not State.OPEN or sink.full:
                break
            data, self.pending = self.pending, b""
            self._read_head(data)
        else:
            # All of these were answered at once; now it is others' turn.
            sink.later(self.begin_pending)
        self._beginning = False
        if self._flow.held and len(self.pending) <= MAX_PIPELINED_BYTES:
            self._flow.release(Hold.PIPELINE)

    def _read_head(self, data: bytes) -> None:
        """Begin the request whose head is whole now; refuse what is none."""
        sink = self._sink
        head = None
        try:
            found = self._heads.feed(data)
            if found is None:
                if 0 < self._heads.kept <= len(data):
                    # All that is kept has come just now: the time of this head begins.
                    sink.head_begun()
                sink.acknowledge()
                return
            octets, rest = found
            head = parse_request_head(octets)
            framing = request_framing(head)
            options = connection_options(head)
            host = host_of(head)
            upload = None
            if framing.has_content:
                coded = sink.takes_coding
                upload = Upload(framing, self._flow, coded=coded)
                rest = self._read_early(upload, content_reader(framing, coded), rest)
        except Malformed as error:
            sink.refuse(_translate(error), head)
            return
        sink.begin(head, upload, options, host)
        if upload is not None and sink.request is not None:
            upload.await_claim()
        if rest:
            self.feed(rest)

    # content

    def _read_early(self, upload: Upload, reader: ContentReader, data: bytes) -> bytes:
        """Read the content that came together with its head, so that both can go on together.

        Returns: what follows the content.
        """
        upload.preload(reader.feed(data))
        upload.overhead = reader.overhead
        if not reader.complete:
            self._content = reader
            self._sink.acknowledge()
            return b""
        upload.finish(reader.trailers)
        return bytes(reader.excess)

    def _read_content(self, reader: ContentReader, data: Octets) -> None:
        sink = self._sink
        upload: Upload | None = None if sink.request is None else sink.request.upload
        try:
            content = reader.feed(data)
        except Malformed as error:
            self._content = None
            sink.linger()
            if upload is not None:
                upload.refuse(_translate(error))
            return
        if upload is None:
            self._drop(data)
        elif content:
            upload.overhead = reader.overhead
            upload.write(content)
        if reader.complete:
            self._content = None
            if upload is not None and sink.state is State.OPEN:
                upload.finish(reader.trailers)
            if reader.excess:
                self.feed(bytes(reader.excess))
        elif reader.awaits_more:
            sink.acknowledge()

    # what the connection asks

    @property
    def between_requests(self) -> bool:
        """Whether the last octet that came was the end of a request, or none has come."""
        return self._content is None and not self.pending and self._heads.empty

    @property
    def in_head(self) -> bool:
        """Whether a head has begun to arrive and is not whole."""
        return not self._heads.empty

    @property
    def held(self) -> bool:
        """Whether somebody keeps the client's octets from being read."""
        return self._flow.held

    def read_on(self) -> None:
        """Let the client's octets come again, whoever held them back."""
        self._flow.release(RELAYED | Hold.PIPELINE)

    def forget(self) -> None:
        """Forget what came of requests that will not be answered, but for a part of a head."""
        self.pending = b""
        self._content = None

    # the flow

    def pauseProducing(self) -> None:
        """Stop reading: somebody holds the flow."""
        self._sink.reading_pauses()

    def resumeProducing(self) -> None:
        """Read again: nobody holds the flow any more."""
        self._sink.reading_resumes()
