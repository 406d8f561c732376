"""The opening handshake: who is recognised, what the upstream gets, whose answer is passed on."""

from __future__ import annotations

import threading
import time
from typing import ClassVar

from tests.live.kit import (
    OK,
    PATIENCE,
    Closed,
    Wire,
    answer,
    answer_and_close,
    chunk,
    eventually,
    request,
)
from tests.live.websocket import (
    HANDSHAKE,
    KEY,
    KEY_FIELD,
    UPGRADE,
    VERSION,
    HeldEnd,
    Pair,
    WebSocketTestCase,
    accept,
    open_pair,
    opening,
    read_frame,
    switching,
    text,
)

GET = b"GET / HTTP/1.1"
KEY_NAME = b"sec-websocket-key"
WRITTEN_BY_PROXY = {
    *(b"connection", b"upgrade", b"host", b"via"),
    *(b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port"),
}
"""Names of request fields that the proxy writes."""

SPELLINGS: dict[str, tuple[bytes, ...]] = {
    "plain": HANDSHAKE,
    "keep-alive first": (
        b"Connection: keep-alive, Upgrade",
        b"Upgrade: websocket",
        VERSION,
        KEY_FIELD,
    ),
    "small": (b"connection: upgrade", b"upgrade: websocket", VERSION, KEY_FIELD),
    "large": (b"CONNECTION: UPGRADE", b"UPGRADE: WEBSOCKET", VERSION, KEY_FIELD),
    "mixed": (b"Connection: upGrade", b"Upgrade: WebSocket", VERSION, KEY_FIELD),
    "two Connection fields": (b"Connection: keep-alive", *HANDSHAKE),
    "empty members": (b"Connection: , ,Upgrade ,", b"Upgrade: ,websocket", VERSION, KEY_FIELD),
    "several protocols": (
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c, websocket",
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        VERSION,
        KEY_FIELD,
    ),
    "another order": (KEY_FIELD, VERSION, *reversed(UPGRADE)),
    "no spaces": (*UPGRADE, b"Sec-WebSocket-Version:13", b"Sec-WebSocket-Key:" + KEY),
    "more spaces": (
        *UPGRADE,
        b"Sec-WebSocket-Version: \t13 ",
        b"Sec-WebSocket-Key:   " + KEY + b" ",
    ),
    "a length of nothing": (*HANDSHAKE, b"Content-Length: 0"),
}
"""Opening handshakes (RFC 6455 4.1; RFC 9110 5.6.1, 7.8)."""


class RecognitionTests(WebSocketTestCase):
    """What an opening handshake may look like."""

    def assert_open(self, pair: Pair) -> None:
        """Check that frames pass both ways."""
        pair.client.send(text(b"up").masked().octets)
        self.assertEqual(read_frame(pair.upstream).payload, b"up")
        pair.upstream.send(text(b"down").octets)
        self.assertEqual(read_frame(pair.client).payload, b"down")

    def test_spellings(self) -> None:
        """Tokens have any case and any place in their lists (RFC 6455 4.2.1; FIELD 13)."""
        for name, fields in SPELLINGS.items():
            with self.subTest(name):
                held = HeldEnd()
                self.addCleanup(held.release)
                self.upstream.script = held
                with self.proxy.client() as client:
                    client.send(request(GET, *fields))
                    wire, seen = held.take()
                    self.assertEqual(seen.values(b"upgrade"), [b"websocket"])
                    self.assertEqual(seen.value(b"connection"), b"Upgrade")
                    self.assertEqual(seen.value(b"sec-websocket-key"), KEY)
                    self.assertEqual(seen.value(b"sec-websocket-version"), b"13")
                    self.assertNotIn(b"http2-settings", seen.names())
                    response = client.read_head()
                    self.assertEqual(response.status, 101)
                    self.assert_open(Pair(client, wire, seen, response, held))

    def test_behind_requests(self) -> None:
        """A connection that served requests may become a WebSocket (RFC 9110 7.8)."""
        client = self.proxy.client()
        for _ in range(2):
            client.send(request())
            self.assertEqual(client.read_response().body, b"ok")
        with open_pair(self.proxy, self.upstream, client=client) as pair:
            self.assert_open(pair)

    def test_pipelined(self) -> None:
        """A handshake in one packet with the request before it waits for its turn."""
        held = HeldEnd()
        self.addCleanup(held.release)
        go = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_head()
            self.upstream.script = held
            go.wait(PATIENCE)
            wire.send(OK)

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(request() + opening() + text(b"up").masked().octets)
            self.assertTrue(client.quiet(0.1))
            go.set()
            self.assertEqual(client.read_response().body, b"ok")
            wire, _ = held.take()
            self.assertEqual(client.read_head().status, 101)
            self.assertEqual(read_frame(wire).payload, b"up")

    def test_absolute_form(self) -> None:
        """A target may be a whole URL of a WebSocket, or of HTTP (RFC 9112 3.2.2, RFC 6455 3)."""
        for url in (b"ws://front.example/x?y", b"WSS://front.example:443/x?y", b"http://a/x?y"):
            with self.subTest(url=url), self.open(target=url) as pair:
                self.assertEqual(b"/x?y", pair.request.target)
                self.assert_open(pair)

    def test_in_pieces(self) -> None:
        """A handshake may come octet by octet."""
        held = HeldEnd()
        self.addCleanup(held.release)
        self.upstream.script = held
        with self.proxy.client() as client:
            for octet in opening():
                client.send(bytes([octet]))
            held.take()
            self.assertEqual(client.read_head().status, 101)

    def test_stale_connection(self) -> None:
        """A kept connection that the upstream has closed costs no handshake (invariant 5)."""
        for _ in range(3):
            self.upstream.script = answer()
            self.assertEqual(self.ask().body, b"ok")
            self.upstream.drop_connections()
            with self.open() as pair:
                self.assert_open(pair)

    def test_never_pooled(self) -> None:
        """A connection that was a WebSocket carries no request afterwards."""
        with self.open() as pair:
            self.assert_open(pair)
        self.upstream.script = answer()
        connections = self.upstream.connections
        self.assertEqual(self.ask().body, b"ok")
        self.assertEqual(self.upstream.connections, connections + 1)


class RequestTests(WebSocketTestCase):
    """What the upstream gets."""

    def test_target(self) -> None:
        """The target's octets stay (invariant 1; RFC 9110 7.7)."""
        for target, seen in (
            (b"/a%2Fb//c%25;d?", b"/a%2Fb//c%25;d?"),
            (b"//a?b=/../c&&d=%3d", b"//a?b=/../c&&d=%3d"),
            (b"/" + b"x" * 4000, b"/" + b"x" * 4000),
            (b"http://any.example/a?b", b"/a?b"),
        ):
            with self.subTest(target=target), self.open(target=target) as pair:
                self.assertEqual(pair.request.start_line, b"GET " + seen + b" HTTP/1.1")

    def test_fields(self) -> None:
        """Fields pass in order, repeated ones too (RFC 9110 5.3; FIELD 14)."""
        sent = (
            b"Origin: https://app.example",
            b"Cookie: a=1",
            b"COOKIE: b=2",
            b"Authorization: Bearer of-the-client",
            b"Sec-WebSocket-Protocol: chat, superchat",
            b"X-High: caf\xc3\xa9 \xff",
            b"sec-websocket-protocol: openai-insecure-api-key.sk-of-client",
            b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
            b"Sec-WebSocket-Extensions: x-other;a=b",
            b"User-Agent: me/1",
        )
        with self.open(*sent) as pair:
            lines = pair.request.octets.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]
            seen = [
                line for line in lines if line.partition(b":")[0].lower() not in WRITTEN_BY_PROXY
            ]
        self.assertEqual(seen, [VERSION, KEY_FIELD, *sent])

    def test_fields_of_one_hop(self) -> None:
        """Other fields of one hop end here; what Connection nominates too (RFC 9110 7.6.1)."""
        fields = (
            b"Connection: X-Nominated",
            b"X-Nominated: 1",
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: keep-alive",
            b"X-Kept: 1",
        )
        with self.open(*fields) as pair:
            self.assertEqual(pair.request.values(b"connection"), [b"Upgrade"])
            self.assertEqual(pair.request.values(b"upgrade"), [b"websocket"])
            self.assertEqual(pair.request.values(b"x-kept"), [b"1"])
            for name in (b"x-nominated", b"keep-alive", b"proxy-connection"):
                self.assertNotIn(name, pair.request.names())

    def test_written_by_the_proxy(self) -> None:
        """Host, Via and X-Forwarded-* are written as for HTTP; nothing else is."""
        with self.open(b"X-Forwarded-For: 6.6.6.6", b"Via: 1.0 fred") as pair:
            head = pair.request
            self.assertEqual(head.value(b"host"), b"127.0.0.1:%d" % self.upstream.port)
            self.assertEqual(head.value(b"x-forwarded-for"), b"127.0.0.1")
            self.assertEqual(head.value(b"x-forwarded-proto"), b"http")
            self.assertEqual(head.value(b"x-forwarded-host"), b"front.example")
            entries = b", ".join(head.values(b"via")).split(b", ")
            self.assertEqual((len(entries), entries[0]), (2, b"1.0 fred"))
            self.assertTrue(entries[1].startswith(b"1.1 "), entries)
            self.assertEqual(
                set(head.names()) - WRITTEN_BY_PROXY,
                {b"sec-websocket-key", b"sec-websocket-version"},
            )


