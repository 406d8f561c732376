"""Idle connections to one origin, kept for the next request.

Bounded in number and in time.  The connection that was used last is used next, so that a quiet
pool shrinks.
"""

from __future__ import annotations

import attrs

from pyproxy.relay.limits import Sweeper
from pyproxy.upstream.connection import Connection

MAX_IDLE_CONNECTIONS = 256
"""Idle connections kept per origin: what a burst of as many exchanges leaves behind.

Busy connections are as many as there are exchanges.
"""

IDLE_SECONDS = 30.0
"""How long an idle connection is kept.

nginx keeps 75 s, HAProxy 60; Node and uvicorn 5, which is why a kept connection is looked at before
a request that may not be sent twice.
"""


@attrs.define(eq=False)
class Pool:
    """The idle connections to one origin."""

    _sweeper: Sweeper
    _idle: list[Connection] = attrs.Factory(list)
    _closed: bool = False

    def take(self, safe_to_send_again: bool) -> Connection | None:
        """Return an idle connection, or None.

        Args: whether a request that finds the connection dead may go out once more.  One that may
            not gets only a connection that the kernel says is alive now.
        """
        while self._idle:
            connection = self._idle.pop()
            if not connection.usable:
                continue
            if safe_to_send_again or connection.silent():
                return connection
            connection.abort()
        return None

    def put(self, connection: Connection) -> None:
        """Keep a connection that has become idle, or forget one that was lost while idle."""
        if not connection.usable:
            if connection in self._idle:
                self._idle.remove(connection)
        elif self._closed or len(self._idle) >= MAX_IDLE_CONNECTIONS:
            connection.close()
        else:
            connection.idle_since = self._sweeper.now
            self._idle.append(connection)

    def check(self, now: float) -> None:
        """Close what has been idle for too long."""
        expired = [one for one in self._idle if now - one.idle_since >= IDLE_SECONDS]
        for connection in expired:
            self._idle.remove(connection)
            connection.close()

    def close(self) -> None:
        """Close every idle connection, and keep none any more."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @property
    def size(self) -> int:
        """How many connections are idle."""
        return len(self._idle)
