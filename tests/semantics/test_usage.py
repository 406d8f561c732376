"""Usage: each dialect's figures are read from what it streams, and nothing from anything else."""

from __future__ import annotations

import json
import math
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.semantics.dialects.members import MAX_COUNT, MAX_NAME_CHARS, amount, count, text
from pyproxy.semantics.dialects.reading import Usage
from pyproxy.semantics.items import ItemReader, LineReader
from pyproxy.semantics.sse import EventReader
from pyproxy.semantics.usage import (
    LOOK_BYTES,
    LOOK_EVENTS,
    MESSAGES,
    STREAMED,
    Outcome,
    UsageReader,
)
from tests.semantics import answers, strict
from tests.semantics.answers import SESSIONS, STREAMS, WHOLE, Answer, Event, written

STYLES: tuple[dict[str, Any], ...] = (
    {},
    {"compact": False},
    {"indent": 1, "compact": False},
)
"""How JSON is written: compact, as Python does it, over many lines."""

ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        -1,
        1.5,
        5.0,
        2**53,
        10**400,
        1e300,
        math.nan,
        math.inf,
        "",
        "7",
        "\ud800",
    ]
) | st.recursive(
    st.none() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)


def read(events: list[Event], **style: Any) -> UsageReader:
    """Read a stream of events."""
    reader = UsageReader()
    for name, data in events:
        reader.event(name, written(data, **style))
    return reader


