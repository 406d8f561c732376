"""The frames that the proxy itself sends: between those of the ends, and only when it has to."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.live.kit import (
    MIB,
    PATIENCE,
    Closed,
    LiveTestCase,
    Proxy,
    ScriptedUpstream,
    Wire,
    eventually,
)
from tests.live.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    Pair,
    WebSocketTestCase,
    binary,
    close,
    fragments,
    open_pair,
    read_close,
    read_frame,
    read_past_pings,
    text,
)

LIMIT = 1000
"""Octets that one message may have in the next class."""


class MaxMessageTests(WebSocketTestCase):
    """``--ws-max-message``."""

    proxy_arguments = ("--ws-max-message", str(LIMIT))

    def assert_too_big(self, pair: Pair, error_type: str, *, target: str) -> None:
        """Check that both ends are told 1009, and the log too."""
        for wire, masked in ((pair.upstream, True), (pair.client, False)):
            frame = read_frame(wire)
            self.assertEqual((frame.opcode, frame.close_code), (CLOSE, 1009), frame)
            self.assertEqual(frame.mask is not None, masked)
        for wire, answer in ((pair.upstream, close(1009)), (pair.client, close(1009).masked())):
            with suppress(Closed):
                wire.send(answer.octets)
        for wire in (pair.upstream, pair.client):
            with suppress(Closed):
                self.assertEqual(wire.read_to_end(), b"")
        pair.close()
        line = self.proxy.wait_log(rf'"GET {re.escape(target)} HTTP/1\.1" 101 .*')
        self.assertIn(error_type, line or "no line")

    def test_within(self) -> None:
        """Messages up to the limit pass, in one frame or more; control frames do not count."""
        pair = self.open()
        full = (
            Frame(BINARY, b"x" * LIMIT),
            *fragments(BINARY, b"x" * 400, b"", b"y" * 600),
            Frame(TEXT, b"x" * 900, fin=False),
            *[Frame(PING, b"p" * 125)] * 3,
            Frame(CONTINUATION, b"x" * 100),
        )
        for sender, receiver in ((pair.client, pair.upstream), (pair.upstream, pair.client)):
            for _ in range(3):
                octets = b"".join(frame.masked().octets for frame in full)
                sender.send(octets)
                self.assertEqual(receiver.read_exactly(len(octets)), octets)

    def test_past_the_limit(self) -> None:
        """The frame that is too much does not pass; both ends get 1009 (RFC 6455 7.4.1)."""
        kinds: dict[str, tuple[list[Frame], int]] = {
            "one frame": ([Frame(BINARY, b"x" * (LIMIT + 1))], 0),
            "far too large": ([Frame(BINARY, b"x" * 300000)], 0),
            "fragments": (fragments(TEXT, b"x" * 600, b"x" * 401), 1),
            "with a Ping between": (
                [
                    Frame(TEXT, b"x" * LIMIT, fin=False),
                    Frame(PING, b"p"),
                    Frame(CONTINUATION, b"x", fin=False),
                ],
                2,
            ),
            "behind one that fits": (
                [Frame(BINARY, b"x" * LIMIT), Frame(BINARY, b"x" * (LIMIT + 1))],
                1,
            ),
        }
        for number, (name, (frames, passing)) in enumerate(kinds.items()):
            for to_upstream in (True, False):
                target = f"/{number}-{to_upstream}"
                with self.subTest(name, to_upstream=to_upstream):
                    pair = self.open(target=target.encode())
                    sender, receiver = pair.client, pair.upstream
                    if not to_upstream:
                        sender, receiver = receiver, sender
                    sent = [frame.masked() if to_upstream else frame for frame in frames]
                    with suppress(Closed):
                        sender.send(b"".join(frame.octets for frame in sent))
                    for frame in sent[:passing]:
                        self.assertEqual(read_frame(receiver), frame)
                    self.assert_too_big(
                        pair,
                        "http_request_denied" if to_upstream else "http_response_body_size",
                        target=target,
                    )

    def test_known_by_the_head(self) -> None:
        """The head of a frame says that it is too large: nothing of it passes or is awaited."""
        pair = self.open(target=b"/head")
        pair.client.send(Frame(BINARY, b"x" * (LIMIT + 1)).masked().octets[:8])
        self.assert_too_big(pair, "http_request_denied", target="/head")

    def test_behind_the_handshake(self) -> None:
        """What comes in one packet with the handshake is counted like the rest."""
        big = Frame(BINARY, b"x" * (LIMIT + 1))
        pair = self.open(target=b"/glued-up", with_request=big.masked().octets)
        self.assert_too_big(pair, "http_request_denied", target="/glued-up")
        pair = self.open(target=b"/glued-down", with_answer=big.octets)
        self.assert_too_big(pair, "http_response_body_size", target="/glued-down")

    def test_head_in_pieces(self) -> None:
        """So it is when the head comes octet by octet."""
        pair = self.open(target=b"/pieces")
        for octet in Frame(BINARY, b"x" * 70000).masked().octets[:14]:
            with suppress(Closed):
                pair.client.send(bytes([octet]))
            time.sleep(0.002)
        self.assert_too_big(pair, "http_request_denied", target="/pieces")

    def test_the_other_way_finishes_its_frame(self) -> None:
        """A frame half passed towards an end is finished before that end is told."""
        for to_upstream in (True, False):
            target = f"/half-{to_upstream}"
            with self.subTest(to_upstream=to_upstream):
                pair = self.open(target=target.encode())
                half = Frame(BINARY, b"y" * 500)
                if to_upstream:
                    big, slow, other = pair.upstream, pair.client, pair.upstream
                    half = half.masked()
                else:
                    big, slow, other = pair.client, pair.upstream, pair.client
                slow.send(half.octets[:100])
                self.assertEqual(other.read_exactly(100), half.octets[:100])
                big.send(Frame(BINARY, b"x" * 2000).octets)
                self.assertTrue(other.quiet(0.2), "something came into the middle of a frame")
                slow.send(half.octets[100:])
                self.assertEqual(other.read_exactly(len(half.octets) - 100), half.octets[100:])
                self.assert_too_big(
                    pair,
                    "http_response_body_size" if to_upstream else "http_request_denied",
                    target=target,
                )


INTERVAL = 0.25
"""Seconds between two Pings of the proxy in the next classes."""


class PingTests(WebSocketTestCase):
    """``--ws-ping``."""

    proxy_arguments = ("--ws-ping", str(INTERVAL))

    def ping(self, wire: Wire) -> Frame:
        """Return the next frame, which has to be a Ping."""
        frame = read_frame(wire)
        self.assertEqual(frame.opcode, PING, frame)
        return frame

    def test_both_ends_get_them(self) -> None:
        """Pings come again and again, masked only towards the upstream (RFC 6455 5.1, 5.5.2)."""
        pair = self.open()
        for _ in range(4):
            for wire, masked in ((pair.upstream, True), (pair.client, False)):
                frame = self.ping(wire)
                self.assertTrue(frame.fin)
                self.assertEqual((frame.rsv, frame.mask is not None), (0, masked))
                self.assertLessEqual(len(frame.payload), 125)
        # None of them was answered: that ends nothing.
        pair.client.send(text(b"up").masked().octets)
        self.assertEqual(read_past_pings(pair.upstream), text(b"up").masked())

    def test_their_pongs_are_swallowed(self) -> None:
        """The Pong that answers ends here, whole or in pieces; what is behind it passes."""
        for step in (1000, 1, 2, 3):
            for to_upstream in (True, False):
                with self.subTest(step=step, to_upstream=to_upstream), self.open() as pair:
                    sender, receiver = pair.client, pair.upstream
                    if not to_upstream:
                        sender, receiver = receiver, sender
                    for count in range(2):
                        pong = Frame(PONG, self.ping(sender).payload)
                        behind = Frame(TEXT, b"behind %d" % count)
                        if to_upstream:
                            pong, behind = pong.masked(), behind.masked()
                        octets = pong.octets + behind.octets
                        for at in range(0, len(octets), step):
                            sender.send(octets[at : at + step])
                            time.sleep(0.002)
                        self.assertEqual(read_past_pings(receiver), behind)

    def test_half_a_pong(self) -> None:
        """A Pong may stop in its middle for as long as it likes."""
        for cut in (1, 2, 4, 7):
            with self.subTest(cut=cut), self.open() as pair:
                pong = Frame(PONG, self.ping(pair.client).payload).masked().octets
                pair.client.send(pong[:cut])
                self.ping(pair.upstream)
                self.ping(pair.upstream)
                pair.client.send(pong[cut:] + text(b"behind").masked().octets)
                self.assertEqual(read_past_pings(pair.upstream), text(b"behind").masked())

    def test_other_control_frames_pass(self) -> None:
        """Pongs that nobody asked for and Pings of the ends pass (RFC 6455 5.5.3)."""
        # The one that is next to ours in length and octets has to be told from it.
        for payload in (b"", b"unasked", b"x" * 125, None):
            for step in (1000, 1):
                with self.subTest(payload=payload, step=step), self.open() as pair:
                    ours = self.ping(pair.client).payload
                    self.ping(pair.upstream)
                    near = ours[:-1] + bytes([ours[-1] ^ 1])
                    frame = Frame(PONG, near if payload is None else payload)
                    for sender, receiver, each in (
                        (pair.client, pair.upstream, frame.masked()),
                        (pair.upstream, pair.client, frame),
                    ):
                        for at in range(0, len(each.octets), step):
                            sender.send(each.octets[at : at + step])
                        self.assertEqual(read_past_pings(receiver), each)
        pair = self.open()
        pair.client.send(Frame(PING, b"of the client").masked().octets)
        seen = eventually(lambda: self.ping(pair.upstream).payload == b"of the client")
        self.assertTrue(seen)
        pair.upstream.send(Frame(PONG, b"of the client").octets)
        self.assertEqual(read_past_pings(pair.client), Frame(PONG, b"of the client"))

    def test_only_between_frames(self) -> None:
        """No Ping comes into a frame that is half passed (RFC 6455 5.4)."""
        for to_upstream in (True, False):
            for cut in (1, 5, 200):
                with self.subTest(to_upstream=to_upstream, cut=cut), self.open() as pair:
                    sender, receiver = pair.client, pair.upstream
                    frame = Frame(BINARY, b"x" * 300)
                    if to_upstream:
                        frame = frame.masked()
                    else:
                        sender, receiver = receiver, sender
                    octets = frame.octets
                    sender.send(octets[:cut])
                    time.sleep(3 * INTERVAL)
                    sender.send(octets[cut:])
                    self.assertEqual(read_past_pings(receiver), frame)
                    self.ping(receiver)

    def test_between_fragments(self) -> None:
        """Between two frames of one message a Ping may come, and the message is whole."""
        pair = self.open()
        first, second = fragments(TEXT, b"one", b"two")
        pair.upstream.send(first.octets)
        self.assertEqual(read_past_pings(pair.client), first)
        self.ping(pair.client)
        pair.upstream.send(second.octets)
        self.assertEqual(read_past_pings(pair.client), second)

    def test_not_after_a_close(self) -> None:
        """No Ping follows a Close (RFC 6455 5.5.1)."""
        for to_upstream in (True, False):
            with self.subTest(to_upstream=to_upstream), self.open() as pair:
                sender, receiver, frame = pair.client, pair.upstream, close(1000).masked()
                if not to_upstream:
                    sender, receiver, frame = receiver, sender, close(1000)
                self.ping(receiver)
                sender.send(frame.octets)
                self.assertEqual(read_past_pings(receiver), frame)
                self.assertTrue(receiver.quiet(3 * INTERVAL), "a Ping behind a Close")


IDLE = 3.0
STEP = 0.25
COUNT = 16
"""Steps, each far below the limit on a busy machine too, that together last longer."""


class IdleTests(WebSocketTestCase):
    """``--ws-idle-timeout``, with Pings of the proxy that must not hide the silence."""

    proxy_arguments = ("--ws-idle-timeout", str(IDLE), "--ws-ping", "0.3")

    def answer_pings(self, wire: Wire, masked: bool, codes: list[int | None]) -> None:
        """As an end: answer each Ping; note the code of the Close and answer that too."""
        while (frame := read_frame(wire)).opcode != CLOSE:
            self.assertEqual(frame.opcode, PING)
            pong = Frame(PONG, frame.payload)
            wire.send((pong.masked() if masked else pong).octets)
        codes.append(frame.close_code)
        with suppress(Closed):
            wire.send((close(frame.close_code).masked() if masked else frame).octets)
            wire.read_to_end()

    def test_silence(self) -> None:
        """Both ends are told 1001 although they answer Pings; the log has a line."""
        pair = self.open(target=b"/silent")
        codes: list[int | None] = []
        ends = [
            threading.Thread(target=self.answer_pings, args=(wire, masked, codes))
            for wire, masked in ((pair.client, True), (pair.upstream, False))
        ]
        for end in ends:
            end.start()
        for end in ends:
            end.join(PATIENCE)
        self.assertEqual(codes, [1001, 1001])
        pair.close()
        line = self.proxy.wait_log(r'"GET /silent HTTP/1\.1" 101 .*')
        self.assertIn("connection_read_timeout", line or "no line")

    def test_drips(self) -> None:
        """Octets from either end, and be they parts of a frame, are no silence (FIELD 4)."""
        octets = binary(b"x" * 20).masked().octets
        for to_upstream in (True, False):
            with self.subTest(to_upstream=to_upstream), self.open() as pair:
                sender = pair.client if to_upstream else pair.upstream
                for at in range(COUNT):
                    time.sleep(STEP)
                    sender.send(octets[at : at + 1])
                sender.send(octets[COUNT:])
                receiver = pair.upstream if to_upstream else pair.client
                self.assertEqual(read_past_pings(receiver).payload, b"x" * 20)


class ShutdownTests(LiveTestCase):
    """SIGTERM."""

    @contextmanager
    def ending(self, proxy: Proxy) -> Iterator[None]:
        """Let the process end while the block runs; check that it does, with status 0."""
        statuses: list[int] = []
        stopping = threading.Thread(target=lambda: statuses.append(proxy.stop()))
        stopping.start()
        try:
            yield
        finally:
            stopping.join(2 * PATIENCE)
        self.assertEqual(statuses, [0], proxy.log())
        proxy.check_log()

    def open_one(self) -> tuple[Proxy, Pair]:
        """Start a process and open a WebSocket through it."""
        proxy = Proxy("--target", self.upstream.url).start()
        pair = open_pair(proxy, self.upstream)
        self.addCleanup(pair.close)
        return proxy, pair

    def test_both_ends_are_told(self) -> None:
        """Both ends get 1001, then their connections end (RFC 6455 7.4.1)."""
        proxy, pair = self.open_one()
        with self.ending(proxy):
            frames = read_frame(pair.upstream), read_frame(pair.client)
            self.assertEqual([frame.close_code for frame in frames], [1001, 1001])
            self.assertEqual([frame.mask is not None for frame in frames], [True, False])
            pair.upstream.send(close(1001).octets)
            pair.client.send(close(1001).masked().octets)
            for wire in (pair.upstream, pair.client):
                wire.wait_closed()
        self.assertRegex(proxy.log(), r'"GET / HTTP/1\.1" 101 ')

    def test_behind_a_frame(self) -> None:
        """A frame that is half passed is finished first."""
        proxy, pair = self.open_one()
        up, down = Frame(BINARY, b"u" * 500).masked(), Frame(BINARY, b"d" * 500)
        pair.client.send(up.octets[:50])
        pair.upstream.send(down.octets[:50])
        self.assertEqual(pair.upstream.read_exactly(50), up.octets[:50])
        self.assertEqual(pair.client.read_exactly(50), down.octets[:50])
        with self.ending(proxy):
            time.sleep(0.3)
            pair.client.send(up.octets[50:])
            pair.upstream.send(down.octets[50:])
            self.assertEqual(pair.upstream.read_exactly(len(up.octets) - 50), up.octets[50:])
            self.assertEqual(pair.client.read_exactly(len(down.octets) - 50), down.octets[50:])
            self.assertEqual((read_close(pair.upstream), read_close(pair.client)), (1001, 1001))

    def test_ends_that_do_not_answer(self) -> None:
        """The process ends whatever the ends do: silent, in the middle of a frame, not reading.

        Each has its line in the log none the less.
        """
        with ScriptedUpstream() as upstream:
            proxy = Proxy("--target", upstream.url).start()
            silent, begun, full, closing = (
                open_pair(proxy, upstream, target=b"/%d" % number, receive_buffer=65536)
                for number in range(4)
            )
            for wire in (begun.client, begun.upstream):
                wire.send(Frame(BINARY, b"x" * 500).octets[:50])
            for wire in (full.client, full.upstream):
                wire.send(b"\x82\x7f" + (MIB * MIB).to_bytes(8, "big"))
                wire.send_until_blocked(bytes(MIB), 256 * MIB)
            closing.client.send(close(1000).masked().octets)
            with self.ending(proxy):
                self.assertEqual(read_close(silent.client), 1001)
                self.assertEqual(read_close(silent.upstream), 1001)
                # An end that has had a Close gets no second one (RFC 6455 5.5.1).
                self.assertEqual(read_close(closing.upstream), 1000)
                self.assertEqual(closing.upstream.read_to_end(), b"")
                self.assertEqual(read_close(closing.client), 1001)
            for pair in (silent, begun, full, closing):
                pair.close()
            for number in range(4):
                lines = re.findall(rf'"GET /{number} HTTP/1\.1" 101 .*', proxy.log())
                self.assertEqual(len(lines), 1, proxy.log())
