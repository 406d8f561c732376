"""What several tests of the pure rules start from."""

from __future__ import annotations

from pyproxy.semantics.fields import Field
from pyproxy.semantics.forwarding import Hop
from pyproxy.semantics.messages import RequestHead

UNTRUSTED = Hop(b"192.0.2.1", b"https", b"8000", False)
TRUSTED = Hop(b"10.0.0.1", b"http", b"8000", True)


def head_of(*fields: Field) -> RequestHead:
    """Return the head of a request with some fields."""
    return RequestHead(b"GET", b"/", 1, list(fields))


# A date in the middle of 2026, in seconds of the epoch.
NOW = 1782000000.0
