"""A client's request at the cache, from its lookup until it is served or sent on."""

from __future__ import annotations

from typing import Protocol

import attrs
from twisted.logger import Logger

from pyproxy.cache.posting import Posting
from pyproxy.errors import ProxyError
from pyproxy.semantics.cache_status import Why
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.storing import Asked
from pyproxy.sides import Asking, Bond, UpstreamRequest, UpstreamResponse

_log = Logger()


class Waits(Protocol):
    """What a lookup waits for."""

    def left(self, lookup: Lookup) -> None:
        """Take note that a client is gone."""


@attrs.define(eq=False)
class Lookup:
    """One request of a client.

    Attributes:
        request: as the exchange has made it; its ``opening`` is this, as long as it waits.
        asking: the exchange, which is told what becomes of it.
        asked: what the rules have to know of it.
        host: as the client asked for it.
        post: what is peculiar to a POST.
        waits: for what, None when it is for nothing any more.
        gone: the client has left.
    """

    request: UpstreamRequest
    asking: Asking
    asked: Asked
    key: bytes
    host: bytes
    post: Posting | None = None
    waits: Waits | None = None
    gone: bool = False

    def cancel(self) -> None:
        """Give it up: the client has left."""
        self.gone = True
        self.request.opening = None
        waits, self.waits = self.waits, None
        if waits is not None:
            waits.left(self)

    def wait_for(self, waits: Waits | None) -> None:
        """Wait for something, which is told when the client leaves."""
        self.waits = waits
        self.request.opening = self if waits is not None else None

    def respond(self, response: UpstreamResponse, connection: object) -> None:
        """Be served.  Args: what the exchange pauses, looks at and closes."""
        self.wait_for(None)
        self.request.connection = connection  # type: ignore[assignment]
        self.asking.responded(response)

    def mark(self, status: bytes) -> None:
        """Have ``Cache-Status`` in the response, should that be an error of the proxy's."""
        self.request.marks = ((b"Cache-Status", status),)

    def fail(self, error: ProxyError) -> None:
        """Be told that there is no response."""
        self.wait_for(None)
        self.asking.unanswered(error)


@attrs.define(eq=False)
class Passing:
    """Stands between an exchange and the upstream where the cache only looks on.

    Attributes:
        why: the upstream is asked.
    """

    asking: Asking
    why: Why

    def interim(self, head: ResponseHead) -> None:
        """Pass an interim response on."""
        self.asking.interim(head)

    def responded(self, response: UpstreamResponse) -> None:
        """Pass the final response on, seen and marked."""
        try:
            self.see(response)
        except Exception:  # noqa: BLE001 - the client gets its response all the same
            _log.failure("the cache could not look at a response")
        self.asking.responded(response)

    def see(self, response: UpstreamResponse) -> None:
        """Look at a response before the exchange does."""
        raise NotImplementedError

    def unanswered(self, error: ProxyError) -> None:
        """Pass it on that there is none."""
        self.asking.unanswered(error)

    def bind(self) -> Bond | None:
        """Return the bond of the client's connection."""
        return self.asking.bind()
