"""What answers on a route that leads to no upstream: a redirect, or a fixed answer.

Spec: RFC 9110 15.4 (redirects), 10.2.2 (Location).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

import attrs

from pyproxy.semantics.fields import Fields


class Reply(NamedTuple):
    """A whole response, without its framing."""

    status: int
    reason: bytes
    fields: Fields
    content: bytes


def reason_of(status: int) -> bytes:
    """Return the usual reason phrase of a status, empty for one that has none."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


@attrs.frozen
class FixedAnswer:
    """The same answer to every request."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...] = ()
    content: bytes = b""

    def reply(self, rest: bytes) -> Reply:
        """Return the answer.  Args: what follows the route's path in the target."""
        fields = list(self.fields)
        if self.status != 204:
            fields.append((b"Content-Length", b"%d" % len(self.content)))
        return Reply(self.status, reason_of(self.status), fields, self.content)


@attrs.frozen
class Redirection:
    """A redirect.

    Attributes:
        to: a URL or a path.
        keep_path: the rest of the path, and the query, are put behind it.
    """

    to: bytes
    status: int = 308
    keep_path: bool = False

    def reply(self, rest: bytes) -> Reply:
        """Return the redirect.

        Two slashes at the beginning of a path would name another host (RFC 3986 4.2), so that a
        client could choose where it leads.
        Args: what follows the route's path in the target.
        """
        location = self.to
        if self.keep_path and rest != b"/":
            stem = location.rstrip(b"/") if rest[:1] == b"/" else location
            location = stem + rest if stem else b"/" + rest.lstrip(b"/\\")
        fields = [(b"Location", location), (b"Content-Length", b"0")]
        return Reply(self.status, reason_of(self.status), fields, b"")


Instead = FixedAnswer | Redirection
