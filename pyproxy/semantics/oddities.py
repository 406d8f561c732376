"""Odd forms of responses that are read, and mended on their way to the client.

A response is refused only where two of the readers in use would read it differently, or where the
standards say so; docs/upstreams.rst has each form, and what curl, Node, Python and Go make of it.
Owns their names; ``odd_heads`` and ``odd_chunks`` mend them.  None of this holds for requests.
"""

from __future__ import annotations

from enum import Enum


class Oddity(Enum):
    """A form that no response should have; the value says what the upstream sent."""

    STATUS_LINE = "a status line with other blanks than single spaces"
    VERSION = "a status line that names a version other than HTTP/1.0 and HTTP/1.1"
    BARE_LF = "lines of a head that end in LF alone"
    BLANK_BEFORE_COLON = "white space before the colon of a field"
    FOLD = "a field that is folded over several lines"
    CONTROL = "control characters in a field value or reason phrase"
    CONNECTION = "a Connection field with what is no connection option"
    BOTH_LENGTHS = "Content-Length beside Transfer-Encoding"
    SAME_LENGTHS = "the same Content-Length more than once, or with many zeros before it"
    IDENTITY = "a Transfer-Encoding without any coding, such as `identity`"
    CHUNKED_AGAIN = "a Transfer-Encoding that names `chunked` more than once"
    CODING_OF_NOTHING = "a Transfer-Encoding of another kind where no content is due"
    CHUNK_LINE = "a chunk-size line with blanks, many zeros or control characters"


ENDS_CONNECTION = frozenset(
    {
        Oddity.VERSION,
        Oddity.CONNECTION,
        Oddity.BOTH_LENGTHS,
        Oddity.IDENTITY,
        Oddity.CHUNKED_AGAIN,
        Oddity.CODING_OF_NOTHING,
    }
)
"""Oddities of who may be wrong about where its responses end: their connection serves no other.

Spec: RFC 9112 6.3 (3).
"""

NOTHING_ODD: frozenset[Oddity] = frozenset()
