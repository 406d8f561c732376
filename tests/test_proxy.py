"""What serves in one process, before and after another configuration."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any, cast

import attrs
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.schema import CacheConfig, Config, Listen
from pyproxy.ingress.site import SHUTDOWN_SECONDS
from pyproxy.life.desk import Document
from pyproxy.life.measuring import Measuring
from pyproxy.listeners import Place
from pyproxy.observe.families import FAMILIES
from pyproxy.observe.rows import Key, Numbers
from pyproxy.policy.routing import Limits
from pyproxy.proxy import Proxy
from pyproxy.relay.limits import MAX_INTERVAL, MIN_INTERVAL
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.forwarding import FieldRules
from pyproxy.semantics.urls import parse_target
from tests.configs import one_route
from tests.memory import CLIENT, OK, PROXY, MemoryTransport, Network, request, status_of

ONE, TWO = 9000, 9001

BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwe"


def to(port: int, path: str = "", **settings: Any) -> Config:
    """Return a configuration that leads to a port."""
    target = parse_target(f"http://127.0.0.1:{port}{path}")
    return one_route(**{"target": target, **settings})


def both(first: Config, second: Config) -> Config:
    """Return a configuration with the routes of two, the second's under /two."""
    (route,) = second.routes
    under = attrs.evolve(route, match=attrs.evolve(route.match, path=b"/two"))
    return attrs.evolve(first, routes=(*first.routes, under))


class ProxyTestCase(SynchronousTestCase):
    """A case with a proxy between a client and upstreams that the test plays."""

    def start(self, config: Config, **settings: Any) -> None:
        """Start a proxy."""
        self.network = Network()
        self.network.listening[TWO] = None
        self.proxy = Proxy(config, cast(IProxyReactor, self.network), b"pyproxy-test", **settings)
        self.proxy.start()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """End it; nothing is left."""
        stopped = self.proxy.stop()
        self.network.pass_time(SHUTDOWN_SECONDS + 1)
        self.successResultOf(stopped)
        self.assertEqual([], self.network.getDelayedCalls())
        self.network.close()

    def take(self, config: Config) -> None:
        """Take another configuration."""
        self.proxy.take(self.proxy.prepare(config))
        self.network.settle()

    def client(self, octets: bytes = b"") -> MemoryTransport:
        """Connect a client."""
        transport = self.network.transport(PROXY, CLIENT)
        transport.join(self.proxy.site.buildProtocol(CLIENT))
        self.deliver(transport, octets)
        return transport

    def deliver(self, transport: MemoryTransport, octets: bytes) -> None:
        """Let octets arrive."""
        transport.deliver(octets)
        self.network.settle()

    def ask(self, client: MemoryTransport, target: bytes = b"/") -> tuple[int, bytes]:
        """Ask, and answer; return the port that was asked, and what it was sent."""
        for upstream in self.network.opened:
            upstream.take()
        self.deliver(client, request(b"GET %b HTTP/1.1" % target))
        (upstream,) = (one for one in self.network.opened if one.value())
        asked = upstream.take()
        self.deliver(upstream, OK)
        self.assertEqual(200, status_of(client.take()))
        return cast(Any, upstream.getPeer()).port, asked

    def ports(self) -> list[int]:
        """Return where connections were opened to."""
        return [cast(Any, one.getPeer()).port for one in self.network.opened]


