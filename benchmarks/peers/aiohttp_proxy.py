"""A lean aiohttp reverse proxy: one pooled session, streams both ways, decodes nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

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


def main() -> None:
    """Run the proxy."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers.aiohttp_proxy")
    parser.add_argument("--target", required=True)
    parser.add_argument("--port", type=int, required=True)
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
    )


if __name__ == "__main__":
    main()
