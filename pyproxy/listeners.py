"""Listening ports: all of them are there, or none; and what is said of them.

Imports what is served only where the demo is asked for, so that a process which only holds the
ports stays small.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

import attrs
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
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
from pyproxy.semantics.urls import Target, parse_target

_log = Logger("pyproxy")

GiveUp = Callable[[CannotListenError], None]
"""Called when a port cannot be opened, before the error goes on."""

BACKLOG = 1024
"""Connections that may wait to be accepted; Twisted's own default of 50 drops bursts.

An endpoint of --listen says its own (``tcp:8000:backlog=1024``).
"""


def endpoint_of(reactor: Any, listen: Listen) -> IStreamServerEndpoint:
    """Return the endpoint of one place to listen."""
    if listen.description is not None:
        return cast(IStreamServerEndpoint, serverFromString(reactor, listen.description))
    kind = TCP6ServerEndpoint if ":" in listen.interface else TCP4ServerEndpoint
    return kind(reactor, listen.port, BACKLOG, listen.interface)


def endpoint_to_bind(reactor: Any, listen: Listen) -> IStreamServerEndpoint:
    """Return the endpoint of one place to listen, for the process that takes the place."""
    if "unix:" in (listen.description or ""):
        # Imported only where it is asked for.
        from pyproxy.unix_port import ListeningReactor

        reactor = ListeningReactor(reactor)
    return endpoint_of(reactor, listen)


def all_or_nothing(listen: Callable[[], None], give_up: GiveUp) -> None:
    """Open the ports of a service, or say why that cannot be and give up.

    Raises: CannotListenError.
    """
    try:
        listen()
    except CannotListenError as error:
        _log.critical("{error}; nothing was started", error=error)
        give_up(error)
        raise


@attrs.define(eq=False)
class Ports:
    """The ports of a service: all of them are open, or none."""

    _open: list[IListeningPort] = attrs.Factory(list)

    def listen(self, endpoint: IStreamServerEndpoint, factory: Any) -> IListeningPort:
        """Listen; every kind of server endpoint does so at once.

        Raises: CannotListenError; then all ports are closed again.
        """
        results: list[IListeningPort | Failure] = []
        endpoint.listen(factory).addBoth(results.append)
        result = results[0] if results else Failure(RuntimeError("the endpoint is not ready"))
        if isinstance(result, Failure):
            self.stop()
            result.raiseException()
        self._open.append(result)
        return result

    def stop(self) -> list[Deferred[Any]]:
        """Close every port.  Returns: what fires when each is closed."""
        ports, self._open = self._open, []
        return [maybeDeferred(port.stopListening) for port in ports]


def start_demo(reactor: Any, ports: Ports) -> Target:
    """Start the demo upstream on a loopback port of its own; return where it is."""
    # Imported only where it is asked for: it would add a fifth to the time of every start.
    from pyproxy.demo import demo_site

    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = ports.listen(endpoint, demo_site(reactor))
    return parse_target(f"http://127.0.0.1:{cast(IPv4Address, port.getHost()).port}")


def make_pseudonym() -> bytes:
    """Return a name for ``Via`` that no other proxy has."""
    return b"pyproxy-" + os.urandom(6).hex().encode("ascii")


def announce(port: IListeningPort, listen: Listen, config: Config) -> None:
    """Say where the proxy listens and what for."""
    _log.info(
        "Listening on {where} for {what}",
        where=_shown(port.getHost(), listen),
        what=_served(config),
    )


def _served(config: Config) -> str:
    """Return what is served, as people are told of it."""
    route = config.routes[0]
    if len(config.routes) > 1 or route.target is None:
        return f"{len(config.routes)} routes"
    path = route.match.path
    return route.target.shown + (f" (under {path.decode('ascii')}/)" if path else "")


def warn(config: Config) -> None:
    """Say what is dangerous in a configuration."""
    if any(route.insecure for route in config.routes):
        _log.warn("the upstream's certificate is not verified (--upstream-insecure)")


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
