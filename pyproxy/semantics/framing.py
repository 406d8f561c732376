"""Framing: where a message's content ends.

Owns Content-Length and Transfer-Encoding; the chunked coding itself is ``chunked``'s.  Whatever two
parsers could read differently is refused.  Must not know sockets: readers take octets and give
content.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import ClassVar, NamedTuple, Protocol

import attrs

from pyproxy.errors import Malformed, UnknownCoding
from pyproxy.semantics.chunked import HELD_BACK_BYTES, LARGE_CHUNK_BYTES, ChunkedReader, CodedReader
from pyproxy.semantics.fields import Fields, Octets, is_token, tokens
from pyproxy.semantics.messages import Head, RequestHead, ResponseHead, noted_values
from pyproxy.semantics.oddities import NOTHING_ODD, Oddity

is_length = re.compile(rb"\d{1,18}").fullmatch
"""Whether octets are the value of a Content-Length.  Spec: RFC 9110 8.6."""


class Kind(Enum):
    """How the end of the content is known."""

    NONE = "no content"
    LENGTH = "Content-Length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until the connection closes"


# A tuple: a frozen attrs class costs 0.6 us more to make, and one is made for every length.
class Framing(NamedTuple):
    """How a message's content is delimited; ``length`` counts octets for LENGTH only."""

    kind: Kind
    length: int = 0

    @property
    def has_content(self) -> bool:
        """Whether at least one octet of content or framing follows the head."""
        return self.length > 0 or self.kind in (Kind.CHUNKED, Kind.UNTIL_CLOSE)


NO_CONTENT = Framing(Kind.NONE)
CHUNKED = Framing(Kind.CHUNKED)
UNTIL_CLOSE = Framing(Kind.UNTIL_CLOSE)

STATUS_WITHOUT_CONTENT = frozenset({204, 304})


def request_framing(head: RequestHead) -> Framing:
    """Return how a request's content is delimited.

    Raises: Malformed for anything but one Content-Length, or one ``Transfer-Encoding: chunked`` in
        HTTP/1.1, or neither; UnknownCoding where only a coding is not understood.
    Spec: RFC 9112 6.1, 6.2, 6.3 (3, 4, 5, 6, 7).
    """
    if b"transfer-encoding" in head.noted:
        return _coded_request(head)
    declared = _declared(head)
    return NO_CONTENT if declared is None else declared


def _coded_request(head: RequestHead) -> Framing:
    """Return the framing of a request with Transfer-Encoding, which is chunked or none at all.

    A coding that is not known gets 501, as nginx and Go answer it, also where ``chunked`` does not
    follow: what is wrong is still that it is not known.
    """
    if b"content-length" in head.noted:
        raise Malformed("both Content-Length and Transfer-Encoding")
    if head.minor_version == 0:
        raise Malformed("Transfer-Encoding in an HTTP/1.0 message")
    lines = noted_values(head, b"transfer-encoding")
    if len(lines) == 1 and lines[0].lower() == b"chunked":
        return CHUNKED
    codings = tokens(lines)
    names = [coding.partition(b";")[0].rstrip(b"\t ") for coding in codings]
    if not names or not all(map(is_token, names)):
        raise Malformed("a Transfer-Encoding that is no list of codings")
    if b"chunked" in names[:-1]:
        raise Malformed("a Transfer-Encoding with `chunked` twice, or not at its end")
    if names[-1] == b"chunked" and (len(names) == 1 or codings[-1] != b"chunked"):
        raise Malformed("a `chunked` in Transfer-Encoding with more than its name")
    raise UnknownCoding("a transfer coding other than `chunked` is not understood here")


def response_framing(head: ResponseHead, method: bytes) -> Framing:
    """Return how the content of a response to a request with that method is delimited.

    Raises: Malformed as for requests, even where no content follows; ``odd_heads.mend`` knows what
        can be mended then.
    Spec: RFC 9112 6.3 (1 to 8).
    """
    declared = _declared(head)
    if method == b"HEAD" or head.status in STATUS_WITHOUT_CONTENT or head.status < 200:
        return NO_CONTENT
    return UNTIL_CLOSE if declared is None else declared


