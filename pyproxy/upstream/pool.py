"""Idle connections to one origin, kept for the next request.

Bounded in number and in time.  The connection that was used last is used next, so that a quiet
pool shrinks.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import attrs

from pyproxy.relay.limits import Sweeper
from pyproxy.sides import UpstreamRequest
from pyproxy.upstream.connection import Connection
from pyproxy.upstream.manners import TRUSTED_AFTER, Manners

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
taken for the response to the next request, which may be another client's.  An origin that has shown
over some of these connections that it does not is trusted, until it once does (``Manners``).
"""


SHOWN_SECONDS = 0.1
"""How long several connections have to be silent at a time to speak for an origin never caught.

Who sends content that is not due sends it with the head, as a rule.  A request that would open yet
another connection waits for this, once in an origin's life: 300 HEADs in turn took 300 connections.
"""


@attrs.define(eq=False)
class Pool:
    """The idle connections to one origin."""

    _sweeper: Sweeper
    _seconds: Callable[[], float]
    _manners: Manners
    _idle: list[Connection] = attrs.Factory(list)
    _resting: list[Connection] = attrs.Factory(list)
    _closed: bool = False

    def take(self) -> Connection | None:
        """Return an idle connection that the kernel says is open and silent, or None.

        What an upstream sent unasked would be taken for the response to the next request.
        """
        if self._resting and not self._idle:
            self._let_speak_for_origin()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                if connection.use_before < inf and self._seconds() >= connection.use_before:
                    connection.close()
                elif connection.silent():
                    return connection
                elif not (connection.suspect or connection.doubted):
                    connection.abort()
                # What came on a suspect one tells of its origin: the reactor is about to read it.
        return None

    def take_bound(self, request: UpstreamRequest) -> Connection | None:
        """Return the connection that belongs to a request's client, or None for "a new one".

        It does not rest: what may follow on it is that client's own.
        """
        bond = request.bond
        connection = None if bond is None else bond.connections.get(request.peer)
        if not isinstance(connection, Connection) or not connection.usable:
            return None
        late = connection.use_before < inf and self._seconds() >= connection.use_before
        if not late and connection.silent():
            return connection
        connection.abort()
        return None

    def put(self, connection: Connection) -> None:
        """Keep a connection that has become idle, or forget one that was lost while idle."""
        if not connection.usable:
            self._forget(connection)
        elif self._closed or connection.idle_limit <= 0:
            connection.close()
            connection.ends()
        else:
            if connection.idle_limit < inf:
                connection.use_before = self._seconds() + connection.idle_limit
            if connection.bond is not None:
                # Its client keeps it, whatever room there is here.
                return
            if len(self._idle) + len(self._resting) >= MAX_IDLE_CONNECTIONS:
                connection.close()
            elif connection.suspect and not self._manners.known_silent:
                connection.idle_since = self._seconds()
                connection.surplus = False
                self._resting.append(connection)
            else:
                connection.idle_since = self._sweeper.now
                self._idle.append(connection)

    def opens_another(self) -> None:
        """Take note that a connection is opened although some rest: these are closed after that.

        An upstream that serves one connection at a time begins with the new one only then.
        """
        for connection in self._resting:
            connection.surplus = True

    def decides_in(self) -> float:
        """Return after how many seconds ``take`` may find that the origin can be trusted, or 0."""
        if self._manners.caught or len(self._resting) < TRUSTED_AFTER:
            return 0.0
        since = self._resting[TRUSTED_AFTER - 1].idle_since
        # Rounded: a timer that is due must find that nothing is left of it.
        return max(0.0, round(since + SHOWN_SECONDS - self._seconds(), 3))

    def _let_speak_for_origin(self) -> None:
        """Trust the origin if enough connections have been silent at a time, and end their rest."""
        oldest = self._resting[:TRUSTED_AFTER]
        if self._manners.caught or len(oldest) < TRUSTED_AFTER or self.decides_in():
            return
        if all(connection.silent() for connection in oldest):
            self._manners.known_silent = True
            self._idle, self._resting = self._resting, []

    def _forget(self, connection: Connection) -> None:
        """Forget a connection that was lost while idle, and learn from why."""
        for kept in (self._idle, self._resting):
            if connection in kept:
                kept.remove(connection)
        if connection.spoke and (connection.suspect or connection.doubted):
            self._manners.content_followed()
        connection.ends()

    def check(self, now: float) -> float:
        """Close what has been idle for too long; take up what has rested long enough.

        Returns: now, since any request may leave a connection here; there are few pools.
        """
        rested = [one for one in self._resting if now - one.idle_since >= REST_SECONDS]
        for connection in rested:
            self._resting.remove(connection)
            self._manners.rested()
            if connection.surplus:
                connection.close()
            else:
                self._idle.insert(0, connection)
        expired = [
            one
            for one in self._idle
            if now - one.idle_since >= IDLE_SECONDS or now >= one.use_before
        ]
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
