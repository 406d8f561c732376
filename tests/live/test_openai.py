"""The official ``openai`` package and ``curl -N``, pointed at the proxy in front of the demo."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import unittest
from itertools import pairwise

import openai
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.live.kit import (
    PATIENCE,
    Proxy,
    answer,
    eventually,
    upstream_and_proxy,
)

INTERVAL_MS = 60
WORDS = 8
TIMING = {"interval_ms": INTERVAL_MS, "words": WORDS}
SPREAD = INTERVAL_MS / 1000 * (WORDS - 1) * 0.6
"""Seconds between the first and the last word, at the least: a lump would have none."""

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]


class ChatTests(unittest.TestCase):
    """What a program sees that only changed its base URL."""

    def setUp(self) -> None:
        """Start a proxy in front of its demo, with a key of the operator's."""
        self.proxy = Proxy(
            "--demo", "--header", "Authorization: Bearer ${KEY}", environment={"KEY": "sk-operator"}
        ).start()
        self.addCleanup(self._end)
        self.base = f"http://127.0.0.1:{self.proxy.port}"
        self.client = OpenAI(
            api_key="sk-nobody", base_url=f"{self.base}/v1", max_retries=0, timeout=PATIENCE
        )
        self.addCleanup(self.client.close)

    def _end(self) -> None:
        self.assertEqual(0, self.proxy.stop())
        self.proxy.check_log()

    def assert_spread(self, moments: list[float]) -> None:
        """Check that words came one by one, with the upstream's timing."""
        self.assertGreater(moments[-1] - moments[0], SPREAD)
        apart = sum(later - earlier > INTERVAL_MS / 4000 for earlier, later in pairwise(moments))
        self.assertGreaterEqual(apart, len(moments) // 2, "the words came in lumps")

    def test_streamed(self) -> None:
        """Words arrive one by one, with the upstream's timing, and the usage at the end."""
        words: list[str] = []
        moments: list[float] = []
        usage = None
        with self.client.chat.completions.create(
            model="demo",
            messages=QUESTION,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=TIMING,
        ) as events:
            for event in events:
                self.assertIsNone(usage, "something came after the usage")
                usage = event.usage
                if event.choices and event.choices[0].delta.content:
                    words.append(event.choices[0].delta.content)
                    moments.append(time.monotonic())
        self.assertEqual(WORDS, len("".join(words).split()))
        self.assert_spread(moments)
        assert usage is not None
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)

    def test_whole(self) -> None:
        """An answer that is not streamed comes whole."""
        completion = self.client.chat.completions.create(
            model="demo",
            messages=QUESTION,
            extra_body=TIMING,
        )
        self.assertEqual(WORDS, len((completion.choices[0].message.content or "").split()))
        self.assertIsNotNone(completion.usage)

    def test_models(self) -> None:
        """The list of models and one model."""
        names = [model.id for model in self.client.models.list()]
        self.assertIn("demo", names)
        self.assertEqual("demo", self.client.models.retrieve("demo").id)

    def test_api_error(self) -> None:
        """An error of the API arrives as the package's own exception."""
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.chat.completions.create(
                model="no-such-model",
                messages=QUESTION,
            )
        self.assertIn("no-such-model", str(caught.exception))

    def test_early_end(self) -> None:
        """A stream that is closed early stops the upstream (FIELD 1)."""
        before = self.proxy.open_sockets()
        events = self.client.chat.completions.create(
            model="demo",
            messages=QUESTION,
            stream=True,
            extra_body={"interval_ms": 100, "words": 1000},
        )
        next(iter(events))
        self.assertEqual(before + 3, self.proxy.open_sockets())
        events.close()
        self.client.close()
        # The client's connection, and both ends of the upstream's, which would last 100 s.
        gone = eventually(lambda: self.proxy.open_sockets() == before)
        self.assertTrue(gone, "the upstream's connection stays open")

    def test_async(self) -> None:
        """The asynchronous client, two streams at once."""

        async def chat(client: AsyncOpenAI) -> list[float]:
            moments = []
            events = await client.chat.completions.create(
                model="demo",
                messages=QUESTION,
                stream=True,
                extra_body=TIMING,
            )
            async for event in events:
                if event.choices and event.choices[0].delta.content:
                    moments.append(time.monotonic())
            return moments

        async def both() -> list[list[float]]:
            async with AsyncOpenAI(
                api_key="sk-nobody", base_url=f"{self.base}/v1", max_retries=0, timeout=PATIENCE
            ) as client:
                return list(await asyncio.gather(chat(client), chat(client)))

        one, other = asyncio.run(both())
        self.assert_spread(one)
        self.assert_spread(other)
        self.assertLess(max(one[0], other[0]), min(one[-1], other[-1]), "one after the other")

    def test_curl(self) -> None:
        """``curl -N`` shows the words one by one."""
        content = json.dumps({"model": "demo", "stream": True, "messages": QUESTION, **TIMING})
        moments: list[float] = []
        last = ""
        with subprocess.Popen(
            [
                *("curl", "-sN", "--max-time", f"{PATIENCE:g}", "--noproxy", "*"),
                *("-H", "Content-Type: application/json", "-d", content),
                f"{self.base}/v1/chat/completions",
            ],
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        ) as curl:
            assert curl.stdout is not None
            for line in curl.stdout:
                if '"content":' in line:
                    moments.append(time.monotonic())
                last = line.strip() or last
        self.assertEqual(0, curl.returncode)
        self.assertEqual("data: [DONE]", last)
        self.assert_spread(moments)


class KeyTests(unittest.TestCase):
    """Whose key the upstream sees."""

    def test_replaced(self) -> None:
        """The operator's key takes the place of the client's own."""
        models = b'{"object":"list","data":[]}'
        script = answer(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(models), models)
        )
        with (
            upstream_and_proxy(
                script,
                "--header",
                "Authorization: Bearer ${KEY}",
                base="/v1",
                environment={"KEY": "sk-operator"},
            ) as (upstream, proxy),
            OpenAI(
                api_key="sk-client", base_url=f"http://127.0.0.1:{proxy.port}", max_retries=0
            ) as client,
        ):
            self.assertEqual([], client.models.list().data)
            self.assertEqual([b"Bearer sk-operator"], upstream.request.values(b"authorization"))
            self.assertNotIn(b"sk-client", b"".join(upstream.heads))
            self.assertNotIn("sk-operator", proxy.log())
