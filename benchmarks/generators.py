"""Drive load at a system and take what it cost: wrk for short requests, ours for the rest."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from benchmarks.descriptors import Open
from benchmarks.load import READY_LIMIT, Job
from benchmarks.payloads import content
from benchmarks.processes import Running

GRACE = READY_LIMIT + 15.0
"""Seconds that a load may take beyond its measured time."""

_WRK_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {"seconds": %f, "messages": %d, "octets": %d, "errors": %d,' ..
    ' "median_us": %f, "p99_us": %f, "p999_us": %f}\\n',
    summary.duration / 1e6, summary.requests, summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"""

_GENERATORS = {"echo": "benchmarks.websockets.load", "pairs": "benchmarks.websockets.load"}
"""The modules by a job's kind; the others are those of requests."""


class LoadError(Exception):
    """A load could not be driven to its end; the text says why."""


@attrs.frozen
class Sample:
    """What one measured time brought."""

    seconds: float
    messages: int
    octets: int
    errors: int
    median_us: float
    p99_us: float
    p999_us: float
    """The 99.9th percentile."""

    cpu_us: float
    """CPU time of the system's process tree; zero when nothing stands between."""


@attrs.frozen
class Held:
    """What came of connections that were kept open."""

    seen: int
    """What was looked at meanwhile."""

    messages: int
    """How many WebSockets answered at the end."""

    errors: int


@attrs.frozen
class Soaked:
    """What came of a long load."""

    sample: Sample
    lost: int
    """Requests, those of the warm-up included, without their whole answer."""

    warm: Look
    worn: Look


@attrs.frozen
class Look:
    """What a system holds at one moment."""

    resident: int
    descriptors: Open


def _cpu_us(process: Running | None) -> float:
    return process.cpu_seconds() * 1e6 if process is not None else 0.0


def find_wrk() -> str | None:
    """Return where wrk is installed, or None."""
    return shutil.which("wrk")


def drive_requests(job: Job, process: Running | None, directory: Path) -> Sample:
    """Send short requests on kept connections, each as soon as the last was answered."""
    wrk = find_wrk()
    if wrk is None:
        return drive(job, process)
    script = directory / "request.lua"
    script.write_text(_wrk_script(job))
    if job.settle:
        _run_wrk(wrk, attrs.evolve(job, seconds=job.settle), script)
    before = _cpu_us(process)
    result = _run_wrk(wrk, job, script)
    result["cpu_us"] = _cpu_us(process) - before
    sample = Sample(**result)
    if job.answer_length is not None and sample.octets < sample.messages * job.answer_length:
        raise LoadError("the answers were shorter than they should be")
    return sample


def _wrk_script(job: Job) -> str:
    lines = [f"wrk.method = {json.dumps(job.method)}"]
    lines += [f"wrk.headers[{json.dumps(n)}] = {json.dumps(v)}" for n, v in job.fields.items()]
    if job.content_length:
        octets = "".join(f"\\{octet:03d}" for octet in content(job.content_length))
        lines.append(f'wrk.body = "{octets}"')
    return "\n".join([*lines, _WRK_DONE])


def _run_wrk(wrk: str, job: Job, script: Path) -> dict[str, Any]:
    command = [
        *(wrk, "-t1", f"-c{job.connections}", f"-d{max(1, round(job.seconds))}s"),
        *("--timeout", "10s", "-s", str(script), f"http://127.0.0.1:{job.port}{job.target}"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=job.seconds + GRACE, check=False
    )
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
            return result
    raise LoadError(f"wrk: {done.stdout[-500:]}{done.stderr[-500:]}")


def drive(job: Job, process: Running | None) -> Sample:
    """Do a job to its end."""
    with _started(job) as told:
        told.await_state("running", GRACE)
        before = _cpu_us(process)
        told.await_state("ended", job.seconds + GRACE)
        cpu_us = _cpu_us(process) - before
        result = told.await_state("result", GRACE)
    return Sample(cpu_us=cpu_us, **result)


def hold(job: Job, look: Callable[[], int]) -> Held:
    """Keep a job's connections open, each begun and then silent, and look at something."""
    with _started(job) as told:
        told.await_state("running", GRACE)
        seen = look()
        told.close_input()
        result = told.await_state("result", GRACE)
    return Held(seen, result["messages"], result["errors"])


def soak(job: Job, process: Running, look: Callable[[], Look]) -> Soaked:
    """Do a soak to its end; look when the system is warm, and again when the time is over."""
    with _started(job) as told:
        told.await_state("running", job.settle + GRACE)
        warm, before = look(), _cpu_us(process)
        told.await_state("ended", job.seconds + GRACE)
        cpu_us, worn = _cpu_us(process) - before, look()
        lost = told.await_state("answered", GRACE)["lost"]
        told.close_input()
        result = told.await_state("result", GRACE)
    return Soaked(Sample(cpu_us=cpu_us, **result), lost, warm, worn)


@contextmanager
def _started(job: Job) -> Iterator[_Told]:
    module = _GENERATORS.get(job.kind, "benchmarks.load")
    popen = subprocess.Popen(
        [sys.executable, "-m", module, json.dumps(attrs.asdict(job))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield _Told(popen)
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.communicate(timeout=GRACE)


class _Told:
    """Read what the load generator tells, and never wait for ever."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self._rest = b""

    def close_input(self) -> None:
        """Tell the load generator to end."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._popen.stdin = None

    def await_state(self, state: str, limit: float) -> dict[str, Any]:
        """Return what comes with a state; other states before it are passed over."""
        deadline = time.monotonic() + limit
        while True:
            message: dict[str, Any] = json.loads(self._line(deadline))
            told = message.pop("state")
            if told == "failed":
                raise LoadError(message["reason"])
            if told == state:
                return message

    def _line(self, deadline: float) -> bytes:
        assert self._popen.stdout is not None
        descriptor = self._popen.stdout.fileno()
        while b"\n" not in self._rest:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], left)[0]:
                raise LoadError("the load generator did not end in time")
            data = os.read(descriptor, 65536)
            if not data:
                raise LoadError("the load generator died")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line
