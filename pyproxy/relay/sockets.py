"""What the kernel knows of a connection's socket and Twisted does not say."""

from __future__ import annotations

import array
import fcntl
import select
import socket
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import ISSLTransport, ITCPTransport
from twisted.protocols.policies import ProtocolWrapper

from pyproxy.relay.transports import StreamTransport
from pyproxy.relay.writing import backlog, writer

KEEPALIVE_SECONDS = 30
"""After how much silence the kernel asks whether the peer is still there."""

_SIOCOUTQNSD = 0x894B

QUICKACK = getattr(socket, "TCP_QUICKACK", None)
"""Linux's option that sends an acknowledgement which is due.  Spec: tcp(7)."""

POLLRDHUP = getattr(select, "POLLRDHUP", 0)
"""Linux's sign that the peer sent a FIN; elsewhere only a reset is seen.  Spec: poll(2)."""


FAREWELL_BYTES = 16 * 1024
"""More octets than TLS needs to say good-bye."""


def _below_tls(transport: StreamTransport) -> StreamTransport:
    while ISSLTransport.providedBy(transport):
        transport = transport.transport
    return transport


def _descriptor(transport: StreamTransport) -> int:
    """Return the file descriptor below a transport, through TLS; -1 once it is closed."""
    return _below_tls(transport).fileno()


def tcp_socket(transport: StreamTransport) -> socket.socket | None:
    """Return the socket below a transport, through TLS, if it is one of TCP.

    Twisted's Unix transports say that they are TCP too.
    """
    transport = _below_tls(transport)
    if not ITCPTransport.providedBy(transport):
        return None
    handle: socket.socket = transport.getHandle()  # type: ignore[attr-defined]
    return handle if handle.family in (socket.AF_INET, socket.AF_INET6) else None


def _shows(transport: StreamTransport, events: int) -> bool:
    """Tell whether a socket has any of some events, an error or a hang-up; a closed one has all."""
    descriptor = _descriptor(transport)
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(0))


def has_left(transport: StreamTransport) -> bool:
    """Tell whether the peer has closed or reset, whatever is still unread."""
    return _shows(transport, POLLRDHUP)


def has_reset(transport: StreamTransport) -> bool:
    """Tell whether the peer has reset, or both sides have closed."""
    return _shows(transport, 0)


def said_goodbye(transport: StreamTransport) -> bool:
    """Tell whether a TLS peer has ended TLS, and Twisted waits for octets that will never leave.

    It then stops reading, and closes only when its buffer was written; but with a producer paused
    before, nothing tells it that the buffer is empty.
    """
    below = getattr(transport, "transport", None)
    return (
        ISSLTransport.providedBy(transport)
        and not getattr(transport, "disconnecting", False)
        and bool(getattr(below, "disconnecting", False))
    )


def ended_tls(transport: StreamTransport) -> bool:
    """Tell whether a TLS peer has sent TLS's own end, which no reset behind it takes back.

    Spec: RFC 8446 6.1, RFC 9112 9.8.
    """
    if not ISSLTransport.providedBy(transport):
        return False
    tls: SSL.Connection | None = transport.getHandle()  # type: ignore[attr-defined]
    return tls is not None and bool(tls.get_shutdown() & SSL.RECEIVED_SHUTDOWN)


class SilenceCheck:
    """Asks the kernel of one connection again and again: half the time of a new ``poll`` each."""

    __slots__ = ("_poll", "_transport")

    def __init__(self, transport: StreamTransport) -> None:
        self._transport = transport
        self._poll: Callable[[int], list[tuple[int, int]]] | None = None

    def holds(self) -> bool:
        """Tell whether the peer has neither sent anything nor closed, as far as is known."""
        poll = self._poll
        if poll is None:
            descriptor = _descriptor(self._transport)
            if descriptor < 0:
                return False
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            self._poll = poll = poller.poll
        return not poll(0)


def end_tls(transport: StreamTransport) -> None:
    """Say TLS's own good-bye and close, without waiting for the peer's.

    Twisted's orderly end waits for it, without a limit; a reset alone looks to the peer like a
    connection that broke.  Spec: RFC 8446 6.1.
    """
    tls: SSL.Connection | None = getattr(transport, "getHandle", lambda: None)()
    if not ISSLTransport.providedBy(transport) or tls is None or _descriptor(transport) < 0:
        transport.abortConnection()
        return
    below = transport.transport
    with suppress(SSL.Error):
        tls.shutdown()
        # In this turn: there may be no other when the proxy ends.
        out = writer(below)
        out.write(tls.bio_read(FAREWELL_BYTES))
        out.flush()
    if backlog(below):
        # A closing connection is watched by nobody, and may wait for a peer that takes nothing.
        below.abortConnection()
    else:
        below.loseConnection()


