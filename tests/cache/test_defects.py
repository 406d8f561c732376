"""What fails inside the cache is logged, and leaves no client without an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail

from pyproxy.cache import fetch
from pyproxy.cache.memory import MemoryStore
from pyproxy.cache.seams import ContentLost, Entry, Found
from pyproxy.policy.cache_policy import CachePolicy
from pyproxy.policy.routing import Limits
from pyproxy.semantics.stored import StoredResponse
from tests.cache.kit import FRESH, CacheTestCase, answer, asked, caching, read
from tests.memory import MemoryTransport, response


class Defect(Exception):
    """What should not happen."""


def broken(*_: object, **__: object) -> Any:
    """Stand for a part that has a defect."""
    raise Defect("a defect")


class LateStore(MemoryStore):
    """A store that answers later, as one on a disk or another machine does.

    Attributes:
        asked: lookups that it has not answered yet.
    """

    def __init__(self) -> None:
        super().__init__(1024**2, 1024**2)
        self.asked: list[Callable[[], None]] = []

    def find(self, key: bytes, found: Found) -> None:
        """Look a key up when the test says so."""
        self.asked.append(lambda: super(LateStore, self).find(key, found))

    def reply(self) -> None:
        """Answer all lookups."""
        asked, self.asked = self.asked, []
        for one in asked:
            one()


class LateContent:
    """A content whose reads are answered later.

    Attributes:
        reads: those that wait, with the places.
        holds: readers that keep it.
    """

    def __init__(self, octets: bytes) -> None:
        self.count = len(octets)
        self.octets = octets
        self.reads: list[tuple[int, Deferred[bytes]]] = []
        self.holds = 0

    def read(self, start: int) -> Deferred[bytes]:
        """Read later."""
        done: Deferred[bytes] = Deferred()
        self.reads.append((start, done))
        return done

    def hold(self) -> None:
        """Have a reader more."""
        self.holds += 1

    def release(self) -> None:
        """Have a reader less."""
        self.holds -= 1


class DefectTestCase(CacheTestCase):
    """A case with parts of the cache that fail."""

    def spoil(self, part: object, name: str) -> None:
        """Let a method fail from now on."""
        self.patch(part, name, broken)

    def logged(self, kind: type[Exception] = Defect) -> int:
        """Return how often it was logged since this was last asked."""
        return len(self.flushLoggedErrors(kind))

    def assert_quiet(self) -> None:
        """Check that nothing is under way any more."""
        self.assertEqual([], self.fetches)
        self.assertEqual(0, sum(1 for one in self.proxy._sweeper._due if hasattr(one, "behind")))


class StoreTests(DefectTestCase):
    """A store that fails in any of its methods."""

    def test_find(self) -> None:
        """Who asks gets an error, and the connection goes on."""
        self.start()
        self.spoil(MemoryStore, "find")
        for _ in range(2):
            told = self.get()
            self.assertEqual(500, told.status)
            self.assertEqual(1, self.logged())
        self.assert_quiet()

    def test_fill(self) -> None:
        """All who wait are told."""
        self.start()
        self.spoil(MemoryStore, "fill")
        clients = [self.client(asked()) for _ in range(3)]
        upstream, _ = self.question()
        self.deliver(upstream, answer(FRESH))
        for client in clients:
            told = read(client.take())
            self.assertEqual(500, told.status)
            self.assertIn(b"fwd=uri-miss", told.cache)
        self.assertEqual(1, self.logged())
        self.assertIsNotNone(upstream.lost)
        self.assert_quiet()

    def test_write(self) -> None:
        """The content goes on to its readers; it is not stored."""
        self.start()
        clients = [self.client(asked()) for _ in range(2)]
        upstream, _ = self.question()
        whole = answer(FRESH)
        self.deliver(upstream, whole[:-3])
        self.spoil(type(self.fetches[0].fill._filling), "write")
        self.deliver(upstream, whole[-3:])
        for client in clients:
            self.assertEqual(b"hello", read(client.take()).content)
        self.assertEqual((1, 0), (self.logged(), self.entries))
        self.assert_quiet()

    def test_keep(self) -> None:
        """So it does when it cannot be kept in the end."""
        self.start()
        self.spoil(MemoryStore, "put")
        clients = [self.client(asked()) for _ in range(2)]
        self.answer(answer(FRESH))
        for client in clients:
            self.assertEqual(b"hello", read(client.take()).content)
        self.assertEqual((1, 0), (self.logged(), self.entries))
        (route,) = self.routes()
        self.assertEqual(0, route.counts.stored)
        self.assert_quiet()

    def test_refresh(self) -> None:
        """A validation that cannot be written down."""
        self.start()
        self.ask(answer(FRESH, b'ETag: "1"'))
        self.wait(61.0)
        self.spoil(MemoryStore, "refresh")
        clients = [self.client(asked()) for _ in range(2)]
        self.answer(response(FRESH, status_line=b"HTTP/1.1 304 Not Modified"))
        for client in clients:
            self.assertEqual(500, read(client.take()).status)
        self.assertEqual(1, self.logged())
        self.assert_quiet()

    def test_invalidate(self) -> None:
        """An answer to an unsafe request reaches its client."""
        self.start()
        self.spoil(MemoryStore, "invalidate")
        self.assertEqual(b"hello", self.ask(answer(), method=b"POST").content)
        self.assertEqual(1, self.logged())

    def test_read(self) -> None:
        """A content that cannot be read is broken off, and not finished."""
        for lost in (Defect("a defect"), ContentLost("gone")):
            self.start()
            content = bytes(200_000)
            self.ask(answer(FRESH, content=content))
            (entry,) = self.cache.store.hot.values() or [self.hot()]

            def gone(start: int, lost: Exception = lost) -> bytes:
                if start:
                    raise lost
                return bytes(65536)

            self.patch(type(entry.content), "read", lambda _, start: gone(start))
            client = self.client(asked())
            told = read(client.take())
            self.assertEqual((200, 65536), (told.status, len(told.content)))
            self.assertTrue(client.lost or client.disconnecting or client.half_closed)
            self.logged(type(lost))
            self.leave(client)

    def hot(self) -> Entry:
        """Return the entry that is stored."""
        found: list[Entry] = []
        (key,) = self.cache.store._index  # type: ignore[attr-defined]
        self.cache.store.find(key, found.extend)
        return found[0]


class UpstreamTests(DefectTestCase):
    """What the cache asks may fail too."""

    def test_send(self) -> None:
        """A request that cannot be sent keeps nobody waiting, now or later."""
        self.start()
        agent = self.cache.upstream
        send = agent.send
        agent.send = broken  # type: ignore[method-assign]
        for method in (b"GET", b"HEAD", b"POST"):
            self.assertEqual(500, self.get(method=method).status)
            self.assertEqual(1, self.logged())
        self.assert_quiet()
        agent.send = send  # type: ignore[method-assign]
        self.assertEqual(b"hello", self.ask(answer(FRESH)).content)

    def test_send_behind(self) -> None:
        """Who was served stale has its answer when the validation cannot be sent."""
        self.start()
        self.ask(answer(b"Cache-Control: max-age=1, stale-while-revalidate=60"))
        self.wait(2.0)
        agent = self.cache.upstream
        send = agent.send
        agent.send = broken  # type: ignore[method-assign]
        self.assertEqual(b"hello", self.get().content)
        self.assertEqual(1, self.logged())
        self.assert_quiet()
        agent.send = send  # type: ignore[method-assign]
        self.assertEqual(b"hello", self.get().content)
        self.assert_asked(1)

    def test_rules(self) -> None:
        """A rule that fails on a response."""
        self.start()
        clients = [self.client(asked()) for _ in range(2)]
        self.patch(fetch, "kept_of", broken)
        self.answer(answer(FRESH))
        for client in clients:
            self.assertEqual(500, read(client.take()).status)
        self.assertEqual(1, self.logged())
        self.assert_quiet()

    def test_client(self) -> None:
        """One client that cannot be answered takes nothing from the others."""
        for number in range(3):
            self.start()
            clients = [self.client(asked()) for _ in range(3)]
            waiters = self.fetches[0].waiters
            lookups = [waiters.leader, *waiters.others]
            lookups[number].asking._client.begin = broken
            self.answer(answer(FRESH))
            for place, client in enumerate(clients):
                if place != number:
                    self.assertEqual(b"hello", read(client.take()).content)
            self.logged()
            self.assertEqual(1, self.entries)
            self.assert_quiet()
            for client in clients:
                self.leave(client)

    def test_only_client(self) -> None:
        """With the only one the fetch ends."""
        self.start()
        client = self.client(asked())
        upstream, _ = self.question()
        self.fetches[0].waiters.leader.asking._client.begin = broken
        self.deliver(upstream, answer(FRESH)[:-1])
        self.logged()
        self.assertIsNotNone(upstream.lost)
        self.assertEqual(0, self.entries)
        self.assert_quiet()
        self.leave(client)

    def test_at_once(self) -> None:
        """The short way too."""
        self.start()
        self.ask(answer(FRESH))
        self.get()
        (entry,) = self.cache.store.hot.values()
        self.patch(type(entry.ready), "suits", broken)
        self.assertEqual(500, self.get().status)
        self.assertEqual(1, self.logged())

    def test_purge(self) -> None:
        """A choice that fails ends only the fetch it was about."""
        self.start()
        client = self.client(asked())

        def chosen(key: bytes, head: StoredResponse) -> bool:
            raise Defect("a defect")

        self.cache.spoil(chosen)
        self.answer(answer(FRESH))
        self.assertEqual(500, read(client.take()).status)
        self.assertEqual(1, self.logged())
        self.assert_quiet()


class LateTests(DefectTestCase):
    """A store that answers in a later turn."""

    def begin(self, **settings: Any) -> LateStore:
        """Start a proxy whose store answers when the test says so."""
        self.start(**settings)
        store = LateStore()
        self.cache.store = store
        return store

    def test_found_later(self) -> None:
        """It is as with one that answers at once; who asks meanwhile is looked up too."""
        store = self.begin()
        clients = [self.client(asked()) for _ in range(2)]
        self.assertEqual([], self.questions)
        store.reply()
        self.network.settle()
        self.answer(answer(FRESH))
        for client in clients:
            self.assertEqual(b"hello", read(client.take()).content)
        client = self.client(asked(b"Range: bytes=1-2"))
        store.reply()
        self.assertEqual(b"el", read(client.take()).content)

    def test_client_leaves(self) -> None:
        """A client that left meanwhile is not served, and asks nothing."""
        store = self.begin()
        self.leave(self.client(asked()))
        store.reply()
        self.network.settle()
        self.assertEqual([], self.open)
        self.assert_quiet()

    def test_never(self) -> None:
        """One that never answers does not keep a client longer than its limits."""
        store = self.begin(limits=Limits(first_byte=1.0))
        client = self.client(asked())
        self.wait(3.0)
        self.assertEqual(504, read(client.take()).status)
        store.reply()
        self.network.settle()
        self.assertEqual([], self.open)

    def test_defect(self) -> None:
        """A defect in what follows is the client's to see, and not the store's."""
        store = self.begin()
        client = self.client(asked())
        (route,) = self.routes()
        self.patch(type(route), "_use", broken)
        store.reply()
        self.assertEqual(500, read(client.take()).status)
        self.assertEqual(1, self.logged())

    def test_invalidated_meanwhile(self) -> None:
        """What was invalidated while it was looked up is not served."""
        store = self.begin()
        client = self.client(asked())
        store.reply()
        self.network.settle()
        self.answer(answer(FRESH))
        found: list[Entry] = []
        key = next(iter(store._index))
        MemoryStore.find(store, key, found.extend)
        late = self.client(asked())
        self.cache.invalidate(key)
        self.assertFalse(found[0].live)
        store.asked = [lambda: self.found(key, found)]
        store.reply()
        self.assertEqual(b"hello", read(client.take()).content)
        self.leave(late)

    def found(self, key: bytes, entries: list[Entry]) -> None:
        """Stand for a lookup that was answered too early."""


class LateContentTests(DefectTestCase):
    """Contents that are read in a later turn."""

    def begin(self) -> tuple[LateContent, MemoryTransport]:
        """Have a hit whose content comes later; returns that, and the client."""
        self.start()
        self.ask(answer(FRESH, content=bytes(100_000)))
        key = next(iter(self.cache.store._index))  # type: ignore[attr-defined]
        found: list[Entry] = []
        self.cache.store.find(key, found.extend)
        content = LateContent(bytes(range(250)) * 400)
        found[0].content = content
        client = self.client(asked())
        return content, client

    def test_whole(self) -> None:
        """Piece after piece, as it comes; held until the end."""
        content, client = self.begin()
        octets = b""
        while content.reads:
            self.assertEqual(1, content.holds)
            ((start, done),) = content.reads
            content.reads.clear()
            done.callback(content.octets[start : start + 30_000])
            self.network.settle()
            octets += client.take()
        self.assertEqual(content.octets, read(octets).content)
        self.assertEqual(0, content.holds)

    def test_fails(self) -> None:
        """One that fails breaks the response off."""
        for lost in (ContentLost("gone"), Defect("a defect")):
            content, client = self.begin()
            ((_, done),) = content.reads
            done.errback(lost)
            self.network.settle()
            self.assertTrue(client.lost or client.disconnecting or client.half_closed)
            self.assertEqual(0, content.holds)
            self.logged(type(lost))
            self.leave(client)

    def test_short(self) -> None:
        """So does one that has less than it had."""
        content, client = self.begin()
        ((_, done),) = content.reads
        done.callback(b"")
        self.network.settle()
        self.assertTrue(client.lost or client.disconnecting or client.half_closed)
        self.assertEqual(0, content.holds)
        self.leave(client)

    def test_client_leaves(self) -> None:
        """A client that leaves meanwhile lets go of it."""
        for ends in (lambda done: done.callback(b"abc"), lambda done: done.errback(ContentLost())):
            content, client = self.begin()
            self.leave(client)
            self.assertEqual(0, content.holds)
            ((_, done),) = content.reads
            ends(done)
            self.network.settle()
            self.assertEqual(1, len(content.reads))

    def test_fails_at_once(self) -> None:
        """A read may have failed already when it is returned."""
        content, client = self.begin()
        ((_, done),) = content.reads
        self.patch(LateContent, "read", lambda *_: fail(ContentLost("gone")))
        done.callback(b"abc")
        self.network.settle()
        self.assertEqual(b"abc", read(client.take()).content)
        self.assertTrue(client.lost or client.disconnecting or client.half_closed)
        self.leave(client)


class FinishTests(DefectTestCase):
    """What goes on for nobody ends with the proxy."""

    def test_stop(self) -> None:
        """Fetches of every kind are ended; the end of each test looks for what is left."""
        self.start(caching(cache=CachePolicy(finish=True)))
        self.leave(self.client(asked()))
        client = self.client(asked(b"Cache-Control: no-cache"))
        self.assertEqual(2, len(self.fetches))
        self.leave(client)
        self.assertEqual(2, len(self.fetches))
