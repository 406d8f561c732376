"""The parent of workers, with sockets but without processes."""

from __future__ import annotations

import os
import pickle
import select
import socket
from typing import Any, cast

import attrs
from twisted.application.service import IService
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError, ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pyproxy.config.schema import Config, Listen
from pyproxy.semantics.urls import parse_target
from pyproxy.workers.handover import (
    FIRST_SOCKET,
    LENGTH,
    LOG,
    TALLY,
    Draining,
    Handover,
    Order,
    Taking,
)
from pyproxy.workers.orders import OrderReader
from pyproxy.workers.records import READY, STREAMS, TAKEN, Record
from pyproxy.workers.service import TAKE_LIMIT, WorkersService
from pyproxy.workers.supervisor import FIRST_DELAY, STOP_LIMIT
from tests.configs import one_route
from tests.turning import descriptors

TARGET = parse_target("http://127.0.0.1:9000")
OTHER = parse_target("http://127.0.0.1:9001")


class FakePort:
    """A port that says what was done to it."""

    def __init__(self, bound: socket.socket, interface: str) -> None:
        self.socket = bound
        self.interface = interface
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

    @property
    def inode(self) -> int:
        """What tells its socket apart, in whatever process."""
        return os.fstat(self.fileno()).st_ino


@attrs.define(eq=False)
class FakeProcess:
    """A process that ends when the test says so."""

    protocol: ProcessProtocol
    descriptors: dict[int, Any]
    pid: int
    orders: socket.socket
    signals: list[str] = attrs.Factory(list)
    obeyed: list[Order] = attrs.Factory(list)
    sockets: list[int] = attrs.Factory(list)
    _read: bytes = b""
    _reader: OrderReader | None = None

    @property
    def written(self) -> bytes:
        """What was handed over, and nothing of what came behind it."""
        if not self._read:
            head = self.orders.recv(4 + LENGTH.size, socket.MSG_WAITALL)
            (size,) = LENGTH.unpack(head[4:])
            self._read = head + self.orders.recv(size, socket.MSG_WAITALL)
        return self._read

    def obey(self) -> tuple[list[Order], list[int]]:
        """Return the orders that came since this was asked last, and the inodes of sockets."""
        assert self.written
        if self._reader is None:
            descriptor = os.dup(self.orders.fileno())
            self._reader = OrderReader(descriptor, self._take, lambda: None)
        while self._reader.doRead() is None:
            if not select.select([self.orders], [], [], 0)[0]:
                break
        given = self.obeyed, self.sockets
        self.obeyed, self.sockets = [], []
        return given

    def _take(self, order: Order, descriptors: list[int]) -> None:
        self.obeyed.append(order)
        while descriptors:
            self.sockets.append(os.fstat(descriptors[0]).st_ino)
            os.close(descriptors.pop(0))

    def tell(self, what: int, value: int | str = 0) -> None:
        """Tell the parent something."""
        record = Record(0.0, what, text=str(value)).octets()
        self.protocol.childDataReceived(LOG, record)

    def close(self) -> None:
        """Close what it has."""
        self.orders.close()
        if self._reader is not None:
            self._reader._socket.close()

    def signalProcess(self, name: str) -> None:
        """Take note."""
        self.signals.append(name)

    @property
    def hung_up(self) -> bool:
        """Whether the parent has closed its end of the orders, which tells to end."""
        assert self.written
        self.obey()
        readable = select.select([self.orders], [], [], 0)[0]
        return bool(readable) and not self.orders.recv(1, socket.MSG_PEEK)

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
        self.refusal: OSError | None = None

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen; port 1 is taken."""
        if port == 1:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        self.ports.append(FakePort(socket.create_server(("127.0.0.1", 0)), interface))
        return self.ports[-1]

    def adoptStreamPort(self, fileno: int, addressFamily: int, factory: Any) -> Any:
        """Listen on a copy of a socket."""
        self.ports.append(FakePort(socket.socket(fileno=os.dup(fileno)), ""))
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
        if self.refusal is not None:
            raise self.refusal
        orders = socket.socket(fileno=os.dup(childFDs[0]))
        process = FakeProcess(protocol, childFDs, 100 + len(self.processes), orders)
        self.processes.append(process)
        protocol.makeConnection(cast(Any, process))
        return process


class WorkersTestCase(SynchronousTestCase):
    """A case with a service of two workers."""

    def setUp(self) -> None:
        """Make a reactor, and hear the log."""
        self.reactor = Reactor()
        self.events = EventLoggingObserver.createWithCleanup(
            self,  # type: ignore[arg-type]
            globalLogPublisher,
        )
        self.addCleanup(self.close)

    def close(self) -> None:
        """Close the sockets that are left."""
        for process in self.reactor.processes:
            process.close()
            process.protocol.processEnded(Failure(ProcessDone(0)))
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
        self.addCleanup(service._stopped, None)
        self.assertTrue(verifyObject(IService, service))
        service.privilegedStartService()
        self.assertEqual([], self.reactor.processes, "a worker runs as the privileged user")
        service.startService()
        return service

    def start_ready(self) -> None:
        """Start a service whose two workers are ready."""
        self.service = self.start()
        self.one, self.two = self.reactor.processes
        for process in (self.one, self.two):
            process.tell(READY)

    def stop(self, service: WorkersService) -> None:
        """Stop a service whose workers end in order."""
        stopped: Any = service.stopService()
        for process in self.reactor.processes:
            if process.hung_up:
                process.end(ProcessDone(0))
        self.successResultOf(stopped)
        self.assertEqual([], self.reactor.getDelayedCalls())


class WorkersServiceTests(WorkersTestCase):
    """Several workers, one service."""

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
        self.assertTrue(all(each.hung_up for each in self.reactor.processes))
        self.assertNoResult(stopped)
        for process in self.reactor.processes:
            process.end(ProcessDone(0))
        self.successResultOf(stopped)
        self.assertRaises(OSError, os.fstat, board)

    def test_serves(self) -> None:
        """It serves when the first worker does; who asks later waits for the next that begins."""
        service = self.start()
        waiting = [service.serves() for _ in range(2)]
        self.assertFalse(any(one.called for one in waiting))
        self.reactor.processes[1].tell(READY)
        for one in waiting:
            self.assertIsNone(self.successResultOf(one))
        self.reactor.processes[0].tell(READY)
        self.stop(service)

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
        told: list[Exception] = []
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

    def test_no_process(self) -> None:
        """A machine that gives no process: nothing of the attempt is left, and it is made again."""
        service = self.start()
        self.reactor.processes[0].end(ProcessTerminated(None, 9))
        before = descriptors()
        self.reactor.refusal = BlockingIOError(11, "Resource temporarily unavailable")
        self.reactor.advance(FIRST_DELAY)
        self.assertEqual(before, descriptors())
        self.reactor.refusal = None
        self.reactor.advance(2 * FIRST_DELAY)
        self.assertEqual(3, len(self.reactor.processes))
        self.stop(service)


class TakeTests(WorkersTestCase):
    """Another configuration while workers run."""

    def setUp(self) -> None:
        """Start a service whose workers are ready."""
        super().setUp()
        self.start_ready()

    def config(self, *listens: Listen, **settings: Any) -> Config:
        """Return another configuration."""
        return one_route(**{"target": OTHER, "listen": listens, "workers": 2, **settings})

    def order(self, process: FakeProcess) -> tuple[Taking, list[int]]:
        """Return the one order that a worker got, and the inodes of the sockets with it."""
        (order,), sockets = process.obey()
        assert isinstance(order, Taking)
        return order, sockets

    def test_whole(self) -> None:
        """Every worker is told the whole; it gets the sockets alone that it has not seen."""
        config = self.config(Listen(), Listen("tcp:8002"), Listen("tcp:8001"))
        taken = self.service.take(config)
        *_, new = self.reactor.ports
        self.assertFalse(new.reading or new._shouldShutdown)
        for process in (self.one, self.two):
            order, sockets = self.order(process)
            self.assertEqual((2, config, [new.inode]), (order.generation, order.config, sockets))
            self.assertEqual(list(config.listen), [place.listen for place in order.places])
            self.assertEqual(3, len({place.number for place in order.places}))
        self.one.tell(TAKEN, 2)
        self.assertNoResult(taken)
        self.two.tell(TAKEN, 2)
        self.assertIsNone(self.successResultOf(taken))
        self.stop(self.service)

    def test_gone(self) -> None:
        """A place that is named no more is closed here, and is no part of what workers are told."""
        self.service.take(self.config(Listen()))
        kept, gone = self.reactor.ports
        self.assertEqual((False, -1), (kept.fileno() == -1, gone.fileno()))
        order, sockets = self.order(self.one)
        self.assertEqual(([Listen()], []), ([place.listen for place in order.places], sockets))
        self.service.take(self.config(Listen(), Listen("tcp:8001")))
        again, sockets = self.order(self.one)
        self.assertEqual([self.reactor.ports[-1].inode], sockets)
        numbers = [place.number for taking in (order, again) for place in taking.places]
        self.assertEqual(2, len(set(numbers)))

    def test_same_socket(self) -> None:
        """A place that is opened anew on its socket is another place, with that socket."""
        first, second = self.reactor.ports
        inode = second.inode
        self.service.take(self.config(Listen(), Listen(f"tcp:{second.getHost().port}")))
        order, sockets = self.order(self.one)
        self.assertEqual(([inode], -1), (sockets, second.fileno()))
        before = {place.number for place in self.one.handover.first.places}
        self.assertEqual(1, len(before & {place.number for place in order.places}))
        self.assertNotEqual(-1, first.fileno())

    def test_sends_once(self) -> None:
        """A socket that a worker has seen is not sent again."""
        config = self.config(Listen(), Listen("tcp:8001"), Listen("tcp:8002"))
        self.service.take(config)
        self.service.take(config)
        (_, again), sockets = self.one.obey()
        assert isinstance(again, Taking)
        self.assertEqual((3, 1), (again.generation, len(sockets)))

    def test_several(self) -> None:
        """A worker that has taken the newest has taken those before; one of them tells no more."""
        changes = [self.service.take(self.config(Listen())) for _ in range(3)]
        for process, generation, fired in (
            (self.one, 4, 0),
            (self.two, 1, 0),
            (self.two, 2, 1),
            (self.two, 4, 3),
        ):
            process.tell(TAKEN, generation)
            self.assertEqual(fired, sum(change.called for change in changes))
        self.stop(self.service)

    def test_worker_ends(self) -> None:
        """A worker that ends meanwhile holds nothing up."""
        taken = self.service.take(self.config(Listen()))
        self.one.tell(TAKEN, 2)
        self.assertNoResult(taken)
        self.two.end(ProcessTerminated(None, 9))
        self.successResultOf(taken)

    def test_nobody_runs(self) -> None:
        """Where no worker runs just now, those that start next serve by it: that is all."""
        for process in (self.one, self.two):
            process.end(ProcessTerminated(None, 9))
        self.successResultOf(self.service.take(self.config(Listen())))
        self.reactor.advance(FIRST_DELAY)
        self.assertEqual(4, len(self.reactor.processes))
        for process in self.reactor.processes[2:]:
            self.assertEqual(2, process.handover.first.generation)

    def test_never_answers(self) -> None:
        """A worker that does not take it in time is killed, and another one serves by it."""
        taken = self.service.take(self.config(Listen()))
        self.one.tell(TAKEN, 2)
        self.reactor.advance(TAKE_LIMIT - 0.1)
        self.assertEqual([], self.two.signals)
        self.reactor.advance(0.1)
        self.assertEqual(([], ["KILL"]), (self.one.signals, self.two.signals))
        self.successResultOf(taken)
        self.two.end(ProcessTerminated(None, 9))
        self.reactor.advance(FIRST_DELAY)
        self.assertEqual(2, self.reactor.processes[2].handover.first.generation)
        said = [formatEvent(event) for event in self.events if event["log_level"] is LogLevel.error]
        self.assertEqual(
            ["Worker 2 has not taken the configuration after 30 s; it is killed"], said
        )

    def test_starts_afterwards(self) -> None:
        """A worker that starts later serves by the newest, at its places; it is told nothing."""
        config = self.config(Listen("tcp:8002"), Listen())
        taken = self.service.take(config)
        self.two.tell(TAKEN, 2)
        self.one.end(ProcessTerminated(None, 9))
        self.successResultOf(taken)
        self.reactor.advance(FIRST_DELAY)
        again = self.reactor.processes[2]
        first = again.handover.first
        self.assertEqual((2, config), (first.generation, first.config))
        self.assertEqual(list(config.listen), [place.listen for place in first.places])
        new, kept = self.reactor.ports[2], self.reactor.ports[0]
        given = [again.descriptors[FIRST_SOCKET + place] for place in (0, 1)]
        self.assertEqual([new.fileno(), kept.fileno()], given)
        self.assertNotIn(FIRST_SOCKET + 2, again.descriptors)
        self.assertEqual(([], []), again.obey())
        self.service.take(config)
        order, sockets = self.order(again)
        self.assertEqual((3, []), (order.generation, sockets))

    def test_cannot_listen(self) -> None:
        """A place that cannot be had: no worker is told, and nothing has changed."""
        taken = self.service.take(self.config(Listen("tcp:8002"), Listen("tcp:1")))
        self.failureResultOf(taken, CannotListenError)
        first, second, half = self.reactor.ports
        self.assertEqual(-1, half.fileno())
        self.assertTrue(first.fileno() > 0 < second.fileno())
        self.assertEqual(([], []), self.one.obey())
        self.one.end(ProcessTerminated(None, 9))
        self.reactor.advance(FIRST_DELAY)
        handed = self.reactor.processes[2].handover.first
        self.assertEqual((1, TARGET), (handed.generation, handed.config.routes[0].target))
        self.service.take(self.config(Listen()))
        self.assertEqual(2, self.order(self.two)[0].generation)

    def test_demo(self) -> None:
        """A demo that is asked for now starts in the parent; workers are sent to it."""
        self.service.take(self.config(Listen(), Listen("tcp:8001"), target=None))
        demo = self.reactor.ports[-1]
        self.assertTrue(demo.reading)
        order, sockets = self.order(self.one)
        target = order.config.routes[0].target
        assert target is not None
        self.assertEqual((demo.getHost().port, []), (target.origin.port, sockets))

    def test_streams(self) -> None:
        """What is open is the sum of what workers tell; one that has ended has nothing open."""
        self.assertEqual(0, self.service.streams())
        self.one.tell(STREAMS, 3)
        self.two.tell(STREAMS, 4)
        self.assertEqual(7, self.service.streams())
        self.one.tell(STREAMS, 1)
        self.assertEqual(5, self.service.streams())
        self.two.end(ProcessTerminated(None, 9))
        self.assertEqual(1, self.service.streams())


class DrainTests(WorkersTestCase):
    """Workers end when what is open has ended."""

    def setUp(self) -> None:
        """Start a service whose workers are ready, and drain it."""
        super().setUp()
        self.start_ready()
        self.drained = self.service.drain(20.0)

    def test_drain(self) -> None:
        """Each worker is told, the sockets are closed here; the end is when the last has ended."""
        for process in (self.one, self.two):
            self.assertEqual(([Draining(20.0)], []), process.obey())
        self.assertEqual([-1, -1], [port.fileno() for port in self.reactor.ports])
        self.one.end(ProcessDone(0))
        self.assertNoResult(self.drained)
        self.two.end(ProcessDone(0))
        self.successResultOf(self.drained)
        self.reactor.advance(FIRST_DELAY)
        self.assertEqual(2, len(self.reactor.processes), "a worker was started again")
        self.stop(self.service)

    def test_never_ends(self) -> None:
        """Who has not ended after its time and what a worker's own end may take is killed."""
        self.one.end(ProcessDone(0))
        self.reactor.advance(20 + STOP_LIMIT - 0.1)
        self.assertEqual([], self.two.signals)
        self.reactor.advance(0.1)
        self.assertEqual(["KILL"], self.two.signals)
        self.assertNoResult(self.drained)
        self.two.end(ProcessTerminated(None, 9))
        self.successResultOf(self.drained)

    def test_second_thought(self) -> None:
        """Who asks for the end meanwhile gets it: workers are hung up on, and killed soon."""
        self.assertFalse(self.one.hung_up or self.two.hung_up)
        stopped: Any = self.service.stopService()
        self.assertTrue(self.one.hung_up and self.two.hung_up)
        self.one.end(ProcessDone(0))
        self.reactor.advance(STOP_LIMIT)
        self.assertEqual(["KILL"], self.two.signals)
        self.two.end(ProcessTerminated(None, 9))
        self.successResultOf(stopped)
        self.successResultOf(self.drained)
        self.assertEqual([], self.reactor.getDelayedCalls())
