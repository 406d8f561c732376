"""What docs/design.rst calls a trap has a test that names it."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]


def short(name: str) -> str:
    """Return a name as both sides write it, without what only one of them adds."""
    return name.strip().replace("'s", "").removesuffix(" transports").lower()


def listed(page: str) -> set[str]:
    """Return the names in the page's list of traps."""
    _, _, rest = page.partition("Traps in what we stand on\n=====")
    section = rest.partition("\n====")[0]
    # A list of definitions: the terms stand at the margin, behind the one sentence.
    terms = re.findall(r"^([^\s=][^\n]*)\n  \S", section, re.MULTILINE)
    return {short(re.split(r" \(|, ", term)[0]) for term in terms}


def named() -> set[str]:
    """Return the names in docstrings of tests."""
    words = re.compile(r"Trap[,] ([^:]+):")
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    found = [name for text in texts for name in words.findall(text)]
    return {short(name) for names in found for name in names.split(" and ")}


class TrapTests(SynchronousTestCase):
    """The list and the tests name the same."""

    def test_each_has_a_test(self) -> None:
        """Each has one, and no test names what is not on the list."""
        page = (ROOT / "docs" / "design.rst").read_text(encoding="utf-8")
        self.assertIn("twisted tls", listed(page))
        self.assertEqual(listed(page), named())
