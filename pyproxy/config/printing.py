"""The effective configuration as a file again, without a secret: the way from options to a file.

What is printed can be read: a secret that was written out is masked, one that is only named
(``${NAME}``, ``@FILE``) stays named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from pyproxy.config import values
from pyproxy.config.file import read_document, read_text
from pyproxy.config.kinds import keys_of
from pyproxy.config.schema import CacheConfig, Config, Listen
from pyproxy.config.tables import Root, RouteOptions
from pyproxy.observe.masking import Mask
from pyproxy.semantics.secrets import MASK

UPSTREAM = "target"
"""The name of the one upstream of a command line."""

_UPSTREAM_OPTIONS = (
    "target",
    "demo",
    "upstream-socket",
    "connect-timeout",
    "upstream-ca",
    "upstream-insecure",
)
_ROUTE_OPTIONS = (
    "preserve-host",
    "first-byte-timeout",
    "idle-timeout",
    "upload-timeout",
    "max-body",
    "ws-max-message",
    "ws-idle-timeout",
    "ws-ping",
    "allow-host",
    "allow-origin",
)


MASKED = f"# Secrets are masked as {MASK.decode('ascii')}: put each in as ${{NAME}} or @FILE.\n"
"""Stands before a configuration in which a secret was written out."""


_SCHEMES = frozenset({"basic", "bearer", "digest", "negotiate", "token"})
"""Authentication schemes, which are no secrets; anything else before a space may be one."""


def printer(options: Mapping[str, Any]) -> Callable[[Config], str]:
    """Return what writes as TOML what options describe, or the file that they name, now.

    Args: options that make a configuration, as ``Loader`` has them.
    Returns: a function of the configuration in use, whose listeners and fixed parts may come from
        elsewhere: from options beside the file, from before a reload.
    """
    if options["config"] is not None:
        path = Path(options["config"])
        document = read_document(path, read_text(path))
    else:
        document = document_of(options)

    def text(config: Config) -> str:
        mask = Mask.of(config.secrets)

        def masked(text: str) -> str:
            return mask.apply(text.encode("utf-8")).decode("utf-8", "replace")

        toml = _toml(_masked(_whole(_in_use(document, config))))
        # Wherever else a credential was written that was also found as one.
        toml = masked(toml)
        shown = config.cache.redis_shown or ""
        if masked(shown) != shown:
            # A password that is only named, or masked already, looks like one to the mask.
            toml = toml.replace(masked(shown), shown)
        return MASKED + toml if MASK.decode("ascii") in toml else toml

    return text


def _in_use(document: dict[str, Any], config: Config) -> dict[str, Any]:
    """Return a document with what the configuration in use has otherwise."""
    listeners = [{"endpoint": _endpoint(listen)} for listen in config.listen]
    found = {**document, "listeners": listeners}
    if document.get("workers") != "auto":
        found["workers"] = config.workers
    found.pop("admin", None)
    if config.admin is not None:
        found["admin"] = _endpoint(config.admin)
    found["metrics"] = config.metrics
    found.pop("cache", None)
    if cache := _cache(document.get("cache", {}), config.cache):
        found["cache"] = cache
    return found


def _cache(said: Mapping[str, Any], cache: CacheConfig) -> dict[str, Any]:
    """Return what a document says of the store, at the place that is in use."""
    places = {"disk": cache.disk, "redis": cache.redis_shown}
    found = {name: value for name, value in said.items() if name not in ("disk_size", *places)}
    if cache.disk is not None:
        found["disk_size"] = cache.disk_size
    return found | {name: place for name, place in places.items() if place is not None}


def _endpoint(listen: Listen) -> str:
    """Return a place to listen as an endpoint string."""
    if listen.description is not None:
        return listen.description
    kind = "tcp6" if ":" in listen.interface else "tcp"
    interface = listen.interface.replace(":", r"\:")
    return f"{kind}:{listen.port}" + (f":interface={interface}" if interface else "")


def document_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document that says the same as a command line."""
    upstream: dict[str, Any] = _said(options, _UPSTREAM_OPTIONS)
    route: dict[str, Any] = {
        "path": options["prefix"],
        "upstream": UPSTREAM,
        **{
            key: value
            for key, value in _said(options, _ROUTE_OPTIONS).items()
            if value != values.DEFAULTS.get(key)
        },
    }
    for flag in ("stream_hints", "access_log"):
        if options[f"no-{flag.replace('_', '-')}"]:
            route[flag] = False
    for table, prefix, setting in ((upstream, "", "set"), (route, "response-", "set_response")):
        if options[f"{prefix}header"]:
            table[f"{setting}_headers"] = _fields(options[f"{prefix}header"])
        if options[f"remove-{prefix}header"]:
            removing = setting.replace("set", "remove")
            table[f"{removing}_headers"] = list(options[f"remove-{prefix}header"])
    return {
        "workers": _typed(options["workers"]),
        "client_timeout": _number(options["client-timeout"]),
        **_said(options, ("admin", "admin-token", "metrics", "drain-timeout", "drain-delay")),
        "open": bool(options["open"]),
        "trust_proxy": list(options["trust-proxy"]),
        "listeners": [{"endpoint": endpoint} for endpoint in _endpoints(options)],
        "upstreams": {UPSTREAM: upstream},
        "routes": [route],
    }