class TakeTests(ProxyTestCase):
    """Another configuration is for what begins from now on."""

    def test_new_requests(self) -> None:
        """The next request goes by the new routes, on a connection that was there before too."""
        self.start(to(ONE, "/old"))
        client = self.client()
        port, asked = self.ask(client, b"/x")
        self.assertEqual((ONE, b"GET /old/x"), (port, asked[:10]))
        rules = FieldRules(((b"X-New", b"yes"),))
        self.take(to(TWO, "/new", request_rules=rules))
        port, asked = self.ask(client, b"/x")
        self.assertEqual((TWO, b"GET /new/x"), (port, asked[:10]))
        self.assertIn(b"\r\nX-New: yes\r\n", asked)

    def test_prepared_only(self) -> None:
        """What is made and not taken changes nothing."""
        self.start(to(ONE))
        client = self.client()
        self.ask(client)
        self.proxy.prepare(to(TWO, client_limit=0.2))
        self.assertEqual(ONE, self.ask(client)[0])
        self.network.pass_time(3)
        self.assertEqual((None, [ONE]), (client.lost, self.ports()))

    def test_open_exchange(self) -> None:
        """What has begun goes on by its own route, though no route leads there any more."""
        self.start(to(ONE, response_rules=FieldRules(((b"X-Old", b"yes"),))))
        early = self.client(request())
        late = self.client(request())
        one, two = self.network.opened
        self.deliver(one, BEGUN)
        self.take(to(TWO))
        self.deliver(one, b"ll")
        self.deliver(two, BEGUN + b"ll")
        for client in (early, late):
            told = client.take()
            self.assertIn(b"\r\nX-Old: yes\r\n", told)
            self.assertEqual(b"well", told[-4:])
        self.assertEqual([ONE, ONE], self.ports())
        for client in (early, late):
            self.assertEqual(TWO, self.ask(client)[0])

    def test_upload(self) -> None:
        """So does a request whose content is still coming."""
        self.start(to(ONE))
        client = self.client(request(b"POST / HTTP/1.1", b"Content-Length: 6", content=b"abc"))
        self.take(to(TWO))
        self.deliver(client, b"def")
        self.assertEqual(b"abcdef", self.network.opened[0].take()[-6:])
        self.deliver(self.network.opened[0], OK)
        self.assertEqual(200, status_of(client.take()))

    def test_route_is_gone(self) -> None:
        """A path without a route any more is not found."""
        self.start(to(ONE))
        client = self.client()
        self.ask(client)
        config = to(ONE)
        (route,) = config.routes
        under = attrs.evolve(route, match=attrs.evolve(route.match, path=b"/only"))
        self.take(attrs.evolve(config, routes=(under,)))
        self.deliver(client, request())
        self.assertEqual(404, status_of(client.take()))

    def test_one_name(self) -> None:
        """In Via it is the same proxy as before: a request that comes back is in a loop."""
        self.start(to(ONE))
        client = self.client()
        _, asked = self.ask(client)
        self.assertIn(b"\r\nVia: 1.1 pyproxy-test\r\n", asked)
        self.take(to(TWO))
        _, asked = self.ask(client)
        self.assertIn(b"\r\nVia: 1.1 pyproxy-test\r\n", asked)


class ConnectionsTests(ProxyTestCase):
    """What becomes of the connections to upstreams."""

    def test_kept(self) -> None:
        """An idle connection to an upstream that stays is used again."""
        self.start(to(ONE))
        client = self.client()
        self.ask(client)
        for config in (
            to(ONE, "/elsewhere"),
            both(to(TWO), to(ONE)),
            to(ONE, limits=Limits(idle=7.0)),
        ):
            self.take(config)
            self.assertEqual(ONE, self.ask(client, b"/two")[0])
        self.assertEqual([ONE], self.ports())

    def test_closed(self) -> None:
        """One to an upstream that goes is closed, others are not."""
        self.start(both(to(ONE), to(TWO)))
        client = self.client()
        self.ask(client)
        self.ask(client, b"/two")
        one, two = self.network.opened
        self.take(to(TWO))
        self.assertEqual((True, None), (one.lost is not None, two.lost))
        self.take(both(to(ONE), to(TWO)))
        self.ask(client)
        self.ask(client, b"/two")
        self.assertEqual([ONE, TWO, ONE], self.ports())

    def test_reached_in_another_way(self) -> None:
        """An upstream that is reached in another way is another."""
        self.start(to(ONE))
        client = self.client()
        self.ask(client)
        self.take(to(ONE, limits=Limits(connect=1.0)))
        self.assertIsNotNone(self.network.opened[0].lost)
        self.ask(client)
        self.assertEqual([ONE, ONE], self.ports())

    def test_one_object(self) -> None:
        """An upstream that stays is the very same object: it is found without a comparison."""
        self.start(to(ONE))
        for config in (to(ONE, "/elsewhere"), both(to(ONE), to(TWO)), to(ONE)):
            before = self.proxy.prepare(to(ONE)).plan.peers
            self.take(config)
            (peer,) = self.proxy.prepare(to(ONE)).plan.peers
            self.assertIs(peer, next(iter(before)))

    def test_open(self) -> None:
        """A connection that is in use is closed when it becomes idle, and not before."""
        self.start(to(ONE))
        client = self.client(request())
        (one,) = self.network.opened
        self.deliver(one, BEGUN)
        self.take(to(TWO))
        self.network.pass_time(2)
        self.assertIsNone(one.lost)
        self.deliver(one, b"ll")
        self.assertEqual(b"well", client.take()[-4:])
        self.assertIsNotNone(one.lost)

    def test_comes_back(self) -> None:
        """A connection that was in use while its upstream went and came is of no use to both."""
        self.start(to(ONE))
        client = self.client(request())
        (one,) = self.network.opened
        self.take(to(TWO))
        self.take(to(ONE))
        self.deliver(one, OK)
        self.assertEqual(200, status_of(client.take()))
        self.assertIsNotNone(one.lost)
        self.assertEqual(ONE, self.ask(client)[0])
        self.assertEqual([ONE, ONE], self.ports())


