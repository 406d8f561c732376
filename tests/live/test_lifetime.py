"""Client and upstream live and die together (invariant 3)."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable

from tests.live.kit import (
    MIB,
    PATIENCE,
    PROMPT,
    Closed,
    LiveTestCase,
    Proxy,
    RawClient,
    Wire,
    answer,
    chunk,
    eventually,
    request,
)

LEAVING: tuple[tuple[str, Callable[[RawClient], None]], ...] = (
    ("FIN", RawClient.close),
    ("RST", RawClient.reset),
)


class ClientLeavesTests(LiveTestCase):
    """The client goes; the upstream connection is closed at once (FIELD 1)."""

    def setUp(self) -> None:
        """Have a place where upstream scripts say when they began and when they saw the close."""
        super().setUp()
        self.began = threading.Event()
        self.closed: queue.SimpleQueue[float] = queue.SimpleQueue()

    def await_close(self, wire: Wire) -> None:
        """As an upstream: say that it is time to leave, then note when the close came."""
        self.began.set()
        self.closed.put(wire.wait_closed())
        wire.close()

    def assert_prompt(self, client: RawClient, leave: Callable[[RawClient], None]) -> None:
        """Leave, and check that the upstream sees it in time."""
        self.assertTrue(self.began.wait(PATIENCE), "the request has not reached the upstream")
        time.sleep(0.05)
        left = time.monotonic()
        leave(client)
        try:
            seen = self.closed.get(timeout=PATIENCE)
        except queue.Empty:
            self.fail("the upstream connection stays open")
        self.assertLess(seen - left, PROMPT)
        self.began.clear()

    def test_before_the_first_byte(self) -> None:
        """The model is still thinking when the client leaves: its connection is closed."""

        def script(wire: Wire) -> None:
            wire.read_head()
            self.await_close(wire)

        self.upstream.script = script
        for name, leave in LEAVING:
            with self.subTest(name):
                client = self.proxy.client()
                client.send(request())
                self.assert_prompt(client, leave)

    def test_half_closed_before_the_first_byte(self) -> None:
        """FIN alone is leaving: nothing on the wire tells a half-close from a close."""

        def script(wire: Wire) -> None:
            wire.read_head()
            self.await_close(wire)

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(request())
            self.assert_prompt(client, RawClient.finish)

    def test_after_an_uploaded_body(self) -> None:
        """The same after a request with content."""

        def script(wire: Wire) -> None:
            wire.read_body(wire.read_head())
            self.await_close(wire)

        self.upstream.script = script
        for name, leave in LEAVING:
            with self.subTest(name):
                client = self.proxy.client()
                client.send(request(b"POST / HTTP/1.1", b"Content-Length: 3", body=b"abc"))
                self.assert_prompt(client, leave)

    def test_between_events(self) -> None:
        """The upstream is silent between two events when the client leaves."""
        for framing, piece in (
            (b"Transfer-Encoding: chunked", chunk(b"data: 1\n\n")),
            (b"Content-Length: 100", b"data: 1\n\n"),
            (b"Connection: close", b"data: 1\n\n"),
        ):

            def script(wire: Wire, framing: bytes = framing, piece: bytes = piece) -> None:
                wire.read_head()
                wire.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + piece)
                self.await_close(wire)

            self.upstream.script = script
            for name, leave in LEAVING:
                with self.subTest(name, framing=framing):
                    client = self.proxy.client()
                    client.send(request())
                    client.read_until(b"data: 1\n\n")
                    self.assert_prompt(client, leave)

    def test_with_another_request_waiting(self) -> None:
        """A pipelined request behind the one in flight does not hide that the client has gone."""

        def script(wire: Wire) -> None:
            wire.read_head()
            self.await_close(wire)

        self.upstream.script = script
        for name, leave in LEAVING:
            with self.subTest(name):
                client = self.proxy.client()
                client.send(request() + request(b"GET /second HTTP/1.1"))
                self.assert_prompt(client, leave)
        self.assertNotIn(b"/second", [head.target for head in self.upstream.requests])

    def test_mid_stream_with_the_client_not_reading(self) -> None:
        """The client has stopped reading a download, then leaves."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            wire.send_until_blocked(bytes(MIB), 256 * MIB)
            self.await_close(wire)

        self.upstream.script = script
        for name, leave in LEAVING:
            with self.subTest(name):
                client = self.proxy.client(receive_buffer=65536)
                client.send(request())
                self.assert_prompt(client, leave)

    def test_mid_upload(self) -> None:
        """The client leaves within its body: the upstream's message stays incomplete."""

        def script(wire: Wire) -> None:
            wire.read_head()
            self.await_close(wire)

        self.upstream.script = script
        for name, leave in LEAVING:
            for framing in (b"Content-Length: 1000", b"Transfer-Encoding: chunked"):
                with self.subTest(name, framing=framing):
                    client = self.proxy.client()
                    client.send(request(b"POST / HTTP/1.1", framing, body=chunk(b"abc")))
                    self.assert_prompt(client, leave)

    def test_mid_upload_is_no_complete_message(self) -> None:
        """A chunked upload that breaks off gets no last chunk."""
        outcome: queue.SimpleQueue[str] = queue.SimpleQueue()

        def script(wire: Wire) -> None:
            head = wire.read_head()
            self.began.set()
            try:
                wire.read_body(head)
            except Closed:
                outcome.put("broken")
                raise
            outcome.put("whole")

        self.upstream.script = script
        client = self.proxy.client()
        client.send(request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", body=chunk(b"abc")))
        self.began.wait(PATIENCE)
        client.close()
        self.assertEqual(outcome.get(timeout=PATIENCE), "broken")

    def test_reset_in_a_paused_upload(self) -> None:
        """The upload is paused by backpressure and nobody reads the client when it is reset.

        The upstream does not read either: it must see a reset, a FIN could not pass its buffer.
        """

        def script(wire: Wire) -> None:
            wire.read_head()
            self.began.set()
            self.closed.put(wire.wait_hangup())
            wire.close()

        self.upstream.script = script
        client = self.proxy.client()
        client.send(request(b"POST / HTTP/1.1", b"Content-Length: 1000000000"))
        client.send_until_blocked(bytes(MIB), 256 * MIB, to_proxy=True)
        self.assert_prompt(client, RawClient.reset)

    def test_fin_in_a_paused_upload(self) -> None:
        """A FIN behind octets that wait is found when the upstream reads on."""
        go = threading.Event()
        outcome: queue.SimpleQueue[str] = queue.SimpleQueue()

        def script(wire: Wire) -> None:
            head = wire.read_head()
            go.wait(PATIENCE)
            try:
                wire.discard(int(head.value(b"content-length") or b"0"))
            except Closed:
                outcome.put("broken")
                raise
            outcome.put("whole")

        self.upstream.script = script
        client = self.proxy.client()
        client.send(request(b"POST / HTTP/1.1", b"Content-Length: 1000000000"))
        sent = client.send_until_blocked(bytes(MIB), 256 * MIB)
        self.assertLess(sent, 256 * MIB)
        client.close()
        go.set()
        self.assertEqual(outcome.get(timeout=PATIENCE), "broken")

    def test_others_live_on(self) -> None:
        """One client's leaving touches no other exchange."""
        go = threading.Event()

        def script(wire: Wire) -> None:
            head = wire.read_head()
            if head.target == b"/leaves":
                self.await_close(wire)
                return
            go.wait(PATIENCE)
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        self.upstream.script = script
        with self.proxy.client() as stays:
            stays.send(request(b"GET /stays HTTP/1.1"))
            client = self.proxy.client()
            client.send(request(b"GET /leaves HTTP/1.1"))
            self.assert_prompt(client, RawClient.reset)
            go.set()
            self.assertEqual(stays.read_response().body, b"ok")

    def test_no_socket_is_left(self) -> None:
        """After many departures the process holds as many sockets as before."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x"))
            self.await_close(wire)

        self.upstream.script = script
        self.upstream.drop_connections()
        time.sleep(0.1)
        before = self.proxy.open_sockets()
        for count in range(20):
            client = self.proxy.client()
            client.send(request())
            if count % 2:
                client.read_head()
            (client.close if count % 4 < 2 else client.reset)()
        self.assertTrue(
            eventually(lambda: self.proxy.open_sockets() <= before),
            f"{before} sockets before, {self.proxy.open_sockets()} after",
        )

    def test_leaving_while_connecting(self) -> None:
        """A client that leaves during the connect leaves no attempt behind."""
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            fillers = [_connect_without_waiting(port) for _ in range(8)]
            with Proxy("--target", f"http://127.0.0.1:{port}") as proxy:
                before = proxy.open_sockets()
                client = proxy.client()
                client.send(request())
                self.assertTrue(eventually(lambda: proxy.open_sockets() > before + 1))
                client.reset()
                self.assertTrue(eventually(lambda: proxy.open_sockets() <= before))
            for filler in fillers:
                filler.close()


def _connect_without_waiting(port: int) -> socket.socket:
    """Begin a connection that may never be accepted."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(("127.0.0.1", port))
    return sock


class UpstreamDiesTests(LiveTestCase):
    """The upstream goes mid-message; the client's message stays incomplete (FIELD 16)."""

    def test_mid_body(self) -> None:
        """No framing and no way of dying makes a cut message look whole (RFC 9112 8)."""
        for framing, piece in (
            (b"Content-Length: 100", b"some words"),
            (b"Transfer-Encoding: chunked", chunk(b"some words")),
            (b"Transfer-Encoding: chunked", b"ff\r\nsome words"),
            (b"Transfer-Encoding: chunked", chunk(b"some words") + b"0\r\n"),
            (b"Transfer-Encoding: chunked", b""),
        ):
            for name, die in (("FIN", Wire.close), ("RST", Wire.reset)):
                with self.subTest(name, framing=framing, piece=piece):
                    self.upstream.script = self.dying(framing, piece, die)
                    with self.proxy.client() as client, self.assertRaises(Closed):
                        client.send(request())
                        client.read_head()
                        self.read_whole(client, framing)

    def test_reset_of_a_body_until_close(self) -> None:
        """A body that ends with the connection is cut when that is reset (RFC 9112 6.3)."""
        self.upstream.script = self.dying(b"X-A: 1", b"some words", Wire.reset)
        with self.proxy.client() as client, self.assertRaises(Closed):
            client.send(request())
            client.read_response()

    def test_old_client(self) -> None:
        """An HTTP/1.0 client has only the reset to know that its message was cut."""
        for framing, piece in (
            (b"Transfer-Encoding: chunked", chunk(b"some words")),
            (b"Content-Length: 100", b"some words"),
        ):
            with self.subTest(framing=framing):
                self.upstream.script = self.dying(framing, piece, Wire.close)
                with self.proxy.client() as client, self.assertRaises(Closed):
                    client.send(request(b"GET / HTTP/1.0"))
                    client.read_response()

    def test_during_an_upload(self) -> None:
        """An upstream that dies while the client uploads is 502, and the upload ends."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.read_exactly(10)
            wire.reset()

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(request(b"POST / HTTP/1.1", b"Content-Length: 1000000", body=bytes(10)))
            self.assertEqual(client.read_response().status, 502)
            client.wait_closed()

    def test_the_process_goes_on(self) -> None:
        """After a cut message the next request is served."""
        self.upstream.script = self.dying(b"Content-Length: 100", b"some", Wire.reset)
        with self.proxy.client() as client, self.assertRaises(Closed):
            client.send(request())
            client.read_response()
        self.upstream.script = answer()
        self.assertEqual(self.ask().body, b"ok")

    def dying(
        self, framing: bytes, piece: bytes, die: Callable[[Wire], None]
    ) -> Callable[[Wire], None]:
        """Return a script that sends a head and a piece and dies after both have passed."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + piece)
            time.sleep(0.1)
            die(wire)

        return script

    def read_whole(self, client: RawClient, framing: bytes) -> None:
        """Read as if the message would be whole."""
        if b"chunked" in framing:
            client.read_chunks()
        else:
            client.read_exactly(100)


class ProxyStopsTests(LiveTestCase):
    """The process ends."""

    def test_sigterm(self) -> None:
        """SIGTERM ends the process with status 0, also with an exchange in flight."""
        self.upstream.script = answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x")
        )
        proxy = Proxy("--target", self.upstream.url).start()
        with proxy.client() as client:
            client.send(request())
            client.read_head()
            self.assertEqual(proxy.stop(), 0, proxy.log())
            with self.assertRaises(Closed):
                client.read_chunks()
        proxy.check_log()

    def test_sigterm_in_every_state(self) -> None:
        """SIGTERM finds exchanges in every state and leaves no traceback and no clean half."""
        ready = threading.Semaphore(0)

        def script(wire: Wire) -> None:
            target = wire.read_head().target
            if target == b"/begun":
                wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x"))
            elif target == b"/full":
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
                wire.send_until_blocked(bytes(MIB), 256 * MIB)
            ready.release()
            wire.wait_hangup()
            wire.close()

        self.upstream.script = script
        proxy = Proxy("--target", self.upstream.url).start()
        clients = [proxy.client(receive_buffer=65536) for _ in range(6)]
        clients[0].send(request(b"GET /waits HTTP/1.1") * 2)
        clients[1].send(request(b"GET /begun HTTP/1.1"))
        clients[2].send(request(b"GET /full HTTP/1.1"))
        clients[3].send(request(b"POST /uploads HTTP/1.1", b"Content-Length: 1000000000"))
        clients[3].send_until_blocked(bytes(MIB), 256 * MIB, to_proxy=True)
        clients[4].send(request()[:20])
        for _ in range(4):
            self.assertTrue(ready.acquire(timeout=PATIENCE))
        self.assertEqual(proxy.stop(), 0, proxy.log())
        proxy.check_log()
        with self.assertRaises(Closed):
            clients[1].read_response()
        for client in clients:
            client.close()
