"""What can be asked of the cache, and what one process answers."""

from __future__ import annotations

import json
import pickle
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.life.desk import (
    MOST_OCTETS,
    CacheQuestion,
    Counting,
    Looking,
    Purging,
    ask,
    within,
)
from tests.cache_desk import desk_of, entry_of

URLS = ("http://h/a", "http://h/b", "http://i/a")


class QuestionTests(SynchronousTestCase):
    """Which entries are meant."""

    def test_exactly_one(self) -> None:
        """It is said by exactly one of the three, with something in it."""
        for wrong in (
            {},
            {"url": b""},
            {"url": b"a", "prefix": b"b"},
            {"url": b"a", "prefix": b"b", "tag": b"c"},
        ):
            self.assertRaises(ValueError, CacheQuestion, **wrong)

    def test_fact(self) -> None:
        """It goes to workers as it is."""
        for asked in (
            Counting(),
            Looking(CacheQuestion(url=b"a"), 7),
            Purging(CacheQuestion(b"a")),
        ):
            self.assertEqual(asked, pickle.loads(pickle.dumps(asked)))


class AskTests(SynchronousTestCase):
    """What one process answers."""

    def setUp(self) -> None:
        """Have a desk."""
        self.desk = desk_of(*URLS)

    def test_nothing(self) -> None:
        """Without a cache there is no answer."""
        for asked in (Counting(), Looking(CacheQuestion(url=b"a")), Purging(CacheQuestion(b"a"))):
            self.assertIsNone(self.successResultOf(ask(None, asked)))

    def test_counts(self) -> None:
        """Figures are the desk's own."""
        self.assertEqual(self.desk.counts(), self.successResultOf(ask(self.desk, Counting())))

    def test_entries(self) -> None:
        """Entries, whether there may be more, and whether other processes have the same."""
        for most, count, more in ((2, 2, True), (3, 2, False), (1, 1, True)):
            asked = Looking(CacheQuestion(tag=b"a"), most)
            found = self.successResultOf(ask(self.desk, asked)) or {}
            self.assertEqual((count, more), (len(found["entries"]), found["more"]))
            self.assertFalse(found["shared"])

    def test_purge(self) -> None:
        """How many there were."""
        asked = Purging(CacheQuestion(prefix=b"http://h/"))
        self.assertEqual({"purged": 2}, self.successResultOf(ask(self.desk, asked)))
        self.assertEqual({"purged": 0}, self.successResultOf(ask(self.desk, asked)))

    def test_later(self) -> None:
        """A store may take its time."""
        hold: Deferred[Any] = Deferred()
        self.desk.hold = hold
        purged = ask(self.desk, Purging(CacheQuestion(tag=b"a")))
        self.assertNoResult(purged)
        hold.callback(7)
        self.assertEqual({"purged": 7}, self.successResultOf(purged))

    def test_bound(self) -> None:
        """Entries that would take too many octets are left out."""
        large = [entry_of("http://h/" + "x" * 10_000) for _ in range(100)]
        kept = within(large, 100)
        self.assertTrue(0 < len(kept) < 100)
        self.assertLessEqual(sum(len(json.dumps(one)) for one in kept), MOST_OCTETS)
        self.assertEqual(3, len(within(large, 3)))
