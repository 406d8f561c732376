"""Attributes as OTLP has them in JSON, each within bounds that a collector takes.

One value that cannot be read would cost the whole batch.  They are written at once: to make dicts
of them first took twice as long.
Spec: OTLP, JSON Protobuf Encoding: 64-bit integers are strings; common.proto, AnyValue.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite

Value = str | int | float | bool | None

MAX_TEXT = 1024
"""Characters of a text; what is more is cut off."""

_INT64 = 2**63

_to_json = json.JSONEncoder().encode


def attributes(values: Mapping[str, Value]) -> str:
    """Return attributes; what is None, empty, no number or too large for one is left out.

    Args: values by names that need no quoting.
    """
    found = []
    for name, value in values.items():
        if value is None or value == "":
            continue
        if isinstance(value, str):
            typed = f'"stringValue":{quoted(value)}'
        elif isinstance(value, bool):
            typed = f'"boolValue":{"true" if value else "false"}'
        elif isinstance(value, int):
            if not -_INT64 <= value < _INT64:
                continue
            typed = f'"intValue":"{value:d}"'
        elif isfinite(value):
            typed = f'"doubleValue":{value!r}'
        else:
            continue
        found.append(f'{{"key":"{name}","value":{{{typed}}}}}')
    return f"[{','.join(found)}]"


def quoted(value: str) -> str:
    """Write a text that is within its bound, and has no half of a surrogate pair."""
    value = value[:MAX_TEXT]
    if not value.isascii():
        value = value.encode("utf-8", "backslashreplace").decode("utf-8")
    return _to_json(value)
