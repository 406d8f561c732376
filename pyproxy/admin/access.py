"""Who may read the admin site: no web page of another site that a browser of the operator's shows.

A page's owner can point a name of his own at the machine on which the site listens (DNS rebinding);
then only ``Host`` tells.  He cannot do that with an address, nor with a name of loopback.
"""

from __future__ import annotations

from pyproxy.errors import CrossOriginRefused, MisdirectedRequest
from pyproxy.policy.cross_origin import ANY, Guard
from pyproxy.semantics.addresses import read_address
from pyproxy.semantics.fields import values
from pyproxy.semantics.forwarding import Hop
from pyproxy.semantics.messages import RequestHead
from pyproxy.semantics.origins import MAX_ORIGIN_BYTES, read_authority, read_origin

_BY_ADDRESS = Guard()

_BY_ANY_NAME = Guard.of([ANY])


def admit(head: RequestHead, scheme: bytes, by_socket: bool) -> None:
    """Let a request pass, or refuse it.

    Args: by_socket, whether it came through a Unix socket, where no browser gets by itself.
    Raises: MisdirectedRequest, CrossOriginRefused.
    """
    # Several are none: nobody can tell which of them is meant.
    host = b",".join(values(head.fields, b"host"))
    read = read_authority(host) if len(host) <= MAX_ORIGIN_BYTES else None
    asked = b"" if read is None else read.host
    if not host and not by_socket:
        raise MisdirectedRequest("no host was asked for")
    # Any address is taken for the site's own: behind a mapped port that is another one.
    own = asked if read_address(asked) is not None else b""
    guard = _BY_ANY_NAME if by_socket else _BY_ADDRESS
    guard.admit(head, host, Hop(b"", scheme, b"", False, own))
    for value in values(head.fields, b"origin"):
        origin = read_origin(value)
        # Where a credential is spent every page of loopback may; here only one of the same host.
        if origin is None or origin.host != asked:
            raise CrossOriginRefused("a page of another host asked")
