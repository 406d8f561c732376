"""From a configuration to a plan: the routes and terms by which requests are served.

Nothing else reads what the configuration says of routes.  A plan is immutable; a reload makes
another and puts it in this one's place.  What is costly or remembers something belongs to no plan:
it is found again by what it is for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from pyproxy.config.schema import Config, RouteConfig
from pyproxy.policy.cross_origin import Guard
from pyproxy.policy.matching import Match
from pyproxy.policy.routing import Peer, Route, RoutingTable, Watch
from pyproxy.semantics.secrets import SecretMask
from pyproxy.semantics.to_client import ResponseForwarding
from pyproxy.semantics.to_upstream import RequestForwarding
from pyproxy.semantics.urls import Origin, PathMapping, Target

if TYPE_CHECKING:
    from pyproxy.cache.cache import Cache
    from pyproxy.cache.caching import CachingRoute

NOWHERE = Target(Origin("http", "localhost", 80, b"localhost"), b"")
"""The target of routes that ask no upstream."""


@attrs.frozen
class Plan:
    """By what requests are served.

    Attributes:
        peers: where they go.
    """

    table: RoutingTable
    peers: frozenset[Peer]


def make_plan(
    config: Config,
    pseudonym: bytes,
    known: Mapping[Peer, Peer] | None = None,
    cache: Cache | None = None,
) -> Plan:
    """Make a plan of a configuration.

    Args: this service's name in ``Via``; peers of earlier plans, whose objects are used again, as
        those of this one are: to find the connections of the same object takes no call; what
        routes that cache share.
    """
    peers_known = dict(known or {})
    routes = [route_of(route, pseudonym, peers_known, cache) for route in config.routes]
    peers = frozenset(route.peer for route in routes if route.instead is None)
    return Plan(RoutingTable(routes), peers)


def route_of(
    config: RouteConfig,
    pseudonym: bytes,
    known: dict[Peer, Peer] | None = None,
    cache: Cache | None = None,
) -> Route:
    """Return the route of its configuration.

    Args: known peers, to which its own is added; what routes that cache share.
    """
    target = config.target or NOWHERE
    peer = Peer(target.origin, config.limits.connect, config.authorities, config.insecure)
    mapping = PathMapping(config.match.path.rstrip(b"/"), target.base)
    origin, secrets = target.origin, config.secrets
    to_client = ResponseForwarding(
        origin,
        mapping,
        config.response_rules,
        SecretMask(secrets),
        config.stream_hints,
        config.preserve_host,
    )
    return Route(
        target,
        peer if known is None else known.setdefault(peer, peer),
        mapping,
        RequestForwarding(origin, pseudonym, config.request_rules, config.preserve_host),
        to_client,
        config.limits,
        config.match,
        config.instead,
        config.access_log,
        bool(secrets),
        Guard.of(config.allowed_hosts, config.allowed_origins) if secrets else None,
        step_of(config, target, to_client, cache),
        name_of(config.match),
        watch_of(config),
        config.server_timing,
        config.insertions,
    )


def step_of(
    config: RouteConfig, target: Target, to_client: ResponseForwarding, cache: Cache | None
) -> CachingRoute | None:
    """Return what requests of a route pass before they are sent, None for nothing."""
    policy = config.cache
    if policy is None or cache is None:
        return None
    # Who caches nothing does not wait for it at the start: 30 ms.
    from pyproxy.cache.caching import CachingRoute

    origin = b"%b://%b" % (target.origin.scheme.encode("ascii"), target.origin.authority)
    name = name_of(config.match)
    return CachingRoute(
        cache,
        space_of(config, target),
        origin,
        policy,
        config.limits,
        to_client,
        config.request_rules.replaced,
        name,
        cache.counts_of(name),
    )


def watch_of(config: RouteConfig) -> Watch | None:
    """Return what makes the watchers of a route, None where nobody watches."""
    if not config.usage:
        return None
    # Who watches nothing does not wait for it at the start.
    from pyproxy.observe.model_watch import watch

    return watch


def name_of(match: Match) -> str:
    """Return what a route is called where its counts are shown."""
    name = (match.host + (match.path or b"/")).decode("latin-1")
    if match.exact:
        name += " exactly"
    if match.methods:
        name += " " + ",".join(sorted(method.decode("ascii") for method in match.methods))
    for condition in match.conditions:
        name += f" if {condition.name.decode('ascii')}"
    return name


def space_of(config: RouteConfig, target: Target) -> bytes:
    """Return a name for those whose requests the upstream sees alike: what they may share.

    Routes that add different fields to requests, a credential among them, share nothing.
    """
    rules = config.request_rules
    facts = (target.shown, config.preserve_host, rules.set, sorted(rules.remove))
    return hashlib.blake2b(repr(facts).encode(), digest_size=12).hexdigest().encode("ascii")
