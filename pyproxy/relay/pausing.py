"""Counted pauses: a flow runs again only when the last of those who hold it lets go."""

from __future__ import annotations

from enum import Flag
from typing import Protocol

import attrs


class Hold(Flag):
    """Who may hold a flow; each holds it at most once."""

    NONE = 0
    FULL = 1  # the other side's transport has enough to write
    UNCLAIMED = 2  # nobody takes the octets yet
    PIPELINE = 4  # enough octets of later requests are waiting


RELAYED = Hold.FULL | Hold.UNCLAIMED
"""Who holds the content of one exchange; made once, since to make it takes 1 us."""


class Pausable(Protocol):
    """What a valve sits on: a transport, seen as a push producer."""

    def pauseProducing(self) -> object:
        """Stop reading."""

    def resumeProducing(self) -> object:
        """Read again."""


@attrs.define(eq=False)
class Valve:
    """A flow that several holders can pause, each for its own reason.

    Attributes:
        held: somebody holds the flow.
    """

    _flow: Pausable
    held: bool = False
    _holders: Hold = Hold.NONE

    def hold(self, holder: Hold) -> None:
        """Pause the flow on behalf of a holder."""
        if not self.held:
            self.held = True
            self._flow.pauseProducing()
        self._holders |= holder

    def release(self, holder: Hold) -> None:
        """Let go; the flow resumes when no other holder is left."""
        if not self.held:
            return
        self._holders &= ~holder
        if self._holders is Hold.NONE:
            self.held = False
            self._flow.resumeProducing()
