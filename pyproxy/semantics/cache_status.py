"""``Cache-Status``: what the cache did with a request.  Spec: RFC 9211 2."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from math import floor

from pyproxy.semantics.fields import Field

NAME = b"pyproxy"
"""By what the field calls this cache."""


class Why(Enum):
    """Why a request went to the upstream.  Spec: RFC 9211 2.2."""

    BYPASS = b"bypass"
    METHOD = b"method"
    URI_MISS = b"uri-miss"
    VARY_MISS = b"vary-miss"
    REQUEST = b"request"
    STALE = b"stale"
    PARTIAL = b"partial"


def hit(left: float, detail: bytes = b"") -> bytes:
    """Return the field's value for a stored response.

    Args: seconds that it stays fresh, less than 0 for a stale one.
    """
    said = b"%b; hit; ttl=%d" % (NAME, floor(left))
    return said + b"; detail=" + detail if detail else said


def not_cached() -> bytes:
    """Return the field's value for a request that only a stored response might have answered."""
    return NAME + b"; detail=only-if-cached"


def forwarded(
    why: Why,
    status: int | None = None,
    stored: bool = False,
    collapsed: bool = False,
    detail: str = "",
) -> bytes:
    """Return the field's value for a request that went to the upstream.

    Args: status of its response, None without one; whether that was stored, whether another
        request's answer served; a token that says more.
    """
    said = b"%b; fwd=%b" % (NAME, why.value)
    if status is not None:
        said += b"; fwd-status=%d" % status
    if stored:
        said += b"; stored"
    if collapsed:
        said += b"; collapsed"
    if detail:
        said += b"; detail=" + detail.encode("ascii")
    return said


_ours = re.compile(re.escape(NAME) + rb"; (?:fwd=([a-z-]+)|(hit)|detail=(only-if-cached))").match


def said(fields: Sequence[Field]) -> str:
    """Return what this cache said in fields: ``hit``, why it asked the upstream, or nothing.

    The last word is ours; another of the same name may stand before.
    """
    for name, value in reversed(fields):
        if name.lower() == b"cache-status" and (match := _ours(value)):
            return (match[1] or match[2] or match[3]).decode("ascii")
    return ""
