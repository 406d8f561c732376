"""``python -m pyproxy trace`` as a process of its own, over two workers."""

from __future__ import annotations

import subprocess
import sys

from tests.live.kit import PATIENCE, Wire, free_port, request
from tests.live.terminal import CHECKOUT
from tests.live.test_board import BEGUN, EVENT, TOKEN, BoardTestCase
from tests.live.websocket import opening, read_close, switching


def two_events(wire: Wire) -> None:
    """Answer with two events, and end well."""
    while wire.readable(PATIENCE) and wire.open:
        wire.read_head()
        wire.send(BEGUN + EVENT + EVENT + b"0\r\n\r\n")


class TraceTestCase(BoardTestCase):
    """A case with a trace."""

    def trace(self, *more: str) -> subprocess.Popen[str]:
        """Follow an exchange; it waits already."""
        found = subprocess.Popen(
            [sys.executable, "-m", "pyproxy", "trace", "--admin", self.url, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )

        def end() -> None:
            found.kill()
            found.communicate(timeout=PATIENCE)

        self.addCleanup(end)
        assert found.stderr is not None
        said = found.stderr.readline()
        if not said.startswith("Waiting"):
            self.fail(said)
        return found

    def told(self, trace: subprocess.Popen[str], status: int = 0) -> str:
        """Wait for its end; return what it has printed."""
        out, err = trace.communicate(timeout=PATIENCE)
        self.assertEqual(status, trace.returncode, err)
        return out

    def steps(self, out: str) -> list[str]:
        """Return the titles of the steps."""
        return [line[28:58].strip() for line in out.splitlines() if line[2:3] == ":"]


class WayTests(TraceTestCase):
    """The way of an exchange."""

    def setUp(self) -> None:
        """Let the upstream end well."""
        super().setUp()
        self.upstream.script = two_events

    def test_way(self) -> None:
        """Each milestone stands there in its order, with fields, and no credential."""
        trace = self.trace("--path", "/a/wanted", "--method", "get")
        for target in (b"/a/other", b"/b/wanted"):
            self.proxy.ask(request(b"GET " + target + b" HTTP/1.1"))
        key = "sk-0123456789abcdef"
        fields = f"Authorization: Bearer {key}\r\nX-Thing: seen\r\nCookie: a=hidden".encode()
        self.proxy.ask(request(b"GET /a/wanted?api_key=hidden HTTP/1.1", fields))
        out = self.told(trace)
        self.assertEqual(
            [
                "head read",
                "gates passed",
                "handed to the upstream's side",
                "written to a connection",
                "response head",
                "first content",
                "last content",
                "over",
            ],
            self.steps(out),
        )
        for words in (
            "target=/a/wanted?api_key=***",
            "route=/a",
            f"upstream={self.upstream.url}",
            "status=200",
            "how=ended",
            "X-Thing: seen",
            "Content-Type: text/event-stream",
            "from the client:",
            "to the upstream:",
            "from the upstream:",
            "to the client:",
        ):
            self.assertIn(words, out)
        self.assertNotIn(key, out)
        self.assertNotIn("hidden", out)

    def test_route(self) -> None:
        """It waits for a route; without fields it prints none."""
        trace = self.trace("--route", "/b", "--no-fields")
        for target in (b"/a/x", b"/b/x", b"/b/y"):
            self.proxy.ask(request(b"GET " + target + b" HTTP/1.1"))
        out = self.told(trace)
        self.assertIn("target=/b/x ", out)
        self.assertNotIn("from the client", out)

    def test_two(self) -> None:
        """Who follows the same sees the same, and the first one, whichever worker has it."""
        traces = [self.trace("--host", "127.0.0.1"), self.trace()]
        for number in range(6):
            self.proxy.ask(request(b"GET /a/%d HTTP/1.1" % number, host=b"127.0.0.1:9"))
        for trace in traces:
            self.assertIn("target=/a/0 ", self.told(trace))

    def test_refused(self) -> None:
        """A request that never gets to an upstream has its way, too."""
        trace = self.trace("--path", "/none")
        self.proxy.ask(request(b"GET /none HTTP/1.1"))
        out = self.told(trace)
        self.assertEqual(["head read", "over"], self.steps(out))
        self.assertIn("status=404", out)


class LiveTests(TraceTestCase):
    """What goes on while it is followed."""

    def test_as_it_goes(self) -> None:
        """Steps are told as they come, and the end when it comes."""
        trace = self.trace()
        client = self.open("/a/x")
        assert trace.stdout is not None
        while "first content" not in trace.stdout.readline():
            pass
        client.close()
        out = self.told(trace)
        self.assertEqual(["last content", "over"], self.steps(out)[-2:])
        self.assertIn("how=the client left", out)

    def test_websocket(self) -> None:
        """A WebSocket is followed to its end."""

        def switch(wire: Wire) -> None:
            wire.send(switching(wire.read_head()))
            read_close(wire)
            wire.close()

        self.upstream.script = switch
        trace = self.trace()
        client = self.proxy.client()
        self.addCleanup(client.close)
        client.send(opening(target=b"/b/socket"))
        client.read_head()
        client.close()
        out = self.told(trace)
        self.assertIn("status=101", out)
        self.assertEqual("over", self.steps(out)[-1])

    def test_pipe(self) -> None:
        """When nobody reads what it prints it ends, without a word."""
        trace = self.trace()
        assert trace.stdout is not None
        assert trace.stderr is not None
        trace.stdout.close()
        self.open("/a/x")
        self.assertEqual("", trace.stderr.read())
        self.assertEqual(1, trace.wait(PATIENCE))
        trace.stdout = None

    def test_proxy_ends(self) -> None:
        """When the proxy ends that is said."""
        trace = self.trace()
        self.proxy.stop()
        self.told(trace, 1)


class ReachTests(TraceTestCase):
    """Who may follow."""

    workers = 1
    token = True

    def test_token(self) -> None:
        """It needs the token where there is one."""
        found = subprocess.run(
            [sys.executable, "-m", "pyproxy", "trace", "--admin", self.url],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=CHECKOUT,
            check=False,
        )
        self.assertEqual(1, found.returncode)
        self.assertIn("Show the token", found.stderr)
        self.assertNotIn(TOKEN, found.stderr)

    def test_nobody(self) -> None:
        """Without a site it says so at once."""
        found = subprocess.run(
            [sys.executable, "-m", "pyproxy", "trace", "--admin", f"tcp:{free_port()}"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=CHECKOUT,
            check=False,
        )
        self.assertEqual((1, ""), (found.returncode, found.stdout))
        self.assertIn("Connection refused", found.stderr)
