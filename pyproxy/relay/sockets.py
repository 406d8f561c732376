"""What the kernel knows of a connection's socket and Twisted does not say."""

from __future__ import annotations

import array
import fcntl
import select
import termios

from twisted.internet.interfaces import ISSLTransport

from pyproxy.relay.transports import StreamTransport

POLLRDHUP = getattr(select, "POLLRDHUP", 0)
"""Linux's sign that the peer sent a FIN; elsewhere only a reset is seen.  Spec: poll(2)."""


def _descriptor(transport: StreamTransport) -> int:
    """Return the file descriptor below a transport, through TLS; -1 once it is closed."""
    while ISSLTransport.providedBy(transport):
        transport = transport.transport
    return transport.fileno()


def has_left(transport: StreamTransport) -> bool:
    """Tell whether the peer has closed or reset, whatever is still unread."""
    descriptor = _descriptor(transport)
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, POLLRDHUP)
    return bool(poll.poll(0))


def is_silent(transport: StreamTransport) -> bool:
    """Tell whether the peer has neither sent anything nor closed, as far as the kernel knows."""
    descriptor = _descriptor(transport)
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return not poll.poll(0)


def unsent(transport: StreamTransport) -> int:
    """Return how many octets written to the kernel the peer has not acknowledged.

    Spec: TIOCOUTQ of tty_ioctl(2), which is SIOCOUTQ of tcp(7).
    """
    descriptor = _descriptor(transport)
    answer = array.array("i", [0])
    if descriptor >= 0:
        fcntl.ioctl(descriptor, termios.TIOCOUTQ, answer)
    return answer[0]
