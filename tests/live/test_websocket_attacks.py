"""What attacks on WebSockets have found: ends that cannot be heard, requests in disguise."""

from __future__ import annotations

import os
import re
import socket
import ssl
import tempfile
import threading
import time
import unittest
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import trustme

from tests.live.kit import (
    MIB,
    OK,
    PATIENCE,
    PROMPT,
    Closed,
    Proxy,
    RawClient,
    Script,
    ScriptedUpstream,
    Wire,
    answer,
    eventually,
    request,
    upstream_and_proxy,
)
from tests.live.websocket import (
    UPGRADE,
    VERSION,
    Pair,
    WebSocketTestCase,
    binary,
    close,
    open_pair,
    opening,
    read_close,
    read_frame,
    text,
)

SMALL = 65536
"""Octets of a receive buffer that is soon full."""

FLOOD = binary(bytes(MIB))


def say_goodbye(wire: Wire) -> Wire:
    """Send TLS's close_notify, wait for none; return the bare connection (RFC 8446 6.1)."""
    assert isinstance(wire.sock, ssl.SSLSocket)
    bare = socket.socket(fileno=os.dup(wire.sock.fileno()))
    wire.sock.setblocking(False)
    with suppress(OSError):  # it wants to read the other's
        wire.sock.unwrap()
    wire.open = False
    wire.sock.close()
    return Wire(bare)


class GoodbyeTests(unittest.TestCase):
    """An end ends TLS while octets wait for it, which TLS can then never send (RFC 8446 6.1)."""

    authority: ClassVar[trustme.CA] = trustme.CA()

    def setUp(self) -> None:
        """Put a key where options can name it."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.leaf = self.authority.issue_cert("localhost")
        self.key = str(Path(directory.name) / "key.pem")
        self.leaf.private_key_and_cert_chain_pem.write_to_path(self.key)

    @contextmanager
    def listening(self, script: Script | None = None) -> Iterator[tuple[ScriptedUpstream, Proxy]]:
        """Run a proxy that speaks TLS with its clients."""
        listen = f"--listen=ssl:0:interface=127.0.0.1:privateKey={self.key}:certKey={self.key}"
        with upstream_and_proxy(script, listen) as (upstream, proxy):
            yield upstream, proxy

    @contextmanager
    def asking(self) -> Iterator[tuple[ScriptedUpstream, Proxy]]:
        """Run a proxy that speaks TLS with its upstream."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.leaf.configure_cert(context)
        with upstream_and_proxy(
            None, "--upstream-insecure", tls=context, receive_buffer=SMALL
        ) as pair:
            yield pair

    def client(self, proxy: Proxy) -> Wire:
        """Connect a client, soon full, by TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.configure_trust(context)
        sock = RawClient(proxy.port, receive_buffer=SMALL).sock
        return Wire(context.wrap_socket(sock, server_hostname="localhost"))

    def fill(self, wire: Wire) -> None:
        """Send until nobody takes it any more."""
        self.assertLess(wire.send_until_blocked(FLOOD.octets, 256 * MIB), 256 * MIB)

    def assert_over(self, proxy: Proxy, sockets: int, lines: int) -> None:
        """Check that a WebSocket's descriptors are back, and that it has its line in the log."""
        self.assertTrue(eventually(lambda: proxy.open_sockets() <= sockets))
        self.assertTrue(
            eventually(lambda: len(re.findall(r'"GET / HTTP/1\.1" 101 ', proxy.log())) == lines),
            proxy.log(),
        )

    def test_client(self) -> None:
        """A flooding upstream gets the client's Close and the end, and all is over."""
        with self.listening() as (upstream, proxy):
            before = proxy.open_sockets()
            for lines, drains in enumerate((True, False), 1):
                with (
                    self.subTest(drains=drains),
                    open_pair(proxy, upstream, client=self.client(proxy)) as pair,
                ):
                    self.fill(pair.upstream)
                    pair.client.send(close(1000).masked().octets)
                    left = time.monotonic()
                    with say_goodbye(pair.client) as bare:
                        self.assertEqual(read_close(pair.upstream), 1000)
                        self.assertLess(pair.upstream.wait_closed() - left, PROMPT)
                        if drains:
                            pair.upstream.close()
                            bare.wait_closed()
                            self.assert_over(proxy, before, lines)
                    pair.upstream.close()
                    self.assert_over(proxy, before, lines)

    def test_upstream(self) -> None:
        """A client that floods gets the upstream's last words and the end, and all is over."""
        with self.asking() as (upstream, proxy):
            before = proxy.open_sockets()
            for lines, drains in enumerate((True, False), 1):
                with self.subTest(drains=drains), open_pair(proxy, upstream) as pair:
                    self.fill(pair.client)
                    pair.upstream.send(text(b"last").octets + close(1009).octets)
                    left = time.monotonic()
                    with say_goodbye(pair.upstream) as bare:
                        self.assertEqual(read_frame(pair.client), text(b"last"))
                        self.assertEqual(read_close(pair.client), 1009)
                        self.assertLess(pair.client.wait_closed() - left, PROMPT)
                        if drains:
                            pair.client.close()
                            bare.wait_closed()
                            self.assert_over(proxy, before, lines)
                    pair.client.close()
                    self.assert_over(proxy, before, lines)

    def test_download(self) -> None:
        """A client that leaves a download of plain HTTP so ends the upstream's connection."""
        full = threading.Event()
        ended: list[float] = []

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")
            self.fill(wire)
            full.set()
            ended.append(wire.wait_hangup())

        with self.listening(script) as (_, proxy):
            before = proxy.open_sockets()
            with self.client(proxy) as client:
                client.send(request())
                self.assertTrue(full.wait(PATIENCE))
                left = time.monotonic()
                with say_goodbye(client):
                    self.assertTrue(eventually(lambda: ended))
            self.assertLess(ended[0] - left, PROMPT)
            self.assertTrue(eventually(lambda: proxy.open_sockets() <= before))


