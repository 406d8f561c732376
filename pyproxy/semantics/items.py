"""JSON in a row: where lines of it, and items of an array, begin and end in a stream of octets.

Owns the boundaries; nothing is parsed.  Spec: RFC 8259 2; for lines, what Ollama streams.
"""

from __future__ import annotations

import re

from pyproxy.semantics.fields import Octets

MAX_ITEM_BYTES = 1024 * 1024
"""Octets of a line or an item that are kept."""

Item = bytes | None
"""A line or an item; None for one past MAX_ITEM_BYTES."""

_QUOTE, _OPENING, _CLOSING = b'"', b"[{", b"]}"
_STRING_REST = rb'[^"\\]*+(?:\\.[^"\\]*+)*+("?)'
_string_rests = re.compile(_STRING_REST, re.DOTALL).finditer
_tokens = re.compile(rb'[\[{}\]]|"' + _STRING_REST, re.DOTALL).finditer


class _Kept:
    """The beginning of something of which the end is not here yet, up to the bound."""

    __slots__ = ("_octets", "size")

    def __init__(self) -> None:
        self._octets = bytearray()
        self.size = 0

    def add(self, octets: bytes) -> None:
        """Keep more of it."""
        self.size += len(octets)
        if self.size <= MAX_ITEM_BYTES:
            self._octets += octets
        else:
            self._octets.clear()

    def take(self, rest: bytes) -> Item:
        """Return it with its end, and keep nothing."""
        self.add(rest)
        whole = bytes(self._octets) if self.size <= MAX_ITEM_BYTES else None
        self._octets = bytearray()
        self.size = 0
        return whole


class LineReader:
    """Reads lines, split at any octet; empty ones are none."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = _Kept()

    @property
    def waiting(self) -> int:
        """Octets of a line that has begun and not ended."""
        return self._kept.size

    def feed(self, octets: Octets) -> list[Item]:
        """Take octets; return the lines that have ended with them, without their ends."""
        data = octets if type(octets) is bytes else bytes(octets)
        *whole, rest = data.split(b"\n")
        lines: list[Item] = []
        for line in whole:
            item: Item = line
            if self._kept.size or len(line) > MAX_ITEM_BYTES:
                item = self._kept.take(line)
            if item is None or item.strip():
                lines.append(item)
        self._kept.add(rest)
        return lines

    def close(self) -> list[Item]:
        """Return the last line, if it has no end, now that the stream has ended."""
        return self.feed(b"\n")


class ItemReader:
    """Reads the items of one JSON array, or JSON objects in a row, split at any octet.

    Only objects and arrays are items.  What is no JSON gives anything, but is bounded.
    """

    __slots__ = ("_base", "_depth", "_escaped", "_in_string", "_kept")

    def __init__(self) -> None:
        self._kept = _Kept()
        self._depth = 0
        # How deep an item begins: 1 in an array, 0 outside of any.
        self._base = 0
        self._in_string = False
        self._escaped = False

    @property
    def waiting(self) -> int:
        """Octets of an item that has begun and not ended."""
        return self._kept.size

    def feed(self, octets: Octets) -> list[Item]:
        """Take octets; return the items that have ended with them."""
        data = octets if type(octets) is bytes else bytes(octets)
        items: list[Item] = []
        # Where in the octets the item at hand begins or goes on; -1 between items.
        start = 0 if self._depth > self._base else -1
        for token in _tokens(data, self._string_end(data)):
            octet = token[0][:1]
            if octet == _QUOTE:
                self._note_string(token, data)
            elif octet in _OPENING:
                if self._depth == 0:
                    self._base = int(octet == b"[")
                if self._depth == self._base:
                    start = token.start()
                self._depth += 1
            elif self._depth:
                self._depth -= 1
                if self._depth == self._base and start >= 0:
                    items.append(self._kept.take(data[start : token.end()]))
                    start = -1
        if start >= 0:
            self._kept.add(data[start:])
        return items

    def _string_end(self, data: bytes) -> int:
        """Return where the string ends that was begun before; 0 if there is none."""
        if not self._in_string or not data:
            return 0
        match = next(_string_rests(data, int(self._escaped)))
        self._note_string(match, data)
        return match.end() if not self._in_string else len(data)

    def _note_string(self, match: re.Match[bytes], data: bytes) -> None:
        """Keep in mind whether a string goes on behind the octets."""
        self._in_string = not match[1]
        self._escaped = self._in_string and match.end() < len(data)
