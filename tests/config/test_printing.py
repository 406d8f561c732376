"""What is printed of a configuration is a file again that says the same, without its secrets."""

from __future__ import annotations

import os
import tomllib
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import attrs
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.schema import Config
from pyproxy.tap import Options

LITERAL = "sk-written-out-in-full"


class PrintingTests(SynchronousTestCase):
    """From options to a file, and from a file to a file."""

    def setUp(self) -> None:
        """Let a variable be set."""
        self.patch(os, "environ", {**os.environ, "PRINTED_KEY": "sk-named-only"})

    def options(self, *arguments: str) -> Options:
        """Return the options of a command line."""
        options = Options()
        options.parseOptions(arguments)
        return options

    def printed(self, *arguments: str) -> str:
        """Return what is printed of a command line, which ends the process well."""
        text = StringIO()
        with redirect_stdout(text):
            ended = self.assertRaises(SystemExit, self.options, *arguments, "--print-config")
        self.assertEqual(0, ended.code)
        return text.getvalue()

    def read_again(self, text: str) -> Config:
        """Return the configuration in a text."""
        path = Path(self.mktemp())
        path.write_text(text)
        return self.options("--config", str(path), "--port=0").config

    def routes_of(self, config: Config) -> Any:
        """Return all but the place to listen, which has two spellings."""
        return attrs.evolve(config, listen=())

    def test_same(self) -> None:
        """The file means what the command line meant, whatever that said."""
        target = ("--target", "https://api.example.com/v1", "--port=0")
        for more in (
            (),
            ("--prefix=/api", "--preserve-host", "--no-access-log", "--no-stream-hints"),
            ("--header", "Authorization: Bearer ${PRINTED_KEY}", "--remove-header=Cookie"),
            ("--header", "X-A: 1", "--header", "X-A: 2", "--response-header", "X-B: c"),
            ("--remove-response-header=Server", "--max-body=20m", "--ws-max-message=64k"),
            ("--ws-idle-timeout=5", "--ws-ping=2.5", "--idle-timeout=7", "--connect-timeout=.5"),
            ("--allow-host=a.example", "--allow-origin=https://b.example", "--workers=2"),
            ("--trust-proxy=10.0.0.0/8", "--trust-proxy=unix", "--client-timeout=9"),
            ("--upstream-socket=/run/app.sock", "--upstream-insecure"),
            ("--admin=tcp:0", "--metrics", "--drain-timeout=0", "--drain-delay=2.5"),
        ):
            config = self.options(*target, *more).config
            again = self.read_again(self.printed(*target, *more))
            self.assertEqual(self.routes_of(config), self.routes_of(again), more)

    def test_odd_credentials(self) -> None:
        """No scheme, a space in it, an upstream with the name of a table: masked all the same."""
        path = Path(self.mktemp())
        path.write_text(
            "[upstreams.headers]\ntarget = 'http://h'\n"
            "set_headers = { Authorization = 'Bearer sekret-1', X-Auth = 'sekret-2 x' }\n"
            "[upstreams.b]\ntarget = 'http://h'\n"
            "set_headers = { Cookie = 'session=sekret-3; theme=dark' }\n"
            "[[routes]]\nupstream = 'headers'\n[[routes]]\npath = '/b'\nupstream = 'b'\n"
        )
        text = self.printed(f"--config={path}", "--port=0")
        self.assertNotIn("sekret", text)
        self.assertIn("Bearer ***", text)

    def test_wanted_credentials(self) -> None:
        """What a field that carries credentials has to be, on a route, is masked too."""
        path = Path(self.mktemp())
        path.write_text(
            '[upstreams.a]\ndemo = true\n[[routes]]\nupstream = "a"\n'
            'fields = { X-Api-Key = "sk-wanted", Accept = "text/html", Cookie = "*" }\n'
        )
        text = self.printed(f"--config={path}", "--port=0")
        self.assertNotIn("sk-wanted", text)
        self.assertIn("text/html", text)
        self.assertIn('Cookie = "*"', text)

    def test_demo(self) -> None:
        """The demo is one of the file too."""
        again = self.read_again(self.printed("--demo", "--port=0"))
        self.assertTrue(again.routes[0].needs_demo)

    def test_listeners(self) -> None:
        """Port and interface become an endpoint; endpoints stay."""
        for arguments, endpoints in (
            (("--port=0",), ["tcp:0:interface=127.0.0.1"]),
            (("--port=0", "--interface=::1"), ["tcp6:0:interface=\\:\\:1"]),
            (("--port=0", "--interface="), ["tcp:0"]),
            (("--listen=unix:/x", "--listen=tcp:0"), ["unix:/x", "tcp:0"]),
        ):
            document = tomllib.loads(self.printed("--target=http://h", *arguments))
            found = [listener["endpoint"] for listener in document["listeners"]]
            self.assertEqual(endpoints, found)

    def test_secrets(self) -> None:
        """A credential that was written out is masked, one that is only named stays named."""
        key = f"Authorization: Bearer {LITERAL}"
        text = self.printed("--target=http://h", "--port=0", "--header", key)
        self.assertNotIn(LITERAL, text)
        self.assertIn("Bearer ***", text)
        self.read_again(text)
        named = "X-Api-Key: ${PRINTED_KEY}"
        text = self.printed("--target=http://h", "--port=0", "--header", named)
        self.assertIn("${PRINTED_KEY}", text)
        self.assertNotIn("sk-named-only", text)

    def test_file(self) -> None:
        """A file is printed with the defaults that it does not say; again it is the same."""
        path = Path(self.mktemp())
        path.write_text(
            f"""
            [upstreams.a]
            target = "https://h"
            set_headers = {{ Authorization = ["Bearer {LITERAL}"], X-A = "b" }}
            [[routes]]
            upstream = "a"
            [[routes]]
            path = "/x"
            answer = {{ text = "fine" }}
            """
        )
        text = self.printed("--config", str(path), "--port=0")
        self.assertNotIn(LITERAL, text)
        document = tomllib.loads(text)
        self.assertEqual(300, document["defaults"]["idle_timeout"])
        self.assertEqual((75, 1), (document["client_timeout"], document["workers"]))
        self.assertEqual("b", document["upstreams"]["a"]["set_headers"]["X-A"])
        path.write_text(text)
        self.assertEqual(text, self.printed("--config", str(path), "--port=0"))

    def test_wrong(self) -> None:
        """Nothing is printed of what cannot be used."""
        options = Options()
        text = StringIO()
        with redirect_stdout(text):
            self.assertRaises(UsageError, options.parseOptions, ["--print-config"])
        self.assertEqual("", text.getvalue())
