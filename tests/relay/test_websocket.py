"""An open WebSocket as a machine: every order of what can happen to it, and the named cases."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Any, cast

import attrs
from twisted.internet import tcp
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from pyproxy.errors import (
    ClientMessageTooBig,
    ProxyError,
    ReadTimeout,
    ResponseIncomplete,
    Unavailable,
    UpstreamMessageTooBig,
)
from pyproxy.policy.routing import Limits
from pyproxy.relay.ends import RelayedEnd
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.lookout import LINGER_SECONDS, LOOK_INTERVAL
from pyproxy.relay.websocket import Pair
from tests.memory import CLIENT, PROXY, MemoryTransport

TEXT = b"\x81\x02hi"
LARGE = b"\x82\x7e\x01\x00" + bytes(256)
CLOSE = b"\x88\x02\x03\xe8"
OPENING, REST = LARGE[:100], LARGE[100:]
"""A frame in two pieces, cut within its payload."""

ROOM = 1000
"""Octets that an end takes before its transport is full."""

FLOOD = LARGE * 5

SWEEP = 0.5
IDLE = 8.0
"""Seconds that an end may take none of the octets that wait for it, in these tests."""

AT_ONCE = 0.1
"""Seconds in which the upstream is closed once its client has left."""

END, GOING_AWAY, TOO_BIG = 1011, 1001, 1009


class Line(MemoryTransport):
    """A connection of the proxy's whose other end, and what the kernel keeps for us, is the test's.

    Attributes:
        journal: what was written, in order.
        fins: how often a FIN was asked for.
        late: octets that were written behind it.
        fed: told of octets that the proxy reads, before it reads them.
        left: told that the proxy learns of a FIN, or of the loss, before it does; of which.
    """

    def __init__(self, clock: Clock, *, room: int = ROOM) -> None:
        super().__init__(clock, PROXY, CLIENT, room)
        self.journal: list[bytes] = []
        self.fins = 0
        self.late = b""
        self.fed: Callable[[bytes], None] = lambda octets: None
        self.left: Callable[[bool], None] = lambda gone: None
        self._arrived = b""
        self._finished = False

    # the test's end

    @property
    def written(self) -> bytes:
        """All that was written so far."""
        return b"".join(self.journal)

    @property
    def full(self) -> bool:
        """Whether more was written than the other end took."""
        return self._full

    def take_some(self, size: int) -> bytes:
        """Take so many octets; the transport is full until none of them wait in it."""
        octets: bytes = self.value()
        if len(octets) - size <= self._room:
            return self.take()
        self.clear()
        self.io.write(octets[size:])
        return octets[:size]

    def arrive(self, octets: bytes) -> None:
        """Send octets; the kernel keeps them as long as the proxy does not read."""
        if not self._finished and self.lost is None:
            self._arrived += octets
            self._read()

    def send_fin(self) -> None:
        """Send a FIN, behind the octets that the kernel keeps."""
        if not self._finished and self.lost is None:
            self._finished = True
            self.kernel[1].shutdown(socket.SHUT_WR)
            self._read()

    def leave_unheard(self) -> None:
        """Close, so that only the kernel knows."""
        self._finished = True
        self.kernel[1].close()

    def _read(self) -> None:
        if self.paused or self.disconnecting_at_once:
            return
        octets, self._arrived = self._arrived, b""
        if octets:
            self.fed(octets)
            self.deliver(octets)
        if self._finished and not self.paused:
            self.end_reading()

    def end_reading(self) -> None:
        """Let the proxy learn of the FIN."""
        if self.lost is None and not self.disconnected:
            self.left(False)
        super().end_reading()

    def lose(self, reason: type[Exception] = ConnectionDone) -> None:
        """End the connection."""
        if self.lost is None:
            self.left(True)
        super().lose(reason)

    # what the proxy calls

    @property
    def dataBuffer(self) -> bytes:
        """What waits here and not in the kernel, as in Twisted's own transports."""
        octets: bytes = self.value()
        return octets[self._room :]

    def write(self, data: bytes) -> None:
        """Take octets."""
        if self.lost is None and not self.disconnected:
            self.journal.append(data)
            if self.fins:
                self.late += data
        super().write(data)

    def resumeProducing(self) -> None:
        """Read what the kernel kept, in a later turn."""
        super().resumeProducing()
        self._clock.callLater(0, self._read)

    def loseWriteConnection(self) -> None:
        """Send a FIN."""
        self.fins += 1
        super().loseWriteConnection()


