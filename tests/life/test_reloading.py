"""A reload is taken whole or not at all, one at a time."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.loader import ConfigError
from pyproxy.config.schema import CacheConfig, Config, Listen
from pyproxy.life.board import BoardAsked
from pyproxy.life.condition import Condition, Phase, Serving
from pyproxy.life.desk import Asked, Document
from pyproxy.life.measuring import Measuring
from pyproxy.life.reloading import Load, Loaded, Observer, Reloader
from pyproxy.semantics.urls import parse_target
from tests.configs import one_route

FIRST = one_route(target=parse_target("http://first"))
SECOND = one_route(target=parse_target("http://second"))


@attrs.define(eq=False)
class FakeServing:
    """Serves by whatever it is given.

    Attributes:
        taken: the configurations that it was given.
        error: what it raises instead.
        result: what it returns.
    """

    taken: list[Config] = attrs.Factory(list)
    error: Exception | None = None
    result: Deferred[None] | None = None

    def serves(self) -> Deferred[None]:
        """Serve at once."""
        return succeed(None)

    def take(self, config: Config) -> Deferred[None]:
        """Take a configuration."""
        if self.error is not None:
            raise self.error
        self.taken.append(config)
        return succeed(None) if self.result is None else self.result

    def drain(self, timeout: float) -> Deferred[None]:
        """Be done."""
        return succeed(None)

    def streams(self) -> int:
        """Have nothing open."""
        return 0

    def reopen_logs(self) -> None:
        """Have no logs."""

    def ask_cache(self, asked: Asked) -> Deferred[Document | None]:
        """Have no cache."""
        return succeed(None)

    def ask_board(self, asked: BoardAsked) -> Deferred[Document | None]:
        """Keep no accounts."""
        return succeed(None)

    def ask_metrics(self, asked: Measuring) -> Deferred[Document | None]:
        """Count nothing."""
        return succeed(None)


@attrs.define(eq=False)
class FakeObserver:
    """Notes what it is told, and what is wrong at that time."""

    condition: Condition
    told: list[str] = attrs.Factory(list)

    def reloading(self) -> None:
        """Note it."""
        self.told.append("reloading")

    def reloaded(self) -> None:
        """Note it, and whether it was refused."""
        self.told.append("refused" if self.condition.failures else "reloaded")


class ReloaderTestCase(SynchronousTestCase):
    """A case with a reloader and all that it asks.

    Attributes:
        found: what is read next: a configuration, or an error.
        asked: the configurations that were in use when something was read.
        waiting: reads that wait for the test; None where none has to.
    """

    def setUp(self) -> None:
        """Serve by the first configuration, and hear the log."""
        self.clock = Clock()
        self.clock.advance(1000)
        self.condition = Condition(FIRST, "first", 7.0, Phase.SERVING)
        self.serving = FakeServing()
        serving: Serving = self.serving
        self.found: Config | Exception = SECOND
        self.asked: list[Config] = []
        self.waiting: list[Callable[[], object]] | None = None
        self.observer = FakeObserver(self.condition)
        observers: list[Observer] = [self.observer]
        self.reloader = Reloader(
            self.condition, serving, self.load, self.elsewhere, self.clock, observers
        )
        self.events = EventLoggingObserver.createWithCleanup(
            self,  # type: ignore[arg-type]
            globalLogPublisher,
        )

    def load(self, present: Config) -> Loaded:
        """Read what there is."""
        self.asked.append(present)
        if isinstance(self.found, Exception):
            raise self.found
        return Loaded(self.found, lambda config: "second")

    def elsewhere(self, load: Load, config: Config) -> Deferred[Loaded]:
        """Read now, or when the test says so."""
        if self.waiting is None:
            return execute(load, config)
        done: Deferred[Loaded] = Deferred()
        self.waiting.append(lambda: execute(load, config).chainDeferred(done))
        return done

    def logged(self, level: LogLevel) -> list[str]:
        """Return what was logged at a level."""
        return [formatEvent(event) for event in self.events if event["log_level"] is level]

    def assert_unchanged(self) -> None:
        """Fail if the first configuration is not the one in use."""
        condition = self.condition
        self.assertEqual(
            (FIRST, "first", 1, 7.0),
            (condition.config, condition.printed, condition.generation, condition.taken_at),
        )
        self.assertEqual([], self.serving.taken)


class TakenTests(ReloaderTestCase):
    """What can be used is used."""

    def test_whole(self) -> None:
        """It is served by, and known to be; who wants to know is told before and after."""
        self.clock.advance(60)
        self.reloader.reload()
        condition = self.condition
        self.assertEqual(([FIRST], [SECOND]), (self.asked, self.serving.taken))
        self.assertEqual(
            (SECOND, "second", 2, 1060.0),
            (condition.config, condition.printed, condition.generation, condition.taken_at),
        )
        self.assertEqual(((), True), (condition.failures, condition.ready))
        self.assertEqual(["reloading", "reloaded"], self.observer.told)
        self.assertEqual(
            ["Reloaded: generation 2, routes: 1, listeners: 1"], self.logged(LogLevel.info)
        )

    def test_same(self) -> None:
        """What is the same is taken too: a certificate may be another one."""
        self.found = FIRST
        self.reloader.reload()
        self.assertEqual(([FIRST], 2), (self.serving.taken, self.condition.generation))

    def test_over_when_all_serve(self) -> None:
        """It is in use when every process serves by it, and not before."""
        self.serving.result = Deferred()
        self.reloader.reload()
        self.assertEqual([SECOND], self.serving.taken)
        self.assertEqual((FIRST, 1), (self.condition.config, self.condition.generation))
        self.assertEqual(["reloading"], self.observer.told)
        self.serving.result.callback(None)
        self.assertEqual((SECOND, 2), (self.condition.config, self.condition.generation))
        self.assertEqual(["reloading", "reloaded"], self.observer.told)

    def test_fixed(self) -> None:
        """What a reload cannot change stays as it is, and is said; the rest is taken."""
        admin = Listen("tcp:9000")
        self.found = attrs.evolve(SECOND, workers=4, admin=admin, metrics=True, drain_timeout=7.0)
        self.reloader.reload()
        taken = attrs.evolve(SECOND, drain_timeout=7.0)
        self.assertEqual(([taken], taken), (self.serving.taken, self.condition.config))
        for line, name in zip(
            self.logged(LogLevel.warn), ("workers", "admin", "metrics"), strict=True
        ):
            self.assertTrue(line.startswith(f"{name} is not changed by a reload; restart"), line)
        self.reloader.reload()
        self.assertEqual(6, len(self.logged(LogLevel.warn)))

    def test_store(self) -> None:
        """Of the cache the bounds of memory change, and where it is kept stays, with its secret."""
        present = CacheConfig(redis="redis://:old@h", redis_shown="@file", secrets=(b"old",))
        self.condition.config = attrs.evolve(FIRST, cache=present)
        new = CacheConfig(memory=1024, entry=64, redis="redis://:new@h", secrets=(b"new",))
        for cache, names in ((new, ["cache.redis"]), (CacheConfig(disk="/a"), ["cache.disk"])):
            self.found = attrs.evolve(SECOND, cache=cache)
            self.reloader.reload()
            taken = self.serving.taken[-1].cache
            self.assertEqual((cache.memory, cache.entry), (taken.memory, taken.entry))
            self.assertEqual((present.redis, (b"old",)), (taken.redis, taken.secrets))
            said = [line.partition(" ")[0] for line in self.logged(LogLevel.warn)]
            self.assertEqual(names, [name for name in said if name in names])
            self.assertNotIn("new", "".join(self.logged(LogLevel.warn)))

    def test_nothing_fixed(self) -> None:
        """Nothing is said where nothing of that has changed."""
        admin = Listen("tcp:9000")
        self.condition.config = attrs.evolve(FIRST, workers=4, admin=admin)
        self.found = attrs.evolve(SECOND, workers=4, admin=admin)
        self.reloader.reload()
        self.assertEqual(([self.found], []), (self.serving.taken, self.logged(LogLevel.warn)))


class RefusedTests(ReloaderTestCase):
    """What cannot be used changes nothing."""

    def test_wrong(self) -> None:
        """All that is wrong is known and logged; the proxy is ready as before."""
        self.found = ConfigError(["a.toml:1: workers = 0: no", "a.toml:9: routes: no"])
        self.reloader.reload()
        self.assert_unchanged()
        self.assertEqual(tuple(self.found.errors), self.condition.failures)
        self.assertEqual(["reloading", "refused"], self.observer.told)
        self.assertTrue(self.condition.ready)
        (line,) = self.logged(LogLevel.error)
        self.assertEqual(
            ["The reload is refused and nothing has changed:", *self.found.errors], line.split("\n")
        )

    def test_cannot_listen(self) -> None:
        """A place that cannot be had is an error of the configuration too."""
        self.serving.error = CannotListenError("", 80, OSError(98, "Address already in use"))
        self.reloader.reload()
        self.assert_unchanged()
        (failure,) = self.condition.failures
        self.assertIn("every interface, port 80: somebody listens there", failure)
        self.assertIn("if that is this proxy", failure)
        self.assertIn(failure, self.logged(LogLevel.error)[0])

    def test_defect(self) -> None:
        """A defect is told as one, with its traceback in the log; the next reload is made."""
        self.found = ZeroDivisionError("a defect")
        self.reloader.reload()
        self.assert_unchanged()
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        (failure,) = self.condition.failures
        self.assertIn("internal error", failure)
        self.assertEqual(["reloading", "refused"], self.observer.told)
        self.found = SECOND
        self.reloader.reload()
        self.assertEqual(((), 2), (self.condition.failures, self.condition.generation))

    def test_right_again(self) -> None:
        """A reload that goes well ends the doubt; one that does not puts another in its place."""
        for failure in ("one", "two"):
            self.found = ConfigError([failure])
            self.reloader.reload()
            self.assertEqual((failure,), self.condition.failures)
        self.found = SECOND
        self.reloader.reload()
        self.assertEqual((), self.condition.failures)

    def test_unready(self) -> None:
        """Who asked for it, by what is in use, is not ready while the last reload has failed."""
        self.condition.config = attrs.evolve(FIRST, unready_on_failed_reload=True)
        self.assertTrue(self.condition.ready)
        self.found = ConfigError(["no"])
        self.reloader.reload()
        self.assertFalse(self.condition.ready)
        self.found = attrs.evolve(SECOND, unready_on_failed_reload=True)
        self.reloader.reload()
        self.assertTrue(self.condition.ready)


class OneAtATimeTests(ReloaderTestCase):
    """Whoever asks, and however often."""

    def setUp(self) -> None:
        """Let reads wait."""
        super().setUp()
        self.waiting = []

    def read(self) -> None:
        """Let the read that waits be made."""
        assert self.waiting
        self.waiting.pop(0)()

    def test_again(self) -> None:
        """What was asked for meanwhile, however often, is one more reload: it reads the last."""
        for _ in range(4):
            self.reloader.reload()
        self.assertEqual((1, []), (len(self.waiting or ()), self.asked))
        self.read()
        self.assertEqual((1, [FIRST]), (len(self.waiting or ()), self.asked))
        self.found = attrs.evolve(SECOND, drain_timeout=7.0)
        self.read()
        self.assertEqual(([SECOND, self.found], 3), (self.serving.taken, self.condition.generation))
        self.assertEqual([], self.waiting)
        self.assertEqual(["reloading", "reloaded"] * 2, self.observer.told)

    def test_again_after_a_refusal(self) -> None:
        """A reload that was refused leaves room for the next as well."""
        self.reloader.reload()
        self.reloader.reload()
        self.found = ConfigError(["no"])
        self.read()
        self.found = SECOND
        self.read()
        self.assertEqual(((), 2), (self.condition.failures, self.condition.generation))

    def test_end_meanwhile(self) -> None:
        """A proxy that has begun to end takes nothing any more, whatever was read."""
        for phase in (Phase.LEAVING, Phase.DRAINING):
            self.condition.phase = Phase.SERVING
            self.reloader.reload()
            self.reloader.reload()
            self.condition.phase = phase
            self.read()
            self.assert_unchanged()
            self.assertEqual([], self.waiting)
            self.assertEqual(["reloading", "reloaded"], self.observer.told)
            self.observer.told.clear()

    def test_during_the_start(self) -> None:
        """What is asked for during the start is made up for when that is over, once."""
        self.condition.phase = Phase.STARTING
        for _ in range(3):
            self.reloader.reload()
        self.assertEqual(([], []), (self.waiting, self.observer.told))
        self.condition.phase = Phase.SERVING
        self.reloader.make_up()
        self.read()
        self.assertEqual(([SECOND], []), (self.serving.taken, self.waiting))
        self.reloader.make_up()
        self.assertEqual([], self.waiting)

    def test_during_the_end(self) -> None:
        """A proxy that ends does not reload, and says so."""
        for phase in (Phase.LEAVING, Phase.DRAINING):
            self.condition.phase = phase
            self.reloader.reload()
        self.assertEqual(([], []), (self.waiting, self.observer.told))
        self.assertEqual(
            [
                "No reload: the proxy is draining, still accepting connections",
                "No reload: the proxy is draining",
            ],
            self.logged(LogLevel.warn),
        )
