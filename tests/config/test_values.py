"""From the text of one value to a fact."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.kinds import Sources
from pyproxy.config.values import (
    MAX_VALUE_FILE_BYTES,
    is_loopback,
    listens_on_loopback,
    parse_admin,
    parse_admin_token,
    parse_allowed_host,
    parse_allowed_origin,
    parse_field,
    parse_interface,
    parse_name,
    parse_network,
    parse_port,
    parse_seconds,
    parse_size,
    parse_wait,
    read_pem,
    spare_handshake,
)
from pyproxy.observe.masking import Mask
from pyproxy.semantics.fields import Field
from tests.semantics.strict import complaint

ENVIRONMENT = {
    "KEY": "sk-key",
    "EMPTY": "",
    "SPACED": "a b",
    "BREAK": "sekret\r\nX: y",
    "LATIN": "\udcff",
}


class NumberTests(SynchronousTestCase):
    """Ports, seconds and sizes."""

    def test_ports(self) -> None:
        """A port is a number of 16 bits."""
        for text, port in (("0", 0), ("8000", 8000), ("65535", 65535), ("080", 80)):
            self.assertEqual(port, parse_port(text))
        for text in (
            "",
            "65536",
            "-1",
            "+1",
            "1.5",
            "0x50",
            " 80",
            "http",
            "\u0663",
            "\u00b2",
            "9" * 99,
        ):
            self.assertIn("0 to 65535", complaint(parse_port, text), text)

    def test_seconds(self) -> None:
        """A time limit is a finite number of seconds greater than 0."""
        for text, seconds in (("5", 5.0), ("0.25", 0.25), ("1e3", 1000.0), (".5", 0.5)):
            self.assertEqual(seconds, parse_seconds(text))
        for text in (
            "",
            "0",
            "-1",
            "-0",
            "nan",
            "inf",
            "-inf",
            "1e999",
            "1e99",
            "1000000001",
            "5s",
            "0x5",
            "5,5",
            "five",
        ):
            self.assertIn("greater than 0", complaint(parse_seconds, text), text)

    def test_waits(self) -> None:
        """A wait is a finite number of seconds; 0 is none."""
        for text, seconds in (("0", 0.0), ("0.0", 0.0), ("30", 30.0), (".5", 0.5), ("1e3", 1000.0)):
            self.assertEqual(seconds, parse_wait(text))
        for text in ("", "-1", "-0", "nan", "inf", "1e99", "1000000001", "5s", "0x5", "none"):
            self.assertIn("or 0 for not at all", complaint(parse_wait, text), text)

    def test_admin(self) -> None:
        """The admin site is on loopback unless its endpoint names an interface."""
        for text, description in (
            ("tcp:9000", "tcp:9000:interface=127.0.0.1"),
            ("tcp:port=9000", "tcp:9000:interface=127.0.0.1"),
            ("tcp:9000:backlog=5", "tcp:9000:backlog=5:interface=127.0.0.1"),
            ("tcp6:9000", "tcp6:9000:interface=\\:\\:1"),
            ("ssl:9000:privateKey=k", "ssl:9000:privateKey=k:interface=127.0.0.1"),
            ("tcp:9000:interface=0.0.0.0", "tcp:9000:interface=0.0.0.0"),
            ("tcp:9000:interface=", "tcp:9000:interface="),
            ("tcp6:port=9000:interface=\\:\\:", "tcp6:9000:interface=\\:\\:"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("unix:/run/interface=a", "unix:/run/interface=a"),
            # What only looks like an interface is none.
            (
                "ssl:9000:privateKey=/etc/interface=eth0/k.pem",
                "ssl:9000:privateKey=/etc/interface=eth0/k.pem:interface=127.0.0.1",
            ),
        ):
            self.assertEqual(description, parse_admin(text))
            self.assertEqual(description, parse_admin(description))
        for text in ("", "9000", "tcp", "tcp:", "unix:", "unix::", "haproxy:tcp:9000", "stdio:"):
            self.assertIn("tcp:9000 (on loopback)", complaint(parse_admin, text), text)

    def test_admin_is_guarded(self) -> None:
        """Without a word more nobody else reaches it."""
        for text in ("tcp:9000", "tcp6:9000", "ssl:9000:privateKey=k", "unix:/run/a.sock"):
            self.assertTrue(listens_on_loopback(parse_admin(text)), text)
        self.assertFalse(listens_on_loopback(parse_admin("tcp:9000:interface=0.0.0.0")))

    def test_admin_token(self) -> None:
        """The token is named and not written out; nobody guesses it, and no field breaks at it."""
        path = Path(self.mktemp())
        path.write_text("0123456789abcdef\n")
        sources = Sources(path.parent, {"T": "x" * 16, "SHORT": "x" * 15, "ODD": "x" * 16 + ";"})
        self.assertEqual(b"0123456789abcdef", parse_admin_token(f"@{path.name}", sources))
        self.assertEqual(b"x" * 16, parse_admin_token("${T}", sources))
        for text in ("0123456789abcdef", "", "x${T}", "${SHORT}", "${ODD}", "${NONE}", "@nothing"):
            with self.assertRaises(ValueError) as raised:
                parse_admin_token(text, sources)
            self.assertNotIn("0123456789abcdef", str(raised.exception))

    def test_sizes(self) -> None:
        """A size is octets, or a number with a unit that is a power of 1024."""
        for text, size in (
            ("0", 0),
            ("1000", 1000),
            ("10b", 10),
            ("64k", 65536),
            ("64K", 65536),
            ("64kb", 65536),
            ("64KiB", 65536),
            (" 10 MiB ", 10 * 1024**2),
            ("2g", 2 * 1024**3),
            ("1T", 1024**4),
        ):
            self.assertEqual(size, parse_size(text), text)
        for text in ("", "k", "-1", "+1", "1.5m", "0x10", "10 x", "10kbb", "10ib", "1 0", "1,000"):
            self.assertIn("number of bytes", complaint(parse_size, text), text)


class AllowedTests(SynchronousTestCase):
    """Hosts by which the proxy may be asked, and origins of pages that may use it."""

    def test_hosts(self) -> None:
        """A name, an address, a suffix, everything; in the form in which they are compared."""
        for text, name in (
            ("chat.example.com", b"chat.example.com"),
            ("CHAT.Example.com.", b"chat.example.com"),
            ("*.example.com", b"*.example.com"),
            ("10.1.2.3", b"10.1.2.3"),
            ("[2001:DB8::0:1]", b"2001:db8::1"),
            ("2001:db8::1", b"2001:db8::1"),
            ("any", b"any"),
        ):
            self.assertEqual(name, parse_allowed_host(text), text)
        for text in (
            "",
            "*",
            "*.",
            "*.*.example",
            "a.*.example",
            "https://a.example",
            "a.example:8000",
            "[::1]:80",
            "a/b",
            "a b",
            "stra\u00dfe.example",
            "\udcff",
        ):
            self.assertIn("without a port", complaint(parse_allowed_host, text), text)

    def test_origins(self) -> None:
        """Scheme, host and port as a browser writes them."""
        for text, origin in (
            ("https://app.example.com", (b"https", b"app.example.com", 443)),
            ("HTTP://App.example.com:3000", (b"http", b"app.example.com", 3000)),
            ("https://*.example.com", (b"https", b"*.example.com", 443)),
            ("tauri://localhost", (b"tauri", b"localhost", None)),
        ):
            self.assertEqual(origin, tuple(parse_allowed_origin(text)), text)
        for text in (
            "",
            "null",
            "*",
            "any",
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com.",
            "https://app.example.com/path",
            "https://*",
            "https://*.",
            "https://a*.example",
            "https://user@a.example",
            "https://\u00e4.example",
        ):
            self.assertIn("SCHEME://HOST", complaint(parse_allowed_origin, text), text)


class AddressTests(SynchronousTestCase):
    """Interfaces and networks."""

    def test_interfaces(self) -> None:
        """An interface is an IP address, or nothing for all of them."""
        for text in ("", "127.0.0.1", "::", "::1", "0.0.0.0"):
            self.assertEqual(text, parse_interface(text))
        for text in ("localhost", "127.0.0.1:80", "127.1", "*", "eth0", "300.0.0.1"):
            self.assertIn("IP address", complaint(parse_interface, text), text)

    def test_networks(self) -> None:
        """A network is an address or a CIDR block; bits of a host in it do no harm."""
        for text, network in (
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.0.0.1", "10.0.0.1/32"),
            ("fd00::/8", "fd00::/8"),
            ("::1", "::1/128"),
        ):
            self.assertEqual(ip_network(network), parse_network(text), text)
        for text in ("", "10.0.0.0/33", "localhost", "10.0.0", "any", "10.0.0.0/-1"):
            self.assertIn("CIDR", complaint(parse_network, text), text)

    def test_loopback(self) -> None:
        """Only addresses of this machine alone are loopback; all interfaces are not."""
        for text in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
            self.assertTrue(is_loopback(text), text)
        for text in ("", "0.0.0.0", "::", "10.0.0.1", "192.0.2.1", "localhost", "\udcff"):
            self.assertFalse(is_loopback(text), text)

    def test_loopback_endpoints(self) -> None:
        """An endpoint that does not say where it listens, listens everywhere."""
        for text in (
            "unix:/run/pyproxy.sock",
            "tcp:8000:interface=127.0.0.1",
            "tcp:port=8000:interface=127.0.0.1:backlog=5",
            "tcp6:8000:interface=\\:\\:1",
            "ssl:443:interface=127.0.0.1:privateKey=k",
        ):
            self.assertTrue(listens_on_loopback(text), text)
        for text in (
            "",
            "tcp:8000",
            "tcp:8000:interface=",
            "tcp:8000:interface=0.0.0.0",
            "tcp6:8000:interface=\\:\\:",
            "tcp6:8000:interface=::1",
            "tcp:8000:interface=localhost",
            "tcp:8000:xinterface=127.0.0.1",
            "systemd:domain=INET:index=0",
        ):
            self.assertFalse(listens_on_loopback(text), text)

    def test_loopback_is_not_faked(self) -> None:
        """Of an argument that is given twice Twisted takes the last."""
        text = "tcp:8000:interface=127.0.0.1:interface=0.0.0.0"
        self.assertFalse(listens_on_loopback(text))


class FieldTests(SynchronousTestCase):
    """Fields that the operator sets."""

    def parsed(self, text: str) -> tuple[Field, list[bytes]]:
        """Return a field and its secrets."""
        return parse_field(text, Sources(Path(), ENVIRONMENT))

    def test_plain(self) -> None:
        """A name, a colon, a value; white space around the value is none of it.  RFC 9112 5."""
        for text, field in (
            ("X-A: b", (b"X-A", b"b")),
            ("X-A:b", (b"X-A", b"b")),
            ("X-A:  b: c ", (b"X-A", b"b: c")),
            ("X-A:", (b"X-A", b"")),
            ("X-A: \u00e4", (b"X-A", "\u00e4".encode())),
            ("Host: h:80", (b"Host", b"h:80")),
        ):
            self.assertEqual((field, []), self.parsed(text), text)

    def test_wrong(self) -> None:
        """A text that cannot become a field is told in a sentence that says what would be right."""
        for text, why in (
            ("", "Name: value"),
            ("X-A", "Name: value"),
            (": b", "Name: value"),
            ("X A: b", "Name: value"),
            ("X\u00e4: b", "Name: value"),
            ("X-A: a\r\nB: c", "line end"),
            ("X-A: a\0", "control"),
            ("Host: a b", "Host"),
            ("Host: http://h", "Host"),
            ("Host:", "Host"),
        ):
            self.assertIn(why, complaint(parse_field, text, Sources(Path(), ENVIRONMENT)), text)

    def test_odd_texts(self) -> None:
        """What the machine could not even try is told in words of ours, not of Python's."""
        self.assertIn(
            "Name: value", complaint(parse_field, "X\udcff: a", Sources(Path(), ENVIRONMENT))
        )
        self.assertIn(
            "cannot be read", complaint(parse_field, "X-A: @\0", Sources(Path(), ENVIRONMENT))
        )
        self.assertIn("field name", complaint(parse_name, "\udcff"))
        self.assertIn("number of bytes", complaint(parse_size, "9" * 5000))
        self.assertIn("0 to 65535", complaint(parse_port, "9" * 5000))

    def test_fields_of_a_connection(self) -> None:
        """Fields that frame a message or belong to one hop cannot be set.  RFC 9110 7.6.1."""
        for name in (
            "Connection",
            "content-length",
            "Transfer-Encoding",
            "TE",
            "Upgrade",
            "Trailer",
        ):
            self.assertIn(name, complaint(parse_field, f"{name}: x", Sources(Path(), ENVIRONMENT)))

    def test_variables(self) -> None:
        """``${NAME}`` is the environment's value, and a secret."""
        for text, value, secrets in (
            ("X-A: ${KEY}", b"sk-key", [b"sk-key"]),
            ("X-A: a ${KEY} ${SPACED}!", b"a sk-key a b!", [b"sk-key", b"a b"]),
            ("X-A: ${LATIN}", b"\xff", [b"\xff"]),
            ("X-A: $KEY $ {KEY} ${KEY", b"$KEY $ {KEY} ${KEY", []),
        ):
            self.assertEqual(((b"X-A", value), secrets), self.parsed(text), text)

    def test_escaped_variables(self) -> None:
        """``$${`` stands for ``${``."""
        for text, value in (
            ("X-A: $${KEY}", b"${KEY}"),
            ("X-A: $${KEY} ${KEY}", b"${KEY} sk-key"),
            ("X-A: $${KEY", b"${KEY"),
            ("X-A: $${", b"${"),
        ):
            self.assertEqual((b"X-A", value), self.parsed(text)[0], text)

    def test_missing_variables(self) -> None:
        """A variable that is not set, or empty, is an error at the start that names it."""
        for text, why in (
            ("X-A: ${MISSING}", "MISSING is not set"),
            ("X-A: ${EMPTY}", "EMPTY is empty"),
            ("X-A: ${}", "name of an environment variable"),
        ):
            self.assertIn(why, complaint(parse_field, text, Sources(Path(), ENVIRONMENT)), text)

    def test_value_of_a_variable_is_not_expanded(self) -> None:
        """What a variable holds is taken as it is: neither a file's name nor another variable."""
        environment = {"A": "@/etc/passwd", "B": "${A}"}
        self.assertEqual(
            b"@/etc/passwd", parse_field("X: ${A}", Sources(Path(), environment))[0][1]
        )
        self.assertEqual(b"${A}", parse_field("X: ${B}", Sources(Path(), environment))[0][1])

    def test_no_error_repeats_a_secret(self) -> None:
        """The text of an error never holds a value: a secret may have been written out."""
        for text in (
            "sekret",
            "Authorization sekret",
            "Authorization: sekret\r\nX: y",
            "Authorization: ${BREAK}",
            "Connection: sekret",
            "Host: sekret/",
        ):
            self.assertNotIn(
                "sekret", complaint(parse_field, text, Sources(Path(), ENVIRONMENT)), text
            )

    def test_no_error_repeats_a_secret_in_braces(self) -> None:
        """What cannot be a variable's name is a key that was put into the braces."""
        self.assertNotIn(
            "sk-live", complaint(parse_field, "X-A: ${sk-live-1}", Sources(Path(), ENVIRONMENT))
        )

    def test_written_out_credentials(self) -> None:
        """The value of a field for credentials is a secret also where it was written out."""
        for text in (
            "Authorization: Bearer sekret",
            "authorization: sekret",
            "X-Api-Key: sekret",
            "api-key: sekret",
            "x-goog-api-key: sekret",
        ):
            secrets = self.parsed(text)[1]
            self.assertIn(b"sekret", secrets, text)
            self.assertNotIn(b"Bearer", secrets)
        self.assertEqual([], self.parsed("X-Other: sekret")[1])

    def test_empty_credentials(self) -> None:
        """A credential that is none is an error: a shell has expanded an unset variable."""
        for text in ("Authorization:", "Authorization: Bearer ", "X-Api-Key:", "Cookie: "):
            self.assertIn(
                "no credential", complaint(parse_field, text, Sources(Path(), ENVIRONMENT)), text
            )

    def test_every_part_of_a_credential(self) -> None:
        """Of several cookies or parameters each is a secret.  RFC 6265 4.2, RFC 9110 11.4."""
        for text in (
            "Cookie: a=sekret; theme=dark",
            'Authorization: Digest response="sekret", qop=auth',
        ):
            (_, value), secrets = self.parsed(text)
            self.assertNotIn(b"sekret", Mask.of(secrets).apply(value), text)


