"""The admin site: health, readiness, by what it serves; cache, metrics, and the board."""

from __future__ import annotations

from datetime import UTC, datetime

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IReactorTime
from twisted.web import server
from twisted.web.resource import IResource
from twisted.web.server import Request

from pyproxy.admin.access import admit
from pyproxy.admin.board import Asset, EventsPage, Front, StopPage, TokenPage, feed_of
from pyproxy.admin.cache import cache_pages
from pyproxy.admin.channel import REQUEST_LIMIT, AdminChannel, AdminRequest
from pyproxy.admin.credential import Credential, from_here
from pyproxy.admin.metrics import MetricsPage
from pyproxy.admin.pages import Branch, Content, Page, Refusal, in_json, paths, problem
from pyproxy.admin.routes import routes_of
from pyproxy.admin.trace import TracePage, Tracing
from pyproxy.config.schema import Config
from pyproxy.errors import CrossOriginRefused, MisdirectedRequest
from pyproxy.life.condition import Condition, Serving
from pyproxy.semantics.messages import RequestHead

_ASSETS = (("board.css", True), ("board.js", False), ("board.svg", True), ("login.js", True))
"""What the page is made of, and whether those see it who have not shown the token."""

MAX_CONNECTIONS = 64
"""Open connections; one more takes the place of the oldest."""

_MISDIRECTED = Refusal(
    problem(421, "Ask by localhost or by an IP address: this site is not known by other names.")
)

_STRANGER = Refusal(
    problem(401, "Show the token: Authorization: Bearer TOKEN, or open / in a browser.")
)

_TOO_FAR = Refusal(
    problem(
        403,
        "The board shows and ends what others do: beyond this machine it needs a token.  Set "
        "admin_token in the configuration, or ask by way of loopback.",
    )
)

_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a browser may do with a page: everything comes from here, and nothing of it is inline."""

_SAFETY = (
    (b"Cache-Control", b"no-store"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Content-Security-Policy", _POLICY),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    (b"Referrer-Policy", b"no-referrer"),
)
"""Fields of every answer."""

_FOREIGN = Refusal(
    problem(403, "A page of another site asked.  Open the address itself, in a tab of its own.")
)


class AdminSite(server.Site):
    """The site.  It writes no access log.

    Attributes:
        root: what is mounted here is found at ``/NAME``, and kept from foreign web pages, and where
            there is a token from those who have not shown it.
        api: the same for ``/api/NAME``.
    """

    noisy = False
    protocol = AdminChannel  # type: ignore[assignment]

    def __init__(self, condition: Condition, serving: Serving, reactor: IReactorTime) -> None:
        self.root = Branch()  # type: ignore[no-untyped-call]
        self.api = Page(lambda: in_json(list(paths(self.root))))
        self._channels: dict[AdminChannel, None] = {}
        self._routes: tuple[Config, Content] | None = None
        self._credential = Credential(lambda: condition.config.admin_token)
        self._feed = feed_of(condition, serving, reactor)
        self._tracing = Tracing(serving, reactor)
        self.root.putChild(b"", Front(self._credential))
        for name, public in _ASSETS:
            self.root.putChild(name.encode("ascii"), Asset(name, public))
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
        self.api.putChild(b"login", TokenPage(self._credential))
        board = Branch()  # type: ignore[no-untyped-call]
        self.api.putChild(b"board", board)
        board.putChild(b"events", EventsPage(self._feed))
        board.putChild(b"stop", StopPage(self._feed, reactor))
        self.api.putChild(b"trace", TracePage(self._tracing))
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
        for name, value in _SAFETY:
            request.setHeader(name, value)
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
        return self._let_in(request, found)

    def _let_in(self, request: Request, found: IResource) -> IResource:
        """Return what answers those who may read, and what all others are answered."""
        if getattr(found, "public", False) or self._credential.admits(request):
            private = getattr(found, "private", False)
            if private and not self._credential.wanted and not from_here(request):
                return _TOO_FAR
            return found
        request.setHeader(b"WWW-Authenticate", b"Bearer")
        ways = (getattr(found, name, None) for name in ("to_unknown", "to_strangers"))
        return next((way for way in ways if way is not None), _STRANGER)

    def startFactory(self) -> None:
        """Begin; twisted.web's own log and its clock are not used."""

    def stopFactory(self) -> None:
        """End every connection."""
        self._feed.close()
        self._tracing.close()
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
