"""Connecting at a Unix socket, also while as many wait there as it has room for.

Spec: unix(7), connect(2).
"""

from __future__ import annotations

import attrs
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import deferLater
from zope.interface import implementer

from pyproxy.relay.transports import IProxyReactor
from pyproxy.upstream.racing import number_of

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.16
"""Seconds until a full socket is tried again: at first, and at most, each twice the one before."""


@implementer(IStreamClientEndpoint)
@attrs.define
class LocalEndpoint:
    """Connects at the path of a Unix socket.

    TCP's kernel tries again by itself when the server is slow to accept; of a Unix socket it says
    EAGAIN at once, which Twisted reports as a failure without a number.
    Args: limit of one attempt, in seconds; whoever connects sets that of the whole.
    """

    _reactor: IProxyReactor
    _path: str
    _limit: float

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; to cancel that ends the attempt."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        pause = FIRST_PAUSE
        while True:
            endpoint = UNIXClientEndpoint(self._reactor, self._path, self._limit)
            attempt: Deferred[IProtocol] = endpoint.connect(factory)
            try:
                return await attempt
            except error.ConnectError as cause:
                if type(cause) is not error.ConnectError or number_of(cause):
                    raise
            await deferLater(self._reactor, pause)
            pause = min(2 * pause, LONGEST_PAUSE)
