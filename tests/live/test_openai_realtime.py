"""The official ``openai`` package's Realtime API, pointed at the proxy in front of the demo."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import unittest
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any, cast

from openai import AsyncOpenAI, OpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import ConversationItemParam
from websockets.exceptions import InvalidStatus

from tests.live.kit import PATIENCE, Proxy, eventually

INTERVAL_MS = 60
WORDS = 8
SPREAD = INTERVAL_MS / 1000 * (WORDS - 1) * 0.6
"""Seconds between the first and the last word, at the least: a lump would have none."""

LONG: dict[str, object] = {"interval_ms": 20, "words": 2000}
"""An answer that would last 40 s."""

HELLO: ConversationItemParam = {
    "type": "message",
    "role": "user",
    "content": [{"type": "input_text", "text": "Hello"}],
}

DELTA = "response.output_text.delta"


class RealtimeTests(unittest.TestCase):
    """What a program sees that only changed its base URL."""

    def setUp(self) -> None:
        """Start a proxy in front of its demo."""
        self.proxy = Proxy("--demo").start()
        self.addCleanup(self._end)
        self.base = f"http://127.0.0.1:{self.proxy.port}/v1"

    def _end(self) -> None:
        self.assertEqual(0, self.proxy.stop())
        self.proxy.check_log()

    def session(
        self,
        talk: Callable[[AsyncRealtimeConnection], Awaitable[None]],
        query: dict[str, object],
        model: str = "demo",
    ) -> None:
        """Run what is said in a session, within a limit."""

        async def run() -> None:
            async with (
                asyncio.timeout(PATIENCE),
                AsyncOpenAI(api_key="sk-nobody", base_url=self.base, max_retries=0) as client,
                client.realtime.connect(model=model, extra_query=query) as connection,
            ):
                self.assertEqual("session.created", (await connection.recv()).type)
                await talk(connection)

        asyncio.run(run())

    def test_words(self) -> None:
        """Words arrive one by one, with the upstream's timing, and the usage at the end."""
        words: list[str] = []
        moments: list[float] = []

        async def talk(connection: AsyncRealtimeConnection) -> None:
            await connection.session.update(session={"type": "realtime", "instructions": "Hi."})
            await connection.conversation.item.create(item=HELLO)
            await connection.response.create()
            kinds = []
            async for event in connection:
                if event.type == "response.output_text.delta":
                    words.append(event.delta)
                    moments.append(time.monotonic())
                else:
                    kinds.append(event.type)
                if event.type == "response.done":
                    self.assertEqual("completed", event.response.status)
                    self.assertEqual(WORDS, event.response.usage.output_tokens)  # type: ignore[union-attr]
                    break
            self.assertEqual("session.updated", kinds[0])
            self.assertEqual(["conversation.item.added", "conversation.item.done"], kinds[1:3])
            self.assertEqual("response.created", kinds[3])

        self.session(talk, {"interval_ms": INTERVAL_MS, "words": WORDS})
        self.assertEqual(WORDS, len("".join(words).split()))
        self.assertGreater(moments[-1] - moments[0], SPREAD)
        apart = sum(later - earlier > INTERVAL_MS / 4000 for earlier, later in pairwise(moments))
        self.assertGreaterEqual(apart, WORDS // 2, "the words came in lumps")

    def test_cancelled(self) -> None:
        """A response that is cancelled stops, and the session goes on."""

        async def talk(connection: AsyncRealtimeConnection) -> None:
            await connection.response.create()
            said = 0
            async for event in connection:
                said += event.type == DELTA
                if said == 3:
                    await connection.response.cancel()
                    break
            async for event in connection:
                said += event.type == DELTA
                if event.type == "response.done":
                    self.assertEqual("cancelled", event.response.status)
                    break
            self.assertLess(said, 1000)
            await connection.response.create(response={"max_output_tokens": 1})
            async for event in connection:
                if event.type == "response.done":
                    self.assertEqual("incomplete", event.response.status)
                    break

        self.session(talk, LONG)

    def test_error_event(self) -> None:
        """A wrong event is answered by an error, and the session goes on."""

        async def talk(connection: AsyncRealtimeConnection) -> None:
            await connection.send(cast(Any, {"type": "nonsense", "event_id": "mine"}))
            event = await connection.recv()
            assert event.type == "error", event
            self.assertEqual(
                ("invalid_request_error", "mine"), (event.error.type, event.error.event_id)
            )
            await connection.conversation.item.create(item=HELLO)
            self.assertEqual("conversation.item.added", (await connection.recv()).type)

        self.session(talk, {})

    def test_early_end(self) -> None:
        """A session that is closed amid an answer ends at the upstream too (FIELD 1)."""
        before = self.proxy.open_sockets()

        async def talk(connection: AsyncRealtimeConnection) -> None:
            await connection.response.create()
            while (await connection.recv()).type != DELTA:
                pass
            # The client's connection, and both ends of the upstream's.
            self.assertEqual(before + 3, self.proxy.open_sockets())

        self.session(talk, LONG)
        gone = eventually(lambda: self.proxy.open_sockets() == before)
        self.assertTrue(gone, "the upstream's connection stays open")

    def test_unknown_model(self) -> None:
        """A refusal before the WebSocket is open arrives whole: its status and its content."""

        async def talk(connection: AsyncRealtimeConnection) -> None:
            raise AssertionError("the session was opened")

        with self.assertRaises(InvalidStatus) as caught:
            self.session(talk, {}, model="none")
        response = caught.exception.response
        self.assertEqual(404, response.status_code)
        error: dict[str, Any] = json.loads(response.body)["error"]
        self.assertEqual("model_not_found", error["code"])

    def test_not_async(self) -> None:
        """The other client, which blocks."""
        words: list[str] = []
        with (
            OpenAI(api_key="sk-nobody", base_url=self.base, max_retries=0) as client,
            client.realtime.connect(
                model="demo", extra_query={"interval_ms": 0, "words": WORDS}
            ) as connection,
        ):
            limit = threading.Timer(PATIENCE, connection.close)
            limit.start()
            self.addCleanup(limit.cancel)
            connection.response.create()
            for event in connection:
                if event.type == "response.output_text.delta":
                    words.append(event.delta)
                if event.type == "response.done":
                    break
        self.assertEqual(WORDS, len("".join(words).split()))
