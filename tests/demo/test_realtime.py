"""The events are those of OpenAI's Realtime API, and the words come one by one."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pyproxy.demo.events import EVENT_LIMIT
from pyproxy.demo.realtime import SETTINGS_LIMIT
from tests.demo.frames import BINARY, TEXT, Frame, closing
from tests.demo.kit import DemoClient, WebSocketClient
from tests.demo.test_openai import complete, text

Event = dict[str, Any]

DELTA = "response.output_text.delta"

BEGINNING = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
]
ENDING = [
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]


def message(words: str, role: str = "user") -> Event:
    """Return an item as a client sends it."""
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": words}]}


def create_item(words: str, **fields: Any) -> Event:
    """Return the event that adds a message."""
    return {"type": "conversation.item.create", "item": message(words), **fields}


def create_response(**response: Any) -> Event:
    """Return the event that asks for an answer."""
    return {"type": "response.create", "response": response}


class RealtimeClient(WebSocketClient):
    """A client of a session, its greeting taken.

    Attributes:
        created: the greeting.
    """

    def __init__(self, query: str = "", room: int | None = None) -> None:
        super().__init__(room)
        assert self.open(f"/v1/realtime?model=demo{query}").status == 101
        (self.created,) = self.events()

    def events(self) -> list[Event]:
        """Return the events that have come since the last time."""
        frames = self.heard()
        assert all(frame.opcode == TEXT for frame in frames), frames
        return [json.loads(frame.payload) for frame in frames]

    def kinds(self) -> list[str]:
        """Return the types of such events."""
        return [event["type"] for event in self.events()]

    def say(self, *events: Event) -> list[Event]:
        """Send events in one packet; return those that come without waiting."""
        self.tell(*[Frame(TEXT, json.dumps(event).encode()) for event in events])
        return self.events()


class SessionTests(SynchronousTestCase):
    """``session.created`` and ``session.update``."""

    def test_greets_with_the_session(self) -> None:
        """The first event is the session, with the model asked for."""
        created = RealtimeClient().created
        self.assertEqual(created["type"], "session.created")
        session = created["session"]
        self.assertEqual((session["type"], session["model"]), ("realtime", "demo"))
        self.assertEqual(session["object"], "realtime.session")
        self.assertEqual(session["output_modalities"], ["text"])

    def test_sessions_differ(self) -> None:
        """Each has an id of its own, and each event has one."""
        one, other = RealtimeClient(), RealtimeClient()
        self.assertNotEqual(one.created["session"]["id"], other.created["session"]["id"])
        ids = [event["event_id"] for event in one.say(create_item("a"), create_item("b"))]
        self.assertEqual(len({*ids, one.created["event_id"]}), 5)

    def test_update_keeps_what_it_does_not_name(self) -> None:
        """The answer shows all settings, also what none can change."""
        client = RealtimeClient()
        (first,) = client.say({"type": "session.update", "session": {"instructions": "Be brief."}})
        self.assertEqual(first["type"], "session.updated")
        (second,) = client.say(
            {
                "type": "session.update",
                "session": {"type": "realtime", "output_modalities": ["audio"], "id": "x"},
            }
        )
        session = second["session"]
        self.assertEqual(session["instructions"], "Be brief.")
        self.assertEqual(session["output_modalities"], ["text"])
        self.assertEqual(session["id"], client.created["session"]["id"])

    def test_limit_of_tokens_holds_for_each_answer(self) -> None:
        """``max_output_tokens`` of the session holds unless the response has its own."""
        client = RealtimeClient("&interval_ms=0")
        client.say({"type": "session.update", "session": {"max_output_tokens": 2}})
        for response, words in (({}, 2), ({"max_output_tokens": 3}, 3)):
            done = client.say(create_response(**response))[-1]["response"]
            self.assertEqual(done["status"], "incomplete")
            self.assertEqual(done["status_details"]["reason"], "max_output_tokens")
            self.assertEqual(done["usage"]["output_tokens"], words)
        done = client.say(create_response(max_output_tokens="inf"))[-1]["response"]
        self.assertEqual((done["status"], done["status_details"]), ("completed", None))

    def test_settings_have_a_bound(self) -> None:
        """Settings do not grow from one update to the next without end."""
        client = RealtimeClient()
        half = "x" * (SETTINGS_LIMIT // 2)
        (updated,) = client.say({"type": "session.update", "session": {"instructions": half}})
        self.assertEqual(updated["type"], "session.updated")
        (error,) = client.say({"type": "session.update", "session": {"other": half}})
        self.assertEqual(error["type"], "error")


class ConversationTests(SynchronousTestCase):
    """``conversation.item.create``."""

    def test_item_is_added_and_done(self) -> None:
        """Both events show the item, and the item before it."""
        client = RealtimeClient()
        added, done = client.say(create_item("Hello"))
        self.assertEqual(added["type"], "conversation.item.added")
        self.assertEqual(done["type"], "conversation.item.done")
        self.assertEqual(added["item"], done["item"])
        self.assertEqual(
            {**added["item"], "id": ""},
            {**message("Hello"), "id": "", "object": "realtime.item", "status": "completed"},
        )
        self.assertIsNone(added["previous_item_id"])
        event = create_item("again")
        event["item"]["id"] = "mine"
        self.assertEqual(client.say(event)[0]["item"]["id"], "mine")
        (_, done) = client.say(create_item("and again", previous_item_id="root"))
        self.assertIsNone(done["previous_item_id"])
        (added, _) = client.say(create_item("between", previous_item_id="mine"))
        self.assertEqual(added["previous_item_id"], "mine")


class ResponseTests(SynchronousTestCase):
    """``response.create``."""

    def test_words_come_one_by_one(self) -> None:
        """The frame comes at once, a word each interval, and the end with the last word."""
        client = RealtimeClient()
        client.say(create_item("Hello there"))
        events = client.say(create_response(words=3))
        self.assertEqual([event["type"] for event in events], BEGINNING)
        for word in ("You", " wrote"):
            client.clock.advance(0.039)
            self.assertEqual(client.events(), [])
            client.clock.advance(0.001)
            self.assertEqual([event["delta"] for event in client.events()], [word])
        client.clock.advance(0.04)
        self.assertEqual(client.kinds(), [DELTA, *ENDING])
        self.assertEqual(client.streams_waiting, 0)

    def test_events_fit_together(self) -> None:
        """All name the same response and item, and the ends hold the whole text."""
        client = RealtimeClient("&interval_ms=0")
        question = client.say(create_item("Hello there"))[0]["item"]["id"]
        events = client.say(create_response())
        self.assertEqual(
            [event["type"] for event in events if event["type"] != DELTA], BEGINNING + ENDING
        )
        created, done = events[0]["response"], events[-1]["response"]
        item = events[1]["item"]
        whole = "".join(event["delta"] for event in events if event["type"] == DELTA)
        self.assertEqual((created["status"], created["output"]), ("in_progress", []))
        self.assertEqual((item["status"], item["content"]), ("in_progress", []))
        for event in events[1:-1]:
            self.assertEqual(event.get("response_id", created["id"]), created["id"])
            self.assertEqual(event.get("item_id", item["id"]), item["id"])
            if event["type"].startswith("conversation."):
                self.assertEqual(event["previous_item_id"], question)
        self.assertEqual(events[-5]["text"], whole)
        self.assertEqual(events[-4]["part"], {"type": "text", "text": whole})
        self.assertEqual(
            events[-3]["item"],
            {
                **item,
                "status": "completed",
                "content": [{"type": "output_text", "text": whole}],
            },
        )
        self.assertEqual(done["id"], created["id"])
        self.assertEqual((done["status"], done["output"]), ("completed", [events[-3]["item"]]))
        words = len(whole.split())
        self.assertEqual(
            [done["usage"][f"{kind}_tokens"] for kind in ("input", "output", "total")],
            [2, words, words + 2],
        )

    def test_says_what_chat_completions_say(self) -> None:
        """The text is made of the last user message, as that of chat completions."""
        client = RealtimeClient("&interval_ms=0")
        client.say(create_item("first"), create_item("Hello there"))
        client.say({"type": "conversation.item.create", "item": message("Be brief.", "system")})
        events = client.say({"type": "response.create"})
        self.assertEqual(events[-5]["text"], text(complete(DemoClient())))

    def test_answer_joins_the_conversation(self) -> None:
        """The next answer counts the words of the one before."""
        client = RealtimeClient("&interval_ms=0")
        client.say(create_item("one two three"))
        client.say(create_response(words=4))
        done = client.say(create_response())[-1]["response"]
        self.assertEqual(done["usage"]["input_tokens"], 7)

    def test_answer_outside_of_the_conversation(self) -> None:
        """Input of its own replaces the conversation's; ``none`` keeps the answer out of it."""
        client = RealtimeClient("&interval_ms=0")
        client.say(create_item("of the conversation"))
        events = client.say(
            create_response(conversation="none", input=[message("aside")], metadata={"a": "b"})
        )
        self.assertNotIn("conversation.item.added", [event["type"] for event in events])
        done = events[-1]["response"]
        self.assertEqual((done["conversation_id"], done["metadata"]), (None, {"a": "b"}))
        self.assertIn('"aside"', events[-4]["text"])
        done = client.say(create_response())[-1]["response"]
        self.assertEqual(done["usage"]["input_tokens"], 3)

    def test_timing(self) -> None:
        """The query holds for the session, what the event says for one response."""
        client = RealtimeClient("&interval_ms=100&first_byte_ms=500&words=2")
        for response, first_byte, interval, words in (
            ({}, 0.5, 0.1, 2),
            ({"interval_ms": 10, "first_byte_ms": 20, "words": 4}, 0.02, 0.01, 4),
            ({"first_byte_ms": 0}, 0.0, 0.1, 2),
        ):
            with self.subTest(response=response):
                kinds = [event["type"] for event in client.say(create_response(**response))]
                if first_byte:
                    self.assertEqual(kinds, BEGINNING[:1])
                    client.clock.advance(first_byte * 0.99)
                    self.assertEqual(client.events(), [])
                    client.clock.advance(first_byte * 0.02)
                    self.assertEqual(client.kinds(), BEGINNING[1:])
                for _ in range(words - 1):
                    client.clock.advance(interval)
                    self.assertEqual(client.kinds(), [DELTA])
                client.clock.advance(interval)
                self.assertEqual(client.kinds(), [DELTA, *ENDING])

    def test_slow_model(self) -> None:
        """``demo-slow`` takes ten times as long."""
        client = WebSocketClient()
        client.open("/v1/realtime?model=demo-slow")
        client.tell(Frame(TEXT, b'{"type": "response.create"}'))
        before = len(client.heard())
        client.clock.advance(0.39)
        self.assertEqual((before, client.heard()), (5, []))
        client.clock.advance(0.01)
        self.assertEqual(len(client.heard()), 1)


