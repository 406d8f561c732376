"""Places to listen: whether an endpoint string can be used, before anything starts."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, MutableMapping
from pathlib import Path

from pyproxy.config import values

Check = Callable[[str], None]
"""Raises when Twisted cannot read an endpoint string; each kind of endpoint has its own error."""

_tcp_endpoint = re.compile(r"(?:tcp6?|ssl):(?:port=)?([0-9]+)(?::|\Z)").match
_unix_endpoint = re.compile(r"(?:haproxy:)*unix:(?:address=)?((?:\\.|[^:\\])+)").match
_is_stdio = re.compile(r"(?:haproxy:)*stdio(?::|\Z)").match
is_of_systemd = re.compile(r"(?:haproxy:)*systemd:").match


FILE_ARGUMENT = re.compile(
    r"(?<=:)(privateKey|certKey|extraCertChain|dhParameters)=((?:\\.|[^:\\])+)"
)
"""An argument of an endpoint string that names a file."""


def unquoted(argument: str) -> str:
    """Return an argument of an endpoint string as it was meant."""
    return re.sub(r"\\(.)", r"\1", argument)


def files_of(description: str) -> set[str]:
    """Return the names of the files, keys and certificates, that an endpoint string has."""
    return {unquoted(match[2]) for match in FILE_ARGUMENT.finditer(description)}


def name_inherited(environment: MutableMapping[str, str]) -> None:
    """Name the sockets that whoever started this process has opened for it, if they have no names.

    Without names Twisted, once it is imported, takes none of them; ``systemd-socket-activate``
    gives none unless it is told to.  Spec: sd_listen_fds(3), which has ``unknown`` for those.
    """
    count = environment.get("LISTEN_FDS", "")
    if "LISTEN_FDNAMES" not in environment and re.fullmatch(r"[1-9][0-9]{0,3}", count):
        environment["LISTEN_FDNAMES"] = ":".join(["unknown"] * int(count))


def check_endpoint(description: str, check: Check, tries: bool = True) -> None:
    """Try an endpoint string.

    Args: tries, whether its port is tried too; one that runs already has it.
    Raises: ValueError with a sentence that says what would be right.
    """
    try:
        check(description)
    except Exception as error:
        if isinstance(error, LookupError) and is_of_systemd(description):
            raise ValueError(
                "systemd has passed no such socket; a .socket unit of the service's name would"
            ) from error
        if isinstance(error, OSError) and error.filename is not None:
            why = f"a file that it names cannot be read ({error.strerror}: {error.filename})"
            raise ValueError(why) from error
        if type(error).__module__.startswith("OpenSSL"):
            why = f"its key or certificate cannot be used ({str(error).rstrip('.')})"
            raise ValueError(why) from error
        why = "it has to be a Twisted endpoint such as tcp:8000:interface=127.0.0.1"
        raise ValueError(f"{why} or unix:/run/pyproxy.sock ({error})") from error
    if unix := _unix_endpoint(description):
        directory = Path(unquoted(unix[1])).absolute().parent
        if not unix[1].startswith("\0") and not directory.is_dir():
            raise ValueError(f"there is no directory {directory}")
    match = _tcp_endpoint(description)
    if match is None:
        return
    interface = values.interface_of(description) or ("::" if description.startswith("tcp6") else "")
    port, interface = values.parse_port(match[1]), values.parse_interface(interface)
    try:
        # Whoever runs has the port; whether the machine has the address can be told anyway.
        try_bind(port if tries else 0, interface)
    except OSError as error:
        raise ValueError(
            f"cannot listen there ({os.strerror(error.errno or 0)}); choose another"
        ) from error


def try_bind(port: int, interface: str) -> None:
    """Try a port, so that a taken one is told before anything starts.  Raises: OSError."""
    family = socket.AF_INET6 if ":" in interface else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((interface, port))


def can_be_shared(description: str) -> bool:
    """Tell whether several processes can have a place together."""
    return _is_stdio(description) is None
