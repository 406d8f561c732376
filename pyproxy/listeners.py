"""Where clients connect: all places of a configuration are open, or none; and what is said of them.

Imports what is served only where the demo is asked for, so that a process which only holds the
ports stays small.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
from twisted.internet import tcp
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

from pyproxy.adopting import PlaceReactor
from pyproxy.config.endpoints import files_of
from pyproxy.config.schema import Config, Listen
from pyproxy.config.values import refuse_pipe
from pyproxy.semantics.urls import Target, parse_target

_log = Logger("pyproxy")

_tcp_place = re.compile(r"(?P<kind>tcp6?|ssl):(?:port=)?(?P<port>[0-9]{1,5})(?=:|$)").match


class CannotStart(Exception):
    """Something beside a port cannot be as the configuration has it; the text says what to do."""


GiveUp = Callable[[Exception], None]
"""Called when the proxy cannot start, before the error goes on."""

BACKLOG = 1024
"""Connections that may wait to be accepted, where an endpoint does not say (``backlog=50``).

Twisted's own default of 50 drops bursts: who is dropped tries again after a second.
"""

_has_backlog = re.compile(r"(?:haproxy:)*(?:tcp6?|ssl|unix):").match


def endpoint_of(reactor: Any, listen: Listen) -> IStreamServerEndpoint:
    """Return the endpoint of one place to listen."""
    if (description := listen.description) is not None:
        if _has_backlog(description) and ":backlog=" not in description:
            description = f"{description}:backlog={BACKLOG}"
        return cast(IStreamServerEndpoint, serverFromString(reactor, description))
    kind = TCP6ServerEndpoint if ":" in listen.interface else TCP4ServerEndpoint
    return kind(reactor, listen.port, BACKLOG, listen.interface)


def endpoint_to_bind(reactor: Any, listen: Listen) -> IStreamServerEndpoint:
    """Return the endpoint of one place to listen, for the process that takes the place."""
    if "unix:" in (listen.description or ""):
        # Imported only where it is asked for.
        from pyproxy.unix_port import ListeningReactor

        reactor = ListeningReactor(reactor)
    return endpoint_of(reactor, listen)


def open_now(endpoint: IStreamServerEndpoint, factory: Any) -> IListeningPort:
    """Listen; every kind of server endpoint does so at once.  Raises: CannotListenError."""
    results: list[IListeningPort | Failure] = []
    endpoint.listen(factory).addBoth(results.append)
    result = results[0] if results else Failure(RuntimeError("the endpoint is not ready"))
    if isinstance(result, Failure):
        result.raiseException()
    return result


def all_or_nothing(listen: Callable[[], None], give_up: GiveUp) -> None:
    """Open the ports of a service, or what else it needs, or say why that cannot be and give up.

    Raises: CannotListenError, CannotStart.
    """
    try:
        listen()
    except (CannotListenError, CannotStart) as error:
        _log.critical("{error}; nothing was started", error=error)
        give_up(error)
        raise


@attrs.frozen(eq=False)
class Place:
    """A place where connections are accepted.

    Attributes:
        number: no other place of this process ever has it.
        files: the content of the files that its endpoint string names, when it was opened; a key
            among it is not shown.
    """

    number: int
    listen: Listen
    port: Any
    files: Mapping[str, bytes] = attrs.field(repr=False)


@attrs.define(eq=False)
class Listeners:
    """The places of a service.

    Args: the factory of connections; opened is told of each port.
    Attributes: places, those that are open.
    """

    _reactor: Any
    _factory: Any
    _opened: Callable[[Any], None] = lambda port: None
    places: list[Place] = attrs.Factory(list)
    _numbers: int = 0
    _spent: set[int] = attrs.Factory(set)

    def take(self, listens: Sequence[Listen]) -> tuple[list[Place], list[Place]]:
        """Open what is not open yet.

        A place whose certificate has changed is opened anew on the same socket.
        Returns: the places that were opened; and those that are no more, to be closed by ``leave``.
        Raises: CannotListenError; then nothing has changed.
        """
        left = list(self.places)
        kept = [_kept(listen, left) for listen in listens]
        reactor = PlaceReactor(self._reactor, [place.port for place in left], self._spent)
        wanted: list[Place] = []
        fresh: list[Place] = []
        try:
            for listen, place in zip(listens, kept, strict=True):
                if place is None:
                    place = self._open(reactor, listen)
                    fresh.append(place)
                wanted.append(place)
        except CannotListenError:
            leave(fresh)
            raise
        for place in fresh:
            self._opened(place.port)
        for port in reactor.taken:
            # A shutdown would end the socket for the port that has it now.
            port._shouldShutdown = False
        self.places = wanted
        return fresh, left

    def _open(self, reactor: PlaceReactor, listen: Listen) -> Place:
        """Open a place."""
        files = _read(listen)
        try:
            port = open_now(endpoint_to_bind(reactor, listen), self._factory)
        except CannotListenError:
            raise
        except Exception as error:
            # What is wrong with a key or a certificate has an error of its own.
            raise CannotListenError(None, listen.where, error) from error
        self._numbers += 1
        return Place(self._numbers, listen, port, files)

    def stop(self) -> list[Deferred[Any]]:
        """Close every place.  Returns: what fires when each is closed."""
        places, self.places = self.places, []
        return leave(places)


def leave(places: Iterable[Place]) -> list[Deferred[Any]]:
    """Close places.  Returns: what fires when each is closed."""
    return [_close(place.port) for place in places]


def _close(port: Any) -> Deferred[Any]:
    """Close a port; the one of ``stdio:`` is a connection."""
    close = getattr(port, "stopListening", None) or port.loseConnection
    closed = maybeDeferred(close)
    closed.addErrback(lambda failure: _log.failure("a place could not be closed", failure))
    return closed


def accept_waiting(places: Iterable[Place]) -> None:
    """Accept the connections that the kernel has made already: a close would reset them."""
    for place in places:
        if isinstance(place.port, tcp.Port):
            place.port.numberAccepts = BACKLOG
            # The class's own: a worker's port lets others go first.
            tcp.Port.doRead(place.port)


def _read(listen: Listen) -> dict[str, bytes]:
    """Read the files of a place.  Raises: CannotListenError."""
    names = files_of(listen.description or "")
    try:
        for name in names:
            refuse_pipe(Path(name))
        return {name: Path(name).read_bytes() for name in names}
    except (OSError, ValueError) as error:
        raise CannotListenError(None, listen.where, error) from error


def _kept(listen: Listen, left: list[Place]) -> Place | None:
    """Take a place that stays as it is out of those that are left; None when there is none."""
    for place in left:
        if place.listen == listen and _is_valid(place):
            left.remove(place)
            return place
    return None


def _is_valid(place: Place) -> bool:
    """Tell whether a place has the keys and certificates that its files have.

    Files that the user whom the process has become may not read any more change nothing.
    """
    try:
        return all(Path(name).read_bytes() == octets for name, octets in place.files.items())
    except PermissionError as error:
        _log.warn("{where} keeps its certificate: {error}", where=place.listen.where, error=error)
        return True
    except OSError:
        # Opening it says what is wrong with it.
        return False


@attrs.define(eq=False)
class DemoUpstream:
    """The demo upstream, on a loopback port of its own, once somebody asks for it."""

    _reactor: Any
    _port: IListeningPort | None = None
    _board: str = ""

    def start(self, admin: Listen | None = None) -> Target:
        """Return where it is.  Args: where the admin site is, to which its page leads."""
        self._board = board_address(admin)
        if self._port is None:
            # Imported only where it is asked for: it would add a fifth to the time of every start.
            from pyproxy.demo import demo_site

            endpoint = TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1")
            self._port = open_now(endpoint, demo_site(self._reactor, lambda: self._board))
        return parse_target(f"http://127.0.0.1:{cast(IPv4Address, self._port.getHost()).port}")

    def stop(self) -> list[Deferred[Any]]:
        """Close it.  Returns: what fires when it is closed."""
        port, self._port = self._port, None
        return [] if port is None else [_close(port)]


def board_address(admin: Listen | None) -> str:
    """Return scheme and port of a page of the admin site's host, as ``http:8001``.

    Returns: empty where that is not known: it is nowhere, at a Unix socket, or at port 0.
    """
    found = _tcp_place((admin.description if admin else None) or "")
    if found is None or not int(found["port"]):
        return ""
    return f"{'https' if found['kind'] == 'ssl' else 'http'}:{int(found['port'])}"


def make_pseudonym() -> bytes:
    """Return a name for ``Via`` that no other proxy has."""
    return b"pyproxy-" + os.urandom(6).hex().encode("ascii")


def announce(opened: Iterable[Place], config: Config) -> None:
    """Say where the proxy listens now and what for, and what is dangerous in a configuration."""
    for place in opened:
        _log.info(
            "Listening on {where} for {what}",
            where=_shown(place.port.getHost(), place.listen),
            what=_served(config),
        )
    if any(route.insecure for route in config.routes):
        _log.warn("the upstream's certificate is not verified (--upstream-insecure)")


def _served(config: Config) -> str:
    """Return what is served, as people are told of it."""
    route = config.routes[0]
    if len(config.routes) > 1 or route.target is None:
        return f"{len(config.routes)} routes"
    path = route.match.path
    return route.target.shown + (f" (under {path.decode('ascii')}/)" if path else "")


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
