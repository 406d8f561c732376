"""Ways in which a streamed answer goes wrong when it is asked to.

Owns their names, what of the answer is sent before each, and how its response ends then.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from twisted.web.server import Request

from pyproxy.demo.places import Refusal, error_object
from pyproxy.demo.streams import End, TimedPiece, event, finish, hang_up, leave_open

_ROLE_EVENTS = 1
"""Events that come before that of the first word."""


class Fault(enum.Enum):
    """What goes wrong."""

    BREAK = "break"
    """The connection is closed in the midst of an event."""

    TRUNCATE = "truncate"
    """The response ends as a whole one does; half of the words, and ``[DONE]``, are missing."""

    EMPTY = "empty"
    """The response has a head, and ends with no event at all."""

    ERROR = "error"
    """After half of the words comes an error object, then the response ends."""

    STALL = "stall"
    """After half of the words comes nothing more, until the client leaves."""


_ENDS: dict[Fault, End] = {Fault.BREAK: hang_up, Fault.STALL: leave_open}

_OVERLOADED = Refusal(503, "The demo has failed, as asked for.", code="overloaded")


def fault_asked(request: Request, question: dict[str, Any]) -> Fault | None:
    """Return the fault that the query or the question names, None without one.

    Raises: Refusal if there is no such fault.
    """
    asked: list[bytes] = (request.args or {}).get(b"fault", [])
    name = asked[0].decode("latin-1") if asked else question.get("fault")
    if name is None:
        return None
    names = [fault.value for fault in Fault]
    if name not in names:
        text = f"fault must be one of {', '.join(names)}, not {name!r}."
        raise Refusal(400, text, param="fault")
    return Fault(name)


def spoilt(fault: Fault, pieces: Iterator[TimedPiece], words: int) -> Iterator[TimedPiece]:
    """Yield what is sent of an answer.

    Args: its events, that of the role before those of the words; how many words there are.
    """
    if fault is Fault.EMPTY:
        return
    yield from islice(pieces, _ROLE_EVENTS + max(1, words // 2))
    if fault is Fault.BREAK:
        octets, wait_after = next(pieces)
        yield octets[: len(octets) // 2], wait_after
    elif fault is Fault.ERROR:
        yield event(json.dumps(error_object(_OVERLOADED), separators=(",", ":"))), 0.0


def end_of(fault: Fault | None) -> End:
    """Return what becomes of the response after its last piece."""
    return finish if fault is None else _ENDS.get(fault, finish)
