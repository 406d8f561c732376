"""The kinds of values in the tables of the configuration.

Strings are read by the parsers that the command line uses too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from pyproxy.config import values
from pyproxy.config.kinds import JsonSchema, Kind, Sources, WrongParts
from pyproxy.observe.json_log import COMBINED, JSON, parse_format
from pyproxy.policy.insertions import Asks
from pyproxy.policy.matching import PRESENT, Condition
from pyproxy.semantics.fields import Field, is_field_value, is_token, lacking
from pyproxy.semantics.hosts import parse_socket
from pyproxy.semantics.urls import climbs, parse_prefix, parse_target

MOST_KEPT = 10_000
"""More files of a log than anybody keeps."""

_LOCATION = r"""https?://[!"$-.0->A-~]+(?:[/?#][!-~]*)?|/(?!/)[!-~]*"""
_NO_NAME = "it cannot be the name of a field"
_is_location = re.compile(_LOCATION.encode("ascii")).fullmatch


@attrs.frozen
class FieldsToSet:
    """Fields to write, and what of their values is secret."""

    fields: tuple[Field, ...] = ()
    secrets: tuple[bytes, ...] = ()

    def __add__(self, other: FieldsToSet) -> FieldsToSet:
        """Return these with others, which take the place of those of the same name."""
        names = {name.lower() for name, _ in other.fields}
        kept = tuple(lacking(self.fields, names))
        return FieldsToSet(kept + other.fields, self.secrets + other.secrets)


def text(name: str, parse: Callable[[str], Any], *, secret: bool = False, **schema: Any) -> Kind:
    """Return a kind of string.  Args: what JSON Schema can say of it."""

    def read(value: Any, sources: Sources) -> Any:
        if not isinstance(value, str):
            raise ValueError("it has to be a string")
        return parse(value)

    return Kind(name, {"type": "string", **schema}, read, secret)


def number(name: str, least: float, above: bool, most: float, why: str) -> Kind:
    """Return a kind of number.  Args: above, whether it has to be more than the least."""

    def read(value: Any, sources: Sources) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(why)
        if not least <= value <= most or (above and value == least):
            raise ValueError(why)
        return float(value)

    low = "exclusiveMinimum" if above else "minimum"
    return Kind(name, {"type": "number", low: least, "maximum": most}, read)


def number_or_text(
    name: str, parse: Callable[[str], Any], least: int, most: int, **schema: Any
) -> Kind:
    """Return a kind that is a whole number or a string which the parser knows."""

    def read(value: Any, sources: Sources) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | str):
            # The parser's own sentence says what would be right.
            return parse("")
        return parse(str(value))

    whole: JsonSchema = {"type": "integer", "minimum": least, "maximum": most}
    return Kind(name, {"anyOf": [whole, {"type": "string", **schema}]}, read)


def _admin_token(value: Any, sources: Sources) -> bytes:
    if not isinstance(value, str):
        raise ValueError("it has to be a string")
    return values.parse_admin_token(value, sources)


def count(name: str, most: int) -> Kind:
    """Return a kind of whole number from 1 on."""
    why = f"it has to be a whole number from 1 to {most}"

    def read(value: Any, sources: Sources) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(why)
        if not 1 <= value <= most or value != int(value):
            raise ValueError(why)
        return int(value)

    return Kind(name, {"type": "integer", "minimum": 1, "maximum": most}, read)


def _flag(value: Any, sources: Sources) -> bool:
    if not isinstance(value, bool):
        raise ValueError("it has to be true or false")
    return value


_ASKS = {"ask": Asks.AT_END, "ask-continuous": Asks.IN_EVERY_EVENT}


def _usage(value: Any, sources: Sources) -> bool | Asks:
    if isinstance(value, str) and value in _ASKS:
        return _ASKS[value]
    if not isinstance(value, bool):
        raise ValueError('it has to be true, false, "ask" or "ask-continuous"')
    return value


