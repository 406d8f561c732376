"""What becomes of a request before it is sent, where its route puts something into streams.

Its content is read first where what is in it decides: whether it is a chat stream to ask for its
usage, whether a stream is asked for at all.  Any other request goes as it came, at once.
"""

from __future__ import annotations

from collections.abc import Callable

from pyproxy.held import Held, Reading
from pyproxy.policy.insertions import Asks, Insertions
from pyproxy.relay.content import Upload
from pyproxy.semantics.asking import asking, is_chat, may_be_read, streams, with_length
from pyproxy.semantics.fields import essence, lacking, list_members, values
from pyproxy.semantics.messages import RequestHead
from pyproxy.sides import UpstreamRequest

Then = Callable[[UpstreamRequest, bool, bool], None]
"""Sends a request; is told whether a usage was asked for, and whether a stream may begin early."""

_EVENTS = b"text/event-stream"


def prepare(
    request: UpstreamRequest,
    head: RequestHead,
    upload: Upload | None,
    insertions: Insertions,
    then: Then,
) -> None:
    """Do with a request what a route asks for, then have it sent."""
    early = insertions.early and request.websocket_key is None and request.bond is None
    wants = early and head.method != b"HEAD" and accepts_events(head)
    asks = insertions.asks is not Asks.NOT and is_chat(request.target)
    content = request.content
    if (
        content is None
        or upload is None
        or request.bond is not None
        or not (asks or (early and not wants))
        or not may_be_read(head, upload.framing.length)
    ):
        _send(request, False, wants, then)
        return

    def read(octets: bytes) -> None:
        more = asking(octets, insertions.asks is Asks.IN_EVERY_EVENT) if asks else None
        if more is not None:
            request.fields = with_length(request.fields, len(more))
        request.content = Held(octets if more is None else more)
        _send(request, more is not None, wants or (early and streams(octets)), then)

    Reading(request, read).start(content)


def _send(request: UpstreamRequest, asked: bool, early: bool, then: Then) -> None:
    """Send a request; what may begin early must not come in a coding."""
    if early:
        request.fields = lacking(request.fields, (b"accept-encoding",))
        request.fields.append((b"Accept-Encoding", b"identity"))
    then(request, asked, early)


def accepts_events(head: RequestHead) -> bool:
    """Tell whether a request's Accept names event streams; a range of types does not."""
    members = list_members(values(head.fields, b"accept"))
    return any(essence(member) == _EVENTS for member in members)
