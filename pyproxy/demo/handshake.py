"""The opening handshake of a WebSocket: its checks, and the hand-over of its connection.

Whatever is wrong with a handshake is answered here, as any other refusal; autobahn sees none but
good ones.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

import attrs
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.web.server import NOT_DONE_YET, Request

from pyproxy.demo.dialogue import Dialogue, Echo
from pyproxy.demo.places import Refusal
from pyproxy.demo.request import DemoRequest

if TYPE_CHECKING:
    from pyproxy.demo.websocket import WebSocketFactory

MESSAGE_LIMIT = 64 * 1024 * 1024
"""Octets that a message to the echo may have, all its fragments together and inflated."""

_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 octets in base64
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 5.6.2


@attrs.frozen
class OpeningHandshake:
    """A handshake that can be accepted.

    Attributes:
        subprotocols: those offered, in the client's order.
        extensions: those offered, as one field value; empty for none.
    """

    key: bytes
    subprotocols: tuple[str, ...]
    extensions: bytes

    @classmethod
    def of(cls, request: DemoRequest) -> Self:
        """Return the handshake that a request is.

        Raises: Refusal if it is none, or not a good one.
        Spec: RFC 6455 4.2.1.
        """
        if not (
            b"websocket" in _lowered(request, b"Upgrade")
            and b"upgrade" in _lowered(request, b"Connection")
            and request.clientproto == b"HTTP/1.1"
        ):
            raise _upgrade_required(request, "Only WebSockets are spoken here")
        # Frames may follow at once: after a refusal they must not be read as a request.
        request.channel.persistent = 0
        request.responseHeaders.addRawHeader(b"Connection", b"close")
        if _values(request, b"Sec-WebSocket-Version") != [b"13"]:
            request.responseHeaders.setRawHeaders(b"Sec-WebSocket-Version", [b"13"])
            raise _upgrade_required(request, "Only version 13 of the WebSocket protocol is spoken")
        keys = _values(request, b"Sec-WebSocket-Key")
        if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
            raise Refusal(400, "Sec-WebSocket-Key must be there once, with 16 bytes in base64.")
        if request.content_length:
            raise Refusal(400, "An opening handshake has no content.")
        subprotocols = _listed(request, b"Sec-WebSocket-Protocol")
        if not all(map(_TOKEN.fullmatch, subprotocols)):
            raise Refusal(400, "Sec-WebSocket-Protocol must be a list of tokens.")
        return cls(
            keys[0],
            tuple(name.decode("ascii") for name in subprotocols),
            b", ".join(_listed(request, b"Sec-WebSocket-Extensions")),
        )

    def head(self, subprotocol: str | None) -> bytes:
        """Return the handshake as a request of its own, offering one subprotocol or none."""
        lines = [
            b"GET / HTTP/1.1",
            b"Host: demo",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: " + self.key,
        ]
        if self.extensions:
            lines.append(b"Sec-WebSocket-Extensions: " + self.extensions)
        if subprotocol is not None:
            lines.append(b"Sec-WebSocket-Protocol: " + subprotocol.encode("ascii"))
        return b"\r\n".join([*lines, b"", b""])


class WebSockets:
    """The WebSockets of a site.

    Args: clock: what limits their ends.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._factory: WebSocketFactory | None = None

    def accept(
        self,
        request: DemoRequest,
        handshake: OpeningHandshake,
        dialogue: Dialogue,
        *,
        subprotocol: str | None,
        most: int,
    ) -> int:
        """Answer 101 and hand the connection over.

        autobahn's own ``WebSocketResource`` would leave the octets behind the handshake to the
        HTTP channel, and the channel in charge of the transport's pauses.

        Args:
            subprotocol: the one chosen among those offered, None for none.
            most: octets that a message may have.
        """
        if self._factory is None:
            # Imported with the first WebSocket: it takes 80 ms and 5 MiB.
            from pyproxy.demo.websocket import WebSocketFactory

            self._factory = WebSocketFactory(self._clock)
        websocket = self._factory.build(dialogue, subprotocol, most)
        channel = request.channel
        transport = channel.transport
        IConsumer(transport).unregisterProducer()  # that was the channel
        channel.dataReceived = websocket.dataReceived  # type: ignore[method-assign]
        channel.rawDataReceived = websocket.dataReceived  # type: ignore[method-assign]
        channel.connectionLost = websocket.connectionLost  # type: ignore[method-assign]
        websocket.makeConnection(transport)  # type: ignore[no-untyped-call]
        websocket.dataReceived(handshake.head(subprotocol))
        return NOT_DONE_YET

    def close(self) -> None:
        """Close those which are open, since the site goes away."""
        if self._factory is not None:
            self._factory.close()


def echo_messages(request: DemoRequest, websockets: WebSockets) -> int:
    """Answer ``/ws/echo``: every message comes back; the first subprotocol offered is chosen."""
    handshake = OpeningHandshake.of(request)
    subprotocol = next(iter(handshake.subprotocols), None)
    return websockets.accept(
        request, handshake, Echo(), subprotocol=subprotocol, most=MESSAGE_LIMIT
    )


def _upgrade_required(request: Request, sentence: str) -> Refusal:
    """Return a refusal that says what to upgrade to.

    Spec: RFC 9110 15.5.22 and 7.8; RFC 6455 4.4.
    """
    request.responseHeaders.setRawHeaders(b"Upgrade", [b"websocket"])
    request.responseHeaders.addRawHeader(b"Connection", b"Upgrade")
    return Refusal(426, f"{sentence}; GET / has lines to try it.", code="upgrade_required")


def _values(request: Request, name: bytes) -> list[bytes]:
    return [value.strip() for value in request.requestHeaders.getRawHeaders(name, [])]


def _listed(request: Request, name: bytes) -> list[bytes]:
    """Return the members of a field that is a list, empty ones left out.

    Spec: RFC 9110 5.6.1.
    """
    members = b",".join(_values(request, name)).split(b",")
    return [member.strip() for member in members if member.strip()]


def _lowered(request: Request, name: bytes) -> list[bytes]:
    return [member.lower() for member in _listed(request, name)]