class CancelTests(SynchronousTestCase):
    """``response.cancel``, and clients that leave."""

    def test_stops_amid_the_words(self) -> None:
        """What was said stays, nothing follows, and the next response may begin."""
        client = RealtimeClient()
        response_id = client.say(create_response())[0]["response"]["id"]
        client.clock.advance(0.04)
        client.clock.advance(0.04)
        client.events()
        events = client.say({"type": "response.cancel", "response_id": response_id})
        self.assertEqual([event["type"] for event in events], ENDING)
        response = events[-1]["response"]
        self.assertEqual(response["status"], "cancelled")
        self.assertEqual(
            response["status_details"], {"type": "cancelled", "reason": "client_cancelled"}
        )
        self.assertEqual(response["output"][0]["content"][0]["text"], "You wrote")
        self.assertEqual(response["output"][0]["status"], "incomplete")
        self.assertEqual(client.streams_waiting, 0)
        client.clock.advance(10)
        self.assertEqual(client.events(), [])
        self.assertEqual(client.say(create_response())[0]["type"], "response.created")

    def test_stops_before_the_words(self) -> None:
        """A response without an item is done without one."""
        client = RealtimeClient("&first_byte_ms=1000")
        client.say(create_response())
        (done,) = client.say({"type": "response.cancel"})
        self.assertEqual(done["type"], "response.done")
        self.assertEqual(
            (done["response"]["status"], done["response"]["output"]), ("cancelled", [])
        )
        self.assertEqual(client.streams_waiting, 0)

    def test_client_that_leaves_ends_the_words(self) -> None:
        """Before the first word and amid them, with a Close and without (FIELD 1)."""
        for query in ("", "&first_byte_ms=5000"):
            for close in (True, False):
                with self.subTest(query=query, close=close):
                    client = RealtimeClient(query)
                    client.say(create_response())
                    client.clock.advance(0.04)
                    self.assertEqual(client.streams_waiting, 1)
                    client.heard()
                    if close:
                        client.tell(closing(1000))
                        self.assertEqual(client.heard(), [closing(1000)])
                    else:
                        client.leave()
                    self.assertEqual(client.streams_waiting, 0)
                    client.clock.advance(10)
                    self.assertEqual(client.heard(), [])

    def test_site_that_goes_away_ends_the_words(self) -> None:
        """Nothing follows the Close, and no new response begins."""
        for response in ([create_response()], []):
            with self.subTest(under_way=len(response)):
                client = RealtimeClient()
                client.say(*response)
                client.site.stopFactory()
                waiting = client.streams_waiting
                client.tell(Frame(TEXT, json.dumps(create_response()).encode()))
                self.assertEqual(client.streams_waiting, waiting)
                client.clock.advance(0.5)
                self.assertEqual([frame.close_code for frame in client.heard()], [1001])


