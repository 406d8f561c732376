"""What a request says to caches.  Spec: RFC 9111 5.2.1, RFC 9110 13, 14, RFC 5861 4."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from pyproxy.semantics.directives import read_directives
from pyproxy.semantics.fields import Field, values

SPECIAL = frozenset(
    {
        b"cache-control",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"pragma",
        b"range",
    }
)
"""Request fields that say something to caches, in lower case."""


@attrs.frozen
class Wishes:
    """What a request asks of a cache.

    Attributes:
        max_age, min_fresh, max_stale, stale_if_error: seconds; None for nothing said.
            ``max_stale`` is infinite for a client that takes a stale response of any age.
        guarded: it has preconditions that only the origin may evaluate.
    """

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: float | None = None
    min_fresh: float | None = None
    max_stale: float | None = None
    stale_if_error: float | None = None
    if_none_match: tuple[bytes, ...] = ()
    if_modified_since: bytes | None = None
    if_range: bytes | None = None
    range: bytes | None = None
    guarded: bool = False

    @property
    def conditional(self) -> bool:
        """Whether the response may be another than the representation.  Spec: RFC 9110 13.1."""
        return bool(self.if_none_match or self.if_modified_since or self.guarded)


NO_WISHES = Wishes()


def wishes_of(fields: Sequence[Field], names: Sequence[bytes]) -> Wishes:
    """Return what a request asks of a cache.  Args: its fields, and their names in lower case."""
    if SPECIAL.isdisjoint(names):
        return NO_WISHES
    control = values(fields, b"cache-control")
    said = read_directives(control)
    max_stale: float | None = said.seconds(b"max-stale")
    if None in said.found.get(b"max-stale", ()):
        max_stale = float("inf")
    pragma = not control and b"no-cache" in read_directives(values(fields, b"pragma"))
    since = values(fields, b"if-modified-since")
    ranges = values(fields, b"range")
    if_ranges = values(fields, b"if-range")
    return Wishes(
        b"no-cache" in said or pragma,
        b"no-store" in said,
        b"only-if-cached" in said,
        said.seconds(b"max-age"),
        said.seconds(b"min-fresh"),
        max_stale,
        said.seconds(b"stale-if-error"),
        tuple(values(fields, b"if-none-match")),
        b", ".join(since) if since else None,
        b", ".join(if_ranges) if if_ranges else None,
        b", ".join(ranges) if ranges else None,
        b"if-match" in names or b"if-unmodified-since" in names,
    )
