"""Reloads: what is open goes on, what begins is served anew, and a bad file changes nothing."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import unittest
from pathlib import Path

from tests.live.kit import (
    LAST_CHUNK,
    PATIENCE,
    Proxy,
    RawClient,
    Response,
    ScriptedUpstream,
    Wire,
    answer,
    chunk,
    eventually,
    free_port,
    request,
)
from tests.live.test_workers import wait_workers
from tests.live.websocket import open_pair, read_frame, text

BEGUN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"first")

WATCHED = 10.0
"""Seconds in which a change of a file is noticed, on a busy machine."""


class ReloadTestCase(unittest.TestCase):
    """A case with two upstreams, and a proxy with a file."""

    more: tuple[str, ...] = ()

    def setUp(self) -> None:
        """Start all of them."""
        said = (
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n%b" % name for name in (b"one", b"two")
        )
        self.one, self.two = (self.enterContext(ScriptedUpstream(answer(text))) for text in said)
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = self.directory / "pyproxy.toml"
        self.key = self.directory / "key"
        self.key.write_text("first-key")
        self.admin = free_port()
        self.port = free_port()
        self.secret = 'set_headers = { X-Key = "@key" }\n'

    def start(self, workers: int = 1, *more: str, top: str = "") -> Proxy:
        """Start the proxy, with the routes to the first upstream."""
        self.workers = workers
        self.top = top
        self.write(self.one)
        proxy = self.enterContext(Proxy("--config", str(self.path), *more))
        if workers > 1:
            wait_workers(proxy, workers)
        self.proxy = proxy
        return proxy

    def write(
        self, upstream: ScriptedUpstream, more: str = "", ports: tuple[int, ...] = ()
    ) -> None:
        """Write a file whose route leads to an upstream."""
        places = "".join(
            f'[[listeners]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
            for port in (self.port, *ports)
        )
        self.path.write_text(
            f'workers = {self.workers}\nadmin = "tcp:{self.admin}"\ndrain_timeout = 0\n{self.top}\n'
            f'{places}[upstreams.api]\ntarget = "{upstream.url}"\n'
            f'{self.secret}[defaults]\nallow_host = ["any"]\n'
            f'[[routes]]\npath = "/"\nupstream = "api"\n{more}'
        )

    def reload(self, what: str = "Reloaded: ") -> None:
        """Reload, and wait until that is over."""
        before = self.proxy.log().count(what)
        os.kill(self.proxy.pid, signal.SIGHUP)
        self.assertTrue(eventually(lambda: self.proxy.log().count(what) > before), self.proxy.log())

    def ask(self, target: bytes = b"/") -> Response:
        """Ask on a new connection."""
        return self.proxy.ask(request(b"GET %b HTTP/1.1" % target))

    def ready(self) -> tuple[int, dict[str, object]]:
        """Return what the readiness page says."""
        with RawClient(self.admin) as client:
            client.send(request(b"GET /readyz HTTP/1.1", host=b"127.0.0.1"))
            response = client.read_response()
            return response.status, json.loads(response.body)


class OpenTests(ReloadTestCase):
    """What is open when a reload comes."""

    def check_open(self, workers: int) -> None:
        """A response and a WebSocket go on by the route they began with; new requests do not."""
        self.start(workers)
        goes_on = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(BEGUN)
            goes_on.wait(PATIENCE)
            wire.send(chunk(b"second") + LAST_CHUNK)

        self.one.script = script
        with self.proxy.client() as client:
            client.send(request(b"GET /stream HTTP/1.1"))
            client.read_head()
            self.assertEqual(b"first", client.read_chunk())
            with open_pair(self.proxy, self.one, target=b"/ws") as pair:
                self.write(self.two, '[[routes]]\npath = "/ws"\nanswer = { status = 404 }\n')
                self.reload()
                for _ in range(4 * workers):
                    self.assertEqual(b"two", self.ask().body)
                self.assertEqual(404, self.ask(b"/ws").status)
                pair.client.send(text(b"still there?").masked().octets)
                self.assertEqual(b"still there?", read_frame(pair.upstream).payload)
                pair.upstream.send(text(b"yes").octets)
                self.assertEqual(b"yes", read_frame(pair.client).payload)
            goes_on.set()
            self.assertEqual(b"second", client.read_chunk())
            self.assertEqual(b"", client.read_chunk())

    def test_one_process(self) -> None:
        """In one process."""
        self.check_open(1)

    def test_workers(self) -> None:
        """In workers."""
        self.check_open(2)

    def test_kept_connections(self) -> None:
        """A connection to an upstream that stays is used again; one that nobody needs is closed."""
        self.start()
        self.ask()
        self.write(self.one, 'idle_timeout = 7\n[[routes]]\npath = "/x"\nupstream = "api"\n')
        self.reload()
        self.ask(b"/x")
        self.assertEqual((1, 2), (self.one.connections, len(self.one.heads)))
        closed = threading.Event()

        def hang_up(wire: Wire) -> None:
            wire.wait_hangup()
            closed.set()
            wire.close()

        self.one.script = hang_up
        self.write(self.two)
        self.reload()
        self.assertTrue(closed.wait(PATIENCE))

    def test_kept_client(self) -> None:
        """A client's kept connection is served by the newest routes."""
        self.start()
        with self.proxy.client() as client:
            for upstream, body in ((self.one, b"one"), (self.two, b"two")):
                self.write(upstream)
                self.reload()
                client.send(request())
                self.assertEqual(body, client.read_response().body)

    def test_secret(self) -> None:
        """A secret's file is read anew; with options alone too."""
        self.start()
        self.ask()
        self.key.write_text("second-key")
        self.reload()
        self.ask()
        self.assertEqual(
            [b"first-key", b"second-key"], [head.value(b"x-key") for head in self.one.requests]
        )
        self.proxy = self.enterContext(
            Proxy("--target", self.two.url, "--header", f"X-Key: @{self.key}", "--allow-host=any")
        )
        self.ask()
        self.key.write_text("third-key")
        self.reload()
        self.ask()
        self.assertEqual(
            [b"second-key", b"third-key"], [head.value(b"x-key") for head in self.two.requests]
        )


