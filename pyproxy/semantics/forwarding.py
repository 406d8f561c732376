"""What a proxy takes out of a head, and what it puts in.

Strip first, then rewrite: fields of one hop go before anything of ours is added, so that no client
can nominate away what the operator injects.  Must not know sockets, routes or configuration files.
Spec: RFC 9110 7.6, RFC 7239, RFC 9112 3.2.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address

import attrs

from pyproxy.errors import Malformed
from pyproxy.semantics.fields import Field, Fields, is_token, list_members, tokens, values
from pyproxy.semantics.framing import Framing, Kind
from pyproxy.semantics.handshake import SWITCH
from pyproxy.semantics.messages import Head, RequestHead, ResponseHead, noted_values
from pyproxy.semantics.secrets import SecretMask
from pyproxy.semantics.urls import DEFAULT_PORTS, Origin, PathMapping, is_authority

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields that belong to one connection, nominated or not.  Spec: RFC 9110 7.6.1, RFC 7540 3.2.1."""

WRITTEN_BY_US = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
    }
)
"""Fields that say who the client is; believed only from a trusted proxy."""

Network = IPv4Network | IPv6Network

ALLOWED_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
"""What Allow says where the proxy itself answers; extension methods pass too, but have no list."""

HOP_BOUNDED = frozenset({b"OPTIONS", b"TRACE"})
"""Methods for which Max-Forwards counts.  Spec: RFC 9110 7.6.2."""

KEEP_ALIVE = [b"keep-alive"]
"""The connection options of nearly everybody who names any."""

NEVER_NOMINATED = frozenset({b"content-length", b"transfer-encoding"})
"""Fields that frame a message: nominating one leaves two readings of it."""

FORBIDDEN_TRAILERS = frozenset(
    {
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"host",
        b"max-forwards",
        b"pragma",
        b"range",
        b"set-cookie",
        b"te",
        b"trailer",
        b"via",
    }
)
"""Fields for framing, routing and credentials, which nobody may read from trailers.

Spec: RFC 9110 6.5.1.
"""

_refresh = re.compile(
    rb"""([\d.]*+[ \t]*+[;,]?[ \t]*+url[ \t]*+=[ \t]*+)(["']?)(.*)""", re.I | re.S
).fullmatch
_url_origin = re.compile(rb"(?:([A-Za-z][A-Za-z0-9+.\-]*):)?//([^/?#\\]*)(.*)", re.S).fullmatch


@attrs.frozen
class FieldRules:
    """What the operator asked to change in the heads of one direction.

    Attributes:
        set: fields to write; each replaces every field of its name.
        remove: names in lower case.
    """

    set: tuple[Field, ...] = ()
    remove: frozenset[bytes] = frozenset()

    @property
    def replaced(self) -> frozenset[bytes]:
        """Names in lower case that must not pass as they came."""
        return self.remove | {name.lower() for name, _ in self.set}


@attrs.frozen
class Hop:
    """What is known of the connection that a request came on.

    Attributes:
        address: the client's address, empty where it has none (a Unix socket).
        trusted: whether the peer's own X-Forwarded-* are believed.
    """

    address: bytes
    scheme: bytes
    port: bytes
    trusted: bool


def connection_options(head: Head) -> list[bytes]:
    """Return the connection options in lower case.

    Raises: Malformed when one of them names a field that frames the message.
    Spec: RFC 9110 7.6.1.
    """
    if b"connection" not in head.noted:
        return []
    lines = noted_values(head, b"connection")
    if lines == KEEP_ALIVE:
        # To read it as a list takes 1 us.
        return lines
    options = tokens(lines)
    if options:
        if not NEVER_NOMINATED.isdisjoint(options):
            raise Malformed("Connection nominates a field that frames the message")
        if not all(map(is_token, options)):
            raise Malformed("a connection option that is no token")
    return options


