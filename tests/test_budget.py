"""What is off costs nothing: the calls of one small exchange and of one event have a budget."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from types import FrameType
from typing import Any

import attrs

import pyproxy
from pyproxy.config.file import load_file
from tests.memory import (
    OK,
    UPSTREAM_PORT,
    MemoryTransport,
    StageTestCase,
    request,
    response,
)

EXCHANGE_CALLS = 89
"""Calls of functions for one small GET over kept connections: recorded, not wished for."""

EXCHANGE_BUILTINS = 69
"""Calls of functions written in C by those."""

GUARD_CALLS = 3
"""Calls for telling whether a foreign web page asked, where a credential is added."""

EVENT_CALLS = 7
"""Calls for one event of an event stream, from the upstream's read to the client's write."""

EVENT_BUILTINS = 9

STREAMS = 50
STREAM_BYTES = 4600
"""Octets of our objects for each open event stream; Twisted's and the kernel's come to that."""

_OURS = str(Path(pyproxy.__file__).parent)

FILE = f"""
[[listeners]]
endpoint = "tcp:0:interface=127.0.0.1"
[upstreams.only]
target = "http://127.0.0.1:{UPSTREAM_PORT}"
[[routes]]
path = "/"
upstream = "only"
"""
"""What the stage's own configuration says, as a file."""

EVENT = b"15\r\ndata: the next token\n\r\n"


@attrs.define
class Counter:
    """Counts calls that are made in our own code, the generated functions of classes included.

    Attributes:
        calls: of functions in Python.
        builtins: of functions in C.
    """

    calls: int = 0
    builtins: int = 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """Take note of what the interpreter tells."""
        if not frame.f_code.co_filename.startswith((_OURS, "<attrs generated")):
            return
        if event == "call":
            self.calls += 1
        elif event == "c_call":
            self.builtins += 1


def count(work: Callable[[], object]) -> Counter:
    """Do some work and count its calls."""
    counter = Counter()
    before = sys.getprofile()
    sys.setprofile(counter)
    try:
        work()
    finally:
        sys.setprofile(before)
    return counter


def left_over(work: Callable[[], object]) -> int:
    """Do some work; return how many of its objects only the collector of cycles can free."""
    gc.collect()
    gc.disable()
    try:
        work()
        return gc.collect()
    finally:
        gc.enable()


