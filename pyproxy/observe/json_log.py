"""Access logs that are made of accounts: one object of JSON a line, or a format of one's own.

What they say and mask is in ``facts``; where lines go is ``output``'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from string import Formatter
from typing import Any

from pyproxy.account import Account
from pyproxy.observe.facts import NAMES, facts_of
from pyproxy.observe.masking import Mask

COMBINED, JSON = "combined", "json"
"""The access logs with names of their own."""

Write = Callable[[str], object]

_unprintable = re.compile(rb"[^ !#-\[\]-~]")
_to_json = json.JSONEncoder(separators=(",", ":")).encode


class AccountLog:
    """Writes a line for each account that is closed and logged."""

    def __init__(self, line: Callable[[Account], str], write: Write) -> None:
        self.line = line
        self._write = write

    def __call__(self, account: Account) -> None:
        """Write the line of an account."""
        if account.logged:
            self._write(self.line(account))


def account_log(kind: str, mask: Mask, write: Write) -> AccountLog:
    """Return the log of a kind: JSON, or a format string that ``parse_format`` knows."""
    if kind == JSON:
        return AccountLog(lambda account: _to_json(facts_of(account, mask)), write)
    parts = parse_format(kind)

    def line(account: Account) -> str:
        facts = facts_of(account, mask)
        return "".join(
            text if name is None else text + shown(facts.get(name)) for text, name in parts
        )

    return AccountLog(line, write)


def parse_format(text: str) -> list[tuple[str, str | None]]:
    """Parse a format string: literal texts, each with the name of the fact behind it, if any.

    Raises: ValueError.
    """
    if not text.isprintable():
        raise ValueError("it has a control character in it")
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError("braces come in pairs: {name}, or {{ and }} for themselves") from error
    for _, name, more, conversion in parts:
        if name is not None and (more or conversion or name not in NAMES):
            raise ValueError(f"{{{name}}} is no fact that is logged; docs/logging.rst has them")
    if all(name is None for _, name, _, _ in parts):
        raise ValueError(f"it is {COMBINED}, {JSON} or a format with facts such as {{status}}")
    return [(literal, name) for literal, name, _, _ in parts]


def shown(value: Any) -> str:
    """Return a fact as text in which no quote, backslash, space beside spaces or control stands."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6f}"
    octets = str(value).encode("utf-8", "backslashreplace")
    return _unprintable.sub(lambda match: b"\\x%02x" % ord(match[0]), octets).decode("ascii")