def persists(minor_version: int, options: list[bytes]) -> bool:
    """Tell whether the sender of a head means to use the connection again.  Spec: RFC 9112 9.3."""
    if b"close" in options:
        return False
    return minor_version == 1 or b"keep-alive" in options


def host_of(head: RequestHead) -> bytes:
    """Return the Host of a request, empty for an HTTP/1.0 request without it.

    Raises: Malformed for no Host in HTTP/1.1, for two of them, or for one that is no authority.
    Spec: RFC 9112 3.2, 3.2.2.
    """
    names = head.names
    count = names.count(b"host")
    if count > 1 or (not count and head.minor_version == 1):
        raise Malformed("not exactly one Host")
    if not count:
        return b""
    host = head.fields[names.index(b"host")][1]
    if host and not is_authority(host):
        raise Malformed("a Host that is no host with or without a port")
    return host


@attrs.frozen
class RequestForwarding:
    """How request heads are rewritten on their way to one target.

    Attributes:
        pseudonym: this instance's name in Via.
        preserve_host: send the Host that the client asked for.
    """

    origin: Origin
    pseudonym: bytes
    rules: FieldRules = FieldRules()
    preserve_host: bool = False
    _replaced: frozenset[bytes] = attrs.field(init=False)
    _dropped: frozenset[bytes] = attrs.field(init=False)
    _guarded: frozenset[bytes] = attrs.field(init=False)
    _via: tuple[bytes, bytes] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        replaced = self.rules.replaced
        object.__setattr__(self, "_replaced", replaced)
        object.__setattr__(self, "_dropped", HOP_BY_HOP | replaced)
        object.__setattr__(self, "_guarded", WRITTEN_BY_US | NEVER_NOMINATED | replaced)
        via = (b"1.0 " + self.pseudonym, b"1.1 " + self.pseudonym)
        object.__setattr__(self, "_via", via)

    def passed_here(self, head: RequestHead) -> bool:
        """Tell whether a request has already been through this instance.  Spec: RFC 9110 7.6.3."""
        return b"via" in head.noted and any(
            self.pseudonym in member.split() for member in list_members(noted_values(head, b"via"))
        )

    def fields(
        self, head: RequestHead, options: list[bytes], host: bytes, hop: Hop, framing: Framing
    ) -> Fields:
        """Return the fields that go to the upstream, in the client's order, ours at the end.

        Expect of an HTTP/1.0 client is dropped: it would not know a 100 (RFC 9110 10.1.1).
        Args: connection options as ``connection_options`` gave them; the host that the client asked
            for, which may be empty.
        """
        names = head.names
        asked = host if self.preserve_host and host else self.origin.authority
        dropped = self._dropped
        if options and options != KEEP_ALIVE:
            dropped = dropped.union(options)
        if head.minor_version == 0:
            dropped = dropped | {b"expect"}
        theirs: dict[bytes, list[bytes]] = {}
        if WRITTEN_BY_US.isdisjoint(head.noted) and b"_" not in b"".join(names):
            passing = head.fields
        else:
            passing, names, theirs = self._without_theirs(head)
        kept, names = _without(passing, names, dropped)
        if b"host" in names:
            place = names.index(b"host")
            kept[place] = (kept[place][0], asked)
        elif b"host" not in self._dropped:
            kept.insert(0, (b"Host", asked))
        via = self._via[head.minor_version]
        if theirs or self._replaced or not hop.address or not host:
            self._add_ours(kept, theirs, via, host, hop)
        else:
            kept += (
                (b"X-Forwarded-For", hop.address),
                (b"X-Forwarded-Proto", hop.scheme),
                (b"X-Forwarded-Host", host),
                (b"X-Forwarded-Port", hop.port),
                (b"Via", via),
            )
        kept += self.rules.set
        if b"te" in head.noted and b"te" not in self._replaced:
            if b"trailers" in tokens(noted_values(head, b"te")):
                kept += ((b"TE", b"trailers"), (b"Connection", b"TE"))
        if framing.kind is Kind.CHUNKED:
            kept.append((b"Transfer-Encoding", b"chunked"))
        return kept

    def _without_theirs(
        self, head: RequestHead
    ) -> tuple[Fields, list[bytes], dict[bytes, list[bytes]]]:
        """Part what the client says of itself from the fields that may pass.

        Returns: the fields that may pass, their names, and the values of the others by name.
        """
        passing: Fields = []
        names: list[bytes] = []
        theirs: dict[bytes, list[bytes]] = {}
        for field, name in zip(head.fields, head.names, strict=True):
            if name in WRITTEN_BY_US or (b"_" in name and _alias(name) in self._guarded):
                theirs.setdefault(name, []).append(field[1])
            else:
                passing.append(field)
                names.append(name)
        return passing, names, theirs

    def trailers(self, trailers: Fields, options: list[bytes]) -> Fields:
        """Return the trailers that may go to the upstream."""
        return forwardable_trailers(trailers, self._replaced.union(options))

    def _add_ours(
        self,
        kept: Fields,
        theirs: dict[bytes, list[bytes]],
        via: bytes,
        host: bytes,
        hop: Hop,
    ) -> None:
        """Append X-Forwarded-*, a trusted proxy's Forwarded, and Via."""
        believed = theirs if hop.trusted else {}
        chain = [*believed.get(b"x-forwarded-for", ()), *([hop.address] if hop.address else ())]
        ours: Fields = [
            (b"X-Forwarded-For", b", ".join(chain)),
            (b"X-Forwarded-Proto", _first(believed, b"x-forwarded-proto", hop.scheme)),
            (b"X-Forwarded-Host", _first(believed, b"x-forwarded-host", host)),
            (b"X-Forwarded-Port", _first(believed, b"x-forwarded-port", _port(believed, hop))),
            (b"Forwarded", _forwarded(believed.get(b"forwarded", []), host, hop)),
            (b"Via", via),
        ]
        replaced = self._replaced
        for field in ours:
            if field[1] and (not replaced or field[0].lower() not in replaced):
                kept.append(field)


