"""The map of the packages holds: who may import whom, parsed from the source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[1] / "pyproxy"

RINGS = (
    frozenset({"errors", "carrier"}),
    frozenset({"semantics"}),
    frozenset({"account"}),
    frozenset({"policy"}),
    frozenset({"relay"}),
    frozenset({"exchange", "held", "insertion", "preparing", "sides"}),
    frozenset({"cache", "demo", "ingress", "observe", "sharing", "upstream"}),
    frozenset(
        {
            "__main__",
            "admin",
            "adopting",
            "collector",
            "config",
            "descriptors",
            "desk",
            "ending",
            "life",
            "listeners",
            "pid_file",
            "plan",
            "stores",
            "proxy",
            "reactors",
            "service",
            "tap",
            "terminal",
            "threads",
            "turn",
            "unix_port",
            "workers",
        }
    ),
)
"""What stands under ``pyproxy``, innermost first; a ring imports itself and those before it."""

PURE = frozenset({"errors", "semantics", "account", "policy"})
"""These import the standard library, what ``PURE_TOO`` names and each other, and nothing else."""

PURE_TOO = frozenset({"attrs", "http_sf", "idna"})
"""Packages of others that do nothing but compute."""

STRANGERS = (frozenset({"cache", "ingress", "upstream"}),)
"""Pairs in one ring that must not know each other."""


@attrs.frozen
class Import:
    """One imported name; ``from module import name`` has both, ``import module`` no name."""

    line: int
    module: str
    name: str | None
    at_import: bool
    """Whether it runs when the module is imported, and not inside a function."""

    @property
    def dotted(self) -> str:
        """The module and the name as one dotted name."""
        return f"{self.module}.{self.name}" if self.name else self.module


def imports(source: str, module: str, is_package: bool) -> Iterator[Import]:
    """Yield each import in a source, those under TYPE_CHECKING and in functions too."""
    package = module if is_package else module.rpartition(".")[0]

    def visit(node: ast.AST, at_import: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, None, at_import)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                yield Import(node.lineno, base, alias.name, at_import)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, at_import and not inside)

    yield from visit(ast.parse(source), True)


def ring_of(part: str) -> int | None:
    """Return the ring of a part of ``pyproxy``, None for one that is not on the map."""
    return next((ring for ring, parts in enumerate(RINGS) if part in parts), None)


def breaches(sources: Mapping[str, str], packages: frozenset[str] = frozenset()) -> list[str]:
    """Return every breach of the map, as ``module:line: sentence``.

    Args: sources by dotted module name; the names among them that are packages.
    """
    found: list[str] = []
    edges: dict[str, set[str]] = {}
    for module, source in sorted(sources.items()):
        edges[module] = set()
        part = _part(module)
        if part and ring_of(part) is None:
            found.append(f"{module}:1: {part} is not on the map of the rings")
            continue
        for each in imports(source, module, module in packages):
            found += (f"{module}:{each.line}: {sentence}" for sentence in _judge(part, each))
            if each.dotted in sources or each.module in sources:
                edges[module].add(each.dotted if each.dotted in sources else each.module)
    found += (f"{cycle[0]}:1: cycle of imports: {' > '.join(cycle)}" for cycle in cycles(edges))
    return found


def _part(module: str) -> str:
    """Return the name right below ``pyproxy``; empty for ``pyproxy`` itself."""
    return module.split(".")[1] if "." in module else ""


def _judge(part: str, each: Import) -> Iterator[str]:
    if each.at_import and each.dotted == "twisted.internet.reactor":
        yield "imports the reactor for the whole module; take it as an argument"
    top = each.module.split(".")[0]
    if top != "pyproxy":
        if part in PURE and top not in PURE_TOO and top not in sys.stdlib_module_names:
            yield f"{part} is pure and imports {top}"
        return
    other = _part(each.dotted)
    if not part or not other or other == "__version__":
        return
    mine, theirs = ring_of(part), ring_of(other)
    if theirs is None:
        yield f"{other} is not on the map of the rings"
    elif mine is not None and theirs > mine:
        yield f"{part} is further in than {other} and must not import it"
    elif part != other and any({part, other} <= pair for pair in STRANGERS):
        yield f"{part} and {other} must not know each other"


def cycles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the cycles of a graph, one for each edge that closes one in a depth-first walk."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> None:
        if node in path:
            found.append([*path[path.index(node) :], node])
            return
        if node in done:
            return
        for other in sorted(edges.get(node, ())):
            walk(other, [*path, node])
        done.add(node)

    for node in sorted(edges):
        walk(node, [])
    return found


def read_sources(root: Path) -> tuple[dict[str, str], frozenset[str]]:
    """Return the sources below a package by dotted name, and which of them are packages."""
    sources: dict[str, str] = {}
    packages = set()
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
            packages.add(".".join(parts))
        sources[".".join(parts)] = path.read_text("utf-8")
    return sources, frozenset(packages)


class LayeringTests(SynchronousTestCase):
    """The source keeps to the map."""

    def test_source_has_no_breach(self) -> None:
        """No module imports from a ring further out, a stranger, or in a circle."""
        sources, packages = read_sources(ROOT)
        self.assertGreater(len(sources), 10)
        self.assertEqual([], breaches(sources, packages))


class CheckerTests(SynchronousTestCase):
    """The checker itself finds what it is for."""

    def assert_breach(self, sentence: str, **sources: str) -> None:
        """Check a made-up tree (``a__b`` stands for ``pyproxy.a.b``) for exactly one breach."""
        tree = {"pyproxy." + name.replace("__", "."): text for name, text in sources.items()}
        found = breaches(tree)
        self.assertEqual(1, len(found), found)
        self.assertIn(sentence, found[0])

    def test_outward_import(self) -> None:
        """An import from a ring further out is a breach, however it is written."""
        for source in (
            "from pyproxy.relay.pausing import Valve",
            "from pyproxy import relay",
            "import pyproxy.relay.pausing",
            "from ..relay import pausing",
            "def f():\n    from pyproxy.relay import pausing",
            "if TYPE_CHECKING:\n    from pyproxy.relay.pausing import Valve",
            "if typing.TYPE_CHECKING:\n    import pyproxy.relay",
            "try:\n    import pyproxy.relay\nexcept ImportError:\n    pass",
        ):
            self.assert_breach("further in than relay", policy__routing=source)

    def test_inward_import(self) -> None:
        """An import from a ring further in is none, nor one inside the same package."""
        tree = {
            "pyproxy.exchange": "from pyproxy.relay.pausing import Valve",
            "pyproxy.relay.pausing": "from . import limits\nimport twisted.internet.defer",
            "pyproxy.relay.limits": "import attrs",
            "pyproxy.ingress.channel": "from pyproxy import __version__",
        }
        self.assertEqual([], breaches(tree))

    def test_relative_import_in_package(self) -> None:
        """In ``__init__.py`` one dot is the package itself."""
        tree = {"pyproxy.semantics": "from .. import relay\nfrom .fields import Fields"}
        found = breaches(tree, frozenset({"pyproxy.semantics"}))
        self.assertEqual(1, len(found), found)
        self.assertIn("further in than relay", found[0])

    def test_strangers(self) -> None:
        """The two sides of the proxy do not know each other."""
        self.assert_breach("not know", ingress__channel="from pyproxy.upstream.agent import Agent")
        self.assert_breach("not know", upstream__agent="import pyproxy.ingress")

    def test_purity(self) -> None:
        """The pure parts import neither Twisted nor any other package."""
        self.assert_breach("imports twisted", semantics__sse="from twisted.internet import defer")
        self.assert_breach("imports treq", policy__routing="import treq")
        self.assertEqual([], breaches({"pyproxy.semantics.sse": "import re, attrs, json, idna"}))

    def test_reactor(self) -> None:
        """Nobody imports the reactor for a whole module; a function may, as its default."""
        source = "from twisted.internet import reactor"
        self.assert_breach("reactor", upstream__agent=source)
        self.assert_breach("reactor", upstream__agent="import twisted.internet.reactor")
        self.assertEqual([], breaches({"pyproxy.tap": f"def f():\n    {source}"}))

    def test_cycle(self) -> None:
        """A cycle is found also when every import of it keeps to the rings."""
        self.assert_breach(
            "cycle of imports: pyproxy.relay.a > pyproxy.relay.b > pyproxy.relay.a",
            relay__a="from pyproxy.relay.b import B",
            relay__b="def f():\n    from pyproxy.relay import a",
        )

    def test_unknown_part(self) -> None:
        """A new part has to be put on the map."""
        self.assert_breach("not on the map", novelty__thing="import re")
