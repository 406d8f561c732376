"""JSON of a peer, looked into without trust: what is not as it should be is not there.

Nothing here raises, and nothing returns a value of another type than it says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

Members = Mapping[str, object]
"""The members of a JSON object."""

NONE: Members = {}

MAX_COUNT = 2**53
"""A number from here on is no count of anything; it is not exact in JSON.  Spec: RFC 8259 6."""

MAX_NAME_CHARS = 200
"""Characters of a model's name that are kept."""


def parse(octets: bytes) -> object:
    """Parse a JSON text; None for what is none.

    Too deep, and a number of too many digits, are errors of Python's reader, not of JSON.
    """
    try:
        value: object = json.loads(octets.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return value


def parse_members(octets: bytes) -> Members:
    """Parse a JSON text; without members if it is no object."""
    value = parse(octets)
    return value if isinstance(value, dict) else NONE


def members(parent: Members, *names: str) -> Members:
    """Return the object at the end of a path of names; without members if there is none."""
    for name in names:
        value = parent.get(name)
        if not isinstance(value, dict):
            return NONE
        parent = value
    return parent


def items(parent: Members, name: str) -> list[object]:
    """Return a list by name; empty if there is none."""
    value = parent.get(name)
    return value if isinstance(value, list) else []


def first(parent: Members, name: str) -> Members:
    """Return the first object of a list by name; without members if there is none."""
    values = items(parent, name)
    return values[0] if values and isinstance(values[0], dict) else NONE


def count(parent: Members, name: str) -> int | None:
    """Return a count by name: a whole number, not negative, below MAX_COUNT; else None."""
    value = amount(parent, name)
    return int(value) if value is not None and value == int(value) else None


def amount(parent: Members, name: str) -> float | None:
    """Return a number by name, not negative and below MAX_COUNT; else None."""
    value = parent.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Comparing refuses NaN too; a huge integer cannot become a float.
    return value if 0 <= value < MAX_COUNT and math.isfinite(value) else None


def kind(parent: Members) -> str:
    """Return the ``type`` that an object says it is; empty for none."""
    value = parent.get("type")
    return value if isinstance(value, str) else ""


def text(parent: Members, name: str) -> str | None:
    """Return a text by name, at most MAX_NAME_CHARS of it; None for none or an empty one.

    Half a surrogate pair, which JSON can spell and UTF-8 cannot, becomes a question mark.
    """
    value = parent.get(name)
    if not isinstance(value, str) or not value:
        return None
    return value[:MAX_NAME_CHARS].encode("utf-8", "replace").decode("utf-8")
