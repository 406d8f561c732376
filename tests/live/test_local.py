"""An upstream at a Unix socket."""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
import unittest
from contextlib import suppress
from pathlib import Path

import trustme

from tests.live.kit import (
    MIB,
    OK,
    Proxy,
    ScriptedUpstream,
    Wire,
    answer,
    chunk,
    eventually,
    request,
)
from tests.live.websocket import open_pair, read_frame, text


class UnixSocketTests(unittest.TestCase):
    """What a target at a host is, one at a Unix socket is too."""

    def setUp(self) -> None:
        """Find a place for the socket."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = f"{directory.name}/x.sock"
        self.target = ("--target", f"unix:{self.path}")

    def assert_fails(self, error: bytes, *words: bytes) -> None:
        """Check what a client is told of a socket that does not answer."""
        with Proxy(*self.target) as proxy:
            response = proxy.ask(request())
            self.assertEqual(response.status, 502)
            self.assertIn(error, response.value(b"proxy-status") or b"")
            for each in words:
                self.assertIn(each, response.body)

    def test_requests(self) -> None:
        """Requests pass, connections are kept, the log says where they go."""
        with ScriptedUpstream(address=self.path) as upstream, Proxy(*self.target) as proxy:
            self.assertIn(f"for http://localhost at {self.path}", proxy.log())
            with proxy.client() as client:
                for _ in range(3):
                    client.send(request(b"GET /a%2Fb?c HTTP/1.1"))
                    self.assertEqual(client.read_response().body, b"ok")
            self.assertEqual(upstream.connections, 1)
            head = upstream.requests[0]
            self.assertEqual((b"/a%2Fb?c", b"localhost"), (head.target, head.value(b"host")))
            self.assertEqual(b"front.example", head.value(b"x-forwarded-host"))
            self.assertNotIn(self.path.encode(), head.octets)

    def test_streaming(self) -> None:
        """Large content passes both ways, and a redirect and a cookie are mapped back."""
        body = bytes(range(256)) * (MIB // 256)
        response = (
            b"HTTP/1.1 201 Created\r\nLocation: http://api.test/v1/b\r\n"
            b"Set-Cookie: a=b; Domain=api.test; Path=/v1/\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        script = answer(response + chunk(body) + b"0\r\n\r\n")
        named = ("--target", "http://api.test/v1/", "--upstream-socket", self.path)
        with (
            ScriptedUpstream(script, address=self.path) as upstream,
            Proxy(*named, "--prefix", "/defm") as proxy,
        ):
            found = proxy.ask(
                request(b"POST /defm/a HTTP/1.1", b"Content-Length: %d" % len(body), body=body)
            )
            self.assertEqual(body, found.body)
            self.assertEqual([body], upstream.bodies)
            self.assertEqual(b"/v1/a", upstream.request.target)
            self.assertEqual(b"api.test", upstream.request.value(b"host"))
            self.assertEqual(b"/defm/b", found.value(b"location"))
            self.assertEqual(b"a=b; Path=/defm/", found.value(b"set-cookie"))

    def test_client_leaves(self) -> None:
        """A client that leaves ends the upstream's connection (FIELD 1)."""
        ended: list[float] = []

        def script(wire: Wire) -> None:
            wire.read_head()
            ended.append(wire.wait_closed())

        with ScriptedUpstream(script, address=self.path) as upstream, Proxy(*self.target) as proxy:
            client = proxy.client()
            client.send(request())
            eventually(lambda: upstream.heads)
            client.close()
            self.assertTrue(eventually(lambda: ended))

    def test_websocket(self) -> None:
        """WebSockets pass."""
        with (
            ScriptedUpstream(address=self.path) as upstream,
            Proxy(*self.target) as proxy,
            open_pair(proxy, upstream) as pair,
        ):
            pair.client.send(text(b"up").masked().octets)
            self.assertEqual(read_frame(pair.upstream).payload, b"up")
            pair.upstream.send(text(b"down").octets)
            self.assertEqual(read_frame(pair.client).payload, b"down")

    def test_tls(self) -> None:
        """Over TLS the URL's name is sent, and the certificate has to be for it (RFC 6066 3)."""
        authority = trustme.CA()
        ca = str(Path(self.path).with_name("ca.pem"))
        authority.cert_pem.write_to_path(ca)
        names: list[str | None] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("api.test").configure_cert(context)
        context.set_alpn_protocols(["h2", "http/1.1"])

        def note(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
            names.append(name)

        context.sni_callback = note
        for host, status in (("api.test", 200), ("other.test", 502)):
            with ScriptedUpstream(tls=context, address=self.path) as upstream:
                where = ("--target", f"https://{host}", "--upstream-socket", self.path)
                with Proxy(*where, "--upstream-ca", ca) as proxy:
                    self.assertEqual(status, proxy.ask(request()).status)
                    if status == 200:
                        pair = self.enterContext(open_pair(proxy, upstream))
                        pair.client.send(text(b"up").masked().octets)
                        self.assertEqual(read_frame(pair.upstream).payload, b"up")
                        pair.client.close()
            os.unlink(self.path)
        self.assertEqual(["api.test", "other.test"], names)

    def test_no_socket(self) -> None:
        """A socket that is not there; it may come later."""
        self.assert_fails(b"destination_unavailable", b"does not exist", b"ENOENT")
        with Proxy(*self.target) as proxy:
            self.assertEqual(502, proxy.ask(request()).status)
            with ScriptedUpstream(address=self.path):
                self.assertEqual(b"ok", proxy.ask(request()).body)

    def test_nobody_listens(self) -> None:
        """A socket that a server left behind."""
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(self.path)
        self.assert_fails(b"connection_refused", b"refused the connection")

    @unittest.skipIf(os.geteuid() == 0, "root may use every socket")
    def test_permission(self) -> None:
        """A socket that the proxy's user may not use."""
        with ScriptedUpstream(address=self.path):
            os.chmod(self.path, 0)
            self.assert_fails(b"destination_unavailable", b"may not use", b"EACCES")

    def test_full(self) -> None:
        """A socket with as many as it has room for is waited for, as with TCP (connect(2))."""
        with socket.socket(socket.AF_UNIX) as listener, Proxy(*self.target) as proxy:
            listener.bind(self.path)
            listener.listen(0)
            crowd = [socket.socket(socket.AF_UNIX) for _ in range(3)]
            for each in crowd:
                self.addCleanup(each.close)
                each.setblocking(False)
                with suppress(BlockingIOError):
                    each.connect(self.path)
            with proxy.client() as client:
                client.send(request())
                self.assertTrue(client.quiet(0.3))
                listener.settimeout(10)
                while True:
                    accepted, _ = listener.accept()
                    self.addCleanup(accepted.close)
                    accepted.settimeout(0.5)
                    with suppress(TimeoutError):
                        if accepted.recv(65536):
                            break
                accepted.sendall(OK)
                self.assertEqual(client.read_response().body, b"ok")
