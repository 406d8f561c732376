"""Origins and authorities as they are compared; names of this machine."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.origins import (
    Authority,
    WebOrigin,
    is_loopback_host,
    read_authority,
    read_origin,
)


class AuthorityTests(SynchronousTestCase):
    """A host in its one form, and a port."""

    def test_forms(self) -> None:
        """Case, brackets and the many ways to write an IPv6 address make no difference."""
        for octets, host, port in (
            (b"localhost", b"localhost", None),
            (b"LocalHost:8000", b"localhost", 8000),
            (b"localhost.:80", b"localhost.", 80),
            (b"127.0.0.1:8000", b"127.0.0.1", 8000),
            (b"[::1]:8000", b"::1", 8000),
            (b"[0:0:0:0:0:0:0:1]", b"::1", None),
            (b"[::FFFF:127.0.0.1]", b"127.0.0.1", None),
            (b"host:", b"host", None),
            (b"xn--strae-oqa.example", b"xn--strae-oqa.example", None),
        ):
            self.assertEqual(Authority(host, port), read_authority(octets), octets)

    def test_none(self) -> None:
        """What is no host with or without a port."""
        for octets in (
            b"",
            b":80",
            b"host:port",
            b"host:65536",
            b"host:80:80",
            b"[::1",
            b"[not-an-address]",
            b"[::g]",
            b"[1:2]",
            b"user@host",
            b"a b",
            b"host/path",
            b"a,b",
        ):
            self.assertIsNone(read_authority(octets), octets)


class OriginTests(SynchronousTestCase):
    """An origin is scheme, host and port, and nothing else (RFC 6454 4)."""

    def test_forms(self) -> None:
        """A default port stands as itself; a scheme without one may have none."""
        for octets, origin in (
            (b"http://a.example", (b"http", b"a.example", 80)),
            (b"http://a.example:80", (b"http", b"a.example", 80)),
            (b"https://A.example", (b"https", b"a.example", 443)),
            (b"HTTPS://a.example:8443", (b"https", b"a.example", 8443)),
            (b"http://[::1]:3000", (b"http", b"::1", 3000)),
            (b"tauri://localhost", (b"tauri", b"localhost", None)),
            (b"chrome-extension://abcdef", (b"chrome-extension", b"abcdef", None)),
        ):
            self.assertEqual(WebOrigin(*origin), read_origin(octets), octets)

    def test_none(self) -> None:
        """``null``, lists, and URLs that are more than an origin."""
        for octets in (
            b"",
            b"null",
            b"a.example",
            b"//a.example",
            b"http://",
            b"http://a.example/",
            b"http://a.example?x",
            b"http://user@a.example",
            b"http://a.example, http://b.example",
            b"http://a.example http://b.example",
            b"http://a.example\\@b.example",
            b"http://a.example#b",
        ):
            self.assertIsNone(read_origin(octets), octets)


class LoopbackTests(SynchronousTestCase):
    """Names that are this machine for whoever asks (RFC 6761 6.3)."""

    def test_own(self) -> None:
        """``localhost`` and what is below it, 127.0.0.0/8, ::1."""
        for host in (
            b"localhost",
            b"localhost.",
            b"app.localhost",
            b"127.0.0.1",
            b"127.255.0.9",
            b"::1",
        ):
            self.assertTrue(is_loopback_host(host), host)

    def test_other(self) -> None:
        """Whatever only looks like them."""
        for host in (
            b"localhost.evil.example",
            b"evillocalhost",
            b"127.0.0.1.evil.example",
            b"128.0.0.1",
            b"127.1",
            b"0.0.0.0",
            b"::2",
            b"",
            b"\xe4",
        ):
            self.assertFalse(is_loopback_host(host), host)
