"""What metrics cost: to count an exchange, and how long a scrape holds the reactor in one piece.

Run with ``python -m benchmarks.metrics``.  A scrape of many routes is written in turns of the
reactor; what matters to a stream that waits meanwhile is the longest of them.  Times are of the
CPU: on a busy machine the kernel takes slices of 4 ms for others.  Of several rounds the best
counts.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from pyproxy.account import Account
from pyproxy.admin.site import AdminSite
from pyproxy.config.schema import Config, Listen, RouteConfig
from pyproxy.life.condition import Condition, Phase
from pyproxy.life.desk import Asked, Document
from pyproxy.life.measuring import Measuring
from pyproxy.observe.metrics import Metrics
from pyproxy.semantics.dialects.reading import Usage

BOUND_MS = 5.0
"""What a scrape of 200 routes may take of the reactor in one piece."""

CALLS = 20_000
TURN = 1e-6
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


def account_of(number: int, routes: int) -> Account:
    """Return an exchange with a model that is over."""
    return Account(
        number=number,
        request_id="a",
        clock=lambda: 0.0,
        on_end=lambda account: None,
        began=1000.0,
        method=b"POST",
        route=f"api.example.com/v1/tenants/{number % routes}",
        status=200,
        connected=1000.01,
        responded=1000.2,
        first_token=1000.5,
        last_token=1000.5 + number % 100 / 10,
        ended=1011.0,
        received=1000,
        sent=50_000,
        model="a-model-of-some-size",
        usage=Usage(1200, 300, 1000, 0, 50),
        outcome="ended",
    )


class TurningClock(Clock):
    """A clock on which what is called later is called in another turn."""

    def callLater(self, delay: float, callable: Any, *args: Any, **kw: Any) -> Any:  # noqa: A002
        """Call in the next turn, or later."""
        return super().callLater(max(delay, TURN), callable, *args, **kw)


@attrs.define(eq=False)
class Workers:
    """Workers that answer at once, through JSON as through their pipes.

    Attributes: longest, seconds that one of their answers took to make.
    """

    metrics: dict[int, Metrics]
    longest: float = 0.0
    waiting: list[tuple[Measuring, Deferred[Document | None]]] = attrs.Factory(list)

    def ask_metrics(self, asked: Measuring) -> Deferred[Document | None]:
        """Take note of a question."""
        self.waiting.append((asked, Deferred()))
        return self.waiting[-1][1]

    def answer(self) -> Iterator[Callable[[], object]]:
        """Yield what the parent has to do with each answer: read it, and take them together."""
        while self.waiting:
            asked, done = self.waiting.pop()
            pages: dict[int, Document] = {}
            for number, metrics in self.metrics.items():
                began = time.thread_time()
                text = json.dumps(metrics.page(asked.start))
                self.longest = max(self.longest, time.thread_time() - began)

                yield partial(_read, pages, number, text)
            yield partial(done.callback, {"workers": pages})

    def serves(self) -> Deferred[None]:
        """Serve."""
        return succeed(None)

    def take(self, config: Config) -> Deferred[None]:
        """Take it."""
        return succeed(None)

    def drain(self, timeout: float) -> Deferred[Any]:
        """Have nothing open."""
        return succeed(None)

    def streams(self) -> int:
        """Have none."""
        return 0

    def reopen_logs(self) -> None:
        """Have none."""

    def ask_cache(self, asked: Asked) -> Deferred[Document | None]:
        """Have no cache."""
        return succeed(None)


def _read(pages: dict[int, Document], number: int, text: str) -> None:
    """Read what a worker answers."""
    pages[number] = json.loads(text)


class Sink(StringTransport):
    """A transport that keeps nothing but how much was written, and the end of that."""

    octets = 0
    end = b""

    def write(self, data: bytes) -> None:
        """Count."""
        self.octets += len(data)
        self.end = data[-5:]

    def writeSequence(self, data: list[bytes]) -> None:
        """Count them together."""
        self.write(b"".join(data))


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of the CPU that a call takes."""
    began = time.thread_time()
    call()
    return time.thread_time() - began


def scrape(routes: int, count: int) -> tuple[float, float, float, int]:
    """Scrape workers that have all counted on so many routes.

    Returns: seconds of the CPU of the longest piece in the parent, of all its pieces, of the
        longest in a worker; octets.
    """
    workers = Workers({number: Metrics.of(Clock()) for number in range(count)})
    for metrics in workers.metrics.values():
        for number in range(routes):
            metrics.record(account_of(number, routes))
    config = Config((RouteConfig(None),), (Listen(),), workers=count, metrics=True)
    clock = TurningClock()
    site = AdminSite(Condition(config, "", 1.0, Phase.SERVING), workers, clock)
    transport: Any = cast(Any, Sink)(hostAddress=IPv4Address("TCP", "127.0.0.1", 9000))
    protocol: Any = cast(Any, site).buildProtocol(transport.getPeer())
    protocol.makeConnection(transport)
    pieces = [timed(lambda: protocol.dataReceived(REQUEST))]
    pieces += [timed(piece) for piece in workers.answer()]
    while transport.end != b"0\r\n\r\n":
        pieces.append(timed(lambda: clock.advance(TURN)))
    return max(pieces), sum(pieces), workers.longest, transport.octets


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--routes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    metrics = Metrics.of(Clock())
    accounts = [account_of(number, options.routes) for number in range(CALLS)]
    gc.freeze()

    def count_all() -> None:
        for account in accounts:
            metrics.record(account)

    best = min(timed(count_all) for _ in range(options.rounds))
    print(f"to count an exchange: {best / CALLS * 1e6:.1f} us")
    for workers in (1, 4):
        found = [scrape(options.routes, workers) for _ in range(options.rounds)]
        longest, whole, in_worker, octets = (min(one) for one in zip(*found, strict=True))
        print(
            f"a scrape of {options.routes} routes in {workers} processes, {octets / 1e6:.1f} MB: "
            f"longest piece {longest * 1e3:.1f} ms (bound {BOUND_MS:g}), "
            f"all {whole * 1e3:.0f} ms; in a worker {in_worker * 1e3:.1f} ms"
        )


if __name__ == "__main__":
    main()
