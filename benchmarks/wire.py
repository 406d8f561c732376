"""Just enough HTTP/1.1 for the load generator and the upstream, with no cost that shows.

It trusts its peers: it is no model for a parser that faces a network.
"""

from __future__ import annotations

import importlib
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Protocol

HEAD_LIMIT = 64 * 1024


def quickest_loop() -> Callable[[], AbstractEventLoop] | None:
    """Return what makes uvloop's event loop, or None where it is not installed."""
    try:
        made: Callable[[], AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
    except ModuleNotFoundError:
        return None
    return made


class Receiver(Protocol):
    """What a MessageReader tells about the messages it reads."""

    def head_received(self, start_line: bytes, fields: dict[bytes, bytes]) -> None:
        """Take a head; names are lower case."""

    def content_received(self, data: bytes) -> None:
        """Take a piece of content, transfer coding removed."""

    def message_ended(self) -> None:
        """Learn that the message is complete."""


class MessageReader:
    """Split one direction of a connection into messages."""

    def __init__(self, receiver: Receiver, *, responses: bool) -> None:
        """Args: responses, whether a message without framing lasts until the close."""
        self._receiver = receiver
        self._responses = responses
        self._left = 0
        self._rest = b""
        self._step = self._head

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises: ValueError when what arrived is no HTTP/1.1.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        while data:
            data = self._step(data)

    def _keep(self, data: bytes) -> bytes:
        if len(data) > HEAD_LIMIT:
            raise ValueError("a head or line that does not end")
        self._rest = data
        return b""

    def _head(self, data: bytes) -> bytes:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return self._keep(data)
        start_line, *lines = data[:end].split(b"\r\n")
        fields: dict[bytes, bytes] = {}
        for line in lines:
            name, _, value = line.partition(b":")
            fields[name.strip().lower()] = value.strip()
        if self._responses and start_line[9:10] == b"1":
            return data[end + 4 :]
        self._receiver.head_received(start_line, fields)
        self._frame(fields)
        return data[end + 4 :]

    def _frame(self, fields: dict[bytes, bytes]) -> None:
        if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
            self._step = self._chunk_size
        elif b"content-length" in fields or not self._responses:
            self._left = int(fields.get(b"content-length", b"0"))
            self._step = self._sized
            if not self._left:
                self._end()
        else:
            self._step = self._unsized

    def _end(self) -> None:
        self._step = self._head
        self._receiver.message_ended()

    def _sized(self, data: bytes) -> bytes:
        data = self._take(data)
        if not self._left:
            self._end()
        return data

    def _take(self, data: bytes) -> bytes:
        if len(data) <= self._left:
            self._left -= len(data)
            self._receiver.content_received(data)
            return b""
        piece, data = data[: self._left], data[self._left :]
        self._left = 0
        self._receiver.content_received(piece)
        return data

    def _unsized(self, data: bytes) -> bytes:
        self._receiver.content_received(data)
        return b""

    def _chunk_size(self, data: bytes) -> bytes:
        end = data.find(b"\r\n")
        if end < 0:
            return self._keep(data)
        self._left = int(data[:end].partition(b";")[0], 16)
        self._step = self._chunk if self._left else self._trailers
        return data[end + 2 :]

    def _chunk(self, data: bytes) -> bytes:
        data = self._take(data)
        if not self._left:
            self._step = self._chunk_end
        return data

    def _chunk_end(self, data: bytes) -> bytes:
        if len(data) < 2:
            return self._keep(data)
        if data[:2] != b"\r\n":
            raise ValueError("a chunk that does not end in CRLF")
        self._step = self._chunk_size
        return data[2:]

    def _trailers(self, data: bytes) -> bytes:
        end = data.find(b"\r\n")
        if end < 0:
            return self._keep(data)
        if end == 0:
            self._end()
        return data[end + 2 :]
