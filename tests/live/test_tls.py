"""The upstream's certificate is checked before anything is said."""

from __future__ import annotations

import datetime
import shutil
import ssl
import subprocess
import tempfile
import unittest
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import trustme
from twisted.web import http, server
from twisted.web.resource import Resource

from tests.live.kit import (
    Closed,
    Proxy,
    Response,
    Script,
    ScriptedUpstream,
    Wire,
    answer,
    answer_and_close,
    chunk,
    eventually,
    request,
)
from tests.live.names import name_service


class UpstreamTlsTests(unittest.TestCase):
    """An ``https`` target."""

    authority: ClassVar[trustme.CA] = trustme.CA()

    def setUp(self) -> None:
        """Put the authority's certificate where an option can name it."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.ca = str(Path(directory.name) / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca)

    def context(self, certificate: trustme.LeafCert) -> ssl.SSLContext:
        """Return a server's side with a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context

    @contextmanager
    def pair(
        self,
        context: ssl.SSLContext,
        *arguments: str,
        host: str = "localhost",
        script: Script | None = None,
    ) -> Iterator[tuple[ScriptedUpstream, Proxy]]:
        """Run a TLS upstream and a proxy in front of it."""
        with (
            ScriptedUpstream(script, tls=context) as upstream,
            Proxy("--target", f"https://{host}:{upstream.port}", *arguments) as proxy,
        ):
            yield upstream, proxy

    def assert_refused(self, context: ssl.SSLContext, *arguments: str, word: bytes) -> Response:
        """Check that the upstream is 502 with a reason, and gets no octet of the request."""
        with self.pair(context, *arguments) as (upstream, proxy):
            response = proxy.ask(
                request(
                    b"POST /private HTTP/1.1",
                    b"Accept: application/json",
                    b"Content-Length: 6",
                    body=b"secret",
                )
            )
            self.assertEqual(response.status, 502)
            self.assertEqual(upstream.heads, [])
            self.assertIn(word, response.body.lower())
            status = b",".join(response.head.values(b"proxy-status"))
            self.assertIn(b"error=tls_certificate_error", status)
        return response

    def test_trusted(self) -> None:
        """``--upstream-ca`` trusts an authority; the name is sent (RFC 9110 4.3.4)."""
        context = self.context(self.authority.issue_cert("localhost"))
        context.set_alpn_protocols(["h2", "http/1.1"])
        names: list[str | None] = []

        def note(sock: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            names.append(name)

        context.sni_callback = note
        with self.pair(context, "--upstream-ca", self.ca) as (upstream, proxy):
            for _ in range(3):
                self.assertEqual(proxy.ask(request()).body, b"ok")
            self.assertEqual(upstream.requests[0].value(b"host"), b"localhost:%d" % upstream.port)
            self.assertEqual(upstream.connections, 1)
        self.assertEqual(names, ["localhost"])

    def test_hello(self) -> None:
        """The ClientHello offers ``http/1.1`` alone, and names the host (RFC 7301, RFC 6066 3)."""
        hellos: list[bytes] = []

        def script(wire: Wire) -> None:
            head = wire.read_exactly(5)
            hellos.append(wire.read_exactly(int.from_bytes(head[3:5], "big")))
            wire.close()

        with ScriptedUpstream(script) as upstream:
            target = ("--target", f"https://localhost:{upstream.port}")
            for options in ((), ("--upstream-insecure",)):
                with Proxy(*target, *options) as proxy:
                    self.assertEqual(proxy.ask(request()).status, 502)
        self.assertEqual(2, len(hellos))
        for hello in hellos:
            found = extensions(hello)
            self.assertEqual(b"\0\x09\x08http/1.1", found[16])
            self.assertEqual(b"\0\x0c\0\0\x09localhost", found[0])

    def test_insists(self) -> None:
        """A server that takes nobody without ``http/1.1`` takes the proxy."""
        context = self.context(self.authority.issue_cert("localhost"))
        context.set_alpn_protocols(["http/1.1"])
        chosen: list[str | None] = []

        def script(wire: Wire) -> None:
            assert isinstance(wire.sock, ssl.SSLSocket)
            chosen.append(wire.sock.selected_alpn_protocol())
            answer()(wire)

        with self.pair(context, "--upstream-ca", self.ca, script=script) as (_, proxy):
            self.assertEqual(proxy.ask(request()).body, b"ok")
        self.assertEqual("http/1.1", chosen[0])

    def test_final_dot(self) -> None:
        """Certificate and TLS have the name without its final dot, Host as written (RFC 6066 3)."""
        context = self.context(self.authority.issue_cert("secure.test"))
        names: list[str | None] = []

        def note(sock: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            names.append(name)

        context.sni_callback = note
        environment = name_service(self, {"secure.test.": ["127.0.0.1"]})
        with ScriptedUpstream(tls=context) as upstream:
            target = f"https://secure.test.:{upstream.port}"
            arguments = ("--target", target, "--upstream-ca", self.ca)
            with Proxy(*arguments, environment=environment) as proxy:
                self.assertEqual(proxy.ask(request()).body, b"ok")
            host = upstream.request.value(b"host")
        self.assertEqual(b"secure.test.:%d" % upstream.port, host)
        self.assertEqual(["secure.test"], names)

    def test_good_bye(self) -> None:
        """A kept connection ends with TLS's own end, and no reset (RFC 8446 6.1)."""
        context = self.context(self.authority.issue_cert("localhost"))
        ends: list[object] = []

        def script(wire: Wire) -> None:
            answer()(wire)
            assert isinstance(wire.sock, ssl.SSLSocket)
            wire.sock.suppress_ragged_eofs = False  # type: ignore[attr-defined]
            try:
                ends.append(wire.read_some())
            except (OSError, Closed) as error:
                ends.append(error)
            wire.close()

        with self.pair(context, "--upstream-ca", self.ca, script=script) as (_, proxy):
            self.assertEqual(proxy.ask(request()).body, b"ok")
            proxy.stop()
            eventually(lambda: ends)
        self.assertEqual([b""], ends)

    def test_redirect_over_http(self) -> None:
        """A redirect to the target's own host over http leads to the proxy, not past it."""
        context = self.context(self.authority.issue_cert("localhost"))
        places: list[bytes] = []

        def redirect(wire: Wire) -> None:
            wire.read_head()
            head = b"\r\n".join(
                b"%b: %b%b" % (name, b"0;url=" if name == b"Refresh" else b"", places[-1])
                for name in (b"Location", b"Content-Location", b"Refresh")
            )
            wire.send(b"HTTP/1.1 307 Go\r\n" + head + b"\r\nContent-Length: 0\r\n\r\n")

        with self.pair(context, "--upstream-ca", self.ca, script=redirect) as (upstream, proxy):
            own = b"localhost:%d" % upstream.port
            for place, expected in (
                (b"http://" + own + b"/a?b", b"/a?b"),
                (b"https://" + own + b"/a?b", b"/a?b"),
                (b"http://localhost/a?b", b"http://localhost/a?b"),
                (b"http://other.example/a", b"http://other.example/a"),
            ):
                places.append(place)
                head = proxy.ask(request()).head
                self.assertEqual(expected, head.value(b"location"))
                self.assertEqual(expected, head.value(b"content-location"))
                self.assertEqual(b"0;url=" + expected, head.value(b"refresh"))

    def test_address(self) -> None:
        """A certificate for an address is good for that address (RFC 9110 4.3.4)."""
        context = self.context(self.authority.issue_cert("127.0.0.1"))
        with self.pair(context, "--upstream-ca", self.ca, host="127.0.0.1") as (_, proxy):
            self.assertEqual(proxy.ask(request()).body, b"ok")

    def test_unknown_authority(self) -> None:
        """A certificate of nobody we trust is 502; nothing was sent."""
        self.assert_refused(
            self.context(self.authority.issue_cert("localhost")), word=b"certificate"
        )

    def test_other_authority(self) -> None:
        """``--upstream-ca`` trusts that one only."""
        other = trustme.CA().issue_cert("localhost")
        self.assert_refused(self.context(other), "--upstream-ca", self.ca, word=b"certificate")

    def test_wrong_name(self) -> None:
        """A certificate for another name is 502; nothing was sent (RFC 9110 4.3.4)."""
        context = self.context(self.authority.issue_cert("other.example"))
        self.assert_refused(context, "--upstream-ca", self.ca, word=b"localhost")

    def test_expired(self) -> None:
        """An expired certificate is 502 and says so; nothing was sent."""
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        context = self.context(self.authority.issue_cert("localhost", not_after=past))
        self.assert_refused(context, "--upstream-ca", self.ca, word=b"expired")

    def test_insecure(self) -> None:
        """``--upstream-insecure`` takes any certificate."""
        context = self.context(trustme.CA().issue_cert("other.example"))
        with self.pair(context, "--upstream-insecure") as (_, proxy):
            self.assertEqual(proxy.ask(request()).body, b"ok")

    def test_plain_upstream(self) -> None:
        """An ``https`` target that speaks no TLS is 502."""
        with (
            ScriptedUpstream(answer_and_close(b"HTTP/1.1 400 Bad\r\n\r\n")) as upstream,
            Proxy("--target", f"https://localhost:{upstream.port}") as proxy,
        ):
            upstream.script = lambda wire: wire.close()
            self.assertEqual(proxy.ask(request()).status, 502)

    def test_streaming(self) -> None:
        """Bodies pass through TLS both ways, piece by piece."""
        context = self.context(self.authority.issue_cert("localhost"))
        body = bytes(range(256)) * 4000
        script = answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n" % chunk(body)
        )
        with self.pair(context, "--upstream-ca", self.ca, script=script) as (upstream, proxy):
            response = proxy.ask(
                request(b"POST / HTTP/1.1", b"Content-Length: %d" % len(body), body=body)
            )
            self.assertEqual(response.body, body)
            self.assertEqual(upstream.bodies, [body])

    def test_truncation(self) -> None:
        """A body until close that ends without close_notify is cut (RFC 9112 9.8; FIELD 16)."""
        context = self.context(self.authority.issue_cert("localhost"))
        script = answer_and_close(b"HTTP/1.1 200 OK\r\n\r\nsome words")
        with (
            self.pair(context, "--upstream-ca", self.ca, script=script) as (_, proxy),
            self.assertRaises(Closed),
        ):
            proxy.ask(request())

    def test_reset_behind_the_end(self) -> None:
        """What close_notify has ended is whole, whatever comes behind it (RFC 9112 9.8)."""
        context = self.context(self.authority.issue_cert("localhost"))
        words = b"some words"

        def script(wire: Wire) -> None:
            tls = Sealed(wire, context)
            tls.read()
            tls.seal.write(b"HTTP/1.1 200 OK\r\n\r\n" + words)
            with suppress(ssl.SSLWantReadError):
                tls.seal.unwrap()
            tls.send()
            wire.reset()

        with ScriptedUpstream(script) as upstream:
            target = f"https://localhost:{upstream.port}"
            with Proxy("--target", target, "--upstream-ca", self.ca) as proxy:
                for _ in range(10):
                    self.assertEqual(words, proxy.ask(request()).body)


def extensions(hello: bytes) -> dict[int, bytes]:
    """Return the extensions of a ClientHello by number.  Spec: RFC 8446 4.1.2."""
    place = 4 + 2 + 32
    place += 1 + hello[place]
    place += 2 + int.from_bytes(hello[place : place + 2], "big")
    place += 1 + hello[place]
    place += 2
    found = {}
    while place < len(hello):
        kind, size = (int.from_bytes(hello[place + at : place + at + 2], "big") for at in (0, 2))
        found[kind] = hello[place + 4 : place + 4 + size]
        place += 4 + size
    return found


class Sealed:
    """A server's TLS of which a test says when what is sent.

    Attributes:
        seal: takes octets in the clear; what they become waits for ``send``.
    """

    def __init__(self, wire: Wire, context: ssl.SSLContext) -> None:
        self._wire = wire
        self._come, self._go = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.seal = context.wrap_bio(self._come, self._go, server_side=True)

    def send(self) -> None:
        """Send what waits."""
        self._wire.send(self._go.read())

    def read(self) -> bytes:
        """Return the next octets in the clear, after the handshake."""
        while True:
            try:
                return self.seal.read(64 * 1024)
            except ssl.SSLWantReadError:
                self.send()
                self._come.write(self._wire.read_some())


class ListenerTests(unittest.TestCase):
    """An ``ssl:`` listener, with what twisted.web needs for HTTP/2 in the environment."""

    authority: ClassVar[trustme.CA] = trustme.CA()

    def setUp(self) -> None:
        """Run an upstream, and a proxy with such a listener in front of it."""
        directory = self.enterContext(tempfile.TemporaryDirectory())
        key = Path(directory) / "key.pem"
        self.authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(key)
        self.ca = Path(directory) / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)
        listen = f"--listen=ssl:0:interface=127.0.0.1:privateKey={key}:certKey={key}"
        self.upstream = self.enterContext(ScriptedUpstream())
        self.proxy = self.enterContext(Proxy("--target", self.upstream.url, listen))

    def test_trap(self) -> None:
        """Trap, twisted.web server: its site offers h2 as soon as both packages are there."""
        self.assertTrue(http.H2_ENABLED, "h2 and priority are not installed")
        site = server.Site(Resource())
        self.assertIn(b"h2", site.acceptableProtocols())

    def negotiated(self, *offered: str) -> tuple[str | None, bytes]:
        """Offer protocols; return the one that is chosen, and the content that is then given."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if offered:
            context.set_alpn_protocols(offered)
        with self.proxy.client() as client:
            secure = context.wrap_socket(client.sock, server_hostname="localhost")
            with Wire(secure) as wire:
                wire.send(request())
                return secure.selected_alpn_protocol(), wire.read_response().body

    def test_offered(self) -> None:
        """It offers what it speaks, ``http/1.1``, and that works.  RFC 7301 3.2."""
        for offered, chosen in (
            (("h2", "http/1.1"), "http/1.1"),
            (("http/1.1",), "http/1.1"),
            ((), None),
        ):
            self.assertEqual((chosen, b"ok"), self.negotiated(*offered), offered)
        with self.assertRaises(ssl.SSLError):  # RFC 7301 3.2 wants it to fail
            self.negotiated("h2")

    def test_curl(self) -> None:
        """curl, which asks for h2 first, gets an answer."""
        curl = shutil.which("curl")
        if curl is None:
            self.skipTest("there is no curl")
        url = f"https://localhost:{self.proxy.port}/"
        command = [curl, "-sS", "--http2", "--cacert", str(self.ca), "-w", " %{http_version}", url]
        done = subprocess.run(command, capture_output=True, check=False, timeout=30)
        self.assertEqual((0, b"ok 1.1"), (done.returncode, done.stdout), done.stderr)
