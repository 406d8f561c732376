"""From a configuration to the store of a cache: which one it is, and whether it can be.

What needs the disk or a server is imported where it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from pyproxy.cache.memory import MemoryStore
from pyproxy.cache.seams import Store
from pyproxy.config.schema import CacheConfig
from pyproxy.listeners import CannotStart
from pyproxy.relay.transports import IProxyReactor


def check_store(config: CacheConfig) -> None:
    """See whether a store can be, before anything else starts.  Raises: CannotStart."""
    if config.disk is not None:
        from pyproxy.cache.disk.names import Unfit, check_folder

        try:
            check_folder(config.disk)
        except Unfit as error:
            raise CannotStart(str(error)) from error


@attrs.frozen
class Opened:
    """A store, and what else has to be closed behind it."""

    store: Store
    close: Callable[[], object] = lambda: None


def open_store(config: CacheConfig, reactor: IProxyReactor) -> Opened:
    """Open the store that a configuration asks for.  Raises: CannotStart."""
    if config.disk is not None:
        from pyproxy.cache.disk.names import Unfit
        from pyproxy.cache.disk.store import DiskStore

        try:
            return Opened(DiskStore.at(config.disk, config.disk_size, config.entry, reactor))
        except Unfit as error:
            raise CannotStart(str(error)) from error
    if config.redis is not None:
        from pyproxy.cache.redis.store import RedisStore
        from pyproxy.sharing.redis import RedisClient
        from pyproxy.sharing.redis_place import place_of

        client = RedisClient(reactor, place_of(config.redis))
        store = RedisStore(client, reactor, config.entry)
        client.start()
        return Opened(store, client.close)
    return Opened(MemoryStore(config.memory, config.entry))


def nothing_kept() -> Store:
    """Return a store that keeps nothing, for the time before one is open."""
    return MemoryStore(0, 0)
