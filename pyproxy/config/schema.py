"""The whole configuration as facts; made by the loader, read by the wiring only."""

from __future__ import annotations

import attrs

from pyproxy.config.values import is_loopback, listens_on_loopback
from pyproxy.policy.routing import Limits
from pyproxy.semantics.forwarding import FieldRules, Network
from pyproxy.semantics.origins import WebOrigin
from pyproxy.semantics.urls import Target


@attrs.frozen
class Listen:
    """Where to listen: a Twisted endpoint string, or a port on an interface.

    Attributes:
        interface: an IP address, or empty for every IPv4 interface.
    """

    description: str | None = None
    port: int = 8000
    interface: str = "127.0.0.1"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.description is not None:
            return listens_on_loopback(self.description)
        return is_loopback(self.interface)


@attrs.frozen
class Config:
    """What the operator asked for.

    Attributes:
        target: where requests go, or None for the demo upstream.
        prefix: as ``PathMapping`` has it.
        client_limit: seconds for the head of a request, and for an idle connection.
        secrets: octets of injected credentials; they are masked wherever they would show.
        authorities: the PEM text of --upstream-ca, None for the system's.
        workers: processes that share the listening sockets.
        allowed_hosts, allowed_origins: as ``Guard.of`` has them.
    """

    target: Target | None
    prefix: bytes
    listen: tuple[Listen, ...]
    request_rules: FieldRules = FieldRules()
    response_rules: FieldRules = FieldRules()
    secrets: tuple[bytes, ...] = ()
    preserve_host: bool = False
    trusted: tuple[Network, ...] = ()
    trust_unix: bool = False
    limits: Limits = Limits()
    client_limit: float = 75.0
    authorities: bytes | None = None
    insecure: bool = False
    stream_hints: bool = True
    access_log: bool = True
    workers: int = 1
    allowed_hosts: tuple[bytes, ...] = ()
    allowed_origins: tuple[WebOrigin, ...] = ()
