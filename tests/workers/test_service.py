"""The parent of workers, with sockets but without processes."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
from typing import Any, cast

import attrs
from twisted.application.service import IService
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError, ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pyproxy.config.schema import Listen
from pyproxy.semantics.urls import parse_target
from pyproxy.workers.handover import FIRST_SOCKET, LENGTH, TALLY, Handover
from pyproxy.workers.service import WorkersService
from pyproxy.workers.supervisor import FIRST_DELAY
from tests.configs import one_route

TARGET = parse_target("http://127.0.0.1:9000")


class FakePort:
    """A port that says what was done to it."""

    def __init__(self, interface: str) -> None:
        self.socket = socket.create_server((interface or "127.0.0.1", 0))
        self.reading = True
        self.fileno = self.socket.fileno
        self._shouldShutdown = True

    def getHost(self) -> IPv4Address:
        """Return where it listens."""
        return IPv4Address("TCP", *self.socket.getsockname())

    def stopReading(self) -> None:
        """Accept no more."""
        self.reading = False

    def stopListening(self) -> None:
        """Close."""
        self.socket.close()


@attrs.define(eq=False)
class FakeProcess:
    """A process that ends when the test says so."""

    protocol: ProcessProtocol
    descriptors: dict[int, Any]
    pid: int
    orders: socket.socket
    signals: list[str] = attrs.Factory(list)
    _read: bytes = b""

    @property
    def written(self) -> bytes:
        """What was handed over."""
        self.orders.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while more := self.orders.recv(65536):
                self._read += more
        return self._read

    def signalProcess(self, name: str) -> None:
        """Take note."""
        self.signals.append(name)

    def end(self, reason: Exception) -> None:
        """End."""
        self.protocol.processEnded(Failure(reason))

    @property
    def handover(self) -> Handover:
        """What was handed over."""
        _, inner = pickle.loads(self.written[4 + LENGTH.size :])
        return cast(Handover, pickle.loads(inner))


class Reactor(MemoryReactorClock):
    """A reactor with real sockets, on which the test is all the processes."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[FakePort] = []
        self.processes: list[FakeProcess] = []

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen; port 1 is taken."""
        if port == 1:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        self.ports.append(FakePort(interface))
        return self.ports[-1]

    def spawnProcess(
        self,
        protocol: ProcessProtocol,
        executable: str,
        args: list[str],
        env: None,
        childFDs: dict[int, Any],
    ) -> FakeProcess:
        """Start a process."""
        orders = socket.socket(fileno=os.dup(childFDs[0]))
        process = FakeProcess(protocol, childFDs, 100 + len(self.processes), orders)
        self.processes.append(process)
        protocol.makeConnection(cast(Any, process))
        return process


class WorkersServiceTests(SynchronousTestCase):
    """Several workers, one service."""

    def setUp(self) -> None:
        """Make a reactor."""
        self.reactor = Reactor()
        self.addCleanup(self.close)

    def close(self) -> None:
        """Close the sockets that are left."""
        for process in self.reactor.processes:
            process.orders.close()
        for port in self.reactor.ports:
            port.socket.close()

    def start(self, **settings: Any) -> WorkersService:
        """Start a service as twistd does."""
        config = one_route(
            **{
                "target": TARGET,
                "listen": (Listen(), Listen("tcp:8001")),
                "workers": 2,
                **settings,
            }
        )
        service = WorkersService(config, self.reactor)
        self.assertTrue(verifyObject(IService, service))
        service.privilegedStartService()
        self.assertEqual([], self.reactor.processes, "a worker runs as the privileged user")
        service.startService()
        return service

    def stop(self, service: WorkersService) -> None:
        """Stop a service whose workers end in order."""
        stopped: Any = service.stopService()
        for process in self.reactor.processes:
            if process.signals:
                process.end(ProcessDone(0))
        self.successResultOf(stopped)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_start(self) -> None:
        """The parent listens and accepts nothing; each worker gets every socket, and the whole."""
        service = self.start()
        sockets = [port.fileno() for port in self.reactor.ports]
        for port in self.reactor.ports:
            self.assertFalse(port.reading or port._shouldShutdown)
        self.assertEqual(2, len(self.reactor.processes))
        for process in self.reactor.processes:
            given = [process.descriptors[FIRST_SOCKET + place] for place in (0, 1)]
            self.assertEqual(sockets, given)
            handover = process.handover
            self.assertEqual(TARGET, handover.first.config.routes[0].target)
            self.assertEqual(["AF_INET"] * 2, [each.family for each in handover.first.places])
            self.assertEqual(Reactor.__module__, handover.reactor)
        one, two = self.reactor.processes
        self.assertEqual(one.handover.pseudonym, two.handover.pseudonym)
        self.assertNotEqual(one.written[:4], two.written[:4], "they have one number")
        self.stop(service)

    def test_stop(self) -> None:
        """Sockets are closed at once, workers told; the end is when they have ended."""
        service = self.start()
        board = self.reactor.processes[0].descriptors[TALLY]
        stopped: Any = service.stopService()
        self.assertEqual([-1, -1], [port.socket.fileno() for port in self.reactor.ports])
        self.assertEqual([["TERM"]] * 2, [each.signals for each in self.reactor.processes])
        self.assertNoResult(stopped)
        for process in self.reactor.processes:
            process.end(ProcessDone(0))
        self.successResultOf(stopped)
        self.assertRaises(OSError, os.fstat, board)

    def test_restart(self) -> None:
        """A worker that dies is started again with the same sockets and the same configuration."""
        service = self.start()
        one = self.reactor.processes[0]
        one.end(ProcessTerminated(None, 9))
        self.reactor.advance(FIRST_DELAY)
        again = self.reactor.processes[2]
        sockets = [
            {at: each for at, each in process.descriptors.items() if at} for process in (one, again)
        ]
        self.assertEqual(*sockets)
        self.assertEqual(one.written, again.written)
        self.stop(service)

    def test_demo(self) -> None:
        """The demo runs in the parent, where it accepts; workers are sent to it."""
        service = self.start(target=None)
        demo, *ports = self.reactor.ports
        self.assertTrue(demo.reading)
        self.assertEqual(2, len(ports))
        target = self.reactor.processes[0].handover.first.config.routes[0].target
        assert target is not None
        self.assertEqual(demo.getHost().port, target.origin.port)
        self.stop(service)

    def test_nothing_starts_half(self) -> None:
        """A port that is taken: the others are closed again, and no worker starts."""
        told: list[CannotListenError] = []
        config = one_route(target=TARGET, listen=(Listen(), Listen("tcp:1")), workers=2)
        service = WorkersService(config, self.reactor, told.append)
        error = self.assertRaises(CannotListenError, service.privilegedStartService)
        self.assertEqual([error], told)
        self.assertEqual([-1], [port.socket.fileno() for port in self.reactor.ports])
        self.assertEqual([], self.reactor.processes)
        self.successResultOf(cast(Any, service.stopService()))
        self.flushLoggedErrors()

    def test_stop_before_start(self) -> None:
        """A service that never started can be stopped."""
        config = one_route(target=TARGET, workers=2)
        self.successResultOf(cast(Any, WorkersService(config, self.reactor).stopService()))
