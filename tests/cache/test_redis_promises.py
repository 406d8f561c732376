"""The store in a Redis does what ``seams`` says."""

from __future__ import annotations

from unittest import SkipTest

import attrs
from hypothesis import given

from pyproxy.cache.packing import Unreadable
from pyproxy.cache.redis.record import MIN_LIFE, YEAR, Record, life_of, new_token, read_record
from pyproxy.cache.redis.store import RedisStore
from pyproxy.cache.seams import Store
from pyproxy.semantics.stored import StoredResponse
from pyproxy.sharing.redis import RedisClient
from tests.cache import HEADS, stores
from tests.cache.stores import BOUND, ENTRY
from tests.sharing.kit import NO_SERVER, SERVER, Server
from tests.turning import TurningTestCase

OWN_BOUND = "Redis keeps its own bound, and evicts by its own rules"


class RedisStoreTests(stores.StoreTests):
    """The store in a Redis."""

    if SERVER is None:
        skip = NO_SERVER

    def make_store(self, bound: int = BOUND, entry: int = ENTRY) -> RedisStore:
        server = Server()
        self.addCleanup(server.clean)
        server.start()
        client = RedisClient(self.reactor, server.place)
        self.addCleanup(client.close)
        client.start()
        store = RedisStore(client, self.reactor, entry)
        self.addCleanup(store.close)
        self.turn_until(lambda: client.connected)
        return store

    def settle(self, store: Store) -> None:
        assert isinstance(store, RedisStore)
        self.result(store.client.call(b"PING", limit=10.0))

    def test_larger_than_the_store(self) -> None:
        raise SkipTest(OWN_BOUND)

    def test_bound(self) -> None:
        raise SkipTest(OWN_BOUND)

    def test_asked_for(self) -> None:
        raise SkipTest(OWN_BOUND)

    def test_figures(self) -> None:
        raise SkipTest("Redis is asked for figures now and then: see test_redis_store")


class RecordTests(TurningTestCase):
    """What an entry looks like in a Redis."""

    @given(HEADS)
    def test_any(self, head: StoredResponse) -> None:
        """Any head is read as it was written, and its life is between its bounds."""
        for inline, content in ((True, b"abc"), (False, None)):
            record = Record(new_token(), 3, b"key \xff", head, inline, content)
            octets = record.written()
            self.assertEqual(record, read_record(octets, with_content=True))
            short = octets[: len(octets) - len(content or b"")]
            self.assertEqual(
                attrs.evolve(record, content=None), read_record(short, with_content=False)
            )
        self.assertTrue(MIN_LIFE <= life_of(head, 1_700_000_000.0) <= YEAR)

    @given(HEADS)
    def test_torn(self, head: StoredResponse) -> None:
        """A part of a record is none."""
        octets = Record(new_token(), 3, b"k", head, True, b"abc").written()
        for end in range(len(octets)):
            with self.assertRaises(Unreadable):
                read_record(octets[:end], with_content=True)
        oddities: list[object] = [None, 1, [], "text", octets + b"x", b"x" * 100]
        for odd in oddities:
            with self.assertRaises(Unreadable):
                read_record(odd, with_content=True)

    def test_too_long(self) -> None:
        """A head that is too long is not written."""
        head = StoredResponse(200, b"", ((b"A", b"x" * 70_000),), 0.0, 0.0)
        with self.assertRaises(ValueError):
            Record(new_token(), 0, b"k", head, True, b"").written()
