"""Upstream connections are kept and reused; nothing is sent twice (invariant 5; FIELD 6, 7)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pyproxy.upstream.manners import TRUSTED_AFTER
from pyproxy.upstream.pool import REST_SECONDS
from tests.live.kit import (
    LAST_CHUNK,
    OK,
    PATIENCE,
    LiveTestCase,
    Proxy,
    Response,
    Wire,
    answer,
    answer_and_close,
    chunk,
    eventually,
    free_port,
    request,
    upstream_and_proxy,
)


class ReuseTests(LiveTestCase):
    """One connection for many requests."""

    def setUp(self) -> None:
        """Begin without kept connections."""
        super().setUp()
        self.upstream.drop_connections()
        time.sleep(0.05)
        self.upstream.connections = 0

    def test_sequential_requests_share_a_connection(self) -> None:
        """Requests one after the other use one upstream connection (RFC 9112 9.3)."""
        body = chunk(b"abc") + LAST_CHUNK
        with self.proxy.client() as client:
            for _ in range(5):
                client.send(request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", body=body))
                self.assertEqual(client.read_response().body, b"ok")
        self.assertEqual(self.upstream.connections, 1)

    def test_clients_share_a_connection(self) -> None:
        """Requests of different clients, one after the other, use one upstream connection."""
        for _ in range(5):
            self.assertEqual(self.ask().body, b"ok")
            self.assertEqual(
                self.ask(b"POST / HTTP/1.1", b"Content-Length: 3", body=b"abc").body, b"ok"
            )
            time.sleep(0.02)
        self.assertLessEqual(self.upstream.connections, 2)

    def test_close_is_honoured(self) -> None:
        """An upstream that says ``Connection: close`` gets no second request (RFC 9112 9.6)."""
        self.upstream.script = answer(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
        )
        for _ in range(3):
            self.assertEqual(self.ask().body, b"ok")
        self.assertEqual(self.upstream.connections, 3)

    def test_an_unfinished_upload_ends_the_connection(self) -> None:
        """A connection whose request did not end is not used again (RFC 9112 9.5)."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(OK)
            wire.wait_closed()
            wire.close()

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(request(b"POST / HTTP/1.1", b"Content-Length: 1000", body=b"abc"))
            self.assertEqual(client.read_response().body, b"ok")
        self.upstream.script = answer()
        for _ in range(3):
            self.assertEqual(self.ask().body, b"ok")
        self.assertNotIn(b"", self.upstream.bodies[:-3])

    def test_parallel_requests(self) -> None:
        """Requests at the same time do not wait for one another."""
        together = threading.Barrier(8)

        def script(wire: Wire) -> None:
            wire.read_head()
            together.wait(PATIENCE)
            wire.send(OK)

        self.upstream.script = script
        clients = [self.proxy.client() for _ in range(8)]
        for client in clients:
            client.send(request())
        self.assertEqual([client.read_response().body for client in clients], [b"ok"] * 8)
        for client in clients:
            client.close()

    def test_closed_while_idle(self) -> None:
        """A connection that the upstream closed while idle is forgotten, for POST too (FIELD 7)."""
        self.upstream.script = answer_and_close(OK)
        for _ in range(3):
            response = self.ask(b"POST / HTTP/1.1", b"Content-Length: 3", body=b"abc")
            self.assertEqual((response.status, response.body), (200, b"ok"))
            time.sleep(0.1)
        self.assertEqual(len(self.upstream.heads), 3)


