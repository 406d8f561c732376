"""A client of the admin site without a socket: the real site and a clock set by hand."""

from __future__ import annotations

from typing import Any, cast

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.admin.channel import AdminChannel
from pyproxy.admin.site import AdminSite
from pyproxy.config.schema import Config
from pyproxy.life.board import BoardAsked, BoardDesk, ask_board, together
from pyproxy.life.condition import Condition, Phase
from pyproxy.life.desk import Asked, CacheDesk, Document, ask
from pyproxy.life.measuring import Measuring
from pyproxy.observe.metrics import Metrics
from tests.configs import one_route
from tests.demo.kit import Answer, read_answer

HERE = IPv4Address("TCP", "127.0.0.1", 9000)


@attrs.define
class Served:
    """A service of which the number of open streams, its cache and its metrics are asked."""

    open: int = 0
    desk: CacheDesk | None = None
    board: BoardDesk | None = None
    metrics: Metrics | None = None

    def serves(self) -> Deferred[None]:
        """Serve already."""
        return succeed(None)

    def take(self, config: Config) -> Deferred[None]:
        """Serve by it."""
        return succeed(None)

    def drain(self, timeout: float) -> Deferred[Any]:
        """Have nothing open."""
        return succeed(None)

    def streams(self) -> int:
        """Return how many there are."""
        return self.open

    def reopen_logs(self) -> None:
        """Have no logs."""

    def ask_cache(self, asked: Asked) -> Deferred[Document | None]:
        """Ask the desk, if there is one."""
        return ask(self.desk, asked)

    def ask_board(self, asked: BoardAsked) -> Deferred[Document | None]:
        """Ask the board, if there is one."""
        found = ask_board(self.board, 1, asked)
        return succeed(None if found is None else {**together(asked, {1: found}), "silent": []})

    def ask_metrics(self, asked: Measuring) -> Deferred[Document | None]:
        """Ask what counts, if there is anything, as of a worker of number 0."""
        found = self.metrics
        return succeed(None if found is None else {"workers": {0: found.page(asked.start)}})


class Connection:
    """A connection to a site.  Args: the address at which the site was reached."""

    def __init__(self, site: AdminSite, address: IAddress = HERE) -> None:
        self.transport = StringTransport(hostAddress=address)
        protocol = site.buildProtocol(self.transport.getPeer())
        assert protocol is not None
        self.protocol = protocol
        protocol.makeConnection(self.transport)

    def send(self, octets: bytes) -> None:
        """Send octets."""
        self.protocol.dataReceived(octets)

    @property
    def requests(self) -> list[Any]:
        """The requests that are not answered yet, as the site has them."""
        return list(cast(AdminChannel, self.protocol).requests)

    def leave(self) -> None:
        """Close the connection as a lost one."""
        self.protocol.connectionLost(Failure(ConnectionLost()))

    def ask(
        self,
        method: str,
        target: str,
        *lines: str,
        host: str | None = "127.0.0.1:9000",
        content: bytes = b"",
    ) -> Answer:
        """Send a request; return what is answered.  Args: its field lines; host, None for none."""
        own = [] if host is None else [f"Host: {host}"]
        length = [f"Content-Length: {len(content)}"] if content else []
        head = "\r\n".join([f"{method} {target} HTTP/1.1", *own, *length, *lines, "", ""])
        self.transport.clear()
        self.send(head.encode("latin-1") + content)
        return read_answer(self.transport.value(), method)


class AdminTestCase(SynchronousTestCase):
    """A case with the admin site of a proxy that serves."""

    def setUp(self) -> None:
        """Make the site."""
        self.clock = Clock()
        self.served = Served()
        self.condition = Condition(one_route(), "workers = 1\n", 1.0, Phase.SERVING)
        self.site = AdminSite(self.condition, self.served, self.clock)

    def connect(self, address: IAddress = HERE) -> Connection:
        """Connect to it."""
        return Connection(self.site, address)

    def ask(self, method: str, target: str, *lines: str, **more: Any) -> Answer:
        """Send a request on a connection of its own."""
        return self.connect().ask(method, target, *lines, **more)
