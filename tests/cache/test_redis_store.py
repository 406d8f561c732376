"""The store in a Redis: a real one, which several stores share and which comes and goes."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import cast

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from pyproxy.cache.redis import missed, shelf
from pyproxy.cache.redis.record import INLINE_BYTES, MAX_VARIANTS
from pyproxy.cache.redis.store import RedisStore
from pyproxy.cache.seams import BLOCK_BYTES, Content, ContentLost, Entry, Filling
from pyproxy.semantics.stored import StoredResponse
from pyproxy.sharing.redis import LOOKUP_LIMIT
from pyproxy.sharing.redis_errors import RedisTrouble
from tests.sharing.kit import (
    NO_SERVER,
    SERVER,
    RedisTestCase,
    Server,
    Speaker,
    story,
    the_reactor,
)

LONG = 10.0
KEY = b"GET http://a.example/\xff\r\n"
LARGE = bytes(range(256)) * 4096
"""A content of several pieces."""


def head_of(*, tag: bytes = b"t", varies: str = "", born: float | None = None) -> StoredResponse:
    """Return a head that is fresh for a minute."""
    now = time.time() if born is None else born
    chosen = ((b"accept", varies.encode()),) if varies else ()
    fields = ((b"Content-Type", b"text/plain"), (b"X", b"\xff"))
    return StoredResponse(200, b"OK", fields, now, now + 60, chosen, etag=b'"1"', tags=(tag,))


async def taken(content: Content, start: int = 0) -> bytes:
    """Read a content from a place to its end."""
    octets = b""
    while start + len(octets) < content.count:
        piece = content.read(start + len(octets))
        if isinstance(piece, Deferred):
            piece = await piece
        if not piece:
            raise AssertionError("the content ends before its end")
        if len(piece) > BLOCK_BYTES:
            raise AssertionError("a piece is too long")
        octets += piece
    return octets


@attrs.define
class Found:
    """What a lookup has told."""

    entries: Sequence[Entry] | None = None
    times: int = 0

    def __call__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.times += 1


class StoreTestCase(RedisTestCase):
    """A case with a Redis and stores in it."""

    options: tuple[str, ...] = ()

    if SERVER is None:
        skip = NO_SERVER

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        take = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(take)
        self.addCleanup(globalLogPublisher.removeObserver, take)
        self.redis: Server = self.server(*self.options)

    async def make_store(self, entry: int = 64 * 1024 * 1024) -> RedisStore:
        """Return a store that is connected."""
        client = self.client(self.redis.place)
        store = RedisStore(client, the_reactor(), entry)
        self.addCleanup(store.close)
        await self.until(lambda: client.connected)
        return store

    def complaints(self) -> list[str]:
        """Return what was said about what is not kept."""
        return [
            event["why"]
            for event in self.events
            if (event.get("log_format") or "").startswith("something is not kept")
        ]

    async def find(self, store: RedisStore, key: bytes = KEY) -> Sequence[Entry]:
        """Look a key up, more than once on a machine that is too busy for the limit."""
        for _ in range(5):
            found, before = Found(), store.client.tally.timeouts
            store.find(key, found)
            entries = await self.until(lambda found=found: found)  # type: ignore[misc]
            await self.until(lambda entries=entries: entries.times)  # type: ignore[misc]
            if found.entries or store.client.tally.timeouts == before:
                break
        self.assertEqual(1, found.times)
        return found.entries or []

    async def put(
        self,
        store: RedisStore,
        content: bytes = b"abc",
        head: StoredResponse | None = None,
        key: bytes = KEY,
    ) -> Filling:
        """Store a response; wait until Redis has confirmed it, or not."""
        head = head or head_of()
        filling = store.fill(key, head, None)
        assert filling is not None
        for start in range(0, len(content), 10_000):
            while not filling.write(content[start : start + 10_000]):
                if filling._failed:
                    break
                await self.pause(0.01)
        filling.keep(attrs.evolve(head, length=len(content)))
        await self.until(lambda: filling not in store.fillings)
        return filling


class KeepingTests(StoreTestCase):
    """What one machine stores, all find."""

    @story
    async def test_found_by_another(self) -> None:
        """Content and head come back as they were, of every size, on every machine."""
        one, other = await self.make_store(), await self.make_store()
        for size in (0, 1, INLINE_BYTES, INLINE_BYTES + 1, BLOCK_BYTES, BLOCK_BYTES + 1, 1 << 20):
            content = LARGE[:size]
            head = head_of(tag=b"%d" % size)
            await self.put(one, content, head)
            for store in (one, other):
                entry = (await self.find(store))[0]
                self.assertEqual(KEY, entry.key)
                self.assertEqual(attrs.evolve(head, length=size), entry.head)
                self.assertEqual(content, await taken(entry.content))
                self.assertEqual(content[size // 2 :], await taken(entry.content, size // 2))
                self.assertEqual(b"", entry.content.read(size))
        self.assertEqual([], list(one.hot))
        self.assertEqual([], self.complaints())

    @story
    async def test_nothing(self) -> None:
        """A key that nobody stored has no entries."""
        self.assertEqual([], await self.find(await self.make_store()))

    @story
    async def test_variants(self) -> None:
        """Entries that Vary tells apart are side by side; the same again takes its place."""
        store = await self.make_store()
        await self.put(store, b"de", head_of(varies="de"))
        await self.put(store, LARGE, head_of(varies="en"))
        await self.put(store, b"de again", head_of(varies="de"))
        found = {entry.head.varies: entry for entry in await self.find(store)}
        self.assertEqual(2, len(found))
        contents = [
            await taken(found[head_of(varies=name).varies].content) for name in ("de", "en")
        ]
        self.assertEqual([b"de again", LARGE], contents)

    @story
    async def test_variants_are_bounded(self) -> None:
        """One more than a key may have, and all before it go."""
        store = await self.make_store()
        for number in range(MAX_VARIANTS):
            await self.put(store, b"x", head_of(varies=str(number)))
        self.assertEqual(MAX_VARIANTS, len(await self.find(store)))
        await self.put(store, b"x", head_of(varies="more"))
        self.assertEqual(1, len(await self.find(store)))

    @story
    async def test_only_whole(self) -> None:
        """Nobody finds what is still being written; who writes it can read all of it."""
        store = await self.make_store()
        filling = store.fill(KEY, head_of(), None)
        assert filling is not None
        filling.hold()
        self.assertTrue(filling.write(LARGE[:300_000]))
        self.assertEqual(LARGE[:300_000], await taken(filling))
        self.assertEqual([], await self.find(store))
        await self.until(lambda: len(filling._pieces) == 0)
        self.assertTrue(filling.write(memoryview(LARGE)[300_000:]))
        self.assertEqual(LARGE, await taken(filling))
        filling.keep(attrs.evolve(head_of(), length=len(LARGE)))
        self.assertEqual(LARGE, await taken(filling))
        await self.until(lambda: not filling._unconfirmed)
        self.assertEqual(LARGE, await taken((await self.find(store))[0].content))
        filling.release()
        self.assertEqual((0, set()), (store._shelf.unconfirmed, store.fillings))

    @story
    async def test_dropped(self) -> None:
        """What is dropped is found by nobody, read by who holds it, and then gone from Redis."""
        store = await self.make_store()
        filling = store.fill(KEY, head_of(), None)
        assert filling is not None
        filling.hold()
        filling.write(LARGE)
        filling.drop()
        filling.drop()
        self.assertFalse(filling.write(b"x"))
        self.assertEqual(LARGE, await taken(filling))
        filling.release()
        await self.until(lambda: not store.fillings)
        self.assertEqual([], await self.find(store))
        self.assertEqual(0, await store.client.call(b"DBSIZE", limit=LONG))
        self.assertEqual(0, store._shelf.unconfirmed)

    @story
    async def test_bounds(self) -> None:
        """Neither one content nor all that wait for Redis are longer than their bounds."""
        store = await self.make_store(100_000)
        self.assertIsNone(store.fill(KEY, head_of(), 100_001))
        filling = store.fill(KEY, head_of(), 100_000)
        assert filling is not None
        self.assertTrue(filling.write(bytes(100_000)))
        self.assertFalse(filling.write(b"x"))
        filling.drop()
        store.entry = 1 << 30
        self.redis.signal(signal.SIGSTOP)
        filling = store.fill(KEY, head_of(), None)
        assert filling is not None
        filling.hold()
        while filling.write(LARGE):
            self.assertLessEqual(filling.count, shelf.MAX_UNCONFIRMED_BYTES)
        self.assertEqual(LARGE, (await taken(filling))[: len(LARGE)])
        self.redis.signal(signal.SIGCONT)
        filling.drop()
        filling.release()
        await self.until(lambda: not store.fillings)
        self.assertEqual(0, store._shelf.unconfirmed)

    @story
    async def test_names(self) -> None:
        """No name of a key has anything of a client in it; all of them end by themselves."""
        store = await self.make_store()
        await self.put(store, LARGE)
        filling = store.fill(b"other", head_of(), None)
        keys = await store.client.call(b"KEYS", b"*", limit=LONG)
        assert isinstance(keys, list)
        self.assertEqual(3, len(keys))
        for name in keys:
            assert isinstance(name, bytes)
            self.assertRegex(name, rb"\Apyproxy:1:[hcw]:\{[0-9a-f]{40}\}(:[0-9a-f]{32})?\Z")
            left = await store.client.call(b"PTTL", name, limit=LONG)
            self.assertGreater(cast(int, left), 0)
        assert filling is not None
        filling.drop()

    @story
    async def test_foreign(self) -> None:
        """What others have put in an entry's place is no entry, and no harm."""
        store = await self.make_store()
        await self.put(store, b"abc")
        heads = store.names.heads(KEY)
        field = (await store.client.call(b"HKEYS", heads, limit=LONG))[0]  # type: ignore[index]
        assert isinstance(field, bytes)
        good = await store.client.call(b"HGET", heads, field, limit=LONG)
        assert isinstance(good, bytes)
        for at in range(0, len(good), 7):
            bad = good[:at] + bytes((good[at] ^ 0x10,)) + good[at + 1 :]
            await store.client.call(b"HSET", heads, field, bad, limit=LONG)
            for entry in await self.find(store):
                # The token, or the content itself: there is no digest of these.
                self.assertEqual(head_of().fields, entry.head.fields)
        await store.client.call(b"SET", heads, b"text", limit=LONG)
        self.assertEqual([], await self.find(store))


