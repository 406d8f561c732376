"""What becomes of a response's head on its way to the client.

What names the target is mapped to where the client sees it.
Spec: RFC 9110 7.6, 10.2.2; RFC 6265 5.2.
"""

from __future__ import annotations

import re

import attrs

from pyproxy.semantics.fields import Field, Fields, tokens
from pyproxy.semantics.forwarding import (
    HOP_BY_HOP,
    KEEP_ALIVE,
    FieldRules,
    forwardable_trailers,
    without,
)
from pyproxy.semantics.handshake import SWITCH
from pyproxy.semantics.messages import ResponseHead, noted_values
from pyproxy.semantics.secrets import SecretMask
from pyproxy.semantics.urls import DEFAULT_PORTS, HTTP_SCHEMES, Origin, PathMapping, undotted

_refresh = re.compile(
    rb"""([\d.]*+[ \t]*+[;,]?[ \t]*+url[ \t]*+=[ \t]*+)(["']?)(.*)""", re.I | re.S
).fullmatch
_with_port = re.compile(rb".+:\d+").fullmatch
_url_origin = re.compile(rb"(?:([A-Za-z][A-Za-z0-9+.\-]*):)?//([^/?#\\]*)(.*)", re.S).fullmatch


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
    _masks: bool = attrs.field(init=False)
    _places: frozenset[tuple[bytes, bytes]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_masks", bool(self.secrets))
        object.__setattr__(self, "_dropped", HOP_BY_HOP | LEADS_PAST | self.rules.replaced)
        object.__setattr__(self, "_places", _places(self.origin))

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
        kept, names = without(head.fields, head.names, dropped)
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
        if self._masks:
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
        return self.secrets.apply(reason) if self._masks else reason

    def trailers(self, trailers: Fields, options: list[bytes]) -> Fields:
        """Return the trailers that may go to the client."""
        if not trailers:
            return trailers
        return self.without_secrets(
            forwardable_trailers(trailers, self.rules.replaced.union(LEADS_PAST, options))
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
        authority = authority.lower()
        if self.preserve_host and host and authority == host.lower():
            return True
        ours = self.origin.scheme.encode("ascii")
        scheme = ours if scheme is None else scheme.lower()
        return (HTTP_SCHEMES.get(scheme, scheme), undotted(authority)) in self._places

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
        host = self.origin.name.encode("ascii")
        return bool(domain) and (host == domain or host.endswith(b"." + domain))


def _places(origin: Origin) -> frozenset[tuple[bytes, bytes]]:
    """Return where a reference may point and mean the target, as (scheme, authority).

    That is the target's host and port in either scheme: an upstream behind a TLS server of its own
    writes ``http://`` in front of what was asked by https, and one that is told of a client's https
    (X-Forwarded-Proto) the other way round.  For an https target it is http's own port too, or a
    client would leave the proxy and its key.  Not so the other way: who answers http with a
    redirect to https's own port asks for another target, and would do so again and again.
    Spec: RFC 3986 6.2.3, RFC 9110 4.2.
    """
    ours = origin.scheme.encode("ascii")
    name, port = undotted(origin.authority), b"%d" % DEFAULT_PORTS[ours]
    if _with_port(name):
        name, _, port = name.rpartition(b":")
    places = {(scheme, b"%b:%b" % (name, port)) for scheme in DEFAULT_PORTS}
    if ours == b"https" and port == b"443":
        places.add((b"http", name + b":80"))
    for scheme, default in DEFAULT_PORTS.items():
        if (scheme, b"%b:%d" % (name, default)) in places:
            places.add((scheme, name))
    return frozenset(places)


LEADS_PAST = frozenset({b"alt-svc"})
"""Fields that would lead a client past the proxy, to the upstream itself.  Spec: RFC 7838 3."""

_REFERRING = frozenset({b"content-location", b"location", b"refresh", b"set-cookie"})
"""Fields that may name the target or a path of it."""

_STREAM_HINTS: tuple[Field, ...] = (
    (b"X-Accel-Buffering", b"no"),
    (b"Cache-Control", b"no-transform"),
)
