"""Gemini: answers in pieces, each with what was taken so far; no sign of an end.

The pieces are events with ``alt=sse``, the items of one JSON array without.
Sources: python-genai ``types.py`` (``GenerateContentResponseUsageMetadata``), ``_api_client.py``.
"""

from __future__ import annotations

import re

from pyproxy.semantics.dialects.members import (
    Members,
    count,
    first,
    items,
    members,
    parse_members,
)
from pyproxy.semantics.dialects.reading import Dialect, Reading

_says = re.compile(
    rb'"text": ?"[^"]'
    rb'|"(?:functionCall|inlineData|fileData|executableCode|codeExecutionResult)": ?\{'
).search


def knows(name: bytes, value: Members) -> bool:
    """Tell whether it is a piece of an answer."""
    return (
        isinstance(value.get("candidates"), list)
        or "usageMetadata" in value
        or "promptFeedback" in value
    )


def event(reading: Reading, name: bytes, data: bytes) -> bool:
    """Read a piece of an answer; what it took is only looked into when it is asked for."""
    if not _says(data):
        return read(reading, name, parse_members(data))
    if b'"usageMetadata"' in data:
        if reading.held and b'"args"' in data:
            # What the model wrote stands here as JSON and may only look like a usage.
            read(reading, b"", parse_members(reading.held))
        reading.held = data
    return True


def read(reading: Reading, name: bytes, value: Members) -> bool:
    """Read a piece of an answer, or a whole one, that was taken apart."""
    reading.name_model(value, "modelVersion")
    if name == b"error" or value.get("error"):
        reading.failed = True
    usage = members(value, "usageMetadata")
    if usage:
        reading.held = b""
        answer = count(usage, "candidatesTokenCount")
        thoughts = count(usage, "thoughtsTokenCount")
        reading.usage.take(
            input_tokens=count(usage, "promptTokenCount"),
            output_tokens=thoughts if answer is None else answer + (thoughts or 0),
            cached_tokens=count(usage, "cachedContentTokenCount"),
            reasoning_tokens=thoughts,
        )
    content = members(first(value, "candidates"), "content")
    return any(
        member
        for part in items(content, "parts")
        if isinstance(part, dict)
        for name, member in part.items()
        if name != "thoughtSignature"
    )


GEMINI = Dialect("gemini", False, knows, event, read)
