"""Last events: as the clients of each dialect read them."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.errors import ReadTimeout, ResponseIncomplete
from pyproxy.semantics.error_events import ANTHROPIC, CHAT, RESPONSES, dialect_of, error_event
from pyproxy.semantics.sse import EventReader
from pyproxy.semantics.usage import UsageReader

TIMEOUT = ReadTimeout("nothing moved for 5 s")
BROKEN = ResponseIncomplete("it broke\noff")


def read(octets: bytes) -> tuple[bytes, Any]:
    """Return name and data of the one event in octets."""
    ((name, data, _),) = EventReader().feed(octets)
    return name, json.loads(data or b"")


class ErrorEventTests(SynchronousTestCase):
    """What an event says."""

    def test_chat(self) -> None:
        """An ``error`` member, in an event without a name."""
        name, data = read(error_event(CHAT, TIMEOUT, "r1"))
        self.assertEqual((b"", ["error"]), (name, list(data)))
        self.assertEqual("nothing moved for 5 s (request r1)", data["error"]["message"])
        self.assertEqual("connection_read_timeout", data["error"]["type"])
        self.assertEqual(504, data["error"]["code"])

    def test_responses(self) -> None:
        """Numbered on from the event before."""
        before = b'{"type":"response.output_text.delta","sequence_number":41}'
        for data_before, number in ((before, 42), (b"", 0)):
            name, data = read(error_event(RESPONSES, BROKEN, "r1", data_before))
            self.assertEqual((b"error", "error"), (name, data["type"]))
            self.assertEqual(number, data["sequence_number"])

    def test_anthropic(self) -> None:
        """An error of the API, by its kind."""
        for error, kind in ((TIMEOUT, "timeout_error"), (BROKEN, "api_error")):
            name, data = read(error_event(ANTHROPIC, error, "r1"))
            self.assertEqual((b"error", "error"), (name, data["type"]))
            self.assertEqual(kind, data["error"]["type"])

    def test_answer(self) -> None:
        """What the upstream answered in place of a stream is told in its words."""
        answer = {"error": {"type": "overloaded_error", "message": "busy", "code": "x", "param": 1}}
        for dialect in (CHAT, ANTHROPIC):
            _, data = read(error_event(dialect, BROKEN, "r1", answer=answer))
            self.assertEqual(answer["error"], data["error"])
        _, data = read(error_event(RESPONSES, BROKEN, "r1", answer=answer))
        self.assertEqual(("x", "busy", 1), (data["code"], data["message"], data["param"]))
        odd = {"error": {"message": 5, "type": "t"}}
        _, data = read(error_event(RESPONSES, BROKEN, "r1", answer=odd))
        self.assertEqual("t", data["code"])
        self.assertIn("request r1", data["message"])

    def test_others(self) -> None:
        """Nothing where nobody would know what it is."""
        for dialect in (None, "gemini", "ollama"):
            self.assertEqual(b"", error_event(dialect, BROKEN, "r1"))

    def test_is_an_error(self) -> None:
        """Who watches takes it for one."""
        for dialect in (CHAT, RESPONSES, ANTHROPIC):
            reader = UsageReader()
            reader.event(*EventReader().feed(error_event(dialect, BROKEN, "r1"))[0][:2])
            self.assertTrue(reader.failed, dialect)


class DialectTests(SynchronousTestCase):
    """What a target asks for."""

    def test_targets(self) -> None:
        """By the end of its path."""
        for target, dialect in (
            (b"/v1/chat/completions", CHAT),
            (b"/openai/deployments/x/chat/completions?api-version=1", CHAT),
            (b"/v1/completions", CHAT),
            (b"/v1/responses", RESPONSES),
            (b"/v1/messages?beta=true", ANTHROPIC),
            (b"/v1/models?x=/messages", None),
            (b"*", None),
        ):
            self.assertEqual(dialect, dialect_of(target), target)
