"""A proxy's life: real signals, a real systemd's socket, real files; what serves is the test."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import IService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pyproxy.admin.site import AdminSite
from pyproxy.config.loader import ConfigError
from pyproxy.config.schema import Config, Listen
from pyproxy.life.board import BoardAsked
from pyproxy.life.condition import Phase, Serving
from pyproxy.life.desk import Asked, Document
from pyproxy.life.measuring import Measuring
from pyproxy.life.reloading import Loaded
from pyproxy.life.service import STATUS_INTERVAL, LifeService
from pyproxy.life.watching import INTERVAL
from pyproxy.semantics.urls import parse_target
from tests.configs import one_route
from tests.turning import PATIENCE

FIRST = one_route(target=parse_target("http://first"))
SECOND = one_route(target=parse_target("http://second"))

HOLD = "HOLD"
"""What a file holds that is read for as long as the test likes."""


class Reactor(MemoryReactorClock):
    """A reactor that the test starts; what signals and threads ask of it waits for its turn.

    Attributes:
        stops: how often it was asked to stop.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stops = 0
        self.refusal: CannotListenError | None = None
        self._hooks: list[Callable[[], object]] = []
        self._calls: deque[Callable[[], object]] = deque()
        self._pool = ThreadPool(0, 1)
        self._pool.start()

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen."""
        if self.refusal is not None:
            raise self.refusal
        return super().listenTCP(port, factory, backlog, interface)

    def getThreadPool(self) -> ThreadPool:
        """Return real threads."""
        return self._pool

    def callFromThread(self, call: Callable[..., object], *args: Any, **named: Any) -> None:
        """Let a call wait."""
        self._calls.append(partial(call, *args, **named))

    def callWhenRunning(self, callable: Any, *args: Any, **kw: Any) -> None:  # noqa: A002
        """Call at once, or when it runs."""
        if self.running:
            callable(*args, **kw)
        else:
            self._hooks.append(partial(callable, *args, **kw))

    def begin(self) -> None:
        """Run from now on."""
        self.running = True
        for hook in self._hooks:
            hook()

    def stop(self) -> None:
        """Take note."""
        if self.stops:
            raise ReactorNotRunning
        self.stops += 1

    def turn(self) -> bool:
        """Make the calls that wait; tell whether there were any."""
        waited = bool(self._calls)
        while self._calls:
            self._calls.popleft()()
        return waited

    def close(self) -> None:
        """End the threads."""
        self._pool.stop()


@attrs.define(eq=False)
class FakeServing:
    """Serves by whatever it is given.

    Attributes:
        taken: the configurations that it was given; drains: the times of its drains.
        begins: fires when it serves; drained: when nothing is open any more.
    """

    taken: list[Config] = attrs.Factory(list)
    drains: list[float] = attrs.Factory(list)
    begins: Deferred[None] = attrs.field(factory=partial(succeed, None))
    drained: Deferred[None] = attrs.Factory(Deferred)
    open: int = 0
    reopened: int = 0

    def serves(self) -> Deferred[None]:
        """Serve when the test says so."""
        return self.begins

    def take(self, config: Config) -> Deferred[None]:
        """Take a configuration."""
        self.taken.append(config)
        return succeed(None)

    def drain(self, timeout: float) -> Deferred[None]:
        """Be drained when the test says so."""
        self.drains.append(timeout)
        return self.drained

    def streams(self) -> int:
        """Have so many open."""
        return self.open

    def reopen_logs(self) -> None:
        """Count it."""
        self.reopened += 1

    def ask_cache(self, asked: Asked) -> Deferred[Document | None]:
        """Have no cache."""
        return succeed(None)

    def ask_board(self, asked: BoardAsked) -> Deferred[Document | None]:
        """Keep no accounts."""
        return succeed(None)

    def ask_metrics(self, asked: Measuring) -> Deferred[Document | None]:
        """Count nothing."""
        return succeed(None)


class LifeTestCase(SynchronousTestCase):
    """A case with a service, and handlers of signals that are put back.

    Attributes:
        found: what a reload finds: a configuration, or an error.
        hold: while it is clear, a reload reads on.
    """

    def setUp(self) -> None:
        """Make what the service needs, and hear the log."""
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="life-")))
        self.reactor = Reactor()
        self.addCleanup(self.reactor.close)
        self.serving = FakeServing()
        self.found: Config | Exception = SECOND
        self.hold = threading.Event()
        self.hold.set()
        self.addCleanup(self.hold.set)
        self.environment: dict[str, str] = {}
        self.given_up: list[Exception] = []
        self.events = EventLoggingObserver.createWithCleanup(
            self,  # type: ignore[arg-type]
            globalLogPublisher,
        )

    def make(self, config: Config = FIRST, watch: bool = False) -> LifeService:
        """Make the service."""
        serving: Serving = self.serving
        self.service = LifeService(
            serving,
            Loaded(config, lambda config: ""),
            self.load,
            self.reactor,
            self.given_up.append,
            self.environment,
            watch,
        )
        self.condition = self.service._condition
        self.assertTrue(verifyObject(IService, self.service))
        return self.service

    def start(self, config: Config = FIRST, watch: bool = False) -> None:
        """Start the service as twistd does."""
        self.make(config, watch)
        self.addCleanup(self.stop)
        self.service.privilegedStartService()
        self.service.startService()
        self.reactor.begin()

    def stop(self) -> None:
        """Stop it; no timer is left."""
        if self.service.running:
            self.successResultOf(self.service.stopService())
        self.assertEqual([], self.reactor.getDelayedCalls())

    def load(self, present: Config) -> Loaded:
        """Read what there is."""
        self.hold.wait(PATIENCE)
        if isinstance(self.found, Exception):
            raise self.found
        return Loaded(self.found, lambda config: "")

    def kill(self, number: signal.Signals) -> None:
        """Send this process a signal, and let the reactor have its turn."""
        os.kill(os.getpid(), number)
        self.assertTrue(self.reactor.turn(), "the signal was not heeded")

    def settle(self) -> None:
        """Wait for the end of what a thread reads."""
        end = time.monotonic() + PATIENCE
        while self.service._reloader._runs:
            self.assertLess(time.monotonic(), end)
            if not self.reactor.turn():
                time.sleep(0.001)

    def reload(self) -> None:
        """Ask for a reload by a signal, and wait for its end."""
        self.kill(signal.SIGHUP)
        self.settle()

    def said(self) -> str:
        """Return all that was logged, a line each."""
        return "\n".join(formatEvent(event) for event in self.events)


class ReopenTests(LifeTestCase):
    """SIGUSR1 opens logs anew."""

    def test_both(self) -> None:
        """Ours, and twistd's, which heeds it too."""
        heard: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
        self.start()
        self.kill(signal.SIGUSR1)
        self.assertEqual((1, [signal.SIGUSR1]), (self.serving.reopened, heard))

    def test_ours_alone(self) -> None:
        """Where nobody else heeds it; it would end the process."""
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        self.start()
        self.kill(signal.SIGUSR1)
        self.assertEqual(1, self.serving.reopened)


