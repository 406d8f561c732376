"""Web origins, and the names that this machine has for itself.

Owns how an ``Origin`` and an authority are read for a comparison.  What is allowed is ``policy``'s.
Spec: RFC 6454 6, 7; WHATWG HTML 7.1.1 (origins); RFC 6761 6.3 (localhost).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from pyproxy.semantics.addresses import is_loopback_address, read_address
from pyproxy.semantics.urls import DEFAULT_PORTS, MAX_PORT, split_authority

MAX_ORIGIN_BYTES = 512
"""Octets of an origin or an authority that is looked at; a host name has 253 at most."""

REMEMBERED = 128
"""Readings that are remembered: one front end asks with the same few again and again."""

_origin = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#@\\\s,]+)").fullmatch


class Authority(NamedTuple):
    """A host in lower case, an address in its one form without brackets; a port, or None."""

    host: bytes
    port: int | None


class WebOrigin(NamedTuple):
    """Scheme, host and port, as pages have them and as they are compared.

    Not ``urls.Origin``, which says where to connect: a page's scheme may be any, and its port None
    where the scheme has none of its own; a scheme's default port stands as itself.
    """

    scheme: bytes
    host: bytes
    port: int | None


@lru_cache(maxsize=REMEMBERED)
def read_authority(octets: bytes) -> Authority | None:
    """Read a host with or without a port; None when it is no authority.

    Args: MAX_ORIGIN_BYTES octets at most, since they are remembered.
    """
    # A comma can stand in a name; but here it has parted two, which somebody joined.
    parts = None if b"," in octets else split_authority(octets)
    if parts is None:
        return None
    host, digits = parts[0].lower(), parts[1]
    address = read_address(host.strip(b"[]"))
    if address is not None:
        host = str(address).encode("ascii")
    elif host[:1] == b"[":
        return None
    port = int(digits) if digits else None
    if port is not None and port > MAX_PORT:
        return None
    return Authority(host, port)


@lru_cache(maxsize=REMEMBERED)
def read_origin(octets: bytes) -> WebOrigin | None:
    """Read an origin, as it stands in ``Origin``; None for ``null``, a list, and what is no origin.

    Args: MAX_ORIGIN_BYTES octets at most, since they are remembered.
    Spec: RFC 6454 7.1.
    """
    match = _origin(octets)
    authority = None if match is None else read_authority(match[2])
    if match is None or authority is None:
        return None
    scheme, (host, port) = match[1].lower(), authority
    return WebOrigin(scheme, host, port or DEFAULT_PORTS.get(scheme))


@lru_cache(maxsize=REMEMBERED)
def is_loopback_host(host: bytes) -> bool:
    """Tell whether a host, as ``Authority`` has it, is this machine itself for whoever asks.

    Spec: RFC 6761 6.3; WHATWG Secure Contexts 3.1 takes the same names.
    """
    name = host.removesuffix(b".")
    if name == b"localhost" or name.endswith(b".localhost"):
        return True
    return is_loopback_address(host)
