"""A Redis, as everything here that shares something sees it: there, or away.

Owns the connection and its return.  While Redis is away every command fails at once, so that
nobody waits for what does not come; it is back within two seconds of its return, by itself.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence

import attrs
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IOpenSSLClientConnectionCreator
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.fields import Octets
from pyproxy.sharing.redis_connection import RedisConnection, Tally
from pyproxy.sharing.redis_errors import RedisAway, RedisRefused
from pyproxy.sharing.redis_opening import Opening
from pyproxy.sharing.redis_place import RedisPlace
from pyproxy.sharing.resp import Reply

LOOKUP_LIMIT = 0.045
"""Seconds that somebody who could go on without an answer waits for one.

50 ms are promised; the rest is for the reactor's turns.
"""

OPENING_LIMIT = 0.9
"""Seconds that one attempt to connect may take, the login with it."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 0.9
"""Seconds between two attempts: at first, and at most, each twice the one before.

The longest, and an attempt that began just too soon, are together below two seconds.
"""

STEADY = 1.0
"""Seconds after which a connection is a good one: the log tells of it, the pauses begin anew."""

_log = Logger()


@attrs.frozen
class Script:
    """A program in Lua that Redis runs as one step."""

    source: bytes
    digest: bytes = attrs.field(init=False)

    @digest.default
    def _digest(self) -> bytes:
        # Redis' own name for it; nothing is proved by it.
        return hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()


@attrs.define(eq=False)
class RedisClient:
    """The way to one Redis.  It is away until ``start``, and for good after ``close``.

    Args: what makes TLS connections, where the place wants TLS; None to trust the system's
        authorities.

    Attributes:
        place: where it is.
        tally: what was counted.
    """

    _reactor: IProxyReactor
    place: RedisPlace
    _creator: IOpenSSLClientConnectionCreator | None = None
    tally: Tally = attrs.Factory(Tally)
    _connection: RedisConnection | None = None
    _watchers: list[Callable[[], None]] = attrs.Factory(list)
    _running: Deferred[None] | None = None
    _reasons: set[str] = attrs.Factory(set)
    """Why it is away, as far as the log knows."""
    _saying: IDelayedCall | None = None
    _closed: bool = False

    # being there

    def start(self) -> None:
        """Connect, and again whenever the connection is lost."""
        if self._running is None and not self._closed:
            self._running = Deferred.fromCoroutine(self._run())
            self._running.addErrback(self._ended)

    def _ended(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            _log.failure("Redis is given up", failure)

    async def _run(self) -> None:
        opening = Opening(self._reactor, self.place, self.tally, self._creator)
        pause = FIRST_PAUSE
        while True:
            try:
                connection = await opening.open(OPENING_LIMIT)
            except RedisAway as away:
                self._away(str(away))
            else:
                since = self._reactor.seconds()
                self._back(connection)
                why = await self._until_gone(connection)
                self._connection = None
                self._away(why)
                if self._reactor.seconds() - since >= STEADY:
                    pause = FIRST_PAUSE
            # Many that lost it at the same time do not come back at the same time.
            await deferLater(self._reactor, pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _until_gone(self, connection: RedisConnection) -> str:
        try:
            return await connection.gone
        except CancelledError:
            connection.end("it is not needed any more")
            raise

    def _back(self, connection: RedisConnection) -> None:
        self._connection = connection
        if self._reasons:
            self._saying = self._reactor.callLater(STEADY, self._say_back)
        for watcher in self._watchers.copy():
            try:
                watcher()
            except Exception:  # noqa: BLE001 - one defect must not hide Redis from the others
                _log.failure("somebody could not be told that Redis is back")

    def _say_back(self) -> None:
        self._reasons.clear()
        _log.info("Redis at {place} is back", place=self.place.name)

    def _hush(self) -> None:
        """Do not say that it is back."""
        if self._saying is not None and self._saying.active():
            self._saying.cancel()

    def _away(self, why: str) -> None:
        """Say in the log that it is away, once for each reason."""
        self._hush()
        if why not in self._reasons:
            self._reasons.add(why)
            _log.warn("Redis at {place} is away: {why}", place=self.place.name, why=why)

    def watch(self, back: Callable[[], None]) -> None:
        """Tell somebody each time that Redis is there, before others send commands."""
        self._watchers.append(back)

    def unwatch(self, back: Callable[[], None]) -> None:
        """Tell somebody no more."""
        if back in self._watchers:
            self._watchers.remove(back)

    @property
    def connected(self) -> bool:
        """Whether commands are sent."""
        return self._connection is not None and not self._connection.gone.called

    @property
    def unsent(self) -> int:
        """Octets of commands that wait to be sent."""
        return self._connection.unsent if self._connection is not None else 0

    # commands

    def call(self, *words: Octets | int, limit: float = LOOKUP_LIMIT) -> Deferred[Reply]:
        """Send a command; those of one turn go out together, and are carried out in their order.

        Args: limit in seconds, for the reply to be there.
        Returns: the reply; fails with RedisAway, RedisSlow, RedisBusy or RedisRefused.
        """
        if self._connection is None:
            return fail(RedisAway("there is no connection to Redis"))
        return self._connection.call(words, limit)

    def run(
        self,
        script: Script,
        keys: Sequence[Octets],
        arguments: Sequence[Octets | int],
        limit: float = LOOKUP_LIMIT,
    ) -> Deferred[Reply]:
        """Have Redis run a script.

        It is sent whole once on each connection, so that it keeps its place among the commands.
        Returns: as ``call``.
        """
        connection = self._connection
        if connection is None:
            return fail(RedisAway("there is no connection to Redis"))
        rest = (len(keys), *keys, *arguments)
        if script.digest not in connection.known:
            connection.known.add(script.digest)
            return connection.call((b"EVAL", script.source, *rest), limit)
        until = self._reactor.seconds() + limit

        def again(failure: Failure) -> Deferred[Reply]:
            refused = failure.value
            if not isinstance(refused, RedisRefused) or refused.code != "NOSCRIPT":
                failure.raiseException()
            left = max(0.0, until - self._reactor.seconds())
            return connection.call((b"EVAL", script.source, *rest), left)

        answer = connection.call((b"EVALSHA", script.digest, *rest), limit)
        return answer.addErrback(again)

    # for people

    def figures(self) -> Mapping[str, int | str]:
        """Return what is known of the connection, and counts since the start."""
        return {
            "redis": "connected" if self.connected else "away",
            "commands": self.tally.commands,
            "timeouts": self.tally.timeouts,
            "refused": self.tally.refused,
        }

    def close(self) -> None:
        """End the connection, and connect no more; commands that wait fail with RedisAway."""
        self._closed = True
        self._hush()
        self._watchers.clear()
        self._connection = None
        if self._running is not None:
            self._running.cancel()
