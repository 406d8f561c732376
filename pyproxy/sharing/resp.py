"""Redis' protocol: commands into octets, octets into replies.  Pure; knows no connection.

Spec: the Redis serialization protocol, version 2, https://redis.io/docs/latest/develop/reference/
protocol-spec/.  Version 3 is never asked for, so its types never come.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

import attrs

from pyproxy.semantics.fields import Octets

MAX_LINE_BYTES = 64 * 1024
"""Octets that a line may have: a status, an error, a number."""

MAX_BULK_BYTES = 8 * 1024 * 1024
"""Octets that one string may have."""

MAX_REPLY_BYTES = 16 * 1024 * 1024
"""Octets that one whole reply may have."""

MAX_ITEMS = 1024 * 1024
"""Items that one whole reply may have, those of inner arrays and these themselves counted."""

MAX_NESTING = 8
"""Arrays that may be within one another."""

_NUMBER = re.compile(rb"[+-]?[0-9]{1,19}")
_LENGTH = re.compile(rb"-1|[0-9]{1,10}")
_CODE = re.compile(r"[A-Z]{1,20}(?= |$)")


class NotRESP(Exception):
    """Octets that are no replies, or replies beyond a bound.  Its text quotes none of them."""


@attrs.frozen
class ErrorReply:
    """What Redis answers to a command that it does not carry out."""

    text: str

    @property
    def code(self) -> str:
        """The kind of error: ``OOM``, ``NOSCRIPT``; empty when there is none."""
        found = _CODE.match(self.text)
        return found[0] if found else ""


Reply: TypeAlias = "bytes | int | ErrorReply | list[Reply] | None"
"""A status or a string are octets, a null is None."""


def command(*words: Octets | int) -> bytes:
    """Return a command as it is sent: its name and its arguments."""
    parts: list[Octets] = [b"*%d\r\n" % len(words)]
    for word in words:
        octets = b"%d" % word if isinstance(word, int) else word
        parts += (b"$%d\r\n" % len(octets), octets, b"\r\n")
    return b"".join(parts)


@attrs.define(eq=False)
class Replies:
    """Makes replies of octets that come in pieces of any size."""

    _octets: bytearray = attrs.Factory(bytearray)
    _at: int = 0
    """What comes next; what was before it is used."""
    _seen: int = 0
    """No end of a line begins before this place."""
    _bulk: int | None = None
    """The length of the string that comes next, when that is known."""
    _open: list[tuple[list[Reply], int]] = attrs.Factory(list)
    """Arrays that are not whole, the innermost last, with what is missing."""
    _size: int = 0
    """Octets of the reply that is not whole."""
    _items: int = 0

    def feed(self, octets: Octets) -> Iterable[Reply]:
        """Take octets and give the replies that are whole, as long as somebody asks for them.

        What is not asked for is given by the next call.
        Raises: NotRESP; nothing that comes later can be understood.
        """
        self._octets += octets
        while True:
            before = self._at
            whole, reply = self._next()
            self._size += self._at - before
            if self._size > MAX_REPLY_BYTES:
                raise NotRESP("a reply is too long")
            if whole:
                whole, reply = self._close(reply)
                if whole:
                    self._size = self._items = 0
                    yield reply
            elif self._at == before:
                del self._octets[: self._at]
                self._seen -= self._at
                self._at = 0
                return

    def _next(self) -> tuple[bool, Reply]:
        """Read a line or a string; tell whether it is an item, and give it."""
        if self._bulk is not None:
            return self._string(self._bulk)
        line = self._line()
        if line is None:
            return False, None
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            length = _length(rest, MAX_BULK_BYTES, "a string is too long")
            if length is None:
                return self._count(), None
            self._bulk = length
            return False, None
        if kind == b"*":
            length = _length(rest, MAX_ITEMS, "an array has too many items")
            return self._array(length)
        if kind == b"+":
            return self._count(), rest
        if kind == b":":
            if not _NUMBER.fullmatch(rest):
                raise NotRESP("a number is none")
            return self._count(), int(rest)
        if kind == b"-":
            return self._count(), ErrorReply(rest.decode("latin-1"))
        raise NotRESP("a reply is of no kind that is known")

    def _line(self) -> bytes | None:
        """Return a line without its end; None when it is not whole yet."""
        end = self._octets.find(b"\r\n", max(self._seen, self._at))
        length = (len(self._octets) if end < 0 else end) - self._at
        if length > MAX_LINE_BYTES + 1:
            raise NotRESP("a line is too long")
        if end < 0:
            # A CR may be there already, its LF not yet.
            self._seen = max(self._at, len(self._octets) - 1)
            return None
        line = bytes(self._octets[self._at : end])
        if b"\n" in line or b"\r" in line:
            raise NotRESP("a line has half an end in it")
        self._at = self._seen = end + 2
        return line

    def _string(self, length: int) -> tuple[bool, Reply]:
        end = self._at + length
        if len(self._octets) < end + 2:
            return False, None
        if self._octets[end : end + 2] != b"\r\n":
            raise NotRESP("a string is longer than its length")
        with memoryview(self._octets) as view:
            string = bytes(view[self._at : end])
        self._at = self._seen = end + 2
        self._bulk = None
        return self._count(), string

    def _array(self, length: int | None) -> tuple[bool, Reply]:
        self._count()
        if length is None:
            return True, None
        if length == 0:
            return True, []
        if len(self._open) >= MAX_NESTING:
            raise NotRESP("arrays are too deep within one another")
        self._open.append(([], length))
        return False, None

    def _count(self) -> bool:
        self._items += 1
        if self._items > MAX_ITEMS:
            raise NotRESP("a reply has too many items")
        return True

    def _close(self, reply: Reply) -> tuple[bool, Reply]:
        """Put an item into its array; tell whether all are whole then, and give the outermost."""
        while self._open:
            items, missing = self._open.pop()
            items.append(reply)
            if missing > 1:
                self._open.append((items, missing - 1))
                return False, None
            reply = items
        return True, reply


def _length(octets: bytes, bound: int, sentence: str) -> int | None:
    """Return a length, None for a null."""
    if not _LENGTH.fullmatch(octets):
        raise NotRESP("a length is none")
    length = int(octets)
    if length > bound:
        raise NotRESP(sentence)
    return None if length < 0 else length
