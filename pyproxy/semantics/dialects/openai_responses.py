"""OpenAI Responses: events that are named by what they are, and the answer whole in the last.

Sources: openai-python ``types/responses/*_event.py``, ``types/responses/response_usage.py``.
"""

from __future__ import annotations

import re

from pyproxy.semantics.dialects.members import (
    Members,
    amount,
    count,
    items,
    kind,
    members,
    parse_members,
)
from pyproxy.semantics.dialects.reading import Dialect, Reading

_ENDS = (b"response.completed", b"response.incomplete", b"response.failed")
_TELLING = frozenset({b"response.created", b"error", *_ENDS})
_PICTURE_PIECE = b"response.image_generation_call.partial_image"

_kind = re.compile(rb'"type": ?"(response\.[^"]*|error)"').search
_says_nothing = re.compile(rb'"delta": ?""').search


def knows(name: bytes, value: Members) -> bool:
    """Tell whether it is an event of a response, or a response."""
    return (
        name.startswith(b"response.")
        or kind(value).startswith("response.")
        or value.get("object") == "response"
    )


def event(reading: Reading, name: bytes, data: bytes) -> bool:
    """Read an event; one with a piece of the answer is known by its kind."""
    if not name.startswith(b"response."):
        match = _kind(data)
        name = match[1] if match else name
    if name.endswith(b".delta"):
        return b'""' not in data or _says_nothing(data) is None
    if name in _TELLING:
        return read(reading, name, parse_members(data))
    return name == _PICTURE_PIECE


def read(reading: Reading, name: bytes, value: Members) -> bool:
    """Read an event, or a whole response, that was taken apart."""
    if not name.startswith(b"response.") and kind(value):
        name = kind(value).encode("utf-8", "replace")
    if name == b"error":
        reading.failed = True
        return False
    if name.endswith(b".delta") or name == _PICTURE_PIECE:
        return bool(value.get("delta") or name == _PICTURE_PIECE)
    response = value if value.get("object") == "response" else members(value, "response")
    reading.name_model(response, "model")
    said = _is_said(response)
    if name in _ENDS:
        reading.finished = True
        reading.failed = reading.failed or name == b"response.failed"
        # Where no piece came before: a call of a tool of the upstream's own, a picture.
        said = said and not reading.output_events
    if response.get("error") or response.get("status") == "failed":
        reading.failed = True
    usage = members(response, "usage")
    reading.usage.take(
        input_tokens=count(usage, "input_tokens"),
        output_tokens=count(usage, "output_tokens"),
        cached_tokens=count(members(usage, "input_tokens_details"), "cached_tokens"),
        cache_write_tokens=count(members(usage, "input_tokens_details"), "cache_write_tokens"),
        reasoning_tokens=count(members(usage, "output_tokens_details"), "reasoning_tokens"),
        cost=amount(usage, "cost"),
    )
    return said


def _is_said(response: Members) -> bool:
    """Tell whether a response holds more than empty messages and thoughts without words."""
    return any(
        item.get("content") if kind(item) in ("message", "reasoning") else True
        for item in items(response, "output")
        if isinstance(item, dict)
    )


RESPONSES = Dialect("openai-responses", True, knows, event, read)
