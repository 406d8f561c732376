"""``make test`` runs every test once, and both runners."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

ROOT = Path(__file__).parents[1]
TESTS = {str(each.relative_to(ROOT)) for each in ROOT.glob("tests/**/test_*.py")}
LIVE = {each for each in TESTS if each.startswith("tests/live/")}


def run_by(target: str, runner: str) -> set[str]:
    """Return the files of tests that a target of the Makefile gives to a runner."""
    if not (make := shutil.which("make")):
        raise SkipTest("there is no make")
    printed = subprocess.run(
        [make, "--dry-run", "--no-print-directory", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.replace("\\\n", " ")
    (line,) = [each for each in printed.splitlines() if f"-m {runner} " in each]
    words = line.split()
    ignored = {word for before, word in pairwise(words) if before == "--ignore"}
    named = [word.rstrip("/") for word in words if word.startswith("tests")]
    return {
        test
        for test in TESTS - ignored
        for name in named
        if name not in ignored and (test == name or test.startswith(f"{name}/"))
    }


class MakefileTests(SynchronousTestCase):
    """Which runner has which tests."""

    def test_every_test_runs(self) -> None:
        """Every unit test is one of trial, every live one of pytest."""
        self.assertEqual(TESTS - LIVE, run_by("unit", "twisted.trial"))
        self.assertEqual(LIVE, run_by("pytest", "pytest") & LIVE)

    def test_not_twice(self) -> None:
        """Of the unit tests pytest has some, which are a small part."""
        twice = run_by("unit", "twisted.trial") & run_by("pytest", "pytest")
        self.assertIn("tests/test_exchange.py", twice)
        self.assertLess(len(twice), len(TESTS - LIVE) / 6)

    def test_lowest(self) -> None:
        """On the lowest versions pytest has all unit tests, and most of the live ones.

        TLS's are among them, where a ClientHello is read: what is offered by ALPN has moved.
        """
        found = run_by("test-lowest", "pytest")
        self.assertEqual(TESTS - LIVE, found - LIVE)
        for name in ("framing", "tls"):
            self.assertIn(f"tests/live/test_{name}.py", found)