def _without(
    fields: Fields, names: list[bytes], dropped: frozenset[bytes]
) -> tuple[Fields, list[bytes]]:
    """Return a copy of fields without some names, and the names that are left.

    Mostly one or two of many go, so they are taken out; to choose the others cost twice as much.
    """
    kept = fields.copy()
    gone = dropped.intersection(names)
    if gone:
        names = names.copy()
        for name in gone:
            for _ in range(names.count(name)):
                place = names.index(name)
                del kept[place], names[place]
    return kept, names


def _alias(name: bytes) -> bytes:
    """Return the name that CGI, WSGI and PHP upstreams take a name with ``_`` for."""
    return name.replace(b"_", b"-")


def _first(fields: dict[bytes, list[bytes]], name: bytes, otherwise: bytes) -> bytes:
    return b", ".join(fields[name]) if name in fields else otherwise


def _port(believed: dict[bytes, list[bytes]], hop: Hop) -> bytes:
    """Return the port that the client connected to, as far as a trusted proxy told it."""
    if b"x-forwarded-host" not in believed and b"x-forwarded-proto" not in believed:
        return hop.port
    authority = _first(believed, b"x-forwarded-host", b"")
    port = authority.rpartition(b"]")[2].rpartition(b":")[2] if b":" in authority else b""
    if port.isdigit():
        return port
    scheme = _first(believed, b"x-forwarded-proto", hop.scheme).decode("latin-1")
    return b"%d" % DEFAULT_PORTS[scheme] if scheme in DEFAULT_PORTS else hop.port


def client_of(fields: Fields, hop: Hop, trusted: tuple[Network, ...]) -> bytes:
    """Return the client's address: the last one in X-Forwarded-For that is no trusted proxy's.

    Returns: the connection's own address when its peer is not trusted; empty when nobody knows.
    """
    if not hop.trusted:
        return hop.address
    client = hop.address
    for member in reversed(list_members(values(fields, b"x-forwarded-for"))):
        try:
            address = ip_address(member.decode("ascii"))
        except ValueError:
            break
        client = str(address).encode("ascii")
        if not any(address in network for network in trusted):
            break
    return client


