"""SIGTERM: what is open may end by itself, nobody new comes in, and the rest ends in order."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any

from benchmarks.processes import HAND_OVER
from tests.live.kit import (
    CHECKOUT,
    LAST_CHUNK,
    PATIENCE,
    START_LIMIT,
    Closed,
    Proxy,
    RawClient,
    ScriptedUpstream,
    Wire,
    answer,
    chunk,
    eventually,
    free_port,
    heed_interrupts,
    request,
)
from tests.live.test_workers import wait_workers
from tests.live.websocket import open_pair, read_frame, text

BEGUN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"first")


class DrainTestCase(unittest.TestCase):
    """A case with an upstream whose streams end when the test says so."""

    def setUp(self) -> None:
        """Start the upstream."""
        self.goes_on = threading.Event()
        self.addCleanup(self.goes_on.set)
        self.upstream = self.enterContext(ScriptedUpstream(self.script))

    def script(self, wire: Wire) -> None:
        """Stream until the test says so; answer everything else at once."""
        head = wire.read_head()
        if head.target == b"/stream":
            wire.send(BEGUN)
            self.goes_on.wait(2 * PATIENCE)
            wire.send(chunk(b"second") + LAST_CHUNK)
        else:
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def start(self, *arguments: str, workers: int = 1, by_context: bool = True) -> Proxy:
        """Start the proxy; by its context, it has to end with status 0 or by SIGTERM."""
        proxy = Proxy("--target", self.upstream.url, f"--workers={workers}", *arguments)
        if by_context:
            self.enterContext(proxy)
        else:
            proxy.start()
            self.addCleanup(proxy.stop)
        if workers > 1:
            wait_workers(proxy, workers)
        return proxy

    def stream(self, proxy: Proxy) -> RawClient:
        """Begin a stream."""
        client = self.enterContext(proxy.client())
        client.send(request(b"GET /stream HTTP/1.1"))
        client.read_head()
        self.assertEqual(b"first", client.read_chunk())
        return client

    def refuses(self, port: int) -> bool:
        """Tell whether nobody new comes in."""
        try:
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        except ConnectionRefusedError:
            return True
        return False

    def ended(self, proxy: Proxy) -> int | None:
        """Return a process's status, None while it runs."""
        process = proxy._process
        assert process is not None
        return process.poll()

    def assert_ends(self, proxy: Proxy, *others: int) -> None:
        """Wait for the end, with status 0 or one of others."""
        self.assertTrue(eventually(lambda: self.ended(proxy) is not None), proxy.log())
        self.assertIn(self.ended(proxy), (0, *others))


