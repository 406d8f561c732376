"""The wire format is OpenAI's, and the words come one by one."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.demo.request import CONTENT_LIMIT
from tests.demo.kit import Answer, DemoClient

JSON = {"Content-Type": "application/json; charset=utf-8"}
HELLO = [{"role": "user", "content": "Hello there"}]


def complete(client: DemoClient, query: str = "", **question: Any) -> Answer:
    """Ask for a completion and return what is answered without waiting."""
    question = {"model": "demo", "messages": HELLO, **question}
    return client.ask(
        "POST", f"/v1/chat/completions{query}", json.dumps(question).encode(), fields=JSON
    )


def text(answer: Answer) -> str:
    """Return the text of an answer that was not streamed."""
    return str(answer.json["choices"][0]["message"]["content"])


class ModelTests(SynchronousTestCase):
    """``/v1/models``."""

    def test_lists_models(self) -> None:
        """The list holds what can be asked for by name."""
        client = DemoClient()
        listed = client.ask("GET", "/v1/models").json
        self.assertEqual(listed["object"], "list")
        self.assertEqual([model["id"] for model in listed["data"]], ["demo", "demo-slow"])
        for model in listed["data"]:
            self.assertEqual(client.ask("GET", f"/v1/models/{model['id']}").json, model)

    def test_unknown_model(self) -> None:
        """An unknown model is 404 in OpenAI's error object."""
        answer = DemoClient().ask("GET", "/v1/models/none")
        self.assertEqual(answer.status, 404)
        self.assertEqual(
            answer.json["error"],
            {
                "message": "The model 'none' does not exist; there are demo and demo-slow.",
                "type": "invalid_request_error",
                "param": "model",
                "code": "model_not_found",
            },
        )


class WholeTests(SynchronousTestCase):
    """Completions that are not streamed."""

    def test_answers_with_usage(self) -> None:
        """The completion repeats the question and counts the words."""
        answer = complete(DemoClient())
        self.assertEqual(answer.field("Content-Type"), "application/json")
        self.assertEqual(answer.json["object"], "chat.completion")
        self.assertTrue(text(answer).startswith('You wrote "Hello there", which is 2 words. '))
        self.assertEqual(answer.json["choices"][0]["finish_reason"], "stop")
        words = len(text(answer).split())
        self.assertEqual(
            answer.json["usage"],
            {"prompt_tokens": 2, "completion_tokens": words, "total_tokens": words + 2},
        )

    def test_is_the_same_each_time(self) -> None:
        """The same question has the same answer, its id included."""
        self.assertEqual(complete(DemoClient()).json, complete(DemoClient()).json)

    def test_repeats_the_last_user_message(self) -> None:
        """Neither another role nor an earlier message, and of parts the texts."""
        parts = [
            {"type": "text", "text": "last"},
            {"type": "image_url", "image_url": {"url": "data:,"}},
        ]
        messages = [
            *HELLO,
            {"role": "user", "content": parts},
            {"role": "assistant", "content": None},
        ]
        answer = complete(DemoClient(), messages=messages)
        self.assertTrue(text(answer).startswith('You wrote "last", which is 1 word. '))

    def test_long_question_is_repeated_in_part(self) -> None:
        """The answer does not grow without bound."""
        answer = complete(DemoClient(), messages=[{"role": "user", "content": "a " * 60}])
        self.assertIn('a a ...", which is 60 words. ', text(answer))

    def test_length(self) -> None:
        """``words`` sets the length; ``max_tokens`` cuts it and says so."""
        self.assertEqual(len(text(complete(DemoClient(), words=500)).split()), 500)
        self.assertEqual(text(complete(DemoClient(), "?words=2", words=500)), "You wrote")
        cut = complete(DemoClient(), max_tokens=3)
        self.assertEqual(text(cut), 'You wrote "Hello')
        self.assertEqual(cut.json["choices"][0]["finish_reason"], "length")

    def test_first_byte_waits(self) -> None:
        """``first_byte_ms`` holds the head back too."""
        client = DemoClient()
        question = json.dumps({"model": "demo", "messages": HELLO, "first_byte_ms": 500})
        client.send("POST", "/v1/chat/completions", question.encode(), JSON)
        client.clock.advance(0.49)
        self.assertEqual(client.transport.value(), b"")
        client.clock.advance(0.01)
        self.assertTrue(client.answer().complete)