class ChangingTests(StoreTestCase):
    """What one machine changes has changed for all."""

    @story
    async def test_refreshed(self) -> None:
        """A new head, the same content; not for an entry that has gone meanwhile."""
        one, other = await self.make_store(), await self.make_store()
        for content in (b"abc", LARGE):
            await self.put(one, content)
            entry = (await self.find(one))[0]
            head = attrs.evolve(entry.head, tags=(b"new",), fresh_until=time.time() + 1000)
            one.refresh(entry, head)
            self.assertEqual(head, entry.head)
            await one.client.call(b"PING", limit=LONG)
            entry = (await self.find(other))[0]
            self.assertEqual(head, entry.head)
            self.assertEqual(content, await taken(entry.content))
            one.refresh(entry, attrs.evolve(head, varies=((b"accept", None),)))
            await one.client.call(b"PING", limit=LONG)
            entry = (await self.find(other))[0]
            self.assertEqual(((b"accept", None),), entry.head.varies)
            self.assertEqual(content, await taken(entry.content))
            other.remove(entry)
            self.assertFalse(entry.live)
            await other.client.call(b"PING", limit=LONG)
            one.refresh(entry, head)
            self.assertEqual([], await self.find(one))

    @story
    async def test_removed(self) -> None:
        """Only that one goes, not one that has taken its place; who reads it goes on."""
        one, other = await self.make_store(), await self.make_store()
        await self.put(one, LARGE)
        old = (await self.find(one))[0]
        await self.put(other, LARGE[::-1])
        one.remove(old)
        new = (await self.find(one))[0]
        self.assertEqual(LARGE[::-1], await taken(new.content))
        self.assertEqual(LARGE, await taken(old.content))
        one.remove(new)
        self.assertEqual([], await self.find(one))
        self.assertEqual(LARGE[::-1], await taken(new.content))

    @story
    async def test_invalidated(self) -> None:
        """All entries of a key go, on all machines, and what is being written for it."""
        one, other = await self.make_store(), await self.make_store()
        await self.put(one, b"1", head_of(varies="de"))
        await self.put(one, LARGE, head_of(varies="en"))
        await self.put(one, b"kept", key=b"other")
        filling = other.fill(KEY, head_of(), None)
        assert filling is not None
        filling.write(LARGE)
        one.invalidate(KEY)
        await one.client.call(b"PING", limit=LONG)
        filling.keep(attrs.evolve(head_of(), length=len(LARGE)))
        await self.until(lambda: not other.fillings)
        self.assertEqual([], await self.find(other))
        self.assertEqual(1, len(await self.find(other, b"other")))
        await self.put(other, b"new")
        self.assertEqual(1, len(await self.find(one)))
        self.assertEqual([], self.complaints())

    @story
    async def test_invalidated_right_behind(self) -> None:
        """An invalidation comes after what was kept before it, although neither has waited."""
        store = await self.make_store()
        filling = store.fill(KEY, head_of(), None)
        assert filling is not None
        filling.write(LARGE)
        filling.keep(attrs.evolve(head_of(), length=len(LARGE)))
        store.invalidate(KEY)
        self.assertEqual([], await self.find(store))

    @story
    async def test_purged(self) -> None:
        """Those that are chosen go, on all machines, also one that was being written."""
        one, other = await self.make_store(), await self.make_store()
        for number in range(600):
            key, tag = b"key %d" % number, b"odd" if number % 2 else b"even"
            filling = one.fill(key, head_of(), None)
            assert filling is not None
            filling.write(b"%d" % number)
            filling.keep(attrs.evolve(head_of(tag=tag), length=filling.count))
        await self.until(lambda: not one.fillings)
        late = one.fill(KEY, head_of(tag=b"odd"), None)
        assert late is not None
        count = await other.purge(lambda key, head: b"odd" in head.tags)
        self.assertEqual(300, count)
        late.keep(attrs.evolve(head_of(tag=b"odd"), length=0))
        await self.until(lambda: not one.fillings)
        self.assertEqual([], await self.find(one))
        self.assertEqual([], await self.find(one, b"key 1"))
        self.assertEqual(1, len(await self.find(one, b"key 2")))
        left = await one.entries(lambda key, head: True, 1000)
        self.assertEqual({b"even"}, {entry.head.tags[0] for entry in left})
        self.assertEqual(300, len(left))
        self.assertEqual(0, await one.purge(lambda key, head: b"odd" in head.tags))
        self.assertEqual(300, await one.purge(lambda key, head: True))

    @story
    async def test_entries(self) -> None:
        """As many as are asked for, with contents that can be read."""
        store = await self.make_store()
        for number in range(20):
            await self.put(store, b"%d" % number, key=b"key %d" % number)
        await self.put(store, LARGE, head_of(tag=b"large"))
        self.assertEqual(5, len(await store.entries(lambda key, head: True, 5)))
        self.assertEqual(0, len(await store.entries(lambda key, head: True, 0)))
        for key, content in ((b"key 7", b"7"), (KEY, LARGE)):
            some = await store.entries(lambda it, head, key=key: it == key, 5)  # type: ignore[misc]
            self.assertEqual([content], [await taken(entry.content) for entry in some])

    @story
    async def test_figures(self) -> None:
        """Entries, the connection, and what was counted."""
        store = await self.make_store()
        await self.put(store, LARGE)
        await self.put(store, b"abc", key=b"other")
        store.figures()
        await self.until(lambda: store.figures()["entries"])
        figures = store.figures()
        self.assertEqual(("redis", 2, "connected"), tuple(map(figures.get, KINDS)))
        self.assertGreater(cast(int, figures["bytes"]), len(LARGE))
        self.assertEqual((0, 0), (figures["evicted"], figures["refused"]))
        self.redis.stop()
        await self.until(lambda: store.figures()["redis"] == "away")


