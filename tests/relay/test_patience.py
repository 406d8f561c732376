"""How long the ends of a WebSocket that is ending may take."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.relay.ends import RelayedEnd
from pyproxy.relay.lookout import LINGER_SECONDS, LOOK_INTERVAL
from pyproxy.relay.patience import Patience
from tests.memory import CLIENT, PROXY, MemoryTransport

IDLE = 20.0


class Line(MemoryTransport):
    """A connection of which the test says how much waits in it."""

    dataBuffer = b""


class PatienceTests(SynchronousTestCase):
    """What is remembered, and what follows from it."""

    def setUp(self) -> None:
        """Make an end that nobody waits for yet."""
        self.patience = Patience(IDLE)
        line: Any = Line(Clock(), PROXY, CLIENT)
        self.line = line
        self.addCleanup(self.line.close_kernel)
        self.end: Any = RelayedEnd()
        self.end.makeConnection(self.line)

    def overdue(self, now: float) -> bool:
        """Tell whether the upstream is overdue."""
        return self.patience.upstream_is_overdue(self.line, now)

    def over(self, now: float, came: int = 0) -> bool:
        """Tell whether the end's time is over."""
        return self.patience.is_over(self.end, (came, 0), now)

    def test_nobody_left(self) -> None:
        """An upstream whose client is there is not overdue."""
        self.assertFalse(self.overdue(1e6))
        self.assertFalse(self.patience.half_closed)

    def test_forsaken(self) -> None:
        """An upstream whose client is gone has one look."""
        self.patience.forsaken_at = 1.0
        self.assertFalse(self.overdue(1.001))
        self.assertTrue(self.overdue(1.0 + LOOK_INTERVAL))

    def test_fin_that_has_left(self) -> None:
        """A FIN that nothing stands before needs no look: the upstream has it."""
        self.patience.pass_fin(self.line, 1.0)
        self.assertTrue(self.patience.half_closed)
        self.assertFalse(self.overdue(1e6))

    def test_fin_behind_octets(self) -> None:
        """From one look to the next something has to leave, until nothing is left."""
        self.line.dataBuffer = bytes(100)
        self.patience.pass_fin(self.line, 1.0)
        self.assertFalse(self.overdue(1.001), "that was no time")
        for look, left in enumerate((90, 50, 49), 1):
            self.line.dataBuffer = bytes(left)
            self.assertFalse(self.overdue(1.0 + look * LOOK_INTERVAL))
        self.assertTrue(self.overdue(1.0 + 4 * LOOK_INTERVAL))

    def test_stillness(self) -> None:
        """An end has LINGER_SECONDS from the last movement on."""
        self.assertFalse(self.over(1.0))
        self.assertFalse(self.over(1.0 + LINGER_SECONDS - 0.1))
        self.assertFalse(self.over(1.0 + LINGER_SECONDS, came=1))
        self.assertFalse(self.over(2 * LINGER_SECONDS, came=1))
        self.assertTrue(self.over(1.0 + 2 * LINGER_SECONDS, came=1))

    def test_octets_to_take(self) -> None:
        """An end that has octets to take has the limit of silence."""
        self.line.dataBuffer = bytes(100)
        self.assertFalse(self.over(1.0))
        self.assertFalse(self.over(IDLE))
        self.assertTrue(self.over(1.0 + IDLE))
