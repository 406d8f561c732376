"""The Realtime API in OpenAI's wire format (its GA form), text only and without a model.

Client and demo send events, each a JSON object in a text message:

``session.update``
    is answered by ``session.updated``; ``session.created`` comes of itself at the beginning.
``conversation.item.create``
    adds a message to the conversation: ``conversation.item.added`` and ``.done``.
``response.create``
    gives the answer of ``pyproxy.demo.openai`` to the last user message, word by word:
    ``response.created``, ``response.output_item.added``, ``conversation.item.added``,
    ``response.content_part.added``, a ``response.output_text.delta`` for each word, then
    ``response.output_text.done``, ``response.content_part.done``, ``response.output_item.done``,
    ``conversation.item.done`` and ``response.done``.
``response.cancel``
    stops the words at once; the response is done, with the status ``cancelled``.

Anything else gets an ``error`` event and leaves the session as it was.  ``interval_ms``,
``first_byte_ms`` and ``words`` are those of chat completions: in the query of the handshake for the
whole session, in the ``response`` of a ``response.create`` for that one.  ``first_byte_ms`` stands
between ``response.created`` and what follows it.
"""

from __future__ import annotations

import json
import secrets
from functools import partial
from itertools import count
from typing import Self

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from pyproxy.demo.answer import Answer, Outline, item_object
from pyproxy.demo.conversation import Conversation, Message
from pyproxy.demo.dialogue import Say, not_begun
from pyproxy.demo.events import (
    EVENT_LIMIT,
    Event,
    message_in,
    object_in,
    read_event,
    text_in,
    token_limit_in,
)
from pyproxy.demo.handshake import OpeningHandshake, WebSockets
from pyproxy.demo.openai import (
    MODELS,
    WORDS_LIMIT,
    RoleAndText,
    answer_words,
    count_words,
    known_model,
    number_in,
)
from pyproxy.demo.places import Refusal, error_object, whole_number
from pyproxy.demo.request import DemoRequest
from pyproxy.demo.streams import LONGEST_MS

SETTINGS_LIMIT = 64 * 1024
"""Characters that a session's settings may have, as JSON."""

SUBPROTOCOL = "realtime"

_KINDS = "session.update, conversation.item.create, response.create and response.cancel"


@attrs.frozen
class Timing:
    """How an answer comes.

    Attributes:
        words: how many; 0 for as many as come of themselves.
    """

    interval_ms: int
    first_byte_ms: int
    words: int

    @classmethod
    def in_query(cls, request: Request, model: str) -> Self:
        """Return what the query says.  Raises: Refusal if it says nonsense."""
        number = partial(whole_number, request, least=0)
        return cls(
            number("interval_ms", default=MODELS[model], most=LONGEST_MS),
            number("first_byte_ms", default=0, most=LONGEST_MS),
            number("words", default=0, most=WORDS_LIMIT),
        )

    def changed_by(self, response: Event) -> Timing:
        """Return what a ``response`` says, and this where it says nothing.

        Raises: Refusal if it says nonsense.
        """
        number = partial(number_in, response)
        return Timing(
            number("interval_ms", default=self.interval_ms, most=LONGEST_MS),
            number("first_byte_ms", default=self.first_byte_ms, most=LONGEST_MS),
            number("words", default=self.words, most=WORDS_LIMIT),
        )


