"""The opening handshake of WebSockets, as fields of a request and of its response.

Owns what makes a request an opening handshake, and a 101 the answer to it.  What the two ends agree
on (subprotocol, extensions) is theirs, and not looked at.
Spec: RFC 6455 4, RFC 9110 7.8.
"""

from __future__ import annotations

import base64
import hashlib
import re

from pyproxy.errors import Malformed, UpgradeRequired
from pyproxy.semantics.fields import Field, tokens, values
from pyproxy.semantics.framing import Framing
from pyproxy.semantics.messages import RequestHead, ResponseHead, noted_values

VERSION = b"13"
"""The one version that is spoken.  Spec: RFC 6455 4.1."""

SWITCH: tuple[Field, ...] = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))
"""The fields of this hop that ask for WebSocket, or grant it.  Spec: RFC 6455 4.1, 4.2.2."""

_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

# Sixteen octets in base64.  Of the last digit two bits count; whether the others are zero is left
# to the upstream, as RFC 4648 3.5 leaves it to each decoder.
_is_key = re.compile(rb"[A-Za-z0-9+/]{22}==").fullmatch


def opens_websocket(head: RequestHead, options: list[bytes]) -> bool:
    """Tell whether a request asks to open a WebSocket; any other upgrade is not for us.

    Args: connection options in lower case.
    Spec: RFC 6455 4.2.1 (1, 3, 4); RFC 9110 7.8: HTTP/1.0 has no upgrade.
    """
    return (
        b"upgrade" in options
        and head.method == b"GET"
        and head.minor_version == 1
        and b"websocket" in tokens(noted_values(head, b"upgrade"))
    )


def opening_key(head: RequestHead, options: list[bytes], framing: Framing) -> bytes:
    """Return the key of an opening handshake.

    Raises: UpgradeRequired for any version but 13; Malformed for a key that is none, for content,
        which one reader could take for frames, and for nominating a field of the handshake away.
    Spec: RFC 6455 4.2.1 (5, 6), 4.4.
    """
    if values(head.fields, b"sec-websocket-version") != [VERSION]:
        raise UpgradeRequired("the opening handshake is not of WebSocket version 13")
    keys = values(head.fields, b"sec-websocket-key")
    if len(keys) != 1 or _is_key(keys[0]) is None:
        raise Malformed("not exactly one Sec-WebSocket-Key of 16 octets in base64")
    if framing.has_content:
        raise Malformed("an opening handshake with content")
    if _nominates_handshake(options):
        raise Malformed("Connection nominates a field of the opening handshake")
    return keys[0]


def _nominates_handshake(options: list[bytes]) -> bool:
    return any(option.startswith(b"sec-websocket-") for option in options)


def accept_of(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept that answers a key.  Spec: RFC 6455 4.2.2 (5.4)."""
    return base64.b64encode(hashlib.sha1(key + _ACCEPT_SUFFIX, usedforsecurity=False).digest())


def check_switch(head: ResponseHead, options: list[bytes], key: bytes) -> None:
    """Check that a 101 opens the WebSocket that was asked for.

    A tunnel that only one side believes in would let requests through unseen.
    Args: connection options in lower case; the key that was sent.
    Raises: Malformed.
    Spec: RFC 6455 4.1 (2, 3, 4 of the server's response), RFC 9110 7.8.
    """
    if head.minor_version != 1:
        raise Malformed("it switches protocols in HTTP/1.0")
    upgrades = tokens(noted_values(head, b"upgrade"))
    if b"upgrade" not in options or upgrades != [b"websocket"]:
        raise Malformed("it switches protocols, but not to websocket")
    if _nominates_handshake(options):
        raise Malformed("its Connection nominates a field of the opening handshake")
    if values(head.fields, b"sec-websocket-accept") != [accept_of(key)]:
        raise Malformed("its Sec-WebSocket-Accept does not answer the key that was sent")
