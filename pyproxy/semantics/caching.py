"""When a stored response may be used, and what a validation makes of it.

No clock: whoever asks says what time it is.  Spec: RFC 9111 4, RFC 5861.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import attrs

from pyproxy.semantics.fields import Field, Fields, lacking, tokens, values
from pyproxy.semantics.forwarding import HOP_BY_HOP
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.stored import StoredResponse
from pyproxy.semantics.storing import Asked, normalised, stored_of
from pyproxy.semantics.wishes import Wishes

CONDITIONAL = frozenset(
    {
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"range",
    }
)
"""Request fields by which a response may be another than the whole representation."""

_NOT_UPDATED = frozenset(
    {
        b"content-encoding",
        b"content-length",
        b"content-md5",
        b"content-range",
        b"etag",
        b"transfer-encoding",
    }
)
"""Fields of a 304 that leave a stored response as it is.  Spec: RFC 9111 3.2."""

_OF_REQUESTS = frozenset({"authorization", "no-store-asked", "vary"})
"""Why nothing is stored that another request's response would be."""


class Use(Enum):
    """How a stored response may be used."""

    FRESH = "fresh"
    STALE = "stale, which the client allows"
    BEHIND = "stale, while it is validated"
    VALIDATE = "only once it was validated"


def judge(stored: StoredResponse, wishes: Wishes, now: float) -> Use:
    """Return how a stored response may be used for a request.

    Spec: RFC 9111 4.2, 4.2.4, 5.2.1; RFC 8246 2.
    """
    if stored.no_cache or wishes.no_cache:
        return Use.VALIDATE
    left = stored.fresh_until - now
    too_old = wishes.max_age is not None and now - stored.born > wishes.max_age
    if too_old and not (stored.immutable and left > 0):
        return Use.VALIDATE
    if wishes.min_fresh is not None and left < wishes.min_fresh:
        return Use.VALIDATE
    if left > 0:
        return Use.FRESH
    if stored.must_revalidate:
        return Use.VALIDATE
    if wishes.max_stale is not None and -left <= wishes.max_stale:
        return Use.STALE
    if stored.stale_behind and -left <= stored.stale_behind and wishes.max_age is None:
        # Who names an age wants nothing stale.  Spec: RFC 9111 5.2.1.1.
        return Use.BEHIND
    return Use.VALIDATE


def usable_on_error(stored: StoredResponse, wishes: Wishes, now: float) -> bool:
    """Tell whether a response may be used in place of an error.  Spec: RFC 5861 4."""
    if stored.no_cache or stored.must_revalidate or wishes.no_cache:
        return False
    window = max(stored.stale_on_error, wishes.stale_if_error or 0.0)
    return bool(window) and now - stored.fresh_until <= window


def select(
    stored: Sequence[StoredResponse], fields: Sequence[Field], names: Sequence[bytes]
) -> StoredResponse | None:
    """Return the latest of the responses that a request chooses.

    One without ``Vary`` is chosen only where there is no other: some resources leave it out of what
    they answer by default.
    Spec: RFC 9111 4.1.
    """
    found: StoredResponse | None = None
    for one in stored:
        if _chosen(one, fields, names) and (found is None or _rank(one) > _rank(found)):
            found = one
    return found


def _rank(stored: StoredResponse) -> tuple[bool, float]:
    return (bool(stored.varies), stored.date)


def _chosen(stored: StoredResponse, fields: Sequence[Field], names: Sequence[bytes]) -> bool:
    for name, value in stored.varies:
        lines = values(fields, name) if name in names else []
        if normalised(name, lines) != value:
            return False
    return True


def conditions(stored: Sequence[StoredResponse]) -> Fields:
    """Return the fields that ask whether responses are still current.  Spec: RFC 9111 4.3.1."""
    fields: Fields = []
    etags = [one.etag for one in stored if one.etag is not None]
    if etags:
        fields.append((b"If-None-Match", b", ".join(etags)))
    if len(stored) == 1 and stored[0].modified is not None:
        fields.append((b"If-Modified-Since", stored[0].modified))
    return fields


def matches_validated(
    stored: Sequence[StoredResponse], head: ResponseHead
) -> StoredResponse | None:
    """Return the response that a 304 is about, None when it is about none.

    Where one response was asked for, a 304 is about that, whatever validator it has.  Of several
    it has to tell one: the others may be other clients'.
    Spec: RFC 9111 4.3.4.
    """
    if len(stored) == 1:
        return stored[0]
    etags, dates = values(head.fields, b"etag"), values(head.fields, b"last-modified")
    if etags:
        strong = not etags[0].startswith(b"W/")
        same = [one for one in stored if one.etag is not None and _same(one.etag, etags[0], strong)]
    elif dates:
        same = [one for one in stored if one.modified == dates[0]]
    else:
        same = []
    return same[0] if len(same) == 1 else None


def _same(etag: bytes, other: bytes, strong: bool) -> bool:
    """Compare entity tags.  Spec: RFC 9110 8.8.3.2."""
    return etag == other if strong else opaque(etag) == opaque(other)


def opaque(etag: bytes) -> bytes:
    """Return the part of an entity tag that a weak comparison compares."""
    return etag[2:] if etag.startswith(b"W/") else etag


def refreshed(
    stored: StoredResponse,
    asked: Asked,
    head: ResponseHead,
    sent_at: float,
    now: float,
    heuristic: bool = False,
) -> StoredResponse | str:
    """Return a stored response after a 304, or a token that says why it may be stored no more.

    It stays as it is where it is for the request's sake that nothing of the 304 may be stored:
    nobody takes from others what was stored for them.
    Spec: RFC 9111 3.2, 3.5, 4.3.4, 5.2.1.5.
    """
    fields = merged(stored.fields, head)
    if b"date" not in head.names:
        # It is as old as the 304, which is of now.
        fields = lacking(fields, (b"date",))
    new = ResponseHead(stored.status, stored.reason, 1, fields)
    fresh = stored_of(asked, new, sent_at, now, heuristic)
    if isinstance(fresh, str):
        old = ResponseHead(stored.status, stored.reason, 1, list(stored.fields))
        if fresh in _OF_REQUESTS and fresh == stored_of(asked, old, sent_at, now, heuristic):
            return stored
        return fresh
    # A field that names Vary may have kept it from being stored.
    varies = fresh.varies or stored.varies
    return attrs.evolve(fresh, varies=varies, length=stored.length)


def merged(fields: Sequence[Field], head: ResponseHead) -> Fields:
    """Return stored fields, updated by those of a 304.  Spec: RFC 9111 3.2."""
    options = tokens(values(head.fields, b"connection"))
    updated = set(head.names) - _NOT_UPDATED - HOP_BY_HOP - set(options)
    kept = lacking(fields, updated)
    for field, name in zip(head.fields, head.names, strict=True):
        if name in updated:
            kept.append(field)
    return kept
