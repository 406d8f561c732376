"""What a cache knows of a response that it keeps.  Spec: RFC 9111 3, 4.2."""

from __future__ import annotations

import attrs

from pyproxy.semantics.fields import Field

Varies = tuple[tuple[bytes, bytes | None], ...]
"""Request fields that chose a response, by name, with their normalised values; None for none."""


@attrs.frozen
class StoredResponse:
    """The head of a stored response, and what follows from it.

    All is made of octets, numbers, ``None`` and tuples of these: a store writes it down as it is.
    Times are seconds of the epoch.

    Attributes:
        fields: as they go to clients, without ``Age`` and what belonged to the connection.
        born: when its age was 0.
        fresh_until: when it becomes stale.
        length: octets of content; None while they still come.
        no_cache: it has to be validated before each use.
        must_revalidate: it is never used stale.
        stale_behind: seconds that it may be served stale, while it is validated (RFC 5861 3).
        stale_on_error: seconds that it may be served stale in place of an error (RFC 5861 4).
        tags: by which it can be purged, from ``Cache-Tag``.
        events: of a stored event stream, as ``EventTimes`` packs them.
        immutable: while it is fresh no client's limit of age takes a validation (RFC 8246 2).
    """

    status: int
    reason: bytes
    fields: tuple[Field, ...]
    born: float
    fresh_until: float
    varies: Varies = ()
    length: int | None = None
    etag: bytes | None = None
    modified: bytes | None = None
    date: float = 0.0
    no_cache: bool = False
    must_revalidate: bool = False
    stale_behind: float = 0.0
    stale_on_error: float = 0.0
    tags: tuple[bytes, ...] = ()
    events: bytes = b""
    immutable: bool = False

    @property
    def has_validator(self) -> bool:
        """Whether an upstream can be asked if it is still current.  Spec: RFC 9110 8.8."""
        return self.etag is not None or self.modified is not None

    def age(self, now: float) -> int:
        """Return its age in whole seconds.  Spec: RFC 9111 4.2.3."""
        return max(0, int(now - self.born))
