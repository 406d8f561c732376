"""``twistd pyproxy`` as an operator meets it: refusals, listeners, secrets, signals, reactors."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from tests.live.kit import (
    CHECKOUT,
    PATIENCE,
    START_LIMIT,
    Proxy,
    RawClient,
    ScriptedUpstream,
    Wire,
    chunk,
    eventually,
    free_port,
    heed_interrupts,
    request,
    upstream_and_proxy,
)

TWISTD = Path(sys.executable).with_name("twistd")
SECRET = "sk-do-not-show-0123456789"
BEGUN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x")

TWISTED_TELLS_BY_STATUS = tuple(map(int, version("twisted").split(".")[:2])) >= (26, 10)
"""Before that, twistd ended with status 0 after any usage error."""


def twistd(*arguments: str, directory: str) -> subprocess.CompletedProcess[str]:
    """Run twistd to its end."""
    return subprocess.run(
        [sys.executable, str(TWISTD), *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=START_LIMIT,
        check=False,
    )


class TemporaryDirectoryTestCase(unittest.TestCase):
    """A case with an empty directory of its own."""

    def setUp(self) -> None:
        """Make the directory."""
        temporary = tempfile.TemporaryDirectory(prefix="command-")
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name


class RefusalTests(TemporaryDirectoryTestCase):
    """What cannot work is said in one clear message, and nothing starts half."""

    def refuse(self, *arguments: str) -> str:
        """Run a command that must not start; return its message."""
        ended = twistd(*arguments, directory=self.directory)
        if TWISTED_TELLS_BY_STATUS:
            self.assertNotEqual(0, ended.returncode, ended.stdout)
        self.assertNotIn("Traceback", ended.stdout)
        self.assertNotIn(SECRET, ended.stdout)
        return ended.stdout

    def test_bad_values(self) -> None:
        """Several wrong values are told together, each once, by option, value and remedy."""
        said = self.refuse(
            *("-n", "pyproxy", "--target", "ftp://h", "--idle-timeout", "soon"),
            *("--header", f"Bad Name: {SECRET}"),
        )
        self.assertEqual(1, len(re.findall(r"--target ftp://h: it has to be http://", said)), said)
        self.assertEqual(1, len(re.findall(r"--idle-timeout soon: it has to be a number", said)))
        self.assertEqual(1, len(re.findall(r"--header: it has to be 'Name: value'", said)))

    def test_nothing_to_do(self) -> None:
        """Without a target the message says which option is missing."""
        self.assertIn("--target is missing", self.refuse("-n", "pyproxy"))

    def test_unknown_option(self) -> None:
        """An option that does not exist."""
        self.assertIn("--tarpit", self.refuse("-n", "pyproxy", "--tarpit", "http://h"))

    def test_port_is_taken(self) -> None:
        """A taken port is told on the terminal, in the foreground and before daemonising."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for flags in (["-n"], ["--logfile=the.log"]):
                with self.subTest(flags):
                    said = self.refuse(*flags, "pyproxy", "--demo", "--port", str(port))
                    self.assertRegex(said, rf"--port {port}: cannot listen there \(Address alr")
                    left = set(os.listdir(self.directory))
                    self.assertNotIn("twistd.pid", left, "a daemon was left behind")

    def test_endpoint_is_taken(self) -> None:
        """The same for an endpoint, whose port is only tried when listening begins."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            listen = f"--listen=tcp:{port}:interface=127.0.0.1"
            for flags in (["-n"], ["--logfile=the.log"]):
                with self.subTest(flags):
                    said = self.refuse(*flags, "pyproxy", "--demo", listen)
                    self.assertRegex(said, rf"{port}.*Address already in use")
                    gone = eventually(lambda: "twistd.pid" not in os.listdir(self.directory))
                    self.assertTrue(gone, "a daemon was left behind")


class SecretTests(TemporaryDirectoryTestCase):
    """Secrets stay out of the process list and the log."""

    def test_process_list(self) -> None:
        """A key given by ``${VARIABLE}`` or ``@FILE`` reaches the upstream and nobody else."""
        file = Path(self.directory, "key")
        file.write_text(f"{SECRET}-file\n")
        with upstream_and_proxy(
            None,
            *("--header", "Authorization: Bearer ${KEY}", "--header", f"X-Api-Key: @{file}"),
            "--allow-host=front.example",
            environment={"KEY": SECRET},
        ) as (upstream, proxy):
            self.assertEqual(200, proxy.ask(request()).status)
            self.assertEqual(
                [f"Bearer {SECRET}".encode()], upstream.request.values(b"authorization")
            )
            self.assertEqual([f"{SECRET}-file".encode()], upstream.request.values(b"x-api-key"))
            command = Path(f"/proc/{proxy.pid}/cmdline").read_bytes()
            self.assertIn(b"${KEY}", command)
            self.assertNotIn(SECRET.encode(), command)
            self.assertNotIn(SECRET, proxy.log())


class ListenTests(TemporaryDirectoryTestCase):
    """Where the proxy listens."""

    def test_unix_socket(self) -> None:
        """A Unix socket serves, and a client there is told to the upstream by no address."""
        path = Path(self.directory, "proxy.sock")
        with upstream_and_proxy(None, f"--listen=unix:{path}") as (upstream, _):
            curl = ["curl", "-sS", "--max-time", f"{PATIENCE:g}", "--unix-socket", str(path)]
            answered = subprocess.run(
                [*curl, "http://front.example/a"], capture_output=True, check=True
            )
            self.assertEqual(b"ok", answered.stdout)
            self.assertEqual(b"/a", upstream.request.target)
            self.assertNotIn(b"x-forwarded-for", upstream.request.names())
        self.assertFalse(path.exists(), "the socket's file is left behind")

    def test_several(self) -> None:
        """Every endpoint of several serves, under one prefix."""
        path = Path(self.directory, "proxy.sock")
        ports = (free_port(), free_port())
        listens = [f"--listen=tcp:{port}:interface=127.0.0.1" for port in ports]
        with upstream_and_proxy(
            None, *listens, f"--listen=unix:{path}", "--prefix=/api", base="/v1"
        ) as (upstream, proxy):
            self.assertTrue(eventually(lambda: proxy.log().count("Listening on") == 3))
            for port in ports:
                with RawClient(port) as client:
                    client.send(request(b"GET /api/x HTTP/1.1"))
                    self.assertEqual(200, client.read_response().status)
                    client.send(request(b"GET /apix HTTP/1.1"))
                    self.assertEqual(404, client.read_response().status)
            self.assertEqual([b"/v1/x"] * 2, [head.target for head in upstream.requests])

    def test_client_behind_a_balancer(self) -> None:
        """With the PROXY protocol the client is the one that its header names, in the log too.

        So is the port, where the client asked for no host that would say another one.
        """
        listen = "--listen=haproxy:tcp:0:interface=127.0.0.1"
        with upstream_and_proxy(None, listen) as (upstream, proxy), proxy.client() as client:
            client.send(b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 8443\r\n" + request())
            self.assertEqual(200, client.read_response().status)
            client.send(request(b"GET / HTTP/1.0", host=None))
            self.assertEqual(200, client.read_response().status)
            for head in upstream.requests:
                self.assertEqual([b"203.0.113.7"], head.values(b"x-forwarded-for"))
            ports = [head.value(b"x-forwarded-port") for head in upstream.requests]
            self.assertEqual([b"80", b"8443"], ports)
            self.assertTrue(eventually(lambda: proxy.log().count("] 203.0.113.7 - - [") == 2))


class SignalTests(unittest.TestCase):
    """How the proxy ends."""

    def start(self, *, streams: int) -> tuple[Proxy, list[RawClient]]:
        """Start a proxy with streams that do not end."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(BEGUN)
            wire.wait_closed()
            wire.close()

        upstream = ScriptedUpstream(script)
        self.addCleanup(upstream.close)
        proxy = Proxy("--target", upstream.url).start()
        self.addCleanup(proxy.stop)
        clients = []
        for _ in range(streams):
            client = proxy.client()
            self.addCleanup(client.close)
            client.send(request())
            self.assertEqual(200, client.read_head().status)
            self.assertEqual(b"x", client.read_chunk())
            clients.append(client)
        return proxy, clients

    def wait_end(self, proxy: Proxy) -> int:
        """Wait until the process ends by itself; return its status."""
        self.assertTrue(
            eventually(lambda: _state(proxy.pid) in ("", "Z")), "it does not end by itself"
        )
        return proxy.stop()

    def test_sigterm_during_streams(self) -> None:
        """Without a drain SIGTERM ends it at once, status 0, the streams without a clean end."""
        proxy, clients = self.start(streams=20)
        os.kill(proxy.pid, signal.SIGTERM)
        self.assertEqual(0, self.wait_end(proxy), proxy.log())
        proxy.check_log()
        for client in clients:
            with self.assertRaises(EOFError):
                client.read_chunk()

    def test_two_sigterms(self) -> None:
        """A second SIGTERM changes nothing: status 0 and no traceback."""
        for pause in (0.0, 0.02):
            with self.subTest(pause=pause):
                proxy, _ = self.start(streams=5)
                os.kill(proxy.pid, signal.SIGTERM)
                time.sleep(pause)
                with suppress(ProcessLookupError):
                    os.kill(proxy.pid, signal.SIGTERM)
                self.assertEqual(0, self.wait_end(proxy), proxy.log())
                proxy.check_log()

    def test_sigint(self) -> None:
        """Control-C ends it without a traceback."""
        heed_interrupts(self)
        proxy, _ = self.start(streams=2)
        os.kill(proxy.pid, signal.SIGINT)
        self.assertIn(self.wait_end(proxy), (0, -signal.SIGINT), proxy.log())
        proxy.check_log()


