"""From the text of one value to a fact.

Every function raises ValueError with a sentence that says what would be right, and never quotes a
secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path

from pyproxy.config.kinds import Sources
from pyproxy.semantics.addresses import is_loopback_address, read_address
from pyproxy.semantics.fields import Field, is_field_value, is_token
from pyproxy.semantics.forwarding import HOP_BY_HOP, Network
from pyproxy.semantics.origins import WebOrigin, read_authority, read_origin
from pyproxy.semantics.urls import MAX_PORT, is_authority

DEFAULTS: dict[str, bool | float] = {
    "preserve_host": False,
    "stream_hints": True,
    "access_log": True,
    "first_byte_timeout": 300.0,
    "idle_timeout": 300.0,
    "upload_timeout": 60.0,
}
"""What holds on a route that says nothing else."""

MIN_PART_BYTES = 6
"""Shorter cookie values and parameters (``dark``, ``auth``) are settings, and no secrets."""

MAX_SECONDS = 1e9
"""Thirty years: a limit that is none, and that every timer can still keep."""

MAX_VALUE_FILE_BYTES = 64 * 1024
"""Octets of a file whose content becomes a field's value."""

MAX_WORKERS = 256
"""More processes than any machine has use for here; a typing error is told instead of started."""

_size = re.compile(r"([0-9]{1,15}) ?(?:([kmgt])(?:i?b)?|b)?", re.IGNORECASE).fullmatch
_decimal = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(?:e[0-9]{1,2})?").fullmatch
_variable = re.compile(r"\$(\$)\{|\$\{([^}]*)\}")
_are_variables = re.compile(r"(?:\$\{[A-Za-z0-9_]+\})+").fullmatch
_is_variable_name = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch
MIN_TOKEN_BYTES = 16
"""Octets of the admin site's token, at least: nobody guesses it."""

# Spec: RFC 6750 2.1.
_is_bearer = re.compile(rb"[A-Za-z0-9\-._~+/]+=*").fullmatch
_admin_kind = re.compile(r"(tcp6?|ssl|unix):[^:]").match
_interface = re.compile(r"(?:^|:)interface=((?:\\.|[^:\\])*)")

_is_credential_name = re.compile(
    rb"key|token|secret|auth|passw|cookie|credential|session|signature", re.IGNORECASE
).search

_UNREMOVABLE = frozenset({b"content-length", b"host", b"transfer-encoding"})

_UNSETTABLE = HOP_BY_HOP | {b"content-length", b"trailer"}

_OPENING = frozenset({b"sec-websocket-accept", b"sec-websocket-key", b"sec-websocket-version"})


def parse_port(text: str) -> int:
    """Parse a TCP port; 0 lets the system choose."""
    if re.fullmatch(r"[0-9]{1,5}", text) is None or int(text) > MAX_PORT:
        raise ValueError(f"it has to be a number from 0 to {MAX_PORT}")
    return int(text)


def parse_workers(text: str) -> int:
    """Parse a number of processes; ``auto`` is one for each CPU that this one may use."""
    if text == "auto":
        return min(usable_cpus(), MAX_WORKERS)
    if re.fullmatch(r"[0-9]{1,4}", text) is None or not 1 <= int(text) <= MAX_WORKERS:
        raise ValueError(f"it has to be a number from 1 to {MAX_WORKERS}, or `auto`")
    return int(text)


def usable_cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parse_interface(text: str) -> str:
    """Parse the address to listen on; empty for every IPv4 interface."""
    if text and read_address(text.encode("utf-8", "surrogateescape")) is None:
        raise ValueError("it has to be an IP address of this machine, such as 127.0.0.1 or ::")
    return text


def parse_seconds(text: str) -> float:
    """Parse a time limit in seconds."""
    if _decimal(text) is None or not 0 < float(text) <= MAX_SECONDS:
        raise ValueError("it has to be a number of seconds greater than 0, such as 5 or 0.5")
    return float(text)


def parse_size(text: str) -> int:
    """Parse a number of octets: ``1000``, ``64k``, ``10MiB``; the units are powers of 1024."""
    match = _size(text.strip(" "))
    if match is None:
        raise ValueError("it has to be a number of bytes, such as 1000000, 64k or 10m")
    unit = (match[2] or "").lower()
    return int(match[1]) * int(1024 ** " kmgt".index(unit or " "))


def parse_some_size(text: str) -> int:
    """Parse a number of octets as ``parse_size`` does, but not 0."""
    size = parse_size(text)
    if size == 0:
        raise ValueError("it has to be more than 0 bytes; leave it out for no bound")
    return size


