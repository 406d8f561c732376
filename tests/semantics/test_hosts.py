"""Hosts as people write them."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.hosts import Host, parse_host, parse_socket, socket_of
from pyproxy.semantics.urls import parse_target
from tests.semantics import strict

NAMES = (
    ("h", "h"),
    ("API.Example.com", "api.example.com"),
    ("secure.test.", "secure.test."),
    ("a_b", "a_b"),
    ("_srv.a-b.c0", "_srv.a-b.c0"),
    ("xn--strae-oqa.example", "xn--strae-oqa.example"),
    ("a" * 63 + ".b", "a" * 63 + ".b"),
    ("1.example", "1.example"),
    ("0x.h", "0x.h"),
)

INTERNATIONAL = (
    # as written, as the name system has it
    ("stra\u00dfe.example", "xn--strae-oqa.example"),
    ("Stra\u00dfe.Example.", "xn--strae-oqa.example."),
    ("STRA\u1e9eE.example", "xn--strae-oqa.example"),
    ("fa\u00df.de", "xn--fa-hia.de"),
    ("\u03c3\u03cc\u03bb\u03bf\u03c2.gr", "xn--wxaijb9b.gr"),
    ("b\u00fccher.example", "xn--bcher-kva.example"),
    ("bu\u0308cher.example", "xn--bcher-kva.example"),
    ("B\u00dcCHER.example", "xn--bcher-kva.example"),
    ("\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45\u3002com", "example.com"),
    ("\uff11\uff12\uff17.0.0.1", "127.0.0.1"),
    ("\u30c9\u30e1\u30a4\u30f3.\u30c6\u30b9\u30c8", "xn--eckwd4c7c.xn--zckzah"),
)

NUMBERS = (
    ("127.0.0.1", "127.0.0.1"),
    ("127.0.0.1.", "127.0.0.1"),
    ("127.1", "127.0.0.1"),
    ("2130706433", "127.0.0.1"),
    ("0x7f.1", "127.0.0.1"),
    ("0X7F000001", "127.0.0.1"),
)

NO_NAMES = (
    "",
    ".",
    "a..b",
    ".a",
    "a" * 64,
    "a." * 127 + "bc",
    "*",
    "h h",
    "h%41",
    "h\\a",
    "h/a",
    "256.0.0.1",
    "1.2.3.4.5",
    "a.1",
    "1.2.3.08",
    "\u2764.ws",
    "a_b.\u00e9",
    "\u00e9..b",
    "xn--\u00e9",
    "\u200d.example",
)

ADDRESSES = (
    ("::1", Host("::1")),
    ("2001:DB8::0:1", Host("2001:db8::1")),
    ("::ffff:192.0.2.1", Host("::ffff:c000:201")),
    ("fe80::1%25eth0", Host("fe80::1", "eth0")),
    ("fe80::1%eth0", Host("fe80::1", "eth0")),
    ("fe80::1%25br-0_a.100", Host("fe80::1", "br-0_a.100")),
    ("fe80::1%252", Host("fe80::1", "2")),
    ("::1%25lo", Host("::1", "lo")),
)

NO_ADDRESSES = (
    ("", "no name or address"),
    ("h", "no name or address"),
    ("v1.a", "no name or address"),
    ("127.0.0.1", "no name or address"),
    ("fe80::1", "zone"),
    ("FE80::1:2", "[fe80::1:2%25eth0]"),
    ("fe80::1%", "zone"),
    ("fe80::1%25", "zone"),
    ("fe80::1%25a%2Fb", "zone"),
    ("fe80::1%25a b", "zone"),
)

SOCKETS = (
    ("unix:/run/x.sock", "/run/x.sock"),
    ("unix:///run/x.sock", "/run/x.sock"),
    ("unix:/a b:c?d", "/a b:c?d"),
    ("http://h/", None),
    ("http://unix/", None),
    ("http://unix:80/a", None),
    ("unixh", None),
    ("", None),
)

GUESSES = (
    # what others write, what the error says is right
    ("http://unix:/run/x.sock", "--target unix:/run/x.sock"),
    ("http://unix:/run/x.sock:/", "--target unix:/run/x.sock"),
    (
        "http://unix:/run/x.sock:/uri/",
        "--target http://localhost/uri --upstream-socket /run/x.sock",
    ),
    (
        "https://unix:/run/x.sock",
        "--target https://localhost --upstream-socket /run/x.sock",
    ),
    ("unix//run/x.sock", "--target unix:/run/x.sock"),
    ("http+unix://%2Frun%2Fx.sock", "--target unix:/run/x.sock"),
    (
        "https+unix://%2frun%2fx.sock/a/b",
        "--target https://localhost/a/b --upstream-socket /run/x.sock",
    ),
    ("unix:x.sock", "--target unix:/run/app.sock"),
    ("unix:", "--target unix:/run/app.sock"),
    ("unix://run/x.sock", "--target unix:/run/app.sock"),
)


class NameTests(SynchronousTestCase):
    """Names, and addresses of four numbers."""

    def test_names(self) -> None:
        """A name is put into lower case; a final dot stays."""
        for text, name in NAMES:
            self.assertEqual(Host(name), parse_host(text, False), text)

    def test_international(self) -> None:
        """Other scripts become what IDNA 2008 says: the older one's is another owner's (RFC 5894).

        Upper case, full width and marks that stand alone are mapped as browsers do it (UTS 46).
        """
        for text, name in INTERNATIONAL:
            self.assertEqual(Host(name), parse_host(text, False), text)

    def test_numbers(self) -> None:
        """What ends in a number is an address, and said in the form that a certificate has."""
        for text, address in NUMBERS:
            self.assertEqual(Host(address), parse_host(text, False), text)

    def test_no_names(self) -> None:
        """What no resolver should be asked for is refused."""
        for text in NO_NAMES:
            self.assertIn("its host is no name", strict.complaint(parse_host, text, False), text)

    @given(st.text(max_size=12))
    def test_anything(self, text: str) -> None:
        """Whatever passes is ASCII in lower case, and stays as it is when it is read again."""
        try:
            host = parse_host(text, False)
        except ValueError:
            return
        self.assertTrue(host.text.isascii())
        self.assertEqual(host.text.lower(), host.text)
        self.assertEqual(host, parse_host(host.text, False))

    def test_costs_nothing_unless_asked_for(self) -> None:
        """The tables of other scripts are read only for a name that has some (invariant 8)."""
        code = (
            "import sys; from pyproxy.semantics.urls import parse_target as p;"
            "p('http://api.example.com./'); assert 'idna' not in sys.modules;"
            "p('http://stra\\u00dfe.example/'); assert 'idna' in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class AddressTests(SynchronousTestCase):
    """What stands in brackets."""

    def test_addresses(self) -> None:
        """An address gets its shortest form; its zone is told apart.  RFC 5952, RFC 6874 2, 3."""
        for text, host in ADDRESSES:
            self.assertEqual(host, parse_host(text, True), text)

    def test_no_addresses(self) -> None:
        """A link-local address has a zone, and a zone has a name."""
        for text, why in NO_ADDRESSES:
            self.assertIn(why, strict.complaint(parse_host, text, True), text)


class SocketTests(SynchronousTestCase):
    """Unix sockets."""

    def test_sockets(self) -> None:
        """``unix:`` and an absolute path, as it is; nothing else is a Unix socket."""
        for url, path in SOCKETS:
            self.assertEqual(path, socket_of(url), url)

    def test_guesses(self) -> None:
        """What users of nginx, Caddy and Python's clients write is told in our words."""
        for url, right in GUESSES:
            told = strict.complaint(socket_of, url)
            self.assertEqual(f"a Unix socket is written {right}", told, url)

    def test_no_error_repeats_a_secret(self) -> None:
        """A query or credentials in such a URL are not repeated."""
        for url in ("http://unix:/x:/a?key=sekret", "http+unix://sekret@x/", "unix:x?sekret"):
            self.assertNotIn("sekret", strict.complaint(parse_target, url), url)

    def test_paths(self) -> None:
        """A path is absolute, a file's, and no longer than the kernel takes it.  unix(7)."""
        longest = "/" + "a" * 106
        for path in ("/x", "/run/a b.sock", longest):
            self.assertEqual(path, parse_socket(path))
        for path, why in (
            ("", "absolute"),
            ("x.sock", "absolute"),
            ("/run/", "absolute"),
            ("/", "absolute"),
            ("/a\0b", "absolute"),
            (longest + "a", "107"),
            ("/" + "\u00e4" * 54, "107"),
        ):
            self.assertIn(why, strict.complaint(parse_socket, path), path)