SECRET = "sk-ws-Zx81Qp77"


class PolicyTests(WebSocketTestCase):
    """Prefix, base and field rules are the same as for HTTP."""

    environment: ClassVar[dict[str, str]] = {"LIVE_KEY": SECRET}
    base = "/base/"
    proxy_arguments = (
        *("--prefix", "/defm", "--header", "Authorization: Bearer ${{LIVE_KEY}}"),
        *("--allow-host", "front.example", "--allow-origin", "https://a.example"),
        *("--remove-header", "Origin", "--response-header", "X-Served: here"),
        *("--remove-response-header", "Server", "--trust-proxy", "127.0.0.0/8"),
    )

    def test_mapping(self) -> None:
        """The prefix gives way to the base path."""
        with self.open(target=b"/defm/a%2Fb//c?d") as pair:
            self.assertEqual(pair.request.target, b"/base/a%2Fb//c?d")

    def test_outside(self) -> None:
        """What the prefix does not cover is 404, what climbs out is 400; nobody is asked."""
        for target, status in ((b"/other", 404), (b"/defmx", 404), (b"/defm/%2e%2e/x", 400)):
            with self.subTest(target=target):
                self.assertEqual(self.proxy.ask(opening(target=target)).status, status)
        self.assertEqual(self.upstream.heads, [])

    def test_fields(self) -> None:
        """``--header``, ``--remove-header`` and ``--trust-proxy`` hold (FIELD 14)."""
        with self.open(
            b"Authorization: Bearer of-client",
            b"Origin: https://a.example",
            b"X-Forwarded-For: 203.0.113.7",
            b"X-Forwarded-Proto: https",
            target=b"/defm/",
        ) as pair:
            head = pair.request
            self.assertEqual(head.value(b"authorization"), b"Bearer " + SECRET.encode())
            self.assertNotIn(b"origin", head.names())
            self.assertEqual(head.value(b"x-forwarded-proto"), b"https")
            chain = b", ".join(head.values(b"x-forwarded-for"))
            self.assertEqual(chain, b"203.0.113.7, 127.0.0.1")

    def test_response_fields(self) -> None:
        """Rules for responses hold for the 101; cookies come back under the prefix."""
        fields = (b"Set-Cookie: a=1; Path=/base/x", b"Server: theirs", b"X-Served: there")
        with self.open(target=b"/defm/", answer=fields) as pair:
            self.assertEqual(pair.response.value(b"set-cookie"), b"a=1; Path=/defm/x")
            self.assertEqual(pair.response.values(b"x-served"), [b"here"])
            self.assertNotIn(b"server", pair.response.names())

    def test_secrets_are_masked(self) -> None:
        """An injected secret in the fields of a 101 or of a refusal is masked (FIELD 18)."""
        echoed = b"X-Echo: got " + SECRET.encode()
        with self.open(target=b"/defm/", answer=(echoed,)) as pair:
            self.assertNotIn(SECRET.encode(), pair.response.octets)
            self.assertIn(b"x-echo", pair.response.names())
        self.upstream.script = answer(
            b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n" + echoed + b"\r\n\r\n"
        )
        response = self.proxy.ask(opening(target=b"/defm/"))
        self.assertEqual(response.status, 401)
        self.assertNotIn(SECRET.encode(), response.head.octets)
        self.assertNotIn(SECRET, self.proxy.log())

    def test_redirect(self) -> None:
        """The Location of a refusal comes back under the prefix."""
        self.upstream.script = answer(
            b"HTTP/1.1 302 Found\r\nLocation: /base/login?x\r\nContent-Length: 0\r\n\r\n"
        )
        response = self.proxy.ask(opening(target=b"/defm/"))
        self.assertEqual(response.status, 302)
        self.assertTrue((response.value(b"location") or b"").endswith(b"/defm/login?x"))