def parse_network(text: str) -> Network:
    """Parse an address or a CIDR block."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            "it has to be an address or CIDR block such as 10.0.0.0/8, or `unix`"
        ) from None


def parse_allowed_host(text: str) -> bytes:
    """Parse a name by which the proxy may be asked: of a host, ``*.`` and a suffix, or ``any``."""
    name = text.lower().removesuffix(".").encode("utf-8", "surrogateescape")
    read = read_authority(name.removeprefix(b"*."))
    if read is None and b":" in name:
        read = read_authority(b"[%b]" % name)
    if read is None or read.port is not None or b"*" in read.host or not read.host.isascii():
        raise ValueError(
            "it has to be the name or address of a host without a port, such as chat.example.com, "
            "*.example.com (its subdomains; other scripts as xn--…), or `any`"
        )
    return b"*." + read.host if name.startswith(b"*.") else read.host


def parse_allowed_origin(text: str) -> WebOrigin:
    """Parse the origin of pages that may use the proxy; its host may begin with ``*.``."""
    origin = read_origin(text.encode("utf-8", "surrogateescape"))
    host = b"" if origin is None else origin.host.removeprefix(b"*.")
    if origin is None or not host or b"*" in host or host.endswith(b".") or not host.isascii():
        raise ValueError(
            "it has to be SCHEME://HOST[:PORT] without a path, as browsers write it in Origin: "
            "https://chat.example.com, or https://*.example.com for its subdomains"
        )
    return origin


def parse_name(text: str) -> bytes:
    """Parse a field name; returns it in lower case."""
    name = text.encode("utf-8", "surrogateescape")
    if not is_token(name):
        raise ValueError("it has to be a field name, such as X-Api-Key")
    if name.lower() in _UNREMOVABLE:
        raise ValueError("a field that frames or routes a message cannot be removed")
    return name.lower()


def spare_handshake(name: bytes, of_responses: bool) -> None:
    """Refuse a field to set or remove that would leave the ends of a WebSocket at odds.

    What a client offers (subprotocols, extensions) may be changed: the upstream chooses from what
    it gets.  Its choice may not, nor may what proves that both ends mean a WebSocket.
    Spec: RFC 6455 4.
    """
    lower = name.lower()
    if lower in _OPENING or (of_responses and lower.startswith(b"sec-websocket-")):
        raise ValueError(
            f"{name.decode('ascii')} can be neither set nor removed: the two ends of a WebSocket "
            "would not agree about it"
        )


def is_loopback(interface: str) -> bool:
    """Tell whether an interface can be reached from this machine only."""
    return is_loopback_address(interface.encode("utf-8", "surrogateescape"))


def parse_wait(text: str) -> float:
    """Parse a number of seconds; 0 is no wait at all."""
    if _decimal(text) is not None and float(text) <= MAX_SECONDS:
        return float(text)
    raise ValueError("it has to be a number of seconds such as 30, or 0 for not at all")


def parse_admin(text: str) -> str:
    """Parse where the admin site listens; a TCP port without an interface is on loopback."""
    description = re.sub(r"^(tcp6?|ssl):(?:port=)?([0-9]+)", r"\1:\2", text)
    kind = _admin_kind(description)
    if kind is None:
        raise ValueError(
            "it has to be a Twisted endpoint such as tcp:9000 (on loopback), "
            "tcp:9000:interface=0.0.0.0 or unix:/run/pyproxy-admin.sock"
        )
    if kind[1] == "unix" or _interface.search(description):
        return description
    loopback = r"\:\:1" if kind[1] == "tcp6" else "127.0.0.1"
    return f"{description}:interface={loopback}"


def interface_of(description: str) -> str:
    """Return the interface that an endpoint string names, or nothing."""
    found = _interface.findall(description)
    # Of an argument that is given twice Twisted takes the last.
    return found[-1].replace("\\", "") if found else ""


def listens_on_loopback(description: str) -> bool:
    """Tell whether an endpoint string listens where only this machine can reach it."""
    return description.startswith("unix:") or is_loopback(interface_of(description))


def parse_field(text: str, sources: Sources) -> tuple[Field, list[bytes]]:
    """Parse ``Name: value`` and expand its value.

    ``${NAME}`` is an environment variable (``$${`` stands for ``${``); a value that begins with
    ``@`` names a file whose content it is, without the line end.  So no secret stands in a process
    list.  Variables are expanded in the name of a file too: systemd's credentials are
    ``@${CREDENTIALS_DIRECTORY}/NAME``.
    Returns: the field, and the parts of its value that are secret.
    """
    name_text, colon, value_text = text.partition(":")
    name = name_text.strip().encode("utf-8", "surrogateescape")
    if not colon or not is_token(name):
        raise ValueError("it has to be 'Name: value' with a field name before the colon")
    lower = name.lower()
    if lower in _UNSETTABLE:
        raise ValueError(f"{name_text.strip()} belongs to one connection and cannot be set")
    value, parts = expand(value_text.strip(), sources)
    if not is_field_value(value) or value != value.strip():
        raise ValueError(f"the value of {name_text.strip()} holds a line end or another control")
    if lower == b"host" and not is_authority(value):
        raise ValueError("the value of Host has to be a host with or without a port")
    if _is_credential_name(lower) and value.lower() in (b"", b"basic", b"bearer"):
        raise ValueError(
            f"the value of {name_text.strip()} holds no credential; is a variable unset?"
        )
    if _is_credential_name(lower):
        parts += _credentials(value)
    return (name, value), [part for part in parts if part]


def expand(text: str, sources: Sources) -> tuple[bytes, list[bytes]]:
    """Return what a text stands for that may name variables, or a file.

    Returns: the octets, and the parts of them that did not stand in the text itself.
    """
    if not text.startswith("@"):
        return _expand(text, sources.environment)
    name_of_file, _ = _expand(text[1:], sources.environment)
    value = _read_value(sources.path(os.fsdecode(name_of_file)))
    return value, [value]


def parse_admin_token(text: str, sources: Sources) -> bytes:
    """Parse what names the token of the admin site: ``@FILE`` or ``${NAME}``.

    Raises: ValueError, which never quotes it.
    """
    if not (text.startswith("@") or is_named(text)):
        raise ValueError("it has to name the token and not be it: @FILE, or ${VARIABLE}")
    token, _ = expand(text, sources)
    if len(token) < MIN_TOKEN_BYTES or not _is_bearer(token):
        raise ValueError(
            f"the token has to have {MIN_TOKEN_BYTES} characters at least: letters, digits and "
            "-._~+/=, such as `openssl rand -hex 32` writes"
        )
    return token


def is_named(text: str) -> bool:
    """Tell whether a text is nothing but names of variables, so that it may be shown."""
    return _are_variables(text) is not None


def is_credential(name: str, value: str) -> bool:
    """Tell whether the value of a field is a credential that is written out, and not only named."""
    named = value.startswith("@") or _variable.search(value) is not None
    return not named and _is_credential_name(name.encode("utf-8", "surrogateescape")) is not None


def _credentials(value: bytes) -> list[bytes]:
    """Return every part of a credential that could be the secret one.

    Spec: RFC 9110 11.4 (a scheme, then a token or parameters), RFC 6265 4.2 (cookie pairs).
    """
    scheme, _, rest = value.partition(b" ")
    parts = [rest or scheme]
    for pair in re.split(rb"[;,]\s*", value):
        _, equals, argument = pair.partition(b"=")
        argument = argument.strip(b'= "')
        if equals and len(argument) >= MIN_PART_BYTES:
            parts.append(argument)
    return parts


def _expand(text: str, environment: Mapping[str, str]) -> tuple[bytes, list[bytes]]:
    parts: list[bytes] = []

    def replace(match: re.Match[str]) -> str:
        if match[1]:
            return "${"
        name = match[2]
        if _is_variable_name(name) is None:
            raise ValueError("what stands in ${…} has to be the name of an environment variable")
        value = environment.get(name)
        if not value:
            why = "is not set" if value is None else "is empty"
            raise ValueError(f"the environment variable {name} {why}")
        parts.append(value.encode("utf-8", "surrogateescape"))
        return value

    return _variable.sub(replace, text).encode("utf-8", "surrogateescape"), parts


def _read_value(path: Path) -> bytes:
    try:
        refuse_pipe(path)
        with path.open("rb") as file:
            octets = file.read(MAX_VALUE_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"the file {path} cannot be read ({error.strerror})") from error
    if len(octets) > MAX_VALUE_FILE_BYTES:
        raise ValueError(f"the file {path} has more than {MAX_VALUE_FILE_BYTES} bytes")
    value = octets.rstrip(b"\r\n")
    if not value:
        raise ValueError(f"the file {path} is empty")
    return value


def refuse_pipe(path: Path) -> None:
    """Refuse what may let its reader wait for ever.  Raises: OSError, ValueError."""
    if "\0" in str(path) or path.is_fifo() or path.is_char_device():
        raise ValueError(f"the file {path} cannot be read (it is a pipe, a device or no name)")


def read_pem(path: Path) -> bytes:
    """Read a file of certificates."""
    try:
        refuse_pipe(path)
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from error
