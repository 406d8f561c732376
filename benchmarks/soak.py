"""The soak: many clients for a long time, and what the proxy holds afterwards."""

from __future__ import annotations

import functools
import time

import attrs

from benchmarks import verify
from benchmarks.descriptors import count, descriptors_missing
from benchmarks.generators import Look, soak
from benchmarks.load import Job
from benchmarks.measures import Figure, Sizes, Subject, Values, at_rest, cpu
from benchmarks.payloads import MIB

SPARE_DESCRIPTORS = 1000
SHORTEST_SETTLE = 2.0
LEAVE_LIMIT = 10.0
"""Seconds until the descriptors of clients that left must be closed."""


def look(subject: Subject) -> Look:
    """Look at what a system holds now."""
    assert subject.process is not None
    return Look(subject.process.resident(), count(subject.process.tree(), subject.port))


@attrs.frozen
class Soak:
    """Thousands of kept connections, each with a request under way all the time."""

    name: str = "soak"
    title: str = "GET of 100 bytes, 2,000 connections, for a minute"
    figures: tuple[Figure, ...] = (
        Figure("rate", "requests/s", more_is_better=True),
        Figure("CPU", "us/request"),
        Figure("lost", "answers"),
        Figure("memory grown", "MiB"),
        Figure("descriptors grown", "open"),
        Figure("descriptors left", "open"),
        Figure("idle upstream", "connections"),
    )
    upstream: str = "fixed"
    with_direct: bool = False

    def missing(self, sizes: Sizes) -> str | None:
        clients = sizes.soak_clients
        return descriptors_missing(f"{clients} clients", 2 * clients + SPARE_DESCRIPTORS)

    def verify(self, port: int) -> None:
        verify.own(port)

    def run(self, subject: Subject, sizes: Sizes, direct: Values) -> Values:
        if subject.process is None:
            return {}
        at_rest(subject.process)
        before = look(subject)
        job = Job(
            *("soak", subject.port, sizes.soak_clients, "/own", sizes.soak_seconds),
            settle=max(SHORTEST_SETTLE, sizes.soak_seconds / 6),
        )
        soaked = soak(job, subject.process, functools.partial(look, subject))
        after = _clients_gone(subject, before)
        sample = soaked.sample
        return {
            "rate": sample.messages / sample.seconds,
            **cpu(subject, sample, sample.messages),
            "lost": soaked.lost,
            "memory grown": (soaked.worn.resident - soaked.warm.resident) / MIB,
            "descriptors grown": soaked.worn.descriptors.all - soaked.warm.descriptors.all,
            "descriptors left": after.descriptors.others - before.descriptors.others,
            "idle upstream": after.descriptors.upstream,
            "errors": sample.errors + soaked.lost,
        }


def _clients_gone(subject: Subject, before: Look) -> Look:
    """Look again once what the clients took is given back, or should have been."""
    deadline = time.monotonic() + LEAVE_LIMIT
    while True:
        after = look(subject)
        if after.descriptors.others <= before.descriptors.others or time.monotonic() > deadline:
            return after
        time.sleep(0.1)


MEASURES = (Soak(),)
