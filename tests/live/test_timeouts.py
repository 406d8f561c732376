"""Every wait has a limit of its own; what moves is never cut (FIELD 4)."""

from __future__ import annotations

import socket
import threading
import time

from tests.live.kit import (
    LAST_CHUNK,
    MIB,
    OK,
    PATIENCE,
    Closed,
    LiveTestCase,
    Proxy,
    Wire,
    chunk,
    eventually,
    request,
)

LIMIT = 2.0
"""Seconds that every limit in this module is set to."""

STEP = 0.25
COUNT = 12
"""Steps, each far below the limit on a busy machine too, that together last longer."""


class ConnectLimitTests(LiveTestCase):
    """``--connect-timeout``."""

    def test_nobody_accepts(self) -> None:
        """A connect that is never answered ends with 504 (RFC 9110 15.6.5)."""
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = full.getsockname()
            fillers = [socket.socket() for _ in range(8)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            with Proxy(
                "--target", f"http://127.0.0.1:{address[1]}", "--connect-timeout", str(LIMIT)
            ) as proxy:
                response = proxy.ask(request())
            for filler in fillers:
                filler.close()
        self.assertEqual(response.status, 504)
        status = b",".join(response.head.values(b"proxy-status"))
        self.assertIn(b"connection_timeout", status)


class FirstByteLimitTests(LiveTestCase):
    """``--first-byte-timeout``."""

    proxy_arguments = ("--first-byte-timeout", str(LIMIT))

    def test_no_answer(self) -> None:
        """An upstream that says nothing is 504, and its connection is closed."""
        closed = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.wait_closed()
            closed.set()
            wire.close()

        self.upstream.script = script
        response = self.ask()
        self.assertEqual(response.status, 504)
        self.assertTrue(closed.wait(PATIENCE))
        self.assertEqual(len(self.upstream.heads), 1, "a request that timed out was sent again")

    def test_slow_upload(self) -> None:
        """The limit does not run while the upload moves (FIELD 8)."""
        with self.proxy.client() as client:
            client.send(request(b"POST / HTTP/1.1", b"Content-Length: %d" % COUNT))
            for _ in range(COUNT):
                time.sleep(STEP)
                client.send(b"x")
            self.assertEqual(client.read_response().body, b"ok")

    def test_slow_stream(self) -> None:
        """The limit ends with the first byte: a stream may last for ever."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            time.sleep(2 * LIMIT)
            wire.send(chunk(b"late") + LAST_CHUNK)

        self.upstream.script = script
        self.assertEqual(self.ask().body, b"late")


class IdleLimitTests(LiveTestCase):
    """``--idle-timeout``: between two octets of a response."""

    proxy_arguments = ("--idle-timeout", str(LIMIT))

    def test_stall(self) -> None:
        """A stream that stalls is cut: the client's message is broken, the upstream closed."""
        closed = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"word"))
            wire.wait_closed()
            closed.set()
            wire.close()

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(request())
            self.assertEqual(client.read_head().status, 200)
            self.assertEqual(client.read_chunk(), b"word")
            with self.assertRaises(Closed):
                client.read_chunks()
        self.assertTrue(closed.wait(PATIENCE))

    def test_slow_stream(self) -> None:
        """A stream that moves is not cut, however long it lasts (FIELD 4)."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(COUNT):
                time.sleep(STEP)
                wire.send(chunk(b"x"))
            wire.send(LAST_CHUNK)

        self.upstream.script = script
        self.assertEqual(self.ask().body, b"x" * COUNT)

    def test_long_think(self) -> None:
        """The wait for the first byte has its own limit: this one does not cut it."""

        def script(wire: Wire) -> None:
            wire.read_head()
            time.sleep(2 * LIMIT)
            wire.send(OK)

        self.upstream.script = script
        self.assertEqual(self.ask().body, b"ok")

    def test_slow_client(self) -> None:
        """A client that reads slowly, but reads, is not cut."""
        size = 32 * MIB

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            wire.send(bytes(size))

        self.upstream.script = script
        with self.proxy.client(receive_buffer=65536) as client:
            client.send(request())
            client.read_head()
            for _ in range(COUNT):
                time.sleep(STEP)
                client.discard(size // COUNT)

    def test_client_that_stops(self) -> None:
        """A client that reads nothing any more is let go, and its upstream connection closed."""
        closed = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1024 * MIB))
            wire.send_until_blocked(bytes(MIB), 1024 * MIB)
            wire.wait_closed()
            closed.set()
            wire.close()

        self.upstream.script = script
        with self.proxy.client(receive_buffer=65536) as client:
            client.send(request())
            self.assertTrue(closed.wait(PATIENCE))


class UploadLimitTests(LiveTestCase):
    """``--upload-timeout``: between two octets of a request's body."""

    proxy_arguments = ("--upload-timeout", str(LIMIT))

    def test_stall(self) -> None:
        """A client that stalls in its body gets 408; the upstream's message is broken."""
        broken = threading.Event()

        def script(wire: Wire) -> None:
            head = wire.read_head()
            try:
                wire.read_body(head)
            except Closed:
                broken.set()
                raise

        self.upstream.script = script
        for framing in (b"Content-Length: 1000", b"Transfer-Encoding: chunked"):
            with self.subTest(framing=framing), self.proxy.client() as client:
                broken.clear()
                client.send(request(b"POST / HTTP/1.1", framing, body=chunk(b"abc")))
                self.assertEqual(client.read_response().status, 408)
                client.wait_closed()
                self.assertTrue(broken.wait(PATIENCE))

    def test_slow_upload(self) -> None:
        """An upload that moves is not cut, however long it lasts (FIELD 8)."""
        with self.proxy.client() as client:
            client.send(request(b"POST / HTTP/1.1", b"Content-Length: %d" % COUNT))
            for _ in range(COUNT):
                time.sleep(STEP)
                client.send(b"x")
            self.assertEqual(client.read_response().body, b"ok")

    def test_waiting_for_continue(self) -> None:
        """A client that waits for 100 does not stall."""

        def script(wire: Wire) -> None:
            head = wire.read_head()
            time.sleep(2 * LIMIT)
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            wire.read_body(head)
            wire.send(OK)

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(request(b"POST / HTTP/1.1", b"Expect: 100-continue", b"Content-Length: 4"))
            self.assertEqual(client.read_head().status, 100)
            client.send(b"body")
            self.assertEqual(client.read_response().body, b"ok")


