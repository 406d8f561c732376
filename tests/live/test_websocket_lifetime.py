"""Both ends of a WebSocket live and die together (invariant 3), and the log tells how."""

from __future__ import annotations

import hashlib
import re
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from tests.live.kit import (
    MIB,
    PATIENCE,
    PROMPT,
    Closed,
    Proxy,
    Wire,
    answer,
    eventually,
)
from tests.live.websocket import (
    CLOSE,
    Frame,
    Pair,
    WebSocketTestCase,
    binary,
    close,
    open_pair,
    opening,
    read_close,
    read_frame,
    text,
)

TIMES = 20
ATTEMPTS = 3
MEDIAN = 0.1
"""Seconds in which the upstream is closed once its client has left, on the median of TIMES."""
RATIO = 20
"""Times what it takes without a proxy that it may take on a busy machine; at rest it is less."""

LEAVING: tuple[tuple[str, Callable[[Wire], None]], ...] = (("FIN", Wire.close), ("RST", Wire.reset))
HALF = Frame(2, b"x" * 1000).masked().octets[:500]

AT_REST: dict[str, tuple[bytes, bytes]] = {
    "idle": (b"", b""),
    "in a frame": (HALF, b""),
    "in a frame of the other": (b"", HALF),
    "in a frame's head": (HALF[:1], HALF[:3]),
    "between fragments": (Frame(1, b"a", fin=False).masked().octets, Frame(1, fin=False).octets),
    "behind garbage": (b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n"),
}
"""States of a WebSocket: what the client and what the upstream has sent."""


class LeavingTests(WebSocketTestCase):
    """One end goes without a Close; the other's connection is closed at once (FIELD 1)."""

    def sides(self, pair: Pair, *, client_leaves: bool) -> tuple[Wire, Wire]:
        """Return the end that leaves and the one that stays."""
        if client_leaves:
            return pair.client, pair.upstream
        return pair.upstream, pair.client

    def send_and_finish(self, wire: Wire, octets: bytes) -> threading.Thread:
        """Send octets and FIN in a thread."""

        def send() -> None:
            wire.send(octets)
            wire.finish()

        sending = threading.Thread(target=send)
        sending.start()
        return sending

    def bring(self, state: str) -> Pair:
        """Open a WebSocket and bring it into one of the states."""
        up, down = AT_REST[state]
        pair = self.open()
        pair.client.send(up)
        pair.upstream.send(down)
        self.assertEqual(pair.upstream.read_exactly(len(up)), up)
        self.assertEqual(pair.client.read_exactly(len(down)), down)
        return pair

    def test_at_rest(self) -> None:
        """In every state FIN and RST of an end close the other at once, and add no octet.

        No Close is invented: the end that stays sees 1006, as without the proxy (RFC 6455 7.1.5).
        """
        for client_leaves in (True, False):
            for state in AT_REST:
                for name, leave in LEAVING:
                    with self.subTest(name, state=state, client_leaves=client_leaves):
                        pair = self.bring(state)
                        leaves, stays = self.sides(pair, client_leaves=client_leaves)
                        left = time.monotonic()
                        leave(leaves)
                        with suppress(Closed):
                            self.assertEqual(stays.read_to_end(), b"")
                        self.assertLess(time.monotonic() - left, PROMPT)
                        pair.close()

    def test_half_closed(self) -> None:
        """FIN alone, without a Close before it, is passed on as such, and at once."""
        for client_leaves in (True, False):
            with self.subTest(client_leaves=client_leaves), self.open() as pair:
                leaves, stays = self.sides(pair, client_leaves=client_leaves)
                left = time.monotonic()
                leaves.finish()
                stays.wait_closed()
                self.assertLess(time.monotonic() - left, PROMPT)

    def test_last_words(self) -> None:
        """What the upstream still says to a client that sent FIN alone reaches it."""
        message = binary(bytes(range(256)) * 4096)
        for said in ((), (text(b"bye"),), (text(b"1"), message, close(1000, b"bye"))):
            with self.subTest(said=len(said)), self.open() as pair:
                pair.client.send(text(b"all I have").masked().octets)
                pair.client.finish()
                self.assertEqual(read_frame(pair.upstream).payload, b"all I have")
                self.assertEqual(pair.upstream.read_to_end(), b"")
                for frame in said:
                    time.sleep(0.3)
                    pair.upstream.send(frame.octets)
                    self.assertEqual(read_frame(pair.client), frame)
                pair.upstream.close()
                self.assertEqual(pair.client.read_to_end(), b"")

    def test_last_words_have_a_limit(self) -> None:
        """An upstream that says nothing more does not keep the connections."""
        with self.open() as pair:
            pair.client.finish()
            self.assertEqual(pair.upstream.read_to_end(), b"")
            self.assertTrue(pair.client.quiet(3.0), "the closing time is not over")
            pair.upstream.wait_hangup(3 * PATIENCE)
            pair.client.wait_closed()

    def test_client_that_is_gone_after_all(self) -> None:
        """A client that has closed answers what is still said by RST, and both ends are reset."""
        with self.open() as pair:
            pair.client.close()
            self.assertEqual(pair.upstream.read_to_end(), b"")
            said = time.monotonic()
            pair.upstream.send(text(b"anybody there?").octets)
            self.assertLess(pair.upstream.wait_hangup() - said, PROMPT)

    def test_while_paused(self) -> None:
        """A client whose octets nobody takes any more is still heard when it leaves.

        The upstream does not read: it must see a reset, a FIN could not pass its buffer.
        The client comes by a Unix socket: in TCP its FIN would wait in its own kernel.
        """
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = str(Path(directory.name) / "s")
        with Proxy("--target", self.upstream.url, f"--listen=unix:{path}") as proxy:
            for _, leave in LEAVING:
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(path)
                self.assert_heard_while_paused(
                    open_pair(proxy, self.upstream, client=Wire(sock)), leave
                )
        self.assert_heard_while_paused(self.open(), Wire.reset)

    def assert_heard_while_paused(self, pair: Pair, leave: Callable[[Wire], None]) -> None:
        """Push until nobody reads any more, leave, and check that the upstream is reset in time."""
        with self.subTest(leave.__name__, family=pair.client.sock.family), pair:
            sent = pair.client.send_until_blocked(bytes(MIB), 256 * MIB, to_proxy=True)
            self.assertLess(sent, 256 * MIB)
            left = time.monotonic()
            leave(pair.client)
            self.assertLess(pair.upstream.wait_hangup() - left, PROMPT)

    def test_reset_of_a_paused_upstream(self) -> None:
        """A client that reads late finds the end of an upstream that was reset meanwhile."""
        with self.open(receive_buffer=65536) as pair:
            sent = pair.upstream.send_until_blocked(bytes(MIB), 256 * MIB)
            self.assertLess(sent, 256 * MIB)
            pair.upstream.reset()
            time.sleep(0.2)
            pair.client.wait_closed()

    def test_how_soon(self) -> None:
        """From a client's leaving to the upstream's close it is less than 0.1 s (FIELD 1).

        The median of many, because a single one may meet a busy machine.
        """
        for name, leave in LEAVING:
            with self.subTest(name):
                self.assert_soon(partial(self.time_of_leaving, leave), TIMES)

    def time_of_leaving(self, leave: Callable[[Wire], None], *, direct: bool = False) -> float:
        """Let a client leave; return how long the upstream's connection outlived it."""
        straight = cast("Proxy", SimpleNamespace(port=self.upstream.port))
        with open_pair(straight, self.upstream) if direct else self.open() as pair:
            left = time.monotonic()
            leave(pair.client)
            return pair.upstream.wait_closed() - left

    def assert_soon(self, measure: Callable[[], float], times: int) -> None:
        """Check a median, and once more when the machine was busy: it can be slow for a while.

        How busy it is the same without a proxy shows, in turn with the other.
        """
        straight = partial(self.time_of_leaving, Wire.close, direct=True)
        seen: list[tuple[float, float]] = []
        for _ in range(ATTEMPTS):
            pairs = [(measure(), straight()) for _ in range(times)]
            through, direct = map(statistics.median, zip(*pairs, strict=True))
            if through < max(MEDIAN, RATIO * direct):
                return
            seen.append((through, direct))
        self.fail(f"through the proxy, and without: {seen}")

    def test_how_soon_while_paused(self) -> None:
        """So it is while the client is not read, because the upstream does not read."""

        def reset() -> float:
            with self.open() as pair:
                pair.client.send_until_blocked(bytes(MIB), 256 * MIB, 0.2, to_proxy=True)
                left = time.monotonic()
                pair.client.reset()
                return pair.upstream.wait_hangup() - left

        self.assert_soon(reset, 5)

    def test_while_the_leaving_end_does_not_read(self) -> None:
        """An end that has stopped reading leaves; what waits for it is dropped."""
        for client_leaves in (True, False):
            for name, leave in LEAVING:
                with self.subTest(name, client_leaves=client_leaves):
                    pair = self.open(receive_buffer=65536)
                    leaves, stays = self.sides(pair, client_leaves=client_leaves)
                    stays.send_until_blocked(bytes(MIB), 256 * MIB)
                    left = time.monotonic()
                    leave(leaves)
                    self.assertLess(stays.wait_closed() - left, PROMPT)
                    pair.close()

    def test_delivered_first(self) -> None:
        """What the upstream sent before its FIN is delivered to a client that reads late."""
        body = bytes(range(256)) * (4 * MIB // 256)
        with self.open(receive_buffer=65536) as pair:
            sending = self.send_and_finish(pair.upstream, body)
            time.sleep(0.5)
            seen = pair.client.read_to_end()
            sending.join(PATIENCE)
        self.assertEqual(len(seen), len(body))
        self.assertEqual(hashlib.sha256(seen).digest(), hashlib.sha256(body).digest())

    def test_small_frames_are_delivered_first(self) -> None:
        """A frame that stands before a FIN or RST in the wire is delivered."""
        frame = text(b"last words").masked().octets
        for client_leaves in (True, False):
            for name, leave in LEAVING:
                with self.subTest(name, client_leaves=client_leaves):
                    pair = self.open()
                    leaves, stays = self.sides(pair, client_leaves=client_leaves)
                    leaves.send(frame)
                    if name == "RST":  # which overtakes what the kernel has not handed over
                        time.sleep(0.1)
                    leave(leaves)
                    self.assertEqual(stays.read_exactly(len(frame)), frame)
                    stays.wait_closed()
                    pair.close()

    def test_large_message_then_close(self) -> None:
        """A client may send a large message and a Close and go; a slow reader gets all of it."""
        octets = binary(bytes(4 * MIB)).masked().octets + close().masked().octets
        with self.open() as pair:
            sending = self.send_and_finish(pair.client, octets)
            seen = hashlib.sha256()
            size = 0
            while size < len(octets):
                piece = pair.upstream.read_exactly(min(65536, len(octets) - size))
                seen.update(piece)
                size += len(piece)
                time.sleep(0.001)
            sending.join(PATIENCE)
            self.assertEqual(seen.digest(), hashlib.sha256(octets).digest())

    def test_others_live_on(self) -> None:
        """One WebSocket's end touches no other."""
        stays = self.open()
        for client_leaves in (True, False):
            for _, leave in LEAVING:
                pair = self.bring("in a frame")
                leaves, other = self.sides(pair, client_leaves=client_leaves)
                leave(leaves)
                other.wait_closed()
                pair.close()
        stays.client.send(text(b"up").masked().octets)
        self.assertEqual(read_frame(stays.upstream).payload, b"up")


class ClosingTests(WebSocketTestCase):
    """The closing handshake (RFC 6455 7.1)."""

    def test_in_order(self) -> None:
        """Close, its answer, the upstream's FIN: each passes, and nothing else (RFC 6455 7.1.1)."""
        for client_begins in (True, False):
            with self.subTest(client_begins=client_begins), self.open() as pair:
                up, down = close(1000, b"bye").masked(), close(1000, b"bye")
                if client_begins:
                    pair.client.send(up.octets)
                    self.assertEqual(read_frame(pair.upstream), up)
                    pair.upstream.send(down.octets)
                    self.assertEqual(read_frame(pair.client), down)
                else:
                    pair.upstream.send(down.octets)
                    self.assertEqual(read_frame(pair.client), down)
                    pair.client.send(up.octets)
                    self.assertEqual(read_frame(pair.upstream), up)
                pair.upstream.close()
                self.assertEqual(pair.client.read_to_end(), b"")

    def test_half_close(self) -> None:
        """An end that sent a Close and FIN still gets what the other sends, its Close too."""
        rest = binary(bytes(300000))
        for client_begins in (True, False):
            with self.subTest(client_begins=client_begins), self.open() as pair:
                first, second = pair.client, pair.upstream
                frames = close(1001).masked(), rest, close(1001)
                if not client_begins:
                    first, second = second, first
                    frames = close(1001), rest.masked(), close(1001).masked()
                first.send(frames[0].octets)
                first.finish()
                self.assertEqual(read_frame(second), frames[0])
                time.sleep(0.3)
                second.send(frames[1].octets)
                second.send(frames[2].octets)
                self.assertEqual(read_frame(first), frames[1])
                self.assertEqual(read_frame(first), frames[2])
                second.finish()
                self.assertEqual(first.read_to_end(), b"")
                second.wait_closed()

    def test_half_close_has_a_limit(self) -> None:
        """An end that never answers a Close does not hold the pair for ever."""
        pairs = self.open(), self.open()
        first, second = (
            (pairs[0].client, pairs[1].upstream),
            (pairs[0].upstream, pairs[1].client),
        )
        for begins, answers in zip(first, second, strict=True):
            begins.send(close(1001).masked().octets)
            begins.finish()
            self.assertEqual(read_close(answers), 1001)
        for wire in (*second, *first):
            wire.wait_closed(3 * PATIENCE)

    def test_end_behind_a_close(self) -> None:
        """RST behind a Close is an end like any other."""
        for client_leaves in (True, False):
            with self.subTest(client_leaves=client_leaves), self.open() as pair:
                leaves, stays = pair.client, pair.upstream
                if not client_leaves:
                    leaves, stays = stays, leaves
                leaves.send(close(1000).masked().octets)
                self.assertEqual(read_frame(stays).opcode, CLOSE)
                left = time.monotonic()
                leaves.reset()
                stays.wait_closed()
                self.assertLess(time.monotonic() - left, PROMPT)


LINE = re.compile(
    r'"GET (?P<target>\S+) HTTP/1\.1" (?P<status>\d{3}) (?P<size>\S+) '
    r'"-" "me/1" (?P<seconds>\d+\.\d+)(?P<reason>.*)'
)


class AccessLogTests(WebSocketTestCase):
    """One line a WebSocket, at its end."""

    def lines(self, target: str) -> list[re.Match[str]]:
        """Return this test's access lines for a target."""
        return [each for each in LINE.finditer(self.log()) if each["target"] == target]

    def line(self, target: str) -> re.Match[str]:
        """Return the one line for a target; wait for it, and a moment for a second one."""
        eventually(lambda: self.lines(target))
        time.sleep(0.05)
        lines = self.lines(target)
        self.assertEqual(len(lines), 1, self.log())
        return lines[0]

    def open_logged(self, target: str, **octets: bytes) -> Pair:
        """Open a WebSocket that the log shows with its agent."""
        return self.open(b"User-Agent: me/1", target=target.encode(), **octets)  # type: ignore[arg-type]

    def test_good_end(self) -> None:
        """Status 101, octets behind it to the client, how long it lasted, and no reason."""
        early, late = text(b"early").octets, binary(b"x" * 70000).octets
        bye = close(1000, b"bye").octets
        began = time.monotonic()
        with self.open_logged("/good", with_answer=early) as pair:
            pair.upstream.send(late)
            pair.client.discard(len(early + late))
            pair.client.send(text(b"up" * 500).masked().octets)
            time.sleep(0.5)
            self.assertEqual(self.lines("/good"), [], "a line before the end")
            pair.client.send(close(1000, b"bye").masked().octets)
            pair.upstream.read_until(b"\x88")
            pair.upstream.send(bye)
            pair.client.discard(len(bye))
            pair.upstream.close()
            pair.client.wait_closed()
        line = self.line("/good")
        lasted = time.monotonic() - began
        self.assertEqual(line["status"], "101")
        self.assertEqual(line["size"], str(len(early + late + bye)))
        self.assertGreaterEqual(float(line["seconds"]), 0.45)
        self.assertLessEqual(float(line["seconds"]), lasted)
        self.assertEqual(line["reason"], "")

    def test_nothing_sent(self) -> None:
        """A WebSocket that brought the client nothing has no size."""
        with self.open_logged("/nothing") as pair:
            pair.client.close()
            pair.upstream.wait_closed()
        self.assertIn(self.line("/nothing")["size"], ("-", "0"))

    def test_bad_ends(self) -> None:
        """An end in the middle of a frame, or by RST, has a reason."""
        for number, (name, leave) in enumerate(LEAVING):
            for client_leaves in (True, False):
                target = f"/bad-{number}-{client_leaves}"
                with self.subTest(name, client_leaves=client_leaves):
                    with self.open_logged(target) as pair:
                        leaves, stays = pair.client, pair.upstream
                        if not client_leaves:
                            leaves, stays = stays, leaves
                        leaves.send(HALF)
                        stays.discard(len(HALF))
                        leave(leaves)
                        stays.wait_closed()
                    line = self.line(target)
                    self.assertEqual(line["status"], "101")
                    self.assertRegex(line["reason"], r"^ \S+ [a-z_]+")

    def test_refused(self) -> None:
        """A refused handshake is logged like any request."""
        self.upstream.script = answer(b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nwords")
        self.proxy.ask(opening(b"User-Agent: me/1", target=b"/refused"))
        line = self.line("/refused")
        self.assertEqual((line["status"], line["size"], line["reason"]), ("403", "5", ""))