class SecureLine(Line):
    """The same under TLS: a close waits for the other end's answer, and a FIN is no half."""

    @property
    def transport(self) -> Line:
        """The socket below."""
        return self.below

    def __init__(self, clock: Clock, *, room: int = ROOM) -> None:
        super().__init__(clock, room=room)
        self.below = Line(clock)
        alsoProvides(self, ISSLTransport)

    @property
    def kernel(self) -> tuple[socket.socket, socket.socket]:
        """What the kernel knows of the socket below."""
        return self.below.kernel

    def close_kernel(self) -> None:
        """Close the sockets."""
        self.below.close_kernel()

    def loseConnection(self) -> None:
        """Say good-bye."""
        self.disconnecting = True
        self.fins += 1

    def end_reading(self) -> None:
        """Let the other end's good-bye arrive."""
        self.lose()


class End(RelayedEnd):
    """An end whose own frames are written here, without a mask.

    Attributes:
        own: frames of the proxy's: where in the journal, and the opcode.
    """

    def __init__(self) -> None:
        super().__init__()
        self.own: list[tuple[int, int]] = []

    @property
    def line(self) -> Line:
        """The connection."""
        return cast(Line, self.transport)

    def sendFrame(self, opcode: int, payload: bytes) -> None:
        """Write a frame of the proxy's."""
        self.own.append((len(self.line.journal), opcode))
        self.sendData(bytes([0x80 | opcode, len(payload)]) + payload)

    @property
    def closes(self) -> list[int]:
        """Codes of the Close frames that the proxy itself sent."""
        journal = self.line.journal
        return [int.from_bytes(journal[at][2:4], "big") for at, opcode in self.own if opcode == 8]

    @property
    def passed(self) -> bytes:
        """What came from the other end."""
        own = {at for at, _ in self.own}
        journal = self.line.journal
        return b"".join(octets for at, octets in enumerate(journal) if at not in own)


def ends_with_a_frame(octets: bytes) -> bool:
    """Tell whether octets are whole frames of the kinds above."""
    at = 0
    while at + 4 <= len(octets) or (at < len(octets) and octets[at + 1 : at + 2] < b"\x7e"):
        size = octets[at + 1]
        at += 4 + int.from_bytes(octets[at + 2 : at + 4], "big") if size == 126 else 2 + size
    return at == len(octets)


@attrs.define(eq=False)
class Peer:
    """The other end of one of the two connections, and what is expected of the proxy there.

    Attributes:
        rest: octets that are missing of a frame that has begun.
        sent: octets that the proxy read.
        due: what has to have come, apart from frames of the proxy's.
        cut: the proxy ended it: only the frame at hand is due.
        deaf: nothing is due any more.
        done: it sent a FIN or is gone.
        close_due: a Close of the proxy's has to have come.
        close_barred: none may come.
    """

    end: End
    rest: bytes = b""
    sent: bytes = b""
    due: bytes = b""
    cut: bool = False
    deaf: bool = False
    done: bool = False
    close_due: bool = False
    close_barred: bool = False

    @property
    def line(self) -> Line:
        """The proxy's end of the connection."""
        return self.end.line

    @property
    def said_close(self) -> bool:
        """Whether a Close has begun."""
        return CLOSE[:3] in self.sent

    @property
    def closed(self) -> bool:
        """Whether a Close has passed whole, and nothing is begun behind it."""
        return self.said_close and ends_with_a_frame(self.sent)


