"""Every store does what ``seams`` says."""

from __future__ import annotations

import os

from pyproxy.cache.disk.store import DiskStore
from pyproxy.cache.memory import MemoryStore
from pyproxy.cache.seams import Store
from tests.cache import stores
from tests.cache.stores import BOUND, ENTRY
from tests.turning import PATIENCE


class MemoryStoreTests(stores.StoreTests):
    """The store in memory."""

    def make_store(self, bound: int = BOUND, entry: int = ENTRY) -> MemoryStore:
        store = MemoryStore(bound, entry)
        self.addCleanup(store.close)
        return store


class DiskStoreTests(stores.StoreTests):
    """The store on disk."""

    def make_store(self, bound: int = BOUND, entry: int = ENTRY) -> DiskStore:
        folder = self.mktemp()
        os.makedirs(folder, 0o700)
        store = DiskStore.at(folder, bound, entry, self.reactor)
        store.patience = PATIENCE
        self.addCleanup(self.end, store)
        return store

    def end(self, store: DiskStore) -> None:
        """Close a store, and wait for its threads."""
        store.close()
        self.settle(store)

    def settle(self, store: Store) -> None:
        assert isinstance(store, DiskStore)
        self.turn_until(lambda: not store.access.busy)