class FileTests(SynchronousTestCase):
    """Values that stand in files."""

    def write(self, octets: bytes) -> Path:
        """Return a file with some octets."""
        path = Path(self.mktemp())
        path.write_bytes(octets)
        return path

    def test_read(self) -> None:
        """``@file`` is what the file holds, without its line end, and a secret."""
        for octets in (b"sk-key", b"sk-key\n", b"sk-key\r\n", b"sk-key\n\n"):
            path = self.write(octets)
            for text in (f"X-A: @{path}", f"X-A:@{path}"):
                self.assertEqual(
                    ((b"X-A", b"sk-key"), [b"sk-key"]), parse_field(text, Sources(Path(), {}))
                )
        path = self.write(b"${KEY} @x \xff")
        self.assertEqual(
            b"${KEY} @x \xff", parse_field(f"X-A: @{path}", Sources(Path(), ENVIRONMENT))[0][1]
        )

    def test_wrong(self) -> None:
        """A file that cannot be used is named, its content is not."""
        for octets, why in (
            (b"", "is empty"),
            (b"\r\n", "is empty"),
            (b"x" * (MAX_VALUE_FILE_BYTES + 1), "bytes"),
        ):
            path = self.write(octets)
            text = complaint(parse_field, f"X-A: @{path}", Sources(Path(), {}))
            self.assertIn(why, text)
            self.assertIn(str(path), text)
        for octets in (b"sekret\nX: y", b"sekret\0", b" sekret "):
            self.assertNotIn(
                "sekret", complaint(parse_field, f"X-A: @{self.write(octets)}", Sources(Path(), {}))
            )

    def test_largest(self) -> None:
        """A file of MAX_VALUE_FILE_BYTES can be used."""
        path = self.write(b"x" * MAX_VALUE_FILE_BYTES)
        self.assertEqual(
            MAX_VALUE_FILE_BYTES, len(parse_field(f"X-A: @{path}", Sources(Path(), {}))[0][1])
        )

    def test_unreadable(self) -> None:
        """A missing file, or a directory, is an error at the start."""
        missing = Path(self.mktemp())
        text = complaint(parse_field, f"X-A: @{missing}", Sources(Path(), {}))
        self.assertIn(f"{missing} cannot be read (No such file", text)
        self.assertIn("cannot be read", complaint(parse_field, "X-A: @/", Sources(Path(), {})))
        self.assertIn("cannot be read", complaint(parse_field, "X-A: @", Sources(Path(), {})))

    def test_certificates(self) -> None:
        """A file of certificates is read whole, or told in a sentence."""
        self.assertEqual(b"pem\n", read_pem(self.write(b"pem\n")))
        self.assertIn("cannot be read (No such file", complaint(read_pem, Path(self.mktemp())))


