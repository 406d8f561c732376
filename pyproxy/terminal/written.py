"""How values are written in a terminal: times, octets, and text of any kind in so many cells."""

from __future__ import annotations

import unicodedata

_UNITS = ("B", "KiB", "MiB", "GiB")


def seconds(value: float | None) -> str:
    """Return a time; empty for None."""
    if value is None:
        return ""
    value = max(value, 0.0)
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{value // 60:.0f} m {value % 60 // 1:.0f} s"
    return f"{value // 3600:.0f} h {value % 3600 // 60:.0f} m"


def octets(value: float | None) -> str:
    """Return an amount of octets."""
    amount = float(value or 0)
    unit = _UNITS[0]
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{amount:.1f} {unit}" if amount < 10 and unit != "B" else f"{amount:.0f} {unit}"


def number(value: int | None) -> str:
    """Return a number; empty for None."""
    return "" if value is None else f"{value:,}"


def plain(text: str) -> str:
    """Return text without anything that a terminal would take for an order."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def cells(text: str) -> int:
    """Return how many cells a text takes."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def fitted(text: str, width: int, right: bool = False) -> str:
    """Return text that takes exactly so many cells.  Args: right, it stands on the right."""
    text = plain(text)
    if cells(text) > width:
        taken, used = [], 0
        for one in text:
            used += _cells(one)
            if used > width - 1:
                break
            taken.append(one)
        text = "".join(taken) + ("…" if width else "")
    gap = " " * (width - cells(text))
    return gap + text if right else text + gap


def _cells(one: str) -> int:
    if unicodedata.combining(one) or unicodedata.category(one) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(one) in ("W", "F") else 1
