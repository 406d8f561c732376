"""Check that a system passes WebSockets rightly, before any of them is timed.

The client is written here, on a plain socket: the load and the upstream come from one library, and
an error that both have would not show between them.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.payloads import content
from benchmarks.verify import TIME_LIMIT, WrongAnswer

ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Spec: RFC 6455 4.2.2."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN, RESERVED = 0x80, 0x70
MASKED = 0x80

TEXT_MESSAGE = "A text with ümlauts, 日本語 and 🙂."
CLOSE_CODE, CLOSE_REASON = 4001, b"enough"


def echo(port: int, length: int) -> None:
    """Check whole and fragmented messages of a length, their types, a Ping and the Close."""
    with _opened(port) as end:
        binary, text = content(length), TEXT_MESSAGE.encode()
        end.send(BINARY, binary)
        _expect(end, BINARY, binary, "a binary message")
        end.send(TEXT, text)
        _expect(end, TEXT, text, "a text message")
        third = length // 3
        end.send(BINARY, binary[:third], fin=False)
        end.send(CONTINUATION, binary[third:-third], fin=False)
        end.send(PING, b"still there?")
        end.send(CONTINUATION, binary[-third:])
        _expect(end, BINARY, binary, "a binary message in three fragments")
        end.send(TEXT, text[:20], fin=False)  # In the middle of a character.
        end.send(CONTINUATION, text[20:])
        _expect(end, TEXT, text, "a text message in two fragments")
        if end.pongs != [b"still there?"]:
            raise WrongAnswer(f"a Ping between fragments: the Pongs are {end.pongs}")
        end.send(CLOSE, struct.pack(">H", CLOSE_CODE) + CLOSE_REASON)
        opcode, _, payload = end.frame()
        if opcode != CLOSE or payload != struct.pack(">H", CLOSE_CODE) + CLOSE_REASON:
            raise WrongAnswer(f"Close {CLOSE_CODE}: the answer is {opcode:#x} {payload[:40]!r}")
        if not end.closed():
            raise WrongAnswer("octets behind the Close")


def _expect(end: _End, opcode: int, octets: bytes, what: str) -> None:
    came, received = end.message()
    if came != opcode:
        raise WrongAnswer(f"{what}: the echo's opcode is {came:#x}")
    if hashlib.sha256(received).digest() != hashlib.sha256(octets).digest():
        raise WrongAnswer(f"{what}: {len(received)} octets, not the {len(octets)} that were sent")


@contextmanager
def _opened(port: int) -> Iterator[_End]:
    with socket.create_connection(("127.0.0.1", port), timeout=TIME_LIMIT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = _End(connection)
        end.shake_hands(port)
        yield end


class _End:
    """The client's end of one WebSocket."""

    def __init__(self, connection: socket.socket) -> None:
        self.pongs: list[bytes] = []
        self._socket = connection
        self._rest = b""

    def shake_hands(self, port: int) -> None:
        """Open the WebSocket.

        Raises: WrongAnswer.
        """
        key = base64.b64encode(os.urandom(16))
        self._socket.sendall(
            b"GET /echo HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
            % (port, key)
        )
        while b"\r\n\r\n" not in self._rest:
            self._receive()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        pairs = [line.partition(b":") for line in lines]
        fields = {name.strip().lower(): value.strip() for name, _, value in pairs}
        accept = base64.b64encode(hashlib.sha1(key + ACCEPT_SUFFIX, usedforsecurity=False).digest())
        if (
            status_line[9:12] != b"101"
            or fields.get(b"upgrade", b"").lower() != b"websocket"
            or fields.get(b"connection", b"").lower() != b"upgrade"
            or fields.get(b"sec-websocket-accept") != accept
            or b"sec-websocket-extensions" in fields
        ):
            raise WrongAnswer(f"the opening handshake: {head!r}")

    def send(self, opcode: int, payload: bytes, *, fin: bool = True) -> None:
        """Send a frame, masked."""
        first = opcode | (FIN if fin else 0)
        if len(payload) < 126:
            head = struct.pack(">BB", first, MASKED | len(payload))
        elif len(payload) < 1 << 16:
            head = struct.pack(">BBH", first, MASKED | 126, len(payload))
        else:
            head = struct.pack(">BBQ", first, MASKED | 127, len(payload))
        mask = os.urandom(4)
        self._socket.sendall(head + mask + _masked(payload, mask))

    def message(self) -> tuple[int, bytes]:
        """Return a message's opcode and all of it, fragmented or not; Pongs are put aside.

        Raises: WrongAnswer.
        """
        began: int | None = None
        pieces = []
        while True:
            opcode, fin, payload = self.frame()
            if opcode == PONG:
                self.pongs.append(payload)
                continue
            if opcode not in ((TEXT, BINARY) if began is None else (CONTINUATION,)):
                raise WrongAnswer(f"a frame of opcode {opcode:#x}: {payload[:40]!r}")
            if began is None:
                began = opcode
            pieces.append(payload)
            if fin:
                return began, b"".join(pieces)

    def frame(self) -> tuple[int, bool, bytes]:
        """Return a frame's opcode, whether it is the last of its message, and its payload.

        Raises: WrongAnswer.
        """
        first, second = self._take(2)
        if first & RESERVED or second & MASKED:
            raise WrongAnswer(f"a frame that begins with {first:#x} {second:#x}")
        length = second
        if length == 126:
            (length,) = struct.unpack(">H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._take(8))
        return first & 0xF, bool(first & FIN), self._take(length)

    def closed(self) -> bool:
        """Return whether the connection ends with nothing more in it."""
        return not self._rest and not self._socket.recv(1)

    def _take(self, length: int) -> bytes:
        while len(self._rest) < length:
            self._receive()
        taken, self._rest = self._rest[:length], self._rest[length:]
        return taken

    def _receive(self) -> None:
        data = self._socket.recv(1 << 20)
        if not data:
            raise WrongAnswer("the connection was closed")
        self._rest += data


def _masked(payload: bytes, mask: bytes) -> bytes:
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    number = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return number.to_bytes(len(payload), "big")
