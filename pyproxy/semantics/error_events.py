"""The last event of a stream that broke off, in the words of who reads it.

Sources: openai-python ``_streaming.py`` (an ``error`` member raises) and
``types/responses/response_error_event.py``; the Messages API of Anthropic, "Error events".
"""

from __future__ import annotations

import json
import re

from pyproxy.errors import ProxyError

CHAT, RESPONSES, ANTHROPIC = "openai-chat", "openai-responses", "anthropic"
"""Dialects whose clients know errors in a stream, by the names that ``usage`` has for them."""

_PATHS = (
    (b"/completions", CHAT),
    (b"/responses", RESPONSES),
    (b"/messages", ANTHROPIC),
)

_numbers = re.compile(rb'"sequence_number": ?(\d{1,15})').findall


def dialect_of(target: bytes) -> str | None:
    """Return the dialect that a request's target asks for, None for none of these."""
    path = target.partition(b"?")[0]
    return next((dialect for end, dialect in _PATHS if path.endswith(end)), None)


def error_event(
    dialect: str | None, error: ProxyError, request_id: str, before: bytes = b""
) -> bytes:
    """Return an event that says why a stream broke off; empty where the dialect has none.

    Args: data of the event before it, which a numbered one follows.
    """
    message = f"{error.detail} (request {request_id})"
    if dialect == CHAT:
        about = {
            "message": message,
            "type": error.error_type,
            "param": None,
            "code": error.status,
        }
        return _event(b"", {"error": about})
    if dialect == RESPONSES:
        numbers = _numbers(before)
        return _event(
            b"error",
            {
                "type": "error",
                "code": error.error_type,
                "message": message,
                "param": None,
                "sequence_number": int(numbers[-1]) + 1 if numbers else 0,
            },
        )
    if dialect == ANTHROPIC:
        kind = "timeout_error" if error.status == 504 else "api_error"
        about = {"type": kind, "message": message}
        return _event(b"error", {"type": "error", "error": about, "request_id": request_id})
    return b""


def _event(name: bytes, data: dict[str, object]) -> bytes:
    """Write an event."""
    line = b"data: %b\n\n" % json.dumps(data).encode("ascii")
    return b"event: %b\n%b" % (name, line) if name else line
