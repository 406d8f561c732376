"""What all caching routes share: the store, and the fetches that are under way."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

import attrs
from twisted.internet.interfaces import IReactorTime

from pyproxy.cache.counts import Counts
from pyproxy.cache.lookup import Lookup
from pyproxy.cache.seams import Chosen, Store
from pyproxy.relay.limits import Sweeper
from pyproxy.sides import UpstreamSide

MAX_UNSHARED = 8192
"""Keys that are known to have answers which nobody else may have."""


class Fetch(Protocol):
    """A question to the upstream; ``fetch.Fetch`` is one."""

    key: bytes
    shared: bool

    def start(self) -> None:
        """Send the request."""

    def join(self, lookup: Lookup) -> bool:
        """Serve another request, if that can be; tell whether it can."""

    def spoil(self) -> None:
        """Keep nothing of it."""

    def purge(self, chosen: Chosen) -> None:
        """Keep nothing of it if it is among those that are chosen."""

    def abandon(self) -> None:
        """End it at once."""

    def check(self, now: float) -> float:
        """Keep its time limits."""


@attrs.define
class Unshared:
    """Keys whose last answer could not be kept: who asks for them waits for nobody.

    A key is forgotten when its answer is kept after all, or after MAX_UNSHARED others.
    """

    _keys: OrderedDict[bytes, None] = attrs.Factory(OrderedDict)

    def __contains__(self, key: bytes) -> bool:
        return key in self._keys

    def add(self, key: bytes) -> None:
        """Know a key."""
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > MAX_UNSHARED:
            self._keys.popitem(last=False)

    def discard(self, key: bytes) -> None:
        """Know a key no more."""
        self._keys.pop(key, None)


@attrs.define(eq=False)
class Cache:
    """One cache of one process.  It outlives every plan.

    Attributes:
        fetches: by key, those that others may join.
        alone: those that nobody joins.
        counts: by the names of routes.
    """

    store: Store
    upstream: UpstreamSide
    reactor: IReactorTime
    _sweeper: Sweeper
    fetches: dict[bytes, Fetch] = attrs.Factory(dict)
    alone: set[Fetch] = attrs.Factory(set)
    unshared: Unshared = attrs.Factory(Unshared)
    counts: dict[str, Counts] = attrs.Factory(dict)

    def counts_of(self, name: str) -> Counts:
        """Return the counts of a route, which outlive it."""
        return self.counts.setdefault(name, Counts())

    def now(self) -> float:
        """Return the time of day, in seconds."""
        return self.reactor.seconds()

    def begin(self, fetch: Fetch) -> None:
        """Have a fetch under way."""
        if fetch.shared:
            self.fetches[fetch.key] = fetch
        else:
            self.alone.add(fetch)
        fetch.start()

    def forget(self, fetch: Fetch) -> None:
        """Let nobody join a fetch any more."""
        self._sweeper.unwatch(fetch)
        self.alone.discard(fetch)
        if self.fetches.get(fetch.key) is fetch:
            del self.fetches[fetch.key]

    def watch(self, fetch: Fetch) -> None:
        """Keep the time limits of a fetch that has no client."""
        self._sweeper.watch(fetch)

    def invalidate(self, key: bytes) -> None:
        """Have nothing of a key, neither what is stored nor what is being fetched."""
        self.store.invalidate(key)
        for fetch in self._of(key):
            fetch.spoil()

    def _of(self, key: bytes) -> list[Fetch]:
        fetches = [fetch for fetch in self.alone if fetch.key == key]
        if key in self.fetches:
            fetches.append(self.fetches[key])
        return fetches

    def spoil(self, chosen: Chosen) -> None:
        """Keep nothing of the fetches that are chosen: a purge is under way."""
        for fetch in [*self.alone, *self.fetches.values()]:
            fetch.purge(chosen)

    def close(self) -> None:
        """End every fetch, and let go of the store."""
        for fetch in [*self.alone, *self.fetches.values()]:
            fetch.abandon()
        self.store.close()