def _fields(of_responses: bool) -> Callable[[Any, Sources], FieldsToSet]:
    def read(value: Any, sources: Sources) -> FieldsToSet:
        if not isinstance(value, Mapping):
            raise ValueError('it has to be a table such as { X-Name = "value" }')
        fields: list[Field] = []
        secrets: list[bytes] = []
        wrong: list[tuple[tuple[str | int, ...], str]] = []
        for path, one in _each_value(value):
            try:
                field, parts = _field_to_set(path[0], one, sources, of_responses)
            except ValueError as error:
                wrong.append((path, str(error)))
            else:
                fields.append(field)
                secrets += parts
        if wrong:
            raise WrongParts(wrong)
        return FieldsToSet(tuple(fields), tuple(secrets))

    return read


def _each_value(table: Mapping[str, Any]) -> Iterator[tuple[tuple[str, *tuple[int, ...]], Any]]:
    """Give each value of a table of fields, a list's one by one, with where it stands in it."""
    for name, given in table.items():
        if isinstance(given, list):
            yield from (((name, number), one) for number, one in enumerate(given))
        else:
            yield (name,), given


def _field_to_set(
    name: str, value: Any, sources: Sources, of_responses: bool
) -> tuple[Field, list[bytes]]:
    """Return a field to write, and what of it is secret."""
    if not isinstance(value, str):
        raise ValueError("it has to be a string, or a list of them")
    if not is_token(name.encode("utf-8", "surrogateescape")):
        raise ValueError(_NO_NAME)
    field, parts = values.parse_field(f"{name}: {value}", sources)
    values.spare_handshake(field[0], of_responses)
    return field, parts


def _name_to_remove(of_responses: bool) -> Callable[[str], bytes]:
    def parse(value: str) -> bytes:
        name = values.parse_name(value)
        values.spare_handshake(name, of_responses)
        return name

    return parse


def _conditions(value: Any, sources: Sources) -> tuple[Condition, ...]:
    if not isinstance(value, Mapping):
        raise ValueError('it has to be a table such as { Accept = "text/event-stream" }')
    found = []
    wrong: list[tuple[tuple[str], str]] = []
    for name, wanted in value.items():
        octets = name.encode("utf-8", "surrogateescape")
        if not is_token(octets):
            wrong.append(((name,), _NO_NAME))
        elif not isinstance(wanted, str) or not is_field_value(wanted.encode("utf-8")):
            wrong.append(((name,), 'it has to be a string, or "*" for anything'))
        else:
            octets = octets.lower()
            found.append(Condition(octets, wanted.strip().lower().encode("utf-8") or PRESENT))
    if wrong:
        raise WrongParts(wrong)
    return tuple(sorted(found, key=lambda one: one.name))


def _path(value: str) -> bytes:
    if value.startswith("/") and "?" not in value and "#" not in value:
        parse_prefix(value)
        return value.encode("ascii")
    raise ValueError("it has to begin with `/` and hold percent-encoded ASCII, without a query")


def _base(value: str) -> bytes:
    """Parse the path that takes the place of the target's; with its final slash, if it has one."""
    octets = value.encode("utf-8", "surrogateescape")
    if not value.startswith("/") or not octets.isascii() or "?" in value or "#" in value:
        raise ValueError("it has to be a path such as /v1/, percent-encoded and without a query")
    if climbs(octets):
        raise ValueError("it must not climb with `..`")
    return octets


def _method(value: str) -> bytes:
    octets = value.encode("utf-8", "surrogateescape")
    if not is_token(octets):
        raise ValueError("it has to be a method such as GET")
    return octets


def _plain(value: str) -> str:
    return value


def _some(value: str) -> str:
    if not value:
        raise ValueError("it must not be empty")
    return value


TOKEN_PATTERN = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
PATH_PATTERN = r"^/[!-\"$->@-~]*$"

