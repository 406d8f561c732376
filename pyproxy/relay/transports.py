"""What the proxy asks of a connection's transport and of the reactor."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import (
    IAddress,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
)


class IProxyReactor(
    IReactorTime, IReactorTCP, IReactorUNIX, IReactorPluggableNameResolver, IReactorFromThreads
):
    """A reactor that the proxy can run on."""


class StreamTransport(Protocol):
    """A TCP or Unix transport, or TLS over one."""

    transport: StreamTransport

    def write(self, data: bytes) -> None:
        """Send octets in time."""

    def pauseProducing(self) -> None:
        """Stop reading."""

    def resumeProducing(self) -> None:
        """Read again."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Pause a producer when there is enough to write."""

    def unregisterProducer(self) -> None:
        """Forget the producer."""

    def loseConnection(self) -> None:
        """Close after what was written."""

    def loseWriteConnection(self) -> None:
        """Send a FIN after what was written, and go on reading."""

    def abortConnection(self) -> None:
        """Close at once, with a reset."""

    def getPeer(self) -> IAddress:
        """Return the address of the other end."""

    def getHost(self) -> IAddress:
        """Return the address of this end."""

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
