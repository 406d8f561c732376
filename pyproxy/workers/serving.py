"""One worker: adopts the sockets, serves as one process does, and ends when it is told.

It is told by SIGTERM; or by the end of the pipe that the parent holds, when the parent was killed.
"""

from __future__ import annotations

import os
import signal
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

from pyproxy.workers.handover import LOG, Handover, Socket, adopting
from pyproxy.workers.logpipe import LogPipe

LIFELINE = 0
"""The descriptor of the pipe that ends with the parent."""


def serve(handover: Handover) -> None:
    """Serve until told to end."""
    cast(Any, import_module(handover.reactor)).install()
    from twisted.internet import reactor as installed

    reactor: Any = installed
    log = LogPipe(reactor, LOG)
    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
    _start(handover, reactor)
    end = End(reactor)
    reactor.addReader(Lifeline(end))
    # Once the reactor runs its own handlers are in place, and this one can take SIGTERM over.
    reactor.callWhenRunning(signal.signal, signal.SIGTERM, end.by_signal)
    reactor.callWhenRunning(log.ready)
    reactor.run()
    log.finish()


def _start(handover: Handover, reactor: Any) -> None:
    # Imported here: it may import the reactor, which had to be installed first.
    from pyproxy.service import ProxyService, Share

    config = handover.config
    sockets = handover.sockets
    listens = [
        adopting(listen, each, handover.files)
        for listen, each in zip(config.listen, sockets, strict=True)
    ]
    share = Share(handover.pseudonym, [AdoptingReactor(reactor, each) for each in sockets])
    service = ProxyService(attrs.evolve(config, listen=tuple(listens)), reactor, share=share)
    service.privilegedStartService()
    service.startService()  # type: ignore[no-untyped-call]
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)


class End:
    """Stops the reactor once, whoever asks for it first and however often."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._begun = False

    def __call__(self) -> None:
        """Stop."""
        if not self._begun:
            self._begun = True
            self._reactor.callWhenRunning(self._reactor.stop)

    def by_signal(self, number: int, frame: object) -> None:
        """Stop in the reactor's next turn, as a signal may come at any moment."""
        self._reactor.callFromThread(self)


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

    def __init__(self, reactor: Any, adopted: Socket) -> None:
        self._reactor = reactor
        self._adopted = adopted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Adopt the socket."""
        return adopt(self._reactor, self._adopted, factory)

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

        return adopt(
            self._reactor, self._adopted, TLSMemoryBIOFactory(contextFactory, False, factory)
        )

    def listenUNIX(
        self, address: str, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> IListeningPort:
        """Adopt the socket."""
        return adopt(self._reactor, self._adopted, factory)


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
    _accept_singly(port)
    return cast(IListeningPort, port)


def _accept_singly(port: Any) -> None:
    """Let a port accept one connection a turn: whoever has less to do then takes more of them.

    Twisted's own ports accept up to a hundred, and a burst would be one worker's alone.
    """
    accept = port.doRead

    def do_read() -> None:
        port.numberAccepts = 1
        accept()

    port.doRead = do_read
