"""WebSockets by autobahn: frames, pings, compression, closing, and the pauses of a full socket.

This is the demo's only module that imports autobahn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import txaio
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from autobahn.websocket.types import ConnectionRequest
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pyproxy.demo.dialogue import Dialogue

CLOSE_SECONDS = 1.0
"""Seconds that a client may take to answer a Close before its connection is dropped."""

GOING_AWAY = 1001


@implementer(IPushProducer)
class WebSocket(WebSocketServerProtocol):
    """One WebSocket and its dialogue.

    It is its transport's producer: while the client does not read, neither is the client read.

    Args:
        dialogue: what is said on it.
        subprotocol: the one chosen, None for none.
        most: octets that a message may have.
    """

    # Of a client that leaves without a word, or with a wrong one, nobody needs to be told.
    log = txaio.make_logger(level="error")  # type: ignore[attr-defined]

    factory: WebSocketFactory
    transport: Any

    def __init__(self, dialogue: Dialogue, subprotocol: str | None, most: int) -> None:
        super().__init__()
        self._dialogue = dialogue
        self._subprotocol = subprotocol
        self._close_limit: IDelayedCall | None = None
        self.maxMessagePayloadSize = most

    # -- called by autobahn ---------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Take the transport over."""
        super().connectionMade()
        self.transport.registerProducer(self, True)

    def onConnect(self, request: ConnectionRequest) -> str | None:
        """Accept the handshake, which was checked before, with the subprotocol chosen."""
        return self._subprotocol

    def onOpen(self) -> None:
        """Begin the dialogue."""
        self.factory.are_open.add(self)
        self._dialogue.begin(self._say)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Let the dialogue hear a message, unless the WebSocket is closing."""
        if self.state == self.STATE_OPEN:
            self._dialogue.hear(payload, isBinary)

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Send a Close, the last frame, and limit the wait for the client's own."""
        self._dialogue.end()
        super().sendCloseFrame(code, reasonUtf8, isReply)
        if not isReply and self._close_limit is None:
            self._close_limit = self.factory.clock.callLater(CLOSE_SECONDS, self._give_up)

    def dropConnection(self, abort: bool = False) -> None:
        """End the connection, after a whole closing handshake without a reset."""
        super().dropConnection(abort and not self.wasClean)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the dialogue: the client has gone."""
        self._dialogue.end()
        self.factory.are_open.discard(self)
        if self._close_limit is not None:
            self._close_limit.cancel()
            self._close_limit = None
        super().connectionLost(reason)

    # -- called by the transport ----------------------------------------------------------------

    def pauseProducing(self) -> None:
        """Stop reading, and saying things: the client's socket is full."""
        self.transport.pauseProducing()
        self._dialogue.pause()

    def resumeProducing(self) -> None:
        """Go on."""
        self.transport.resumeProducing()
        self._dialogue.resume()

    def stopProducing(self) -> None:
        """End the dialogue: the client has gone."""
        self._dialogue.end()

    # -- ours -----------------------------------------------------------------------------------

    def go_away(self) -> None:
        """Close, since the site goes away."""
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(GOING_AWAY, b"the demo ends")

    def _say(self, content: bytes, binary: bool) -> None:
        if self.state == self.STATE_OPEN:
            # autobahn measures what it has compressed, which may be a little more than came.
            large = len(content) > self.maxMessagePayloadSize // 2
            self.sendMessage(  # type: ignore[no-untyped-call]
                content, isBinary=binary, doNotCompress=large
            )

    def _give_up(self) -> None:
        self._close_limit = None
        self.transport.abortConnection()


class WebSocketFactory(WebSocketServerFactory):
    """What the WebSockets of a site have in common.

    Attributes:
        clock: the site's.
        are_open: those whose handshake is done and whose connection is not lost.
    """

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(server="", reactor=clock)  # type: ignore[no-untyped-call]
        self.clock = clock
        self.are_open: set[WebSocket] = set()
        # autobahn's own timers run on the global reactor: there are none.
        self.setProtocolOptions(  # type: ignore[no-untyped-call]
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            failByDrop=False,
            echoCloseCodeReason=True,
            perMessageCompressionAccept=_accept_deflate,
        )

    def build(self, dialogue: Dialogue, subprotocol: str | None, most: int) -> WebSocket:
        """Return a WebSocket that has no connection yet."""
        websocket = WebSocket(dialogue, subprotocol, most)
        websocket.factory = self
        return websocket

    def close(self) -> None:
        """Close those which are open."""
        for websocket in tuple(self.are_open):
            websocket.go_away()


def _accept_deflate(offers: Sequence[object]) -> PerMessageDeflateOfferAccept | None:
    """Accept the first offer of permessage-deflate, as it is.

    Spec: RFC 7692 5.1.
    """
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer)  # type: ignore[no-untyped-call]
    return None
