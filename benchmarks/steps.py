"""The measure of steps: how late the latest of many answers of medium length are.

An upstream may hold the end of such an answer back until the first part is acknowledged, which a
kernel puts off by 40 ms.  Few exchanges meet it, so it shows in high percentiles alone.
"""

from __future__ import annotations

import attrs

from benchmarks import verify
from benchmarks.generators import drive_requests
from benchmarks.load import Job
from benchmarks.measures import Figure, Measure, Sizes, Subject, Values
from benchmarks.payloads import ANSWER_LENGTH

CONNECTIONS = 16


@attrs.frozen
class Steps:
    """Answers of 100 KiB on a few kept connections."""

    name: str = "steps"
    title: str = "GET of 100 KiB, 16 connections: the latest answers"
    figures: tuple[Figure, ...] = (
        Figure("median", "us"),
        Figure("p99", "us"),
        Figure("p99.9", "us"),
    )
    upstream: str = "fixed"
    with_direct: bool = True

    def missing(self, sizes: Sizes) -> str | None:
        return None

    def verify(self, port: int) -> None:
        verify.answer(port)

    def run(self, subject: Subject, sizes: Sizes, direct: Values) -> Values:
        job = Job(
            *("transfer", subject.port, CONNECTIONS, "/answer", sizes.seconds),
            answer_length=ANSWER_LENGTH,
            settle=sizes.settle,
        )
        sample = drive_requests(job, subject.process, subject.directory)
        return {
            "median": sample.median_us,
            "p99": sample.p99_us,
            "p99.9": sample.p999_us,
            "errors": sample.errors,
        }


MEASURES: tuple[Measure, ...] = (Steps(),)
