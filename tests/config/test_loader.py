"""From options to a Config, or to every error at once."""

from __future__ import annotations

import socket
from ipaddress import ip_network
from pathlib import Path

import attrs
import trustme
from twisted.internet.endpoints import serverFromString
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.loader import ConfigError, Loader
from pyproxy.config.schema import Config, Listen
from pyproxy.policy.routing import Limits
from pyproxy.semantics.forwarding import FieldRules
from pyproxy.semantics.urls import parse_target
from tests.configs import one_route

DEFAULTS: dict[str, object] = {
    "target": "http://127.0.0.1:9000/base/",
    "port": "0",
    "default-port": "0",
    "interface": "127.0.0.1",
    "default-interface": "127.0.0.1",
    "prefix": "/",
    "connect-timeout": "5",
    "first-byte-timeout": "300",
    "idle-timeout": "300",
    "upload-timeout": "60",
    "client-timeout": "75",
    "max-body": None,
    "ws-max-message": None,
    "ws-idle-timeout": None,
    "ws-ping": None,
    "upstream-ca": None,
    "upstream-socket": None,
    "workers": "1",
    "admin": None,
    "admin-token": None,
    "drain-timeout": "30",
    "drain-delay": "0",
    "metrics": 0,
    "preserve-host": 0,
    "upstream-insecure": 0,
    "demo": 0,
    "open": 0,
    "no-stream-hints": 0,
    "no-access-log": 0,
    "check": 0,
    "print-config": 0,
    "config": None,
    "listen": [],
    "header": [],
    "remove-header": [],
    "response-header": [],
    "remove-response-header": [],
    "trust-proxy": [],
    "allow-host": [],
    "allow-origin": [],
}


def check_endpoint(description: str) -> None:
    """Raise when an endpoint string cannot be used."""
    serverFromString(MemoryReactor(), description)


ENVIRONMENT = {"KEY": "sk-key", "BREAK": "sekret\r\nX: y"}


def load(**options: object) -> Config:
    """Return a configuration; ``_`` in an option's name stands for ``-``."""
    given = {name.replace("_", "-"): value for name, value in options.items()}
    return Loader({**DEFAULTS, **given}, ENVIRONMENT, check_endpoint).load()


def errors(**options: object) -> list[str]:
    """Return what is said about wrong options."""
    try:
        config = load(**options)
    except ConfigError as error:
        return error.errors
    raise AssertionError(f"accepted {options!r} as {config!r}")


def one_text(**options: object) -> str:
    """Return all that is said about wrong options as the one text that the operator sees."""
    return str(ConfigError(errors(**options)))