class HangUpTests(LifeTestCase):
    """SIGHUP reloads."""

    def test_reload(self) -> None:
        """The configuration is read anew, in a thread, and taken in the reactor's turn."""
        self.start()
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertEqual([], self.serving.taken)
        self.reactor.turn()
        self.settle()
        self.assertEqual(([SECOND], 2), (self.serving.taken, self.condition.generation))
        self.assertTrue(self.condition.ready)

    def test_refused(self) -> None:
        """What cannot be used is not taken, and that is known."""
        self.found = ConfigError(["pyproxy.toml:1: no"])
        self.start()
        self.reload()
        self.assertEqual(([], 1), (self.serving.taken, self.condition.generation))
        self.assertEqual(("pyproxy.toml:1: no",), self.condition.failures)
        self.assertIn("pyproxy.toml:1: no", self.said())

    def test_unready(self) -> None:
        """Who asked for it is not ready until a reload goes well."""
        unready = attrs.evolve(FIRST, unready_on_failed_reload=True)
        self.start(unready)
        self.found = ConfigError(["no"])
        self.reload()
        self.assertFalse(self.condition.ready)
        self.found = unready
        self.reload()
        self.assertTrue(self.condition.ready)

    def test_early(self) -> None:
        """Before the first port is open it ends nothing, and is made up for after the start."""
        self.serving.begins = Deferred()
        self.make()
        self.addCleanup(self.stop)
        self.service.privilegedStartService()
        self.kill(signal.SIGHUP)
        self.service.startService()
        self.reactor.begin()
        self.kill(signal.SIGHUP)
        self.assertEqual((Phase.STARTING, False), (self.condition.phase, self.condition.ready))
        self.serving.begins.callback(None)
        self.settle()
        self.assertEqual(([SECOND], 2), (self.serving.taken, self.condition.generation))

    def test_in_a_drain(self) -> None:
        """A drain is not taken back: no reload, and a word why."""
        self.start(attrs.evolve(FIRST, drain_delay=5.0))
        self.kill(signal.SIGTERM)
        for _ in range(2):
            self.reload()
            self.reactor.advance(5)
        self.assertEqual([], self.serving.taken)
        self.assertIn("No reload: the proxy is draining, still accepting", self.said())

    def test_what_was_read_too_late(self) -> None:
        """What is read when the end begins is dropped."""
        self.start()
        self.hold.clear()
        self.kill(signal.SIGHUP)
        self.kill(signal.SIGTERM)
        self.hold.set()
        self.settle()
        self.assertEqual(([], 1), (self.serving.taken, self.condition.generation))


