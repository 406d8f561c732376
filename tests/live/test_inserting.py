"""What is put into event streams, as raw sockets and the official ``openai`` package see it."""

from __future__ import annotations

import json
import threading

import httpx
import openai
from openai import OpenAI, Stream
from openai.types.chat import ChatCompletionChunk

from tests.live.kit import (
    LAST_CHUNK,
    PATIENCE,
    LiveTestCase,
    Wire,
    chunk,
    eventually,
    request,
)
from tests.live.test_logging import HEAD, facts_in

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"


def piece(text: str) -> bytes:
    """Return a chunk of a chat stream."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    return event({"choices": [choice]})


def event(members: dict[str, object]) -> bytes:
    """Return a chunk of a chat stream with members."""
    common = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: %b\n\n" % json.dumps({**common, **members}).encode()


USAGE = event(
    {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}
)


class InsertingTests(LiveTestCase):
    """A route with all of it, and a log that says what was seen."""

    @classmethod
    def configured(cls, target: str) -> str:
        """Return a configuration."""
        return f"""
            [[listeners]]
            endpoint = "tcp:0:interface=127.0.0.1"
            [upstreams.model]
            target = "{target}"
            [[routes]]
            path = "/v1"
            upstream = "model"
            base = "/v1"
            ping = 0.1
            error_event = true
            usage = "ask"
            [[routes]]
            path = "/stalls"
            upstream = "model"
            ping = 0.1
            stall_timeout = 0.5
            error_event = true
            [[routes]]
            path = "/early"
            upstream = "model"
            ping = 0.1
            early = true
            [log]
            access = "json"
            """

    def serve(self, *pieces: bytes, end: bytes = LAST_CHUNK, held: bool = False) -> threading.Event:
        """Have the upstream send a stream.

        Args: end, empty for none; held, to wait before the last piece for the event it returns.
        """
        go_on = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_body(wire.read_head())
            wire.send(HEAD)
            for each in pieces[:-1]:
                wire.send(chunk(each))
            if held:
                assert go_on.wait(PATIENCE)
            wire.send(chunk(pieces[-1]))
            if end:
                wire.send(end)
            else:
                wire.close()

        self.upstream.script = script
        return go_on

    def chat(self, path: str = "/v1") -> Stream[ChatCompletionChunk]:
        """Ask for a stream."""
        client = OpenAI(
            api_key="k",
            base_url=f"http://127.0.0.1:{self.proxy.port}{path}",
            max_retries=0,
            timeout=PATIENCE,
        )
        self.addCleanup(client.close)
        return client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hello"}], stream=True
        )

    def read_event(self, wire: Wire) -> bytes:
        """Read a chunk that is no ping."""
        while (octets := wire.read_chunk()) == PING:
            pass
        return octets

    def texts(self, stream: Stream[ChatCompletionChunk]) -> list[str]:
        """Read a stream; each of its chunks has a choice."""
        return [one.choices[0].delta.content or "" for one in stream]

    def test_pings(self) -> None:
        """They come while the upstream says nothing, and never inside an event."""
        word = piece("Hello")
        go_on = self.serve(piece("A"), word[:20], word[20:] + DONE, held=True)
        with self.proxy.client() as wire:
            wire.send(request(b"GET /v1/chat/completions HTTP/1.1"))
            wire.read_head()
            self.assertEqual(piece("A"), self.read_event(wire))
            for _ in range(3):
                self.assertEqual(PING, wire.read_chunk())
            go_on.set()
            self.assertEqual(word + DONE, self.read_event(wire))

    def test_package_in_a_silence(self) -> None:
        """The package does not see them."""
        go_on = self.serve(piece("A"), piece("B") + DONE, held=True)
        stream = self.chat()
        self.assertEqual("A", next(stream).choices[0].delta.content)
        timer = threading.Timer(0.5, go_on.set)
        timer.start()
        self.addCleanup(timer.join)
        self.assertEqual(["B"], self.texts(stream))

    def test_asked(self) -> None:
        """The upstream is asked, the log has the figures, the client sees nothing of it."""
        self.serve(piece("A"), piece("B"), USAGE + DONE)
        self.assertEqual(["A", "B"], self.texts(self.chat()))
        (body,) = self.upstream.bodies
        self.assertEqual({"include_usage": True}, json.loads(body)["stream_options"])
        (facts,) = eventually(lambda: facts_in(self.log()))
        self.assertEqual((7, 2), (facts["input_tokens"], facts["output_tokens"]))
        self.assertEqual("ended", facts["outcome"])

    def test_broken(self) -> None:
        """The package raises the upstream's break as an error of the API."""
        self.serve(piece("A"), b"data: {", end=b"")
        stream = self.chat()
        self.assertEqual("A", next(stream).choices[0].delta.content)
        with self.assertRaises(openai.APIError) as caught:
            next(stream)
        self.assertIn("inside a response", caught.exception.message)

    def test_broken_is_not_whole(self) -> None:
        """Who knows no such event sees a broken message all the same."""
        self.serve(piece("A"), piece("B"), end=b"")
        url = f"http://127.0.0.1:{self.proxy.port}/v1/chat/completions"
        got = b""
        with (
            self.assertRaises(httpx.RemoteProtocolError),
            httpx.Client(trust_env=False, timeout=PATIENCE) as client,
            client.stream("GET", url) as response,
        ):
            for octets in response.iter_raw():
                got += octets
        self.assertTrue(got.replace(PING, b"").startswith(piece("A") + piece("B")))
        self.assertIn(b'data: {"error"', got)

    def test_stalled(self) -> None:
        """Comments are no events, whoever sends them."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(HEAD)
            wire.send(chunk(piece("A")))
            wire.send(chunk(b": processing\n\n"))
            wire.wait_hangup()
            wire.close()

        self.upstream.script = script
        with self.proxy.client() as wire:
            wire.send(request(b"GET /stalls/completions HTTP/1.1"))
            wire.read_head()
            got = b""
            while b"no event came" not in got:
                got += wire.read_chunk()

    def late(self, answer: bytes) -> Stream[ChatCompletionChunk]:
        """Ask an upstream that answers only when its client has a head; return the stream."""
        go_on = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_body(wire.read_head())
            assert go_on.wait(PATIENCE)
            wire.send(answer)

        self.upstream.script = script
        stream = self.chat("/early")
        go_on.set()
        return stream

    def test_early(self) -> None:
        """The package has its stream before the upstream has said anything."""
        stream = self.late(HEAD + chunk(piece("A")) + chunk(DONE) + LAST_CHUNK)
        self.assertEqual(["A"], self.texts(stream))

    def test_refused_late(self) -> None:
        """The package raises what the upstream said."""
        said = b'{"error": {"message": "no quota is left", "type": "t", "code": "insufficient"}}'
        stream = self.late(
            b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(said), said)
        )
        with self.assertRaises(openai.APIError) as caught:
            next(stream)
        self.assertEqual("no quota is left", caught.exception.message)
        self.assertEqual("insufficient", caught.exception.code)
