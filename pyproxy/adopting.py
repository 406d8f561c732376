"""Reactors that listen on sockets which are bound already.

So an endpoint keeps all that it lays around the connections: TLS, the PROXY protocol.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Any, cast

from twisted.internet import tcp, unix
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure


class AdoptingReactor:
    """A reactor that, wherever it is asked to listen, takes the one socket that is bound already.

    Args: the socket's family as the socket module names it; its descriptor, which is closed.
    """

    def __init__(self, reactor: Any, family: str, descriptor: int) -> None:
        self._reactor = reactor
        self._family = family
        self._descriptor = descriptor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Adopt the socket."""
        return self.adopt(factory)

    def listenSSL(
        self,
        port: int,
        factory: Any,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """Adopt the socket, and lay TLS around its connections."""
        # Imported where it is asked for: it costs 30 ms and 3 MiB.
        from twisted.protocols.tls import TLSMemoryBIOFactory

        return self.adopt(TLSMemoryBIOFactory(contextFactory, False, factory))

    def listenUNIX(
        self, address: str, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> IListeningPort:
        """Adopt the socket."""
        return self.adopt(factory)

    def adopt(self, factory: Any) -> IListeningPort:
        """Accept connections of the socket."""
        family = socket.AddressFamily[self._family]
        try:
            if family is socket.AF_UNIX:
                port = SharedUNIXPort._fromListeningDescriptor(  # type: ignore[no-untyped-call]
                    self._reactor, self._descriptor, factory
                )
                port.startListening()
            else:
                port = self._reactor.adoptStreamPort(self._descriptor, family, factory)
        finally:
            os.close(self._descriptor)
        return cast(IListeningPort, port)


class SharedUNIXPort(unix.Port):
    """A Unix socket that others listen on too: its file, mode and queue are not this one's."""

    def startListening(self) -> None:
        """Accept from now on."""
        tcp._reservedFD.reserve()
        self.factory.doStart()  # type: ignore[union-attr]
        self.connected = True
        adopted: Any = self._preexistingSocket
        self._preexistingSocket = None
        self.socket = adopted
        self.fileno = adopted.fileno  # type: ignore[method-assign]
        self._shouldShutdown = False
        # As Twisted has it; with turns to take, each has a number of its own.
        self.numberAccepts = 100
        self.startReading()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:
        """Close this process's descriptor, and leave the file."""
        tcp.Port.connectionLost(self, reason)


class PlaceReactor:
    """A reactor that listens where this process listens already, on the same socket.

    A place so changes what is laid around its connections, and refuses none meanwhile.
    Args: ports whose sockets may go to others, each to one; spent, the descriptors of systemd's
        sockets that were taken, to which it adds.
    Attributes: taken, those whose sockets went.
    """

    def __init__(self, reactor: Any, ports: Iterable[Any], spent: set[int]) -> None:
        self._reactor = reactor
        self._ports = list(ports)
        self._spent = spent
        self.taken: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Listen, on the socket that is open there if there is one."""
        return cast(
            IListeningPort,
            self._at(port, interface, backlog).listenTCP(port, factory, backlog, interface),
        )

    def listenSSL(
        self,
        port: int,
        factory: Any,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """Listen for TLS, on the socket that is open there if there is one.

        Raises: what is wrong with key and certificate; newer Twisted would find it with the first
            connection.
        """
        contextFactory.getContext()
        return cast(
            IListeningPort,
            self._at(port, interface, backlog).listenSSL(
                port, factory, contextFactory, backlog, interface
            ),
        )

    def adoptStreamPort(
        self, fileDescriptor: int, addressFamily: int, factory: Any
    ) -> IListeningPort:
        """Listen on a socket of systemd, once: an endpoint closes its descriptor then.

        Raises: ValueError the second time, when its number may be anybody's.
        """
        if fileDescriptor in self._spent:
            raise ValueError("a reload cannot open a socket of systemd anew; restart the proxy")
        self._spent.add(fileDescriptor)
        return cast(
            IListeningPort, self._reactor.adoptStreamPort(fileDescriptor, addressFamily, factory)
        )

    def _at(self, port: int, interface: str, backlog: int) -> Any:
        place = (port, "" if interface == "0.0.0.0" else interface)
        there = next((one for one in self._ports if _place_of(one) == place), None)
        if there is None:
            return self._reactor
        self._ports.remove(there)
        self.taken.append(there)
        there.socket.listen(backlog)
        family = there.socket.family.name
        return AdoptingReactor(self._reactor, family, os.dup(there.fileno()))


def _place_of(port: Any) -> tuple[int, str] | None:
    """Return the port number and the interface of a TCP port; the latter is empty for all."""
    address = port.getHost()
    if not isinstance(address, IPv4Address | IPv6Address):
        return None
    return address.port, "" if port.interface == "0.0.0.0" else port.interface