class RealtimeSession:
    """One session: the dialogue on one WebSocket.

    Args:
        clock: what times the words.
        model: a known one.
        timing: of answers about which nothing else is said.
    """

    def __init__(self, clock: IReactorTime, model: str, timing: Timing) -> None:
        self._clock = clock
        self._model = model
        self._timing = timing
        self._say: Say = not_begun
        self._name = secrets.token_hex(8)
        self._numbers = count(1)
        self._settings: Event = {}
        self._conversation = Conversation()
        self._answer: Answer | None = None
        self._paused = False

    def begin(self, say: Say) -> None:
        """Greet the client with the session."""
        self._say = say
        self._tell("session.created", session=self._session())

    def hear(self, content: bytes, binary: bool) -> None:
        """Take an event, or tell in another one what is wrong with it."""
        event: Event = {}
        try:
            event = read_event(content, binary)
            self._take(event)
        except Refusal as refusal:
            event_id = event.get("event_id")
            self._tell(
                "error",
                error={
                    **error_object(refusal)["error"],
                    "event_id": event_id if isinstance(event_id, str) else None,
                },
            )

    def pause(self) -> None:
        """Hold the words back."""
        self._paused = True
        if self._answer is not None:
            self._answer.pause()

    def resume(self) -> None:
        """Go on with them."""
        self._paused = False
        if self._answer is not None:
            self._answer.resume()

    def end(self) -> None:
        """Stop the words for good."""
        if self._answer is not None:
            self._answer.stop()

    def _take(self, event: Event) -> None:
        match event.get("type"):
            case "session.update":
                self._update(object_in(event, "session"))
            case "conversation.item.create":
                self._add(object_in(event, "item"), text_in(event, "previous_item_id"))
            case "response.create":
                self._respond(object_in(event, "response", default={}))
            case "response.cancel":
                self._cancel(text_in(event, "response_id"))
            case kind:
                raise Refusal(
                    400,
                    f"The type must be one of {_KINDS}, not {kind!r}.",
                    code="invalid_value",
                    param="type",
                )

    def _update(self, session: Event) -> None:
        if session.get("type", "realtime") != "realtime":
            raise Refusal(400, "The type of a session must be realtime.", param="session.type")
        if session.get("model", self._model) != self._model:
            raise Refusal(400, "The model of a session cannot change.", param="session.model")
        token_limit_in(session, None)
        settings = {**self._settings, **session}
        if len(json.dumps(settings)) > SETTINGS_LIMIT:
            raise Refusal(400, f"A session must not exceed {SETTINGS_LIMIT} bytes.")
        self._settings = settings
        self._tell("session.updated", session=self._session())

    def _add(self, item: Event, after: str | None) -> None:
        role, text = message_in("item", item)
        item_id = text_in(item, "id", "item.id") or self._new_id("item")
        previous = self._conversation.insert(Message(item_id, role, text), after)
        described = item_object(item_id, role, item.get("content"), "completed")
        for kind in ("conversation.item.added", "conversation.item.done"):
            self._tell(kind, previous_item_id=previous, item=described)

    def _respond(self, wanted: Event) -> None:
        if self._answer is not None:
            raise Refusal(
                400,
                f"{self._answer.id} is under way: cancel it, or wait for its end.",
                code="conversation_already_has_active_response",
            )
        timing = self._timing.changed_by(wanted)
        outline = self._outline(wanted, timing)
        self._answer = Answer(outline, self._conversation, self._clock, self._tell, self._answered)
        if self._paused:  # by what was told in answer to an event that came with this one
            self._answer.pause()
        self._answer.start(timing.first_byte_ms / 1000)

    def _cancel(self, response_id: str | None) -> None:
        if self._answer is None or response_id not in (None, self._answer.id):
            raise Refusal(
                400, "There is no such response under way.", code="response_cancel_not_active"
            )
        self._answer.cancel()

    def _answered(self) -> None:
        self._answer = None

    def _outline(self, wanted: Event, timing: Timing) -> Outline:
        """Return the outline of a response.

        Raises: Refusal if the client wants what the demo does not have.
        """
        place = wanted.get("conversation") or "auto"
        if place not in ("auto", "none"):
            raise Refusal(400, "conversation must be auto or none.", param="response.conversation")
        texts = self._texts(wanted.get("input"))
        words = answer_words(texts, timing.words)
        limit = token_limit_in(wanted, token_limit_in(self._settings, None))
        return Outline(
            id=self._new_id("resp"),
            item_id=self._new_id("item"),
            words=tuple(words[:limit]),
            interval=timing.interval_ms / 1000,
            cut=limit is not None and limit < len(words),
            input_tokens=count_words(texts),
            token_limit=limit,
            conversation_id=f"conv_{self._name}" if place == "auto" else None,
            metadata=object_in(wanted, "metadata", default={}) or None,
        )

    def _texts(self, given: object) -> list[RoleAndText]:
        if given is None:
            return self._conversation.texts
        if not isinstance(given, list):
            raise Refusal(400, "input must be a list of items.", param="response.input")
        return [message_in(f"response.input[{place}]", item) for place, item in enumerate(given)]

    def _session(self) -> Event:
        """Return the ``realtime.session`` object: the settings, and what no setting changes."""
        return {
            "instructions": "",
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            **self._settings,
            "type": "realtime",
            "object": "realtime.session",
            "id": f"sess_{self._name}",
            "model": self._model,
            "output_modalities": ["text"],
        }

    def _tell(self, kind: str, **fields: object) -> None:
        event = {"type": kind, "event_id": self._new_id("event"), **fields}
        self._say(json.dumps(event, separators=(",", ":")).encode("ascii"), False)

    def _new_id(self, kind: str) -> str:
        return f"{kind}_{self._name}_{next(self._numbers)}"


def realtime(request: DemoRequest, clock: IReactorTime, websockets: WebSockets) -> int:
    """Answer ``/v1/realtime``: a session with the model that the query names."""
    handshake = OpeningHandshake.of(request)
    models: list[bytes] = request.args.get(b"model", [])
    if len(models) != 1:
        raise Refusal(400, "You must provide one model parameter.", param="model")
    model = known_model(models[0].decode("utf-8", "replace"))
    session = RealtimeSession(clock, model, Timing.in_query(request, model))
    # Browsers offer their key as another subprotocol, which must not be said again.
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in handshake.subprotocols else None
    return websockets.accept(request, handshake, session, subprotocol=subprotocol, most=EVENT_LIMIT)
