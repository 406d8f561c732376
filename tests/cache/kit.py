"""A whole proxy with caching routes, between clients and upstreams that the test plays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.cache.cache import Cache
from pyproxy.cache.caching import CachingRoute
from pyproxy.config.schema import Config
from pyproxy.ingress.site import SHUTDOWN_SECONDS
from pyproxy.policy.cache_policy import CachePolicy
from pyproxy.proxy import Proxy
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.http_dates import write_date
from pyproxy.semantics.urls import parse_target
from tests.configs import one_route
from tests.memory import (
    CLIENT,
    PROXY,
    ROOM,
    UPSTREAM_PORT,
    MemoryTransport,
    Network,
    request,
    response,
)

TWO = UPSTREAM_PORT + 1
"""Another port where the test answers."""

TODAY = 1_800_000_000
"""Where the clock begins: seconds of the epoch."""

GET = b"GET / HTTP/1.1"


def caching(port: int = UPSTREAM_PORT, path: str = "", **settings: Any) -> Config:
    """Return a configuration with one route that caches; a setting ``cache`` is its policy."""
    target = parse_target(f"http://127.0.0.1:{port}{path}")
    return one_route(**{"target": target, "cache": CachePolicy(), **settings})


def passing() -> Config:
    """Return a configuration with one route that does not cache."""
    config = caching()
    return attrs.evolve(config, routes=(attrs.evolve(config.routes[0], cache=None),))


def bounded(config: Config, memory: int, entry: int) -> Config:
    """Return a configuration whose cache has other bounds."""
    return attrs.evolve(config, cache=attrs.evolve(config.cache, memory=memory, entry=entry))


def together(*configs: Config) -> Config:
    """Return the first configuration with the routes of all; the others' are under /1, /2 ..."""
    first, *others = configs
    routes = list(first.routes)
    for number, config in enumerate(others, 1):
        (route,) = config.routes
        match = attrs.evolve(route.match, path=b"/%d" % number)
        routes.append(attrs.evolve(route, match=match))
    return attrs.evolve(first, routes=tuple(routes))


def asked(*fields: bytes, target: bytes = b"/", method: bytes = b"GET", minor: int = 1) -> bytes:
    """Return the octets of a request without content."""
    return request(b"%b %b HTTP/1.%d" % (method, target, minor), *fields)


def answer(*fields: bytes, content: bytes = b"hello", status: bytes = b"200 OK") -> bytes:
    """Return the octets of a whole response with its length."""
    length = b"Content-Length: %d" % len(content)
    return response(*fields, length, status_line=b"HTTP/1.1 " + status, content=content)


FRESH = b"Cache-Control: max-age=60"


@attrs.frozen
class Told:
    """A response as a client read it."""

    status: int
    fields: dict[bytes, bytes]
    content: bytes
    rest: bytes

    @property
    def cache(self) -> bytes:
        """What Cache-Status says, without the cache's name."""
        return self.fields.get(b"cache-status", b"").removeprefix(b"pyproxy; ")


def read(octets: bytes) -> Told:
    """Read the first response in octets; content without a length is all the rest."""
    head, end, rest = octets.partition(b"\r\n\r\n")
    if not end:
        raise AssertionError(f"no head in {octets!r}")
    line, *lines = head.split(b"\r\n")
    fields: dict[bytes, bytes] = {}
    for one in lines:
        name, _, value = one.partition(b": ")
        key = name.lower()
        fields[key] = fields[key] + b", " + value if key in fields else value
    status = int(line.split(b" ")[1])
    if status in (204, 304) or status < 200:
        return Told(status, fields, b"", rest)
    length = fields.get(b"content-length")
    if length is None:
        return Told(status, fields, rest, b"")
    return Told(status, fields, rest[: int(length)], rest[int(length) :])


def unchunked(octets: bytes) -> tuple[bytes, bytes | None]:
    """Return content out of its chunks, and what follows the last one; None without it."""
    content = b""
    while octets:
        size, _, octets = octets.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return content, octets
        content, octets = content + octets[:length], octets[length + 2 :]
    return content, None


