"""Which requests may spend a credential that the proxy adds: not those of a foreign web page.

A browser sends a page's simple requests and its WebSockets anywhere without asking, and a name that
the page's owner points at this machine makes its requests look like the proxy's own (DNS
rebinding).  Whoever is no browser says nothing of a page, and is not concerned.
Spec: RFC 9110 15.5.20 (421), RFC 6454, W3C Fetch Metadata.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from pyproxy.errors import CrossOriginRefused, MisdirectedRequest
from pyproxy.semantics.fields import list_members
from pyproxy.semantics.forwarded import parameters
from pyproxy.semantics.forwarding import Hop
from pyproxy.semantics.messages import RequestHead, noted_values
from pyproxy.semantics.origins import (
    MAX_ORIGIN_BYTES,
    WebOrigin,
    base_of,
    is_loopback_host,
    read_authority,
    read_origin,
)

ANY = b"any"
"""What stands for every host."""

_OTHER_SITES = frozenset({b"cross-site", b"same-site"})
"""What ``Sec-Fetch-Site`` says of a page of another origin.  Spec: W3C Fetch Metadata 2.3."""

_WEB = frozenset({b"http", b"https"})

_PAGE_SCHEMES = {b"ws": b"http", b"wss": b"https"}


@attrs.frozen
class Guard:
    """Keeps foreign pages from a route that adds a credential.

    Attributes:
        hosts: names by which the proxy may be asked, beside those of loopback and its own address.
        domains: the same for all names that end so; each begins with a dot.
        any_host: it may be asked by every name.
        origins: of pages that may use it, beside its own and those of loopback.
        sites: the same for all hosts that end so; each host begins with a dot.
    """

    hosts: frozenset[bytes] = frozenset()
    domains: tuple[bytes, ...] = ()
    any_host: bool = False
    origins: frozenset[WebOrigin] = frozenset()
    sites: tuple[WebOrigin, ...] = ()

    @classmethod
    def of(cls, hosts: Iterable[bytes] = (), origins: Iterable[WebOrigin] = ()) -> Guard:
        """Make a guard of what the operator allows.

        Args: names in lower case, ``*.`` and what they end with, or ANY; origins, whose host may
            begin with ``*.`` too.
        """
        names, allowed = frozenset(hosts), frozenset(origins)
        wide = frozenset(name for name in names if name.startswith(b"*."))
        sites = frozenset(origin for origin in allowed if origin.host.startswith(b"*."))
        return cls(
            names - wide,
            tuple(name[1:] for name in wide),
            ANY in names,
            allowed - sites,
            tuple(site._replace(host=site.host[1:]) for site in sites),
        )

    def admit(self, head: RequestHead, host: bytes, hop: Hop) -> None:
        """Let a request pass, or refuse it.

        Args: host that was asked for, empty without one: no browser leaves it out.
        Raises: MisdirectedRequest, CrossOriginRefused.
        """
        asked: list[bytes] = [host] if host else []
        if hop.trusted:
            asked = _told_hosts(head) or asked
        if not self.any_host:
            for authority in asked:
                if not self._is_ours(authority, hop.local):
                    raise MisdirectedRequest("the proxy is not known by the host that was asked")
        noted, names = head.noted, head.names
        if b"origin" in noted:
            value = head.fields[names.index(b"origin")][1]
            if names.count(b"origin") > 1 or not self._allows(value, head, asked, hop):
                raise CrossOriginRefused("a page of another origin asked")
        elif b"sec-fetch-site" in noted:
            if head.fields[names.index(b"sec-fetch-site")][1] in _OTHER_SITES:
                self._admit_marked(head, asked, hop)

    def _is_ours(self, authority: bytes, local: bytes) -> bool:
        """Tell whether an authority names this proxy; its port does not matter.

        Args: local, the address that the request came to, empty without one.
        """
        read = read_authority(authority) if len(authority) <= MAX_ORIGIN_BYTES else None
        if read is None:
            return False
        host = read.host
        if is_loopback_host(host) or host == local:
            return True
        host = host.removesuffix(b".")
        return host in self.hosts or host.endswith(self.domains)

    def _admit_marked(self, head: RequestHead, asked: list[bytes], hop: Hop) -> None:
        """Let pass what a page of another site made a browser ask, if that may be.

        The browser names no ``Origin`` with an image and the like.  It names the page in
        ``Referer``, unless the page forbids that; no page can name another one there.
        """
        if head.method == b"GET" and noted_values(head, b"sec-fetch-mode") == [b"navigate"]:
            return
        referers = noted_values(head, b"referer")
        page = base_of(referers[0]) if len(referers) == 1 else b""
        if not self._allows(page, head, asked, hop):
            raise CrossOriginRefused("a page of another site asked")

    def _allows(self, value: bytes, head: RequestHead, asked: list[bytes], hop: Hop) -> bool:
        """Tell whether pages of an origin may use the proxy.  Args: value of its field."""
        origin = read_origin(value) if len(value) <= MAX_ORIGIN_BYTES else None
        if origin is None:
            return False
        if origin in self.origins or (origin.scheme in _WEB and is_loopback_host(origin.host)):
            return True
        schemes = (_told_schemes(head) if hop.trusted else None) or (hop.scheme,)
        for scheme in schemes:
            for authority in asked:
                own = scheme + b"://" + authority
                if len(own) <= MAX_ORIGIN_BYTES and origin == read_origin(own):
                    return True
        for site in self.sites:
            if origin.host.endswith(site.host) and origin == site._replace(host=origin.host):
                return True
        return False


def _told_hosts(head: RequestHead) -> list[bytes]:
    """Return every host that a trusted proxy says was asked for: one may come from the client."""
    told = list_members(noted_values(head, b"x-forwarded-host"))
    return told + parameters(noted_values(head, b"forwarded"), b"host")


def _told_schemes(head: RequestHead) -> list[bytes]:
    """Return every scheme by which a trusted proxy says it was asked.

    Traefik names a WebSocket's own scheme; the page behind it has one of http's.
    """
    told = list_members(noted_values(head, b"x-forwarded-proto"))
    told += parameters(noted_values(head, b"forwarded"), b"proto")
    return [_PAGE_SCHEMES.get(scheme.lower(), scheme.lower()) for scheme in told]
