"""What may be stored of a response, and what a cache has to know of it.

A shared cache's view.  Spec: RFC 9111 3, 4.2, 5.2.2; RFC 9213; RFC 5861.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from pyproxy.semantics.directives import MAX_SECONDS, Directives, read_directives, read_targeted
from pyproxy.semantics.fields import Field, Fields, essence, is_token, list_members, tokens, values
from pyproxy.semantics.forwarding import HOP_BY_HOP, alias
from pyproxy.semantics.http_dates import read_date, write_date
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.stored import StoredResponse, Varies
from pyproxy.semantics.wishes import Wishes

TARGETED = (b"pyproxy-cache-control", b"cdn-cache-control")
"""Fields that outrank Cache-Control and Expires, the first that is there and valid."""

HEURISTIC_SHARE = 0.1
"""The part of the time since its last change for which it is fresh.  Spec: RFC 9111 4.2.2."""

MAX_HEURISTIC = 86400.0
"""Seconds of heuristic freshness; what is older needs a warning no more, but still gets this."""

HEURISTICALLY_CACHEABLE = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
"""Status codes whose responses may be stored without an explicit lifetime.  Spec: RFC 9110 15.1."""

UNDERSTOOD = HEURISTICALLY_CACHEABLE | {
    302,
    303,
    307,
    400,
    401,
    402,
    403,
    406,
    409,
    500,
    502,
    503,
    504,
}
"""Status codes whose requirements for caches are known here; for ``must-understand``."""

_NEVER = frozenset({206, 304, 412, 416, 417, 428, 429, 431, 511})
"""Status codes that say something of one request only, its conditions, ranges, size or sender.

