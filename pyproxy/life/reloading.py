"""A reload: the configuration is read again, and taken whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pyproxy.config.loader import ConfigError
from pyproxy.config.schema import Config
from pyproxy.life.condition import Condition, Phase, Serving

_log = Logger("pyproxy")


@attrs.frozen
class Loaded:
    """A configuration that was read.

    Attributes:
        printed: returns TOML, without a secret, that says the same as this configuration, or as
            this one with what a reload cannot change.
    """

    config: Config
    printed: Callable[[Config], str]


Load = Callable[[Config], Loaded]
"""Reads the configuration again.

Args: the one in use, whose places to listen are not tried.
Raises: ConfigError.
"""

Elsewhere = Callable[[Load, Config], Deferred[Loaded]]
"""Calls what reads, in a thread: a large file takes longer than streams should wait."""

READ_LIMIT = 60.0
"""Seconds in which the configuration and all that it names has to be read; a mount may hang."""


class Observer(Protocol):
    """Who wants to know of reloads."""

    def reloading(self) -> None:
        """Take note that one begins."""

    def reloaded(self) -> None:
        """Take note that it is over, well or not."""


class Reloader:
    """Reads the configuration again when it is asked to, one time after the other."""

    def __init__(
        self,
        condition: Condition,
        serving: Serving,
        load: Load,
        elsewhere: Elsewhere,
        clock: IReactorTime,
        observers: Collection[Observer],
    ) -> None:
        self._condition = condition
        self._serving = serving
        self._load = load
        self._elsewhere = elsewhere
        self._clock = clock
        self._observers = observers
        self._runs = False
        self._again = False

    def reload(self) -> None:
        """Reload now; or when the start, or the present reload, is over."""
        if self._condition.phase is Phase.STARTING:
            self._again = True
        elif self._condition.phase is not Phase.SERVING:
            _log.warn("No reload: the proxy is {phase}", phase=self._condition.phase.value)
        elif self._runs:
            self._again = True
        else:
            self._runs = True
            done = Deferred.fromCoroutine(self._reload())
            done.addErrback(self._failed)
            done.addBoth(self._over)
            done.addErrback(lambda failure: _log.failure("a reload did not end well", failure))

    def _failed(self, failure: Failure) -> None:
        _log.failure("the reload failed; nothing is known to have changed", failure)
        self._condition.failures = ("an internal error; the log has its traceback",)
        self._condition.refusals += 1

    def _over(self, result: object) -> None:
        self._runs = False
        for observer in self._observers:
            observer.reloaded()
        self.make_up()

    def make_up(self) -> None:
        """Reload if that was asked for while it could not be done."""
        if self._again:
            self._again = False
            self.reload()

    async def _reload(self) -> None:
        for observer in self._observers:
            observer.reloading()
        condition = self._condition
        try:
            reading = self._elsewhere(self._load, condition.config)
            loaded = await reading.addTimeout(READ_LIMIT, self._clock)
            if not self._may_go_on():
                return
            config = self._keep_fixed(loaded.config)
            await self._serving.take(config)
        except ConfigError as error:
            self._refuse(error.errors)
            condition.wanted = error.files
            return
        except CannotListenError as error:
            self._refuse([_sentence(error)])
            condition.wanted = config.files
            return
        except DeferredTimeout:
            self._refuse([f"the configuration could not be read within {READ_LIMIT:g} s"])
            return
        if not self._may_go_on():
            return
        condition.config, condition.printed = config, loaded.printed(config)
        condition.generation += 1
        condition.taken_at = self._clock.seconds()
        condition.failures, condition.wanted = (), frozenset()
        _log.info(
            "Reloaded: generation {generation}, routes: {routes}, listeners: {places}",
            routes=len(config.routes),
            places=len(config.listen),
            generation=condition.generation,
        )

    def _may_go_on(self) -> bool:
        """Tell whether the end has not begun meanwhile; nothing is taken any more then."""
        return self._condition.phase is Phase.SERVING

    def _refuse(self, errors: Collection[str]) -> None:
        self._condition.failures = tuple(errors)
        self._condition.refusals += 1
        _log.error(
            "The reload is refused and nothing has changed:\n{errors}", errors="\n".join(errors)
        )

    def _keep_fixed(self, config: Config) -> Config:
        """Return a configuration with what only a restart can change left as it is, and say so."""
        present = self._condition.config
        for name, new, old in (
            ("workers", config.workers, present.workers),
            ("admin", config.admin, present.admin),
            ("metrics", config.metrics, present.metrics),
            ("cache.disk", config.cache.place_on_disk, present.cache.place_on_disk),
            ("cache.redis", config.cache.redis, present.cache.redis),
        ):
            if new != old:
                _log.warn(
                    "{name} is not changed by a reload; restart the proxy for that", name=name
                )
        return attrs.evolve(
            config,
            workers=present.workers,
            admin=present.admin,
            metrics=present.metrics,
            cache=config.cache.kept(present.cache),
        )


def _sentence(error: CannotListenError) -> str:
    """Return why a place cannot be opened, and what would be right."""
    reason, place = error.socketError, error.port
    if not isinstance(place, str | bytes):
        place = f"{error.interface or 'every interface'}, port {place}"
    where = os.fsdecode(place)
    taken = getattr(reason, "errno", None) == errno.EADDRINUSE
    if taken or "another process accepts" in str(reason):
        return (
            f"{where}: somebody listens there; if that is this proxy, by a listener with another "
            "interface or as a Unix socket with other options, restart it"
        )
    return f"{where}: cannot listen there ({str(reason).rstrip('.')})"
