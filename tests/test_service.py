"""The wiring: with a reactor in memory, and with a real one where it changes."""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.application.service import IService
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from pyproxy.config.schema import Config, Listen
from pyproxy.ingress.site import ProxySite
from pyproxy.listeners import BACKLOG
from pyproxy.policy.instead import FixedAnswer
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.forwarding import FieldRules
from pyproxy.semantics.urls import parse_target
from pyproxy.service import ProxyService
from tests.configs import one_route
from tests.memory import CLIENT, EPHEMERAL_PORT, PROXY, Network, request
from tests.turning import PATIENCE, TurningTestCase, free_port

TARGET = parse_target("http://127.0.0.1:9000/base")


def config(**settings: Any) -> Config:
    """Return a configuration."""
    return one_route(**{"target": TARGET, **settings})


class Refusing(Network):
    """A network on which the second port is taken."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen, once."""
        if self.tcpServers:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        return super().listenTCP(port, factory, backlog, interface)


class ProxyServiceTests(SynchronousTestCase):
    """One configuration becomes listening ports."""

    def start(
        self, settings: Config, network: Network | None = None
    ) -> tuple[ProxyService, Network]:
        """Start a service as twistd does."""
        network = network or Network()
        self.assertTrue(verifyObject(IReactorTCP, network))
        service = ProxyService(settings, cast(IProxyReactor, network))
        self.assertTrue(verifyObject(IService, service))
        service.privilegedStartService()
        service.startService()
        return service, network

    def stop(self, service: ProxyService, network: Network) -> None:
        """Stop a service as twistd does."""
        stopped: Any = service.stopService()
        network.settle()
        self.successResultOf(stopped)

    def test_listens(self) -> None:
        """On port and interface, with a backlog that takes bursts; a limit's timer runs."""
        service, network = self.start(config())
        ((port, site, backlog, interface),) = network.tcpServers
        self.assertEqual((8000, BACKLOG, "127.0.0.1"), (port, backlog, interface))
        self.assertIsInstance(site, ProxySite)
        self.assertEqual(1, len(network.getDelayedCalls()))
        self.stop(service, network)

    def test_several_endpoints(self) -> None:
        """Every endpoint serves the one site."""
        listens = (Listen("tcp:81:interface=127.0.0.1"), Listen("tcp:82:backlog=7"), Listen())
        service, network = self.start(config(listen=listens))
        self.assertEqual([81, 82, 8000], [server[0] for server in network.tcpServers])
        self.assertEqual(1, len({id(server[1]) for server in network.tcpServers}))
        self.stop(service, network)

    def test_demo(self) -> None:
        """The demo listens on loopback, on a port of its own, before the proxy does."""
        service, network = self.start(config(target=None))
        (port, site, _, interface), (proxy_port, _, _, _) = network.tcpServers
        self.assertEqual((EPHEMERAL_PORT, "127.0.0.1", 8000), (port, interface, proxy_port))
        self.assertIsInstance(site, Site)
        self.stop(service, network)

    def test_announces(self) -> None:
        """The log says where it listens and what for; no secret."""
        observer = EventLoggingObserver.createWithCleanup(
            self,  # type: ignore[arg-type]
            globalLogPublisher,
        )
        rules = FieldRules(((b"Authorization", b"Bearer sk-secret"),))
        service, network = self.start(config(request_rules=rules, secrets=(b"sk-secret",)))
        text = " ".join(str(event.get("what")) for event in observer)
        self.assertIn("http://127.0.0.1:9000/base", text)
        self.assertNotIn("sk-secret", repr([dict(event) for event in observer]))
        self.stop(service, network)

    def test_nothing_starts_half(self) -> None:
        """A second port that is taken: the first one is closed again, and the start fails."""
        network = Refusing()
        service = ProxyService(
            config(listen=(Listen(port=81), Listen(port=82))), cast(IProxyReactor, network)
        )
        try:
            service.privilegedStartService()
        except (SystemExit, CannotListenError) as error:
            self.assertIn("82", str(error))
        else:
            self.fail("it started")
        self.assertEqual([], network.getDelayedCalls())

    def test_stop(self) -> None:
        """Nothing is left: no timer, no connection."""
        service, network = self.start(config())
        site = network.tcpServers[0][1]
        client = network.transport(PROXY, CLIENT)
        protocol = site.buildProtocol(CLIENT)
        assert protocol is not None
        client.join(protocol)
        self.stop(service, network)
        self.assertIsNotNone(client.lost)
        self.assertEqual([], network.getDelayedCalls())

    def test_stop_before_start(self) -> None:
        """A service that never listened can be stopped."""
        network = Network()
        self.stop(ProxyService(config(), cast(IProxyReactor, network)), network)


def answering(text: bytes, *listens: Listen, **settings: Any) -> Config:
    """Return a configuration that answers with a text by itself."""
    instead = FixedAnswer(200, (), text)
    return one_route(**{"target": None, "instead": instead, "listen": listens, **settings})