class BackpressureTests(SynchronousTestCase):
    """A client that does not read."""

    def test_words_wait(self) -> None:
        """A full socket holds the words back, and they go on where they were (FIELD 8)."""
        client = RealtimeClient("&interval_ms=0&words=2000", room=10_000)
        client.tell(Frame(TEXT, b'{"type": "response.create"}'))
        self.assertLess(len(client.transport.value()), 12_000)
        self.assertEqual(client.transport.producerState, "paused")
        self.assertEqual(client.streams_waiting, 0)
        events = [json.loads(frame.payload) for frame in client.read_all()]
        self.assertEqual(len([event for event in events if event["type"] == DELTA]), 2000)
        self.assertEqual(events[-1]["type"], "response.done")

    def test_words_wait_from_the_beginning(self) -> None:
        """Also those of a response that is asked for when the socket is full already."""
        client = RealtimeClient("&interval_ms=0&words=2000", room=10_000)
        item = Frame(TEXT, json.dumps(create_item("x" * 6000)).encode())
        client.tell(item, Frame(TEXT, b'{"type": "response.create"}'))
        self.assertLess(len(client.transport.value()), 15_000)
        events = [json.loads(frame.payload) for frame in client.read_all()]
        self.assertEqual(events[-1]["type"], "response.done")

    def test_timed_words_wait(self) -> None:
        """A timer that would have fired meanwhile does not."""
        client = RealtimeClient()
        client.say(create_response())
        producer = client.producer
        producer.pauseProducing()
        self.assertEqual(client.streams_waiting, 0)
        client.clock.advance(10)
        self.assertEqual(client.events(), [])
        producer.resumeProducing()
        self.assertEqual(client.kinds(), [DELTA])
        client.clock.advance(0.04)
        self.assertEqual(client.kinds(), [DELTA])


