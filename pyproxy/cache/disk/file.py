"""One stored response as a file: how it is laid out, written and read.

A preamble, two slots for the head, and the content in blocks of 64 KiB, the last one shorter::

    magic 8 | mark 16 | octets of a slot 4 | slot | slot | block | checksum 4 | block | ...
    slot:  digest 16 | sequence 8 | octets of content 8 | octets of the packed head 4 | packed head

The mark is random: all digests and checksums are begun with it, so nothing of another file, of an
older one in the same blocks of the disk, or of another place in this file is taken for what was
written here; what a checksum finds is told in ``block``.
The slot with the higher sequence counts.  Another head goes into the other slot in one write: if
that is cut short the old head counts still.  Everything here may wait for the disk and runs in a
store's threads.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import attrs

from pyproxy.cache.disk.block import Extent, Handle, Torn, checksum, room_for
from pyproxy.cache.packing import DIGEST_BYTES, MAX_PACKED, Unreadable, pack, unpack
from pyproxy.cache.seams import BLOCK_BYTES
from pyproxy.semantics.stored import StoredResponse

MAGIC = b"pyproxy\x02"
MARK_BYTES = 16

_PREAMBLE = struct.Struct(">8s16sI")
_SLOT = struct.Struct(">16sQQI")
_SIGNED = struct.Struct(">QQI")

SLACK_BYTES = 512
"""Octets by which a slot is larger than its first head: a validation may bring longer fields."""

INLINE_BYTES = BLOCK_BYTES
"""A content of up to so many octets is read together with its head."""

HEAD_BYTES = 4 * 1024
"""Octets that are read first: the head, and a very short content."""

_NONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
"""What it means that there is no such file; a link is never followed."""

MAX_KNOWN = 256
"""Heads that are remembered as they are packed, since to unpack one is half of a lookup."""

KNOWN_BYTES = 4096
"""Octets that the packed head has at most that is remembered."""

_unpacked = lru_cache(MAX_KNOWN)(unpack)

_COMMON = os.O_CLOEXEC | os.O_NOFOLLOW | getattr(os, "O_NOATIME", 0)


@attrs.frozen(eq=False)
class Read:
    """What is known of a file.

    Attributes:
        extent: where the content is.
        content: all of it, when it is short; None when it has not been read.
        handle: the open file, when the content has not been read.
    """

    extent: Extent
    key: bytes
    head: StoredResponse
    sequence: int
    content: bytes | None = None
    handle: Handle | None = None

    @property
    def mark(self) -> bytes:
        """The mark of the file."""
        return self.extent.mark


def _slot(mark: bytes, size: int, sequence: int, count: int, packed: bytes) -> bytes:
    signed = _SIGNED.pack(sequence, count, len(packed))
    digest = blake2b(
        signed + packed, digest_size=DIGEST_BYTES, key=mark, salt=size.to_bytes(4, "big")
    ).digest()
    return digest + signed + packed


def _room(packed: bytes) -> int:
    """Return the octets of a slot for a head that is like this one."""
    needed = _SLOT.size + len(packed) + max(SLACK_BYTES, len(packed) // 2)
    return -(-needed // 256) * 256


def start_of(slot: int) -> int:
    """Return where the content begins in a file."""
    return _PREAMBLE.size + 2 * slot


def _write(number: int, octets: bytes | memoryview, place: int) -> None:
    view = memoryview(octets)
    while view:
        written = os.pwrite(number, view, place)
        view, place = view[written:], place + written


class Aside:
    """A file that is being written where nobody looks for it.  It belongs to one thread at a time.

    Attributes:
        path: where; it is there from the first octet on.
        handle: the open file.
        start: where the content begins in it; 0 before there is a file.
        count: octets of content that are written.
    """

    __slots__ = ("_error", "_slot", "count", "handle", "mark", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.mark = os.urandom(MARK_BYTES)
        self._slot = 0
        self.count = 0
        self.handle: Handle | None = None
        self._error: OSError | None = None

    @property
    def start(self) -> int:
        """Where the content begins."""
        return start_of(self._slot) if self._slot else 0

    @property
    def size(self) -> int:
        """Octets of the file once it is whole."""
        return self.start + room_for(self.count)

    def append(self, blocks: Sequence[bytes], key: bytes, head: StoredResponse) -> None:
        """Write blocks behind the others; all but the very last have BLOCK_BYTES.

        Args: key and head, for which room is left before the first.
        Raises: OSError, and again each time from then on.
        """
        if self._error is not None:
            raise self._error
        try:
            if self.handle is None:
                self._slot = _room(pack(head, key))
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _COMMON
                self.handle = Handle(os.open(self.path, flags, 0o600))
            for block in blocks:
                number, place = self.count // BLOCK_BYTES, self.start + room_for(self.count)
                _write(self.handle.number, block + checksum(self.mark, number, block), place)
                self.count += len(block)
        except OSError as error:
            self._error = error
            self.discard()
            raise

    def finish(self, key: bytes, head: StoredResponse) -> None:
        """Write what stands around the content.  Raises: OSError."""
        self.append((), key, head)
        packed = pack(head, key)
        if _SLOT.size + len(packed) > self._slot or len(packed) > MAX_PACKED or self.handle is None:
            raise OSError(errno.E2BIG, "the head has outgrown its place")
        slot = _slot(self.mark, self._slot, 1, self.count, packed)
        number = self.handle.number
        preamble = _PREAMBLE.pack(MAGIC, self.mark, self._slot)
        _write(number, b"%b%b" % (preamble, slot.ljust(2 * self._slot, b"\0")), 0)
        now = time.time_ns()
        os.utime(number, ns=(now, now))

    def discard(self) -> None:
        """Have the file no more; who has it open may read on."""
        if self.handle is not None:
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                # A sweep has taken it for one that was left over.
                return


def opened(path: str, write: bool = False) -> Handle | None:
    """Open a file; None when there is none, or something else."""
    try:
        handle = Handle(os.open(path, (os.O_RDWR if write else os.O_RDONLY) | _COMMON))
    except OSError as error:
        if error.errno in _NONE:
            return None
        raise
    return handle if stat.S_ISREG(os.fstat(handle.number).st_mode) else None


def read(handle: Handle, whole: bool = True) -> Read:
    """Read the head of a file; the content too, where it is short and wanted.

    Raises: Torn, OSError.
    """
    number = handle.number
    first = os.pread(number, HEAD_BYTES, 0)
    if len(first) < _PREAMBLE.size:
        raise Torn("it is shorter than its preamble")
    magic, mark, slot = _PREAMBLE.unpack_from(first)
    if magic != MAGIC or not _SLOT.size < slot <= 2 * MAX_PACKED:
        raise Torn("it is no stored response")
    start = start_of(slot)
    if len(first) < start:
        first = os.pread(number, start, 0)
    sequence, count, packed = max(
        _read_slot(first, mark, slot, _PREAMBLE.size),
        _read_slot(first, mark, slot, _PREAMBLE.size + slot),
    )
    if not sequence:
        raise Torn("neither slot has a head")
    try:
        key, head = _unpacked(packed) if len(packed) <= KNOWN_BYTES else unpack(packed)
    except Unreadable as error:
        raise Torn(f"its head cannot be read: {error}") from error
    size = start + room_for(count)
    if os.fstat(number).st_size != size:
        raise Torn("it has another length")
    found = Read(Extent(mark, start, count), key, head, sequence, None, handle)
    if not whole or count > INLINE_BYTES:
        return found
    if len(first) < size:
        first = os.pread(number, size, 0)
    content = first[start : start + count]
    if count and first[start + count : size] != checksum(mark, 0, content):
        raise Torn("its content is another")
    return Read(found.extent, key, head, sequence, content)


def _read_slot(first: bytes, mark: bytes, slot: int, place: int) -> tuple[int, int, bytes]:
    """Return the sequence, the count and the packed head in a slot; zeros for one that is torn."""
    if len(first) < place + slot:
        return 0, 0, b""
    digest, sequence, count, length = _SLOT.unpack_from(first, place)
    if not length or length > slot - _SLOT.size:
        return 0, 0, b""
    packed = first[place + _SLOT.size : place + _SLOT.size + length]
    if _slot(mark, slot, sequence, count, packed)[:DIGEST_BYTES] != digest:
        return 0, 0, b""
    return sequence, count, packed


def mark_in(handle: Handle) -> bytes:
    """Return the mark of a file; none for what is no stored response."""
    preamble = os.pread(handle.number, _PREAMBLE.size, 0)
    if len(preamble) < _PREAMBLE.size or not preamble.startswith(MAGIC):
        return b""
    return preamble[len(MAGIC) : len(MAGIC) + MARK_BYTES]


def write_head(path: str, mark: bytes, key: bytes, head: StoredResponse) -> bool:
    """Give a file another head.

    Returns: False when it is not there any more, or has no room for this head.
    Raises: Torn, OSError.
    """
    handle = opened(path, write=True)
    if handle is None:
        return False
    known = read(handle, whole=False)
    slot = (known.extent.start - _PREAMBLE.size) // 2
    packed = pack(head, key)
    if known.mark != mark or _SLOT.size + len(packed) > slot:
        return False
    sequence = known.sequence + 1
    place = _PREAMBLE.size + (slot if sequence % 2 == 0 else 0)
    _write(handle.number, _slot(mark, slot, sequence, known.extent.count, packed), place)
    return True


def visit(handle: Handle) -> None:
    """Note in a file that it was asked for: its time of access is then after that of its change.

    The kernel does not do that by itself for files that are opened so.
    """
    known = os.fstat(handle.number)
    if known.st_atime_ns <= known.st_mtime_ns:
        os.utime(handle.number, ns=(max(time.time_ns(), known.st_mtime_ns + 1), known.st_mtime_ns))
