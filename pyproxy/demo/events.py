"""The events of the Realtime API's clients: reading them, and what stands in them."""

from __future__ import annotations

import json
from typing import Any

from pyproxy.demo.openai import WORDS_LIMIT, RoleAndText, role_and_text
from pyproxy.demo.places import Refusal, within

Event = dict[str, Any]
"""An event, or an object in one."""

EVENT_LIMIT = 1024 * 1024
"""Octets that an event may have."""

_ROLES = ("user", "assistant", "system")

_SPARE_LEVELS = 32  # what an answer nests around a part of an event, and its calls, are fewer


def read_event(content: bytes, binary: bool) -> Event:
    """Return the event in a message; any part of it can be written as JSON again.

    Raises: Refusal if there is none.
    """
    if binary:
        raise Refusal(400, "Send events as text, not as binary messages.", code="invalid_message")
    try:
        event = nested = json.loads(content.decode())
        for _ in range(_SPARE_LEVELS):
            nested = [nested]
        json.dumps(nested, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"The event is not valid JSON: {error}.", code="invalid_json") from error
    if not isinstance(event, dict):
        raise Refusal(400, "An event must be a JSON object.", code="invalid_json")
    return event


def object_in(owner: Event, name: str, default: Event | None = None) -> Event:
    """Return an object; the default, if there is one, where it is missing or null.

    Raises: Refusal if there is something else.
    """
    given = default if owner.get(name) is None else owner[name]
    if not isinstance(given, dict):
        raise Refusal(400, f"{name} must be an object.", param=name)
    return given


def text_in(owner: Event, name: str, param: str = "") -> str | None:
    """Return a text, None where it is missing or null.

    Args: param: how a refusal names it, if not as it is named here.
    Raises: Refusal if there is something else.
    """
    given = owner.get(name)
    if not isinstance(given, str | None):
        raise Refusal(400, f"{name} must be a text.", param=param or name)
    return given


def token_limit_in(owner: Event, default: int | None) -> int | None:
    """Return how many tokens an answer may have, None for any number.

    Raises: Refusal if ``max_output_tokens`` is neither a number nor ``inf``.
    """
    given = owner.get("max_output_tokens")
    if given is None:
        return default
    return None if given == "inf" else within("max_output_tokens", given, least=1, most=WORDS_LIMIT)


def message_in(param: str, item: object) -> RoleAndText:
    """Return who says an item, and its text.

    Raises: Refusal, naming ``param``, if it is no message.
    """
    if isinstance(item, dict) and item.get("type") != "message":
        raise Refusal(400, "The type of an item must be message.", param=f"{param}.type")
    role, text = role_and_text(param, item)
    if role not in _ROLES:
        raise Refusal(400, f"role must be one of {', '.join(_ROLES)}.", param=f"{param}.role")
    return role, text
