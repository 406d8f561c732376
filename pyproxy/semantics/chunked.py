"""The chunked coding: where its chunks end, strictly.

Owns the syntax of chunks and of the trailer section behind the last one.
Spec: RFC 9112 7.1.
"""

from __future__ import annotations

import re
from enum import Enum

from pyproxy.errors import HeadTooLarge, Malformed
from pyproxy.semantics.fields import Fields, Octets, parse_section, stray_octet
from pyproxy.semantics.oddities import NOTHING_ODD, Oddity

MAX_CHUNK_LINE_BYTES = 4096
"""Octets of one chunk-size line, extensions included."""

USUAL_CHUNK_LINE_BYTES = 64
"""Octets in which nearly every line ends; to copy 4 KiB for each cost twice the rest of it."""

LARGE_CHUNK_BYTES = 4096
"""Octets of a chunk from which on it is not copied to be looked at."""

HELD_BACK_BYTES = 64 * 1024
"""What a peer's kernel may hold back until it hears from us: less than the largest segment.

Spec: RFC 9293 3.7.4.
"""

MAX_TRAILER_BYTES = 16 * 1024
"""Octets of one trailer section."""

_plain_size = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n").match
_chunk_line = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?").fullmatch
_chunk_line_start = re.compile(
    rb"[0-9A-Fa-f]{1,15}+(?:(?:;[\t\x20-\x7e\x80-\xff]*+)?\r?)"
).fullmatch


class _Chunked(Enum):
    SIZE = "chunk-size line"
    DATA = "chunk-data"
    DATA_END = "CRLF after chunk-data"
    TRAILERS = "trailer section"
    COMPLETE = "complete"


class Reader:
    """What both readers know of the coding.

    Sizes are hexadecimal digits and nothing else; extensions are checked, bounded and dropped
    (they belong to one hop); every line ends in CRLF.  ``odd_chunks`` is not as strict: it is asked
    where a line or section would be refused.

    Attributes: as ``framing.ContentReader`` has them.
    """

    __slots__ = (
        "_extended",
        "_kept",
        "_remaining",
        "_state",
        "awaits_more",
        "complete",
        "excess",
        "oddities",
        "overhead",
        "trailers",
    )

    def __init__(self) -> None:
        self.awaits_more = False
        self.complete = False
        self.excess: Octets = b""
        self.trailers: Fields = []
        self.overhead = 0
        self.oddities: frozenset[Oddity] = NOTHING_ODD
        self._state = _Chunked.SIZE
        self._remaining = 0
        self._extended = False
        self._kept = b""

    def _size(self, data: Octets, position: int) -> int:
        rest = bytes(data[position : position + USUAL_CHUNK_LINE_BYTES])
        end = rest.find(b"\r\n")
        if end < 0:
            # The line's end, or one octet more than it may have with it.
            rest = bytes(data[position : position + MAX_CHUNK_LINE_BYTES + 2])
            end = rest.find(b"\r\n")
        if end < 0:
            # The CR of the line's end may be here already.
            hopeful = not rest or _chunk_line_start(rest) or self._odd_start(rest)
            if len(rest) > MAX_CHUNK_LINE_BYTES + 1 or not hopeful:
                raise Malformed("a chunk size that is no hexadecimal number")
            self._kept = rest
            return -1
        match = _chunk_line(rest, 0, end) or self._odd_line(rest, end)
        self._extended = match.span(1) != (0, end)
        self._remaining = int(match[1], 16)
        self._state = _Chunked.DATA if self._remaining else _Chunked.TRAILERS
        return position + end + 2

    def _data_end(self, data: Octets, position: int) -> int:
        end = bytes(data[position : position + 2])
        if end == b"\r\n":
            self._state = _Chunked.SIZE
            return position + 2
        if end not in (b"", b"\r"):
            raise Malformed("no CRLF after a chunk")
        self._kept = end
        return -1

    def _trailer_section(self, data: bytes, position: int) -> int:
        if data.startswith(b"\r\n", position):
            end, section = position + 2, b""
        else:
            found = data.find(b"\r\n\r\n", position)
            end, section = found + 4, data[position : found + 2]
            if found < 0:
                if stray_octet(data, position):
                    raise Malformed("a bare CR, a bare LF or a NUL in a trailer section")
                if len(data) - position > MAX_TRAILER_BYTES + 1:
                    raise HeadTooLarge(f"a trailer section of more than {MAX_TRAILER_BYTES} bytes")
                self._kept = data[position:]
                return -1
        if len(section) > MAX_TRAILER_BYTES:
            raise HeadTooLarge(f"a trailer section of more than {MAX_TRAILER_BYTES} bytes")
        self.trailers = self._parse_section(section) if section else []
        self.complete = True
        self._state = _Chunked.COMPLETE
        self.excess = data[end:]
        return -1

    def _odd_start(self, start: bytes) -> bool:
        """Tell whether the start of a line may become one, against the strict rules."""
        return False

    def _odd_line(self, octets: bytes, end: int) -> re.Match[bytes]:
        """Return an odd line's match, whose first group is its size.  Raises: Malformed."""
        raise Malformed("a chunk size that is no hexadecimal number")

    def _parse_section(self, octets: bytes) -> Fields:
        return parse_section(octets)

    def close(self) -> bool:
        """Tell whether the content is whole when the connection ends now."""
        return self.complete