class TermTests(LifeTestCase):
    """SIGTERM drains."""

    def test_in_order(self) -> None:
        """Not ready first, then nobody new, then the end when nothing is open any more."""
        self.start(attrs.evolve(FIRST, drain_delay=5.0, drain_timeout=20.0))
        self.assertEqual((Phase.SERVING, True), (self.condition.phase, self.condition.ready))
        self.kill(signal.SIGTERM)
        self.reactor.advance(4.9)
        self.assertEqual((Phase.LEAVING, False), (self.condition.phase, self.condition.ready))
        self.assertEqual(([], 0), (self.serving.drains, self.reactor.stops))
        self.reactor.advance(0.1)
        self.assertEqual((Phase.DRAINING, False), (self.condition.phase, self.condition.ready))
        self.assertEqual(([20.0], 0), (self.serving.drains, self.reactor.stops))
        self.serving.drained.callback(None)
        self.assertEqual(1, self.reactor.stops)
        said = self.said()
        self.assertIn("Received SIGTERM, shutting down.", said)
        self.assertIn("have 25 s to end by themselves", said)

    def test_without_delay(self) -> None:
        """Without a delay the drain begins at once."""
        self.start()
        self.kill(signal.SIGTERM)
        self.assertEqual(([30.0], 0), (self.serving.drains, self.reactor.stops))

    def test_no_drain(self) -> None:
        """Without time for a drain the end comes at once, or right after the delay."""
        for delay in (0.0, 5.0):
            self.reactor, self.serving = Reactor(), FakeServing()
            self.addCleanup(self.reactor.close)
            self.start(attrs.evolve(FIRST, drain_timeout=0.0, drain_delay=delay))
            self.kill(signal.SIGTERM)
            self.assertEqual(int(not delay), self.reactor.stops)
            self.reactor.advance(delay)
            self.assertEqual(([], 1), (self.serving.drains, self.reactor.stops))
            self.stop()
        self.assertNotIn("to end by themselves", self.said())

    def test_as_last_configured(self) -> None:
        """What a reload says of the drain counts."""
        self.found = attrs.evolve(SECOND, drain_timeout=7.0)
        self.start()
        self.reload()
        self.kill(signal.SIGTERM)
        self.assertEqual([7.0], self.serving.drains)

    def test_second(self) -> None:
        """A second one ends the delay, or the drain, at once."""
        for delay in (5.0, 0.0):
            self.reactor, self.serving = Reactor(), FakeServing()
            self.addCleanup(self.reactor.close)
            self.start(attrs.evolve(FIRST, drain_delay=delay))
            self.kill(signal.SIGTERM)
            self.assertEqual(0, self.reactor.stops)
            self.kill(signal.SIGTERM)
            self.assertEqual(1, self.reactor.stops)
            # It would kill the interpreter at its end.
            self.assertIs(signal.SIG_IGN, signal.getsignal(signal.SIGTERM))
            self.successResultOf(self.service.stopService())
            self.reactor.advance(delay)
            self.serving.drained.callback(None)
            self.assertEqual(1, self.reactor.stops)

    def test_during_the_start(self) -> None:
        """One that comes before anybody is served ends the start: it is never ready."""
        self.serving.begins = Deferred()
        self.start()
        self.kill(signal.SIGTERM)
        self.serving.begins.callback(None)
        self.assertEqual((Phase.DRAINING, False), (self.condition.phase, self.condition.ready))
        self.serving.drained.callback(None)
        self.assertEqual(1, self.reactor.stops)

    def test_drain_fails(self) -> None:
        """A drain that fails is an end all the same, with a traceback in the log."""
        self.start()
        self.kill(signal.SIGTERM)
        self.serving.drained.errback(ZeroDivisionError("a defect"))
        self.assertEqual(1, self.reactor.stops)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_ctrl_c(self) -> None:
        """Whoever else stops the reactor ends all at once, in a drain too."""
        self.start()
        self.kill(signal.SIGTERM)
        self.successResultOf(self.service.stopService())
        self.assertEqual(Phase.DRAINING, self.condition.phase)
        self.serving.drained.callback(None)


