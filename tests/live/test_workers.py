"""``--workers N``: several processes, one service."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import trustme

from tests.live.kit import (
    CHECKOUT,
    LAST_CHUNK,
    PATIENCE,
    START_LIMIT,
    Closed,
    Proxy,
    RawClient,
    Response,
    ScriptedUpstream,
    Wire,
    answer,
    chunk,
    eventually,
    heed_interrupts,
    request,
    upstream_and_proxy,
)
from tests.live.websocket import open_pair, read_frame, text

TWISTD = Path(sys.executable).with_name("twistd")
SECRET = "sk-do-not-show-0123456789"
BEGUN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x")
END_LIMIT = 15.0
"""Seconds until all processes have ended: the limit for workers, and some on a busy machine."""

_serves = re.compile(r"Worker (\d) \(pid (\d+)\) serves")


def pids(log: str) -> dict[int, int]:
    """Return the newest process of each worker that a log names."""
    return {int(number): int(pid) for number, pid in _serves.findall(log)}


def wait_workers(proxy: Proxy, count: int = 2) -> dict[int, int]:
    """Wait until so many workers serve; return their processes."""
    eventually(lambda: len(pids(proxy.log())) == count, START_LIMIT)
    found = pids(proxy.log())
    if len(found) != count:
        raise AssertionError(f"{len(found)} workers serve:\n{proxy.log()}")
    return found


def gone(pid: int) -> bool:
    """Tell whether a process is no more, not even as a zombie."""
    return not Path(f"/proc/{pid}").exists()


def wait_gone(processes: Iterable[int], limit: float = END_LIMIT) -> list[int]:
    """Wait until processes are no more; return those that still are."""
    processes = list(processes)
    eventually(lambda: all(map(gone, processes)), limit)
    return [pid for pid in processes if not gone(pid)]


def stream(wire: Wire) -> None:
    """Begin an event stream; somebody else goes on with it."""
    wire.read_head()
    wire.send(BEGUN)
    wire.wait_closed(60)
    wire.close()


def instance(response: Response) -> str:
    """Return which process refused a request: the first half of the request's name."""
    found = re.search(rb"Request id: ([0-9a-f]+)-", response.body)
    assert found is not None
    return found[1].decode()


class WorkersTestCase(unittest.TestCase):
    """A case with a directory of its own."""

    def setUp(self) -> None:
        """Make the directory."""
        temporary = tempfile.TemporaryDirectory(prefix="workers-")
        self.addCleanup(temporary.cleanup)
        self.directory = temporary.name

    def streams(self, proxy: Proxy, count: int) -> list[RawClient]:
        """Open event streams that do not end by themselves."""
        clients = []
        for _ in range(count):
            client = proxy.client()
            self.addCleanup(client.close)
            client.send(request())
            self.assertEqual(200, client.read_head().status)
            self.assertEqual(b"x", client.read_chunk())
            clients.append(client)
        return clients


class BalanceTests(WorkersTestCase):
    """Connections spread over the workers."""

    LEAST = 0.1
    """The share that each of two workers gets at least."""

    def setUp(self) -> None:
        """Start two workers that refuse everything themselves, by their names."""
        super().setUp()
        _, self.proxy = self.enterContext(
            upstream_and_proxy(None, "--prefix=/x", "--workers=2", "--no-access-log")
        )
        wait_workers(self.proxy)

    def check(self, served: Counter[str]) -> None:
        """Check the shares."""
        self.assertEqual(2, len(served), served)
        self.assertGreaterEqual(min(served.values()), self.LEAST * served.total(), served)

    def test_burst(self) -> None:
        """64 connections that come at once."""
        clients = [self.proxy.client() for _ in range(64)]
        served: Counter[str] = Counter()
        for client in clients:
            client.send(request())
            served[instance(client.read_response())] += 1
            client.close()
        self.check(served)

    def test_sequence(self) -> None:
        """300 connections, one after the other."""
        served: Counter[str] = Counter()
        for _ in range(300):
            served[instance(self.proxy.ask(request()))] += 1
        self.check(served)

    def test_kept(self) -> None:
        """100 connections one after the other that stay open."""
        served: Counter[str] = Counter()
        for _ in range(100):
            client = self.proxy.client()
            self.addCleanup(client.close)
            client.send(request())
            served[instance(client.read_response())] += 1
        self.check(served)


