"""Blocks that several readers have in common: those read last, and those that are being read.

Who comes to a place shortly after another gets the same octets, which are in memory once.
"""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

MAX_SHARED = 64
"""Blocks that are remembered, of all contents together; with BLOCK_BYTES each that is 4 MiB."""

Place = tuple[bytes, int]
"""A block: the mark of its file and its number."""


@attrs.define(eq=False)
class Shared:
    """The blocks of a store.

    Attributes:
        under_way: blocks that are being read, each with those who wait for it besides the first.
    """

    under_way: dict[Place, list[Deferred[bytes]]] = attrs.Factory(dict)
    _blocks: dict[Place, bytes] = attrs.Factory(dict)

    def get(self, place: Place) -> bytes | None:
        """Return a block that was read not long ago."""
        block = self._blocks.pop(place, None)
        if block is not None:
            self._blocks[place] = block
        return block

    def put(self, place: Place, block: bytes) -> None:
        """Remember a block for a while, and the one least wanted no more."""
        self._blocks[place] = block
        if len(self._blocks) > MAX_SHARED:
            del self._blocks[next(iter(self._blocks))]

    def join(self, place: Place) -> Deferred[bytes] | None:
        """Wait for a block that is being read; None when it is not."""
        waiting = self.under_way.get(place)
        if waiting is None:
            return None
        one: Deferred[bytes] = Deferred()
        waiting.append(one)
        return one

    def first(self, place: Place, reading: Deferred[bytes]) -> Deferred[bytes]:
        """Have others wait for what is being read from now on."""
        self.under_way[place] = []
        return reading.addCallbacks(
            self._came, self._lost, callbackArgs=(place,), errbackArgs=(place,)
        )

    def _came(self, block: bytes, place: Place) -> bytes:
        self.put(place, block)
        for one in self.under_way.pop(place):
            one.callback(block)
        return block

    def _lost(self, failure: Failure, place: Place) -> Failure:
        for one in self.under_way.pop(place):
            one.errback(failure)
        return failure

    def clear(self) -> None:
        """Remember none."""
        self._blocks.clear()