class Scene:
    """Two ends, a pair between them, and a clock that is set by hand."""

    def __init__(self, limits: Limits, line: type[Line] = Line, early: bytes = b"") -> None:
        self.clock = MemoryReactorClock()
        self.ended: list[Pair] = []
        self.sweeper = Sweeper(self.clock, SWEEP)
        self.sweeper.start()
        self.client, self.upstream = (Peer(self._end(kind)) for kind in (line, Line))
        self.peers = self.client, self.upstream
        for peer, other in (self.peers, self.peers[::-1]):
            peer.line.fed = partial(self._expect, peer, other)
            peer.line.left = partial(self._leaves, peer)
        self.pair = Pair(
            self.client.end,
            self.upstream.end,
            limits,
            self.clock,
            self.sweeper,
            self.ended.append,
        )
        self.pair.open(early, b"")

    def _end(self, kind: type[Line]) -> End:
        end = End()
        protocol: Any = end
        kind(self.clock).join(protocol)
        return end

    def close(self) -> None:
        """Give back what the kernel lent."""
        self.sweeper.stop()
        for peer in self.peers:
            peer.line.close_kernel()

    # what is expected

    def _expect(self, peer: Peer, other: Peer, octets: bytes) -> None:
        """Take note of octets that the proxy reads."""
        if not other.deaf and other.line.lost is None:
            if other.cut:
                # A frame is begun in one piece and ended by the first octets of the next.
                rest = REST if peer.sent.endswith(OPENING) else CLOSE[3:]
                octets_due = octets[: len(rest)]
                other.deaf = True
            else:
                octets_due = octets
            other.due += octets_due
        peer.sent += octets

    # what can happen

    def octets(self, peer: Peer) -> None:
        """A whole frame comes."""
        peer.line.arrive(peer.rest + TEXT)
        peer.rest = b""

    def half(self, peer: Peer) -> None:
        """A part of a frame comes: its beginning, or its rest."""
        peer.line.arrive(peer.rest or OPENING)
        peer.rest = b"" if peer.rest else REST

    def says_close(self, peer: Peer) -> None:
        """A Close passes."""
        peer.line.arrive(peer.rest + CLOSE)
        peer.rest = b""

    def begins_close(self, peer: Peer) -> None:
        """A Close begins to pass."""
        peer.line.arrive(peer.rest + CLOSE[:3])
        peer.rest = CLOSE[3:]

    def fin(self, peer: Peer) -> None:
        """An end sends a FIN."""
        peer.line.send_fin()

    def lost(self, peer: Peer) -> None:
        """A connection breaks."""
        peer.line.lose(ConnectionLost)

    def _leaves(self, peer: Peer, gone: bool) -> None:
        if not peer.done:
            peer.done = True
            # A client that sends a FIN alone may still listen.
            listens = peer.closed or self.client.cut or (peer is self.client and not gone)
            peer.deaf = peer.deaf or not listens

    def end(self, error: ProxyError) -> None:
        """The proxy ends it."""
        if not self.client.cut:
            for peer, other in (self.peers, self.peers[::-1]):
                whole = ends_with_a_frame(peer.sent)
                if peer.said_close:
                    other.close_barred = True
                elif not other.line.fins and other.line.lost is None:
                    other.close_due = whole
                other.cut = True
                other.deaf = other.deaf or whole
        self.pair.end(error)

    def wait(self, seconds: float, step: float = LOOK_INTERVAL) -> None:
        """Let time pass."""
        for _ in range(round(seconds / step)):
            self.turn()
            self.clock.advance(step)
        self.turn()

    def turn(self) -> None:
        """Let what is due happen."""
        for _ in range(3):
            self.clock.advance(0)


Event = Callable[[Scene], object]


def _of(name: str, side: str) -> Event:
    return lambda scene: getattr(scene, name)(getattr(scene, side))


OF_AN_END = ("octets", "half", "says_close", "begins_close", "fin", "lost")

EVENTS: dict[str, Event] = {
    **{f"{side}: {name}": _of(name, side) for side in ("client", "upstream") for name in OF_AN_END},
    "end": lambda scene: scene.end(ProxyError("a defect")),
    "shut_down": lambda scene: scene.end(Unavailable("the proxy is ending")),
    "a moment": lambda scene: scene.wait(AT_ONCE),
    "a long time": lambda scene: scene.wait(LINGER_SECONDS + 1, SWEEP),
}

ENDINGS = ("client: fin", "client: lost", "upstream: fin", "upstream: lost", "end", "shut_down")
"""Events after which a WebSocket ends by itself."""

PLAIN = Limits(idle=IDLE)
WATCHED = Limits(idle=IDLE, max_message=10000, ws_ping=1.0)


def orders(most: int) -> Iterator[tuple[str, ...]]:
    """Return every order of up to so many events."""
    for size in range(1, most + 1):
        yield from product(EVENTS, repeat=size)


