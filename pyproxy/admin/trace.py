"""The next exchange that somebody wants to follow, told step by step as an event stream."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET, Request

from pyproxy.admin.pages import Branch, answer, problem
from pyproxy.life.board import BoardAsked, TraceLeave, TraceLook
from pyproxy.life.condition import Serving
from pyproxy.life.desk import Document, NobodyAnswers
from pyproxy.observe.tracing import Wanted

INTERVAL = 0.1
"""Seconds between two looks."""

SILENCE = 10.0
"""Seconds after which a reader is told something although there is nothing."""

MOST_READERS = 4
"""Readers at one time."""

MAX_PARAMETERS = 8
"""Parameters of a query; more than there are names."""

NAMES = ("method", "path", "host", "route")

_log = Logger("pyproxy")


@attrs.define(eq=False)
class Reader:
    """Somebody who follows an exchange."""

    _request: Request
    _wanted: Wanted
    _tracing: Tracing
    _name: str = attrs.Factory(lambda: secrets.token_hex(8))
    _told: int = 0
    _waits: bool = False
    _chosen: tuple[int, int] | None = None
    _said_at: float = 0.0
    _next: IDelayedCall | None = None
    _looking: Deferred[Any] | None = None
    _over: bool = False

    def look(self) -> None:
        """Ask all processes."""
        self._next = None
        asked = self._tracing.ask(TraceLook(self._name, self._wanted, self._told, self._chosen))
        looking: Deferred[Any] = asked.addCallbacks(self._known, _unknown)
        looking.addErrback(self._failed)
        self._looking = looking
        looking.addCallback(lambda _: self._again())

    def _known(self, found: Document | None) -> None:
        if found is None:
            self._end("lost", {"why": "Nobody keeps accounts here."})
            return
        answers = {int(number): one for number, one in found["processes"].items()}
        if not self._waits:
            self._waits = True
            self._say("waiting", {})
        process = self._process(answers)
        if process is None:
            return
        if process not in answers:
            if process not in found["silent"]:
                self._end("lost", {"why": f"Worker {process} has ended, and its exchanges."})
            return
        answered = answers[process]
        if answered["lost"]:
            why = f"Worker {process} was not asked for too long, or has been started again."
            self._end("lost", {"why": why})
            return
        self._chosen = process, answered["epoch"]
        for step in answered["steps"]:
            self._say("step", {**step, "process": process})
        self._told += len(answered["steps"])
        if answered["over"]:
            self._end("over", {})

    def _process(self, answers: Mapping[int, Document]) -> int | None:
        """Return whose exchange it is: of those that have one that with the first."""
        if self._chosen is not None:
            return self._chosen[0]
        found = [
            (one["began"], number)
            for number, one in answers.items()
            if one["began"] is not None or one["lost"]
        ]
        return min(found)[1] if found else None

    def _failed(self, failure: Failure) -> None:
        _log.failure("an exchange could not be followed", failure)
        self._end("lost", {"why": "It could not be followed; the log says why."})

    def _again(self) -> None:
        self._looking = None
        if self._over:
            return
        if self._tracing.clock.seconds() - self._said_at >= SILENCE:
            self._said_at = self._tracing.clock.seconds()
            self._request.write(b": waiting\n\n")
        self._next = self._tracing.clock.callLater(INTERVAL, self.look)

    def _say(self, name: str, said: Document) -> None:
        if self._over:
            return
        self._said_at = self._tracing.clock.seconds()
        text = json.dumps(said, separators=(",", ":"))
        self._request.write(f"event: {name}\ndata: {text}\n\n".encode("ascii"))

    def _end(self, name: str, said: Document) -> None:
        if not self._over:
            self._say(name, said)
            self.leave()
            self._request.finish()

    def leave(self) -> None:
        """Follow no more."""
        if self._over:
            return
        self._over = True
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._looking is not None:
            self._looking.cancel()
        self._tracing.leave(self, self._name)

    def end(self) -> None:
        """End the stream, because the site does."""
        self._end("lost", {"why": "The proxy ends."})


def _unknown(failure: Failure) -> None:
    """Go on: the processes may answer the next time."""
    failure.trap(CancelledError, NobodyAnswers)


class Tracing:
    """Those who follow exchanges."""

    def __init__(self, serving: Serving, clock: IReactorTime) -> None:
        self.clock = clock
        self._serving = serving
        self._readers: list[Reader] = []

    def ask(self, asked: BoardAsked) -> Deferred[Document | None]:
        """Ask every process."""
        return self._serving.ask_board(asked)

    @property
    def full(self) -> bool:
        """Whether no more readers are taken."""
        return len(self._readers) >= MOST_READERS

    def read(self, request: Request, wanted: Wanted) -> Reader:
        """Take a reader."""
        reader = Reader(request, wanted, self)
        self._readers.append(reader)
        reader.look()
        return reader

    def leave(self, reader: Reader, name: str) -> None:
        """Let a reader go, and tell the processes; one that does not hear it forgets him itself."""
        if reader in self._readers:
            self._readers.remove(reader)
        told: Deferred[Any] = self.ask(TraceLeave(name))
        told.addErrback(lambda failure: failure.trap(NobodyAnswers))
        told.addErrback(lambda failure: _log.failure("a reader could not leave", failure))

    def close(self) -> None:
        """End the streams of all readers."""
        for reader in list(self._readers):
            reader.end()


class TracePage(Branch):
    """Follows the next exchange that the query asks for."""

    private = True

    def __init__(self, tracing: Tracing) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tracing = tracing

    def render(self, request: Request) -> bytes | int:  # type: ignore[override]
        """Begin to tell; it ends with the exchange, or when the reader leaves."""
        if request.method != b"GET":
            request.setHeader(b"Allow", b"GET")
            return answer(request, problem(405, "This can be read only: use GET."))
        wanted = wanted_of(request.uri.partition(b"?")[2])
        if wanted is None:
            known = ", ".join(NAMES)
            return answer(request, problem(400, f"Say each of {known} once, or not at all."))
        if self._tracing.full:
            return answer(request, problem(503, "Too many exchanges are followed already."))
        request.setHeader(b"Content-Type", b"text/event-stream; charset=utf-8")
        request.setHeader(b"X-Accel-Buffering", b"no")
        left: Deferred[None] = request.notifyFinish()
        reader = self._tracing.read(request, wanted)
        left.addBoth(lambda _: reader.leave())
        return NOT_DONE_YET


def wanted_of(query: bytes) -> Wanted | None:
    """Return which exchange a query asks for; None for a query that is not understood."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError:
        return None
    found = dict(pairs)
    if len(found) < len(pairs) or not set(found) <= set(NAMES):
        return None
    method, path, host = (found.get(name, "").encode("utf-8", "replace") for name in NAMES[:3])
    return Wanted(method.upper(), path, host, found.get("route", ""))
