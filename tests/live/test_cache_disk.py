"""A route that keeps responses on disk does all that one does that keeps them in memory."""

from __future__ import annotations

from tests.live import test_cache, test_cache_sharing


class KeepingTests(test_cache.KeepingTests):
    """What is kept, and served again."""

    disk = True


class AskingTests(test_cache.AskingTests):
    """Requests that want something else than the whole."""

    disk = True


class AgingTests(test_cache.AgingTests):
    """What is stored and stale."""

    disk = True


class SharingTests(test_cache_sharing.SharingTests):
    """Clients that share one fetch."""

    disk = True
