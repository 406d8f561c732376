"""Counted pauses."""

from __future__ import annotations

from itertools import permutations

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.relay.pausing import Hold, Valve

HOLDERS = (Hold.FULL, Hold.UNCLAIMED, Hold.PIPELINE)


class ValveTests(SynchronousTestCase):
    """A flow runs again only when the last of its holders lets go."""

    def setUp(self) -> None:
        """Put a valve on a transport."""
        self.transport = StringTransport()
        self.valve = Valve(self.transport)

    def test_last_holder_resumes(self) -> None:
        """In whatever order holders come and go."""
        for coming in permutations(HOLDERS):
            for going in permutations(HOLDERS):
                for holder in coming:
                    self.valve.hold(holder)
                for holder in going:
                    self.assertEqual("paused", self.transport.producerState)
                    self.assertTrue(self.valve.held)
                    self.valve.release(holder)
                self.assertEqual("producing", self.transport.producerState)
                self.assertFalse(self.valve.held)

    def test_holding_twice(self) -> None:
        """Each holds at most once."""
        self.valve.hold(Hold.FULL)
        self.valve.hold(Hold.FULL)
        self.valve.release(Hold.FULL)
        self.assertEqual("producing", self.transport.producerState)

    def test_releasing_together(self) -> None:
        """Several may let go at once, those who hold nothing too."""
        self.valve.hold(Hold.FULL)
        self.valve.hold(Hold.PIPELINE)
        self.valve.release(Hold.FULL | Hold.UNCLAIMED | Hold.PIPELINE)
        self.assertEqual("producing", self.transport.producerState)

    def test_releasing_nothing(self) -> None:
        """Letting go of a flow that nobody holds does not touch it: it may be stopped."""
        self.transport.stopProducing()
        self.valve.release(Hold.FULL)
        self.assertEqual("stopped", self.transport.producerState)
