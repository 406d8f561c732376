"""When events came, written down."""

from __future__ import annotations

import sys
from array import array

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics import event_times
from pyproxy.semantics.event_times import EVENT_BYTES, MAX_EVENTS, EventTimes


class EventTimesTests(SynchronousTestCase):
    """Events take few octets, and come back."""

    @given(st.lists(st.tuples(st.integers(0, 2**63), st.integers(0, 2**32 - 1)), max_size=9))
    def test_round(self, pairs: list[tuple[int, int]]) -> None:
        """What is packed comes back."""
        events = EventTimes(
            array("Q", [end for end, _ in pairs]), array("I", [after for _, after in pairs])
        )
        packed = events.pack()
        self.assertEqual(EVENT_BYTES * len(pairs), len(packed))
        self.assertEqual(events, EventTimes.unpack(packed))

    def test_octets(self) -> None:
        """The octets are the same on every machine, the lowest first."""
        events = EventTimes()
        events.add([1, 2], 0.003)
        self.assertEqual(
            b"\1" + bytes(7) + b"\2" + bytes(7) + (b"\3" + bytes(3)) * 2, events.pack()
        )
        numbers = array("I", [1])
        turned = event_times._in_order(numbers, "big")
        self.assertEqual(array("I", [1 << 24]), turned)
        self.assertEqual(numbers, event_times._in_order(turned, "big"))
        self.assertEqual([1], list(numbers))
        self.assertIn(sys.byteorder, ("little", "big"))

    def test_times(self) -> None:
        """A clock that was set back, or a stream that lasts for months, is no error."""
        events = EventTimes()
        for seconds in (-5.0, 0.0005, 1.2345, 1e9):
            events.add([1], seconds)
        events.add([], 1.0)
        self.assertEqual([0, 0, 1234, 2**32 - 1], list(events.after_ms))

    def test_no_events(self) -> None:
        """What is no whole number of events, or too many, is refused."""
        self.assertEqual(EventTimes(), EventTimes.unpack(b""))
        for count in (1, EVENT_BYTES - 1, EVENT_BYTES + 1, EVENT_BYTES * (MAX_EVENTS + 1)):
            with self.assertRaises(ValueError):
                EventTimes.unpack(bytes(count))
        self.assertEqual(MAX_EVENTS, len(EventTimes.unpack(bytes(EVENT_BYTES * MAX_EVENTS)).ends))
