"""What an answer of a model took: read in the dialect that the answer itself shows.

Owns which dialect it is, and what a stream was in the end.  What the dialects say is in
``dialects``; where events, lines and items end is in ``sse`` and ``items``.
"""

from __future__ import annotations

import re
from enum import Enum

from pyproxy.semantics.dialects.anthropic import ANTHROPIC
from pyproxy.semantics.dialects.gemini import GEMINI
from pyproxy.semantics.dialects.members import NONE, Members, parse, parse_members
from pyproxy.semantics.dialects.ollama import OLLAMA
from pyproxy.semantics.dialects.openai_chat import CHAT
from pyproxy.semantics.dialects.openai_realtime import REALTIME
from pyproxy.semantics.dialects.openai_responses import RESPONSES
from pyproxy.semantics.dialects.reading import Dialect, Reading, Usage

STREAMED = (ANTHROPIC, RESPONSES, CHAT, GEMINI, OLLAMA)
"""The dialects of HTTP answers, the more telling first."""

MESSAGES = (REALTIME,)
"""Those of WebSockets."""

LOOK_EVENTS = 8
"""Events after which a stream that nobody knows is not looked at any more.

A few, because an Anthropic stream may begin with a ping, and Azure's with what a filter said.
"""

LOOK_BYTES = 256 * 1024
"""Octets of those events that are parsed at most; a third of a millisecond for each 100 KiB."""

# Embeddings: to make numbers of them would take most of 50 ms for a MiB.
_numbers = re.compile(rb"\[[-+.,0-9eE\s]{256,}+\]")


class Outcome(Enum):
    """What a stream was in the end; all but the first are quiet failures."""

    ENDED = "ended"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    FAILED = "failed"


class UsageReader:
    """Follows the events of one answer.

    Whatever a peer sends, nothing is raised, and no attribute gets a wrong type.

    Attributes:
        events: data events so far.
        watching: whether more events can still say something; false when nobody knows the dialect.
    """

    __slots__ = ("_dialect", "_dialects", "_looked_bytes", "_reading", "events", "watching")

    def __init__(self, dialects: tuple[Dialect, ...] = STREAMED) -> None:
        self.events = 0
        self.watching = True
        self._dialects = dialects
        self._dialect: Dialect | None = None
        self._reading = Reading()
        self._looked_bytes = 0

    @property
    def dialect(self) -> str | None:
        """The dialect's name; None while it is not known."""
        return self._dialect.name if self._dialect else None

    @property
    def model(self) -> str | None:
        """The model as the upstream names it."""
        return self._reading.model

    @property
    def finished(self) -> bool:
        """Whether the dialect's own end sign was seen; never for one that has none."""
        return self._reading.finished

    @property
    def failed(self) -> bool:
        """Whether an error was reported in the stream."""
        return self._reading.failed

    @property
    def output_events(self) -> int:
        """Events so far that carried a piece of the answer."""
        return self._reading.output_events

    @property
    def usage(self) -> Usage:
        """What was taken, as far as it was said."""
        reading = self._reading
        if reading.held and self._dialect:
            held, reading.held = reading.held, b""
            self._dialect.read(reading, b"", parse_members(held))
        return reading.usage

    @property
    def outcome(self) -> Outcome:
        """What the stream was, now that it has ended.

        A session of a WebSocket may be silent, and has no sign of its end.
        """
        reading, dialect = self._reading, self._dialect
        if reading.failed:
            return Outcome.FAILED
        if self._dialects is MESSAGES:
            return Outcome.ENDED
        if not self.events:
            return Outcome.EMPTY
        if dialect is None:
            return Outcome.ENDED
        if dialect.has_end and not reading.finished:
            return Outcome.TRUNCATED
        return Outcome.ENDED if reading.output_events else Outcome.EMPTY

    def event(self, name: bytes, data: bytes | None) -> bool:
        """Read an event.

        Args: its name, empty for none; its data, None where they were too long to be kept.
        Returns: whether it carries a piece of the answer.
        """
        self.events += 1
        dialect, reading = self._dialect, self._reading
        if dialect is None:
            said = self.watching and self._look(name, data or b"")
        elif data is None:
            # What is too long and has no name that says otherwise is a picture or a sound.
            said = dialect.event(reading, name, b"") or not name
        else:
            said = dialect.event(reading, name, data)
        if said:
            reading.output_events += 1
        return said

    def item(self, data: bytes | None) -> bool:
        """Read what stands for an event and has no name: a line, an item, a text message.

        Returns: whether it carries a piece of the answer.
        """
        return self.event(b"", data)

    def whole(self, octets: bytes) -> None:
        """Read a JSON answer that is no stream, or the array that stands for one.

        Args: all of it; whoever collects it has a bound.
        """
        value = parse(_numbers.sub(b"[0]", octets))
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, dict):
                self.events += 1
                self._reading.output_events += self._recognise(b"", one)
        self.watching = False
        self._reading.finished = self._dialect is not None and self._dialect.has_end

    def _look(self, name: bytes, data: bytes) -> bool:
        """Read an event of a stream whose dialect is not known."""
        if data.startswith(b"[DONE]") and CHAT in self._dialects:
            self._dialect = CHAT
            return CHAT.event(self._reading, name, data)
        self._looked_bytes += len(data)
        affordable = self._looked_bytes <= LOOK_BYTES
        said = self._recognise(name, parse_members(data) if affordable else NONE)
        if self._dialect is None and not (affordable and self.events < LOOK_EVENTS):
            self.watching = False
        return said

    def _recognise(self, name: bytes, value: Members) -> bool:
        """Read an event that was taken apart, in the first dialect that knows it."""
        if self._dialect is None:
            for dialect in self._dialects:
                if dialect.knows(name, value):
                    self._dialect = dialect
                    break
        if self._dialect is not None:
            return self._dialect.read(self._reading, name, value)
        # JSON-RPC has errors too, and they end nothing.
        if self._dialects is STREAMED and "jsonrpc" not in value:
            if name == b"error" or value.get("error"):
                self._reading.failed = True
        return False
