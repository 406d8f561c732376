"""WebSockets over TLS, on either side of the proxy."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.live.certificates import CertifiedTestCase
from tests.live.kit import (
    MIB,
    PATIENCE,
    PROMPT,
    Proxy,
    RawClient,
    Script,
    ScriptedUpstream,
    Wire,
    eventually,
)
from tests.live.websocket import Pair, close, open_pair, opening, read_close, read_frame, text


class TlsTests(CertifiedTestCase):
    """``wss`` on either side."""

    @contextmanager
    def pair(
        self, *arguments: str, script: Script | None = None
    ) -> Iterator[tuple[ScriptedUpstream, Proxy]]:
        """Run an upstream with the certificate and a proxy in front of it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.leaf.configure_cert(context)
        with (
            ScriptedUpstream(script, tls=context) as upstream,
            Proxy("--target", f"https://localhost:{upstream.port}", *arguments) as proxy,
        ):
            yield upstream, proxy

    def assert_passes(self, pair: Pair) -> None:
        """Check that large messages pass both ways, and the end of one side."""
        body = bytes(range(256)) * 1024
        for sender, receiver in ((pair.client, pair.upstream), (pair.upstream, pair.client)):
            sending = threading.Thread(target=sender.send, args=(text(body).octets,))
            sending.start()
            self.assertEqual(read_frame(receiver).payload, body)
            sending.join(PATIENCE)
        pair.upstream.close()
        pair.client.wait_closed()

    def test_trusted_upstream(self) -> None:
        """An ``https`` target is asked by ``wss``, octets behind the handshakes included."""
        with (
            self.pair("--upstream-ca", self.ca) as (upstream, proxy),
            open_pair(
                proxy,
                upstream,
                with_request=text(b"up").masked().octets,
                with_answer=text(b"down").octets,
            ) as pair,
        ):
            self.assertEqual(pair.request.value(b"host"), b"localhost:%d" % upstream.port)
            self.assertEqual(read_frame(pair.upstream).payload, b"up")
            self.assertEqual(read_frame(pair.client).payload, b"down")
            self.assert_passes(pair)

    def test_half_close(self) -> None:
        """Behind a client's Close and FIN what the upstream still sends is delivered."""
        with (
            self.pair("--upstream-ca", self.ca) as (upstream, proxy),
            open_pair(proxy, upstream) as pair,
        ):
            pair.client.send(close(1001).masked().octets)
            pair.client.finish()
            self.assertEqual(read_close(pair.upstream), 1001)
            time.sleep(0.2)
            pair.upstream.send(text(b"x" * 300000).octets + close(1001).octets)
            self.assertEqual(read_frame(pair.client).payload, b"x" * 300000)
            self.assertEqual(read_close(pair.client), 1001)
            pair.upstream.close()
            self.assertEqual(pair.client.read_to_end(), b"")

    def test_leaving(self) -> None:
        """FIN and RST of either end close the other, a client's also while it does not read."""
        with self.pair("--upstream-ca", self.ca) as (upstream, proxy):
            before = proxy.open_sockets()
            for leave in (Wire.close, Wire.reset):
                for number in range(3):
                    with (
                        self.subTest(leave.__name__, number=number),
                        open_pair(proxy, upstream, receive_buffer=65536) as pair,
                    ):
                        leaves, stays = pair.client, pair.upstream
                        if number == 1:
                            leaves, stays = stays, leaves
                        if number == 2:
                            stays.send_until_blocked(bytes(MIB), 256 * MIB)
                        left = time.monotonic()
                        leave(leaves)
                        self.assertLess(stays.wait_closed() - left, PROMPT)
            self.assertTrue(eventually(lambda: proxy.open_sockets() <= before))

    def test_refused_certificate(self) -> None:
        """A certificate of nobody we trust is 502; nothing was sent (RFC 9110 4.3.4)."""
        with self.pair() as (upstream, proxy):
            response = proxy.ask(opening())
            self.assertEqual(response.status, 502)
            status = b",".join(response.head.values(b"proxy-status"))
            self.assertIn(b"error=tls_certificate_error", status)
            self.assertEqual(upstream.heads, [])

    @property
    def listen(self) -> str:
        """The option that makes the proxy speak TLS with its clients."""
        return f"--listen=ssl:0:interface=127.0.0.1:privateKey={self.key}:certKey={self.key}"

    def client(self, proxy: Proxy) -> Wire:
        """Connect a client by TLS."""
        context = ssl.create_default_context(cafile=self.ca)
        sock = RawClient(proxy.port).sock
        return Wire(context.wrap_socket(sock, server_hostname="localhost"))

    def test_client_of_wss(self) -> None:
        """A client may come by TLS, to an upstream by TLS."""
        with self.pair("--upstream-ca", self.ca, self.listen) as (upstream, proxy):
            early = text(b"up").masked().octets
            with open_pair(proxy, upstream, client=self.client(proxy), with_request=early) as pair:
                self.assertEqual(pair.request.value(b"x-forwarded-proto"), b"https")
                self.assertEqual(read_frame(pair.upstream).payload, b"up")
                self.assert_passes(pair)

    def test_client_says_good_bye(self) -> None:
        """Behind a client's Close and close_notify the upstream gets both, and no RST.

        It may answer, although nobody is there to hear it.
        """
        with (
            ScriptedUpstream() as upstream,
            Proxy("--target", upstream.url, self.listen) as proxy,
            open_pair(proxy, upstream, client=self.client(proxy)) as pair,
        ):
            pair.client.send(close(1000).masked().octets)
            self.assertIsInstance(pair.client.sock, ssl.SSLSocket)
            with suppress(OSError):
                pair.client.sock.unwrap()  # type: ignore[attr-defined]
            self.assertEqual(read_close(pair.upstream), 1000)
            self.assertEqual(pair.upstream.read_to_end(), b"")
            for _ in range(3):
                pair.upstream.send(close(1000).octets)
                time.sleep(0.1)
                self.assertEqual(pair.upstream.read_to_end(), b"")

    def test_client_leaves_by_tls(self) -> None:
        """A client that leaves without a Close takes the upstream along, however it leaves."""
        with (
            ScriptedUpstream() as upstream,
            Proxy("--target", upstream.url, self.listen) as proxy,
        ):
            for leave in (Wire.close, Wire.reset, lambda wire: wire.sock.unwrap()):
                with open_pair(proxy, upstream, client=self.client(proxy)) as pair:
                    left = time.monotonic()
                    with suppress(OSError):
                        leave(pair.client)
                    self.assertLess(pair.upstream.wait_closed() - left, PROMPT)
