"""The messages of a realtime conversation: who said what, in their order, within a bound."""

from __future__ import annotations

import attrs

from pyproxy.demo.openai import RoleAndText
from pyproxy.demo.places import Refusal

KEPT_LIMIT = 1024 * 1024
"""Characters of all messages together; past it the oldest are forgotten, but not the last one."""

ROOT = "root"
"""What stands before the first message, where a client names a message to insert after."""

_MESSAGE_COST = 1024  # characters that each counts for besides its own; so 1023 are the most


@attrs.define(eq=False)
class Message:
    """A message: its id, unique in the conversation, its role and its text."""

    id: str
    role: str
    text: str

    @property
    def size(self) -> int:
        """The characters it counts for."""
        return len(self.id) + len(self.text) + _MESSAGE_COST


@attrs.define(eq=False)
class Conversation:
    """Messages in their order."""

    _messages: list[Message] = attrs.field(factory=list, init=False)

    @property
    def texts(self) -> list[RoleAndText]:
        """Who said what."""
        return [(message.role, message.text) for message in self._messages]

    def insert(self, message: Message, after: str | None = None) -> str | None:
        """Insert a message at the end, or after another one; return the id of that before it.

        Raises: Refusal if the other one is not here, or the message's id is.
        """
        ids = [kept.id for kept in self._messages]
        if message.id in ids:
            raise Refusal(400, f"There is an item {message.id!r} already.", param="item.id")
        if after is None:
            place = len(ids)
        elif after == ROOT:
            place = 0
        elif after in ids:
            place = ids.index(after) + 1
        else:
            raise Refusal(400, f"There is no item {after!r}.", param="previous_item_id")
        self._messages.insert(place, message)
        self._forget_oldest()
        return ids[place - 1] if place else None

    def _forget_oldest(self) -> None:
        excess = sum(message.size for message in self._messages) - KEPT_LIMIT
        while excess > 0 and len(self._messages) > 1:
            excess -= self._messages.pop(0).size
