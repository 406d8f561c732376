"""Give the live tests of WebSockets raw frames, opening handshakes and pairs of open ends.

Written from RFC 6455 for the tests alone: no code is shared with the proxy, and so no mistake.
A test holds both ends of a WebSocket itself; every wait ends after ``PATIENCE`` seconds::

    with open_pair(self.proxy, self.upstream, b"Origin: https://a.example") as pair:
        pair.client.send(text(b"hello").masked().octets)
        self.assertEqual(read_frame(pair.upstream).payload, b"hello")
"""

from __future__ import annotations

import base64
import hashlib
import queue
import threading
import time
from typing import Self

import attrs

from tests.live.kit import (
    PATIENCE,
    Head,
    LiveTestCase,
    Proxy,
    RawClient,
    ScriptedUpstream,
    Wire,
    request,
)

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
"""Opcodes (RFC 6455 5.2)."""

MASK = b"\x12\x34\x56\x78"
"""A masking key like any other."""

HELD = 600.0
"""Seconds after which a script lets go of an end that no test has released."""


# -- frames -----------------------------------------------------------------------------------


def xor(octets: bytes, key: bytes) -> bytes:
    """Mask or unmask octets (RFC 6455 5.3)."""
    stream = (key * (len(octets) // 4 + 1))[: len(octets)]
    both = int.from_bytes(octets, "big") ^ int.from_bytes(stream, "big")
    return both.to_bytes(len(octets), "big")


@attrs.frozen
class Frame:
    """One frame.

    Attributes:
        payload: without its mask.
        rsv: the three reserved bits, 0-7; RSV1 is 4.
        mask: the masking key, four octets; None when the frame is not masked.
        width: bits of the length on the wire (7, 16, 64); None for the least that will do.

    Spec: RFC 6455 5.2.
    """

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    mask: bytes | None = None
    width: int | None = None

    @property
    def head(self) -> bytes:
        """The octets before the payload, the masking key among them."""
        size = len(self.payload)
        width = _least_width(size) if self.width is None else self.width
        masked = 0 if self.mask is None else 0x80
        first = bytes([(0x80 if self.fin else 0) | self.rsv << 4 | self.opcode])
        if width == 7:
            length = bytes([masked | size])
        elif width == 16:
            length = bytes([masked | 126]) + size.to_bytes(2, "big")
        else:
            length = bytes([masked | 127]) + size.to_bytes(8, "big")
        return first + length + (self.mask or b"")

    @property
    def octets(self) -> bytes:
        """The frame as on the wire."""
        if self.mask is None:
            return self.head + self.payload
        return self.head + xor(self.payload, self.mask)

    def masked(self, key: bytes = MASK) -> Frame:
        """Return the same frame as a client sends it."""
        return attrs.evolve(self, mask=key)

    @property
    def close_code(self) -> int | None:
        """The code of a Close frame; None when it has none (RFC 6455 7.1.5)."""
        return int.from_bytes(self.payload[:2], "big") if len(self.payload) >= 2 else None


def _least_width(size: int) -> int:
    if size < 126:
        return 7
    return 16 if size < 65536 else 64


def text(payload: bytes) -> Frame:
    """Return a text message of one frame."""
    return Frame(TEXT, payload)


def binary(payload: bytes) -> Frame:
    """Return a binary message of one frame."""
    return Frame(BINARY, payload)


def close(code: int | None = 1000, reason: bytes = b"") -> Frame:
    """Return a Close frame (RFC 6455 5.5.1)."""
    return Frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


def fragments(opcode: int, *payloads: bytes) -> list[Frame]:
    """Return a message in as many frames as there are payloads (RFC 6455 5.4)."""
    last = len(payloads) - 1
    return [
        Frame(opcode if at == 0 else CONTINUATION, payload, fin=at == last)
        for at, payload in enumerate(payloads)
    ]


def read_frame(wire: Wire) -> Frame:
    """Return the next frame, as it came: a mask and a length wider than needed are noted.

    Raises: Closed when the connection ends before the frame does.
    """
    first, second = wire.read_exactly(2)
    size, width = second & 0x7F, 7
    if size == 126:
        size, width = int.from_bytes(wire.read_exactly(2), "big"), 16
    elif size == 127:
        size, width = int.from_bytes(wire.read_exactly(8), "big"), 64
    mask = wire.read_exactly(4) if second & 0x80 else None
    payload = wire.read_exactly(size)
    return Frame(
        opcode=first & 0x0F,
        payload=payload if mask is None else xor(payload, mask),
        fin=bool(first & 0x80),
        rsv=first >> 4 & 7,
        mask=mask,
        width=None if width == _least_width(size) else width,
    )


def read_past_pings(wire: Wire, limit: float = PATIENCE) -> Frame:
    """Return the next frame that is no Ping.

    Raises: TimeoutError when only Pings come.
    """
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if (frame := read_frame(wire)).opcode != PING:
            return frame
    raise TimeoutError(f"nothing but Pings for {limit} s")


def read_close(wire: Wire) -> int | None:
    """Return the code of the next frame, which has to be a Close."""
    frame = read_frame(wire)
    if frame.opcode != CLOSE:
        raise AssertionError(f"a Close was due, {frame} came")
    return frame.close_code


# -- the opening handshake --------------------------------------------------------------------

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
"""The key of the RFC's example."""

UPGRADE = (b"Connection: Upgrade", b"Upgrade: websocket")
VERSION = b"Sec-WebSocket-Version: 13"
KEY_FIELD = b"Sec-WebSocket-Key: " + KEY
HANDSHAKE = (*UPGRADE, VERSION, KEY_FIELD)
"""The fields that make a GET an opening handshake (RFC 6455 4.1)."""


def accept(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept that answers a key (RFC 6455 4.2.2)."""
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest)


def opening(*fields: bytes, target: bytes = b"/", host: bytes = b"front.example") -> bytes:
    """Return an opening handshake with more fields behind the necessary ones."""
    return request(b"GET " + target + b" HTTP/1.1", *HANDSHAKE, *fields, host=host)


def switching(head: Head, *fields: bytes) -> bytes:
    """Return the 101 that a request head asks for, with more fields."""
    lines = (
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + accept(head.value(b"sec-websocket-key") or b""),
        *fields,
    )
    return b"\r\n".join(lines) + b"\r\n\r\n"


class HeldEnd:
    """A script that answers one opening handshake, then leaves the connection to the test.

    Attributes:
        fields: more fields for the 101.
        behind: octets to send in one packet with the 101.
    """

    def __init__(self, *fields: bytes, behind: bytes = b"") -> None:
        self.fields = fields
        self.behind = behind
        self._taken: queue.SimpleQueue[tuple[Wire, Head]] = queue.SimpleQueue()
        self._released = threading.Event()

    def __call__(self, wire: Wire) -> None:
        """As an upstream: switch protocols, hand the wire over, stay until it is released."""
        head = wire.read_head()
        wire.send(switching(head, *self.fields) + self.behind)
        self._taken.put((wire, head))
        self._released.wait(HELD)
        wire.close()

    def take(self, limit: float = PATIENCE) -> tuple[Wire, Head]:
        """Return the upstream's end and the request that it got; wait for both."""
        try:
            return self._taken.get(timeout=limit)
        except queue.Empty:
            raise AssertionError("no opening handshake reached the upstream") from None

    def release(self) -> None:
        """Let the script close its end and return."""
        self._released.set()


@attrs.frozen
class Pair:
    """Both ends of an open WebSocket; leaving the context closes them.

    Attributes:
        request: the head that the upstream got.
        response: the head of the 101 that the client got.
    """

    client: Wire
    upstream: Wire
    request: Head
    response: Head
    held: HeldEnd

    def close(self) -> None:
        """Close both ends, as far as they are open."""
        self.client.close()
        self.upstream.close()
        self.held.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_pair(
    proxy: Proxy,
    upstream: ScriptedUpstream,
    *fields: bytes,
    target: bytes = b"/",
    answer: tuple[bytes, ...] = (),
    with_request: bytes = b"",
    with_answer: bytes = b"",
    client: Wire | None = None,
    receive_buffer: int | None = None,
) -> Pair:
    """Open a WebSocket through a proxy and return its ends.

    Args: more fields of the request; ``answer``: more fields of the 101; ``with_request`` and
    ``with_answer``: octets that travel in one packet with the handshake; ``client``: a connection
    to use, in place of a new one.
    """
    held = HeldEnd(*answer, behind=with_answer)
    upstream.script = held
    wire = client or RawClient(proxy.port, receive_buffer=receive_buffer)
    try:
        wire.send(opening(*fields, target=target) + with_request)
        end, seen = held.take()
        response = wire.read_head()
        if response.status != 101:
            raise AssertionError(f"no WebSocket: {response.octets!r}")
    except BaseException:
        wire.close()
        held.release()
        raise
    return Pair(wire, end, seen, response, held)


class WebSocketTestCase(LiveTestCase):
    """A case whose tests open WebSockets through the shared pair of proxy and upstream."""

    def open(
        self,
        *fields: bytes,
        target: bytes = b"/",
        answer: tuple[bytes, ...] = (),
        with_request: bytes = b"",
        with_answer: bytes = b"",
        receive_buffer: int | None = None,
    ) -> Pair:
        """Open a WebSocket whose ends are closed, at the latest, when the test ends."""
        pair = open_pair(
            self.proxy,
            self.upstream,
            *fields,
            target=target,
            answer=answer,
            with_request=with_request,
            with_answer=with_answer,
            receive_buffer=receive_buffer,
        )
        self.addCleanup(pair.close)
        return pair