def odd_forms(value: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for a value with something in it that should not be there."""
    if isinstance(value, dict) and value:
        names = st.sampled_from(sorted(value))
        return ODD | names.flatmap(
            lambda name: odd_forms(value[name]).map(lambda odd: {**value, name: odd})
        )
    if isinstance(value, list) and value:
        return ODD | odd_forms(value[0]).map(lambda odd: [odd, *value[1:]])
    return ODD


class StreamTests(SynchronousTestCase):
    """What whole streams say."""

    def follow(self, answer: Answer, reader: UsageReader, asked: bool, **style: Any) -> None:
        """Check every event of an answer."""
        said = set()
        for number, (name, data) in enumerate(answer.octets(**style)):
            if reader.event(name, data):
                said.add(number)
            if asked:
                self.assertIsInstance(reader.usage, Usage)
        self.assertEqual(answer.said, said)
        self.assertEqual(len(said), reader.output_events)
        self.assertEqual(len(answer.events), reader.events)
        self.assertEqual(answer.dialect, reader.dialect)
        self.assertEqual(answer.model, reader.model)
        self.assertEqual(answer.usage, reader.usage)
        self.assertFalse(reader.failed)
        self.assertTrue(reader.watching)
        self.assertIs(Outcome.ENDED, reader.outcome)

    def test_streams(self) -> None:
        """Each dialect is read, however its JSON is written, and however often one asks."""
        for answer in STREAMS:
            for style in STYLES:
                for asked in (False, True):
                    self.follow(answer, UsageReader(), asked, **style)

    def test_sessions(self) -> None:
        """What each response of a session took is added up."""
        for answer in SESSIONS:
            for style in STYLES:
                reader = UsageReader(MESSAGES)
                self.follow(answer, reader, True, **style)
                self.assertTrue(reader.finished)

    def test_without_names(self) -> None:
        """Events without names are known by what stands in them, in whatever order."""
        for answer in (answers.RESPONSES, answers.QUIET_RESPONSES, answers.ANTHROPIC):
            for backwards in (False, True):
                events = [
                    (b"", dict(sorted(data.items(), reverse=backwards)))
                    for _, data in answer.events
                ]
                reader = read(events)
                self.assertEqual(answer.usage, reader.usage)
                self.assertEqual(answer.model, reader.model)
                self.assertEqual(len(answer.said), reader.output_events)
                self.assertIs(Outcome.ENDED, reader.outcome)

    def test_through_the_readers(self) -> None:
        """Event streams, lines and arrays come out of their readers as they go in."""
        for answer in STREAMS:
            usage = UsageReader()
            stream = b"".join(
                b"event: %b\ndata: %b\n\n" % event if event[0] else b"data: %b\n\n" % event[1]
                for event in answer.octets()
            )
            for name, data, _ in EventReader().feed(stream):
                usage.event(name, data)
            self.assertEqual(answer.usage, usage.usage)
        usage = UsageReader()
        for line in LineReader().feed(b"\n".join(x for _, x in answers.OLLAMA.octets()) + b"\n"):
            usage.item(line)
        self.assertEqual(answers.OLLAMA.usage, usage.usage)
        usage = UsageReader()
        array = written([data for _, data in answers.GEMINI.events], 2, False)
        for item in ItemReader().feed(array):
            usage.item(item)
        self.assertEqual(answers.GEMINI.usage, usage.usage)
        self.assertEqual(len(answers.GEMINI.events), usage.events)

    def test_in_the_middle(self) -> None:
        """A dialect is known by any event that is its alone, and what is new in it is nothing."""
        for events, said in (
            ([answers.typed("response.output_text.delta", delta="Hi")], 1),
            ([answers.typed("response.output_text.delta", delta="")], 0),
            ([answers.typed("response.image_generation_call.partial_image")], 1),
            ([answers.typed("response.of_the_future", response=7)], 0),
            ([*answers.ANTHROPIC.events[:2], answers.typed("of_the_future", usage=7)], 0),
            ([*answers.ANTHROPIC.events[:2], (b"", {"index": 0, "usage": 7})], 0),
        ):
            reader = read(events)
            self.assertIsNotNone(reader.dialect)
            self.assertEqual(said, reader.output_events)

    def test_finished(self) -> None:
        """A stream is finished with its dialect's sign, and not before; Gemini has none."""
        for answer in STREAMS:
            *before, last = answer.events
            reader = read(before)
            self.assertFalse(reader.finished)
            gemini = answer is answers.GEMINI
            self.assertIs(Outcome.ENDED if gemini else Outcome.TRUNCATED, reader.outcome)
            reader.event(last[0], written(last[1]))
            self.assertEqual(not gemini, reader.finished)

    def test_empty(self) -> None:
        """A stream with nothing in it, or nothing of an answer in it, is empty."""
        self.assertIs(Outcome.EMPTY, UsageReader().outcome)
        for answer in STREAMS:
            if answer is answers.QUIET_RESPONSES:
                continue
            quiet = [
                event for number, event in enumerate(answer.events) if number not in answer.said
            ]
            if answer is answers.RESPONSES:
                quiet[-1] = (quiet[-1][0], {"response": {**quiet[-1][1]["response"], "output": []}})
            self.assertIs(Outcome.EMPTY, read(quiet).outcome, answer.dialect)
        self.assertIs(Outcome.EMPTY, read([answers.DONE]).outcome)
        blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}}
        self.assertIs(Outcome.EMPTY, read([(b"", blocked)]).outcome)

    def test_failed(self) -> None:
        """An error in the stream is one, wherever it stands, and whatever follows."""
        error = {"error": {"message": "The engine is overloaded", "code": 503}}
        anthropic = answers.typed("error", error={"type": "overloaded_error"})
        for answer, event in (
            (answers.CHAT, (b"", error)),
            (answers.CHAT, (b"error", {"message": "no"})),
            (answers.CHAT, answers.chunk({"content": ""}, "error", **error)),
            (answers.RESPONSES, answers.typed("error", code="server_error", message="no")),
            (
                answers.RESPONSES,
                answers.typed("response.failed", response={**answers.RESPONSE, "status": "failed"}),
            ),
            (answers.RESPONSES, (b"", {"type": "response.failed", "response": {}})),
            (answers.ANTHROPIC, anthropic),
            (answers.ANTHROPIC, (b"", anthropic[1])),
            (answers.GEMINI, (b"", error)),
            (answers.OLLAMA, (b"", {"error": "an error was encountered"})),
        ):
            for place in range(len(answer.events) + 1):
                reader = read([*answer.events[:place], event, *answer.events[place:]])
                self.assertTrue(reader.failed, (event, place))
                self.assertIs(Outcome.FAILED, reader.outcome)
                self.assertEqual(answer.model, reader.model)

    def test_session_outcomes(self) -> None:
        """A session may be silent; a response that failed fails it, an error does not."""
        self.assertIs(Outcome.ENDED, UsageReader(MESSAGES).outcome)
        for data, outcome in (
            ({"type": "error", "error": {"message": "no"}}, Outcome.ENDED),
            ({"type": "response.done", "response": {"status": "failed"}}, Outcome.FAILED),
            ({"type": "response.done", "response": {"status": "cancelled"}}, Outcome.ENDED),
        ):
            reader = UsageReader(MESSAGES)
            reader.item(written(data))
            reader.item(written(data))
            self.assertIs(outcome, reader.outcome)
        reader.item(b'{"type":"response.created"}')
        self.assertFalse(reader.finished)

    def test_whole(self) -> None:
        """JSON answers that are no streams say the same."""
        for content, dialect, model, usage in WHOLE:
            for style in STYLES:
                reader = UsageReader()
                reader.whole(written(content, **style))
                self.assertEqual(dialect, reader.dialect)
                self.assertEqual(model, reader.model)
                self.assertEqual(usage, reader.usage)
                self.assertIs(Outcome.ENDED, reader.outcome)
        for octets, outcome in (
            (b'{"error":{"message":"no"}}', Outcome.FAILED),
            (b'[{"error":{"code":503}}]', Outcome.FAILED),
            (b'{"type":"error","error":{}}', Outcome.ENDED),
            (b'{"object":"response","status":"failed"}', Outcome.FAILED),
            (b'{"a":1}', Outcome.ENDED),
            (b"[1,null]", Outcome.EMPTY),
            (b"", Outcome.EMPTY),
            (b'{"choices":[{"message":{"role":"assistant","content":""}}]}', Outcome.EMPTY),
        ):
            reader = UsageReader()
            reader.whole(octets)
            self.assertIs(outcome, reader.outcome, octets)
            self.assertEqual(Usage(), reader.usage)

    def test_too_long(self) -> None:
        """Events whose data were not kept are known by their names; without one they say much."""
        for events, said, outcome in (
            ([(b"response.created", None), (b"response.completed", None)], 0, Outcome.EMPTY),
            ([(b"response.created", None), (b"response.output_text.delta", None)], 1, None),
            ([(b"message_start", None), (b"message_stop", None)], 0, Outcome.EMPTY),
            ([(b"message_start", None), (b"content_block_delta", None)], 1, Outcome.TRUNCATED),
            ([(b"", b'{"candidates":[]}'), (b"", None)], 1, Outcome.ENDED),
            ([(b"", None), (b"", None)], 0, Outcome.ENDED),
        ):
            reader = UsageReader()
            for name, data in events:
                reader.event(name, data)
            self.assertEqual(said, reader.output_events, events)
            self.assertIs(outcome or Outcome.TRUNCATED, reader.outcome)