class ChunkedReader(Reader):
    """Reads the content out of the chunked coding."""

    __slots__ = ()

    def feed(self, data: Octets) -> Octets:
        """Take octets; return the content among them.

        Raises: Malformed for a wrong size, extension, line end or trailer; HeadTooLarge for a
            trailer section past its bound.
        """
        if self._state is _Chunked.DATA and len(data) < self._remaining:
            self._remaining -= len(data)
            self.awaits_more = self._remaining < HELD_BACK_BYTES
            return data
        data = self._kept + data if self._kept else bytes(data)
        self._kept = b""
        pieces: list[bytes] = []
        position = self._whole_chunks(data, pieces) if self._state is _Chunked.SIZE else 0
        while position >= 0 and not self.complete:
            position = self._step(data, position, pieces)
        self.awaits_more = self._state is not _Chunked.SIZE or len(data) >= LARGE_CHUNK_BYTES
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _whole_chunks(self, data: bytes, pieces: list[bytes]) -> int:
        """Read the plain chunks that are here from end to end; return where the rest begins.

        A read of a busy event stream holds many small ones; going through ``_step`` three times for
        each cost 1.3 us an event.
        """
        position = 0
        while (match := _plain_size(data, position)) is not None:
            start = match.end()
            size = int(match[1], 16)
            stop = start + size
            if not size or data[stop : stop + 2] != b"\r\n":
                break
            pieces.append(data[start:stop])
            position = stop + 2
        return position

    def _step(self, data: bytes, position: int, pieces: list[bytes]) -> int:
        """Read one element at a position; return where the next begins, or -1 to wait for more."""
        if self._state is _Chunked.SIZE:
            return self._size(data, position)
        if self._state is _Chunked.DATA:
            piece = data[position : position + self._remaining]
            if not piece:
                return -1
            pieces.append(piece)
            self._remaining -= len(piece)
            if self._remaining:
                return -1
            self._state = _Chunked.DATA_END
            return position + len(piece)
        if self._state is _Chunked.DATA_END:
            return self._data_end(data, position)
        return self._trailer_section(data, position)


class CodedReader(Reader):
    """Reads the chunked coding as strictly, and gives it on as it came.

    What it withholds are extensions, and all from the last chunk on: its trailers are not for
    everybody.  A relay that takes chunks apart and makes one of each read pays 1.5 us an event.
    """

    __slots__ = ()

    def feed(self, data: Octets) -> Octets:
        """Take octets; return those that can be given on.

        Raises: Malformed for a wrong size, extension, line end or trailer; HeadTooLarge for a
            trailer section past its bound.
        """
        if self._state is _Chunked.DATA and len(data) < self._remaining:
            self._remaining -= len(data)
            self.awaits_more = self._remaining < HELD_BACK_BYTES
            return data
        if self._kept:
            data, self._kept = self._kept + data, b""
        size = len(data)
        if size < LARGE_CHUNK_BYTES or self._is_small(data):
            data = bytes(data)
        pieces: list[Octets] = []
        given, stop, position = self._follow(data, pieces)
        if self._state is _Chunked.TRAILERS:
            self._trailer_section(bytes(data[position:]), 0)
        self.awaits_more = self._state is not _Chunked.SIZE or size >= LARGE_CHUNK_BYTES
        if pieces:
            return b"".join((*pieces, data[given:stop]))
        return data if stop == size else data[:stop]

    def _follow(self, data: Octets, pieces: list[Octets]) -> tuple[int, int, int]:
        """Follow the coding through one read.

        Args: takes pieces that cannot be given on as they stand together with the rest.
        Returns: the first octet that is not in a piece, the end of what can be given on, and where
            the trailer section begins if it does.
        """
        position = given = stop = 0
        while position >= 0 and self._state is not _Chunked.TRAILERS:
            if self._state is _Chunked.SIZE:
                stop = self._whole_chunks(data, position)
                if stop == len(data):
                    break
                position = self._size(data, stop)
                if position < 0 or not self._remaining:
                    break
                size_line = position - stop
                if self._extended:
                    plain = b"%x\r\n" % self._remaining
                    pieces += (data[given:stop], plain)
                    given, size_line = position, len(plain)
                self.overhead += size_line
            if self._state is _Chunked.DATA:
                stop = min(position + self._remaining, len(data))
                self._remaining -= stop - position
                if self._remaining:
                    break
                position = stop
                self._state = _Chunked.DATA_END
            position = self._data_end(data, position)
            if position >= 0:
                stop = position
                self.overhead += 2
        return given, stop, position

    def _is_small(self, data: Octets) -> bool:
        """Tell whether chunks are so small that to copy them costs less than to slice a view."""
        match = _plain_size(data) if self._state is _Chunked.SIZE else None
        size = self._remaining if match is None else int(match[1], 16)
        return size < LARGE_CHUNK_BYTES

    def _whole_chunks(self, data: Octets, position: int) -> int:
        """Pass over the plain chunks that are here from end to end; return where the rest begins.

        Chunks of one size in a row are common: whoever copies a buffer writes them.  To compare the
        end of one and the size line of the next at once costs a tenth of reading the line.
        """
        while (match := _plain_size(data, position)) is not None:
            start = match.end()
            size = int(match[1], 16)
            stop = start + size
            if not size or data[stop : stop + 2] != b"\r\n":
                break
            line = bytes(match[0])
            stride = len(line) + size + 2
            first, position = position, stop + 2
            if type(data) is bytes and data.startswith(line, position):
                seam = b"\r\n" + line
                while data.startswith(seam, position + stride - 2):
                    position += stride
            self.overhead += (position - first) // stride * (stride - size)
        return position


def chunk(content: Octets) -> bytes:
    """Write content as one chunk.  Args: content of at least one octet.  Spec: RFC 9112 7.1."""
    return b"%x\r\n%b\r\n" % (len(content), content)  # type: ignore[str-format]


def last_chunk(trailers: Fields) -> bytes:
    """Write the end of chunked content with its trailer section.  Spec: RFC 9112 7.1.2."""
    if not trailers:
        return b"0\r\n\r\n"
    return b"0\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % field for field in trailers)
