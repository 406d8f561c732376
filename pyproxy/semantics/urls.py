"""From the client's request target to the upstream's, and back.

Targets are mapped as raw octets and never re-encoded.  Rules look at decoded copies.
Spec: RFC 9112 3.2, RFC 3986.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes, urlsplit

import attrs

from pyproxy.errors import Malformed, TargetClimbs
from pyproxy.semantics.hosts import parse_host, socket_of

DECODE_ROUNDS = 3
"""How often a target is decoded in search of dot segments: some upstreams decode twice."""

MAX_PORT = 65535

DEFAULT_PORTS = {b"http": 80, b"https": 443}
"""Spec: RFC 9110 4.2.1, 4.2.2."""

HTTP_SCHEMES = {b"http": b"http", b"https": b"https", b"ws": b"http", b"wss": b"https"}
"""The schemes of what passes here, and which of HTTP's each one stands for.  Spec: RFC 6455 3."""

_absolute_form = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]*)(.*)", re.DOTALL).fullmatch
_absolute_path = re.compile(r"/[!-~]*").fullmatch
_authority = re.compile(
    rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%\x80-\xff]+)(?::(\d{0,5}))?"
).fullmatch


@attrs.frozen
class Origin:
    """Scheme, host and port that a target URL names, and how to get there.

    What a browser says of a page is ``origins.WebOrigin``: octets of any scheme, only to compare.

    Attributes:
        host: without brackets, ASCII, in lower case; a name keeps its final dot.
        authority: as it stands in ``Host``, without the scheme's default port.
        zone: the network interface that a link-local address is meant on; never in ``Host``.
            Spec: RFC 6874 3.
        socket: the Unix socket to connect to in place of host and port.
    """

    scheme: str
    host: str
    port: int
    authority: bytes
    zone: str = ""
    socket: str | None = None

    @property
    def name(self) -> str:
        """The host as certificates and TLS have it: without a final dot.  Spec: RFC 6066 3."""
        return self.host.removesuffix(".")

    @property
    def shown(self) -> str:
        """The origin as people are told of it."""
        return f"{self.scheme}://{self.authority.decode('ascii')}"

    @property
    def websocket_url(self) -> str:
        """The origin as a WebSocket has it.  Spec: RFC 6455 3."""
        scheme = "wss" if self.scheme == "https" else "ws"
        return f"{scheme}://{self.authority.decode('ascii')}"


def undotted(authority: bytes) -> bytes:
    """Return an authority whose host has no final dot: to the name system it is the same."""
    host, colon, port = authority.partition(b":")
    return host.removesuffix(b".") + colon + port


@attrs.frozen
class Target:
    """Where requests go: an origin and the base path that is put before each of them."""

    origin: Origin
    base: bytes

    @property
    def url(self) -> str:
        """The target as one URL."""
        return f"{self.origin.scheme}://{(self.origin.authority + self.base).decode('ascii')}"

    @property
    def shown(self) -> str:
        """The target as people are told of it."""
        socket, zone = self.origin.socket, self.origin.zone
        where = f" at {socket}" if socket else f" on {zone}" if zone else ""
        return self.url + where


