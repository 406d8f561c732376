"""What an operator lets the cache do on a route, beyond what every shared cache may do."""

from __future__ import annotations

from typing import Literal

import attrs

Pace = Literal["at-once", "as-recorded"]
"""How stored event streams are sent: as fast as they are read, or with their pauses."""

PACES: tuple[Pace, ...] = ("at-once", "as-recorded")

WHOLE = 1024 * 1024
"""Octets of a request's content that are read for a key, unless a route has another bound."""

MAX_VARIANTS = 64
"""Stored responses of one URL that ``Vary`` tells apart, unless a route has another bound."""


@attrs.frozen
class PostPolicy:
    """How answers to POST are stored, which no cache does by itself.

    The key is the URL, the content and the fields named here.
    Spec: RFC 9110 9.3.3 lets them be reused with explicit freshness only; the operator gives it.

    Attributes:
        ttl: seconds for which an answer is fresh.
        fields: request fields that are part of the key, in lower case.
        whole: octets of content that are read for the key; a request with more passes.
        ignore: members of JSON content that are no part of the key, as JSON Pointers (RFC 6901).
        shared: an answer serves clients with other credentials too.
        events: event streams are stored too.
        pace: in which stored event streams are sent.
    """

    ttl: float
    fields: tuple[bytes, ...] = ()
    whole: int = WHOLE
    ignore: tuple[str, ...] = ()
    shared: bool = False
    events: bool = False
    pace: Pace = "at-once"

    @property
    def paced(self) -> bool:
        """Whether stored event streams are sent with the pauses that they came with."""
        return self.events and self.pace == "as-recorded"


@attrs.frozen
class CachePolicy:
    """What the cache may do on one route.

    Attributes:
        heuristic: responses without explicit freshness are fresh for a while (RFC 9111 4.2.2).
        finish: a fetch goes on to its end when every client has left.
        post: how answers to POST are stored, None for not at all.
        max_variants: stored responses of one URL that ``Vary`` tells apart.
    """

    heuristic: bool = False
    finish: bool = False
    post: PostPolicy | None = None
    max_variants: int = MAX_VARIANTS
