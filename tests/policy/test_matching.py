"""The most specific rule wins, wherever it stands."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.policy.matching import PRESENT, Condition, Match, MatchIndex
from pyproxy.semantics.fields import Fields
from pyproxy.semantics.messages import RequestHead

FINDS = 1000
"""So many times a rule is sought; some milliseconds, far above what the clock can tell."""

MOST_SECONDS = 100e-6
"""Seconds of CPU for one of them: some twenty times of what it takes on a slow machine."""


@attrs.frozen
class Rule:
    """A rule with a name to know it by."""

    name: str
    match: Match


def index(**matches: Match) -> MatchIndex[Rule]:
    """Return an index of rules."""
    return MatchIndex([Rule(name, match) for name, match in matches.items()])


def head(method: bytes = b"GET", *fields: tuple[bytes, bytes]) -> RequestHead:
    """Return the head of a request."""
    listed: Fields = list(fields)
    return RequestHead(method, b"/", 1, listed)


class MatchIndexTests(SynchronousTestCase):
    """Host before path before method before fields."""

    def assert_found(
        self, rules: MatchIndex[Rule], expected: str | None, host: bytes, path: bytes, *more: object
    ) -> None:
        """Check which rule a request meets."""
        method = more[0] if more and isinstance(more[0], bytes) else b"GET"
        fields = [one for one in more if isinstance(one, tuple)]
        found = rules.find(head(method, *fields), host, path)
        self.assertEqual(expected, None if found is None else found.name, (host, path, more))

    def test_host(self) -> None:
        """Whole, then the longest suffix, then none; a suffix does not mean its own name."""
        rules = index(
            whole=Match(b"a.b.example"),
            near=Match(b"*.b.example"),
            far=Match(b"*.example"),
            none=Match(),
        )
        for host, expected in (
            (b"a.b.example", "whole"),
            (b"c.b.example", "near"),
            (b"x.c.b.example", "near"),
            (b"b.example", "far"),
            (b"example", "none"),
            (b"other.test", "none"),
            (b"", "none"),
            (b"xb.example", "far"),
        ):
            self.assert_found(rules, expected, host, b"/")

    def test_path(self) -> None:
        """Whole, then the longest prefix, at a segment's border."""
        rules = index(
            root=Match(path=b""),
            api=Match(path=b"/api"),
            deep=Match(path=b"/api/v1"),
            whole=Match(path=b"/api/v1", exact=True),
        )
        for path, expected in (
            (b"/", "root"),
            (b"/apix", "root"),
            (b"/api", "api"),
            (b"/api/", "api"),
            (b"/api/v2", "api"),
            (b"/api/v1", "whole"),
            (b"/api/v1/", "deep"),
            (b"/api/v1/x", "deep"),
            (b"/api/v11", "api"),
            (b"/a" * 10000, "root"),
        ):
            self.assert_found(rules, expected, b"h", path)
        self.assert_found(index(api=Match(path=b"/api")), None, b"h", b"/other")
        self.assert_found(index(host=Match(b"a")), None, b"h", b"/")

    def test_host_outranks_path(self) -> None:
        """A short path of the right host comes before a long one of any."""
        rules = index(host=Match(b"h"), path=Match(path=b"/a/b/c"))
        self.assert_found(rules, "host", b"h", b"/a/b/c")
        self.assert_found(rules, "path", b"x", b"/a/b/c")

    def test_method_and_fields(self) -> None:
        """What is not met gives way to the next, down to the rules without a host."""
        socket = (Condition(b"upgrade", b"websocket"),)
        rules = index(
            upgrade=Match(b"h", b"/a", conditions=socket),
            post=Match(b"h", b"/a", methods=frozenset({b"POST", b"PUT"})),
            both=Match(b"h", b"/a", methods=frozenset({b"POST"}), conditions=socket),
            events=Match(b"h", b"", conditions=(Condition(b"accept", b"text/event-stream"),)),
            version=Match(conditions=(Condition(b"anthropic-version"),)),
            rest=Match(),
        )
        upgrade = (b"Upgrade", b"h2c, WebSocket")
        for expected, *request in (
            ("both", b"h", b"/a", b"POST", upgrade),
            ("post", b"h", b"/a", b"POST"),
            ("post", b"h", b"/a/x", b"PUT", upgrade),
            ("upgrade", b"h", b"/a", b"GET", upgrade),
            ("events", b"h", b"/a", b"GET", (b"Accept", b"text/html, Text/Event-Stream;q=0.9")),
            ("version", b"h", b"/a", b"GET", (b"anthropic-VERSION", b"2023-06-01")),
            ("rest", b"h", b"/a", b"GET"),
            ("rest", b"x", b"/a", b"POST"),
        ):
            self.assert_found(rules, str(expected), *request)

    def test_order_never_counts(self) -> None:
        """Every order of the rules finds the same."""
        rules = [
            Rule("root", Match()),
            Rule("api", Match(path=b"/api")),
            Rule("post", Match(path=b"/api", methods=frozenset({b"POST"}))),
            Rule("host", Match(b"*.example", b"/api")),
            Rule("x", Match(path=b"/api", conditions=(Condition(b"x"),))),
            Rule("xy", Match(path=b"/api", conditions=(Condition(b"x"), Condition(b"y")))),
        ]
        asked = [
            (head(method, *fields), host, path)
            for method in (b"GET", b"POST")
            for fields in ([], [(b"X", b"1")], [(b"X", b"1"), (b"Y", b"1")])
            for host in (b"a.example", b"h")
            for path in (b"/", b"/api")
        ]
        answers = {
            tuple(MatchIndex(order).find(*one) for one in asked)
            for order in itertools.permutations(rules)
        }
        self.assertEqual(1, len(answers))

    def test_meets(self) -> None:
        """Two rules are alike when some request would be as much the one's as the other's."""
        get, post = frozenset({b"GET"}), frozenset({b"POST"})
        for one, other, alike in (
            (Match(), Match(), True),
            (Match(b"a"), Match(b"b"), False),
            (Match(path=b"/a"), Match(path=b"/a", exact=True), False),
            (Match(methods=get), Match(methods=get | post), True),
            (Match(methods=get), Match(methods=post), False),
            (Match(methods=get), Match(), False),
            (Match(conditions=(Condition(b"x"),)), Match(conditions=(Condition(b"x"),)), True),
            (Match(conditions=(Condition(b"x"),)), Match(), False),
            (
                Match(conditions=(Condition(b"x", b"1"),)),
                Match(conditions=(Condition(b"x"),)),
                False,
            ),
        ):
            self.assertEqual(alike, one.meets(other), (one, other))
            self.assertEqual(alike, other.meets(one), (other, one))

    def test_condition(self) -> None:
        """A member of a list, without its parameters and its case; or any value at all."""
        asked = head(b"GET", (b"Accept", b"a/b;q=1"), (b"accept", b"C/D , e"), (b"X", b""))
        for condition, holds in (
            (Condition(b"accept", b"a/b"), True),
            (Condition(b"accept", b"c/d"), True),
            (Condition(b"accept", b"e"), True),
            (Condition(b"accept", b"a"), False),
            (Condition(b"accept", PRESENT), True),
            (Condition(b"x", PRESENT), True),
            (Condition(b"x", b""), False),
            (Condition(b"y", PRESENT), False),
        ):
            self.assertEqual(holds, condition.holds(asked), condition)

    @given(st.binary(max_size=40))
    def test_any_path(self, rest: bytes) -> None:
        """Whatever the path is, something is found under the root."""
        rules = index(root=Match(), api=Match(path=b"/api/a/b"))
        self.assertIsNotNone(rules.find(head(), b"h", b"/" + rest))

    def check_many(self, hosts: tuple[bytes, ...], host: bytes) -> None:
        """Check that one among ten thousand rules is found nearly as fast as one among ten."""

        def cost(count: int) -> float:
            rules = MatchIndex(
                Rule(str(n), Match(hosts[n % len(hosts)], b"/p%d/q" % n)) for n in range(count)
            )
            asked, path = head(), b"/p3/q/and/more"
            self.assert_found(rules, "3", host, path)
            return min(
                _timed(lambda: [rules.find(asked, host, path) for _ in range(FINDS)])
                for _ in range(5)
            )

        few, many = cost(10), cost(10000)
        self.assertLess(many, 4 * few)
        self.assertLess(many, FINDS * MOST_SECONDS)

    def test_many(self) -> None:
        """With hosts that are named whole."""
        self.check_many(tuple(b"h%d.example" % n for n in range(7)), b"h3.example")

    def test_many_suffixes(self) -> None:
        """With suffixes among them, and a host for which several have to be tried."""
        hosts = (b"h0.example", b"*.example", b"*.a.example", b"*.b.a.example")
        self.check_many(hosts, b"d.c.b.a.example")


def _timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