class ErrorTests(SynchronousTestCase):
    """What is wrong with an event is told in another one, and the session goes on."""

    def assert_error(self, events: list[Event], sentence: str) -> Event:
        """Check that there is one error with a sentence; return it."""
        self.assertEqual([event["type"] for event in events], ["error"])
        error: Event = events[0]["error"]
        self.assertEqual(error["type"], "invalid_request_error")
        self.assertIn(sentence, error["message"])
        self.assertTrue(events[0]["event_id"].startswith("event_"))
        return error

    def test_events_that_are_wrong(self) -> None:
        """Each error names the event, and the parameter at fault."""
        client = RealtimeClient()
        item = message("x")
        for event, param, sentence in (
            ({"type": "x"}, "type", "not 'x'."),
            ({}, "type", "not None."),
            ({"type": ["x"]}, "type", "not ['x']."),
            ({"type": "session.update"}, "session", "session must be an object."),
            ({"type": "session.update", "session": []}, "session", "session must be an object."),
            (
                {"type": "session.update", "session": {"type": "transcription"}},
                "session.type",
                "The type of a session must be realtime.",
            ),
            (
                {"type": "session.update", "session": {"model": "demo-slow"}},
                "session.model",
                "The model of a session cannot change.",
            ),
            (
                {"type": "session.update", "session": {"max_output_tokens": 0}},
                "max_output_tokens",
                "max_output_tokens must be a whole number from 1 to",
            ),
            ({"type": "conversation.item.create"}, "item", "item must be an object."),
            (
                {"type": "conversation.item.create", "item": {"type": "function_call_output"}},
                "item.type",
                "The type of an item must be message.",
            ),
            (
                {"type": "conversation.item.create", "item": {**item, "role": "tool"}},
                "item.role",
                "role must be one of user, assistant, system.",
            ),
            (
                {"type": "conversation.item.create", "item": {**item, "content": 7}},
                "item.content",
                "item.content must be a text or a list of parts.",
            ),
            (
                {"type": "conversation.item.create", "item": {**item, "id": 7}},
                "item.id",
                "id must be a text.",
            ),
            (create_item("x", previous_item_id=7), "previous_item_id", "must be a text."),
            (create_item("x", previous_item_id="y"), "previous_item_id", "no item 'y'."),
            ({"type": "response.create", "response": 1}, "response", "must be an object."),
            (create_response(conversation="x"), "response.conversation", "auto or none."),
            (create_response(input="x"), "response.input", "input must be a list of items."),
            (create_response(input=[item, 7]), "response.input[1]", "must be an object"),
            (create_response(metadata=7), "metadata", "metadata must be an object."),
            (create_response(words="x"), "words", "words must be a whole number from 0 to"),
            (create_response(interval_ms=-1), "interval_ms", "interval_ms must be a whole"),
            (create_response(first_byte_ms=1.5), "first_byte_ms", "first_byte_ms must be a"),
            ({"type": "response.cancel", "response_id": 7}, "response_id", "must be a text."),
        ):
            with self.subTest(event=event):
                events = client.say({**event, "event_id": "of-the-client"})
                error = self.assert_error(events, sentence)
                self.assertEqual((error["param"], error["event_id"]), (param, "of-the-client"))
        self.assertEqual(len(client.say(create_item("goes on"))), 2)

    def test_messages_that_are_no_event(self) -> None:
        """Broken JSON, JSON that is no object or cannot be written again, and binary messages."""
        client = RealtimeClient()
        for frame, sentence in (
            (Frame(TEXT, b'{"type":'), "The event is not valid JSON: "),
            (Frame(TEXT, b""), "The event is not valid JSON: "),
            (Frame(TEXT, b'{"type": NaN}'), "The event is not valid JSON: "),
            (Frame(TEXT, b'{"type": 1e999}'), "The event is not valid JSON: "),
            (Frame(TEXT, b"[" * 100_000), "The event is not valid JSON: "),
            (Frame(TEXT, b"[]"), "An event must be a JSON object."),
            (Frame(BINARY, b'{"type": "response.create"}'), "Send events as text"),
        ):
            with self.subTest(frame=frame.payload[:20]):
                client.tell(frame)
                error = self.assert_error(client.events(), sentence)
                self.assertIsNone(error["event_id"])
        self.assertEqual(len(client.say(create_item("goes on"))), 2)

    def test_any_nesting(self) -> None:
        """However deep an event nests, it is taken or refused, and the session goes on."""
        client = RealtimeClient()
        outcomes = set()
        for depth in range(1, 1001):
            nested = b"[" * depth + b"]" * depth
            client.tell(
                Frame(TEXT, b'{"type": "session.update", "session": {"tools": %b}}' % nested)
            )
            (event,) = client.events()
            outcomes.add(event["type"])
        self.assertEqual(outcomes, {"session.updated", "error"})

    def test_event_id_that_is_none(self) -> None:
        """An event's id is repeated only if it is a text."""
        client = RealtimeClient()
        error = self.assert_error(client.say({"type": "x", "event_id": {"a": 1}}), "not 'x'")
        self.assertIsNone(error["event_id"])

    def test_one_response_at_a_time(self) -> None:
        """A second one is refused while the first is under way."""
        client = RealtimeClient()
        client.say(create_response())
        error = self.assert_error(client.say(create_response()), "is under way")
        self.assertEqual(error["code"], "conversation_already_has_active_response")
        client.clock.advance(0.04)
        self.assertEqual(client.kinds(), [DELTA])

    def test_cancel_of_nothing(self) -> None:
        """There must be a response under way, and it must be the one that is named."""
        client = RealtimeClient()
        cancel = {"type": "response.cancel"}
        error = self.assert_error(client.say(cancel), "no such response")
        self.assertEqual(error["code"], "response_cancel_not_active")
        client.say(create_response())
        self.assert_error(client.say({**cancel, "response_id": "other"}), "no such response")
        self.assertEqual(client.streams_waiting, 1)

    def test_event_past_its_bound(self) -> None:
        """An event that is too long ends the session, with 1009 (RFC 6455 7.4.1)."""
        client = RealtimeClient()
        client.tell(Frame(TEXT, b" " * (EVENT_LIMIT + 1)))
        self.assertEqual([frame.close_code for frame in client.heard()], [1009])
