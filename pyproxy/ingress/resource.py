"""The resource at the root of the tree: begins an exchange for every request.

Other resources can be mounted on it; what they do not cover is forwarded.
"""

from __future__ import annotations

from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from pyproxy.exchange import Exchange
from pyproxy.ingress.request import ClientRequest
from pyproxy.policy.routing import RoutingTable
from pyproxy.relay.limits import Sweeper
from pyproxy.sides import UpstreamSide


class PrefixResource(Resource):
    """Forwards what lies under the routes' prefixes.

    Attributes:
        streams: requests are rendered at the end of their head.
        table: the routes of requests that begin.
    """

    streams = True

    def __init__(self, table: RoutingTable, upstream: UpstreamSide, sweeper: Sweeper) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.table = table
        self._upstream = upstream
        self._sweeper = sweeper

    def getChildWithDefault(self, path: bytes, request: ClientRequest) -> IResource:
        """Return what is mounted at a path, else this resource, which forwards everything else."""
        mounted: IResource | None = self.children.get(path)
        if mounted is None:
            request.postpath = []
            return self
        return mounted

    def render(self, request: ClientRequest) -> int:
        """Begin an exchange."""
        exchange = Exchange(request, self._upstream, self.table, self._sweeper)
        request.exchange = exchange
        exchange.start()
        return NOT_DONE_YET
