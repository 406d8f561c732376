"""The schema for editors judges shapes and single values as the walker does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.config.json_schema import json_schema
from pyproxy.config.kinds import (
    Kind,
    Named,
    Several,
    Shape,
    Sources,
    Switch,
    Table,
    keys_of,
    shape_of,
)
from pyproxy.config.tables import Root
from pyproxy.config.walker import Walker

SCHEMA = json_schema(Root, "pyproxy")
CHECK = jsonschema.Draft202012Validator(SCHEMA)

GOOD: dict[str, list[Any]] = {
    "endpoint": ["tcp:8000", "http://127.0.0.1:4318"],
    "target": ["https://api.example.com/v1"],
    "upstream_socket": ["/run/app.sock"],
    "upstream_ca": ["ca.pem"],
    "set_headers": [{"X-A": "b"}, {"X-A": ["b", "c"]}, {}],
    "set_response_headers": [{"X-A": "b"}],
    "headers": [{"Retry-After": "60"}],
    "remove_headers": [["Cookie"], []],
    "remove_response_headers": [["Server"]],
    "max_body": [0, 1000, "20m", "1 GiB"],
    "ws_max_message": [1, "64k"],
    "allow_host": [["chat.example.com", "*.example.com"]],
    "allow_origin": [["https://app.example.com"]],
    "host": ["a.example", "*.example"],
    "path": ["/", "/a/b"],
    "base": ["/v1/", "/"],
    "methods": [["GET", "POST"]],
    "fields": [{"Upgrade": "websocket"}],
    "upstream": ["a"],
    "to": ["/x", "https://h/x"],
    "status": [301, 308],
    "text": ["closed"],
    "trust_proxy": [["10.0.0.0/8", "unix"]],
    "workers": [1, 256, "auto"],
    "memory": [1, "512m"],
    "entry": ["8m"],
    "disk": ["/var/cache/pyproxy"],
    "disk_size": ["10g"],
    "redis": ["redis://127.0.0.1:6379/0", "rediss://a:b@h", "unix:///run/redis.sock"],
    "max_variants": [1, 10_000, 2.0],
    "whole": [1, "1m"],
    "ignore": [["/user", "/a/b~1c"], []],
    "pace": ["at-once", "as-recorded"],
    "access": ["combined", "json", "{client} {status}"],
    "file": ["access.log"],
    "max_size": [1, "100m"],
    "keep": [1, 10_000, 2.0],
    "service_name": ["front"],
    "sample": [0, 0.5, 1],
    "usage": [True, False, "ask", "ask-continuous"],
}
"""Values that are right, by key; any other key takes those of its kind."""

BAD: list[Any] = [None, [], [1], {}, {"a": 1}, True, -1, 1.5, 10**400, "", "\n", "no such thing"]
"""Values of every shape; some are right somewhere."""


def good_values(name: str, kind: Kind) -> list[Any]:
    """Return values that are right under a key."""
    if name in GOOD:
        return GOOD[name]
    return [True, False] if kind.schema["type"] == "boolean" else [1, 0.5, 300]


def several(name: str) -> list[Any]:
    """Return lists that are right under a key."""
    return [["Accept"], []] if name == "fields" else GOOD[name]


def values_of(name: str, shape: Shape) -> st.SearchStrategy[Any]:
    """Return what may stand under a key, right or wrong."""
    if isinstance(shape, Kind):
        right: st.SearchStrategy[Any] = st.sampled_from(good_values(name, shape))
    elif isinstance(shape, Several):
        right = st.sampled_from(several(name))
    elif isinstance(shape, Switch):
        right = st.one_of(st.booleans(), tables(shape.of))
    elif isinstance(shape, Table):
        right = tables(shape.of)
    elif isinstance(shape, Named):
        right = st.dictionaries(st.sampled_from(["a", "b"]), tables(shape.of), max_size=2)
    else:
        right = st.lists(tables(shape.of), max_size=2)
    return st.one_of(right, right, right, st.sampled_from(BAD))


def tables(of: type) -> st.SearchStrategy[Any]:
    """Return tables of a class, right or wrong."""
    keys = {name: values_of(name, shape_of(field)) for name, field in keys_of(of).items()}
    known = st.fixed_dictionaries({}, optional=keys)
    strange = st.dictionaries(st.just("strange"), st.just(1), max_size=1)
    return st.tuples(known, st.one_of(st.just({}), st.just({}), strange)).map(
        lambda pair: {**pair[0], **pair[1]}
    )


def accepted_by_walker(document: Any) -> bool:
    """Tell whether the walker finds nothing wrong in a document."""
    walker = Walker(Sources(Path(), {}))
    walker.table(Root, document)
    return not walker.problems


def accepted_by_schema(document: Any) -> bool:
    """Tell whether the schema finds nothing wrong in a document."""
    return bool(CHECK.is_valid(document))


class SchemaTests(SynchronousTestCase):
    """Both accept and refuse the same documents."""

    def test_is_a_schema(self) -> None:
        """It is one itself, and is JSON."""
        jsonschema.Draft202012Validator.check_schema(json.loads(json.dumps(SCHEMA)))

    @settings(max_examples=400, suppress_health_check=list(HealthCheck))
    @given(tables(Root))
    def test_the_same(self, document: dict[str, Any]) -> None:
        """Whatever stands where."""
        self.assertEqual(accepted_by_walker(document), accepted_by_schema(document), document)

    def test_each_key(self) -> None:
        """Every key of every table, right and wrong in turn."""
        for of, around in (
            (Root, lambda table: table),
            *(
                (shape_of(keys_of(Root)[name]).of, wrap)  # type: ignore[union-attr]
                for name, wrap in (
                    ("routes", lambda table: {"routes": [{"upstream": "a", **table}]}),
                    ("upstreams", lambda table: {"upstreams": {"a": table}}),
                    ("listeners", lambda table: {"listeners": [table]}),
                    ("defaults", lambda table: {"defaults": table}),
                )
            ),
        ):
            whole = {"routes": [{"upstream": "a"}]}
            for name, field in keys_of(of).items():
                shape = shape_of(field)
                tried = list(BAD)
                if isinstance(shape, Kind):
                    tried += good_values(name, shape)
                elif isinstance(shape, Several):
                    tried += GOOD[name]
                for value in tried:
                    document = {**whole, **around({name: value})}
                    self.assertEqual(
                        accepted_by_walker(document), accepted_by_schema(document), document
                    )
