"""Heads of responses that are odd, and can be read in one way only: mended into the right form.

Asked when the strict rules have refused a head, so that heads in the right form pay nothing.  Owns
what stands for what in them; must not know of requests, which stay strict.
Spec: RFC 9112 2.2, 4, 5.1, 5.2, 6.3; RFC 9110 2.5, 5.5, 8.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pyproxy.errors import HeadTooLarge, Malformed
from pyproxy.semantics.fields import MAX_FIELDS, Field, Fields, is_field_value, is_token
from pyproxy.semantics.forwarding import NEVER_NOMINATED, connection_options
from pyproxy.semantics.framing import STATUS_WITHOUT_CONTENT, is_length
from pyproxy.semantics.messages import MAX_HEAD_BYTES, ResponseHead, noted_values
from pyproxy.semantics.oddities import Oddity

_PREFIX = b"HTTP/"

_end_of_head = re.compile(rb"\r?\n\r?\n").search
_stray_octet = re.compile(rb"\r(?!\n|\Z)|\0").search
_line_end = re.compile(rb"\r?\n").sub
_status_line = re.compile(
    rb"HTTP/(0\.9|1\.\d|2\.0)[ \t]+([1-9]\d\d)(?:[ \t]+([^\0\r\n]*+))?\r\n"
).match
_right_status_line = re.compile(rb"HTTP/\d\.\d [1-9]\d\d(?: |\r)").match
_length = re.compile(rb"0*+\d{0,18}").fullmatch
_never = re.compile(rb"[\0\r\n]").search

_FRAMING = NEVER_NOMINATED
"""Fields that readers miss when they are folded, or have a blank before the colon."""

_MENDED = _FRAMING | {b"connection"}


class OddHeadReader:
    """Collects octets until a head is whole whose lines may end in LF alone.

    Attributes:
        kept: octets of a head that is not whole.
        oddities: what the heads so far had that they should not have.
    """

    def __init__(self) -> None:
        self.kept = b""
        self.oddities: set[Oddity] = set()

    @property
    def empty(self) -> bool:
        """Whether no octet of the next head has arrived."""
        return not self.kept

    def feed(self, data: bytes) -> tuple[ResponseHead, bytes] | None:
        """Take octets; return a head and what follows it, or None for "not yet".

        Raises: Malformed for what has no single reading, HeadTooLarge.
        """
        start = max(0, len(self.kept) - 3)
        data = self.kept + data
        if data[: len(_PREFIX)] != _PREFIX[: len(data)]:
            raise Malformed("it does not begin with HTTP/")
        end = _end_of_head(data, start)
        size = len(data) if end is None else end.end()
        if _stray_octet(data, start, size):
            raise Malformed("a bare CR or a NUL in a head")
        if size > MAX_HEAD_BYTES:
            raise HeadTooLarge(f"a head of more than {MAX_HEAD_BYTES} bytes")
        if end is None:
            self.kept = data
            return None
        self.kept = b""
        return self._parse(data[: end.end()]), data[end.end() :]

    def _parse(self, octets: bytes) -> ResponseHead:
        lines = _line_end(b"\r\n", octets)
        if lines != octets:
            self.oddities.add(Oddity.BARE_LF)
        match = _status_line(lines)
        if match is None:
            raise Malformed("the status line is not `HTTP/1.x SP status SP reason`")
        version, status, reason = match.groups()
        if _right_status_line(lines) is None:
            self.oddities.add(Oddity.STATUS_LINE)
        if version not in (b"1.0", b"1.1"):
            self.oddities.add(Oddity.VERSION)
        if reason and not is_field_value(reason):
            self.oddities.add(Oddity.CONTROL)
        # What is older than 1.1 is read as 1.0; of a later version 1.1 is what both know.
        minor = 0 if version in (b"0.9", b"1.0") else 1
        fields = mended_section(lines[match.end() : -2], self.oddities)
        return ResponseHead(int(status), reason or b"", minor, fields)


def mended_section(octets: bytes, oddities: set[Oddity]) -> Fields:
    """Parse a field section whose fields may be odd; its lines end in CRLF.

    Args: takes what was odd.
    Raises: Malformed for NUL, a bare CR or LF, a name that is none, white space where readers do
        not agree what it means; HeadTooLarge.
    Spec: RFC 9112 5.1, 5.2; RFC 9110 5.5.
    """
    fields: Fields = []
    for line in octets.split(b"\r\n")[:-1]:
        if _never(line):
            raise Malformed("a bare CR, a bare LF or a NUL in a field line")
        if line[:1] in (b" ", b"\t"):
            if not fields:
                raise Malformed("white space before the first field line")
            name, value = fields[-1]
            if name.lower() in _FRAMING:
                raise Malformed("a folded field that frames the message")
            fields[-1] = (name, (value + b" " + line.strip(b" \t")).strip(b" \t"))
            oddities.add(Oddity.FOLD)
        else:
            fields.append(_field(line, oddities))
    if len(fields) > MAX_FIELDS:
        raise HeadTooLarge(f"more than {MAX_FIELDS} fields")
    if not all(is_field_value(value) for _, value in fields):
        oddities.add(Oddity.CONTROL)
    return fields


def _field(line: bytes, oddities: set[Oddity]) -> Field:
    written, colon, value = line.partition(b":")
    name = written.rstrip(b" \t")
    if not colon or not is_token(name):
        raise Malformed("a field line without a colon, or whose name is no token")
    if name != written:
        if name.lower() in _FRAMING:
            raise Malformed("white space before the colon of a field that frames the message")
        oddities.add(Oddity.BLANK_BEFORE_COLON)
    return name, value.strip(b" \t")


def mend(head: ResponseHead, method: bytes) -> tuple[ResponseHead, set[Oddity]]:
    """Return a head whose framing and connection options can be read strictly, and what was odd.

    Raises: Malformed for lengths that differ, overflow or are none, for an unknown coding, and for
        chunks in HTTP/1.0, which readers in use read differently.
    Spec: RFC 9112 6.1, 6.3 (1, 3, 4, 5); RFC 9110 8.6.
    """
    oddities: set[Oddity] = set()
    mended = _mended_framing(head, method, oddities) + _mended_connection(head, oddities)
    fields: Fields = []
    for field, name in zip(head.fields, head.names, strict=True):
        if name in _MENDED:
            # All of a name come where the first one stood.
            fields += [one for one in mended if one[0].lower() == name]
            mended = [one for one in mended if one[0].lower() != name]
        else:
            fields.append(field)
    return ResponseHead(head.status, head.reason, head.minor_version, fields), oddities


def _mended_framing(head: ResponseHead, method: bytes, oddities: set[Oddity]) -> Fields:
    length = _one_length(noted_values(head, b"content-length"), oddities)
    lengths = [] if length is None else [(b"Content-Length", length)]
    if b"transfer-encoding" not in head.noted:
        return lengths
    try:
        codings = _codings(noted_values(head, b"transfer-encoding"), head.minor_version)
    except Malformed:
        if method != b"HEAD" and head.status >= 200 and head.status not in STATUS_WITHOUT_CONTENT:
            raise
        oddities.add(Oddity.CODING_OF_NOTHING)
        return lengths
    if b"chunked" not in codings:
        # As if it were not there (RFC 2616 3.6): a length that stands beside it counts.
        oddities.add(Oddity.IDENTITY)
        return lengths
    if len(codings) > 1:
        oddities.add(Oddity.CHUNKED_AGAIN)
    if lengths:
        oddities.add(Oddity.BOTH_LENGTHS)
    return [(b"Transfer-Encoding", b"chunked")]


def _one_length(lines: Iterable[bytes], oddities: set[Oddity]) -> bytes | None:
    """Return the length that all fields agree on, None without any.  Raises: Malformed."""
    members = [member.strip(b" \t") for line in lines for member in line.split(b",")]
    if not members:
        return None
    if not all(members) or not all(map(_length, members)):
        raise Malformed("a Content-Length that is no decimal number")
    numbers = {member.lstrip(b"0") or b"0" for member in members}
    if len(numbers) > 1:
        raise Malformed("more than one Content-Length")
    if len(members) > 1 or is_length(members[0]) is None:
        oddities.add(Oddity.SAME_LENGTHS)
    return numbers.pop()


def _codings(lines: list[bytes], minor_version: int) -> list[bytes]:
    """Return the codings of content, in lower case.

    Raises: Malformed unless they are ``identity``, or end in ``chunked`` with nothing else before.
    """
    codings = [member.strip(b" \t").lower() for line in lines for member in line.split(b",")]
    if codings == [b""] or all(coding == b"identity" for coding in codings):
        return []
    if codings[-1] != b"chunked" or not {b"chunked", b"identity"}.issuperset(codings):
        raise Malformed("a Transfer-Encoding other than one `chunked`")
    if minor_version == 0:
        raise Malformed("Transfer-Encoding in an HTTP/1.0 message")
    return codings


def _mended_connection(head: ResponseHead, oddities: set[Oddity]) -> Fields:
    """Return the Connection fields, without what is no option or may not be nominated."""
    lines = noted_values(head, b"connection")
    try:
        connection_options(head)
    except Malformed:
        oddities.add(Oddity.CONNECTION)
        members = [member.strip(b" \t") for line in lines for member in line.split(b",")]
        lines = [
            member
            for member in members
            if is_token(member) and member.lower() not in NEVER_NOMINATED
        ]
    return [(b"Connection", line) for line in lines]