class MachineTests(SynchronousTestCase):
    """Every order of events, in every phase: what always holds."""

    @contextmanager
    def scene(self, limits: Limits, line: type[Line] = Line) -> Iterator[Scene]:
        """Set the scene for one order."""
        scene = Scene(limits, line)
        try:
            yield scene
        finally:
            scene.close()

    def run_all(
        self,
        most: int,
        limits: Limits,
        line: type[Line] = Line,
        phase: Callable[[Scene], object] | None = None,
    ) -> None:
        """Run every order, and look after each event whether what always holds still does."""
        for order in orders(most):
            with self.scene(limits, line) as scene:
                try:
                    if phase is not None:
                        phase(scene)
                    for name in order:
                        EVENTS[name](scene)
                        scene.turn()
                        self.assert_holds(scene)
                    self.assert_ends(scene, order)
                except Exception as error:
                    error.add_note(f"in the order {order}")
                    raise

    def assert_holds(self, scene: Scene) -> None:
        """Check what is true at any time."""
        for peer in scene.peers:
            end, line = peer.end, peer.line
            self.assertTrue(peer.due.startswith(end.passed), (peer.due, end.passed))
            if line.lost is None and not line.disconnected:
                self.assertEqual(peer.due, end.passed, "not all was delivered")
            self.assertEqual(b"", line.late, "octets behind our FIN")
            if line.fins and line.lost is None:
                # Twisted would ask it for more before it sends the FIN.
                self.assertIsNone(line.producer)
            self.assertLessEqual(line.fins, 1 if type(line) is Line else 2)
            self.assertLessEqual(len(end.closes), 1)
            if peer.close_due:
                self.assertEqual(1, len(end.closes), "no Close of ours")
            if peer.close_barred:
                self.assertEqual([], end.closes, "a second Close")
            for at, opcode in end.own:
                before = b"".join(line.journal[:at])
                self.assertTrue(ends_with_a_frame(before), "a frame of ours within another")
                self.assertNotIn(CLOSE[:3], before, "a frame behind a Close")
                if opcode == 8:
                    self.assertEqual(at + 1, len(line.journal), "octets behind a Close of ours")

    def assert_ends(self, scene: Scene, order: tuple[str, ...]) -> None:
        """Check that nothing is left in the end, and that it does not end by itself before."""
        if not any(name in ENDINGS for name in order):
            self.assertEqual([], scene.ended)
            self.assertEqual([None, None], [peer.line.lost for peer in scene.peers])
            scene.lost(scene.client)
        elif scene.upstream.line.paused and not scene.ended:
            scene.client.line.take()  # what waits for it has kept the upstream from being heard
        scene.wait(LINGER_SECONDS + IDLE + 1, SWEEP)
        self.assert_holds(scene)
        for peer in scene.peers:
            self.assertIsNotNone(peer.line.lost)
        self.assertEqual([scene.pair], scene.ended)
        self.assertEqual(0, scene.sweeper.watched)
        scene.sweeper.stop()
        self.assertEqual([], scene.clock.getDelayedCalls())

    def test_plain(self) -> None:
        """Two plain sockets, frames only counted."""
        self.run_all(3, PLAIN)

    def test_watched(self) -> None:
        """Frames looked at one by one, and pings of ours."""
        self.run_all(3, WATCHED)

    def test_secure_client(self) -> None:
        """The client's end under TLS, whose close waits for an answer."""
        self.run_all(3, PLAIN, SecureLine)

    def test_secure_client_watched(self) -> None:
        """The same with frames looked at."""
        self.run_all(2, WATCHED, SecureLine)

    def test_full_upstream(self) -> None:
        """An upstream that does not read: the client is not read either, nor its FIN heard."""
        for limits in (PLAIN, WATCHED):
            self.run_all(2, limits, phase=lambda scene: scene.client.line.arrive(FLOOD))

    def test_full_client(self) -> None:
        """A client that does not read, from before it all to its end, or until it reads on."""
        for limits in (PLAIN, WATCHED):
            for kind in (Line, SecureLine):
                self.run_all(2, limits, kind, lambda scene: scene.upstream.line.arrive(FLOOD))

    def test_both_full(self) -> None:
        """Neither end reads."""

        def flood(scene: Scene) -> None:
            scene.upstream.line.arrive(FLOOD)
            scene.client.line.arrive(FLOOD)

        self.run_all(2, PLAIN, phase=flood)


class SceneTestCase(SynchronousTestCase):
    """A case whose scenes are closed at its end."""

    def scene(self, limits: Limits = PLAIN, line: type[Line] = Line) -> Scene:
        """Set a scene."""
        scene = Scene(limits, line)
        self.addCleanup(scene.close)
        return scene

    def assert_over(self, scene: Scene) -> None:
        """Check that nothing is left."""
        self.assertEqual([scene.pair], scene.ended)
        self.assertTrue(all(peer.line.lost is not None for peer in scene.peers))
        scene.sweeper.stop()
        self.assertEqual([], scene.clock.getDelayedCalls())


LEAVING: dict[str, Event] = {
    "FIN": lambda scene: scene.fin(scene.client),
    "RST": lambda scene: scene.lost(scene.client),
    "closed": lambda scene: scene.client.line.lose(),
    "unheard": lambda scene: scene.client.line.leave_unheard(),
}
"""How a client leaves; only the kernel knows of the last one."""

PHASES: dict[str, Event] = {
    "idle": lambda scene: None,
    "in a frame": lambda scene: scene.half(scene.client),
    "in the upstream's frame": lambda scene: scene.half(scene.upstream),
    "upstream full": lambda scene: scene.client.line.arrive(FLOOD),
    "client full": lambda scene: scene.upstream.line.arrive(FLOOD),
}


