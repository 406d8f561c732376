"""Answers to POST as a route may let a cache keep them, beyond what RFC 9111 lets every cache do.

What is asked is the target, the content and some fields; whoever asks the same once more within a
while, with the same credentials, gets the same answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NoReturn

import rfc8785

from pyproxy.semantics.fields import Field, Fields, values
from pyproxy.semantics.forwarding import HOP_BY_HOP
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.stored import StoredResponse
from pyproxy.semantics.storing import directives_of, is_event_stream, varies_of
from pyproxy.semantics.wishes import Wishes

CANONICAL_BYTES = 64 * 1024
"""Octets of JSON content that are brought into the canonical form, which takes 7 ms for so many.

What is longer is part of the key as it is.
"""

CREDENTIALS = (
    *(b"api-key", b"authorization", b"cookie", b"ocp-apim-subscription-key"),
    *(b"openai-organization", b"openai-project", b"x-api-key", b"x-auth-token", b"x-goog-api-key"),
)
"""Request fields, in lower case, that say on whose behalf a model is asked."""

_ALWAYS = (b"accept", b"content-encoding", b"content-type")
_NOT_KEPT = HOP_BY_HOP | {b"age", b"proxy-authentication-info", b"set-cookie", b"trailer"}


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
    for name in sorted({*_ALWAYS, *named, *(() if shared else CREDENTIALS)}):
        for value in values(fields, name):
            _add(state, name)
            _add(state, value)
    _add(state, b"")
    types = values(fields, b"content-type")
    is_json = bool(types) and not values(fields, b"content-encoding") and _is_json(types[0])
    _add(state, canonical(content, ignore) if is_json else content)
    return b"%b\nPOST:%b" % (plain, state.hexdigest().encode("ascii"))


def _add(state: blake2b, octets: bytes) -> None:
    state.update(b"%d:" % len(octets))
    state.update(octets)


def _is_json(media_type: bytes) -> bool:
    """Tell whether a media type is JSON's.  Spec: RFC 8259 11, RFC 6839 3.1."""
    kind = media_type.partition(b";")[0].strip().lower()
    return kind == b"application/json" or kind.endswith(b"+json")


def canonical(content: bytes, ignore: Sequence[str] = ()) -> bytes:
    """Return JSON in its canonical form, without some members; other content as it is.

    What has no such form (a name twice, numbers past a double's precision, more than
    CANONICAL_BYTES) stays as it is too: it is rather asked for twice than taken for another.
    Spec: RFC 8785; JSON Pointers, RFC 6901.
    """
    if len(content) > CANONICAL_BYTES:
        return content
    try:
        value = json.loads(content, object_pairs_hook=_without_twins, parse_constant=_no_number)
        for pointer in ignore:
            _leave_out(value, [_unescaped(part) for part in pointer.split("/")[1:]])
        return b"\0" + rfc8785.dumps(value)
    except (ValueError, RecursionError):
        return content


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return members


def _no_number(_: str) -> NoReturn:
    raise ValueError("not a number of JSON")


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def _leave_out(value: object, path: list[str]) -> None:
    """Take a member out of an object, if it is there."""
    *before, last = path
    for name in before:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, dict):
        value.pop(last, None)


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
) -> StoredResponse | str:
    """Return what is to be stored of an answer to POST, or a token that says why nothing is.

    The route's time to live stands for any lifetime that the answer names; its ``no-store`` holds,
    and its ``private`` where clients share.  Cookies are for one client and are not kept.
    Args: fields of the request; seconds of the epoch; seconds to live; whether clients with other
        credentials share, whether event streams are stored; the response's connection options.
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
    if is_event_stream(fields, names) and not events:
        return "event-stream"
    varies = varies_of(fields, names, asked)
    if varies is None:
        return "vary"
    dropped = _NOT_KEPT.union(options)
    if b"transfer-encoding" in names:
        dropped |= {b"content-length"}
    kept: Fields = [field for field, name in zip(fields, names, strict=True) if name not in dropped]
    return StoredResponse(head.status, head.reason, tuple(kept), now, now + ttl, varies, date=now)
