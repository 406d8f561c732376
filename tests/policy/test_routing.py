"""Which route serves a request."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.errors import (
    BadRequest,
    Malformed,
    MethodRefused,
    RouteNotFound,
    TargetAmbiguous,
    TargetClimbs,
)
from pyproxy.policy.matching import Match
from pyproxy.policy.routing import Limits, Peer, Route, Routed, RoutingTable
from pyproxy.semantics.messages import RequestHead
from pyproxy.semantics.secrets import SecretMask
from pyproxy.semantics.to_client import ResponseForwarding
from pyproxy.semantics.to_upstream import RequestForwarding
from pyproxy.semantics.urls import PathMapping, parse_target


def route(prefix: bytes, url: str, secrets: tuple[bytes, ...] = ()) -> Route:
    """Return a route from a prefix to a target."""
    target = parse_target(url)
    mapping = PathMapping(prefix, target.base)
    return Route(
        target,
        Peer(target.origin),
        mapping,
        RequestForwarding(target.origin, b"pyproxy-1"),
        ResponseForwarding(target.origin, mapping, secrets=SecretMask(secrets)),
        match=Match(path=prefix),
        injects=bool(secrets),
    )


ROOT = route(b"", "http://root")
DEFM = route(b"/defm", "http://h/base/")
DEEP = route(b"/defm/deep", "http://deep/x", (b"sk-key",))
TABLE = RoutingTable([ROOT, DEFM, DEEP])


def find(target: bytes, method: bytes = b"GET", table: RoutingTable = TABLE) -> Routed:
    """Return a request on its route."""
    return table.find(RequestHead(method, target, 1, []), b"front.test")


class RoutingTests(SynchronousTestCase):
    """A request finds its route by its target."""

    def test_longest_prefix(self) -> None:
        """The longest prefix that ends at a segment's border wins, in whatever order they came."""
        for table in (TABLE, RoutingTable([DEEP, DEFM, ROOT])):
            for target, expected in (
                (b"/", Routed(ROOT, b"/", None)),
                (b"/defmx", Routed(ROOT, b"/defmx", None)),
                (b"/defm", Routed(DEFM, b"/base/", None)),
                (b"/defm/a?b", Routed(DEFM, b"/base/a?b", None)),
                (b"/defm/deeper", Routed(DEFM, b"/base/deeper", None)),
                (b"/defm/deep/a", Routed(DEEP, b"/x/a", None)),
                (b"//other/a", Routed(ROOT, b"//other/a", None)),
            ):
                self.assertEqual(expected, find(target, table=table), target)

    def test_no_route(self) -> None:
        """A path under no prefix is 404.  RFC 9110 15.5.5."""
        for target in (b"/", b"/defmx", b"/other", b"//defm", b"http://h/defmx"):
            self.assertRaises(RouteNotFound, find, target, table=RoutingTable([DEFM]))

    def test_climbing(self) -> None:
        """A target that climbs out of its route is refused, also in absolute-form."""
        for target in (b"/defm/..", b"/defm/%2e%2e/a", b"http://h/defm/../a", b"/.."):
            self.assertRaises(TargetClimbs, find, target)

    def test_absolute_form(self) -> None:
        """A whole URL goes to the configured target; its authority is told.  RFC 9112 3.2.2."""
        self.assertEqual(Routed(DEFM, b"/base/a", b"any:80"), find(b"http://any:80/defm/a"))
        self.assertEqual(Routed(ROOT, b"/", b"any"), find(b"HTTPS://any"))
        self.assertEqual(Routed(ROOT, b"/?a", b"any"), find(b"http://any?a", b"OPTIONS"))
        self.assertEqual(Routed(DEFM, b"/base/a", b"any:80"), find(b"ws://any:80/defm/a"))
        self.assertEqual(Routed(ROOT, b"/", b"any"), find(b"wss://any"))

    def test_wrong_form(self) -> None:
        """A target in no form that a server knows is refused.  RFC 9112 3.2."""
        for target in (b"a", b"h:443", b"mailto:a@b", b"?a", b"**", b"*/", b"\\"):
            self.assertRaises(BadRequest, find, target)
        for target in (b"ftp://h/", b"http:///a", b"http://u:p@h/"):
            self.assertRaises(Malformed, find, target)

    def test_connect(self) -> None:
        """CONNECT is refused whatever its target, and only in these letters.  RFC 9110 9.3.6."""
        for target in (b"h:443", b"/defm", b"*", b"http://h/"):
            self.assertRaises(MethodRefused, find, target, b"CONNECT")
        self.assertEqual(DEFM, find(b"/defm", b"connect").route)

    def test_trace(self) -> None:
        """TRACE would show what the proxy adds; without a secret it passes.  RFC 9110 9.3.8."""
        self.assertRaises(MethodRefused, find, b"/defm/deep", b"TRACE")
        self.assertEqual(Routed(DEFM, b"/base/a", None), find(b"/defm/a", b"TRACE"))
        alone = RoutingTable([DEEP])
        self.assertRaises(MethodRefused, find, b"/defm/deep", b"TRACE", alone)
        self.assertEqual(Routed(DEEP, b"/x/a", None), find(b"/defm/deep/a", b"GET", alone))
        self.assertTrue(DEEP.injects)
        self.assertFalse(DEFM.injects)

    def test_extension_methods(self) -> None:
        """Any other method passes.  RFC 9110 16.1."""
        for method in (b"GET", b"get", b"PURGE", b"M-SEARCH", b"OPTIONS"):
            self.assertEqual(Routed(DEFM, b"/base/a", None), find(b"/defm/a", method))


