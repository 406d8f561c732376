"""A route that keeps responses on disk does all that one does that keeps them in memory."""

from __future__ import annotations

from tests.live import test_cache, test_cache_attacks, test_cache_liars, test_cache_sharing


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


class UsersTests(test_cache_attacks.UsersTests):
    """What one user gets is not for another."""

    disk = True


class KeyTests(test_cache_attacks.KeyTests):
    """What is another URL to any upstream is another key."""

    disk = True


class LiarTests(test_cache_liars.LiarTests):
    """What an upstream says does not hold, or is too much."""

    disk = True