def _forwarded(chain: list[bytes], host: bytes, hop: Hop) -> bytes:
    """Continue a trusted proxy's Forwarded; never begins one.  Spec: RFC 7239 4."""
    if not chain:
        return b""
    node = b'"[%b]"' % hop.address if b":" in hop.address else hop.address or b"unknown"
    element = b"for=%b;proto=%b" % (node, hop.scheme)
    if host:
        element += b';host="%b"' % host
    return b", ".join([*chain, element])


@attrs.frozen
class ResponseForwarding:
    """How response heads are rewritten on their way to the client.

    Attributes:
        secrets: what was injected into requests and must not come back.
        stream_hints: add what keeps the next hop from buffering or transforming event streams,
            each field where the upstream gave none of its name.
    """

    origin: Origin
    mapping: PathMapping
    rules: FieldRules = FieldRules()
    secrets: SecretMask = attrs.Factory(SecretMask)
    stream_hints: bool = True
    preserve_host: bool = False
    _dropped: frozenset[bytes] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_dropped", HOP_BY_HOP | self.rules.replaced)

    def fields(self, head: ResponseHead, options: list[bytes], host: bytes) -> Fields:
        """Return the fields that go to the client, without any framing or connection field.

        Args: connection options as ``connection_options`` gave them; host as the client asked for
            it.
        """
        dropped = self._dropped
        if options and options != KEEP_ALIVE:
            dropped = dropped.union(options)
        if head.status == 204 or head.status < 200:
            dropped = dropped | {b"content-length"}
        kept, names = _without(head.fields, head.names, dropped)
        if not _REFERRING.isdisjoint(head.noted):
            kept = [
                (field[0], self._rewritten(name, field[1], host)) if name in _REFERRING else field
                for field, name in zip(kept, names, strict=True)
            ]
        if self.stream_hints and b"content-type" in names:
            self._add_stream_hints(kept, names)
        if head.status == 426 and b"upgrade" not in self.rules.replaced:
            if b"websocket" in tokens(noted_values(head, b"upgrade")):
                # The one upgrade that can be made here.  Spec: RFC 9110 15.5.22.
                kept += SWITCH
        kept += self.rules.set
        if self.secrets:
            kept = self.without_secrets(kept)
        return kept

    def _add_stream_hints(self, kept: Fields, names: list[bytes]) -> None:
        """Append the hints, when the last Content-Type says that this is an event stream."""
        value = kept[len(names) - 1 - names[::-1].index(b"content-type")][1]
        if value[:17].lower() != b"text/event-stream" or value[17:].partition(b";")[0].strip():
            return
        present = self.rules.replaced.union(names)
        kept += [hint for hint in _STREAM_HINTS if hint[0].lower() not in present]

    def reason(self, reason: bytes) -> bytes:
        """Return the reason phrase that goes to the client."""
        return self.secrets.apply(reason)

    def trailers(self, trailers: Fields, options: list[bytes]) -> Fields:
        """Return the trailers that may go to the client."""
        if not trailers:
            return trailers
        return self.without_secrets(
            forwardable_trailers(trailers, self.rules.replaced.union(options))
        )

    def without_secrets(self, fields: Fields) -> Fields:
        """Return fields in which no injected secret is repeated; framing is left alone."""
        return [
            (name, value if name.lower() == b"content-length" else self.secrets.apply(value))
            for name, value in fields
            if self.secrets.apply(name) is name
        ]

    def _rewritten(self, name: bytes, value: bytes, host: bytes) -> bytes:
        if name == b"set-cookie":
            return self._cookie(value)
        if name == b"refresh":
            match = _refresh(value)
            if match is None:
                return value
            prefix, quote, reference = match.groups()
            if quote:
                reference, end, rest = reference.partition(quote)
                return prefix + quote + self._reference(reference, host) + end + rest
            return prefix + self._reference(reference, host)
        return self._reference(value, host)

    def _reference(self, reference: bytes, host: bytes) -> bytes:
        """Map a URI reference that points at the target to one under the prefix.

        The result is a path, so that it holds whatever origin the client sees.
        Spec: RFC 9110 10.2.2, RFC 3986 4.2.
        """
        match = _url_origin(reference)
        if match is not None:
            if not self._is_target(match[1], match[2], host):
                return reference
            path = match[3]
        elif reference.startswith(b"/"):
            path = reference
        else:
            return reference
        mapped = self.mapping.to_client(path if path[:1] == b"/" else b"/" + path)
        if mapped is None or mapped.replace(b"\t", b"")[1:2] in (b"/", b"\\"):
            # Two slashes at the beginning would name another host (RFC 3986 4.2); browsers take a
            # backslash for a slash and drop tabs (WHATWG URL 4.4).
            return reference
        return mapped

    def _is_target(self, scheme: bytes | None, authority: bytes, host: bytes) -> bool:
        ours = self.origin.scheme.encode("ascii")
        authority = authority.lower()
        if self.preserve_host and host and authority == host.lower():
            return True
        if scheme is not None and scheme.lower() != ours:
            return False
        default = b":%d" % DEFAULT_PORTS[self.origin.scheme]
        return authority.removesuffix(default) == self.origin.authority

    def _cookie(self, value: bytes) -> bytes:
        """Map Path and drop a Domain that is the target's.  Spec: RFC 6265 5.2.3, 5.2.4."""
        pair, *attributes = value.split(b";")
        kept = [pair]
        for attribute in attributes:
            name, equals, argument = attribute.partition(b"=")
            key = name.strip().lower()
            if key == b"domain" and self._covers_target(argument.strip()):
                continue
            if key == b"path" and pair.lstrip()[:7].lower() != b"__host-":
                path = argument.strip()
                if path.startswith(b"/"):
                    attribute = name + equals + self.mapping.cookie_path(path)
            kept.append(attribute)
        return b";".join(kept)

    def _covers_target(self, domain: bytes) -> bool:
        domain = domain.strip(b".").lower()
        host = self.origin.host.encode("ascii")
        return bool(domain) and (host == domain or host.endswith(b"." + domain))


