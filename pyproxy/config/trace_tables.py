"""What a file may say of spans: whether there are any, and where they go."""

from __future__ import annotations

import attrs

from pyproxy.config import value_kinds as kinds
from pyproxy.config.kinds import key
from pyproxy.config.value_kinds import FieldsToSet
from pyproxy.semantics.urls import Target, parse_target


def parse_collector(text: str) -> Target:
    """Parse the URL of a collector.  Raises: ValueError, which never quotes it."""
    if "@" in text:
        raise ValueError("credentials do not belong in it; put them into headers")
    if not text.startswith(("http://", "https://")):
        raise ValueError("it has to be http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]")
    return parse_target(text)


COLLECTOR = kinds.text("URL", parse_collector, secret=True, pattern="^https?://")
SHARE = kinds.number("number", 0, False, 1, "it has to be a number from 0 to 1, such as 0.1")


@attrs.frozen
class Traces:
    """Spans of requests, and where they go."""

    endpoint: Target | None = key(
        COLLECTOR,
        "An OpenTelemetry collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`; "
        "`/v1/traces` comes behind it.",
        default=None,
        shown="off",
    )
    headers: FieldsToSet = key(
        kinds.REQUEST_FIELDS,
        "Fields of what is sent there.  `${NAME}` stands for an environment variable, `@FILE` for "
        "the content of a file.",
        default=FieldsToSet(),
        shown="none",
    )
    service_name: str = key(
        kinds.NAME, "Who sends spans, as the collector shows it.", default="pyproxy"
    )
    sample: float = key(
        SHARE,
        "The part of requests without a trace that is recorded, from 0 to 1.  Of others those are "
        "whose `traceparent` says that they are sampled.",
        default=1.0,
    )
