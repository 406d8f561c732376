"""A store that several machines share: a Redis.

Every lookup asks it: what one machine stores, invalidates or purges is so for all at once.  While
it is away there are no entries and nothing is stored; what was invalidated meanwhile is told to it
on its return, before anything is looked up again.  A machine that ends before that has told nobody.

A content that was being written when its key was invalidated, or a purge began, does not become an
entry, whichever machine did it.  One whose head had not come then does.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

import attrs
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pyproxy.cache.packing import Unreadable
from pyproxy.cache.redis.census import Census
from pyproxy.cache.redis.content import RedisContent, RedisFilling
from pyproxy.cache.redis.missed import Invalidations
from pyproxy.cache.redis.record import Names, Record, field_of, life_of, read_record
from pyproxy.cache.redis.scripts import FIND, REFRESH, STAMP
from pyproxy.cache.redis.shelf import (
    FILL_LIFE,
    LINGER,
    MAX_UNCONFIRMED_BYTES,
    WRITE_LIMIT,
    Shelf,
    ms,
)
from pyproxy.cache.redis.sweep import SWEEP_LIMIT, sweep
from pyproxy.cache.seams import Chosen, Entry, Found
from pyproxy.semantics.stored import StoredResponse
from pyproxy.sharing.redis import LOOKUP_LIMIT, RedisClient
from pyproxy.sharing.redis_errors import RedisRefused, RedisTrouble
from pyproxy.sharing.resp import Reply

PREFIX = b"pyproxy:1:"
"""What the names of all keys begin with; the number is that of their layout."""

PURGE_LIFE = 2 * FILL_LIFE
"""Seconds for which the number of a purge is known."""

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
    _shelf: Shelf = attrs.field(init=False)
    _invalid: Invalidations = attrs.field(init=False)
    _census: Census = attrs.field(init=False)
    _walks: set[Deferred[None]] = attrs.Factory(set)
    _closed: bool = False

    def __attrs_post_init__(self) -> None:
        self._shelf = Shelf(self.client, self._clock, self.names)
        self._invalid = Invalidations(self._shelf, self._clear)
        self._census = Census(self.client, self._clock, self.names)
        self.client.watch(self._invalid.catch_up)

    def resize(self, memory: int, entry: int) -> None:
        """Have another bound for one content from now on."""
        self.entry = entry

    # asking

    def find(self, key: bytes, found: Found) -> None:
        """Look a key up."""
        if self._closed or not self.client.connected or self._invalid.missed(key):
            found([])
            return
        names = self.names
        answer = self.client.run(FIND, [names.heads(key)], [names.contents(key)], LOOKUP_LIMIT)

        def tell(entries: Sequence[Entry]) -> None:
            found(entries)

        entries = answer.addCallbacks(lambda reply: self._entries(key, reply), self._none)
        entries.addCallback(tell).addErrback(
            lambda failure: _log.failure("a lookup in Redis failed", failure)
        )

    def _entries(self, key: bytes, reply: Reply) -> Sequence[Entry]:
        entries = []
        for octets in reply if isinstance(reply, list) else []:
            try:
                record = read_record(octets, with_content=True)
            except Unreadable:
                # Another version's, or another program's.
                continue
            if record.key == key and not self._invalid.outdates(key):
                entries.append(self._entry(record))
        return entries

    def _entry(self, record: Record) -> RedisEntry:
        field = field_of(record.head.varies)
        content = RedisContent(self._shelf, record)
        return RedisEntry(record.key, record.head, content, record=record, field=field)

    def _none(self, failure: Failure) -> Sequence[Entry]:
        failure.trap(RedisTrouble)
        if failure.check(RedisRefused):
            self._shelf.complain(failure)
        return []

    # filling

    def fill(self, key: bytes, head: StoredResponse, length: int | None) -> RedisFilling | None:
        """Begin to write a content."""
        shelf = self._shelf
        if self._closed or not self.client.connected or self._clock.seconds() < shelf.full_until:
            return None
        if length is not None and length > self.entry:
            return None
        if shelf.unconfirmed >= MAX_UNCONFIRMED_BYTES:
            return None
        filling = RedisFilling(shelf, key, self.entry, self.fillings.discard)
        self.fillings.add(filling)
        return filling

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
            self._shelf.not_kept("head")
            return
        life = ms(life_of(head, self._clock.seconds()))
        arguments = (names.contents(key), ms(LINGER), old, entry.field, octets, life)
        answer = self.client.run(REFRESH, [names.heads(key)], arguments, WRITE_LIMIT)
        answer.addErrback(self._shelf.complain)

    def remove(self, entry: Entry) -> None:
        """Have one entry no more."""
        entry.live = False
        if isinstance(entry, RedisEntry) and entry.record is not None:
            self._shelf.forget(entry.field, entry.record)

    def invalidate(self, key: bytes) -> None:
        """Have no entry of a key any more, whether Redis is there now or later."""
        self._invalid.tell(key)

    def _clear(self) -> Deferred[None]:
        return self._walk(self._purge(lambda key, head: True, []))

    # for people

    def purge(self, chosen: Chosen) -> Deferred[int]:
        """Remove all entries that are chosen.  Fails with RedisTrouble, some removed, some not."""
        gone: list[Reply] = []
        return self._walk(self._purge(chosen, gone)).addCallback(lambda _: gone.count(1))

    async def _purge(self, chosen: Chosen, gone: list[Reply]) -> None:
        await self.client.run(STAMP, [self.names.purged], [ms(PURGE_LIFE)], SWEEP_LIMIT)
        removing: list[Deferred[Reply]] = []
        async for field, record in sweep(self.client, self.names):
            if chosen(record.key, record.head):
                removing.append(self._shelf.remove(field, record))
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
        self.client.unwatch(self._invalid.catch_up)
        for filling in list(self.fillings):
            filling.drop()
        self._invalid.close()
        self._shelf.close()
        for walk in list(self._walks):
            walk.cancel()


def _first(failure: Failure) -> NoReturn:
    """Fail as the first of several did."""
    first = failure.value
    if isinstance(first, FirstError):
        first.subFailure.raiseException()
    failure.raiseException()
    raise AssertionError
