"""The measure of silence: what event streams cost that are open and say nothing."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import attrs

from benchmarks import verify
from benchmarks.descriptors import descriptors_missing
from benchmarks.generators import hold
from benchmarks.load import Job
from benchmarks.measures import Figure, Measure, Sizes, Subject, Values
from benchmarks.processes import Running

SPARE_DESCRIPTORS = 256

CALM = 2.0
"""Seconds after the last stream has begun; whoever tidies up behind the opening has done so."""


def run_ns_in(process: Running, seconds: float, calm: float = CALM) -> int:
    """Return the CPU time that a process tree takes in so many seconds of quiet."""
    time.sleep(calm)
    before = process.run_ns()
    time.sleep(seconds)
    return process.run_ns() - before


@attrs.frozen
class IdleStreams:
    """Event streams that have begun and are silent."""

    name: str
    title: str
    count: Callable[[Sizes], int]
    figures: tuple[Figure, ...] = (Figure("CPU", "% of a core"),)
    upstream: str = "streams"
    with_direct: bool = False

    def missing(self, sizes: Sizes) -> str | None:
        streams = self.count(sizes)
        return descriptors_missing(f"{streams} streams", 2 * streams + SPARE_DESCRIPTORS)

    def verify(self, port: int) -> None:
        verify.events(port)

    def run(self, subject: Subject, sizes: Sizes, direct: Values) -> Values:
        if subject.process is None:
            return {}
        job = Job("hold", subject.port, self.count(sizes), "/events")
        held = hold(job, functools.partial(run_ns_in, subject.process, sizes.silent_seconds))
        return {"CPU": held.seen / 1e9 / sizes.silent_seconds * 100, "errors": held.errors}


MEASURES: tuple[Measure, ...] = (
    IdleStreams("idle-1000", "1,000 silent event streams", lambda sizes: sizes.silent_streams[0]),
    IdleStreams("idle-4000", "4,000 silent event streams", lambda sizes: sizes.silent_streams[1]),
    IdleStreams("idle-8000", "8,000 silent event streams", lambda sizes: sizes.silent_streams[2]),
)
