"""Anthropic messages: named events, usage at the beginning and, cumulative, at the end.

Sources: anthropic-sdk-python ``types/usage.py``, ``types/message_delta_usage.py``,
``types/output_tokens_details.py``, ``_streaming.py``.
"""

from __future__ import annotations

import re

from pyproxy.semantics.dialects.members import Members, count, kind, members, parse_members
from pyproxy.semantics.dialects.reading import Dialect, Reading

_TELLING = frozenset(
    {b"message_start", b"message_delta", b"message_stop", b"content_block_start", b"error"}
)
_SILENT = frozenset({b"ping", b"content_block_stop"})
_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)

_kind = re.compile(rb'"type": ?"([a-z_]+)"').search
_says = re.compile(rb'"(?:text|thinking|partial_json)": ?"[^"]').search


def knows(name: bytes, value: Members) -> bool:
    """Tell whether it is the first event of a message, or a message."""
    return (
        name == b"message_start"
        or kind(value) == "message_start"
        or (kind(value) == "message" and "usage" in value)
    )


def event(reading: Reading, name: bytes, data: bytes) -> bool:
    """Read an event; one with a piece of the answer is known by its kind."""
    if not name:
        match = _kind(data)
        name = match[1] if match else name
    if name == b"content_block_delta":
        return b'""' not in data or _says(data) is not None
    if name in _SILENT:
        return False
    value = parse_members(data)
    if name not in _TELLING:
        # The kind stands behind that of a part.
        name = b""
    return read(reading, name, value)


def read(reading: Reading, name: bytes, value: Members) -> bool:
    """Read an event, or a whole message, that was taken apart."""
    name = name or kind(value).encode("utf-8", "replace")
    if name == b"content_block_start":
        return _is_said(members(value, "content_block"))
    if name == b"content_block_delta":
        return _is_said(members(value, "delta"))
    if name == b"message_stop":
        reading.finished = True
    elif name == b"error":
        reading.failed = True
    elif name == b"message_delta":
        _read_usage(reading, members(value, "usage"))
    elif name in (b"message_start", b"message"):
        message = value if kind(value) == "message" else members(value, "message")
        reading.name_model(message, "model")
        _read_usage(reading, members(message, "usage"))
        return bool(message.get("content"))
    return False


def _is_said(part: Members) -> bool:
    """Tell whether a block or a piece of one says something; a call does by being one."""
    words = [part.get(name) for name in ("text", "thinking", "partial_json") if name in part]
    return any(words) if words else bool(part)


def _read_usage(reading: Reading, said: Members) -> None:
    """Read a usage; what is from and for a cache is not in its input tokens."""
    counts = reading.counts
    for name in _COUNTS:
        value = count(said, name)
        if value is not None:
            counts[name] = value
    cached = counts.get("cache_read_input_tokens")
    written = counts.get("cache_creation_input_tokens")
    fresh = counts.get("input_tokens")
    reading.usage.take(
        input_tokens=None if fresh is None else fresh + (cached or 0) + (written or 0),
        output_tokens=counts.get("output_tokens"),
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=count(members(said, "output_tokens_details"), "thinking_tokens"),
    )


ANTHROPIC = Dialect("anthropic", True, knows, event, read)
