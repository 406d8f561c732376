"""From a file to a configuration, or to all that is wrong with it at once."""

from __future__ import annotations

import socket
from pathlib import Path

import attrs
import trustme
from twisted.internet.endpoints import serverFromString
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.file import MAX_FILE_BYTES, MOST_PROBLEMS, load_file
from pyproxy.config.loader import ConfigError
from pyproxy.config.schema import Config, Listen
from pyproxy.policy.instead import FixedAnswer, Redirection
from pyproxy.policy.matching import Condition, Match
from pyproxy.policy.routing import Limits

ENVIRONMENT = {"KEY": "sk-secret-of-the-operator", "CREDENTIALS_DIRECTORY": "credentials"}

LISTENER = '[[listeners]]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
UPSTREAM = '[upstreams.a]\ntarget = "https://api.example.com/v1"\n'
ROUTE = '[[routes]]\nupstream = "a"\n'
SMALL = LISTENER + UPSTREAM + ROUTE


def check_endpoint(description: str) -> None:
    """Raise when an endpoint string cannot be used."""
    serverFromString(MemoryReactor(), description)


class FileTestCase(SynchronousTestCase):
    """A case with a file."""

    def setUp(self) -> None:
        """Name the file."""
        self.path = Path(self.mktemp())
        self.path.mkdir()
        self.path /= "pyproxy.toml"

    def load(self, text: str) -> Config:
        """Return the configuration in a text."""
        self.path.write_text(text)
        return load_file(self.path, ENVIRONMENT, check_endpoint)

    def errors(self, text: str) -> list[str]:
        """Return what is said of a text, without the file's name."""
        error = self.assertRaises(ConfigError, self.load, text)
        return [one.removeprefix(f"{self.path}:") for one in error.errors]


