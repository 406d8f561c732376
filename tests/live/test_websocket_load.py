"""Much at once: stopped readers, small writes, abrupt ends, many idle WebSockets."""

from __future__ import annotations

import os
import resource
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import cast

import attrs

from tests.live.kit import (
    END,
    MIB,
    PATIENCE,
    Closed,
    Proxy,
    RawClient,
    Script,
    ScriptedUpstream,
    Wire,
    eventually,
    request,
)
from tests.live.websocket import (
    BINARY,
    HANDSHAKE,
    MASK,
    UPGRADE,
    Frame,
    Pair,
    WebSocketTestCase,
    binary,
    close,
    open_pair,
    opening,
    read_frame,
    read_past_pings,
    switching,
    text,
)

SIZE = int(os.environ.get("PYPROXY_LIVE_MIB", "256")) * MIB
"""Octets that are pushed past a stopped reader."""

GROWTH = 16 * MIB
"""Octets of resident memory that a WebSocket may add at its worst moment."""

PAUSE = 0.5
"""Seconds for which nothing moves before a side counts as stopped."""

BLOCK = bytes(range(256)) * (MIB // 256)
HUGE = b"\x82\xff" + SIZE.to_bytes(8, "big") + MASK
"""The head of one frame with all the octets."""


class BackpressureTests(WebSocketTestCase):
    """One end does not read (invariant 2; FIELD 8)."""

    def setUp(self) -> None:
        """Warm the process up, then note its memory."""
        super().setUp()
        with self.open() as pair:
            for sender, receiver in self.ways(pair):
                self.assert_passes(sender, receiver)
        self.before = self.proxy.rss()
        self.proxy.reset_peak()

    def ways(self, pair: Pair) -> tuple[tuple[Wire, Wire], tuple[Wire, Wire]]:
        """Return the sender and receiver of either direction."""
        return (pair.client, pair.upstream), (pair.upstream, pair.client)

    def assert_passes(self, sender: Wire, receiver: Wire) -> None:
        """Check that some large messages pass."""
        frame = binary(BLOCK).masked()
        sending = threading.Thread(target=sender.send, args=(frame.octets * 4,))
        sending.start()
        for _ in range(4):
            self.assertTrue(read_past_pings(receiver) == frame)
        sending.join(PATIENCE)

    def assert_bounded(self) -> None:
        """Check the highest resident memory since the test began."""
        grown = self.proxy.peak_rss() - self.before
        self.assertLessEqual(grown, GROWTH, f"memory grew by {grown / MIB:.1f} MiB")

    def assert_stops(self, way: int) -> None:
        """Push all the octets past a reader that stops; then let it read and compare."""
        with self.open(receive_buffer=65536) as pair:
            sender, receiver = self.ways(pair)[way]
            sender.send(HUGE)
            sent = sender.send_until_blocked(BLOCK, SIZE, PAUSE)
            self.assertLess(sent, SIZE // 4, "the sender was never stopped")
            # The other direction is not stopped by this one.
            receiver.send(text(b"still here").octets)
            self.assertEqual(read_frame(sender).payload, b"still here")

            def send_rest() -> None:
                at = sent
                while at < SIZE:
                    sender.send(BLOCK[at % MIB :])
                    at += MIB - at % MIB

            sending = threading.Thread(target=send_rest)
            sending.start()
            self.assertEqual(receiver.read_exactly(len(HUGE)), HUGE)
            for count in range(SIZE // MIB):
                self.assertTrue(receiver.read_exactly(MIB) == BLOCK, f"block {count}")
            sending.join(PATIENCE)
        self.assert_bounded()

    def test_to_upstream(self) -> None:
        """An upstream that stops reading stops the client; then all arrives, in order."""
        self.assert_stops(0)

    def test_to_client(self) -> None:
        """A client that stops reading stops the upstream; then all arrives, in order."""
        self.assert_stops(1)

    def test_both(self) -> None:
        """Both ends stop reading and push: both are stopped."""
        with self.open(receive_buffer=65536) as pair:
            for sender, _ in self.ways(pair):
                sender.send(HUGE)
                self.assertLess(sender.send_until_blocked(BLOCK, SIZE, PAUSE), SIZE // 4)
        self.assert_bounded()

    def test_before_the_101(self) -> None:
        """A client that pushes frames before it is answered is stopped as well."""
        go = threading.Event()
        self.addCleanup(go.set)

        def script(wire: Wire) -> None:
            wire.read_head()
            go.wait(PATIENCE * 3)
            wire.close()

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(opening() + HUGE)
            self.assertLess(client.send_until_blocked(BLOCK, SIZE, PAUSE), SIZE // 4)
            self.assert_bounded()

    def test_others_are_not_stopped(self) -> None:
        """One end that does not read slows no other WebSocket."""
        stuck = self.open(receive_buffer=65536)
        stuck.upstream.send(HUGE)
        stuck.upstream.send_until_blocked(BLOCK, SIZE, PAUSE)
        with self.open() as pair:
            for sender, receiver in self.ways(pair):
                self.assert_passes(sender, receiver)


class WatchedBackpressureTests(BackpressureTests):
    """The same while frames are counted and Pings are due all the time."""

    proxy_arguments = ("--ws-ping", "0.2", "--ws-max-message", "2g", "--ws-idle-timeout", "3600")

    def assert_stops(self, way: int) -> None:
        """Push small messages past a reader that stops; then let it read, Pings aside."""
        frame = Frame(BINARY, b"x" * 64).masked()
        octets = frame.octets * 1000
        with self.open(receive_buffer=65536) as pair:
            sender, receiver = self.ways(pair)[way]
            sent = sender.send_until_blocked(octets, SIZE, PAUSE)
            self.assertLess(sent, SIZE // 4, "the sender was never stopped")
            for _ in range(1000):
                self.assertEqual(read_past_pings(receiver), frame)
        self.assert_bounded()


class DelayTests(WebSocketTestCase):
    """``TCP_NODELAY`` on both sides."""

    rounds = 25

    def lasts(self, client: Wire, upstream: Wire) -> float:
        """Return the median time of frames that go in two pieces, one way and back."""
        frame = binary(b"x" * 100).masked().octets
        times = []
        for _ in range(self.rounds):
            began = time.monotonic()
            for sender, receiver in ((client, upstream), (upstream, client)):
                sender.send(frame[:10])
                time.sleep(0.004)  # so that the pieces do not meet on the way
                sender.send(frame[10:])
                receiver.read_exactly(len(frame))
            times.append(time.monotonic() - began)
        return statistics.median(times)

    def test_no_steps(self) -> None:
        """The second piece of a frame does not wait for the first to be acknowledged.

        With Nagle's algorithm on, each way takes 40 ms more, five times what it takes without.
        """
        straight = SimpleNamespace(port=self.upstream.port)
        with open_pair(cast("Proxy", straight), self.upstream) as pair:
            direct = self.lasts(pair.client, pair.upstream)
        with self.open() as pair:
            through = self.lasts(pair.client, pair.upstream)
        self.assertLess(through, 4 * direct)


ROUNDS = 20
"""Times that each kind of end happens; there are more than 1,000 ends in all."""

KEPT = 6 * MIB
"""Memory that an allocator may keep; 1,000 leaked pairs take more."""

HALF = binary(b"x" * 1000).masked().octets[:500]
BYE = close(1000, b"bye").masked().octets
Leave = Callable[[Wire], None]
LEAVE: tuple[Leave, ...] = (Wire.close, Wire.reset)


@attrs.frozen
class End:
    """One kind of abrupt end.

    Attributes:
        sent: what the client sends first.
        script: what the upstream does.
        then: what the client sends when it has its 101; None when none comes.
        reaches: the request reaches the upstream.
    """

    name: str
    sent: bytes
    script: Script
    then: bytes | None = None
    reaches: bool = True


def silent(wire: Wire) -> None:
    """As an upstream: never answer."""
    wire.read_head()
    wire.wait_closed()
    wire.close()


def switch(behind: bytes = b"", then: Leave | None = None) -> Script:
    """Return a script that switches, sends octets, and stays or leaves."""

    def script(wire: Wire) -> None:
        wire.send(switching(wire.read_head()) + behind)
        if then is None:
            wire.wait_closed()
            wire.close()
        else:
            then(wire)

    return script


def reply(octets: bytes, leave: Leave = Wire.close) -> Script:
    """Return a script that sends fixed octets and leaves."""

    def script(wire: Wire) -> None:
        wire.read_head()
        wire.send(octets)
        leave(wire)

    return script


def flood(wire: Wire) -> None:
    """As an upstream: send much to a client that does not read."""
    wire.send(switching(wire.read_head()))
    with suppress(OSError):
        wire.sock.settimeout(0.01)
        wire.sock.sendall(bytes(16 * MIB))
    wire.wait_closed()
    wire.close()


def answer_close(leave: Leave) -> Script:
    """Return a script that answers a Close and leaves."""

    def script(wire: Wire) -> None:
        wire.send(switching(wire.read_head()))
        read_frame(wire)
        wire.send(close(1000, b"bye").octets)
        leave(wire)

    return script


BY_CLIENT = (
    End("in the head", opening()[:-7], silent, reaches=False),
    End("before the 101", opening(), silent),
    End("before the 101, with frames", opening() + HALF, silent),
    End("open", opening(), switch(), b""),
    End("in a frame", opening(), switch(), HALF),
    End("in a frame's head", opening() + HALF[:1], switch(), HALF[1:3]),
    End("in an upstream's frame", opening(), switch(HALF), b""),
    End("behind a Close", opening(), switch(), BYE),
    End("behind an upstream's Close", opening(), switch(close().octets), b""),
    End("behind both", opening(), switch(close().octets), BYE),
    End("behind garbage", opening(), switch(b"\xff" * 300), b"garbage\r\n\r\n" * 30),
    End("past the limit", opening(), switch(), b"\x82\xff" + b"\x7f" * 8 + MASK),
    End("not reading", opening(), flood, b""),
    End("a wrong version", request(b"GET / HTTP/1.1", *UPGRADE) + HALF, silent, reaches=False),
    End(
        "a bad handshake",
        request(b"GET / HTTP/1.1", *HANDSHAKE, HANDSHAKE[-1]) + HALF,
        silent,
        reaches=False,
    ),
    End("a refusal", opening(), reply(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nwords")),
)

BY_UPSTREAM = tuple(
    End(name, sent, script, then)
    for leave in LEAVE
    for name, sent, script, then in (
        ("at once", opening(), leave, None),
        ("in the handshake", opening() + HALF, reply(b"", leave), None),
        ("in the 101", opening(), reply(b"HTTP/1.1 101 Switching Pro", leave), None),
        ("a wrong 101", opening(), reply(b"HTTP/1.1 101 Switch" + END, leave), None),
        ("garbage for an answer", opening(), reply(b"\xff" * 300 + END, leave), None),
        ("a refusal", opening(), reply(b"HTTP/1.1 403 No" + END + b"words", leave), None),
        ("behind the 101", opening(), switch(b"", leave), b""),
        ("in a frame", opening(), switch(HALF, leave), HALF),
        ("behind a Close", opening(), switch(close().octets, leave), BYE),
        ("behind both", opening(), answer_close(leave), BYE),
    )
)


class AbruptEndTests(WebSocketTestCase):
    """A proxy that has seen 1,000 broken WebSockets is as it was before."""

    proxy_arguments = (
        *("--ws-ping", "0.1", "--ws-max-message", "1m", "--ws-idle-timeout", "5"),
        "--no-access-log",
    )

    def rest(self) -> int:
        """Return how many sockets are open once nothing is under way; idle connections count."""
        self.upstream.drop_connections()
        counts = [-1, -2, -3]

        def steady() -> bool:
            time.sleep(0.1)
            counts.append(self.proxy.open_sockets())
            return len(set(counts[-4:])) == 1

        self.assertTrue(eventually(steady), f"the number of sockets does not settle: {counts}")
        return counts[-1]

    def run_ends(self, rounds: int) -> int:
        """Let every kind of end happen so often; return how many there were."""
        count = 0
        for ends, leaves in ((BY_CLIENT, LEAVE), (BY_UPSTREAM, (None,))):
            for end in ends:
                self.upstream.script = end.script
                for _ in range(rounds):
                    for leave in leaves:
                        self.end_once(end, leave)
                        count += 1
        return count

    def end_once(self, end: End, leave: Leave | None) -> None:
        """Run one WebSocket to its abrupt end; by the upstream when the client does not leave."""
        seen = len(self.upstream.heads)
        client = RawClient(self.proxy.port)
        with suppress(Closed):
            client.send(end.sent)
            if end.then is not None and client.read_head().status == 101:
                client.send(end.then)
            if leave is None:
                client.read_to_end()
        if leave is not None and end.then is None and end.reaches:
            self.assertTrue(eventually(lambda: len(self.upstream.heads) > seen), end.name)
        (leave or Wire.close)(client)

    def test_nothing_is_left(self) -> None:
        """As many sockets as before, about as much memory, no traceback."""
        self.run_ends(2)  # what the interpreter and the allocator keep for good
        sockets, memory = self.rest(), self.proxy.rss()
        count = self.run_ends(ROUNDS)
        self.assertGreaterEqual(count, 1000)
        self.assertEqual(sockets, self.rest(), f"sockets after {count} ends")
        self.assertLess(self.proxy.rss() - memory, KEPT)
        with self.open() as pair:
            pair.client.send(text(b"up").masked().octets)
            self.assertEqual(read_frame(pair.upstream).payload, b"up")
        self.assertNotIn("Traceback", self.log())


PAIRS = 500
"""WebSockets that are open at once; the rule is meant for 5,000 (``PYPROXY_LIVE_PAIRS``)."""


class IdlePairsTests(WebSocketTestCase):
    """Many WebSockets at once."""

    def test_all_of_them_work(self) -> None:
        """All of them still pass frames both ways, and none is left when they have gone."""
        pairs = int(os.environ.get("PYPROXY_LIVE_PAIRS", str(PAIRS)))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Here each pair takes two descriptors, and two in the process.
        needed = 2 * pairs + 200
        self.assertTrue(hard == resource.RLIM_INFINITY or hard >= needed, "too few descriptors")
        if soft != resource.RLIM_INFINITY and soft < needed:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with ScriptedUpstream() as upstream, Proxy("--target", upstream.url) as proxy:
            before = proxy.open_sockets()
            with ExitStack() as stack:
                opened = [stack.enter_context(open_pair(proxy, upstream)) for _ in range(pairs)]
                self.assertGreaterEqual(proxy.open_sockets() - before, 2 * pairs)
                for turn in range(2):
                    for number, pair in enumerate(opened):
                        up = Frame(BINARY, b"%d up %d" % (turn, number)).masked()
                        down = Frame(BINARY, b"%d down %d" % (turn, number))
                        pair.client.send(up.octets)
                        pair.upstream.send(down.octets)
                        self.assertEqual(read_frame(pair.upstream), up)
                        self.assertEqual(read_frame(pair.client), down)
            self.assertTrue(eventually(lambda: proxy.open_sockets() <= before))
