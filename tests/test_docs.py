"""The documents tell the truth: options exist and are described, examples are accepted."""

from __future__ import annotations

import atexit
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import SkipTest

import trustme
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config import reference
from pyproxy.semantics.forwarding import HOP_BY_HOP
from pyproxy.semantics.to_client import LEADS_PAST
from pyproxy.tap import Options
from tests.documents import DOCS, README, ROOT, Block, blocks, proxy_commands

MAX_README_LINES = 200
"""Of the README: who wants more finds where it is."""

MAX_DECISION_LINES = 40
"""Of a record of a decision: it says what and why, and the rest stands elsewhere."""

ENVIRONMENT = {"OPENAI_API_KEY": "sk-example", "LITELLM_KEY": "sk-litellm"}
"""The variables that examples refer to."""

MISTAKES = """\
[[listeners]]
endpoint = "tcp:8000:interface=127.0.0.1"



[[routes]]
path = "/"
upstream = "openai"



idle_timeout = "soon"

[upstreams.openai]
conect_timeout = 3
target = "https://api.openai.com/v1"
"""
"""A file with two of them."""

PAGES = (README, ROOT / "CONTRIBUTING.rst", *sorted(DOCS.rglob("*.rst")))


def files() -> Mapping[str, bytes]:
    """Return the files that examples refer to."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    return {
        "key.txt": b"Bearer sk-example\n",
        "backend-ca.pem": authority.cert_pem.bytes(),
        "ca.pem": authority.cert_pem.bytes(),
        "cert.pem": certificate.cert_chain_pems[0].bytes(),
        "key.pem": certificate.private_key_pem.bytes(),
        "pyproxy.toml": (ROOT / "examples" / "pyproxy.toml").read_bytes(),
    }


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
    """What the documents say of options is said of options that there are."""

    def test_mentioned_options_exist(self) -> None:
        """An option of the proxy that a text names exists."""
        actual = {name.removesuffix("=") for name in Options().longOpt}
        for page in (
            README,
            DOCS / "errors.rst",
            DOCS / "upstreams.rst",
            DOCS / "upstream-tls.rst",
        ):
            mentioned = set(re.findall(r"``--([a-z-]+)", page.read_text("utf-8")))
            self.assertGreater(len(mentioned), 0, page)
            self.assertEqual(set(), mentioned - actual, page)


class ExampleTests(SynchronousTestCase):
    """Commands and files in the documents are accepted by ``--check`` as they stand."""

    def setUp(self) -> None:
        """Provide the variables and files that the examples name."""
        directory = Path(tempfile.mkdtemp(prefix="docs-"))
        self.addCleanup(shutil.rmtree, directory)
        for name, content in files().items():
            (directory / name).write_bytes(content)
        shutil.copytree(ROOT / "examples", directory / "examples", symlinks=True)
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(directory)
        self.patch(os, "environ", {**os.environ, **ENVIRONMENT})

    def accept(self, where: str, words: list[str]) -> None:
        """Have one command checked, in this process."""
        heard = StringIO()
        self.patch(sys, "stderr", heard)
        try:
            Options().parseOptions([*words, "--check"])
        except SystemExit as end:
            self.assertEqual(0, end.code, f"{where}: {shlex.join(words)}: {heard.getvalue()}")
        else:
            self.fail(f"{where}: {shlex.join(words)} was not checked")

    def test_commands(self) -> None:
        """Every command that starts the proxy."""
        seen = {}
        for path in PAGES:
            found = proxy_commands(path.read_text("utf-8"))
            for words in found:
                self.accept(path.name, words)
            seen[path.name] = len(found)
        for name, least in (("README.rst", 6), ("quickstart.rst", 4), ("coming-from.rst", 10)):
            self.assertGreaterEqual(seen[name], least, name)

    def test_files(self) -> None:
        """Every file, and every part of one beside a route of ours."""
        seen = 0
        for path in PAGES:
            for block in blocks(path.read_text("utf-8")):
                if block.language == "toml":
                    rest = "" if "[[routes]]" in block.text else "[[routes]]\nanswer = {}\n"
                    Path("example.toml").write_text(block.text + rest, encoding="utf-8")
                    self.accept(f"{path.name}: {block.text}", ["--config", "example.toml"])
                    seen += 1
        self.assertGreaterEqual(seen, 3)

    def test_mistakes(self) -> None:
        """What the page of the configuration shows is said of such mistakes, on such lines."""
        (shown,) = [
            block.text.splitlines()
            for block in blocks((DOCS / "configuration.rst").read_text("utf-8"))
            if "did you mean" in block.text
        ]
        Path("pyproxy.toml").write_text(MISTAKES, encoding="utf-8")
        heard = StringIO()
        self.patch(sys, "stderr", heard)
        with self.assertRaises(SystemExit):
            Options().parseOptions(["--config", "pyproxy.toml", "--check"])
        said = [line.rpartition("/")[2] for line in heard.getvalue().splitlines()]
        self.assertEqual(shown, said)

    def test_wrong_ones_are_refused(self) -> None:
        """A wrong command does not pass, so that the tests above can fail."""
        with self.assertRaises(self.failureException):
            self.accept("a test", ["--target", "ftp://h"])


class FormatTests(SynchronousTestCase):
    """What is shown as it is, without Sphinx, is well-formed, and the README is short."""

    def test_length(self) -> None:
        """The README is read to its end."""
        self.assertLess(len(README.read_text("utf-8").splitlines()), MAX_README_LINES)

    def test_readme(self) -> None:
        """README.rst and the other pages in folders have no fault that docutils would warn of."""
        if find_spec("docutils") is None or find_spec("pygments") is None:
            raise SkipTest("docutils and Pygments come with the extra `docs`")
        publish_doctree = import_module("docutils.core").publish_doctree
        for path in (README, ROOT / "CONTRIBUTING.rst", *sorted(ROOT.glob("*/README.rst"))):
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


class BuiltTests(SynchronousTestCase):
    """The pages as Sphinx makes them."""

    def setUp(self) -> None:
        """Have them made, once."""
        if find_spec("sphinx") is None or find_spec("furo") is None:
            raise SkipTest("Sphinx and furo come with the extra `docs`")
        self.pages = built_pages()

    def search_index(self) -> dict[str, Any]:
        """Return what the page's own search looks into."""
        text = (self.pages / "searchindex.js").read_text("utf-8")
        index: dict[str, Any] = json.loads(text.removeprefix("Search.setIndex(").rstrip(";)"))
        return index

    def test_names_are_found(self) -> None:
        """Every option and every key is in the search index, and has an anchor on its page."""
        index = self.search_index()
        anchors = {
            (f"{prefix}." if prefix else "") + name: (index["docnames"][page], anchor)
            for prefix, found in index["objects"].items()
            for page, _, _, anchor, name in found
        }
        named = re.compile(r"^\.\. (option|confval):: ([^ ,\n]+)", re.MULTILINE)
        names = named.findall(reference.options() + reference.keys())
        self.assertGreater(len(names), 80)
        for kind, name in names:
            self.assertIn(name, anchors)
            page, anchor = anchors[name]
            shown = {"-": f"{kind}-{name}", "": name}.get(anchor, anchor)
            text = (self.pages / f"{page}.html").read_text("utf-8")
            self.assertIn(f'id="{shown}"', text, name)
        self.assertEqual(("options", "cmdoption-drain-timeout"), anchors["--drain-timeout"])
        self.assertEqual("configuration", anchors["drain_timeout"][0])

    def test_nothing_is_fetched_from_elsewhere(self) -> None:
        """Scripts, styles, fonts and pictures are the pages' own."""
        pages = sorted(self.pages.rglob("*.html"))
        self.assertGreater(len(pages), 20)
        for page in pages:
            needs = Needs()
            needs.feed(page.read_text("utf-8"))
            self.assertGreater(len(needs.found), 3, page)
            self.assertEqual([], [each for each in needs.found if "//" in each], page)
        for style in self.pages.rglob("*.css"):
            text = style.read_text("utf-8")
            self.assertEqual([], re.findall(r"@import[^;]*|url\([\"']?(?:https?:)?//[^)]*", text))

    def test_blocks_can_be_copied(self) -> None:
        """Pages load the script that makes buttons, and the script is there."""
        text = (self.pages / "coming-from.html").read_text("utf-8")
        self.assertRegex(text, r'<script src="_static/copybutton\.js[?"]')
        self.assertTrue((self.pages / "_static" / "copybutton.js").is_file())


