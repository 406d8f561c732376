"""Logins that belong to a connection, and how long a connection may be idle.

``Negotiate`` and ``NTLM`` authenticate a connection and not a request, against RFC 9110 11.6 (each
request stands for itself): whoever comes next on it is taken for the same user.
Spec: RFC 4559 6; [MS-NTHT] 1.7; RFC 2068 19.7.1.1.
"""

from __future__ import annotations

import re
from math import inf

from pyproxy.semantics.fields import list_members
from pyproxy.semantics.messages import RequestHead, ResponseHead, noted_values

CONNECTION_SCHEMES = frozenset({b"negotiate", b"ntlm"})
"""Schemes whose login belongs to a connection, in lower case."""

LAST_SECOND = 1.0
"""Seconds of an announced time in which its sender may be closing already."""

_parameter = re.compile(rb"(timeout|max)[\t ]*=[\t ]*\"?(\d{1,9})\"?", re.I).fullmatch


def _names_scheme(lines: list[bytes]) -> bool:
    return any(
        member.split(None, 1)[0].lower() in CONNECTION_SCHEMES for member in list_members(lines)
    )


def logs_in(head: RequestHead) -> bool:
    """Tell whether a request's credentials are those of its connection."""
    return _names_scheme(noted_values(head, b"authorization"))


def asks_for_login(head: ResponseHead) -> bool:
    """Tell whether a response offers, or goes on with, a login of its connection."""
    return _names_scheme(noted_values(head, b"www-authenticate")) or _names_scheme(
        noted_values(head, b"proxy-authenticate")
    )


def idle_limit(head: ResponseHead) -> float:
    """Return for how many seconds the sender lets a request come on an idle connection.

    The last second of what it says is left out: it may be closing by then.
    Returns: 0 for not at all, infinity when it does not say.
    Spec: RFC 2068 19.7.1.1.
    """
    limit = inf
    for member in list_members(noted_values(head, b"keep-alive")):
        match = _parameter(member)
        if match is None:
            continue
        if match[1].lower() == b"timeout":
            limit = min(limit, max(0.0, int(match[2]) - LAST_SECOND))
        elif int(match[2]) == 0:
            limit = 0.0
    return limit
