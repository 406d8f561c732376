"""Contents that lie in a Redis, and one on its way there.

A content is written and read in pieces of BLOCK_BYTES; no more of it is in memory than what Redis
has not confirmed yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pyproxy.cache.packing import Unreadable
from pyproxy.cache.redis.record import INLINE_BYTES, Record, field_of, new_token, read_record
from pyproxy.cache.redis.scripts import READ
from pyproxy.cache.redis.shelf import FILL_LIFE, LINGER, WRITE_LIMIT, Shelf, ms
from pyproxy.cache.seams import BLOCK_BYTES, ContentLost
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.stored import StoredResponse
from pyproxy.sharing.redis_errors import RedisTrouble
from pyproxy.sharing.resp import Reply

CONTENT_LIMIT = 2.0
"""Seconds that a client who has the head already waits for the next piece of its content."""

_log = Logger()


@attrs.define(eq=False)
class RedisContent:
    """The content of an entry.

    Attributes:
        count: how many octets there are.
    """

    _shelf: Shelf
    _record: Record
    count: int = 0

    def __attrs_post_init__(self) -> None:
        self.count = self._record.count

    @property
    def _name(self) -> bytes:
        return self._shelf.names.contents(self._record.key) + self._record.token

    def read(self, start: int) -> bytes | Deferred[bytes]:
        """Return a piece."""
        size = min(BLOCK_BYTES, self.count - start)
        if size <= 0:
            return b""
        record, shelf = self._record, self._shelf
        if record.content is not None:
            return record.content[start : start + size]
        if record.inline:
            answer = shelf.client.call(
                b"HGET",
                shelf.names.heads(record.key),
                field_of(record.head.varies),
                limit=CONTENT_LIMIT,
            ).addCallback(self._inside, start)
        else:
            answer = read_piece(shelf, self._name, start, size)
        return answer.addCallbacks(self._checked, _lost, callbackArgs=(size,))

    def _inside(self, reply: Reply, start: int) -> Reply:
        """Take the content out of a record."""
        try:
            record = read_record(reply, with_content=True)
        except Unreadable as cause:
            raise ContentLost("the entry is there no more") from cause
        if record.token != self._record.token or record.content is None:
            raise ContentLost("the entry is there no more")
        return record.content[start : start + BLOCK_BYTES]

    def _checked(self, reply: Reply, size: int) -> bytes:
        if not isinstance(reply, bytes) or len(reply) != size:
            self._shelf.forget(field_of(self._record.head.varies), self._record)
            raise ContentLost("Redis has a part of the content no more")
        return reply

    def hold(self) -> None:
        """Have it stay, as long as this machine can say so."""
        if not self._record.inline:
            self._shelf.hold(self._name)

    def release(self) -> None:
        """Have one reader less."""
        if not self._record.inline:
            self._shelf.release(self._name)


def read_piece(shelf: Shelf, name: bytes, start: int, size: int) -> Deferred[Reply]:
    """Read a piece of a content."""
    span = (start, start + size - 1, ms(LINGER))
    return shelf.client.run(READ, [name], span, CONTENT_LIMIT)


def _lost(failure: Failure) -> bytes:
    failure.trap(RedisTrouble, ContentLost)
    raise ContentLost("Redis does not give the content") from failure.value


class RedisFilling:
    """A content on its way into Redis.

    What Redis has confirmed is read from there, the rest from memory.

    Attributes:
        count: how many octets were taken.
    """

    def __init__(
        self, shelf: Shelf, key: bytes, bound: int, ended: Callable[[RedisFilling], None]
    ) -> None:
        """Begin.  Args: octets that it may have; what is told that it is over."""
        self.count = 0
        self._bound = bound
        self._ended = ended
        self._shelf = shelf
        self._key = key
        self._token = new_token()
        self._name = shelf.names.contents(key) + self._token
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._tail = bytearray()
        self._sent = False
        self._failed = False
        self._over = False
        self._unwanted = False
        self._holders = 0
        self._unconfirmed = 1
        begun = shelf.begin(key, self._token)
        begun.addCallbacks(self._begun, self._refused)
        begun.addErrback(lambda failure: _log.failure("a content was lost", failure))

    # writing

    def _begun(self, _: Reply) -> None:
        self._unconfirmed -= 1
        self._settle()

    def write(self, octets: Octets) -> bool:
        """Take octets, as long as Redis is there and neither bound is reached."""
        shelf = self._shelf
        if self._over or self._failed or not shelf.client.connected:
            return False
        if self.count + len(octets) > self._bound or not shelf.reserve(len(octets)):
            return False
        self._tail += octets
        self.count += len(octets)
        while len(self._tail) >= BLOCK_BYTES:
            self._send(BLOCK_BYTES)
        return True

    def _send(self, size: int) -> None:
        """Send the first octets that were not sent yet."""
        start = self.count - len(self._tail)
        piece = bytes(self._tail[:size])
        del self._tail[:size]
        self._pieces.append((start, piece))
        if self._failed:
            return
        self._sent = True
        client = self._shelf.client
        if start:
            answer = client.call(b"APPEND", self._name, piece, limit=WRITE_LIMIT)
            expected: Reply = start + len(piece)
        else:
            words = (b"SET", self._name, piece, b"PX", ms(FILL_LIFE))
            answer = client.call(*words, limit=WRITE_LIMIT)
            expected = b"OK"
        self._unconfirmed += 1
        answer.addCallbacks(self._written, self._refused, callbackArgs=(expected, start))
        answer.addErrback(lambda failure: _log.failure("a piece of a content was lost", failure))

    def _written(self, reply: Reply, expected: Reply, start: int) -> None:
        self._unconfirmed -= 1
        if reply != expected:
            # Redis has evicted what was written before.
            self._failed = True
            self._shelf.not_kept("lost")
        elif not self._failed and self._pieces and self._pieces[0][0] == start:
            _, piece = self._pieces.popleft()
            self._shelf.give_back(len(piece))
        self._settle()

    def _refused(self, failure: Failure) -> None:
        self._unconfirmed -= 1
        self._failed = True
        self._shelf.complain(failure)
        self._settle()

    def keep(self, head: StoredResponse) -> None:
        """Make an entry of it, when all of it is there."""
        if self._over:
            return
        self._over = True
        inline = not self._sent and self.count <= INLINE_BYTES
        content = bytes(self._tail) if inline else None
        record = Record(self._token, self.count, self._key, head, inline, content)
        if not inline and self._tail:
            self._send(len(self._tail))
        if self._failed:
            # The log was told why.
            self._unwanted = True
            self._settle()
            return
        self._unconfirmed += 1
        # It goes out behind the last piece: what invalidates it now comes after it.
        self._shelf.put(record).addCallback(self._kept)

    def _kept(self, kept: bool) -> None:
        self._unconfirmed -= 1
        self._unwanted = not kept
        self._settle()

    def drop(self) -> None:
        """Store nothing."""
        if not self._over:
            self._over = self._unwanted = True
            self._settle()

    def _settle(self) -> None:
        """Give everything back, once it is neither written nor read any more."""
        if not self._over or self._holders or self._unconfirmed:
            return
        left = len(self._tail) + sum(len(piece) for _, piece in self._pieces)
        self._tail.clear()
        self._pieces.clear()
        self._shelf.give_back(left)
        self._ended(self)
        if self._unwanted:
            self._unwanted = False
            self._shelf.discard(self._key, self._token)

    # reading

    def read(self, start: int) -> bytes | Deferred[bytes]:
        """Return a piece of what was taken."""
        if start >= self.count:
            return b""
        place = self.count - len(self._tail)
        if start >= place:
            return bytes(self._tail[start - place : start - place + BLOCK_BYTES])
        for first, piece in self._pieces:
            if first <= start < first + len(piece):
                return piece[start - first :]
        until = self._pieces[0][0] if self._pieces else place
        size = min(BLOCK_BYTES - start % BLOCK_BYTES, until - start)
        answer = read_piece(self._shelf, self._name, start, size)
        return answer.addCallbacks(self._checked, _lost, callbackArgs=(size,))

    def _checked(self, reply: Reply, size: int) -> bytes:
        if not isinstance(reply, bytes) or len(reply) != size:
            raise ContentLost("Redis has a part of the content no more")
        return reply

    def hold(self) -> None:
        """Have it stay."""
        self._holders += 1
        self._shelf.hold(self._name)

    def release(self) -> None:
        """Have one reader less."""
        self._holders -= 1
        self._shelf.release(self._name)
        self._settle()
