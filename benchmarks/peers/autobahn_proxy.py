"""A plain autobahn WebSocket proxy: a server's protocol and a client's, message by message."""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import SplitResult, urlsplit

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet import defer, endpoints, task
from twisted.internet.interfaces import IReactorCore

NOT_PASSED_ON = frozenset({"connection", "host", "origin", "upgrade", "user-agent"})

# No size limits (zero); compression is off unless a factory is told otherwise.
OPTIONS: dict[str, Any] = {
    "maxFramePayloadSize": 0,
    "maxMessagePayloadSize": 0,
    "echoCloseCodeReason": True,
}


class ToUpstream(WebSocketClientProtocol):
    """The upstream's end."""

    client: FromClient | None = None

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.client is not None:
            self.client.sendMessage(payload, isBinary)  # type: ignore[no-untyped-call]

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        client, self.client = self.client, None
        if client is not None:
            close(client, code, reason)


class FromClient(WebSocketServerProtocol):
    """The client's end; its opening handshake is answered when the upstream's is done."""

    upstream: ToUpstream | None = None

    def onConnect(  # type: ignore[override]
        self, request: ConnectionRequest
    ) -> defer.Deferred[str | None]:
        return defer.Deferred.fromCoroutine(self._connect(request))

    async def _connect(self, request: ConnectionRequest) -> str | None:
        target = self.factory.target
        factory = WebSocketClientFactory(  # type: ignore[no-untyped-call]
            f"ws://{target.netloc}{request.path}",
            origin=request.origin,
            protocols=request.protocols,
            useragent=request.headers.get("user-agent"),
            headers={
                name: value
                for name, value in request.headers.items()
                if name not in NOT_PASSED_ON and not name.startswith("sec-websocket-")
            },
            reactor=self.factory.reactor,
        )
        prepare(factory, ToUpstream)
        endpoint = endpoints.TCP4ClientEndpoint(self.factory.reactor, target.hostname, target.port)
        upstream = await endpoint.connect(factory)
        assert isinstance(upstream, ToUpstream)
        try:
            await upstream.is_open
        except Exception as reason:
            raise ConnectionDeny(502) from reason  # type: ignore[no-untyped-call]
        self.upstream, upstream.client = upstream, self
        # Neither end is read faster than the other writes.
        self.registerProducer(upstream.transport, True)
        upstream.registerProducer(self.transport, True)
        chosen: str | None = upstream.websocket_protocol_in_use
        return chosen

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.upstream is not None:
            self.upstream.sendMessage(payload, isBinary)  # type: ignore[no-untyped-call]

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            close(upstream, code, reason)


def close(other: FromClient | ToUpstream, code: int | None, reason: str | None) -> None:
    """Send a Close that says why the first end closed, where autobahn lets us say it."""
    other.unregisterProducer()
    if code is not None and (code == 1000 or 3000 <= code <= 4999):
        other.sendClose(code, reason)
    else:
        other.sendClose()


def prepare(factory: Any, protocol: type[FromClient | ToUpstream]) -> None:
    """Set what both factories have in common."""
    factory.noisy = False
    factory.protocol = protocol
    factory.setProtocolOptions(**OPTIONS)


class Factory(WebSocketServerFactory):
    """Build a protocol for each client."""

    def __init__(self, reactor: IReactorCore, target: SplitResult) -> None:
        super().__init__(reactor=reactor)  # type: ignore[no-untyped-call]
        self.target = target


async def serve(reactor: IReactorCore, target: str, port: int) -> None:
    """Serve for ever."""
    factory = Factory(reactor, urlsplit(target))
    prepare(factory, FromClient)
    listening = endpoints.TCP4ServerEndpoint(reactor, port, backlog=1024, interface="127.0.0.1")
    await listening.listen(factory)
    await defer.Deferred()


def main() -> None:
    """Run the proxy."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers.autobahn_proxy")
    parser.add_argument("--target", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    target, port = arguments.target, arguments.port
    task.react(lambda reactor: defer.Deferred.fromCoroutine(serve(reactor, target, port)))


if __name__ == "__main__":
    main()
