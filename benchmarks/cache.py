"""What a hit costs, beside a request that is forwarded and beside nginx's ``proxy_cache``.

Run with ``python -m benchmarks.cache``; about two minutes.  It prints a table of reStructuredText.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from benchmarks import nginx
from benchmarks.generators import LoadError, Sample, drive, drive_requests
from benchmarks.load import Job
from benchmarks.measures import at_rest
from benchmarks.payloads import MIB
from benchmarks.processes import Cpus, Running, StartError, running
from benchmarks.report import number
from benchmarks.stage import ENVIRONMENT, await_answer, free_port

CONTENTS = {"small": 100, "mib": MIB, "download": 10 * MIB}
"""Lengths of what is asked for."""

SMALL_CLIENTS = 64
LARGE_CLIENTS = 8
CROWD = 1000

_FILE = """
[[listeners]]
endpoint = "tcp:{port}:interface=127.0.0.1"
[upstreams.origin]
target = "http://127.0.0.1:{origin}"
[cache]
entry = "16m"
{store}
[[routes]]
path = "/"
upstream = "origin"
access_log = false
cache = {cache}
"""

Write = Callable[[Path, int, int], list[str]]
"""Writes the configuration of a system into a directory; returns its command.

Args: the ports of the upstream and of the system.
"""


def pyproxy(cache: bool, disk: bool = False) -> Write:
    """Return what starts the proxy."""

    def write(directory: Path, origin: int, port: int) -> list[str]:
        store = f'disk = "{directory}/kept"' if disk else 'memory = "256m"'
        (directory / "kept").mkdir(mode=0o700)
        said = str(cache).lower()
        path = directory / "pyproxy.toml"
        path.write_text(_FILE.format(port=port, origin=origin, store=store, cache=said))
        twistd = "from twisted.scripts.twistd import run; run()"
        command = (sys.executable, "-c", twistd, "-n", "--pidfile=", "pyproxy")
        return [*command, "--config", str(path)]

    return write


def of_nginx(cache: bool) -> Write:
    """Return what starts nginx, forwarding or caching."""

    def write(directory: Path, origin: int, port: int) -> list[str]:
        (nginx.write_cache if cache else nginx.write_proxy)(directory, origin, port)
        return nginx.command(nginx.find() or "nginx", directory)

    return write


SYSTEMS: dict[str, Write] = {
    "pyproxy, forwarded": pyproxy(cache=False),
    "pyproxy, from memory": pyproxy(cache=True),
    "pyproxy, from disk": pyproxy(cache=True, disk=True),
    "nginx, forwarded": of_nginx(cache=False),
    "nginx, proxy_cache": of_nginx(cache=True),
}

COLUMNS = (
    "100 bytes: us of CPU",
    "requests/s",
    "10 MiB: us of CPU a MiB",
    "MiB/s",
    "1,000 clients, 1 MiB: us of CPU a MiB",
    "MiB/s",
    "MiB more",
)
"""What is measured; the last is what the process has grown by for the thousand."""


@attrs.frozen
class Stage:
    """An upstream that runs.  Attributes: port, where it listens."""

    cpus: Cpus
    directory: Path
    port: int

    @contextmanager
    def started(self, write: Write) -> Iterator[tuple[int, Running]]:
        """Run a system in front of the upstream; yield its port and its process."""
        port = free_port()
        with tempfile.TemporaryDirectory(dir=self.directory) as name:
            directory = Path(name)
            command = write(directory, self.port, port)
            with running(
                command, directory, cpu=self.cpus.proxy, environment=ENVIRONMENT
            ) as process:
                await_answer(port, process)
                yield port, process


@contextmanager
def upstream(cpus: Cpus) -> Iterator[Stage]:
    """Run the upstream.  Raises: StartError."""
    executable = nginx.find()
    if executable is None:
        raise StartError("the upstream is nginx; install it first")
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
        top, port = Path(name), free_port()
        directory = top / "upstream"
        directory.mkdir()
        nginx.write_keepable(directory, port, CONTENTS)
        command = nginx.command(executable, directory)
        with running(command, directory, cpu=cpus.load, environment=ENVIRONMENT) as process:
            await_answer(port, process)
            yield Stage(cpus, top, port)


def measured(stage: Stage, write: Write, seconds: float) -> list[float]:
    """Return the figures of one system, in the order of COLUMNS.  Raises: StartError, LoadError."""

    def job(name: str, clients: int) -> Job:
        return Job("transfer", port, clients, f"/{name}", seconds, answer_length=CONTENTS[name])

    def checked(sample: Sample) -> Sample:
        if sample.errors or not sample.messages:
            raise LoadError(f"{sample.errors} errors, {sample.messages} answers")
        return sample

    with stage.started(write) as (port, process):
        small = checked(drive_requests(job("small", SMALL_CLIENTS), process, stage.directory))
        large = checked(drive(job("download", LARGE_CLIENTS), process))
        before = at_rest(process)
        crowd = checked(drive(attrs.evolve(job("mib", CROWD), seconds=2 * seconds), process))
        grown = process.resident() - before
    figures = [small.cpu_us / small.messages, small.messages / small.seconds]
    for sample in (large, crowd):
        moved = sample.octets / MIB
        figures += [sample.cpu_us / moved, moved / sample.seconds]
    return [*figures, grown / MIB]


def table(found: dict[str, list[float]]) -> str:
    """Return a list-table."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for cells in (["", *COLUMNS], *([name, *map(number, row)] for name, row in found.items())):
        lines += [f"   {'  -' if at else '* -'} {cell}".rstrip() for at, cell in enumerate(cells)]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    options = parser.parse_args(arguments)
    cpus = Cpus.of_this_machine()
    os.sched_setaffinity(0, {cpus.load})
    found = {}
    try:
        with upstream(cpus) as stage:
            for name in options.systems:
                found[name] = measured(stage, SYSTEMS[name], options.seconds)
    except (StartError, LoadError) as error:
        sys.stderr.write(f"not measured: {error}\n")
        return 1
    finally:
        if found:
            sys.stdout.write(table(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
