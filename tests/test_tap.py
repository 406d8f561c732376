"""The command line: every option, good and bad."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from io import StringIO
from ipaddress import ip_network
from pathlib import Path
from typing import cast
from unittest import TestCase

import attrs
import trustme
from twisted.application.service import IService, MultiService
from twisted.plugin import getPlugins
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pyproxy import __version__
from pyproxy.config.endpoints import name_inherited
from pyproxy.config.loader import ConfigError
from pyproxy.config.schema import Config
from pyproxy.config.values import MAX_VALUE_FILE_BYTES, usable_cpus
from pyproxy.life.service import LifeService
from pyproxy.service import ProxyService
from pyproxy.tap import Options, makeService

TARGET = ("--target", "http://127.0.0.1:1")
SECRET = "sk-do-not-show-0123456789"


def configure(*arguments: str, port: str = "0") -> Config:
    """Return what a command line says; its port is a free one."""
    options = Options()
    listens = any(each.startswith(("--listen", "--port")) for each in arguments)
    options.parseOptions([*([] if listens else [f"--port={port}"]), *arguments])
    return options.config


class OptionsTestCase(SynchronousTestCase):
    """A case with files and environment variables."""

    def setUp(self) -> None:
        """Make a directory for files."""
        temporary = tempfile.TemporaryDirectory(prefix="options-")
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)

    def file(self, content: bytes, name: str = "file") -> str:
        """Write a file; return its path."""
        path = self.directory / name
        path.write_bytes(content)
        return str(path)

    def set_variable(self, name: str, value: str) -> None:
        """Set an environment variable for this test."""
        self.patch(os, "environ", {**os.environ, name: value})

    def refuse(self, *arguments: str) -> str:
        """Return the text of the usage error that a command line is; never with the secret."""
        error = self.assertRaises(usage.UsageError, configure, *arguments)
        text = str(error)
        self.assertNotIn(SECRET, text)
        return text


class GoodValuesTests(OptionsTestCase):
    """What an option becomes."""

    def test_defaults(self) -> None:
        """A target is enough; everything else has the documented default."""
        options = Options()
        self.assertEqual("8000", options["port"])
        config = configure(*TARGET)
        (listen,) = config.listen
        limits = config.routes[0].limits
        self.assertEqual(("127.0.0.1", True), (listen.interface, listen.loopback))
        self.assertEqual(
            (5.0, 300.0, 300.0, 60.0, None, 75.0),
            (
                *(limits.connect, limits.first_byte, limits.idle, limits.upload),
                *(limits.max_content, config.client_limit),
            ),
        )
        self.assertEqual((None,) * 3, (limits.max_message, limits.ws_idle, limits.ws_ping))
        self.assertEqual((b"", ()), (config.routes[0].match.path, config.secrets))
        self.assertEqual((), config.trusted)
        self.assertFalse(
            config.routes[0].preserve_host or config.routes[0].insecure or config.trust_unix
        )
        self.assertIsNone(config.routes[0].authorities)

    def test_target(self) -> None:
        """Http and https, with and without port and base path."""
        for url, port, base in (
            ("http://h", 80, b""),
            ("https://h", 443, b""),
            ("https://api.example.com/v1/", 443, b"/v1/"),
            ("http://[::1]:81/a%2Fb", 81, b"/a%2Fb"),
            ("http://[fe80::1%25eth0]", 80, b""),
            ("http://stra\u00dfe.example", 80, b""),
            ("unix:/run/x.sock", 80, b""),
        ):
            target = configure("--target", url).routes[0].target
            assert target is not None
            self.assertEqual((port, base), (target.origin.port, target.base))

    def test_limits(self) -> None:
        """Seconds may have fractions; sizes may have units."""
        config = configure(
            *TARGET,
            *("--connect-timeout", "0.5", "--first-byte-timeout", "1", "--idle-timeout=2"),
            *("--upload-timeout", "3", "--client-timeout", "4", "--max-body", "10m"),
        )
        limits = config.routes[0].limits
        self.assertEqual(
            (0.5, 1.0, 2.0, 3.0), (limits.connect, limits.first_byte, limits.idle, limits.upload)
        )
        self.assertEqual((4.0, 10 * 1024 * 1024), (config.client_limit, limits.max_content))

    def test_limits_of_websockets(self) -> None:
        """Those of WebSockets are read as the others are."""
        limits = (
            configure(
                *TARGET, "--ws-max-message=16MiB", "--ws-idle-timeout", "600", "--ws-ping", "0.5"
            )
            .routes[0]
            .limits
        )
        self.assertEqual(
            (16 * 1024 * 1024, 600.0, 0.5), (limits.max_message, limits.ws_idle, limits.ws_ping)
        )

    def test_sizes(self) -> None:
        """Units are powers of 1024."""
        self.assertEqual(0, configure(*TARGET, "--max-body", "0").routes[0].limits.max_content)
        for text, size in (
            ("1000", 1000),
            ("64k", 65536),
            ("1GiB", 2**30),
            ("2kb", 2048),
        ):
            self.assertEqual(
                size, configure(*TARGET, "--max-body", text).routes[0].limits.max_content
            )
            limits = configure(*TARGET, "--ws-max-message", text).routes[0].limits
            self.assertEqual(size, limits.max_message)

    def test_fields(self) -> None:
        """Fields to set and to remove, both ways, in order."""
        config = configure(
            *TARGET,
            *("--header", "X-A: 1", "--header", "X-B:2", "--remove-header", "X-C"),
            *("--response-header", "X-D:  4 ", "--remove-response-header", "Server"),
        )
        self.assertEqual(((b"X-A", b"1"), (b"X-B", b"2")), config.routes[0].request_rules.set)
        self.assertEqual(frozenset({b"x-c"}), config.routes[0].request_rules.remove)
        self.assertEqual(((b"X-D", b"4"),), config.routes[0].response_rules.set)
        self.assertEqual(frozenset({b"server"}), config.routes[0].response_rules.remove)

    def test_secrets(self) -> None:
        """``${VARIABLE}`` and ``@FILE`` expand here, and what they give counts as secret."""
        self.set_variable("THE_KEY", SECRET)
        path = self.file(f"{SECRET}-file\n".encode())
        config = configure(
            *TARGET, "--header", "Authorization: Bearer ${THE_KEY}", "--header", f"X-Key: @{path}"
        )
        self.assertEqual(
            (
                (b"Authorization", b"Bearer " + SECRET.encode()),
                (b"X-Key", SECRET.encode() + b"-file"),
            ),
            config.routes[0].request_rules.set,
        )
        self.assertIn(SECRET.encode(), config.secrets)
        self.assertIn(SECRET.encode() + b"-file", config.secrets)

    def test_dollar_is_kept(self) -> None:
        """``$${`` stands for ``${``, and a dollar alone for itself."""
        config = configure(*TARGET, "--header", "X-A: $${HOME} $5")
        self.assertEqual(((b"X-A", b"${HOME} $5"),), config.routes[0].request_rules.set)

    def test_trusted(self) -> None:
        """Addresses, blocks and Unix sockets."""
        config = configure(
            *TARGET, *("--trust-proxy", "10.0.0.0/8", "--trust-proxy", "::1", "--trust-proxy=unix")
        )
        self.assertEqual((ip_network("10.0.0.0/8"), ip_network("::1/128")), config.trusted)
        self.assertTrue(config.trust_unix)

    def test_listen(self) -> None:
        """Endpoints take the place of port and interface, each of them."""
        listens = ["tcp:0:interface=127.0.0.1", f"unix:{self.directory}/proxy.sock"]
        config = configure(*TARGET, *(f"--listen={each}" for each in listens))
        self.assertEqual(listens, [listen.description for listen in config.listen])

    def test_prefix(self) -> None:
        """A prefix has no slash at its end."""
        for text, prefix in (("/", b""), ("/defm", b"/defm"), ("/a/b/", b"/a/b")):
            self.assertEqual(prefix, configure(*TARGET, "--prefix", text).routes[0].match.path)

    def test_flags(self) -> None:
        """The flags are on when they are given."""
        config = configure(*TARGET, "--preserve-host", "--upstream-insecure", "--no-access-log")
        self.assertTrue(config.routes[0].preserve_host and config.routes[0].insecure)
        self.assertFalse(config.routes[0].access_log)

    def test_authorities(self) -> None:
        """A PEM file of authorities is read at start."""
        path = self.directory / "ca.pem"
        trustme.CA().cert_pem.write_to_path(path)
        self.assertIsNotNone(configure(*TARGET, "--upstream-ca", str(path)).routes[0].authorities)

    def test_demo(self) -> None:
        """``--demo`` needs no target."""
        self.assertIsNone(configure("--demo").routes[0].target)

    def test_workers(self) -> None:
        """One process unless more are asked for; ``auto`` is one for each usable CPU."""
        self.assertEqual(1, configure(*TARGET).workers)
        self.assertEqual(4, configure(*TARGET, "--workers", "4").workers)
        self.assertEqual(usable_cpus(), configure(*TARGET, "--workers=auto").workers)

    def test_short_options(self) -> None:
        """-t, -p and -i."""
        config = configure("-t", "http://h/b", "-p", "0", "-i", "127.0.0.2", port="1")
        assert config.routes[0].target is not None
        self.assertEqual("http://h/b", config.routes[0].target.url)
        self.assertEqual(("127.0.0.2", 0), (config.listen[0].interface, config.listen[0].port))


class BadValuesTests(OptionsTestCase):
    """Each bad value is a usage error that names option, value and what would be right."""

    TABLE = (
        ("--target", "api.example.com", "it has to be http://HOST"),
        ("--target", "ftp://h/", "it has to be http://HOST"),
        ("--target", "http://", "it has to be http://HOST"),
        ("--target", "http://h:99999", "it is no URL"),
        ("--target", "http://h:0", "between 1 and 65535"),
        ("--target", "http://h/a/../../b", "does not climb"),
        ("--target", "http://h/a b", "percent-encoded"),
        ("--port", "http", "a number from 0 to 65535"),
        ("--port", "65536", "a number from 0 to 65535"),
        ("--port", "-1", "a number from 0 to 65535"),
        ("--interface", "localhost", "an IP address"),
        ("--interface", "203.0.113.7", "no such address"),
        ("--prefix", "defm", "begin with `/`"),
        ("--prefix", "/a?b", "without a query"),
        ("--prefix", "/a/../..", "climb"),
        ("--connect-timeout", "0", "greater than 0"),
        ("--first-byte-timeout", "-1", "greater than 0"),
        ("--idle-timeout", "nan", "greater than 0"),
        ("--upload-timeout", "inf", "greater than 0"),
        ("--client-timeout", "1 minute", "a number of seconds"),
        ("--max-body", "lots", "a number of bytes"),
        ("--max-body", "-5", "a number of bytes"),
        ("--max-body", "1.5m", "a number of bytes"),
        ("--ws-max-message", "1.5m", "a number of bytes"),
        ("--ws-max-message", "-1", "a number of bytes"),
        ("--ws-max-message", "0", "leave it out for no bound"),
        ("--ws-idle-timeout", "0", "greater than 0"),
        ("--ws-idle-timeout", "10 minutes", "a number of seconds"),
        ("--ws-ping", "0", "greater than 0"),
        ("--ws-ping", "inf", "greater than 0"),
        ("--upstream-ca", "/nonexistent.pem", "cannot be read"),
        ("--upstream-socket", "x.sock", "absolute path of a Unix socket"),
        ("--target", "http://unix:/run/x.sock", "is written --target unix:/run/x.sock"),
        ("--workers", "0", "a number from 1 to 256, or `auto`"),
        ("--workers", "257", "a number from 1 to 256"),
        ("--workers", "two", "a number from 1 to 256"),
        ("--workers", "1.5", "a number from 1 to 256"),
        ("--trust-proxy", "10.0.0.0/33", "CIDR block"),
        ("--trust-proxy", "proxy.example", "CIDR block"),
        ("--remove-header", "a b", "a field name"),
        ("--remove-response-header", "", "a field name"),
        ("--remove-header", "Sec-WebSocket-Version", "neither set nor removed"),
        ("--remove-response-header", "sec-websocket-extensions", "neither set nor removed"),
    )

    def test_table(self) -> None:
        """Every option of one value."""
        for option, value, right in self.TABLE:
            first = () if option == "--target" else TARGET
            text = self.refuse(*first, f"{option}={value}")
            self.assertTrue(text.startswith(f"{option} {value}: "), text)
            self.assertIn(right, text)

    def test_fields(self) -> None:
        """A bad field is told without its value, in which a secret may stand."""
        self.set_variable("EMPTY", "")
        for option in ("--header", "--response-header"):
            for value, right in (
                (SECRET, "it has to be 'Name: value'"),
                (f"Bad Name: {SECRET}", "it has to be 'Name: value'"),
                (f": {SECRET}", "it has to be 'Name: value'"),
                (f"X-A: {SECRET}\r\nX-B: 1", "the value of X-A holds a line end"),
                (f"X-A: {SECRET}\0", "the value of X-A holds a line end"),
                ("X-A: ${NOT_SET_HERE}", "the environment variable NOT_SET_HERE is not set"),
                ("X-A: ${EMPTY}", "the environment variable EMPTY is empty"),
                ("X-A: @/nonexistent", "the file /nonexistent cannot be read"),
                ("Connection: close", "Connection belongs to one connection"),
                ("Content-Length: 1", "Content-Length belongs to one connection"),
                ("Transfer-Encoding: x", "Transfer-Encoding belongs to one connection"),
                ("Host: a b", "the value of Host has to be a host"),
                (f"Sec-WebSocket-Key: {SECRET}", "Sec-WebSocket-Key can be neither set"),
            ):
                text = self.refuse(*TARGET, option, value)
                self.assertTrue(text.startswith(f"{option}: "), text)
                self.assertIn(right, text)

    def test_files(self) -> None:
        """A file whose content cannot be a field's value."""
        for content, right in (
            (b"", "is empty"),
            (b"\r\n", "is empty"),
            (f"{SECRET}\nmore".encode(), "a line end"),
            (bytes(MAX_VALUE_FILE_BYTES + 1), "has more than 65536 bytes"),
        ):
            text = self.refuse(*TARGET, "--header", f"X-A: @{self.file(content)}")
            self.assertIn(right, text)

    def test_secret_in_environment(self) -> None:
        """A variable that cannot be a field's value is not shown either."""
        self.set_variable("THE_KEY", f"{SECRET}\nX-B: 1")
        self.assertIn("a line end", self.refuse(*TARGET, "--header", "X-A: ${THE_KEY}"))

    def test_credentials_in_target(self) -> None:
        """A password in the target's URL is refused, and not repeated."""
        text = self.refuse("--target", f"http://user:{SECRET}@h/")
        self.assertIn("--target", text)
        self.assertIn("credentials do not belong in it", text)

    def test_key_in_target(self) -> None:
        """A key in the query of the target is refused, and not repeated."""
        text = self.refuse("--target", f"http://h/?key={SECRET}")
        self.assertIn("a query or fragment", text)

    def test_authorities(self) -> None:
        """A file that holds no certificate, or a broken one."""
        broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        for content, right in ((b"hello", "no PEM certificate"), (broken, "cannot be read")):
            path = self.file(content)
            text = self.refuse(*TARGET, "--upstream-ca", path)
            self.assertIn(f"--upstream-ca {path}: ", text)
            self.assertIn(right, text)

    def test_listen(self) -> None:
        """An endpoint that is none, with examples of right ones."""
        for value in ("", "8000x", "nonsense:1", "tcp:port", "unix"):
            text = self.refuse(*TARGET, f"--listen={value}")
            self.assertIn(f"--listen {value}: it has to be a Twisted endpoint such as tcp:", text)

    def test_listen_of_systemd(self) -> None:
        """A socket that systemd brings has to be there at the start, and not for ``--check``."""
        for which in ("index=0", "name=pyproxy.socket"):
            words = (*TARGET, f"--listen=systemd:domain=INET:{which}")
            self.assertIn("systemd has passed no such socket", self.refuse(*words))
            self.assertEqual(0, self.assertRaises(SystemExit, configure, *words, "--check").code)
        self.patch(sys, "stderr", StringIO())
        words = (*TARGET, "--listen=systemd:domain=INET")
        self.assertEqual(1, self.assertRaises(SystemExit, configure, *words, "--check").code)

    def test_inherited_names(self) -> None:
        """Sockets that were handed over without names get some, and nothing else changes."""
        for given, names in (
            ({"LISTEN_FDS": "2"}, "unknown:unknown"),
            ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}, "web"),
            ({"LISTEN_FDS": "0"}, None),
            ({"LISTEN_FDS": "99999"}, None),
            ({"LISTEN_FDS": "two"}, None),
            ({}, None),
        ):
            environment: dict[str, str] = {**given}
            name_inherited(environment)
            self.assertEqual(names, environment.pop("LISTEN_FDNAMES", None))
            given.pop("LISTEN_FDNAMES", None)
            self.assertEqual(given, environment)

    def test_listen_shared(self) -> None:
        """What several workers cannot share is refused; one process may have it."""
        for value in ("stdio:", "haproxy:stdio:"):
            text = self.refuse(*TARGET, f"--listen={value}", "--workers=2")
            self.assertIn(f"--listen {value}: several workers cannot share it; use tcp:", text)
            self.assertEqual(1, len(configure(*TARGET, f"--listen={value}").listen))
        self.assertEqual(2, configure(*TARGET, "--listen=unix:stdio", "--workers=2").workers)

    def test_listen_and_port(self) -> None:
        """An endpoint says it all: port and interface beside it would be ignored."""
        for option, value in (("--port", "81"), ("--interface", "127.0.0.2")):
            text = self.refuse(*TARGET, "--listen=tcp:0:interface=127.0.0.1", f"{option}={value}")
            self.assertIn(f"{option} {value}: --listen says it all", text)

    def test_taken_port(self) -> None:
        """A port in use is told before anything starts."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            text = self.refuse(*TARGET, "--port", port)
        self.assertIn(f"--port {port}: cannot listen there (Address already in use)", text)

    def test_contradictions(self) -> None:
        """Options that exclude each other."""
        text = self.refuse(*TARGET, "--demo")
        self.assertIn(f"--target {TARGET[1]}: --demo brings its own target", text)
        pem = self.directory / "ca.pem"
        trustme.CA().cert_pem.write_to_path(pem)
        text = self.refuse(*TARGET, "--upstream-insecure", "--upstream-ca", str(pem))
        self.assertIn(f"--upstream-ca {pem}: --upstream-insecure trusts everybody", text)

    def test_no_target(self) -> None:
        """A target is needed, and there is an example of one."""
        text = self.refuse()
        self.assertIn("--target is missing", text)
        self.assertIn("https://", text)

    def test_several(self) -> None:
        """Everything that is wrong is told at once, a line each."""
        text = self.refuse(
            *("--target", "ftp://h", "--port", "x", "--max-body", "y", "--header", SECRET)
        )
        named = [re.split("[: ]", line)[0] for line in text.splitlines()]
        self.assertEqual(sorted(["--target", "--port", "--max-body", "--header"]), sorted(named))

    def test_arguments(self) -> None:
        """What is no option is refused, with a hint at --target."""
        self.assertIn("--target", self.refuse("http://h"))

    def test_unknown_option(self) -> None:
        """An option that does not exist."""
        self.assertIn("--tarpit", self.refuse(*TARGET, "--tarpit"))


class OpenGuardTests(OptionsTestCase):
    """A proxy that holds a key does not listen beyond loopback by accident (FIELD 17)."""

    KEY = ("--header", f"Authorization: Bearer {SECRET}")

    def test_guarded(self) -> None:
        """Every interface beyond loopback is refused, whichever way it is named."""
        for where in (
            ["--interface="],
            ["--interface=0.0.0.0"],
            ["--interface=::"],
            ["--listen=tcp:0"],
            ["--listen=tcp:0:interface=0.0.0.0"],
            ["--listen=tcp:0:interface=127.0.0.1", "--listen=tcp:0"],
            ["--listen=tcp6:0:interface=\\:\\:"],
        ):
            text = self.refuse(*TARGET, *self.KEY, *where)
            self.assertIn("--open", text)
            self.assertIn("127.0.0.1", text)

    def test_loopback(self) -> None:
        """Loopback and Unix sockets need no further word."""
        for where in (
            "--interface=127.0.0.1",
            "--interface=::1",
            "--listen=tcp:0:interface=127.0.0.1",
            "--listen=tcp6:0:interface=\\:\\:1",
            f"--listen=unix:{self.directory}/s",
        ):
            self.assertEqual((SECRET.encode(),), configure(*TARGET, *self.KEY, where).secrets)

    def test_open(self) -> None:
        """``--open`` says that it is meant."""
        self.assertTrue(configure(*TARGET, *self.KEY, "--interface=", "--open").secrets)

    def test_without_a_key(self) -> None:
        """A proxy without a key may listen anywhere."""
        config = configure(*TARGET, "--interface=", "--header", "X-Powered-By: pyproxy")
        self.assertFalse(config.listen[0].loopback)


class AgainTests(OptionsTestCase):
    """What a reload reads: the same options, and what they name as it is now."""

    ROUTE = '[[routes]]\nanswer = { text = "fine" }\n'

    def setUp(self) -> None:
        """Stay in this directory."""
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())

    def parse(self, *arguments: str) -> Options:
        """Return options as twistd makes them."""
        options = Options()
        options.parseOptions(list(arguments))
        return options

    def listeners(self, *endpoints: str) -> str:
        """Return a file's listeners."""
        return "".join(f"[[listeners]]\nendpoint = '{endpoint}'\n" for endpoint in endpoints)

    def write(self, text: str) -> str:
        """Write the configuration's file; return its path."""
        return self.file(text.encode(), "pyproxy.toml")

    def test_file(self) -> None:
        """The file is read anew; all that is wrong with it is told."""
        plain = self.listeners("tcp:0:interface=127.0.0.1")
        options = self.parse("--config", self.write(plain + self.ROUTE))
        self.write(plain + "drain_timeout = 7\n" + self.ROUTE)
        # (A key of the whole cannot stand behind a table.)
        error = self.assertRaises(ConfigError, options.load_again, options.config)
        self.assertIn("drain_timeout", str(error))
        self.write("drain_timeout = 7\n" + plain + self.ROUTE)
        loaded = options.load_again(options.config)
        self.assertEqual(7.0, loaded.config.drain_timeout)
        self.assertEqual(30.0, options.config.drain_timeout)

    def test_options_alone(self) -> None:
        """With options alone too, what they name is read anew."""
        ca = self.directory / "ca.pem"
        trustme.CA().cert_pem.write_to_path(str(ca))
        key = self.file(SECRET.encode())
        options = self.parse(
            *TARGET, "--port=0", "--header", f"X-Key: @{key}", "--upstream-ca", str(ca)
        )
        trustme.CA().cert_pem.write_to_path(str(ca))
        self.file(b"another")
        self.assertEqual(frozenset({ca, Path(key)}), options.config.files)
        config = options.load_again(options.config).config
        self.assertEqual({b"another"}, set(config.secrets))
        self.assertEqual(ca.read_bytes(), config.routes[0].authorities)
        self.assertNotEqual(options.config.routes[0].authorities, config.routes[0].authorities)
        Path(key).unlink()
        error = self.assertRaises(ConfigError, options.load_again, options.config)
        self.assertIn(key, str(error))

    def test_elsewhere(self) -> None:
        """The same files are read where twistd has gone to another directory (--rundir)."""
        os.chdir(self.directory)
        plain = self.listeners("tcp:0:interface=127.0.0.1")
        self.write(plain + self.ROUTE)
        self.file(SECRET.encode(), "key")
        by_file = self.parse("--config", "pyproxy.toml")
        alone = self.parse(*TARGET, "--port=0", "--header", "X-Key: @key")
        os.chdir("/")
        self.write("drain_timeout = 7\n" + plain + self.ROUTE)
        self.file(b"another", "key")
        self.assertEqual(7.0, by_file.load_again(by_file.config).config.drain_timeout)
        config = alone.load_again(alone.config).config
        self.assertEqual({b"another"}, set(config.secrets))
        self.assertEqual(alone.config.files, config.files)
        self.assertEqual({self.directory / "key"}, config.files)

    def test_held_ports(self) -> None:
        """A port that this process has is not tried."""
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
        places = self.listeners(f"tcp:{port}:interface=127.0.0.1")
        file = f"admin = 'tcp:{port}:interface=127.0.0.1'\n{places}{self.ROUTE}"
        by_file = self.parse("--config", self.write(file))
        alone = self.parse(*TARGET, f"--port={port}")
        beside = self.parse("--config", self.write(file), f"--port={port}")
        with socket.create_server(("127.0.0.1", port)):
            for options in (by_file, alone, beside):
                config = options.load_again(options.config).config
                self.assertEqual(options.config, config)

    def test_held_keys(self) -> None:
        """A key that cannot be read any more is no error at places that are open; at others it is.

        It may have been the privileged user's alone.
        """
        key = self.directory / "key.pem"
        leaf = trustme.CA().issue_cert("localhost")
        leaf.private_key_and_cert_chain_pem.write_to_path(str(key))
        open_places = [f"ssl:0:interface=127.0.0.1:privateKey={key}" for _ in range(2)]
        admin = f"ssl:0:privateKey={key}:interface=127.0.0.1"
        text = f"admin = '{admin}'\n{self.listeners(open_places[0])}{self.ROUTE}"
        options = self.parse("--config", self.write(text))
        key.unlink()
        self.assertEqual(options.config, options.load_again(options.config).config)
        more = f"ssl:0:interface=127.0.0.2:privateKey={key}"
        self.write(text.replace("[[routes]]", self.listeners(more) + "[[routes]]"))
        error = self.assertRaises(ConfigError, options.load_again, options.config)
        (line,) = str(error).splitlines()
        self.assertIn("127.0.0.2", line)

    def test_printed(self) -> None:
        """Where there is an admin site it shows what is in use, though the file names none now."""
        plain = self.listeners("tcp:0:interface=127.0.0.1") + self.ROUTE
        options = self.parse("--config", self.write(f"admin = 'tcp:0'\n{plain}"))
        config = options.config
        shown = options.loaded(config, True).printed(config)
        self.assertIn("fine", shown)
        self.assertIn("admin", shown)
        self.assertEqual(shown, options.load_again(config).printed(config))
        self.write(f"workers = 3\n{plain}")
        again = options.load_again(config)
        self.assertEqual((None, 3), (again.config.admin, again.config.workers))
        kept = attrs.evolve(again.config, admin=config.admin, workers=1)
        self.assertEqual(shown, again.printed(kept))

    def test_printed_listeners(self) -> None:
        """Listeners that stand beside the file take the place of its own, as they do in use."""
        file = self.write(self.listeners("tcp:0:interface=127.0.0.1") + self.ROUTE)
        options = self.parse("--config", file, "--listen=tcp:0:interface=127.0.0.2")
        shown = options.loaded(options.config, True).printed(options.config)
        self.assertIn("127.0.0.2", shown)
        self.assertNotIn("127.0.0.1", shown)

    def test_nothing_printed(self) -> None:
        """Where nobody can ask nothing is printed."""
        options = self.parse(*TARGET, "--port=0")
        config = options.config
        self.assertEqual("", options.loaded(config, False).printed(config))
        self.assertEqual("", options.load_again(config).printed(config))

    def test_printed_without_secrets(self) -> None:
        """No secret is shown."""
        options = self.parse(
            *TARGET, "--port=0", "--admin=tcp:0", "--header", f"Authorization: Bearer {SECRET}"
        )
        shown = options.loaded(options.config, True).printed(options.config)
        self.assertIn("Authorization", shown)
        self.assertNotIn(SECRET, shown)

    def test_watch(self) -> None:
        """--watch goes beside --config, and with options alone; it is off otherwise."""
        file = self.write(self.listeners("tcp:0:interface=127.0.0.1") + self.ROUTE)
        for arguments in (("--config", file), (*TARGET, "--port=0")):
            for watch in ((), ("--watch",)):
                service = cast(MultiService, makeService(self.parse(*arguments, *watch)))
                (life,) = (one for one in service.services if isinstance(one, LifeService))
                self.assertEqual(bool(watch), life._watch is not None)


