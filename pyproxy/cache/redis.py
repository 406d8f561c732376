"""A store that several machines share: a Redis.

Every lookup asks it, so what one machine stores, invalidates or purges is so for all at once.  While
it is away there are no entries and nothing is stored; what was invalidated meanwhile is told to it
on its return, before anything is looked up again.  A machine that ends before that has told nobody.

What somebody is still fetching is not stored when its key was invalidated, or a purge began, since:
Redis' own clock tells, and no other.  A time of invalidation is known for STONE_LIFE, that of a
purge for PURGE_LIFE.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pyproxy.cache.packing import Unreadable
from pyproxy.cache.redis_census import Census
from pyproxy.cache.redis_content import (
    LINGER,
    WRITE_LIMIT,
    RedisContent,
    RedisFilling,
    ms,
)
from pyproxy.cache.redis_record import (
    MAX_VARIANTS,
    Names,
    Record,
    field_of,
    life_of,
    read_record,
)
from pyproxy.cache.redis_scripts import FIND, HOLD, INVALIDATE, KEEP, REFRESH, REMOVE, STAMP
from pyproxy.cache.redis_sweep import SWEEP_LIMIT, sweep
from pyproxy.cache.seams import Chosen, Entry, Found
from pyproxy.semantics.stored import StoredResponse
from pyproxy.sharing.redis import LOOKUP_LIMIT, RedisClient
from pyproxy.sharing.redis_errors import RedisRefused, RedisTrouble
from pyproxy.sharing.resp import Reply

PREFIX = b"pyproxy:1:"
"""What the names of all keys begin with; the number is that of their layout."""

MAX_UNCONFIRMED_BYTES = 16 * 1024 * 1024
"""Octets of all contents together that Redis has not confirmed yet."""

MAX_MISSED = 4096
"""Keys that were invalidated while Redis was away; more, and everything goes on its return."""

STONE_LIFE = 60.0
PURGE_LIFE = 3600.0
"""Seconds for which it is known that a key was invalidated, and that a purge began."""

FULL_PAUSE = 1.0
"""Seconds after which a Redis that had no room is asked again."""

RETRY = 1.0
"""Seconds after which an invalidation is sent again that Redis did not confirm."""

AT_ONCE = 100
"""Entries that a purge removes at the same time."""

_NOTHING: Mapping[bytes, Entry] = MappingProxyType({})

T = TypeVar("T")

_log = Logger()


@attrs.define(eq=False)
class RedisEntry(Entry):
    """An entry, and what it is called.

    Attributes:
        record: as it lies there.
        field: its name among those of its key.
    """

    record: Record | None = None
    field: bytes = b""


@attrs.define(eq=False)
class RedisStore:
    """Keeps entries in a Redis.  Whoever made the client starts it before, and closes it after.

    Args: octets that one content may have.

    Attributes:
        hot: empty, since others may remove an entry at any time.
        fillings: what is being written.
    """

    client: RedisClient
    _clock: IReactorTime
    entry: int
    names: Names = Names(PREFIX)
    hot: Mapping[bytes, Entry] = _NOTHING
    fillings: set[RedisFilling] = attrs.Factory(set)
    _census: Census = attrs.field(init=False)
    _held: dict[bytes, int] = attrs.Factory(dict)
    _holding: IDelayedCall | None = None
    _missed: dict[bytes, None] = attrs.Factory(dict)
    _overflows: int = 0
    """How often more was missed than is remembered: until all is gone nothing is found."""
    _clearing: bool = False
    _retrying: IDelayedCall | None = None
    _walks: set[Deferred[None]] = attrs.Factory(set)
    _unconfirmed: int = 0
    _full_until: float = 0.0
    _complaints: set[str] = attrs.Factory(set)
    _closed: bool = False

    def __attrs_post_init__(self) -> None:
        self._census = Census(self.client, self._clock, self.names)
        self.client.watch(self._catch_up)

    # asking

    def find(self, key: bytes, found: Found) -> None:
        """Look a key up."""
        if not self.client.connected or self._overflows or key in self._missed:
            found([])
            return
        names = self.names
        answer = self.client.run(FIND, [names.heads(key)], [names.contents(key)], LOOKUP_LIMIT)
        answer.addCallbacks(lambda reply: self._entries(key, reply), self._none)
        answer.addCallback(found)
        answer.addErrback(lambda failure: _log.failure("a lookup in Redis failed", failure))

    def _entries(self, key: bytes, reply: Reply) -> Sequence[Entry]:
        entries = []
        for octets in reply if isinstance(reply, list) else []:
            try:
                record = read_record(octets, with_content=True)
            except Unreadable:
                # Another version's, or another program's.
                continue
            if record.key == key and not self._overflows and key not in self._missed:
                entries.append(self._entry(record))
        return entries

    def _entry(self, record: Record) -> RedisEntry:
        field = field_of(record.head.varies)
        content = RedisContent(self, record)
        return RedisEntry(record.key, record.head, content, record=record, field=field)

    def _none(self, failure: Failure) -> Sequence[Entry]:
        failure.trap(RedisTrouble)
        if failure.check(RedisRefused):
            self.complain(failure)
        return []

    # filling

    def fill(self, key: bytes, head: StoredResponse, length: int | None) -> RedisFilling | None:
        """Begin to write a content."""
        now = self._clock.seconds()
        if self._closed or not self.client.connected or now < self._full_until:
            return None
        if length is not None and length > self.entry:
            return None
        if self._unconfirmed >= MAX_UNCONFIRMED_BYTES:
            return None
        filling = RedisFilling(self, key, now)
        self.fillings.add(filling)
        return filling

    def reserve(self, octets: int) -> bool:
        """Count octets that are in memory; tell whether there is room for them."""
        if self._unconfirmed + octets > MAX_UNCONFIRMED_BYTES:
            return False
        self._unconfirmed += octets
        return True

    def give_back(self, octets: int) -> None:
        """Count octets no more that were reserved."""
        self._unconfirmed -= octets

    def put(self, record: Record, since: float) -> Deferred[bool]:
        """Make an entry of what was written; tell whether it is one.  Args: since when it was."""
        names, key, head = self.names, record.key, record.head
        now = self._clock.seconds()
        try:
            octets = record.written()
        except ValueError:
            self.not_kept("head")
            outcome: Deferred[bool] = Deferred()
            outcome.callback(False)
            return outcome
        began = now - since
        produced = min(max(began, now - head.born), STONE_LIFE)
        arguments = (
            *(names.contents(key), ms(LINGER), field_of(head.varies), octets),
            *(ms(life_of(head, now)), MAX_VARIANTS, ms(produced), ms(began)),
        )
        keys = (names.heads(key), names.stone(key), names.purged)
        answer = self.client.run(KEEP, keys, arguments, WRITE_LIMIT)
        outcome = answer.addCallbacks(self._put, self._not_put)
        return outcome

    def _put(self, reply: Reply) -> bool:
        if reply == b"kept":
            self._complaints.clear()
            return True
        if reply != b"outdated":
            self.not_kept("lost")
        return False

    def _not_put(self, failure: Failure) -> bool:
        failure.trap(RedisTrouble)
        self.complain(failure)
        return False

    def complain(self, failure: Failure) -> None:
        """Say in the log that something was not kept, once until something is kept again."""
        error = failure.value
        if isinstance(error, RedisRefused):
            if error.code in ("OOM", "MISCONF", "READONLY"):
                self._full_until = self._clock.seconds() + FULL_PAUSE
            self.not_kept(error.code)
        else:
            self.not_kept(type(error).__name__)

    def not_kept(self, why: str) -> None:
        """Say in the log that something was not kept.  Args: what kind of reason it has."""
        if why not in self._complaints:
            self._complaints.add(why)
            sentence = _REASONS.get(why, f"it refuses that ({why})")
            _log.warn("nothing is stored in Redis for now: {why}", why=sentence)

    def unlink(self, name: bytes) -> None:
        """Have a content no more that belongs to no entry."""
        self.client.call(b"UNLINK", name, limit=WRITE_LIMIT).addErrback(_unconfirmed)

    # holding

    def hold(self, name: bytes) -> None:
        """Have a content stay."""
        self._held[name] = self._held.get(name, 0) + 1
        if self._holding is None and not self._closed:
            self._holding = self._clock.callLater(LINGER / 3, self._hold_on)

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
        for start in range(0, len(names), 500):
            some = names[start : start + 500]
            answer = self.client.run(HOLD, some, [ms(LINGER)], WRITE_LIMIT)
            answer.addErrback(_unconfirmed)
        if names:
            self._holding = self._clock.callLater(LINGER / 3, self._hold_on)

    # changing

    def refresh(self, entry: Entry, head: StoredResponse) -> None:
        """Give an entry another head."""
        entry.head = head
        entry.ready = None
        if not isinstance(entry, RedisEntry) or entry.record is None:
            return
        old, entry.field = entry.field, field_of(head.varies)
        entry.record = attrs.evolve(entry.record, head=head)
        names, key = self.names, entry.key
        try:
            octets = attrs.evolve(entry.record, content=None).written()
        except ValueError:
            self.not_kept("head")
            return
        life = ms(life_of(head, self._clock.seconds()))
        arguments = (names.contents(key), ms(LINGER), old, entry.field, octets, life)
        answer = self.client.run(REFRESH, [names.heads(key)], arguments, WRITE_LIMIT)
        answer.addErrback(self._not_put)

    def remove(self, entry: Entry) -> None:
        """Have one entry no more."""
        entry.live = False
        if isinstance(entry, RedisEntry) and entry.record is not None:
            self._remove(entry.field, entry.record).addErrback(_unconfirmed)

    def forget(self, record: Record) -> None:
        """Have an entry no more whose content is not whole."""
        self._remove(field_of(record.head.varies), record).addErrback(_unconfirmed)

    def _remove(self, field: bytes, record: Record) -> Deferred[Reply]:
        names, key = self.names, record.key
        arguments = (names.contents(key), ms(LINGER), field, record.token)
        return self.client.run(REMOVE, [names.heads(key)], arguments, WRITE_LIMIT)

    def invalidate(self, key: bytes) -> None:
        """Have no entry of a key any more, whether Redis is there now or later."""
        if self._closed:
            return
        names = self.names
        arguments = (names.contents(key), ms(LINGER), ms(STONE_LIFE))
        keys = (names.heads(key), names.stone(key))
        answer = self.client.run(INVALIDATE, keys, arguments, WRITE_LIMIT)

        def missed(failure: Failure) -> None:
            failure.trap(RedisTrouble)
            if failure.check(RedisRefused):
                # To say it again would be of no use.
                self.complain(failure)
            else:
                self._miss(key)

        answer.addErrback(missed)
        answer.addErrback(lambda failure: _log.failure("an invalidation was lost", failure))

    def _miss(self, key: bytes) -> None:
        """Remember an invalidation that Redis has not confirmed."""
        if self._closed:
            return
        if len(self._missed) >= MAX_MISSED:
            self._missed.clear()
            self._overflows += 1
        self._missed[key] = None
        self._retry_soon()

    def _retry_soon(self) -> None:
        if self._retrying is None and not self._closed:
            self._retrying = self._clock.callLater(RETRY, self._retry)

    def _retry(self) -> None:
        self._retrying = None
        if self.client.connected:
            self._catch_up()

    def _catch_up(self) -> None:
        """Tell Redis what was invalidated while it was away."""
        missed, self._missed = self._missed, {}
        for key in missed:
            self.invalidate(key)
        if self._overflows and not self._clearing:
            self._clearing = True
            told = self._overflows
            everything = self._walk(self._purge(lambda key, head: True, []))
            everything.addCallbacks(lambda _: self._caught_up(told), self._still_missed)

    def _caught_up(self, told: int) -> None:
        self._clearing = False
        if self._overflows == told:
            self._overflows = 0
        else:
            self._retry_soon()

    def _still_missed(self, failure: Failure) -> None:
        failure.trap(RedisTrouble, CancelledError)
        self._clearing = False
        self._retry_soon()

    # for people

    def purge(self, chosen: Chosen) -> Deferred[int]:
        """Remove all entries that are chosen.  Fails with RedisTrouble, some removed, some not."""
        gone: list[Reply] = []
        return self._walk(self._purge(chosen, gone)).addCallback(lambda _: gone.count(1))

    async def _purge(self, chosen: Chosen, gone: list[Reply]) -> None:
        arguments = (b"", ms(LINGER), ms(PURGE_LIFE))
        await self.client.run(STAMP, [self.names.purged], arguments, SWEEP_LIMIT)
        removing: list[Deferred[Reply]] = []
        async for field, record in sweep(self.client, self.names):
            if chosen(record.key, record.head):
                removing.append(self._remove(field, record))
            if len(removing) >= AT_ONCE:
                some, removing = removing, []
                gone += await gatherResults(some, consumeErrors=True).addErrback(_first)
        gone += await gatherResults(removing, consumeErrors=True).addErrback(_first)

    def entries(self, chosen: Chosen, limit: int) -> Deferred[Sequence[Entry]]:
        """Return some of the entries that are chosen.  Fails with RedisTrouble."""
        some: dict[bytes, Entry] = {}
        return self._walk(self._some(chosen, limit, some)).addCallback(
            lambda _: list(some.values())
        )

    async def _some(self, chosen: Chosen, limit: int, some: dict[bytes, Entry]) -> None:
        if limit <= 0:
            return
        async for _, record in sweep(self.client, self.names):
            if chosen(record.key, record.head):
                some[record.token] = self._entry(record)
                if len(some) >= limit:
                    return

    def _walk(self, story: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        """Go through all entries; ``close`` ends it."""
        walk = Deferred.fromCoroutine(story)
        self._walks.add(walk)

        def ended(outcome: T) -> T:
            self._walks.discard(walk)
            return outcome

        return walk.addBoth(ended)

    def figures(self) -> Mapping[str, int | str]:
        """Return sizes and counts, as they were when Redis was asked last, and the connection's."""
        return self._census.figures()

    def close(self) -> None:
        """Drop what is being written; the client is whoever's it was."""
        self._closed = True
        self.client.unwatch(self._catch_up)
        for filling in list(self.fillings):
            filling.drop()
        for call in (self._holding, self._retrying):
            if call is not None and call.active():
                call.cancel()
        self._held.clear()
        for walk in list(self._walks):
            walk.cancel()


def _first(failure: Failure) -> NoReturn:
    """Fail as the first of several did."""
    first = failure.value
    if isinstance(first, FirstError):
        first.subFailure.raiseException()
    failure.raiseException()
    raise AssertionError


def _unconfirmed(failure: Failure) -> None:
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
