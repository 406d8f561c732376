"""Time the pure rings call by call; run with ``python -m benchmarks.micro``.

What each case calls stands in one table, ``cases``.  A head is small (two fields) or as a browser
sends it (20 fields) and a backend answers it (12 fields).  Where ``httptools`` is installed, its
parse of the same heads by llhttp stands below; it refuses less than ours.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import timeit
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import attrs

from benchmarks.payloads import EVENT_LENGTH, REQUEST_FIELDS, RESPONSE_FIELDS, content, event
from benchmarks.systems import module_missing
from pyproxy.policy.matching import Match, MatchIndex
from pyproxy.semantics.chunked import ChunkedReader, CodedReader, chunk
from pyproxy.semantics.fields import Fields
from pyproxy.semantics.forwarding import Hop, connection_options, host_of
from pyproxy.semantics.frames import FrameCount
from pyproxy.semantics.framing import (
    NO_CONTENT,
    request_framing,
    response_framing,
)
from pyproxy.semantics.messages import parse_request_head, parse_response_head, write_head
from pyproxy.semantics.to_client import ResponseForwarding
from pyproxy.semantics.to_upstream import RequestForwarding
from pyproxy.semantics.urls import PathMapping, parse_target

REPEATS = 7
SHORTEST = 0.05
"""Seconds that one repeat takes at least."""

EVENTS_IN_A_READ = 40
FRAMES_IN_A_READ = 20

Call = Callable[[], object]

SMALL_REQUEST: Fields = [(b"Host", b"api.example.com"), (b"Accept", b"*/*")]
SMALL_RESPONSE: Fields = [(b"Content-Type", b"text/plain"), (b"Content-Length", b"100")]
BROWSER_REQUEST: Fields = [
    (b"Host", b"chat.example.com"),
    *((name.encode(), value.encode()) for name, value in REQUEST_FIELDS.items()),
]
BACKEND_RESPONSE: Fields = [
    (b"Server", b"nginx"),
    (b"Date", b"Wed, 01 Jan 2025 12:00:00 GMT"),
    (b"Content-Type", b"application/json"),
    (b"Content-Length", b"100"),
    (b"Connection", b"keep-alive"),
    *((name.encode(), value.encode()) for name, value in RESPONSE_FIELDS.items()),
]

REQUESTS = (("small", SMALL_REQUEST), ("20 fields", BROWSER_REQUEST))
RESPONSES = (("small", SMALL_RESPONSE), ("12 fields", BACKEND_RESPONSE))

ROUTES = (1, 10, 1000, 10000)
"""Numbers of routes, hosts and prefixes mixed, among which one is found."""

HOP = Hop(address=b"192.0.2.7", scheme=b"https", port=b"443", trusted=False)
REQUEST_LINE = b"GET /v1/models?limit=20 HTTP/1.1"
STATUS_LINE = b"HTTP/1.1 200 OK"


@attrs.frozen
class Rule:
    """A route as far as finding it needs one."""

    number: int
    match: Match


@attrs.frozen
class Case:
    """One call to time."""

    name: str
    call: Call


def cases() -> Iterator[Case]:
    """Yield every case of ours."""
    target = parse_target("https://api.example.com/base")
    mapping = PathMapping(prefix=b"/api", base=target.base)
    to_upstream = RequestForwarding(target.origin, b"pyproxy-0123456789abcdef")
    to_client = ResponseForwarding(target.origin, mapping)
    for size, fields in REQUESTS:
        octets = write_head(REQUEST_LINE, fields)[:-2]
        head = parse_request_head(octets)
        options, host = connection_options(head), host_of(head)
        forwarded = partial(to_upstream.fields, head, options, host, HOP, NO_CONTENT)
        yield Case(f"parse_request_head, {size}", partial(parse_request_head, octets))
        yield Case(f"request_framing, {size}", partial(request_framing, head))
        yield Case(f"RequestForwarding.fields, {size}", forwarded)
        yield Case(f"write_head, {size}", partial(write_head, REQUEST_LINE, forwarded()))
    for size, fields in RESPONSES:
        octets = write_head(STATUS_LINE, fields)[:-2]
        answer = parse_response_head(octets)
        options = connection_options(answer)
        returned = partial(to_client.fields, answer, options, b"chat.example.com")
        yield Case(f"parse_response_head, {size}", partial(parse_response_head, octets))
        yield Case(f"response_framing, {size}", partial(response_framing, answer, b"GET"))
        yield Case(f"ResponseForwarding.fields, {size}", returned)
        yield Case(f"write_head, {size} back", partial(write_head, STATUS_LINE, returned()))
    one = chunk(event(0, 0))
    many = b"".join(chunk(event(0, number)) for number in range(EVENTS_IN_A_READ))
    for reader in (ChunkedReader(), CodedReader()):
        name = type(reader).__name__
        yield Case(f"{name}.feed, 1 event", partial(reader.feed, one))
        yield Case(f"{name}.feed, {EVENTS_IN_A_READ} events", partial(reader.feed, many))
    frame = b"\x82\xc0" + content(4 + 64)
    frames = frame * FRAMES_IN_A_READ
    count = FrameCount()
    several = partial(count.follow, frames, len(frames))
    yield Case("FrameCount.follow, 1 frame", partial(count.follow, frame, len(frame)))
    yield Case(f"FrameCount.follow, {FRAMES_IN_A_READ} frames", several)
    for routes in ROUTES:
        index = MatchIndex(
            [Rule(n, Match(b"h%d.example" % (n % 7), b"/p%d/q" % n)) for n in range(routes)]
        )
        find = partial(index.find, head, b"h0.example", b"/p0/q/and/more")
        yield Case(f"MatchIndex.find, {routes:,} routes", find)
    for name, at in (("", b"/api/v1/models?limit=20"), (", escapes", b"/api/v1/a%20b/c.txt?n=20")):
        yield Case(f"PathMapping.to_upstream{name}", partial(mapping.to_upstream, at))


class Collector:
    """Keep what llhttp finds, as a proxy would have to."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: Fields = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


