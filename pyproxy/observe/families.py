"""What is measured of exchanges: families of metrics, and where in a row their numbers stand.

A row is a plain list of numbers, so that adding two, and sending one to another process, knows
nothing of what they mean.  Names are those of OpenTelemetry's conventions, in Prometheus' spelling,
where these have one for the same thing; all others begin with ``pyproxy_``.
Spec: semantic-conventions 1.30 (http), semantic-conventions-genai 0.1.0 (metrics).
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

LABELS = (
    "http_route",
    "http_request_method",
    "http_response_status_class",
    "gen_ai_response_model",
)
"""What a row is of, by the names of its labels."""

OTHER = "other"
"""The value of a label that came when there was room for no more."""

METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}
)
OTHER_METHOD = "_OTHER"
"""What stands for every other method.  Spec: semantic-conventions, ``http.request.method``."""

NO_STATUS = "none"
"""The class of an exchange that ended before it had a status."""

# As OpenTelemetry advises, and on to where streams of models end.
DURATION_BOUNDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(30.0, 60.0, 300.0),
)
FIRST_BYTE_BOUNDS = DURATION_BOUNDS[:-1]
FIRST_TOKEN_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(30.0, 60.0),
)
PER_TOKEN_BOUNDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
LAG_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

WHO_ENDS = ("client", "upstream", "proxy", "operator")
QUIET = ("truncated", "empty", "failed")
DIRECTIONS = ("received", "sent")
CONNECTIONS = ("new", "reused")
TOKENS = ("input", "output")
DETAILS = ("cached", "cache_write", "reasoning")
CACHE_RESULTS = (
    *("hit", "bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"),
    OTHER,
)
"""What Cache-Status says: a hit, or why the upstream was asked.  Spec: RFC 9211 2.2."""


@attrs.frozen
class Histogram:
    """How often something took how long.

    Its numbers: one for each bucket, not cumulated, one for what is above all, the sum.
    Attributes: at, where the first of them stands; rare, whether rows without any leave it out.
    """

    name: str
    help: str
    bounds: tuple[float, ...]
    at: int = 0
    rare: bool = False

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return len(self.bounds) + 2


@attrs.frozen
class Counter:
    """How often something happened, by one more label.

    Attributes:
        values: of that label, one for each of its numbers.
        rare: rows in which all are 0 leave it out.
    """

    name: str
    help: str
    label: str = ""
    values: tuple[str, ...] = ("",)
    at: int = 0
    rare: bool = False

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return len(self.values)


Family = Histogram | Counter


def _laid_out(families: Sequence[Family]) -> tuple[Family, ...]:
    """Return families one behind the other."""
    placed: list[Family] = []
    at = 0
    for family in families:
        placed.append(attrs.evolve(family, at=at))
        at += family.size
    return tuple(placed)


FAMILIES = _laid_out(
    (
        Histogram(
            "http_server_request_duration_seconds",
            "From the head of a request to the end of its exchange, or of its WebSocket (1xx).",
            DURATION_BOUNDS,
        ),
        Histogram(
            "pyproxy_time_to_first_byte_seconds",
            "From the head of a request to the head of its response.",
            FIRST_BYTE_BOUNDS,
            rare=True,
        ),
        Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From the head of a request to the first piece of a model's output.",
            FIRST_TOKEN_BOUNDS,
            rare=True,
        ),
        Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Between two tokens after the first, on average over an answer that ended well.",
            PER_TOKEN_BOUNDS,
            rare=True,
        ),
        Counter(
            "pyproxy_tokens_total",
            "Tokens, as upstreams reported them.",
            "gen_ai_token_type",
            TOKENS,
            rare=True,
        ),
        Counter(
            "pyproxy_token_details_total",
            "Tokens of a kind; pyproxy_tokens_total has them already.",
            "detail",
            DETAILS,
            rare=True,
        ),
        Counter(
            "pyproxy_event_streams_total",
            "Event streams that were followed to their end, however that was.",
            rare=True,
        ),
        Counter(
            "pyproxy_quiet_failures_total",
            "Answers that failed although their status says success.",
            "outcome",
            QUIET,
        ),
        Counter(
            "pyproxy_ended_early_total",
            "Exchanges and WebSockets that did not end well, by who ended them.",
            "closed_by",
            WHO_ENDS,
        ),
        Counter(
            "pyproxy_content_bytes_total",
            "Octets of content from clients (received) and to them (sent).",
            "direction",
            DIRECTIONS,
        ),
        Counter(
            "pyproxy_websocket_messages_total",
            "Messages of WebSockets from clients (received) and to them (sent).",
            "direction",
            DIRECTIONS,
            rare=True,
        ),
        Counter(
            "pyproxy_upstream_requests_total",
            "Requests that were written to an upstream, by what connection they went on.",
            "connection",
            CONNECTIONS,
            rare=True,
        ),
        Counter(
            "pyproxy_upstream_retries_total",
            "Requests that were sent again, as a kept connection was lost.",
            rare=True,
        ),
        Counter(
            "pyproxy_cache_results_total",
            "What the cache did, in the words of Cache-Status.",
            "result",
            CACHE_RESULTS,
            rare=True,
        ),
    )
)

NUMBERS = FAMILIES[-1].at + FAMILIES[-1].size
"""How many numbers a row has."""

LAG = Histogram(
    "pyproxy_event_loop_lag_seconds",
    "How late a call came that was due twice a second, in the processes that serve.",
    LAG_BOUNDS,
)


@attrs.frozen
class Single:
    """What is no part of rows.

    Attributes: kind, as Prometheus has it; labels, the names of those that it has.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


ACTIVE = Single(
    "http_server_active_requests", "gauge", "Requests that are open now.", ("http_route",)
)
WEBSOCKETS = Single("pyproxy_websockets_open", "gauge", "WebSockets open now.", ("http_route",))
CLIENT_CONNECTIONS = Single(
    "pyproxy_client_connections", "gauge", "Connections of clients that are open, idle ones too."
)
IDLE_CONNECTIONS = Single(
    "pyproxy_upstream_idle_connections", "gauge", "Connections to upstreams that are kept."
)
WORKERS = Single("pyproxy_serving_processes", "gauge", "Processes whose numbers these are.")
SILENT = Single(
    "pyproxy_silent_workers", "gauge", "Workers that gave no numbers in time, or no new ones."
)
GENERATION = Single(
    "pyproxy_config_generation", "gauge", "How many configurations it has served by."
)
TAKEN_AT = Single(
    "pyproxy_config_taken_timestamp_seconds", "gauge", "When the present one was taken."
)
RELOAD_FAILURES = Single(
    "pyproxy_config_reload_failures_total", "counter", "Reloads that were refused."
)
RELOAD_OK = Single(
    "pyproxy_config_last_reload_successful", "gauge", "0 while the last reload was refused, else 1."
)
BUILD = Single(
    "pyproxy_build_info",
    "gauge",
    "What runs; always 1.",
    ("version", "python_version", "twisted_version"),
)

SINGLES = (
    *(ACTIVE, WEBSOCKETS, CLIENT_CONNECTIONS, IDLE_CONNECTIONS, WORKERS, SILENT),
    *(GENERATION, TAKEN_AT, RELOAD_FAILURES, RELOAD_OK, BUILD),
)
