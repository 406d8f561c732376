"""What reloads and restarts do under load: the measure of ``benchmarks.life``, in a small form."""

from __future__ import annotations

import subprocess
import sys
import unittest
from importlib.util import find_spec

from tests.live.kit import CHECKOUT

LIMIT = 240.0
"""Seconds that both may take on a busy machine."""


@unittest.skipUnless(find_spec("picows") and find_spec("uvloop"), "picows or uvloop is missing")
class LifeTests(unittest.TestCase):
    """Nothing is lost, refused or failed."""

    def check(self, workers: int) -> None:
        """Reload and restart while streams, WebSockets and requests go on."""
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.life", f"--workers={workers}"),
                *("--streams=20", "--websockets=20", "--rate=20", "--seconds=4"),
                *("--reloads=8", "--restarts=1"),
            ],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        self.assertEqual((0, ""), (ended.returncode, ended.stderr), ended.stdout)

    def test_one_process(self) -> None:
        """In one process."""
        self.check(1)

    def test_workers(self) -> None:
        """In workers."""
        self.check(2)
