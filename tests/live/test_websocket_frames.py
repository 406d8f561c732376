"""Frames pass as they are, octet by octet (invariant 1)."""

from __future__ import annotations

import threading
from typing import ClassVar

from tests.live.kit import (
    MIB,
    PATIENCE,
    Wire,
)
from tests.live.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MASK,
    PING,
    PONG,
    TEXT,
    Frame,
    Pair,
    WebSocketTestCase,
    binary,
    close,
    fragments,
    text,
)

MASKS = (MASK, bytes(4), b"\xff" * 4, b"\x00\x00\x00\x01", b"\r\n\r\n")
SIZES = (0, 1, 125, 126, 127, 65535, 65536, MIB)
"""Sizes of payload on either side of each change of the length's width (RFC 6455 5.2)."""

NOT_UTF8 = b"\xc3\x28 \xff\xfe \xed\xa0\x80"

ODD_FRAMES: tuple[Frame, ...] = (
    *(
        Frame(opcode, b"%x" % opcode, fin=fin, rsv=rsv)
        for opcode in range(16)
        for fin in (True, False)
        for rsv in range(8)
        if opcode != CLOSE
    ),
    text(NOT_UTF8),
    Frame(PING, b"x" * 126),
    Frame(PONG, b"x" * 70000),
    binary(b"x" * 5),
    Frame(BINARY, b"x" * 5, width=16),
    Frame(BINARY, b"x" * 5, width=64),
    Frame(BINARY, b"", width=64),
    Frame(TEXT, b"x" * 300, width=64),
)
"""Frames that an end may dislike; that is its business."""

MESSAGES: tuple[Frame, ...] = (
    text(b"one"),
    *fragments(TEXT, b"a", b"", b"bc"),
    Frame(PING, b"ping"),
    Frame(TEXT, b"begun", fin=False),
    Frame(PING),
    Frame(CONTINUATION, b"more", fin=False),
    Frame(PONG, b"unasked"),
    Frame(CONTINUATION, b"done"),
    binary(b"x" * 130),
    Frame(BINARY, b"deflated", rsv=4),
    binary(b""),
)
"""An ordinary conversation, control frames between fragments (RFC 6455 5.4)."""

CLOSES: tuple[Frame, ...] = (
    close(),
    close(None),
    close(1001, b"away"),
    close(4999, b"reason " * 17),
    close(1005),
    close(0),
    Frame(CLOSE, b"\x03"),
    close(1000, NOT_UTF8),
)


