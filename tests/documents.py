"""What the documents show, as tests read it: blocks, and the proxy's commands in them."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.rst"
DOCS = ROOT / "docs"

_block = re.compile(
    r"^(?P<indent> *)(?:\.\. code-block:: (?P<language>\w+)|(?!\.\. ).*::|::)\n"
    r"(?P<settings>(?:(?P=indent) +:[a-z-]+:.*\n)*)"
    r"\n"
    r"(?P<text>(?:(?P=indent) +.*\n|\n)+)",
    re.MULTILINE,
)
_caption = re.compile(r":caption: (.*)")


@attrs.frozen
class Block:
    """A block of a document, as it would be copied.

    Attributes:
        language: empty for a literal block.
        caption: empty for none.
    """

    language: str
    caption: str
    text: str


def blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of a text: code and literal ones."""
    for found in _block.finditer(text):
        caption = _caption.search(found["settings"])
        yield Block(
            found["language"] or "",
            caption[1] if caption else "",
            textwrap.dedent(found["text"]).strip("\n") + "\n",
        )


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the words of each command in a block of shell, continued lines joined."""
    pending = ""
    for line in block.text.replace("\\\n", " ").splitlines():
        pending += f"{line}\n"
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:
            continue  # a quoted word goes on in the next line
        pending = ""
        if words:
            yield words


def proxy_commands(text: str) -> list[list[str]]:
    """Return the options of each command in a text that starts the proxy."""
    return [
        words[words.index("pyproxy", 1) + 1 :]
        for block in blocks(text)
        if block.language in ("", "sh") and "pyproxy" in block.text
        for words in commands(block)
        if _starts_proxy(words)
    ]


def _starts_proxy(words: list[str]) -> bool:
    program = words[0].rpartition("/")[2]
    if program == "twistd":
        return "pyproxy" in words[1:]
    # These ask one that runs.
    is_ours = program.startswith("python") and words[1:3] == ["-m", "pyproxy"]
    return is_ours and words[3:4] not in (["cache"], ["top"], ["trace"])
