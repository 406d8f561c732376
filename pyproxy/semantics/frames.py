"""Frames of WebSockets: where they begin and end in a stream of octets.

``FrameCount`` follows a direction without touching it; ``FrameWatch`` also bounds messages and
takes out what answers our own pings.  Neither looks into a payload but a Pong's that may be ours.
Spec: RFC 6455 5.2.
"""

from __future__ import annotations

import attrs

CONTINUATION, CLOSE, PING, PONG = 0x0, 0x8, 0x9, 0xA
"""Opcodes.  Spec: RFC 6455 5.2, 11.8."""

FIN = 0x80
"""The bit of the last frame of a message, in a frame's first octet."""

MAX_HEADER_BYTES = 14
"""Octets of the longest header: two, a length of eight, a mask of four."""

MAX_CONTROL_BYTES = 125
"""Octets of payload that a control frame may have.  Spec: RFC 6455 5.5."""


@attrs.frozen
class Header:
    """A frame's header.

    Attributes:
        size: octets of the header itself, mask included.
        length: octets of the payload.
        mask: four octets, or none.
    """

    opcode: int
    size: int
    length: int
    mask: bytes


def parse_header(octets: bytes) -> Header | None:
    """Parse the header at the beginning of octets; None when it is not whole yet.

    What may not stand in a header (reserved bits and opcodes, a length in too many octets) is for
    the two ends to judge.
    Spec: RFC 6455 5.2.
    """
    if len(octets) < 2:
        return None
    length = octets[1] & 0x7F
    at = 2
    if length >= 126:
        at = 4 if length == 126 else 10
        length = int.from_bytes(octets[2:at], "big")
    size = at + 4 if octets[1] & 0x80 else at
    if len(octets) < size:
        return None
    return Header(octets[0] & 0x0F, size, length, octets[at:size])


@attrs.define(eq=False)
class FrameCount:
    """Counts the frames of one direction as they pass.

    Attributes:
        left: octets of the frame at hand that have still to pass; its header has passed.
        closing: a Close frame has begun to pass.
        messages: none; ``MessageCount`` counts them.
    """

    left: int = 0
    closing: bool = False
    messages: int = 0
    _header: bytes = b""

    @property
    def at_boundary(self) -> bool:
        """Whether what has passed ends with a whole frame."""
        return self.left == 0 and not self._header

    @property
    def closed(self) -> bool:
        """Whether a Close frame has passed whole.  Spec: RFC 6455 5.5.1."""
        return self.closing and self.at_boundary

    def follow(self, octets: bytes | memoryview, size: int) -> None:
        """Take note of octets that pass; costs 0.5 us for a read that is one short frame.

        Args: the octets are the first ``size`` ones.
        """
        at = self._finish_header(octets, size) if self._header else self.left
        while at + 2 <= size:
            second = octets[at + 1]
            length = second & 0x7F
            head = 6 if second & 0x80 else 2
            if length >= 126:
                wide = 2 if length == 126 else 8
                head += wide
                if at + head <= size:
                    length = int.from_bytes(octets[at + 2 : at + 2 + wide], "big")
            if at + head > size:
                break
            if octets[at] & 0x0F == CLOSE:
                self.closing = True
            at += head + length
        if at < size:
            self._header = bytes(octets[at:size])
            self.left = 0
        else:
            self.left = at - size

    def _finish_header(self, octets: bytes | memoryview, size: int) -> int:
        """Return where the frame ends whose header began in an earlier read."""
        known = len(self._header)
        header = parse_header(self._header + bytes(octets[: min(size, MAX_HEADER_BYTES)]))
        if header is None:
            self._header += bytes(octets[:size])
            return size
        self._header = b""
        if header.opcode == CLOSE:
            self.closing = True
        return header.size - known + header.length

    def finish_frame(self, octets: bytes) -> bytes:
        """Follow octets only as far as the frame at hand goes; return those."""
        if self.at_boundary:
            return b""
        end = self.left
        if self._header:
            known = len(self._header)
            header = parse_header(self._header + octets[:MAX_HEADER_BYTES])
            end = len(octets) if header is None else header.size - known + header.length
        rest = octets[:end]
        self.follow(rest, len(rest))
        return rest


