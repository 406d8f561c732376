"""Where the events of an event stream end.  Spec: WHATWG HTML 9.2.5, 9.2.6."""

from __future__ import annotations

import re

from pyproxy.semantics.fields import Octets

_blank_line = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?=[^\n]))").finditer

_HELD = 3


class EventEnds:
    """Finds the ends of events in a stream that comes in pieces.

    Attributes:
        count: octets that have come.
    """

    __slots__ = ("_tail", "_told", "count")

    def __init__(self) -> None:
        self.count = 0
        self._tail = b""
        self._told = 0

    def feed(self, octets: Octets) -> list[int]:
        """Take octets; return the places behind the blank lines that end in them."""
        text = self._tail + bytes(octets)
        start = self.count - len(self._tail)
        self.count += len(octets)
        ends = [start + match.end() for match in _blank_line(text)]
        # A CR at the end may be half of a CRLF: that end is told with what follows.
        found = [end for end in ends if end > self._told]
        if found:
            self._told = found[-1]
        self._tail = text[-_HELD:]
        return found