class LeavingTests(SceneTestCase):
    """A client leaves without a closing handshake (FIELD 1)."""

    def leave(self, phase: str, leaving: str, offset: float, chatters: bool) -> Scene:
        """Let a client leave; return the scene once the upstream was told, which is at once.

        Args: seconds between the phase's beginning and the leaving; whether the upstream sends.
        """
        scene = self.scene()
        PHASES[phase](scene)
        scene.wait(offset, 0.01)
        left = scene.clock.seconds()
        LEAVING[leaving](scene)
        line = scene.upstream.line
        fin_is_enough = leaving == "FIN" and phase != "upstream full"
        while not (line.lost or (fin_is_enough and line.fins)) and scene.clock.seconds() < left + 1:
            if chatters:
                line.arrive(TEXT)
            scene.wait(0.005, 0.005)
        self.assertLessEqual(scene.clock.seconds() - left, AT_ONCE)
        return scene

    def test_at_once(self) -> None:
        """The upstream is told within 0.1 s in every phase, whatever it sends meanwhile.

        It is closed; of a FIN alone it gets the FIN, or a reset where that cannot pass.
        """
        for phase, leaving, tenth, chatters in product(PHASES, LEAVING, range(7), (False, True)):
            if leaving == "unheard" and phase != "upstream full":
                continue  # a client that is read is heard
            scene = self.leave(phase, leaving, tenth / 100, chatters)
            self.assertTrue(scene.pair.client_left)
            self.assertIsNone(scene.pair.error)
            self.assertEqual([], scene.upstream.end.closes)
            scene.client.line.take()
            scene.wait(LINGER_SECONDS + IDLE + 1, SWEEP)
            self.assert_over(scene)

    def finished(self, limits: Limits = PLAIN) -> Scene:
        """Return a scene whose client has sent a FIN and no Close."""
        scene = self.scene(limits)
        scene.fin(scene.client)
        self.assertEqual((0, 1), (scene.client.line.fins, scene.upstream.line.fins))
        return scene

    def test_last_words(self) -> None:
        """A client that sent a FIN alone gets what the upstream still says, and its Close.

        It may have said all and be listening: TCP does not tell.
        """
        for limits in (PLAIN, WATCHED):
            scene = self.finished(limits)
            said = b""
            for _ in range(4):
                scene.wait(LINGER_SECONDS / 2, SWEEP)
                scene.octets(scene.upstream)
                said += scene.client.line.take()
            scene.says_close(scene.upstream)
            self.assertEqual(TEXT * 4 + CLOSE, said + scene.client.line.take())
            scene.fin(scene.upstream)
            scene.turn()
            self.assert_over(scene)
            self.assertEqual(1, scene.client.line.fins)
            self.assertEqual((None, True), (scene.pair.error, scene.pair.client_left))

    def test_last_words_without_close(self) -> None:
        """An upstream that answers a FIN with last words and its own FIN ends in order."""
        scene = self.finished()
        scene.octets(scene.upstream)
        scene.fin(scene.upstream)
        scene.turn()
        self.assert_over(scene)
        self.assertEqual(TEXT, scene.client.line.written)
        self.assertEqual((None, True), (scene.pair.error, scene.pair.client_left))

    def test_nothing_more_is_said(self) -> None:
        """Both are cut off after LINGER_SECONDS without a movement, and not before."""
        scene = self.finished()
        scene.wait(LINGER_SECONDS - 0.1)
        self.assertEqual([None, None], [each.line.lost for each in scene.peers])
        scene.wait(0.2)
        self.assert_over(scene)

    def test_gone_after_all(self) -> None:
        """A client that has closed answers octets with a reset: the upstream is reset too."""
        scene = self.finished()
        scene.wait(1)
        scene.octets(scene.upstream)
        scene.lost(scene.client)
        self.assertTrue(scene.upstream.line.disconnecting_at_once)
        scene.turn()
        self.assert_over(scene)

    def fill_kernel(self, line: Line) -> socket.socket:
        """Give a line a real TCP socket that takes no more octets; return its other end."""
        line.close_kernel()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname(), 5)
            theirs, _ = listener.accept()
        line._kernel = ours, theirs
        ours.setblocking(False)
        try:
            while True:
                ours.send(bytes(65536))
        except BlockingIOError:
            return theirs

    def test_octets_that_only_the_kernel_holds(self) -> None:
        """An upstream that takes nothing is reset, also when nothing waits in our transport.

        A close in order would wait for ever in the kernel, behind what the upstream does not take.
        """
        for leaving in ("RST", "FIN"):
            scene = self.scene()
            line = scene.upstream.line
            self.fill_kernel(line)
            LEAVING[leaving](scene)
            self.assertIsNone(line.lost)
            scene.wait(AT_ONCE, 0.01)
            self.assertTrue(line.lost and line.lost.check(ConnectionAborted), leaving)

    def test_octets_that_leave_the_kernel(self) -> None:
        """While the upstream takes what stands before the FIN, it is not reset."""
        scene = self.scene()
        line = scene.upstream.line
        theirs = self.fill_kernel(line)
        scene.fin(scene.client)
        for _ in range(5):
            self.assertGreater(len(theirs.recv(262144)), 0)
            scene.wait(LOOK_INTERVAL)
            self.assertIsNone(line.lost)

    def test_slow_upstream_before_a_fin(self) -> None:
        """An upstream that takes what stands before the FIN gets all of it, and may answer."""
        scene = self.scene()
        line = scene.upstream.line
        scene.client.line.arrive(FLOOD * 5)
        scene.client.line.send_fin()
        got = b""
        while line.full:
            self.assertIsNone(line.lost)
            got += line.take_some(500)
            scene.wait(0.03, 0.01)
        self.assertEqual(FLOOD * 5, got + line.take())
        self.assertTrue(line.half_closed)
        scene.octets(scene.upstream)
        self.assertEqual(TEXT, scene.client.line.written)
        line.send_fin()
        scene.turn()
        self.assert_over(scene)

    def test_upstream_that_reads_on(self) -> None:
        """A Close among octets that nobody reads yet is heard: nothing before it is lost."""
        scene = self.scene()
        line = scene.upstream.line
        scene.client.line.arrive(FLOOD * 5)
        scene.client.line.arrive(TEXT * 3 + CLOSE)
        scene.client.line.send_fin()
        got = b""
        while line.full:
            self.assertIsNone(line.lost)
            got += line.take_some(500)
            scene.wait(0.03, 0.01)
        self.assertEqual(FLOOD * 5 + TEXT * 3 + CLOSE, got + line.take())
        self.assertTrue(line.half_closed)
        line.send_fin()
        scene.wait(AT_ONCE)
        self.assert_over(scene)

    def test_secure(self) -> None:
        """So it is under TLS."""
        for phase, leaving in product(PHASES, ("FIN", "RST")):
            scene = self.scene(line=SecureLine)
            PHASES[phase](scene)
            LEAVING[leaving](scene)
            scene.wait(AT_ONCE)
            if leaving == "FIN" and phase == "upstream full":
                scene.wait(AT_ONCE)  # it is not read until the kernel tells of it
            self.assertIsNotNone(scene.upstream.line.lost, (phase, leaving))

    def test_upstream_leaves(self) -> None:
        """The client gets all that came before, then a FIN, and no Close is made up."""
        for leave in (Scene.fin, Scene.lost):
            scene = self.scene()
            scene.upstream.line.arrive(TEXT)
            leave(scene, scene.upstream)
            self.assertEqual((TEXT, 1), (scene.client.line.written, scene.client.line.fins))
            scene.fin(scene.client)
            scene.turn()
            self.assert_over(scene)
            self.assertIsInstance(scene.pair.error, ResponseIncomplete)
            self.assertFalse(scene.pair.client_left)


