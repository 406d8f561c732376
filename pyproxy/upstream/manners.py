"""How an origin behaves: what it was seen to do, and what it may be trusted with.

One for each origin, for as long as its connections are kept.
"""

from __future__ import annotations

from collections.abc import Set

import attrs
from twisted.logger import Logger

from pyproxy.semantics.oddities import Oddity
from pyproxy.semantics.urls import Origin

TRUSTED_AFTER = 5
"""Connections that rested in silence before an origin is trusted to send no undue content.

After it was caught while it was trusted it takes twice as many, then twice as many again.
"""


@attrs.define(eq=False)
class Manners:
    """What is known of how an origin behaves.

    Attributes:
        known_silent: nothing follows a response that declares content which is not due.
        caught: it once did.
    """

    _origin: Origin
    known_silent: bool = False
    caught: bool = False
    _needed: int = TRUSTED_AFTER
    _rested: int = 0
    _said: set[Oddity] = attrs.Factory(set)
    _log: Logger = Logger()

    def note(self, oddities: Set[Oddity]) -> None:
        """Say in the log what was odd, once for each kind."""
        for oddity in sorted(oddities - self._said, key=lambda one: one.name):
            self._said.add(oddity)
            self._log.warn(
                "upstream {scheme}://{authority} sent {what}; it was mended, and is not said again",
                scheme=self._origin.scheme,
                authority=self._origin.authority.decode("ascii"),
                what=oddity.value,
            )

    def rested(self) -> None:
        """Take note of a connection on which nothing followed."""
        self._rested += 1
        self.known_silent = self._rested >= self._needed

    def content_followed(self) -> None:
        """Take note of undue content, and say so: it may have been taken for a response."""
        if self.known_silent or not self.caught:
            self._log.warn(
                "upstream {scheme}://{authority} sent content behind a response that has none (to "
                "HEAD, or 304); its connections rest after such responses",
                scheme=self._origin.scheme,
                authority=self._origin.authority.decode("ascii"),
            )
        if self.known_silent:
            self._needed *= 2
        self._rested = 0
        self.known_silent = False
        self.caught = True
