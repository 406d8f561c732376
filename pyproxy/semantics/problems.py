"""What a client is told when the proxy itself answers: a problem document, or plain text.

Spec: RFC 9457 (problem documents), RFC 9209 (Proxy-Status), RFC 9110 12.5.1 (Accept).
"""

from __future__ import annotations

import json
import re

from pyproxy.errors import MethodRefused, ProxyError, UpgradeRequired
from pyproxy.semantics.fields import Fields, list_members
from pyproxy.semantics.forwarding import ALLOWED_METHODS
from pyproxy.semantics.handshake import SWITCH, VERSION

PROXY_NAME = "pyproxy"

_without_weight = re.compile(rb"q\s*=\s*0(?:\.0*)?").fullmatch


def accepts_json(accept: list[bytes]) -> bool:
    """Tell whether Accept names JSON; ``*/*`` alone, as curl sends it, does not.

    Args: the values of every Accept field.
    """
    by_type = by_range = None
    for member in list_members(accept):
        media_range, *parameters = (part.strip().lower() for part in member.split(b";"))
        wanted = not any(_without_weight(parameter) for parameter in parameters)
        if media_range == b"application/json" or media_range.endswith(b"+json"):
            by_type = by_type or wanted
        elif media_range == b"application/*":
            by_range = wanted
    return bool(by_range if by_type is None else by_type)


def problem(error: ProxyError, request_id: str, accept: list[bytes]) -> tuple[Fields, bytes]:
    """Return the fields and the content of the response that an error becomes.

    Args: the values of every Accept field of the request, empty when there was no whole request.
    """
    fields: Fields = []
    if accepts_json(accept):
        media_type = b"application/problem+json"
        detail = f"{_sentence(error.detail)} {error.remedy}"
        document = {
            "type": "about:blank",
            "title": error.title,
            "status": error.status,
            "detail": detail,
            "request_id": request_id,
            "blame": error.blame.value,
            # An extension member (RFC 9457 3.2) in the shape that SDKs of AI services read.
            "error": {"message": detail, "type": error.error_type, "code": error.status},
        }
        content = json.dumps(document).encode("ascii") + b"\n"
    else:
        media_type = b"text/plain; charset=utf-8"
        content = (
            f"{error.status} {error.title}\n"
            f"{_sentence(error.detail)}\n{error.remedy}\n"
            f"Request id: {request_id}\n"
        ).encode()
    fields += (
        (b"Content-Type", media_type),
        (b"Content-Length", b"%d" % len(content)),
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"Proxy-Status", proxy_status(error)),
        (b"X-Request-Id", request_id.encode("ascii")),
        *error.fields,
    )
    if isinstance(error, MethodRefused):
        fields.append((b"Allow", error.allow or ALLOWED_METHODS))
    elif isinstance(error, UpgradeRequired):
        # Spec: RFC 6455 4.4, RFC 9110 15.5.22.
        fields += ((b"Sec-WebSocket-Version", VERSION), *SWITCH)
    return fields, content


def proxy_status(error: ProxyError) -> bytes:
    """Return the value of Proxy-Status for an error.  Spec: RFC 9209 2, RFC 8941 3.3.3."""
    detail = re.sub(r"[^ !#-\[\]-~]", "'", error.detail)
    return f'{PROXY_NAME}; error={error.error_type}; details="{detail}"'.encode("ascii")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
