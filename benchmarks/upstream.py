"""An upstream for event streams and uploads: raw asyncio, on uvloop where it is installed.

Targets: ``/small``; ``/upload`` answers with the length of what it received, ``/upload?hash`` with
its SHA-256 too; ``/events?pace=P&phase_us=N`` streams events, where P is an interval in
microseconds, ``flood`` for as fast as the reader takes them, or ``idle`` for one event and silence.
A flood is written in batches that were made before: each event is a chunk of its own, and the
numbers begin again with each batch.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import signal
import time
from typing import cast
from urllib.parse import parse_qs, urlsplit

from benchmarks.payloads import EVENT_LENGTH, FLOOD_EVENTS, SMALL, event
from benchmarks.wire import MessageReader, quickest_loop

EVENTS_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
CHUNK_SIZE_LINE = b"%x\r\n" % EVENT_LENGTH


def chunk(stamp_ns: int, number: int) -> bytes:
    """Return one event as a chunk."""
    return CHUNK_SIZE_LINE + event(stamp_ns, number) + b"\r\n"


FLOOD_BATCH = b"".join(chunk(0, number) for number in range(FLOOD_EVENTS))


class Answers(asyncio.Protocol):
    """One connection from a proxy."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = MessageReader(self, responses=False)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.Handle | None = None
        self._paused = False
        self._path = ""
        self._query: dict[str, list[str]] = {}
        self._length = 0
        self._digest = hashlib.sha256()
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast and no assertion: uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._query.get("pace") == ["flood"]:
            self._timer = self._loop.call_soon(self._flood)

    def head_received(self, start_line: bytes, fields: dict[bytes, bytes]) -> None:
        """Remember what was asked; the answer follows the end of the content."""
        url = urlsplit(start_line.split(b" ")[1].decode("ascii"))
        self._path = url.path
        self._query = parse_qs(url.query, keep_blank_values=True)
        self._length = 0
        self._digest = hashlib.sha256()

    def content_received(self, data: bytes) -> None:
        """Count, and hash when asked to."""
        self._length += len(data)
        if "hash" in self._query:
            self._digest.update(data)

    def message_ended(self) -> None:
        """Answer the request."""
        if self._path == "/events":
            self._begin_events(self._query["pace"][0], int(self._query["phase_us"][0]))
        elif self._path == "/upload":
            answer: dict[str, object] = {"length": self._length}
            if "hash" in self._query:
                answer["sha256"] = self._digest.hexdigest()
            self._reply(b"200 OK", json.dumps(answer).encode())
        elif self._path == "/small":
            self._reply(b"200 OK", SMALL)
        else:
            self._reply(b"404 Not Found", b"no such target\n")

    def _reply(self, status: bytes, content: bytes) -> None:
        if self._transport is not None:
            self._transport.write(
                b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"
                % (status, len(content), content)
            )

    def _begin_events(self, pace: str, phase_us: int) -> None:
        if self._transport is None:
            return
        self._number = 0
        self._transport.write(EVENTS_HEAD)
        if pace == "flood":
            self._timer = self._loop.call_soon(self._flood)
            return
        self._write_event()
        if pace != "idle":
            start = self._loop.time() + phase_us / 1e6
            self._timer = self._loop.call_at(start, self._tick, start, int(pace) / 1e6)

    def _write_event(self) -> None:
        if self._transport is not None:
            self._transport.write(chunk(time.monotonic_ns(), self._number))
            self._number += 1

    def _tick(self, due: float, interval: float) -> None:
        # The next event is due an interval after this one was due, not after it was written:
        # a busy machine makes events late, never fewer.
        self._write_event()
        self._timer = self._loop.call_at(due + interval, self._tick, due + interval, interval)

    def _flood(self) -> None:
        if self._transport is not None and not self._paused:
            self._transport.write(FLOOD_BATCH)
            self._timer = self._loop.call_soon(self._flood)


async def serve(port: int) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    server = await loop.create_server(Answers, "127.0.0.1", port, backlog=1024)
    await ended.wait()
    server.close()


def main() -> None:
    """Run the upstream on the port that the command line names."""
    parser = argparse.ArgumentParser(prog="benchmarks.upstream")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    with asyncio.Runner(loop_factory=quickest_loop()) as runner:
        runner.run(serve(port))


if __name__ == "__main__":
    main()
