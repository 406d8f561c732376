"""One connection to a Redis: commands go out joined, replies come back in their order.

Knows what a connection begins with, and when it is of no use any more; not how to open another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs
from twisted.internet import error
from twisted.internet.defer import Deferred, fail
from twisted.internet.defer import TimeoutError as DeferTimeout
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pyproxy.semantics.fields import Octets
from pyproxy.sharing.redis_errors import RedisAway, RedisBusy, RedisRefused, RedisSlow
from pyproxy.sharing.redis_place import RedisPlace
from pyproxy.sharing.resp import ErrorReply, NotRESP, Replies, Reply, command

MAX_PENDING = 8192
"""Commands that may wait for their replies, those whose time is over among them."""

MAX_UNSENT_BYTES = 4 * 1024 * 1024
"""Octets of commands that may wait to be sent; 32 ms of a line with 1 Gbit/s."""

MAX_UNANSWERED = 3
SILENCE = 0.1
"""Commands whose time may pass, and seconds, while nothing at all comes.

After both the connection is given up.
"""

CLIENT_NAME = b"pyproxy"

_WRITE_BYTES = 256 * 1024


@attrs.define
class Tally:
    """What has been counted, over all connections."""

    commands: int = 0
    timeouts: int = 0
    refused: int = 0


class _Pending:
    """A command that was taken.  ``answer`` is None once nobody waits for it any more."""

    __slots__ = ("answer", "deadline")

    def __init__(self, answer: Deferred[Reply] | None, deadline: float) -> None:
        self.answer = answer
        self.deadline = deadline


@implementer(IPushProducer)
class RedisConnection(Protocol):
    """A connection, from the first octet to its loss.

    Attributes:
        gone: fires with a sentence's end that says why it is of no use any more.
        known: digests of scripts that were sent on it.
        unsent: octets that wait to be sent.
    """

    def __init__(self, clock: IReactorTime, tally: Tally) -> None:
        self.gone: Deferred[str] = Deferred()
        self.known: set[bytes] = set()
        self.unsent = 0
        self._clock = clock
        self._tally = tally
        self._replies = Replies()
        self._pending: deque[_Pending] = deque()
        self._out: deque[bytes] = deque()
        self._flushing: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._paused = False
        self._over = False
        self._unanswered = 0
        self._silent_since = 0.0

    # beginning

    def connectionMade(self) -> None:
        """Be told when the transport has enough."""
        if self._over:
            self.transport.abortConnection()  # type: ignore[union-attr]
            return
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]

    async def greet(self, place: RedisPlace, limit: float) -> None:
        """Log in and choose the database.

        Raises: RedisTrouble; RedisRefused when Redis does not want this login or database, or is
            not ready yet.
        """
        needed: list[Sequence[Octets | int]] = []
        if place.password is not None:
            login = [place.user, place.password] if place.user else [place.password]
            needed.append([b"AUTH", *(word.encode("utf-8") for word in login)])
        if place.db:
            needed.append([b"SELECT", place.db])
        needed.append([b"PING"])
        answers = [self.call(words, limit) for words in needed]
        name = self.call([b"CLIENT", b"SETNAME", CLIENT_NAME], limit)
        # An old Redis, or rules for this login, may refuse the name: it works without.
        outcomes = [answer.addErrback(lambda failure: failure.value) for answer in (*answers, name)]
        for outcome in outcomes[:-1]:
            reply: object = await outcome
            if isinstance(reply, Exception):
                raise reply

    # commands

    def call(self, words: Sequence[Octets | int], limit: float) -> Deferred[Reply]:
        """Send a command.

        Args: limit in seconds, for the reply to be there.
        Returns: the reply; fails with RedisTrouble.  Who cancels it gets no reply; the command may
            be carried out all the same.
        """
        if self._over:
            return fail(RedisAway("there is no connection to Redis"))
        octets = command(*words)
        if len(self._pending) >= MAX_PENDING or self.unsent + len(octets) > MAX_UNSENT_BYTES:
            return fail(RedisBusy("too much waits for Redis"))
        self._tally.commands += 1
        now = self._clock.seconds()
        if not self._pending:
            self._silent_since = now
        pending = _Pending(None, now + limit)

        def cancel(_: Deferred[Reply]) -> None:
            pending.answer = None

        answer: Deferred[Reply] = Deferred(cancel)
        pending.answer = answer
        self._pending.append(pending)
        self._out.append(octets)
        self.unsent += len(octets)
        if self._flushing is None and not self._paused:
            self._flushing = self._clock.callLater(0, self._flush)
        self._wake(pending.deadline)
        return answer

    def _flush(self) -> None:
        """Send what the turn has brought, as long as the transport takes it."""
        self._flushing = None
        out = self._out
        while out and not self._paused and not self._over:
            size, words = 0, []
            while out and size < _WRITE_BYTES:
                size += len(out[0])
                words.append(out.popleft())
            self.unsent -= size
            self.transport.write(b"".join(words))  # type: ignore[union-attr]

    def pauseProducing(self) -> None:
        """Send no more for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Send again."""
        self._paused = False
        self._flush()

    def stopProducing(self) -> None:
        """Nothing has to be done: the loss of the connection is told anyway."""

    # replies

    def dataReceived(self, data: bytes) -> None:
        """Give each reply to who waits for it."""
        self._unanswered = 0
        self._silent_since = self._clock.seconds()
        try:
            for reply in self._replies.feed(data):
                if self._over:
                    return
                if not self._pending:
                    raise NotRESP("a reply came that nobody waits for")
                answer = self._pending.popleft().answer
                if answer is None:
                    continue
                if isinstance(reply, ErrorReply):
                    self._tally.refused += 1
                    answer.errback(RedisRefused(reply))
                else:
                    answer.callback(reply)
        except NotRESP as cause:
            self.end(f"it does not speak Redis' protocol: {cause}")

    # time

    def _wake(self, deadline: float) -> None:
        """Be called at a time at the latest."""
        timer, delay = self._timer, deadline - self._clock.seconds()
        if timer is not None and timer.active():
            if timer.getTime() <= deadline:
                return
            timer.cancel()
        self._timer = self._clock.callLater(max(0.0, delay), self._look)

    def _look(self) -> None:
        """Read first what is there already: it may be this process that was late."""
        self._timer = self._clock.callLater(0, self._check)

    def _check(self) -> None:
        """Let everybody go whose time is over."""
        now, late, again = self._clock.seconds(), [], []
        for pending in self._pending:
            if pending.answer is None:
                continue
            if pending.deadline <= now:
                late.append(pending.answer)
                pending.answer = None
            else:
                again.append(pending.deadline)
        self._tally.timeouts += len(late)
        self._unanswered += len(late)
        if self._unanswered >= MAX_UNANSWERED:
            if now - self._silent_since >= SILENCE:
                self.end("it does not answer")
            else:
                again.append(self._silent_since + SILENCE)
        if again and not self._over:
            self._wake(min(again))
        for answer in late:
            if not answer.called:
                answer.errback(RedisSlow("Redis did not answer in time"))

    # ending

    def end(self, why: str) -> None:
        """Be of no use any more.  Args: why, the end of a sentence."""
        if self._over:
            return
        self._over = True
        for call in (self._flushing, self._timer):
            if call is not None and call.active():
                call.cancel()
        self._out.clear()
        self.unsent = 0
        waiting, self._pending = self._pending, deque()
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]
        self.gone.callback(why)
        for pending in waiting:
            if pending.answer is not None:
                pending.answer.errback(RedisAway("the connection to Redis was lost"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell all who wait."""
        self.end(explain(reason.value))


def explain(cause: BaseException | None) -> str:
    """Return the end of a sentence that says why there is no connection.

    Nothing that came from the other side is in it: that may be no Redis, and repeat the login.
    """
    if isinstance(cause, RedisRefused):
        return _REFUSALS.get(cause.code, f"it refuses us ({cause.code})")
    if isinstance(cause, RedisSlow | TimeoutError | error.TimeoutError | DeferTimeout):
        return "it does not answer"
    if isinstance(cause, error.ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(cause, error.DNSLookupError):
        return "its name has no address"
    if isinstance(cause, error.ConnectionDone | error.ConnectionLost):
        return "the connection was closed"
    if type(cause).__module__.startswith(("OpenSSL.", "service_identity.")):
        return "TLS with it failed"
    return f"it cannot be reached ({type(cause).__name__})"


_REFUSALS = {
    "WRONGPASS": "it refuses the user or the password (WRONGPASS)",
    "NOAUTH": "it wants a password (NOAUTH)",
    "NOPERM": "the user may not do what is needed (NOPERM)",
    "LOADING": "it is still loading its data (LOADING)",
    "ERR": "it refuses the login or the database (ERR)",
}
