"""The routes as the admin site shows them: in the order in which they match, without a secret."""

from __future__ import annotations

from pyproxy.config.schema import Config, RouteConfig
from pyproxy.config.values import is_credential
from pyproxy.observe.masking import Mask
from pyproxy.policy.instead import Redirection
from pyproxy.policy.matching import PRESENT, Condition, Match
from pyproxy.semantics.secrets import MASK


def routes_of(config: Config) -> list[dict[str, object]]:
    """Return the routes: of two that a request meets the first one serves it."""
    mask = Mask.of(config.secrets)
    routes = sorted(config.routes, key=lambda route: precedence(route.match))
    return [_shown(route, mask) for route in routes]


def precedence(match: Match) -> tuple[object, ...]:
    """Return what rules are sorted by, as ``matching`` ranks them.

    Of the hosts that one request can meet each ends the one before, so that the longer is the more
    specific; so it is with paths.  Rules that no request meets both of stand by the alphabet.
    """
    host, path = match.host, match.path
    kind_of_host = 2 if not host else 1 if host.startswith(b"*.") else 0
    return (kind_of_host, -len(host), host, not match.exact, -len(path), path, match.rank)


def _shown(route: RouteConfig, mask: Mask) -> dict[str, object]:
    match = route.match
    return {
        "host": _text(match.host, mask) or None,
        "path": _text(match.path, mask) or "/",
        "exact": match.exact,
        "methods": sorted(method.decode("ascii") for method in match.methods),
        "fields": {one.name.decode("ascii"): _wanted(one, mask) for one in match.conditions},
        **_end(route, mask),
    }


def _wanted(condition: Condition, mask: Mask) -> str:
    """Return what a field has to be; of one that carries credentials that is one."""
    secret = is_credential(condition.name.decode("ascii"), "")
    value = MASK if secret and condition.value != PRESENT else condition.value
    return _text(value, mask)


def _end(route: RouteConfig, mask: Mask) -> dict[str, object]:
    """Return where requests end: at a target, in a redirect or in a fixed answer."""
    instead = route.instead
    if isinstance(instead, Redirection):
        return {"redirect": _text(instead.to, mask)}
    if instead is not None:
        return {"answer": instead.status}
    return {"target": "demo" if route.target is None else route.target.shown}


def _text(octets: bytes, mask: Mask) -> str:
    return mask.apply(octets).decode("utf-8", "replace")
