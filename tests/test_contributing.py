"""What people who join are told to run exists, and what runs for them runs the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import ConfigParser

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.documents import DOCS, README, ROOT

CONTRIBUTING = ROOT / "CONTRIBUTING.rst"
TOX = ROOT / "tox.ini"
PRE_COMMIT = ROOT / ".pre-commit-config.yaml"


def can_make(target: str) -> bool:
    """Tell whether the Makefile has a target; nothing is made."""
    if not (make := shutil.which("make")):
        raise SkipTest("there is no make")
    words = [make, "--dry-run", "--no-print-directory", target]
    return subprocess.run(words, cwd=ROOT, capture_output=True, check=False).returncode == 0


class CommandTests(SynchronousTestCase):
    """Commands are the Makefile's."""

    def test_unknown(self) -> None:
        """What is no target is found out."""
        self.assertFalse(can_make("no-such-target"))

    def test_documents(self) -> None:
        """Those that the README and the guide name."""
        single = {"lint", "types", "docs", "micro", "profile"}
        for path, wanted in (
            (README, {"run", "test", "docs", "bench"}),
            (CONTRIBUTING, {"test", "test-lowest", "test-newest"} | single),
            (DOCS / "quickstart.rst", {"run"}),
        ):
            text = path.read_text("utf-8")
            found = re.findall(r"``make ([a-z][a-z-]*)``|^    make ([a-z-]+)", text, re.MULTILINE)
            names = {name for pair in found for name in pair if name}
            self.assertLessEqual(wanted, names, path.name)
            for name in names:
                self.assertTrue(can_make(name), f"{path.name}: make {name}")

    def test_tox(self) -> None:
        """Each environment of tox runs targets of the Makefile, and nothing else."""
        parser = ConfigParser()
        parser.read(TOX)
        names = {name.strip() for name in parser["tox"]["env_list"].split(",")}
        self.assertEqual({"lowest", "newest", "lint", "types", "docs"}, names)
        lines = parser["testenv"]["commands"].strip().splitlines()
        commands = dict(line.split(": ", 1) for line in lines)
        self.assertEqual(names, set(commands))
        for name, command in commands.items():
            program, *wanted = command.split()
            self.assertEqual("make", program, name)
            for target in wanted:
                self.assertTrue(can_make(target), f"{name}: {command}")

    def test_pre_commit(self) -> None:
        """What runs before a commit is ``make lint``, and what others wrote has its version."""
        text = PRE_COMMIT.read_text("utf-8")
        entries = re.findall(r"^ +entry: (.+)$", text, re.MULTILINE)
        self.assertEqual(["make --silent lint"], entries)
        self.assertTrue(can_make("lint"))
        repositories = re.findall(r"- repo: (\S+)\n(?: +rev: (\S+)\n)?", text)
        self.assertEqual([("local", "")], [each for each in repositories if not each[1]])
        for name, version in repositories:
            self.assertTrue(name == "local" or re.fullmatch(r"v\d+\.\d+\.\d+", version), name)

    def test_one_ruff(self) -> None:
        """The linter has one range of versions, that of setup.cfg; the hook has none of its own."""
        parser = ConfigParser()
        parser.read(ROOT / "setup.cfg")
        (wanted,) = re.findall(r"^ruff .*$", parser["options.extras_require"]["test"], re.MULTILINE)
        self.assertRegex(wanted, r"^ruff >= \d+\.\d+$")
        for path in (PRE_COMMIT, TOX, ROOT / "Makefile"):
            self.assertNotRegex(path.read_text("utf-8"), r"ruff *[=<>~@]", path.name)


class EditorTests(SynchronousTestCase):
    """Editors and the linter agree."""

    def test_line_length(self) -> None:
        """The longest line of Python is what ruff allows."""
        editor = (ROOT / ".editorconfig").read_text("utf-8")
        (line,) = re.findall(r"^max_line_length = (\d+)$", editor, re.MULTILINE)
        self.assertIn(f"\nline-length = {line}\n", (ROOT / "pyproject.toml").read_text("utf-8"))

    def test_in_the_source_distribution(self) -> None:
        """Who builds from it has all of this too."""
        manifest = (ROOT / "MANIFEST.in").read_text("utf-8").split()
        for path in (CONTRIBUTING, TOX, PRE_COMMIT, ROOT / ".editorconfig", README):
            self.assertTrue(path.is_file(), path)
            self.assertIn(path.name, manifest)