class DeathTests(WorkersTestCase):
    """A worker that dies takes its own connections along and nobody else's."""

    def test_killed(self) -> None:
        """Streams of the others go on, new clients are served, and a new worker comes."""
        with upstream_and_proxy(stream, "--workers=2") as (upstream, proxy):
            before = wait_workers(proxy)
            clients = self.streams(proxy, 8)
            upstream.script = answer()
            os.kill(before[1], signal.SIGKILL)
            for _ in range(20):
                self.assertEqual(200, proxy.ask(request()).status)
            alive = [client for client in clients if not _broken(client)]
            self.assertTrue(0 < len(alive) < 8, f"{len(alive)} of 8 streams are alive")
            with suppress(Closed):
                upstream.shout(chunk(b"more") + LAST_CHUNK)
            for client in alive:
                self.assertEqual(b"more", client.read_chunk())
                self.assertEqual(b"", client.read_chunk())
            self.assertTrue(eventually(lambda: pids(proxy.log())[1] != before[1], START_LIMIT))
            after = pids(proxy.log())
            self.assertEqual(before[2], after[2])
            self.assertTrue(gone(before[1]), "the dead one was not reaped")
            told = f"(pid {before[1]}) was killed by SIGKILL; it is started again in 0.1 s"
            self.assertIn(told, proxy.log())
            os.kill(before[2], signal.SIGKILL)
            for _ in range(20):
                self.assertEqual(200, proxy.ask(request()).status, "the new one does not serve")

    def test_all_killed(self) -> None:
        """When all workers die clients wait in the queue, and are served by the new ones."""
        with upstream_and_proxy(None, "--workers=2") as (_, proxy):
            before = wait_workers(proxy)
            for pid in before.values():
                os.kill(pid, signal.SIGKILL)
            self.assertEqual([], wait_gone(before.values()))
            self.assertEqual(200, proxy.ask(request()).status)

    def test_signals_are_the_parents(self) -> None:
        """A worker alone heeds neither SIGTERM nor SIGHUP: what they mean the parent says."""
        with upstream_and_proxy(answer(BEGUN), "--workers=2") as (_, proxy):
            before = wait_workers(proxy)
            clients = [self.enterContext(proxy.client()) for _ in range(4)]
            for client in clients:
                client.send(request())
                client.read_head()
                self.assertEqual(b"x", client.read_chunk())
            for pid in before.values():
                for number in (signal.SIGTERM, signal.SIGHUP):
                    os.kill(pid, number)
            self.assertFalse(any(_broken(client) for client in clients))
            self.assertEqual(before, pids(proxy.log()))


def _broken(client: RawClient) -> bool:
    """Tell whether a stream that should be silent has ended."""
    if client.quiet(0.2):
        return False
    try:
        client.read_chunk()
    except EOFError:
        return True
    return False


