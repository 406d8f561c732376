"""The factory of the clients' connections, and what they share."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from functools import cached_property
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IAddress, IReactorTime, ISSLTransport
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.resource import IResource

from pyproxy.ingress.channel import Channel
from pyproxy.ingress.seams import Logged, Terms
from pyproxy.relay.limits import Sweeper
from pyproxy.relay.transports import StreamTransport
from pyproxy.semantics.addresses import Address, read_address
from pyproxy.semantics.forwarding import Hop
from pyproxy.semantics.urls import MAX_PORT

if TYPE_CHECKING:
    from pyproxy.ingress.websocket import ClientWebSocket, ClientWebSocketFactory

SHUTDOWN_SECONDS = 2.0
"""How long the last octets may take to leave when the proxy ends."""

LAST_REQUEST_SECONDS = 2.0
"""How long an idle connection is kept in a drain.

To close it at once may cross with its client's next request, which would have no answer then.
"""


class ProxySite(server.Site):
    """A site whose connections begin each request at the end of its head.

    Attributes:
        sweeper: keeps the time limits of connections.
        terms: on which clients are served, and what of them is asked for most.
        closing: no response keeps its connection any more.
        logs: somebody is told of requests that have ended.
        accounts: as ``Terms`` has it.
        count: is told how many connections are open, whenever that changes; None for nobody.
    """

    noisy = False

    def __init__(
        self,
        resource: IResource,
        reactor: IReactorTime,
        sweeper: Sweeper,
        terms: Terms,
    ) -> None:
        super().__init__(resource, reactor=reactor)  # type: ignore[no-untyped-call]
        self.sweeper = sweeper
        self.take(terms)
        self.closing = False
        self.count: Callable[[int], None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._connections: set[Channel | ClientWebSocket] = set()
        self._instance = os.urandom(4).hex()
        self._requests = 0

    def take(self, terms: Terms) -> None:
        """Serve by other terms from now on; who is connected already is known anew."""
        self.terms = terms
        self.client_limit = terms.client_limit
        self.silence_limit = terms.silence_limit
        self.accounts = terms.accounts
        self.logs = terms.access_log is not None or terms.accounts is not None

    def buildProtocol(self, addr: IAddress | None) -> Channel:  # type: ignore[override]
        """Make a connection's protocol."""
        return Channel(self)

    def acceptableProtocols(self) -> list[bytes]:
        """Return what an ``ssl:`` listener offers by ALPN: what is spoken here.

        twisted.web's own site offers h2 as soon as its packages are in the environment.
        Spec: RFC 7301 3.2.
        """
        return [b"http/1.1"]

    def startFactory(self) -> None:
        """Begin; twisted.web's own log and its clock are not used."""

    def stopFactory(self) -> None:
        """End; see ``startFactory``."""

    def opened(self, connection: Channel | ClientWebSocket) -> None:
        """Take note of a connection."""
        self._connections.add(connection)
        if self.count is not None:
            self.count(len(self._connections))

    def closed(self, connection: Channel | ClientWebSocket) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        if self.count is not None:
            self.count(len(self._connections))
        if self.closing:
            self._tell_if_gone()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def streams(self) -> int:
        """How many requests and WebSockets are open."""
        return sum(connection.busy for connection in self._connections)

    def drain(self, timeout: float) -> Deferred[None]:
        """Let every connection end by itself: after its present request, or soon without one.

        Returns: fires when all are gone, or after so many seconds.
        """
        self.closing = True
        idle = self.reactor.callLater(min(timeout, LAST_REQUEST_SECONDS), self._end_idle)
        drained = self._when_gone().addTimeout(timeout, self.reactor)

        def over(result: object) -> None:
            if idle.active():
                idle.cancel()
            if isinstance(result, Failure):
                result.trap(DeferredTimeout)

        return drained.addBoth(over)

    def leave(self, places: Collection[IAddress]) -> None:
        """Let the connections that came in at some places end behind their present response.

        Args: where the ports listened; of a port for every address the number tells.
        """
        numbers = {place.port for place in places if isinstance(place, IPv4Address | IPv6Address)}
        names = {place.name for place in places if isinstance(place, UNIXAddress)}
        for connection in list(self._connections):
            host = connection.transport.getHost()
            if getattr(host, "port", None) in numbers or (
                isinstance(host, UNIXAddress) and host.name in names
            ):
                connection.end_soon()

    def _end_idle(self) -> None:
        for connection in list(self._connections):
            connection.end_if_idle()

    def _when_gone(self) -> Deferred[None]:
        """Return what fires when no connection is left."""
        gone: Deferred[None] = Deferred()
        self._waiting.append(gone)
        self._tell_if_gone()
        return gone

    def _tell_if_gone(self) -> None:
        if not self._connections:
            waiting, self._waiting = self._waiting, []
            for gone in waiting:
                if not gone.called:
                    gone.callback(None)

    def shut_down(self) -> Deferred[None]:
        """End every connection.

        Returns: fires when all are gone, or after SHUTDOWN_SECONDS.
        """
        self.closing = True
        for connection in list(self._connections):
            connection.shut_down()
        gone = self._when_gone().addTimeout(SHUTDOWN_SECONDS, self.reactor)
        return gone.addErrback(self._out_of_time)

    def _out_of_time(self, failure: Failure) -> None:
        failure.trap(DeferredTimeout)
        for connection in list(self._connections):
            connection.abandon()

    @cached_property
    def websockets(self) -> ClientWebSocketFactory:
        """The factory of the clients' ends of WebSockets."""
        # Imported where it is asked for: autobahn costs 80 ms and 5 MiB.
        from pyproxy.ingress.websocket import ClientWebSocketFactory

        return ClientWebSocketFactory(self)

    def log(self, request: Logged) -> None:  # type: ignore[override]
        """Tell whoever wants to know of a request that has ended."""
        access_log = self.terms.access_log
        if access_log is not None and not request.unlogged:
            access_log(request)
        account = request.account
        if account is None and self.accounts is not None and request.began_at:
            # It began before anybody wanted to know.
            account = self.accounts.begin(request)
            account.logged = not request.unlogged
        if account is not None:
            account.end(request.status, request.sentLength, request.error, request.left)

    @property
    def forwards_all(self) -> bool:
        """Whether nothing is mounted: no tree is walked, and content may stay in its coding."""
        root: Any = self.resource
        return getattr(root, "streams", False) and not root.children

    def next_request_id(self) -> str:
        """Return a name for a request: this process's random name, and a number."""
        self._requests += 1
        return f"{self._instance}-{self._requests:06x}"

    def is_secure(self, transport: StreamTransport) -> bool:
        """Tell whether a connection is under TLS."""
        return bool(ISSLTransport.providedBy(transport))

    def hop(self, peer: IAddress, host: IAddress, secure: bool) -> Hop:
        """Return what requests of a connection are told about the client.

        What stands in a PROXY header is what somebody wrote there: an address or a port that is
        none is not passed on.
        """
        port = local = b""
        if isinstance(host, IPv4Address | IPv6Address):
            local = str(_address_of(host) or "").encode("ascii")
            if 0 < host.port <= MAX_PORT:
                port = b"%d" % host.port
        scheme = b"https" if secure else b"http"
        if not isinstance(peer, IPv4Address | IPv6Address):
            unix = isinstance(peer, UNIXAddress)
            return Hop(b"", scheme, port, unix and self.terms.trust_unix, local)
        address = _address_of(peer)
        if address is None:
            return Hop(b"", scheme, port, False, local)
        trusted = any(address in network for network in self.terms.trusted)
        return Hop(str(address).encode("ascii"), scheme, port, trusted, local)


def _address_of(end: IPv4Address | IPv6Address) -> Address | None:
    """Return the address of one end of a connection, an IPv4 one if it is mapped; or None.

    A socket that listens on :: sees IPv4 clients as mapped; nobody else writes them like that.
    """
    return read_address(end.host.partition("%")[0].encode("utf-8"))
