"""Compare the verdicts of the Autobahn test suite direct and through the proxy.

The suite is the fuzzing client.  Each echo server is asked once directly and once through a
``twistd -n pyproxy`` process; then the cases with a worse verdict run again, up to ``RERUNS`` times
both ways, and once more over a wire that gathers octets.  A case differs when every run through the
proxy gave a verdict that is worse than all that were given without it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from compliance.installs import WEBSOCKETS, WS, Missing, node, python_environment, wstest
from compliance.processes import (
    OutOfTime,
    StartError,
    end_on_sigterm,
    free_port,
    proxy,
    run,
    running,
    say,
)
from compliance.verdicts import (
    Comparison,
    Report,
    case_order,
    read_report,
    table,
    totals_table,
)
from compliance.wires import gathering

PEERS = Path(__file__).resolve().parent / "peers"

RERUNS = 3
RERUN_MOST = 50
"""Cases with a worse verdict; more of them than this are no matter of timing, and not run again."""

RUN_LIMIT = 3600.0
"""Seconds for one run of the suite against one server, unless ``--limit`` says otherwise."""

LIST_LIMIT = 60.0
_LIST_CASES = """
import json, sys
from autobahntestsuite.case import CaseBasename, CaseCategories, Cases, CaseSetname
from autobahntestsuite.case import CaseSubCategories
from autobahntestsuite.caseset import CaseSet
every = CaseSet(CaseSetname, CaseBasename, Cases, CaseCategories, CaseSubCategories)
cases = every.parseSpecCases(json.loads(sys.argv[1]))
print(json.dumps([case for case in cases if case in every.CasesById]))
"""


@attrs.frozen
class Suite:
    """The installed test suite, and where it may write."""

    python: Path
    program: Path
    directory: Path
    limit: float

    def cases(self, patterns: Sequence[str], excluded: Sequence[str]) -> list[str]:
        """Return the cases that match the patterns, in order, as the suite itself reads them."""
        spec = json.dumps({"cases": [*patterns], "exclude-cases": [*excluded]})
        status, output = run(
            [self.python, "-c", _LIST_CASES, spec], self.directory, "cases", LIST_LIMIT
        )
        if status != 0:
            raise StartError(f"the suite does not list its cases: {output.strip()}")
        listed: list[str] = json.loads(output.strip().rpartition("\n")[2])
        return sorted(listed, key=case_order)

    def judge(self, name: str, port: int, cases: Sequence[str]) -> Report:
        """Run cases against a server and return the verdicts."""
        reports = self.directory / f"{name}-reports"
        spec = {
            "outdir": str(reports),
            "servers": [{"agent": name, "url": f"ws://127.0.0.1:{port}/"}],
            "cases": [*cases],
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        spec_path = self.directory / f"{name}.json"
        spec_path.write_text(json.dumps(spec))
        begun = time.monotonic()
        status, output = run(
            [self.program, "--mode", "fuzzingclient", "--spec", spec_path],
            self.directory,
            f"wstest-{name}",
            self.limit,
        )
        index = reports / "index.json"
        if not index.exists():
            raise StartError(f"the suite wrote no report (status {status}): {output[-1000:]}")
        report = read_report(json.loads(index.read_text()), name)
        say(f"  {name}: {len(report)} cases in {time.monotonic() - begun:.0f} s")
        return report


@attrs.frozen
class EchoServer:
    """An installed server that echoes messages: what starts it, less the port."""

    name: str
    command: tuple[Path, ...]
    environment: Mapping[str, str]

    @contextmanager
    def running(self, directory: Path) -> Iterator[int]:
        """Run the server; give its port."""
        port = free_port()
        command: list[str | Path] = [*self.command, str(port)]
        with running(command, directory, f"echo-{self.name}", self.environment) as process:
            process.wait_port(port)
            yield port


def _ws() -> EchoServer:
    found = node("ws", WS)
    return EchoServer("ws", (found.program, PEERS / "echo_ws.cjs"), found.environment)


def _websockets() -> EchoServer:
    python = python_environment("websockets", WEBSOCKETS)
    # The suite sends up to 65,536 fragments a message; 4,096 are the most without this.
    environment = {"WEBSOCKETS_MAX_FRAGMENTS": "100000"}
    return EchoServer("websockets", (python, PEERS / "echo_websockets.py"), environment)


SERVERS: Mapping[str, Callable[[], EchoServer]] = {"ws": _ws, "websockets": _websockets}
"""By name, what installs an echo server; it raises Missing when it cannot."""


def compare(
    suite: Suite, server: EchoServer, cases: Sequence[str], options: Sequence[str]
) -> tuple[Comparison, list[str]]:
    """Run the cases both ways; return the verdicts, and what else went wrong as sentences."""
    comparison = Comparison(cases)
    with (
        server.running(suite.directory) as port,
        proxy(
            f"http://127.0.0.1:{port}", suite.directory, *options, name=f"proxy-{server.name}"
        ) as front,
    ):
        asked = 0
        left = list(cases)
        for attempt in range(1 + RERUNS):
            name = f"{server.name}-{attempt}" if attempt else server.name
            direct = suite.judge(f"{name}-direct", port, left)
            proxied = suite.judge(f"{name}-proxied", front.port, left)
            comparison.add(direct, proxied)
            asked += len(proxied)
            if attempt:
                with gathering(port) as wire:
                    comparison.add(suite.judge(f"{name}-gathered", wire, left), {})
            left = comparison.unsettled()
            if not left or len(left) > RERUN_MOST:
                break
        opened = front.wait_opened(asked)
    faults = front.faults()
    if opened < asked:
        faults.append(f"the proxy's log has {opened} WebSockets for {asked} verdicts")
    return comparison, faults


def report(server: str, comparison: Comparison, faults: Sequence[str]) -> bool:
    """Print what came out for a server; return whether it is the same both ways."""
    say(f"\n{server}: {len(comparison.cases)} cases")
    say(totals_table(comparison))
    for title, cases in (
        ("DIFFERENT through the proxy", comparison.differences()),
        ("NO VERDICT", comparison.missing()),
        (
            "not always the same; the best through the proxy is no worse than the worst direct",
            comparison.unsteady(),
        ),
    ):
        if cases:
            say(f"  {title}: {len(cases)}")
            say(table(comparison, cases))
    for fault in faults:
        say(f"  FAULT: {fault}")
    same = not (comparison.differences() or comparison.missing() or faults)
    say(f"{server}: {'no worse through the proxy' if same else 'WORSE through the proxy'}")
    return same


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m compliance.autobahn", description=__doc__)
    parser.add_argument("--cases", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--exclude", nargs="+", default=[], metavar="PATTERN")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=[*SERVERS])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every verdict there, too")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep logs and the suite's reports"
    )
    parser.add_argument(
        "--limit", type=float, default=RUN_LIMIT, help="seconds for one run of the suite"
    )
    parser.add_argument(
        "--proxy-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="give the proxy another option (write --proxy-option=--ws-ping=1); repeatable",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for.

    Returns: the exit status: 0 the same, 1 a difference, 3 something is missing on this machine.
    """
    asked = parse(arguments)
    end_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="compliance-") as temporary:
        directory = asked.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        try:
            python, program = wstest()
            suite = Suite(python, program, directory, asked.limit)
            return _run(suite, [SERVERS[name]() for name in asked.servers], asked)
        except Missing as error:
            say(str(error))
            return 3
        except (StartError, OutOfTime) as error:
            say(f"FAILED: {error}")
            return 1


def _run(suite: Suite, servers: Sequence[EchoServer], asked: argparse.Namespace) -> int:
    cases = suite.cases(asked.cases, asked.exclude)
    if not cases:
        say(f"No case matches {' '.join(asked.cases)}.")
        return 2
    results = {}
    same = True
    for server in servers:
        say(f"{server.name}: {len(cases)} cases, direct and through the proxy")
        comparison, faults = compare(suite, server, cases, asked.proxy_option)
        same = report(server.name, comparison, faults) and same
        results[server.name] = {**comparison.document(), "faults": faults}
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