Spec: RFC 9111 3.3, 4.3.4; RFC 6585 3 to 6, which forbid the last four.
"""

_NOT_KEPT = HOP_BY_HOP | {b"age", b"proxy-authentication-info", b"trailer"}
_ALLOW_AUTHORIZED = (b"must-revalidate", b"public", b"s-maxage")
_STRICT = (b"must-revalidate", b"proxy-revalidate", b"s-maxage")

# Some servers leave the quotes out.  What is a list, or stands for any tag, is no tag.
_is_etag = re.compile(rb'(?:W/)?"[^"]*"|[^\s",*][^\s",]*').fullmatch
_is_age = re.compile(rb"(\d{1,18})(?:,\d+)*").fullmatch

MAX_TAGS = 64
"""Tags of one response; others are not known."""


@attrs.frozen(eq=False)
class Asked:
    """What the rules have to know of a request.

    Attributes:
        names: of the fields, in lower case.
        authorized: a client's Authorization reaches the upstream.
    """

    method: bytes
    fields: Sequence[Field]
    names: Sequence[bytes]
    authorized: bool
    wishes: Wishes


def directives_of(fields: Fields, names: Sequence[bytes]) -> tuple[Directives, bool]:
    """Return what a response says to this cache, and whether a targeted field does.

    Spec: RFC 9213 2.2.
    """
    for name in TARGETED:
        if name in names:
            told = read_targeted(values(fields, name))
            if told is not None:
                return told, True
    if b"cache-control" in names:
        return read_directives(values(fields, b"cache-control")), False
    return read_directives([]), False


def stored_of(
    asked: Asked,
    head: ResponseHead,
    sent_at: float,
    now: float,
    heuristic: bool = False,
    options: Sequence[bytes] = (),
) -> StoredResponse | str:
    """Return what is to be stored of a response, or a token that says why nothing is.

    Args: when the request was sent and when the head came, in seconds of the epoch; whether
        heuristic freshness is asked for; the response's connection options.
    """
    fields, names, status = head.fields, head.names, head.status
    said, targeted = directives_of(fields, names)
    why_not = _why_not(asked, head, said)
    if why_not:
        return why_not
    varies = varies_of(fields, names, asked.fields)
    if varies is None:
        return "vary"
    date = _date_of(fields, names, now)
    etag, modified = _first(fields, names, b"etag"), _first(fields, names, b"last-modified")
    if etag is not None and _is_etag(etag) is None:
        etag = None
    no_cache = said.everything(b"no-cache")
    lifetime = _lifetime(said, targeted, fields, names, date, now)
    if b"set-cookie" in names and not _shares_cookies(said, targeted, lifetime):
        return "set-cookie"
    if lifetime is None:
        public = b"public" in said
        cacheable = status in HEURISTICALLY_CACHEABLE
        if heuristic and (public or cacheable):
            lifetime = _heuristic(modified, date, now)
        validated = no_cache and cacheable and (etag is not None or modified is not None)
        if lifetime is None and not (validated or public):
            return "no-lifetime"
    born = now - max(0.0, now - date, _age_value(fields, names) + now - sent_at)
    kept = _kept(fields, names, said, options)
    if b"date" not in names:
        # Spec: RFC 9110 6.6.1.
        kept.append((b"Date", write_date(date)))
    return StoredResponse(
        status,
        head.reason,
        tuple(kept),
        born,
        born + (lifetime or 0.0),
        varies,
        None,
        etag,
        modified,
        date,
        no_cache,
        any(name in said for name in _STRICT),
        float(said.seconds(b"stale-while-revalidate") or 0),
        float(said.seconds(b"stale-if-error") or 0),
        tags_of(fields, names),
        immutable=b"immutable" in said,
    )


def _why_not(asked: Asked, head: ResponseHead, said: Directives) -> str:
    """Return a token that says why a response may not be stored; empty when it may."""
    status = head.status
    if asked.wishes.no_store:
        return "no-store-asked"
    if status < 200 or status in _NEVER:
        return "status"
    if status >= 400 and asked.wishes.range is not None:
        # It may be about the range, which others do not ask for.
        return "status"
    if b"must-understand" in said:
        if status not in UNDERSTOOD:
            return "must-understand"
    elif b"no-store" in said:
        return "no-store"
    if said.everything(b"private"):
        return "private"
    if asked.authorized and not any(name in said for name in _ALLOW_AUTHORIZED):
        return "authorization"
    if is_event_stream(head.fields, head.names):
        return "event-stream"
    return ""


def _shares_cookies(said: Directives, targeted: bool, lifetime: float | None) -> bool:
    """Tell whether an origin means what it sets a cookie with to be shared.

    A lifetime says so, or a word to shared caches; without them the cookie is one client's own,
    which a validation by another client would hand on.
    Spec: RFC 9111 7.3, which leaves it to the origin.
    """
    if b"set-cookie" in said.fields(b"private") | said.fields(b"no-cache"):
        return True
    if targeted or b"public" in said or b"s-maxage" in said:
        return True
    return bool(lifetime) and not said.everything(b"no-cache")


def is_event_stream(fields: Fields, names: Sequence[bytes]) -> bool:
    """Tell whether a response is a stream of events.  Spec: WHATWG HTML 9.2.1."""
    return essence(_first(fields, names, b"content-type") or b"") == b"text/event-stream"


def _first(fields: Fields, names: Sequence[bytes], name: bytes) -> bytes | None:
    return fields[names.index(name)][1] if name in names else None


def _date_of(fields: Fields, names: Sequence[bytes], now: float) -> float:
    value = _first(fields, names, b"date")
    date = read_date(value, now) if value is not None else None
    return now if date is None else date


def _age_value(fields: Fields, names: Sequence[bytes]) -> float:
    """Return what caches before this one say of a response's age.

    Of several members in one line the first counts; what cannot be read, or is told by several
    lines, may be any age and counts as too old for every lifetime.
    Spec: RFC 9111 5.1, which lets it be ignored: stale is the safer side.
    """
    if b"age" not in names:
        return 0.0
    match = _is_age(b", ".join(values(fields, b"age")))
    return float(min(int(match[1]), MAX_SECONDS)) if match else float(MAX_SECONDS)


def _lifetime(
    said: Directives,
    targeted: bool,
    fields: Fields,
    names: Sequence[bytes],
    date: float,
    now: float,
) -> float | None:
    """Return the explicit lifetime in seconds, None without one.  Spec: RFC 9111 4.2.1."""
    for name in (b"s-maxage", b"max-age"):
        seconds = said.seconds(name)
        if seconds is not None:
            return float(seconds)
    expires = None if targeted else _first(fields, names, b"expires")
    if expires is None:
        return None
    until = read_date(expires, now)
    return 0.0 if until is None else max(0.0, until - date)


def _heuristic(modified: bytes | None, date: float, now: float) -> float | None:
    """Return a guessed lifetime, None without a ground.  Spec: RFC 9111 4.2.2."""
    changed = None if modified is None else read_date(modified, now)
    if changed is None or changed > date:
        return None
    return min((date - changed) * HEURISTIC_SHARE, MAX_HEURISTIC)


def _kept(
    fields: Fields, names: Sequence[bytes], said: Directives, options: Sequence[bytes]
) -> Fields:
    """Return the fields that are stored.  Spec: RFC 9111 3.1, 5.2.2.4, 5.2.2.7."""
    dropped = _NOT_KEPT.union(options)
    for name in (b"private", b"no-cache"):
        if name in said:
            dropped |= said.fields(name)
    if b"transfer-encoding" in names:
        dropped |= {b"content-length"}
    return [field for field, name in zip(fields, names, strict=True) if name not in dropped]


def tags_of(fields: Fields, names: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the tags by which a stored response can be purged."""
    if b"cache-tag" not in names:
        return ()
    return tuple(list_members(values(fields, b"cache-tag"))[:MAX_TAGS])


def varies_of(fields: Fields, names: Sequence[bytes], asked: Sequence[Field]) -> Varies | None:
    """Return what a request said in the fields that ``Vary`` names; None for ``Vary: *``.

    So it is for what names no field, and where a field of the request is another spelling of one
    that is named: CGI, WSGI and PHP upstreams take ``_`` in a name for ``-``.
    Spec: RFC 9110 12.5.5, RFC 9111 4.1.
    """
    if b"vary" not in names:
        return ()
    named = sorted(set(tokens(values(fields, b"vary"))))
    if b"*" in named or not all(map(is_token, named)):
        return None
    for field, _ in asked:
        if b"_" in field and field.lower() not in named and alias(field.lower()) in named:
            return None
    return tuple((name, normalised(name, values(asked, name))) for name in named)


_CASELESS = frozenset({b"accept-charset", b"accept-encoding", b"accept-language"})
_SPACELESS = _CASELESS | {b"accept"}


def normalised(name: bytes, lines: list[bytes]) -> bytes | None:
    """Return a request field's value so that equal meanings are equal octets; None without it.

    Several lines are one list; white space between members, and the case of those that have none,
    do not count.  Spec: RFC 9111 4.1.
    """
    if not lines:
        return None
    if name == b"cookie":
        return b"; ".join(lines)
    value = b",".join(list_members(lines))
    if name in _CASELESS:
        value = value.lower()
    if name in _SPACELESS and b'"' not in value:
        return value.replace(b" ", b"").replace(b"\t", b"")
    return value
