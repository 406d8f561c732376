"""From an account to spans, as OTLP has them in JSON: what was served, and what was asked for it.

Names are those of OpenTelemetry's HTTP conventions (1.45.0), what has none there begins with
``pyproxy.``; what a model's answer adds is ``gen_ai``'s.  Where spans go is ``otlp``'s.
Spec: OTLP 1.7 (opentelemetry/proto/trace/v1/trace.proto), JSON Protobuf Encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import attrs

from pyproxy.account import UPSTREAM, Account
from pyproxy.observe.gen_ai import ask_of
from pyproxy.observe.masking import Mask
from pyproxy.observe.values import Value, attributes, quoted
from pyproxy.semantics.trace_context import TraceContext
from pyproxy.semantics.urls import DEFAULT_PORTS, split_authority

SERVER, CLIENT = 2, 3
"""Kinds of spans.  Spec: trace.proto, SpanKind."""

FAILED = 2
"""The code of a span's status.  Spec: trace.proto, StatusCode."""

HAS_IS_REMOTE, IS_REMOTE = 0x100, 0x200
"""Flags of a span: its parent is known to be another process's, or not.  Spec: SpanFlags."""

METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
"""Methods that may stand in a span's name.  Spec: http.request.method."""

QUIET_FAILURES = frozenset({"truncated", "empty", "failed"})
"""Outcomes of a model's answer that are failures, whatever its status says."""

_PORTS = {scheme.decode("ascii"): port for scheme, port in DEFAULT_PORTS.items()}
_PARTED = b"\n"


@attrs.define(eq=False)
class SpanSink:
    """Makes spans of each account that is to be recorded.  Args: take, who gets them as JSON."""

    _mask: Mask
    _take: Callable[[Sequence[bytes]], object]

    def __call__(self, account: Account) -> None:
        """Take a closed account."""
        if account.span is not None:
            self._take([span.encode("ascii") for span in spans_of(account, self._mask)])


def spans_of(account: Account, mask: Mask) -> Iterator[str]:
    """Give the spans of an account: of what was served, then of what was asked of an upstream."""
    if account.span is None:
        return
    target, host, asked, agent, detail = _shown(account, mask)
    parent = None if account.trace_begun else account.trace
    yield _span(
        account.span,
        None if parent is None else parent.span_id,
        HAS_IS_REMOTE | (0 if parent is None else IS_REMOTE),
        SERVER,
        _served_name(account),
        (account.began, account.ended),
        _served(account, target, host, agent),
        _events(account, "passed", "first"),
        _served_error(account),
        detail,
    )
    if account.upstream_span is not None and was_asked(account):
        ask = ask_of(account)
        yield _span(
            account.upstream_span,
            account.span.span_id,
            HAS_IS_REMOTE,
            CLIENT,
            _method(account)[1] if ask is None else ask.name,
            (account.asked, _asked_until(account)),
            _asked(account, asked) | ({} if ask is None else ask.values),
            _events(account, "connected", "responded", "first_token", "last_token"),
            _asked_error(account),
            detail,
        )


def was_asked(account: Account) -> bool:
    """Tell whether a connection to an upstream was used for it, or could not be had.

    A request that a cache answers, or that waits there for another's answer, asks none.
    """
    if account.asked is None or account.connected is not None:
        return account.asked is not None
    unreached = account.closed_by == UPSTREAM or account.error == "connection_timeout"
    return account.responded is None and unreached


def _span(
    place: TraceContext,
    parent: bytes | None,
    flags: int,
    kind: int,
    name: str,
    between: tuple[float | None, float | None],
    values: dict[str, Value],
    events: str,
    error: str,
    detail: str,
) -> str:
    begin = between[0] or 0.0
    # A clock that was put back makes no span end before it begins.
    end = max(begin, between[1] or begin)
    above, status = "", ""
    if parent is not None:
        above = f'"parentSpanId":"{parent.decode("ascii")}",'
    if error:
        values["error.type"] = error
        message = f',"message":{quoted(detail)}' if detail else ""
        status = f'"status":{{"code":{FAILED}{message}}},'
    return (
        f'{{"traceId":"{place.trace_id.decode("ascii")}",'
        f'"spanId":"{place.span_id.decode("ascii")}",{above}'
        f'"flags":{flags | place.flags},"name":{quoted(name)},"kind":{kind},'
        f'"startTimeUnixNano":"{_nanoseconds(begin)}","endTimeUnixNano":"{_nanoseconds(end)}",'
        f'{status}"attributes":{attributes(values)},"events":[{events}]}}'
    )


