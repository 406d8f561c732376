"""``/metrics``: what all processes have counted, for Prometheus.

It is written in pieces, a turn of the reactor each, so that no stream waits for it.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from typing import cast

import attrs
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

import twisted
from pyproxy import __version__
from pyproxy.admin.channel import AdminChannel
from pyproxy.admin.pages import READ, Branch, answer, problem
from pyproxy.life.condition import Condition, Serving
from pyproxy.life.gathering import Gatherer
from pyproxy.observe import families
from pyproxy.observe.exposition import OPEN_METRICS, TEXT, Samples, pieces, wants_open_metrics
from pyproxy.observe.rows import Key, Numbers
from pyproxy.observe.totals import Totals

OCTETS_A_TURN = 64 * 1024
"""Octets that are written in one turn of the reactor, or a piece more: half a millisecond."""

WRITE_LIMIT = 60.0
"""Seconds in which the reader has to take all of it."""

_OFF = problem(404, "Nothing is measured: the configuration does not say metrics = true.")

_log = Logger("pyproxy")


class MetricsPage(Branch):
    """The page."""

    guarded = True

    def __init__(self, condition: Condition, serving: Serving, clock: IReactorTime) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._condition = condition
        self._clock = clock
        self._totals = Totals()
        self._gatherer = Gatherer(self._totals, serving)

    def render(self, request: Request) -> bytes | int:  # type: ignore[override]
        """Answer as soon as all have said what they have, or say how to ask."""
        if request.method not in READ:
            request.setHeader(b"Allow", b", ".join(READ))
            return answer(request, problem(405, "This can be read only: use GET or HEAD."))
        if not self._condition.config.metrics:
            return answer(request, _OFF)
        accept = b",".join(request.requestHeaders.getRawHeaders(b"Accept", []))
        open_metrics = wants_open_metrics(accept.decode("latin-1"))
        request.setHeader(b"Content-Type", OPEN_METRICS if open_metrics else TEXT)
        request.setHeader(b"Vary", b"Accept")
        if request.method == b"HEAD":
            return b""
        writing = Writing(request, self._clock)
        request.notifyFinish().addBoth(lambda _: writing.stopProducing())
        gathered = self._gatherer.gather()
        gathered.addCallback(lambda _: writing.start(self._text(open_metrics)))
        gathered.addErrback(self._broken, request, writing)
        return NOT_DONE_YET

    def _broken(self, failure: Failure, request: Request, writing: Writing) -> None:
        _log.failure("the metrics could not be gathered", failure)
        if not writing.over:
            problem_500 = problem(500, "The metrics could not be gathered; the log says why.")
            request.write(answer(request, problem_500))
            request.finish()

    def _text(self, open_metrics: bool) -> Iterator[str]:
        rows: Mapping[Key, Numbers] = {}
        for part in self._totals.sum():
            rows = part
            yield ""
        singles = self._singles({key[0] for key in rows})
        yield from pieces(rows, (families.LAG, self._totals.lag), singles, open_metrics)

    def _singles(self, routes: set[str]) -> list[Samples]:
        condition, totals = self._condition, self._totals
        opened = sorted(totals.open(routes).items())
        ok = float(not condition.failures)
        silent = condition.config.workers - totals.living
        built = (__version__, platform.python_version(), twisted.__version__)
        return [
            Samples(families.ACTIVE, [((route,), counts[0]) for route, counts in opened]),
            Samples(families.WEBSOCKETS, [((route,), counts[1]) for route, counts in opened]),
            *(
                Samples(family, [((), totals.gauge(family.name))])
                for family in (families.CLIENT_CONNECTIONS, families.IDLE_CONNECTIONS)
            ),
            Samples(families.WORKERS, [((), totals.living)]),
            Samples(families.SILENT, [((), silent)]),
            Samples(families.GENERATION, [((), condition.generation)]),
            Samples(families.TAKEN_AT, [((), condition.taken_at)]),
            Samples(families.RELOAD_FAILURES, [((), condition.refusals)]),
            Samples(families.RELOAD_OK, [((), ok)]),
            Samples(families.BUILD, [(built, 1)]),
        ]


@implementer(IPushProducer)
@attrs.define(eq=False)
class Writing:
    """Writes a text to who asked, as fast as that one takes it.

    Attributes: over, whether nothing is written any more.
    """

    _request: Request
    _clock: IReactorTime
    over: bool = False
    _text: Iterator[str] = iter(())
    _paused: bool = False
    _turn: IDelayedCall | None = None
    _limit: IDelayedCall | None = None

    def start(self, text: Iterator[str]) -> None:
        """Write a text, unless who asked has left."""
        if self.over:
            return
        self._text = text
        self._limit = self._clock.callLater(WRITE_LIMIT, self._too_slow)
        self._request.registerProducer(self, True)
        self._write()

    def _write(self) -> None:
        self._turn = None
        written: list[str] = []
        size = 0
        for piece in self._text:
            written.append(piece)
            size += len(piece)
            if not piece or size >= OCTETS_A_TURN:
                break
        else:
            self._request.write("".join(written).encode("utf-8"))
            self._request.unregisterProducer()
            self._request.finish()
            return
        if size:
            self._request.write("".join(written).encode("utf-8"))
        if not (self._paused or self.over):
            self._turn = self._clock.callLater(0, self._write)

    def _too_slow(self) -> None:
        self._limit = None
        # An end in order would wait for what is not read.
        cast(AdminChannel, self._request.channel).transport.abortConnection()

    def pauseProducing(self) -> None:
        """Wait: the connection is full."""
        self._paused = True
        self._cancel_turn()

    def resumeProducing(self) -> None:
        """Go on."""
        self._paused = False
        if self._turn is None and not self.over:
            self._turn = self._clock.callLater(0, self._write)

    def stopProducing(self) -> None:
        """End: all is written, or nobody reads any more."""
        self.over = True
        self._cancel_turn()
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _cancel_turn(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
