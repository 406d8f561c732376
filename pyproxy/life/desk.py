"""What people ask of the cache: figures, a look at entries, a purge.

Must not know where responses are kept, nor who asks.  What is answered can be written as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred

Document = dict[str, Any]
"""An object of JSON."""

USUAL_ENTRIES = 100
MOST_ENTRIES = 1000
"""Entries that are shown at once: unless somebody asks for more, and at most."""

MOST_OCTETS = 256 * 1024
"""Octets of JSON that the entries of one answer may take; the others are left out."""

ASK_LIMIT = 5.0
"""Seconds in which figures or entries have to be there."""

PURGE_LIMIT = 60.0
"""Seconds in which a purge has to be done: a store looks at each of its entries."""


@attrs.frozen
class CacheQuestion:
    """Which entries are meant: by exactly one of these.

    Attributes:
        url: the URL that clients ask for, with its query; all its variants.
        prefix: what such URLs begin with.
        tag: one of their tags, from ``Cache-Tag``.
    """

    url: bytes | None = None
    prefix: bytes | None = None
    tag: bytes | None = None

    def __attrs_post_init__(self) -> None:
        if sum(bool(one) for one in (self.url, self.prefix, self.tag)) != 1:
            raise ValueError("it has to be exactly one of url, prefix and tag, and not empty")


class CacheDesk(Protocol):
    """Who answers for the cache of one process."""

    def counts(self) -> Document:
        """Return what is known in numbers.

        Returns: ``store`` with ``store`` (its kind), ``entries``, ``bytes``, ``bound``,
            ``evicted`` and ``shared`` (other processes have the same one); ``routes`` by name, each
            with ``requests``, ``hits``, ``stale``, ``validated``, ``collapsed``, ``misses``,
            ``stored``, ``passed`` and ``hit_rate``.
        """

    def entries(self, what: CacheQuestion, limit: int) -> Deferred[list[Document]]:
        """Return some of the entries that are meant.

        Returns: each with ``url``, ``status``, ``age``, ``fresh_for`` (seconds, negative once it is
            stale), ``bytes``, ``fields`` and ``varies`` (pairs of name and value).
        """

    def purge(self, what: CacheQuestion) -> Deferred[int]:
        """Remove the entries that are meant.  Returns: how many there were."""


@attrs.frozen
class Counting:
    """Ask for figures."""

    limit: float = ASK_LIMIT


@attrs.frozen
class Looking:
    """Ask for entries.  Args: most, how many."""

    what: CacheQuestion
    most: int = USUAL_ENTRIES
    limit: float = ASK_LIMIT


@attrs.frozen
class Purging:
    """Ask for a purge."""

    what: CacheQuestion
    limit: float = PURGE_LIMIT


Asked = Counting | Looking | Purging
"""What can be asked; ``limit`` is how many seconds the answer may take."""


class NobodyAnswers(Exception):
    """No process has answered in time; the text says which were asked."""


def ask(desk: CacheDesk | None, asked: Asked) -> Deferred[Document | None]:
    """Ask the cache of one process.

    Returns: its figures; or ``entries``, whether there may be ``more``, and whether the store is
        ``shared``; or how many were ``purged``; None where there is no cache.
    """
    return Deferred.fromCoroutine(_ask(desk, asked))


async def _ask(desk: CacheDesk | None, asked: Asked) -> Document | None:
    if desk is None:
        return None
    if isinstance(asked, Counting):
        return desk.counts()
    if isinstance(asked, Purging):
        return {"purged": await desk.purge(asked.what)}
    entries = await desk.entries(asked.what, asked.most)
    kept = within(entries, asked.most)
    more = len(entries) > len(kept) or len(entries) >= asked.most
    return {"entries": kept, "more": more, "shared": desk.counts()["store"]["shared"]}


def within(entries: Sequence[Document], most: int) -> list[Document]:
    """Return the first of some entries: so many at most, and MOST_OCTETS together."""
    kept: list[Document] = []
    octets = 0
    for entry in entries[:most]:
        octets += len(json.dumps(entry))
        if octets > MOST_OCTETS:
            break
        kept.append(entry)
    return kept
