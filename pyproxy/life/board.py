"""What people ask of the board of every process: a look, and to end exchanges.

Must not know what a row is, nor who asks.  What is answered can be written as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import attrs

from pyproxy.life.desk import Document

if TYPE_CHECKING:
    from pyproxy.observe.tracing import Tracers, Wanted

LOOK_LIMIT = 1.0
"""Seconds in which a process has to tell; the others are shown without it then."""

STOP_LIMIT = 5.0
"""Seconds in which exchanges have to be ended."""


@attrs.frozen
class BoardLook:
    """Ask what has changed.

    Attributes: seen, the epoch and the version that each process has told last, by its number.
    """

    seen: Mapping[int, tuple[int, int]]
    limit: float = LOOK_LIMIT


@attrs.frozen
class BoardStop:
    """End one exchange.

    Attributes: the number of its process, that process's epoch, and the exchange's number there.
    """

    process: int
    epoch: int
    number: int
    limit: float = STOP_LIMIT


@attrs.frozen
class BoardStopAll:
    """End all exchanges of a route."""

    route: str
    limit: float = STOP_LIMIT


@attrs.frozen
class TraceLook:
    """Follow an exchange, or wait for one.

    Attributes:
        name: who follows.
        wanted: which exchange he wants.
        told: how many of its steps he was told.
        chosen: its process, and that process's epoch; None before there is one.
    """

    name: str
    wanted: Wanted
    told: int = 0
    chosen: tuple[int, int] | None = None
    limit: float = LOOK_LIMIT


@attrs.frozen
class TraceLeave:
    """Follow no more.  Attributes: name, who followed."""

    name: str
    limit: float = LOOK_LIMIT


BoardAsked = BoardLook | BoardStop | BoardStopAll | TraceLook | TraceLeave


class BoardDesk(Protocol):
    """Who answers for the board of one process; ``observe.board.Board`` is one.

    Attributes: tracers, who follow exchanges, None where nobody can.
    """

    tracers: Tracers | None

    def look(self, seen: tuple[int, int] | None) -> Document:
        """Return what has changed since an epoch and a version."""

    def stop(self, epoch: int, number: int) -> int:
        """End an exchange.  Returns: 1 or 0."""

    def stop_all(self, route: str) -> int:
        """End all exchanges of a route.  Returns: how many."""


def ask_board(desk: BoardDesk | None, process: int, asked: BoardAsked) -> Document | None:
    """Ask the board of one process.

    Args: the number by which the process is known.
    Returns: what it tells, or how many were ``stopped``; None where there is no board.
    """
    if desk is None:
        return None
    if isinstance(asked, TraceLook | TraceLeave):
        return None if desk.tracers is None else _trace(desk.tracers, process, asked)
    if isinstance(asked, BoardLook):
        return desk.look(asked.seen.get(process))
    if isinstance(asked, BoardStopAll):
        return {"stopped": desk.stop_all(asked.route)}
    mine = asked.process == process
    return {"stopped": desk.stop(asked.epoch, asked.number) if mine else 0}


def _trace(tracers: Tracers, process: int, asked: TraceLook | TraceLeave) -> Document:
    if isinstance(asked, TraceLook) and (asked.chosen is None or asked.chosen[0] == process):
        epoch = None if asked.chosen is None else asked.chosen[1]
        return tracers.look(asked.name, asked.wanted, asked.told, epoch)
    # His exchange is another process's.
    tracers.leave(asked.name)
    return {}


def together(asked: BoardAsked, answers: Mapping[int, Document]) -> Document:
    """Return what several processes answer, by their numbers, as one answer.

    Returns: what was looked at, by the processes' numbers in ``processes``; else their sum.
    """
    if isinstance(asked, BoardLook | TraceLook | TraceLeave):
        return {"processes": dict(answers)}
    return {"stopped": sum(answer["stopped"] for answer in answers.values())}