class TakeTests(TurningTestCase):
    """Another configuration, and the end, with real sockets."""

    def setUp(self) -> None:
        """Serve at one place."""
        super().setUp()
        self.one, self.two = (Listen(port=free_port()) for _ in range(2))
        self.service = ProxyService(answering(b"first", self.one), self.reactor)
        self.service.privilegedStartService()
        self.service.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """Stop as twistd does."""
        stopped: Any = self.service.stopService()
        self.turn_until(lambda: stopped.called)
        self.successResultOf(stopped)

    def take(self, config: Config) -> None:
        """Take another configuration, and wait for that."""
        taken = self.service.take(config)
        self.turn_until(lambda: taken.called)
        self.successResultOf(taken)

    def address(self, listen: Listen) -> tuple[str, int]:
        """Return where a place is."""
        return listen.interface, listen.port

    def ask(self, client: socket.socket) -> bytes:
        """Ask; return the content of the answer."""
        client.send(request())
        return self.hear(client).partition(b"\r\n\r\n")[2]

    def test_serves(self) -> None:
        """It serves as soon as the reactor runs."""
        self.successResultOf(self.service.serves())
        self.assertEqual(b"first", self.ask(self.connect(self.address(self.one))))

    def test_take(self) -> None:
        """New requests are answered by the new routes, at the new places too; nobody is refused."""
        kept = self.connect(self.address(self.one))
        self.assertEqual(b"first", self.ask(kept))
        waiting = self.connect(self.address(self.one))
        self.take(answering(b"second", self.one, self.two))
        late = self.connect(self.address(self.two))
        for client in (kept, waiting, late):
            self.assertEqual(b"second", self.ask(client))

    def test_left(self) -> None:
        """A place that is named no more is closed; who came by it, or waits there, is served."""
        kept = self.connect(self.address(self.one))
        self.assertEqual(b"first", self.ask(kept))
        listeners = self.service._listeners
        assert listeners is not None
        # Not seen yet, however long the plan takes.
        listeners.places[0].port.stopReading()
        waiting = self.connect(self.address(self.one))
        self.take(answering(b"second", self.two))
        self.turn()
        self.assertTrue(self.refuses(self.address(self.one)))
        for client in (kept, waiting):
            self.assertEqual(b"second", self.ask(client))

    def test_cannot_listen(self) -> None:
        """A place that is somebody else's: neither places nor routes change."""
        with socket.create_server(self.address(self.two)):
            taken = self.service.take(answering(b"second", self.two))
            self.turn_until(lambda: taken.called)
        self.failureResultOf(taken, CannotListenError)
        self.turn()
        self.assertEqual(b"first", self.ask(self.connect(self.address(self.one))))

    def test_end_meanwhile(self) -> None:
        """A configuration whose plan is ready when the end has begun opens nothing any more."""
        taken = self.service.take(answering(b"second", self.two))
        self.service.drain(PATIENCE)
        self.turn_until(lambda: taken.called)
        self.successResultOf(taken)
        self.assertTrue(self.refuses(self.address(self.two)))

    def test_demo(self) -> None:
        """A demo that is asked for now is started, and stays where it is in the next reload."""
        demo = one_route(target=None, listen=(self.one,))
        client = self.connect(self.address(self.one))
        for _ in range(2):
            self.take(demo)
            client.send(request(b"GET /v1/models HTTP/1.1"))
            self.assertEqual(b"HTTP/1.1 200", self.hear(client)[:12])

    def test_drain(self) -> None:
        """Nobody new comes in; who was there, or waits, has one more request; then all is over."""
        kept = self.connect(self.address(self.one))
        self.assertEqual(b"first", self.ask(kept))
        waiting = self.connect(self.address(self.one))
        drained = self.service.drain(PATIENCE)
        self.turn()
        self.assertTrue(self.refuses(self.address(self.one)))
        for client in (kept, waiting):
            self.assertEqual(b"first", self.ask(client))
            self.assertEqual(b"", self.hear(client))
        self.turn_until(lambda: drained.called)
        self.successResultOf(drained)

    def test_streams(self) -> None:
        """What is open is counted; before the start nothing is."""
        never = ProxyService(answering(b"first", self.two), self.reactor)
        self.assertEqual((0, 0), (never.streams(), self.service.streams()))
        self.successResultOf(never.drain(1.0))
        with socket.create_server(("127.0.0.1", 0)) as upstream:
            target = parse_target(f"http://127.0.0.1:{upstream.getsockname()[1]}")
            self.take(config(target=target, listen=(self.one,)))
            client = self.connect(self.address(self.one))
            client.send(request())
            self.turn_until(self.service.streams)
            self.assertEqual(1, self.service.streams())
            client.close()
            self.turn_until(lambda: not self.service.streams())
