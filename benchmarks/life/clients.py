"""Clients that notice everything: a lost event or frame, a refused connection, a failed request."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from benchmarks.payloads import event_number
from benchmarks.wire import MessageReader

PACE_SECONDS = 0.2
"""Seconds between two events of a stream, and two messages of a WebSocket."""

ANSWER_LIMIT = 40.0
"""Seconds that anything may take; longer than a drain, in which new connections may wait."""


@attrs.define(eq=False)
class Seen:
    """What all clients together have seen.

    Attributes:
        counts: how often what went well.
        failures: how often what went wrong.
        slowest: seconds of the slowest request.
    """

    counts: Counter[str] = attrs.Factory(Counter)
    failures: Counter[str] = attrs.Factory(Counter)
    slowest: float = 0.0


class _Reading(asyncio.Protocol):
    """A connection on which one response is read at a time."""

    def __init__(self) -> None:
        self._reader = MessageReader(self, responses=True)
        self.transport: asyncio.Transport | None = None
        self.lost = False
        self.closes = False
        self.status = b""
        self.waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(ConnectionError(str(exc or "closed")))

    def head_received(self, start_line: bytes, fields: dict[bytes, bytes]) -> None:
        self.status = start_line.split(b" ")[1]
        self.closes = fields.get(b"connection", b"").lower() == b"close"

    def content_received(self, data: bytes) -> None:
        """Drop it."""

    def message_ended(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def ask(self, path: str) -> None:
        assert self.transport is not None
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    async def answer(self) -> None:
        """Wait for the response.  Raises: OSError, TimeoutError."""
        assert self.waiter is not None
        await asyncio.wait_for(self.waiter, ANSWER_LIMIT)
        if self.status != b"200":
            raise ConnectionError(f"status {self.status.decode()}")

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class _Events(_Reading):
    """An event stream whose events have to come in order, none missing."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen
        self.number = 0
        self.another = asyncio.Event()

    def content_received(self, data: bytes) -> None:
        if event_number(data) != self.number:
            self._seen.failures["an event is missing"] += 1
        self.number += 1
        self._seen.counts["events"] += 1
        self.another.set()


P = TypeVar("P", bound=asyncio.Protocol)


async def _connected(port: int, made: Callable[[], P]) -> P:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(ANSWER_LIMIT):
        _, protocol = await loop.create_connection(made, "127.0.0.1", port)
    return protocol


async def stream(port: int, seen: Seen, seconds: float, number: int) -> None:
    """Read an event stream for so many seconds, and one event more: it has to be alive then."""
    events = await _connected(port, lambda: _Events(seen))
    pace = int(PACE_SECONDS * 1e6)
    events.ask(f"/events?pace={pace}&phase_us={number * 7919 % pace}")
    waiter = events.waiter
    assert waiter is not None
    done, _ = await asyncio.wait([waiter], timeout=seconds)
    if done:
        waiter.result()
        raise ConnectionError("the stream ended")
    events.another.clear()
    async with asyncio.timeout(ANSWER_LIMIT):
        await events.another.wait()
    waiter.cancel()
    events.close()
    seen.counts["streams"] += 1


async def request(port: int, seen: Seen) -> None:
    """Ask over a new connection."""
    began = time.monotonic()
    asked = await _connected(port, _Reading)
    asked.ask("/small")
    await asked.answer()
    asked.close()
    seen.counts["requests"] += 1
    seen.slowest = max(seen.slowest, time.monotonic() - began)


class Kept:
    """A client that keeps its connection, until it is told that this one closes."""

    def __init__(self, port: int, seen: Seen) -> None:
        self._port = port
        self._seen = seen
        self._kept: _Reading | None = None

    async def __call__(self) -> None:
        """Ask."""
        began = time.monotonic()
        if self._kept is None or self._kept.lost or self._kept.closes:
            self._kept = await _connected(self._port, _Reading)
        kept = self._kept
        kept.ask("/small")
        try:
            await kept.answer()
        except OSError:
            self._kept = None
            raise
        self._seen.counts["requests over kept connections"] += 1
        self._seen.slowest = max(self._seen.slowest, time.monotonic() - began)


class _Echo(WSListener):
    """A WebSocket that sends numbers and has to get each of them back."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._due = 0
        self.transport: WSTransport | None = None
        self.lost = asyncio.get_running_loop().create_future()
        self.over = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            if int(frame.get_payload_as_bytes()) != self._due:
                self._seen.failures["a frame is missing"] += 1
            self._due += 1
            self._seen.counts["frames"] += 1

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    async def talk(self, seconds: float) -> None:
        """Send numbers for so long.  Raises: ConnectionError when the connection ends."""
        end = time.monotonic() + seconds
        for number in itertools.count():
            if time.monotonic() >= end:
                break
            if self.lost.done():
                raise ConnectionError("the WebSocket ended")
            assert self.transport is not None
            self.transport.send(WSMsgType.TEXT, b"%d" % number)
            await asyncio.sleep(PACE_SECONDS)
        async with asyncio.timeout(ANSWER_LIMIT):
            while self._due < number and not self.lost.done():
                await asyncio.sleep(PACE_SECONDS / 10)
        if self._due != number:
            raise ConnectionError("frames are missing at the end")
        self.over = True
        assert self.transport is not None
        self.transport.send_close()
        self.transport.disconnect()


async def websocket(port: int, seen: Seen, seconds: float) -> None:
    """Echo over a WebSocket for so many seconds."""
    url = f"ws://127.0.0.1:{port}/echo"
    try:
        _, echo = await ws_connect(
            lambda: _Echo(seen), url, max_redirects=0, websocket_handshake_timeout=ANSWER_LIMIT
        )
    except WSError as error:
        raise ConnectionError(str(error)) from error
    assert isinstance(echo, _Echo)
    await echo.talk(seconds)
    seen.counts["WebSockets"] += 1


async def repeat(
    what: str, seen: Seen, ended: asyncio.Event, one: Callable[[], Awaitable[None]], pause: float
) -> None:
    """Do one thing after the other until the end; whatever fails is counted, and done again."""
    while not ended.is_set():
        try:
            await one()
        except (OSError, TimeoutError) as error:
            seen.failures[f"{what}: {type(error).__name__} {error}"] += 1
            await asyncio.sleep(PACE_SECONDS)
        await asyncio.sleep(pause)