class UndueContentTests(LiveTestCase):
    """Answers to HEAD, and 304, that declare a length (RFC 9110 8.6)."""

    def setUp(self) -> None:
        """Begin with an upstream of which nothing is known."""
        super().setUp()
        self.server, self.front = self.enterContext(upstream_and_proxy())

    def head(self) -> int:
        """Ask by HEAD; return the status."""
        return self.front.ask(request(b"HEAD / HTTP/1.1"), b"HEAD").status

    def earn_trust(self) -> None:
        """Let connections rest in silence until the upstream is trusted."""
        for _ in range(TRUSTED_AFTER):
            self.assertEqual(200, self.head())
        # Rested for a second, and looked at once a second.
        time.sleep(REST_SECONDS + 1.5)

    def test_trusted(self) -> None:
        """Once nothing has followed on some connections, 300 in turn need hardly any."""
        self.earn_trust()
        self.server.connections = 0
        for _ in range(300):
            self.assertEqual(200, self.head())
        self.assertLessEqual(self.server.connections, 2)

        self.server.script = answer(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")
        for _ in range(300):
            self.assertEqual(304, self.front.ask(request()).status)
        self.assertLessEqual(self.server.connections, 2)

    def test_burst(self) -> None:
        """From the first request on, 300 in turn need few: one waits for a tenth of a second."""
        for _ in range(300):
            self.assertEqual(200, self.head())
        self.assertLessEqual(self.server.connections, TRUSTED_AFTER + 2)

    def test_caught(self) -> None:
        """Who sends content after all is trusted no more, and nobody gets that content."""
        self.earn_trust()
        stray = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"

        def late(wire: Wire) -> None:
            if wire.read_head().method != b"HEAD":
                wire.send(OK)
                return
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(stray))
            time.sleep(0.05)
            wire.send(stray)

        self.server.script = late
        self.assertEqual(200, self.head())
        time.sleep(0.5)
        self.server.drop_connections()
        time.sleep(0.1)
        self.server.connections = 0
        for _ in range(5):
            self.assertEqual(200, self.head())
            self.assertEqual(b"ok", self.front.ask(request()).body)
        self.assertGreaterEqual(self.server.connections, 4)

    def test_caught_behind_a_request(self) -> None:
        """So is one whose content comes when the next request is there: that happens once."""
        self.earn_trust()
        stray = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"

        def later(wire: Wire) -> None:
            if wire.read_head().method == b"HEAD":
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(stray))
                wire.read_head()
                wire.send(stray)
                time.sleep(0.05)
            wire.send(OK)

        self.server.script = later
        self.assertEqual(200, self.head())
        self.assertEqual(b"stray", self.front.ask(request()).body)
        self.assertIsNotNone(self.front.wait_log("sent content behind a response that has none"))
        for _ in range(3):
            self.assertEqual(200, self.head())
            self.assertEqual(b"ok", self.front.ask(request()).body)


class OneAtATimeTests(LiveTestCase):
    """An upstream that serves one connection after the other."""

    def test_no_long_stall(self) -> None:
        """A request behind an answer to HEAD waits for no more than the rest of its connection."""
        turn = threading.Lock()

        def script(wire: Wire) -> None:
            with turn:
                while True:
                    head = wire.read_head()
                    length = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
                    wire.send(length if head.method == b"HEAD" else length + b"ok")

        with upstream_and_proxy(script) as (_, proxy):
            self.assertEqual(200, proxy.ask(request(b"HEAD / HTTP/1.1"), b"HEAD").status)
            began = time.monotonic()
            self.assertEqual(b"ok", proxy.ask(request()).body)
            # The rest is a second, and looked for once a second.
            self.assertLess(time.monotonic() - began, PATIENCE / 2)


class KeepAliveTests(LiveTestCase):
    """``Keep-Alive`` of an upstream (RFC 2068 19.7.1.1)."""

    def connections(self, value: bytes, pause: float) -> int:
        """Return how many connections two requests take, with a pause between them."""
        self.upstream.drop_connections()
        time.sleep(0.1)
        self.upstream.connections = 0
        fields = b"Keep-Alive: " + value + b"\r\nContent-Length: 2\r\n\r\nok"
        self.upstream.script = answer(b"HTTP/1.1 200 OK\r\n" + fields)
        for wait in (pause, 0):
            self.assertEqual(b"ok", self.ask().body)
            time.sleep(wait)
        return self.upstream.connections

    def test_timeout(self) -> None:
        """A connection is used again, but not in its last second; one second is none."""
        self.assertEqual(1, self.connections(b"timeout=60", 0))
        self.assertEqual(2, self.connections(b"timeout=2", 1.1))
        self.assertEqual(2, self.connections(b"timeout=1", 0))
        self.assertEqual(2, self.connections(b"timeout=60, max=0", 0))


