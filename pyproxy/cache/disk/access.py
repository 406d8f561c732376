"""How a store reaches its disk: in threads, within a limit, and as long as it answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pyproxy.cache.disk.lane import Done, Lane
from pyproxy.relay.transports import IProxyReactor

T = TypeVar("T")

READ_SECONDS = 10.0
"""How long a block is waited for, and a slice of a purge."""

READERS = 4
"""Threads that read."""

MAX_READS = 1024
"""Reads that wait; who comes then is told at once that nothing is known."""

MAX_CHANGES = 100_000
"""Changes that wait; when there are more the store is off, since it must not lose a removal."""

_log = Logger()


class Away(Exception):
    """The disk does not answer, or the store is closed."""


@attrs.define(eq=False)
class Access:
    """The threads of a store.

    Attributes:
        off: the disk is not used any more.
    """

    reactor: IProxyReactor
    off: bool = False
    _writer: Lane = attrs.field(init=False)
    _readers: Lane = attrs.field(init=False)
    _waits: set[Deferred[Any]] = attrs.Factory(set)
    _failures: set[str] = attrs.Factory(set)

    def __attrs_post_init__(self) -> None:
        self._writer = Lane(self.reactor, 1, MAX_CHANGES)
        self._readers = Lane(self.reactor, READERS, MAX_READS)

    @property
    def busy(self) -> bool:
        """Whether something that was asked for is still to be done."""
        return bool(self._writer.waiting or self._readers.waiting)

    @property
    def reading(self) -> int:
        """How many reads wait or are under way."""
        return self._readers.waiting

    def look(self, done: Done[T], function: Callable[..., T], *arguments: Any) -> bool:
        """Have a reader do something; tell whether it will."""
        return not self.off and self._readers.call(done, function, *arguments)

    def change(
        self, done: Callable[[Any], object], function: Callable[..., object], *arguments: Any
    ) -> bool:
        """Have the writer do something, in order; tell whether it will.  Failures are logged."""

        def told(result: object) -> None:
            if isinstance(result, Exception):
                self.failed(result)
            done(result)

        if self.off:
            return False
        if self._writer.call(told, function, *arguments):
            return True
        self.off = True
        _log.error("the cache's disk does not answer: it is not used any more until a restart")
        return False

    def ask(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Have a reader do something.  It fails with Away, or as the function does."""
        return self._ask(self._readers, function, *arguments)

    def ask_writer(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Have the writer do something, in order.  It fails with Away, or as the function does."""
        return self._ask(self._writer, function, *arguments)

    def _ask(self, lane: Lane, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        waiting: Deferred[T] = Deferred()
        timer = self.reactor.callLater(READ_SECONDS, self._give_up, waiting)

        def over(result: Any) -> Any:
            self._waits.discard(waiting)
            if timer.active():
                timer.cancel()
            return result

        def done(result: T | Exception) -> None:
            if waiting.called:
                return
            if isinstance(result, Exception):
                waiting.errback(Failure(result))
            else:
                waiting.callback(result)

        self._waits.add(waiting)
        waiting.addBoth(over)
        if self.off or not lane.call(done, function, *arguments):
            self._give_up(waiting)
        return waiting

    @staticmethod
    def _give_up(waiting: Deferred[Any]) -> None:
        waiting.errback(Failure(Away("the disk does not answer")))

    def failed(self, error: Exception) -> None:
        """Say once of each kind of failure that it happens."""
        kind = (error.strerror or "") if isinstance(error, OSError) else repr(error)
        if kind not in self._failures:
            self._failures.add(kind)
            _log.error(
                "the cache's disk fails ({kind}): what it cannot do is left out; said once",
                kind=kind,
            )

    def close(self) -> None:
        """Give up all that is waited for; what the writer was asked for is still done."""
        self.off = True
        for waiting in list(self._waits):
            waiting.errback(Failure(Away("the store is closed")))
        self._writer.close()
        self._readers.close()
