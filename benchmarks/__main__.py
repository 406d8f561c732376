"""Run the measures, system after system, round after round, and print what came out."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import attrs

from benchmarks import measures as requests
from benchmarks import silence, soak, steps
from benchmarks.generators import LoadError, find_wrk
from benchmarks.measures import Measure, Sizes, Subject, Values
from benchmarks.plot import svg
from benchmarks.processes import Cpus, StartError
from benchmarks.report import Results, document, judged, rest, table, targets_table
from benchmarks.stage import Stage, stage
from benchmarks.systems import DIRECT, SUBJECT, SYSTEMS, System
from benchmarks.targets import missed
from benchmarks.verify import WrongAnswer
from benchmarks.websockets import measures as websockets

DESCRIPTORS = 16384
"""What each process may open, where the hard limit allows; 8,000 streams need 16,000."""

USUAL = (*requests.MEASURES, *steps.MEASURES, *silence.MEASURES, *websockets.MEASURES)
MEASURES: tuple[Measure, ...] = (*USUAL, *soak.MEASURES)

QUICK = Sizes(
    seconds=1,
    settle=0,
    soak_seconds=5,
    streams=20,
    few_streams=5,
    floods=5,
    held_streams=50,
    soak_clients=200,
    silent_streams=(100, 400, 800),
    silent_seconds=2,
    pairs=100,
    many_pairs=500,
)


@attrs.frozen
class Plan:
    """What to measure, on what, how often."""

    measures: list[Measure]
    systems: list[System]
    rounds: int
    sizes: Sizes
    quick: bool


@attrs.frozen
class Outputs:
    """Where to write what was found, and whether to insist on the targets."""

    json: Path | None
    plot: Path | None
    rest: Path | None
    check: bool


def plan(arguments: Sequence[str]) -> tuple[Plan, Outputs]:
    """Return what the command line asks for."""
    measures = {measure.name: measure for measure in MEASURES}
    systems = {system.name: system for system in SYSTEMS}
    usual = [measure.name for measure in USUAL]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure pyproxy beside other proxies."
    )
    parser.add_argument("--rounds", type=_positive, help="rounds to take medians of (default 3)")
    parser.add_argument("--seconds", type=_positive, help="time of each measure (default 3)")
    parser.add_argument("--only", nargs="+", choices=measures, metavar="NAME", default=usual)
    parser.add_argument("--systems", nargs="+", choices=systems, default=[*systems])
    parser.add_argument("--quick", action="store_true", help="small and short: does it still run?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there, too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the figures there as SVG")
    parser.add_argument("--rst", type=Path, metavar="FILE", help="write the tables there as reST")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    asked = parser.parse_args(arguments)
    sizes = QUICK if asked.quick else Sizes()
    if asked.seconds:
        sizes = attrs.evolve(sizes, seconds=asked.seconds, soak_seconds=asked.seconds)
    # A soak is long enough to be believed at once.
    once = asked.quick or asked.only == ["soak"]
    made = Plan(
        measures=[measures[name] for name in asked.only],
        systems=[systems[name] for name in asked.systems],
        rounds=asked.rounds or (1 if once else 3),
        sizes=sizes,
        quick=asked.quick,
    )
    return made, Outputs(asked.json, asked.plot, asked.rst, asked.check)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def measure_all(the_plan: Plan, on: Stage, results: Results) -> None:
    """Take every figure of every round."""
    for number in range(the_plan.rounds):
        # Another order in each round, so that nobody always runs after the same neighbour.
        turn = number % len(the_plan.systems)
        order = the_plan.systems[turn:] + the_plan.systems[:turn]
        for measure in the_plan.measures:
            if measure.name in results.skipped:
                continue
            _say(f"round {number + 1}/{the_plan.rounds}: {measure.name}: {measure.title}")
            direct: Values = {}
            if measure.with_direct:
                there = on.direct(measure.upstream)
                direct = _measured(measure, DIRECT, there, the_plan.sizes, {}, results)
            for system in order:
                if system.name not in results.skipped and measure.upstream in system.upstreams:
                    _measure_system(measure, system, on, the_plan.sizes, direct, results)


def _measure_system(
    measure: Measure, system: System, on: Stage, sizes: Sizes, direct: Values, results: Results
) -> None:
    try:
        with on.started(system, measure.upstream) as subject:
            _measured(measure, system.name, subject, sizes, direct, results)
    except StartError as error:
        results.skipped[system.name] = f"it did not start: {error}"
        results.failures.append(f"{system.name} did not start")
        _say(f"  {system.name}: did not start: {error}")


def _measured(
    measure: Measure, name: str, subject: Subject, sizes: Sizes, direct: Values, results: Results
) -> Values:
    try:
        measure.verify(subject.port)
        values = measure.run(subject, sizes, direct)
    except (WrongAnswer, LoadError, OSError) as error:
        results.failures.append(f"{measure.name}, {name}: {error}")
        _say(f"  {name}: FAILED: {error}")
        return {}
    results.add(measure, name, values)
    _say(f"  {name}: " + ", ".join(f"{key} {value:.1f}" for key, value in values.items()))
    return values


def notes(cpus: Cpus, the_plan: Plan) -> dict[str, str]:
    """Return what a reader must know to compare this run with another."""
    one = "one CPU only: the load takes time from what is measured, so ratios alone mean something"
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}",
        "load": f"{os.getloadavg()[0]:.2f} processes were running before",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cpus": one if cpus.shared else f"proxy on {cpus.proxy}, everything else on {cpus.load}",
        "requests": "by wrk" if find_wrk() else "by our own generator: there is no wrk",
        "websockets": _websockets_by(),
        "rounds": f"{the_plan.rounds}, {the_plan.sizes.seconds:g} s a measure, medians",
        **({"quick": "a tenth of the connections"} if the_plan.quick else {}),
        "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _websockets_by() -> str:
    missing = websockets.websockets_missing()
    if missing is not None:
        return f"not measured: {missing}"
    names = ("picows", "uvloop")
    return "by " + " on ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _terminated(number: int, frame: object) -> NoReturn:
    # Leaves every block on the way out, so that no process of ours stays behind.
    raise SystemExit(128 + number)


def _allow_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for.

    Returns: the exit status, 1 when a system did not start or answered wrongly, or when the targets
        are checked and one is missed.
    """
    the_plan, outputs = plan(arguments)
    signal.signal(signal.SIGTERM, _terminated)
    _allow_descriptors()
    cpus = Cpus.of_this_machine()
    os.sched_setaffinity(0, {cpus.load})
    results = Results(notes=notes(cpus, the_plan))
    for system in the_plan.systems:
        missing = system.missing()
        if missing is not None:
            results.skipped[system.name] = missing
    for measure in the_plan.measures:
        missing = measure.missing(the_plan.sizes)
        if missing is not None:
            results.skipped[measure.name] = missing
            _say(f"{measure.name} is left out: {missing}")
    try:
        with stage(cpus) as on:
            measure_all(the_plan, on, results)
    except StartError as error:
        _say(f"the upstream did not start: {error}")
        return 2
    bad = _report(the_plan, outputs, results)
    return 1 if results.failures or results.errors or bad else 0


def _report(the_plan: Plan, outputs: Outputs, results: Results) -> bool:
    """Write what was found; tell whether a target is missed that has to hold."""
    measures = the_plan.measures
    measured = {system for _, _, system in results.rounds}
    names = [s.name for s in the_plan.systems if s.name in measured]
    names += [DIRECT] if DIRECT in measured else []
    found = judged(results, measures) if SUBJECT in names else []
    sys.stdout.write(table(results, measures, names) + "\n")
    sys.stdout.write(targets_table(found, measures) + "\n")
    whole = document(results, measures, names, found)
    if outputs.json is not None:
        outputs.json.write_text(json.dumps(whole, indent=2) + "\n")
    if outputs.plot is not None:
        outputs.plot.write_text(svg(whole))
    if outputs.rest is not None:
        outputs.rest.write_text(rest(whole))
    return outputs.check and bool(missed(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
