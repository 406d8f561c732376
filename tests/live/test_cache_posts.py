"""Answers to POST out of the cache, for ``curl``, the ``openai`` package and raw sockets."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

from openai import OpenAI

from tests.live.caches import CacheTestCase, is_hit, page, told
from tests.live.kit import (
    PATIENCE,
    Closed,
    Proxy,
    RawClient,
    Response,
    Wire,
    answer,
    chunk,
    request,
)

INTERVAL_MS = 150
WORDS = 8
SPREAD = INTERVAL_MS / 1000 * (WORDS - 1) * 0.6
"""Seconds between the first and the last word, at the least: a lump would have none."""

TIMING = {"interval_ms": INTERVAL_MS, "words": WORDS}

CONFIG = """
drain_timeout = 0
[[listeners]]
endpoint = "tcp:0:interface=127.0.0.1"
[upstreams.models]
demo = true
[cache]
memory = "16m"
[[routes]]
path = "/paced"
upstream = "models"
[routes.cache.post]
ttl = 60
events = true
pace = "as-recorded"
[[routes]]
path = "/at-once"
upstream = "models"
[routes.cache.post]
ttl = 60
events = true
pace = "at-once"
"""

ROUTES = ("/paced", "/at-once")


def question(route: str) -> dict[str, Any]:
    """Return a route's question: both lead to one upstream, and what is stored is for both."""
    content = f"Hello from {route}"
    return {"model": "demo", "messages": [{"role": "user", "content": content}], **TIMING}


JSON = b"Content-Type: application/json"
HIT = "hit; ttl="


class DemoTests(unittest.TestCase):
    """Streams of the demo's model, once from it and then from the store."""

    def setUp(self) -> None:
        """Start a proxy with two routes to the demo."""
        directory = self.enterContext(tempfile.TemporaryDirectory())
        path = Path(directory) / "pyproxy.toml"
        path.write_text(CONFIG)
        self.proxy = self.enterContext(Proxy("--config", str(path)))

    def url(self, route: str) -> str:
        """Return where a route's API is."""
        return f"http://127.0.0.1:{self.proxy.port}{route}/v1"

    def assert_pace(self, route: str, moments: list[float], replayed: bool) -> None:
        """Check when words came: one by one but where they are replayed at once."""
        spread = moments[-1] - moments[0]
        if replayed and route == "/at-once":
            self.assertLess(spread, SPREAD)
        else:
            self.assertGreater(spread, SPREAD)

    def curl(self, route: str, *more: str) -> tuple[str, list[str], list[float]]:
        """Ask; return the head, the events, and when those with words came."""
        moments: list[float] = []
        lines: list[str] = []
        content = json.dumps({**question(route), "stream": True})
        with subprocess.Popen(
            [
                *("curl", "-siN", "--max-time", f"{PATIENCE:g}", "--noproxy", "*", *more),
                *("-H", "Content-Type: application/json", "-d", content),
                f"{self.url(route)}/chat/completions",
            ],
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        ) as curl:
            assert curl.stdout is not None
            for line in curl.stdout:
                if '"content":' in line:
                    moments.append(time.monotonic())
                lines.append(line.strip())
        self.assertEqual(0, curl.returncode)
        body = lines.index("")
        return "\n".join(lines[:body]), [line for line in lines[body:] if line], moments

    def test_curl(self) -> None:
        """``curl -N`` shows the same events again, at the route's pace."""
        for route in ROUTES:
            head, events, moments = self.curl(route)
            self.assertIn("fwd=uri-miss; fwd-status=200; stored; detail=post", head)
            self.assert_pace(route, moments, replayed=False)
            head, again, moments = self.curl(route)
            self.assertIn(HIT, head)
            self.assertIn("detail=post", head)
            self.assertEqual((events, "data: [DONE]"), (again, again[-1]))
            self.assert_pace(route, moments, replayed=True)
            head, other, _ = self.curl(route, "-H", "Authorization: Bearer other")
            self.assertIn("fwd=uri-miss", head)
            self.assertNotEqual(events, other)

    def test_openai(self) -> None:
        """The official package reads a replay as it reads the first stream."""
        for route in ROUTES:
            found: list[tuple[str | None, list[str]]] = []
            with OpenAI(
                api_key="sk-mine", base_url=self.url(route), max_retries=0, timeout=PATIENCE
            ) as client:
                for replayed in (False, True):
                    words, moments, name = [], [], None
                    with client.chat.completions.create(
                        model="demo",
                        messages=[{"role": "user", "content": f"Hello from {route}"}],
                        stream=True,
                        stream_options={"include_usage": True},
                        extra_body=TIMING,
                    ) as events:
                        status = events.response.headers["cache-status"]
                        self.assertEqual(replayed, HIT in status, status)
                        for event in events:
                            name = event.id
                            if event.choices and event.choices[0].delta.content:
                                words.append(event.choices[0].delta.content)
                                moments.append(time.monotonic())
                    self.assertEqual(WORDS, len("".join(words).split()))
                    self.assert_pace(route, moments, replayed)
                    found.append((name, words))
            self.assertEqual(found[0], found[1])

    def test_early_end(self) -> None:
        """A client that leaves a replay in the middle leaves no socket; others get it whole."""
        self.curl("/paced")
        before = self.proxy.open_sockets()
        content = json.dumps({**question("/paced"), "stream": True}).encode()
        with self.proxy.client() as client:
            client.send(post(b"/paced/v1/chat/completions", content, b"Accept: */*"))
            self.assertIn(b"text/event-stream", client.read_head().value(b"content-type") or b"")
            client.read_chunk()
        _, events, _ = self.curl("/paced")
        self.assertEqual("data: [DONE]", events[-1])
        self.assertLessEqual(self.proxy.open_sockets(), before)

    def test_whole(self) -> None:
        """An answer that is not streamed is the same one too."""
        with OpenAI(
            api_key="sk-mine", base_url=self.url("/paced"), max_retries=0, timeout=PATIENCE
        ) as client:
            ids = {
                client.chat.completions.create(
                    model="demo", messages=[{"role": "user", "content": word}], temperature=0
                ).id
                for word in ("one", "one", "two", "one", "two")
            }
        self.assertEqual(2, len(ids))


