"""What an entry in memory takes, and what it costs to find one or to let one leave.

Run with ``python -m benchmarks.cache_index``.  ``NODE_BYTES`` and ``HOT_BYTES`` in
``pyproxy.cache.memory`` come from here: the growth of the resident memory, less the octets of keys,
packed heads and contents, by the entries.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import time
from collections.abc import Callable, Sequence

from pyproxy.cache.memory import HOT_BYTES, MAX_HOT, NODE_BYTES, MemoryStore
from pyproxy.cache.seams import Entry
from pyproxy.semantics.stored import StoredResponse

ENTRIES = 1_000_000
CONTENT = bytes(100)
SIZES = (10_000, 100_000, 1_000_000)
CALLS = 20_000
BATCH = 500
UNBOUND = 1 << 40
NOW = 1_700_000_000.0


def key_of(number: int) -> bytes:
    """Return a key as routes make them."""
    return b"https\nwww.example.com\n/articles/%08d" % number


def head_of(number: int) -> StoredResponse:
    """Return a head of eight fields, none of which is shared with another's."""
    fields = (
        (b"Server", b"nginx/1.27.%d" % number),
        (b"Date", b"Wed, 01 Jan 2025 12:%08d GMT" % number),
        (b"Content-Type", b"text/html; charset=utf-8; n=%d" % number),
        (b"Content-Length", b"100"),
        (b"Cache-Control", b"max-age=%d" % number),
        (b"ETag", b'"%016d"' % number),
        (b"Last-Modified", b"Tue, 31 Dec 2024 %08d GMT" % number),
        (b"X-Request-Id", b"%032d" % number),
    )
    # As the parser makes them: each field has a name of its own.
    own = tuple((bytes(bytearray(name)), value) for name, value in fields)
    return StoredResponse(
        200, bytes(bytearray(b"OK")), own, NOW + number, NOW + number + 60, (), 100, fields[5][1],
        fields[6][1], NOW + number,
    )  # fmt: skip


def resident() -> int:
    """Return the octets of memory that the process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def add(store: MemoryStore, number: int) -> None:
    """Store a response."""
    head = head_of(number)
    filling = store.fill(key_of(number), head, len(CONTENT))
    if filling is not None:
        filling.write(CONTENT)
        filling.keep(head)


def filled(entries: int, bound: int = UNBOUND) -> MemoryStore:
    """Return a store with so many entries."""
    store = MemoryStore(bound, 1 << 20)
    for number in range(entries):
        add(store, number)
    return store


def microseconds(calls: Sequence[int], call: Callable[[int], object]) -> float:
    """Return how long a call takes: the median of batches."""
    taken = []
    for start in range(0, len(calls), BATCH):
        begun = time.perf_counter()
        for number in calls[start : start + BATCH]:
            call(number)
        taken.append((time.perf_counter() - begun) / len(calls[start : start + BATCH]))
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
    print(f"{entries:,} entries of {len(CONTENT)} octets and eight fields")
    print(f"  resident memory grew by {grown / 2**20:,.0f} MiB, {each:,.0f} octets an entry")
    print(
        f"  counted were {counted / 2**20:,.0f} MiB: {octets:,.0f} octets and {NODE_BYTES} a node"
    )
    print(f"  NODE_BYTES measured: {each - octets:,.0f}")
    hot: list[Entry] = []
    number = min(MAX_HOT, entries)
    before = resident()
    for place in range(number):
        store.find(key_of(place), hot.extend)
    gc.collect()
    print(f"  HOT_BYTES measured: {(resident() - before) / number:,.0f} (is {HOT_BYTES})")


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
        cold = microseconds(places, lambda place: store.find(key_of(place), len))  # type: ignore[arg-type]
        hot = microseconds(few, lambda place: store.find(key_of(place), len))  # type: ignore[arg-type]
        while not int(store.figures()["evicted"]):
            add(store, size)
            size += 1
        fresh = range(size, size + CALLS)
        evict = microseconds(fresh, lambda number: add(store, number))
        print(f"{size:<10,} {f'{hot:.2f} us':12} {f'{cold:.2f} us':12} {f'{evict:.2f} us':16}")
        store.close()
    print(line)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache_index", description=__doc__)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    options = parser.parse_args(arguments)
    memory(options.entries)
    speed([size for size in SIZES if size <= options.entries])


if __name__ == "__main__":
    main()
