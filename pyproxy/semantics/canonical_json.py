"""JSON in a form that is the same for all texts that mean the same.  Spec: RFC 8785.

Only whether two forms are the same counts here, and they are where those of RFC 8785 are.  What has
no such form is nobody's double: it is rather asked for twice than taken for another.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import NoReturn

CANONICAL_BYTES = 64 * 1024
"""Octets of JSON that are brought into the canonical form, which takes 10 ms at the worst."""

_EXACT = 2**53
"""From here on neighbouring whole numbers are one double.  Spec: RFC 8785 3.1, RFC 8259 6."""

_SURE = 16
"""Characters of a number with a point or an exponent: no more digits than a double always holds."""

_LEAST, _MOST = 1e-290, 1e290
"""Beyond these a double holds fewer digits, or none.  Spec: RFC 8259 6."""


def canonical(content: bytes, ignore: Sequence[str] = ()) -> bytes | None:
    """Return JSON in its canonical form without some members, None for what has no such form.

    That is: no JSON in UTF-8; a name twice in an object; a number that a double does not hold as it
    is written; half of a surrogate pair; more than CANONICAL_BYTES; nesting too deep.
    Args: members to leave out, as JSON Pointers.
    Spec: RFC 8785 3.1; RFC 6901.
    """
    if len(content) > CANONICAL_BYTES:
        return None
    try:
        value = _read(content.decode("utf-8"))
        for pointer in ignore:
            _leave_out(value, [_unescaped(part) for part in pointer.split("/")[1:]])
        return _write(value).encode("utf-8")
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return members


def _whole(text: str) -> int:
    number = int(text)
    if -_EXACT < number < _EXACT:
        return number
    raise ValueError("a double does not hold the number")


def _number(text: str) -> float | int:
    """Return a number with a point or an exponent; whole ones as those without."""
    number = float(text)
    if -_EXACT < number < _EXACT:
        whole = int(number)
        if whole == number and (whole or not text.lower().partition("e")[0].strip("-0.")):
            if len(text) <= _SURE or Decimal(whole) == Decimal(text):
                return whole
    if _LEAST < abs(number) < _MOST:
        if len(text) <= _SURE or Decimal(repr(number)) == Decimal(text):
            return number
    raise ValueError("a double does not hold the number")


def _no_number(_: str) -> NoReturn:
    raise ValueError("not a number of JSON")


_read = json.JSONDecoder(
    object_pairs_hook=_without_twins,
    parse_float=_number,
    parse_int=_whole,
    parse_constant=_no_number,
).decode

_write = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, sort_keys=True, separators=(",", ":")
).encode


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def _leave_out(value: object, path: list[str]) -> None:
    """Take a member out of an object, if it is there.  Spec: RFC 6901 4."""
    *before, last = path
    for name in before:
        if isinstance(value, list) and name.isdecimal() and str(int(name)) == name:
            value = dict(enumerate(value)).get(int(name))
        else:
            value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, dict):
        value.pop(last, None)
