"""WebSockets through a listener that wraps its transports."""

from __future__ import annotations

import time
import unittest

from tests.live.kit import MIB, PROMPT, Proxy, RawClient, ScriptedUpstream, Wire
from tests.live.websocket import (
    binary,
    close,
    open_pair,
    read_close,
    read_frame,
    text,
)

PROXY_LINE = b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"
"""What a balancer in front of the proxy says of its client."""


class BalancerTests(unittest.TestCase):
    """A listener that speaks the PROXY protocol: a wrapper stands between socket and protocol."""

    def setUp(self) -> None:
        """Run an upstream, and a proxy with such a listener in front of it."""
        self.upstream = self.enterContext(ScriptedUpstream())
        self.proxy = self.enterContext(
            Proxy(f"--target={self.upstream.url}", "--listen=haproxy:tcp:0:interface=127.0.0.1")
        )

    def client(self) -> Wire:
        """Connect as a balancer does."""
        client = RawClient(self.proxy.port)
        client.send(PROXY_LINE)
        return client

    def test_both_ways(self) -> None:
        """Octets pass, those behind the handshakes too, and the closing handshake."""
        up, down = text(b"up").masked(), binary(bytes(range(256)) * 1024)
        with open_pair(
            self.proxy,
            self.upstream,
            client=self.client(),
            with_request=up.octets,
            with_answer=down.octets,
        ) as pair:
            self.assertEqual(read_frame(pair.upstream), up)
            self.assertEqual(read_frame(pair.client), down)
            for number in range(3):
                frame = text(b"%d" % number)
                pair.client.send(frame.masked().octets)
                self.assertEqual(read_frame(pair.upstream).payload, frame.payload)
                pair.upstream.send(frame.octets)
                self.assertEqual(read_frame(pair.client), frame)
            pair.client.send(close(1000).masked().octets)
            self.assertEqual(read_close(pair.upstream), 1000)
            pair.upstream.send(close(1000).octets)
            self.assertEqual(read_close(pair.client), 1000)
            pair.upstream.close()
            self.assertEqual(pair.client.read_to_end(), b"")
            pair.client.close()
        line = self.proxy.wait_log(r'"GET / HTTP/1\.1" 101 .*')
        self.assertRegex(line or "no line", r" 101 \d+ ")

    def test_leaving(self) -> None:
        """FIN and RST of either end close the other."""
        for leave in (Wire.close, Wire.reset):
            for client_leaves in (True, False):
                with (
                    self.subTest(leave.__name__, client_leaves=client_leaves),
                    open_pair(self.proxy, self.upstream, client=self.client()) as pair,
                ):
                    leaves, stays = pair.client, pair.upstream
                    if not client_leaves:
                        leaves, stays = stays, leaves
                    left = time.monotonic()
                    leave(leaves)
                    self.assertLess(stays.wait_closed() - left, PROMPT)

    def test_slow_reader(self) -> None:
        """An end that reads late gets all that was sent, and the sender waits for it meanwhile."""
        frame = binary(bytes(MIB))
        with open_pair(self.proxy, self.upstream, client=self.client()) as pair:
            sent = pair.upstream.send_until_blocked(frame.octets, 256 * MIB)
            self.assertLess(sent, 256 * MIB)
            pair.client.discard(sent)
            self.assertTrue(pair.client.quiet(0.1))
