"""The whole configuration as facts; made by the loader, read by the wiring only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from pyproxy.config.values import is_loopback, listens_on_loopback
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

    @property
    def needs_demo(self) -> bool:
        """Whether it leads to the demo upstream."""
        return self.target is None and self.instead is None


@attrs.frozen
class Config:
    """What the operator asked for.

    Attributes:
        client_limit: seconds for the head of a request, and for an idle connection.
        workers: processes that share the listening sockets.
        admin: where the admin site listens, None for nowhere.
        drain_timeout, drain_delay: seconds; see ``life.service.LifeService`` and docs/reload.rst.
        unready_on_failed_reload: it is not ready while the last reload has failed.
        files: what was read for it, by absolute paths.
    """

    routes: tuple[RouteConfig, ...]
    listen: tuple[Listen, ...]
    trusted: tuple[Network, ...] = ()
    trust_unix: bool = False
    client_limit: float = 75.0
    workers: int = 1
    admin: Listen | None = None
    drain_timeout: float = 30.0
    drain_delay: float = 0.0
    unready_on_failed_reload: bool = False
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
        """The credentials of all routes."""
        return tuple(secret for route in self.routes for secret in route.secrets)

    @property
    def waits(self) -> tuple[float, ...]:
        """The limits that have to be kept."""
        return (self.client_limit, *(wait for route in self.routes for wait in route.limits.waits))
