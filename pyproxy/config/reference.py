"""The reference of command line and file, and the file's schema for editors, from their sources.

``python -m pyproxy.config.reference`` writes all three into a checkout; a test keeps them in step.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from pyproxy.config.beside import Key, key_of
from pyproxy.config.cache_tables import Cache, RouteCache, RoutePost
from pyproxy.config.json_schema import json_schema
from pyproxy.config.kinds import (
    Kind,
    Named,
    Several,
    Shape,
    Switch,
    Table,
    Tables,
    doc_of,
    is_required,
    keys_of,
    shape_of,
    shown_default,
)
from pyproxy.config.tables import (
    Answer,
    Listener,
    Log,
    Redirect,
    Root,
    Route,
    RouteOptions,
    Upstream,
)
from pyproxy.config.trace_tables import Traces
from pyproxy.tap import Options

OPTIONS = Path("docs", "options.inc")
KEYS = Path("docs", "keys.inc")
SCHEMA = Path("examples", "pyproxy.schema.json")

_PARTS: tuple[tuple[str, type], ...] = (
    ("The top of the file", Root),
    ("[[listeners]]", Listener),
    ("[upstreams.NAME]", Upstream),
    ("[[routes]]", Route),
    ("[[routes]] and [defaults]", RouteOptions),
    ("redirect = { … }", Redirect),
    ("answer = { … }", Answer),
    ("cache = { … }", RouteCache),
    ("post = { … }", RoutePost),
    ("[cache]", Cache),
    ("[log]", Log),
    ("[traces]", Traces),
)

_PREFIXES: dict[type, str] = {
    Root: "",
    Listener: "listeners.",
    Upstream: "upstreams.",
    Route: "routes.",
    RouteOptions: "routes.",
    Redirect: "redirect.",
    Answer: "answer.",
    RouteCache: "routes.cache.",
    RoutePost: "routes.cache.post.",
    Cache: "cache.",
    Log: "log.",
    Traces: "traces.",
}
"""What stands before the names of a table's keys, so that each is told from those of others."""

_ARGUMENTS = {
    "config": "FILE",
    "port": "PORT",
    "interface": "ADDRESS",
    "listen": "ENDPOINT",
    "workers": "N",
    "header": "'NAME: VALUE'",
    "remove-header": "NAME",
    "response-header": "'NAME: VALUE'",
    "remove-response-header": "NAME",
}
"""What stands for the arguments of options; of any other it is what its key is."""

_SHAPES: dict[type, str] = {
    Table: "table",
    Tables: "array of tables",
    Named: "table of tables",
    Switch: "true, false or table",
}

_code = re.compile(r"`([^`]+)`")
_in_help = re.compile(
    r"(?P<option>--[a-z-]+)"
    r"|(?P<code>\b[a-z][a-z()]*:[^\s),;]*[^\s),;.]|\$\{\w+\}|(?<!\w)@[A-Z]+|\*\.[A-Z]+)"
    r"|(?<!\w)'(?P<quoted>[^']+)'(?!\w)"
    r"|(?P<mark>[\\`*_|])"
)
"""What a sentence for the terminal may have that reStructuredText writes in another way."""


def options() -> str:
    """Return the reference of the command line as reStructuredText."""
    known = Options()
    return "\n".join(
        line
        for name in sorted(long.removesuffix("=") for long in known.longOpt)
        for line in _option_lines(known, name)
    )


def keys() -> str:
    """Return the reference of the file as reStructuredText."""
    return "\n".join(line for title, of in _PARTS for line in _part(title, of))


def schema() -> str:
    """Return the schema of the file as JSON."""
    return json.dumps(json_schema(Root, "pyproxy.toml"), indent=2) + "\n"


def _option_lines(known: Options, name: str) -> Iterator[str]:
    key = key_of(name)
    spellings = [f"--{name}"]
    spellings += [f"-{short}" for short, long in known.synonyms.items() if long == name != short]
    argument = f" {_argument(name, key)}" if f"{name}=" in known.longOpt else ""
    yield f".. option:: {', '.join(spelling + argument for spelling in spellings)}"
    yield ""
    yield "   " + _in_help.sub(_in_markup, " ".join(known.docs[name].split()))
    yield ""
    said = []
    if isinstance(default := known.defaults.get(name), str):
        said.append(f"Default: ``{default}``.")
    if key is not None:
        said.append(f"In the file: {_links(key)}.")
    if said:
        yield f"   {'  '.join(said)}"
        yield ""


def _in_markup(found: re.Match[str]) -> str:
    if option := found["option"]:
        return f":option:`{option}`"
    if code := found["code"] or found["quoted"]:
        return f"``{code}``"
    return f"\\{found['mark']}"


def _argument(name: str, key: Key | None) -> str:
    if name in _ARGUMENTS or key is None:
        return _ARGUMENTS[name]
    shape = key.shape.kind if isinstance(key.shape, Several) else key.shape
    return _name(shape).upper()


def _links(key: Key) -> str:
    """Return references to a key in each of the tables that have it."""
    names = dict.fromkeys(_PREFIXES[table] + key.name for table in key.tables)
    value = f" ``= {key.value}``" if key.value else ""
    return ", ".join(f":confval:`{name}`" for name in names) + value


def _part(title: str, of: type) -> Iterator[str]:
    yield from (title, "-" * len(title), "")
    yield from (_code.sub(r"``\1``", (of.__doc__ or "").split("\n")[0]), "")
    inherited = set(keys_of(RouteOptions)) if of is Route else set()
    for name, field in keys_of(of).items():
        if name not in inherited:
            yield f".. confval:: {_PREFIXES[of]}{name}"
            yield f"   :type: {_name(shape_of(field))}"
            yield f"   :default: {_default(field)}"
            yield ""
            yield "   " + _code.sub(r"``\1``", doc_of(field))
            yield ""


def _name(shape: Shape) -> str:
    if isinstance(shape, Kind):
        return shape.name
    if isinstance(shape, Several):
        return f"list of: {shape.kind.name}"
    return _SHAPES[type(shape)]


def _default(field: attrs.Attribute[Any]) -> str:
    if is_required(field):
        return "none; it is required"
    return f"``{shown}``" if (shown := shown_default(field)) else "none"


def main() -> None:
    """Write all three."""
    OPTIONS.write_text(options(), encoding="utf-8")
    KEYS.write_text(keys(), encoding="utf-8")
    SCHEMA.write_text(schema(), encoding="utf-8")


if __name__ == "__main__":
    main()
