"""The admin site: whether it lives, whether it is ready, by what it serves; cache and metrics."""

from __future__ import annotations

from datetime import UTC, datetime

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IReactorTime
from twisted.web import server
from twisted.web.resource import IResource
from twisted.web.server import Request

from pyproxy.admin.access import admit
from pyproxy.admin.cache import cache_pages
from pyproxy.admin.channel import REQUEST_LIMIT, AdminChannel, AdminRequest
from pyproxy.admin.metrics import MetricsPage
from pyproxy.admin.pages import Branch, Content, Page, Refusal, in_json, paths, problem
from pyproxy.admin.routes import routes_of
from pyproxy.config.schema import Config
from pyproxy.errors import CrossOriginRefused, MisdirectedRequest
from pyproxy.life.condition import Condition, Serving
from pyproxy.semantics.messages import RequestHead

MAX_CONNECTIONS = 64
"""Open connections; one more takes the place of the oldest."""

_MISDIRECTED = Refusal(
    problem(421, "Ask by localhost or by an IP address: this site is not known by other names.")
)

_FOREIGN = Refusal(
    problem(403, "A page of another site asked.  Open the address itself, in a tab of its own.")
)


class AdminSite(server.Site):
    """The site.  It writes no access log.

    Attributes:
        root: what is mounted here is found at ``/NAME``, and kept from foreign web pages.
        api: the same for ``/api/NAME``.
    """

    noisy = False
    protocol = AdminChannel  # type: ignore[assignment]

    def __init__(self, condition: Condition, serving: Serving, reactor: IReactorTime) -> None:
        self.root, self.api = Branch(), Branch()  # type: ignore[no-untyped-call]
        self._channels: dict[AdminChannel, None] = {}
        self._routes: tuple[Config, Content] | None = None
        self.root.putChild(b"", Page(lambda: in_json(list(paths(self.root)))))
        # Probes ask by whatever name they like.
        self.root.putChild(b"healthz", Page(lambda: in_json({"status": "alive"}), guarded=False))
        readyz = Page(lambda: readiness(condition, serving))
        readyz.to_strangers = Page(lambda: in_json(*_public_readiness(condition)))
        self.root.putChild(b"readyz", readyz)
        self.root.putChild(b"metrics", MetricsPage(condition, serving, reactor))
        self.root.putChild(b"api", self.api)
        self.api.putChild(b"config", Page(lambda: in_toml(condition.printed)))
        self.api.putChild(b"routes", Page(lambda: self._routes_of(condition.config)))
        figures, entries, purge = cache_pages(condition, serving, reactor)
        self.api.putChild(b"cache", figures)
        figures.putChild(b"entries", entries)
        figures.putChild(b"purge", purge)
        super().__init__(  # type: ignore[no-untyped-call]
            self.root, requestFactory=AdminRequest, reactor=reactor, timeout=REQUEST_LIMIT
        )

    def _routes_of(self, config: Config) -> Content:
        """Return the routes of a configuration; those of 10,000 take 160 ms to write."""
        if self._routes is None or self._routes[0] is not config:
            self._routes = config, in_json(routes_of(config))
        return self._routes[1]

    def acceptableProtocols(self) -> list[bytes]:
        """Return what an ``ssl:`` listener offers by ALPN: what is spoken here.

        twisted.web's own site offers h2 as soon as its packages are in the environment.
        Spec: RFC 7301 3.2.
        """
        return [b"http/1.1"]

    def getResourceFor(self, request: Request) -> IResource:
        """Find what answers a request, and keep what it answers to those who may read it."""
        request.responseHeaders.removeHeader(b"Server")
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"X-Content-Type-Options", b"nosniff")
        found: IResource = super().getResourceFor(request)  # type: ignore[no-untyped-call]
        if not getattr(found, "guarded", True):
            return found
        scheme = b"https" if request.isSecure() else b"http"
        try:
            admit(_head_of(request), scheme, isinstance(request.getHost(), UNIXAddress))
        except MisdirectedRequest:
            return getattr(found, "to_strangers", None) or _MISDIRECTED
        except CrossOriginRefused:
            return getattr(found, "to_strangers", None) or _FOREIGN
        return found

    def startFactory(self) -> None:
        """Begin; twisted.web's own log and its clock are not used."""

    def stopFactory(self) -> None:
        """End every connection."""
        for channel in list(self._channels):
            channel.end()

    def log(self, request: Request) -> None:  # type: ignore[override]
        """Write nothing."""

    def opened(self, channel: AdminChannel) -> None:
        """Take note of a connection, and make room for it."""
        self._channels[channel] = None
        if len(self._channels) > MAX_CONNECTIONS:
            oldest = next(iter(self._channels))
            del self._channels[oldest]
            oldest.transport.abortConnection()

    def closed(self, channel: AdminChannel) -> None:
        """Forget a connection."""
        self._channels.pop(channel, None)


def readiness(condition: Condition, serving: Serving) -> Content:
    """Say whether load balancers should send requests to the proxy, and how it is."""
    document, status = _public_readiness(condition)
    taken_at = datetime.fromtimestamp(condition.taken_at, UTC)
    more = {
        "generation": condition.generation,
        "taken_at": f"{taken_at:%Y-%m-%dT%H:%M:%SZ}",
        "streams": serving.streams(),
        "failures": condition.failures,
    }
    return in_json({**document, **more}, status)


def _public_readiness(condition: Condition) -> tuple[dict[str, object], int]:
    """Return what every probe may know: names of files and keys are the operator's alone."""
    return {"status": condition.phase.value}, 200 if condition.ready else 503


def in_toml(text: str) -> Content:
    """Return text that is TOML."""
    return Content(text.encode("utf-8"), b"application/toml; charset=utf-8")


def _head_of(request: Request) -> RequestHead:
    fields = [
        (name, value)
        for name, values in request.requestHeaders.getAllRawHeaders()
        for value in values
    ]
    return RequestHead(request.method, request.uri, 1, fields)
