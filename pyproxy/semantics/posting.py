"""Answers to POST as a route may let a cache keep them, beyond what RFC 9111 lets every cache do.

What is asked is the target, the content and some fields; whoever asks the same once more within a
while, with the same credentials, gets the same answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

from pyproxy.semantics.canonical_json import canonical
from pyproxy.semantics.fields import Field, Fields, list_members
from pyproxy.semantics.forwarding import HOP_BY_HOP
from pyproxy.semantics.http_dates import write_date
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.stored import StoredResponse
from pyproxy.semantics.storing import directives_of, is_event_stream, normalised, tags_of, varies_of
from pyproxy.semantics.wishes import Wishes

ALWAYS = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"anthropic-beta",
        b"anthropic-version",
        b"content-encoding",
        b"content-language",
        b"content-type",
        b"openai-beta",
        b"prefer",
        b"x-goog-fieldmask",
    }
)
"""Request fields, in lower case, that every key holds.

Upstreams answer differently by them, and do not name them in ``Vary`` where they expect no cache.
"""

_credential = re.compile(
    rb"account|assertion|auth|certificate|(?:access|api|client).?id|claim|client.?(?:cert|dn)"
    rb"|consumer|cookie|credential|customer|e-?mail|group|identity|jwt|key|login|oidc"
    rb"|organi[sz]ation|(?:^|[-_])org(?:[-_]|$)|passw|principal|profile|project|remote|role|saml"
    rb"|secret|session|signature|ssl|subject|tailscale|tenant|token|user|workspace"
).search

_NO_CREDENTIALS = frozenset({b"idempotency-key", b"user-agent"})

_LONG_NAME = 64
"""Octets of a field name that are searched; what is longer counts as a credential."""

_NOT_KEPT = HOP_BY_HOP | {
    *(b"age", b"authentication-info", b"proxy-authentication-info"),
    *(b"set-cookie", b"set-cookie2", b"trailer"),
}

_LISTS = frozenset({b"accept", b"accept-encoding", b"accept-language"})

_is_utf8 = re.compile(rb"[\t ]*charset=\"?utf-?8\"?[\t ]*").fullmatch


def is_credential(name: bytes) -> bool:
    """Tell whether a request field may say on whose behalf something is asked.

    Every provider and every proxy that logs clients in has names of its own, so that what they are
    made of has to do: ``x-goog-api-key``, ``xi-api-key``, ``OpenAI-Organization``,
    ``Ocp-Apim-Subscription-Key``, ``cf-aig-authorization``, ``x-portkey-virtual-key``,
    ``X-Forwarded-User``, ``Remote-Groups``, ``x-ms-client-principal``.  A field too many costs an
    answer that might have been shared; one too few would give it to somebody else.
    Args: name in lower case.
    """
    if len(name) > _LONG_NAME:
        return True
    return name not in _NO_CREDENTIALS and _credential(name) is not None


def post_key(
    plain: bytes,
    content: bytes,
    fields: Sequence[Field],
    named: Iterable[bytes] = (),
    ignore: Sequence[str] = (),
    shared: bool = False,
) -> bytes:
    """Return the key of a POST.

    Args: the key that a GET of the same target has; the client's fields, the names of those that
        count, in lower case; members of JSON content that do not count, as JSON Pointers; whether
        clients with other credentials may share.
    """
    state = blake2b(digest_size=20)
    # What was stored under other terms, before a reload or by another route, is not found.
    named = {name.lower() for name in named}
    _add(state, repr((shared, sorted(named), sorted(set(ignore)))).encode("utf-8", "replace"))
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        found.setdefault(name.lower(), []).append(value)
    for name in sorted(found):
        if name in ALWAYS or name in named or (not shared and is_credential(name)):
            lines = found[name]
            for value in [normalised(name, lines) or b""] if name in _LISTS else lines:
                _add(state, name)
                _add(state, value)
    _add(state, b"")
    form = canonical(content, ignore) if _is_json(found) else None
    _add(state, b"as it is" if form is None else b"canonical")
    _add(state, content if form is None else form)
    return b"%b\nPOST:%b" % (plain, state.hexdigest().encode("ascii"))


def _add(state: blake2b, octets: bytes) -> None:
    state.update(b"%d:" % len(octets))
    state.update(octets)


def _is_json(found: Mapping[bytes, list[bytes]]) -> bool:
    """Tell whether content is JSON for every reader: of one type, in UTF-8, without a coding.

    Spec: RFC 8259 8.1, 11; RFC 6839 3.1.
    """
    types = list_members(found.get(b"content-type", ()))
    if len(types) != 1 or b"content-encoding" in found:
        return False
    kind, *parameters = types[0].lower().split(b";")
    kind = kind.strip()
    if kind != b"application/json" and not kind.endswith(b"+json"):
        return False
    return all(_is_utf8(one) for one in parameters if b"charset" in one)


def post_wishes(wishes: Wishes) -> Wishes:
    """Return what a POST may ask of a cache: no part of an answer, and no condition."""
    return Wishes(
        wishes.no_cache,
        wishes.no_store,
        wishes.only_if_cached,
        wishes.max_age,
        wishes.min_fresh,
    )


def posted_of(
    head: ResponseHead,
    asked: Sequence[Field],
    wishes: Wishes,
    now: float,
    ttl: float,
    shared: bool = False,
    events: bool = False,
    options: Sequence[bytes] = (),
    until_close: bool = False,
) -> StoredResponse | str:
    """Return what is to be stored of an answer to POST, or a token that says why nothing is.

    The route's time to live stands for any lifetime that the answer names; its ``no-store`` holds,
    and its ``private`` where clients share.  Cookies are for one client and are not kept.
    Args: fields of the request; seconds of the epoch; seconds to live; whether clients with other
        credentials share, whether event streams are stored; the response's connection options;
        whether its content ends with the connection, so that of a stream nobody knows if it is all.
    """
    fields, names = head.fields, head.names
    if wishes.no_store:
        return "no-store-asked"
    if head.status != 200:
        return "status"
    said, _ = directives_of(fields, names)
    if b"no-store" in said:
        return "no-store"
    if shared and b"private" in said:
        return "private"
    if is_event_stream(fields, names):
        if not events:
            return "event-stream"
        if until_close:
            return "until-close"
        if b"content-encoding" in names:
            # Nobody sees where its events end, or whether one is an error.
            return "content-encoding"
    varies = varies_of(fields, names, asked)
    if varies is None:
        return "vary"
    dropped = _NOT_KEPT.union(options)
    if b"transfer-encoding" in names:
        dropped |= {b"content-length"}
    kept: Fields = [field for field, name in zip(fields, names, strict=True) if name not in dropped]
    if b"date" not in names:
        # Spec: RFC 9110 6.6.1.
        kept.append((b"Date", write_date(now)))
    return StoredResponse(
        head.status,
        head.reason,
        tuple(kept),
        now,
        now + ttl,
        varies,
        date=now,
        tags=tags_of(fields, names),
    )
