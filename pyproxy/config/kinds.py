"""What a value of the configuration may be: how it is read, and how a schema for editors says so.

Reading raises ValueError with a sentence that says what would be right, or WrongParts with several;
it never quotes a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

JsonSchema = dict[str, Any]


@attrs.frozen
class Sources:
    """Where values come from that do not stand in the file itself.

    Attributes:
        directory: to which file names are relative.
        environment: the process's.
        files: those that were asked for, also when they could not be read.
    """

    directory: Path
    environment: Mapping[str, str]
    files: set[Path] = attrs.field(factory=set, eq=False)

    def path(self, name: str) -> Path:
        """Return where a named file is, and take note that it is asked for."""
        path = self.directory / name
        self.files.add(path.absolute())
        return path


class WrongParts(ValueError):
    """What is wrong within a value of many parts, all of it at once.

    Attributes:
        parts: of each that is wrong where it stands in the value, and what would be right.
    """

    def __init__(self, parts: Sequence[tuple[tuple[str | int, ...], str]]) -> None:
        super().__init__("; ".join(why for _, why in parts))
        self.parts = tuple(parts)


@attrs.frozen
class Kind:
    """A kind of value that stands in one place.

    Attributes:
        name: what the reference calls it.
        schema: in the words of JSON Schema (draft 2020-12).
        read: makes a fact of the value.
        secret: no error repeats the value.
    """

    name: str
    schema: JsonSchema
    read: Callable[[Any, Sources], Any]
    secret: bool = False


@attrs.frozen
class Several:
    """A list of values of one kind."""

    kind: Kind
    least: int = 0


@attrs.frozen
class Table:
    """A table whose keys are the fields of an attrs class."""

    of: type


@attrs.frozen
class Tables:
    """An array of such tables."""

    of: type
    least: int = 0


@attrs.frozen
class Named:
    """A table of such tables, each under a name of the operator's choice."""

    of: type


@attrs.frozen
class Switch:
    """Such a table, or true for one with nothing in it, or false."""

    of: type


Shape = Kind | Several | Table | Tables | Named | Switch

_SHAPE = "shape"
_DOC = "doc"
_SHOWN = "shown"


def key(shape: Shape, doc: str, *, default: Any = attrs.NOTHING, shown: str = "") -> Any:
    """Declare a key of a table as a field of an attrs class.

    Args: doc, a sentence or two for the reference; without default the key is required; shown, what
        the reference says instead of the default.
    """
    factory = attrs.Factory(default) if callable(default) else default
    return attrs.field(default=factory, metadata={_SHAPE: shape, _DOC: doc, _SHOWN: shown})


def keys_of(table: type) -> dict[str, attrs.Attribute[Any]]:
    """Return the keys of a table, in their order."""
    return {field.name: field for field in attrs.fields(table) if _SHAPE in field.metadata}


def shape_of(field: attrs.Attribute[Any]) -> Shape:
    """Return what a key's value may be."""
    shape: Shape = field.metadata[_SHAPE]
    return shape


def doc_of(field: attrs.Attribute[Any]) -> str:
    """Return what the reference says of a key."""
    return str(field.metadata[_DOC])


def shown_default(field: attrs.Attribute[Any]) -> str:
    """Return what the reference says of a key's default; empty for none."""
    shown: str = field.metadata[_SHOWN]
    if shown or not isinstance(field.default, bool | int | float | str):
        return shown
    if isinstance(field.default, bool):
        return "true" if field.default else "false"
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)


def headings_of(whole: type) -> dict[type, str]:
    """Return the tables of a document, each with what stands above its keys in a file."""
    forms = {Table: "[{}]", Tables: "[[{}]]", Named: "[{}.NAME]"}
    shapes = {name: shape_of(field) for name, field in keys_of(whole).items()}
    return {
        whole: "",
        **{
            shape.of: forms[type(shape)].format(name)
            for name, shape in shapes.items()
            if isinstance(shape, Table | Tables | Named)
        },
    }


def is_required(field: attrs.Attribute[Any]) -> bool:
    """Tell whether a table must have a key."""
    return field.default is attrs.NOTHING
