"""The head of a stored response as octets that leave the process, and back.

Whoever can write the file or the database that they come from could have written anything: they are
taken apart by types, they are digested as a whole, and nothing in them can become code, or a second
field on the wire.  A version octet stands first, then the digest, then JSON in ASCII.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode, b64encode
from hashlib import blake2b
from typing import Any, NoReturn

from pyproxy.semantics.event_times import EventTimes
from pyproxy.semantics.fields import MAX_FIELDS, Field, is_token
from pyproxy.semantics.stored import StoredResponse, Varies

VERSION = 1
"""The first octet; others are not read."""

MAX_PACKED = 1024 * 1024
"""Octets of a packed head and its key; a head has 64 KiB by default, of which each may need six."""

DIGEST_BYTES = 16

_START = 1 + DIGEST_BYTES

_encode = json.JSONEncoder(separators=(",", ":")).encode
_breaks_a_field = re.compile(rb"[\r\n\0]").search


class Unreadable(Exception):
    """Octets that are no packed head; the text never quotes them."""


def digest_of(*octets: bytes) -> bytes:
    """Return the digest of octets, one after the other.  Source: BLAKE2b, RFC 7693."""
    state = blake2b(digest_size=DIGEST_BYTES)
    for piece in octets:
        state.update(piece)
    return state.digest()


def pack(head: StoredResponse, key: bytes) -> bytes:
    """Write down a head and the key of its entry."""
    body = _encode(
        [
            _text(key),
            head.status,
            _text(head.reason),
            [[_text(name), _text(value)] for name, value in head.fields],
            float(head.born),
            float(head.fresh_until),
            [[_text(name), _text_or_none(value)] for name, value in head.varies],
            head.length,
            _text_or_none(head.etag),
            _text_or_none(head.modified),
            float(head.date),
            head.no_cache,
            head.must_revalidate,
            float(head.stale_behind),
            float(head.stale_on_error),
            [_text(tag) for tag in head.tags],
            b64encode(head.events).decode("ascii"),
            head.immutable,
        ]
    ).encode("ascii")
    version = bytes((VERSION,))
    return b"%b%b%b" % (version, digest_of(version, body), body)


def unpack(octets: bytes) -> tuple[bytes, StoredResponse]:
    """Return the key and the head.  Raises: Unreadable, and nothing else."""
    if not _START < len(octets) <= MAX_PACKED:
        _refuse("a packed head has another length")
    version, body = octets[:1], octets[_START:]
    if version[0] != VERSION:
        _refuse("another version has packed it")
    if digest_of(version, body) != octets[1:_START]:
        _refuse("the digest is wrong")
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreadable("it is no JSON") from error
    if type(values) is not list or len(values) != 18:
        _refuse("it is no list of 18")
    key, status, reason, fields, born, fresh_until, varies, length, etag, modified = values[:10]
    date, no_cache, must_revalidate, stale_behind, stale_on_error = values[10:15]
    tags, events, immutable = values[15:]
    return _octets(key), StoredResponse(
        status=_number(status, 100, 999),
        reason=_line(reason),
        fields=tuple(_field(each) for each in _list(fields, MAX_FIELDS)),
        born=_seconds(born),
        fresh_until=_seconds(fresh_until),
        varies=_varies(varies),
        length=None if length is None else _number(length, 0, 2**63 - 1),
        etag=None if etag is None else _line(etag),
        modified=None if modified is None else _line(modified),
        date=_seconds(date),
        no_cache=_truth(no_cache),
        must_revalidate=_truth(must_revalidate),
        stale_behind=_seconds(stale_behind),
        stale_on_error=_seconds(stale_on_error),
        tags=tuple(_octets(tag) for tag in _list(tags)),
        events=_events(events),
        immutable=_truth(immutable),
    )


def _refuse(why: str) -> NoReturn:
    raise Unreadable(why)


def _text(octets: bytes) -> str:
    return octets.decode("latin-1")


def _text_or_none(octets: bytes | None) -> str | None:
    return None if octets is None else octets.decode("latin-1")


def _octets(value: Any) -> bytes:
    if type(value) is not str:
        _refuse("a text is missing")
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise Unreadable("a text has more than octets") from error


def _line(value: Any) -> bytes:
    octets = _octets(value)
    if _breaks_a_field(octets):
        _refuse("a value has the end of a line in it")
    return octets


def _field(value: Any) -> Field:
    name, octets = _pair(value)
    token = _octets(name)
    if not is_token(token):
        _refuse("a field has no name")
    return token, _line(octets)


def _varies(value: Any) -> Varies:
    pairs = [_pair(each) for each in _list(value)]
    return tuple((_octets(name), None if of is None else _octets(of)) for name, of in pairs)


def _list(value: Any, most: int = MAX_PACKED) -> list[Any]:
    if type(value) is not list or len(value) > most:
        _refuse("a list is missing, or too long")
    return value


def _pair(value: Any) -> list[Any]:
    if len(_list(value)) != 2:
        _refuse("a pair is missing")
    return _list(value)


def _number(value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        _refuse("a number is missing, or out of its range")
    return value


def _seconds(value: Any) -> float:
    if type(value) is not float or math.isnan(value):
        _refuse("a time is missing")
    return value


def _events(value: Any) -> bytes:
    try:
        octets = b64decode(_octets(value), validate=True)
        EventTimes.unpack(octets)
    except ValueError as error:
        raise Unreadable("events are missing") from error
    return octets


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        _refuse("a truth is missing")
    return value
