"""Fields: ordered (name, value) octets as they stood on the wire, and the syntax of lists.

Owns the grammar of a field section.  Must not know what any single field means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable

from pyproxy.errors import HeadTooLarge, Malformed

Field = tuple[bytes, bytes]
Fields = list[Field]

Octets = bytes | memoryview
"""What was read; the place of a view is used again once it was passed on."""

Write = Callable[[Octets], None]
"""Sends octets; a view is passed on or copied before it returns."""

MAX_FIELDS = 256
"""Fields in one section; clients and backends seen in practice stay under 100."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"

stray_octet = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\0").search
"""Finds a bare CR, a bare LF or a NUL; a CR at the end may still become a line's end."""

_is_token = re.compile(_TOKEN).fullmatch
_is_value = re.compile(_VALUE).fullmatch
_is_section = re.compile(rb"(?:" + _TOKEN + rb":" + _VALUE + rb"\r\n)*+").fullmatch
_is_section_with_cookies = re.compile(
    rb"(?:(?i:cookie):[^\0\r\n]*+\r\n|" + _TOKEN + rb":" + _VALUE + rb"\r\n)*+"
).fullmatch
# What _is_section let through needs one octet only to find an end: half the time of a class of two.
_split_section = re.compile(rb"([^:]++):[\t ]*+([^\r]*+)\r\n").findall
# A quoted string without its end reaches to the end: looking for it again would be quadratic.
_list_member = re.compile(rb'(?:[^",]|"(?:[^"\\]|\\.?)*+(?:"|\Z))++', re.DOTALL)


def is_token(octets: bytes) -> bool:
    """Tell whether the octets are a token.  Spec: RFC 9110 5.6.2."""
    return _is_token(octets) is not None


def is_field_value(octets: bytes) -> bool:
    """Tell whether the octets can stand as a field value.  Spec: RFC 9110 5.5."""
    return _is_value(octets) is not None


def parse_section(octets: bytes, start: int = 0) -> Fields:
    """Parse a field section: every field line with its CRLF, without the empty line at the end.

    Args: start, where in the octets the section begins.
    Returns: the fields in their order, names in their case, values without the white space around.
    Raises: Malformed for bare CR or LF, NUL and other controls, obs-fold, white space before the
        colon, an empty or wrong name; HeadTooLarge for more than MAX_FIELDS fields.
    Controls other than those three pass in Cookie: what was set so has to come back, nobody frames
        or routes by it, and every reader that takes them reads them alike (docs/upstreams.rst).
    Spec: RFC 9112 5; RFC 9110 5.5, 5.6.2.
    """
    if _is_section(octets, start) is None and _is_section_with_cookies(octets, start) is None:
        raise Malformed(_explain(octets[start:]))
    fields: Fields = _split_section(octets, start)
    if len(fields) > MAX_FIELDS:
        raise HeadTooLarge(f"more than {MAX_FIELDS} fields")
    if octets.find(b" \r\n", start) >= 0 or octets.find(b"\t\r\n", start) >= 0:
        return [(name, value.rstrip(b"\t ")) for name, value in fields]
    return fields


def _explain(octets: bytes) -> str:
    """Say in words why a field section is refused; never quotes what it holds."""
    for number, line in enumerate(octets.split(b"\r\n"), 1):
        where = f"in field line {number}"
        if b"\n" in line or b"\r" in line:
            return f"a bare CR or LF {where}"
        if b"\0" in line:
            return f"a NUL {where}"
        if line[:1] in (b" ", b"\t"):
            return f"a folded or indented field line ({where})"
        name, colon, value = line.partition(b":")
        if line and not colon:
            return f"no colon {where}"
        if name != name.rstrip(b"\t "):
            return f"white space before the colon {where}"
        if line and not is_token(name):
            return f"a field name that is no token {where}"
        if not is_field_value(value):
            return f"a control character {where}"
    return "an empty field line"


def values(fields: Iterable[Field], name: bytes) -> list[bytes]:
    """Return the values of every field of a name, in order.  Args: name in lower case."""
    return [value for field, value in fields if field.lower() == name]


def lacking(fields: Iterable[Field], names: Container[bytes]) -> Fields:
    """Return the fields of other names than some.  Args: names in lower case."""
    return [field for field in fields if field[0].lower() not in names]


def essence(media_type: bytes) -> bytes:
    """Return a media type in lower case and without its parameters.

    Spec: WHATWG MIME Sniffing 3, RFC 9110 8.3.1.
    """
    return media_type.partition(b";")[0].strip().lower()


def list_members(lines: Iterable[bytes]) -> list[bytes]:
    """Return the members of a list-based field, over all its lines, without the empty ones.

    Commas inside quoted strings do not part members.
    Spec: RFC 9110 5.6.1, 5.6.4.
    """
    return [
        stripped
        for line in lines
        for member in _list_member.findall(line)
        if (stripped := member.strip(b"\t "))
    ]


def tokens(lines: Iterable[bytes]) -> list[bytes]:
    """Return the members of a list of tokens in lower case.  Spec: RFC 9110 5.6.1."""
    return [member.lower() for member in list_members(lines)]
