"""The whole configuration as facts; made by the loader, read by the wiring only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from pyproxy.config.values import is_loopback, listens_on_loopback
from pyproxy.observe.json_log import COMBINED
from pyproxy.observe.output import LogPlace
from pyproxy.policy.cache_policy import CachePolicy
from pyproxy.policy.instead import Instead
from pyproxy.policy.matching import Match
from pyproxy.policy.routing import Limits
from pyproxy.semantics.forwarding import FieldRules, Network
from pyproxy.semantics.origins import WebOrigin
from pyproxy.semantics.urls import Target


@attrs.frozen
class Listen:
    """Where to listen: a Twisted endpoint string, or a port on an interface.

    Attributes:
        interface: an IP address, or empty for every IPv4 interface.
    """

    description: str | None = None
    port: int = 8000
    interface: str = "127.0.0.1"

    @property
    def where(self) -> str:
        """The place, as people are told of it."""
        return self.description or f"{self.interface or '0.0.0.0'}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.description is not None:
            return listens_on_loopback(self.description)
        return is_loopback(self.interface)


@attrs.frozen
class RouteConfig:
    """Which requests, and what becomes of them.

    Attributes:
        target: where requests go; None for the demo upstream, and where none is asked.
        instead: what answers in place of an upstream.
        secrets: octets of injected credentials; they are masked wherever they would show.
        authorities: the PEM text of --upstream-ca, None for the system's.
        allowed_hosts, allowed_origins: as ``Guard.of`` has them.
        cache: what the cache may do here, None for no cache.
        usage: what models answer is watched.
        server_timing: responses tell how long each part took.
    """

    target: Target | None
    match: Match = Match()
    instead: Instead | None = None
    request_rules: FieldRules = FieldRules()
    response_rules: FieldRules = FieldRules()
    secrets: tuple[bytes, ...] = ()
    preserve_host: bool = False
    limits: Limits = Limits()
    authorities: bytes | None = None
    insecure: bool = False
    stream_hints: bool = True
    access_log: bool = True
    allowed_hosts: tuple[bytes, ...] = ()
    allowed_origins: tuple[WebOrigin, ...] = ()
    cache: CachePolicy | None = None
    usage: bool = False
    server_timing: bool = False

    @property
    def needs_demo(self) -> bool:
        """Whether it leads to the demo upstream."""
        return self.target is None and self.instead is None


@attrs.frozen
class CacheConfig:
    """Where the responses of all caching routes are kept.

    Attributes:
        memory: octets of memory for all of them, in all workers together.
        entry: octets of the content of one.
        disk: the directory that keeps them for all workers, None for none; disk_size, its octets.
        redis: URL of the server that keeps them for several machines, None for none.
        redis_shown: the same as it may be shown.
        secrets: octets of the password in it.
    """

    memory: int = 256 * 1024**2
    entry: int = 8 * 1024**2
    disk: str | None = None
    disk_size: int = 10 * 1024**3
    redis: str | None = attrs.field(default=None, repr=False)
    redis_shown: str | None = None
    secrets: tuple[bytes, ...] = attrs.field(default=(), repr=False)

    @property
    def shared(self) -> bool:
        """Whether they are kept outside of the process, where others find them."""
        return self.disk is not None or self.redis is not None

    def share_of(self, workers: int) -> CacheConfig:
        """Return what one of so many workers may take."""
        return attrs.evolve(self, memory=self.memory // workers)

    @property
    def place_on_disk(self) -> tuple[str, int] | None:
        """The directory and how large it may become, None for none."""
        return None if self.disk is None else (self.disk, self.disk_size)

    def kept(self, other: CacheConfig) -> CacheConfig:
        """Return this with the places of another, which only a restart can change."""
        return attrs.evolve(
            self,
            disk=other.disk,
            disk_size=other.disk_size,
            redis=other.redis,
            redis_shown=other.redis_shown,
            secrets=other.secrets,
        )


@attrs.frozen
class LogConfig:
    """What is written of requests, and where.

    Attributes:
        access: COMBINED, JSON or a format string.
        place: a file of its own, None for twistd's log.
        trace: a request without a trace begins one.
    """

    access: str = COMBINED
    place: LogPlace | None = None
    trace: bool = False


@attrs.frozen
class Config:
    """What the operator asked for.

    Attributes:
        client_limit: seconds for the head of a request, and for an idle connection.
        workers: processes that share the listening sockets.
        admin: where the admin site listens, None for nowhere.
        admin_token: what has to be shown there, None for nothing.
        metrics: it tells what is counted.
        drain_timeout, drain_delay: seconds; see ``life.service.LifeService`` and docs/reload.rst.
        unready_on_failed_reload: it is not ready while the last reload has failed.
        cache: where stored responses are kept, if a route stores any.
        log: what is written of requests.
        files: what was read for it, by absolute paths.
    """

    routes: tuple[RouteConfig, ...]
    listen: tuple[Listen, ...]
    trusted: tuple[Network, ...] = ()
    trust_unix: bool = False
    client_limit: float = 75.0
    workers: int = 1
    admin: Listen | None = None
    admin_token: bytes | None = attrs.field(default=None, repr=False)
    metrics: bool = False
    drain_timeout: float = 30.0
    drain_delay: float = 0.0
    unready_on_failed_reload: bool = False
    cache: CacheConfig = CacheConfig()
    log: LogConfig = LogConfig()
    files: frozenset[Path] = attrs.field(default=frozenset(), eq=False)

    @property
    def needs_demo(self) -> bool:
        """Whether a route leads to the demo upstream."""
        return any(route.needs_demo for route in self.routes)

    def with_demo(self, demo: Callable[[], Target]) -> Config:
        """Return this with a demo upstream where routes lead there.  Args: what starts it."""
        if not self.needs_demo:
            return self
        target = demo()
        routes = (
            attrs.evolve(route, target=target) if route.needs_demo else route
            for route in self.routes
        )
        return attrs.evolve(self, routes=tuple(routes))

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """What must not be shown: all routes' credentials, the store's password, the token."""
        injected = tuple(secret for route in self.routes for secret in route.secrets)
        if self.admin_token is not None:
            injected += (self.admin_token,)
        return injected + self.cache.secrets

    @property
    def injects(self) -> bool:
        """Whether a route adds a credential, which whoever reaches the proxy could spend."""
        return any(route.secrets for route in self.routes)

    @property
    def caches(self) -> bool:
        """Whether a route stores responses."""
        return any(route.cache is not None for route in self.routes)

    @property
    def needs_accounts(self) -> bool:
        """Whether somebody wants to know what happened to each exchange."""
        log = self.log
        return (
            self.admin is not None
            or self.metrics
            or log.trace
            or (log.access != COMBINED and any(route.access_log for route in self.routes))
            or any(route.usage or route.server_timing for route in self.routes)
        )

    @property
    def waits(self) -> tuple[float, ...]:
        """The limits that have to be kept."""
        return (self.client_limit, *(wait for route in self.routes for wait in route.limits.waits))