class EndTests(WorkersTestCase):
    """All processes end as one."""

    def start(self) -> tuple[Proxy, dict[int, int], list[RawClient]]:
        """Start two workers with streams that do not end."""
        upstream = self.enterContext(ScriptedUpstream(stream))
        proxy = Proxy("--target", upstream.url, "--workers=2").start()
        self.addCleanup(proxy.stop)
        workers = wait_workers(proxy)
        return proxy, workers, self.streams(proxy, 6)

    def check_end(self, proxy: Proxy, workers: Mapping[int, int]) -> None:
        """Check that all have ended, with status 0 and in order."""
        self.assertTrue(eventually(lambda: _state(proxy.pid) in ("", "Z"), END_LIMIT), proxy.log())
        self.assertEqual([], wait_gone(workers.values()), "workers are left")
        self.assertEqual(0, proxy.stop(), proxy.log())
        proxy.check_log()
        self.assertNotIn("started again", proxy.log())
        self.assertNotIn(" said: ", proxy.log())

    def test_sigterm(self) -> None:
        """SIGTERM ends all with status 0, streams without a clean end, one or two signals."""
        for times in (1, 2):
            with self.subTest(times=times):
                proxy, workers, clients = self.start()
                for _ in range(times):
                    os.kill(proxy.pid, signal.SIGTERM)
                    time.sleep(0.02)
                self.check_end(proxy, workers)
                for client in clients:
                    with self.assertRaises(EOFError):
                        client.read_chunk()
                lines = re.findall(r'"GET / HTTP/1\.1" 200 .*', proxy.log())
                self.assertEqual(6, len(lines), "a line of the access log is lost")

    def test_control_c(self) -> None:
        """Control-C, which a terminal sends to every process, ends all without a traceback."""
        heed_interrupts(self)
        proxy, workers, _ = self.start()
        for pid in (*workers.values(), proxy.pid):
            os.kill(pid, signal.SIGINT)
        self.assertTrue(eventually(lambda: _state(proxy.pid) in ("", "Z"), END_LIMIT))
        self.assertEqual([], wait_gone(workers.values()))
        self.assertIn(proxy.stop(), (0, -signal.SIGINT))
        proxy.check_log()
        self.assertNotIn("KeyboardInterrupt", proxy.log())
        self.assertNotIn("started again", proxy.log())

    def test_parent_killed(self) -> None:
        """Workers whose parent was killed end by themselves."""
        proxy, workers, clients = self.start()
        os.kill(proxy.pid, signal.SIGKILL)
        self.assertEqual([], wait_gone(workers.values()), "orphans are left")
        for client in clients:
            with self.assertRaises(EOFError):
                client.read_chunk()

    def test_stuck(self) -> None:
        """A worker that does not end is killed after the limit, and the status is still 0."""
        proxy, workers, _ = self.start()
        os.kill(workers[1], signal.SIGSTOP)
        os.kill(proxy.pid, signal.SIGTERM)
        self.check_end(proxy, workers)
        self.assertIn(f"Worker 1 (pid {workers[1]}) has not ended after 5 s", proxy.log())


def _state(pid: int) -> str:
    """Return a process's state letter; empty when it is no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


class DaemonTests(WorkersTestCase):
    """Under twistd's own care: pid file, log file."""

    def test_daemon(self) -> None:
        """The pid file names the parent; ending it ends all; the log is one."""
        upstream = self.enterContext(ScriptedUpstream())
        pid_file, log = Path(self.directory, "the.pid"), Path(self.directory, "the.log")
        subprocess.run(
            [
                *(sys.executable, str(TWISTD), f"--pidfile={pid_file}", f"--logfile={log}"),
                *("pyproxy", "--port=0", f"--target={upstream.url}", "--workers=2"),
            ],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.DEVNULL,
            timeout=START_LIMIT,
            check=True,
        )
        parent = int(pid_file.read_text())
        self.addCleanup(_kill, parent)
        self.assertTrue(eventually(lambda: len(pids(log.read_text())) == 2, START_LIMIT))
        found = re.search(r"Listening on http://127\.0\.0\.1:(\d+)", log.read_text())
        assert found is not None
        with RawClient(int(found[1])) as client:
            client.send(request())
            self.assertEqual(200, client.read_response().status)
        workers = pids(log.read_text())
        os.kill(parent, signal.SIGTERM)
        self.assertEqual([], wait_gone([parent, *workers.values()]))
        self.assertFalse(pid_file.exists())
        self.assertEqual(1, log.read_text().count('"GET / HTTP/1.1" 200'))
        self.assertNotIn("Traceback", log.read_text())


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class LogTests(WorkersTestCase):
    """The log is that of one service."""

    def test_access_log(self) -> None:
        """Each request has its line, whole and once, whoever served it."""
        with upstream_and_proxy(None, "--workers=2") as (_, proxy):
            wait_workers(proxy)
            agent = b"User-Agent: " + b"a" * 500
            for first in range(0, 200, 20):
                clients = [proxy.client() for _ in range(20)]
                for number, client in enumerate(clients, first):
                    client.send(request(b"GET /%d HTTP/1.1" % number, agent))
                for client in clients:
                    self.assertEqual(200, client.read_response().status)
                    client.close()
            line = (
                r"\[pyproxy\.access#info\] 127\.0\.0\.1 .* "
                r'"GET /(\d+) HTTP/1\.1" 200 2 "-" "a{500}" [\d.]+$'
            )
            eventually(lambda: len(re.findall(line, proxy.log(), re.MULTILINE)) == 200)
            logged = sorted(map(int, re.findall(line, proxy.log(), re.MULTILINE)))
            self.assertEqual(list(range(200)), logged)


