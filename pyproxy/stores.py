"""From a configuration to the store of a cache."""

from __future__ import annotations

from pyproxy.cache.memory import MemoryStore
from pyproxy.cache.seams import Store
from pyproxy.config.schema import CacheConfig
from pyproxy.relay.transports import IProxyReactor


def store_of(config: CacheConfig, reactor: IProxyReactor) -> Store:
    """Return the store that a configuration asks for; nothing of it is open yet."""
    return MemoryStore(config.memory, config.entry)