KINDS = ("store", "entries", "redis")


class LossTests(StoreTestCase):
    """What Redis has no more."""

    async def lose(self, store: RedisStore) -> None:
        """Remove all contents, as Redis' eviction does."""
        keys = await store.client.call(b"KEYS", b"*:c:*", limit=LONG)
        assert isinstance(keys, list)
        for name in keys:
            assert isinstance(name, bytes)
            await store.client.call(b"DEL", name, limit=LONG)

    @story
    async def test_before(self) -> None:
        """An entry whose content is not whole is not found, and gone."""
        store = await self.make_store()
        await self.put(store, LARGE)
        await self.lose(store)
        self.assertEqual([], await self.find(store))
        self.assertEqual(0, await store.client.call(b"EXISTS", store.names.heads(KEY), limit=LONG))

    @story
    async def test_while_reading(self) -> None:
        """A content that goes while it is read fails with ContentLost, and its entry goes too."""
        store = await self.make_store()
        await self.put(store, LARGE)
        entry = (await self.find(store))[0]
        entry.content.hold()
        piece = entry.content.read(0)
        assert isinstance(piece, Deferred)
        self.assertEqual(LARGE[:BLOCK_BYTES], await piece)
        await self.lose(store)
        with self.assertRaises(ContentLost):
            await taken(entry.content, BLOCK_BYTES)
        entry.content.release()
        await store.client.call(b"PING", limit=LONG)
        self.assertEqual(0, await store.client.call(b"EXISTS", store.names.heads(KEY), limit=LONG))

    @story
    async def test_while_writing(self) -> None:
        """A content that is evicted before it is whole is not stored; the log says so."""
        store = await self.make_store()
        filling = store.fill(KEY, head_of(), None)
        assert filling is not None
        filling.write(LARGE)
        await self.until(lambda: not filling._pieces)
        await self.lose(store)
        filling.write(LARGE)
        filling.keep(attrs.evolve(head_of(), length=2 * len(LARGE)))
        await self.until(lambda: not store.fillings)
        self.assertEqual([], await self.find(store))
        self.assertEqual(["it has evicted a content before that was whole"], self.complaints())

    @story
    async def test_held(self) -> None:
        """What is read or held stays for another while, and no longer."""
        store = await self.make_store()
        await self.put(store, LARGE)
        entry = (await self.find(store))[0]
        store.remove(entry)
        name = entry.content._name  # type: ignore[attr-defined]
        left = await store.client.call(b"PTTL", name, limit=LONG)
        self.assertTrue(0 < cast(int, left) <= shelf.LINGER * 1000)
        await store.client.call(b"PEXPIRE", name, 5000, limit=LONG)
        await taken(entry.content)
        left = await store.client.call(b"PTTL", name, limit=LONG)
        self.assertGreater(cast(int, left), 5000)
        await store.client.call(b"PEXPIRE", name, 5000, limit=LONG)
        entry.content.hold()
        store._shelf._holding.cancel()  # type: ignore[union-attr]
        store._shelf._hold_on()
        left = await store.client.call(b"PTTL", name, limit=LONG)
        self.assertGreater(cast(int, left), 5000)
        entry.content.release()
        self.assertEqual({}, store._shelf._held)


