"""The load generator of requests: raw asyncio, on uvloop where it is installed, one job a run.

The job comes as JSON in the only argument.  What happens goes to standard output, a JSON object a
line: ``running`` when the measured time begins, ``ended`` when it is over, then ``result``.  A job
that only holds connections lasts until its standard input closes.
"""

from __future__ import annotations

import asyncio
import functools
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

import attrs

from benchmarks.payloads import EVENT_LENGTH, EVENT_MARK, content, event_stamp_ns, own_answer
from benchmarks.wire import MessageReader, quickest_loop

READY_LIMIT = 120.0
"""Seconds within which every connection must have begun."""

SETTLE = 0.5
"""Seconds of load before the measured time begins."""

ANSWERS_LIMIT = 10.0
"""Seconds that the last answers of a soak may take."""

RECONNECT_DELAY = 0.01
UPLOAD_PIECE = 64 * 1024
UNWRITTEN_LIMIT = 256 * 1024
CONNECT_BATCH = 100


@attrs.frozen
class Job:
    """What to do.

    ``kind`` is ``transfer`` (requests one after the other on each connection), ``streams`` (event
    streams, each event's delay taken), ``flood`` (event streams, counted only) or ``hold`` (event
    streams that say nothing) or ``soak`` (requests, each for an answer of its own).  The kinds of
    WebSockets are those of ``websockets.load``.  ``settle`` is how many seconds of load go before
    the measured time.
    """

    kind: str
    port: int
    connections: int
    target: str
    seconds: float = 3.0
    method: str = "GET"
    fields: dict[str, str] = attrs.Factory(dict)
    content_length: int = 0
    chunked: bool = False
    answer_length: int | None = None
    interval_us: int = 0
    settle: float = SETTLE


@attrs.define
class Tally:
    """What has happened so far."""

    messages: int = 0
    octets: int = 0
    errors: int = 0
    sent: int = 0
    """Requests of a soak; as many ``messages`` have to come back."""

    sending: bool = True
    """Whether a soak goes on."""

    delays_ns: list[int] = attrs.Factory(list)
    begun: asyncio.Semaphore = attrs.Factory(lambda: asyncio.Semaphore(0))
    """Released once by each connection that has begun."""


class Connection(Protocol):
    """One connection of a job, whatever it speaks."""

    def end(self) -> None:
        """Close the connection; that is no error."""


Again = Callable[[int], None]
"""Called with a connection's number when that was lost and another must take its place."""

Connect = Callable[["Job", int, "Tally", Again], Awaitable[Connection]]
"""Opens the connection of a number.  Raises: OSError."""