FLAG = Kind("true or false", {"type": "boolean"}, _flag)
USAGE = Kind("true, false or ask", {"enum": [True, False, *_ASKS]}, _usage)
SECONDS = number(
    "seconds",
    0,
    True,
    values.MAX_SECONDS,
    "it has to be a number of seconds greater than 0, such as 5 or 0.5",
)
WAIT = number(
    "seconds",
    0,
    False,
    values.MAX_SECONDS,
    "it has to be a number of seconds such as 30, or 0 for not at all",
)
SIZE_PATTERN = r"^ *[0-9]{1,15} ?(?:[KMGTkmgt](?:[Ii]?[Bb])?|[Bb])? *$"
SIZE = number_or_text("size", values.parse_size, 0, 10**15 - 1, pattern=SIZE_PATTERN)
SOME_SIZE = number_or_text("size", values.parse_some_size, 1, 10**15 - 1, pattern=SIZE_PATTERN)
WORKERS = number_or_text(
    'number or "auto"', values.parse_workers, 1, values.MAX_WORKERS, pattern="^auto$"
)
TARGET = text("URL", parse_target, secret=True, pattern="^(?:https?://|unix:)")
PATH = text("path", _path, pattern=PATH_PATTERN)
BASE = text("path", _base, pattern=PATH_PATTERN)
METHOD = text("method", _method, pattern=TOKEN_PATTERN)
_HOST_PATTERN = r"^(?:\*\.)?[!$&-).0-9;=A-Za-z_~-]+$|^\[?[0-9A-Fa-f:.]+\]?$"
HOST = text("host", values.parse_allowed_host, pattern=_HOST_PATTERN)
ORIGIN = text("origin", values.parse_allowed_origin, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]+$")
ADMIN = text("endpoint", values.parse_admin, pattern="^(?:tcp6?|ssl|unix):[^:]")
ADMIN_TOKEN = Kind(
    "@FILE or ${VARIABLE}",
    {"type": "string", "pattern": r"^(?:@.|\$\{)"},
    _admin_token,
    secret=True,
)
NAME = text("name", _some, minLength=1)
ENDPOINT = text("endpoint", _some, minLength=1)
FILE = text("file", _some, minLength=1)
_FIELD_VALUES: JsonSchema = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
    },
}
REQUEST_FIELDS = Kind("table of fields", _FIELD_VALUES, _fields(False), secret=True)
RESPONSE_FIELDS = Kind("table of fields", _FIELD_VALUES, _fields(True), secret=True)
REQUEST_NAME = text("field name", _name_to_remove(False), pattern=TOKEN_PATTERN)
RESPONSE_NAME = text("field name", _name_to_remove(True), pattern=TOKEN_PATTERN)
CONDITIONS = Kind(
    "table of fields",
    {"type": "object", "additionalProperties": {"type": "string"}},
    _conditions,
)


def _status(least: int, most: int, listed: tuple[int, ...] = ()) -> Kind:
    known = f"one of {', '.join(map(str, listed))}" if listed else f"from {least} to {most}"

    def read(value: Any, sources: Sources) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"it has to be a status, {known}")
        if value not in (listed or range(least, most + 1)):
            raise ValueError(f"it has to be a status, {known}")
        return value

    schema: JsonSchema = {"enum": list(listed)} if listed else {"minimum": least, "maximum": most}
    return Kind("status", {"type": "integer", **schema}, read)


def _route_host(value: str) -> bytes:
    name: bytes = values.parse_allowed_host(value)
    if name == b"any":
        raise ValueError("a route without `host` is for any host")
    return name


def _location(value: str) -> bytes:
    octets = value.encode("utf-8", "surrogateescape")
    if _is_location(octets) is None:
        raise ValueError(
            "it has to be a path, or a URL of http or https without a user, percent-encoded"
        )
    return octets


STATUS = _status(200, 599)
LOCATION = text("URL or path", _location, pattern=f"^(?:{_LOCATION})$")
REDIRECTION = _status(300, 399, (301, 302, 303, 307, 308))
ROUTE_HOST = text("host", _route_host, pattern=_HOST_PATTERN)
SOCKET = text("path", parse_socket, pattern="^/")
NETWORK = text("network", lambda value: None if value == "unix" else values.parse_network(value))
TEXT = text("text", _plain)


def _access(value: str) -> str:
    if value not in (COMBINED, JSON):
        parse_format(value)
    return value


ACCESS = text("combined, json or format", _access, pattern=r"^(?:combined|json|.*\{[a-z_]+\}.*)$")
KEEP = count("number", MOST_KEPT)
