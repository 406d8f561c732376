"""How an entry in memory is written: key, packed head and a small content in one piece.

One piece of octets costs Python 33 octets and its garbage collector nothing, where objects that
refer to each other cost four times that, and have to be looked at.
"""

from __future__ import annotations

import struct

SMALL_BYTES = 512
"""The longest content that a record holds."""

_LENGTH = struct.Struct("<I")


def beginning(key: bytes) -> bytes:
    """Return how the records of a key begin, and no others."""
    return _LENGTH.pack(len(key)) + key


def written(key: bytes, head: bytes, content: bytes) -> bytes:
    """Return a record.  Args: a packed head; a content, none if it is elsewhere."""
    return b"".join((_LENGTH.pack(len(key)), key, _LENGTH.pack(len(head)), head, content))


def key_of(record: bytes) -> bytes:
    """Return the key that a record is of."""
    return record[4 : 4 + _LENGTH.unpack_from(record)[0]]


def read(record: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the key, the packed head and the content that a record was made of."""
    middle = 4 + _LENGTH.unpack_from(record)[0]
    start = middle + 4
    end = start + _LENGTH.unpack_from(record, middle)[0]
    return record[4:middle], record[start:end], record[end:]