class ClosingTests(SceneTestCase):
    """One end has sent a Close and a FIN; the other has still to answer.  RFC 6455 7.1.1."""

    def half_closed(self, side: str, limits: Limits = PLAIN) -> tuple[Scene, Peer, Peer]:
        """Return a scene, the end that has sent its Close and FIN, and the other one."""
        scene = self.scene(limits)
        peer, other = scene.peers if side == "client" else scene.peers[::-1]
        scene.says_close(peer)
        scene.fin(peer)
        self.assertEqual((CLOSE, 1), (other.line.written, other.line.fins))
        self.assertEqual(0, peer.line.fins)
        return scene, peer, other

    def test_answer(self) -> None:
        """What the other end sends is delivered, its Close too; then all is over at once."""
        for side in ("client", "upstream"):
            scene, peer, other = self.half_closed(side)
            scene.octets(other)
            scene.says_close(other)
            self.assertEqual(TEXT + CLOSE, peer.line.written)
            scene.fin(other)
            scene.turn()
            self.assert_over(scene)
            self.assertEqual((None, False), (scene.pair.error, scene.pair.client_left))

    def assert_told(self, scene: Scene, peer: Peer, other: Peer, close_code: int) -> None:
        """Check that the end that still listens was told, and the other not once more."""
        self.assertEqual([close_code], peer.end.closes)
        self.assertEqual(1, peer.line.fins)
        self.assertEqual([], other.end.closes)
        self.assertEqual(CLOSE, other.line.written)
        scene.fin(other)
        scene.turn()
        self.assert_over(scene)

    def test_message_too_big(self) -> None:
        """A message that is too big ends the wait for the answer, and the log says so."""
        kinds = {"client": UpstreamMessageTooBig, "upstream": ClientMessageTooBig}
        for side, kind in kinds.items():
            scene, peer, other = self.half_closed(side, Limits(max_message=100, idle=IDLE))
            scene.octets(other)
            other.line.arrive(LARGE)
            self.assertIsInstance(scene.pair.error, kind)
            self.assertTrue(peer.line.written.startswith(TEXT + b"\x88"))
            self.assert_told(scene, peer, other, TOO_BIG)

    def test_shut_down(self) -> None:
        """The proxy ends: the end that waits for an answer gets 1001 instead."""
        for side in ("client", "upstream"):
            scene, peer, other = self.half_closed(side)
            scene.pair.shut_down()
            self.assertIsInstance(scene.pair.error, Unavailable)
            self.assert_told(scene, peer, other, GOING_AWAY)

    def test_silence(self) -> None:
        """The limit of silence goes on."""
        for side in ("client", "upstream"):
            scene, peer, other = self.half_closed(side, Limits(ws_idle=2.0, idle=IDLE))
            scene.wait(1.5)
            self.assertEqual([], peer.end.closes)
            scene.wait(1.5)
            self.assertIsInstance(scene.pair.error, ReadTimeout)
            self.assert_told(scene, peer, other, GOING_AWAY)

    def test_answer_that_does_not_come(self) -> None:
        """Both are cut off after LINGER_SECONDS without a movement, and not before."""
        for side in ("client", "upstream"):
            scene, _, _ = self.half_closed(side)
            scene.wait(LINGER_SECONDS - 0.1)
            self.assertEqual([None, None], [each.line.lost for each in scene.peers])
            scene.wait(0.2)
            self.assert_over(scene)

    def test_long_answer(self) -> None:
        """An answer may take as long as it likes while something comes."""
        for side in ("client", "upstream"):
            scene, peer, other = self.half_closed(side)
            for _ in range(4):
                scene.wait(LINGER_SECONDS / 2)
                scene.octets(other)
                peer.line.take()
            scene.says_close(other)
            self.assertEqual(TEXT * 4 + CLOSE, peer.line.written)

    def test_lost_behind_its_close(self) -> None:
        """An end that is gone pauses nobody: what still comes for it is read, and dropped."""
        for side in ("client", "upstream"):
            scene = self.scene()
            peer, other = scene.peers if side == "client" else scene.peers[::-1]
            other.line.arrive(FLOOD)
            other.line.arrive(TEXT)
            self.assertTrue(other.line.paused)
            scene.says_close(peer)
            scene.lost(peer)
            scene.turn()
            sent = scene.pair.sent
            self.assertFalse(other.line.paused)
            scene.octets(other)
            self.assertEqual(sent, scene.pair.sent)
            scene.fin(other)
            scene.turn()
            self.assert_over(scene)

    def test_slow_reader(self) -> None:
        """An end that takes none of the octets that wait for it has the limit of silence."""
        for side in ("client", "upstream"):
            scene, peer, other = self.half_closed(side)
            other.line.arrive(FLOOD + CLOSE)
            scene.fin(other)
            self.assertTrue(peer.line.full)
            scene.wait(IDLE - 0.2)
            self.assertIsNone(peer.line.lost)
            scene.wait(0.4)
            self.assert_over(scene)


