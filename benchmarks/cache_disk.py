"""A cache on disk: how soon it serves with many files there, and what a lookup costs.

Run with ``python -m benchmarks.cache_disk``; it writes below a temporary folder, or ``--folder``.
A lookup goes through a thread, since to open a file may wait for a disk that hangs; beside it
stands what the same would cost in the reactor's own thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from benchmarks.cache_index import head_of, key_of
from pyproxy.cache.disk.file import opened, read
from pyproxy.cache.disk.names import Names
from pyproxy.cache.disk.store import DiskStore
from pyproxy.cache.seams import Entry

FILES = 100_000
CONTENT_BYTES = 1000
LONG_BYTES = 64 * 1024 * 1024
ENTRY = 1 << 30
BOUND = 1 << 40
CALLS = 2000
AHEAD = 500
"""Files that wait to be written, so that the store takes them all."""

SECONDS = 300.0


def find(store: DiskStore, key: bytes) -> Deferred[Sequence[Entry]]:
    """Look a key up."""
    found: Deferred[Sequence[Entry]] = Deferred()
    store.find(key, found.callback)
    return found


async def until_done(store: DiskStore) -> None:
    """Wait until the store has done everything."""
    while store.access.busy:
        await deferLater(reactor, 0.005)


def keep(store: DiskStore, number: int, content: bytes) -> None:
    """Store a response."""
    head = head_of(number)
    filling = store.fill(key_of(number), head, None)
    if filling is not None and filling.write(content):
        filling.keep(head)


async def fill(store: DiskStore, files: int) -> None:
    """Store many responses."""
    begun = time.perf_counter()
    for number in range(files):
        keep(store, number, bytes(CONTENT_BYTES))
        if number % AHEAD == 0:
            await until_done(store)
    await until_done(store)
    taken = time.perf_counter() - begun
    print(f"{files:,} responses of {CONTENT_BYTES} octets stored: {files / taken:,.0f} a second")


async def start(folder: str, files: int) -> DiskStore:
    """Open the store anew; print how soon it serves, and how soon all is counted."""
    begun = time.perf_counter()
    store = DiskStore.at(folder, BOUND, ENTRY, reactor)  # type: ignore[arg-type]
    opened_at = time.perf_counter() - begun
    entries = await find(store, key_of(files // 2))
    served = time.perf_counter() - begun
    await until_done(store)
    counted = time.perf_counter() - begun
    print(f"opened in {opened_at * 1e3:.1f} ms, the first lookup was answered after")
    print(f"{served * 1e3:.1f} ms with {len(entries)} entry, all was counted after {counted:.2f} s")
    print(f"entries: {store.figures()['entries']:,}, bytes: {store.figures()['bytes']:,}")
    return store


async def lookups(store: DiskStore, files: int) -> None:
    """Print what a lookup costs."""
    keys = [key_of(number * 7919 % files) for number in range(CALLS)]
    for key in keys:
        await find(store, key)
    alone = []
    for key in keys:
        begun = time.perf_counter()
        await find(store, key)
        alone.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    for place in range(0, CALLS, 50):
        for waiting in [find(store, key) for key in keys[place : place + 50]]:
            await waiting
    together = (time.perf_counter() - begun) / CALLS
    begun = time.perf_counter()
    for key in keys:
        handle = opened(store.folder.place(Names.of(key).plain))
        if handle is not None:
            read(handle)
    direct = (time.perf_counter() - begun) / CALLS
    begun = time.perf_counter()
    for number in range(CALLS):
        await find(store, b"none %d" % number)
    missed = (time.perf_counter() - begun) / CALLS
    print(f"lookup, one at a time: {statistics.median(alone) * 1e6:.0f} us; of nothing: ", end="")
    print(f"{missed * 1e6:.0f} us; 50 at once: {together * 1e6:.0f} us each")
    print(f"the same in the reactor's thread: {direct * 1e6:.0f} us")


async def long_content(store: DiskStore) -> None:
    """Print how fast a long content is written and read."""
    head = head_of(0)
    filling = store.fill(b"long", head, None)
    if filling is None:
        return
    begun = time.perf_counter()
    piece = bytes(64 * 1024)
    for _ in range(LONG_BYTES // len(piece)):
        while not filling.write(piece):
            # No more than a bound waits to be written: this source is faster than any disk.
            await deferLater(reactor, 0.001)
        await deferLater(reactor, 0)
    filling.keep(head)
    await until_done(store)
    written = time.perf_counter() - begun
    (entry,) = await find(store, b"long")
    entry.content.hold()
    begun, start = time.perf_counter(), 0
    while start < entry.content.count:
        piece_read = entry.content.read(start)
        start += len(piece_read if isinstance(piece_read, bytes) else await piece_read)
    took = time.perf_counter() - begun
    entry.content.release()
    print(f"{LONG_BYTES >> 20} MiB written: {LONG_BYTES / written / 2**20:,.0f} MiB/s; ", end="")
    print(f"read by one reader: {LONG_BYTES / took / 2**20:,.0f} MiB/s")


async def measure(folder: str, files: int) -> None:
    """Measure everything in a folder."""
    os.makedirs(folder, 0o700, exist_ok=True)
    store = DiskStore.at(folder, BOUND, ENTRY, reactor)  # type: ignore[arg-type]
    await fill(store, files)
    store.close()
    store = await start(folder, files)
    await lookups(store, files)
    await long_content(store)
    begun = time.perf_counter()
    gone = await store.purge(lambda key, head: head.status == 200)
    print(f"purge of all {gone:,}: {time.perf_counter() - begun:.1f} s")
    store.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache_disk", description=__doc__)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--folder", help="a new or an empty folder; without it a temporary one")
    options = parser.parse_args(arguments)

    def begin(_: object) -> Deferred[None]:
        folder = options.folder or os.path.join(temporary, "cache")
        return Deferred.fromCoroutine(measure(folder, options.files))

    with tempfile.TemporaryDirectory() as temporary:
        react(begin)


if __name__ == "__main__":
    main()
