"""Hosts as people write them: names, addresses and Unix sockets, brought into one form.

Spec: RFC 3986 3.2.2, RFC 5891 (IDNA 2008), RFC 6874 (zones), unix(7).
"""

from __future__ import annotations

import os
import re
import socket
from ipaddress import IPv6Address
from urllib.parse import unquote

import attrs

MAX_NAME_BYTES = 253
"""Octets of a name, without its final dot.  Spec: RFC 1035 2.3.4."""

MAX_SOCKET_BYTES = 107
"""Octets of a Unix socket's path, as the kernel takes them.  Spec: unix(7)."""

_host_name = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?").fullmatch
_ends_in_number = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?").fullmatch
_zone = re.compile(r"[!-$&-.0-~]+").fullmatch
_socket_url = re.compile(r"unix:(?://)?(/(?!/).*)", re.DOTALL).fullmatch
_guesses = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(https?)://unix:(/[^:?#@]*):?([^?#@]*)",  # nginx
        r"(https?)\+unix://([^/?#@]*)([^?#@]*)",  # requests, aiohttp, httpx
        r"()unix/(/[^?#@]*)()",  # Caddy
        r"()unix:()[^?#@]*()",
    )
)
"""How others write a Unix socket: scheme, path, and what follows it."""


@attrs.frozen
class Host:
    """The host of a URL.

    Attributes:
        text: ASCII in lower case, without brackets; a name keeps its final dot.
        zone: which of this machine's networks a link-local address is meant on, or empty.
    """

    text: str
    zone: str = ""


def parse_host(text: str, bracketed: bool) -> Host:
    """Parse a host.  Args: text without its brackets, and whether it had any.

    Raises: ValueError with a sentence that says what would be right.
    """
    return _address(text) if bracketed else Host(_name(text))


def _name(text: str) -> str:
    if not text.isascii():
        text = _a_labels(text)
    text = text.lower()
    if _host_name(text) is None or len(text.removesuffix(".")) > MAX_NAME_BYTES:
        raise ValueError("its host is no name or address")
    if _ends_in_number(text) is None:
        return text
    # No top-level domain is a number: this is an address, and resolvers take its short forms.
    try:
        return socket.inet_ntoa(socket.inet_aton(text.removesuffix(".")))
    except OSError:
        raise ValueError("its host is no name or address") from None


def _a_labels(text: str) -> str:
    """Return a name in the form that the name system has, as browsers make it.

    Python's own codec is IDNA 2003: it turns ``ß`` into ``ss``, and that may be another owner's.
    Spec: RFC 5891 5, UTS 46 (upper case and full width are mapped; not transitional).
    """
    # Imported where it is asked for: it costs 20 ms.
    import idna

    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except UnicodeError:
        raise ValueError("its host is no name of IDNA 2008") from None


def _address(text: str) -> Host:
    address, percent, zone = text.partition("%")
    if percent:
        # RFC 6874 writes the percent sign as %25; people write it as it is.
        zone = unquote(zone.removeprefix("25"))
    try:
        parsed = IPv6Address(address)
    except ValueError:
        raise ValueError("its host is no name or address") from None
    if percent and _zone(zone) is None:
        raise ValueError("its zone has to name a network interface: [fe80::1%25eth0]")
    if parsed.is_link_local and not zone:
        raise ValueError(f"a link-local address needs its zone: [{parsed}%25eth0]")
    return Host(str(parsed), zone)


def parse_socket(path: str) -> str:
    """Parse the path of a Unix socket.

    Raises: ValueError with a sentence that says what would be right.
    """
    octets = os.fsencode(path)
    if not path.startswith("/") or b"\0" in octets or path.endswith("/"):
        raise ValueError("it has to be the absolute path of a Unix socket, such as /run/app.sock")
    if len(octets) > MAX_SOCKET_BYTES:
        raise ValueError(f"a Unix socket's path has at most {MAX_SOCKET_BYTES} bytes")
    return path


def socket_of(url: str) -> str | None:
    """Return the path that ``unix:PATH`` names, None for any other URL.

    Raises: ValueError for another program's spelling, with a sentence that says what is ours.
    """
    match = _socket_url(url)
    if match is not None:
        return parse_socket(match[1])
    for guess in _guesses:
        match = guess.fullmatch(url)
        if match is not None:
            scheme, path, base = match.groups()
            raise ValueError(_in_our_words(scheme or "http", unquote(path), base))
    return None


def _in_our_words(scheme: str, path: str, base: str) -> str:
    path = path or "/run/app.sock"
    target = f"{scheme.lower()}://localhost{base.rstrip('/')}"
    if target == "http://localhost":
        return f"a Unix socket is written --target unix:{path}"
    return f"a Unix socket is written --target {target} --upstream-socket {path}"
