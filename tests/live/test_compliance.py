"""Programs that nobody here wrote speak WebSocket through the proxy as without it.

They are installed at the first run; where this machine has no interpreter or no registry for them,
``compliance`` ends with ``MISSING`` and its test is skipped with what it said.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

from compliance.processes import CHECKOUT, run
from compliance.verdicts import Comparison, Verdict, read_report, table

LIMIT = 900.0
"""Seconds for one of them, with everything that it installs."""

MISSING = 3
SHORT = ("1.*", "2.*", "3.*", "4.*", "5.*", "7.*", "12.1.1", "12.4.1", "13.1.1", "13.5.1")
"""Cases that take seconds: every kind of frame, of close and of compression."""


class ComplianceTestCase(unittest.TestCase):
    """Run a module of ``compliance`` in a process of its own."""

    def setUp(self) -> None:
        """Choose where it may write."""
        self.directory = Path(tempfile.mkdtemp(prefix="compliance-"))
        self.addCleanup(shutil.rmtree, self.directory)

    def compliance(self, module: str, *words: str, **environment: str) -> tuple[int, str]:
        """Return the exit status and the output; skip the test where something is missing."""
        status, output = run(
            [sys.executable, "-m", f"compliance.{module}", *words],
            self.directory,
            module,
            LIMIT,
            {"PYTHONPATH": str(CHECKOUT), **environment},
        )
        if status == MISSING and not environment:
            self.skipTest(output.strip().rpartition("\n")[2])
        return status, output


class ProgramTests(ComplianceTestCase):
    """What they say is the same with the proxy in between."""

    def test_autobahn(self) -> None:
        """Every case of the fuzzing client has the same verdict (RFC 6455, RFC 7692)."""
        path = self.directory / "verdicts.json"
        status, output = self.compliance("autobahn", "--cases", *SHORT, "--json", str(path))
        self.assertEqual(0, status, output)
        verdicts = json.loads(path.read_text())
        self.assertEqual(["websockets", "ws"], sorted(verdicts))
        for server, found in verdicts.items():
            self.assertGreater(len(found["cases"]), 100, server)
            # Compression is agreed end to end: these two fail when an extension gets lost.
            for case in ("12.1.1", "13.1.1"):
                self.assertEqual("OK", found["cases"][case]["proxied"][0]["behavior"], case)

    def test_autobahn_with_limits(self) -> None:
        """Nor is a verdict changed where the proxy reads frame heads and adds its own pings."""
        status, output = self.compliance(
            "autobahn",
            *("--cases", *SHORT, "--servers", "ws"),
            *("--proxy-option=--ws-max-message=1g", "--proxy-option=--ws-idle-timeout=600"),
            "--proxy-option=--ws-ping=0.1",
        )
        self.assertEqual(0, status, output)

    def test_difference_is_found(self) -> None:
        """A proxy that takes the extensions out of the handshake does not pass."""
        status, output = self.compliance(
            "autobahn",
            *("--cases", "1.1.1", "12.1.1", "--servers", "websockets"),
            "--proxy-option=--remove-header=Sec-WebSocket-Extensions",
        )
        self.assertEqual(1, status, output)
        self.assertRegex(output, r"DIFFERENT through the proxy: 1\n.*\n +12\.1\.1 .*UNIMPLEMENTED")

    def test_jupyter(self) -> None:
        """JupyterLab runs code over its kernel channel, and its refusals arrive whole."""
        status, output = self.compliance("jupyter")
        self.assertEqual(0, status, output)
        self.assertEqual(4, output.count("print(6*7): 42"), output)

    def test_socketio(self) -> None:
        """A socket.io client upgrades from polling, and exchanges events with octets."""
        status, output = self.compliance("socketio")
        self.assertEqual(0, status, output)
        self.assertEqual(2, output.count("the transport of both ends is websocket"), output)

    def test_missing_interpreter(self) -> None:
        """Without Python 2.7 the suite is not run, and one sentence says why."""
        status, output = self.compliance("autobahn", PYTHON27=sys.executable)
        self.assertEqual(MISSING, status)
        self.assertRegex(output, r"\APYTHON27 is '.*', which is no Python 2\.7 that runs\.\n\Z")


OK = Verdict("OK", "OK", 1000)
LAX = Verdict("NON-STRICT", "OK", 1000)
FAILED = Verdict("FAILED", "FAILED", None)


class ComparisonTests(unittest.TestCase):
    """The comparison can tell ways apart, so that the tests above can fail."""

    def compare(
        self,
        *runs: tuple[dict[str, Verdict], dict[str, Verdict]],
        cases: tuple[str, ...] = ("1.1",),
    ) -> Comparison:
        """Return the comparison of some runs, direct and proxied."""
        comparison = Comparison(cases)
        for direct, proxied in runs:
            comparison.add(direct, proxied)
        return comparison

    def test_same(self) -> None:
        """The same verdicts are neither different nor missing nor unsteady."""
        found = self.compare(({"1.1": FAILED}, {"1.1": FAILED}))
        self.assertEqual([], found.differences() + found.missing() + found.unsteady())
        self.assertEqual([], found.unsettled())

    def test_different(self) -> None:
        """Each part of a verdict counts, the close code too."""
        for other in (
            Verdict("FAILED", "OK", 1000),
            Verdict("OK", "WRONG CODE", 1000),
            Verdict("OK", "OK", 1002),
            Verdict("OK", "OK", None),
        ):
            found = self.compare(({"1.1": OK}, {"1.1": other}))
            self.assertEqual(["1.1"], found.differences())
            self.assertEqual(["1.1"], found.unsettled())

    def test_missing(self) -> None:
        """A case without a verdict on one of the ways, or on both, is missing."""
        for direct, proxied in (({}, {"1.1": OK}), ({"1.1": OK}, {}), ({}, {})):
            found = self.compare((direct, proxied))
            self.assertEqual(["1.1"], found.missing())
            self.assertEqual([], found.differences())

    def test_timing(self) -> None:
        """A verdict that a repeated run gives both ways is unsteady, and no difference."""
        found = self.compare(({"1.1": OK}, {"1.1": LAX}), ({"1.1": LAX}, {"1.1": LAX}))
        self.assertEqual([], found.differences())
        self.assertEqual([], found.unsettled())
        self.assertEqual(["1.1"], found.unsteady())

    def test_sometimes_wrong(self) -> None:
        """A verdict that only the proxied way gives is shown, even if it passes at times."""
        found = self.compare(({"1.1": OK}, {"1.1": FAILED}), ({"1.1": OK}, {"1.1": OK}))
        self.assertEqual([], found.differences())
        self.assertEqual(["1.1"], found.unsettled())
        self.assertEqual(["1.1"], found.unsteady())
        self.assertIn("FAILED/FAILED/no Close, OK/OK/1000", table(found, found.unsteady()))

    def test_never_right(self) -> None:
        """A case whose verdicts have nothing in common stays a difference, however often it ran."""
        run = ({"1.1": OK}, {"1.1": FAILED})
        found = self.compare(run, run, run)
        self.assertEqual(["1.1"], found.differences())
        self.assertIn("3 x FAILED/FAILED/no Close", table(found, found.differences()))

    def test_totals(self) -> None:
        """Cases are counted by their first verdict."""
        found = self.compare(
            ({"1.1": OK, "1.2": OK}, {"1.1": OK, "1.2": FAILED}), cases=("1.1", "1.2")
        )
        self.assertEqual([("FAILED/FAILED", 0, 1), ("OK/OK", 2, 1)], found.totals())

    def test_report(self) -> None:
        """The suite's own report is read."""
        entry = {"behavior": "OK", "behaviorClose": "OK", "remoteCloseCode": 1000, "duration": 3}
        index = {"ws": {"1.1": entry, "1.2": {**entry, "remoteCloseCode": None}}}
        self.assertEqual({"1.1": OK, "1.2": Verdict("OK", "OK", None)}, read_report(index, "ws"))
        self.assertEqual({}, read_report(index, "another"))
