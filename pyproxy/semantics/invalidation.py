"""What an answered request makes of stored responses.  Spec: RFC 9111 4.4."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from pyproxy.semantics.fields import values
from pyproxy.semantics.messages import ResponseHead

SAFE = frozenset(
    {b"GET", b"HEAD", b"OPTIONS", b"PROPFIND", b"QUERY", b"REPORT", b"SEARCH", b"TRACE"}
)
"""Methods that change nothing.  Spec: the IANA registry of RFC 9110 16.1."""

_SCHEMES = frozenset({"http", "https"})


def invalidated(target: bytes, head: ResponseHead, origin: bytes, host: bytes) -> set[bytes]:
    """Return the targets whose stored responses may be used no more after an unsafe request.

    These are its own, and those that ``Location`` and ``Content-Location`` name at the same origin.
    Args: the target at the upstream; the upstream's origin, ``scheme://host``; the host that the
        client asked for, which the upstream may take for its own.
    """
    if not 200 <= head.status < 400:
        return set()
    found = {target}
    if head.noted.isdisjoint((b"location", b"content-location")):
        return found
    here = origin.decode("latin-1") + target.decode("latin-1")
    authorities = {origin.partition(b"://")[2].lower(), host.lower()}
    for name in (b"location", b"content-location"):
        for value in values(head.fields, name):
            try:
                parts = urlsplit(urljoin(here, value.decode("latin-1")))
            except ValueError:
                # No URL: it names nothing that could be stored.
                continue
            if parts.scheme not in _SCHEMES:
                continue
            if parts.netloc.lower().encode("latin-1") in authorities:
                path = parts.path or "/"
                place = f"{path}?{parts.query}" if parts.query else path
                found.add(place.encode("latin-1"))
    return found
