"""Many routes from one file: a real process, two upstreams, raw sockets."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from tests.live.kit import CHECKOUT, PATIENCE, Proxy, Response, ScriptedUpstream, answer, request

FILE = """
[[listeners]]
endpoint = "tcp:0:interface=127.0.0.1"

[upstreams.one]
target = "{one}/v1"
set_headers = {{ Authorization = "Bearer ${{LIVE_KEY}}" }}

[upstreams.two]
target = "{two}"

[defaults]
allow_host = ["any"]

[[routes]]
path = "/one/"
upstream = "one"

[[routes]]
path = "/one/tools"
methods = ["POST"]
upstream = "two"

[[routes]]
host = "*.two.example"
upstream = "two"
preserve_host = true

[[routes]]
path = "/events"
fields = {{ Accept = "text/event-stream" }}
upstream = "two"
set_response_headers = {{ X-Route = "events" }}

[[routes]]
path = "/old"
redirect = {{ to = "/one/", keep_path = true }}

[[routes]]
path = "/health"
exact = true
answer = {{ text = "fine", headers = {{ X-A = "b" }} }}
access_log = false
"""


class RouteTests(unittest.TestCase):
    """The most specific route serves a request."""

    def setUp(self) -> None:
        """Start two upstreams, and the proxy with a file."""
        said = (
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n%b" % name for name in (b"one", b"two")
        )
        self.one, self.two = (self.enterContext(ScriptedUpstream(answer(text))) for text in said)
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = Path(directory) / "pyproxy.toml"
        self.path.write_text(FILE.format(one=self.one.url, two=self.two.url))
        environment = {"LIVE_KEY": "sk-of-the-operator"}
        self.proxy = self.enterContext(
            Proxy("--config", str(self.path), "--port=0", environment=environment)
        )

    def ask(self, line: bytes, *fields: bytes, host: bytes = b"front.example") -> Response:
        """Send one request."""
        return self.proxy.ask(request(line, *fields, host=host), line.split(b" ")[0])

    def test_upstreams(self) -> None:
        """Path, method, host and field lead where they should, each with its own rules."""
        for line, fields, host, body in (
            (b"GET /one/chat?x HTTP/1.1", (), b"front.example", b"one"),
            (b"GET /one/tools HTTP/1.1", (), b"front.example", b"one"),
            (b"POST /one/tools HTTP/1.1", (b"Content-Length: 0",), b"front.example", b"two"),
            (b"GET /one/chat HTTP/1.1", (), b"a.two.example:80", b"two"),
            (b"GET /events HTTP/1.1", (b"Accept: text/event-stream",), b"front.example", b"two"),
        ):
            self.assertEqual(body, self.ask(line, *fields, host=host).body, line)
        self.assertEqual([b"/v1/chat?x", b"/v1/tools"], [head.target for head in self.one.requests])
        for head in self.one.requests:
            self.assertEqual(b"Bearer sk-of-the-operator", head.value(b"authorization"))
        for head in self.two.requests:
            self.assertIsNone(head.value(b"authorization"))
        self.assertEqual(b"a.two.example:80", self.two.requests[1].value(b"host"))

    def test_without_upstream(self) -> None:
        """A redirect, a fixed answer, and what no route serves; nobody is asked."""
        response = self.ask(b"GET /old/chat?x HTTP/1.1")
        self.assertEqual((308, b"/one/chat?x"), (response.status, response.value(b"location")))
        response = self.ask(b"GET /health HTTP/1.1")
        self.assertEqual((200, b"fine"), (response.status, response.body))
        self.assertEqual(b"b", response.value(b"x-a"))
        self.assertIsNotNone(response.value(b"date"))
        self.assertEqual(b"", self.ask(b"HEAD /health HTTP/1.1").body)
        for line, status in (
            (b"GET /other HTTP/1.1", 404),
            (b"GET /events HTTP/1.1", 404),
            (b"GET /health/x HTTP/1.1", 404),
            (b"GET /one/x/..%2ftools HTTP/1.1", 200),
            (b"POST /one/x/..%2ftools HTTP/1.1", 400),
            (b"GET /one/..%2f..%2fx HTTP/1.1", 400),
        ):
            self.assertEqual(status, self.ask(line).status, line)
        self.assertEqual([], self.two.requests)

    def test_log(self) -> None:
        """A route may have no line in the access log."""
        self.ask(b"GET /health HTTP/1.1")
        self.ask(b"GET /other HTTP/1.1")
        self.assertIsNotNone(self.proxy.wait_log("GET /other"))
        self.assertNotIn("GET /health", self.proxy.log())

    def test_kept_connections(self) -> None:
        """Two routes to one upstream share its connections."""
        for line in (b"GET /one/a HTTP/1.1", b"GET /one/tools HTTP/1.1") * 3:
            self.assertEqual(b"one", self.ask(line).body)
        self.assertEqual(1, self.one.connections)

    def test_check(self) -> None:
        """``--check`` of a file that is served already, and of one that is wrong."""
        self.assertEqual((0, ""), self.check())
        self.path.write_text("[[routes]]\nupstream = 1\n")
        status, said = self.check()
        self.assertEqual(1, status)
        self.assertIn(f"{self.path}:2: routes[0].upstream = 1: it has to be a string", said)

    def check(self) -> tuple[int, str]:
        """Return the status of ``--check``, and what it says."""
        twistd = Path(sys.executable).with_name("twistd")
        done = subprocess.run(
            [sys.executable, twistd, "-n", "pyproxy", "--config", self.path, "--check"],
            env={"PYTHONPATH": str(CHECKOUT), "LIVE_KEY": "sk"},
            cwd=self.path.parent,
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr
