"""Answers that go wrong as they are asked to."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tests.demo.kit import Answer, DemoClient
from tests.demo.test_openai import complete

WORDS = 8


class FaultTests(SynchronousTestCase):
    """What a client gets of a streamed answer of eight words."""

    def stream(self, client: DemoClient, fault: str) -> Answer:
        """Ask for an answer with a fault, and let time pass until nothing comes any more."""
        complete(client, stream=True, words=WORDS, fault=fault)
        client.clock.pump([0.04] * (2 * WORDS))
        return client.answer()

    def words(self, events: list[str]) -> int:
        """Return how many words came."""
        chunks = [json.loads(event) for event in events if event.endswith("]}")]
        return sum(bool(chunk["choices"][0]["delta"].get("content")) for chunk in chunks)

    def test_break(self) -> None:
        """Half of the words and half of an event, then the connection is closed."""
        client = DemoClient()
        answer = self.stream(client, "break")
        self.assertFalse(answer.complete)
        self.assertTrue(client.transport.disconnecting)
        *whole, cut = answer.events
        self.assertEqual(WORDS // 2, self.words(whole))
        self.assertRaises(ValueError, json.loads, cut)

    def test_truncate(self) -> None:
        """Half of the words, then the end that a whole answer's response has."""
        client = DemoClient()
        answer = self.stream(client, "truncate")
        self.assertTrue(answer.complete)
        self.assertFalse(client.transport.disconnecting)
        self.assertEqual(WORDS // 2, self.words(answer.events))
        self.assertNotIn("[DONE]", answer.events)

    def test_empty(self) -> None:
        """A head, and no event."""
        answer = self.stream(DemoClient(), "empty")
        self.assertTrue(answer.complete)
        self.assertEqual((200, b""), (answer.status, answer.content))
        self.assertEqual("text/event-stream; charset=utf-8", answer.field("Content-Type"))

    def test_error(self) -> None:
        """Half of the words, then an error object."""
        answer = self.stream(DemoClient(), "error")
        self.assertTrue(answer.complete)
        self.assertEqual(WORDS // 2, self.words(answer.events))
        self.assertEqual("overloaded", json.loads(answer.events[-1])["error"]["code"])

    def test_stall(self) -> None:
        """Half of the words, then nothing until the client leaves."""
        client = DemoClient()
        answer = self.stream(client, "stall")
        self.assertFalse(answer.complete)
        self.assertFalse(client.transport.disconnecting)
        self.assertEqual(WORDS // 2, self.words(answer.events))
        client.leave()
        self.assertEqual(0, client.streams_waiting)

    def test_one_word(self) -> None:
        """Of a single word half is all of it."""
        for fault in ("break", "truncate", "error", "stall"):
            with self.subTest(fault=fault):
                client = DemoClient()
                complete(client, stream=True, words=1, fault=fault)
                client.clock.pump([0.04] * 4)
                self.assertIn(b'"content":"You"', client.answer().content)

    def test_in_the_query(self) -> None:
        """It can be asked for there too."""
        answer = complete(DemoClient(), query="?fault=empty", stream=True)
        self.assertEqual((200, b""), (answer.status, answer.content))

    def test_refusals(self) -> None:
        """A fault that there is not, and one of an answer that is not streamed."""
        for question, sentence in (
            ({"fault": "none", "stream": True}, "fault must be one of break, truncate, empty, "),
            ({"fault": 1, "stream": True}, "fault must be one of "),
            ({"fault": [], "stream": True}, "fault must be one of "),
            ({"fault": "break"}, "A fault needs stream: true."),
        ):
            with self.subTest(question=question):
                answer = complete(DemoClient(), **question)
                self.assertEqual((400, "fault"), (answer.status, answer.json["error"]["param"]))
                self.assertTrue(answer.sentence.startswith(sentence), answer.sentence)