class ClientLimitTests(LiveTestCase):
    """``--client-timeout``: for the head of a request, and for idle connections."""

    proxy_arguments = ("--client-timeout", str(LIMIT))

    def test_stalled_head(self) -> None:
        """A head that does not end is 408 (RFC 9110 15.5.9)."""
        with self.proxy.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
            self.assertEqual(client.read_response().status, 408)
            client.wait_closed()

    def test_dripping_head(self) -> None:
        """The limit is for the whole head: a drip does not lengthen it."""
        with self.proxy.client() as client:
            client.send(b"GET / HTTP/1.1\r\nX: ")
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end and not client.readable(STEP):
                client.send(b"x")
            self.assertEqual(client.read_response().status, 408)
        self.assertEqual(self.upstream.heads, [])

    def test_nothing_at_all(self) -> None:
        """A connection without a request is closed, with or without a 408."""
        with self.proxy.client() as client:
            client.wait_closed()

    def test_idle_between_requests(self) -> None:
        """An idle kept connection is closed without a word (RFC 9112 9.5); half a line is none."""
        for behind in (b"", b"\r\n", b"\r"):
            with self.subTest(behind), self.proxy.client() as client:
                client.send(request() + behind)
                self.assertEqual(client.read_response().body, b"ok")
                self.assertEqual(client.read_to_end(), b"")

    def test_long_exchange(self) -> None:
        """The limit does not run during an exchange."""

        def script(wire: Wire) -> None:
            wire.read_head()
            time.sleep(2 * LIMIT)
            wire.send(OK)

        self.upstream.script = script
        with self.proxy.client() as client:
            for _ in range(2):
                client.send(request())
                self.assertEqual(client.read_response().body, b"ok")

    def test_long_upload(self) -> None:
        """Nor does it run during an upload."""
        with self.proxy.client() as client:
            client.send(request(b"POST / HTTP/1.1", b"Content-Length: %d" % COUNT))
            for _ in range(COUNT):
                time.sleep(STEP)
                client.send(b"x")
            self.assertEqual(client.read_response().body, b"ok")
        self.assertTrue(eventually(lambda: self.upstream.bodies))
