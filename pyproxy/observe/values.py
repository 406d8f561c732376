"""Attributes as OTLP has them in JSON, each within bounds that a collector takes.

One value that cannot be read would cost the whole batch.
Spec: OTLP, JSON Protobuf Encoding: 64-bit integers are strings; common.proto, AnyValue.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

Value = str | int | float | bool | None

MAX_TEXT = 1024
"""Characters of a text; what is more is cut off."""

_INT64 = 2**63


def attributes(values: Mapping[str, Value]) -> list[dict[str, Any]]:
    """Return attributes; what is None, empty, no number or too large for one is left out."""
    found = []
    for name, value in values.items():
        typed: dict[str, Any] | None = None
        if isinstance(value, str):
            typed = {"stringValue": text(value)} if value else None
        elif isinstance(value, bool):
            typed = {"boolValue": value}
        elif isinstance(value, int):
            typed = {"intValue": str(value)} if -_INT64 <= value < _INT64 else None
        elif isinstance(value, float):
            typed = {"doubleValue": value} if isfinite(value) else None
        if typed is not None:
            found.append({"key": name, "value": typed})
    return found


def text(value: str) -> str:
    """Return a text that is within its bound, and has no half of a surrogate pair."""
    value = value[:MAX_TEXT]
    if value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8")
