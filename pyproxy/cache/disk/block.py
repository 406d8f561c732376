"""A block of a content in a file: its checksum, and reading it, with and without a wait.

Behind each 64 KiB of content, and behind the rest, stands a CRC-32 of it, begun with the mark of
the file and the number of the block.  It finds what accidents do: a bit that turned over, or a part
of the disk that was not written, is of another file, or belongs elsewhere in this one; what is
wholly foreign passes once in 2**32 times.  It is no guard against who can write in the folder, who
could as well write a new file.
"""

from __future__ import annotations

import errno
import os
from zlib import crc32

import attrs

from pyproxy.cache.seams import BLOCK_BYTES

CHECKSUM_BYTES = 4

STRIDE_BYTES = BLOCK_BYTES + CHECKSUM_BYTES
"""Octets from the beginning of a block to that of the next."""

NO_WAIT: int = getattr(os, "RWF_NOWAIT", 0)
"""Asks the kernel for what it has in memory, and for nothing else; 0 where it cannot be asked."""

_NEVER = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""What a file system says that does not know NO_WAIT."""


class Torn(Exception):
    """A file is not what was written."""


class Handle:
    """An open file, until nobody refers to it any more."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


@attrs.frozen
class Extent:
    """Where a content is in a file.  Attributes: mark of the file; start and count, in octets."""

    mark: bytes
    start: int
    count: int

    def place(self, number: int) -> tuple[int, int]:
        """Return where a block begins in the file, and its octets without the checksum."""
        length = min(BLOCK_BYTES, self.count - number * BLOCK_BYTES)
        return self.start + number * STRIDE_BYTES, length


def room_for(count: int) -> int:
    """Return the octets that so many octets of content take, with their checksums."""
    return count + CHECKSUM_BYTES * -(-count // BLOCK_BYTES)


def checksum(mark: bytes, number: int, block: bytes | memoryview) -> bytes:
    """Return the checksum of a block of the content of a file."""
    begun = crc32(number.to_bytes(8, "big"), crc32(mark))
    return crc32(block, begun).to_bytes(CHECKSUM_BYTES, "big")


def read_block(handle: Handle, extent: Extent, number: int) -> bytes:
    """Read one block of a content, and wait for the disk.  Raises: Torn, OSError."""
    place, length = extent.place(number)
    octets = memoryview(os.pread(handle.number, length + CHECKSUM_BYTES, place))
    block = octets[:length]
    if checksum(extent.mark, number, block) != octets[length:] or len(block) != length:
        raise Torn("a block is another")
    return bytes(block)


@attrs.define(eq=False)
class PageCache:
    """Reads what the kernel has in memory, without a wait, in the reactor's thread.

    Attributes:
        works: it can be asked; not on a system or a file system that does not know how.
    """

    works: bool = bool(NO_WAIT)
    _room: memoryview = attrs.Factory(lambda: memoryview(bytearray(STRIDE_BYTES)))

    def read(self, handle: Handle, extent: Extent, number: int) -> bytes | None:
        """Read one block of a content.

        Returns: None when it is not all in memory, cannot be read or is another: who waits for the
            disk learns what it is.
        """
        if not self.works:
            return None
        place, length = extent.place(number)
        room = self._room[: length + CHECKSUM_BYTES]
        try:
            count = os.preadv(handle.number, [room], place, NO_WAIT)
        except OSError as error:
            self.works = error.errno not in _NEVER
            return None
        block = room[:length]
        if count < len(room) or checksum(extent.mark, number, block) != room[length:]:
            return None
        return bytes(block)
