"""The measures of requests: the load each puts on a system, the figures it takes from it.

What every measure is, those of WebSockets too, is said here.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import attrs

from benchmarks import verify
from benchmarks.generators import LoadError, Sample, drive, drive_requests, hold
from benchmarks.load import Job
from benchmarks.payloads import (
    ANSWER_LENGTH,
    KIB,
    MIB,
    POST_LENGTH,
    REQUEST_FIELDS,
    SMALL,
    TRANSFER_LENGTH,
)
from benchmarks.processes import Running

REST = 0.3
"""Seconds of quiet before memory is read."""


@attrs.frozen
class Figure:
    """One number that a measure takes."""

    name: str
    unit: str
    more_is_better: bool = False


@attrs.frozen
class Sizes:
    """How long and how broad the measures are."""

    seconds: float = 3.0
    settle: float = 1.0
    """Seconds of short requests before the measured time."""

    soak_seconds: float = 60.0
    streams: int = 200
    few_streams: int = 20
    floods: int = 50
    held_streams: int = 1000
    soak_clients: int = 2000
    silent_streams: tuple[int, ...] = (1000, 4000, 8000)
    silent_seconds: float = 5.0
    pairs: int = 1000
    many_pairs: int = 5000


@attrs.frozen
class Subject:
    """A system that runs and waits for load; without a process it is the upstream itself."""

    port: int
    process: Running | None
    started_in: float
    directory: Path


Values = dict[str, float]
"""Figures by name; ``errors`` counts what went wrong while the time ran."""


class Measure(Protocol):
    """One kind of load."""

    @property
    def name(self) -> str:
        """Return the name in tables and on the command line."""

    @property
    def title(self) -> str:
        """Return what is done, in a line."""

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Return the figures in the order in which they are shown."""

    @property
    def upstream(self) -> str:
        """Return which upstream answers: ``fixed``, ``streams`` or ``echo``."""

    @property
    def with_direct(self) -> bool:
        """Return whether the upstream itself is measured first, for what a proxy adds to it."""

    def missing(self, sizes: Sizes) -> str | None:
        """Return what this machine lacks to take it, or None."""

    def verify(self, port: int) -> None:
        """Check the answers that will be timed.

        Raises: WrongAnswer.
        """

    def run(self, subject: Subject, sizes: Sizes, direct: Values) -> Values:
        """Put the load on and return the figures.

        Args: direct, what the upstream itself gave in this round, empty when it is the subject.
        """


def cpu(subject: Subject, sample: Sample, units: float) -> Values:
    """Return the CPU time per unit, nothing when the upstream itself is the subject.

    Raises: LoadError when there is no unit.
    """
    if units <= 0:
        raise LoadError("nothing was answered in the measured time")
    return {"CPU": sample.cpu_us / units} if subject.process is not None else {}


def added(sample: Sample, direct: Values) -> Values:
    """Return the delays, and what they are above those of the upstream itself."""
    values = {"median": sample.median_us, "p99": sample.p99_us}
    if direct:
        values["added"] = sample.median_us - direct["median"]
        values["added p99"] = sample.p99_us - direct["p99"]
    return values


def at_rest(process: Running) -> int:
    """Return the resident octets of a process tree after a moment of quiet."""
    time.sleep(REST)
    return process.resident()


DELAYS = (
    Figure("median", "us"),
    Figure("added", "us"),
    Figure("p99", "us"),
    Figure("added p99", "us"),
)


@attrs.frozen
class Requests:
    """Short requests on 32 kept connections."""

    name: str
    title: str
    job: Job
    check: Callable[[int], None]
    figures: tuple[Figure, ...] = (
        Figure("rate", "requests/s", more_is_better=True),
        Figure("CPU", "us/request"),
    )
    upstream: str = "fixed"
    with_direct: bool = False

    def missing(self, sizes: Sizes) -> str | None:
        return None

    def verify(self, port: int) -> None:
        self.check(port)

    def run(self, subject: Subject, sizes: Sizes, direct: Values) -> Values:
        job = attrs.evolve(self.job, port=subject.port, seconds=sizes.seconds, settle=sizes.settle)
        sample = drive_requests(job, subject.process, subject.directory)
        return {
            "rate": sample.messages / sample.seconds,
            **cpu(subject, sample, sample.messages),
            "errors": sample.errors,
        }


@attrs.frozen
class Latency:
    """Requests one after the other on one connection."""

    name: str = "latency"
    title: str = "GET of 100 bytes, 1 connection, one after the other"
    figures: tuple[Figure, ...] = DELAYS
    upstream: str = "fixed"
    with_direct: bool = True

    def missing(self, sizes: Sizes) -> str | None:
        return None

    def verify(self, port: int) -> None:
        verify.small(port)

    def run(self, subject: Subject, sizes: Sizes, direct: Values) -> Values:
        job = Job(
            *("transfer", subject.port, 1, "/small", sizes.seconds),
            answer_length=len(SMALL),
            settle=sizes.settle,
        )
        sample = drive_requests(job, subject.process, subject.directory)
        return {**added(sample, direct), "errors": sample.errors}


@attrs.frozen
class Transfers:
    """Long contents, one after the other on a few connections."""

    name: str
    title: str
    job: Job
    check: Callable[[int], None]
    upstream: str
    figures: tuple[Figure, ...] = (
        Figure("rate", "MiB/s", more_is_better=True),
        Figure("CPU", "us/MiB"),
    )
    with_direct: bool = False

    def missing(self, sizes: Sizes) -> str | None:
        return None

    def verify(self, port: int) -> None:
        self.check(port)

    def run(self, subject: Subject, sizes: Sizes, direct: Values) -> Values:
        job = attrs.evolve(self.job, port=subject.port, seconds=sizes.seconds)
        sample = drive(job, subject.process)
        return {
            "rate": sample.octets / MIB / sample.seconds,
            **cpu(subject, sample, sample.octets / MIB),
            "errors": sample.errors,
        }


