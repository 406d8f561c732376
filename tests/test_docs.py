"""The documents tell the truth: options exist and are described, examples are accepted."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from itertools import pairwise
from pathlib import Path
from unittest import SkipTest

import trustme
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.forwarding import HOP_BY_HOP
from pyproxy.semantics.to_client import LEADS_PAST
from pyproxy.tap import Options

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.rst"
DOCS = ROOT / "docs"

MAX_DECISION_LINES = 40
"""Of a record of a decision: it says what and why, and the rest stands elsewhere."""

ENVIRONMENT = {"OPENAI_API_KEY": "sk-example"}
"""The variables that examples refer to."""

FILES: Mapping[str, bytes] = {
    "key.txt": b"Bearer sk-example\n",
    "backend-ca.pem": trustme.CA().cert_pem.bytes(),
}
"""The files that examples refer to."""


def documented_options(text: str) -> set[str]:
    """Return the long options that head a row of a list-table."""
    return set(re.findall(r"^   \* - ``--([a-z-]+)", text, re.MULTILINE))


def shell_lines(text: str) -> Iterator[str]:
    """Yield the commands of each ``sh`` block and literal block, continued lines joined."""
    blocks = re.findall(r"(?:code-block:: sh|::)\n\n((?: {4}.*\n|\n)+)", text)
    for block in blocks:
        yield from (line.strip() for line in block.replace("\\\n", " ").splitlines())


def proxy_commands(text: str) -> list[list[str]]:
    """Return the words after ``pyproxy`` of each twistd command in a text."""
    found = []
    for line in shell_lines(text):
        if re.match(r"(\S*/)?twistd ", line) and " pyproxy " in line and "[" not in line:
            words = shlex.split(line)
            found.append(words[words.index("pyproxy", 1) + 1 :])
    return found


def headings(text: str) -> list[str]:
    """Return the lines of a text that are underlined as sections of a page."""
    pairs = pairwise(text.splitlines())
    return [line for line, below in pairs if line and below == "-" * len(line)]


class FieldTests(SynchronousTestCase):
    """What is taken out of a message is told where the documents say that nothing is changed."""

    def test_fields_of_one_hop(self) -> None:
        """Each of them is named, and so is what leads past the proxy."""
        text = (DOCS / "options.rst").read_text()
        for name in HOP_BY_HOP | LEADS_PAST:
            self.assertRegex(text, rf"(?i)``{name.decode()}``")

    def test_proxy_authorization(self) -> None:
        """It ends here: a user may take it for a field like any other."""
        for page in (README, DOCS / "design.rst"):
            self.assertIn("``Proxy-Authorization``", page.read_text(), page)


class OptionTests(SynchronousTestCase):
    """The tables of options and the options agree."""

    def setUp(self) -> None:
        """Ask the parser what it knows; ``--help`` every command has."""
        self.actual = {name.removesuffix("=") for name in Options().longOpt} - {"help"}

    def test_readme_lists_every_option(self) -> None:
        """README.rst has each option, and none that does not exist."""
        documented = documented_options(README.read_text("utf-8"))
        self.assertEqual(sorted(self.actual), sorted(documented - {"help"}))

    def test_reference_lists_every_option(self) -> None:
        """docs/options.rst has each option, and none that does not exist."""
        documented = documented_options((DOCS / "options.rst").read_text("utf-8"))
        self.assertEqual(sorted(self.actual), sorted(documented - {"help"}))

    def test_mentioned_options_exist(self) -> None:
        """An option of the proxy that a text about errors names exists."""
        text = (DOCS / "errors.rst").read_text("utf-8")
        mentioned = set(re.findall(r"``--([a-z-]+)", text))
        self.assertEqual(set(), mentioned - self.actual)


class ExampleTests(SynchronousTestCase):
    """Commands in the documents are accepted as they stand."""

    def setUp(self) -> None:
        """Provide the variables and files that the examples name."""
        directory = Path(tempfile.mkdtemp(prefix="docs-"))
        self.addCleanup(shutil.rmtree, directory)
        for name, content in FILES.items():
            (directory / name).write_bytes(content)
        shutil.copytree(ROOT / "examples", directory / "examples", symlinks=True)
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(directory)
        for name, value in ENVIRONMENT.items():
            self.patch(os, "environ", {**os.environ, name: value})

    def check(self, path: Path, at_least: int) -> None:
        """Parse each command of a document with the real options."""
        commands = proxy_commands(path.read_text("utf-8"))
        self.assertGreaterEqual(len(commands), at_least)
        for words in commands:
            self.accept(path.name, words)

    def accept(self, where: str, words: list[str]) -> None:
        """Parse one command with the real options."""
        # The options try the port, and somebody may well sit on 8000.
        free = ["0" if before == "--port" else word for before, word in pairwise(["", *words])]
        try:
            Options().parseOptions(free)
        except UsageError as error:
            self.fail(f"{where}: {shlex.join(words)}: {error}")

    def test_readme(self) -> None:
        """Every ``twistd … pyproxy …`` in README.rst parses."""
        self.check(README, at_least=6)

    def test_quickstart(self) -> None:
        """Every ``twistd … pyproxy …`` in docs/quickstart.rst parses."""
        self.check(DOCS / "quickstart.rst", at_least=2)

    def test_systemd_unit(self) -> None:
        """The unit's command parses; ``$$`` is systemd's way to write ``$``."""
        unit = (ROOT / "deploy" / "pyproxy.service").read_text("utf-8")
        found = re.search(r"^ExecStart=((?:.*\\\n)*.*)$", unit, re.MULTILINE)
        assert found is not None
        words = shlex.split(found[1].replace("\\\n", " ").replace("$$", "$"))
        self.accept("pyproxy.service", words[words.index("pyproxy", 1) + 1 :])


class FormatTests(SynchronousTestCase):
    """What is shown as it is, without Sphinx, is well-formed."""

    def test_readme(self) -> None:
        """README.rst and the other pages in folders have no fault that docutils would warn of."""
        if find_spec("docutils") is None or find_spec("pygments") is None:
            raise SkipTest("docutils and Pygments come with the extra `docs`")
        publish_doctree = import_module("docutils.core").publish_doctree
        for path in (README, *sorted(ROOT.glob("*/README.rst"))):
            heard = StringIO()
            publish_doctree(path.read_text("utf-8"), settings_overrides={"warning_stream": heard})
            self.assertEqual("", heard.getvalue(), path.name)


class DecisionTests(SynchronousTestCase):
    """Records of decisions have one form, which people find their way in."""

    def test_form(self) -> None:
        """Each has its number and title, what was decided first, other ways and the cost last."""
        records = sorted((DOCS / "adr").glob("0*.rst"))
        self.assertGreater(len(records), 10)
        for number, path in enumerate(records, 1):
            text = path.read_text("utf-8")
            title, underline, *lines = text.splitlines()
            self.assertTrue(path.name.startswith(f"{number:04}-"), path.name)
            self.assertTrue(title.startswith(f"{number}. "), path.name)
            self.assertEqual("=" * len(title), underline, path.name)
            self.assertLessEqual(len(lines) + 2, MAX_DECISION_LINES, path.name)
            found = headings(text)
            self.assertEqual("Decided", found[0], path.name)
            self.assertEqual(["What else was possible", "What it costs"], found[-2:], path.name)


class CheckerTests(SynchronousTestCase):
    """The reading of documents works, so that the tests above can fail."""

    def test_options_are_found(self) -> None:
        """Rows of tables count, mentions in prose do not."""
        text = "See ``--prose``.\n\n   * - ``--target URL``\n     - x\n   * - ``--demo``\n"
        self.assertEqual({"target", "demo"}, documented_options(text))

    def test_headings_are_found(self) -> None:
        """A section's title is underlined in its length; a table's rule is none."""
        text = "1. A\n====\n\nB\n-\n\n---\nC\n---\n"
        self.assertEqual(["B"], headings(text))

    def test_commands_are_found(self) -> None:
        """Continued lines are one command; twistd's own options are left out."""
        text = (
            "Text.\n\n.. code-block:: sh\n\n    twistd --pidfile x \\\n"
            "        pyproxy --port 1 --header 'A: ${B}'\n\n"
            "Use::\n\n    bin/twistd -n pyproxy --demo\n"
        )
        self.assertEqual([["--port", "1", "--header", "A: ${B}"], ["--demo"]], proxy_commands(text))
