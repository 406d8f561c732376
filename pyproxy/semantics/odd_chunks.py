"""Chunks of responses, read as ``chunked`` reads those of requests, but for a few odd forms.

Blanks around a size, many zeros before it and control characters in an extension mean nothing to
any reader; the trailer section may be odd in the ways that a head may be.  Each is mended on its
way.  Inside the coding CRLF alone ends a line: readers do not agree about anything else.
Spec: RFC 9112 7.1, 7.1.1, 7.1.2.
"""

from __future__ import annotations

import re

from pyproxy.errors import Malformed
from pyproxy.semantics.chunked import ChunkedReader, CodedReader, Reader
from pyproxy.semantics.fields import Fields, parse_section
from pyproxy.semantics.framing import ChunkReaders
from pyproxy.semantics.odd_heads import mended_section
from pyproxy.semantics.oddities import Oddity

_chunk_line = re.compile(rb"[\t ]*+0*([0-9A-Fa-f]{1,15})[\t ]*+(?:;[^\0\r\n]*+)?").fullmatch
_chunk_line_start = re.compile(rb"[\t ]*+(?:[0-9A-Fa-f]++[\t ]*+(?:;[^\0\r\n]*+)?\r?)?").fullmatch


class _OddChunks(Reader):
    """Reads what the strict reader refuses, if it can be read in one way only."""

    __slots__ = ()

    def _odd_start(self, start: bytes) -> bool:
        return _chunk_line_start(start) is not None

    def _odd_line(self, octets: bytes, end: int) -> re.Match[bytes]:
        match = _chunk_line(octets, 0, end)
        if match is None:
            return super()._odd_line(octets, end)
        self.oddities |= {Oddity.CHUNK_LINE}
        return match

    def _parse_section(self, octets: bytes) -> Fields:
        try:
            return parse_section(octets)
        except Malformed:
            oddities: set[Oddity] = set()
            fields = mended_section(octets, oddities)
            self.oddities |= oddities
            return fields


class OddChunkedReader(_OddChunks, ChunkedReader):
    """Reads the content out of a response's chunks."""

    __slots__ = ()


class OddCodedReader(_OddChunks, CodedReader):
    """Gives a response's chunks on in their coding; odd lines become plain ones."""

    __slots__ = ()


ODD_CHUNKS: ChunkReaders = (OddChunkedReader, OddCodedReader)
"""What reads the chunks of responses."""
