"""Addresses in their one form."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.addresses import is_loopback_address, read_address


class AddressTests(SynchronousTestCase):
    """Octets that are an address."""

    def test_forms(self) -> None:
        """The many ways to write an address make no difference."""
        for octets, address in (
            (b"127.0.0.1", "127.0.0.1"),
            (b"0:0:0:0:0:0:0:1", "::1"),
            (b"2001:DB8::1", "2001:db8::1"),
            (b"::FFFF:127.0.0.1", "127.0.0.1"),
            (b"::ffff:7f00:1", "127.0.0.1"),
        ):
            self.assertEqual(ip_address(address), read_address(octets), octets)

    def test_none(self) -> None:
        """What is more than an address, less, or another thing; a short form is a name here."""
        for octets in (
            b"",
            b"localhost",
            b"127.1",
            b"127.0.0.01",
            b"256.0.0.1",
            b"127.0.0.1%lo",
            b"127.0.0.1:80",
            b"[::1]",
            b"::g",
            b"1",
            b" ::1",
            b"\xe4",
            "١.0.0.1".encode(),
        ):
            self.assertIsNone(read_address(octets), octets)

    @given(st.ip_addresses())
    def test_every_address(self, address: IPv4Address | IPv6Address) -> None:
        """An address is read as itself, or as the IPv4 address that it stands for."""
        read = read_address(str(address).encode("ascii"))
        self.assertEqual(getattr(address, "ipv4_mapped", None) or address, read)

    def test_loopback(self) -> None:
        """127.0.0.0/8 and ::1, also where the first is mapped; nothing else."""
        for octets in (b"127.0.0.1", b"127.255.0.9", b"::1", b"0:0::1", b"::ffff:127.0.0.1"):
            self.assertTrue(is_loopback_address(octets), octets)
        for octets in (b"128.0.0.1", b"0.0.0.0", b"::", b"::2", b"::ffff:10.0.0.1", b"localhost"):
            self.assertFalse(is_loopback_address(octets), octets)