class LoaderTests(SynchronousTestCase):
    """Options become facts."""

    def test_defaults(self) -> None:
        """Without options a proxy listens on this machine only and adds nothing."""
        self.assertEqual(
            one_route(
                target=parse_target("http://127.0.0.1:9000/base/"),
                listen=(Listen(None, 0, "127.0.0.1"),),
            ),
            load(),
        )

    def test_everything(self) -> None:
        """Every option has its place in the configuration."""
        config = load(
            prefix="/defm/",
            interface="::1",
            connect_timeout="1",
            first_byte_timeout="2",
            idle_timeout="3",
            upload_timeout="4",
            client_timeout="5.5",
            max_body="64k",
            ws_max_message="1m",
            ws_idle_timeout="6",
            ws_ping="7.5",
            allow_host=["chat.example.com", "*.apps.example"],
            allow_origin=["https://app.example.com"],
            preserve_host=1,
            upstream_insecure=1,
            no_stream_hints=1,
            no_access_log=1,
            header=["Authorization: Bearer ${KEY}", "X-A: b"],
            remove_header=["Cookie", "X-B"],
            response_header=["X-C: d"],
            remove_response_header=["Server"],
            trust_proxy=["10.0.0.0/8", "unix", "::1"],
            admin="tcp:0",
            drain_timeout="0",
            drain_delay="2.5",
        )
        self.assertEqual(Listen("tcp:0:interface=127.0.0.1"), config.admin)
        self.assertEqual((0.0, 2.5), (config.drain_timeout, config.drain_delay))
        self.assertEqual(b"/defm", config.routes[0].match.path)
        self.assertEqual((Listen(None, 0, "::1"),), config.listen)
        self.assertEqual(
            Limits(1.0, 2.0, 3.0, 4.0, 65536, ws_idle=6.0, ws_ping=7.5, max_message=2**20),
            config.routes[0].limits,
        )
        self.assertEqual(5.5, config.client_limit)
        self.assertEqual(
            FieldRules(
                ((b"Authorization", b"Bearer sk-key"), (b"X-A", b"b")),
                frozenset({b"cookie", b"x-b"}),
            ),
            config.routes[0].request_rules,
        )
        self.assertEqual(
            FieldRules(((b"X-C", b"d"),), frozenset({b"server"})), config.routes[0].response_rules
        )
        self.assertIn(b"sk-key", config.secrets)
        self.assertEqual((ip_network("10.0.0.0/8"), ip_network("::1")), config.trusted)
        self.assertEqual((b"chat.example.com", b"*.apps.example"), config.routes[0].allowed_hosts)
        self.assertEqual(((b"https", b"app.example.com", 443),), config.routes[0].allowed_origins)
        self.assertTrue(
            config.trust_unix and config.routes[0].preserve_host and config.routes[0].insecure
        )
        self.assertFalse(config.routes[0].stream_hints or config.routes[0].access_log)

    def test_demo(self) -> None:
        """The demo needs no target."""
        self.assertIsNone(load(target=None, demo=1).routes[0].target)

    def test_demo_beside_a_board(self) -> None:
        """What the demo answers is watched where somebody can look at it."""
        for admin, demo, usage in ((None, 1, False), ("tcp:0", 1, True), ("tcp:0", 0, False)):
            target = None if demo else "http://example.com"
            config = load(target=target, demo=demo, admin=admin)
            self.assertIs(usage, config.routes[0].usage, (admin, demo))

    def test_authorities(self) -> None:
        """A PEM file of authorities replaces the system's."""
        path = Path(self.mktemp())
        trustme.CA().cert_pem.write_to_path(str(path))
        self.assertIsNotNone(load(upstream_ca=str(path)).routes[0].authorities)
        self.assertIsNone(load().routes[0].authorities)

    def test_unix_sockets(self) -> None:
        """A Unix socket takes the place of the target's address; all else the URL says."""
        plain = load(target="unix:/run/x.sock").routes[0].target
        self.assertEqual(parse_target("unix:/run/x.sock"), plain)
        target = load(target="https://api.test/v1", upstream_socket="/run/x.sock").routes[0].target
        assert target is not None
        self.assertEqual("/run/x.sock", target.origin.socket)
        named = parse_target("https://api.test/v1")
        self.assertEqual(
            named, attrs.evolve(target, origin=attrs.evolve(target.origin, socket=None))
        )

    def test_endpoints(self) -> None:
        """Endpoint strings replace port and interface."""
        texts = ["unix:/tmp/pyproxy.sock", "tcp:0:interface=127.0.0.1"]
        self.assertEqual((Listen(texts[0]), Listen(texts[1])), load(listen=texts).listen)

    def test_wrong_values(self) -> None:
        """An error names the option, the value, and what would be right."""
        for option, value, right in (
            ("target", "ftp://h/", "http://HOST"),
            ("port", "http", "0 to 65535"),
            ("interface", "localhost", "IP address"),
            ("prefix", "defm", "begin with `/`"),
            ("connect-timeout", "0", "greater than 0"),
            ("first-byte-timeout", "-1", "greater than 0"),
            ("idle-timeout", "inf", "greater than 0"),
            ("upload-timeout", "nan", "greater than 0"),
            ("client-timeout", "soon", "greater than 0"),
            ("max-body", "10x", "64k"),
            ("ws-max-message", "big", "64k"),
            ("ws-idle-timeout", "0", "greater than 0"),
            ("ws-ping", "-1", "greater than 0"),
            ("upstream-ca", "/does/not/exist", "cannot be read"),
            ("upstream-socket", "x.sock", "absolute path"),
            ("target", "http://unix:/run/x.sock", "--target unix:/run/x.sock"),
            ("remove-header", ["X A"], "field name"),
            ("remove-response-header", [""], "field name"),
            ("remove-header", ["Sec-WebSocket-Key"], "neither set nor removed"),
            ("remove-response-header", ["Sec-WebSocket-Protocol"], "neither set nor removed"),
            ("trust-proxy", ["everybody"], "CIDR"),
            ("admin", "9000", "tcp:9000 (on loopback)"),
            ("admin", "haproxy:tcp:9000", "tcp:9000 (on loopback)"),
            ("drain-timeout", "-1", "or 0 for not at all"),
            ("drain-delay", "soon", "or 0 for not at all"),
            ("listen", ["tcp"], "tcp:8000:interface=127.0.0.1"),
            ("listen", ["nonsense:1"], "Twisted endpoint"),
            ("listen", ["tcp:99999"], "0 to 65535"),
            ("listen", ["tcp:999999:interface=127.0.0.1"], "0 to 65535"),
        ):
            [error] = errors(**{option: value})
            shown = value[0] if isinstance(value, list) else value
            self.assertTrue(error.startswith(f"--{option} {shown}: "), error)
            self.assertIn(right, error)
            self.assertNotIn("\n", error)

    def test_every_error_at_once(self) -> None:
        """All that is wrong is told in one go; nothing starts half."""
        found = errors(
            target="h", prefix="x", max_body="x", idle_timeout="x", header=["x"], trust_proxy=["x"]
        )
        named = {error.split()[0].strip(":") for error in found}
        expected = {"target", "prefix", "max-body", "idle-timeout", "header", "trust-proxy"}
        self.assertEqual({f"--{option}" for option in expected}, named)

    def test_no_rule_for_the_opening_handshake(self) -> None:
        """No rule comes between the two ends of a WebSocket.  RFC 6455 4.

        What the client offers may be changed, since the upstream chooses from what it gets.
        """
        offers = ["Sec-WebSocket-Extensions", "sec-websocket-protocol"]
        for setting, removing, refused in (
            ("header", "remove-header", []),
            ("response-header", "remove-response-header", offers),
        ):
            always = ["Sec-WebSocket-Key", "Sec-WebSocket-Version", "SEC-websocket-ACCEPT"]
            for name in [*always, *refused]:
                error = one_text(**{setting: [f"{name}: sekret"]})
                self.assertTrue(error.startswith(f"--{setting}: {name} can be neither"), error)
                self.assertNotIn("sekret", error)
                error = one_text(**{removing: [name]})
                self.assertTrue(error.startswith(f"--{removing} {name}: "), error)
        rules = (
            load(header=["Sec-WebSocket-Protocol: a"], remove_header=offers[:1])
            .routes[0]
            .request_rules
        )
        self.assertEqual(((b"Sec-WebSocket-Protocol", b"a"),), rules.set)
        self.assertEqual({b"sec-websocket-extensions"}, rules.remove)

    def test_admin(self) -> None:
        """An endpoint of the admin site is tried as any other, with its interface."""
        for endpoint, right in (
            ("tcp:99999", "0 to 65535"),
            ("tcp:0:backlog=x", "Twisted endpoint"),
            ("tcp:0:interface=192.0.2.1", "cannot listen there"),
        ):
            [error] = errors(admin=endpoint)
            self.assertTrue(error.startswith(f"--admin {endpoint}"), error)
            self.assertIn(right, error)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            [error] = errors(admin=f"tcp:{port}")
            self.assertIn("choose another", error)
            # Who runs already may be the one that has it.
            running = {**DEFAULTS, "admin": f"tcp:{port}"}
            config = Loader(running, ENVIRONMENT, check_endpoint, False).load()
        self.assertEqual(Listen(f"tcp:{port}:interface=127.0.0.1"), config.admin)

    def test_files(self) -> None:
        """Every file that was read is known, relative to a directory, by its absolute path."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        for name in ("key", "told"):
            (directory / name).write_text("sk-of-the-file\n")
        trustme.CA().cert_pem.write_to_path(str(directory / "ca.pem"))
        options = {
            **DEFAULTS,
            "upstream-ca": "ca.pem",
            "header": ["X-Key: @key", "X-Other: ${KEY}"],
            "response-header": [f"X-Told: @{directory}/told"],
        }
        config = Loader(options, ENVIRONMENT, check_endpoint, True, directory).load()
        self.assertEqual({directory / name for name in ("key", "told", "ca.pem")}, config.files)
        self.assertEqual(frozenset(), load().files)

    def test_missing_target(self) -> None:
        """Without a target the error says how to name one, or how to do without."""
        [error] = errors(target=None)
        self.assertEqual(error, one_text(target=None))
        self.assertIn("--target", error)
        self.assertIn("--demo", error)

    def test_contradictions(self) -> None:
        """Of two options that exclude each other neither is silently dropped."""
        [error] = errors(demo=1)
        self.assertIn("--demo", error)
        path = Path(self.mktemp())
        trustme.CA().cert_pem.write_to_path(str(path))
        [error] = errors(upstream_ca=str(path), upstream_insecure=1)
        self.assertIn("--upstream-insecure", error)
        [error] = errors(listen=["unix:/tmp/pyproxy.sock"], port="8001")
        self.assertTrue(error.startswith("--port 8001: "))
        [error] = errors(listen=["unix:/tmp/pyproxy.sock"], interface="::1")
        self.assertTrue(error.startswith("--interface ::1: "))
        [error] = errors(target="unix:/run/x.sock", upstream_socket="/run/y.sock")
        self.assertTrue(error.startswith("--upstream-socket /run/y.sock: --target names"), error)
        [error] = errors(target=None, demo=1, upstream_socket="/run/y.sock")
        self.assertTrue(error.startswith("--upstream-socket /run/y.sock: --demo"), error)

    def test_contradiction_in_the_demo(self) -> None:
        """Options that exclude each other do so in front of the demo as well."""
        path = Path(self.mktemp())
        trustme.CA().cert_pem.write_to_path(str(path))
        errors(target=None, demo=1, upstream_ca=str(path), upstream_insecure=1)

    def test_no_certificate(self) -> None:
        """A file without a certificate is told apart from one that cannot be read."""
        path = Path(self.mktemp())
        path.write_text("nothing")
        [error] = errors(upstream_ca=str(path))
        self.assertIn("no PEM certificate", error)

    def test_taken_port(self) -> None:
        """A port that is taken is told before anything starts."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            [error] = errors(port=port)
        self.assertTrue(error.startswith(f"--port {port}: "), error)
        self.assertIn("choose another", error)

    def test_foreign_interface(self) -> None:
        """An address that this machine does not have is the interface's error."""
        [error] = errors(interface="192.0.2.1")
        self.assertTrue(error.startswith("--interface 192.0.2.1: "), error)


