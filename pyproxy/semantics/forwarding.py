"""What a proxy has to know of a head in either direction: which fields belong to one hop.

What becomes of a request's head stands in ``to_upstream``, of a response's in ``to_client``.  Must
not know sockets, routes or configuration files.
Spec: RFC 9110 7.6, RFC 9112 3.2.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import attrs

from pyproxy.errors import Malformed
from pyproxy.semantics.fields import Field, Fields, is_token, tokens, values
from pyproxy.semantics.messages import Head, RequestHead, noted_values
from pyproxy.semantics.nodes import address_of, chain_of
from pyproxy.semantics.urls import is_authority

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields that belong to one connection, nominated or not.  Spec: RFC 9110 7.6.1, RFC 7540 3.2.1."""

WRITTEN_BY_US = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
    }
)
"""Fields that say who the client is; believed only from a trusted proxy."""

Network = IPv4Network | IPv6Network

ALLOWED_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
"""What Allow says where the proxy itself answers; extension methods pass too, but have no list."""

HOP_BOUNDED = frozenset({b"OPTIONS", b"TRACE"})
"""Methods for which Max-Forwards counts.  Spec: RFC 9110 7.6.2."""

KEEP_ALIVE = [b"keep-alive"]
"""The connection options of nearly everybody who names any."""

NEVER_NOMINATED = frozenset({b"content-length", b"transfer-encoding"})
"""Fields that frame a message: nominating one leaves two readings of it."""

FORBIDDEN_TRAILERS = frozenset(
    {
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"host",
        b"max-forwards",
        b"pragma",
        b"range",
        b"set-cookie",
        b"te",
        b"trailer",
        b"via",
    }
)
"""Fields for framing, routing and credentials, which nobody may read from trailers.

Spec: RFC 9110 6.5.1.
"""


@attrs.frozen
class FieldRules:
    """What the operator asked to change in the heads of one direction.

    Attributes:
        set: fields to write; each replaces every field of its name.
        remove: names in lower case.
    """

    set: tuple[Field, ...] = ()
    remove: frozenset[bytes] = frozenset()

    @property
    def replaced(self) -> frozenset[bytes]:
        """Names in lower case that must not pass as they came."""
        return self.remove | {name.lower() for name, _ in self.set}


@attrs.frozen
class Hop:
    """What is known of the connection that a request came on.

    Attributes:
        address: the client's address, empty where it has none (a Unix socket).
        trusted: whether the peer's own X-Forwarded-* are believed.
        local: the address that it came to, without brackets and zone; empty where it has none.
    """

    address: bytes
    scheme: bytes
    port: bytes
    trusted: bool
    local: bytes = b""


def connection_options(head: Head) -> list[bytes]:
    """Return the connection options in lower case.

    Raises: Malformed when one of them names a field that frames the message.
    Spec: RFC 9110 7.6.1.
    """
    if b"connection" not in head.noted:
        return []
    lines = noted_values(head, b"connection")
    if lines == KEEP_ALIVE:
        # To read it as a list takes 1 us.
        return lines
    options = tokens(lines)
    if options:
        if not NEVER_NOMINATED.isdisjoint(options):
            raise Malformed("Connection nominates a field that frames the message")
        if not all(map(is_token, options)):
            raise Malformed("a connection option that is no token")
    return options


def persists(minor_version: int, options: list[bytes]) -> bool:
    """Tell whether the sender of a head means to use the connection again.  Spec: RFC 9112 9.3."""
    if b"close" in options:
        return False
    return minor_version == 1 or b"keep-alive" in options


def host_of(head: RequestHead) -> bytes:
    """Return the Host of a request, empty for an HTTP/1.0 request without it.

    Raises: Malformed for no Host in HTTP/1.1, for two of them, or for one that is no authority.
    Spec: RFC 9112 3.2, 3.2.2.
    """
    names = head.names
    count = names.count(b"host")
    if count > 1:
        raise Malformed("more than one Host")
    if not count:
        if head.minor_version == 1:
            raise Malformed("no Host, which HTTP/1.1 asks for")
        return b""
    host = head.fields[names.index(b"host")][1]
    if host and not is_authority(host):
        if b"@" in host:
            raise Malformed("a Host with userinfo (user:password@)")
        raise Malformed("a Host that is no host with or without a port")
    return host


def without(
    fields: Fields, names: list[bytes], dropped: frozenset[bytes]
) -> tuple[Fields, list[bytes]]:
    """Return a copy of fields without some names, and the names that are left.

    Mostly one or two of many go, so they are taken out; to choose the others cost twice as much.
    """
    kept = fields.copy()
    gone = dropped.intersection(names)
    if gone:
        names = names.copy()
        for name in gone:
            for _ in range(names.count(name)):
                place = names.index(name)
                del kept[place], names[place]
    return kept, names


def alias(name: bytes) -> bytes:
    """Return the name that CGI, WSGI and PHP upstreams take a name with ``_`` for."""
    return name.replace(b"_", b"-")


def client_of(fields: Fields, hop: Hop, trusted: tuple[Network, ...]) -> bytes:
    """Return the client's address: the last one before the trusted proxies, as they tell it.

    A node that is hidden, unknown or none ends what can be known: the client is then the last
    proxy that is known by its address, and who stands before the node is not believed.
    Returns: the connection's own address when its peer is not trusted; empty when nobody knows.
    Spec: RFC 7239 8.1.
    """
    client = hop.address
    if hop.trusted:
        for node in reversed(chain_of(fields)):
            address = address_of(node)
            if address is None:
                break
            client = str(address).encode("ascii")
            if not any(address in network for network in trusted):
                break
    return client


def hops_left(fields: Fields) -> int | None:
    """Return how often an OPTIONS or TRACE may still be forwarded; None for no bound.

    Raises: Malformed for a Max-Forwards that is no decimal number, or more than one.
    Spec: RFC 9110 7.6.2.
    """
    bounds = values(fields, b"max-forwards")
    if not bounds:
        return None
    if len(bounds) > 1 or not bounds[0].isdigit() or len(bounds[0]) > 9:
        raise Malformed("a Max-Forwards that is no decimal number")
    return int(bounds[0])


def one_hop_less(fields: Fields) -> Fields:
    """Return fields with Max-Forwards lowered by one.  Spec: RFC 9110 7.6.2."""
    return [
        (name, b"%d" % (int(value) - 1)) if name.lower() == b"max-forwards" else (name, value)
        for name, value in fields
    ]


def forwardable_trailers(trailers: Fields, dropped: frozenset[bytes] = frozenset()) -> Fields:
    """Return the trailers that may pass: none that frames, routes or authenticates.

    Args: names in lower case that must not pass either.
    Spec: RFC 9110 6.5.1.
    """
    if not trailers:
        return trailers
    refused = FORBIDDEN_TRAILERS | HOP_BY_HOP | WRITTEN_BY_US | dropped
    return [field for field in trailers if alias(field[0].lower()) not in refused]
