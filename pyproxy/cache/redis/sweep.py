"""Going through all entries that lie in a Redis, a slice at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pyproxy.cache.packing import Unreadable
from pyproxy.cache.redis.record import Names, Record, read_record
from pyproxy.cache.redis.scripts import HEADS
from pyproxy.sharing.redis import RedisClient
from pyproxy.sharing.redis_errors import RedisTrouble
from pyproxy.sharing.resp import Reply

SLICE = 200
"""Keys that Redis looks at before it does something for others."""

SLICE_BYTES = 1024 * 1024
"""Octets of heads that come at once, and those of one key more."""

SWEEP_LIMIT = 5.0
"""Seconds for one slice."""


class OddReply(RedisTrouble):
    """Redis answered with something else than it does."""


async def sweep(client: RedisClient, names: Names) -> AsyncIterator[tuple[bytes, Record]]:
    """Yield the field and the record of each entry, without contents; some may come twice.

    Raises: RedisTrouble.
    """
    cursor = b"0"
    while True:
        words = (b"SCAN", cursor, b"MATCH", names.all_heads + b"*", b"COUNT", SLICE)
        cursor, keys = scanned(await client.call(*words, limit=SWEEP_LIMIT))
        while keys:
            reply = await client.run(HEADS, keys[:SLICE], [SLICE_BYTES], SWEEP_LIMIT)
            if not isinstance(reply, list) or not reply or not isinstance(reply[0], int):
                raise OddReply("Redis gives no heads")
            for field, octets in zip(reply[1::2], reply[2::2], strict=False):
                try:
                    record = read_record(octets, with_content=False)
                except Unreadable:
                    # Another version's; it is of no use to this one, and none of its business.
                    continue
                if isinstance(field, bytes):
                    yield field, record
            keys = keys[max(1, reply[0]) :]
        if cursor == b"0":
            return


def scanned(reply: Reply) -> tuple[bytes, list[bytes]]:
    """Return the cursor and the keys of a reply to SCAN.  Raises: OddReply."""
    if isinstance(reply, list) and len(reply) == 2:
        cursor, keys = reply
        if isinstance(cursor, bytes) and isinstance(keys, list):
            return cursor, [key for key in keys if isinstance(key, bytes)]
    raise OddReply("Redis gives no keys")
