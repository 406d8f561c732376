"""One worker: adopts the sockets, serves as one process does, and ends when it is told.

It is told by an order, or by the end of the socket that the parent holds.  Signals are for the
parent: one to the whole group must not end streams that it lets end by themselves.
"""

from __future__ import annotations

import os
import signal
from importlib import import_module
from typing import Any, cast

from twisted.internet.defer import Deferred, DeferredLock, gatherResults, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from pyproxy.adopting import AdoptingReactor
from pyproxy.collector import importing
from pyproxy.ending import End
from pyproxy.life.board import BoardLook, BoardStop, BoardStopAll, TraceLeave, TraceLook
from pyproxy.life.desk import Document
from pyproxy.listeners import Place, accept_waiting, endpoint_of, leave, open_now
from pyproxy.observe.twistd_log import publish_to_file
from pyproxy.threads import in_own_thread
from pyproxy.workers.handover import (
    FIRST_SOCKET,
    LOG,
    TALLY,
    Asking,
    Bound,
    Draining,
    Handover,
    Order,
    Question,
    Taking,
)
from pyproxy.workers.logpipe import LogPipe
from pyproxy.workers.orders import OrderReader
from pyproxy.workers.questions import answer_of, failure_of
from pyproxy.workers.records import ANSWER, STREAMS, TAKEN
from pyproxy.workers.tally import Tally, take_turns

ORDERS = 0
"""The descriptor of the socket on which the parent gives orders, and which ends with it."""

COUNTING = 1.0
"""Seconds after which the parent is told how many streams are open, if that has changed."""

LAST_STREAMS = 25.0
"""Seconds for the streams of a worker that could not do what it was told.

The parent waits for 30 until it kills it.
"""

_log = Logger("pyproxy")


def serve(handover: Handover, number: int) -> None:
    """Serve until told to end.  Args: what the parent handed over; this worker's number."""
    cast(Any, import_module(handover.reactor)).install()
    from twisted.internet import reactor as installed

    reactor: Any = installed
    reactor.callWhenRunning(_heed_no_signal)
    log = LogPipe(reactor, LOG)
    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
    tally = Tally(TALLY, handover.workers, number)
    try:
        end = End(reactor)
        worker = Worker(handover, reactor, tally, log, end)
        reactor.addReader(OrderReader(_own(ORDERS), worker.obey, end))
        reactor.callWhenRunning(worker.start)
        reactor.addSystemEventTrigger("before", "shutdown", worker.stop)
        reactor.run()
    finally:
        log.finish()


def _heed_no_signal() -> None:
    """Leave it to the parent what a signal means; the reactor has its own handlers until now."""
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _own(descriptor: int) -> int:
    """Return a copy of a descriptor below three, and let nothing be found in its place."""
    copy = os.dup(descriptor)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
    return copy


