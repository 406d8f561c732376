"""Invalidations, which a Redis that is away is told of later."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from pyproxy.cache.redis.scripts import INVALIDATE
from pyproxy.cache.redis.shelf import LINGER, WRITE_LIMIT, Shelf, ms
from pyproxy.sharing.redis_errors import RedisRefused, RedisTrouble
from pyproxy.sharing.resp import Reply

MAX_MISSED = 4096
"""Keys that were invalidated while Redis was away; after more everything goes on its return."""

RETRY = 1.0
"""Seconds after which Redis is told again what it did not confirm."""

_log = Logger()


@attrs.define(eq=False)
class Invalidations:
    """Tells Redis what is invalidated, until it has confirmed that.

    Args: what removes all entries that there are.
    """

    _shelf: Shelf
    _clear: Callable[[], Deferred[None]]
    _missed: dict[bytes, None] = attrs.Factory(dict)
    _told: dict[bytes, int] = attrs.Factory(dict)
    """Keys that Redis was told of, and how often, and has not confirmed yet."""
    _overflows: int = 0
    """How often more was missed than is remembered, and not everything is gone since."""
    _clearing: bool = False
    _retrying: IDelayedCall | None = None
    _closed: bool = False

    def missed(self, key: bytes) -> bool:
        """Tell whether entries of a key that Redis has may be invalid."""
        return self._overflows > 0 or key in self._missed

    def outdates(self, key: bytes) -> bool:
        """Tell whether what Redis has just told of a key may be invalid by now."""
        return key in self._told or self.missed(key)

    def tell(self, key: bytes) -> None:
        """Have no entry of a key any more, whether Redis is there now or later."""
        if self._closed:
            return
        shelf, names = self._shelf, self._shelf.names
        self._told[key] = self._told.get(key, 0) + 1
        keys = (names.heads(key), names.writing(key))
        arguments = (names.contents(key), ms(LINGER))
        answer = shelf.client.run(INVALIDATE, keys, arguments, WRITE_LIMIT)
        answer.addBoth(self._answered, key)
        answer.addErrback(lambda failure: _log.failure("an invalidation was lost", failure))

    def _answered(self, outcome: Reply | Failure, key: bytes) -> None:
        left = self._told[key] - 1
        if left:
            self._told[key] = left
        else:
            del self._told[key]
        if not isinstance(outcome, Failure):
            return
        if outcome.check(RedisRefused):
            # To say it again would be of no use.
            self._shelf.complain(outcome)
            return
        outcome.trap(RedisTrouble)
        self._miss(key)

    def _miss(self, key: bytes) -> None:
        if self._closed:
            return
        if len(self._missed) >= MAX_MISSED:
            self._missed.clear()
            self._overflows += 1
        self._missed[key] = None
        self._retry_soon()

    def _retry_soon(self) -> None:
        if self._retrying is None and not self._closed:
            self._retrying = self._shelf.clock.callLater(RETRY, self._retry)

    def _retry(self) -> None:
        self._retrying = None
        if self._shelf.client.connected:
            self.catch_up()

    def catch_up(self) -> None:
        """Tell Redis what it has missed."""
        missed, self._missed = self._missed, {}
        for key in missed:
            self.tell(key)
        if self._overflows and not self._clearing:
            self._clearing = True
            told = self._overflows
            self._clear().addCallbacks(lambda _: self._cleared(told), self._not_cleared)

    def _cleared(self, told: int) -> None:
        self._clearing = False
        if self._overflows == told:
            self._overflows = 0
        else:
            self._retry_soon()

    def _not_cleared(self, failure: Failure) -> None:
        self._clearing = False
        self._retry_soon()
        if not failure.check(RedisTrouble, CancelledError):
            _log.failure("what Redis has missed could not be made up for", failure)

    def close(self) -> None:
        """Tell no more."""
        self._closed = True
        if self._retrying is not None and self._retrying.active():
            self._retrying.cancel()
