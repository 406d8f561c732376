"""Run the proxy under cProfile with a load of short requests; ``python -m benchmarks.profiling``.

The proxy is profiled by twistd's own options.  cProfile makes each call dearer, so what is called
often looks worse than it is: read the order, not the times.
"""

from __future__ import annotations

import argparse
import os
import pstats
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs

from benchmarks import measures
from benchmarks.generators import LoadError
from benchmarks.measures import Measure, Requests, Sizes
from benchmarks.processes import Cpus, StartError
from benchmarks.stage import stage
from benchmarks.systems import Origin, Pyproxy
from benchmarks.verify import WrongAnswer


@attrs.frozen
class Profiled(Pyproxy):
    """The proxy, with statistics written when it ends."""

    statistics: Path = Path("profile")

    def command(self, directory: Path, origin: Origin, port: int) -> list[str]:
        command = super().command(directory, origin, port)
        at = command.index("pyproxy")
        options = ["--profiler=cprofile", "--savestats", f"--profile={self.statistics}"]
        return [*command[:at], *options, *command[at:]]


def profile(measure: Measure, seconds: float, statistics: Path) -> None:
    """Put a load on the proxy and let it write its statistics.

    Raises: StartError, WrongAnswer, LoadError.
    """
    cpus = Cpus.of_this_machine()
    os.sched_setaffinity(0, {cpus.load})
    with stage(cpus) as on, on.started(Profiled(statistics=statistics), measure.upstream) as there:
        measure.verify(there.port)
        values = measure.run(there, Sizes(seconds=seconds), {})
    sys.stdout.write(", ".join(f"{name} {value:.1f}" for name, value in values.items()) + "\n")


def main(arguments: Sequence[str]) -> int:
    """Profile the proxy under one load and print where its own time goes."""
    loads = {one.name: one for one in measures.MEASURES if isinstance(one, Requests)}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling", description=__doc__)
    parser.add_argument("--load", choices=loads, default="small")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--lines", type=int, default=40, help="functions to print")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the statistics there")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        statistics = (asked.save or Path(directory) / "profile").absolute()
        statistics.unlink(missing_ok=True)
        try:
            profile(loads[asked.load], asked.seconds, statistics)
            found = pstats.Stats(str(statistics))
        except (StartError, WrongAnswer, LoadError, OSError) as error:
            sys.stderr.write(f"no profile: {error}\n")
            return 1
    found.sort_stats("tottime").print_stats(asked.lines)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
