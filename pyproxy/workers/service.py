"""The parent: binds the sockets and keeps the workers; it serves nothing itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory

from pyproxy.config.schema import Config, Listen
from pyproxy.listeners import (
    GiveUp,
    Ports,
    all_or_nothing,
    announce,
    endpoint_to_bind,
    make_pseudonym,
    start_demo,
    warn,
)
from pyproxy.observe.twistd_log import take_lines_everywhere
from pyproxy.workers.handover import FIRST_SOCKET, Handover, Socket, read_files
from pyproxy.workers.process import Running, WorkerProtocol, spawn
from pyproxy.workers.supervisor import Supervisor
from pyproxy.workers.tally import make_board, vacate


class Listening(Factory):
    """Stands where a factory is asked for; the parent accepts nothing."""

    noisy = False


class WorkersService(Service):
    """Several workers as twistd starts and stops them: one service.

    Args: give_up is called when it cannot listen, before the error goes on.
    """

    def __init__(
        self,
        config: Config,
        reactor: Any,
        give_up: GiveUp = lambda error: None,
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._give_up = give_up
        self._ports = Ports()
        self._sockets: list[int] = []
        self._handover = b""
        self._board = -1
        self._supervisor = Supervisor(reactor, self._spawn, config.workers)

    def privilegedStartService(self) -> None:
        """Listen, while the process still may bind low ports and read keys."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        all_or_nothing(self._listen, self._give_up)

    def _listen(self) -> None:
        config = self._config.with_demo(lambda: start_demo(self._reactor, self._ports))
        sockets: list[Socket] = []
        for listen in config.listen:
            port = self._bind(listen)
            announce(port, listen, config)
            sockets.append(Socket(port.socket.family.name, FIRST_SOCKET + len(sockets)))
            self._sockets.append(port.fileno())
        warn(config)
        if any(route.access_log for route in config.routes):
            take_lines_everywhere()
        self._board = make_board(config.workers)
        self._handover = Handover(
            config,
            make_pseudonym(),
            type(self._reactor).__module__,
            tuple(sockets),
            read_files(config.listen),
        ).octets()

    def _bind(self, listen: Listen) -> Any:
        """Open a port that accepts nothing here."""
        port: Any = self._ports.listen(endpoint_to_bind(self._reactor, listen), Listening())
        port.stopReading()
        # A shutdown would end the socket for those who still accept from it.
        port._shouldShutdown = False
        return port

    def startService(self) -> None:
        """Start the workers, as the user that the process has become."""
        super().startService()  # type: ignore[no-untyped-call]
        self._supervisor.start()

    def _spawn(
        self, number: int, ready: Callable[[], None], ended: Callable[[str], None]
    ) -> Running:
        def end(how: str) -> None:
            if self._board >= 0:
                vacate(self._board, number)
            ended(how)

        protocol = WorkerProtocol(self._reactor, number, self._handover, ready, end)
        return spawn(self._reactor, protocol, self._board, self._sockets)

    def stopService(self) -> Deferred[object]:
        """Stop listening, and end the workers."""
        super().stopService()  # type: ignore[no-untyped-call]
        ended = self._supervisor.stop()
        stopped: list[Deferred[Any]] = [ended, *self._ports.stop()]
        return gatherResults(stopped, consumeErrors=True).addBoth(self._stopped)

    def _stopped(self, result: object) -> object:
        board, self._board = self._board, -1
        if board >= 0:
            os.close(board)
        return result