class NotifyTests(LifeTestCase):
    """What systemd is told, at its own kind of socket.  Spec: sd_notify(3)."""

    def setUp(self) -> None:
        """Listen as systemd does."""
        super().setUp()
        path = str(self.directory / "notify")
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.systemd.bind(path)
        self.systemd.setblocking(False)
        self.environment["NOTIFY_SOCKET"] = path

    def told(self) -> list[dict[str, str]]:
        """Return the messages that came since this was asked last."""
        messages: list[dict[str, str]] = []
        while True:
            try:
                text = self.systemd.recv(4096).decode()
            except BlockingIOError:
                return messages
            messages.append(dict(line.split("=", 1) for line in text.split("\n")))

    def test_ready(self) -> None:
        """Ready is told when somebody serves, and not before; no child is told of the socket."""
        self.serving.begins = Deferred()
        self.start()
        self.assertEqual(({}, []), (self.environment, self.told()))
        self.serving.begins.callback(None)
        (ready,) = self.told()
        self.assertEqual("1", ready["READY"])
        self.assertEqual("serving; open requests and WebSockets: 0; routes: 1", ready["STATUS"])

    def test_reload(self) -> None:
        """Reloading with its time, then ready."""
        self.start()
        self.told()
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.reload()
        reloading, ready = self.told()
        self.assertEqual({"RELOADING", "MONOTONIC_USEC"}, set(reloading))
        self.assertGreaterEqual(int(reloading["MONOTONIC_USEC"]), before)
        self.assertEqual({"READY", "STATUS"}, set(ready))
        self.assertNotIn("refused", ready["STATUS"])

    def test_refused(self) -> None:
        """A reload that is refused ends as well, and the status says so until one goes well."""
        self.start()
        self.found = ConfigError(["no"])
        self.reload()
        self.assertIn("; the last reload was refused", self.told()[-1]["STATUS"])
        self.found = SECOND
        self.reload()
        self.assertNotIn("refused", self.told()[-1]["STATUS"])

    def test_reload_during_the_start(self) -> None:
        """A reload that waited for the end of the start begins after it is told ready."""
        self.serving.begins = Deferred()
        self.start()
        self.kill(signal.SIGHUP)
        self.serving.begins.callback(None)
        self.settle()
        first = [next(iter(message)) for message in self.told()]
        self.assertEqual(["READY", "RELOADING", "READY"], first)

    def test_stopping(self) -> None:
        """The end is told when it begins: first with the delay, then with the drain; once over."""
        self.start(attrs.evolve(FIRST, drain_delay=5.0))
        self.serving.open = 3
        self.told()
        self.kill(signal.SIGTERM)
        (leaving,) = self.told()
        self.assertEqual("1", leaving["STOPPING"])
        self.assertEqual(
            "draining, still accepting connections; open requests and WebSockets: 3; routes: 1",
            leaving["STATUS"],
        )
        self.reactor.advance(5)
        told = self.told()
        self.assertIn(
            {"STOPPING": "1", "STATUS": "draining; open requests and WebSockets: 3; routes: 1"},
            told,
        )
        self.successResultOf(self.service.stopService())
        self.assertEqual([], self.told())

    def test_stopping_at_once(self) -> None:
        """The end is told when somebody else ends it, too."""
        self.start()
        self.told()
        self.successResultOf(self.service.stopService())
        (stopping,) = self.told()
        self.assertEqual("1", stopping["STOPPING"])

    def test_reload_in_the_end(self) -> None:
        """A reload that ends after the end has begun does not tell ready."""
        self.start()
        self.told()
        self.hold.clear()
        self.kill(signal.SIGHUP)
        self.kill(signal.SIGTERM)
        self.hold.set()
        self.settle()
        keys = {key for message in self.told() for key in message}
        self.assertEqual({"RELOADING", "MONOTONIC_USEC", "STOPPING", "STATUS"}, keys)

    def test_status(self) -> None:
        """What is open is told now and then, when it has changed; in a drain too."""
        self.start()
        self.told()
        self.reactor.pump([STATUS_INTERVAL] * 3)
        self.assertEqual([], self.told())
        self.serving.open = 7
        self.reactor.advance(STATUS_INTERVAL)
        self.assertEqual(
            [{"STATUS": "serving; open requests and WebSockets: 7; routes: 1"}], self.told()
        )
        self.kill(signal.SIGTERM)
        self.told()
        self.serving.open = 6
        self.reactor.advance(STATUS_INTERVAL)
        (status,) = self.told()
        self.assertIn("WebSockets: 6", status["STATUS"])

    def test_watchdog(self) -> None:
        """A watchdog that waits is told twice as often as it wants, from the start to the end."""
        self.environment["WATCHDOG_USEC"] = "4000000"
        self.environment["WATCHDOG_PID"] = str(os.getpid())
        self.start()
        self.assertIn({"WATCHDOG": "1"}, self.told())
        self.reactor.pump([0.5] * 8)
        self.assertEqual([{"WATCHDOG": "1"}] * 2, self.told())
        self.kill(signal.SIGTERM)
        self.reactor.pump([0.5] * 8)
        self.assertEqual(2, self.told().count({"WATCHDOG": "1"}))

    def test_nobody(self) -> None:
        """Without systemd nothing is repeated."""
        self.environment.clear()
        self.start()
        self.assertEqual([], self.reactor.getDelayedCalls())