def llhttp_cases(httptools: Any) -> Iterator[Case]:
    """Yield the parse of the same heads by llhttp, a new parser for each."""

    def request(octets: bytes) -> object:
        parser = httptools.HttpRequestParser(Collector())
        parser.feed_data(octets)
        return parser.get_method(), parser.get_http_version()

    def response(octets: bytes) -> object:
        parser = httptools.HttpResponseParser(Collector())
        parser.feed_data(octets)
        return parser.get_status_code(), parser.get_http_version()

    for size, fields in REQUESTS:
        yield Case(f"llhttp, request, {size}", partial(request, write_head(REQUEST_LINE, fields)))
    for size, fields in RESPONSES:
        yield Case(f"llhttp, response, {size}", partial(response, write_head(STATUS_LINE, fields)))


def microseconds(call: Call) -> float:
    """Return how long a call takes: the median of several repeats."""
    timer = timeit.Timer(call)
    number = 1
    while (taken := timer.timeit(number)) < SHORTEST:
        number = max(2 * number, int(number * SHORTEST / max(taken, 1e-6)) + 1)
    return statistics.median(timer.repeat(REPEATS, number)) / number * 1e6


def main(arguments: Sequence[str]) -> int:
    """Print the time of each case whose name holds a word of the command line, or of all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro", description=main.__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD")
    words = parser.parse_args(arguments).words
    everything = [*cases()]
    missing = module_missing("httptools")
    if missing is None:
        everything += llhttp_cases(importlib.import_module("httptools"))
    sys.stdout.write(f"us/call, median of {REPEATS}; an event has {EVENT_LENGTH} bytes\n\n")
    for case in everything:
        if not words or any(word in case.name for word in words):
            sys.stdout.write(f"{case.name:<40}{microseconds(case.call):8.2f}\n")
            sys.stdout.flush()
    if missing is not None:
        sys.stdout.write(f"\nllhttp is left out: {missing}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
