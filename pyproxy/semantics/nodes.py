"""Who stands in X-Forwarded-For and Forwarded: addresses with or without ports, and what hides one.

Must not know who is trusted; that is ``forwarding``'s.
Spec: RFC 7239 4, 6.  X-Forwarded-For has no standard: it is read in every spelling seen.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from pyproxy.semantics.fields import Fields, list_members, values

Address = IPv4Address | IPv6Address

_V6 = rb"([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)(?:%[^\]]+)?"
_PORT = rb"(?::(?:\d{1,5}|_[A-Za-z0-9._\-]+))?"
# No port can follow an IPv6 address without brackets: its colon would be one of the address.
_node = re.compile(rb"\[" + _V6 + rb"\]" + _PORT + rb"|([0-9.]+)" + _PORT + rb"|" + _V6).fullmatch
# As in ``fields``: a quoted string without its end reaches to the end.
_pairs = re.compile(rb'(?:[^";]|"(?:[^"\\]|\\.?)*+(?:"|\Z))++', re.DOTALL).findall
_quoted_pairs = re.compile(rb"\\(.)", re.DOTALL)


def chain_of(fields: Fields) -> list[bytes]:
    """Return the nodes that a request has come by, the client's first, as far as fields tell.

    X-Forwarded-For outranks Forwarded: most proxies write only the first, and pass on what their
    client wrote into the second.
    """
    chain = values(fields, b"x-forwarded-for")
    if chain:
        return list_members(chain)
    return [_for_of(element) for element in list_members(values(fields, b"forwarded"))]


def _for_of(element: bytes) -> bytes:
    """Return who an element of Forwarded is for; empty when it does not say so just once.

    Spec: RFC 7239 4, 5.2.
    """
    pairs = [pair.strip(b"\t ").partition(b"=") for pair in _pairs(element)]
    nodes = [value for name, _, value in pairs if name.lower() == b"for"]
    return nodes[0] if len(nodes) == 1 else b""


def address_of(node: bytes) -> Address | None:
    """Return the address of a node; None for one that is hidden or unknown, and for what is none.

    An IPv4 address that is mapped to IPv6 is the IPv4 address; a zone is dropped, since it means
    something to one machine only.
    Spec: RFC 7239 6, RFC 4291 2.5.5.2, RFC 4007 11.
    """
    match = _node(_unquoted(node))
    if match is None:
        return None
    try:
        address = ip_address((match[1] or match[2] or match[3]).decode("ascii"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _unquoted(value: bytes) -> bytes:
    """Return the content of a quoted string, and a token as it is.  Spec: RFC 9110 5.6.4."""
    if len(value) < 2 or value[:1] != b'"' or value[-1:] != b'"':
        return value
    return _quoted_pairs.sub(rb"\1", value[1:-1])
