"""What is kept of an upstream's response, and what becomes of what was kept before."""

from __future__ import annotations

import attrs

from pyproxy.cache.posting import Posting
from pyproxy.semantics.caching import merged
from pyproxy.semantics.fields import lacking
from pyproxy.semantics.framing import Kind
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.posting import posted_of
from pyproxy.semantics.stored import StoredResponse
from pyproxy.semantics.storing import Asked, stored_of
from pyproxy.sides import UpstreamResponse


def kept_of(
    response: UpstreamResponse,
    asked: Asked,
    post: Posting | None,
    heuristic: bool,
    sent_at: float,
    now: float,
) -> StoredResponse | str:
    """Return what is to be stored of a response, or a token that says why nothing is.

    Args: whether heuristic freshness is asked for; when the request was sent, and the time of day.
    """
    head, options = response.head, response.options
    if post is None:
        return stored_of(asked, head, sent_at, now, heuristic, options)
    terms = post.policy
    return posted_of(
        head,
        asked.fields,
        asked.wishes,
        now,
        terms.ttl,
        terms.shared,
        terms.events,
        options,
        response.framing.kind is Kind.UNTIL_CLOSE,
    )


def updated(stored: StoredResponse, response: UpstreamResponse) -> StoredResponse:
    """Return a stored response with the fields of a 304 that it may be stored no more with."""
    gone = {b"age", *response.options}
    fields = merged(stored.fields, response.head)
    return attrs.evolve(stored, fields=tuple(lacking(fields, gone)))


def mark(head: ResponseHead, status: bytes) -> None:
    """Say in a response what the cache has done.  Spec: RFC 9211 2."""
    head.fields.append((b"Cache-Status", status))
    head.names.append(b"cache-status")
