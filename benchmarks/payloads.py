"""What travels in a measure: the same octets for every system.

Knows nothing of processes, sockets or clocks.
"""

from __future__ import annotations

import random

KIB = 1024
MIB = 1024 * 1024

SMALL = (b"A short answer, as a model list or a health check gives it. " * 2)[:99] + b"\n"
ANSWER_LENGTH = 100 * KIB
TRANSFER_LENGTH = 10 * MIB
POST_LENGTH = KIB

MESSAGE_LENGTH = 64
"""Length of a short WebSocket message."""

FRAME_LIMIT = 4 * MIB
"""Longest frame that the ends of a WebSocket take."""

EVENT_LENGTH = 200
"""Length of one event; a chat completion chunk has between 150 and 300 bytes."""

EVENT_PREFIX = b"data: "
EVENT_MARK = b":"
"""Stands once in each event, and in no chunk-size line."""

FLOOD_EVENTS = 318
"""Events that a flood writes at once: 64 KiB with their chunked coding."""

_EVENT_PAD = b"x" * (EVENT_LENGTH - len(EVENT_PREFIX) - 20 - 1 - 10 - 1 - 2)

REQUEST_FIELDS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "application/json, text/event-stream;q=0.9, */*;q=0.5",
    "Accept-Language": "en-GB,en;q=0.8,de;q=0.5",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://chat.example.com/conversations/0f8b2c1e",
    "Origin": "https://chat.example.com",
    "Cookie": "session=3f1c9a7e5b2d4860; theme=dark; consent=analytics%3D0",
    "Authorization": "Bearer 0123456789abcdef0123456789abcdef",
    "Cache-Control": "no-cache",
    "Pragma": "no-cache",
    "DNT": "1",
    "Sec-GPC": "1",
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Site": "same-origin",
    "Priority": "u=1, i",
    "X-Requested-With": "XMLHttpRequest",
    "X-Client-Version": "2.14.1",
    "Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}
"""Nineteen fields; the twentieth is Host, which every client writes itself."""

RESPONSE_FIELDS = {
    "Cache-Control": "private, max-age=0, must-revalidate",
    "Strict-Transport-Security": "max-age=31536000",
    "Vary": "Accept, Origin",
    "X-Content-Type-Options": "nosniff",
    "X-Ratelimit-Remaining": "4999",
    "X-Processing-Ms": "12",
    "X-Model-Version": "2025-01-31",
}
"""Seven fields; nginx adds Server, Date, Content-Type, Content-Length and Connection."""


def content(length: int) -> bytes:
    """Return octets that do not compress and are the same in every process."""
    return random.Random(length).randbytes(length)


def own_answer(mark: str) -> bytes:
    """Return the answer to one request of a soak, which says whose it is."""
    return b"%b %b" % (mark.encode("ascii"), SMALL)


def event(stamp_ns: int, number: int) -> bytes:
    """Return one server-sent event that says when it was written, and its number."""
    return b"%b%020d %010d %b\n\n" % (EVENT_PREFIX, stamp_ns, number, _EVENT_PAD)


def event_stamp_ns(octets: bytes) -> int:
    """Return when the event was written, on the monotonic clock."""
    return int(octets[6:26])


def event_number(octets: bytes) -> int:
    """Return the event's place in its stream, from zero."""
    return int(octets[27:37])
