"""Configurations with one route, from what tests say of them."""

from __future__ import annotations

from typing import Any

import attrs

from pyproxy.config.schema import Config, Listen, RouteConfig
from pyproxy.policy.cache_policy import CachePolicy
from pyproxy.policy.matching import Match

_OF_THE_WHOLE = {field.name for field in attrs.fields(Config)}


def one_route(prefix: bytes = b"", **settings: Any) -> Config:
    """Return a configuration with one route; settings of either, each by its name."""
    of_the_whole = _OF_THE_WHOLE & set(settings)
    if isinstance(settings.get("cache"), CachePolicy):
        of_the_whole.discard("cache")
    whole = {name: settings.pop(name) for name in of_the_whole}
    route = RouteConfig(match=Match(path=prefix), **{"target": None, **settings})
    return Config(**{"routes": (route,), "listen": (Listen(),), **whole})
