"""The parent: binds the sockets and keeps the workers; it serves nothing itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from pyproxy.config.schema import Config
from pyproxy.life.board import BoardAsked
from pyproxy.life.desk import Asked, Document
from pyproxy.life.measuring import Measuring
from pyproxy.listeners import (
    DemoUpstream,
    GiveUp,
    Listeners,
    Place,
    all_or_nothing,
    announce,
    leave,
    make_pseudonym,
)
from pyproxy.observe.output import Output
from pyproxy.observe.twistd_log import take_lines_everywhere
from pyproxy.workers.handover import Bound, Draining, Handover, Question, Taking
from pyproxy.workers.orders import OrderLine, octets_of
from pyproxy.workers.process import Running, Told, WorkerProtocol, spawn
from pyproxy.workers.questions import Questions
from pyproxy.workers.supervisor import STOP_LIMIT, Supervisor
from pyproxy.workers.tally import make_board, vacate

TAKE_LIMIT = 30.0
"""Seconds in which a worker has to serve by a new configuration; it is killed then."""

_log = Logger("pyproxy")


class Listening(Factory):
    """Stands where a factory is asked for; the parent accepts nothing."""

    noisy = False


@attrs.define(eq=False)
class Line:
    """What the parent knows of a worker that runs.

    Attributes:
        seen: the numbers of the places whose sockets it has.
        generation: of the configuration by which it serves.
        streams: requests and WebSockets that are open in it.
    """

    orders: OrderLine
    seen: frozenset[int]
    generation: int
    streams: int = 0


@attrs.define(eq=False)
class _Change:
    """A configuration that workers have been told to take."""

    generation: int
    done: Deferred[None]
    limit: IDelayedCall | None = None


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
        self._demo = DemoUpstream(reactor)
        self._listeners = Listeners(reactor, Listening(), _hold)
        self._pseudonym = make_pseudonym()
        self._lines: dict[int, Line] = {}
        self._changes: list[_Change] = []
        self._waiting: list[Deferred[None]] = []
        self._questions = Questions(reactor)
        self._generation = 1
        self._output = Output(reactor.seconds)
        self._board = -1
        self._supervisor = Supervisor(reactor, self._spawn, config.workers)

    def privilegedStartService(self) -> None:
        """Listen, while the process still may bind low ports and read keys."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        all_or_nothing(self._listen, self._give_up)

    def _listen(self) -> None:
        config = self._config.with_demo(partial(self._demo.start, self._config.admin))
        try:
            fresh, _ = self._listeners.take(config.listen)
        except BaseException:
            self._demo.stop()
            raise
        self._config = config
        self._announce(fresh)
        self._board = make_board(config.workers)

    def _announce(self, fresh: Sequence[Place]) -> None:
        config = self._config
        announce(fresh, config)
        self._output.take(config.log.place)
        if any(route.access_log for route in config.routes):
            take_lines_everywhere()

    def startService(self) -> None:
        """Start the workers, as the user that the process has become."""
        super().startService()  # type: ignore[no-untyped-call]
        all_or_nothing(self._check_store, self._give_up)
        self._supervisor.start()

    def _check_store(self) -> None:
        """See to it that no worker fails to open what all share."""
        cache = self._config.cache
        if cache.shared:
            from pyproxy.stores import check_store

            check_store(cache)

    # workers

    def _spawn(
        self, number: int, ready: Callable[[], None], ended: Callable[[str], None]
    ) -> Running:
        line = Line(OrderLine(self._reactor), self._numbers, self._generation)

        def end(how: str) -> None:
            if self._board >= 0:
                vacate(self._board, number)
            line.orders.close()
            if self._lines.get(number) is line:
                del self._lines[number]
            self._questions.gone(number)
            self._look_for_taken()
            ended(how)

        def begin() -> None:
            ready()
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                one.callback(None)

        told = Told(
            ready=begin,
            taken=lambda generation: self._taken(line, generation),
            streams=lambda count: setattr(line, "streams", count),
            ended=end,
            answered=lambda text: self._questions.answered(number, text),
            line=self._output,
        )
        protocol = WorkerProtocol(self._reactor, number, told)
        sockets = [place.port.fileno() for place in self._listeners.places]
        self._lines[number] = line
        try:
            running = spawn(self._reactor, protocol, line.orders, self._board, sockets)
        except OSError:
            del self._lines[number]
            line.orders.close()
            raise
        finally:
            line.orders.child_has_it()
        line.orders.write(number.to_bytes(4, "big") + self._handover().octets())
        return running

    def _handover(self) -> Handover:
        """Return what a worker that starts now is told."""
        reactor = type(self._reactor).__module__
        return Handover(self._pseudonym, reactor, len(self._supervisor.states), self._taking())

    def _taking(self) -> Taking:
        return Taking(
            self._generation,
            self._config,
            tuple(
                Bound(place.number, place.listen, place.port.socket.family.name, place.files)
                for place in self._listeners.places
            ),
        )

    @property
    def _numbers(self) -> frozenset[int]:
        return frozenset(place.number for place in self._listeners.places)

    # other configurations

    def serves(self) -> Deferred[None]:
        """Return what fires when the first worker accepts connections."""
        serves: Deferred[None] = Deferred()
        self._waiting.append(serves)
        return serves

    def take(self, config: Config) -> Deferred[None]:
        """Serve new requests by another configuration; what is open goes on by its own.

        Returns: fires when every worker that runs does; fails with CannotListenError when nothing
            has changed.
        """
        return maybeDeferred(self._take, config)

    def _take(self, config: Config) -> Deferred[None]:
        needs_demo = config.needs_demo
        config = config.with_demo(partial(self._demo.start, config.admin))
        fresh, gone = self._listeners.take(config.listen)
        if not needs_demo:
            self._demo.stop()
        self._config = config
        self._generation += 1
        order = octets_of(self._taking())
        for number, line in list(self._lines.items()):
            unseen = [p.port.fileno() for p in self._listeners.places if p.number not in line.seen]
            try:
                line.orders.write(order, unseen)
            except OSError as error:
                # Out of descriptors: the one that starts in its place is told at its start.
                _log.error("Worker {number} cannot be told: {error}", number=number, error=error)
                self._supervisor.kill(number)
            line.seen = self._numbers
        leave(gone)
        self._announce(fresh)
        change = _Change(self._generation, Deferred())
        change.limit = self._reactor.callLater(TAKE_LIMIT, self._too_slow, change)
        self._changes.append(change)
        self._look_for_taken()
        return change.done

    def _taken(self, line: Line, generation: int) -> None:
        line.generation = generation
        self._look_for_taken()

    def _look_for_taken(self) -> None:
        """Tell who waits for a configuration that it is served by every worker."""
        oldest = min((line.generation for line in self._lines.values()), default=self._generation)
        for change in [one for one in self._changes if one.generation <= oldest]:
            self._changes.remove(change)
            if change.limit is not None and change.limit.active():
                change.limit.cancel()
            change.done.callback(None)

    def _too_slow(self, change: _Change) -> None:
        for number, line in list(self._lines.items()):
            if line.generation < change.generation:
                _log.error(
                    "Worker {number} has not taken the configuration after {limit:g} s; it is "
                    "killed",
                    number=number,
                    limit=TAKE_LIMIT,
                )
                self._supervisor.kill(number)
                line.generation = change.generation
        self._look_for_taken()

    def streams(self) -> int:
        """Return how many requests and WebSockets are open."""
        return sum(line.streams for line in self._lines.values())

    def ask_cache(self, asked: Asked) -> Deferred[Document | None]:
        """Ask the cache of every worker."""
        return self._ask(asked)

    def ask_metrics(self, asked: Measuring) -> Deferred[Document | None]:
        """Ask the metrics of every worker."""
        return self._ask(asked)

    def ask_board(self, asked: BoardAsked) -> Deferred[Document | None]:
        """Ask the board of every worker."""
        return self._ask(asked)

    def _ask(self, asked: Question) -> Deferred[Document | None]:
        return self._questions.ask(asked, {n: line.orders for n, line in self._lines.items()})

    def reopen_logs(self) -> None:
        """Open the access log's own file anew."""
        self._output.reopen()

    # the end

    def drain(self, timeout: float) -> Deferred[None]:
        """Let every worker accept no more, and wait for what is open, so many seconds at most."""
        order = octets_of(Draining(timeout))
        for line in self._lines.values():
            line.orders.write(order)
        self._listeners.stop()
        return self._supervisor.let_end(timeout + STOP_LIMIT)

    def stopService(self) -> Deferred[object]:
        """Stop listening, and end the workers."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._questions.close()
        ended = self._supervisor.stop()
        stopped: list[Deferred[Any]] = [ended, *self._listeners.stop(), *self._demo.stop()]
        return gatherResults(stopped, consumeErrors=True).addBoth(self._stopped)

    def _stopped(self, result: object) -> object:
        self._output.close()
        board, self._board = self._board, -1
        if board >= 0:
            os.close(board)
        return result


def _hold(port: Any) -> None:
    """Accept nothing on a port of the parent."""
    port.stopReading()
    # A shutdown would end the socket for those who still accept from it.
    port._shouldShutdown = False