def _nanoseconds(seconds: float) -> int:
    """Return a time of the epoch, to the microsecond: a float has no more."""
    return round(seconds * 1_000_000) * 1000


def _events(account: Account, *names: str) -> str:
    return ",".join(
        f'{{"name":"{name}","timeUnixNano":"{_nanoseconds(moment)}"}}'
        for name in names
        if (moment := getattr(account, name)) is not None
    )


# what was served


def _served_name(account: Account) -> str:
    method, route = _method(account)[1], _route(account)
    return f"{method} {route}" if route else method


def _served(account: Account, target: str, host: str, agent: str) -> dict[str, Value]:
    method = _method(account)[0]
    scheme = account.scheme.decode("ascii", "replace")
    address, port = _authority(host, scheme)
    path, mark, query = target.partition("?")
    return {
        "http.request.method": method,
        "http.request.method_original": _octets(account.method) if method == "_OTHER" else None,
        "http.route": _route(account),
        "http.response.status_code": account.status or None,
        "http.request.body.size": account.received,
        "http.response.body.size": account.sent,
        "url.scheme": scheme,
        "url.path": path,
        "url.query": query if mark else None,
        "server.address": address,
        "server.port": port,
        "client.address": _octets(account.client),
        "network.protocol.version": f"1.{account.minor_version}",
        "user_agent.original": agent,
        "pyproxy.route": account.route,
        "pyproxy.request_id": account.request_id,
        "pyproxy.cache": account.cache,
        "pyproxy.closed_by": account.closed_by,
        "pyproxy.outcome": account.outcome,
        "pyproxy.websocket": account.websocket or None,
        "pyproxy.messages_received": account.messages_received or None,
        "pyproxy.messages_sent": account.messages_sent or None,
        "pyproxy.events": account.events or None,
    }


def _served_error(account: Account) -> str:
    """Return why what was served has failed; what a client did wrong is no failure of ours.

    Spec: HTTP spans, Status.
    """
    if account.status >= 500 or (account.error and account.status < 400):
        return account.error or str(account.status)
    return account.outcome if account.outcome in QUIET_FAILURES else ""


# what was asked of an upstream


def _asked(account: Account, target: str) -> dict[str, Value]:
    scheme, _, authority = account.peer.partition("://")
    address, port = _authority(authority, scheme)
    method = _method(account)[0]
    return {
        "http.request.method": method,
        "http.request.method_original": _octets(account.method) if method == "_OTHER" else None,
        "http.request.resend_count": account.attempts - 1 if account.attempts > 1 else None,
        "http.response.status_code": _asked_status(account),
        "url.full": account.peer + target,
        "server.address": address,
        "server.port": port,
        "network.protocol.version": "1.1",
        "pyproxy.reused": account.reused or None,
    }


def _asked_status(account: Account) -> int | None:
    """Return what the upstream answered, None where it may have been something else."""
    if account.responded is None or account.cache == "stale":
        return None
    broken = account.error and account.first is None and account.status >= 500
    return None if broken else account.status or None


def _asked_error(account: Account) -> str:
    if account.error:
        return account.error
    status = _asked_status(account) or 0
    if status >= 400:
        return str(status)
    return account.outcome if account.outcome in QUIET_FAILURES else ""


def _asked_until(account: Account) -> float | None:
    if account.error or account.closed_by:
        return account.ended
    return account.last or account.responded or account.ended


# parts


def _method(account: Account) -> tuple[str, str]:
    """Return the method for an attribute, and for a name."""
    method = _octets(account.method)
    return (method, method) if method in METHODS else ("_OTHER", "HTTP")


def _route(account: Account) -> str:
    """Return the path of the route, without its host and what else it asks for."""
    _, slash, path = account.route.partition("/")
    return (slash + path).partition(" ")[0]


def _authority(authority: str, scheme: str) -> tuple[str | None, int | None]:
    """Return host and port of an authority, None for what is none."""
    split = split_authority(authority.encode("utf-8"))
    if split is None:
        return None, None
    host, port = split
    name = _octets(host).strip("[]")
    return name, int(port) if port else _PORTS.get(scheme)


def _octets(octets: bytes) -> str:
    return octets.decode("utf-8", "backslashreplace")


def _shown(account: Account, mask: Mask) -> list[str]:
    """Return what may hold a credential, without it: masked together, in one go."""
    detail = account.detail.encode("utf-8", "backslashreplace").replace(_PARTED, b" ")
    parts = (
        account.target,
        account.host,
        account.asked_target,
        account.user_agent,
        detail,
    )
    return _octets(mask.apply(_PARTED.join(parts))).split("\n")
