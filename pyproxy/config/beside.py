"""What may stand on the command line beside ``--config``, and where everything else goes.

The file has all the rest, so that nothing is said in two places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from pyproxy.config import value_kinds
from pyproxy.config.endpoints import Check
from pyproxy.config.file import load_file
from pyproxy.config.kinds import Shape, headings_of, keys_of, shape_of
from pyproxy.config.loader import ConfigError, Loader
from pyproxy.config.schema import Config
from pyproxy.config.tables import Listener, Root, Route, RouteOptions, Upstream

HERE_TOO = "endpoint"
"""The key that options beside --config may say: they take the place of the file's listeners."""

TABLES = (Root, Listener, Upstream, Route, RouteOptions)
"""The tables that have keys for options, in the order in which people are told of them."""

_HEADINGS = headings_of(Root)

_OTHER_NAMES = {
    "port": "endpoint",
    "interface": "endpoint",
    "listen": "endpoint",
    "prefix": "path",
    "header": "set_headers",
    "remove-header": "remove_headers",
    "response-header": "set_response_headers",
    "remove-response-header": "remove_response_headers",
}
"""Options whose keys have other names than they."""


@attrs.frozen
class Key:
    """What says in a file what an option says.

    Attributes:
        tables: in which it may stand.
        shape: what its value may be.
        value: the one that says the same as a flag; empty for an option with an argument.
    """

    name: str
    tables: tuple[type, ...]
    shape: Shape
    value: str

    @property
    def place(self) -> str:
        """The key and where it goes, as people are told of it."""
        said = f"{self.name} = {self.value}" if self.value else self.name
        *others, last = (_HEADINGS[table] for table in self.tables)
        if not last:
            return f"{said} at its top"
        return f"{said} under {', '.join(others)}{' or ' if others else ''}{last}"


def key_of(option: str) -> Key | None:
    """Return the key that says the same as an option; None when the file has none.

    Args: option, by its long name.
    """
    positive = option.removeprefix("no-")
    name = _OTHER_NAMES.get(option, positive.replace("-", "_"))
    tables = tuple(table for table in TABLES if name in keys_of(table))
    if not tables:
        return None
    shape = shape_of(keys_of(tables[0])[name])
    value = ""
    if shape is value_kinds.FLAG:
        value = "true" if positive == option else "false"
    return Key(name, tables, shape, value)


def load_with_overrides(
    options: Mapping[str, object],
    environment: Mapping[str, str],
    check_listen: Check,
    tries: bool = True,
) -> Config:
    """Read the file that --config names, and listen where the options beside it say.

    Args: tries, whether ports are tried too.
    Raises: ConfigError.
    """
    errors = [
        f"--{name}: with --config it goes into the file, as {key.place}"
        for name, key in _keys(options)
        if key.name != HERE_TOO
    ]
    if errors:
        raise ConfigError(errors)
    listen = None
    if any(key.name == HERE_TOO for _, key in _keys(options)):
        listen = Loader(options, environment, check_listen, tries).listen()
    path = Path(str(options["config"])).absolute()
    return load_file(path, environment, check_listen, listen, tries)


def _keys(options: Mapping[str, object]) -> Iterator[tuple[str, Key]]:
    """Yield each option that was said, and the key that says the same."""
    for name, value in options.items():
        said = value not in (None, [], 0, options.get(f"default-{name}"))
        if said and (key := key_of(name)):
            yield name, key
