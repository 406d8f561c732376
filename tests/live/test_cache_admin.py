"""The cache at the admin site of real processes."""

from __future__ import annotations

import subprocess
import sys
import unittest

from tests.live.kit import CHECKOUT, START_LIMIT, Proxy, eventually
from tests.turning import free_port


class NoCacheTests(unittest.TestCase):
    """Where no route caches, one process or several workers say so."""

    def check(self, workers: int) -> None:
        """Ask for figures, and for a purge."""
        place = f"tcp:{free_port()}"
        with Proxy("--demo", f"--admin={place}", f"--workers={workers}") as proxy:
            ready = workers if workers > 1 else 0
            self.assertTrue(
                eventually(lambda: proxy.log().count(" serves") >= ready, START_LIMIT), proxy.log()
            )
            for arguments in (("show",), ("purge", "--tag=a"), ("entries", "--prefix=http://h/")):
                ended = subprocess.run(
                    [sys.executable, "-m", "pyproxy", "cache", *arguments, f"--admin={place}"],
                    cwd=CHECKOUT,
                    capture_output=True,
                    text=True,
                    timeout=START_LIMIT,
                    check=False,
                )
                self.assertEqual((1, ""), (ended.returncode, ended.stdout))
                self.assertIn("no route has cache = true", ended.stderr)

    def test_one(self) -> None:
        """One process."""
        self.check(1)

    def test_workers(self) -> None:
        """Workers, each of which is asked."""
        self.check(2)