_REFERRING = frozenset({b"content-location", b"location", b"refresh", b"set-cookie"})
"""Fields that may name the target or a path of it."""

_STREAM_HINTS: tuple[Field, ...] = (
    (b"X-Accel-Buffering", b"no"),
    (b"Cache-Control", b"no-transform"),
)


def hops_left(fields: Fields) -> int | None:
    """Return how often an OPTIONS or TRACE may still be forwarded; None for no bound.

    Raises: Malformed for a Max-Forwards that is no decimal number, or more than one.
    Spec: RFC 9110 7.6.2.
    """
    bounds = values(fields, b"max-forwards")
    if not bounds:
        return None
    if len(bounds) > 1 or not bounds[0].isdigit() or len(bounds[0]) > 9:
        raise Malformed("a Max-Forwards that is no decimal number")
    return int(bounds[0])


def one_hop_less(fields: Fields) -> Fields:
    """Return fields with Max-Forwards lowered by one.  Spec: RFC 9110 7.6.2."""
    return [
        (name, b"%d" % (int(value) - 1)) if name.lower() == b"max-forwards" else (name, value)
        for name, value in fields
    ]


def forwardable_trailers(trailers: Fields, dropped: frozenset[bytes] = frozenset()) -> Fields:
    """Return the trailers that may pass: none that frames, routes or authenticates.

    Args: names in lower case that must not pass either.
    Spec: RFC 9110 6.5.1.
    """
    if not trailers:
        return trailers
    refused = FORBIDDEN_TRAILERS | HOP_BY_HOP | WRITTEN_BY_US | dropped
    return [field for field in trailers if _alias(field[0].lower()) not in refused]
