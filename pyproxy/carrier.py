"""What can be asked of those who carry an open exchange: how it flows, and to end it."""

from __future__ import annotations

from typing import Protocol

import attrs


@attrs.frozen
class Flow:
    """How an exchange flows at this moment.

    Attributes, in octets:
        received, sent: content from and to the client so far.
        to_client, to_upstream: what has still to be taken by either side.
        messages: of a WebSocket, both ways.
    """

    received: int = 0
    sent: int = 0
    to_client: int = 0
    to_upstream: int = 0
    messages: int = 0


class Carrier(Protocol):
    """Who carries an exchange: its request, or its WebSocket."""

    def flow(self) -> Flow:
        """Return how it flows."""

    def stop(self) -> None:
        """End it because the operator wants that: the client sees a break."""
