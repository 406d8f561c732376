"""The measures of WebSockets: the load each puts on a system, the figures it takes from it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import attrs

from benchmarks.descriptors import descriptors_missing
from benchmarks.generators import drive, hold
from benchmarks.load import Job
from benchmarks.measures import (
    DELAYS,
    Figure,
    Measure,
    Sizes,
    Subject,
    Values,
    added,
    at_rest,
    cpu,
)
from benchmarks.payloads import KIB, MESSAGE_LENGTH, MIB
from benchmarks.systems import module_missing
from benchmarks.websockets import verify

TARGET = "/echo"
SPARE_DESCRIPTORS = 256


def websockets_missing() -> str | None:
    """Return what this machine lacks for the load and the upstream, or None."""
    return module_missing("picows") or module_missing("uvloop")


@attrs.frozen
class Echoes:
    """Messages on 32 WebSockets, each sent as soon as the last came back."""

    name: str
    title: str
    length: int
    figures: tuple[Figure, ...] = (
        Figure("rate", "messages/s", more_is_better=True),
        Figure("CPU", "us/message"),
    )
    upstream: str = "echo"
    with_direct: bool = False

    def missing(self, sizes: Sizes) -> str | None:
        return websockets_missing()

    def verify(self, port: int) -> None:
        verify.echo(port, self.length)

    def run(self, subject: Subject, sizes: Sizes, direct: Values) -> Values:
        job = Job(*("echo", subject.port, 32, TARGET, sizes.seconds), content_length=self.length)
        sample = drive(job, subject.process)
        return {
            "rate": sample.messages / sample.seconds,
            **cpu(subject, sample, sample.messages),
            "errors": sample.errors,
        }


@attrs.frozen
class EchoLatency:
    """Messages one after the other on one WebSocket."""

    name: str = "ws-latency"
    title: str = "echo of 64 bytes, 1 WebSocket, one after the other"
    figures: tuple[Figure, ...] = DELAYS
    upstream: str = "echo"
    with_direct: bool = True

    def missing(self, sizes: Sizes) -> str | None:
        return websockets_missing()

    def verify(self, port: int) -> None:
        verify.echo(port, MESSAGE_LENGTH)

    def run(self, subject: Subject, sizes: Sizes, direct: Values) -> Values:
        job = Job(*("echo", subject.port, 1, TARGET, sizes.seconds), content_length=MESSAGE_LENGTH)
        sample = drive(job, subject.process)
        return {**added(sample, direct), "errors": sample.errors}


@attrs.frozen
class Pairs:
    """WebSockets that are open and silent; each echoes when it opens, and again at the end."""

    name: str
    title: str
    count: Callable[[Sizes], int]
    figures: tuple[Figure, ...] = (
        Figure("pair", "KiB"),
        Figure("alive", "pairs", more_is_better=True),
    )
    upstream: str = "echo"
    with_direct: bool = False

    def missing(self, sizes: Sizes) -> str | None:
        pairs = self.count(sizes)
        needed = 2 * pairs + SPARE_DESCRIPTORS
        return websockets_missing() or descriptors_missing(f"{pairs} pairs", needed)

    def verify(self, port: int) -> None:
        verify.echo(port, MESSAGE_LENGTH)

    def run(self, subject: Subject, sizes: Sizes, direct: Values) -> Values:
        if subject.process is None:
            return {}
        pairs = self.count(sizes)
        before = at_rest(subject.process)
        job = Job("pairs", subject.port, pairs, TARGET, content_length=MESSAGE_LENGTH)
        held = hold(job, functools.partial(at_rest, subject.process))
        return {
            "pair": (held.seen - before) / KIB / pairs,
            "alive": held.messages,
            "errors": held.errors,
        }


MEASURES: tuple[Measure, ...] = (
    Echoes("ws-64", "echo of 64 bytes, 32 WebSockets", MESSAGE_LENGTH),
    EchoLatency(),
    Echoes("ws-64k", "echo of 64 KiB, 32 WebSockets", 64 * KIB),
    Echoes("ws-1m", "echo of 1 MiB, 32 WebSockets", MIB),
    Pairs("ws-idle", "resident memory for each idle WebSocket", lambda sizes: sizes.pairs),
    Pairs("ws-many", "the same with many in one process", lambda sizes: sizes.many_pairs),
)
