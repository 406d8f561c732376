"""Run the public tests of HTTP caches against the proxy's cache, nginx, Varnish and Squid.

The tests are the npm package ``http-cache-tests`` (https://cache-tests.fyi).  Each cache stands
between the package's client and its server, one cache after the other.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from compliance.caches import CACHES, SUBJECT, Cache, caching_route
from compliance.installs import CACHE_TESTS, Missing, Node, node
from compliance.processes import (
    OutOfTime,
    Proxy,
    StartError,
    end_on_sigterm,
    free_port,
    run,
    running,
    say,
)
from compliance.scores import (
    KNOWN,
    Kind,
    Outcome,
    Results,
    Scores,
    Suite,
    read_suite,
    rst,
    text,
    with_dependencies,
)

PEERS = Path(__file__).resolve().parent / "peers"

RUN_LIMIT = 180.0
"""Seconds for the tests of one cache; they take 10 to 20."""

ASK_LIMIT = 30.0
"""Seconds to load the definitions, or for a program to tell its version."""


@attrs.frozen
class Package:
    """The tests, as they are installed."""

    found: Node

    @property
    def folder(self) -> Path:
        """Where the package is."""
        return self.found.modules / CACHE_TESTS.partition("@")[0]

    def suite(self, directory: Path) -> Suite:
        """Return the definitions.

        Raises: StartError when they cannot be loaded.
        """
        return read_suite(self._client(directory, "definitions", ASK_LIMIT))

    def results(self, directory: Path, port: int, tests: Sequence[str]) -> Results:
        """Run tests against what listens on a port.

        Raises: StartError when the client fails, OutOfTime when it does not end.
        """
        base = f"http://127.0.0.1:{port}"
        found: Results = self._client(directory, "client", RUN_LIMIT, base, *tests)
        (directory / "results.json").write_text(json.dumps(found, indent=1) + "\n")
        return found

    def server(self, port: int) -> list[str | Path]:
        """Return the command of the upstream."""
        return [self.found.program, PEERS / "cache_server.mjs", self.folder, str(port)]

    def _client(self, directory: Path, name: str, limit: float, *words: str) -> Any:
        script = PEERS / "cache_client.mjs"
        command: list[str | Path] = [self.found.program, script, self.folder, *words]
        status, output = run(command, directory, name, limit)
        # The package may write warnings first; what is asked for is the last line.
        last = output.strip().rpartition("\n")[2]
        if status != 0:
            raise StartError(f"the client ended with status {status}: {last}")
        return json.loads(last)


def measure(
    package: Package, cache: Cache, directory: Path, ids: Sequence[str]
) -> tuple[Results, list[str]]:
    """Run tests through a cache.

    Args: directory, one of the cache's own, not yet there.
    Returns: what came out, and what was wrong with the process of the cache.
    """
    directory.mkdir()
    origin, port = free_port(), free_port()
    with running(package.server(origin), directory, "server") as server:
        server.wait_port(origin)
        command = cache.command(cache.find() or cache.program, directory, origin, port)
        with running(command, directory, cache.name, cache.environment) as process:
            process.wait_port(port)
            results = package.results(directory, port, ids)
            if (status := process.popen.poll()) is not None:
                return results, [f"{cache.name} ended with status {status} meanwhile"]
    return results, Proxy(process, port).faults() if cache.name == SUBJECT else []


def version(cache: Cache) -> str:
    """Return the name of a cache and the version that its program tells, where it does."""
    program = cache.find()
    if program is None or not cache.version:
        return cache.name
    try:
        done = subprocess.run(
            [program, *cache.version],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=ASK_LIMIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"{cache.name} does not tell its version: {error}") from error
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return f"{cache.name} {found[0]}" if found else cache.name


def report(scores: Scores, details: bool) -> None:
    """Print the tables, and what the proxy has not passed; with details, every outcome."""
    say(text(scores))
    if details:
        for test in scores.chosen:
            say(f"  {test} ({scores.suite[test].kind.value}): {scores.suite[test].title}")
            for cache in scores.results:
                say(f"    {cache}: {scores.why(cache, test)}")
    if SUBJECT not in scores.results:
        return
    if missed := scores.missed(SUBJECT, Kind.OPTIONAL):
        say(f"{SUBJECT}, optional and not passed: {' '.join(missed)}")
    for test in scores.tests(Kind.REQUIRED):
        if test in KNOWN:
            passed = scores.outcome(SUBJECT, test) is Outcome.PASSED
            say(f"{SUBJECT}, {'passed although ' if passed else ''}known: {test}: {KNOWN[test]}")
    for test in scores.failures(SUBJECT):
        say(f"{SUBJECT} FAILED: {test}: {scores.why(SUBJECT, test)}")


def chosen(suite: Suite, groups: Sequence[str], tests: Sequence[str]) -> list[str]:
    """Return the tests of some groups and some more; all when neither is given.

    Raises: LookupError when there is none of a name.
    """
    known = {*suite, *(each.group_id for each in suite.values())}
    if unknown := [each for each in (*groups, *tests) if each not in known]:
        raise LookupError(f"There is no {', '.join(unknown)} among the tests.")
    if not groups and not tests:
        return list(suite)
    return [name for name, each in suite.items() if name in tests or each.group_id in groups]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what the command line asks for."""
    names = [each.name for each in CACHES]
    parser = argparse.ArgumentParser(prog="python -m compliance.cache", description=__doc__)
    parser.add_argument("--systems", nargs="+", choices=names, default=names)
    parser.add_argument("--groups", nargs="+", default=[], metavar="GROUP")
    parser.add_argument(
        "--tests", nargs="+", default=[], metavar="ID", help="say what came out of each, too"
    )
    parser.add_argument("--rst", type=Path, metavar="FILE", help="write the tables there, too")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep logs and results there")
    parser.add_argument(
        "--route",
        action="append",
        metavar="LINE",
        help="what the proxy's route says, in place of 'cache = true'; repeatable",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for.

    Returns: the exit status: 0 the proxy passed what it has to, 1 it did not, 2 there is no such
        test, 3 something is missing on this machine.
    """
    asked = parse(arguments)
    end_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="compliance-") as temporary:
        try:
            directory = (asked.keep or Path(temporary)).resolve()
            directory.mkdir(parents=True, exist_ok=True)
            return _run(Package(node("cache", CACHE_TESTS)), directory, asked)
        except Missing as error:
            say(str(error))
            return 3
        except LookupError as error:
            say(str(error))
            return 2
        except (StartError, OutOfTime, FileExistsError) as error:
            say(f"FAILED: {error}")
            return 1


def _run(package: Package, directory: Path, asked: argparse.Namespace) -> int:
    caches = [each for each in CACHES if each.name in asked.systems]
    absent = [each.name for each in caches if not each.find()]
    caches = [each for each in caches if each.name not in absent]
    for name in absent:
        say(f"{name}: not on this machine")
    if not caches:
        raise Missing(f"There is no {' or '.join(absent)} on PATH.")
    suite = package.suite(directory)
    counted = chosen(suite, asked.groups, asked.tests)
    ids = with_dependencies(suite, counted)
    found: dict[str, Results] = {}
    faults: list[str] = []
    for cache in caches:
        say(f"{version(cache)}: {len(ids)} tests")
        if cache.name == SUBJECT and asked.route:
            cache = caching_route(asked.route)
        found[cache.name], wrong = measure(package, cache, directory / cache.name, ids)
        faults += wrong
    scores = Scores(suite, counted, found)
    report(scores, bool(asked.tests))
    for fault in faults:
        say(f"FAULT: {fault}")
    if asked.rst:
        compared = ", ".join(version(each) for each in caches)
        asked.rst.write_text(rst(scores, [f"{CACHE_TESTS.replace('@', ' ')}; {compared}."]))
    failed = SUBJECT in found and scores.failures(SUBJECT)
    return 1 if failed or faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