class NameTests(SynchronousTestCase):
    """Names of fields to remove."""

    def test_names(self) -> None:
        """A name is a token; it is compared in lower case.  RFC 9110 5.1."""
        self.assertEqual(b"x-a", parse_name("X-A"))
        for text in ("", "X A", "X-A:", "X-A: b", "\u00e4"):
            self.assertIn("field name", complaint(parse_name, text), text)

    def test_framing_stays(self) -> None:
        """A field that frames a message cannot be removed: content would stand there without it.

        RFC 9112 6.3: the next request would begin in the middle of this one's content.
        """
        for text in ("Content-Length", "Transfer-Encoding"):
            complaint(parse_name, text)

    def test_opening_handshake_stays(self) -> None:
        """What proves a WebSocket stays in both directions, and in responses what was chosen.

        RFC 6455 4.1, 4.2.2: a client fails the connection over a choice that it did not offer.
        """
        proofs = (b"Sec-WebSocket-Key", b"sec-websocket-version", b"SEC-WEBSOCKET-ACCEPT")
        choices = (b"Sec-WebSocket-Protocol", b"sec-websocket-extensions", b"Sec-WebSocket-X")
        others = (b"Origin", b"Cookie", b"Sec-WebSocket", b"X-Sec-WebSocket-Key", b"Upgrade")
        for name in proofs:
            for of_responses in (False, True):
                why = complaint(spare_handshake, name, of_responses)
                self.assertTrue(why.startswith(f"{name.decode()} can be neither set"), why)
        for name in choices:
            spare_handshake(name, False)
            self.assertIn(name.decode(), complaint(spare_handshake, name, True))
        for name in others:
            spare_handshake(name, False)
            spare_handshake(name, True)
