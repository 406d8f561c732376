"""The schema of the configuration file, for editors, in the words of JSON Schema.

It judges shapes and single values; what only makes sense together the loader alone can tell.
Spec: JSON Schema draft 2020-12.
"""

from __future__ import annotations

from typing import Any

from pyproxy.config.kinds import (
    JsonSchema,
    Kind,
    Named,
    Several,
    Shape,
    Switch,
    Table,
    doc_of,
    is_required,
    keys_of,
    shape_of,
)


def json_schema(root: type, title: str) -> JsonSchema:
    """Return the schema of a document whose root is a table."""
    definitions: dict[str, JsonSchema] = {}
    whole = _table(root, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **whole,
        "$defs": definitions,
    }


def _table(of: type, definitions: dict[str, JsonSchema]) -> JsonSchema:
    properties: dict[str, Any] = {}
    required = []
    for name, field in keys_of(of).items():
        properties[name] = {**_value(shape_of(field), definitions), "description": doc_of(field)}
        if is_required(field):
            required.append(name)
    schema: JsonSchema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    if required:
        schema["required"] = required
    if choice := getattr(of, "EXACTLY_ONE_OF", ()):
        schema["oneOf"] = [{"required": [name]} for name in choice]
    return schema


def _value(shape: Shape, definitions: dict[str, JsonSchema]) -> JsonSchema:
    if isinstance(shape, Kind):
        return shape.schema
    if isinstance(shape, Several):
        return _list(shape.kind.schema, shape.least)
    name = shape.of.__name__
    if name not in definitions:
        definitions[name] = {}
        definitions[name] = _table(shape.of, definitions)
    reference: JsonSchema = {"$ref": f"#/$defs/{name}"}
    if isinstance(shape, Table):
        return reference
    if isinstance(shape, Switch):
        return {"anyOf": [{"type": "boolean"}, reference]}
    if isinstance(shape, Named):
        return {"type": "object", "additionalProperties": reference}
    return _list(reference, shape.least)


def _list(items: JsonSchema, least: int) -> JsonSchema:
    schema: JsonSchema = {"type": "array", "items": items}
    if least:
        schema["minItems"] = least
    return schema
