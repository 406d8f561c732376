"""SIEVE: what leaves a full cache, in constant time.

New entries stand at the head of a queue; a hand goes from its tail to its head and takes the first
entry that was not asked for since it last came by.  An entry that was is spared once, where it
stands.  Source: Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024, which has its hit rates on
1,559 traces; ``benchmarks/eviction.py`` has ours.

An entry is a place, a number from 1 on: the queue is linked in arrays and takes 9 octets for each.
"""

from __future__ import annotations

from array import array


class Sieve:
    """A queue with a hand.  Every call takes constant time, ``victim`` on average.

    Places have no gaps: where one is removed, the last one moves to.

    Attributes:
        visited: by place, 1 if it was asked for since the hand last came by.
    """

    __slots__ = ("_hand", "_newer", "_older", "visited")

    def __init__(self) -> None:
        # Place 0 is nobody's: it stands between the newest and the oldest.
        self._newer = array("I", (0,))
        self._older = array("I", (0,))
        self.visited = bytearray(1)
        self._hand = 0

    def add(self) -> int:
        """Let a new entry stand at the head; return its place."""
        place, newest = len(self._newer), self._older[0]
        self._newer.append(0)
        self._older.append(newest)
        self.visited.append(0)
        self._newer[newest] = self._older[0] = place
        return place

    def remove(self, place: int) -> None:
        """Take an entry out, wherever it stands."""
        newer, older, visited = self._newer, self._older, self.visited
        after, before = newer[place], older[place]
        newer[before], older[after] = after, before
        if self._hand == place:
            self._hand = after
        last = len(newer) - 1
        if place != last:
            after, before = newer[place], older[place] = newer[last], older[last]
            newer[before] = older[after] = place
            visited[place] = visited[last]
            if self._hand == last:
                self._hand = place
        newer.pop()
        older.pop()
        visited.pop()

    def victim(self) -> int:
        """Return who has to go, who stays in the queue; 0 when it is empty."""
        newer, visited = self._newer, self.visited
        place = self._hand or newer[0]
        while visited[place]:
            visited[place] = 0
            place = newer[place] or newer[0]
        self._hand = place
        return place

    def trim(self) -> None:
        """Hold no more memory than is needed: arrays do not give it back by themselves."""
        self._newer = self._newer[:]
        self._older = self._older[:]