class SecondTryTests(LiveTestCase):
    """What happens when a connection dies without an answer."""

    def stale(
        self, die: Callable[[Wire], None], *request_lines: bytes, body: bytes = b""
    ) -> Response:
        """Warm a connection up, let it die under the next request, return that one's response.

        Later connections answer.  What the upstream read after the warming is in ``heads``.
        """
        self.upstream.drop_connections()
        time.sleep(0.05)
        self.assertEqual(self.ask().body, b"ok")
        time.sleep(0.05)
        self.upstream.heads.clear()
        self.upstream.bodies.clear()
        self.upstream.connections = 0

        def script(wire: Wire) -> None:
            wire.read_body(wire.read_head())
            if self.upstream.connections == 0:
                die(wire)
            else:
                wire.send(OK)

        self.upstream.script = script
        return self.ask(*request_lines, body=body)

    def test_get_on_a_stale_connection(self) -> None:
        """A safe request that a reused connection swallowed is sent once more (RFC 9112 9.3.1)."""
        for name, die in (("FIN", Wire.close), ("RST", Wire.reset)):
            for line in (b"GET / HTTP/1.1", b"OPTIONS / HTTP/1.1", b"DELETE / HTTP/1.1"):
                with self.subTest(name, line=line):
                    self.upstream.script = answer()
                    response = self.stale(die, line)
                    self.assertEqual((response.status, response.body), (200, b"ok"))
                    self.assertEqual(len(self.upstream.heads), 2)
                    self.assertEqual(self.upstream.heads[0], self.upstream.heads[1])

    def test_post_on_a_stale_connection(self) -> None:
        """A POST that may have been read is never sent again: 502 (FIELD 6; RFC 9110 9.2.2)."""
        for name, die in (("FIN", Wire.close), ("RST", Wire.reset)):
            for lines, body in (
                ((b"POST / HTTP/1.1", b"Content-Length: 3"), b"abc"),
                ((b"POST / HTTP/1.1", b"Content-Length: 0"), b""),
                ((b"PATCH / HTTP/1.1",), b""),
                ((b"CUSTOM / HTTP/1.1",), b""),
                ((b"get / HTTP/1.1",), b""),
            ):
                with self.subTest(name, lines=lines):
                    self.upstream.script = answer()
                    self.assertEqual(self.stale(die, *lines, body=body).status, 502)
                    time.sleep(0.05)
                    self.assertEqual(len(self.upstream.heads), 1)

    def test_after_a_byte_of_reply(self) -> None:
        """One byte of reply proves that the request arrived: it is not sent again."""

        def die(wire: Wire) -> None:
            wire.send(b"H")
            time.sleep(0.05)
            wire.close()

        self.assertEqual(self.stale(die, b"GET / HTTP/1.1").status, 502)
        self.assertEqual(len(self.upstream.heads), 1)

    def test_only_one_second_try(self) -> None:
        """The second try is the last."""
        self.assertEqual(self.ask().body, b"ok")
        self.upstream.heads.clear()

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.close()

        self.upstream.script = script
        self.assertEqual(self.ask().status, 502)
        time.sleep(0.05)
        self.assertLessEqual(len(self.upstream.heads), 2)

    def test_fresh_connection(self) -> None:
        """A fresh connection that closes without a reply is 502, and nothing is sent again."""
        for name, die in (("FIN", Wire.close), ("RST", Wire.reset)):
            with self.subTest(name):
                self.upstream.drop_connections()
                time.sleep(0.1)
                self.upstream.heads.clear()

                def script(wire: Wire, die: Callable[[Wire], None] = die) -> None:
                    wire.read_head()
                    die(wire)

                self.upstream.script = script
                self.assertEqual(self.ask().status, 502)
                time.sleep(0.05)
                self.assertEqual(len(self.upstream.heads), 1)

    def test_nobody_listens(self) -> None:
        """A refused connection is 502, and the proxy serves when the upstream is there."""
        with Proxy("--target", f"http://127.0.0.1:{free_port()}") as proxy:
            self.assertEqual(proxy.ask(request()).status, 502)
            self.assertEqual(
                proxy.ask(request(b"POST / HTTP/1.1", b"Content-Length: 3", body=b"abc")).status,
                502,
            )

    def test_stray_octets_do_not_count(self) -> None:
        """A 408 that an upstream sends on an idle connection answers nobody (RFC 9112 9.2)."""
        self.upstream.drop_connections()
        time.sleep(0.05)
        self.assertEqual(self.ask().body, b"ok")
        eventually(lambda: self.upstream.connections)
        self.upstream.shout(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 5\r\n\r\nstray")
        time.sleep(0.1)
        self.assertEqual(self.ask(b"POST / HTTP/1.1", b"Content-Length: 0").body, b"ok")