@attrs.define(eq=False)
class MessageCount(FrameCount):
    """Counts messages too, for which each header is parsed as a whole: 1 us more.

    Attributes:
        messages: those whose last frame has come, with its header at least.
    """

    def follow(self, octets: bytes | memoryview, size: int) -> None:
        """Take note of octets that pass.  Args: the octets are the first ``size`` ones."""
        kept = self._header
        at = 0 if kept else self.left
        while at < size:
            start = kept + bytes(octets[at : min(at + MAX_HEADER_BYTES, size)])
            header = parse_header(start)
            if header is None:
                kept, at = start, size
                break
            if header.opcode == CLOSE:
                self.closing = True
            elif header.opcode < CLOSE and start[0] & FIN:
                self.messages += 1
            at += header.size - len(kept) + header.length
            kept = b""
        self._header, self.left = kept, at - size


@attrs.define(eq=False)
class FrameWatch:
    """Lets the frames of one direction through one by one.

    The beginning of a header waits for its rest, and so does a Pong that may answer our ping: at
    most MAX_HEADER_BYTES + MAX_CONTROL_BYTES octets.

    Attributes:
        ping: the payload of our pings to the source, empty without any; only what answers one is
            taken out.
        pings: how many of them are not answered.
        too_big: a message went past the bound; nothing of that frame or after it is let through.
        boundary: where in the octets that were let through last the first frame began, or would
            begin; -1 for nowhere.
        held: octets that wait for the rest of their header.
        messages: those whose last frame has been let through, with its header at least.
    """

    _max_message: int | None = None
    ping: bytes = b""
    pings: int = 0
    left: int = 0
    closing: bool = False
    too_big: bool = False
    boundary: int = -1
    held: int = 0
    messages: int = 0
    _message: int = 0
    _waiting: bytes = b""

    @property
    def at_boundary(self) -> bool:
        """Whether what was let through ends with a whole frame."""
        return self.left == 0

    @property
    def closed(self) -> bool:
        """Whether a Close frame was let through whole."""
        return self.closing and self.left == 0

    def let_through(self, octets: bytes) -> bytes:
        """Return what goes on of octets that have arrived, and of those that were held."""
        data, self._waiting, self.held = self._waiting + octets, b"", 0
        size = len(data)
        passed = []
        # Frames that pass together are cut out in one piece; one by one costs half as much again.
        begin, at = 0, self.left
        self.boundary = at if at <= size else -1
        while at < size and not self.too_big:
            header = parse_header(data[at : at + MAX_HEADER_BYTES])
            if header is None:
                self._waiting = data[at:]
                if not (self.pings and data[at] & 0x0F == PONG):
                    self.held = size - at
                break
            end = at + header.size + header.length
            if self._may_be_ours(header):
                if end > size:
                    self._waiting = data[at:]
                    break
                if unmasked(data[at + header.size : end], header.mask) == self.ping:
                    self.pings -= 1
                    passed.append(data[begin:at])
                    begin = at = end
                    continue
            if self._exceeds(header):
                self.too_big = True
                break
            if header.opcode == CLOSE:
                self.closing = True
            elif header.opcode < CLOSE and data[at] & FIN:
                self.messages += 1
            at = end
        self.left = max(at - size, 0)
        passed.append(data[begin:at])
        return b"".join(passed)

    def finish_frame(self, octets: bytes) -> bytes:
        """Let octets through only as far as the frame at hand goes; return those."""
        rest = octets[: self.left]
        self.left -= len(rest)
        return rest

    def _exceeds(self, header: Header) -> bool:
        """Count a frame of a message; tell whether the message has become too big."""
        if self._max_message is None or header.opcode >= CLOSE:
            return False
        if header.opcode != CONTINUATION:
            self._message = 0
        self._message += header.length
        return self._message > self._max_message

    def _may_be_ours(self, header: Header) -> bool:
        """Tell whether a frame can be a Pong that answers our ping."""
        return self.pings > 0 and header.opcode == PONG and header.length == len(self.ping)


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """Return a control frame's payload without its mask.  Spec: RFC 6455 5.3."""
    return bytes(octet ^ mask[at % 4] for at, octet in enumerate(payload)) if mask else payload
