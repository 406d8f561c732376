"""A configuration becomes routes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.file import load_file
from pyproxy.config.schema import Config
from pyproxy.plan import make_plan, route_of
from pyproxy.policy.instead import FixedAnswer, Redirection
from pyproxy.policy.matching import Match
from pyproxy.policy.routing import Limits
from pyproxy.semantics.urls import parse_target
from tests.configs import one_route

TARGET = parse_target("http://127.0.0.1:9000/base")


def config(**settings: Any) -> Config:
    """Return a configuration."""
    return one_route(**{"target": TARGET, **settings})


class RouteTests(SynchronousTestCase):
    """The one route of a configuration."""

    def test_route(self) -> None:
        """Target, prefix, rules and limits are the configuration's."""
        settings = config(prefix=b"/api", preserve_host=True, stream_hints=False)
        route = route_of(settings.routes[0], b"pyproxy-test")
        self.assertEqual(b"/base/a?b", route.mapping.to_upstream(b"/api/a?b"))
        self.assertTrue(route.to_upstream.preserve_host)
        self.assertFalse(route.to_client.stream_hints)
        self.assertEqual(Limits(), route.limits)

    def test_injects(self) -> None:
        """A route with a secret knows that it has one, be it too short to be masked."""
        for secrets, injects in (((b"sk-secret",), True), ((b"ab",), True), ((), False)):
            route = route_of(config(secrets=secrets).routes[0], b"p")
            self.assertEqual(injects, route.injects)


class PlanTests(SynchronousTestCase):
    """All routes of a configuration."""

    def test_peers(self) -> None:
        """Routes to one upstream share what its connections are kept for, and so do later plans."""
        (route,) = config().routes
        other = attrs.evolve(route, match=Match(path=b"/other"))
        third = attrs.evolve(route, match=Match(path=b"/third"), insecure=True)
        whole = attrs.evolve(config(), routes=(route, other, third))
        plan = make_plan(whole, b"p")
        first, second, apart = (one.peer for one in plan.table.routes)
        self.assertIs(first, second)
        self.assertNotEqual(first, apart)
        self.assertEqual({first, apart}, plan.peers)
        again = make_plan(whole, b"p", {peer: peer for peer in plan.peers})
        self.assertIs(first, again.table.routes[0].peer)

    def test_instead(self) -> None:
        """A route that asks no upstream has no peer in the plan."""
        (route,) = config(target=None).routes
        redirect = attrs.evolve(route, instead=Redirection(b"/x", 301, True))
        answer = attrs.evolve(route, match=Match(b"a"), instead=FixedAnswer(200, (), b"x"))
        plan = make_plan(attrs.evolve(config(), routes=(redirect, answer)), b"p")
        self.assertEqual(frozenset(), plan.peers)
        self.assertEqual(
            [Redirection(b"/x", 301, True), FixedAnswer(200, (), b"x")],
            [one.instead for one in plan.table.routes],
        )


class ManyRoutesTests(SynchronousTestCase):
    """A file of a thousand routes."""

    def test_start(self) -> None:
        """It takes at most half a second of CPU more than one of a single route."""
        path = Path(self.mktemp())
        upstream = '[upstreams.a]\ntarget = "http://127.0.0.1:9"\n'

        def cost(count: int) -> float:
            routes = (
                f'[[routes]]\nhost = "h{n % 50}.example"\npath = "/p{n}/"\nupstream = "a"\n'
                for n in range(count)
            )
            path.write_text(upstream + "".join(routes))
            start = time.process_time()
            whole = load_file(path, {}, lambda description: None, tries=False)
            self.assertEqual(count, len(make_plan(whole, b"p").table.routes))
            return time.process_time() - start

        self.assertLess(min(cost(1000) for _ in range(3)) - min(cost(1) for _ in range(3)), 0.5)