class SecretTests(WorkersTestCase):
    """Secrets reach the workers and nobody else."""

    def test_process_list(self) -> None:
        """No argument or variable of a worker shows what the parent's own do not."""
        file = Path(self.directory, "key")
        file.write_text(f"{SECRET}-file\n")
        with upstream_and_proxy(
            None,
            *("--header", "Authorization: Bearer ${KEY}", "--header", f"X-Api-Key: @{file}"),
            "--allow-host=front.example",
            "--workers=2",
            environment={"KEY": SECRET},
        ) as (upstream, proxy):
            workers = wait_workers(proxy)
            file.unlink()
            os.kill(workers[1], signal.SIGKILL)
            self.assertTrue(eventually(lambda: pids(proxy.log())[1] != workers[1], START_LIMIT))
            for _ in range(10):
                self.assertEqual(200, proxy.ask(request()).status)
            for head in upstream.requests:
                self.assertEqual(f"Bearer {SECRET}".encode(), head.value(b"authorization"))
                self.assertEqual(f"{SECRET}-file".encode(), head.value(b"x-api-key"))
            of_parent = Path(f"/proc/{proxy.pid}/environ").read_bytes().split(b"\0")
            for pid in pids(proxy.log()).values():
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                self.assertNotRegex(command, rb"(?i)sk-|authorization|key")
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                self.assertEqual(set(), set(environment) - set(of_parent))
            self.assertNotIn(SECRET, proxy.log())

    def test_one_name(self) -> None:
        """``Via`` names the service, not the worker: a loop through two of them is one too."""
        with upstream_and_proxy(None, "--workers=2") as (upstream, proxy):
            wait_workers(proxy)
            for _ in range(20):
                proxy.ask(request())
            self.assertEqual(1, len({head.value(b"via") for head in upstream.requests}))
            own = upstream.requests[0].value(b"via") or b""
            for _ in range(20):
                self.assertEqual(508, proxy.ask(request(b"GET / HTTP/1.1", b"Via: " + own)).status)


