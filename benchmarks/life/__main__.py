"""Reload and restart the proxy under load, and count what its clients lose.

Prints what it saw, and exits with 1 when anybody lost anything.  The restart plays the part of
systemd: it holds the listening socket, starts the new process with it, waits until that one is
ready, and ends the old one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs

from benchmarks.life.clients import Kept, Seen, repeat, request, stream, websocket
from benchmarks.processes import HAND_OVER, Cpus, Running, running
from benchmarks.wire import quickest_loop

START_LIMIT = 30.0
"""Seconds until a process is ready."""

SETTLE_SECONDS = 3.0
"""Seconds after the last reload, for what is left of it to go."""


@attrs.frozen
class Load:
    """Who is connected.

    Attributes:
        rate: requests a second, half of them over kept connections.
        seconds: how long a stream and a WebSocket last.
    """

    streams: int
    websockets: int
    rate: int
    seconds: float


@attrs.frozen
class Ports:
    """Where everything listens."""

    proxy: int
    upstream: int
    echo: int
    spare: int


def configuration(ports: Ports, listener: str, workers: int, generation: int) -> str:
    """Return a configuration; with each generation something else of it is different."""
    spare = f'[[listeners]]\nendpoint = "tcp:{ports.spare}:interface=127.0.0.1"\n'
    return f"""
workers = {workers}
drain_timeout = 30
client_timeout = {60 + generation % 7}
[[listeners]]
endpoint = "{listener}"
{spare if generation % 2 else ""}
[upstreams.http]
target = "http://127.0.0.1:{ports.upstream}"
[upstreams.echo]
target = "http://127.0.0.1:{ports.echo}/echo"
[upstreams.generation-{generation}]
target = "http://127.0.0.1:{ports.upstream}/{generation}"
[defaults]
access_log = false
idle_timeout = {100 + generation}
[[routes]]
path = "/"
upstream = "http"
[[routes]]
path = "/echo"
upstream = "echo"
[[routes]]
path = "/only-{generation}/"
upstream = "generation-{generation}"
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def upstreams(directory: Path, ports: Ports, cpus: Cpus) -> Iterator[None]:
    """Run the two upstreams."""
    command = [sys.executable, "-m"]
    http = [*command, "benchmarks.upstream", "--port", str(ports.upstream)]
    echo = [*command, "benchmarks.websockets.upstream", "--port", str(ports.echo)]
    where = {"PYTHONPATH": str(Path(__file__).parents[2])}
    (directory / "http").mkdir()
    (directory / "echo").mkdir()
    with (
        running(http, directory / "http", cpu=cpus.load, environment=where) as one,
        running(echo, directory / "echo", cpu=cpus.load, environment=where) as two,
    ):
        for process, port in ((one, ports.upstream), (two, ports.echo)):
            until_answers(process, port)
        yield