class Client(asyncio.Protocol):
    """One connection; counts an error when it closes before the job is over."""

    def __init__(self, job: Job, number: int, tally: Tally, again: Again) -> None:
        self.job = job
        self.tally = tally
        self.transport: asyncio.Transport | None = None
        self.ended = False
        self._number = number
        self._again = again
        self._reader = MessageReader(self, responses=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast and no assertion: uvloop's transports do not derive from asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=UNWRITTEN_LIMIT)
        self.send(self._number)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except ValueError:
            self.wrong()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not self.ended:
            self.tally.errors += 1
            self._again(self._number)

    def end(self) -> None:
        """Close the connection; that is no error."""
        self.ended = True
        if self.transport is not None:
            self.transport.abort()

    def wrong(self) -> None:
        """Give the connection up; connection_lost counts the error."""
        if self.transport is not None:
            self.transport.abort()

    def send(self, number: int) -> None:
        """Begin to send; number tells one connection from the next."""
        raise NotImplementedError

    def head_received(self, start_line: bytes, fields: dict[bytes, bytes]) -> None:
        """Accept 200 and nothing else.

        Raises: ValueError, so that nothing of another answer is counted.
        """
        if start_line[9:12] != b"200":
            raise ValueError(start_line)

    def content_received(self, data: bytes) -> None:
        """Take a piece of content."""
        raise NotImplementedError

    def message_ended(self) -> None:
        """Take the end of a response."""
        raise NotImplementedError


def request_head(job: Job, target: str) -> bytes:
    """Return the head of a job's request."""
    lines = [f"{job.method} {target} HTTP/1.1", f"Host: 127.0.0.1:{job.port}"]
    lines += [f"{name}: {value}" for name, value in job.fields.items()]
    if job.chunked:
        lines.append("Transfer-Encoding: chunked")
    elif job.content_length:
        lines.append(f"Content-Length: {job.content_length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Transfers(Client):
    """Send a request, read its answer, send the next."""

    def send(self, number: int) -> None:
        self._pieces = upload_pieces(self.job.content_length, self.job.chunked)
        self._paused = False
        self.tally.begun.release()
        self._next()

    def _next(self) -> None:
        self._answered = 0
        self._unsent = 0
        self._sent_at = time.monotonic_ns()
        assert self.transport is not None
        head = request_head(self.job, self.job.target)
        if len(self._pieces) == 1:
            # One write, as a browser does: a head and a short body in two packets would measure
            # the delayed acknowledgement of whoever reads them.
            self.transport.write(head + self._pieces[0])
            self._unsent = 1
            self.tally.octets += self.job.content_length
        else:
            self.transport.write(head)
            self._write_content()

    def _write_content(self) -> None:
        while self._unsent < len(self._pieces) and not self._paused and self.transport is not None:
            piece = self._pieces[self._unsent]
            self._unsent += 1
            self.transport.write(piece)
            self.tally.octets += len(piece)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._write_content()

    def content_received(self, data: bytes) -> None:
        self._answered += len(data)
        if not self.job.content_length:
            self.tally.octets += len(data)

    def message_ended(self) -> None:
        if self.job.answer_length not in (None, self._answered):
            self.wrong()
        elif self._unsent < len(self._pieces):
            self.wrong()  # An answer before the end of the content: this upstream never does that.
        elif not self.ended:
            self.tally.messages += 1
            self.tally.delays_ns.append(time.monotonic_ns() - self._sent_at)
            self._next()


@functools.cache
def upload_pieces(length: int, chunked: bool) -> list[bytes]:
    """Return a request's content as it is written, chunk by chunk where it is chunked."""
    octets = content(length)
    pieces = [octets[at : at + UPLOAD_PIECE] for at in range(0, len(octets), UPLOAD_PIECE)]
    if chunked:
        return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]
    return pieces


class Streams(Client):
    """Read an event stream and note how old each event is."""

    def send(self, number: int) -> None:
        self._begun = False
        self._rest = b""
        # Streams of one interval begin spread over it, or every event would come at once.
        phase_us = number * self.job.interval_us // self.job.connections
        pace = self.job.interval_us or {"flood": "flood"}.get(self.job.kind, "idle")
        target = f"{self.job.target}?pace={pace}&phase_us={phase_us}"
        assert self.transport is not None
        self.transport.write(request_head(self.job, target))

    def content_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self.begin()
        if self._rest:
            data = self._rest + data
        ready = len(data) - len(data) % EVENT_LENGTH
        for at in range(0, ready, EVENT_LENGTH):
            self.tally.delays_ns.append(now - event_stamp_ns(data[at : at + EVENT_LENGTH]))
        self._rest = data[ready:]
        self.tally.messages += ready // EVENT_LENGTH

    def begin(self) -> None:
        """Count the stream as begun, once."""
        if not self._begun:
            self._begun = True
            self.tally.begun.release()

    def message_ended(self) -> None:
        self.wrong()  # These streams never end by themselves.


class Flood(Streams):
    """Read event streams that come as fast as they are read; past the head, count and no more.

    To parse the chunks here would cost as much for an event as a fast proxy takes.
    """

    _in_content = False

    def data_received(self, data: bytes) -> None:
        if self._in_content:
            self.tally.messages += data.count(EVENT_MARK)
        else:
            super().data_received(data)

    def content_received(self, data: bytes) -> None:
        self._in_content = True
        self.tally.messages += data.count(EVENT_MARK)
        self.begin()


class Soak(Client):
    """Ask for an answer that nobody else gets, compare every octet of it, ask for the next."""

    def send(self, number: int) -> None:
        self._number = number
        self._asked = 0
        self._content = b""
        self.tally.begun.release()
        self._ask()

    def _ask(self) -> None:
        if self.tally.sending and self.transport is not None:
            self._asked += 1
            self._mark = f"{self._number}-{self._asked}"
            self._content = b""
            self.tally.sent += 1
            self.transport.write(request_head(self.job, f"{self.job.target}?mark={self._mark}"))

    def content_received(self, data: bytes) -> None:
        self._content += data

    def message_ended(self) -> None:
        if self._content == own_answer(self._mark):
            self.tally.messages += 1
            self._ask()
        else:
            self.wrong()


KINDS: dict[str, type[Client]] = {
    "transfer": Transfers,
    "streams": Streams,
    "flood": Flood,
    "hold": Streams,
    "soak": Soak,
}


async def connect(job: Job, number: int, tally: Tally, again: Again) -> Connection:
    """Open a connection for requests."""
    client = KINDS[job.kind](job, number, tally, again)
    await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", job.port)
    return client


class Load:
    """The connections of one job."""

    def __init__(self, job: Job, connect: Connect) -> None:
        self.tally = Tally()
        self.connections: dict[int, Connection] = {}
        self.job = job
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._connecting: dict[int, asyncio.Task[None]] = {}
        self._over = False

    async def begin(self) -> None:
        """Open every connection, a few at a time, and wait until each has begun."""
        async with asyncio.timeout(READY_LIMIT):
            for first in range(0, self.job.connections, CONNECT_BATCH):
                batch = range(first, min(first + CONNECT_BATCH, self.job.connections))
                for number in batch:
                    self._connect_after(0.0, number)
                for _ in batch:
                    await self.tally.begun.acquire()

    def _connect_after(self, delay: float, number: int) -> None:
        if not self._over:
            self._connecting[number] = self._loop.create_task(self._open(delay, number))

    async def _open(self, delay: float, number: int) -> None:
        await asyncio.sleep(delay)
        try:
            connection = await self._connect(self.job, number, self.tally, self._again)
            self.connections[number] = connection
        except OSError:
            self.tally.errors += 1
            self._again(number)

    def _again(self, number: int) -> None:
        self._connect_after(RECONNECT_DELAY, number)

    def end(self) -> None:
        """Close every connection."""
        self._over = True
        for connecting in self._connecting.values():
            connecting.cancel()
        for connection in self.connections.values():
            connection.end()


def tell(**message: Any) -> None:
    """Write one line for whoever started this process."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def summary(before: Tally, after: Tally, seconds: float) -> dict[str, float]:
    """Return what happened between two states of the tally; the delays are the later one's."""
    delays = sorted(after.delays_ns)
    return {
        "seconds": seconds,
        "messages": after.messages - before.messages,
        "octets": after.octets - before.octets,
        "errors": after.errors,
        "median_us": statistics.median(delays) / 1e3 if delays else 0.0,
        "p99_us": delays[len(delays) * 99 // 100] / 1e3 if delays else 0.0,
        "p999_us": delays[len(delays) * 999 // 1000] / 1e3 if delays else 0.0,
    }


async def input_ended() -> None:
    """Wait until whoever started this process closes its standard input."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def no_more() -> None:
    """Do nothing before the connections are closed."""


async def answers_in(load: Load) -> None:
    """Let the last requests of a soak be answered, and wait until the clients may leave."""
    load.tally.sending = False
    deadline = time.monotonic() + ANSWERS_LIMIT
    while load.tally.messages < load.tally.sent and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    tell(state="answered", lost=load.tally.sent - load.tally.messages)
    await input_ended()


async def run(
    load: Load,
    measured: Callable[[], Awaitable[None]],
    afterwards: Callable[[], Awaitable[None]] = no_more,
) -> None:
    """Do a job; the measured time is as long as what is called then."""
    try:
        await load.begin()
    except TimeoutError:
        tell(state="failed", reason=f"not every connection had begun after {READY_LIMIT:.0f} s")
        raise SystemExit(1) from None
    await asyncio.sleep(load.job.settle)
    load.tally.delays_ns.clear()
    before = attrs.evolve(load.tally)
    tell(state="running")
    started = time.monotonic()
    await measured()
    seconds = time.monotonic() - started
    after = attrs.evolve(load.tally, delays_ns=load.tally.delays_ns.copy())
    tell(state="ended")
    await afterwards()
    load.end()
    tell(state="result", **summary(before, after, seconds))


def job_of_command_line() -> Job:
    """Return the job that the command line holds."""
    return Job(**json.loads(sys.argv[1]))


async def do(job: Job) -> None:
    """Do a job of requests."""
    lasts = functools.partial(asyncio.sleep, job.seconds)
    load = Load(job, connect)
    if job.kind == "soak":
        await run(load, lasts, functools.partial(answers_in, load))
    else:
        await run(load, input_ended if job.kind == "hold" else lasts)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=quickest_loop()) as runner:
        runner.run(do(job_of_command_line()))