class ReactorTests(TemporaryDirectoryTestCase):
    """Other reactors than the default one serve too."""

    def serve_with(self, reactor: str | None) -> str:
        """Serve a request and a stream, notice a client's leaving, and end in order.

        Returns: what was logged.
        """
        chosen = [] if reactor is None else [f"--reactor={reactor}"]
        log = Path(self.directory, "the.log")
        with (
            ScriptedUpstream() as upstream,
            subprocess.Popen(
                [
                    *(sys.executable, str(TWISTD), "-n", "--pidfile=", f"--logfile={log}"),
                    *(*chosen, "pyproxy", "--port=0", "--target", upstream.url),
                ],
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
                stdin=subprocess.DEVNULL,
            ) as process,
        ):
            try:
                self._check_serving(log, upstream)
                process.terminate()
                self.assertEqual(0, process.wait(PATIENCE), log.read_text())
            finally:
                process.kill()
        logged = log.read_text()
        log.unlink()
        self.assertNotIn("Traceback", logged)
        return logged

    def _check_serving(self, log: Path, upstream: ScriptedUpstream) -> None:
        def port() -> int:
            found = re.search(r"Listening on http://127\.0\.0\.1:(\d+)", _text(log))
            return 0 if found is None else int(found[1])

        self.assertTrue(eventually(port, START_LIMIT), _text(log))
        with RawClient(port()) as client:
            client.send(request())
            self.assertEqual(200, client.read_response().status)
            gone: list[float] = []

            def script(wire: Wire) -> None:
                wire.read_head()
                wire.send(BEGUN)
                gone.append(wire.wait_closed())
                wire.close()

            upstream.script = script
            client.send(request())
            self.assertEqual(200, client.read_head().status)
            self.assertEqual(b"x", client.read_chunk())
        self.assertTrue(eventually(lambda: gone), "the upstream was not told that the client left")

    def test_asyncio(self) -> None:
        """``--reactor=asyncio``."""
        self.serve_with("asyncio")

    def test_poll(self) -> None:
        """``--reactor=poll``."""
        self.serve_with("poll")

    @unittest.skipUnless(sys.platform == "linux", "epoll is Linux's")
    def test_epoll(self) -> None:
        """``--reactor=epoll`` is Twisted's own, and not ours."""
        self.assertIn("EPollReactor", self.serve_with("epoll"))

    @unittest.skipUnless(sys.platform == "linux", "epoll is Linux's")
    def test_relay(self) -> None:
        """``--reactor=relay`` is ours, and what runs unless another is asked for."""
        self.assertIn("pyproxy.reactors.epoll.RelayReactor", self.serve_with("relay"))
        self.assertIn("pyproxy.reactors.epoll.RelayReactor", self.serve_with(None))


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _state(pid: int) -> str:
    """Return a process's state letter; empty when it is no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""
