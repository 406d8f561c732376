"""The proxy's cache passes required tests of the public suite (https://cache-tests.fyi).

The package is installed at the first run; where this machine has no node or no registry for it the
tests are skipped with what was said.  ``python -m compliance.cache`` runs all of them.
"""

from __future__ import annotations

import re

from tests.live.test_compliance import ComplianceTestCase

GROUPS = (
    "cc-freshness",
    "age-parse",
    "cc-response",
    "vary",
    "vary-parse",
    "conditional-inm",
    "invalidation",
    "partial",
    "other",
)
"""Groups of every kind of rule; together they take seconds."""


class CacheSuiteTests(ComplianceTestCase):
    """Ask the package's server through the proxy."""

    def test_required(self) -> None:
        """Every required test of the selection passes (RFC 9111)."""
        status, output = self.compliance("cache", "--systems", "pyproxy", "--groups", *GROUPS)
        self.assertEqual(0, status, output)
        counted = re.search(r"Required tests passed\n\n.*\n +all +(\d+) +(\d+)\n", output)
        self.assertTrue(counted, output)
        assert counted is not None
        self.assertEqual(counted[1], counted[2], output)
        self.assertGreater(int(counted[1]), 55)

    def test_failure_is_found(self) -> None:
        """A proxy without its cache does not pass, and what it missed is named."""
        status, output = self.compliance(
            "cache",
            *("--systems", "pyproxy", "--tests", "other-age-gen", "--route", "access_log = false"),
        )
        self.assertEqual(1, status, output)
        self.assertIn("pyproxy FAILED: other-age-gen: failed: Response 2 does not come", output)

    def test_unknown(self) -> None:
        """A test that the package does not have is an error of the command line."""
        status, output = self.compliance("cache", "--systems", "pyproxy", "--tests", "no-such")
        self.assertEqual(2, status, output)
        self.assertEqual("There is no no-such among the tests.\n", output)
