"""Finds injected secrets in octets, in whichever form they may come back.

Owns the forms of a secret.  Must not know where the octets go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = b"***"
"""What stands in a secret's place."""

MIN_SECRET_BYTES = 4
"""Shorter values would blot out ordinary words."""


class SecretMask:
    """Takes some secrets out of octets, as they are or with any octet percent-encoded.

    Falsy when it knows no secret, so that whoever has none to keep pays nothing.
    Spec: RFC 3986 2.1, 6.2.2.1.
    """

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        known = {secret for secret in secrets if len(secret) >= MIN_SECRET_BYTES}
        # The longest first: of two secrets one may begin with the other.
        forms = [_any_form(secret) for secret in sorted(known, key=len, reverse=True)]
        self._find = re.compile(b"|".join(forms)) if forms else None

    def __bool__(self) -> bool:
        return self._find is not None

    def apply(self, octets: bytes) -> bytes:
        """Return octets without the secrets; the same object when there was none in them."""
        if self._find is None or self._find.search(octets) is None:
            return octets
        return self._find.sub(MASK, octets)


def _any_form(secret: bytes) -> bytes:
    """Return a pattern for a secret in which each octet may be percent-encoded."""
    return b"".join(
        # The encoded form first: a secret may itself hold a percent sign.
        b"(?:%%(?i:%02x)|%b)" % (secret[at], re.escape(secret[at : at + 1]))
        for at in range(len(secret))
    )
