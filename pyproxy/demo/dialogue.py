"""What is said on a WebSocket: the seam between an application and the frames, and an echo.

Nothing here knows frames, sockets or autobahn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

Say = Callable[[bytes, bool], None]
"""Send a message: its content, and whether it is binary.  After the end nothing is sent."""


class Dialogue(Protocol):
    """One end of a WebSocket, without the socket."""

    def begin(self, say: Say) -> None:
        """Take note that the WebSocket is open."""
        ...

    def hear(self, content: bytes, binary: bool) -> None:
        """Take a message; a text is valid UTF-8."""
        ...

    def pause(self) -> None:
        """Say nothing of one's own accord: the client's socket is full."""
        ...

    def resume(self) -> None:
        """Go on."""
        ...

    def end(self) -> None:
        """Stop for good; this may come more than once, and before the beginning."""
        ...


def not_begun(content: bytes, binary: bool) -> None:
    """Refuse to say anything: there is no WebSocket yet.  Raises: RuntimeError, always."""
    raise RuntimeError("the WebSocket is not open yet")


@attrs.define(eq=False)
class Echo:
    """Say whatever is heard."""

    _say: Say = attrs.field(default=not_begun, init=False)

    def begin(self, say: Say) -> None:
        """Take note that the WebSocket is open."""
        self._say = say

    def hear(self, content: bytes, binary: bool) -> None:
        """Send a message back, text as text and binary as binary."""
        self._say(content, binary)

    def pause(self) -> None:
        """Do nothing: an echo follows from a message, and none comes now."""

    def resume(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing: no echo is under way."""
