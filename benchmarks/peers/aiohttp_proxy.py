"""A lean aiohttp reverse proxy: one pooled session, streams both ways, decodes nothing.

A WebSocket is a pair of aiohttp's, with two tasks that hand messages over: no limits, no
compression, no pings of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Literal

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

if TYPE_CHECKING:
    Socket = aiohttp.ClientWebSocketResponse[Literal[True]] | web.WebSocketResponse[Literal[True]]

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

HANDSHAKE = (
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
)


def end_to_end(fields: CIMultiDictProxy[str], *also_without: str) -> CIMultiDict[str]:
    """Return a copy without the fields that concern one connection only."""
    without = HOP_BY_HOP.union(also_without)
    return CIMultiDict((n, v) for n, v in fields.items() if n.lower() not in without)


class AiohttpProxy:
    """Forward every request to one target."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._session: aiohttp.ClientSession | None = None

    async def session(self, app: web.Application) -> AsyncIterator[None]:
        """Keep one client session for the life of the application."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=300),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as session:
            self._session = session
            yield

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Pass one request on and stream its response back."""
        assert self._session is not None
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._pair(request, self._session)
        async with self._session.request(
            request.method,
            URL(self._target + request.raw_path, encoded=True),
            headers=end_to_end(request.headers, "host"),
            data=request.content.iter_any() if request.can_read_body else None,
            allow_redirects=False,
        ) as answer:
            response = web.StreamResponse(
                status=answer.status, reason=answer.reason, headers=end_to_end(answer.headers)
            )
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response

    async def _pair(
        self, request: web.Request, session: aiohttp.ClientSession
    ) -> web.StreamResponse:
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        async with session.ws_connect(
            URL(self._target + request.raw_path, encoded=True),
            headers=end_to_end(request.headers, "host", *HANDSHAKE),
            protocols=[name.strip() for name in offered.split(",") if name],
            max_msg_size=0,
            autoclose=False,
            autoping=False,
        ) as upstream:
            client = web.WebSocketResponse(
                protocols=[upstream.protocol] if upstream.protocol else [],
                max_msg_size=0,
                autoclose=False,
                autoping=False,
                compress=False,
            )
            await client.prepare(request)
            async with asyncio.TaskGroup() as both:
                both.create_task(pump(client, upstream))
                both.create_task(pump(upstream, client))
            return client


async def pump(source: Socket, sink: Socket) -> None:
    """Hand over what comes until either end closes, then close both."""
    code, reason = aiohttp.WSCloseCode.OK, ""
    while True:
        message = await source.receive()
        try:
            if message.type is aiohttp.WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            elif message.type is aiohttp.WSMsgType.TEXT:
                await sink.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.PING:
                await sink.ping(message.data)
            elif message.type is aiohttp.WSMsgType.PONG:
                await sink.pong(message.data)
            elif message.type is aiohttp.WSMsgType.CLOSING:
                return  # The other task closes both.
            else:
                break
        except ConnectionResetError:
            break
    if message.type is aiohttp.WSMsgType.CLOSE and message.data:
        code, reason = message.data, message.extra or ""
    await sink.close(code=code, message=reason.encode())
    await source.close(code=code, message=reason.encode())


def main() -> None:
    """Run the proxy."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers.aiohttp_proxy")
    parser.add_argument("--target", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--uvloop", action="store_true", help="run on uvloop's event loop")
    arguments = parser.parse_args()
    proxy = AiohttpProxy(arguments.target)
    app = web.Application(client_max_size=sys.maxsize)
    app.cleanup_ctx.append(proxy.session)
    app.router.add_route("*", "/{path:.*}", proxy.forward)
    web.run_app(
        app,
        host="127.0.0.1",
        port=arguments.port,
        backlog=1024,
        access_log=None,
        print=None,
        handler_cancellation=True,
        shutdown_timeout=0.1,
        loop=importlib.import_module("uvloop").new_event_loop() if arguments.uvloop else None,
    )


if __name__ == "__main__":
    main()
