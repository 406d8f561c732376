"""What a stored response is for a request: the whole, a part, or the news that nothing has changed.

Spec: RFC 9111 4.3.2, RFC 9110 13.2, 14, 15.3.7, 15.4.5, 15.5.17.
"""

from __future__ import annotations

import re

import attrs

from pyproxy.semantics.caching import opaque
from pyproxy.semantics.fields import Field, Fields, lacking, list_members
from pyproxy.semantics.framing import STATUS_WITHOUT_CONTENT
from pyproxy.semantics.http_dates import read_date
from pyproxy.semantics.stored import StoredResponse
from pyproxy.semantics.wishes import Wishes

_range = re.compile(rb"(\d{0,18})-(\d{0,18})").fullmatch
_ranges = re.compile(rb"bytes=(.*)", re.I | re.S).fullmatch

_REPRESENTATION = frozenset(
    {b"content-encoding", b"content-language", b"content-length", b"content-range", b"content-type"}
)
"""What a 304 does not repeat.  Spec: RFC 9110 15.4.5."""


@attrs.frozen
class Answer:
    """A response out of a stored one.

    Attributes:
        span: the octets of the content that it has, from and to; None for no content.
    """

    status: int
    reason: bytes
    fields: Fields
    span: tuple[int, int] | None


def answer(stored: StoredResponse, method: bytes, wishes: Wishes, now: float) -> Answer | None:
    """Return the answer to a request; None for what only the upstream can say.

    Raises: nothing; ranges that cannot be read are ignored.
    """
    if wishes.guarded:
        return None
    age = (b"Age", b"%d" % stored.age(now))
    if wishes.conditional and 200 <= stored.status < 300 and _unchanged(stored, wishes, now):
        kept = lacking(stored.fields, _REPRESENTATION)
        return Answer(304, b"Not Modified", [*kept, age], None)
    if stored.status in STATUS_WITHOUT_CONTENT:
        return Answer(stored.status, stored.reason, [*stored.fields, age], None)
    length = stored.length
    if length is None:
        # Nobody knows yet what a part of it is.
        return None
    if wishes.range is not None and method == b"GET" and stored.status == 200:
        match = _ranges(wishes.range)
        if match is not None and _applies(stored, wishes.if_range, now):
            members = list_members([match[1]])
            if len(members) > 1:
                return None
            if members:
                part = _part(stored, members[0], length, age)
                if part is not None:
                    return part
    fields = [*lacking(stored.fields, _LENGTH), (b"Content-Length", b"%d" % length), age]
    return Answer(stored.status, stored.reason, fields, None if method == b"HEAD" else (0, length))


_LENGTH = frozenset({b"content-length"})
_OF_WHOLE = _LENGTH | {b"content-digest", b"content-md5", b"content-range"}
"""What says something of the content that a part is not.  Spec: RFC 9110 14.4, RFC 9530 2."""


def _unchanged(stored: StoredResponse, wishes: Wishes, now: float) -> bool:
    """Tell whether the client has what is stored.  Spec: RFC 9110 13.1.2, 13.1.3."""
    if wishes.if_none_match:
        members = list_members(wishes.if_none_match)
        if members == [b"*"]:
            return True
        tag = stored.etag
        return tag is not None and opaque(tag) in (opaque(member) for member in members)
    since = read_date(wishes.if_modified_since or b"", now)
    if since is None:
        return False
    changed = read_date(stored.modified, now) if stored.modified is not None else stored.date
    return changed is not None and changed <= since


def _applies(stored: StoredResponse, if_range: bytes | None, now: float) -> bool:
    """Tell whether a range is of the representation that is stored.  Spec: RFC 9110 13.1.5."""
    if if_range is None:
        return True
    if if_range.startswith((b'"', b"W/")):
        return stored.etag == if_range and not if_range.startswith(b"W/")
    if stored.modified != if_range:
        return False
    # A date is a strong validator when it is a minute before the response.  RFC 9110 8.8.2.2.
    changed = read_date(if_range, now)
    return changed is not None and stored.date - changed >= 60


def _part(stored: StoredResponse, asked: bytes, length: int, age: Field) -> Answer | None:
    """Return a part of a stored response, None when the range cannot be read."""
    match = _range(asked)
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        if not last:
            return None
        start, end = max(0, length - int(last)), length
    else:
        start = int(first)
        end = min(int(last) + 1, length) if last else length
        if last and int(last) < start:
            return None
    if start >= length:
        fields = [(b"Content-Range", b"bytes */%d" % length), (b"Content-Length", b"0"), age]
        return Answer(416, b"Range Not Satisfiable", fields, None)
    fields = [
        *lacking(stored.fields, _OF_WHOLE),
        (b"Content-Range", b"bytes %d-%d/%d" % (start, end - 1, length)),
        (b"Content-Length", b"%d" % (end - start)),
        age,
    ]
    return Answer(206, b"Partial Content", fields, (start, end))
