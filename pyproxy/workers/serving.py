"""One worker: adopts the sockets, serves as one process does, and ends when it is told.

It is told by SIGTERM; or by the end of the pipe that the parent holds, when the parent was killed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import attrs
from twisted.internet import tcp, unix
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IListeningPort, IReadDescriptor
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from pyproxy.collector import importing
from pyproxy.ending import End
from pyproxy.workers.handover import LOG, TALLY, Handover, Socket, adopting
from pyproxy.workers.logpipe import LogPipe
from pyproxy.workers.tally import Tally, take_turns

LIFELINE = 0
"""The descriptor of the pipe that ends with the parent."""


def serve(handover: Handover, number: int) -> None:
    """Serve until told to end.  Args: what the parent handed over; this worker's number."""
    cast(Any, import_module(handover.reactor)).install()
    from twisted.internet import reactor as installed

    reactor: Any = installed
    log = LogPipe(reactor, LOG)
    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
    tally = Tally(TALLY, handover.config.workers, number)
    try:
        _start(handover, reactor, tally)
        _run(reactor, tally, log)
    finally:
        log.finish()


def _run(reactor: Any, tally: Tally, log: LogPipe) -> None:
    end = End(reactor)
    reactor.addReader(Lifeline(end))
    end.on_sigterm()
    reactor.callWhenRunning(tally.come)
    reactor.callWhenRunning(log.ready)
    reactor.addSystemEventTrigger("before", "shutdown", tally.leave)
    reactor.run()


def _start(handover: Handover, reactor: Any, tally: Tally) -> None:
    # Imported here: it may import the reactor, which had to be installed first.
    with importing():
        from pyproxy.service import ProxyService, Share

    config = handover.config
    sockets = handover.sockets
    listens = [
        adopting(listen, each, handover.files)
        for listen, each in zip(config.listen, sockets, strict=True)
    ]
    reactors = [AdoptingReactor(reactor, each, tally) for each in sockets]
    share = Share(handover.pseudonym, reactors, tally.count)
    service = ProxyService(attrs.evolve(config, listen=tuple(listens)), reactor, share=share)
    service.privilegedStartService()
    service.startService()  # type: ignore[no-untyped-call]
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)


@implementer(IReadDescriptor)
class Lifeline:
    """Notices the end of the parent."""

    def __init__(self, end: Callable[[], None]) -> None:
        os.set_blocking(LIFELINE, False)
        self._end = end

    def doRead(self) -> Exception | None:  # type: ignore[override]
        """Look whether the parent is still there; it writes nothing more."""
        try:
            os.read(LIFELINE, 1)
        except BlockingIOError:
            return None
        return ConnectionDone()

    def connectionLost(self, reason: Failure) -> None:
        """End with the parent."""
        self._end()

    def fileno(self) -> int:
        """Return the pipe's descriptor."""
        return LIFELINE

    def logPrefix(self) -> str:
        """Name this in a log."""
        return "lifeline"


class AdoptingReactor:
    """A reactor that, wherever it is asked to listen, takes the one socket that is bound already.

    So an endpoint keeps all that it lays around the connections: TLS, the PROXY protocol.
    """

    def __init__(self, reactor: Any, adopted: Socket, tally: Tally) -> None:
        self._reactor = reactor
        self._adopted = adopted
        self._tally = tally

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Adopt the socket."""
        return self._adopt(factory)

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

        return self._adopt(TLSMemoryBIOFactory(contextFactory, False, factory))

    def listenUNIX(
        self, address: str, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> IListeningPort:
        """Adopt the socket."""
        return self._adopt(factory)

    def _adopt(self, factory: Any) -> IListeningPort:
        port = adopt(self._reactor, self._adopted, factory)
        take_turns(port, self._reactor, self._tally)
        return port


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
        self.startReading()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:
        """Close this process's descriptor, and leave the file."""
        tcp.Port.connectionLost(self, reason)


def adopt(reactor: Any, adopted: Socket, factory: Any) -> IListeningPort:
    """Accept connections of a socket that is bound already."""
    family = socket.AddressFamily[adopted.family]
    if family is socket.AF_UNIX:
        port = SharedUNIXPort._fromListeningDescriptor(  # type: ignore[no-untyped-call]
            reactor, adopted.descriptor, factory
        )
        port.startListening()
    else:
        port = reactor.adoptStreamPort(adopted.descriptor, family, factory)
    os.close(adopted.descriptor)
    return cast(IListeningPort, port)
