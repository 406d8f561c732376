"""A proxy's life as a service: what signals mean, and who is told."""

from __future__ import annotations

import signal
from collections.abc import Callable, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from pyproxy.ending import End
from pyproxy.life.condition import Condition, Phase, Serving
from pyproxy.life.notify import Notifier
from pyproxy.life.reloading import Load, Loaded, Reloader
from pyproxy.life.watching import FileWatch
from pyproxy.listeners import GiveUp, Listeners, all_or_nothing
from pyproxy.threads import in_own_thread

STATUS_INTERVAL = 5.0
"""Seconds between two looks at how many streams are open, for systemd's status line."""

_log = Logger("pyproxy")


class LifeService(Service):
    """From start to end: SIGHUP reloads, SIGUSR1 reopens logs, SIGTERM drains, others are told.

    Args:
        loaded: by what the proxy starts; load reads it again.
        give_up: as the services that listen have it.
        environment: where systemd says how it wants to be told.
        watch: reload when a file of the configuration changes.
    """

    def __init__(
        self,
        serving: Serving,
        loaded: Loaded,
        load: Load,
        reactor: Any,
        give_up: GiveUp,
        environment: MutableMapping[str, str],
        watch: bool = False,
    ) -> None:
        self._reactor = reactor
        self._serving = serving
        self._give_up = give_up
        printed = loaded.printed(loaded.config)
        self._condition = Condition(loaded.config, printed, reactor.seconds())
        self._notifier = Notifier.of(environment)
        self._calls: list[LoopingCall] = []
        elsewhere = partial(in_own_thread, reactor)
        self._reloader = Reloader(self._condition, serving, load, elsewhere, reactor, [self])
        self._watch = FileWatch(reactor, self._reloader.reload) if watch else None
        if self._watch is not None:
            # Now, right after they were read: what changes during the start is noticed later.
            self._watch.watch(self._files())
        self._admin: Listeners | None = None
        self._said = ""
        self._rotate: Any = None

    def privilegedStartService(self) -> None:
        """Open the admin site, while the process still may bind low ports; heed SIGHUP."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        # It would end the process until somebody heeds it.
        signal.signal(signal.SIGHUP, self._hang_up)
        # twistd may rotate its own log by that, and goes on to.
        self._rotate = signal.signal(signal.SIGUSR1, self._reopen)
        if self._condition.config.admin is not None:
            all_or_nothing(self._open_admin, self._give_up)

    def _open_admin(self) -> None:
        # Imported where it is asked for.
        from pyproxy.admin.site import AdminSite

        listen = self._condition.config.admin
        assert listen is not None
        self._admin = Listeners(
            self._reactor, AdminSite(self._condition, self._serving, self._reactor)
        )
        self._admin.take([listen])
        _log.info("The admin site is at {where}", where=listen.where)

    def startService(self) -> None:
        """Heed SIGTERM, and say that it serves once it does."""
        super().startService()  # type: ignore[no-untyped-call]
        End(self._reactor, self._say_end, self._drain).on_sigterm()
        self._reactor.callWhenRunning(self._wait_for_serving)

    def _hang_up(self, number: int, frame: object) -> None:
        """Reload in the reactor's next turn, as a signal may come at any moment."""
        self._reactor.callFromThread(self._reloader.reload)

    def _reopen(self, number: int, frame: object) -> None:
        """Open log files anew in the reactor's next turn."""
        self._reactor.callFromThread(self._serving.reopen_logs)
        if callable(self._rotate):
            self._rotate(number, frame)

    def _say_end(self) -> None:
        config = self._condition.config
        _log.info("Received SIGTERM, shutting down.")
        if config.drain_delay:
            _log.info("Connections are accepted for {delay:g} s more", delay=config.drain_delay)
        if config.drain_timeout:
            _log.info(
                "Open requests and WebSockets have {limit:g} s to end by themselves; a second "
                "signal ends them at once",
                limit=config.drain_timeout + config.drain_delay,
            )

    def _wait_for_serving(self) -> None:
        serves = self._serving.serves()
        serves.addCallback(self._serve)
        serves.addErrback(lambda failure: _log.failure("nobody is told that it serves", failure))

    def _serve(self, _: None) -> None:
        if self._condition.phase is not Phase.STARTING:
            return
        self._condition.phase = Phase.SERVING
        if self._watch is not None:
            self._watch.start()
        if self._notifier is not None:
            self._said = self._status()
            self._notifier.ready(self._said)
            self._repeat(self._tell_status, STATUS_INTERVAL)
            if self._notifier.watchdog_seconds is not None:
                self._repeat(self._notifier.alive, self._notifier.watchdog_seconds)
        # Last, as it tells of a reload: ready would end that before it has begun.
        self._reloader.make_up()

    def _repeat(self, call: Callable[[], None], seconds: float) -> None:
        repeated = LoopingCall(call)
        repeated.clock = self._reactor
        done = repeated.start(seconds)
        done.addErrback(lambda failure: _log.failure("systemd is not told any more", failure))
        self._calls.append(repeated)

    def _tell_status(self) -> None:
        status = self._status()
        if self._notifier is not None and status != self._said:
            self._said = status
            self._notifier.status(status)

    def _status(self) -> str:
        """Return how it is, in one line."""
        condition = self._condition
        refused = "; the last reload was refused" if condition.failures else ""
        return (
            f"{condition.phase.value}; open requests and WebSockets: {self._serving.streams()}; "
            f"routes: {len(condition.config.routes)}{refused}"
        )

    def _files(self) -> frozenset[Path]:
        """Return the files of the configuration in use, and of one that was refused since."""
        return self._condition.config.files | self._condition.wanted

    # reloads

    def reloading(self) -> None:
        """Tell systemd that a reload begins."""
        if self._notifier is not None:
            self._notifier.reloading()

    def reloaded(self) -> None:
        """Tell systemd that it is over, and look at the files that are named now."""
        if self._watch is not None:
            self._watch.watch(self._files())
        if self._notifier is not None and self._condition.phase is Phase.SERVING:
            self._said = self._status()
            self._notifier.ready(self._said)

    # the end

    def _drain(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._drain_in_order())

    async def _drain_in_order(self) -> None:
        """Be not ready, then accept no more, then let what is open end."""
        config = self._condition.config
        self._leave(Phase.LEAVING)
        if config.drain_delay:
            await deferLater(self._reactor, config.drain_delay)
        self._leave(Phase.DRAINING)
        if config.drain_timeout:
            await self._serving.drain(config.drain_timeout)

    def _leave(self, phase: Phase) -> None:
        self._condition.phase = phase
        if self._watch is not None:
            self._watch.stop()
        if self._notifier is not None:
            self._notifier.stopping(self._status())

    def stopService(self) -> Deferred[Any]:
        """Be told nothing any more."""
        super().stopService()  # type: ignore[no-untyped-call]
        for call in self._calls:
            if call.running:
                call.stop()
        if self._watch is not None:
            self._watch.stop()
        if self._condition.phase is not Phase.DRAINING:
            self._leave(Phase.DRAINING)
        if self._notifier is not None:
            self._notifier.close()
        closed = [] if self._admin is None else self._admin.stop()
        return closed[0] if closed else succeed(None)
