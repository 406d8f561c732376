"""What becomes of a request's head on its way to the upstream.

Strip first, then rewrite: fields of one hop go before anything of ours is added, so that no client
can nominate away what the operator injects.
Spec: RFC 9110 7.6, RFC 7239.
"""

from __future__ import annotations

import attrs

from pyproxy.semantics.fields import Fields, list_members, tokens
from pyproxy.semantics.forwarding import (
    HOP_BY_HOP,
    KEEP_ALIVE,
    NEVER_NOMINATED,
    WRITTEN_BY_US,
    FieldRules,
    Hop,
    alias,
    forwardable_trailers,
    without,
)
from pyproxy.semantics.framing import Framing, Kind
from pyproxy.semantics.messages import RequestHead, noted_values
from pyproxy.semantics.urls import DEFAULT_PORTS, HTTP_SCHEMES, Origin

MAX_KNOWN_HOSTS = 256
"""Hosts whose port is kept, for each route: more come from no honest clients."""

MAX_KNOWN_HOST_BYTES = 255
"""Octets of a host whose port is kept; no name in the DNS is longer.  Spec: RFC 1035 2.3.4."""


def port_of(scheme: bytes, host: bytes) -> bytes:
    """Return the port that a host means: its own, else the scheme's; empty when neither says it.

    Spec: RFC 3986 3.2.3, RFC 9110 4.2.1.
    """
    port = host.rpartition(b"]")[2].rpartition(b":")[2] if b":" in host else b""
    if port.isdigit():
        return port
    # Some proxies say ``wss`` of a WebSocket.
    known = HTTP_SCHEMES.get(scheme)
    return b"%d" % DEFAULT_PORTS[known] if known else b""


class _Ports(dict[tuple[bytes, bytes], bytes]):
    """The ports of hosts, by (scheme, host): to look one up again is no call.

    Bounded, since clients choose what stands in it.
    """

    def __missing__(self, key: tuple[bytes, bytes]) -> bytes:
        port = port_of(*key)
        if len(key[1]) <= MAX_KNOWN_HOST_BYTES:
            if len(self) >= MAX_KNOWN_HOSTS:
                self.clear()
            self[key] = port
        return port


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
    _ports: _Ports = attrs.field(init=False, factory=_Ports, eq=False, repr=False)

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
        dropped = self._dropped_of(head, options)
        theirs: dict[bytes, list[bytes]] = {}
        if WRITTEN_BY_US.isdisjoint(head.noted) and b"_" not in b"".join(names):
            passing = head.fields
        else:
            passing, names, theirs = self._without_theirs(head)
        kept, names = without(passing, names, dropped)
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
                (b"X-Forwarded-Port", self._ports[hop.scheme, host]),
                (b"Via", via),
            )
        kept += self.rules.set
        if b"te" in head.noted and b"te" not in self._replaced:
            if b"trailers" in tokens(noted_values(head, b"te")):
                kept += ((b"TE", b"trailers"), (b"Connection", b"TE"))
        if framing.kind is Kind.CHUNKED:
            kept.append((b"Transfer-Encoding", b"chunked"))
        return kept

    def _dropped_of(self, head: RequestHead, options: list[bytes]) -> frozenset[bytes]:
        """Return the names, in lower case, that do not pass."""
        dropped = self._dropped
        if options and options != KEEP_ALIVE:
            # Host is the target's own, nominated or not.  Spec: RFC 9110 7.2.
            dropped = dropped.union(option for option in options if option != b"host")
        if head.minor_version == 0:
            dropped = dropped | {b"expect"}
        return dropped

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
            if name in WRITTEN_BY_US or (b"_" in name and alias(name) in self._guarded):
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
        scheme = _first(believed, b"x-forwarded-proto", hop.scheme)
        asked = _first(believed, b"x-forwarded-host", host)
        ours: Fields = [
            (b"X-Forwarded-For", b", ".join(chain)),
            (b"X-Forwarded-Proto", scheme),
            (b"X-Forwarded-Host", asked),
            (b"X-Forwarded-Port", _first(believed, b"x-forwarded-port", _port(scheme, asked, hop))),
            (b"Forwarded", _forwarded(believed.get(b"forwarded", []), host, hop)),
            (b"Via", via),
        ]
        replaced = self._replaced
        for field in ours:
            if field[1] and (not replaced or field[0].lower() not in replaced):
                kept.append(field)


def _first(fields: dict[bytes, list[bytes]], name: bytes, otherwise: bytes) -> bytes:
    return b", ".join(fields[name]) if name in fields else otherwise


def _port(scheme: bytes, host: bytes, hop: Hop) -> bytes:
    """Return the port that agrees with the scheme and the host that the upstream is told.

    Of lists the first members count, which speak of the client.  Where nobody told a host, nor
    another scheme than the connection's, the port is the one that the connection came to.
    """
    if not host and scheme == hop.scheme:
        return hop.port
    first_scheme, first_host = (one.partition(b",")[0].strip(b"\t ") for one in (scheme, host))
    return port_of(first_scheme.lower(), first_host) or hop.port


def _forwarded(chain: list[bytes], host: bytes, hop: Hop) -> bytes:
    """Continue a trusted proxy's Forwarded; never begins one.  Spec: RFC 7239 4."""
    if not chain:
        return b""
    node = b'"[%b]"' % hop.address if b":" in hop.address else hop.address or b"unknown"
    element = b"for=%b;proto=%b" % (node, hop.scheme)
    if host:
        element += b';host="%b"' % host
    return b", ".join([*chain, element])