class ManyRoutesTests(SynchronousTestCase):
    """Which of many routes, and why none."""

    def found(self, table: RoutingTable, target: bytes, host: bytes, method: bytes) -> Routed:
        """Return a request on its route."""
        return table.find(RequestHead(method, target, 1, []), host)

    def test_host(self) -> None:
        """Port, case and final dot of what was asked do not count; a URL outranks Host."""
        named = attrs.evolve(DEFM, match=Match(host=b"a.example", path=b"/defm"))
        table = RoutingTable([DEFM, named])
        for host in (b"a.example", b"A.Example:8000", b"a.example."):
            self.assertEqual(named, self.found(table, b"/defm", host, b"GET").route)
        for host in (b"b.example", b"", b"[::1]:80", b"a,b", b"a" * 600):
            self.assertEqual(DEFM, self.found(table, b"/defm", host, b"GET").route)
        found = self.found(table, b"http://a.example/defm/x", b"b.example", b"GET")
        self.assertEqual(Routed(named, b"/base/x", b"a.example"), found)

    def test_methods(self) -> None:
        """What routes have other methods for is 405, with those in Allow; else it is 404."""
        get, put = (
            attrs.evolve(DEFM, match=Match(path=b"/defm", methods=frozenset({method})))
            for method in (b"GET", b"PUT")
        )
        table = RoutingTable([get, put])
        self.assertEqual(get, self.found(table, b"/defm/a", b"", b"GET").route)
        error = self.assertRaises(MethodRefused, self.found, table, b"/defm", b"", b"POST")
        self.assertEqual(b"GET, PUT", error.allow)
        self.assertRaises(RouteNotFound, self.found, table, b"/other", b"", b"GET")

    def test_another_reading(self) -> None:
        """What an upstream could read as another route's is refused; what is one's own is not."""
        for target, passes in (
            (b"/%64efm/a", False),
            (b"//defm/a", False),
            (b"/./defm", False),
            (b"/x/../defm/a", False),
            (b"/x/%2e%2e/defm", False),
            (b"/x%2f..%2fdefm", False),
            (b"/\\defm", False),
            (b"/defm;x", False),
            (b"/%2564efm", False),
            (b"/defm/a%2Fb//c;d", True),
            (b"/other//a;b?//defm", True),
            (b"/defm/de%65p", False),
        ):
            if passes:
                find(target)
            else:
                self.assertRaises(TargetAmbiguous, find, target)

    def test_options_of_the_whole(self) -> None:
        """``OPTIONS *`` goes by the host; it is 404 where no route is for all of one."""
        table = RoutingTable([attrs.evolve(ROOT, match=Match(host=b"a.example")), DEFM])
        self.assertEqual(b"*", self.found(table, b"*", b"a.example", b"OPTIONS").target)
        self.assertRaises(RouteNotFound, self.found, table, b"*", b"b.example", b"OPTIONS")


class AsteriskTests(SynchronousTestCase):
    """Requests about the server as a whole."""

    def test_options(self) -> None:
        """``OPTIONS *`` goes to the shortest prefix's target as it is.  RFC 9112 3.2.4."""
        self.assertEqual(Routed(ROOT, b"*", None), find(b"*", b"OPTIONS"))

    def test_options_in_absolute_form(self) -> None:
        """OPTIONS of a URL without path and query is ``OPTIONS *``.  RFC 9112 3.2.4."""
        self.assertEqual(Routed(ROOT, b"*", b"any:80"), find(b"http://any:80", b"OPTIONS"))
        self.assertEqual(Routed(ROOT, b"/", b"any"), find(b"http://any/", b"OPTIONS"))

    def test_url_that_ends_like_its_authority(self) -> None:
        """A path that ends in ``://`` and the authority is a path.  RFC 9112 3.2.4."""
        self.assertEqual(Routed(ROOT, b"/a://h", b"h"), find(b"http://h/a://h", b"OPTIONS"))

    def test_other_methods(self) -> None:
        """``*`` goes with OPTIONS only.  RFC 9112 3.2.4."""
        for method in (b"GET", b"options", b"POST"):
            self.assertRaises(BadRequest, find, b"*", method)


class LimitTests(SynchronousTestCase):
    """How long each wait may last."""

    def test_defaults(self) -> None:
        """No limit is on the whole of an exchange; a long think is no error."""
        limits = Limits()
        found = (limits.connect, limits.first_byte, limits.idle, limits.upload)
        self.assertEqual((5.0, 300.0, 300.0, 60.0), found)
        self.assertIsNone(limits.max_content)

    def test_waits(self) -> None:
        """A sweeper keeps every limit that is set; a connect ends by a timer of its own."""
        self.assertEqual((300.0, 300.0, 60.0), Limits().waits)
        limits = Limits(1.0, 2.0, 3.0, 4.0, 5, ws_idle=6.0, ws_ping=7.0, max_message=8)
        self.assertEqual((2.0, 3.0, 4.0, 6.0, 7.0), limits.waits)