class FullTests(StoreTestCase):
    """A Redis without room."""

    options = ("--maxmemory", "6mb", "--maxmemory-policy", "noeviction")

    @story
    async def test_full(self) -> None:
        """Nothing is stored, which the log says once; hits go on, and storing does after room."""
        store = await self.make_store()
        await self.put(store, b"abc")
        await self.put(store, b"purged", key=b"other")
        for number in range(20):
            filling = store.fill(b"%d" % number, head_of(), None)
            if filling is not None:
                filling.hold()
                for _ in range(3):
                    filling.write(LARGE)
                filling.keep(attrs.evolve(head_of(), length=filling.count))
                self.assertEqual(filling.count, len(await taken(filling)))
                filling.release()
                await self.until(lambda: not store.fillings)
        self.assertEqual(["it has no room (OOM)"], self.complaints())
        self.assertEqual(b"abc", await taken((await self.find(store))[0].content))
        store.invalidate(KEY)
        self.assertEqual([], await self.find(store))
        self.assertGreater(await store.purge(lambda key, head: True), 0)
        await store.client.call(b"FLUSHALL", limit=LONG)
        await self.until(lambda: store.fill(KEY, head_of(), None))
        await self.put(store, b"new")
        self.assertEqual(1, len(await self.find(store)))


