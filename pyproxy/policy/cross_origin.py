"""Which requests may spend a credential that the proxy adds: not those of a foreign web page.

A browser sends a page's simple requests and its WebSockets anywhere without asking, and a name that
the page's owner points at this machine makes its requests look like the proxy's own (DNS
rebinding).  Whoever is no browser says nothing of a page, and is not concerned.
Spec: RFC 9110 15.5.20 (421), RFC 6454, W3C Fetch Metadata.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import attrs

from pyproxy.errors import CrossOriginRefused, MisdirectedRequest
from pyproxy.semantics.fields import Field, Fields, list_members, values
from pyproxy.semantics.forwarded import parameters
from pyproxy.semantics.forwarding import Hop
from pyproxy.semantics.messages import RequestHead
from pyproxy.semantics.origins import (
    MAX_ORIGIN_BYTES,
    REMEMBERED,
    WebOrigin,
    is_loopback_host,
    read_authority,
    read_origin,
)
from pyproxy.semantics.urls import DEFAULT_PORTS, HTTP_SCHEMES

ANY = b"any"
"""What stands for every host."""

MAX_SHOWN_BYTES = 100
"""Octets of a host or an origin in the log."""

_MARKS = frozenset({b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site", b"sec-purpose"})
"""Fields in which a browser says what made it ask; no page can write them.

Spec: W3C Fetch Metadata 2; WHATWG Fetch, Sec-Purpose.
"""

_NO_PAGE = frozenset({b"none", None})
"""What ``Sec-Fetch-Site`` says where no page made the browser ask, or whoever asked is none."""

_TOLD = frozenset({b"forwarded", b"x-forwarded-host", b"x-forwarded-proto"})
"""Fields in which a trusted proxy says how it was asked."""

_WEB = frozenset({b"http", b"https"})


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
        noted, names, fields = head.noted, head.names, head.fields
        asked: tuple[bytes, ...] = (host,) if host else ()
        schemes: tuple[bytes, ...] = (hop.scheme,)
        if hop.trusted and not _TOLD.isdisjoint(noted):
            told: Fields = []
            for field, name in zip(fields, names, strict=True):
                if name in _TOLD:
                    told.append((name, field[1]))
            hosts, told_schemes = _read_told(tuple(told))
            # A browser of this machine is no proxy: it may be a page that tells.
            if hosts and not (
                is_loopback_host(hop.address)
                and len(host) <= MAX_ORIGIN_BYTES
                and _names_port(host, hop.port, hop.scheme)
            ):
                asked = ()
            asked, schemes = hosts + asked, told_schemes or schemes
        if not self.any_host:
            for authority in asked:
                if not self._is_ours(authority, hop.local):
                    raise MisdirectedRequest(
                        "the proxy is not known by the host that was asked",
                        f"{_shown(authority)} is no host of this proxy: see --allow-host",
                    )
        if b"origin" in noted:
            value = fields[names.index(b"origin")][1]
            if names.count(b"origin") > 1 or not self._allows(value, asked, schemes):
                raise CrossOriginRefused(
                    "a page of another origin asked",
                    f"a page of {_shown(value)} asked: see --allow-origin",
                )
        elif not _MARKS.isdisjoint(noted):
            self._admit_marked(head)

    def _admit_marked(self, head: RequestHead) -> None:
        """Let pass what a browser asks without naming an Origin, if no foreign page made it.

        Its word for the page counts.  Somebody may follow a link: that is a plain navigation of the
        whole window, and no frame's, and nothing that is fetched before anybody follows it.
        Raises: CrossOriginRefused.
        """
        marks: dict[bytes, bytes] = {}
        for field, name in zip(head.fields, head.names, strict=True):
            if name in _MARKS:
                # What came twice is no word of a browser's.
                marks[name] = b"" if name in marks else field[1]
        site = marks.get(b"sec-fetch-site")
        if site == b"same-origin" or (b"sec-purpose" not in marks and site in _NO_PAGE):
            return
        if (
            b"sec-purpose" in marks
            or head.method != b"GET"
            or marks.get(b"sec-fetch-mode") != b"navigate"
            or marks.get(b"sec-fetch-dest", b"document") != b"document"
        ):
            raise CrossOriginRefused("a page of another site asked")

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

    def _allows(self, value: bytes, asked: Iterable[bytes], schemes: Iterable[bytes]) -> bool:
        """Tell whether pages of an origin may use the proxy.

        Args: value of Origin; hosts and schemes by which the proxy was asked.
        """
        origin = read_origin(value) if len(value) <= MAX_ORIGIN_BYTES else None
        if origin is None:
            return False
        if origin in self.origins or (origin.scheme in _WEB and is_loopback_host(origin.host)):
            return True
        for scheme in schemes:
            for authority in asked:
                own = scheme + b"://" + authority
                if len(own) <= MAX_ORIGIN_BYTES and origin == read_origin(own):
                    return True
        for site in self.sites:
            if origin.host.endswith(site.host) and origin == site._replace(host=origin.host):
                return True
        return False


@lru_cache(maxsize=REMEMBERED)
def _names_port(authority: bytes, port: bytes, scheme: bytes) -> bool:
    """Tell whether who asks by an authority has come to a port.

    A page can write all that a proxy tells, but not the port that its own address has.
    """
    read = read_authority(authority)
    asked = None if read is None else read.port
    return b"%d" % (asked or DEFAULT_PORTS[scheme]) == port


def _shown(octets: bytes) -> str:
    """Return a host or an origin as the log names it."""
    return octets[:MAX_SHOWN_BYTES].decode("latin-1") or "nobody"


# One proxy in front says the same again and again.
@lru_cache(maxsize=REMEMBERED)
def _read_told(told: tuple[Field, ...]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return every host, and every scheme, by which a trusted proxy says that it was asked.

    All of them are judged: one may be what its own client wrote.  Traefik names a WebSocket's own
    scheme; the page behind it has one of http's.
    Args: its fields, with their names in lower case.
    """
    hosts = list_members(values(told, b"x-forwarded-host"))
    hosts += parameters(values(told, b"forwarded"), b"host")
    schemes = list_members(values(told, b"x-forwarded-proto"))
    schemes += parameters(values(told, b"forwarded"), b"proto")
    lowered = (scheme.lower() for scheme in schemes)
    return tuple(hosts), tuple(HTTP_SCHEMES.get(scheme, scheme) for scheme in lowered)
