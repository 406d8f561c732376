"""What the store in a Redis and its contents do there together: entries put, removed and held.

Owns the bound of what Redis has not confirmed, and what the log is told when it refuses something.
"""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pyproxy.cache.redis.record import MAX_VARIANTS, Names, Record, field_of, life_of
from pyproxy.cache.redis.scripts import BEGIN, HOLD, KEEP, REMOVE
from pyproxy.sharing.redis import RedisClient
from pyproxy.sharing.redis_errors import RedisRefused, RedisTrouble
from pyproxy.sharing.resp import Reply

MAX_UNCONFIRMED_BYTES = 16 * 1024 * 1024
"""Octets of all contents together that Redis has not confirmed yet."""

WRITE_LIMIT = 5.0
"""Seconds for Redis to confirm what it was to keep."""

LINGER = 60.0
"""Seconds that a content stays after its entry has gone, and after each time somebody reads it.

Other machines may be reading it, and nobody knows that of another.
"""

HELD_AT_ONCE = 500
"""Contents that one command holds on to."""

FILL_LIFE = 3600.0
"""Seconds after which a content goes that nobody has finished to write, as its machine was lost."""

FULL_PAUSE = 1.0
"""Seconds after which a Redis that had no room is asked again."""

QUIET = 60.0
"""Seconds in which the log is told a reason once, where some is kept and some is not."""

_log = Logger()


def ms(seconds: float) -> int:
    """Return milliseconds."""
    return int(seconds * 1000)


@attrs.define(eq=False)
class Shelf:
    """The place in a Redis where entries are.

    Attributes:
        full_until: until then nothing new has to be tried.
    """

    client: RedisClient
    clock: IReactorTime
    names: Names
    full_until: float = 0.0
    _unconfirmed: int = 0
    _complaints: dict[str, float] = attrs.Factory(dict)
    _held: dict[bytes, int] = attrs.Factory(dict)
    _holding: IDelayedCall | None = None
    _closed: bool = False

    # the bound

    def reserve(self, octets: int) -> bool:
        """Count octets that are in memory; tell whether there is room for them."""
        if self._unconfirmed + octets > MAX_UNCONFIRMED_BYTES:
            return False
        self._unconfirmed += octets
        return True

    def give_back(self, octets: int) -> None:
        """Count octets no more that were reserved."""
        self._unconfirmed -= octets

    @property
    def unconfirmed(self) -> int:
        """Octets that are reserved."""
        return self._unconfirmed

    # entries

    def begin(self, key: bytes, token: bytes) -> Deferred[Reply]:
        """Have Redis know that a content is being written."""
        keys = (self.names.writing(key), self.names.purged)
        return self.client.run(BEGIN, keys, (token, ms(FILL_LIFE)), WRITE_LIMIT)

    def put(self, record: Record) -> Deferred[bool]:
        """Make an entry of what was written; tell whether it is one."""
        names, key, head = self.names, record.key, record.head
        try:
            octets = record.written()
        except ValueError:
            self.not_kept("head")
            return succeed(False)
        life = life_of(head, self.clock.seconds())
        rest = (field_of(head.varies), octets, ms(life), MAX_VARIANTS)
        keys = (names.heads(key), names.writing(key), names.purged)
        answer = self.client.run(KEEP, keys, (names.contents(key), ms(LINGER), *rest), WRITE_LIMIT)
        return answer.addCallbacks(self._put, self._not_put)

    def _put(self, reply: Reply) -> bool:
        if reply == b"kept":
            before = self.clock.seconds() - QUIET
            self._complaints = {why: at for why, at in self._complaints.items() if at > before}
            return True
        if reply != b"outdated":
            self.not_kept("lost")
        return False

    def _not_put(self, failure: Failure) -> bool:
        self.complain(failure)
        return False

    def remove(self, field: bytes, record: Record) -> Deferred[Reply]:
        """Have an entry no more, if it is that one; 1 if it was there."""
        names, key = self.names, record.key
        arguments = (names.contents(key), ms(LINGER), field, record.token)
        return self.client.run(REMOVE, [names.heads(key)], arguments, WRITE_LIMIT)

    def forget(self, field: bytes, record: Record) -> None:
        """Have an entry no more, if that can be said to Redis now."""
        self.remove(field, record).addErrback(unconfirmed)

    def discard(self, key: bytes, token: bytes) -> None:
        """Have a content no more that belongs to no entry."""
        for words in (
            (b"HDEL", self.names.writing(key), token),
            (b"UNLINK", self.names.contents(key) + token),
        ):
            self.client.call(*words, limit=WRITE_LIMIT).addErrback(unconfirmed)

    # the log

    def complain(self, failure: Failure) -> None:
        """Say in the log that something was not kept; see ``not_kept``."""
        failure.trap(RedisTrouble)
        error = failure.value
        if isinstance(error, RedisRefused):
            if error.code in ("OOM", "MISCONF", "READONLY"):
                self.full_until = self.clock.seconds() + FULL_PAUSE
            self.not_kept(error.code)
        else:
            self.not_kept(type(error).__name__)

    def not_kept(self, why: str) -> None:
        """Say in the log that something was not kept.

        Each reason is told once, until something is kept again, QUIET later at the earliest.
        Args: what kind of reason it has.
        """
        if why not in self._complaints:
            self._complaints[why] = self.clock.seconds()
            sentence = _REASONS.get(why, f"it refuses a command ({why})")
            _log.warn("something is not kept in Redis: {why}", why=sentence)

    # holding

    def hold(self, name: bytes) -> None:
        """Have a content stay."""
        self._held[name] = self._held.get(name, 0) + 1
        if self._holding is None and not self._closed:
            self._holding = self.clock.callLater(LINGER / 3, self._hold_on)

    def release(self, name: bytes) -> None:
        """Have a content stay for one reader less."""
        left = self._held.get(name, 0) - 1
        if left > 0:
            self._held[name] = left
        else:
            self._held.pop(name, None)

    def _hold_on(self) -> None:
        self._holding = None
        names = list(self._held)
        for start in range(0, len(names), HELD_AT_ONCE):
            some = names[start : start + HELD_AT_ONCE]
            answer = self.client.run(HOLD, some, [ms(LINGER)], WRITE_LIMIT)
            answer.addErrback(unconfirmed)
        if names:
            self._holding = self.clock.callLater(LINGER / 3, self._hold_on)

    def close(self) -> None:
        """Hold nothing any more."""
        self._closed = True
        if self._holding is not None and self._holding.active():
            self._holding.cancel()
        self._held.clear()


def unconfirmed(failure: Failure) -> None:
    """Do without: what this was about goes by itself, when its time is over."""
    if not failure.check(RedisTrouble):
        _log.failure("a command to Redis failed", failure)


_REASONS = {
    "OOM": "it has no room (OOM)",
    "MISCONF": "it cannot write its own files (MISCONF)",
    "READONLY": "it is a replica (READONLY)",
    "NOPERM": "this login may not do it (NOPERM)",
    "RedisSlow": "it does not answer in time",
    "RedisAway": "the connection was lost",
    "RedisBusy": "too much waits for it already",
    "lost": "it has evicted a content before that was whole",
    "head": "a head is too long",
}
