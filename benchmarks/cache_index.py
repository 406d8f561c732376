"""What an entry in memory takes, and what it costs to find one or to let one leave.

Run with ``python -m benchmarks.cache_index``.  ``NODE_BYTES`` and ``HOT_BYTES`` in
``pyproxy.cache.memory`` come from here: the growth of the resident memory, less the octets of keys,
packed heads and contents, by the entries.  Times are of the CPU.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

from pyproxy.cache.memory import HOT_BYTES, MAX_HOT, NODE_BYTES, MemoryStore
from pyproxy.cache.seams import Entry
from pyproxy.semantics.stored import StoredResponse

ENTRIES = 1_000_000
CONTENT_BYTES = 100
SIZES = (10_000, 100_000, 1_000_000)
CALLS = 20_000
BATCH = 500
UNBOUND = 1 << 40
NOW = 1_700_000_000.0


def key_of(number: int) -> bytes:
    """Return a key as routes make them."""
    return b"https\nwww.example.com\n/articles/%08d" % number


def head_of(number: int) -> StoredResponse:
    """Return a head of eight fields, as one server sends them; five are no other's."""
    chance = random.Random(number)
    etag = b'"%s"' % chance.randbytes(8).hex().encode()
    modified = b"Tue, 31 Dec 2024 11:%02d:%02d GMT" % (number % 60, number % 59)
    fields = (
        (b"Server", b"nginx"),
        (b"Date", b"Wed, 01 Jan 2025 12:%02d:%02d GMT" % (number % 59, number % 60)),
        (b"Content-Type", b"text/html; charset=utf-8"),
        (b"Content-Length", b"100"),
        (b"Cache-Control", b"public, max-age=%d" % (number % 86_400)),
        (b"ETag", etag),
        (b"Last-Modified", modified),
        (b"X-Request-Id", chance.randbytes(16).hex().encode()),
    )
    # As the parser makes them: no octets are shared with another head.
    own = tuple((bytes(bytearray(name)), bytes(bytearray(value))) for name, value in fields)
    born = NOW + number
    return StoredResponse(
        200, bytes(bytearray(b"OK")), own, born, born + 60, (), 100, etag, modified, born
    )


def resident() -> int:
    """Return the octets of memory that the process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def add(store: MemoryStore, number: int) -> None:
    """Store a response."""
    keep(store, key_of(number), head_of(number))


def keep(store: MemoryStore, key: bytes, head: StoredResponse) -> None:
    """Store a response that is made already."""
    filling = store.fill(key, head, CONTENT_BYTES)
    if filling is not None:
        filling.write(bytes(CONTENT_BYTES))
        filling.keep(head)


def keep_one(store: MemoryStore, heads: dict[int, StoredResponse], number: int) -> None:
    """Store one of several responses."""
    keep(store, key_of(number), heads[number])


def find(store: MemoryStore, number: int) -> None:
    """Look a response up."""
    store.find(key_of(number), nobody)


def nobody(entries: Sequence[Entry]) -> None:
    """Take what was found."""


def filled(entries: int, bound: int = UNBOUND) -> MemoryStore:
    """Return a store with so many entries."""
    store = MemoryStore(bound, 1 << 20)
    for number in range(entries):
        add(store, number)
    return store


def microseconds(calls: Sequence[int], call: Callable[[int], object]) -> float:
    """Return how much CPU time a call takes: the median of batches."""
    taken = []
    for start in range(0, len(calls), BATCH):
        begun = time.thread_time()
        for number in calls[start : start + BATCH]:
            call(number)
        taken.append((time.thread_time() - begun) / len(calls[start : start + BATCH]))
    return statistics.median(taken) * 1e6


def memory(entries: int) -> None:
    """Print what entries take."""
    gc.collect()
    before = resident()
    store = filled(entries)
    gc.collect()
    grown = resident() - before
    counted = int(store.figures()["bytes"])
    each = grown / entries
    octets = counted / entries - NODE_BYTES
    print(f"{entries:,} entries of {CONTENT_BYTES} octets and eight fields")
    print(f"  resident memory grew by {grown / 2**20:,.0f} MiB, {each:,.0f} octets an entry")
    print(
        f"  counted were {counted / 2**20:,.0f} MiB: {octets:,.0f} octets and {NODE_BYTES} a node"
    )
    print(f"  NODE_BYTES measured: {each - octets:,.0f}")
    begun = time.thread_time()
    gc.collect()
    print(f"  to look for cycles beside them takes {(time.thread_time() - begun) * 1e3:,.0f} ms")
    hot: list[Entry] = []
    number = min(MAX_HOT, entries)
    before = resident()
    for place in range(number):
        store.find(key_of(place), hot.extend)
    gc.collect()
    print(f"  HOT_BYTES measured: {(resident() - before) / number:,.0f} (is {HOT_BYTES})")


def pauses(entries: int) -> None:
    """Print how long the longest call takes while entries come."""
    store = MemoryStore(UNBOUND, 1 << 20)
    heads = [head_of(number) for number in range(BATCH)]
    longest = 0.0
    for number in range(entries):
        key, head = key_of(number), heads[number % BATCH]
        begun = time.thread_time()
        keep(store, key, head)
        longest = max(longest, time.thread_time() - begun)
    print(f"  the longest call until they are there takes {longest * 1e3:,.1f} ms")


def speed(sizes: Sequence[int]) -> None:
    """Print what calls cost as the store grows."""
    line = f"{'=' * 10} {'=' * 12} {'=' * 12} {'=' * 16}"
    print(line)
    print(f"{'entries':10} {'find, hot':12} {'find':12} {'store and evict':16}")
    print(line)
    for size in sizes:
        store = filled(size)
        store.resize(int(store.figures()["bytes"]) + MAX_HOT * HOT_BYTES, 1 << 20)
        step = max(1, size // CALLS)
        places = [(place * step * 7919) % size for place in range(CALLS)]
        few = places[:1000] * 20
        cold = microseconds(places, partial(find, store))
        hot = microseconds(few, partial(find, store))
        while not int(store.figures()["evicted"]):
            add(store, size)
            size += 1
        fresh = {number: head_of(number) for number in range(size, size + CALLS)}
        evict = microseconds(list(fresh), partial(keep_one, store, fresh))
        print(f"{size:<10,} {f'{hot:.2f} us':12} {f'{cold:.2f} us':12} {f'{evict:.2f} us':16}")
        store.close()
    print(line)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache_index", description=__doc__)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    options = parser.parse_args(arguments)
    memory(options.entries)
    pauses(options.entries)
    speed([size for size in SIZES if size <= options.entries])


if __name__ == "__main__":
    main()
