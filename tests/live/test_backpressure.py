"""A slow side stops the other side; memory does not grow with a body (invariant 2; FIELD 8)."""

from __future__ import annotations

import os
import threading
import time

from tests.live.kit import MIB, PATIENCE, LiveTestCase, Wire, answer, chunk, request

SIZE = int(os.environ.get("PYPROXY_LIVE_MIB", "256")) * MIB
"""Octets of a body; the rule is meant for 1 GiB (``PYPROXY_LIVE_MIB=1024``)."""

GROWTH = 16 * MIB
"""Octets of resident memory that an exchange may add at its worst moment."""

PAUSE = 0.5
"""Seconds for which nothing moves before a side counts as stopped."""

BLOCK = bytes(range(256)) * (MIB // 256)


class BackpressureTests(LiveTestCase):
    """One slow side."""

    def setUp(self) -> None:
        """Warm the process up, then note its memory."""
        super().setUp()
        self.ask(b"POST / HTTP/1.1", b"Content-Length: %d" % len(BLOCK), body=BLOCK)
        self.upstream.forget()
        self.before = self.proxy.rss()
        self.proxy.reset_peak()

    def assert_bounded(self) -> None:
        """Check the highest resident memory since the test began."""
        grown = self.proxy.peak_rss() - self.before
        self.assertLessEqual(grown, GROWTH, f"memory grew by {grown / MIB:.1f} MiB")

    def test_download(self) -> None:
        """A client that stops reading stops the upstream; then all arrives, in order."""
        stopped_at: list[int] = []

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
            sent = wire.send_until_blocked(BLOCK, SIZE, PAUSE)
            stopped_at.append(sent)
            stopped.set()
            self.send_rest(wire, sent)

        stopped = threading.Event()
        self.upstream.script = script
        with self.proxy.client(receive_buffer=65536) as client:
            client.send(request())
            client.read_head()
            self.assertTrue(stopped.wait(PATIENCE * 3))
            self.assertLess(stopped_at[0], SIZE // 4, "the upstream was never stopped")
            self.receive(client)
        self.assert_bounded()

    def test_chunked_download(self) -> None:
        """The same with tiny chunks: what an octet costs in memory is bounded too."""
        frame = chunk(b"abc") * 1000
        stopped_at: list[int] = []
        stopped = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            stopped_at.append(wire.send_until_blocked(frame, SIZE, PAUSE))
            stopped.set()
            wire.wait_closed()
            wire.close()

        self.upstream.script = script
        with self.proxy.client(receive_buffer=65536) as client:
            client.send(request())
            client.read_head()
            self.assertTrue(stopped.wait(PATIENCE * 3))
            self.assertLess(stopped_at[0], SIZE // 4, "the upstream was never stopped")
        self.assert_bounded()

    def test_upload(self) -> None:
        """An upstream that stops reading stops the client; then all arrives, in order."""
        go = threading.Event()
        done = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_head()
            go.wait(PATIENCE * 3)
            self.receive(wire)
            done.set()
            wire.send(b"HTTP/1.1 204 No Content\r\n\r\n")

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(request(b"POST / HTTP/1.1", b"Content-Length: %d" % SIZE))
            sent = client.send_until_blocked(BLOCK, SIZE, PAUSE)
            self.assertLess(sent, SIZE // 4, "the client was never stopped")
            go.set()
            self.send_rest(client, sent)
            self.assertEqual(client.read_response().status, 204)
        self.assertTrue(done.is_set())
        self.assert_bounded()

    def test_pipelined_requests(self) -> None:
        """A client that sends request after request without reading is stopped."""
        body = BLOCK[:16384]
        self.upstream.script = answer(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        with self.proxy.client(receive_buffer=65536) as client:
            octets = request(b"GET / HTTP/1.1", b"X: " + b"a" * 1000) * 100
            sent = client.send_until_blocked(octets, SIZE, PAUSE)
        self.assertLess(sent, SIZE // 4)
        self.assert_bounded()

    def test_interim_responses(self) -> None:
        """Interim responses without end do not pile up (RFC 9110 15.2)."""
        hint = b"HTTP/1.1 103 Early Hints\r\nLink: </%s>\r\n\r\n" % (b"a" * 4000)
        done = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_head()
            try:
                wire.send_until_blocked(hint * 16, 64 * MIB, PAUSE)
            finally:
                done.set()
                wire.close()

        self.upstream.script = script
        with self.proxy.client(receive_buffer=65536) as client:
            client.send(request())
            self.assertTrue(done.wait(PATIENCE * 3))
            self.assert_bounded()

    def test_others_are_not_stopped(self) -> None:
        """One slow client does not slow another."""
        body = b"x" * MIB

        def script(wire: Wire) -> None:
            slow = wire.read_head().target == b"/slow"
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (SIZE if slow else MIB))
            if slow:
                wire.send_until_blocked(BLOCK, SIZE, PAUSE)
                wire.close()
            else:
                wire.send(body)

        self.upstream.script = script
        with self.proxy.client(receive_buffer=65536) as slow:
            slow.send(request(b"GET /slow HTTP/1.1"))
            slow.read_head()
            for _ in range(3):
                self.assertEqual(self.ask().body, body)

    def send_rest(self, wire: Wire, sent: int) -> None:
        """Send the blocks behind the first octets, up to ``SIZE``."""
        while sent < SIZE:
            at = sent % MIB
            wire.send(BLOCK[at:])
            sent += MIB - at

    def receive(self, wire: Wire) -> None:
        """Read ``SIZE`` octets with a rest near the start; check each block."""
        for count in range(SIZE // MIB):
            if wire.read_exactly(MIB) != BLOCK:
                raise AssertionError(f"block {count} is not what was sent")
            if count < 4:
                time.sleep(0.05)