class WatchTests(LifeTestCase):
    """--watch: a change of what was read reloads."""

    def setUp(self) -> None:
        """Write a configuration's file, and a key that an endpoint names."""
        super().setUp()
        self.file, self.key, self.new = (self.directory / name for name in ("file", "k:ey", "new"))
        for path in (self.file, self.key, self.new):
            path.write_text("one")
        key = str(self.key).replace(":", "\\:")
        listen = (Listen(), Listen(f"ssl:443:privateKey={key}"))
        self.config = attrs.evolve(FIRST, listen=listen, files=frozenset({self.file, self.key}))
        self.found = attrs.evolve(SECOND, files=frozenset({self.new}))

    def look(self, times: int = 2) -> int:
        """Let it look; return how many reloads there were by now."""
        for _ in range(times):
            self.reactor.advance(INTERVAL)
            self.settle()
        return len(self.serving.taken)

    def test_replaced(self) -> None:
        """A file that another one replaces; from then on the files count that are named now."""
        self.start(self.config, watch=True)
        self.assertEqual(0, self.look(10))
        fresh = self.directory / "fresh"
        fresh.write_text("one")
        os.replace(fresh, self.file)
        self.assertEqual(1, self.look())
        for path in (self.file, self.key):
            path.write_text("three, and more")
        self.assertEqual(1, self.look(10))
        self.new.write_text("three, and more")
        self.assertEqual(2, self.look())
        self.assertEqual(2, self.look(10))

    def test_key(self) -> None:
        """A key or certificate that an endpoint names is a file of the configuration."""
        self.start(self.config, watch=True)
        self.key.write_text("two, and more")
        self.assertEqual(1, self.look())

    def test_during_the_start(self) -> None:
        """What changes during the start is noticed after it."""
        self.make(self.config, watch=True)
        self.addCleanup(self.stop)
        self.file.write_text("two, and more")
        self.service.privilegedStartService()
        self.service.startService()
        self.reactor.begin()
        self.assertEqual(1, self.look())

    def test_refused(self) -> None:
        """What was refused is tried again with the next change, and not before."""
        taken, self.found = self.found, ConfigError(["no"])
        self.start(self.config, watch=True)
        self.file.write_text("two, and more")
        self.look()
        self.assertEqual(("no",), self.condition.failures)
        self.found = taken
        self.assertEqual(0, self.look(10))
        self.file.write_text("three, and still more")
        self.assertEqual(1, self.look())

    def test_not_asked_for(self) -> None:
        """Without the option nobody looks."""
        self.start(self.config)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_end(self) -> None:
        """When the end begins nobody looks any more."""
        self.start(self.config, watch=True)
        self.kill(signal.SIGTERM)
        self.file.write_text("two, and more")
        self.assertEqual(0, self.look(10))
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.assertNotIn("No reload", self.said())