class PluginTests(TestCase):
    """What twistd sees."""

    def test_plugin(self) -> None:
        """The plugin is found and named, and its service is the proxy."""
        from twisted.application.service import IServiceMaker

        (plugin,) = [each for each in getPlugins(IServiceMaker) if each.tapname == "pyproxy"]
        self.assertTrue(verifyObject(IServiceMaker, plugin))
        self.assertIs(plugin.options, Options)

    def test_service(self) -> None:
        """Options become a service that is not started yet."""
        options = Options()
        options.parseOptions([*TARGET, "--port=0"])
        service = makeService(options)
        self.assertTrue(verifyObject(IService, service))
        kinds = [type(each) for each in cast(MultiService, service).services]
        self.assertEqual([LifeService, ProxyService], kinds)
        self.assertFalse(service.running)

    def test_workers(self) -> None:
        """With one process nothing of the workers is imported; with more nothing of the proxy."""
        script = (
            "import sys; from pyproxy.tap import Options, makeService; o = Options();"
            "o.parseOptions(sys.argv[1:]); makeService(o);"
            "print(*sorted(m for m in sys.modules if m in ('pyproxy.workers', 'pyproxy.proxy')))"
        )
        for count, imported in (("1", "pyproxy.proxy"), ("2", "pyproxy.workers")):
            arguments = [*TARGET, "--port=0", f"--workers={count}"]
            ended = subprocess.run(
                [sys.executable, "-c", script, *arguments],
                capture_output=True,
                text=True,
                check=True,
                cwd=Path(__file__).parents[1],
            )
            self.assertEqual(imported, ended.stdout.strip())

    def test_what_only_some_need(self) -> None:
        """A start for plain HTTP imports neither WebSockets nor a client's TLS: 100 ms of 400.

        And a command line nothing that reads a file, caches or puts something into streams.
        """
        script = (
            "import sys; from pyproxy.tap import Options, makeService; o = Options();"
            "o.parseOptions(sys.argv[1:]); makeService(o).privilegedStartService();"
            "print(*({'autobahn', 'pyproxy.relay.ends', 'pyproxy.semantics.frames',"
            " 'pyproxy.upstream.trust', 'tomllib', 'pyproxy.config.file', 'pyproxy.config.tables',"
            " 'pyproxy.config.walker', 'pyproxy.cache.caching', 'pyproxy.insertion',"
            " 'pyproxy.relay.inserting', 'pyproxy.semantics.sse'} & set(sys.modules)))"
        )
        ended = subprocess.run(
            [sys.executable, "-c", script, *TARGET, "--port=0"],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[1],
        )
        self.assertEqual("", ended.stdout.strip())

    def test_version(self) -> None:
        """``--version`` shows the version of the proxy, not Twisted's."""
        shown = subprocess.run(
            [sys.executable, "-m", "twisted", "--version"], capture_output=True, check=False
        )
        ended = subprocess.run(
            [sys.executable, "-c", "from pyproxy.tap import Options; Options().opt_version()"],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[1],
        )
        self.assertEqual(f"pyproxy {__version__}\n", ended.stdout)
        self.assertNotEqual(shown.stdout, ended.stdout.encode())

    def test_help(self) -> None:
        """``--help`` names every option."""
        text = str(Options())
        for option in (
            *("target", "port", "interface", "listen", "prefix", "header", "remove-header"),
            *("response-header", "remove-response-header", "preserve-host", "trust-proxy"),
            *("connect-timeout", "first-byte-timeout", "idle-timeout", "upload-timeout"),
            *("client-timeout", "max-body", "upstream-ca", "upstream-insecure", "demo"),
            "upstream-socket",
            *("ws-max-message", "ws-idle-timeout", "ws-ping"),
            *("version", "open", "workers", "config", "check", "print-config"),
            *("admin", "metrics", "drain-timeout", "drain-delay", "watch"),
        ):
            self.assertIn(f"--{option}", text)
