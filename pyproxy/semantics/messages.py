"""Heads of messages: from octets to facts and back.

Owns the start lines and the bounds of a head.  Must not know what follows the head (``framing``)
nor what a proxy changes in it (``forwarding``).
"""

from __future__ import annotations

import re

import attrs

from pyproxy.errors import HeadTooLarge, Malformed, TargetTooLong
from pyproxy.semantics.fields import Fields, parse_section, stray_octet
from pyproxy.semantics.reasons import why_no_request_line

MAX_HEAD_BYTES = 64 * 1024
"""Octets in one head, start line and empty line included."""

MAX_TARGET_BYTES = 32 * 1024
"""Octets in one request target."""

MAX_METHOD_BYTES = 128
"""Octets in one method; the longest registered one has 17 (UPDATEREDIRECTREF)."""

MAX_EMPTY_BYTES = 64 * 1024
"""Octets of empty lines before one request line: as many as of a head."""

MAX_START_LINE_BYTES = MAX_METHOD_BYTES + MAX_TARGET_BYTES + len("  HTTP/1.1\r")

_request_line = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++) ([\x21\x22\x24-\x7e\x80-\xff]++) HTTP/1\.([01])\r\n"
).match
_status_line = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*+))?\r\n").match
_after_empty_lines = re.compile(rb"\A(?:\r?\n)++")
_line = b": ".join
_STRAY = {
    b"\n": "a bare LF in a head: only CRLF ends a line",
    b"\r": "a bare CR in a head: only CRLF ends a line",
    b"\0": "a NUL in a head",
}


NOTED = frozenset(
    {
        b"authorization",
        b"connection",
        b"content-length",
        b"content-location",
        b"expect",
        b"forwarded",
        b"host",
        b"keep-alive",
        b"location",
        b"origin",
        b"proxy-authenticate",
        b"referer",
        b"refresh",
        b"sec-fetch-dest",
        b"sec-fetch-mode",
        b"sec-fetch-site",
        b"sec-purpose",
        b"set-cookie",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"user-agent",
        b"via",
        b"www-authenticate",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
    }
)
"""Names, in lower case, that some rule for every message asks about.

They are looked for once: a search of its own for each rule cost 1 us and more for 20 fields.
"""


_NOTHING_NOTED: frozenset[bytes] = frozenset()


# Neither frozen nor made by attrs: that costs another 0.8 us, and there are two in each exchange.
class RequestHead:
    """A request's head as it came: method, raw target, minor version of HTTP/1, fields in order.

    Attributes:
        names: of the fields, in lower case and in their order.
        noted: those of NOTED among them.
    """

    __slots__ = ("fields", "method", "minor_version", "names", "noted", "target")

    def __init__(self, method: bytes, target: bytes, minor_version: int, fields: Fields) -> None:
        self.method = method
        self.target = target
        self.minor_version = minor_version
        self.fields = fields
        self.names = names = [name.lower() for name, _ in fields]
        self.noted = NOTED.intersection(names)


class ResponseHead:
    """A response's head as it came: status, reason phrase, minor version of HTTP/1, fields.

    Attributes: ``names`` and ``noted`` as a request's.
    """

    __slots__ = ("fields", "minor_version", "names", "noted", "reason", "status")

    def __init__(self, status: int, reason: bytes, minor_version: int, fields: Fields) -> None:
        self.status = status
        self.reason = reason
        self.minor_version = minor_version
        self.fields = fields
        self.names = names = [name.lower() for name, _ in fields]
        self.noted = NOTED.intersection(names)

    def forget_fields(self) -> None:
        """Have no fields any more; a stream may stay open long after they were passed on."""
        self.fields = []
        self.names = []
        self.noted = _NOTHING_NOTED


Head = RequestHead | ResponseHead


def noted_values(head: Head, name: bytes) -> list[bytes]:
    """Return the values of every field of a name, in order.  Args: a name of NOTED."""
    if name not in head.noted:
        return []
    names, fields = head.names, head.fields
    place = names.index(name)
    found = [fields[place][1]]
    for _ in range(names.count(name) - 1):
        place = names.index(name, place + 1)
        found.append(fields[place][1])
    return found


def parse_request_head(octets: bytes) -> RequestHead:
    """Parse a request's head: from the request line to the CRLF of the last field line.

    Raises: Malformed, TargetTooLong, UnknownVersion, HeadTooLarge.
    Spec: RFC 9112 2.2, 3, 5.
    """
    match = _request_line(octets)
    if match is None:
        raise why_no_request_line(octets.partition(b"\r\n")[0])
    method, target, minor = match.groups()
    if len(method) > MAX_METHOD_BYTES:
        raise Malformed(f"the method is longer than {MAX_METHOD_BYTES} bytes")
    if len(target) > MAX_TARGET_BYTES:
        raise TargetTooLong(f"the request target is longer than {MAX_TARGET_BYTES} bytes")
    fields = parse_section(octets, match.end())
    return RequestHead(method, target, 1 if minor == b"1" else 0, fields)


