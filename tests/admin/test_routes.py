"""The routes as the admin site shows them."""

from __future__ import annotations

import itertools

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.admin.routes import precedence, routes_of
from pyproxy.config.schema import Config, Listen, RouteConfig
from pyproxy.policy.instead import FixedAnswer, Redirection
from pyproxy.policy.matching import Condition, Match, MatchIndex
from pyproxy.semantics.urls import parse_target
from tests.admin.kit import AdminTestCase

UPSTREAM = parse_target("https://api.example.com/v1")


def config_of(*routes: RouteConfig) -> Config:
    """Return a configuration with some routes."""
    return Config(routes, (Listen(),))


@attrs.frozen
class Rule:
    """A rule of an index, and nothing more."""

    match: Match


HOSTS = (b"", b"*.test", b"*.a.test", b"*.z.test", b"b.a.test", b"z.test", b"x")
MATCHES = st.builds(
    Match,
    host=st.sampled_from(HOSTS),
    path=st.sampled_from((b"", b"/a", b"/a/b", b"/a/b/c", b"/d")),
    exact=st.booleans(),
    methods=st.frozensets(st.sampled_from((b"GET", b"POST"))),
    conditions=st.lists(st.sampled_from((b"accept", b"upgrade")), unique=True).map(
        lambda names: tuple(Condition(name) for name in sorted(names))
    ),
)


class OrderTests(SynchronousTestCase):
    """They stand in the order in which they match."""

    @given(st.lists(MATCHES, unique=True))
    def test_order_is_that_of_the_index(self, matches: list[Match]) -> None:
        """For every request the rules that it can meet are tried in this order."""
        index = MatchIndex([Rule(match) for match in matches])
        places = {match: place for place, match in enumerate(sorted(matches, key=precedence))}
        hosts = (b"b.a.test", b"a.test", b"b.z.test", b"z.test", b"x", b"")
        for host, path in itertools.product(hosts, (b"/", b"/a", b"/a/b", b"/a/b/c/d", b"/d")):
            tried = [rule.match for rule in index.candidates(host, path)]
            self.assertEqual(sorted(tried, key=places.__getitem__), tried)

    def test_order_of_the_file_does_not_count(self) -> None:
        """Whatever stands first in the file, the most specific route stands first here."""
        matches = (
            Match(b"a.example.com", b"/a", exact=True),
            Match(b"a.example.com", b"/a/b"),
            Match(b"a.example.com", methods=frozenset({b"GET"})),
            Match(b"a.example.com", conditions=(Condition(b"accept"),)),
            Match(b"a.example.com"),
            Match(b"*.a.example.com"),
            Match(b"*.example.com", b"/a"),
            Match(b"", b"/a"),
            Match(),
        )
        routes = [RouteConfig(UPSTREAM, match) for match in matches]
        expected = routes_of(config_of(*routes))
        self.assertEqual("/a", expected[0]["path"])
        self.assertEqual(expected, routes_of(config_of(*reversed(routes))))
        self.assertEqual(
            [match.host.decode() or None for match in matches], [one["host"] for one in expected]
        )


class ShownTests(SynchronousTestCase):
    """What is shown of each."""

    def shown(self, route: RouteConfig) -> dict[str, object]:
        """Return how a route is shown, alone in its configuration."""
        (one,) = routes_of(config_of(route))
        return one

    def test_conditions(self) -> None:
        """A route has its host, path, methods and fields."""
        match = Match(
            b"*.example.com",
            b"/v1",
            True,
            frozenset({b"POST", b"GET"}),
            (Condition(b"accept", b"text/event-stream"), Condition(b"upgrade")),
        )
        self.assertEqual(
            {
                "host": "*.example.com",
                "path": "/v1",
                "exact": True,
                "methods": ["GET", "POST"],
                "fields": {"accept": "text/event-stream", "upgrade": "*"},
                "target": "https://api.example.com/v1",
            },
            self.shown(RouteConfig(UPSTREAM, match)),
        )

    def test_no_conditions(self) -> None:
        """A route for everything says so."""
        self.assertEqual(
            {
                "host": None,
                "path": "/",
                "exact": False,
                "methods": [],
                "fields": {},
                "target": "https://api.example.com/v1",
            },
            self.shown(RouteConfig(UPSTREAM)),
        )

    def test_ends(self) -> None:
        """A route has one of a target, a redirect and an answer's status."""
        for route, end in (
            (RouteConfig(UPSTREAM), {"target": "https://api.example.com/v1"}),
            (
                RouteConfig(parse_target("unix:/run/app.sock")),
                {"target": "http://localhost at /run/app.sock"},
            ),
            (RouteConfig(None), {"target": "demo"}),
            (RouteConfig(None, instead=Redirection(b"/new")), {"redirect": "/new"}),
            (RouteConfig(None, instead=FixedAnswer(503, (), b"text")), {"answer": 503}),
        ):
            with self.subTest(end=end):
                shown = self.shown(route)
                found = {
                    key: shown[key] for key in ("target", "redirect", "answer") if key in shown
                }
                self.assertEqual(end, found)


class SecretTests(AdminTestCase):
    """No credential is shown, wherever it stands."""

    def test_secrets(self) -> None:
        """Injected ones, userinfo, keys in a query and credentials in a condition are masked."""
        secret, away = b"sk-very-secret", b"https://user:hunter22@a.test/?api_key=hunter22"
        by_key = Match(path=b"/k", conditions=(Condition(b"x-api-key", b"hunter22"),))
        self.condition.config = config_of(
            RouteConfig(UPSTREAM, Match(path=b"/" + secret), secrets=(secret,)),
            RouteConfig(None, Match(path=b"/old"), instead=Redirection(away)),
            RouteConfig(None, Match(path=b"/x"), instead=Redirection(b"/?x=" + secret)),
            RouteConfig(UPSTREAM, by_key),
        )
        hidden, old, by_key_shown, other = self.ask("GET", "/api/routes").json
        self.assertEqual("/***", hidden["path"])
        self.assertEqual("https://***@a.test/?api_key=***", old["redirect"])
        self.assertEqual({"x-api-key": "***"}, by_key_shown["fields"])
        self.assertEqual("/?x=***", other["redirect"])

    def test_condition_without_value(self) -> None:
        """That a field has to be there is no secret."""
        self.condition.config = config_of(
            RouteConfig(UPSTREAM, Match(conditions=(Condition(b"authorization"),)))
        )
        self.assertEqual(
            [{"authorization": "*"}], [one["fields"] for one in self.ask("GET", "/api/routes").json]
        )
