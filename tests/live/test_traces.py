"""Spans as a collector receives them: of streams, of workers; one that is away, busy or mute."""

from __future__ import annotations

import tempfile
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live.kit import (
    LAST_CHUNK,
    Proxy,
    ScriptedUpstream,
    Wire,
    answer,
    chunk,
    eventually,
    free_port,
    request,
)
from tests.live.test_logging import HEAD, events
from tests.observe.collector import Span, decode
from tests.semantics.answers import CHAT

TRACE, CALLER = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


def streams(wire: Wire) -> None:
    """Answer as a model does."""
    wire.read_body(wire.read_head())
    wire.send(HEAD)
    for piece in events(CHAT):
        wire.send(chunk(piece))
    wire.send(LAST_CHUNK)


def takes(wire: Wire) -> None:
    """Take spans."""
    wire.read_body(wire.read_head())
    wire.send(TAKEN)


def is_busy(wire: Wire) -> None:
    """Take none for now."""
    wire.read_body(wire.read_head())
    wire.send(BUSY)


def is_mute(wire: Wire) -> None:
    """Say nothing."""
    wire.read_head()
    wire.wait_hangup()
    wire.close()


def spans_in(collector: ScriptedUpstream) -> list[Span]:
    """Return the spans that a collector has read."""
    return [span for body in list(collector.bodies) for span in decode(body)]


@contextmanager
def recording(
    endpoint: str, workers: int = 1, more: str = ""
) -> Iterator[tuple[ScriptedUpstream, Proxy]]:
    """Run a proxy that records, in front of a model."""
    with tempfile.TemporaryDirectory() as name, ScriptedUpstream(streams) as upstream:
        path = Path(name) / "pyproxy.toml"
        path.write_text(
            f"""
            workers = {workers}
            drain_timeout = 0
            [[listeners]]
            endpoint = "tcp:0:interface=127.0.0.1"
            [upstreams.model]
            target = "{upstream.url}"
            [[routes]]
            upstream = "model"
            usage = true
            [traces]
            endpoint = "{endpoint}"
            {more}
            """
        )
        with Proxy("--config", str(path)) as proxy:
            yield upstream, proxy


class TracesTests(unittest.TestCase):
    """A proxy, a model and a collector."""

    def ask(self, proxy: Proxy, *fields: bytes) -> None:
        """Ask for a stream, and get the whole of it."""
        got = proxy.ask(request(b"POST /v1/chat/completions HTTP/1.1", *fields))
        self.assertEqual((200, b"".join(events(CHAT))), (got.status, got.body))

    def test_stream(self) -> None:
        """What was served, what was asked, what the model took; the upstream's parent is ours."""
        with ScriptedUpstream(takes) as collector:
            more = 'headers = { X-Team = "a" }\nservice_name = "front"'
            with recording(collector.url + "/x", more=more) as (upstream, proxy):
                self.ask(proxy, b"traceparent: 00-%b-%b-01" % (TRACE, CALLER))
                self.assertTrue(eventually(lambda: collector.bodies, 20))
                self.assertEqual(0, proxy.stop())
                parent = upstream.request.value(b"traceparent")
            head = collector.request
            served, asked = spans_in(collector)
            self.assertEqual(b"a", head.value(b"x-team"))
            self.assertIn(b"POST /x/v1/traces ", collector.heads[0])
            self.assertEqual({TRACE.decode()}, {served.trace_id, asked.trace_id})
            self.assertEqual((CALLER.decode(), served.span_id), (served.parent_id, asked.parent_id))
            self.assertEqual(b"00-%b-%b-01" % (TRACE, asked.span_id.encode()), parent)
            self.assertEqual("front", served.service["service.name"])
            self.assertEqual(f"chat {CHAT.model}", asked.name)
            self.assertEqual(
                (CHAT.usage.input_tokens, CHAT.usage.output_tokens),
                tuple(asked.values[f"gen_ai.usage.{name}_tokens"] for name in ("input", "output")),
            )
            self.assertLessEqual(served.begin, asked.begin)
            self.assertLessEqual(asked.end, served.end)

    def test_workers(self) -> None:
        """Each sends its own, at the end too."""
        with ScriptedUpstream(takes) as collector:
            with recording(collector.url, 2) as (_, proxy):
                for _ in range(8):
                    self.ask(proxy)
                self.assertEqual(0, proxy.stop())
            found = spans_in(collector)
            self.assertEqual(16, len(found))
            self.assertEqual(8, len({span.trace_id for span in found}))
            pids = {span.service["process.pid"] for span in found}
            self.assertEqual(len(pids), len({s.service["service.instance.id"] for s in found}))

    def test_away(self) -> None:
        """Requests are served, the log says so once, and the proxy ends."""
        with recording(f"http://127.0.0.1:{free_port()}") as (_, proxy):
            for _ in range(3):
                self.ask(proxy)
            self.assertTrue(proxy.wait_log("Spans do not reach"))
            self.ask(proxy)
            self.assertEqual(0, proxy.stop())
            self.assertEqual(1, proxy.log().count("Spans do not reach"))
            self.assertIn("Spans dropped: ", proxy.log())

    def test_busy(self) -> None:
        """One that is busy for a while gets all of it then."""
        with ScriptedUpstream(is_busy) as collector:
            with recording(collector.url) as (_, proxy):
                self.ask(proxy)
                self.assertTrue(proxy.wait_log("Spans do not reach .* it said 503"))
                collector.script = takes
                self.assertTrue(proxy.wait_log("Spans reach .* again"))
                self.assertEqual(0, proxy.stop())
            bodies = collector.bodies
            self.assertEqual(bodies[0], bodies[-1])
            self.assertGreaterEqual(len(bodies), 2)

    def test_mute(self) -> None:
        """One that never answers holds up neither a stream nor the end for long."""
        with ScriptedUpstream(is_mute) as collector, recording(collector.url) as (_, proxy):
            self.ask(proxy)
            self.assertTrue(eventually(lambda: collector.heads))
            for _ in range(3):
                self.ask(proxy)
            self.assertEqual(0, proxy.stop())
            self.assertIn("Spans dropped: ", proxy.log())

    def test_open_at_the_end(self) -> None:
        """A stream that the end of the proxy breaks off has its spans."""

        def stays(wire: Wire) -> None:
            wire.read_head()
            wire.send(HEAD + chunk(events(CHAT)[0]))
            wire.wait_hangup()
            wire.close()

        with ScriptedUpstream(takes) as collector:
            with recording(collector.url) as (upstream, proxy):
                upstream.script = stays
                with proxy.client() as client:
                    client.send(request())
                    client.read_head()
                    client.read_chunk()
                    self.assertEqual(0, proxy.stop())
            served, asked = spans_in(collector)
            self.assertEqual(200, served.values["http.response.status_code"])
            self.assertEqual("GET /", served.name)
            self.assertEqual(asked.parent_id, served.span_id)


class GarbageTests(unittest.TestCase):
    """A collector that is something else."""

    def test_not_found(self) -> None:
        """A status that means no is no reason to try again."""
        with ScriptedUpstream(answer(NOT_FOUND)) as one:
            with recording(one.url) as (_, proxy):
                proxy.ask(request())
                self.assertTrue(proxy.wait_log("Spans dropped: 2 .it said 404"))
                self.assertEqual(0, proxy.stop())
            self.assertEqual(1, len(one.heads))