class Needs(HTMLParser):
    """Gathers the addresses of what a browser fetches to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of what an element fetches by itself; a link is followed by people."""
        values = dict(attrs)
        name = "src" if tag != "link" else "href"
        if values.get("rel") not in ("index", "search", "next", "prev", "author", "canonical"):
            self.found += filter(None, [values.get(name)])


@cache
def built_pages() -> Path:
    """Build the pages in a directory of their own, and return it."""
    directory = Path(tempfile.mkdtemp(prefix="pages-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html"),
            *("-d", str(directory / "read"), str(DOCS), str(directory / "html")),
        ],
        cwd=ROOT,
        check=True,
    )
    return directory / "html"


class CheckerTests(SynchronousTestCase):
    """The reading of documents works, so that the tests above can fail."""

    def test_headings_are_found(self) -> None:
        """A section's title is underlined in its length; a table's rule is none."""
        text = "1. A\n====\n\nB\n-\n\n---\nC\n---\n"
        self.assertEqual(["B"], headings(text))

    def test_blocks_are_found(self) -> None:
        """A block has its language and caption, and stands as if nothing were before it."""
        text = (
            "Text::\n\n    a\n\n      b\n\n.. container:: x\n\n    .. code-block:: nginx\n"
            "        :caption: one two\n\n        c\n\nText.\n"
        )
        wanted = [Block("", "", "a\n\n  b\n"), Block("nginx", "one two", "c\n")]
        self.assertEqual(wanted, list(blocks(text)))

    def test_commands_are_found(self) -> None:
        """Continued lines are one command; twistd's own options are left out."""
        text = (
            "Text.\n\n.. code-block:: sh\n\n    twistd --pidfile x \\\n"
            "        pyproxy --port 1 --header 'A: ${B}'\n\n"
            "Use::\n\n    curl -d '{\n      }'\n    bin/twistd -n pyproxy --demo  # so\n"
            "    python -m pyproxy --check\n"
        )
        wanted = [["--port", "1", "--header", "A: ${B}"], ["--demo"], ["--check"]]
        self.assertEqual(wanted, proxy_commands(text))
