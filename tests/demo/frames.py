"""Frames of WebSockets, built and read for the tests alone (RFC 6455 5.2)."""

from __future__ import annotations

import struct

import attrs

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""What answers the key above (RFC 6455 1.3)."""

_MASK = b"\x37\xfa\x21\x3d"


@attrs.frozen
class Frame:
    """A whole frame, its payload without the mask.

    Attributes:
        compressed: the bit RSV1 (RFC 7692 6).
    """

    opcode: int
    payload: bytes = b""
    fin: bool = True
    compressed: bool = False

    @property
    def close_code(self) -> int | None:
        """The code of a Close frame, None without one."""
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else None


def from_client(frame: Frame, mask: bytes = _MASK) -> bytes:
    """Return a frame as a client sends it: masked."""
    pad = mask * (len(frame.payload) // 4 + 1)
    masked = bytes(octet ^ key for octet, key in zip(frame.payload, pad, strict=False))
    return head(frame, masked=True) + mask + masked


def head(frame: Frame, *, masked: bool = False, announced: int | None = None) -> bytes:
    """Return a frame's head, without a mask.

    Args: announced: the length to write there, if not that of the payload.
    """
    length = len(frame.payload) if announced is None else announced
    first = frame.fin << 7 | frame.compressed << 6 | frame.opcode
    if length < 126:
        return struct.pack("!BB", first, masked << 7 | length)
    if length < 65536:
        return struct.pack("!BBH", first, masked << 7 | 126, length)
    return struct.pack("!BBQ", first, masked << 7 | 127, length)


def closing(code: int | None = None, reason: str = "") -> Frame:
    """Return a Close frame."""
    return Frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())


def from_server(octets: bytes) -> list[Frame]:
    """Return the frames that a server sent.

    Raises: AssertionError if one is masked or not whole.
    """
    frames = []
    while octets:
        first, second = octets[:2]
        assert not second & 0x80, "a server's frame is masked"
        length, start = second, 2
        if second == 126:
            (length,), start = struct.unpack("!H", octets[2:4]), 4
        elif second == 127:
            (length,), start = struct.unpack("!Q", octets[2:10]), 10
        assert len(octets) >= start + length, "a frame is not whole"
        payload = octets[start : start + length]
        frames.append(Frame(first & 0x0F, payload, bool(first & 0x80), bool(first & 0x40)))
        octets = octets[start + length :]
    return frames
