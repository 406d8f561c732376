"""A plain treq reverse proxy: a twisted.web site in front of treq over the stock Agent."""

from __future__ import annotations

import argparse
from typing import cast

from treq.client import HTTPClient
from twisted.internet import defer, endpoints, task
from twisted.internet.interfaces import IPushProducer, IReactorCore
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
IDLE_CONNECTIONS = 512


def end_to_end(fields: Headers, *also_without: bytes) -> Headers:
    """Return a copy without the fields that concern one connection only."""
    without = HOP_BY_HOP.union(also_without)
    kept = {n: v for n, v in fields.getAllRawHeaders() if n.lower() not in without}
    return Headers(cast("dict[bytes, list[bytes]]", kept))


class Relay(Protocol):
    """Write an upstream's content to the client, as fast as the client reads."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._client_gone = False

    def connectionMade(self) -> None:
        assert self.transport is not None
        self._request.notifyFinish().addErrback(self._stop)
        self._request.registerProducer(cast(IPushProducer, self.transport), True)

    def _stop(self, reason: Failure) -> None:
        self._client_gone = True
        assert self.transport is not None
        self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._request.write(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._client_gone:
            return
        self._request.unregisterProducer()
        if reason is not None and reason.check(ResponseDone):
            self._request.finish()
        else:
            self._request.loseConnection()


class TreqProxy(Resource):
    """Forward every request to one target."""

    isLeaf = True
    log = Logger()

    def __init__(self, client: HTTPClient, target: bytes) -> None:
        Resource.__init__(self)
        self._client = client
        self._target = target

    def render(self, request: Request) -> int:
        """Pass one request on."""
        forwarding = defer.Deferred.fromCoroutine(self._forward(request))
        request.notifyFinish().addErrback(lambda reason: forwarding.cancel())
        forwarding.addErrback(self._failed, request)
        return NOT_DONE_YET

    async def _forward(self, request: Request) -> None:
        content = request.content
        assert content is not None
        has_content = content.seek(0, 2) > 0
        content.seek(0)
        response: IResponse = await self._client.request(
            request.method.decode("ascii"),
            (self._target + request.uri).decode("ascii"),
            headers=end_to_end(request.requestHeaders, b"host", b"content-length"),
            data=FileBodyProducer(content) if has_content else None,
            allow_redirects=False,
            unbuffered=True,
        )
        request.setResponseCode(response.code, response.phrase)
        request.responseHeaders = end_to_end(response.headers)
        response.deliverBody(Relay(request))

    def _failed(self, reason: Failure, request: Request) -> None:
        if request._disconnected:
            return  # The client left, and the request with it.
        self.log.failure("the request failed", failure=reason)
        request.setResponseCode(502)
        request.finish()


async def serve(reactor: IReactorCore, target: bytes, port: int) -> None:
    """Serve for ever."""
    pool = HTTPConnectionPool(reactor)
    pool.maxPersistentPerHost = IDLE_CONNECTIONS
    client = HTTPClient(Agent(reactor, pool=pool))
    listening = endpoints.TCP4ServerEndpoint(reactor, port, backlog=1024, interface="127.0.0.1")
    await listening.listen(Site(TreqProxy(client, target)))
    await defer.Deferred()


def main() -> None:
    """Run the proxy."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers.treq_proxy")
    parser.add_argument("--target", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    target = arguments.target.encode("ascii")
    task.react(lambda reactor: defer.Deferred.fromCoroutine(serve(reactor, target, arguments.port)))


if __name__ == "__main__":
    main()