class TermsTests(ProxyTestCase):
    """On which terms clients are served follows."""

    def test_trust(self) -> None:
        """Who is connected already is trusted, or not, from the next request on."""
        self.start(to(ONE))
        client = self.client()
        forwarded = b"X-Forwarded-For: 203.0.113.9"
        for config, chain in (
            (to(ONE, trusted=(ip_network("192.0.2.0/24"),)), b"203.0.113.9, 192.0.2.1"),
            (to(ONE), b"192.0.2.1"),
        ):
            self.take(config)
            self.deliver(client, request(b"GET / HTTP/1.1", forwarded))
            asked = self.network.opened[0].take()
            self.assertIn(b"\r\nX-Forwarded-For: %b\r\n" % chain, asked)
            self.deliver(self.network.opened[0], OK)

    def test_client_limit(self) -> None:
        """Who connects from now on has the new limit for a head."""
        self.start(to(ONE, client_limit=60.0))
        self.take(to(ONE, client_limit=1.0))
        client = self.client(b"GET / HT")
        self.network.pass_time(2.5)
        self.assertEqual(408, status_of(client.take()))

    def test_access_log(self) -> None:
        """The access log comes, and goes."""
        events = EventLoggingObserver.createWithCleanup(
            self,  # type: ignore[arg-type]
            globalLogPublisher,
        )
        self.start(to(ONE, access_log=False))
        client = self.client()
        for logged in (False, True, False):
            self.take(to(ONE, access_log=logged))
            before = len(list(events))
            self.ask(client)
            self.assertEqual(logged, len(list(events)) > before)

    def test_secret(self) -> None:
        """A secret that comes with a reload is masked from then on, in responses and in the log."""
        events = EventLoggingObserver.createWithCleanup(
            self,  # type: ignore[arg-type]
            globalLogPublisher,
        )
        self.start(to(ONE))
        client = self.client()
        rules = FieldRules(((b"Authorization", b"Bearer sk-new-secret"),))
        secret = to(ONE, request_rules=rules, secrets=(b"sk-new-secret",))
        (route,) = secret.routes
        route = attrs.evolve(route, allowed_hosts=(b"front.test",))
        self.take(attrs.evolve(secret, routes=(route,)))
        self.deliver(client, request(b"GET /?sk-new-secret HTTP/1.1"))
        self.assertIn(b"Bearer sk-new-secret", self.network.opened[0].take())
        self.deliver(
            self.network.opened[0], OK.replace(b"\r\n\r\n", b"\r\nX: sk-new-secret\r\n\r\n")
        )
        self.assertNotIn(b"sk-new-secret", client.take())
        lines = [str(event.get("line")) for event in events]
        self.assertTrue(any("GET" in line for line in lines))
        self.assertNotIn("sk-new-secret", "".join(lines))

    def test_gone_place(self) -> None:
        """Connections of a place that is gone end where clients could spend a credential alone."""

        class Port:
            """A port at the address that clients connect to."""

            def getHost(self) -> Any:
                """Return it."""
                return PROXY

        cache = CacheConfig(redis="redis://:sk-redis@h", secrets=(b"sk-redis",))
        for secrets, ends in (((), False), ((b"sk-new-secret",), True)):
            self.start(to(ONE, secrets=secrets, allowed_hosts=(b"front.test",), cache=cache))
            client = self.client()
            self.ask(client)
            self.proxy.leave([Place(1, Listen(), Port(), {})], [])
            self.assertEqual(ends, bool(client.disconnecting), secrets)

    def test_limits(self) -> None:
        """A short limit that comes with a reload is kept as closely as from the start."""
        self.start(to(ONE))
        self.assertEqual(MAX_INTERVAL, self.interval())
        self.take(to(ONE, limits=Limits(first_byte=0.4)))
        self.network.pass_time(MAX_INTERVAL)
        self.assertAlmostEqual(0.1, self.interval())
        client = self.client(request())
        self.network.pass_time(0.35)
        self.assertEqual(b"", client.take())
        self.network.pass_time(0.3)
        self.assertEqual(504, status_of(client.take()))
        self.take(to(ONE, limits=Limits(first_byte=0.01)))
        self.network.pass_time(MAX_INTERVAL)
        self.assertAlmostEqual(MIN_INTERVAL, self.interval())

    def interval(self) -> float:
        """Return the seconds between the next two sweeps."""
        (sweep,) = self.network.getDelayedCalls()
        first = sweep.getTime()
        self.network.advance(first - self.network.seconds())
        (sweep,) = self.network.getDelayedCalls()
        return sweep.getTime() - first


