"""What a worker tells its parent: records of a log, as octets.

A record is whole or not there at all: its length stands before it, so that a traceback stays
together with all its lines.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import attrs
from twisted.logger import LogLevel

LEVELS = (LogLevel.debug, LogLevel.info, LogLevel.warn, LogLevel.error, LogLevel.critical)
"""The levels by their numbers in a record."""

READY = 255
"""In the place of a level: the worker accepts connections from now on."""

TAKEN = 254
"""The worker serves by the configuration whose generation is the text."""

STREAMS = 253
"""So many requests and WebSockets, the text, are open."""

ANSWER = 252
"""The text answers a question of the parent: JSON of ``questions.answer_of``."""

_NUMBERS = {level: number for number, level in enumerate(LEVELS)}

_head = struct.Struct("!dBHI")


@attrs.frozen
class Record:
    """One event of a worker's log.

    Attributes: as in twisted.logger; level is a number from LEVELS, READY, TAKEN, STREAMS
        or ANSWER.
    """

    time: float
    level: int
    namespace: str = ""
    text: str = ""

    def octets(self) -> bytes:
        """Return the record as it goes through the pipe."""
        namespace = self.namespace.encode("utf-8", "backslashreplace")[:0xFFFF]
        text = self.text.encode("utf-8", "backslashreplace")
        return _head.pack(self.time, self.level, len(namespace), len(text)) + namespace + text


def number_of(level: object) -> int:
    """Return the number of a level of twisted.logger; what is none counts as information."""
    return _NUMBERS.get(level, 1)


@attrs.define
class RecordReader:
    """Makes records of what a pipe brings, in pieces of any size."""

    _kept: bytes = b""

    def feed(self, octets: bytes) -> Iterator[Record]:
        """Yield the records that are whole now."""
        kept = self._kept + octets if self._kept else octets
        at = 0
        while len(kept) - at >= _head.size:
            time, level, name_length, text_length = _head.unpack_from(kept, at)
            begin = at + _head.size
            end = begin + name_length + text_length
            if len(kept) < end:
                break
            namespace = kept[begin : begin + name_length].decode("utf-8", "replace")
            text = kept[begin + name_length : end].decode("utf-8", "replace")
            yield Record(time, level, namespace, text)
            at = end
        self._kept = kept[at:]