class RefusedTests(ReloadTestCase):
    """A file that cannot be used, and what cannot be changed."""

    def check_bad(self, workers: int) -> None:
        """Nothing changes; log and readiness page say all that is wrong; a good file mends it."""
        self.start(workers, top="unready_on_failed_reload = true")
        self.assertTrue(eventually(lambda: self.ready()[0] == 200))
        good = self.path.read_text()
        self.path.write_text(good.replace("drain_timeout", "drain_timout") + 'hots = "a"\n')
        self.reload("The reload is refused")
        self.assertEqual(b"one", self.ask().body)
        status, page = self.ready()
        self.assertEqual((503, 1), (status, page["generation"]))
        for words in ("pyproxy.toml:3: drain_timout", "did you mean drain_timeout", "hots"):
            self.assertIn(words, self.proxy.log())
            self.assertIn(words, json.dumps(page["failures"]))
        self.path.write_text(good)
        self.reload()
        self.assertEqual((200, 2), (self.ready()[0], self.ready()[1]["generation"]))

    def test_one_process(self) -> None:
        """In one process."""
        self.check_bad(1)

    def test_workers(self) -> None:
        """With workers."""
        self.check_bad(2)

    def test_taken_port(self) -> None:
        """A listener that cannot be opened: the others do not change, the routes neither."""
        self.start()
        free = free_port()
        self.write(self.two, ports=(free, self.two.port))
        self.reload("The reload is refused")
        self.assertEqual(b"one", self.ask().body)
        with self.assertRaises(ConnectionRefusedError):
            RawClient(free).close()

    def test_fixed(self) -> None:
        """What only a restart can change is said, and the rest is taken."""
        self.start()
        self.workers = 3
        self.write(self.two)
        self.reload()
        self.assertIn("workers is not changed by a reload", self.proxy.log())
        self.assertEqual(b"two", self.ask().body)


