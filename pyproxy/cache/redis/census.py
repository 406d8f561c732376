"""How much there is in a Redis, as far as that can be told without looking at all of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pyproxy.cache.redis.record import Names
from pyproxy.cache.redis.sweep import scanned
from pyproxy.sharing.redis import RedisClient
from pyproxy.sharing.redis_errors import RedisTrouble

SAMPLE = 1000
"""Keys that are looked at, to tell how many of all are records of entries."""

PAUSE = 5.0
"""Seconds for which what was told last is told again."""

LIMIT = 2.0
"""Seconds for Redis to tell."""

_NUMBER = re.compile(rb"^(used_memory|evicted_keys):([0-9]{1,18})\r?$", re.MULTILINE)

_log = Logger()


@attrs.define(eq=False)
class Census:
    """Figures that Redis is asked for now and then: they are those of the last time."""

    _client: RedisClient
    _clock: IReactorTime
    _names: Names
    _asked: float | None = None
    _entries: int = 0
    _numbers: dict[str, int] = attrs.Factory(dict)

    def figures(self) -> Mapping[str, int | str]:
        """Return what was told last, and ask anew when that is long ago.

        ``entries`` is right for less than SAMPLE keys and an estimate for more; several entries of
        one key count as one.  ``bytes`` and ``evicted`` are those of the whole Redis.
        """
        self.ask()
        return {
            "store": "redis",
            "entries": self._entries,
            "bytes": self._numbers.get("used_memory", 0),
            "evicted": self._numbers.get("evicted_keys", 0),
            **self._client.figures(),
        }

    def ask(self) -> None:
        """Ask Redis, unless that was done just now."""
        now = self._clock.seconds()
        if not self._client.connected or (self._asked is not None and now < self._asked + PAUSE):
            return
        self._asked = now
        asking = Deferred.fromCoroutine(self._ask())
        asking.addErrback(_not_told)

    async def _ask(self) -> None:
        client = self._client
        size = client.call(b"DBSIZE", limit=LIMIT)
        sample = client.call(b"SCAN", 0, b"COUNT", SAMPLE, limit=LIMIT)
        told = [client.call(b"INFO", part, limit=LIMIT) for part in (b"memory", b"stats")]
        for each in (sample, *told):
            each.addErrback(_not_told)
        total, looked_at = await size, await sample
        if isinstance(total, int) and looked_at is not None:
            _, keys = scanned(looked_at)
            heads = sum(key.startswith(self._names.all_heads) for key in keys)
            self._entries = round(total * heads / len(keys)) if keys else 0
        for each in told:
            text = await each
            for name, digits in _NUMBER.findall(text if isinstance(text, bytes) else b""):
                self._numbers[name.decode()] = int(digits)


def _not_told(failure: Failure) -> None:
    """Do without: a login may forbid to ask, and Redis may be away."""
    if not failure.check(RedisTrouble):
        _log.failure("the figures of Redis cannot be read", failure)
