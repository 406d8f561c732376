"""A channel's face for twisted.web: what requests of mounted resources ask of it."""

from __future__ import annotations

from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.web.http_headers import Headers

from pyproxy.ingress.seams import SiteSide
from pyproxy.relay.headers import fields_of
from pyproxy.relay.transports import StreamTransport
from pyproxy.relay.writing import Writer
from pyproxy.semantics.messages import write_head


class ChannelFace(Protocol):
    """What twisted.web's requests call; the channel itself stands in ``ingress.channel``."""

    transport: StreamTransport  # type: ignore[assignment]
    site: SiteSide
    persists: bool
    _writer: Writer

    def getPeer(self) -> IAddress:
        """Return the client's address."""
        return self.transport.getPeer()

    def getHost(self) -> IAddress:
        """Return the address that the client connected to."""
        return self.transport.getHost()

    def isSecure(self) -> bool:
        """Tell whether the client speaks TLS."""
        return self.site.is_secure(self.transport)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Send the head of a response that a resource made in twisted.web's way."""
        fields = fields_of(headers)
        if not self.persists:
            fields.append((b"Connection", b"close"))
        self._writer.write(write_head(b"HTTP/1.1 %b %b" % (code, reason), fields))

    def write(self, data: bytes) -> None:
        """Send octets."""
        self._writer.write(data)

    def writeSequence(self, iovec: list[bytes]) -> None:
        """Send octets."""
        self._writer.write(b"".join(iovec))

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Let a resource's push producer be paused."""
        if not streaming:
            raise ValueError("only push producers can be mounted here")
        self.flow_from(producer)

    def unregisterProducer(self) -> None:
        """Forget a resource's producer."""
        self.flow_from(None)

    def flow_from(self, source: IPushProducer | None) -> None:
        """Name who has to pause when the client's transport is full."""
        raise NotImplementedError

    def loseConnection(self) -> None:
        """End the connection after what was written."""
        raise NotImplementedError
