"""The same grammars once more, written octet by octet: what these refuse, nobody may accept.

Shares no code with ``pyproxy.semantics``.  Spec: RFC 9110 5, RFC 9112 2 to 7.
"""

from __future__ import annotations

import string
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from pyproxy.errors import Malformed

CPU_BUDGET = 0.6
"""Seconds of CPU for hostile input of CROWD octets.

What is linear needs a few milliseconds; fed octet by octet, up to 0.25 s on a busy machine.
"""

CROWD = 16 * 1024
"""Octets of hostile input: a quarter of a head."""

_TCHAR = frozenset(b"!#$%&'*+-.^_`|~" + (string.digits + string.ascii_letters).encode())
_HEX = frozenset(string.hexdigits.encode())

E = TypeVar("E", bound=Exception)
Fields = list[tuple[bytes, bytes]]


def cpu_seconds(call: Callable[..., object], *arguments: object) -> float:
    """Return the CPU seconds of this process that a call takes, however busy the machine is."""
    began = time.process_time()
    call(*arguments)
    return time.process_time() - began


def refusal(call: Callable[..., object], *arguments: object, **named: object) -> Malformed:
    """Return the error with which a rule refuses octets.  Raises: AssertionError if it does not."""
    return _raised(Malformed, call, *arguments, **named)


def complaint(call: Callable[..., object], *arguments: object) -> str:
    """Return the sentence of the ValueError with which a call refuses a text.

    Raises: AssertionError if it does not.
    """
    return str(_raised(ValueError, call, *arguments))


def _raised(kind: type[E], call: Callable[..., object], *arguments: object, **named: object) -> E:
    try:
        result = call(*arguments, **named)
    except kind as error:
        return error
    raise AssertionError(f"accepted {arguments!r} as {result!r}")


def splits(octets: bytes) -> Iterator[list[bytes]]:
    """Return every way to cut octets in two, then the octets one by one."""
    for place in range(len(octets) + 1):
        yield [octets[:place], octets[place:]]
    yield [octets[place : place + 1] for place in range(len(octets))]


def is_text(octets: bytes) -> bool:
    """Tell whether octets hold neither a control character other than HTAB nor DEL."""
    return all(octet == 9 or (octet >= 32 and octet != 127) for octet in octets)


def section(octets: bytes) -> Fields | None:
    """Return the fields of a section, None for a refused one."""
    fields: Fields = []
    while octets:
        line, crlf, octets = octets.partition(b"\r\n")
        name, colon, value = line.partition(b":")
        if not (crlf and colon and name) or not _TCHAR.issuperset(name) or not is_text(value):
            return None
        fields.append((name, value.strip(b"\t ")))
    return fields


def request_head(octets: bytes) -> tuple[bytes, bytes, int, Fields] | None:
    """Return method, target, minor version and fields of a head, None for a refused one."""
    line, crlf, rest = octets.partition(b"\r\n")
    parts = line.split(b" ")
    fields = section(rest)
    if not crlf or len(parts) != 3 or fields is None:
        return None
    method, target, version = parts
    if not method or not _TCHAR.issuperset(method) or version not in (b"HTTP/1.0", b"HTTP/1.1"):
        return None
    if not target or not is_text(target) or b"\t" in target or b"#" in target:
        return None
    return method, target, version[-1] - 48, fields


def response_head(octets: bytes) -> tuple[int, bytes, int, Fields] | None:
    """Return status, reason, minor version and fields of a head, None for a refused one."""
    line, crlf, rest = octets.partition(b"\r\n")
    version, _, status_and_reason = line.partition(b" ")
    status, _, reason = status_and_reason.partition(b" ")
    fields = section(rest)
    if not crlf or version not in (b"HTTP/1.0", b"HTTP/1.1") or fields is None:
        return None
    if len(status) != 3 or not status.isdigit() or status[:1] == b"0" or not is_text(reason):
        return None
    return int(status), reason, version[-1] - 48, fields


def content_length(value: bytes) -> int | None:
    """Return a length of at most 18 digits, None for anything else."""
    if not 0 < len(value) <= 18 or any(octet not in b"0123456789" for octet in value):
        return None
    return int(value)


def chunked(octets: bytes) -> tuple[bytes, Fields, bytes] | None:
    """Return content, trailers and what follows; None for what is refused or not complete."""
    content = b""
    while True:
        line, crlf, octets = octets.partition(b"\r\n")
        digits, _, extension = line.partition(b";")
        if not crlf or not 0 < len(digits) <= 15 or not _HEX.issuperset(digits):
            return None
        if not is_text(extension):
            return None
        size = int(digits, 16)
        if size == 0:
            break
        if octets[size : size + 2] != b"\r\n":
            return None
        content, octets = content + octets[:size], octets[size + 2 :]
    if octets.startswith(b"\r\n"):
        return content, [], octets[2:]
    trailers, end, excess = octets.partition(b"\r\n\r\n")
    fields = section(trailers + b"\r\n")
    return None if not end or fields is None else (content, fields, excess)