class DrainTests(DrainTestCase):
    """The first SIGTERM."""

    def check_drain(self, workers: int) -> None:
        """Streams end by themselves; kept connections are told; nobody new; then status 0."""
        proxy = self.start("--drain-timeout=60", workers=workers)
        kept = [self.enterContext(proxy.client()) for _ in range(4)]
        for client in kept:
            client.send(request())
            self.assertIsNone(client.read_response().value(b"connection"))
        stream = self.stream(proxy)
        os.kill(proxy.pid, signal.SIGTERM)
        self.assertTrue(eventually(lambda: self.refuses(proxy.port)), proxy.log())
        kept[0].send(request())
        response = kept[0].read_response()
        self.assertEqual((200, b"close"), (response.status, response.value(b"connection")))
        for client in kept:
            self.assertEqual(b"", client.read_some())
        self.assertIsNone(self.ended(proxy), "it did not wait for the stream")
        self.goes_on.set()
        self.assertEqual(b"second", stream.read_chunk())
        self.assertEqual(b"", stream.read_chunk())
        self.assert_ends(proxy)
        proxy.check_log()

    def test_one_process(self) -> None:
        """In one process."""
        self.check_drain(1)

    def test_workers(self) -> None:
        """In workers."""
        self.check_drain(2)

    def test_whole_group(self) -> None:
        """A signal to all processes at once, as supervisors send it, is one to the parent."""
        proxy = self.start("--drain-timeout=60", workers=2)
        stream = self.stream(proxy)
        for pid in (*wait_workers(proxy).values(), proxy.pid):
            os.kill(pid, signal.SIGTERM)
        self.assertTrue(eventually(lambda: self.refuses(proxy.port)), proxy.log())
        self.goes_on.set()
        self.assertEqual(b"second", stream.read_chunk())
        self.assertEqual(b"", stream.read_chunk())
        self.assert_ends(proxy)
        proxy.check_log()

    def check_timeout(self, workers: int) -> None:
        """At the end of its time a WebSocket gets Close 1001, and a stream breaks off."""
        proxy = self.start("--drain-timeout=2", workers=workers)
        stream = self.stream(proxy)
        with open_pair(proxy, self.upstream) as pair:
            began = time.monotonic()
            os.kill(proxy.pid, signal.SIGTERM)
            self.assertTrue(eventually(lambda: self.refuses(proxy.port)), proxy.log())
            pair.client.send(text(b"on").masked().octets)
            self.assertEqual(b"on", read_frame(pair.upstream).payload)
            for end in (pair.client, pair.upstream):
                self.assertEqual(1001, read_frame(end).close_code)
            self.assertGreaterEqual(time.monotonic() - began, 2)
            with self.assertRaises(Closed):
                stream.read_chunk()
        self.assert_ends(proxy)
        proxy.check_log()

    def test_timeout(self) -> None:
        """In one process."""
        self.check_timeout(1)

    def test_timeout_of_workers(self) -> None:
        """In workers."""
        self.check_timeout(2)

    def check_second(self, workers: int, number: int) -> None:
        """A second signal ends it at once; of SIGINT the process may die, of SIGTERM not."""
        heed_interrupts(self)
        proxy = self.start("--drain-timeout=60", workers=workers, by_context=False)
        stream = self.stream(proxy)
        os.kill(proxy.pid, signal.SIGTERM)
        self.assertTrue(eventually(lambda: self.refuses(proxy.port)), proxy.log())
        os.kill(proxy.pid, number)
        with self.assertRaises(Closed):
            stream.read_chunk()
        self.assert_ends(proxy, *((-number,) if number == signal.SIGINT else ()))
        proxy.check_log()

    def test_second(self) -> None:
        """SIGTERM, in one process."""
        self.check_second(1, signal.SIGTERM)

    def test_second_of_workers(self) -> None:
        """SIGTERM, in workers."""
        self.check_second(2, signal.SIGTERM)

    def test_interrupt(self) -> None:
        """SIGINT, in one process."""
        self.check_second(1, signal.SIGINT)

    def test_interrupt_of_workers(self) -> None:
        """SIGINT, in workers."""
        self.check_second(2, signal.SIGINT)

    def readiness(self, admin: int) -> tuple[int, dict[str, Any]]:
        """Return what the readiness page says."""
        with RawClient(admin) as client:
            client.send(request(b"GET /readyz HTTP/1.1", host=b"localhost"))
            response = client.read_response()
            return response.status, json.loads(response.body)

    def check_delay(self, workers: int) -> None:
        """Before it, the readiness page says no while connections are accepted still."""
        admin = free_port()
        proxy = self.start(
            "--drain-timeout=60", "--drain-delay=600", f"--admin=tcp:{admin}", workers=workers
        )
        self.assertTrue(eventually(lambda: self.readiness(admin)[0] == 200), proxy.log())
        os.kill(proxy.pid, signal.SIGTERM)
        self.assertTrue(eventually(lambda: self.readiness(admin)[0] == 503), proxy.log())
        self.assertEqual(200, proxy.ask(request()).status)
        _, said = self.readiness(admin)
        self.assertEqual("draining, still accepting connections", said["status"])
        os.kill(proxy.pid, signal.SIGTERM)
        self.assert_ends(proxy)
        self.assertTrue(self.refuses(proxy.port))

    def test_delay(self) -> None:
        """In one process."""
        self.check_delay(1)

    def test_delay_of_workers(self) -> None:
        """In workers."""
        self.check_delay(2)

    def check_after_delay(self, workers: int) -> None:
        """After it nobody new comes in, and what is open may end by itself."""
        proxy = self.start("--drain-timeout=60", "--drain-delay=0.5", workers=workers)
        stream = self.stream(proxy)
        os.kill(proxy.pid, signal.SIGTERM)
        self.assertTrue(eventually(lambda: self.refuses(proxy.port)), proxy.log())
        self.goes_on.set()
        self.assertEqual(b"second", stream.read_chunk())
        self.assert_ends(proxy)

    def test_after_delay(self) -> None:
        """In one process."""
        self.check_after_delay(1)

    def test_after_delay_of_workers(self) -> None:
        """In workers."""
        self.check_after_delay(2)

    def check_streams(self, workers: int) -> None:
        """The readiness page says how many requests are open, in whichever process."""
        admin = free_port()
        proxy = self.start(f"--admin=tcp:{admin}", workers=workers)

        def streams() -> object:
            return self.readiness(admin)[1]["streams"]

        self.assertEqual(0, streams())
        for _ in range(3):
            self.stream(proxy)
        self.assertTrue(eventually(lambda: streams() == 3), streams())
        self.goes_on.set()
        self.assertTrue(eventually(lambda: streams() == 0), streams())

    def test_streams(self) -> None:
        """In one process."""
        self.check_streams(1)

    def test_streams_of_workers(self) -> None:
        """In workers."""
        self.check_streams(2)

    def test_no_reload(self) -> None:
        """A drain is not taken back by a reload."""
        proxy = self.start("--drain-timeout=60")
        self.stream(proxy)
        os.kill(proxy.pid, signal.SIGTERM)
        self.assertTrue(eventually(lambda: self.refuses(proxy.port)), proxy.log())
        os.kill(proxy.pid, signal.SIGHUP)
        self.assertIsNotNone(proxy.wait_log("No reload: the proxy is draining"))
        self.assertTrue(self.refuses(proxy.port))


