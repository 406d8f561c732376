"""Where the entries of a key are, without an object for each.

A table of chains that grows by one chain with each entry, so that no call has to move them all:
W. Litwin, "Linear hashing", VLDB 1980.  The hashes are Python's, which a client cannot foresee.
Whose key it is, the record says; ``records`` has how it is written.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterator
from typing import TypeVar

from pyproxy.cache.blocks import Blocks
from pyproxy.cache.records import beginning, key_of

Kept = TypeVar("Kept")

_BITS = 0xFFFF_FFFF
"""What is kept of a hash and of a serial number."""


def unseen(kept: list[Kept]) -> list[Kept]:
    """Return a list that is never looked at; nothing in it may refer to it.

    A list of a million octet strings takes 50 ms whenever all generations are collected, and as
    strings do not count as objects that stay, that is often.
    """
    ctypes.pythonapi.PyObject_GC_UnTrack(ctypes.py_object(kept))
    return kept


class Index:
    """Records by place, a number from 1 on, and places by key.  Every call takes constant time.

    Places have no gaps: where one is removed, the last one moves to.

    Attributes:
        records: what is known of an entry.
        contents: its content, if the record has it not.
        serials: tells an entry from all others that ever were here.
    """

    __slots__ = (
        "_added",
        "_chains",
        "_following",
        "_hashes",
        "_mask",
        "contents",
        "records",
        "serials",
    )

    def __init__(self) -> None:
        # Place 0 is nobody's: chains end there.  There are as many chains as places.
        self.records = unseen([b""])
        self.contents: list[Blocks | bytes | None] = unseen([None])
        self.serials = array("I", (0,))
        self._hashes = array("I", (0,))
        self._following = array("I", (0,))
        self._chains = array("I", (0,))
        self._mask = 0
        self._added = 0

    def __len__(self) -> int:
        return len(self.records) - 1

    def __iter__(self) -> Iterator[bytes]:
        """Yield the key of each entry."""
        return (key_of(record) for record in self.records[1:])

    def find(self, key: bytes) -> list[int]:
        """Return the places of a key, the last one first: so all can be removed in turn."""
        found = []
        mark = hash(key) & _BITS
        start = beginning(key)
        place = self._chains[self._chain(mark)]
        while place:
            if self._hashes[place] == mark and self.records[place].startswith(start):
                found.append(place)
            place = self._following[place]
        if len(found) > 1:
            found.sort(reverse=True)
        return found

    def add(self, record: bytes, content: Blocks | bytes | None) -> int:
        """Have an entry more; return its place, which is the next one."""
        place = len(self.records)
        self._added += 1
        mark = hash(key_of(record)) & _BITS
        self.records.append(record)
        self.contents.append(content)
        self.serials.append(self._added & _BITS)
        self._hashes.append(mark)
        self._split()
        chain = self._chain(mark)
        self._following.append(self._chains[chain])
        self._chains[chain] = place
        return place

    def remove(self, place: int) -> None:
        """Have an entry no more."""
        last = len(self.records) - 1
        self._lead(place, self._following[place])
        if place != last:
            self._lead(last, place)
            self.records[place] = self.records[last]
            self.contents[place] = self.contents[last]
            self.serials[place] = self.serials[last]
            self._hashes[place] = self._hashes[last]
            self._following[place] = self._following[last]
        self.records.pop()
        self.contents.pop()
        self.serials.pop()
        self._hashes.pop()
        self._following.pop()
        self._merge()

    def trim(self) -> None:
        """Hold no more memory than is needed: arrays do not give it back by themselves."""
        self.serials = self.serials[:]
        self._hashes = self._hashes[:]
        self._following = self._following[:]
        self._chains = self._chains[:]

    def _chain(self, mark: int) -> int:
        """Return the chain of a hash."""
        chain = mark & self._mask
        return chain if chain < len(self._chains) else chain & self._mask >> 1

    def _lead(self, place: int, to: int) -> None:
        """Let what leads to a place lead to another one."""
        following = self._following
        chain = self._chain(self._hashes[place])
        here = self._chains[chain]
        if here == place:
            self._chains[chain] = to
            return
        while following[here] != place:
            here = following[here]
        following[here] = to

    def _split(self) -> None:
        """Have a chain more; it gets its part of the one that it was in."""
        new = len(self._chains)
        if new > self._mask:
            self._mask = self._mask << 1 | 1
        old = new & self._mask >> 1
        here = self._chains[old]
        stay = go = 0
        while here:
            after = self._following[here]
            if self._hashes[here] & self._mask == new:
                self._following[here], go = go, here
            else:
                self._following[here], stay = stay, here
            here = after
        self._chains[old] = stay
        self._chains.append(go)

    def _merge(self) -> None:
        """Have a chain less; what is in it goes back to where it was."""
        here = start = self._chains.pop()
        new = len(self._chains)
        old = new & self._mask >> 1
        if start:
            while self._following[here]:
                here = self._following[here]
            self._following[here] = self._chains[old]
            self._chains[old] = start
        if new == self._mask + 1 >> 1:
            self._mask >>= 1