class UnknownTests(SynchronousTestCase):
    """What nobody knows gives nothing."""

    def test_given_up(self) -> None:
        """After a few events nobody looks any more, and nothing was found out."""
        for data in (
            b"hello",
            b"1",
            b"[]",
            b'{"jsonrpc":"2.0","id":1,"error":{"code":-32600}}',
            b'{"status":"pulling manifest"}',
            b'{"type":7,"choices":3,"usage":[],"candidates":{},"done":1}',
            b"[" * 10_000,
            b'{"a":' + b"9" * 5000 + b"}",
        ):
            for dialects in (STREAMED, MESSAGES):
                reader = UsageReader(dialects)
                for number in range(LOOK_EVENTS + 2):
                    self.assertEqual(number < LOOK_EVENTS, reader.watching)
                    self.assertFalse(reader.event(b"", data))
                reader.event(b"message_start", written(answers.ANTHROPIC.events[1][1]))
                self.assertIsNone(reader.dialect)
                self.assertIsNone(reader.model)
                self.assertEqual(Usage(), reader.usage)
                self.assertIs(Outcome.ENDED, reader.outcome)
                self.assertEqual(LOOK_EVENTS + 3, reader.events)

    def test_large(self) -> None:
        """Of events that nobody knows no more than a bound is parsed."""
        reader = UsageReader()
        reader.event(b"", b'{"a":"%b"}' % (b"x" * LOOK_BYTES))
        self.assertFalse(reader.watching)

    def test_late(self) -> None:
        """Up to then a stream may begin with what says nothing."""
        reader = UsageReader()
        for _ in range(LOOK_EVENTS - 1):
            reader.event(b"ping", b"{}")
        reader.event(*next(answers.CHAT.octets()))
        self.assertEqual("openai-chat", reader.dialect)

    def test_error_of_nobody(self) -> None:
        """An error is one before anybody is known, but JSON-RPC's, and that of a session."""
        for name, data, dialects, failed in (
            (b"error", b"", STREAMED, True),
            (b"error", b"no", STREAMED, True),
            (b"", b'{"error":"no"}', STREAMED, True),
            (b"", b'{"error":null}', STREAMED, False),
            (b"", b'{"jsonrpc":"2.0","error":{"code":1}}', STREAMED, False),
            (b"", b'{"type":"error","error":{"code":1}}', MESSAGES, False),
        ):
            reader = UsageReader(dialects)
            reader.event(name, data)
            self.assertEqual(failed, reader.failed, data)

    def test_done_of_nobody(self) -> None:
        """A text message that says [DONE] is not chat's."""
        reader = UsageReader(MESSAGES)
        reader.item(b"[DONE]")
        self.assertIsNone(reader.dialect)