def _said(options: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return what options say, by the keys of the file."""
    return {
        name.replace("-", "_"): _typed(options[name])
        for name in names
        if options[name] not in (None, [], 0)
    }


def _endpoints(options: Mapping[str, Any]) -> list[str]:
    if options["listen"]:
        return list(options["listen"])
    return [_endpoint(Listen(None, options["port"], str(options["interface"])))]


def _fields(lines: list[str]) -> dict[str, Any]:
    """Return fields as a table; a name that stands twice has a list."""
    table: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.partition(":")
        table.setdefault(name.strip(), []).append(value.strip())
    return {name: found if len(found) > 1 else found[0] for name, found in table.items()}


def _typed(value: Any) -> Any:
    """Return what an option's text says, as a file has it."""
    if isinstance(value, int):
        return bool(value)
    if isinstance(value, str) and value.replace(".", "", 1).isdigit():
        return _number(value)
    return value


def _number(text: str) -> float | int:
    number = float(text)
    return int(number) if number.is_integer() else number


def _whole(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with the defaults of what it does not say, single values first."""
    plain: dict[str, Any] = {}
    for name, field in keys_of(Root).items():
        if name not in document and isinstance(field.default, bool | int | float):
            plain[name] = field.default
    plain |= {name: value for name, value in document.items() if not _is_table(value)}
    defaults = {
        field.name: values.DEFAULTS[field.name]
        for field in attrs.fields(RouteOptions)
        if field.name in values.DEFAULTS
    }
    tables = {name: value for name, value in document.items() if _is_table(value)}
    return {**plain, **tables, "defaults": {**defaults, **document.get("defaults", {})}}


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
    )


def _masked(document: Any, name: str = "") -> Any:
    """Return a document in which no credential stands in full."""
    if isinstance(document, Mapping):
        sets = name in ("set_headers", "set_response_headers", "headers")
        return {
            key: _masked(value)
            if name == "upstreams"
            else _masked_value(key, value)
            if sets or _is_wanted(name, value)
            else _masked(value, key)
            for key, value in document.items()
        }
    if isinstance(document, list):
        return [_masked(one, name) for one in document]
    return document


def _is_wanted(table: str, value: Any) -> bool:
    """Tell whether a value is what a field of a request has to be."""
    return table == "fields" and value != "*"


def _masked_value(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_masked_value(name, one) for one in value]
    if not isinstance(value, str) or not values.is_credential(name, value):
        return value
    scheme, space, _ = value.partition(" ")
    mask = MASK.decode("ascii")
    return f"{scheme} {mask}" if space and scheme.lower() in _SCHEMES else mask


def _toml(document: Mapping[str, Any]) -> str:
    # Imported where it is asked for.
    import tomli_w

    return tomli_w.dumps(document)
