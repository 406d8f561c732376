"""Who waits for the answer to one question: who asked it, and others who ask the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
from twisted.logger import Logger

from pyproxy.cache.lookup import Lookup
from pyproxy.errors import InternalError

_log = Logger()

Serve = Callable[[Lookup], None]
"""What is done for one who has waited."""


@attrs.define(eq=False)
class Waiters:
    """Who waits, in the order in which they came.  Who leaves is taken out.

    Attributes:
        leader: who asked first; None when nobody does, or not any more.
        others: who came later.
    """

    leader: Lookup | None
    others: deque[Lookup] = attrs.Factory(deque)

    def __bool__(self) -> bool:
        return self.leader is not None or bool(self.others)

    def leave(self, lookup: Lookup) -> None:
        """Have one less."""
        if lookup is self.leader:
            self.leader = None
        elif lookup in self.others:
            self.others.remove(lookup)

    def lead(self) -> Lookup | None:
        """Take out who asked first."""
        leader, self.leader = self.leader, None
        return leader

    def each(self, serve: Serve) -> None:
        """Do something for each, who asked first before the others; afterwards nobody waits.

        They are taken out one by one: as long as somebody waits, who leaves at once ends nothing.
        """
        while self:
            attempt(self.lead() or self.others.popleft(), serve)


def attempt(lookup: Lookup, serve: Serve) -> None:
    """Do something for one client; what is wrong with it is not for others to suffer."""
    try:
        serve(lookup)
    except Exception:  # noqa: BLE001 - others wait too
        _log.failure("a client could not be answered")
        if lookup.waits is not None:
            lookup.fail(InternalError("the cache could not handle this request"))
