"""Sends spans to a collector, in batches and outside of the way of any request.

Owns the queue, its bounds, and what is dropped.  What a span is, is ``spans``'; one request with
some of them ``otlp_post``'s.
Spec: OTLP/HTTP with JSON; OpenTelemetry's batching processor, for bounds and pauses.
"""

from __future__ import annotations

import json
import os
import random
from collections import deque
from collections.abc import Callable, Sequence

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from pyproxy import __version__
from pyproxy.errors import ProxyError
from pyproxy.observe.otlp_post import RETRIED, Agent, Answer, Destination, Post
from pyproxy.observe.values import attributes
from pyproxy.policy.routing import Peer

MAX_QUEUED = 2048
"""Spans that wait; what comes when there are so many is dropped."""

MAX_QUEUED_BYTES = 8 * 1024 * 1024
"""Octets of those, as JSON."""

MAX_BATCH = 512
"""Spans in one request."""

MAX_BATCH_BYTES = 1024 * 1024
"""Octets of those, as JSON; a single span may have more."""

PAUSE = 5.0
"""Seconds that a span waits for others to go with."""

POST_LIMIT = 10.0
"""Seconds for one request and its response."""

MAX_TRIES = 5
"""Times that a batch is sent until it is dropped."""

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds until a batch is sent again: at first, then twice as long each time, and at most."""

CLOSE_LIMIT = 3.0
"""Seconds at the end for what still waits; each batch is tried once more at most."""

QUIET = 60.0
"""Seconds between two lines of the log about spans that were dropped."""

ENDED = "the proxy has ended"

_log = Logger("pyproxy")


@attrs.define
class Counts:
    """What became of spans.

    Attributes:
        sent: taken by the collector.
        dropped: there was no place for them, or no collector.
        rejected: sent, but not taken.
        failures: requests that brought nothing.
    """

    sent: int = 0
    dropped: int = 0
    rejected: int = 0
    failures: int = 0


class Exporter:
    """Sends spans.

    Args: agent, which is closed at the end, and is nobody else's.

    Attributes:
        counts: what became of them.
    """

    def __init__(
        self,
        clock: IReactorTime,
        agent: Agent,
        destination: Destination,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._destination = destination
        self._peer = Peer(destination.target.origin)
        self.counts = Counts()
        self._clock = clock
        self._agent = agent
        self._jitter = jitter
        self._instance = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._running: Deferred[None] | None = None
        self._rest: _Rest | None = None
        self._closing = False
        self._over = False
        self._fails = False
        self._said_at = -QUIET
        self._said = 0

    @property
    def queued(self) -> int:
        """How many spans wait."""
        return len(self._queue)

    def aim(self, destination: Destination) -> None:
        """Send somewhere else from the next request on."""
        if destination != self._destination:
            self._destination, self._peer = destination, Peer(destination.target.origin)
            self._agent.keep((self._peer,))

    def take(self, spans: Sequence[bytes]) -> None:
        """Take spans of one account as JSON: all of them, or none."""
        size = sum(map(len, spans))
        if (
            self._over
            or len(self._queue) + len(spans) > MAX_QUEUED
            or self._queued_bytes + size > MAX_QUEUED_BYTES
        ):
            self._drop(len(spans), "the queue is full")
            return
        self._queue.extend(spans)
        self._queued_bytes += size
        if self._running is None:
            self._run()
        elif self._rest is not None and self._is_full():
            self._rest.end_early()

    def close(self) -> Deferred[None]:
        """Send what waits, within CLOSE_LIMIT, and drop the rest."""
        self._closing = True
        if self._rest is not None:
            self._rest.end()
        if self._running is None:
            self._end()
            return succeed(None)
        running = self._running
        done: Deferred[None] = Deferred()
        limit = self._clock.callLater(CLOSE_LIMIT, self._give_up, running)

        def ended(_: object) -> None:
            if limit.active():
                limit.cancel()
            self._end()
            done.callback(None)

        running.addCallback(ended)
        return done

    def _end(self) -> None:
        self._over = True
        self._drop(len(self._queue), ENDED)
        self._queue.clear()
        self._queued_bytes = 0
        self._report()
        self._agent.close()

    def _give_up(self, running: Deferred[None]) -> None:
        self._over = True
        running.cancel()

    # sending

    def _run(self) -> None:
        """Send until nothing is left."""
        # It is there before the coroutine has begun, which may end at once.
        running = self._running = Deferred.fromCoroutine(self._send_all())
        running.addErrback(self._failed)
        running.addCallback(self._ran, running)

    def _failed(self, failure: Failure) -> None:
        if not (self._over and failure.check(CancelledError)):
            _log.failure("spans could not be sent", failure)

    def _ran(self, _: object, running: Deferred[None]) -> None:
        if self._running is running:
            self._running = None

    async def _send_all(self) -> None:
        while self._queue and not self._over:
            if not self._is_full():
                await self._wait(PAUSE, early=True)
            await self._deliver(self._next_batch())

    def _is_full(self) -> bool:
        return len(self._queue) >= MAX_BATCH or self._queued_bytes >= MAX_BATCH_BYTES

    def _next_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        queue = self._queue
        while queue and len(batch) < MAX_BATCH:
            if batch and size + len(queue[0]) > MAX_BATCH_BYTES:
                break
            size += len(queue[0])
            batch.append(queue.popleft())
        self._queued_bytes -= size
        return batch

    async def _deliver(self, batch: list[bytes]) -> None:
        """Send a batch, again where that may help; it is counted in the end, whatever becomes."""
        delivered = False
        why = ENDED
        try:
            for tries in range(1, MAX_TRIES + 1):
                answer, why = await self._post(batch)
                if answer is not None and answer.status // 100 == 2:
                    delivered = True
                    self._delivered(len(batch), answer)
                    return
                self._not_delivered(why)
                again = answer is None or answer.status in RETRIED
                if not again or self._closing or tries == MAX_TRIES:
                    return
                await self._wait(self._wait_before(tries, answer))
        finally:
            if not delivered:
                self._drop(len(batch), why)

    def _wait_before(self, tries: int, answer: Answer | None) -> float:
        """Return seconds until the next try, not the same for all who lost the same collector."""
        wait: float = FIRST_WAIT * 2 ** (tries - 1) * (1 + self._jitter() / 2)
        if answer is not None and answer.retry_after is not None:
            wait = max(wait, answer.retry_after)
        return min(wait, LONGEST_WAIT)

    async def _post(self, batch: list[bytes]) -> tuple[Answer | None, str]:
        """Send a batch once; return what was said, None for nothing, and what is wrong with it."""
        post = Post(self._agent, self._peer, self._destination, self._body(batch))
        try:
            answer = await post.answered.addTimeout(POST_LIMIT, self._clock)
        except DeferredTimeout:
            return None, f"it said nothing for {POST_LIMIT:g} s"
        except ProxyError as error:
            return None, error.for_log
        return answer, f"it said {answer.status}"

    def _body(self, batch: list[bytes]) -> bytes:
        """Return spans as one message.  Spec: collector/trace/v1, ExportTraceServiceRequest."""
        resource = attributes(
            {
                "service.name": self._destination.service_name,
                "service.version": __version__,
                "service.instance.id": self._instance,
                "process.pid": os.getpid(),
            }
        )
        scope = {"name": "pyproxy", "version": __version__}
        return b'{"resourceSpans":[{"resource":{"attributes":%b},"scopeSpans":[{"scope":%b,' % (
            resource.encode("ascii"),
            json.dumps(scope).encode("ascii"),
        ) + b'"spans":[%b]}]}]}' % b",".join(batch)

    async def _wait(self, seconds: float, early: bool = False) -> None:
        """Wait.  Args: early, whether a full batch ends it; the proxy's end always does."""
        if self._closing:
            return
        rest = self._rest = _Rest(self._clock, seconds, early)
        try:
            await rest.over
        finally:
            self._rest = None

    # what is said of it

    def _delivered(self, spans: int, answer: Answer) -> None:
        rejected = min(spans, answer.rejected)
        self.counts.sent += spans - rejected
        self.counts.rejected += rejected
        if rejected:
            _log.warn(
                "The collector of spans has rejected {rejected} of {spans}",
                rejected=rejected,
                spans=spans,
            )
        if self._fails:
            self._fails = False
            self._report()
            _log.info("Spans reach {where} again", where=self._destination.shown)

    def _not_delivered(self, why: str) -> None:
        self.counts.failures += 1
        if not self._fails:
            self._fails = True
            _log.warn(
                "Spans do not reach {where}: {why}; up to {most} wait",
                where=self._destination.shown,
                why=why,
                most=MAX_QUEUED,
            )

    def _drop(self, spans: int, why: str) -> None:
        self.counts.dropped += spans
        if spans and self._clock.seconds() - self._said_at >= QUIET:
            self._report(why)

    def _report(self, why: str = "") -> None:
        """Say how many were dropped since that was last said."""
        dropped = self.counts.dropped - self._said
        if dropped:
            self._said, self._said_at = self.counts.dropped, self._clock.seconds()
            _log.warn(
                "Spans dropped: {dropped}{why}", dropped=dropped, why=f" ({why})" if why else ""
            )


class _Rest:
    """A wait that can be ended.

    Attributes:
        over: fires when it is.
    """

    def __init__(self, clock: IReactorTime, seconds: float, early: bool) -> None:
        self.over: Deferred[None] = Deferred(lambda _: self._stop())
        self._early = early
        self._call: IDelayedCall = clock.callLater(seconds, self.end)

    def end(self) -> None:
        """End it."""
        self._stop()
        if not self.over.called:
            self.over.callback(None)

    def end_early(self) -> None:
        """End it in the next turn, if there is enough to do."""
        if self._early and self._call.active():
            self._early = False
            self._call.reset(0)

    def _stop(self) -> None:
        if self._call.active():
            self._call.cancel()