def until_answers(process: Running, port: int) -> None:
    """Wait until somebody answers: before its workers run, a parent lets connections wait."""
    end = time.monotonic() + START_LIMIT
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), START_LIMIT) as probe:
                probe.sendall(b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n")
                probe.recv(1)
        except OSError:
            if process.exited() or time.monotonic() > end:
                raise SystemExit(f"it did not start: {process.last_words()}") from None
            time.sleep(0.05)
        else:
            return


async def load(port: int, what: Load, seen: Seen, ended: asyncio.Event) -> None:
    """Be all the clients until the end."""
    async with asyncio.TaskGroup() as group:
        for number in range(what.streams):
            one = partial(stream, port, seen, what.seconds, number)
            group.create_task(repeat("an event stream", seen, ended, one, 0))
        for _ in range(what.websockets):
            two = partial(websocket, port, seen, what.seconds)
            group.create_task(repeat("a WebSocket", seen, ended, two, 0))
        clients = max(2, what.rate // 10)
        for number in range(clients):
            asks = Kept(port, seen) if number % 2 else partial(request, port, seen)
            group.create_task(repeat("a request", seen, ended, asks, clients / what.rate))


async def reloads(
    process: Running, directory: Path, ports: Ports, workers: int, count: int, seconds: float
) -> tuple[int, int]:
    """Reload so often in so many seconds.  Returns: octets of memory after the first and last."""
    listener = f"tcp:{ports.proxy}:interface=127.0.0.1"
    before = 0
    for generation in range(1, count + 1):
        text = configuration(ports, listener, workers, generation)
        (directory / "pyproxy.toml").write_text(text)
        process.popen.send_signal(signal.SIGHUP)
        await asyncio.sleep(seconds / count)
        if generation == 1:
            await asyncio.sleep(SETTLE_SECONDS)
            before = process.resident()
    await asyncio.sleep(SETTLE_SECONDS)
    taken = process.log.read_text().count("Reloaded: ")
    if taken != count:
        raise SystemExit(f"{taken} of {count} reloads were made:\n{process.log.read_text()}")
    return before, process.resident()


async def measure_reloads(
    process: Running, directory: Path, ports: Ports, workers: int, arguments: argparse.Namespace
) -> tuple[Seen, float]:
    """Reload under load.  Returns: what clients saw, and by how much memory grew."""
    seen, ended = Seen(), asyncio.Event()
    what = load_of(arguments, arguments.seconds + 3 * SETTLE_SECONDS)
    clients = asyncio.create_task(load(ports.proxy, what, seen, ended))
    await asyncio.sleep(SETTLE_SECONDS)
    memory = await reloads(process, directory, ports, workers, arguments.reloads, arguments.seconds)
    ended.set()
    await clients
    return seen, memory[1] / memory[0] - 1


@attrs.define(eq=False)
class Sockets:
    """The stand-in for systemd: it has the listening socket, and starts processes with it."""

    directory: Path
    ports: Ports
    workers: int
    cpus: Cpus
    _socket: socket.socket = attrs.field(init=False)
    _started: int = 0

    def __attrs_post_init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", self.ports.proxy), backlog=4096)

    @contextmanager
    def start(self) -> Iterator[Running]:
        """Start a process, and wait until it says that it is ready."""
        self._started += 1
        directory = self.directory / f"proxy-{self._started}"
        directory.mkdir()
        listener = "systemd:domain=INET:index=0"
        file = directory / "pyproxy.toml"
        file.write_text(configuration(self.ports, listener, self.workers, 0))
        descriptor = self._socket.fileno()
        os.set_inheritable(descriptor, True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.bind(str(directory / "notify"))
            notices.settimeout(START_LIMIT)
            with running(
                [sys.executable, "-c", HAND_OVER, str(descriptor), *proxy_command(file)],
                directory,
                cpu=self.cpus.proxy,
                environment={"NOTIFY_SOCKET": str(directory / "notify")},
                pass_fds=(descriptor,),
            ) as process:
                while b"READY=1" not in notices.recv(4096).split(b"\n"):
                    pass
                yield process


def proxy_command(file: Path) -> list[str]:
    """Return the command of a proxy."""
    return [sys.executable, "-m", "pyproxy", "--config", str(file)]


async def measure_restart(sockets: Sockets, arguments: argparse.Namespace) -> Seen:
    """Start one process after the other under load.  Returns: what clients saw."""
    seen, ended = Seen(), asyncio.Event()
    what = load_of(arguments, arguments.seconds / 3)
    old = sockets.start()
    process = old.__enter__()
    clients = asyncio.create_task(load(sockets.ports.proxy, what, seen, ended))
    for _ in range(arguments.restarts):
        await asyncio.sleep(arguments.seconds / 3)
        new = sockets.start()
        next_process = await asyncio.to_thread(new.__enter__)
        process.popen.terminate()
        status = await asyncio.to_thread(process.popen.wait, 60)
        if status != 0:
            seen.failures[f"the old process ended with {status}"] += 1
        old.__exit__(None, None, None)
        old, process = new, next_process
    await asyncio.sleep(SETTLE_SECONDS)
    ended.set()
    await clients
    old.__exit__(None, None, None)
    return seen


def load_of(arguments: argparse.Namespace, seconds: float) -> Load:
    """Return the load that a command line asks for."""
    return Load(arguments.streams, arguments.websockets, arguments.rate, seconds)


@attrs.frozen
class Row:
    """What became of a run.  Attributes: by how much memory has grown, None where it began anew."""

    title: str
    workers: int
    seen: Seen
    grown: float | None = None

    def report(self) -> None:
        """Say what was seen."""
        counts = ", ".join(f"{count} {what}" for what, count in sorted(self.seen.counts.items()))
        more = "" if self.grown is None else f"; memory {self.grown:+.1%}"
        sys.stdout.write(
            f"{self.title}, workers: {self.workers}: {counts}; "
            f"slowest request {self.seen.slowest:.2f} s{more}\n"
        )
        for what, count in self.seen.failures.most_common():
            sys.stdout.write(f"  LOST {count} times: {what}\n")
        sys.stdout.flush()

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        counts = self.seen.counts
        return [
            self.title,
            str(self.workers),
            f"{counts['events']:,}",
            f"{counts['frames']:,}",
            f"{counts['requests'] + counts['requests over kept connections']:,}",
            str(sum(self.seen.failures.values())),
            f"{self.seen.slowest:.2f} s",
            "" if self.grown is None else f"{self.grown:+.1%}",
        ]


HEADS = ("", "workers", "events", "frames", "requests", "lost or refused", "slowest", "memory")


def table(rows: list[Row]) -> str:
    """Return the table for the documentation."""
    lines = [".. Written by ``python -m benchmarks.life``: do not edit.", "", ".. list-table::"]
    lines += ["   :header-rows: 1", ""]
    for cells in (list(HEADS), *(row.cells() for row in rows)):
        lines += [
            f"   {'-' if number else '* -'} {cell}".replace("   -", "     -").rstrip()
            for number, cell in enumerate(cells)
        ]
    return "\n".join(lines) + "\n"


def run(arguments: argparse.Namespace, workers: int) -> list[Row]:
    """Reload and restart with a number of workers."""
    cpus = Cpus.of_this_machine()
    ports = Ports(*(free_port() for _ in range(4)))
    rows = []
    with tempfile.TemporaryDirectory() as name, upstreams(Path(name), ports, cpus):
        directory = Path(name, "proxy")
        directory.mkdir()
        if arguments.reloads:
            listener = f"tcp:{ports.proxy}:interface=127.0.0.1"
            file = directory / "pyproxy.toml"
            file.write_text(configuration(ports, listener, workers, 0))
            with running(proxy_command(file), directory, cpu=cpus.proxy, environment={}) as proxy:
                until_answers(proxy, ports.proxy)
                with asyncio.Runner(loop_factory=quickest_loop()) as runner:
                    reloading = measure_reloads(proxy, directory, ports, workers, arguments)
                    seen, grown = runner.run(reloading)
            what = f"{arguments.reloads} reloads in {arguments.seconds:g} s"
            rows.append(Row(what, workers, seen, grown))
            rows[-1].report()
        if arguments.restarts:
            sockets = Sockets(directory, ports, workers, cpus)
            with asyncio.Runner(loop_factory=quickest_loop()) as runner:
                seen = runner.run(measure_restart(sockets, arguments))
            rows.append(Row(f"{arguments.restarts} restarts", workers, seen))
            rows[-1].report()
    return rows


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="benchmarks.life", description=__doc__)
    for name, value in (
        ("reloads", 50),
        ("restarts", 2),
        ("streams", 500),
        ("websockets", 500),
        ("rate", 200),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--grown", type=float, default=0.05, help="part by which memory may grow")
    parser.add_argument("--rst", type=Path, help="file to write the table to")
    arguments = parser.parse_args()
    rows = [row for workers in arguments.workers for row in run(arguments, workers)]
    if arguments.rst is not None:
        arguments.rst.write_text(table(rows), encoding="utf-8")
    grown = any((row.grown or 0) > arguments.grown for row in rows)
    sys.exit(grown or any(row.seen.failures for row in rows))


if __name__ == "__main__":
    main()