class Worker:
    """Serves what its parent says."""

    def __init__(
        self, handover: Handover, reactor: Any, tally: Tally, log: LogPipe, end: End
    ) -> None:
        # Imported here: it may import the reactor, which had to be installed first.
        with importing():
            from pyproxy.proxy import Proxy

        self._reactor = reactor
        self._tally = tally
        self._pipe = log
        self._end = end
        self._places: dict[int, Place] = {}
        self._told = 0
        self._ends = False
        self._in_turn = DeferredLock()
        first = handover.first
        self._proxy = Proxy(first.config, reactor, handover.pseudonym, tally.count, publish_to_file)
        self._counting = LoopingCall(self._count)
        self._seen = frozenset(bound.number for bound in first.places)
        for descriptor, bound in enumerate(first.places, FIRST_SOCKET):
            self._adopt(bound, descriptor)

    def start(self) -> None:
        """Say that connections are accepted."""
        self._proxy.open()
        self._proxy.start()
        self._tally.come()
        self._pipe.ready()
        self._counting.clock = self._reactor
        counted = self._counting.start(COUNTING)
        counted.addErrback(lambda failure: _log.failure("streams are counted no more", failure))

    def _count(self) -> None:
        streams = self._proxy.site.streams
        if streams != self._told:
            self._told = streams
            self._pipe.tell(STREAMS, str(streams))

    def _adopt(self, bound: Bound, descriptor: int) -> None:
        """Accept connections of a socket from now on."""
        reactor = AdoptingReactor(self._reactor, bound.family, descriptor)
        with bound.adopting() as listen:
            port = open_now(endpoint_of(reactor, listen), self._proxy.site)
        take_turns(port, self._reactor, self._tally)
        self._places[bound.number] = Place(bound.number, bound.listen, port, bound.files)

    def obey(self, order: Order, descriptors: list[int]) -> None:
        """Do what the parent says.  Args: sockets, of which an order takes the first."""
        if isinstance(order, Asking):
            # Out of turn: a configuration that is being taken changes nothing of what is stored.
            self._answer(order)
            return
        sockets: dict[int, int] = {}
        if isinstance(order, Taking):
            numbers = [bound.number for bound in order.places]
            sockets = {one: descriptors.pop(0) for one in numbers if one not in self._seen}
            self._seen = frozenset(numbers)
        obeyed = self._in_turn.run(self._obey, order, sockets)
        obeyed.addErrback(self._disobeyed)

    def _disobeyed(self, failure: Failure) -> None:
        """Drain: who serves otherwise than the others must not go on; another takes its place.

        The parent waits for what was ordered, and kills this one then.
        """
        _log.failure("an order of the parent could not be obeyed", failure)
        self._drain(Draining(LAST_STREAMS))

    def _answer(self, asking: Asking) -> None:
        """Answer a question."""

        def known(found: Document | None) -> str:
            return answer_of(asking.number, found)

        def failed(failure: Failure) -> str:
            _log.failure("a question has no answer", failure)
            return failure_of(asking.number)

        answered = self._asked(asking.asked)
        answered.addTimeout(asking.asked.limit, self._reactor)
        told = answered.addCallback(known).addErrback(failed)
        told.addCallback(lambda text: self._pipe.tell(ANSWER, text))

    def _asked(self, asked: Question) -> Deferred[Document | None]:
        if isinstance(asked, BoardLook | BoardStop | BoardStopAll | TraceLook | TraceLeave):
            return maybeDeferred(self._proxy.ask_board, self._tally.number, asked)
        return self._proxy.answer(asked)

    def _obey(self, order: Taking | Draining, sockets: dict[int, int]) -> Deferred[None] | None:
        if isinstance(order, Taking):
            return Deferred.fromCoroutine(self._take(order, sockets))
        self._drain(order)
        return None

    async def _take(self, taking: Taking, sockets: dict[int, int]) -> None:
        """Serve by another configuration, at other places.  Args: new sockets by their numbers."""
        # A thousand routes take 30 ms: streams go on meanwhile.
        prepared = await in_own_thread(self._reactor, self._proxy.prepare, taking.config)
        if self._ends:
            for descriptor in sockets.values():
                os.close(descriptor)
            return
        for bound in taking.places:
            if bound.number in sockets:
                self._adopt(bound, sockets[bound.number])
        self._proxy.take(prepared)
        here = {bound.number for bound in taking.places}
        gone = [place for number, place in self._places.items() if number not in here]
        self._places = {number: self._places[number] for number in here}
        if not taking.config.injects:
            accept_waiting(gone)
        self._proxy.leave(gone, self._places.values())
        await gatherResults(leave(gone))
        self._pipe.tell(TAKEN, str(taking.generation))

    def _drain(self, draining: Draining) -> None:
        """Accept no more, let what is open end, and end then."""
        self._tally.leave()
        accept_waiting(self._places.values())
        leave(self._places.values())
        self._places.clear()
        drained = self._proxy.drain(draining.timeout)
        drained.addErrback(lambda failure: _log.failure("the drain failed", failure))
        drained.addBoth(lambda _: self._end())

    def stop(self) -> Any:
        """End, in order."""
        self._ends = True
        self._tally.leave()
        if self._counting.running:
            self._counting.stop()
        leave(self._places.values())
        self._places.clear()
        return self._proxy.stop()
