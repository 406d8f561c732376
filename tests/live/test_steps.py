"""No steps of 40 ms: a peer that holds its last octets back gets its acknowledgement at once.

The peer leaves Nagle's algorithm on for one exchange and turns it off for the next, again and
again; the two must take the same time.  Without an acknowledgement in time the first takes 40 ms
more, whatever else the machine does.
"""

from __future__ import annotations

import socket
import ssl
import statistics
import time
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from tests.live.certificates import CertifiedTestCase
from tests.live.kit import MIB, Proxy, ScriptedUpstream, Wire, chunk, request
from tests.live.websocket import binary, opening, read_frame, switching

KIB = 1024
SIZES = (32 * KIB, 64 * KIB, 100 * KIB, 200 * KIB, MIB)

TAIL = 4 * KIB
"""Octets of each of the last two pieces: the second waits until the first is acknowledged."""

PAUSE = 0.002
"""Seconds before each of them, so that they do not leave together with what comes before."""

ROUNDS = 9
MANY = 150
FEW = 3
"""Of so many rounds, how many may be slow on a busy machine: less than a percentile or two."""

STEP = 0.02
"""Seconds that the median may take longer with Nagle's algorithm: half of a step."""

Exchange = Callable[[bool, int], None]
"""One exchange: whether Nagle's algorithm is on, and how many octets."""


def set_nagle(wire: Wire, on: bool) -> None:
    """Turn Nagle's algorithm on or off."""
    wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(not on))


def pieces(octets: bytes) -> list[bytes]:
    """Cut octets, so that the last two pieces are small."""
    return [octets[: -2 * TAIL], octets[-2 * TAIL : -TAIL], octets[-TAIL:]]


def send_in_pieces(wire: Wire, head: bytes, octets: list[bytes]) -> None:
    """Send a head and pieces in writes of their own."""
    wire.send(head)
    for piece in octets:
        time.sleep(PAUSE)
        wire.send(piece)


def serve(wire: Wire) -> None:
    """As an upstream: answer ``/nagle/form/size``, 1 or 0 first, ``length`` or ``chunked`` next."""
    head = wire.read_head()
    if head.value(b"upgrade") is not None:
        wire.send(switching(head))
        while True:
            answer_message(wire, read_frame(wire).payload)
    wire.read_body(head)
    _, nagle, form, size = head.target.split(b"/")
    set_nagle(wire, nagle == b"1")
    content = pieces(bytes(int(size)))
    if form == b"length":
        fields, last = b"Content-Length: %b" % size, []
    else:
        fields, last = b"Transfer-Encoding: chunked", [b"0\r\n\r\n"]
        content = [chunk(piece) for piece in content]
    send_in_pieces(wire, b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % fields, [*content, *last])


def answer_message(wire: Wire, asked: bytes) -> None:
    """Answer a message ``nagle/size`` with one of that size, and any other with a short one."""
    nagle, _, size = asked[:20].partition(b"/")
    if not size:
        wire.send(binary(b"ok").octets)
        return
    set_nagle(wire, nagle == b"1")
    message = binary(bytes(int(size)))
    send_in_pieces(wire, message.head, pieces(message.payload))


