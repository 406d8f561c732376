"""Handshakes that do not succeed: the client's faults, the upstream's, and other upgrades."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tests.live.kit import (
    LAST_CHUNK,
    PATIENCE,
    PROMPT,
    Closed,
    LiveTestCase,
    Proxy,
    RawClient,
    Response,
    Script,
    Wire,
    answer,
    chunk,
    eventually,
    free_port,
    request,
)
from tests.live.websocket import (
    HANDSHAKE,
    KEY,
    KEY_FIELD,
    UPGRADE,
    VERSION,
    WebSocketTestCase,
    accept,
    opening,
    text,
)

GET = b"GET / HTTP/1.1"
WRONG_VERSIONS: dict[str, tuple[bytes, ...]] = {
    "none": (),
    "old": (b"Sec-WebSocket-Version: 8",),
    "none of the name": (b"Sec-WebSocket-Version:",),
    "a list": (b"Sec-WebSocket-Version: 13, 8",),
    "twice": (VERSION, VERSION),
    "two": (VERSION, b"Sec-WebSocket-Version: 8"),
    "a word": (b"Sec-WebSocket-Version: thirteen",),
    "a zero": (b"Sec-WebSocket-Version: 013",),
    "a sign": (b"Sec-WebSocket-Version: +13",),
}
BAD_HANDSHAKES: dict[str, tuple[bytes, ...]] = {
    "no key": (*UPGRADE, VERSION),
    "two keys": (*HANDSHAKE, KEY_FIELD),
    "two different keys": (*HANDSHAKE, b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA=="),
    "an empty key": (*UPGRADE, VERSION, b"Sec-WebSocket-Key:"),
    "a short key": (*UPGRADE, VERSION, b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"),
    "a long key": (*UPGRADE, VERSION, b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="),
    "a key without padding": (*UPGRADE, VERSION, b"Sec-WebSocket-Key: " + KEY.rstrip(b"=")),
    "no base64": (*UPGRADE, VERSION, b"Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="),
    "a list of keys": (*UPGRADE, VERSION, KEY_FIELD + b", " + KEY),
    "a nominated key": (b"Connection: Sec-WebSocket-Key", *HANDSHAKE),
    "a nominated version": (b"Connection: upgrade, sec-websocket-version", *HANDSHAKE),
    "a nominated subprotocol": (
        b"Connection: Sec-WebSocket-Protocol",
        *HANDSHAKE,
        b"Sec-WebSocket-Protocol: a",
    ),
    "a nominated extension": (b"Connection: SEC-WEBSOCKET-EXTENSIONS", *HANDSHAKE),
    "a length": (*HANDSHAKE, b"Content-Length: 3"),
    "chunks": (*HANDSHAKE, b"Transfer-Encoding: chunked"),
}


class ClientFaultTests(WebSocketTestCase):
    """What is wrong with a handshake is said by the proxy; the upstream is not asked."""

    def refusal(self, *fields: bytes, body: bytes = b"") -> Response:
        """Send a handshake and a request behind it; return the one answer that comes."""
        smuggled = request(b"GET /smuggled HTTP/1.1")
        with self.proxy.client() as client:
            client.send(request(GET, *fields) + body + smuggled)
            response = client.read_response()
            with suppress(Closed):
                self.assertEqual(client.read_to_end(), b"")
        self.assertEqual(self.upstream.heads, [])
        return response

    def test_version(self) -> None:
        """Any version but 13 is 426 and names the one that is spoken (RFC 6455 4.4)."""
        for name, fields in WRONG_VERSIONS.items():
            with self.subTest(name):
                response = self.refusal(*UPGRADE, KEY_FIELD, *fields)
                self.assertEqual(response.status, 426)
                self.assertEqual(response.value(b"sec-websocket-version"), b"13")
                self.assertEqual(response.value(b"upgrade"), b"websocket")
                options = b",".join(response.head.values(b"connection")).lower()
                self.assertEqual(
                    {option.strip() for option in options.split(b",")}, {b"upgrade", b"close"}
                )
                self.assertTrue(response.body)

    def test_handshake(self) -> None:
        """A key, no content, no nominated field of the handshake: else 400 (RFC 6455 4.2.1)."""
        for name, fields in BAD_HANDSHAKES.items():
            with self.subTest(name):
                body = chunk(b"abc") + LAST_CHUNK if name == "chunks" else b"abc"
                response = self.refusal(
                    *fields, body=body if name in ("chunks", "a length") else b""
                )
                self.assertEqual(response.status, 400)
                status = b",".join(response.head.values(b"proxy-status"))
                self.assertIn(b"pyproxy; error=http_request_", status)
                self.assertGreater(len(response.body), 10)
                self.assertEqual(response.value(b"connection"), b"close")


PLAIN: dict[str, tuple[bytes, tuple[bytes, ...], bytes]] = {
    "h2c": (
        GET,
        (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
        b"",
    ),
    "another protocol": (GET, (b"Connection: Upgrade", b"Upgrade: foo/2"), b""),
    "a longer name": (GET, (b"Connection: Upgrade", b"Upgrade: websocket2"), b""),
    "with a version": (GET, (b"Connection: Upgrade", b"Upgrade: websocket/13"), b""),
    "POST": (b"POST / HTTP/1.1", (*HANDSHAKE, b"Content-Length: 3"), b"abc"),
    "POST without content": (b"POST / HTTP/1.1", HANDSHAKE, b""),
    "small get": (b"get / HTTP/1.1", HANDSHAKE, b""),
    "HTTP/1.0": (b"GET / HTTP/1.0", HANDSHAKE, b""),
    "no Connection": (GET, (b"Upgrade: websocket", VERSION, KEY_FIELD), b""),
    "Connection of another kind": (
        GET,
        (b"Connection: keep-alive", b"Upgrade: websocket", VERSION, KEY_FIELD),
        b"",
    ),
    "no Upgrade": (GET, (b"Connection: Upgrade", VERSION, KEY_FIELD), b""),
}
"""Requests that ask for no WebSocket, with their content."""


class OtherUpgradeTests(LiveTestCase):
    """Only ``websocket`` is ever upgraded (FIELD 19)."""

    def test_plain_requests(self) -> None:
        """Anything else is a request like others, without what asks for an upgrade (FIELD 19)."""
        for name, (line, fields, body) in PLAIN.items():
            with self.subTest(name):
                self.upstream.forget()
                response = self.ask(line, *fields, body=body)
                self.assertEqual((response.status, response.body), (200, b"ok"))
                head = self.upstream.request
                self.assertEqual(self.upstream.bodies, [body])
                for each in (b"upgrade", b"http2-settings"):
                    self.assertNotIn(each, head.names())
                self.assertNotIn(b"upgrade", b",".join(head.values(b"connection")).lower())

    def test_unasked_101(self) -> None:
        """A 101 to a request that asked for no upgrade is 502 (RFC 9110 15.2.2)."""
        switch = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept(KEY) + b"\r\n\r\n" + text(b"down").octets
        )
        closed: queue.SimpleQueue[float] = queue.SimpleQueue()

        def script(wire: Wire) -> None:
            wire.read_body(wire.read_head())
            wire.send(switch)
            closed.put(wire.wait_closed())
            wire.close()

        for name, (line, fields, body) in PLAIN.items():
            with self.subTest(name):
                self.upstream.script = script
                response = self.ask(line, *fields, body=body)
                self.assertEqual(response.status, 502)
                closed.get(timeout=PATIENCE)
        self.upstream.script = answer()
        self.assertEqual(self.ask().body, b"ok")


def _switch(*fields: bytes, version: bytes = b"1.1", behind: bytes = b"") -> bytes:
    """Return a 101 with just these fields."""
    lines = (b"HTTP/" + version + b" 101 Switching Protocols", *fields)
    return b"\r\n".join(lines) + b"\r\n\r\n" + behind


ACCEPT = b"Sec-WebSocket-Accept: " + accept(KEY)
WRONG_ANSWERS: dict[str, bytes] = {
    "no Accept": _switch(*UPGRADE),
    "a wrong Accept": _switch(
        *UPGRADE, b"Sec-WebSocket-Accept: " + accept(b"AAAAAAAAAAAAAAAAAAAAAA==")
    ),
    "the key as Accept": _switch(*UPGRADE, b"Sec-WebSocket-Accept: " + KEY),
    "Accept in another case": _switch(*UPGRADE, ACCEPT.lower()),
    "two Accepts": _switch(*UPGRADE, ACCEPT, b"Sec-WebSocket-Accept: AAAA"),
    "no Upgrade": _switch(b"Connection: Upgrade", ACCEPT),
    "another Upgrade": _switch(b"Connection: Upgrade", b"Upgrade: h2c", ACCEPT),
    "no Connection": _switch(b"Upgrade: websocket", ACCEPT),
    "another Connection": _switch(b"Connection: keep-alive", b"Upgrade: websocket", ACCEPT),
    "nothing": _switch(),
    "a malformed field": _switch(*UPGRADE, ACCEPT, b"X a"),
    "nonsense": b"nonsense\r\n\r\n",
}


class UpstreamFaultTests(WebSocketTestCase):
    """What is wrong with an upstream's answer is 502; never a 101 that is closed at once."""

    def assert_502(self, script: Script, *errors: bytes) -> None:
        """Check the status and its error type, and that the client's connection is closed."""
        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(opening() + text(b"early").masked().octets)
            response = client.read_response()
            self.assertEqual(response.status, 502)
            status = b",".join(response.head.values(b"proxy-status"))
            self.assertIn(status.partition(b"error=")[2].split(b";")[0], errors)
            with suppress(Closed):
                self.assertEqual(client.read_to_end(), b"")

    def test_wrong_101(self) -> None:
        """A 101 has all that RFC 6455 4.1 asks for; if not, the upstream is closed."""
        closed: queue.SimpleQueue[float] = queue.SimpleQueue()
        for name, octets in WRONG_ANSWERS.items():

            def script(wire: Wire, octets: bytes = octets) -> None:
                wire.read_head()
                wire.send(octets)
                closed.put(wire.wait_closed())
                wire.close()

            with self.subTest(name):
                self.assert_502(script, b"http_protocol_error")
                closed.get(timeout=PATIENCE)

    def test_cut_101(self) -> None:
        """An upstream that ends before its 101 is whole is 502."""
        for end in (Wire.close, Wire.reset):
            for octets in (b"", b"HTTP/1.1 101 Swi", _switch(*UPGRADE, ACCEPT)[:-2]):

                def script(
                    wire: Wire, octets: bytes = octets, end: Callable[[Wire], None] = end
                ) -> None:
                    wire.read_head()
                    wire.send(octets)
                    time.sleep(0.05)
                    end(wire)

                with self.subTest(octets=octets, end=end.__name__):
                    self.assert_502(
                        script,
                        b"connection_terminated",
                        b"http_response_incomplete",
                        b"http_protocol_error",
                    )

    def test_refusal_of_the_version(self) -> None:
        """An upstream's own 426 arrives with the protocol that it asks for (RFC 9110 15.5.22)."""
        self.upstream.script = answer(
            b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13, 8\r\nContent-Length: 4\r\n\r\nelse"
        )
        response = self.proxy.ask(opening())
        self.assertEqual((response.status, response.body), (426, b"else"))
        self.assertEqual(response.value(b"upgrade"), b"websocket")
        self.assertEqual(response.value(b"sec-websocket-version"), b"13, 8")
        options = b",".join(response.head.values(b"connection")).lower().split(b",")
        self.assertEqual({option.strip() for option in options}, {b"upgrade", b"close"})

    def test_nobody_listens(self) -> None:
        """No connection is 502 (RFC 9110 15.6.3)."""
        with Proxy("--target", f"http://127.0.0.1:{free_port()}") as proxy:
            response = proxy.ask(opening())
        self.assertEqual(response.status, 502)
        self.assertIn(b"error=connection_refused", b"".join(response.head.values(b"proxy-status")))

    def test_nobody_accepts(self) -> None:
        """No connection in time is 504 (RFC 9110 15.6.5)."""
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = [socket.socket() for _ in range(8)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            url = f"http://127.0.0.1:{full.getsockname()[1]}"
            with Proxy("--target", url, "--connect-timeout", "0.5") as proxy:
                response = proxy.ask(opening())
            for filler in fillers:
                filler.close()
        self.assertEqual(response.status, 504)
        self.assertIn(b"error=connection_timeout", b"".join(response.head.values(b"proxy-status")))


class SlowAnswerTests(WebSocketTestCase):
    """The time limits of HTTP, and who leaves during the handshake."""

    proxy_arguments = (
        *("--first-byte-timeout", "1", "--client-timeout", "1"),
        *("--idle-timeout", "1", "--upload-timeout", "1"),
    )

    def setUp(self) -> None:
        """Have a place where a silent upstream notes the end."""
        super().setUp()
        self.closed: queue.SimpleQueue[float] = queue.SimpleQueue()

        def script(wire: Wire) -> None:
            wire.read_head()
            self.closed.put(wire.wait_closed())
            wire.close()

        self.upstream.script = script

    def test_no_answer(self) -> None:
        """An upstream that says nothing is 504, once; its connection is closed."""
        response = self.proxy.ask(opening())
        self.assertEqual(response.status, 504)
        status = b",".join(response.head.values(b"proxy-status"))
        self.assertIn(b"error=http_response_timeout", status)
        self.closed.get(timeout=PATIENCE)
        self.assertEqual(len(self.upstream.heads), 1, "a handshake was sent again")

    def test_the_limits_end_with_the_101(self) -> None:
        """An open WebSocket may be silent for as long as it likes, in a frame too (FIELD 4)."""
        octets = text(b"up").masked().octets
        with self.open() as idle, self.open() as begun:
            begun.client.send(octets[:7])
            begun.upstream.send(octets[:7])
            time.sleep(2.5)
            idle.client.send(octets)
            idle.upstream.send(octets)
            begun.client.send(octets[7:])
            begun.upstream.send(octets[7:])
            for pair in (idle, begun):
                self.assertEqual(pair.upstream.read_exactly(len(octets)), octets)
                self.assertEqual(pair.client.read_exactly(len(octets)), octets)

    def test_client_leaves(self) -> None:
        """A client that leaves before the 101 takes its upstream connection with it (FIELD 1)."""
        early = text(b"early").masked().octets
        for behind in (b"", early):
            for leave in (RawClient.close, RawClient.reset, RawClient.finish):
                with self.subTest(leave.__name__, behind=behind):
                    self.upstream.heads.clear()
                    client = self.proxy.client()
                    client.send(opening() + behind)
                    self.assertTrue(eventually(lambda: self.upstream.heads))
                    time.sleep(0.05)
                    left = time.monotonic()
                    leave(client)
                    self.assertLess(self.closed.get(timeout=PATIENCE) - left, PROMPT)
                    client.close()


class EndingProxyTests(LiveTestCase):
    """The process ends."""

    def test_during_the_handshake(self) -> None:
        """SIGTERM before the 101: no clean 101, the upstream is closed, status 0."""
        closed = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.wait_closed()
            closed.set()
            wire.close()

        self.upstream.script = script
        proxy = Proxy("--target", self.upstream.url).start()
        with proxy.client() as client:
            client.send(opening())
            self.assertTrue(eventually(lambda: self.upstream.heads))
            self.assertEqual(proxy.stop(), 0, proxy.log())
            with suppress(Closed):
                self.assertEqual(client.read_response().status, 503)
        self.assertTrue(closed.wait(PATIENCE))
        proxy.check_log()
