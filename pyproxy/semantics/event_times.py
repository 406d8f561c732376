"""When the events of a stream came, and where they end, in few octets."""

from __future__ import annotations

import sys
from array import array

import attrs

MAX_EVENTS = 10_000
"""Events of one stream that are remembered; a longer one is not stored."""

EVENT_BYTES = 12
"""Octets that are written down for an event: its end, and how many milliseconds after the head."""

_MOST_MS = 2**32 - 1


@attrs.define
class EventTimes:
    """Events in the order in which they came: a stored one takes 12 octets and not 150.

    Attributes:
        ends: octets from the beginning of the stream to the end of each.
        after_ms: milliseconds from the head to each.
    """

    ends: array[int] = attrs.Factory(lambda: array("Q"))
    after_ms: array[int] = attrs.Factory(lambda: array("I"))

    def add(self, ends: list[int], seconds: float) -> None:
        """Take note of events that came together."""
        after = min(max(0, round(seconds * 1000)), _MOST_MS)
        self.ends.extend(ends)
        self.after_ms.extend([after] * len(ends))

    def pack(self) -> bytes:
        """Write them down."""
        return _in_order(self.ends).tobytes() + _in_order(self.after_ms).tobytes()

    @classmethod
    def unpack(cls, octets: bytes) -> EventTimes:
        """Read what was written down.  Raises: ValueError for what was not."""
        count, rest = divmod(len(octets), EVENT_BYTES)
        if rest or count > MAX_EVENTS:
            raise ValueError("these are no events")
        events = cls()
        events.ends.frombytes(octets[: 8 * count])
        events.after_ms.frombytes(octets[8 * count :])
        return cls(_in_order(events.ends), _in_order(events.after_ms))


def _in_order(numbers: array[int], order: str = sys.byteorder) -> array[int]:
    """Return numbers whose octets are in little-endian order, or are again in the machine's."""
    if order == "little":
        return numbers
    turned = array(numbers.typecode, numbers)
    turned.byteswap()
    return turned
