"""The wiring: one Config becomes listening ports, a resource tree and an agent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults

from pyproxy.config.schema import Config
from pyproxy.ingress.resource import PrefixResource
from pyproxy.ingress.seams import Terms
from pyproxy.ingress.site import ProxySite
from pyproxy.listeners import (
    GiveUp,
    Ports,
    all_or_nothing,
    announce,
    endpoint_of,
    endpoint_to_bind,
    make_pseudonym,
    start_demo,
    warn,
)
from pyproxy.observe.access_log import AccessLog
from pyproxy.observe.masking import Mask
from pyproxy.observe.twistd_log import take_lines_everywhere
from pyproxy.plan import make_plan
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.transports import IProxyReactor
from pyproxy.upstream.agent import ForwardingAgent
from pyproxy.upstream.client import ForwardingClient


@attrs.frozen
class Share:
    """What one worker of several has in common with the others.

    Attributes:
        pseudonym: the service's name in ``Via``; a request that comes back to another worker is
            in a loop too.  Spec: RFC 9110 7.6.3.
        reactors: for each place to listen what adopts the socket that is bound there already.
        count: is told how many connections are open, whenever that changes.
    """

    pseudonym: bytes
    reactors: Sequence[object]
    count: Callable[[int], None]


class ProxyService(Service):
    """The proxy as twistd starts and stops it.

    Args:
        give_up is called when it cannot listen, before the error goes on.
        share, when this is one worker of several; somebody else has announced it then.
    """

    def __init__(
        self,
        config: Config,
        reactor: IProxyReactor,
        give_up: GiveUp = lambda error: None,
        share: Share | None = None,
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._give_up = give_up
        self._share = share
        self._ports = Ports()
        self._site: ProxySite | None = None
        self._agent: ForwardingAgent | None = None
        self._sweeper = Sweeper.for_limits(reactor, config.waits)

    def privilegedStartService(self) -> None:
        """Listen, while the process still may bind low ports."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        all_or_nothing(self._listen, self._give_up)

    def _listen(self) -> None:
        share = self._share
        config = self._config.with_demo(lambda: start_demo(self._reactor, self._ports))
        self._site = site = self._make_site(config)
        if share is not None:
            site.count = share.count
        reactors = share.reactors if share else [self._reactor] * len(config.listen)
        endpoint = endpoint_of if share else endpoint_to_bind
        for listen, reactor in zip(config.listen, reactors, strict=True):
            port = self._ports.listen(endpoint(reactor, listen), site)
            if share is None:
                announce(port, listen, config)
        if share is None:
            warn(config)
        self._sweeper.start()

    def _make_site(self, config: Config) -> ProxySite:
        pseudonym = self._share.pseudonym if self._share else make_pseudonym()
        plan = make_plan(config, pseudonym)
        self._agent = ForwardingAgent(self._reactor, self._sweeper)
        resource = PrefixResource(plan.table, ForwardingClient(self._agent), self._sweeper)
        return ProxySite(resource, self._reactor, self._sweeper, self._terms(config))

    def _terms(self, config: Config) -> Terms:
        """Return on which terms clients are served."""
        log = None
        if any(route.access_log for route in config.routes):
            take_lines_everywhere()
            log = AccessLog(self._reactor, Mask.of(config.secrets), config.trusted)
        silence = max(route.limits.idle for route in config.routes)
        return Terms(config.client_limit, config.trusted, config.trust_unix, log, silence)

    def stopService(self) -> Deferred[object]:
        """Stop listening and end every connection."""
        super().stopService()  # type: ignore[no-untyped-call]
        stopped = self._ports.stop()
        if self._site is not None:
            stopped.append(self._site.shut_down())
        ended = gatherResults(stopped, consumeErrors=True)
        return ended.addBoth(self._stopped)

    def _stopped(self, result: object) -> object:
        self._sweeper.stop()
        if self._agent is not None:
            self._agent.close()
        return result
