"""How a cache's entries lie in a Redis: names of keys, and what an entry's record holds.

No name has a client's octets in it, only digests.  Under a prefix there are

``h:{D}``
    a hash with the records of all entries of a key, D being the key's digest; a field for each is
    named by a digest of what ``Vary`` tells apart;
``c:{D}:T``
    the content of one entry, when it is too long for the record; T is the entry's token;
``w:{D}``
    a hash of those that are being written for a key, by their tokens, with the number of the purge
    that was the last one when they began: an invalidation removes it;
``purged``
    the number of the last purge.
"""

from __future__ import annotations

import os
from hashlib import blake2b

import attrs

from pyproxy.cache.packing import Unreadable, pack, unpack
from pyproxy.semantics.stored import StoredResponse, Varies

INLINE_BYTES = 8 * 1024
"""Octets of content that a record has in itself: one round trip brings all of such an entry."""

MAX_HEAD_BYTES = 64 * 1024
"""Octets that a packed head may have."""

MAX_VARIANTS = 32
"""Entries of one key; one more, and those before it go.  A lookup brings all of them at once."""

DAY = 86400.0
YEAR = 365 * DAY

MIN_LIFE = 60.0
"""Seconds that an entry stays at least."""

TOKEN = 32
"""Octets of a token."""

_PLACE = TOKEN
_LENGTH = _PLACE + 1
_HEAD = _LENGTH + 16

START = _HEAD + 8
"""Where the head of a record begins: after the token, the place (``i``: the content is here,
``c``: under a key of its own), the content's length and the head's, both in digits.
"""


@attrs.frozen
class Names:
    """The names of keys.  Args: what all of them begin with."""

    prefix: bytes

    def digest(self, key: bytes) -> bytes:
        """Return what stands for a key.  Source: BLAKE2b, RFC 7693."""
        return b"{%b}" % blake2b(key, digest_size=20).hexdigest().encode()

    def heads(self, key: bytes) -> bytes:
        """Return the name of a key's records."""
        return self.prefix + b"h:" + self.digest(key)

    def contents(self, key: bytes) -> bytes:
        """Return what the names of a key's contents begin with; a token follows."""
        return self.prefix + b"c:" + self.digest(key) + b":"

    def writing(self, key: bytes) -> bytes:
        """Return the name of what is being written for a key."""
        return self.prefix + b"w:" + self.digest(key)

    @property
    def purged(self) -> bytes:
        """The name of the number of the last purge."""
        return self.prefix + b"purged"

    @property
    def all_heads(self) -> bytes:
        """What the names of all records begin with."""
        return self.prefix + b"h:"


def field_of(varies: Varies) -> bytes:
    """Return the name that an entry has among those of its key."""
    return blake2b(repr(varies).encode("ascii"), digest_size=16).hexdigest().encode()


def new_token() -> bytes:
    """Return a name that no other entry has or had."""
    return os.urandom(TOKEN // 2).hex().encode()


def life_of(head: StoredResponse, now: float) -> float:
    """Return for how many seconds an entry may be of use.

    One that can be validated is so for a day after it cannot be used otherwise any more.
    """
    life = head.fresh_until - now + max(head.stale_behind, head.stale_on_error)
    if head.has_validator:
        life = max(0.0, life) + DAY
    # In this order what is no number is the least.
    return min(max(MIN_LIFE, life), YEAR)


@attrs.frozen
class Record:
    """An entry, as it lies there.

    Attributes:
        count: octets of content.
        content: the content itself, None when it is not here.
    """

    token: bytes
    count: int
    key: bytes
    head: StoredResponse
    inline: bool
    content: bytes | None = None

    def written(self) -> bytes:
        """Return it as octets.  Raises: ValueError when the head is too long."""
        packed = pack(self.head, self.key)
        if len(packed) > MAX_HEAD_BYTES:
            raise ValueError("the head is too long")
        place = b"i" if self.inline else b"c"
        start = b"%b%b%016d%08d" % (self.token, place, self.count, len(packed))
        return b"".join((start, packed, self.content or b""))


def read_record(octets: object, *, with_content: bool) -> Record:
    """Read a record.  Args: whether all of it is there, or what comes before the content.

    Raises: Unreadable.
    """
    if not isinstance(octets, bytes) or len(octets) < START:
        raise Unreadable("a record is too short")
    place, digits = octets[_PLACE:_LENGTH], octets[_LENGTH:START]
    if place not in (b"i", b"c") or not digits.isdigit():
        raise Unreadable("a record does not begin as one")
    count, length = int(digits[:16]), int(digits[16:])
    inline = place == b"i"
    key, head = unpack(octets[START : START + length])
    content = octets[START + length :] if with_content and inline else None
    if content is not None and len(content) != count:
        raise Unreadable("a content has another length")
    return Record(octets[:TOKEN], count, key, head, inline, content)