class ListenerTests(ReloadTestCase):
    """Listeners come and go."""

    def check_listeners(self, workers: int) -> None:
        """Others are added and removed; on the one that stays no connection is refused."""
        self.start(workers)
        other = free_port()
        over, refused = threading.Event(), []

        def ask_on() -> None:
            while not over.is_set():
                try:
                    self.ask()
                except OSError as error:
                    refused.append(error)

        asking = threading.Thread(target=ask_on)
        asking.start()
        try:
            for _ in range(3):
                self.write(self.one, ports=(other,))
                self.reload()
                with RawClient(other) as client:
                    client.send(request())
                    self.assertEqual(b"one", client.read_response().body)
                self.write(self.one)
                self.reload()
                with self.assertRaises(ConnectionRefusedError):
                    RawClient(other).close()
        finally:
            over.set()
            asking.join()
        self.assertEqual([], refused)

    def test_one_process(self) -> None:
        """In one process."""
        self.check_listeners(1)

    def test_workers(self) -> None:
        """In workers: each gets the new socket, and leaves the old one."""
        self.check_listeners(2)

    def check_kept_place(self, workers: int) -> None:
        """Who is connected at a place whose options change stays, with a key too."""
        self.start(workers)
        with self.proxy.client() as client:
            client.send(request())
            client.read_response()
            text = self.path.read_text()
            self.path.write_text(
                text.replace('interface=127.0.0.1"', 'interface=127.0.0.1:backlog=99"')
            )
            self.assertNotEqual(text, self.path.read_text())
            self.reload()
            client.send(request())
            self.assertEqual(b"one", client.read_response().body)

    def test_kept_place(self) -> None:
        """In one process."""
        self.check_kept_place(1)

    def test_kept_place_of_workers(self) -> None:
        """In workers."""
        self.check_kept_place(2)

    def check_key_and_removed(self, workers: int) -> None:
        """Who came through a listener that is gone spends no key that others may."""
        self.start(workers)
        other = free_port()
        self.write(self.one, ports=(other,))
        self.reload()
        with RawClient(other) as idle, RawClient(other) as used:
            for client in (idle, used):
                client.send(request())
                client.read_response()
            self.write(self.two)
            self.reload()
            for client in (idle, used):
                self.assertEqual(b"", client.read_some())
        self.assertEqual([], self.two.heads)

    def test_key_and_removed(self) -> None:
        """In one process."""
        self.check_key_and_removed(1)

    def test_key_and_removed_of_workers(self) -> None:
        """In workers."""
        self.check_key_and_removed(2)

    def test_open_on_removed(self) -> None:
        """Without a key, what came through a listener that is gone goes on."""
        self.secret = ""
        self.start()
        other = free_port()
        self.write(self.one, ports=(other,))
        self.reload()
        with RawClient(other) as client:
            client.send(request())
            client.read_response()
            self.write(self.one)
            self.reload()
            client.send(request())
            self.assertEqual(b"one", client.read_response().body)


class WorkerTests(ReloadTestCase):
    """Workers that start before a reload and after it are alike."""

    def test_restarted(self) -> None:
        """A worker that was started again serves by the newest configuration, at every place."""
        self.start(2)
        other = free_port()
        self.write(self.two, ports=(other,))
        self.reload()
        for pid in wait_workers(self.proxy).values():
            os.kill(pid, signal.SIGKILL)
        self.assertTrue(
            eventually(lambda: self.proxy.log().count(" serves") == 4), self.proxy.log()
        )
        for port in (self.port, other):
            for _ in range(6):
                with RawClient(port) as client:
                    client.send(request())
                    self.assertEqual(b"two", client.read_response().body)
        self.write(self.one)
        self.reload()
        for _ in range(6):
            self.assertEqual(b"one", self.ask().body)

    def test_at_once(self) -> None:
        """Many SIGHUPs at once are as good as one behind the last: the newest file is served."""
        self.start(2)
        for _ in range(20):
            self.write(self.one)
            os.kill(self.proxy.pid, signal.SIGHUP)
        self.write(self.two)
        os.kill(self.proxy.pid, signal.SIGHUP)
        self.assertTrue(eventually(lambda: self.ask().body == b"two"), self.proxy.log())
        self.assertTrue(
            eventually(lambda: all(self.ask().body == b"two" for _ in range(10))), self.proxy.log()
        )


class WatchTests(ReloadTestCase):
    """``--watch``."""

    def test_changes(self) -> None:
        """The file, another in its place, one that it names, one that was missing: all noticed."""
        self.start(1, "--watch")
        self.write(self.two)
        self.assertTrue(eventually(lambda: self.ask().body == b"two", WATCHED))
        self.key.write_text("second-key")
        self.assertTrue(
            eventually(
                lambda: self.ask() and self.two.requests[-1].value(b"x-key") == b"second-key",
                WATCHED,
            )
        )
        kept = self.path.read_text()
        late = self.directory / "late"
        self.path.write_text(kept.replace("@key", "@late"))
        self.assertTrue(eventually(lambda: "late cannot be read" in self.proxy.log(), WATCHED))
        late.write_text("late-key")
        self.assertTrue(
            eventually(
                lambda: self.ask() and self.two.requests[-1].value(b"x-key") == b"late-key",
                WATCHED,
            )
        )
        other = self.directory / "new.toml"
        other.write_text(kept.replace(self.two.url, self.one.url))
        other.replace(self.path)
        self.assertTrue(eventually(lambda: self.ask().body == b"one", WATCHED))