class AdminTests(LifeTestCase):
    """The admin site listens from before the first user to after the last."""

    CONFIG = attrs.evolve(FIRST, admin=Listen("tcp:9000:interface=127.0.0.1"))

    def test_listens(self) -> None:
        """It is opened while the process still may, and the log says where."""
        self.make(self.CONFIG)
        self.service.privilegedStartService()
        ((port, site, _, interface),) = self.reactor.tcpServers
        self.assertEqual((9000, "127.0.0.1"), (port, interface))
        self.assertIsInstance(site, AdminSite)
        self.assertIn("The admin site is at tcp:9000:interface=127.0.0.1", self.said())
        self.successResultOf(self.service.stopService())

    def test_off(self) -> None:
        """Without a place for it nothing is opened."""
        self.start()
        self.assertEqual([], self.reactor.tcpServers)

    def test_not_changed(self) -> None:
        """A reload opens none, closes none, and says that it does not."""
        self.start(self.CONFIG)
        self.found = attrs.evolve(SECOND, admin=Listen("tcp:9001:interface=127.0.0.1"), workers=3)
        self.reload()
        self.assertEqual(1, len(self.reactor.tcpServers))
        self.assertEqual(self.CONFIG.admin, self.condition.config.admin)
        for name in ("admin", "workers"):
            self.assertIn(f"{name} is not changed by a reload; restart the proxy", self.said())

    def test_taken_port(self) -> None:
        """A place that is somebody else's ends the start, with a word."""
        self.reactor.refusal = CannotListenError("", 9000, OSError(98, "Address already in use"))
        self.make(self.CONFIG)
        error = self.assertRaises(CannotListenError, self.service.privilegedStartService)
        self.assertEqual([error], self.given_up)
        self.assertIn("nothing was started", self.said())
        self.flushLoggedErrors()