def post(target: bytes, content: bytes, *fields: bytes) -> bytes:
    """Return the octets of a POST of JSON."""
    line = b"POST %b HTTP/1.1" % target
    return request(line, JSON, *fields, b"Content-Length: %d" % len(content), body=content)


class RawTests(CacheTestCase):
    """What goes over the wire."""

    policy = "{ post = { ttl = 60, events = true, whole = 100000 } }"

    def post(self, content: bytes, *fields: bytes) -> Response:
        """Ask on a new connection."""
        return self.proxy.ask(post(self.page, content, *fields), b"POST")

    def test_events(self) -> None:
        """Each event of a replay is a chunk of its own, however the upstream cut them."""
        events = [b"data: %d\n\n" % number for number in range(500)]
        stream = b"".join(events)

        def script(wire: Wire) -> None:
            wire.read_body(wire.read_head())
            wire.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\nCache-Control: no-cache\r\n\r\n"
            )
            for place in range(0, len(stream), 777):
                wire.send(chunk(stream[place : place + 777]))
            wire.send(b"0\r\n\r\n")

        self.upstream.script = script
        first = self.post(b"{}")
        self.assertEqual((False, stream), (is_hit(first), first.body))
        for _ in range(2):
            again = self.post(b" { } ")
            self.assertEqual((True, tuple(events)), (is_hit(again), again.chunks))
        self.assertEqual(1, len(self.upstream.heads))

    def test_broken_off(self) -> None:
        """A stream that breaks off is broken off for the client, and not stored."""

        def script(wire: Wire) -> None:
            wire.read_body(wire.read_head())
            wire.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"data: 1\n\n")
            )
            wire.reset()

        self.upstream.script = script
        for _ in range(2):
            with self.assertRaises(Closed):
                self.post(b"{}")
        self.assertEqual(2, len(self.upstream.heads))

    def test_unchanged(self) -> None:
        """The upstream gets the octets that the client has sent, of any kind and in any pieces."""
        self.upstream.script = answer(page())
        contents = (
            b'{"a": 1.0, "a": 2}',
            b"\0\xff\r\n" * 20000,
            b"x" * 200000,
            b"[" * 50000,
        )
        for content in contents:
            octets = post(self.page, content)
            with self.proxy.client() as client:
                for place in range(0, len(octets), 30011):
                    client.send(octets[place : place + 30011])
                self.assertEqual(200, client.read_response(b"POST").status)
        self.assertEqual(list(contents), self.upstream.bodies)

    def test_large(self) -> None:
        """What has more octets than the route reads passes."""
        self.upstream.script = answer(page())
        for _ in range(2):
            response = self.post(b"x" * 100001)
            self.assertEqual("fwd=method; fwd-status=200", told(response))
        self.post(b"x" * 100000)
        self.assertTrue(is_hit(self.post(b"x" * 100000)))

    def test_leaves_in_an_upload(self) -> None:
        """A client that leaves in its upload asks nothing."""
        before = self.proxy.open_sockets()
        octets = post(self.page, b"x" * 90000)
        for leave in (RawClient.close, RawClient.reset):
            client = self.proxy.client()
            client.send(octets[:-1])
            leave(client)
        self.upstream.script = answer(page())
        self.assertEqual(200, self.post(b"{}").status)
        self.assertEqual([b"{}"], self.upstream.bodies)
        self.assertLessEqual(self.proxy.open_sockets(), before + 1)