class TransparencyTests(WebSocketTestCase):
    """Octets pass as they are, both ways (invariant 1; FIELD 11)."""

    head_waits: ClassVar[bool] = False
    """A frame's head goes on when it is whole: it may be a frame that is not to go on."""

    def directions(self, pair: Pair) -> tuple[tuple[str, Wire, Wire], ...]:
        """Return each way's name, sender and receiver."""
        return (
            ("to upstream", pair.client, pair.upstream),
            ("to client", pair.upstream, pair.client),
        )

    def assert_passes(self, sender: Wire, receiver: Wire, octets: bytes) -> None:
        """Send octets while reading them at the other end; check that they are the same."""
        sending = threading.Thread(target=sender.send, args=(octets,))
        sending.start()
        seen = receiver.read_exactly(len(octets))
        sending.join(PATIENCE)
        self.assertTrue(seen == octets, f"{octets[:40]!r} came as {seen[:40]!r}")

    def test_frames(self) -> None:
        """Every opcode, reserved bit and width, masked or not, passes from either side.

        Trap, autobahn: a relay of its messages loses fragments, extensions and close codes.
        """
        pair = self.open()
        for name, sender, receiver in self.directions(pair):
            for frame in (*ODD_FRAMES, *MESSAGES):
                for each in (frame.masked(), frame):
                    with self.subTest(name, frame=each):
                        self.assert_passes(sender, receiver, each.octets)

    def test_sizes(self) -> None:
        """Frames of any size pass with the mask that they came with."""
        pair = self.open()
        for name, sender, receiver in self.directions(pair):
            for size in SIZES:
                payload = (bytes(range(251)) * (size // 251 + 1))[:size]
                for mask in (None, *MASKS):
                    with self.subTest(name, size=size, mask=mask):
                        frame = Frame(BINARY, payload, mask=mask)
                        self.assert_passes(sender, receiver, frame.octets)

    def test_close(self) -> None:
        """A Close passes with its code and reason, and so does its answer (RFC 6455 5.5.1)."""
        for frame in CLOSES:
            for name in ("to upstream", "to client"):
                with self.subTest(name, frame=frame), self.open() as pair:
                    ((sender, receiver),) = (
                        each[1:] for each in self.directions(pair) if each[0] == name
                    )
                    self.assert_passes(sender, receiver, frame.masked().octets)
                    self.assert_passes(receiver, sender, frame.octets)
                    pair.upstream.close()
                    self.assertEqual(pair.client.read_to_end(), b"")

    def test_one_packet(self) -> None:
        """Many frames in one packet, and frames across packets, pass in order."""
        octets = b"".join(frame.masked().octets for frame in MESSAGES) * 50
        pair = self.open()
        for name, sender, receiver in self.directions(pair):
            for step in (len(octets), 1, 7, 1000):
                with self.subTest(name, step=step):
                    part = octets if step > 10 else octets[: len(octets) // 50]
                    sending = threading.Thread(
                        target=lambda sender=sender, part=part, step=step: [
                            sender.send(part[at : at + step]) for at in range(0, len(part), step)
                        ]
                    )
                    sending.start()
                    self.assertEqual(receiver.read_exactly(len(part)), part)
                    sending.join(PATIENCE)

    def test_no_octet_is_held_back(self) -> None:
        """Each octet of a frame arrives before the next is sent (invariant 2)."""
        pair = self.open()
        frames = (text(b"words"), binary(b"x" * 130), Frame(PING, b"p"), close(1000, b"bye"))
        for name, sender, receiver in self.directions(pair):
            for frame in frames:
                with self.subTest(name, opcode=frame.opcode):
                    octets = frame.masked().octets
                    whole = len(frame.masked().head) if self.head_waits else 1
                    for at in (0, *range(whole, len(octets))):
                        piece = octets[at : at + 1] if at else octets[:whole]
                        sender.send(piece)
                        self.assertEqual(receiver.read_exactly(len(piece)), piece)

    def test_behind_the_handshake(self) -> None:
        """Octets in one packet with the request or the 101 are delivered (FIELD 20)."""
        for size in (0, 5, 3000, 100000):
            up = text(b"u" * size).masked().octets
            down = text(b"d" * size).octets
            with self.subTest(size=size):
                with self.open(with_request=up, with_answer=down) as pair:
                    self.assertEqual(pair.upstream.read_exactly(len(up)), up)
                    self.assertEqual(pair.client.read_exactly(len(down)), down)
                with self.open(with_request=up[:3], with_answer=down[:1]) as pair:
                    pair.client.send(up[3:])
                    pair.upstream.send(down[1:])
                    self.assertEqual(pair.upstream.read_exactly(len(up)), up)
                    self.assertEqual(pair.client.read_exactly(len(down)), down)


class WatchedTransparencyTests(TransparencyTests):
    """The same while the proxy counts frames."""

    proxy_arguments = (
        *("--ws-ping", "3600", "--ws-idle-timeout", "3600", "--ws-max-message", "100m"),
    )
    head_waits = True


class EndlessFrameTests(WebSocketTestCase):
    """A frame that says it has more octets than any connection carries."""

    proxy_arguments = ("--ws-ping", "3600")

    def test_length(self) -> None:
        """Its octets pass like others."""
        pair = self.open()
        head = b"\x82\xff" + b"\xff" * 8 + MASK
        for sender, receiver in ((pair.client, pair.upstream), (pair.upstream, pair.client)):
            sender.send(head + b"x" * 1000)
            self.assertEqual(receiver.read_exactly(len(head) + 1000), head + b"x" * 1000)
