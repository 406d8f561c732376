"""What logs say of an account, by names: each fact with its type and unit.

No credential is in it; what is not known is not there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs

from pyproxy.account import Account
from pyproxy.observe.masking import Mask

CLIENT_GONE = 499
"""The status that is logged when the client left before it was sent any; nginx's custom."""

STRING, NUMBER, COUNT, FLAG = "string", "number", "integer", "true"
"""Types, as JSON has them; a flag is there when it is true."""

SECONDS = "seconds since `time`"


@attrs.frozen
class Fact:
    """What a name stands for.

    Attributes:
        unit: of a number; empty for none.
    """

    name: str
    type: str
    unit: str
    meaning: str


FACTS = (
    Fact("time", STRING, "", "When the request's head was read: RFC 3339, UTC, milliseconds."),
    Fact("request_id", STRING, "", "The request's name, as in error pages."),
    Fact("route", STRING, "", "The route that served it, as the admin site names it."),
    Fact("client", STRING, "", "The client's address, as far as it is believed."),
    Fact("method", STRING, "", "The method, as it came."),
    Fact("target", STRING, "", "The request target, as it came."),
    Fact("protocol", STRING, "", "`HTTP/1.1` or `HTTP/1.0`, as the client speaks it."),
    Fact("scheme", STRING, "", "`http` or `https`: how the client came."),
    Fact("host", STRING, "", "The host that was asked for."),
    Fact("referer", STRING, "", "`Referer`, as it came."),
    Fact("user_agent", STRING, "", "`User-Agent`, as it came."),
    Fact("websocket", FLAG, "", "It became a WebSocket."),
    Fact("status", COUNT, "", "What the client was sent; 499 when it left before that."),
    Fact("received", COUNT, "bytes", "Content from the client; of a WebSocket, its frames."),
    Fact("sent", COUNT, "bytes", "Content to the client; of a WebSocket, its frames."),
    Fact("messages_received", COUNT, "messages", "Of a WebSocket, from the client."),
    Fact("messages_sent", COUNT, "messages", "Of a WebSocket, to the client."),
    Fact("duration", NUMBER, SECONDS, "When all was over."),
    Fact("passed", NUMBER, SECONDS, "When routing and guards had let it pass."),
    Fact("asked", NUMBER, SECONDS, "When it was given to the cache, or to the upstream's side."),
    Fact("connected", NUMBER, SECONDS, "When its head was written to an open connection."),
    Fact("responded", NUMBER, SECONDS, "When the head of the response was there."),
    Fact("first", NUMBER, SECONDS, "When the first content was passed to the client."),
    Fact("last", NUMBER, SECONDS, "When the last content was passed to the client."),
    Fact("first_token", NUMBER, SECONDS, "When the model's answer began, streamed."),
    Fact("last_token", NUMBER, SECONDS, "When the last piece of the model's answer came."),
    Fact("upstream", STRING, "", "The origin that was asked."),
    Fact("reused", FLAG, "", "The connection to it had answered another request before."),
    Fact("attempts", COUNT, "", "Connections that the request was sent on, where more than one."),
    Fact("cache", STRING, "", "`hit`, or why the upstream was asked: RFC 9211 2.2."),
    Fact("closed_by", STRING, "", "`client`, `upstream`, `proxy`, `operator`: who ended it early."),
    Fact("error", STRING, "", "The error type, RFC 9209 2.3, of what the proxy ended it for."),
    Fact("detail", STRING, "", "The same in words."),
    Fact("outcome", STRING, "", "Of a watched answer: `ended`, `truncated`, `empty`, `failed`."),
    Fact("events", COUNT, "", "Events with data in the stream."),
    Fact("comments", COUNT, "", "Comments in the stream."),
    Fact("output_events", COUNT, "", "Events that carried a piece of the model's answer."),
    Fact("dialect", STRING, "", "The dialect in which the answer was read."),
    Fact("model", STRING, "", "The model, as the upstream names it."),
    Fact("input_tokens", COUNT, "tokens", "All of the prompt, those of a cache too."),
    Fact("output_tokens", COUNT, "tokens", "All of the answer, those of its reasoning too."),
    Fact("cached_tokens", COUNT, "tokens", "Of the input, read from the model's cache."),
    Fact("cache_write_tokens", COUNT, "tokens", "Of the input, written to the model's cache."),
    Fact("reasoning_tokens", COUNT, "tokens", "Of the output, the reasoning."),
    Fact("cost", NUMBER, "the upstream's currency", "What the upstream says that it cost."),
    Fact("trace_id", STRING, "", "The trace that it belongs to: W3C Trace Context."),
    Fact("parent_id", STRING, "", "The span that it came with, or that was begun."),
)

NAMES = frozenset(fact.name for fact in FACTS)

_TOKENS = (
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost",
)
_MOMENTS = (
    "passed",
    "asked",
    "connected",
    "responded",
    "first",
    "last",
    "first_token",
    "last_token",
)
# None of these can hold one, but the last, which gets a space in its place.
_PARTED = b"\n"


def facts_of(account: Account, mask: Mask) -> dict[str, Any]:
    """Return what is known of an account, in the order of FACTS."""
    target, host, referer, agent, detail = _shown(account, mask)
    found: dict[str, Any] = {
        "time": _date(account.began),
        "request_id": account.request_id,
        "route": account.route,
        "client": account.client.decode("ascii", "backslashreplace"),
        "method": account.method.decode("ascii", "backslashreplace"),
        "target": target,
        "protocol": f"HTTP/1.{account.minor_version}" if account.method else "",
        "scheme": account.scheme.decode("ascii", "backslashreplace"),
        "host": host,
        "referer": referer,
        "user_agent": agent,
        "websocket": account.websocket or None,
        "status": account.status or CLIENT_GONE,
        "received": account.received,
        "sent": account.sent,
        "messages_received": account.messages_received if account.websocket else None,
        "messages_sent": account.messages_sent if account.websocket else None,
        "duration": _since(account, account.ended),
    }
    for name in _MOMENTS:
        found[name] = _since(account, getattr(account, name))
    found |= {
        "upstream": account.peer,
        "reused": account.reused or None,
        "attempts": account.attempts if account.attempts > 1 else None,
        "cache": account.cache,
        "closed_by": account.closed_by,
        "error": account.error,
        "detail": detail,
        "outcome": account.outcome,
    }
    if account.outcome or account.events:
        found["events"] = account.events
        found["comments"] = account.comments
        found["output_events"] = account.output_events
    found["dialect"] = account.dialect
    found["model"] = account.model
    if account.usage is not None:
        for name in _TOKENS:
            found[name] = getattr(account.usage, name)
    if account.trace is not None:
        found["trace_id"] = account.trace.trace_id.decode("ascii")
        found["parent_id"] = account.trace.span_id.decode("ascii")
    return {name: value for name, value in found.items() if value is not None and value != ""}


def _shown(account: Account, mask: Mask) -> list[str]:
    """Return what may hold a credential, without it: masked together, in one go."""
    detail = account.detail.encode("utf-8", "backslashreplace").replace(_PARTED, b" ")
    parts = (account.target, account.host, account.referer, account.user_agent, detail)
    masked = mask.apply(_PARTED.join(parts)).decode("utf-8", "backslashreplace")
    return masked.split("\n")


def _date(seconds: float) -> str:
    date = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return date.replace("+00:00", "Z")


def _since(account: Account, moment: float | None) -> float | None:
    """Return seconds since the beginning; a clock that was put back makes none of them negative."""
    return None if moment is None else round(max(0.0, moment - account.began), 6)