class EndTests(ProxyTestCase):
    """How it ends."""

    def test_drain(self) -> None:
        """What is open ends by itself; connections that are told of are counted."""
        counts: list[int] = []
        self.start(to(ONE), count=counts.append)
        client = self.client(request())
        self.assertEqual((1, [1]), (self.proxy.site.streams, counts))
        drained = self.proxy.drain(30.0)
        self.assertNoResult(drained)
        self.deliver(self.network.opened[0], OK)
        self.assertIn(b"\r\nConnection: close\r\n", client.take())
        self.successResultOf(drained)
        self.assertEqual((0, [1, 0]), (self.proxy.site.streams, counts))

    def test_stop(self) -> None:
        """Clients' connections end, and those to upstreams, idle ones too."""
        self.start(both(to(ONE), to(TWO)))
        client = self.client()
        self.ask(client)
        other = self.client(request(b"GET /two HTTP/1.1"))
        stopped = self.proxy.stop()
        self.network.settle()
        self.successResultOf(stopped)
        for transport in (client, other, *self.network.opened):
            self.assertIsNotNone(transport.lost)


class MetricsTests(ProxyTestCase):
    """What passes is counted where that was asked for."""

    def page(self) -> Document:
        """Return what the proxy tells."""
        page = self.successResultOf(self.proxy.answer(Measuring()))
        assert page is not None
        return page

    def rows(self) -> dict[Key, Numbers]:
        """Return what was counted."""
        return dict(self.page()["rows"])

    def test_off(self) -> None:
        """It is not asked for: nothing keeps an account of anything, and nothing runs."""
        self.start(to(ONE))
        self.assertIsNone(self.successResultOf(self.proxy.answer(Measuring())))
        self.assertIsNone(self.proxy.site.accounts)

    def test_exchange(self) -> None:
        """An exchange is counted when it is over, and stands among the open ones until then."""
        self.start(to(ONE, metrics=True))
        client = self.client(request())
        page = self.page()
        self.assertEqual(({"/": [1, 0]}, []), (page["open"], page["rows"]))
        self.deliver(self.network.opened[0], OK)
        client.take()
        page = self.page()
        self.assertEqual({}, page["open"])
        self.assertEqual([("/", "GET", "2xx", "")], list(self.rows()))
        gauges = {"pyproxy_client_connections": 1, "pyproxy_upstream_idle_connections": 1}
        self.assertEqual(gauges, page["gauges"])
        self.ask(client)
        family = next(one for one in FAMILIES if one.name == "pyproxy_upstream_requests_total")
        (numbers,) = self.rows().values()
        self.assertEqual([1, 1], numbers[family.at : family.at + family.size])

    def test_reload(self) -> None:
        """A reload goes on counting where it was, and masks by the new secrets too."""
        self.start(to(ONE, metrics=True))
        client = self.client()
        self.ask(client)
        self.take(to(ONE, metrics=True, cache=CacheConfig(secrets=(b"new-secret-new",))))
        self.ask(client)
        (numbers,) = self.rows().values()
        self.assertEqual(2, sum(numbers[: FAMILIES[0].size - 1]))
        assert self.proxy.metrics is not None
        self.assertNotIn(b"new-secret", self.proxy.metrics.mask.apply(b"a new-secret-new"))

    def test_lag(self) -> None:
        """The event loop is looked at."""
        self.start(to(ONE, metrics=True))
        self.network.pass_time(3)
        page = self.page()
        self.assertGreater(sum(page["lag"][:-1]), 1)
