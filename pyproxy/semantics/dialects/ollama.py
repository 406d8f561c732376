"""Ollama: lines of JSON, of which the last says ``done`` and what was taken.

Sources: ollama ``docs/api.md``, ollama-python ``_client.py``.
"""

from __future__ import annotations

import re

from pyproxy.semantics.dialects.members import Members, count, members, parse_members
from pyproxy.semantics.dialects.reading import Dialect, Reading

_DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")

_says = re.compile(rb'"(?:content|response|thinking|arguments)": ?(?:"[^"]|\{)').search
_done = re.compile(rb'"done": ?true').search


def knows(name: bytes, value: Members) -> bool:
    """Tell whether it is a line of an answer, or a whole one."""
    return isinstance(value.get("done"), bool) and ("message" in value or "response" in value)


def event(reading: Reading, name: bytes, data: bytes) -> bool:
    """Read a line; one with text that is not the last costs two searches."""
    if _says(data) and not _done(data):
        return True
    return read(reading, name, parse_members(data))


def read(reading: Reading, name: bytes, value: Members) -> bool:
    """Read a line, or a whole answer, that was taken apart."""
    reading.name_model(value, "model")
    if value.get("error"):
        reading.failed = True
    if value.get("done") is True:
        reading.finished = True
        reading.usage.take(
            input_tokens=count(value, "prompt_eval_count"),
            output_tokens=count(value, "eval_count"),
        )
        for duration in _DURATIONS:
            value_ns = count(value, duration)
            if value_ns is not None:
                reading.usage.durations_ns[duration] = value_ns
    message = members(value, "message")
    return bool(value.get("response")) or any(
        member for name, member in message.items() if name != "role"
    )


OLLAMA = Dialect("ollama", True, knows, event, read)
