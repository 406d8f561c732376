"""By what a stored response is found again: all that chooses it but for what ``Vary`` names.

An upstream may build its response on request fields that it does not name in ``Vary``; those that
are known for it are part of the key, so that nobody can poison what others get.
Sources: RFC 9111 4; Kettle, "Practical Web Cache Poisoning" (2018) and "Web Cache Entanglement"
(2020).
"""

from __future__ import annotations

from collections.abc import Sequence

from pyproxy.semantics.fields import Field, values
from pyproxy.semantics.forwarded import parameters

KEYED = frozenset(
    {
        b"front-end-https",
        b"x-forwarded-path",
        b"x-forwarded-prefix",
        b"x-forwarded-scheme",
        b"x-forwarded-server",
        b"x-forwarded-ssl",
        b"x-forwarded-uri",
        b"x-host",
        b"x-http-host-override",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-host",
        b"x-original-url",
        b"x-original-uri",
        b"x-override-url",
        b"x-proxyuser-ip",
        b"x-rewrite-url",
        b"x-script-name",
        b"x-url-scheme",
    }
)
"""Request fields, in lower case, that frameworks take for a part of the URL or the method."""

BELIEVED = (b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto")
"""Fields that reach an upstream from a trusted proxy only; from others they are dropped."""

_FORWARDED = frozenset({b"forwarded", *BELIEVED})


def plain_key(space: bytes, scheme: bytes, host: bytes, target: bytes) -> bytes:
    """Return the key of a request that has no field of ``KEYED``.

    None of the parts has a space: whose requests may share; the connection's scheme; the host that
    was asked for; the target that goes to the upstream.
    """
    return b"%b %b %b %b" % (space, scheme, host.lower(), target)


def key_of(
    plain: bytes, fields: Sequence[Field], names: Sequence[bytes], trusted: bool = False
) -> bytes:
    """Return the key of a request.

    Args: its ``plain_key``, its fields, their names in lower case; whether a trusted proxy sent it.
    """
    key = plain
    if not KEYED.isdisjoint(names):
        for name in sorted(KEYED.intersection(names)):
            key += b"\n%b:%b" % (name, b",".join(values(fields, name)))
    if trusted and not _FORWARDED.isdisjoint(names):
        for name in BELIEVED:
            if name in names:
                key += b"\n%b:%b" % (name, b",".join(values(fields, name)))
        if b"forwarded" in names:
            lines = values(fields, b"forwarded")
            for name in (b"host", b"proto"):
                told = b",".join(parameters(lines, name))
                key += b"\nforwarded %b:%b" % (name, told)
    return key