def read_before_loss(transport: StreamTransport) -> None:
    """Make a transport read what has arrived before it gives up because a write failed.

    A server that refuses an upload early answers and closes; the next write is then met by a reset,
    and Twisted would end the connection with the answer unread (RFC 9112 9.6).
    """
    transport = _below_tls(transport)
    write_some = getattr(transport, "writeSomeData", None)
    if write_some is None:
        return

    def write_and_read(data: bytes) -> object:
        result = write_some(data)
        if isinstance(result, Exception):
            transport.doRead()  # type: ignore[attr-defined]
        return result

    transport.writeSomeData = write_and_read  # type: ignore[attr-defined]


def tune(transport: StreamTransport, seconds: float) -> None:
    """Set a TCP socket up for a relay; Unix sockets need none of this.

    Small segments leave at once: without that a relay shows steps of 40 ms (Nagle's algorithm and
    delayed ACKs).  And the kernel ends a connection whose peer has vanished without a word: it
    probes an idle one after KEEPALIVE_SECONDS, and gives octets that nobody acknowledges, or a peer
    that takes none, so many seconds.
    Spec: tcp(7), TCP_USER_TIMEOUT; RFC 5482.
    """
    handle = tcp_socket(transport)
    if handle is None:
        return
    handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_SECONDS),
        ("TCP_KEEPINTVL", KEEPALIVE_SECONDS // 3),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", min(int(seconds * 1000), 2**31 - 1)),
    ):
        option = getattr(socket, name, None)  # Linux has all four
        if option is not None:
            handle.setsockopt(socket.IPPROTO_TCP, option, value)


def acknowledge(transport: StreamTransport, lasting: bool = True) -> None:
    """Acknowledge at once what a TCP socket has read, when more is due from its peer.

    On a connection of questions and answers the kernel acknowledges together with the next octets
    that are sent, or after 40 ms.  A peer that has not turned Nagle's algorithm off waits for it:
    it sends no small segment while another is not acknowledged.  The option does not stay set.
    What else was tried stands in docs/adr/0010-acknowledge-at-once.rst.

    Args: lasting, whether the kernel does so by itself after later reads that leave nothing to be
        read, until something is sent; costs 1 us for each of them.
    Spec: RFC 9293 3.7.4, 3.8.6.3; tcp(7), TCP_QUICKACK.
    """
    handle: socket.socket | None = getattr(_below_tls(transport), "socket", None)
    if handle is None or QUICKACK is None:
        return
    try:
        # Linux takes an even number for "this once".
        handle.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1 if lasting else 2)
    except OSError:
        # One that was closed just now; or a Unix socket, and to ask for that first costs as much.
        return


def half_close(transport: StreamTransport) -> None:
    """Send a FIN behind what was written, and go on reading; TLS says good-bye in its own way.

    Twisted ends a TLS connection when the peer answers that, so there it is no half.
    """
    if ISSLTransport.providedBy(transport):
        transport.loseConnection()
    else:
        transport.loseWriteConnection()


def not_sent(transport: StreamTransport) -> int:
    """Return how many octets written to the kernel it has not sent yet: the peer has no room.

    Those on their way, which a distant peer has still to acknowledge, do not count.  0 where that
    cannot be known: on other systems than Linux, and of Unix sockets, whose FIN waits for nobody.
    Spec: SIOCOUTQNSD of Linux's sockios.h.
    """
    descriptor = _descriptor(transport)
    answer = array.array("i", [0])
    if descriptor >= 0 and sys.platform == "linux":
        try:
            fcntl.ioctl(descriptor, _SIOCOUTQNSD, answer)
        except OSError:
            return 0
    return answer[0]


def hand_over(transport: StreamTransport, protocol: object) -> None:
    """Make another protocol the one that a transport, or what wraps it (TLS, PROXY), speaks to."""
    owner: Any = transport
    name = "wrappedProtocol" if isinstance(owner, ProtocolWrapper) else "protocol"
    setattr(owner, name, protocol)


def unsent(transport: StreamTransport) -> int:
    """Return how many octets written to the kernel the peer has not acknowledged.

    Spec: TIOCOUTQ of tty_ioctl(2), which is SIOCOUTQ of tcp(7).
    """
    descriptor = _descriptor(transport)
    answer = array.array("i", [0])
    if descriptor >= 0:
        fcntl.ioctl(descriptor, termios.TIOCOUTQ, answer)
    return answer[0]