class OwnEndTests(SceneTestCase):
    """The proxy ends it."""

    def test_only_once(self) -> None:
        """The first reason is the one that the ends and the log are told."""
        scene = self.scene()
        scene.pair.end(ReadTimeout("first"))
        scene.pair.shut_down()
        for peer in scene.peers:
            self.assertEqual([GOING_AWAY], peer.end.closes)
            self.assertTrue(peer.line.written.endswith(b"first"))
        self.assertIsInstance(scene.pair.error, ReadTimeout)

    def test_abandon(self) -> None:
        """Nobody is waited for any more; what is written is still sent."""
        for prepare in EVENTS.values():
            scene = self.scene()
            prepare(scene)
            scene.pair.abandon()
            self.assertEqual([scene.pair], scene.ended)
            scene.turn()
            self.assert_over(scene)

    def test_early_octets(self) -> None:
        """Octets that came with the handshake may end it before it was quite open."""
        scene = Scene(Limits(max_message=100), early=LARGE)
        self.addCleanup(scene.close)
        self.assertIsInstance(scene.pair.error, ClientMessageTooBig)
        for peer in scene.peers:
            self.assertEqual([TOO_BIG], peer.end.closes)


class SilenceTests(SceneTestCase):
    """``ws_idle`` and ``ws_ping``: what is a sign of life and what is not."""

    PINGS = 28
    SILENCE = 12
    limits = Limits(ws_idle=SILENCE, ws_ping=1.0)

    def answer(self, scene: Scene, cut: int) -> None:
        """Answer a ping at each end, in two pieces around a sweep."""
        pongs = []
        for peer in scene.peers:
            ping = peer.line.take()[-10:]
            self.assertEqual(b"\x89\x08", ping[:2])
            pong = b"\x8a\x88\0\0\0\0" + ping[2:] if peer is scene.client else b"\x8a" + ping[1:]
            peer.line.arrive(pong[:cut])
            pongs.append(pong[cut:])
        scene.wait(SWEEP, SWEEP)
        for peer, rest in zip(scene.peers, pongs, strict=True):
            peer.line.arrive(rest)
        scene.wait(SWEEP, SWEEP)

    def test_answers_in_two_pieces(self) -> None:
        """A Pong that answers our ping is no sign of life, wherever a sweep cuts it (FIELD 5)."""
        for cut in (1, 2, 3, 6, 9):
            scene = self.scene(self.limits)
            scene.wait(1.0, SWEEP)
            answered = 0
            while not scene.ended and scene.pair.error is None and answered < self.PINGS:
                self.answer(scene, cut)
                answered += 1
            self.assertIsInstance(scene.pair.error, ReadTimeout, cut)
            # The beginning of a header counts until it is seen to be a Pong's.
            self.assertLessEqual(answered, self.SILENCE + 2, cut)
            self.assertEqual(
                [[GOING_AWAY]] * 2, [peer.end.closes for peer in scene.peers], "no Pong passed"
            )
            self.assertEqual([b"", b""], [peer.end.passed for peer in scene.peers])

    def test_other_pongs(self) -> None:
        """Any other frame of an end is a sign of life, a Pong too."""
        scene = self.scene(self.limits)
        for _ in range(5):
            scene.wait(5, SWEEP)
            scene.upstream.line.arrive(b"\x8a\x00")
            scene.client.line.take()
            scene.upstream.line.take()
        self.assertIsNone(scene.pair.error)

    def test_full_end(self) -> None:
        """An end that has still to take other octets gets no Ping, now or later."""
        for peer, other in ((0, 1), (1, 0)):
            scene = self.scene(self.limits)
            full, sender = scene.peers[peer], scene.peers[other]
            sender.line.arrive(FLOOD)
            scene.wait(3, SWEEP)
            self.assertEqual(FLOOD, full.line.take())
            scene.turn()
            self.assertEqual([], full.end.own)
            self.assertEqual([9] * 3, [opcode for _, opcode in sender.end.own])
            scene.wait(1, SWEEP)
            self.assertEqual([9], [opcode for _, opcode in full.end.own])

    def test_beginning_of_a_frame(self) -> None:
        """So is the beginning of a header, which waits here for its rest (FIELD 4)."""
        scene = self.scene(self.limits)
        for octet in b"\x82\x7e\x01":
            scene.wait(10, SWEEP)
            scene.upstream.line.arrive(bytes([octet]))
        scene.wait(10, SWEEP)
        self.assertIsNone(scene.pair.error)

    def test_small_frame_behind_a_pong_that_was_cut(self) -> None:
        """Octets are a sign of life however many of a Pong's were held before."""
        scene = self.scene(self.limits)
        scene.wait(1.0, SWEEP)
        self.answer(scene, 5)
        for _ in range(3):
            scene.wait(9, SWEEP)
            scene.upstream.line.arrive(b"\x81\x00")
        self.assertIsNone(scene.pair.error)


class TuneTests(SynchronousTestCase):
    """The upstream's socket, once it is a WebSocket's."""

    def test_options(self) -> None:
        """The kernel ends the connection of an upstream that vanished, or takes nothing."""
        reactor: Any = MemoryReactorClock()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname(), 5)
            ours, _ = listener.accept()
        self.addCleanup(theirs.close)
        self.addCleanup(ours.close)
        nobody: Any = None
        transport: Any = tcp.Server(ours, nobody, ("127.0.0.1", 1), nobody, 1, reactor)
        client, upstream = End(), End()
        line: Any = Line(reactor)
        client.makeConnection(line)
        upstream.makeConnection(transport)
        option = ours.getsockopt
        self.assertFalse(option(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        Pair(client, upstream, Limits(idle=7.5), reactor, Sweeper(reactor, 1.0), lambda pair: None)
        self.assertTrue(option(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        self.assertTrue(option(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            self.assertEqual(7500, option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