def parse_response_head(octets: bytes) -> ResponseHead:
    """Parse a response's head: from the status line to the CRLF of the last field line.

    A reason phrase may be missing, with or without the space before it, as old servers send it.
    Raises: Malformed, HeadTooLarge.
    Spec: RFC 9112 2.2, 4, 5.
    """
    match = _status_line(octets)
    if match is None:
        raise Malformed("the status line is not `HTTP/1.x SP status SP reason`")
    minor, status, reason = match.groups()
    fields = parse_section(octets, match.end())
    return ResponseHead(int(status), reason or b"", 1 if minor == b"1" else 0, fields)


def write_head(start_line: bytes, fields: Fields) -> bytes:
    """Write a head in one piece, the empty line at its end included.  Spec: RFC 9112 2.1."""
    if not fields:
        return start_line + b"\r\n\r\n"
    return b"%b\r\n%b\r\n\r\n" % (start_line, b"\r\n".join(map(_line, fields)))


FIRST_PIECE_BYTES = 4096
"""Octets of a read that are searched for the end of a head before the rest is touched."""


def split_head(octets: memoryview) -> tuple[bytes, memoryview | None]:
    """Part the head at the beginning of a read from what follows, which is not copied.

    Returns: all octets and None, when they are few or the head does not end among the first.
    """
    if len(octets) > FIRST_PIECE_BYTES:
        first = bytes(octets[:FIRST_PIECE_BYTES])
        end = first.find(b"\r\n\r\n") + 4
        if end > 4:
            return first[:end], octets[end:]
    return bytes(octets), None


@attrs.define(eq=False)
class HeadReader:
    """Collects octets until a head is whole.

    Bounded by MAX_HEAD_BYTES.  What can never become a head is refused as soon as it is seen, not
    only when its end comes: a client that ends lines with a bare LF gets its 400 at once.

    Args: the octets that every head begins with, if that is known.
    """

    _prefix: bytes = b""
    _kept: bytes = b""
    _skipped: int = 0

    @property
    def empty(self) -> bool:
        """Whether no octet of the next head has arrived; a CR may still be of an empty line."""
        return not self._kept or self._kept == b"\r"

    def give_up(self) -> bytes:
        """Return the octets of the next head, and forget them."""
        kept, self._kept = self._kept, b""
        return kept

    @property
    def kept(self) -> int:
        """How many octets of the next head have arrived."""
        return 0 if self._kept == b"\r" else len(self._kept)

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Take octets; return (head without its empty line, what follows), or None for "not yet".

        Empty lines before a request line are skipped, also those of a bare LF (RFC 9112 2.2).
        Raises: HeadTooLarge, TargetTooLong, Malformed.
        """
        if self._kept:
            start = max(0, len(self._kept) - 3)
            data = self._kept + data
        else:
            start = 0
        if not self._prefix:
            if data[:1] in b"\r\n":
                data, start = self._after_empty_lines(data), 0
        elif not data.startswith(self._prefix[: len(data)]):
            raise Malformed(f"it does not begin with {self._prefix.decode('ascii')}")
        end = data.find(b"\r\n\r\n", start)
        if end >= 0:
            if end + 4 > MAX_HEAD_BYTES:
                raise HeadTooLarge(f"a head of more than {MAX_HEAD_BYTES} bytes")
            self._kept = b""
            self._skipped = 0
            return data[: end + 2], data[end + 4 :]
        self._refuse_hopeless(data, start)
        self._kept = data
        return None

    def _after_empty_lines(self, data: bytes) -> bytes:
        """Return what follows the empty lines at the beginning.  Raises: Malformed past a bound."""
        rest = _after_empty_lines.sub(b"", data)
        self._skipped += len(data) - len(rest)
        if self._skipped > MAX_EMPTY_BYTES:
            raise Malformed(f"more than {MAX_EMPTY_BYTES} bytes of empty lines before a request")
        return rest

    def _refuse_hopeless(self, data: bytes, start: int) -> None:
        end_of_line = data.find(b"\r\n")
        if end_of_line >= start and not self._prefix and not _request_line(data):
            # Nobody who says too little (HTTP/0.9) or no HTTP at all waits for the rest of it.
            raise why_no_request_line(data[:end_of_line])
        stray = stray_octet(data, start)
        if stray:
            if end_of_line < 0 and not self._prefix:
                raise why_no_request_line(data)
            raise Malformed(_STRAY[stray[0]])
        if len(data) > MAX_START_LINE_BYTES and b"\r\n" not in data:
            raise TargetTooLong(f"no end of the start line within {MAX_START_LINE_BYTES} bytes")
        if len(data) > MAX_HEAD_BYTES:
            raise HeadTooLarge(f"a head of more than {MAX_HEAD_BYTES} bytes")