class SecretTests(SynchronousTestCase):
    """A proxy that holds a key guards it."""

    def test_no_error_repeats_a_field(self) -> None:
        """What stands in --header is not repeated, whatever is wrong with it."""
        for option in ("header", "response-header"):
            for text in (
                "sekret",
                "Authorization sekret",
                "X: sekret\r\nY: z",
                "Connection: sekret",
            ):
                error = one_text(**{option: [text]})
                self.assertTrue(error.startswith(f"--{option}: "), error)
                self.assertNotIn("sekret", error)

    def test_no_error_repeats_a_variable(self) -> None:
        """What a variable holds is not repeated."""
        error = one_text(header=["Authorization: Bearer ${BREAK}"])
        self.assertNotIn("sekret", error)

    def test_no_error_repeats_credentials_of_the_target(self) -> None:
        """A password or key that was put into --target is not repeated."""
        for url in (
            "http://u:sekret@h/",
            "http://sekret@h",
            "http://h/?key=sekret",
            "http://u:sekret",
        ):
            self.assertNotIn("sekret", one_text(target=url), url)

    def test_no_error_repeats_a_whole_field_to_remove(self) -> None:
        """Who gives a whole field where its name is due does not see its value again."""
        for option in ("remove-header", "remove-response-header"):
            self.assertNotIn("sekret", one_text(**{option: ["Authorization: Bearer sekret"]}))

    def test_open_proxy(self) -> None:
        """With an injected secret nobody listens beyond this machine by accident."""
        header = ["Authorization: Bearer sekret"]
        for options in (
            {"interface": "0.0.0.0"},
            {"interface": ""},
            {"interface": "::"},
            {"listen": ["tcp:0"]},
            {"listen": ["unix:/tmp/pyproxy.sock", "tcp:0:interface=0.0.0.0"]},
        ):
            error = one_text(header=header, **options)
            self.assertIn("--open", error)
            self.assertNotIn("sekret", error)
            self.assertTrue(load(header=header, open=1, **options).secrets)
            self.assertFalse(load(header=["X-A: b"], **options).secrets)

    def test_this_machine_only(self) -> None:
        """On this machine alone a proxy with a secret needs no word more."""
        header = ["X-Api-Key: sekret"]
        for options in (
            {"interface": "127.0.0.1"},
            {"interface": "::1"},
            {"listen": ["unix:/tmp/pyproxy.sock"]},
            {"listen": ["tcp:0:interface=127.0.0.1"]},
        ):
            self.assertIn(b"sekret", load(header=header, **options).secrets)