@attrs.frozen
class Events:
    """Event streams with the pace of a model that writes."""

    name: str
    title: str
    count: Callable[[Sizes], int]
    figures: tuple[Figure, ...]
    upstream: str = "streams"
    with_direct: bool = True
    interval_us: int = 20_000

    def missing(self, sizes: Sizes) -> str | None:
        return None

    def verify(self, port: int) -> None:
        verify.events(port)

    def run(self, subject: Subject, sizes: Sizes, direct: Values) -> Values:
        job = Job(
            *("streams", subject.port, self.count(sizes), "/events", sizes.seconds),
            interval_us=self.interval_us,
        )
        sample = drive(job, subject.process)
        return {
            **cpu(subject, sample, sample.messages),
            **added(sample, direct),
            "errors": sample.errors,
        }


@attrs.frozen
class Flood:
    """Event streams as fast as they are read."""

    name: str = "flood"
    title: str = "50 event streams at full speed"
    figures: tuple[Figure, ...] = (
        Figure("rate", "events/s", more_is_better=True),
        Figure("CPU", "us/event"),
    )
    upstream: str = "streams"
    with_direct: bool = False

    def missing(self, sizes: Sizes) -> str | None:
        return None

    def verify(self, port: int) -> None:
        verify.flood(port)

    def run(self, subject: Subject, sizes: Sizes, direct: Values) -> Values:
        job = Job("flood", subject.port, sizes.floods, "/events", sizes.seconds)
        sample = drive(job, subject.process)
        return {
            "rate": sample.messages / sample.seconds,
            **cpu(subject, sample, sample.messages),
            "errors": sample.errors,
        }


@attrs.frozen
class Memory:
    """Event streams that have begun and are silent."""

    name: str = "memory"
    title: str = "resident memory for each of 1,000 idle event streams"
    figures: tuple[Figure, ...] = (Figure("idle", "MiB"), Figure("stream", "KiB"))
    upstream: str = "streams"
    with_direct: bool = False

    def missing(self, sizes: Sizes) -> str | None:
        return None

    def verify(self, port: int) -> None:
        verify.events(port)

    def run(self, subject: Subject, sizes: Sizes, direct: Values) -> Values:
        if subject.process is None:
            return {}
        idle = at_rest(subject.process)
        job = Job("hold", subject.port, sizes.held_streams, "/events")
        held = hold(job, functools.partial(at_rest, subject.process))
        grown = held.seen - idle
        return {
            "idle": idle / MIB,
            "stream": grown / KIB / sizes.held_streams,
            "errors": held.errors,
        }


@attrs.frozen
class ColdStart:
    """From the start of the process to its first answer."""

    name: str = "start"
    title: str = "cold start to the first answer"
    figures: tuple[Figure, ...] = (Figure("start", "ms"),)
    upstream: str = "fixed"
    with_direct: bool = False

    def missing(self, sizes: Sizes) -> str | None:
        return None

    def verify(self, port: int) -> None:
        verify.small(port)

    def run(self, subject: Subject, sizes: Sizes, direct: Values) -> Values:
        return {"start": subject.started_in * 1e3, "errors": 0}


def _request(target: str, length: int = len(SMALL)) -> Job:
    return Job("transfer", 0, 32, target, answer_length=length)


_POST = attrs.evolve(_request("/post"), method="POST", content_length=POST_LENGTH)
_FIELDS = attrs.evolve(_request("/fields"), fields=REQUEST_FIELDS)
_DOWNLOAD = Job("transfer", 0, 4, "/download", answer_length=TRANSFER_LENGTH)
_UPLOAD = Job("transfer", 0, 4, "/upload", method="POST", content_length=TRANSFER_LENGTH)

MEASURES: tuple[Measure, ...] = (
    Requests("small", "GET of 100 bytes, 32 connections", _request("/small"), verify.small),
    Latency(),
    Requests("fields", "GET of 100 bytes with 20 fields, 12 in return", _FIELDS, verify.fields),
    Requests("post", "POST of 1 KiB, 32 connections", _POST, verify.post),
    Requests(
        *("answer", "GET of 100 KiB, 32 connections"),
        *(_request("/answer", ANSWER_LENGTH), verify.answer),
    ),
    Transfers(
        "download", "GET of 10 MiB, 4 connections", _DOWNLOAD, verify.download, upstream="fixed"
    ),
    Transfers(
        *("upload", "POST of 10 MiB with its length, 4 connections"),
        *(_UPLOAD, verify.upload),
        upstream="streams",
    ),
    Transfers(
        *("upload-chunked", "POST of 10 MiB in chunks, 4 connections"),
        *(attrs.evolve(_UPLOAD, chunked=True), verify.upload_chunked),
        upstream="streams",
    ),
    Events(
        *("events", "200 event streams, an event each 20 ms", lambda sizes: sizes.streams),
        figures=(Figure("CPU", "us/event"), *DELAYS),
    ),
    Events(
        *("events-latency", "20 event streams, an event each 20 ms"),
        *(lambda sizes: sizes.few_streams, DELAYS),
    ),
    Flood(),
    Memory(),
    ColdStart(),
)