class BudgetTests(StageTestCase):
    """A change that makes everybody pay for what few use shows here (invariant 8)."""

    def setUp(self) -> None:
        """Set up a proxy without an access log, as it is measured in benchmarks."""
        self.scene = self.stage()
        self.scene.site.logs = False

    def opened(self, asked: bytes, answered: bytes) -> tuple[MemoryTransport, MemoryTransport]:
        """Make an exchange, so that both connections are there and what is kept is kept."""
        client = self.scene.client(asked)
        self.scene.answer(answered)
        client.take()
        return client, self.scene.upstream

    def assert_within(self, counted: Counter, calls: int, builtins: int) -> None:
        """Check that calls stay within a budget, and that the budget has no air in it."""
        self.assertLessEqual(counted.calls, calls)
        self.assertLessEqual(counted.builtins, builtins)
        self.assertGreater(counted.calls, calls * 3 // 4, "lower the budget to what it takes now")

    def test_small_exchange(self) -> None:
        """One GET, one answer of a hundred octets, both connections kept."""
        self.check_small_exchange()

    def test_small_exchange_of_a_file(self) -> None:
        """The same by a file with one route: where a configuration came from costs nothing."""
        path = Path(self.mktemp())
        path.write_text(FILE, "utf-8")
        self.scene = self.stage(config=load_file(path, {}, lambda description: None, tries=False))
        self.scene.site.logs = False
        self.check_small_exchange()

    def check_small_exchange(self) -> None:
        """Count the calls of one."""
        asked = request()
        answered = response(
            b"Server: nginx",
            b"Date: Tue, 24 Nov 2026 08:42:30 GMT",
            b"Content-Type: text/plain",
            b"Content-Length: 100",
            content=bytes(100),
        )
        client, upstream = self.opened(asked, answered)

        def exchange() -> None:
            client.deliver(asked)
            upstream.deliver(answered)

        self.assert_within(count(exchange), EXCHANGE_CALLS, EXCHANGE_BUILTINS)
        self.assertTrue(client.take().endswith(bytes(100)))

    def test_key(self) -> None:
        """A key in Authorization costs no call: few of them log a connection in."""
        asked = request(b"GET / HTTP/1.1", b"Authorization: Bearer key")
        client, upstream = self.opened(asked, OK)

        def exchange() -> None:
            client.deliver(asked)
            upstream.deliver(OK)

        self.assert_within(count(exchange), EXCHANGE_CALLS, EXCHANGE_BUILTINS)

    def test_event(self) -> None:
        """One event: one read, one write."""
        head = response(b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked")
        client, upstream = self.opened(request(), head + EVENT)
        counted = count(lambda: upstream.deliver(EVENT))
        self.assert_within(counted, EVENT_CALLS, EVENT_BUILTINS)
        self.assertEqual(EVENT, client.take())

    def test_open_stream(self) -> None:
        """What an event stream keeps of ours while it is open."""
        scene = self.stage()
        scene.site.logs = False
        head = response(b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked")

        def open_stream() -> None:
            scene.client(request()).take()
            scene.answer(head + EVENT)

        open_stream()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(STREAMS):
            open_stream()
        ours = [tracemalloc.Filter(inclusive=True, filename_pattern=f"{_OURS}/*")]
        kept = tracemalloc.take_snapshot().filter_traces(ours).statistics("filename")
        each = sum(one.size for one in kept) / STREAMS
        self.assertLessEqual(each, STREAM_BYTES)
        self.assertGreater(each, STREAM_BYTES / 2, "lower the budget to what it takes now")

    def exchange_calls(self, asked: bytes, **settings: Any) -> int:
        """Return the calls of a small exchange of a proxy with settings."""
        scene = self.stage(**settings)
        scene.site.logs = False
        client = scene.client(asked)
        answered = response(b"Content-Length: 2", content=b"ok")
        scene.answer(answered)
        client.take()

        def exchange() -> None:
            client.deliver(asked)
            scene.upstream.deliver(answered)

        counted = count(exchange).calls
        self.assertTrue(client.take().endswith(b"ok"))
        return counted

    def test_it_can_fail(self) -> None:
        """A rule that the operator asks for costs calls, and they are counted."""

        def calls(**settings: Any) -> int:
            return self.exchange_calls(request(), **settings)

        self.assertGreater(calls(secrets=(b"ab",), allowed_hosts=(b"front.test",)), calls())

    def test_guard(self) -> None:
        """Whose page asks costs at most three calls where a credential is added, else none."""
        link = (b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Mode: navigate")
        told = (b"X-Forwarded-Host: front.test", b"X-Forwarded-Proto: https")
        for host, *lines in (
            (b"localhost",),
            (b"front.test",),
            (b"localhost", b"Origin: http://localhost:3000"),
            (b"front.test", b"Origin: http://front.test"),
            (b"front.test", *link),
            (b"backend", *told),
            (b"backend", *told, b"Origin: https://front.test"),
            (b"backend", *told, *link),
            (b"backend", b"Forwarded: for=192.0.2.1;host=front.test;proto=https"),
        ):
            asked = b"\r\n".join([b"GET / HTTP/1.1", b"Host: " + host, *lines, b"", b""])
            # Too short to be masked: nothing else is done for it.
            guarded, open_to_all = (
                self.exchange_calls(
                    asked,
                    secrets=secrets,
                    allowed_hosts=(b"front.test",),
                    trusted=(ip_network("192.0.2.0/24"),),
                )
                for secrets in ((b"ab",), ())
            )
            self.assertLessEqual(guarded - open_to_all, GUARD_CALLS, asked)
            self.assertGreater(guarded, open_to_all)


class GarbageTests(StageTestCase):
    """What an exchange made is free as soon as it ends; docs/adr/0007 has what cycles cost.

    Not so after an error, whose traceback holds everybody on its way.
    """

    def exchange(self, asked: bytes, answered: bytes, closes: bool = False) -> Callable[[], None]:
        """Return what makes an exchange; the connections are there already."""
        scene = self.stage()
        scene.site.logs = False
        client = scene.client(request())
        scene.answer(OK)
        client.take()

        def work() -> None:
            client.deliver(asked)
            scene.answer(answered)
            if closes:
                scene.upstream.lose()
            self.assertTrue(client.take())

        return work

    def test_kinds_of_exchanges(self) -> None:
        """Whatever the request and the response are."""
        chunks = b"5\r\nhello\r\n0\r\n"
        upload = request(b"POST / HTTP/1.1", b"Content-Length: 5", content=b"hello")
        coded = request(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", content=chunks + b"\r\n")
        trailers = chunks + b"X-Sum: 1\r\n\r\n"
        chunked = response(b"Transfer-Encoding: chunked", content=trailers)
        for name, asked, answered in (
            ("get", request(), OK),
            ("head", request(b"HEAD / HTTP/1.1"), OK[:-2]),
            ("upload", upload, OK),
            ("coded upload", coded, OK),
            ("chunked", request(), chunked),
            ("interim", request(), b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK),
        ):
            with self.subTest(name):
                self.assertEqual(0, left_over(self.exchange(asked, answered)), name)

    def test_until_close(self) -> None:
        """A response that ends with the upstream's connection."""
        endless = b"HTTP/1.1 200 OK\r\n\r\nhello"
        self.assertEqual(0, left_over(self.exchange(request(), endless, closes=True)))

    def test_it_can_fail(self) -> None:
        """A cycle is counted."""

        def cycle() -> None:
            ring: list[object] = []
            ring.append(ring)

        self.assertEqual(1, left_over(cycle))
