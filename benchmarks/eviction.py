"""Hit rates of SIEVE beside LRU and FIFO; run with ``python -m benchmarks.eviction``.

The traces are made from a seed: requests whose keys are Zipf-distributed, and the same with scans
in between, each of keys that are asked for once.  A cache has room for a share of all keys.
"""

from __future__ import annotations

import argparse
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Protocol

from pyproxy.cache.eviction import Sieve

SEED = 9111
KEYS = 100_000
REQUESTS = 1_000_000
SHARES = (0.001, 0.01, 0.1)
"""Parts of all keys that a cache has room for."""

ALPHAS = (0.8, 1.0)
"""Exponents of the distribution; those of web traffic are 0.6 to 1.0 (Breslau et al., 1999)."""

SCAN_EVERY = 20_000
SCAN_KEYS = 5_000
"""After so many requests a scan asks for so many keys."""


class Cache(Protocol):
    """Says whether it has a key, and has it from then on."""

    def ask(self, key: int) -> bool:
        """Ask for a key."""


class Lru:
    """Evicts what was asked for the longest ago."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._keys: OrderedDict[int, None] = OrderedDict()

    def ask(self, key: int) -> bool:
        if key in self._keys:
            self._keys.move_to_end(key)
            return True
        self._keys[key] = None
        if len(self._keys) > self._room:
            self._keys.popitem(last=False)
        return False


class Fifo:
    """Evicts what came the longest ago."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._keys: set[int] = set()
        self._queue: deque[int] = deque()

    def ask(self, key: int) -> bool:
        if key in self._keys:
            return True
        self._keys.add(key)
        self._queue.append(key)
        if len(self._queue) > self._room:
            self._keys.remove(self._queue.popleft())
        return False


class Clock:
    """As the store on disk: what was asked for goes to the end of the queue when its turn comes."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._keys: OrderedDict[int, bool] = OrderedDict()

    def ask(self, key: int) -> bool:
        if key in self._keys:
            self._keys[key] = True
            return True
        while len(self._keys) >= self._room:
            oldest, visited = self._keys.popitem(last=False)
            if visited:
                self._keys[oldest] = False
        self._keys[key] = False
        return False


class OurSieve:
    """Evicts as the store in memory does, by the same code."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._places: dict[int, int] = {}
        self._keys = [-1]
        self._queue = Sieve()

    def ask(self, key: int) -> bool:
        place = self._places.get(key)
        if place is not None:
            self._queue.visited[place] = True
            return True
        if len(self._places) >= self._room:
            self._remove(self._queue.victim())
        self._places[key] = self._queue.add()
        self._keys.append(key)
        return False

    def _remove(self, place: int) -> None:
        self._queue.remove(place)
        last = self._keys.pop()
        if place < len(self._keys):
            del self._places[self._keys[place]]
            self._keys[place] = last
            self._places[last] = place
        else:
            del self._places[last]


CACHES: dict[str, Callable[[int], Cache]] = {
    "SIEVE": OurSieve,
    "CLOCK": Clock,
    "LRU": Lru,
    "FIFO": Fifo,
}


def zipf(alpha: float, requests: int, keys: int) -> list[int]:
    """Return a trace whose keys are asked for with 1 / rank ** alpha."""
    chance = random.Random(SEED)
    weights = list(accumulate(rank**-alpha for rank in range(1, keys + 1)))
    return chance.choices(range(keys), cum_weights=weights, k=requests)


def with_scans(trace: Sequence[int], keys: int) -> Iterator[int]:
    """Yield a trace with scans in between."""
    fresh = keys
    for start in range(0, len(trace), SCAN_EVERY):
        yield from trace[start : start + SCAN_EVERY]
        yield from range(fresh, fresh + SCAN_KEYS)
        fresh += SCAN_KEYS


def hit_rate(cache: Cache, trace: Sequence[int]) -> float:
    """Return the share of requests that a cache answers."""
    return sum(cache.ask(key) for key in trace) / len(trace)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the hit rates as a table of reStructuredText."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.eviction", description=main.__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--keys", type=int, default=KEYS)
    options = parser.parse_args(arguments)
    keys: int = options.keys
    traces: dict[str, Sequence[int]] = {}
    for alpha in ALPHAS:
        trace: Sequence[int] = zipf(alpha, options.requests, keys)
        traces[f"Zipf {alpha}"] = trace
        traces[f"Zipf {alpha}, scans"] = list(with_scans(trace, keys))
    line = f"{'=' * 18} {'=' * 8} " + " ".join("=" * 8 for _ in CACHES)
    print(line)
    print(f"{'trace':18} {'room':8} " + " ".join(f"{name:8}" for name in CACHES))
    print(line)
    for name, trace in traces.items():
        for share in SHARES:
            room = max(1, int(keys * share))
            rates = [hit_rate(make(room), trace) for make in CACHES.values()]
            print(
                f"{name:18} {f'{share:.1%}':8} "
                + " ".join(f"{rate:8.1%}".strip().ljust(8) for rate in rates)
            )
    print(line)


if __name__ == "__main__":
    main()
