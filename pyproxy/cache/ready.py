"""An answer at hand: what a small stored response becomes for clients who ask for nothing special.

Most hits are such; without it one costs as much as to forward the request.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from pyproxy.cache.seams import BLOCK_BYTES, Entry
from pyproxy.policy.instead import Reply
from pyproxy.semantics import cache_status
from pyproxy.semantics.caching import select
from pyproxy.semantics.fields import Fields, lacking
from pyproxy.semantics.forwarding import HOP_BY_HOP, WRITTEN_BY_US, connection_options
from pyproxy.semantics.framing import STATUS_WITHOUT_CONTENT
from pyproxy.semantics.messages import RequestHead, ResponseHead
from pyproxy.semantics.stored import StoredResponse
from pyproxy.semantics.to_client import ResponseForwarding

_REWRITTEN = HOP_BY_HOP | WRITTEN_BY_US | {b"host", b"via"}


class RoutedOut(Protocol):
    """The route that an answer leaves by; ``caching.CachingRoute`` is one."""

    to_client: ResponseForwarding
    replaced: frozenset[bytes]


@attrs.frozen(eq=False)
class Ready:
    """The answer of one route.

    Attributes:
        route: whose answer it is.
        fields: as they go to the client.
        age, status: where among them are those that are written anew each time.
    """

    route: RoutedOut
    head: StoredResponse
    reason: bytes
    fields: Fields
    content: bytes
    age: int
    status: int

    def suits(self, head: RequestHead) -> bool:
        """Tell whether it may answer a request without fields of SPECIAL.  Spec: RFC 9111 4.1."""
        stored = self.head
        if not stored.varies:
            return True
        if b"connection" in head.noted:
            # What it nominates does not reach the upstream.
            nominated = connection_options(head)
            if any(name in nominated for name, _ in stored.varies):
                return False
        return select([stored], head.fields, head.names) is not None

    def reply(self, now: float) -> Reply | None:
        """Return the answer, None when it is stale."""
        head = self.head
        left = head.fresh_until - now
        if left <= 0:
            return None
        fields = self.fields.copy()
        fields[self.age] = (b"Age", b"%d" % head.age(now))
        fields[self.status] = (b"Cache-Status", cache_status.hit(left))
        return Reply(head.status, self.reason, fields, self.content)


def ready_for(route: RoutedOut, entry: Entry, host: bytes) -> Ready | None:
    """Return the answer that an entry is for a route; None when it has to go the long way."""
    head = entry.head
    if any(name in _REWRITTEN or name in route.replaced for name, _ in head.varies):
        # The upstream sees another value than the client's.
        return None
    if head.no_cache or head.length is None or head.length > BLOCK_BYTES:
        return None
    if head.status in STATUS_WITHOUT_CONTENT:
        return None
    content = entry.content.read(0) if head.length else b""
    if type(content) is not bytes or len(content) != head.length:
        return None
    fields = lacking(head.fields, (b"content-length",))
    fields.append((b"Content-Length", b"%d" % head.length))
    # No field's value has a NUL.
    marks = [(b"Age", b"\0"), (b"Cache-Status", b"\0")]
    sent = route.to_client.fields(
        ResponseHead(head.status, head.reason, 1, [*fields, *marks]), [], host
    )
    places = [index for index, field in enumerate(sent) if field in marks]
    if len(places) != len(marks):
        # A rule of the route has to do with one of them.
        return None
    reason = route.to_client.reason(head.reason)
    return Ready(route, head, reason, sent, content, *places)
