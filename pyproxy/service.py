"""The wiring: one Config becomes listening ports, a resource tree and an agent."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from pyproxy.config.schema import Config, Listen
from pyproxy.ingress.resource import PrefixResource
from pyproxy.ingress.site import ProxySite
from pyproxy.observe.access_log import AccessLog
from pyproxy.observe.masking import Mask
from pyproxy.policy.routing import Route, RoutingTable
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.secrets import SecretMask
from pyproxy.semantics.to_client import ResponseForwarding
from pyproxy.semantics.to_upstream import RequestForwarding
from pyproxy.semantics.urls import PathMapping, Target, parse_target
from pyproxy.upstream.agent import ForwardingAgent, Trust
from pyproxy.upstream.client import ForwardingClient

_log = Logger("pyproxy")

BACKLOG = 1024
"""Connections that may wait to be accepted; Twisted's own default of 50 drops bursts.

An endpoint of --listen says its own (``tcp:8000:backlog=1024``).
"""


def route_of(config: Config, target: Target, pseudonym: bytes) -> Route:
    """Return the one route of a configuration."""
    mapping = PathMapping(config.prefix, target.base)
    return Route(
        target,
        mapping,
        RequestForwarding(target.origin, pseudonym, config.request_rules, config.preserve_host),
        ResponseForwarding(
            target.origin,
            mapping,
            config.response_rules,
            SecretMask(config.secrets),
            config.stream_hints,
            config.preserve_host,
        ),
        config.limits,
        injects=bool(config.secrets),
    )


class ProxyService(Service):
    """The proxy as twistd starts and stops it.

    Args: give_up is called when it cannot listen, before the error goes on.
    """

    def __init__(
        self,
        config: Config,
        reactor: IProxyReactor,
        give_up: Callable[[CannotListenError], None] = lambda error: None,
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._give_up = give_up
        self._ports: list[IListeningPort] = []
        self._site: ProxySite | None = None
        self._agent: ForwardingAgent | None = None
        self._sweeper = Sweeper.for_limits(reactor, (*config.limits.waits, config.client_limit))

    def privilegedStartService(self) -> None:
        """Listen, while the process still may bind low ports."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        try:
            self._listen()
        except CannotListenError as error:
            _log.critical("{error}; nothing was started", error=error)
            self._give_up(error)
            raise

    def _listen(self) -> None:
        config = self._config
        target = config.target or self._start_demo()
        self._site = site = self._make_site(target)
        for listen in config.listen:
            port = self._listen_on(self._endpoint(listen), site)
            _log.info(
                "Listening on {where} for {target}{prefix}",
                where=_shown(port.getHost(), listen),
                target=target.url,
                prefix=f" (under {config.prefix.decode('ascii')}/)" if config.prefix else "",
            )
        if config.insecure:
            _log.warn("the upstream's certificate is not verified (--upstream-insecure)")
        self._sweeper.start()

    def _make_site(self, target: Target) -> ProxySite:
        config = self._config
        pseudonym = b"pyproxy-" + os.urandom(6).hex().encode("ascii")
        table = RoutingTable.of([route_of(config, target, pseudonym)])
        trust = Trust(config.authorities, config.insecure)
        self._agent = ForwardingAgent(self._reactor, self._sweeper, config.limits.connect, trust)
        resource = PrefixResource(table, ForwardingClient(self._agent), self._sweeper)
        log = None
        if config.access_log:
            log = AccessLog(self._reactor, Mask.of(config.secrets), config.trusted)
        return ProxySite(
            resource,
            self._reactor,
            self._sweeper,
            config.client_limit,
            config.trusted,
            config.trust_unix,
            log,
            config.limits.idle,
        )

    def _start_demo(self) -> Target:
        # Imported only where it is asked for: it would add a fifth to the time of every start.
        from pyproxy.demo import demo_site

        site = demo_site(self._reactor)
        port = self._listen_on(TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1"), site)
        return parse_target(f"http://127.0.0.1:{cast(IPv4Address, port.getHost()).port}")

    def _endpoint(self, listen: Listen) -> IStreamServerEndpoint:
        if listen.description is not None:
            return cast(IStreamServerEndpoint, serverFromString(self._reactor, listen.description))
        kind = TCP6ServerEndpoint if ":" in listen.interface else TCP4ServerEndpoint
        return kind(self._reactor, listen.port, BACKLOG, listen.interface)

    def _listen_on(self, endpoint: IStreamServerEndpoint, factory: Any) -> IListeningPort:
        """Listen; every kind of server endpoint does so at once.  Raises: CannotListenError."""
        results: list[IListeningPort | Failure] = []
        endpoint.listen(factory).addBoth(results.append)
        result = results[0] if results else Failure(RuntimeError("the endpoint is not ready"))
        if isinstance(result, Failure):
            for port in self._ports:
                port.stopListening()
            result.raiseException()
        self._ports.append(result)
        return result

    def stopService(self) -> Deferred[object]:
        """Stop listening and end every connection."""
        super().stopService()  # type: ignore[no-untyped-call]
        ports, self._ports = self._ports, []
        stopped: list[Deferred[Any]] = [maybeDeferred(port.stopListening) for port in ports]
        if self._site is not None:
            stopped.append(self._site.shut_down())
        ended = gatherResults(stopped, consumeErrors=True)
        return ended.addBoth(self._stopped)

    def _stopped(self, result: object) -> object:
        self._sweeper.stop()
        if self._agent is not None:
            self._agent.close()
        return result


def _shown(address: IAddress, listen: Listen) -> str:
    scheme = "https" if (listen.description or "").startswith(("ssl:", "tls:")) else "http"
    if isinstance(address, UNIXAddress):
        name = address.name.decode("utf-8", "replace") if address.name else ""
        return f"unix:{name}"
    if isinstance(address, IPv6Address):
        return f"{scheme}://[{address.host}]:{address.port}"
    if isinstance(address, IPv4Address):
        return f"{scheme}://{address.host}:{address.port}"
    return str(address)
