"""Content in memory: blocks of one size, which many readers share without a copy."""

from __future__ import annotations

from pyproxy.cache.seams import BLOCK_BYTES
from pyproxy.semantics.fields import Octets


class Blocks:
    """Octets that grow at their end.

    Attributes:
        count: how many there are.
    """

    __slots__ = ("_blocks", "_tail", "count")

    def __init__(self, octets: bytes = b"") -> None:
        self.count = 0
        self._blocks: list[bytes] = []
        self._tail = bytearray()
        if octets:
            self.append(octets)

    @classmethod
    def of(cls, block: bytes) -> Blocks:
        """Return octets of one block, which is not copied."""
        blocks = cls()
        blocks.count = len(block)
        blocks._blocks.append(block)
        return blocks

    def whole(self) -> Blocks | bytes:
        """Return what holds the same octets and grows no more; bytes if they are one block."""
        self.close()
        if len(self._blocks) == 1:
            return self._blocks[0]
        blocks = Blocks()
        blocks.count = self.count
        blocks._blocks = self._blocks
        return blocks

    def append(self, octets: Octets) -> None:
        """Copy octets to the end."""
        self.count += len(octets)
        tail = self._tail
        tail += octets
        if len(tail) >= BLOCK_BYTES:
            whole = len(tail) // BLOCK_BYTES * BLOCK_BYTES
            for start in range(0, whole, BLOCK_BYTES):
                self._blocks.append(bytes(tail[start : start + BLOCK_BYTES]))
            del tail[:whole]

    def close(self) -> None:
        """Grow no more; the last block becomes as the others are."""
        if self._tail:
            self._blocks.append(bytes(self._tail))
            self._tail = bytearray()

    def read(self, start: int) -> bytes:
        """Return the octets from a place to the end of its block; none behind the last."""
        number, offset = divmod(start, BLOCK_BYTES)
        if number < len(self._blocks):
            block = self._blocks[number]
            return block[offset:] if offset else block
        return bytes(self._tail[offset:]) if number == len(self._blocks) else b""

    def hold(self) -> None:
        """Nothing has to be done: a reader's reference holds."""

    def release(self) -> None:
        """Nothing has to be done."""