REFUSALS: dict[str, tuple[bytes, bytes]] = {
    "401, length": (
        b"HTTP/1.1 401 Who\r\nWWW-Authenticate: Bearer\r\nContent-Length: 5\r\n\r\nwords",
        b"words",
    ),
    "403, chunks": (
        b"HTTP/1.1 403 No\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"wo") + chunk(b"rds") + b"0\r\n\r\n",
        b"words",
    ),
    "404, until the end": (
        b"HTTP/1.1 404 Gone\r\nConnection: close\r\nX-Until: end\r\n\r\nwords",
        b"words",
    ),
    "426": (
        b"HTTP/1.1 426 Other\r\nSec-WebSocket-Version: 8\r\nContent-Length: 0\r\n\r\n",
        b"",
    ),
    "503": (b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy", b"busy"),
    "200": (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "204": (b"HTTP/1.1 204 None\r\nX-A: b\r\n\r\n", b""),
    "large": (
        b"HTTP/1.1 500 Oh\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300000,
        b"x" * 300000,
    ),
}
"""Answers other than 101, with their content (RFC 6455 4.1, 4.2.2)."""

FRAMING = {b"content-length", b"transfer-encoding", b"connection", b"via", b"date"}
"""Names of response fields that the next hop may need otherwise."""


class AnswerTests(WebSocketTestCase):
    """What the client gets."""

    def test_upstream_first(self) -> None:
        """The client gets no octet before the upstream has switched."""
        go = threading.Event()
        self.addCleanup(go.set)

        def script(wire: Wire) -> None:
            head = wire.read_head()
            go.wait(PATIENCE)
            wire.send(switching(head))
            wire.wait_closed()
            wire.close()

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(opening() + text(b"early").masked().octets)
            self.assertTrue(eventually(lambda: self.upstream.heads))
            self.assertTrue(client.quiet(0.3), "the client was answered before the upstream did")
            go.set()
            self.assertEqual(client.read_head().status, 101)

    def test_101_is_the_upstreams(self) -> None:
        """Subprotocol, extensions, cookies and the rest are the upstream's choice (FIELD 12)."""
        offer = (
            b"Sec-WebSocket-Protocol: a, b, c",
            b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x",
        )
        for fields in (
            (),
            (b"Sec-WebSocket-Protocol: b",),
            (b"sec-websocket-protocol: not-offered",),
            (b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=10",),
            (b"Set-Cookie: a=1", b"X-A: 1", b"Set-Cookie: b=2", b"x-a: \xff", b"Server: theirs"),
            (b"Date: Wed, 09 Jun 2021 10:18:14 GMT", b"X-Empty:"),
        ):
            with self.subTest(fields=fields), self.open(*offer, answer=fields) as pair:
                self.assertEqual(pair.response.start_line, b"HTTP/1.1 101 Switching Protocols")
                lines = pair.response.octets.removesuffix(b"\r\n\r\n").split(b"\r\n")[1:]
                seen = [line.rstrip() for line in lines]
                expected = switching(pair.request, *fields).strip().split(b"\r\n")[1:]
                own = (b"via", b"date", b"upgrade", b"connection")
                kept = {
                    name: [line for line in each if line.partition(b":")[0].lower() not in own]
                    for name, each in (("seen", seen), ("sent", expected))
                }
                self.assertEqual(kept["seen"], kept["sent"])
                self.assertEqual(pair.response.values(b"upgrade"), [b"websocket"])
                self.assertEqual(
                    [value.lower() for value in pair.response.values(b"connection")],
                    [b"upgrade"],
                )

    def test_spellings_of_the_101(self) -> None:
        """Its tokens have any case and place too, and any reason will do (RFC 6455 4.1)."""
        for fields in (
            (b"upgrade: WebSocket", b"CONNECTION: upgrade"),
            (b"Upgrade: WEBSOCKET", b"Connection: keep-alive, Upgrade", b"Keep-Alive: timeout=5"),
            (b"Upgrade: websocket", b"Connection: Upgrade", b"Content-Length: 0"),
        ):

            def script(wire: Wire, fields: tuple[bytes, ...] = fields) -> None:
                lines = (
                    b"HTTP/1.1 101 Web Socket Protocol Handshake",
                    *fields,
                    b"Sec-WebSocket-Accept: " + accept(wire.read_head().values(KEY_NAME)[0]),
                )
                wire.send(b"\r\n".join(lines) + b"\r\n\r\n" + text(b"down").octets)
                wire.wait_closed()
                wire.close()

            self.upstream.script = script
            with self.subTest(fields=fields), self.proxy.client() as client:
                client.send(opening())
                head = client.read_head()
                self.assertEqual(head.start_line, b"HTTP/1.1 101 Web Socket Protocol Handshake")
                self.assertEqual(
                    [value.lower() for value in head.values(b"connection")], [b"upgrade"]
                )
                self.assertEqual(head.value(b"sec-websocket-accept"), accept(KEY))
                self.assertEqual(read_frame(client).payload, b"down")

    def test_refusals_are_whole(self) -> None:
        """Any other answer reaches the client whole, then its connection is closed (FIELD 13)."""
        for name, (octets, body) in REFUSALS.items():
            close = b"Connection: close" in octets
            self.upstream.script = answer_and_close(octets) if close else answer(octets)
            with self.subTest(name), self.proxy.client() as client:
                client.send(opening())
                response = client.read_response()
                sent = octets.partition(b"\r\n\r\n")[0].split(b"\r\n")
                seen = response.head.octets.partition(b"\r\n\r\n")[0].split(b"\r\n")
                for lines in (sent, seen):
                    lines[:] = [
                        line for line in lines if line.partition(b":")[0].lower() not in FRAMING
                    ]
                self.assertEqual(seen, sent)
                self.assertEqual(response.body, body)
                self.assertEqual(response.value(b"connection"), b"close")
                self.assertEqual(client.read_to_end(), b"")

    def test_refusal_streams(self) -> None:
        """The content of a refusal passes piece by piece (invariant 2)."""
        go = threading.Event()
        self.addCleanup(go.set)

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"one"))
            go.wait(PATIENCE)
            wire.send(chunk(b"two") + b"0\r\n\r\n")

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(opening())
            self.assertEqual(client.read_head().status, 503)
            self.assertEqual(client.read_chunk(), b"one")
            go.set()
            self.assertEqual(client.read_chunks()[0], [b"two"])
            self.assertEqual(client.read_to_end(), b"")

    def test_early_octets_are_no_request(self) -> None:
        """What stands behind a refused handshake is never read as a request (RFC 9110 7.8)."""
        smuggled = request(b"GET /smuggled HTTP/1.1")
        for refusal in (
            b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"no") + b"0\r\n\r\n",
            b"HTTP/1.1 204 No\r\n\r\n",
        ):
            for early in (smuggled, text(smuggled).masked(bytes(4)).octets, smuggled * 3000):
                with self.subTest(refusal=refusal, size=len(early)):
                    self.upstream.script = answer(refusal)
                    with self.proxy.client() as client:
                        client.send(opening() + early)
                        with_reset = False
                        response = client.read_response()
                        try:
                            after = client.read_to_end()
                        except Closed:  # what was not read becomes a RST
                            after, with_reset = b"", True
                        self.assertEqual(after, b"", with_reset)
                    self.assertEqual(response.status, int(refusal[9:12]))
        time.sleep(0.1)
        self.assertEqual({head.target for head in self.upstream.requests}, {b"/"})
        self.assertEqual(
            {head.value(b"upgrade") for head in self.upstream.requests}, {b"websocket"}
        )

    def test_interim(self) -> None:
        """Interim responses pass before the 101 and before a refusal (RFC 9110 15.2)."""
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        for final in (b"", b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"):

            def script(wire: Wire, final: bytes = final) -> None:
                head = wire.read_head()
                wire.send(hints + hints + (final or switching(head)))
                if not final:
                    wire.wait_closed()
                    wire.close()

            self.upstream.script = script
            with self.subTest(final=final), self.proxy.client() as client:
                client.send(opening())
                response = client.read_response()
                self.assertEqual(response.status, 403 if final else 101)
                links = [(head.status, head.value(b"link")) for head in response.interim]
                self.assertEqual(links, [(103, b"</a>")] * 2)