class SystemdTests(DrainTestCase):
    """Under a stand-in for systemd: it has the listening socket, and is told."""

    def setUp(self) -> None:
        """Make the sockets."""
        super().setUp()
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.notices = self.enterContext(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.notices.bind(str(self.directory / "notify"))
        self.notices.settimeout(START_LIMIT)
        self.listening = self.enterContext(socket.create_server(("127.0.0.1", 0)))
        self.port = self.listening.getsockname()[1]

    def run_proxy(self, *more: str, code: str = HAND_OVER) -> subprocess.Popen[bytes]:
        """Start a process with the socket.  Args: code, of whoever hands it over."""
        descriptor = self.listening.fileno()
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", code, str(descriptor), sys.executable, "-m"),
                *("pyproxy", "--target", self.upstream.url, *more),
                *("--listen", "systemd:domain=INET:index=0"),
            ],
            cwd=self.directory,
            env={
                **os.environ,
                "PYTHONPATH": str(CHECKOUT),
                "NOTIFY_SOCKET": str(self.directory / "notify"),
                "WATCHDOG_USEC": "2000000",
            },
            pass_fds=(descriptor,),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def end() -> None:
            process.kill()
            process.wait()

        self.addCleanup(end)
        return process

    def told(self, word: str) -> dict[str, str]:
        """Return the next notice that has a word; what else is told meanwhile is passed over."""
        while True:
            lines = self.notices.recv(4096).decode().split("\n")
            notice = dict(line.split("=", 1) for line in lines)
            if word in notice:
                return notice

    def ask(self) -> int:
        """Ask on a new connection."""
        with RawClient(self.port) as client:
            client.send(request())
            return client.read_response().status

    def check_notices(self, *more: str) -> None:
        """Ready, a reload with its time, the watchdog, and the end: each is told."""
        process = self.run_proxy(*more)
        self.assertIn("serving", self.told("READY")["STATUS"])
        self.assertEqual("1", self.told("WATCHDOG")["WATCHDOG"])
        self.assertEqual(200, self.ask())
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        process.send_signal(signal.SIGHUP)
        self.assertGreaterEqual(int(self.told("RELOADING")["MONOTONIC_USEC"]), before)
        self.told("READY")
        process.terminate()
        self.told("STOPPING")
        self.assertEqual(0, process.wait(PATIENCE))

    def test_notices(self) -> None:
        """In one process."""
        self.check_notices()

    def test_notices_of_workers(self) -> None:
        """With workers the parent alone speaks, and it is ready once they serve."""
        self.check_notices("--workers=2")

    def test_without_names(self) -> None:
        """Who hands the socket over need not name it, as ``systemd-socket-activate`` does not.

        Trap, Twisted's ListenFDs: takes no socket without a name.
        """
        self.upstream.script = answer()
        code = HAND_OVER.replace("LISTEN_FDNAMES=", "LISTEN_OTHER=")
        self.assertNotEqual(HAND_OVER, code)
        for workers in ("1", "2"):
            process = self.run_proxy("--workers", workers, code=code)
            self.told("READY")
            self.assertEqual(200, self.ask())
            process.terminate()
            self.assertEqual(0, process.wait(PATIENCE))

    def test_restart(self) -> None:
        """Who comes between two processes waits, and is served by the second."""
        self.upstream.script = answer()
        process = self.run_proxy()
        self.told("READY")
        for _ in range(2):
            self.assertEqual(200, self.ask())
            process.terminate()
            self.assertEqual(0, process.wait(PATIENCE))
            with RawClient(self.port) as early:
                early.send(request())
                process = self.run_proxy()
                self.told("READY")
                self.assertEqual(200, early.read_response().status)
        process.terminate()
        self.assertEqual(0, process.wait(PATIENCE))
