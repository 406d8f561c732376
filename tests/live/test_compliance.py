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
