"""What the cache asks of a store, and a store of those who fill it and read from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred

from pyproxy.semantics.fields import Octets
from pyproxy.semantics.stored import StoredResponse

BLOCK_BYTES = 64 * 1024
"""Octets of content that a store gives at once, at most."""


class ContentLost(Exception):
    """A store has no more of a content that it has begun to give."""


class Content(Protocol):
    """Octets of a response, kept or still being fetched; several may read them at once.

    Attributes:
        count: how many octets are there.
    """

    count: int

    def read(self, start: int) -> bytes | Deferred[bytes]:
        """Return up to BLOCK_BYTES octets from a place on; none from ``count`` on.

        Raises: ContentLost, or a Deferred fails with it.
        """

    def hold(self) -> None:
        """Be kept, whatever the store does meanwhile: somebody reads."""

    def release(self) -> None:
        """Be kept by one reader less."""


@attrs.define(eq=False)
class Entry:
    """A stored response.

    Attributes:
        key: what it is found by, together with others that ``Vary`` tells apart.
        live: the store has it still; once it has not, nobody is served from it anew.
        visited: it was asked for since the eviction last came by.
        ready: what the cache remembers of how it was served, the cache's own.
    """

    key: bytes
    head: StoredResponse
    content: Content
    live: bool = True
    visited: bool = False
    ready: object | None = None


class Filling(Content, Protocol):
    """A content that is being written, and read meanwhile.

    It ends by the first ``keep`` or ``drop``; what is called after that does nothing.
    """

    def write(self, octets: Octets) -> bool:
        """Take octets, copied or written before this returns.

        Returns: False when these and any more are not taken: a bound is reached, or the store has
            failed.  What was taken can be read until the end.
        """

    def keep(self, head: StoredResponse) -> None:
        """Make an entry of it, in the place of those with the same key and the same ``varies``.

        Who reads may go on.  A store that fails here has said so in the log and stored nothing.
        """

    def drop(self) -> None:
        """Store nothing.  Who holds the content may go on to read it."""


Chosen = Callable[[bytes, StoredResponse], bool]
"""Chooses entries by their key and their head."""

Found = Callable[[Sequence[Entry]], None]
"""Takes the entries of a key; none when there are none, or the store cannot tell."""


class Store(Protocol):
    """Where responses are kept.

    Attributes:
        hot: entries at hand that are the only ones of their key, for those who ask often; may be
            empty.  Who serves one sets ``visited``.
    """

    @property
    def hot(self) -> Mapping[bytes, Entry]:
        """Entries at hand."""

    def resize(self, memory: int, entry: int) -> None:
        """Have other bounds from now on: octets of memory, and of the content of one entry."""

    def find(self, key: bytes, found: Found) -> None:
        """Look a key up; ``found`` is called once, perhaps before this returns, and must not raise.

        A store that is away or too slow tells of no entries, within 50 ms.
        """

    def fill(self, key: bytes, head: StoredResponse, length: int | None) -> Filling | None:
        """Begin to write a content.  Args: its length, None when nobody knows yet.

        Returns: None when there is no room for it, or the store is away.
        """

    def refresh(self, entry: Entry, head: StoredResponse) -> None:
        """Give an entry another head: it was validated."""

    def remove(self, entry: Entry) -> None:
        """Have one entry no more."""

    def invalidate(self, key: bytes) -> None:
        """Have no entry of a key any more."""

    def purge(self, chosen: Chosen) -> Deferred[int]:
        """Remove all entries that are chosen by key and head; a few at a time, so nothing waits.

        Returns: how many there were.
        """

    def entries(self, chosen: Chosen, limit: int) -> Deferred[Sequence[Entry]]:
        """Return some of the entries that are chosen; a few are looked at at a time."""

    def figures(self) -> Mapping[str, int | str]:
        """Return what is known of sizes and counts: ``entries``, ``bytes``, ``evicted``, others."""

    def close(self) -> None:
        """Let go of everything that is open; what was being written is dropped."""
