"""A response of the Realtime API under way: its events, each word at its moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import attrs
from twisted.internet.interfaces import IReactorTime

from pyproxy.demo.conversation import Conversation, Message
from pyproxy.demo.events import Event
from pyproxy.demo.streams import Pace

_PLACE = {"output_index": 0, "content_index": 0}

_REASONS = {"cancelled": "client_cancelled", "incomplete": "max_output_tokens"}


class Tell(Protocol):
    """Send an event to the client: its type and its fields."""

    def __call__(self, kind: str, **fields: object) -> None:
        """Send it."""
        ...


@attrs.frozen
class Outline:
    """What is known of a response before its first word.

    Attributes:
        words: with the spaces before them; joined they are the answer.
        interval: seconds before each word.
        cut: whether the client's limit made them fewer.
        input_tokens: a token is a word here.
        token_limit: None for none.
        conversation_id: None if the answer stays outside of the conversation.
    """

    id: str
    item_id: str
    words: tuple[str, ...]
    interval: float
    cut: bool
    input_tokens: int
    token_limit: int | None
    conversation_id: str | None
    metadata: Event | None


def item_object(item_id: str, role: str, content: object, status: str) -> Event:
    """Return a ``realtime.item``, a message."""
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": status,
        "role": role,
        "content": content,
    }


class Answer:
    """Tell the words of a response, each at its moment.

    Args:
        conversation: gets the answer, unless that stays outside.
        ended: is called when all is told, the end included.
    """

    def __init__(
        self,
        outline: Outline,
        conversation: Conversation,
        clock: IReactorTime,
        tell: Tell,
        ended: Callable[[], object],
    ) -> None:
        self.id = outline.id
        self._outline = outline
        self._conversation = conversation
        self._tell = tell
        self._ended = ended
        self._said: list[str] = []
        self._message: Message | None = None
        self._previous_item_id: str | None = None
        end = partial(self._finish, "incomplete" if outline.cut else "completed")
        self._pace = Pace(clock, self._steps(), _take_step, end)

    def start(self, first_byte: float) -> None:
        """Begin: the response at once, all else after some seconds."""
        self._tell("response.created", response=self._response("in_progress"))
        self._pace.start(first_byte)

    def pause(self) -> None:
        """Hold the words back."""
        self._pace.pause()

    def resume(self) -> None:
        """Go on with them."""
        self._pace.resume()

    def stop(self) -> None:
        """Tell nothing any more."""
        self._pace.stop()

    def cancel(self) -> None:
        """Stop, and tell the end."""
        self._pace.stop()
        self._finish("cancelled")

    def _steps(self) -> Iterator[tuple[Callable[[], None], float]]:
        """Yield what is to be done; the wait stands between the words, and none after the last."""
        words, interval = self._outline.words, self._outline.interval
        yield self._open, interval
        for place, word in enumerate(words, 1):
            yield partial(self._say, word), interval if place < len(words) else 0.0

    def _open(self) -> None:
        self._message = Message(self._outline.item_id, "assistant", "")
        if self._outline.conversation_id is not None:
            self._previous_item_id = self._conversation.insert(self._message)
        self._tell_item("response.output_item.added", "conversation.item.added", "in_progress")
        self._tell_part("response.content_part.added", part={"type": "text", "text": ""})

    def _say(self, word: str) -> None:
        self._said.append(word)
        self._tell_part("response.output_text.delta", delta=word)

    def _finish(self, status: str) -> None:
        if self._message is not None:
            text = self._message.text = "".join(self._said)
            self._tell_part("response.output_text.done", text=text)
            self._tell_part("response.content_part.done", part={"type": "text", "text": text})
            self._tell_item("response.output_item.done", "conversation.item.done", status)
        self._ended()
        self._tell("response.done", response=self._response(status))

    def _tell_part(self, kind: str, **fields: object) -> None:
        outline = self._outline
        self._tell(kind, response_id=outline.id, item_id=outline.item_id, **_PLACE, **fields)

    def _tell_item(self, of_response: str, of_conversation: str, status: str) -> None:
        item = self._item(status)
        self._tell(of_response, response_id=self.id, output_index=0, item=item)
        if self._outline.conversation_id is not None:
            self._tell(of_conversation, previous_item_id=self._previous_item_id, item=item)

    def _item(self, status: str) -> Event:
        text = "".join(self._said)
        content = [] if status == "in_progress" else [{"type": "output_text", "text": text}]
        item_status = "incomplete" if status == "cancelled" else status
        return item_object(self._outline.item_id, "assistant", content, item_status)

    def _response(self, status: str) -> Event:
        outline = self._outline
        done = status != "in_progress"
        reason = _REASONS.get(status)
        return {
            "object": "realtime.response",
            "id": outline.id,
            "status": status,
            "status_details": None if reason is None else {"type": status, "reason": reason},
            "output": [self._item(status)] if done and self._message is not None else [],
            "conversation_id": outline.conversation_id,
            "output_modalities": ["text"],
            "max_output_tokens": outline.token_limit or "inf",
            "usage": self._usage() if done else None,
            "metadata": outline.metadata,
        }

    def _usage(self) -> Event:
        taken, given = self._outline.input_tokens, len(self._said)
        return {
            "total_tokens": taken + given,
            "input_tokens": taken,
            "output_tokens": given,
            "input_token_details": {"text_tokens": taken, "audio_tokens": 0, "cached_tokens": 0},
            "output_token_details": {"text_tokens": given, "audio_tokens": 0},
        }


def _take_step(step: Callable[[], None]) -> None:
    step()
