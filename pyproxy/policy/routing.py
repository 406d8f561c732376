"""Which route serves a request, and what the route asks of it.

A route is an immutable fact that each exchange keeps from its beginning to its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn, Protocol

import attrs

from pyproxy.account import Account
from pyproxy.errors import BadRequest, MethodRefused, RouteNotFound, TargetAmbiguous
from pyproxy.policy.cross_origin import Guard
from pyproxy.policy.insertions import Insertions
from pyproxy.policy.instead import Instead, Reply
from pyproxy.policy.matching import Match, MatchIndex
from pyproxy.semantics.forwarding import Hop
from pyproxy.semantics.messages import RequestHead, ResponseHead
from pyproxy.semantics.origins import MAX_ORIGIN_BYTES, read_authority
from pyproxy.semantics.to_client import ResponseForwarding
from pyproxy.semantics.to_upstream import RequestForwarding
from pyproxy.semantics.urls import Origin, PathMapping, Target, readings, split_absolute_form


@attrs.frozen
class Limits:
    """How long each wait of an exchange may last, in seconds, and how large its content may be.

    Attributes:
        connect: to an open connection, TLS handshake included.
        first_byte: from the end of the request to the response's head.
        idle: between two movements of octets in a response.
        upload: between two movements of octets in a request's content.
        max_content: octets of a request's content, or None for no bound.
        ws_idle: between two octets of an open WebSocket, or None for no limit.
        ws_ping: between two pings of ours to each end of a WebSocket, or None for none at all.
        max_message: octets of a WebSocket's message on the wire, or None for no bound.
    """

    connect: float = 5.0
    first_byte: float = 300.0
    idle: float = 300.0
    upload: float = 60.0
    max_content: int | None = None
    ws_idle: float | None = None
    ws_ping: float | None = None
    max_message: int | None = None

    @property
    def waits(self) -> tuple[float, ...]:
        """The limits that a sweeper keeps, and the time between two pings."""
        waits = (self.first_byte, self.idle, self.upload, self.ws_idle, self.ws_ping)
        return tuple(wait for wait in waits if wait is not None)


@attrs.frozen(cache_hash=True)
class Peer:
    """Where requests are sent, and who is trusted to be there: what connections are kept for.

    Attributes:
        connect_limit: seconds to an open connection.
        authorities: PEM text of those whose certificates are trusted, None for the system's.
        insecure: certificates are not checked.
    """

    origin: Origin
    connect_limit: float = 5.0
    authorities: bytes | None = None
    insecure: bool = False


class Step(Protocol):
    """What requests of a route pass before they are sent; ``CachingRoute`` is one."""

    def reply(self, head: RequestHead, host: bytes, target: bytes, hop: Hop) -> Reply | None:
        """Answer a request without content at once, or let it go on.

        Args: host that was asked for; the upstream's target.
        """

    def send(self, request: Any, head: RequestHead, host: bytes, hop: Hop) -> None:
        """Send it, an ``UpstreamRequest``, or serve it; who asks is told in either case."""


Watch = Callable[[Account, ResponseHead], Any]
"""Makes what watches a response, a ``relay.watching.Watcher``, or None for one that nobody can."""


@attrs.frozen
class Route:
    """A prefix, the target behind it, and the rules between the two.

    Attributes:
        match: which requests it is for.
        instead: what answers in place of an upstream; where nobody is asked, the target is nobody.
        logs: its requests have their line in the access log.
        injects: the route adds secrets, which an answer to TRACE would show.
        guard: keeps foreign web pages from spending what is added; None where nothing is.
        step: what requests pass before they are sent, None for nothing.
        name: what it is called where it is counted.
        watch: makes what watches a response, None where none is watched.
        server_timing: responses tell how long each part took.
        insertions: what is put into event streams, None for nothing.
    """

    target: Target
    peer: Peer
    mapping: PathMapping
    to_upstream: RequestForwarding
    to_client: ResponseForwarding
    limits: Limits = Limits()
    match: Match = Match()
    instead: Instead | None = None
    logs: bool = True
    injects: bool = False
    guard: Guard | None = None
    step: Step | None = None
    name: str = "/"
    watch: Watch | None = None
    server_timing: bool = False
    insertions: Insertions | None = None


# A tuple: a frozen attrs class costs 0.5 us more to make.
class Routed(NamedTuple):
    """A request on its route.

    Attributes:
        target: the request target for the upstream.
        authority: what a target in absolute-form named, else None.
    """

    route: Route
    target: bytes
    authority: bytes | None


class RoutingTable:
    """The routes of one configuration; ``matching`` says which of them wins."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._index = MatchIndex(self.routes)
        # Mostly there is one for everything, and nothing is looked up.
        only = self.routes[0] if len(self.routes) == 1 else None
        self._only = only if only is not None and only.match.path_alone else None

    def find(self, head: RequestHead, host: bytes) -> Routed:
        """Return the request on its route.

        Args: host that was asked for, with or without a port; empty without one.
        Raises: MethodRefused for CONNECT, for TRACE where its answer would show a secret, and where
            routes have other methods only; BadRequest for a target in no known form;
            RouteNotFound; TargetClimbs; TargetAmbiguous.
        Spec: RFC 9112 3.2.
        """
        method, target = head.method, head.target
        if method == b"CONNECT":
            raise MethodRefused("CONNECT opens tunnels, and this is no tunnel")
        authority = None
        if target[:1] != b"/":
            if target == b"*":
                return self._asterisk(head, host, None)
            split = split_absolute_form(target)
            if split is None:
                raise BadRequest(
                    "the request target is neither a path, which begins with `/`, nor a URL of "
                    "http, https, ws or wss"
                )
            authority, target = split
            host = authority
            if method == b"OPTIONS" and not target:
                # The last proxy on the way has to write it so.  Spec: RFC 9112 3.2.4.
                return self._asterisk(head, host, authority)
            if target[:1] != b"/":
                target = b"/" + target
        route = self._only
        if route is None:
            return self._choose(head, host, target, authority)
        if not route.mapping.covers(target):
            prefix = route.mapping.prefix.decode("ascii")
            raise RouteNotFound(f"only what is under {prefix} is served here")
        if route.injects and method.upper() == b"TRACE":
            raise MethodRefused(_REVEALED)
        return Routed(route, route.mapping.to_upstream(target), authority)

    def _choose(
        self, head: RequestHead, asked: bytes, target: bytes, authority: bytes | None
    ) -> Routed:
        """Return the request on the route that it has among several.

        An upstream may read a path in another way than its octets.  When that way belongs to
        another route, it would be a way around that one.
        """
        host, path = _name_of(asked), target.partition(b"?")[0]
        route = self._index.find(head, host, path)
        if route is None:
            self._refuse(head, host, path)
        if route.injects and head.method.upper() == b"TRACE":
            raise MethodRefused(_REVEALED)
        mapped = route.mapping.to_upstream(target)
        if _may_read_otherwise(path):
            for reading in readings(path):
                if self._index.find(head, host, reading) not in (route, None):
                    raise TargetAmbiguous("the target could be read as one of another route")
        return Routed(route, mapped, authority)

    def _refuse(self, head: RequestHead, host: bytes, path: bytes) -> NoReturn:
        """Say why no route serves a request.  Raises: RouteNotFound, MethodRefused."""
        routes = [one for one in self._index.candidates(host, path) if one.match.holds_for(head)]
        if not routes:
            raise RouteNotFound("no route serves this host and path")
        methods = sorted({method for route in routes for method in route.match.methods})
        raise MethodRefused("no route serves this method here", b", ".join(methods))

    def _asterisk(self, head: RequestHead, host: bytes, authority: bytes | None) -> Routed:
        """Route ``*``, which asks about the server as a whole.  Spec: RFC 9112 3.2.4."""
        if head.method != b"OPTIONS":
            raise BadRequest("the request target `*` goes with OPTIONS only")
        route = self._only or self._index.find(head, _name_of(host), b"/")
        if route is None:
            raise RouteNotFound("no route serves this host as a whole")
        return Routed(route, b"*", authority)


_REVEALED = "TRACE would send back what the proxy adds"

_may_read_otherwise = re.compile(rb"[%\\;]|//|/\.").search


def _name_of(authority: bytes) -> bytes:
    """Return the host that routes are found by; empty for one that is none."""
    read = read_authority(authority) if len(authority) <= MAX_ORIGIN_BYTES else None
    return b"" if read is None else read.host.removesuffix(b".")
