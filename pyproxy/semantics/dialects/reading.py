"""What a stream has said of itself so far, and what a dialect is."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from pyproxy.semantics.dialects.members import Members, text


@attrs.define
class Usage:
    """What an answer took, in tokens; None for what was not said.

    Attributes:
        input_tokens: all of the prompt, those from and for a cache too.
        output_tokens: all of the answer, those of its reasoning too.
        cached_tokens: of the input, those that were read from a cache.
        cache_write_tokens: of the input, those that were written to a cache.
        reasoning_tokens: of the output, those of its reasoning.
        cost: as the upstream reckons it, in its own currency.
        durations_ns: how long which part took, in nanoseconds; Ollama says so.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: float | None = None
    durations_ns: dict[str, int] = attrs.Factory(dict)

    def take(self, **said: float | None) -> None:
        """Take what was said now, by the names of the attributes; what was not stays as it is."""
        for name, value in said.items():
            if value is not None:
                setattr(self, name, value)


@attrs.define(eq=False)
class Reading:
    """What a stream has said so far.

    Attributes:
        usage: without what ``held`` says.
        counts: what the dialect keeps to reckon with, by the names that it has itself.
        held: the last event with a usage that stands for all before, not looked into yet: where
            each event has one, only the last is worth it.
        output_events: events that carried a piece of the answer.
        finished: the dialect's own end sign was seen.
        failed: an error was reported.
    """

    model: str | None = None
    usage: Usage = attrs.Factory(Usage)
    counts: dict[str, int] = attrs.Factory(dict)
    held: bytes = b""
    output_events: int = 0
    finished: bool = False
    failed: bool = False

    def name_model(self, parent: Members, name: str) -> None:
        """Take the model's name if it is not known yet."""
        if self.model is None:
            self.model = text(parent, name)


@attrs.frozen
class Dialect:
    """How one kind of upstream speaks.

    Attributes:
        has_end: whether it has an end sign of its own.
        knows: tells by name and members of an event, or of a whole answer, whether it is its own.
        event: reads an event by name and octets, and tells whether it carries a piece of the
            answer; most are not taken apart for it.
        read: the same for one that was taken apart.
    """

    name: str
    has_end: bool
    knows: Callable[[bytes, Members], bool]
    event: Callable[[Reading, bytes, bytes], bool]
    read: Callable[[Reading, bytes, Members], bool]
