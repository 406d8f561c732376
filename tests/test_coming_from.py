"""What the page for users of nginx, Caddy and LiteLLM shows of theirs is right.

What it shows of ours is checked with all other examples, in ``tests/test_docs.py``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from unittest import SkipTest

import trustme
from twisted.trial.unittest import SynchronousTestCase

from tests.documents import DOCS, Block, blocks

PAGE = DOCS / "coming-from.rst"

LIMIT = 60.0
"""Seconds in which a program has read its configuration."""


def shown(caption: str) -> list[Block]:
    """Return the blocks of the page that belong to one program."""
    return [block for block in blocks(PAGE.read_text("utf-8")) if block.caption == caption]


def whole_nginx(text: str) -> str:
    """Return a file for nginx that needs no port, and looks up no name of others."""
    if "events {" not in text:
        text = f"events {{\n}}\nhttp {{\n{text}}}\n"
    text = re.sub(r"listen (?:[0-9.]+:)?(\d+)", r"listen unix:\1.sock", text)
    text = re.sub(r"\bapi\.example\.com\b", "localhost", text)
    # Each of them would stand outside of the directory that the test has for itself.
    paths = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    inside = "".join(f"{name}_temp_path {name};\n" for name in paths)
    return f"pid nginx.pid;\n{text}".replace("http {\n", f"http {{\naccess_log off;\n{inside}", 1)


class ProgramTests(SynchronousTestCase):
    """Each program accepts what the page shows of its configuration."""

    def setUp(self) -> None:
        """Provide the files that the examples name."""
        self.directory = Path(tempfile.mkdtemp(prefix="coming-from-"))
        self.addCleanup(shutil.rmtree, self.directory)
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        authority.cert_pem.write_to_path(self.directory / "ca.pem")
        certificate.private_key_pem.write_to_path(self.directory / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(self.directory / "cert.pem")

    def run_program(self, *words: str) -> tuple[int, str]:
        """Run a program to its end; return its status and what it said."""
        done = subprocess.run(
            words,
            cwd=self.directory,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.directory),
                "OPENAI_API_KEY": "sk-example",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        return done.returncode, done.stdout

    def nginx(self, text: str) -> tuple[int, str]:
        """Have ``nginx -t`` read a file."""
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            raise SkipTest("nginx is not installed")
        (self.directory / "nginx.conf").write_text(whole_nginx(text), encoding="utf-8")
        where = str(self.directory)
        return self.run_program(program, "-t", "-e", "stderr", "-p", where, "-c", "nginx.conf")

    def caddy(self, text: str) -> tuple[int, str]:
        """Have ``caddy validate`` read a file."""
        program = shutil.which("caddy")
        if program is None:
            raise SkipTest("Caddy is not installed")
        (self.directory / "Caddyfile").write_text(text, encoding="utf-8")
        words = (program, "validate", "--adapter", "caddyfile", "--config", "Caddyfile")
        return self.run_program(*words)

    def test_nginx(self) -> None:
        """Each block of nginx's is taken by it, and a wrong one is not."""
        found = shown("nginx")
        self.assertGreater(len(found), 12)
        for block in found:
            status, said = self.nginx(block.text)
            self.assertEqual(0, status, f"{block.text}\n{said}")
            self.assertNotIn("[warn]", said, block.text)
        status, _ = self.nginx("server {\n    proxy_pas http://127.0.0.1;\n}\n")
        self.assertNotEqual(0, status)

    def test_caddy(self) -> None:
        """Each block of Caddy's is taken by it, and a wrong one is not."""
        found = shown("Caddy")
        self.assertGreater(len(found), 11)
        for block in found:
            status, said = self.caddy(block.text)
            self.assertEqual(0, status, f"{block.text}\n{said}")
        status, _ = self.caddy(":8000 {\n    reverse_prox 127.0.0.1:9000\n}\n")
        self.assertNotEqual(0, status)


class PageTests(SynchronousTestCase):
    """The page is complete."""

    def test_side_by_side(self) -> None:
        """Wherever theirs stand, so does ours."""
        captions = [block.caption for block in blocks(PAGE.read_text("utf-8"))]
        places = [at for at, caption in enumerate(captions) if caption == "Caddy"]
        self.assertGreater(len(places), 11)
        for at in places:
            self.assertEqual("nginx", captions[at - 1])
            self.assertIn(captions[at + 1], ("pyproxy", "pyproxy.toml"))

    def test_sources(self) -> None:
        """What is said of LiteLLM has the page of its documentation behind it."""
        text = PAGE.read_text("utf-8").partition("\nLiteLLM\n=======\n")[2]
        rows = re.findall(
            r"^   \* - .+\n     - ((?:.+\n(?!     - ))*.+)\n     - ", text, re.MULTILINE
        )
        self.assertGreater(len(rows), 8)
        for row in rows:
            self.assertRegex(row, r"\(``docs/[a-z_/]+``\)")