def declares_content(head: ResponseHead) -> bool:
    """Tell whether a response's fields speak of content, due or not.  Spec: RFC 9110 8.6."""
    declared = _declared(head)
    return declared is not None and declared.has_content


def _declared(head: Head) -> Framing | None:
    if b"transfer-encoding" in head.noted:
        if b"content-length" in head.noted:
            raise Malformed("both Content-Length and Transfer-Encoding")
        if head.minor_version == 0:
            raise Malformed("Transfer-Encoding in an HTTP/1.0 message")
        codings = noted_values(head, b"transfer-encoding")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise Malformed("a Transfer-Encoding other than one `chunked`")
        return CHUNKED
    if b"content-length" not in head.noted:
        return None
    if head.names.count(b"content-length") > 1:
        raise Malformed("more than one Content-Length")
    length = head.fields[head.names.index(b"content-length")][1]
    if is_length(length) is None:
        raise Malformed("a Content-Length that is no decimal number")
    return Framing(Kind.LENGTH, int(length))


class ContentReader(Protocol):
    """Reads one message's content out of a connection's octets.

    Attributes:
        complete: the end of the content was seen.
        awaits_more: more is due at once, as far as can be told; says nothing once complete.
        excess: octets after that end.
        trailers: the trailer section, once complete.
        overhead: octets that were given on as a part of the coding, and are no content.
    """

    complete: bool
    awaits_more: bool
    excess: Octets
    trailers: Fields
    overhead: int

    @property
    def oddities(self) -> frozenset[Oddity]:
        """What was odd, and is mended on its way; of responses only."""

    def feed(self, data: Octets) -> Octets:
        """Take octets as read; return the content among them, a view of a view.

        Raises: Malformed, HeadTooLarge.
        """

    def close(self) -> bool:
        """Tell whether the content is whole when the connection ends now."""


class LengthReader:
    """Reads content of a known number of octets.  Spec: RFC 9112 6.2."""

    __slots__ = ("_remaining", "awaits_more", "complete", "excess", "trailers")

    overhead = 0
    oddities = NOTHING_ODD

    def __init__(self, length: int) -> None:
        self._remaining = length
        self.awaits_more = length < HELD_BACK_BYTES
        self.complete = length == 0
        self.excess: Octets = b""
        self.trailers: Fields = []

    def feed(self, data: Octets) -> Octets:
        """Take octets; return the content among them."""
        size = len(data)
        if size < self._remaining:
            self._remaining -= size
            self.awaits_more = self._remaining < HELD_BACK_BYTES
            return data
        self.complete = True
        if size > self._remaining:
            data, self.excess = data[: self._remaining], data[self._remaining :]
        self._remaining = 0
        return data

    def close(self) -> bool:
        """Tell whether the content is whole when the connection ends now."""
        return self.complete


@attrs.define(eq=False)
class UntilCloseReader:
    """Reads content that ends with the connection.  Spec: RFC 9112 6.3 (8)."""

    complete: bool = False
    awaits_more: bool = False
    excess: Octets = b""
    trailers: Fields = attrs.Factory(list)
    overhead: int = 0
    oddities: ClassVar[frozenset[Oddity]] = NOTHING_ODD

    def feed(self, data: Octets) -> Octets:
        """Take octets; all of them are content."""
        self.awaits_more = len(data) >= LARGE_CHUNK_BYTES
        return data

    def close(self) -> bool:
        """The end of the connection is the end of the content."""
        self.complete = True
        return True


ChunkReaders = tuple[Callable[[], ContentReader], Callable[[], ContentReader]]
"""What reads chunks: one that takes the content out of them, and one that gives them on coded."""

STRICT_CHUNKS: ChunkReaders = (ChunkedReader, CodedReader)


def content_reader(
    framing: Framing, coded: bool = False, chunks: ChunkReaders = STRICT_CHUNKS
) -> ContentReader:
    """Return a reader for content delimited that way.

    Args: coded, whether chunked content is wanted in its coding, without its last chunk; what reads
        chunks, ``odd_chunks.ODD_CHUNKS`` for those of a response.
    """
    kind, length = framing
    if kind is Kind.CHUNKED:
        return chunks[coded]()
    if kind is Kind.UNTIL_CLOSE:
        return UntilCloseReader()
    return LengthReader(length)
