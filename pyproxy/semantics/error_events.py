"""The last event of a stream that broke off, in the words of who reads it.

Sources: openai-python ``_streaming.py`` (an ``error`` member raises) and
``types/responses/response_error_event.py``; the Messages API of Anthropic, "Error events".
"""

from __future__ import annotations

import json
import re

from pyproxy.errors import ProxyError
from pyproxy.semantics.dialects.members import NONE, Members, members

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
    dialect: str | None,
    error: ProxyError,
    request_id: str,
    before: bytes = b"",
    answer: Members = NONE,
) -> bytes:
    """Return an event that says why a stream broke off; empty where the dialect has none.

    Args: data of the event before it, which a numbered one follows; what the upstream answered in
        place of a stream, whose error is told as it is.
    """
    message = f"{error.detail} (request {request_id})"
    told = members(answer, "error")
    if told:
        said = told.get("message")
        message = said if isinstance(said, str) and said else message
    if dialect == CHAT:
        about: dict[str, object] = {
            "message": message,
            "type": error.error_type,
            "param": None,
            "code": error.status,
            **told,
        }
        return _event(b"", {"error": about})
    if dialect == RESPONSES:
        numbers = _numbers(before)
        return _event(
            b"error",
            {
                "type": "error",
                "code": told.get("code") or told.get("type") or error.error_type,
                "message": message,
                "param": told.get("param"),
                "sequence_number": int(numbers[-1]) + 1 if numbers else 0,
            },
        )
    if dialect == ANTHROPIC:
        kind = "timeout_error" if error.status == 504 else "api_error"
        about = {"type": kind, "message": message, **told}
        return _event(b"error", {"type": "error", "error": about, "request_id": request_id})
    return b""


def _event(name: bytes, data: dict[str, object]) -> bytes:
    """Write an event."""
    line = b"data: %b\n\n" % json.dumps(data).encode("ascii")
    return b"event: %b\n%b" % (name, line) if name else line
