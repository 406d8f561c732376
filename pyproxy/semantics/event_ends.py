"""Where the events of an event stream end.  Spec: WHATWG HTML 9.2.5, 9.2.6."""

from __future__ import annotations

import re

from pyproxy.semantics.fields import Octets

# The first blank line behind a line that is none: where others follow, nothing ends with them.
_end = re.compile(rb"(?<=[^\r\n])(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?=[^\n]))").finditer

_HELD = 4
"""Octets before the next one that may be the beginning of an end: the longest is ``x CR LF CR``."""


class EventEnds:
    """Finds the ends of events in a stream that comes in pieces, wherever it is cut.

    Attributes:
        count: octets that have come.
    """

    __slots__ = ("_tail", "count")

    def __init__(self) -> None:
        self.count = 0
        self._tail = b""

    def feed(self, octets: Octets) -> list[int]:
        """Take octets; return the places behind the blank lines that end in them.

        Behind a blank line of CR alone the next octet may belong to it: such an end is told with
        what follows, and never at the end of the stream.
        """
        text = self._tail + bytes(octets)
        start = self.count - len(self._tail)
        self.count += len(octets)
        ends = [match.end() for match in _end(text)]
        # What has been told is not looked at again.
        self._tail = text[max(len(text) - _HELD, ends[-1] if ends else 0) :]
        return [start + end for end in ends]
