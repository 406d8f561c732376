"""A small cache for tests of who asks for it: a desk over a dict."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed

from pyproxy.life.desk import CacheQuestion, Document


@attrs.define(eq=False)
class DictDesk:
    """Has entries by their URLs, each with its tags.

    Attributes:
        shared: whether it says that other processes have the same store.
        error: what it fails with instead.
        hold: what it answers with, when the test says so.
    """

    stored: dict[str, tuple[str, ...]] = attrs.Factory(dict)
    shared: bool = False
    error: Exception | None = None
    hold: Deferred[Any] | None = None

    def counts(self) -> Document:
        """Return figures that follow from the number of entries."""
        count = len(self.stored)
        return {
            "store": {
                "store": "memory",
                "entries": count,
                "bytes": 100 * count,
                "bound": 1000,
                "evicted": 1,
                "shared": self.shared,
            },
            "routes": {
                "/": {
                    "requests": 4 * count,
                    "hits": 2 * count,
                    "stale": 0,
                    "validated": 0,
                    "collapsed": 0,
                    "misses": count,
                    "stored": count,
                    "passed": count,
                    "hit_rate": 2 / 3 if count else 0.0,
                }
            },
        }

    def entries(self, what: CacheQuestion, limit: int) -> Deferred[list[Document]]:
        """Return those that are meant."""
        if self.hold is not None or self.error is not None:
            return self.hold or fail(self.error)
        return succeed([entry_of(url, self.stored[url]) for url in self._meant(what)[:limit]])

    def purge(self, what: CacheQuestion) -> Deferred[int]:
        """Remove those that are meant."""
        if self.hold is not None or self.error is not None:
            return self.hold or fail(self.error)
        meant = self._meant(what)
        for url in meant:
            del self.stored[url]
        return succeed(len(meant))

    def _meant(self, what: CacheQuestion) -> list[str]:
        return [url for url, tags in self.stored.items() if is_meant(what, url, tags)]


def is_meant(what: CacheQuestion, url: str, tags: tuple[str, ...]) -> bool:
    """Tell whether an entry is meant."""
    if what.url is not None:
        return url.encode() == what.url
    if what.prefix is not None:
        return url.encode().startswith(what.prefix)
    return (what.tag or b"").decode() in tags


def entry_of(url: str, tags: tuple[str, ...] = ()) -> Document:
    """Return an entry as a desk shows it."""
    return {
        "url": url,
        "status": 200,
        "age": 5,
        "fresh_for": 55,
        "bytes": 100,
        "fields": [["Cache-Tag", ",".join(tags)]],
        "varies": [],
    }


def desk_of(*urls: str, **more: Any) -> DictDesk:
    """Return a desk with entries; the last part of each path is a tag of it."""
    return DictDesk({url: (url.rpartition("/")[2],) for url in urls}, **more)
