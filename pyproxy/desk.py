"""Who answers people about the cache: which stored responses are meant, by the URLs of clients.

A store knows keys; here they are told as what clients ask for, on whichever route that is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from twisted.internet.defer import Deferred

from pyproxy.cache.cache import Cache
from pyproxy.cache.caching import CachingRoute
from pyproxy.cache.seams import Chosen, Entry
from pyproxy.life.desk import CacheQuestion, Document
from pyproxy.policy.routing import Route
from pyproxy.semantics.stored import StoredResponse
from pyproxy.semantics.urls import DEFAULT_PORTS, PathMapping


@attrs.define(eq=False)
class Desk:
    """Answers for the cache of one process.

    Attributes:
        routes: those that are served now.
    """

    _cache: Cache
    routes: Sequence[Route] = ()

    def counts(self) -> Document:
        """Return figures; see ``CacheDesk``."""
        figures = self._cache.store.figures()
        names = [step.name for _, step in self._caching()]
        counts = self._cache.counts
        return {
            "store": {"shared": figures["store"] != "memory", **figures},
            "routes": {name: counts[name].shown() for name in names},
        }

    def entries(self, what: CacheQuestion, limit: int) -> Deferred[list[Document]]:
        """Return some of the entries that are meant; see ``CacheDesk``."""
        asked = self._cache.store.entries(self._chosen(what), limit)
        return asked.addCallback(lambda found: [self._shown(entry) for entry in found])

    def purge(self, what: CacheQuestion) -> Deferred[int]:
        """Remove the entries that are meant, and keep nothing of those that are being fetched."""
        chosen = self._chosen(what)
        self._cache.spoil(chosen)
        return self._cache.store.purge(chosen)

    def _caching(self) -> list[tuple[Route, CachingRoute]]:
        return [
            (route, route.step) for route in self.routes if isinstance(route.step, CachingRoute)
        ]

    def _chosen(self, what: CacheQuestion) -> Chosen:
        """Return what chooses the entries that are meant."""
        if what.tag is not None:
            tag = what.tag
            return lambda _, head: tag in head.tags
        urls_of = self._urls()
        if what.url is not None:
            url = plainest(what.url)
            return lambda key, _: url in urls_of(key)
        prefix = plainest(what.prefix or b"")

        def begins(key: bytes, head: StoredResponse) -> bool:
            return any(url.startswith(prefix) for url in urls_of(key))

        return begins

    def _urls(self) -> Callable[[bytes], list[bytes]]:
        """Return what tells the URLs by which clients ask for the entry of a key."""
        mappings: dict[bytes, list[PathMapping]] = {}
        for route, step in self._caching():
            mappings.setdefault(step.space, []).append(route.mapping)

        def urls_of(key: bytes) -> list[bytes]:
            space, scheme, host, target = key.partition(b"\n")[0].split(b" ", 3)
            paths = [mapping.to_client(target) for mapping in mappings.get(space, ())]
            place = plainest_place(scheme, host)
            return [place + path for path in paths if path is not None]

        return urls_of

    def _shown(self, entry: Entry) -> Document:
        head, now = entry.head, self._cache.now()
        urls = self._urls()(entry.key)
        return {
            "url": _text(urls[0] if urls else entry.key.partition(b"\n")[0].partition(b" ")[2]),
            "status": head.status,
            "age": head.age(now),
            "fresh_for": int(head.fresh_until - now),
            "bytes": head.length or 0,
            "fields": [[_text(name), _text(value)] for name, value in head.fields],
            "varies": [
                [_text(name), None if value is None else _text(value)]
                for name, value in head.varies
            ],
            "tags": [_text(tag) for tag in head.tags],
        }


def plainest_place(scheme: bytes, host: bytes) -> bytes:
    """Return the beginning of a URL, without the scheme's own port.  Spec: RFC 3986 6.2.3."""
    return b"%b://%b" % (scheme, host.removesuffix(b":%d" % DEFAULT_PORTS[scheme]))


def plainest(url: bytes) -> bytes:
    """Return a URL, or the beginning of one, in the form in which it is compared."""
    scheme, mark, rest = url.partition(b"://")
    scheme = scheme.lower()
    if not mark or scheme not in DEFAULT_PORTS:
        return url
    host, slash, path = rest.partition(b"/")
    host, question, query = host.partition(b"?")
    place = plainest_place(scheme, host.lower()) if slash or question else b""
    if slash:
        return place + b"/" + path
    if question:
        return place + b"/?" + query
    return scheme + b"://" + host.lower()


def _text(octets: bytes) -> str:
    return octets.decode("latin-1")
