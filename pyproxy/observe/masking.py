"""Keeps credentials out of whatever is written down."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote_from_bytes

import attrs

MASK = b"***"

MIN_SECRET_BYTES = 4
"""Shorter values would mask ordinary words."""

_query_secret = re.compile(
    rb"""([?&;](?:[^=&;\s]*?(?:api[-_.]?key|access[-_.]?key|token|secret|passw(?:or)?d|signature|"""
    rb"""credential|authorization|subscription[-_.]?key|session[-_.]?id|jwt)[^=&;\s]*|key|auth|sig"""
    rb"""|pwd|code|state)=)[^&;\s#]*""",
    re.IGNORECASE,
)
"""Query parameters whose names say that they hold a key."""

_userinfo = re.compile(rb"(://)[^/@\s]+@")
_known_shape = re.compile(
    rb"\b(?:sk|pk|rk|gsk|hf|xai|ghp|gho|AIza|Bearer|Basic)[-_ ][A-Za-z0-9_\-.=+/]{8,}"
)


@attrs.frozen
class Mask:
    """Takes injected secrets, and what looks like a credential, out of octets."""

    _secrets: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, secrets: Iterable[bytes]) -> Mask:
        """Make a mask that knows some secrets by value, also percent-encoded."""
        known = {secret for secret in secrets if len(secret) >= MIN_SECRET_BYTES}
        known |= {quote_from_bytes(secret, safe="").encode("ascii") for secret in known}
        return cls(tuple(sorted(known, key=len, reverse=True)))

    def apply(self, octets: bytes) -> bytes:
        """Return octets without any credential in them."""
        for secret in self._secrets:
            if secret in octets:
                octets = octets.replace(secret, MASK)
        if b"=" in octets:
            octets = _query_secret.sub(rb"\1" + MASK, octets)
        if b"@" in octets:
            octets = _userinfo.sub(rb"\1" + MASK + b"@", octets)
        return _known_shape.sub(MASK, octets)
