"""What a route asks to be put into the event streams that pass it."""

from __future__ import annotations

from enum import Enum

import attrs


class Asks(Enum):
    """Whether chat streams are asked for what they took, where the client did not ask itself."""

    NOT = "not at all"
    AT_END = "at the end"
    IN_EVERY_EVENT = "in every event"


@attrs.frozen
class Insertions:
    """What is put into event streams; with none of it there is no such object.

    Attributes:
        ping: seconds of silence after which a comment is sent, None for never.
        early: head and pings are sent before the upstream has answered.
        stall: seconds in which an event has to end, None for no limit; comments are no events.
        error_event: the last event says why a stream broke off.
        asks: whether chat streams are asked for their usage.
    """

    ping: float | None = None
    early: bool = False
    stall: float | None = None
    error_event: bool = False
    asks: Asks = Asks.NOT

    @property
    def in_all(self) -> bool:
        """Whether something may be put into every event stream, asked for more or not."""
        return self.error_event or bool(self.waits)

    @property
    def waits(self) -> tuple[float, ...]:
        """What a sweeper has to keep, in seconds."""
        return tuple(wait for wait in (self.ping, self.stall) if wait is not None)