class ListenTests(WorkersTestCase):
    """Every kind of listener can be shared."""

    def test_unix_socket(self) -> None:
        """A Unix socket: its file outlives workers, and goes with the service."""
        path = Path(self.directory, "proxy.sock")

        def ask() -> int:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(PATIENCE)
            sock.connect(str(path))
            with Wire(sock) as client:
                client.send(request())
                return client.read_response().status

        with upstream_and_proxy(None, f"--listen=unix:{path}", "--workers=2") as (_, proxy):
            workers = wait_workers(proxy)
            os.kill(workers[1], signal.SIGKILL)
            self.assertEqual([], wait_gone([workers[1]]))
            for _ in range(10):
                self.assertEqual(200, ask())
        self.assertFalse(path.exists(), "the socket's file is left behind")

    def test_tls(self) -> None:
        """An ``ssl:`` endpoint; its key is read once, by the parent."""
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        pem = Path(self.directory, "server.pem")
        certificate.private_key_and_cert_chain_pem.write_to_path(pem)
        listen = f"--listen=ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
        context = ssl.create_default_context()
        authority.configure_trust(context)
        with upstream_and_proxy(None, listen, "--workers=2") as (_, proxy):
            workers = wait_workers(proxy)
            pem.unlink()
            os.kill(workers[1], signal.SIGKILL)
            self.assertTrue(eventually(lambda: pids(proxy.log())[1] != workers[1], START_LIMIT))
            for _ in range(10):
                raw = socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)
                with Wire(context.wrap_socket(raw, server_hostname="localhost")) as client:
                    client.send(request())
                    self.assertEqual(200, client.read_response().status)

    def test_wrapped(self) -> None:
        """The PROXY protocol around it, on IPv6, and several at once."""
        listens = (
            "--listen=tcp:0:interface=127.0.0.1",
            "--listen=haproxy:tcp6:0:interface=\\:\\:1",
        )
        with upstream_and_proxy(None, *listens, "--workers=2") as (_, proxy):
            wait_workers(proxy)
            found = re.search(r"Listening on http://\[::1\]:(\d+)", proxy.log())
            assert found is not None
            for _ in range(10):
                sock = socket.create_connection(("::1", int(found[1])), PATIENCE)
                with Wire(sock) as client:
                    client.send(b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n" + request())
                    self.assertEqual(200, client.read_response().status)
            self.assertEqual(200, proxy.ask(request()).status)

    def test_websocket(self) -> None:
        """WebSockets pass, in every worker."""
        with upstream_and_proxy(None, "--workers=2") as (upstream, proxy):
            wait_workers(proxy)
            for _ in range(6):
                pair = self.enterContext(open_pair(proxy, upstream))
                pair.client.send(text(b"hello").masked().octets)
                self.assertEqual(b"hello", read_frame(pair.upstream).payload)
                pair.upstream.send(text(b"you").octets)
                self.assertEqual(b"you", read_frame(pair.client).payload)

    def test_demo(self) -> None:
        """The demo upstream runs once, for all workers."""
        with Proxy("--demo", "--workers=2") as proxy:
            wait_workers(proxy)
            for _ in range(6):
                self.assertEqual(200, proxy.ask(request(b"GET /v1/models HTTP/1.1")).status)
            self.assertEqual(1, proxy.log().count("DemoSite starting"))

    def test_stdio(self) -> None:
        """What cannot be shared is a usage error that says what would be right."""
        ended = subprocess.run(
            [
                *(sys.executable, str(TWISTD), "-n", "--pidfile=", "pyproxy", "--demo"),
                *("--workers=2", "--listen=stdio:"),
            ],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=START_LIMIT,
            check=False,
        )
        self.assertIn("--listen stdio:: several workers cannot share it", ended.stdout)


class ReactorTests(WorkersTestCase):
    """Workers run on the parent's kind of reactor."""

    def test_reactors(self) -> None:
        """``--reactor=asyncio`` and ``--reactor=poll``: they serve, and end in order."""
        upstream = self.enterContext(ScriptedUpstream())
        for name in ("asyncio", "poll"):
            with self.subTest(name):
                self.serve_with(name, upstream)

    def serve_with(self, name: str, upstream: ScriptedUpstream) -> None:
        """Serve with a reactor."""
        log = Path(self.directory, f"{name}.log")
        with subprocess.Popen(
            [
                *(sys.executable, str(TWISTD), "-n", "--pidfile=", f"--logfile={log}"),
                *(f"--reactor={name}", "pyproxy", "--port=0", f"--target={upstream.url}"),
                "--workers=2",
            ],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.DEVNULL,
        ) as process:
            try:
                self.assertTrue(
                    eventually(
                        lambda: log.exists() and len(pids(log.read_text())) == 2, START_LIMIT
                    )
                )
                workers = pids(log.read_text())
                found = re.search(r"Listening on http://127\.0\.0\.1:(\d+)", log.read_text())
                assert found is not None
                for _ in range(10):
                    with RawClient(int(found[1])) as client:
                        client.send(request())
                        self.assertEqual(200, client.read_response().status)
                process.terminate()
                self.assertEqual(0, process.wait(PATIENCE), log.read_text())
            finally:
                process.kill()
        self.assertEqual([], wait_gone(workers.values()))
        self.assertNotIn("Traceback", log.read_text())