class EvictingTests(StoreTestCase):
    """A Redis that evicts what it likes."""

    options = ("--maxmemory", "6mb", "--maxmemory-policy", "allkeys-random")

    @story
    async def test_evicting(self) -> None:
        """What is found is whole, whatever was evicted."""
        store, found = await self.make_store(), 0
        for number in range(60):
            content = LARGE[number : number + 200_000]
            await self.put(store, content, key=b"%d" % number)
            for earlier in range(0, number, 7):
                for entry in await self.find(store, b"%d" % earlier):
                    try:
                        octets = await taken(entry.content)
                    except ContentLost:
                        continue
                    self.assertEqual(LARGE[earlier : earlier + 200_000], octets)
                    found += 1
        self.assertGreater(found, 0)


class AwayTests(StoreTestCase):
    """A Redis that is not there, or slow."""

    async def assert_nothing(self, store: RedisStore) -> None:
        """Check that nothing is found and nothing stored, at once."""
        found = Found()
        store.find(KEY, found)
        self.assertEqual([], found.entries)
        self.assertIsNone(store.fill(KEY, head_of(), None))
        with self.assertRaises(RedisTrouble):
            await store.purge(lambda key, head: True)
        with self.assertRaises(RedisTrouble):
            await store.entries(lambda key, head: True, 1)

    @story
    async def test_killed(self) -> None:
        """Nothing is found or stored while it is away; afterwards all goes on by itself."""
        store = await self.make_store()
        await self.put(store, LARGE)
        entry = (await self.find(store))[0]
        filling = store.fill(b"other", head_of(), None)
        assert filling is not None
        filling.hold()
        filling.write(LARGE)
        self.redis.stop()
        await self.until(lambda: not store.client.connected)
        self.assertFalse(filling.write(b"x"))
        filling.keep(head_of())
        with self.assertRaises(ContentLost):
            await taken(entry.content)
        filling.release()
        await self.assert_nothing(store)
        self.redis.start()
        await self.until(lambda: store.client.connected)
        self.assertEqual([], await self.find(store))
        await self.put(store, LARGE)
        self.assertEqual(LARGE, await taken((await self.find(store))[0].content))
        self.assertEqual(0, store._shelf.unconfirmed)

    @story
    async def test_hanging(self) -> None:
        """A lookup waits for its limit and no longer; then there is no waiting at all."""
        store = await self.make_store()
        await self.put(store, b"abc")
        self.redis.signal(signal.SIGSTOP)
        looks = [Found() for _ in range(10)]
        began = time.monotonic()
        for found in looks:
            store.find(KEY, found)
        await self.until(lambda: all(found.times for found in looks))
        self.assertLess(time.monotonic() - began, LOOKUP_LIMIT + 1.0)
        self.assertEqual([[]] * 10, [found.entries for found in looks])
        await self.until(lambda: not store.client.connected)
        await self.assert_nothing(store)
        self.redis.signal(signal.SIGCONT)
        await self.until(lambda: store.client.connected)
        self.assertEqual(1, len(await self.find(store)))

    @story
    async def test_invalidated_meanwhile(self) -> None:
        """What was invalidated while it hung is gone before anybody looks it up again."""
        store, other = await self.make_store(), await self.make_store()
        for key in (KEY, b"second", b"kept"):
            await self.put(store, LARGE, key=key)
        self.redis.signal(signal.SIGSTOP)
        store.invalidate(KEY)
        for _ in range(3):
            store.find(KEY, Found())
        await self.until(lambda: not store.client.connected)
        store.invalidate(b"second")
        self.assertEqual({KEY, b"second"}, set(store._invalid._missed))
        looks: list[Found] = []

        def look() -> None:
            for key in (KEY, b"second", b"kept"):
                looks.append(Found())
                store.find(key, looks[-1])

        store.client.watch(look)
        self.redis.signal(signal.SIGCONT)
        await self.until(lambda: looks and all(found.times for found in looks))
        self.assertEqual([[], []], [found.entries for found in looks[:2]])
        self.assertEqual(1, len(await self.find(store, b"kept")))
        self.assertEqual([], await self.find(other))
        self.assertEqual([], await self.find(other, b"second"))
        self.assertEqual({}, store._invalid._missed)

    @story
    async def test_too_much_invalidated_meanwhile(self) -> None:
        """When more was invalidated than is remembered, everything goes."""
        store, other = await self.make_store(), await self.make_store()
        await self.put(store, LARGE)
        self.redis.signal(signal.SIGSTOP)
        for _ in range(3):
            store.find(KEY, Found())
        await self.until(lambda: not store.client.connected)
        for number in range(missed.MAX_MISSED + 1):
            store.invalidate(b"%d" % number)
        self.redis.signal(signal.SIGCONT)
        await self.until(lambda: store.client.connected)
        await self.until(lambda: not store._invalid.missed(KEY))
        self.assertEqual([], await self.find(store))
        self.assertEqual([], await self.find(other))
        await self.put(store, b"new")
        self.assertEqual(1, len(await self.find(other)))

    @story
    async def test_garbage(self) -> None:
        """Replies of another kind than Redis' are no entries."""
        client = self.client(self.impostor(Odd))
        store = RedisStore(client, the_reactor(), 1 << 20)
        self.addCleanup(store.close)
        await self.until(lambda: client.connected)
        found = Found()
        store.find(KEY, found)
        await self.until(lambda: found.times)
        self.assertEqual([], found.entries)
        with self.assertRaises(RedisTrouble):
            await store.purge(lambda key, head: True)
        store.invalidate(KEY)
        store.figures()
        filling = store.fill(KEY, head_of(), None)
        assert filling is not None
        filling.write(LARGE)
        filling.keep(attrs.evolve(head_of(), length=len(LARGE)))
        await self.until(lambda: not store.fillings)
        self.assertEqual([], self.flushLoggedErrors())

    @story
    async def test_closed(self) -> None:
        """After its end nothing is stored, what was being written is gone, and nothing waits."""
        store = await self.make_store()
        filling = store.fill(KEY, head_of(), None)
        assert filling is not None
        filling.write(LARGE)
        store.close()
        self.assertFalse(filling.write(b"x"))
        filling.keep(head_of())
        self.assertIsNone(store.fill(KEY, head_of(), None))
        await self.until(lambda: not store.fillings)
        self.assertEqual(0, await store.client.call(b"DBSIZE", limit=LONG))

    @story
    async def test_many_lookups(self) -> None:
        """Many at once are all answered, each once."""
        store = await self.make_store()
        await self.put(store, b"abc")
        looks = [Found() for _ in range(2000)]
        for found in looks:
            store.find(KEY, found)
        await self.until(lambda: all(found.times for found in looks))
        self.assertEqual({1}, {found.times for found in looks})


class Odd(Speaker):
    """Answers every command with an array of all kinds."""

    def dataReceived(self, data: bytes) -> None:
        self.send(b"*4\r\n:1\r\n$1\r\na\r\n*0\r\n$-1\r\n" * data.count(b"*"))
