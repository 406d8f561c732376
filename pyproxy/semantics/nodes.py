"""Who stands in X-Forwarded-For and Forwarded: addresses with or without ports, and what hides one.

Must not know who is trusted; that is ``forwarding``'s.
Spec: RFC 7239 4, 6.  X-Forwarded-For has no standard: it is read in every spelling seen.
"""

from __future__ import annotations

import re

from pyproxy.semantics.addresses import Address, read_address
from pyproxy.semantics.fields import Fields, list_members, values
from pyproxy.semantics.forwarded import parameter, unquoted

_V6 = rb"([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)(?:%[^\]]+)?"
_PORT = rb"(?::(?:\d{1,5}|_[A-Za-z0-9._\-]+))?"
# No port can follow an IPv6 address without brackets: its colon would be one of the address.
_node = re.compile(rb"\[" + _V6 + rb"\]" + _PORT + rb"|([0-9.]+)" + _PORT + rb"|" + _V6).fullmatch


def chain_of(fields: Fields) -> list[bytes]:
    """Return the nodes that a request has come by, the client's first, as far as fields tell.

    X-Forwarded-For outranks Forwarded: most proxies write only the first, and pass on what their
    client wrote into the second.
    """
    chain = values(fields, b"x-forwarded-for")
    if chain:
        return list_members(chain)
    elements = list_members(values(fields, b"forwarded"))
    return [parameter(element, b"for") for element in elements]


def address_of(node: bytes) -> Address | None:
    """Return the address of a node; None for one that is hidden or unknown, and for what is none.

    A zone is dropped, since it means something to one machine only.
    Spec: RFC 7239 6, RFC 4007 11.
    """
    match = _node(unquoted(node))
    return None if match is None else read_address(match[1] or match[2] or match[3])
