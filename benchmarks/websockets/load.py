"""The load generator of WebSockets: picows on uvloop, a process of its own, one job a run.

What it is told and tells is the same as in ``benchmarks.load``.  The kinds of jobs are ``echo``
(each WebSocket sends a message, waits for its echo, sends the next) and ``pairs`` (each sends one
when it opens, is silent, and sends another when standard input closes).  Every frame is masked
with a mask of its own, as a browser's is, and the length of every echo is checked.
"""

from __future__ import annotations

import asyncio
import functools
import time

import uvloop
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from benchmarks.load import (
    READY_LIMIT,
    Again,
    Connection,
    Job,
    Load,
    Tally,
    input_ended,
    job_of_command_line,
    run,
)
from benchmarks.payloads import FRAME_LIMIT, content

message = functools.cache(content)


class Socket(WSListener):
    """One WebSocket; counts an error when it closes before the job is over."""

    def __init__(self, job: Job, number: int, tally: Tally, again: Again) -> None:
        self.tally = tally
        self._message = message(job.content_length)
        self._number = number
        self._again = again
        self._transport: WSTransport | None = None
        self._ended = False
        self._received = 0
        self._sent_at = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self.ask()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._transport = None
        if not self._ended:
            self.tally.errors += 1
            self._again(self._number)

    def ask(self) -> None:
        """Send a message."""
        if self._transport is not None:
            self._received = 0
            self._sent_at = time.monotonic_ns()
            self._transport.send(WSMsgType.BINARY, self._message)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        # The type is not asked for: that costs half a microsecond.  A Close is too short to pass.
        self._received += frame.payload_size
        if frame.fin:
            if self._received != len(self._message):
                transport.disconnect(graceful=False)
            elif not self._ended:
                self.tally.messages += 1
                self.tally.delays_ns.append(time.monotonic_ns() - self._sent_at)
                self.answered()

    def answered(self) -> None:
        """Take the echo."""
        raise NotImplementedError

    def end(self) -> None:
        """Close the connection; that is no error."""
        self._ended = True
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def pause_writing(self) -> None:
        """Write on: there is one message at a time in each WebSocket."""

    def resume_writing(self) -> None:
        """Write on."""


class Echoes(Socket):
    """Send the next message as soon as the last came back."""

    _begun = False

    def answered(self) -> None:
        if not self._begun:
            self._begun = True
            self.tally.begun.release()
        self.ask()


class Pair(Socket):
    """Send a message when asked to."""

    def answered(self) -> None:
        self.tally.begun.release()


KINDS: dict[str, type[Socket]] = {"echo": Echoes, "pairs": Pair}


async def connect(job: Job, number: int, tally: Tally, again: Again) -> Connection:
    """Open a WebSocket.

    Raises: OSError when the opening handshake fails.
    """
    socket = KINDS[job.kind](job, number, tally, again)
    try:
        await ws_connect(
            lambda: socket,
            f"ws://127.0.0.1:{job.port}{job.target}",
            max_frame_size=FRAME_LIMIT,
            max_redirects=0,
            websocket_handshake_timeout=READY_LIMIT,
        )
    except WSError as error:
        raise ConnectionError(str(error)) from error
    return socket


async def last_round(load: Load) -> None:
    """Wait for the end of standard input, then let every WebSocket show that it lives."""
    await input_ended()
    before = load.tally.messages
    for socket in load.connections.values():
        assert isinstance(socket, Pair)
        socket.ask()
    try:
        async with asyncio.timeout(READY_LIMIT):
            for _ in load.connections:
                await load.tally.begun.acquire()
    except TimeoutError:
        load.tally.errors += len(load.connections) - (load.tally.messages - before)


async def do(job: Job) -> None:
    """Do a job of WebSockets."""
    load = Load(job, connect)
    echoing = functools.partial(asyncio.sleep, job.seconds)
    await run(load, functools.partial(last_round, load) if job.kind == "pairs" else echoing)


if __name__ == "__main__":
    uvloop.run(do(job_of_command_line()))
