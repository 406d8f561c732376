"""Watches what a model answers: events, when it began to speak, what it took, how it ended.

Content in a coding (gzip, br) is not watched: it would have to be decoded, and a guess is no count.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from pyproxy.account import Account
from pyproxy.relay.watching import Watcher
from pyproxy.semantics.fields import Octets, essence, tokens, values
from pyproxy.semantics.items import ItemReader, LineReader
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.sse import EventReader
from pyproxy.semantics.usage import Outcome, UsageReader

MAX_JSON_BYTES = 1024 * 1024
"""Octets of a JSON answer that are kept to be read at its end; of a longer one nothing is said."""

_EVENTS = b"text/event-stream"
_LINES = frozenset({b"application/x-ndjson", b"application/ndjson", b"application/jsonl"})
_NOT_WHOLE = frozenset({204, 205, 206})
_SPACE = b" \t\r\n"


def watch(account: Account, head: ResponseHead) -> Watcher | None:
    """Return what watches a response, None for one that nobody here can read."""
    if not 200 <= head.status < 300 or head.status in _NOT_WHOLE:
        return None
    codings = tokens(values(head.fields, b"content-encoding"))
    if any(coding != b"identity" for coding in codings):
        return None
    types = values(head.fields, b"content-type")
    if len(types) != 1:
        return None
    media_type = essence(types[0])
    if media_type == _EVENTS:
        return EventWatch(account)
    if media_type in _LINES:
        return ItemWatch(account, LineReader())
    if media_type == b"application/json" or media_type.endswith(b"+json"):
        return JsonWatch(account)
    return None


def take_note(account: Account, reader: UsageReader) -> None:
    """Say in an account what an answer has said of itself."""
    account.dialect, account.model = reader.dialect, reader.model
    if reader.dialect is not None:
        account.usage = reader.usage


def outcome_of(reader: UsageReader, whole: bool, left: bool) -> str:
    """Return what an answer was in the end; empty where the client did not wait for that.

    Args: as ``Watcher.close`` has them.
    """
    outcome = reader.outcome
    if whole or reader.finished or outcome is Outcome.FAILED:
        return outcome.value
    return "" if left else Outcome.TRUNCATED.value


@attrs.define(eq=False)
class EventWatch:
    """Watches an event stream; one in an unknown dialect has its events counted, and no more."""

    _account: Account
    _events: EventReader = attrs.Factory(EventReader)
    _reader: UsageReader = attrs.Factory(UsageReader)

    def feed(self, octets: Octets, now: float) -> bool:
        """Look at octets of the stream."""
        account, reader, events = self._account, self._reader, self._events
        for name, data, _ in events.feed(octets):
            if reader.event(name, data):
                account.output_events += 1
                account.last_token = now
                if account.first_token is None:
                    account.first_token = now
        account.events, account.comments = reader.events, events.comments
        if account.model is None:
            account.model, account.dialect = reader.model, reader.dialect
        return True

    def close(self, whole: bool, left: bool) -> None:
        """Say what the stream was."""
        take_note(self._account, self._reader)
        self._account.outcome = outcome_of(self._reader, whole, left)


class Items(Protocol):
    """What parts items; see ``semantics.items``."""

    def feed(self, octets: Octets) -> list[bytes | None]:
        """Take octets; return the items that have ended with them."""


@attrs.define(eq=False)
class ItemWatch:
    """Watches JSON in a row: lines as Ollama's, an array as Gemini's."""

    _account: Account
    _items: Items
    _reader: UsageReader = attrs.Factory(UsageReader)

    def feed(self, octets: Octets, now: float) -> bool:
        """Look at octets; nothing is said of what is in no known dialect."""
        account, reader = self._account, self._reader
        for item in self._items.feed(octets):
            self._read(item, now)
        if account.model is None:
            account.model, account.dialect = reader.model, reader.dialect
        return reader.watching

    def _read(self, item: bytes | None, now: float) -> None:
        account = self._account
        said = self._reader.item(item)
        account.events = self._reader.events
        if said:
            account.output_events += 1
            account.last_token = now
            if account.first_token is None:
                account.first_token = now

    def close(self, whole: bool, left: bool) -> None:
        """Say what the answer was."""
        account, reader = self._account, self._reader
        if whole and isinstance(self._items, LineReader):
            for item in self._items.close():
                self._read(item, account.last or account.clock())
        take_note(account, reader)
        if reader.dialect is not None or reader.failed:
            account.outcome = outcome_of(reader, whole, left)
        else:
            account.events = 0


@attrs.define(eq=False)
class JsonWatch:
    """Watches a JSON answer that may be read at its end only; an array goes item by item."""

    _account: Account
    _kept: list[bytes] = attrs.Factory(list)
    _size: int = 0
    _array: ItemWatch | None = None

    def feed(self, octets: Octets, now: float) -> bool:
        """Keep octets of the answer, up to the bound."""
        if self._array is not None:
            return self._array.feed(octets, now)
        if not self._size:
            # A text may begin with white space.
            octets = bytes(octets).lstrip(_SPACE)
            if octets.startswith(b"["):
                self._array = ItemWatch(self._account, ItemReader())
                return self._array.feed(octets, now)
        self._size += len(octets)
        if self._size > MAX_JSON_BYTES:
            self._kept.clear()
            return False
        self._kept.append(bytes(octets))
        return True

    def close(self, whole: bool, left: bool) -> None:
        """Read what was kept; a part of it is no JSON."""
        if self._array is not None:
            self._array.close(whole, left)
            return
        kept, self._kept = self._kept, []
        if not whole or not kept:
            return
        reader = UsageReader()
        reader.whole(b"".join(kept))
        if reader.dialect is not None or reader.failed:
            take_note(self._account, reader)
            self._account.outcome = reader.outcome.value
