"""What stands around a fetch: its route, and who stands in where nobody asks or reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet import protocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from pyproxy.cache.cache import Cache
from pyproxy.cache.counts import Counts
from pyproxy.cache.lookup import Lookup
from pyproxy.cache.seams import Entry
from pyproxy.errors import ProxyError
from pyproxy.policy.cache_policy import CachePolicy
from pyproxy.policy.routing import Limits
from pyproxy.semantics.cache_status import Why
from pyproxy.semantics.fields import Octets
from pyproxy.semantics.messages import ResponseHead
from pyproxy.sides import Bond, UpstreamResponse


class FetchingRoute(Protocol):
    """The route that a fetch is for; ``caching.CachingRoute`` is one."""

    cache: Cache
    policy: CachePolicy
    limits: Limits
    counts: Counts

    def found(self, lookup: Lookup, entries: Sequence[Entry]) -> None:
        """Serve a request by what is stored, or ask the upstream."""

    def serve(self, lookup: Lookup, entry: Entry, status: bytes) -> None:
        """Answer a request by a stored response.  Args: what Cache-Status says of it."""

    def ask_alone(self, lookup: Lookup, why: Why) -> None:
        """Ask the upstream for one request that waited in vain."""

    def ask_anew(self, lookup: Lookup, why: Why) -> None:
        """Ask the upstream without what was stored; others may wait for it."""


class Unread(protocol.Protocol):
    """Takes the content of a response that nobody gets."""

    takes_views = True
    over = False

    def dataReceived(self, data: Octets) -> None:
        """Drop it."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take note of the end."""
        self.over = True


class _Nobody:
    """Who asks in place of a fetch that is over."""

    def interim(self, head: ResponseHead) -> None:
        """Drop it."""

    def responded(self, response: UpstreamResponse) -> None:
        """Drop it."""

    def unanswered(self, error: ProxyError) -> None:
        """Drop it."""

    def bind(self) -> Bond | None:
        """Have no client's connection."""
        return None


NOBODY = _Nobody()