class LoadTests(FileTestCase):
    """What a file says becomes facts."""

    def test_final_slash(self) -> None:
        """It counts in an exact path, the root among them, and in no prefix."""
        for path, exact, expected in (
            ("/", "true", b"/"),
            ("/a/", "true", b"/a/"),
            ("/a", "true", b"/a"),
            ("/a/", "false", b"/a"),
            ("/", "false", b""),
        ):
            text = f'[[routes]]\npath = "{path}"\nexact = {exact}\nupstream = "a"\n'
            (route,) = self.load(UPSTREAM + text + LISTENER).routes
            self.assertEqual(expected, route.match.path, path)
        text = '[[routes]]\nexact = true\nupstream = "a"\n'
        (route,) = self.load(UPSTREAM + text + LISTENER).routes
        self.assertEqual(b"/", route.match.path)

    def test_files_are_known(self) -> None:
        """Every file that was read is known, by its absolute path: what they say may change."""
        directory = self.path.parent.absolute()
        for name in ("upstream", "route", "defaults", "told", "unused"):
            (directory / name).write_text("sk-key\n")
        (directory / "credentials").mkdir()
        (directory / "credentials" / "openai").write_text("of-systemd\n")
        trustme.CA().cert_pem.write_to_path(str(directory / "ca.pem"))
        config = self.load(
            LISTENER
            + UPSTREAM
            + """
            upstream_ca = "ca.pem"
            set_headers = { X-A = "@upstream", X-B = "@${CREDENTIALS_DIRECTORY}/openai" }
            [defaults]
            set_headers = { X-C = "@defaults" }
            [[routes]]
            upstream = "a"
            set_headers = { X-D = ["@route", "no file"] }
            set_response_headers = { X-E = "@told" }
            """
        )
        names = ("pyproxy.toml", "ca.pem", "upstream", "credentials/openai", "defaults", "route")
        self.assertEqual({directory / name for name in (*names, "told")}, config.files)

    def test_files_make_no_difference(self) -> None:
        """Where a configuration was read does not tell it from another."""
        (self.path.parent / "key").write_text("${KEY}")
        text = LISTENER + UPSTREAM + "set_headers = { X-A = %s }\n" + ROUTE
        one = self.load(text % '"@key"')
        other = self.load(text % '"$${KEY}"')
        self.assertNotEqual(one.files, other.files)
        self.assertEqual(one.routes[0].request_rules.set, other.routes[0].request_rules.set)
        self.assertEqual(attrs.evolve(one, files=frozenset()), one)

    def test_small(self) -> None:
        """A target and a route; everything else has the defaults of the command line."""
        config = self.load(UPSTREAM + ROUTE + LISTENER)
        (route,) = config.routes
        assert route.target is not None
        self.assertEqual("https://api.example.com/v1", route.target.url)
        self.assertEqual((Match(), Limits()), (route.match, route.limits))
        self.assertEqual((Listen("tcp:0:interface=127.0.0.1"),), config.listen)
        self.assertEqual((75.0, 1), (config.client_limit, config.workers))
        self.assertEqual(
            (None, 30.0, 0.0), (config.admin, config.drain_timeout, config.drain_delay)
        )
        self.assertFalse(config.unready_on_failed_reload)
        self.assertTrue(route.stream_hints and route.access_log)

    def test_routes(self) -> None:
        """Host, path, method and fields; base path, redirect and answer in an upstream's place."""
        config = self.load(
            LISTENER
            + UPSTREAM
            + """
            [[routes]]
            host = "*.Example.com"
            path = "/openai/"
            methods = ["POST"]
            fields = { Upgrade = "WebSocket", X-Version = "*" }
            upstream = "a"
            base = "/v2/"
            [[routes]]
            path = "/old"
            redirect = { to = "https://new.example.com", status = 302, keep_path = true }
            [[routes]]
            path = "/health"
            exact = true
            answer = { status = 503, text = "closed\\n", headers = { Retry-After = "60" } }
            """
        )
        proxied, redirected, answered = config.routes
        self.assertEqual(
            Match(
                b"*.example.com",
                b"/openai",
                False,
                frozenset({b"POST"}),
                (Condition(b"upgrade", b"websocket"), Condition(b"x-version", b"*")),
            ),
            proxied.match,
        )
        assert proxied.target is not None
        self.assertEqual(b"/v2/", proxied.target.base)
        self.assertEqual(Redirection(b"https://new.example.com", 302, True), redirected.instead)
        self.assertEqual(Match(path=b"/health", exact=True), answered.match)
        fields = ((b"Content-Type", b"text/plain; charset=utf-8"), (b"Retry-After", b"60"))
        self.assertEqual(FixedAnswer(503, fields, b"closed\n"), answered.instead)

    def test_defaults(self) -> None:
        """A route's own word counts before that of [defaults]; fields join the upstream's."""
        config = self.load(
            LISTENER
            + """
            [upstreams.a]
            target = "http://h"
            connect_timeout = 1
            set_headers = { Authorization = "Bearer ${KEY}", X-A = "upstream" }
            remove_headers = ["Cookie"]
            [defaults]
            idle_timeout = 2
            first_byte_timeout = 3
            max_body = "1m"
            set_headers = { X-A = "defaults" }
            access_log = false
            [[routes]]
            upstream = "a"
            [[routes]]
            path = "/own"
            upstream = "a"
            idle_timeout = 4
            access_log = true
            set_headers = { X-A = "route", X-B = ["1", "2"] }
            remove_headers = ["X-C"]
            """
        )
        plain, own = config.routes
        self.assertEqual(Limits(1.0, 3.0, 2.0, max_content=2**20), plain.limits)
        self.assertEqual(Limits(1.0, 3.0, 4.0, max_content=2**20), own.limits)
        self.assertEqual((False, True), (plain.access_log, own.access_log))
        key = (b"Authorization", b"Bearer sk-secret-of-the-operator")
        self.assertEqual((key, (b"X-A", b"defaults")), plain.request_rules.set)
        self.assertEqual(
            (key, (b"X-A", b"route"), (b"X-B", b"1"), (b"X-B", b"2")), own.request_rules.set
        )
        self.assertEqual({b"cookie", b"x-c"}, own.request_rules.remove)
        self.assertIn(b"sk-secret-of-the-operator", config.secrets)

    def test_files(self) -> None:
        """Names of files are relative to the configuration; systemd's credentials have a place."""
        directory = self.path.parent
        (directory / "key").write_text("Bearer of-the-file\n")
        (directory / "credentials").mkdir()
        (directory / "credentials" / "openai").write_text("of-systemd\n")
        trustme.CA().cert_pem.write_to_path(str(directory / "ca.pem"))
        config = self.load(
            LISTENER
            + """
            [upstreams.a]
            target = "https://h"
            upstream_ca = "ca.pem"
            [upstreams.a.set_headers]
            Authorization = "@key"
            X-Api-Key = "@${CREDENTIALS_DIRECTORY}/openai"
            [[routes]]
            upstream = "a"
            """
        )
        (route,) = config.routes
        values = dict(route.request_rules.set)
        self.assertEqual(b"Bearer of-the-file", values[b"Authorization"])
        self.assertEqual(b"of-systemd", values[b"X-Api-Key"])
        self.assertIn(b"BEGIN CERTIFICATE", route.authorities or b"")

    def test_whole(self) -> None:
        """What concerns all routes."""
        config = self.load(
            """
            workers = 2
            client_timeout = 5.5
            admin = "tcp:0"
            metrics = true
            drain_timeout = 0
            drain_delay = 2.5
            unready_on_failed_reload = true
            trust_proxy = ["10.0.0.0/8", "unix"]
            open = true
            [[listeners]]
            endpoint = "tcp:0"
            [[listeners]]
            endpoint = "unix:/run/pyproxy.sock"
            [upstreams.demo]
            demo = true
            set_headers = { Authorization = "${KEY}" }
            [[routes]]
            upstream = "demo"
            """
        )
        self.assertEqual((2, 5.5, True), (config.workers, config.client_limit, config.trust_unix))
        self.assertEqual(Listen("tcp:0:interface=127.0.0.1"), config.admin)
        self.assertTrue(config.metrics)
        self.assertEqual((0.0, 2.5), (config.drain_timeout, config.drain_delay))
        self.assertTrue(config.unready_on_failed_reload)
        self.assertEqual(1, len(config.trusted))
        self.assertEqual(2, len(config.listen))
        self.assertTrue(config.routes[0].needs_demo)

    def test_socket(self) -> None:
        """An upstream at a Unix socket."""
        socket = 'upstream_socket = "/run/app.sock"\n'
        (route,) = self.load(LISTENER + UPSTREAM + socket + ROUTE).routes
        assert route.target is not None
        self.assertEqual("/run/app.sock", route.target.origin.socket)


