"""What the log says of models' answers: whole, cancelled, broken, empty, with an error in a 200."""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
import unittest
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from tests.live.kit import (
    LAST_CHUNK,
    Closed,
    LiveTestCase,
    Proxy,
    ScriptedUpstream,
    Wire,
    chunk,
    eventually,
    request,
)
from tests.semantics.answers import ANTHROPIC, CHAT, WHOLE, Answer, written

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")

_line = re.compile(r'^.*?(\{"time":.*\})$', re.MULTILINE)


def events(answer: Answer) -> list[bytes]:
    """Return a streamed answer, event by event."""
    return [
        (b"event: %b\n" % name if name else b"") + b"data: %b\n\n" % data
        for name, data in answer.octets()
    ]


def facts_in(text: str) -> list[dict[str, Any]]:
    """Return what the lines of a log say."""
    return [json.loads(line) for line in _line.findall(text)]


def read_content(wire: Wire, content: bytes) -> None:
    """Read some content, in whatever chunks it comes."""
    got = b""
    while len(got) < len(content):
        got += wire.read_chunk()
    if got != content:
        raise AssertionError(f"{got!r} is not {content!r}")


class FactsTests(LiveTestCase):
    """One proxy, whose route is watched."""

    @classmethod
    def configured(cls, target: str) -> str:
        """Return a configuration with the log in JSON."""
        return f"""
            [[listeners]]
            endpoint = "tcp:0:interface=127.0.0.1"
            [upstreams.model]
            target = "{target}"
            [[routes]]
            upstream = "model"
            usage = true
            [log]
            access = "json"
            trace = true
            """

    def facts(self) -> dict[str, Any]:
        """Wait for the one line of this test, and return what it says."""
        found = eventually(lambda: facts_in(self.log()))
        self.assertEqual(1, len(found), self.log())
        self._log_start = len(self.proxy.log())
        return found[0]

    def serve(self, pieces: list[bytes], ends: bytes | None = LAST_CHUNK) -> None:
        """Have the upstream send a stream.

        Args: ends, with what; None to wait until the proxy has left.
        """

        def script(wire: Wire) -> None:
            wire.read_body(wire.read_head())
            wire.send(HEAD)
            for piece in pieces:
                wire.send(chunk(piece))
            if ends is None:
                wire.wait_hangup()
                wire.close()
            elif ends:
                wire.send(ends)
            else:
                wire.close()

        self.upstream.script = script

    def assert_facts(self, facts: dict[str, Any], **wanted: object) -> None:
        """Check facts; None for one that must not be there."""
        self.assertEqual(wanted, {name: facts.get(name) for name in wanted})

    def assert_usage(self, facts: dict[str, Any], answer: Answer) -> None:
        """Check what an answer took."""
        self.assert_facts(facts, model=answer.model, dialect=answer.dialect)
        self.assert_facts(facts, **{name: getattr(answer.usage, name) for name in TOKENS})

    def test_finished(self) -> None:
        """A whole stream: every figure, and every moment in order."""
        for answer in (CHAT, ANTHROPIC):
            self.serve(events(answer))
            got = self.ask(b"POST /v1/chat?api_key=abc HTTP/1.1", b"Content-Length: 2", body=b"{}")
            self.assertEqual(b"".join(events(answer)), got.body)
            facts = self.facts()
            self.assert_usage(facts, answer)
            self.assert_facts(
                facts,
                status=200,
                method="POST",
                target="/v1/chat?api_key=***",
                client="127.0.0.1",
                host="front.example",
                route="/",
                upstream=self.upstream.url,
                received=2,
                sent=len(got.body),
                outcome="ended",
                events=len(answer.events),
                output_events=len(answer.said),
                comments=0,
                closed_by=None,
                error=None,
            )
            order = ("passed", "asked", "connected", "responded", "first", "first_token")
            times = [facts[name] for name in (*order, "last_token", "last", "duration")]
            self.assertEqual(sorted(times), times)
            parent = self.upstream.requests[-1].value(b"traceparent") or b""
            self.assertIn(facts["trace_id"].encode(), parent)

    def test_cancelled(self) -> None:
        """A client that leaves after so many events: so many are counted, and no failure."""
        for answer in (CHAT, ANTHROPIC):
            pieces = events(answer)
            for count in range(len(pieces)):
                self.serve(pieces[:count], None)
                with self.proxy.client() as client:
                    client.send(request())
                    client.read_head()
                    read_content(client, b"".join(pieces[:count]))
                facts = self.facts()
                self.assert_facts(
                    facts,
                    status=200,
                    closed_by="client",
                    sent=len(b"".join(pieces[:count])),
                    error=None,
                    outcome=None,
                    events=count or None,
                    output_events=sum(one < count for one in answer.said) if count else None,
                )
                self.assertEqual(count > min(answer.said), "first_token" in facts)

    def test_cancelled_before_the_head(self) -> None:
        """A client that leaves before anything came."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.wait_hangup()
            wire.close()

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(request())
            eventually(lambda: self.upstream.heads)
        facts = self.facts()
        self.assert_facts(facts, status=499, closed_by="client", sent=0, responded=None, first=None)
        self.assertIn("connected", facts)

    def test_cancelled_after_the_last_word(self) -> None:
        """A client that leaves once all was said has its figures."""
        pieces = events(CHAT)
        self.serve(pieces, None)
        with self.proxy.client() as client:
            client.send(request())
            client.read_head()
            read_content(client, b"".join(pieces))
        facts = self.facts()
        self.assert_usage(facts, CHAT)
        self.assert_facts(facts, closed_by="client", outcome="ended")

    def test_broken(self) -> None:
        """An upstream that leaves in the middle."""
        pieces = events(CHAT)
        for count in (0, 1, len(pieces) - 1):
            self.serve(pieces[:count], b"")
            with self.assertRaises(Closed):
                self.ask()
            facts = self.facts()
            self.assert_facts(
                facts,
                status=200,
                closed_by="upstream",
                error="http_response_incomplete",
                outcome="truncated",
            )

    def test_quiet_failures(self) -> None:
        """What looks like success."""
        pieces = events(CHAT)
        error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
        for sent, outcome in (
            ([], "empty"),
            ([b": ping\n\n"], "empty"),
            (pieces[:-1], "truncated"),
            ([*events(ANTHROPIC)[:3], error], "failed"),
        ):
            self.serve(sent)
            self.ask()
            self.assert_facts(self.facts(), status=200, closed_by=None, error=None, outcome=outcome)

    def test_whole(self) -> None:
        """An answer that is no stream."""
        for content, dialect, model, usage in WHOLE:
            octets = written(content)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "

            def script(
                wire: Wire, answer: bytes = head + b"%d\r\n\r\n" % len(octets) + octets
            ) -> None:
                wire.read_head()
                wire.send(answer)

            self.upstream.script = script
            self.assertEqual(octets, self.ask().body)
            facts = self.facts()
            self.assert_facts(facts, dialect=dialect, model=model, outcome="ended")
            self.assert_facts(facts, **{name: getattr(usage, name) for name in TOKENS})

    def test_not_a_request(self) -> None:
        """What is refused has a line, too."""
        with self.proxy.client() as client:
            client.send(b"nonsense\r\n\r\n")
            self.assertEqual(400, client.read_response().status)
        self.assert_facts(
            self.facts(), status=400, closed_by="proxy", error="http_request_error", method=None
        )


class FileTests(unittest.TestCase):
    """A file of its own, of one process and of several."""

    workers: ClassVar[tuple[int, ...]] = (1, 2)

    def test_file(self) -> None:
        """Each request has its line there, and none in twistd's log; SIGUSR1 opens it anew."""
        for workers in self.workers:
            with tempfile.TemporaryDirectory() as name, ScriptedUpstream() as upstream:
                directory = Path(name)
                (directory / "pyproxy.toml").write_text(
                    f"""
                    workers = {workers}
                    drain_timeout = 0
                    [[listeners]]
                    endpoint = "tcp:0:interface=127.0.0.1"
                    [upstreams.model]
                    target = "{upstream.url}"
                    [[routes]]
                    upstream = "model"
                    [log]
                    access = "json"
                    file = "access.log"
                    """
                )
                log = directory / "access.log"
                with Proxy("--config", str(directory / "pyproxy.toml")) as proxy:
                    for number in range(4):
                        self.assertEqual(
                            200, proxy.ask(request(b"GET /%d HTTP/1.1" % number)).status
                        )
                    self.assertEqual({"/0", "/1", "/2", "/3"}, self.targets(log, 4))
                    moved = log.rename(directory / "moved.log")
                    os.kill(proxy.pid, signal.SIGUSR1)

                    self.assertTrue(eventually(partial(self.reopened, proxy, log)))
                    self.assertEqual({"/later"}, self.targets(log, 1))
                    self.assertEqual(4, len(facts_in(moved.read_text())[:4]))
                    self.assertEqual([], facts_in(proxy.log()))

    def reopened(self, proxy: Proxy, log: Path) -> bool:
        """Ask, and tell whether the log is there."""
        proxy.ask(request(b"GET /later HTTP/1.1"))
        return log.exists()

    def targets(self, log: Path, count: int) -> set[str]:
        """Wait for so many lines; return what was asked for."""
        eventually(lambda: log.exists() and len(facts_in(log.read_text())) >= count)
        return {facts["target"] for facts in facts_in(log.read_text())}