class StreamedTests(SynchronousTestCase):
    """Completions with ``stream``."""

    def test_words_come_one_by_one(self) -> None:
        """The role comes at once, a word each interval, and the end with the last word."""
        client = DemoClient()
        answer = complete(client, stream=True, words=3)
        self.assertEqual(answer.field("Content-Type"), "text/event-stream; charset=utf-8")
        chunk = json.loads(answer.events[0])
        self.assertEqual(chunk["object"], "chat.completion.chunk")
        self.assertEqual(chunk["choices"][0]["delta"], {"role": "assistant", "content": ""})
        self.assertNotIn("usage", chunk)
        for arrived in (1, 2):
            self.assertEqual(len(client.answer().events), arrived)
            client.clock.advance(0.039)
            self.assertEqual(len(client.answer().events), arrived)
            client.clock.advance(0.0011)
        client.clock.advance(0.04)
        answer = client.answer()
        self.assertTrue(answer.complete)
        self.assertEqual(answer.events[-1], "[DONE]")
        choices = [json.loads(data)["choices"][0] for data in answer.events[:-1]]
        self.assertEqual(
            [choice["delta"].get("content") for choice in choices],
            ["", "You", " wrote", ' "Hello', None],
        )
        self.assertEqual(
            [choice["finish_reason"] for choice in choices], [None, None, None, None, "stop"]
        )

    def test_joins_to_the_whole_answer(self) -> None:
        """Streamed or not, the text is the same, and no wait means no wait."""
        answer = complete(DemoClient(), "?interval_ms=0", stream=True)
        self.assertTrue(answer.complete)
        chunks = [json.loads(data) for data in answer.events[:-1]]
        words = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
        self.assertEqual("".join(words), text(complete(DemoClient())))

    def test_usage_comes_last_when_asked_for(self) -> None:
        """``include_usage`` adds a chunk without choices, and a null to all others."""
        answer = complete(
            DemoClient(),
            stream=True,
            stream_options={"include_usage": True},
            words=2,
            interval_ms=0,
        )
        chunks = [json.loads(data) for data in answer.events[:-1]]
        self.assertEqual([chunk["usage"] for chunk in chunks[:-1]], [None] * 4)
        self.assertEqual(chunks[-1]["choices"], [])
        self.assertEqual(
            chunks[-1]["usage"], {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
        )

    def test_client_that_leaves_ends_it(self) -> None:
        """Before the first byte and amid the words (FIELD 1: stop does not stop the model)."""
        for wait, first_byte_ms in ((0.0, 5000), (0.1, 0)):
            with self.subTest(first_byte_ms=first_byte_ms):
                client = DemoClient()
                question = {"model": "demo", "messages": HELLO, "stream": True}
                client.send(
                    "POST",
                    f"/v1/chat/completions?first_byte_ms={first_byte_ms}",
                    json.dumps(question).encode(),
                    JSON,
                )
                client.clock.advance(wait)
                self.assertEqual(client.streams_waiting, 1)
                client.leave()
                self.assertEqual(client.streams_waiting, 0)

    def test_slow_model(self) -> None:
        """``demo-slow`` takes ten times as long."""
        client = DemoClient()
        complete(client, stream=True, model="demo-slow")
        client.clock.advance(0.39)
        self.assertEqual(len(client.answer().events), 1)
        client.clock.advance(0.01)
        self.assertEqual(len(client.answer().events), 2)


class RefusalTests(SynchronousTestCase):
    """What OpenAI refuses is refused in its error object."""

    def test_questions_that_are_none(self) -> None:
        """Each has a status, a parameter where one is at fault, and a sentence."""
        for question, status, param, sentence in (
            ({"model": None}, 404, "model", "The model None does not exist"),
            ({"model": "none"}, 404, "model", "The model 'none' does not exist"),
            ({"messages": None}, 400, "messages", "messages is required"),
            ({"messages": []}, 400, "messages", "messages is required"),
            ({"messages": ["hi"]}, 400, "messages[0]", "messages[0] must be an object"),
            ({"messages": [{"content": ""}]}, 400, "messages[0]", "messages[0] must be an object"),
            (
                {"messages": [{"role": "user", "content": 7}]},
                400,
                "messages[0].content",
                "messages[0].content must be a text",
            ),
            ({"n": 2}, 400, "n", "n must be 1"),
            ({"stream": "yes"}, 400, "stream", "stream must be true or false"),
            ({"stream": True, "stream_options": 1}, 400, "stream_options", "stream_options must"),
            ({"max_tokens": 0}, 400, "max_tokens", "max_tokens must be a whole number from 1"),
            ({"interval_ms": True, "stream": True}, 400, "interval_ms", "interval_ms must be"),
            ({"words": 1.5}, 400, "words", "words must be a whole number"),
        ):
            with self.subTest(question=question):
                answer = complete(DemoClient(), **question)
                error = answer.json["error"]
                self.assertEqual((answer.status, error["param"]), (status, param))
                self.assertEqual(error["type"], "invalid_request_error")
                self.assertIn(sentence, error["message"])

    def test_contents_that_are_no_object(self) -> None:
        """Broken JSON, JSON that is no object, and what is not said to be JSON."""
        for content, fields, sentence in (
            (b'{"model":', JSON, "The content is not valid JSON: "),
            (b"\xff", JSON, "The content is not valid JSON: "),
            (b"[" * 100_000, JSON, "The content is not valid JSON: "),
            (b"", JSON, "The content is not valid JSON: "),
            (b"[]", JSON, "The content must be a JSON object."),
            (b"{}", {}, "Send a JSON object, with Content-Type: application/json."),
            (b"{}", JSON, "You must provide a model parameter."),
        ):
            with self.subTest(content=content[:20], fields=fields):
                answer = DemoClient().ask("POST", "/v1/chat/completions", content, fields)
                self.assertEqual(answer.status, 400)
                self.assertTrue(answer.sentence.startswith(sentence), answer.sentence)

    def test_content_past_its_bound(self) -> None:
        """No more than the bound is kept, and what is longer is refused."""
        client = DemoClient()
        answer = client.ask("POST", "/v1/chat/completions", b" " * (CONTENT_LIMIT + 1), JSON)
        self.assertEqual(answer.status, 413)

    def test_other_methods(self) -> None:
        """A method that is not offered is 405 with ``Allow`` (RFC 9110 15.5.6)."""
        answer = DemoClient().ask("GET", "/v1/chat/completions")
        self.assertEqual((answer.status, answer.field("Allow")), (405, "POST"))
