"""A process that stores, and replaces, until it is killed: ``python -m`` this, with a folder.

What it stores tells by itself whether it is whole.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from hashlib import sha256

from pyproxy.cache.disk.store import DiskStore
from pyproxy.cache.seams import Entry
from tests.cache import head_of

BOUND = 3 * 1024 * 1024
ENTRY = 1024 * 1024
KEYS = 40


def content_of(seed: int) -> bytes:
    """Return a content that no other seed has; every other one is long."""
    octets = random.Random(seed).randbytes((seed % 2) * 150_000 + seed % 997)
    return sha256(octets).digest() + octets


def is_whole(content: bytes) -> bool:
    """Tell whether a content is one of those."""
    return sha256(content[32:]).digest() == content[:32]


def main(folder: str) -> None:
    """Store without an end."""
    from twisted.internet import reactor

    store = DiskStore.at(folder, BOUND, ENTRY, reactor)  # type: ignore[arg-type]
    seed = random.SystemRandom().randrange(1_000_000)

    def refresh(entries: Sequence[Entry]) -> None:
        for entry in entries:
            store.refresh(entry, entry.head)

    def some() -> None:
        nonlocal seed
        for _ in range(4):
            seed += 1
            content = content_of(seed)
            varies = ((b"accept", b"x"),) if seed % 3 == 0 else ()
            head = head_of(content, varies, [b"%d" % seed])
            filling = store.fill(b"%d" % (seed % KEYS), head, None)
            if filling is None:
                continue
            for place in range(0, len(content), 40_000):
                filling.write(content[place : place + 40_000])
            if seed % 7 == 0:
                filling.drop()
            else:
                filling.keep(head)
        store.find(b"%d" % (seed % KEYS), refresh)
        reactor.callLater(0, some)

    reactor.callWhenRunning(some)
    reactor.callWhenRunning(print, "storing", flush=True)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
