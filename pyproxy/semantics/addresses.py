"""Addresses, from the octets that show one.

Must not know where they stood: brackets, ports and zones are taken off by whoever knows them.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address


def read_address(octets: bytes) -> Address | None:
    """Return the address that the octets are, without brackets; None when they are none.

    An IPv4 address that is mapped to IPv6 is the IPv4 address.
    Spec: RFC 4291 2.5.5.2.
    """
    try:
        address = ip_address(octets.decode("ascii"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback_address(octets: bytes) -> bool:
    """Tell whether the octets are an address by which a machine reaches itself only.

    Spec: RFC 1122 3.2.1.3, RFC 4291 2.5.3.
    """
    address = read_address(octets)
    return address is not None and address.is_loopback