class SmugglingTests(WebSocketTestCase):
    """What stands behind a refused handshake is never read as a request (RFC 9110 7.8)."""

    proxy_arguments = ("--prefix", "/api")

    def test_refusals(self) -> None:
        """Whoever refuses, and whatever for: the connection ends with the refusal."""
        self.ask(b"GET /api/ HTTP/1.1")
        via = b"Via: " + (self.upstream.request.value(b"via") or b"")
        bad = request(b"GET /api/ HTTP/1.1", *UPGRADE, VERSION)
        for status, handshake in (
            (403, opening(target=b"/api/")),
            (404, opening(target=b"/other")),
            (508, opening(via, target=b"/api/")),
            (400, bad),
            (426, bad.replace(VERSION, b"Sec-WebSocket-Version: 8")),
        ):
            with self.subTest(status=status), self.proxy.client() as client:
                self.upstream.forget()
                self.upstream.script = answer(OK.replace(b"200 OK", b"403 No"))
                client.send(handshake + request(b"GET /api/smuggled HTTP/1.1"))
                self.assertEqual(client.read_response().status, status)
                with suppress(Closed):  # what was not read becomes a RST
                    self.assertEqual(client.read_to_end(), b"")
                self.assertEqual(len(self.upstream.heads), int(status == 403))


class SlowClientTests(WebSocketTestCase):
    """The limit of silence does not run while a full end still takes octets."""

    limit = 3.0
    proxy_arguments = ("--ws-idle-timeout", str(limit))

    def test_draining(self) -> None:
        """A client that takes its octets slowly, but steadily, is given all of them."""
        message = binary(bytes(16 * MIB))
        with self.open(receive_buffer=SMALL) as pair:
            sending = threading.Thread(
                target=pair.upstream.send, args=(message.octets + close(1000).octets,)
            )
            sending.start()
            taken = 0
            end = time.monotonic() + 2 * self.limit
            while time.monotonic() < end:
                pair.client.discard(SMALL // 4)
                taken += SMALL // 4
                time.sleep(0.05)
            pair.client.discard(len(message.octets) - taken)
            self.assertEqual(read_close(pair.client), 1000)
            sending.join(PATIENCE)


class BlockedClientTests(unittest.TestCase):
    """A client whose octets nobody takes, so that it cannot be heard."""

    @contextmanager
    def pair(self) -> Iterator[Pair]:
        """Open a WebSocket to an upstream that is soon full."""
        with (
            upstream_and_proxy(receive_buffer=SMALL) as (upstream, proxy),
            open_pair(proxy, upstream) as pair,
        ):
            yield pair

    def test_close_behind_a_message(self) -> None:
        """A message, a Close and a FIN reach an upstream whole that begins to read later."""
        last = close(1000).octets
        for size in range(4 * MIB, 8 * MIB, MIB):  # what fits into the kernel's buffers differs
            message = binary(bytes(size)).octets
            with self.subTest(size=size), self.pair() as pair:

                def send(client: Wire = pair.client, octets: bytes = message + last) -> None:
                    with suppress(Closed):
                        client.send(octets)
                        client.finish()

                sending = threading.Thread(target=send)
                sending.start()
                time.sleep(0.5)
                pair.upstream.discard(len(message))
                self.assertEqual(pair.upstream.read_to_end(), last)
                sending.join(PATIENCE)

    def test_reset_behind_the_upstreams_end(self) -> None:
        """Its RST is noticed also when the upstream has sent a Close and FIN before."""
        with self.pair() as pair:
            pair.client.send_until_blocked(FLOOD.octets, 256 * MIB, to_proxy=True)
            pair.upstream.send(close(1001).octets)
            pair.upstream.finish()
            self.assertEqual(read_close(pair.client), 1001)
            self.assertEqual(pair.client.read_to_end(), b"")
            left = time.monotonic()
            pair.client.reset()
            self.assertLess(pair.upstream.wait_hangup() - left, PROMPT)