class OddTests(SynchronousTestCase):
    """What a peer gets wrong makes nothing wrong here."""

    def check(self, reader: UsageReader) -> None:
        """Check the type of everything that a reader says."""
        self.assertIsInstance(reader.outcome, Outcome)
        for name, value in attrs.asdict(reader.usage).items():
            if name == "durations_ns":
                self.assertTrue(all(type(one) is int for one in value.values()))
            elif name == "cost":
                self.assertTrue(value is None or 0 <= value < MAX_COUNT)
            else:
                self.assertTrue(value is None or (type(value) is int and value >= 0), name)
        if reader.model is not None:
            self.assertTrue(0 < len(reader.model.encode()) <= 4 * MAX_NAME_CHARS)
        for flag in (reader.finished, reader.failed, reader.watching):
            self.assertIsInstance(flag, bool)
        self.assertIsInstance(reader.output_events, int)

    @given(st.data())
    def test_odd_members(self, data: st.DataObject) -> None:
        """Any member of any event may be anything."""
        answer = data.draw(st.sampled_from([*STREAMS, *SESSIONS]))
        reader = UsageReader(MESSAGES if answer in SESSIONS else STREAMED)
        odd_at = data.draw(st.integers(0, len(answer.events) - 1))
        style = data.draw(st.sampled_from(STYLES))
        for number, (name, value) in enumerate(answer.events):
            if number == odd_at and not isinstance(value, bytes):
                value = data.draw(odd_forms(value))
            self.assertIsInstance(reader.event(name, written(value, **style)), bool)
        self.check(reader)

    @given(st.data())
    def test_odd_whole(self, data: st.DataObject) -> None:
        """So may any member of a whole answer."""
        content = data.draw(st.sampled_from([content for content, *_ in WHOLE]))
        reader = UsageReader()
        reader.whole(written(data.draw(odd_forms(content))))
        self.check(reader)

    @given(st.data())
    def test_broken_octets(self, data: st.DataObject) -> None:
        """Events may be cut or mixed up anywhere."""
        answer = data.draw(st.sampled_from([*STREAMS, *SESSIONS]))
        reader = UsageReader(MESSAGES if answer in SESSIONS else STREAMED)
        for name, octets in answer.octets():
            at, to = sorted(data.draw(st.tuples(st.integers(0, 300), st.integers(0, 300))))
            broken = data.draw(st.sampled_from([octets, octets[:at], octets[:at] + octets[to:]]))
            self.assertIsInstance(reader.event(name, broken), bool)
        self.check(reader)

    @given(st.lists(st.tuples(st.binary(max_size=9), st.none() | st.binary(max_size=30))))
    def test_any_octets(self, events: list[tuple[bytes, bytes | None]]) -> None:
        """Events may be any octets."""
        for dialects in (STREAMED, MESSAGES):
            reader = UsageReader(dialects)
            for name, octets in events:
                reader.event(name, octets)
            self.check(reader)

    def test_hostile_input_is_linear(self) -> None:
        """No data make the reader slow."""
        for octets in (
            b'"type": "',
            b'"text": "',
            b'{"a":',
            b"[",
            b'"usage":{',
            b"[1,",
            b"\\",
            b'"',
        ):
            crowd = octets * (strict.CROWD // len(octets))
            for answer in (*STREAMS, *SESSIONS):
                reader = UsageReader(MESSAGES if answer in SESSIONS else STREAMED)
                for name, data in answer.octets():
                    reader.event(name, data)
                    self.assertLess(
                        strict.cpu_seconds(reader.event, name, crowd), strict.CPU_BUDGET
                    )
            self.assertLess(strict.cpu_seconds(reader.whole, crowd), strict.CPU_BUDGET)


class MembersTests(SynchronousTestCase):
    """Numbers and texts of a peer."""

    def test_count(self) -> None:
        """A count is a whole number, not negative and not huge; anything else is none."""
        for value, expected in (
            (0, 0),
            (7, 7),
            (7.0, 7),
            (MAX_COUNT - 1, MAX_COUNT - 1),
            (MAX_COUNT, None),
            (10**400, None),
            (-1, None),
            (7.5, None),
            (math.nan, None),
            (math.inf, None),
            (True, None),
            ("7", None),
            (None, None),
            ([7], None),
        ):
            found = count({"n": value}, "n")
            self.assertEqual(expected, found, value)
            self.assertIs(type(expected), type(found))
        self.assertIsNone(count({}, "n"))
        self.assertEqual(0.5, amount({"n": 0.5}, "n"))

    def test_text(self) -> None:
        """A text is not empty, not long, and can be written; anything else is none."""
        for value, expected in (
            ("gpt", "gpt"),
            ("", None),
            (7, None),
            (None, None),
            ("x" * 1000, "x" * MAX_NAME_CHARS),
            (json.loads('"a\\ud800"'), "a?"),
        ):
            self.assertEqual(expected, text({"model": value}, "model"))
