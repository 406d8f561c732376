"""One process that listens and serves, as twistd starts and stops it."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, succeed

from pyproxy.config.schema import Config
from pyproxy.life.board import BoardAsked, together
from pyproxy.life.desk import Asked, Document, ask
from pyproxy.life.measuring import Measuring
from pyproxy.listeners import (
    DemoUpstream,
    GiveUp,
    Listeners,
    accept_waiting,
    all_or_nothing,
    announce,
    leave,
    make_pseudonym,
)
from pyproxy.observe.output import Output
from pyproxy.proxy import Proxy
from pyproxy.threads import in_own_thread


class ProxyService(Service):
    """The proxy in one process.

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
        self._demo = DemoUpstream(reactor)
        self._proxy: Proxy | None = None
        self._listeners: Listeners | None = None
        self._draining = False
        self._output = Output(reactor.seconds)

    def privilegedStartService(self) -> None:
        """Listen, while the process still may bind low ports."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        all_or_nothing(self._listen, self._give_up)

    def _listen(self) -> None:
        config = self._config.with_demo(partial(self._demo.start, self._config.admin))
        proxy = Proxy(config, self._reactor, make_pseudonym(), to_file=self._output)
        self._output.take(config.log.place)
        listeners = Listeners(self._reactor, proxy.site)
        try:
            fresh, _ = listeners.take(config.listen)
        except BaseException:
            self._demo.stop()
            raise
        self._proxy, self._listeners = proxy, listeners
        announce(fresh, config)
        proxy.start()

    def startService(self) -> None:
        """Open what is kept on disk or elsewhere, as the user that the process has become."""
        super().startService()  # type: ignore[no-untyped-call]
        if self._proxy is not None:
            all_or_nothing(self._proxy.open, self._give_up)

    def serves(self) -> Deferred[None]:
        """Return what fires when connections are accepted: at once, when the reactor runs."""
        return succeed(None)

    def take(self, config: Config) -> Deferred[None]:
        """Serve new requests by another configuration; what is open goes on by its own.

        Returns: fires then; fails with CannotListenError when nothing has changed.
        """
        return Deferred.fromCoroutine(self._take(config))

    async def _take(self, config: Config) -> None:
        proxy, listeners = self._proxy, self._listeners
        assert proxy is not None
        assert listeners is not None
        needs_demo = config.needs_demo
        config = config.with_demo(partial(self._demo.start, config.admin))
        # A thousand routes take 30 ms: streams go on meanwhile.
        prepared = await in_own_thread(self._reactor, proxy.prepare, config)
        if self._draining:
            return
        fresh, gone = listeners.take(config.listen)
        proxy.take(prepared)
        self._output.take(config.log.place)
        if not config.injects:
            accept_waiting(gone)
        proxy.leave(gone, listeners.places)
        await gatherResults(leave(gone))
        if not needs_demo:
            self._demo.stop()
        announce(fresh, config)

    def drain(self, timeout: float) -> Deferred[None]:
        """Accept no more, and wait for what is open, so many seconds at most."""
        self._draining = True
        if self._proxy is None or self._listeners is None:
            return succeed(None)
        accept_waiting(self._listeners.places)
        self._listeners.stop()
        return self._proxy.drain(timeout)

    def streams(self) -> int:
        """Return how many requests and WebSockets are open."""
        return 0 if self._proxy is None else self._proxy.site.streams

    def ask_cache(self, asked: Asked) -> Deferred[Document | None]:
        """Ask the cache."""
        return ask(None if self._proxy is None else self._proxy.cache, asked)

    def ask_metrics(self, asked: Measuring) -> Deferred[Document | None]:
        """Ask the metrics, as of a worker of number 0."""
        if self._proxy is None:
            return succeed(None)
        answered = self._proxy.answer(asked)
        return answered.addCallback(lambda page: None if page is None else {"workers": {0: page}})

    def ask_board(self, asked: BoardAsked) -> Deferred[Document | None]:
        """Ask the board, as of a process of number 1."""
        found = None if self._proxy is None else self._proxy.ask_board(1, asked)
        return succeed(None if found is None else {**together(asked, {1: found}), "silent": []})

    def reopen_logs(self) -> None:
        """Open the access log's own file anew."""
        self._output.reopen()

    def stopService(self) -> Deferred[list[object]]:
        """Stop listening and end every connection."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._draining = True
        stopped = self._demo.stop()
        if self._listeners is not None:
            stopped += self._listeners.stop()
        if self._proxy is not None:
            stopped.append(self._proxy.stop())
        return gatherResults(stopped, consumeErrors=True).addBoth(self._stopped)

    def _stopped(self, result: list[object]) -> list[object]:
        self._output.close()
        return result