def parse_target(url: str) -> Target:
    """Parse the URL of a target; ``unix:PATH`` is http over a Unix socket.

    Raises: ValueError with a sentence that says what would be right.
    Spec: RFC 9110 4.2, RFC 3986 3.
    """
    socket = socket_of(url)
    if socket is not None:
        return Target(Origin("http", "localhost", 80, b"localhost", socket=socket), b"")
    if url != url.strip() or any(character < " " for character in url):
        # urlsplit would drop some of them without a word.
        raise ValueError("white space and controls in it have to be percent-encoded")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError("it is no URL") from error
    scheme = parts.scheme.encode("ascii")
    if scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(
            "it has to be http://HOST[:PORT][/PATH], https://HOST[:PORT][/PATH] or unix:/SOCKET"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong in it; use --header 'Authorization: …'")
    if "?" in url or "#" in url:
        raise ValueError("a query or fragment cannot be part of it")
    if port == 0:
        raise ValueError(f"the port has to be between 1 and {MAX_PORT}")
    if parts.path and (_absolute_path(parts.path) is None or climbs(parts.path.encode("ascii"))):
        raise ValueError("its path has to be percent-encoded ASCII that does not climb with `..`")
    host = parse_host(parts.hostname, "[" in parts.netloc)
    port = port or DEFAULT_PORTS[scheme]
    shown = f"[{host.text}]" if ":" in host.text else host.text
    if port != DEFAULT_PORTS[scheme]:
        shown = f"{shown}:{port}"
    origin = Origin(parts.scheme, host.text, port, shown.encode("ascii"), host.zone)
    return Target(origin, parts.path.encode("ascii"))


def parse_prefix(path: str) -> bytes:
    """Parse the path that the proxy serves; returns it without a slash at its end.

    Raises: ValueError with a sentence that says what would be right.
    """
    if _absolute_path(path) is None or "?" in path or "#" in path:
        raise ValueError("it has to begin with `/` and hold percent-encoded ASCII, without a query")
    if climbs(path.encode("ascii")):
        raise ValueError("it must not climb with `..`")
    return path.rstrip("/").encode("ascii")


def is_authority(octets: bytes) -> bool:
    """Tell whether the octets can stand in Host: a host with or without a port.

    Spec: RFC 9110 7.2, RFC 3986 3.2.
    """
    return _authority(octets) is not None


def split_authority(octets: bytes) -> tuple[bytes, bytes] | None:
    """Split an authority into its host, with brackets, and the digits of its port, if it has any.

    Returns: None for what cannot stand in Host.
    """
    match = _authority(octets)
    return None if match is None else (match[1], match[2] or b"")


def split_absolute_form(target: bytes) -> tuple[bytes, bytes] | None:
    """Split a target in absolute-form into (authority, rest); None for other forms.

    The rest is a target in origin-form, or empty, or begins with the query.

    Raises: Malformed for a scheme other than http, https, ws and wss, or a bad authority.
    Spec: RFC 9112 3.2.2, RFC 9110 4.2.4 (userinfo), RFC 6455 3.
    """
    match = _absolute_form(target)
    if match is None:
        return None
    scheme, authority, rest = match.groups()
    if scheme.lower() not in HTTP_SCHEMES:
        raise Malformed("the target is a URL of another scheme than http, https, ws and wss")
    if b"@" in authority:
        raise Malformed("userinfo (user:password@) in the target: it goes into Authorization")
    if not is_authority(authority):
        raise Malformed("the target is a URL without a proper host and port")
    return authority, rest


def climbs(path: bytes) -> bool:
    """Tell whether a path, as any upstream might read it, leaves the path it is put under.

    An upstream may decode dots, slashes, both or neither, once or up to DECODE_ROUNDS times; may
    take ``\\`` for ``/`` and ``..;x`` for ``..``; and may drop empty segments and ``.``.  Each
    segment counts with its worst reading: as far up as any of them, and at most one step down.
    """
    if b".." not in path and b"%" not in path:
        return False
    depth = 0
    for segment in path.split(b"/"):
        lowest, change = _worst_reading(segment)
        if depth + lowest < 0:
            return True
        depth += change
    return False


def readings(path: bytes) -> set[bytes]:
    """Return the paths that upstreams may take a path for.

    As it is, and decoded once up to DECODE_ROUNDS times; each without empty segments, dot segments
    and what follows a ``;``, and with ``\\`` for ``/``.
    Args: path without its query, begins with ``/``.
    Spec: RFC 3986 6.2.2.
    """
    found = {_plainest(path)}
    for _ in range(DECODE_ROUNDS if b"%" in path else 0):
        path = unquote_to_bytes(path)
        found.add(_plainest(path))
    return found


def _plainest(path: bytes) -> bytes:
    """Return a path without what changes nothing for some reader."""
    kept: list[bytes] = []
    parts = path.replace(b"\\", b"/").split(b"/")
    for part in parts:
        name = part.partition(b";")[0].partition(b"\0")[0]
        if name == b"..":
            del kept[-1:]
        elif name not in (b"", b"."):
            kept.append(name)
    end = b"/" if kept and parts[-1] in (b"", b".", b"..") else b""
    return b"/" + b"/".join(kept) + end


def _worst_reading(segment: bytes) -> tuple[int, int]:
    """Return (lowest depth on the way, depth at the end) over all readings of a segment."""
    lowest, change = _walk(segment)
    for _ in range(DECODE_ROUNDS if b"%" in segment else 0):
        decoded = unquote_to_bytes(segment)
        if decoded == segment:
            break
        segment = decoded
        dip, net = _walk(segment)
        lowest, change = min(lowest, dip), min(change, net)
    return lowest, change


def _walk(segment: bytes) -> tuple[int, int]:
    """Return (lowest depth, depth at the end) of a segment that is parted at ``/`` and ``\\``."""
    depth = lowest = 0
    for part in segment.replace(b"\\", b"/").split(b"/"):
        name = part.partition(b";")[0].partition(b"\0")[0]
        if name == b"..":
            depth -= 1
            lowest = min(lowest, depth)
        elif name not in (b"", b"."):
            depth += 1
    return lowest, min(depth, 1)


def _path_of(reference: bytes) -> bytes:
    """Return a reference without its query and fragment."""
    return reference.partition(b"#")[0].partition(b"?")[0]


@attrs.frozen
class PathMapping:
    """The client's prefix beside the target's base path, for targets, redirects and cookies.

    Attributes:
        prefix: begins with ``/`` or is empty; never ends with ``/``.
        base: the target's path as configured: empty, or begins with ``/``.
    """

    prefix: bytes
    base: bytes
    _stem: bytes = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_stem", self.base.rstrip(b"/"))

    def covers(self, target: bytes) -> bool:
        """Tell whether a target in origin-form lies under the prefix, at a segment's border."""
        size = len(self.prefix)
        return target.startswith(self.prefix) and target[size : size + 1] in (b"/", b"?", b"")

    def to_upstream(self, target: bytes) -> bytes:
        """Map a target in origin-form that the prefix covers; every octet after it is kept.

        Raises: TargetClimbs.
        """
        rest = target[len(self.prefix) :]
        if (b"." in rest or b"%" in rest) and climbs(rest.partition(b"?")[0]):
            raise TargetClimbs("the target's path leads above the path that is served")
        if rest[:1] == b"/":
            return self._stem + rest
        return (self.base or b"/") + rest

    def to_client(self, path: bytes) -> bytes | None:
        """Map a path (with what follows it) of the upstream to the client's side.

        Returns: the path under the prefix, or None when it lies outside the base path.
        """
        rest = path[len(self._stem) :]
        if not path.startswith(self._stem) or rest[:1] not in (b"/", b"?", b"#", b""):
            return None
        if climbs(_path_of(rest)):
            return None
        if not rest.startswith(b"/"):
            return (self.prefix or b"/") + rest
        return self.prefix + rest

    def cookie_path(self, path: bytes) -> bytes:
        """Map the Path of a cookie; a path above the base becomes the whole prefix.

        Spec: RFC 6265 5.1.4.
        """
        mapped = self.to_client(path)
        if mapped is not None:
            return mapped
        above = path.rstrip(b"/")
        if path.startswith(b"/") and (self._stem + b"/").startswith(above + b"/"):
            return self.prefix or b"/"
        return path
