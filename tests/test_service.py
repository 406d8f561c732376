"""The wiring, with a reactor in memory."""

from __future__ import annotations

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
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.forwarding import FieldRules
from pyproxy.semantics.urls import parse_target
from pyproxy.service import ProxyService
from tests.configs import one_route
from tests.memory import CLIENT, EPHEMERAL_PORT, PROXY, Network

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
