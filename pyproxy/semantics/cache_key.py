"""By what a stored response is found again: all that chooses it but for what ``Vary`` names.

An upstream may build its response on request fields that it does not name in ``Vary``; those that
are known for it are part of the key, so that nobody can poison what others get.
Sources: RFC 9111 4; Kettle, "Practical Web Cache Poisoning" (2018) and "Web Cache Entanglement"
(2020).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from operator import itemgetter

from pyproxy.semantics.fields import Field

KEYED = frozenset(
    {
        b"front-end-https",
        b"path-info",
        b"script-name",
        b"x-forwarded-path",
        b"x-forwarded-prefix",
        b"x-forwarded-protocol",
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
        b"x-scheme",
        b"x-script-name",
        b"x-url-scheme",
    }
)
"""Request fields, in lower case, that frameworks take for a part of the URL or the method.

gunicorn believes ``SCRIPT_NAME``, ``PATH_INFO`` and ``X-Forwarded-Protocol`` of whoever is near.
"""

BELIEVED = (b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto")
"""Fields that reach an upstream from a trusted proxy only; from others they are dropped."""

_FORWARDED = frozenset({b"forwarded", *BELIEVED})

# CGI, WSGI and PHP upstreams take ``_`` in a name for ``-``.
_KEYED = frozenset(
    b"".join(octets)
    for name in KEYED
    for octets in product(*((b"-", b"_") if octet == 45 else (bytes([octet]),) for octet in name))
)

# Who the client and the proxy are, which no upstream builds a URL from.  What is not plainly that
# stays, and so does each element's place: upstreams differ in which of them they believe.
_nodes = re.compile(
    rb'(?:^|(?<=[;,]))[ \t]*(?:for|by)=(?:[^\s",;\\]*+|"[^",;\\]*+")[ \t]*(?=[;,]|\Z)', re.I
)


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
    if not _KEYED.isdisjoint(names):
        key += _lines(fields, names, _KEYED)
    if trusted and not _FORWARDED.isdisjoint(names):
        key += _lines(fields, names, _FORWARDED)
    return key


def _lines(fields: Sequence[Field], names: Sequence[bytes], keyed: frozenset[bytes]) -> bytes:
    """Return the fields of some names, each in a line of its own.  Spec: RFC 7239 4."""
    told = sorted(
        [(name, value) for name, (_, value) in zip(names, fields, strict=True) if name in keyed],
        key=itemgetter(0),
    )
    return b"".join(
        b"\n%b:%b" % (name, _nodes.sub(b"", value) if name == b"forwarded" else value)
        for name, value in told
    )
