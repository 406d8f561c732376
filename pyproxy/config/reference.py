"""The reference of the configuration file, and its schema for editors, from the tables themselves.

``python -m pyproxy.config.reference`` writes both into a checkout; a test keeps them in step.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from pyproxy.config.json_schema import json_schema
from pyproxy.config.kinds import (
    Kind,
    Named,
    Several,
    Shape,
    Table,
    Tables,
    doc_of,
    is_required,
    keys_of,
    shape_of,
    shown_default,
)
from pyproxy.config.tables import Answer, Listener, Redirect, Root, Route, RouteOptions, Upstream

REFERENCE = Path("docs", "keys.inc")
SCHEMA = Path("examples", "pyproxy.schema.json")

_PARTS: tuple[tuple[str, type], ...] = (
    ("The top of the file", Root),
    ("[[listeners]]", Listener),
    ("[upstreams.NAME]", Upstream),
    ("[[routes]]", Route),
    ("[[routes]] and [defaults]", RouteOptions),
    ("redirect = { … }", Redirect),
    ("answer = { … }", Answer),
)

_code = re.compile(r"`([^`]+)`")


def reference() -> str:
    """Return the reference as reStructuredText."""
    return "\n".join(line for title, of in _PARTS for line in _part(title, of)) + "\n"


def schema() -> str:
    """Return the schema as JSON."""
    return json.dumps(json_schema(Root, "pyproxy.toml"), indent=2) + "\n"


def _part(title: str, of: type) -> Iterator[str]:
    yield from (title, "-" * len(title), "")
    yield from ((of.__doc__ or "").split("\n")[0], "")
    yield from (".. list-table::", "   :widths: 26 20 14 40", "   :header-rows: 1", "")
    yield from ("   * - Key", "     - What it is", "     - Default", "     - What it does")
    inherited = set(keys_of(RouteOptions)) if of is Route else set()
    for name, field in keys_of(of).items():
        if name not in inherited:
            yield f"   * - ``{name}``"
            yield f"     - {_name(shape_of(field))}"
            yield f"     - {_default(field)}"
            yield "     - " + _code.sub(r"``\1``", doc_of(field))
    yield ""


def _name(shape: Shape) -> str:
    if isinstance(shape, Kind):
        return shape.name
    if isinstance(shape, Several):
        return f"list of: {shape.kind.name}"
    return {Table: "table", Tables: "array of tables", Named: "table of tables"}[type(shape)]


def _default(field: attrs.Attribute[Any]) -> str:
    if is_required(field):
        return "required"
    return shown_default(field) or "none"


def main() -> None:
    """Write both."""
    REFERENCE.write_text(reference(), encoding="utf-8")
    SCHEMA.write_text(schema(), encoding="utf-8")


if __name__ == "__main__":
    main()
