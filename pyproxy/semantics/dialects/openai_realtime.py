"""OpenAI Realtime: text messages of a WebSocket, many responses in one session.

Responses by WebSocket, which is the same but for the names of the ends, is read too.
Sources: openai-python ``types/realtime/*_event.py``, ``types/realtime/realtime_response_usage.py``.
"""

from __future__ import annotations

import re

from pyproxy.semantics.dialects.members import (
    Members,
    count,
    kind,
    members,
    parse_members,
)
from pyproxy.semantics.dialects.reading import Dialect, Reading

HEAD_BYTES = 256
"""Octets in which a message says what it is; a piece of sound is some ten thousand."""

_ENDS = frozenset({"response.done", "response.completed", "response.incomplete", "response.failed"})
_TELLING = frozenset({"session.created", "session.updated", "response.created", *_ENDS})
_KINDS = ("session.", "response.", "conversation.", "input_audio_buffer.")

_kind = re.compile(rb'"type": ?"([a-z_]+(?:\.[a-z_]+)+)"').search


def knows(name: bytes, value: Members) -> bool:
    """Tell whether it is a message of a session."""
    return kind(value).startswith(_KINDS)


def event(reading: Reading, name: bytes, data: bytes) -> bool:
    """Read a message; a piece of the answer is known by its head."""
    match = _kind(data, 0, HEAD_BYTES)
    if match is None:
        return read(reading, name, parse_members(data))
    said = match[1].decode("ascii")
    if said in _TELLING:
        return read(reading, name, parse_members(data))
    return _is_piece(said)


def read(reading: Reading, name: bytes, value: Members) -> bool:
    """Read a message that was taken apart.

    An ``error`` does not end a session and is mostly the client's; a response that failed is one
    that was not given.
    """
    said = kind(value)
    reading.name_model(members(value, "session"), "model")
    response = members(value, "response")
    reading.name_model(response, "model")
    if said == "response.created":
        reading.finished = False
    elif said in _ENDS:
        reading.finished = True
        reading.failed = reading.failed or response.get("status") == "failed"
        _add_usage(reading, members(response, "usage"))
    return _is_piece(said)


def _is_piece(said: str) -> bool:
    """Tell by its kind whether a message carries a piece of the answer."""
    return said.startswith("response.") and said.endswith(".delta")


def _add_usage(reading: Reading, said: Members) -> None:
    prompt = members(said, "input_token_details") or members(said, "input_tokens_details")
    answer = members(said, "output_token_details") or members(said, "output_tokens_details")
    usage = reading.usage
    for name, value in (
        ("input_tokens", count(said, "input_tokens")),
        ("output_tokens", count(said, "output_tokens")),
        ("cached_tokens", count(prompt, "cached_tokens")),
        ("cache_write_tokens", count(prompt, "cache_write_tokens")),
        ("reasoning_tokens", count(answer, "reasoning_tokens")),
    ):
        if value is not None:
            setattr(usage, name, value + (getattr(usage, name) or 0))


REALTIME = Dialect("openai-realtime", False, knows, event, read)
