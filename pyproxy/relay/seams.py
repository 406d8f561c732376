"""What the parts of an open WebSocket ask of each other: ends of their pair, and it of them."""

from __future__ import annotations

from typing import Protocol

from pyproxy.relay.transports import StreamTransport


class OctetSink(Protocol):
    """What takes the octets that come from an end; ``direction.Direction`` is one."""

    def feed(self, octets: bytes) -> None:
        """Take octets that a transport has read."""


class WebSocketPair(Protocol):
    """What an end tells of its connection; ``websocket.Pair`` is one."""

    def read_lost(self, end: WebSocketEnd) -> None:
        """Take note that an end sends nothing more."""

    def lost(self, end: WebSocketEnd) -> None:
        """Take note that an end is gone."""

    def shut_down(self) -> None:
        """End because the proxy ends."""

    def abandon(self) -> None:
        """Be over, and wait no longer for the ends."""


class WebSocketEnd(Protocol):
    """One end of a WebSocket, as its pair sees it; ``ends.RelayedEnd`` is one."""

    transport: StreamTransport

    def join(self, pair: WebSocketPair, direction: OctetSink) -> None:
        """Take part in a pair.  Args: what takes the octets that come from this end."""

    def send_close(self, code: int, reason: str) -> None:
        """Send a Close frame."""

    def send_ping(self, payload: bytes) -> None:
        """Send a Ping frame."""