class CacheTestCase(SynchronousTestCase):
    """A case with a proxy between clients and upstreams that the test plays."""

    network: Network
    proxy: Proxy

    def start(self, config: Config | None = None, **settings: Any) -> None:
        """Start a proxy; settings as ``caching`` has them."""
        self.network = Network()
        self.addCleanup(self.network.close)
        self.network.rightNow = float(TODAY)
        self.network.listening[TWO] = None
        config = caching(**settings) if config is None else config
        self.proxy = Proxy(config, cast(IProxyReactor, self.network), b"pyproxy-test")
        self.proxy.start()
        self.addCleanup(self.stop, self.proxy, self.network)

    def stop(self, proxy: Proxy, network: Network) -> None:
        """End a proxy; nothing is left."""
        stopped = proxy.stop()
        network.pass_time(SHUTDOWN_SECONDS + 1, 0.25)
        self.successResultOf(stopped)
        self.assertEqual([], network.getDelayedCalls())
        self.assertEqual([], [one for one in network.opened if one.lost is None])
        self.assertEqual(0, proxy._sweeper.watched)

    def take(self, config: Config) -> None:
        """Take another configuration."""
        self.proxy.take(self.proxy.prepare(config))
        self.network.settle()

    def wait(self, seconds: float) -> None:
        """Let time go by."""
        self.network.pass_time(seconds, max(0.05, seconds / 40))

    # the client

    def client(self, octets: bytes = b"", room: int = ROOM) -> MemoryTransport:
        """Connect a client that sends octets."""
        transport = self.network.transport(PROXY, CLIENT, room)
        transport.join(self.proxy.site.buildProtocol(CLIENT))
        self.deliver(transport, octets)
        return transport

    def deliver(self, transport: MemoryTransport, octets: bytes) -> None:
        """Let octets arrive."""
        transport.deliver(octets)
        self.network.settle()

    def rest_of(self, client: MemoryTransport) -> bytes:
        """Take what a client can take."""
        octets = b""
        while part := client.take():
            octets += part
            self.network.settle()
        return octets

    def leave(self, transport: MemoryTransport) -> None:
        """Let a client leave, or an upstream."""
        transport.lose()
        self.network.settle()

    def get(self, *fields: bytes, **parts: Any) -> Told:
        """Ask on a connection of its own; the response has to be there at once."""
        client = self.client(asked(*fields, **parts))
        told = read(client.take())
        self.leave(client)
        return told

    def ask(self, octets: bytes, *fields: bytes, **parts: Any) -> Told:
        """Ask on a connection of its own, and answer in the upstream's place."""
        client = self.client(asked(*fields, **parts))
        self.answer(octets)
        told = read(client.take())
        self.leave(client)
        return told

    # the upstream

    @property
    def open(self) -> list[MemoryTransport]:
        """The connections to upstreams that the proxy has not closed."""
        return [
            one for one in self.network.opened if one.lost is None and not one.disconnecting_at_once
        ]

    @property
    def questions(self) -> list[MemoryTransport]:
        """The connections on which requests have come that the test has not looked at."""
        return [one for one in self.open if one.value()]

    def question(self) -> tuple[MemoryTransport, bytes]:
        """Return the one connection on which a request has come, and the request."""
        (upstream,) = self.questions
        return upstream, upstream.take()

    def answer(self, octets: bytes) -> bytes:
        """Answer the one request that has come, and return it."""
        upstream, question = self.question()
        self.deliver(upstream, octets)
        return question

    def assert_asked(self, times: int) -> None:
        """Check on how many connections requests have come that nobody has looked at."""
        self.assertEqual(times, len(self.questions))

    # the cache

    @property
    def cache(self) -> Cache:
        """The proxy's cache."""
        cache = self.proxy._shared
        assert cache is not None
        return cache

    @property
    def fetches(self) -> list[Any]:
        """Fetches under way."""
        return [*self.cache.fetches.values(), *self.cache.alone]

    @property
    def entries(self) -> int:
        """How many responses are stored."""
        return cast(int, self.cache.store.figures()["entries"])

    @property
    def used(self) -> int:
        """How many octets the store has."""
        return cast(int, self.cache.store.figures()["bytes"])

    def routes(self) -> Iterable[CachingRoute]:
        """Return the caching parts of the routes."""
        steps = (route.step for route in self.proxy._resource.table.routes)
        return [step for step in steps if isinstance(step, CachingRoute)]

    def ago(self, seconds: float = 0.0) -> bytes:
        """Return a date in the past."""
        return write_date(self.network.seconds() - seconds)
