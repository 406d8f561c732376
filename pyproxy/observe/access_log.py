"""The access log: one line a request, in the combined format, through twisted.logger.

After that come the seconds, and for what did not end well the request id, the error type and a
reason.  Spec: httpd's mod_log_config, "combined".
"""

from __future__ import annotations

import re
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import datetimeToLogString

from pyproxy.errors import ProxyError
from pyproxy.ingress.seams import Logged
from pyproxy.observe.facts import CLIENT_GONE
from pyproxy.observe.masking import Mask
from pyproxy.observe.twistd_log import publish_line
from pyproxy.semantics.forwarding import Network, client_of
from pyproxy.semantics.messages import noted_values

# LF stays: the parts of a line are masked together, joined by it, and none of them can hold one.
_unprintable = re.compile(rb"[^\n !#-\[\]-~]")


class AccessLog:
    """Writes a line for every request that has ended."""

    def __init__(
        self,
        clock: IReactorTime,
        mask: Mask,
        trusted: tuple[Network, ...] = (),
        write: Callable[[str], object] = publish_line,
    ) -> None:
        """Begin.  Args: write, where lines go."""
        self._clock = clock
        self._write = write
        self._trusted = trusted
        self._mask = mask
        self._second = -1
        self._date = ""

    def __call__(self, request: Logged) -> None:
        """Write the line of a request."""
        self._write(self.line(request))

    def line(self, request: Logged) -> str:
        """Return the line of a request; it holds no credential and no control character."""
        head = request.head
        now = self._clock.seconds()
        if head.method:
            request_line = b"%b %b HTTP/1.%d" % (head.method, head.target, head.minor_version)
        else:
            request_line = b"-"
        address = client_of(head.fields, request.hop, self._trusted)
        client = address.decode("ascii") or "-"
        referer = b", ".join(noted_values(head, b"referer")) or b"-"
        agent = b", ".join(noted_values(head, b"user-agent")) or b"-"
        parts = self._shown(b"\n".join((request_line, referer, agent)))
        shown_line, shown_referer, shown_agent = parts.split("\n")
        seconds = max(0.0, now - request.began_at)
        return (
            f'{client} - - {self._time(now)} "{shown_line}" '
            f"{request.status or CLIENT_GONE} {request.sentLength or '-'} "
            f'"{shown_referer}" "{shown_agent}" '
            f"{seconds:.3f}{self._ending(request, request.error)}"
        )

    def _ending(self, request: Logged, error: ProxyError | None) -> str:
        if error is None:
            return f" {request.request_id} client_closed" if request.left else ""
        detail = self._shown(error.for_log.encode("utf-8")).replace("\n", "\\x0a")
        return f' {request.request_id} {error.error_type} "{detail}"'

    def _shown(self, octets: bytes) -> str:
        masked = self._mask.apply(octets)
        return _unprintable.sub(lambda match: b"\\x%02x" % ord(match[0]), masked).decode("ascii")

    def _time(self, now: float) -> str:
        """Return the time as the format has it; formatted once a second."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._date = datetimeToLogString(now)
        return self._date