class PlainTests(unittest.TestCase):
    """Over TCP alone."""

    sizes: ClassVar[tuple[int, ...]] = SIZES

    @contextmanager
    def pair(self) -> Iterator[tuple[ScriptedUpstream, Proxy]]:
        """Run an upstream and a proxy in front of it."""
        with ScriptedUpstream(serve) as upstream, Proxy("--target", upstream.url) as proxy:
            yield upstream, proxy

    @contextmanager
    def connected(self) -> Iterator[Wire]:
        """Run both and connect to the proxy."""
        with self.pair() as (_, proxy), proxy.client() as client:
            yield client

    def assert_no_steps(self, exchange: Exchange) -> None:
        """Check that Nagle's algorithm makes no difference."""
        for size in self.sizes:
            exchange(False, size)
            taken: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(ROUNDS):
                for nagle in (True, False):
                    begun = time.monotonic()
                    exchange(nagle, size)
                    taken[nagle].append(time.monotonic() - begun)
            more = statistics.median(taken[True]) - statistics.median(taken[False])
            self.assertLess(more, STEP, f"{size} octets: {taken}")

    def test_every_round(self) -> None:
        """Not one round in a hundred shows a step: the median alone would hide every other one.

        On a busy machine a round may be slow whatever the peer does; as many are forgiven.
        """
        with self.connected() as client:
            taken: dict[bool, list[float]] = {True: [], False: []}
            for number in range(2 * MANY):
                nagle = bool(number % 2)
                begun = time.monotonic()
                client.send(request(b"GET /%d/length/%d HTTP/1.1" % (nagle, 100 * KIB)))
                self.assertEqual(100 * KIB, len(client.read_response().body))
                taken[nagle].append(time.monotonic() - begun)
            bound = statistics.median(taken[False]) + STEP
            slow = {nagle: sum(one > bound for one in taken[nagle]) for nagle in taken}
            self.assertLessEqual(slow[True], slow[False] + FEW, taken)

    def test_down(self) -> None:
        """A response's content, of a known length and in chunks, on a kept connection.

        Trap, Linux TCP: what a peer with Nagle's algorithm waits for is acknowledged late.
        """
        with self.connected() as client:
            for form in (b"length", b"chunked"):

                def exchange(nagle: bool, size: int, form: bytes = form) -> None:
                    client.send(request(b"GET /%d/%b/%d HTTP/1.1" % (nagle, form, size)))
                    self.assertEqual(size, len(client.read_response().body))

                self.assert_no_steps(exchange)

    def test_up(self) -> None:
        """A request's content, of a known length and in chunks."""
        with self.connected() as client:
            for chunked in (False, True):

                def exchange(nagle: bool, size: int, chunked: bool = chunked) -> None:
                    set_nagle(client, nagle)
                    field, content = b"Content-Length: %d" % size, pieces(bytes(size))
                    if chunked:
                        field = b"Transfer-Encoding: chunked"
                        content = [*map(chunk, content), b"0\r\n\r\n"]
                    target = b"POST /0/length/%d HTTP/1.1" % SIZES[0]
                    send_in_pieces(client, request(target, field), content)
                    self.assertEqual(200, client.read_response().status)

                self.assert_no_steps(exchange)

    def test_websocket(self) -> None:
        """A message of a WebSocket, either way."""
        with self.connected() as client:
            client.send(opening())
            self.assertEqual(101, client.read_head().status)

            def down(nagle: bool, size: int) -> None:
                client.send(binary(b"%d/%d" % (nagle, size)).masked().octets)
                self.assertEqual(size, len(read_frame(client).payload))

            def up(nagle: bool, size: int) -> None:
                set_nagle(client, nagle)
                # A mask of zeros costs this process nothing.
                frame = binary(bytes(size)).masked(bytes(4))
                send_in_pieces(client, frame.head, pieces(frame.payload))
                self.assertEqual(b"ok", read_frame(client).payload)

            self.assert_no_steps(down)
            self.assert_no_steps(up)


class SecureUpstreamTests(CertifiedTestCase, PlainTests):
    """The upstream behind TLS."""

    @contextmanager
    def pair(self) -> Iterator[tuple[ScriptedUpstream, Proxy]]:
        """Run an upstream with a certificate and a proxy that trusts it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.leaf.configure_cert(context)
        with ScriptedUpstream(serve, tls=context) as upstream:
            target = f"https://localhost:{upstream.port}"
            with Proxy("--target", target, "--upstream-ca", self.ca) as proxy:
                yield upstream, proxy


class SecureClientTests(CertifiedTestCase, PlainTests):
    """The client behind TLS."""

    @contextmanager
    def pair(self) -> Iterator[tuple[ScriptedUpstream, Proxy]]:
        """Run an upstream and a proxy with a certificate in front of it."""
        listen = f"ssl:0:interface=127.0.0.1:privateKey={self.key}:certKey={self.key}"
        with (
            ScriptedUpstream(serve) as upstream,
            Proxy("--target", upstream.url, "--listen", listen) as proxy,
        ):
            yield upstream, proxy

    @contextmanager
    def connected(self) -> Iterator[Wire]:
        """Run both and connect to the proxy through TLS."""
        context = ssl.create_default_context(cafile=self.ca)
        with (
            self.pair() as (_, proxy),
            proxy.client() as client,
            context.wrap_socket(client.sock, server_hostname="localhost") as sock,
        ):
            yield Wire(sock)
