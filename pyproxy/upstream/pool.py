"""Idle connections to one origin, kept for the next request.

Bounded in number and in time.  The connection that was used last is used next, so that a quiet
pool shrinks.
"""

from __future__ import annotations

import attrs

from pyproxy.relay.limits import Sweeper
from pyproxy.upstream.connection import Connection

MAX_IDLE_CONNECTIONS = 4096
"""Idle connections kept per origin: what a burst of as many exchanges leaves behind.

Busy connections are as many as there are exchanges.  With 2,000 clients and a bound of 256 most
exchanges opened a connection: 430 us of CPU a request instead of 220.
"""

IDLE_SECONDS = 30.0
"""How long an idle connection is kept.

nginx keeps 75 s, HAProxy 60; Node and uvicorn 5, which is why a kept connection is looked at before
a request that may not be sent twice.
"""


REST_SECONDS = 1.0
"""How long a connection is left alone on which content may follow that was declared and not due.

Some servers send the content of an answer to HEAD, or of a 304, although they must not; it would be
taken for the response to the next request, which may be another client's.
"""


@attrs.define(eq=False)
class Pool:
    """The idle connections to one origin."""

    _sweeper: Sweeper
    _idle: list[Connection] = attrs.Factory(list)
    _resting: list[Connection] = attrs.Factory(list)
    _closed: bool = False

    def take(self) -> Connection | None:
        """Return an idle connection that the kernel says is open and silent, or None.

        What an upstream sent unasked would be taken for the response to the next request.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                if connection.silent():
                    return connection
                connection.abort()
        return None

    def put(self, connection: Connection) -> None:
        """Keep a connection that has become idle, or forget one that was lost while idle."""
        if not connection.usable:
            for kept in (self._idle, self._resting):
                if connection in kept:
                    kept.remove(connection)
        elif self._closed or len(self._idle) + len(self._resting) >= MAX_IDLE_CONNECTIONS:
            connection.close()
        else:
            connection.idle_since = self._sweeper.now
            (self._resting if connection.suspect else self._idle).append(connection)

    def check(self, now: float) -> float:
        """Close what has been idle for too long; take up what has rested long enough.

        Returns: now, since any request may leave a connection here; there are few pools.
        """
        rested = [one for one in self._resting if now - one.idle_since >= REST_SECONDS]
        for connection in rested:
            self._resting.remove(connection)
            self._idle.insert(0, connection)
        expired = [one for one in self._idle if now - one.idle_since >= IDLE_SECONDS]
        for connection in expired:
            self._idle.remove(connection)
            connection.close()
        return now

    def close(self) -> None:
        """Close every idle connection, and keep none any more."""
        self._closed = True
        idle = self._idle + self._resting
        self._idle, self._resting = [], []
        for connection in idle:
            connection.close()

    @property
    def size(self) -> int:
        """How many connections are idle."""
        return len(self._idle) + len(self._resting)