class WrongTests(FileTestCase):
    """All errors at once, each with line, key, value and what would be right."""

    def test_all_at_once(self) -> None:
        """Eight mistakes are eight lines: those of single values and those of the whole."""
        errors = self.errors(
            """workers = 0
[[listeners]]
endpoint = "tcp:eighty"
[upstreams.openai]
target = "ftp://x"
conect_timeout = 5
set_headers = { Authorization = "Bearer ${NOPE}" }
[[routes]]
path = "openai"
max_body = "10 parsecs"
access_log = "yes"
upstream = "openai"
"""
        )
        for line, words in (
            (1, ("workers = 0: ", "a number from 1 to 256")),
            (3, ("listeners[0].endpoint = tcp:eighty: ", "a Twisted endpoint such as")),
            (5, ("upstreams.openai.target: ", "https://HOST")),
            (6, ("upstreams.openai.conect_timeout: ", "did you mean connect_timeout?")),
            (7, ("upstreams.openai.set_headers.Authorization: ", "NOPE is not set")),
            (9, ("routes[0].path = openai: ", "begin with `/`")),
            (10, ("routes[0].max_body = 10 parsecs: ", "number of bytes")),
            (11, ("routes[0].access_log = yes: ", "true or false")),
        ):
            (found,) = [error for error in errors if error.startswith(f"{line}: ")]
            for word in words:
                self.assertIn(word, found)
        self.assertEqual(8, len(errors))

    def test_each_field(self) -> None:
        """A table of fields has as many errors as wrong fields, each with its name."""
        route = (
            'set_headers = { A = "${NOPE}", B = ["b", "${NOR}", 5], C = "c", Connection = "x" }\n'
            'set_response_headers = { "x y" = "1", "Sec-WebSocket-Accept" = "x" }\n'
            'fields = { "x y" = "1", Accept = "*", D = 5 }\n'
        )
        errors = self.errors(LISTENER + UPSTREAM + ROUTE + route)
        self.assertEqual(
            [
                "7: routes[0].set_headers.A: the environment variable NOPE is not set",
                "7: routes[0].set_headers.B[1]: the environment variable NOR is not set",
                "7: routes[0].set_headers.B[2]: it has to be a string, or a list of them",
            ],
            errors[:3],
        )
        told = [error.split(": ")[1] for error in errors[3:]]
        self.assertEqual(
            [
                "routes[0].set_headers.Connection",
                "routes[0].set_response_headers.x",
                "routes[0].set_response_headers.Sec-WebSocket-Accept",
                "routes[0].fields.x",
                "routes[0].fields.D",
            ],
            told,
        )

    def test_many(self) -> None:
        """Of very many mistakes the first ones are told, and how many more there are."""
        errors = self.errors(SMALL + "".join(f"\nbad_{n} = 1" for n in range(200)))
        self.assertEqual(MOST_PROBLEMS + 1, len(errors))
        self.assertIn("150 more", errors[-1])

    def test_no_secret_is_repeated(self) -> None:
        """What looks like a credential is shown nowhere, wherever it was written."""
        for text in (
            '[[routes]]\nredirect = { to = "https://u:sekret@h/" }\n',
            '[[routes]]\nupstream = "a"\nallow_host = ["u:sekret@h"]\n',
            '[[routes]]\nupstream = "a"\nbase = "v1?api_key=sekret"\n',
            '[[routes]]\nupstream = "a"\n"Authorization: Bearer sekret" = 1\n',
            '[[routes]]\nupstream = "a"\nremove_headers = ["Authorization: Bearer sekret"]\n',
        ):
            errors = self.errors(LISTENER + UPSTREAM + text)
            self.assertTrue(errors, text)
            self.assertNotIn("sekret", "".join(errors))

    def test_other_table(self) -> None:
        """A key that stands in the wrong table: where it belongs is said."""
        errors = self.errors(
            "idle_timeout = 5\n"
            + LISTENER
            + UPSTREAM
            + "idle_timeout = 5\n"
            + ROUTE
            + 'connect_timeout = 4\nadmin = "tcp:9"\nendpoint = "tcp:1"\n'
        )
        for words, error in zip(
            (
                "idle_timeout: there is no such key here; it stands under [[routes]] or",
                "upstreams.a.idle_timeout: there is no such key here; it stands under [[routes]]",
                "routes[0].connect_timeout: there is no such key here; it stands under [upstreams.",
                "routes[0].admin: there is no such key here; it stands at the top of the file",
                "routes[0].endpoint: there is no such key here; it stands under [[listeners]]",
            ),
            errors,
            strict=True,
        ):
            self.assertIn(words, error)

    def test_life(self) -> None:
        """What is wrong with how it starts and ends, each with its line."""
        found = self.errors(
            """admin = "9000"
drain_timeout = -1
drain_delay = "5"
unready_on_failed_reload = "yes"
watch = true
"""
            + SMALL
        )
        for line, words in (
            (1, ("admin = 9000: ", "tcp:9000 (on loopback)")),
            (2, ("drain_timeout = -1: ", "or 0 for not at all")),
            (3, ("drain_delay = 5: ", "or 0 for not at all")),
            (4, ("unready_on_failed_reload = yes: ", "true or false")),
            (5, ("watch", "there is no such key")),
        ):
            (error,) = [error for error in found if error.startswith(f"{line}: ")]
            for word in words:
                self.assertIn(word, error)
        self.assertEqual(5, len(found))

    def test_admin(self) -> None:
        """An endpoint of the admin site is tried, unless somebody may have it already."""
        for endpoint, right in (
            ("tcp:99999", "0 to 65535"),
            ("tcp:0:backlog=x", "Twisted endpoint"),
        ):
            (error,) = self.errors(f'admin = "{endpoint}"\n' + SMALL)
            self.assertTrue(error.startswith("1: admin = "), error)
            self.assertIn(right, error)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            text = f'admin = "tcp:{taken.getsockname()[1]}"\n' + SMALL
            (error,) = self.errors(text)
            self.assertIn("choose another", error)
            load_file(self.path, ENVIRONMENT, check_endpoint, tries=False)

    def test_metrics(self) -> None:
        """Without an admin site nobody could read them."""
        (error,) = self.errors("metrics = true\n" + SMALL)
        self.assertTrue(error.startswith("1: metrics"), error)
        self.assertIn("admin says where it listens", error)

    def test_what_goes_together(self) -> None:
        """What each value alone does not show."""
        for text, expected in (
            (LISTENER + UPSTREAM, "routes: it is missing; write at least one [[routes]]"),
            ("[[listeners]]\n" + UPSTREAM + ROUTE, "it is missing (endpoint): A Twisted endpoint"),
            (LISTENER + UPSTREAM + "[[routes]]", "exactly one of upstream, redirect, answer"),
            (
                LISTENER + UPSTREAM + ROUTE + 'redirect = { to = "/x" }',
                "exactly one of upstream, redirect, answer",
            ),
            (
                LISTENER + "[upstreams.openai]\ndemo = true\n" + '[[routes]]\nupstream = "opena"',
                "did you mean openai?",
            ),
            (LISTENER + '[[routes]]\nupstream = "a"', "describe it under [upstreams.a]"),
            (LISTENER + "[upstreams.a]\n" + ROUTE, "upstreams.a.target: it is missing"),
            (LISTENER + UPSTREAM + "demo = true\n" + ROUTE, "its own target"),
            (LISTENER + "[upstreams.a]\ndemo = true\n" + ROUTE + 'base = "/x"', "a target's path"),
            (SMALL + ROUTE, "the same requests as routes[0]"),
            (
                SMALL + ROUTE + 'methods = ["GET"]\n' + ROUTE + 'methods = ["POST", "GET"]',
                "the same requests as routes[1]",
            ),
            (
                LISTENER + UPSTREAM + 'upstream_ca = "ca.pem"\nupstream_insecure = true\n' + ROUTE,
                "use one of the two",
            ),
            (LISTENER + UPSTREAM + 'upstream_ca = "ca.pem"\n' + ROUTE, "cannot be read"),
            ("workers = 2\n[[listeners]]\nendpoint = 'stdio:'\n" + UPSTREAM + ROUTE, "share it"),
            (
                "[[listeners]]\nendpoint = 'tcp:0'\n"
                + UPSTREAM
                + 'set_headers = { X-Key = "${KEY}" }\n'
                + ROUTE,
                "open = true",
            ),
            (
                LISTENER
                + UPSTREAM.replace("https://api.example.com/v1", "unix:/a")
                + 'upstream_socket = "/b"\n'
                + ROUTE,
                "names a Unix socket already",
            ),
        ):
            errors = self.errors(text)
            self.assertEqual(1, len(errors), (text, errors))
            self.assertIn(expected, errors[0], text)
            self.assertNotIn("sk-secret", errors[0])

    def test_shapes(self) -> None:
        """What has another shape than its key."""
        for text, expected in (
            ("routes = 1", "1: routes = 1: it has to be an array of tables"),
            ("routes = []", "1: routes: it has to have at least 1"),
            ("routes = [1]", "1: routes[0] = 1: it has to be a table"),
            (SMALL + "methods = 'GET'", "methods = GET: it has to be a list"),
            (SMALL + "methods = [1]", "methods[0] = 1: it has to be a string"),
            (LISTENER + "[[routes]]\nanswer = 1", "answer = 1: it has to be a table"),
            ("upstreams = 1\n" + ROUTE, "upstreams = 1: it has to be a table of tables"),
            (SMALL + "set_headers = 1", "set_headers: it has to be a table such as"),
            (SMALL + "set_headers = { X = 1 }", "set_headers.X: it has to be a string, or a list"),
            (SMALL + "set_headers = { 'A: b' = 'x' }", "it cannot be the name of a field"),
            (SMALL + "set_headers = { Sec-WebSocket-Key = 'a' }", "two ends of a WebSocket"),
            (SMALL + "fields = 1", "it has to be a table such as"),
            (SMALL + "fields = { 'a b' = 'x' }", "fields.a: it cannot be the name of a field"),
            (SMALL + "fields = { A = 1 }", "fields.A: it has to be a string"),
            (SMALL + "host = 'any'", "a route without `host` is for any host"),
            (SMALL + "base = 'v1'", "a path such as /v1/"),
            (SMALL + "base = '/../x'", "must not climb"),
            (SMALL + "idle_timeout = true", "a number of seconds"),
            (SMALL + "idle_timeout = nan", "a number of seconds"),
            (SMALL + "max_body = 1.5", "a number of bytes"),
            (SMALL + "methods = ['GET /']", "it has to be a method"),
        ):
            errors = self.errors(text)
            self.assertEqual(1, len(errors), (text, errors))
            self.assertIn(expected, errors[0], text)

    def test_redirect_and_answer(self) -> None:
        """Their own keys."""
        for value, expected in (
            ("redirect = { to = '//evil.example' }", "a URL of http or https"),
            ("redirect = { to = 'ftp://x' }", "a URL of http or https"),
            ("redirect = { to = '/x', status = 200 }", "one of 301, 302, 303, 307, 308"),
            ("redirect = { status = 301 }", "redirect.to: it is missing (URL or path): Where to"),
            ("answer = { status = 100 }", "from 200 to 599"),
            ("answer = { status = true }", "from 200 to 599"),
            ("answer = { txt = 'x' }", "did you mean text?"),
        ):
            errors = self.errors(LISTENER + "[[routes]]\n" + value)
            self.assertEqual(1, len(errors), errors)
            self.assertIn(expected, errors[0])

    def test_no_toml(self) -> None:
        """The first fault, with its line."""
        (error,) = self.errors("workers = 1\n[[routes]\n")
        self.assertTrue(error.startswith("2: it is no TOML"), error)

    def test_no_file(self) -> None:
        """What cannot be read is told in a sentence."""
        for octets, expected in (
            (b"a = '\xff'", "1: it is no UTF-8"),
            (b"#" * (MAX_FILE_BYTES + 1), "it has more than"),
        ):
            self.path.write_bytes(octets)
            error = self.assertRaises(
                ConfigError, load_file, self.path, ENVIRONMENT, check_endpoint
            )
            self.assertIn(expected, str(error))
        self.path.unlink()
        error = self.assertRaises(ConfigError, load_file, self.path, ENVIRONMENT, check_endpoint)
        self.assertIn("cannot be read (No such file or directory)", str(error))
