"""Keeps credentials out of whatever is written down."""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs

from pyproxy.semantics.secrets import MASK, SecretMask

# Every repetition is possessive or ends where the next attempt begins: the time stays linear in
# what a client sends.
_parameter = re.compile(rb"([?&;])([^?=&;\s#]++)=([^&;\s#]*+)")
_secret_name = re.compile(
    rb"api[-_.]?key|access[-_.]?key|token|secret|passw|signature|credential|authorization"
    rb"|subscription[-_.]?key|session[-_.]?id|jwt|^(?:key|auth|sig|pwd|code|state)$",
    re.IGNORECASE,
).search
_userinfo = re.compile(rb"(://)[^/@\s]++@")
_known_shape = re.compile(
    rb"\b(?:(?i:bearer|basic)[ ]|(?:sk|pk|rk|gsk|hf|xai|ghp|gho)[-_]|AIza)[A-Za-z0-9_\-.=+/]{8,}+"
)


@attrs.frozen
class Mask:
    """Takes injected secrets, and what looks like a credential, out of octets."""

    _secrets: SecretMask = attrs.Factory(SecretMask)

    @classmethod
    def of(cls, secrets: Iterable[bytes]) -> Mask:
        """Make a mask that knows some secrets by value, also percent-encoded."""
        return cls(SecretMask(secrets))

    def apply(self, octets: bytes) -> bytes:
        """Return octets without any credential in them."""
        octets = self._secrets.apply(octets)
        if b"=" in octets:
            octets = _parameter.sub(_masked_parameter, octets)
        if b"@" in octets:
            octets = _userinfo.sub(rb"\1" + MASK + b"@", octets)
        return _known_shape.sub(MASK, octets)


def _masked_parameter(match: re.Match[bytes]) -> bytes:
    """Return a query parameter, cut where a name says that a key follows.

    The value may be a URL with a query of its own; a question mark does not end a value, so what
    follows a key goes with it.  Spec: RFC 3986 3.4.
    """
    lead, rest = match[0][:1], match[0][1:]
    kept: list[bytes] = []
    for part in rest.split(b"?"):
        name, equals, _ = part.partition(b"=")
        if equals and _secret_name(name):
            kept.append(name + b"=" + MASK)
            break
        kept.append(part)
    return lead + b"?".join(kept)
