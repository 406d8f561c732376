"""From options to a Config, or to every error at once, each with the option that it is about."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import attrs

from pyproxy.config import values
from pyproxy.config.endpoints import can_be_shared, check_endpoint, files_of, try_bind
from pyproxy.config.kinds import Sources
from pyproxy.config.schema import Config, Listen, RouteConfig
from pyproxy.policy.matching import Match
from pyproxy.policy.routing import Limits
from pyproxy.semantics.fields import Field
from pyproxy.semantics.forwarding import FieldRules, Network
from pyproxy.semantics.hosts import parse_socket
from pyproxy.semantics.urls import Target, parse_prefix, parse_target

T = TypeVar("T")

SETTING_OPTIONS = frozenset({"header", "response-header"})
"""Options whose values no error repeats: a secret may have been written out in them."""

REMOVING_OPTIONS = frozenset({"remove-header", "remove-response-header"})
"""Options of whose values an error repeats what stands before a colon."""

NO_ADMIN = "there is no admin site that would tell them; admin says where it listens"
"""What is wrong with metrics that nobody can read."""

_has_no_secret = re.compile(
    r"(?:[A-Za-z0-9+.-]*://)?[^/?#@:]*(?::\d*)?(?:/(?!/)[^?#@]*)?"
).fullmatch


class ConfigError(Exception):
    """One or more options that cannot be used.

    Attributes: ``errors``, a sentence each; ``files``, those that were asked for.
    """

    def __init__(self, errors: Sequence[str], files: Collection[Path] = ()) -> None:
        super().__init__("\n".join(errors))
        self.errors = list(errors)
        self.files = frozenset(files)


@attrs.define
class Loader:
    """Reads options one by one and remembers what was wrong with them.

    Args: options by their long names, repeatable ones as lists; the environment; tries, whether
        ports are tried too: who runs already has them; the directory to which names of files are
        relative.
    """

    _options: Mapping[str, object]
    _environment: Mapping[str, str]
    _check_listen: Callable[[str], None]
    _tries: bool = True
    _directory: Path = Path()
    _errors: list[str] = attrs.Factory(list)
    _sources: Sources = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._sources = Sources(self._directory, self._environment)

    def load(self) -> Config:
        """Return the configuration.  Raises: ConfigError."""
        target = self._reached(self._target())
        request_rules, secrets = self._rules("header", "remove-header")
        response_rules, _ = self._rules("response-header", "remove-response-header")
        trusted, trust_unix = self._trusted()
        limits = Limits(
            connect=self._seconds("connect-timeout"),
            first_byte=self._seconds("first-byte-timeout"),
            idle=self._seconds("idle-timeout"),
            upload=self._seconds("upload-timeout"),
            max_content=self._optional("max-body", values.parse_size),
            ws_idle=self._optional("ws-idle-timeout", values.parse_seconds),
            ws_ping=self._optional("ws-ping", values.parse_seconds),
            max_message=self._optional("ws-max-message", values.parse_some_size),
        )
        route = RouteConfig(
            target=target,
            match=Match(path=self._one("prefix", parse_prefix, b"")),
            request_rules=request_rules,
            response_rules=response_rules,
            secrets=tuple(secrets),
            preserve_host=bool(self._options["preserve-host"]),
            limits=limits,
            authorities=self._optional("upstream-ca", self._authorities),
            insecure=bool(self._options["upstream-insecure"]),
            stream_hints=not self._options["no-stream-hints"],
            access_log=not self._options["no-access-log"],
            # The board beside the demo shows all that it can.
            usage=bool(self._options["demo"]) and self._options["admin"] is not None,
            allowed_hosts=self._each("allow-host", values.parse_allowed_host),
            allowed_origins=self._each("allow-origin", values.parse_allowed_origin),
        )
        config = Config(
            routes=(route,),
            listen=self._listen(),
            trusted=trusted,
            trust_unix=trust_unix,
            client_limit=self._seconds("client-timeout"),
            workers=self._one("workers", values.parse_workers, 1),
            admin=self._admin(),
            admin_token=self._optional("admin-token", self._token),
            metrics=bool(self._options["metrics"]),
            drain_timeout=self._one("drain-timeout", values.parse_wait, 0.0),
            drain_delay=self._one("drain-delay", values.parse_wait, 0.0),
            files=frozenset(self._sources.files),
        )
        self._check_sharing(config)
        self._guard_secrets(config)
        if self._errors:
            raise ConfigError(self._errors, self._sources.files)
        return config

    def listen(self) -> tuple[Listen, ...]:
        """Return where to listen, and nothing else.  Raises: ConfigError."""
        listen = self._listen()
        if self._errors:
            raise ConfigError(self._errors)
        return listen

    def _wrong(self, option: str, value: object, why: object) -> None:
        shown = f" {value}"
        if option in SETTING_OPTIONS:
            shown = ""
        elif option in REMOVING_OPTIONS:
            shown = shown.partition(":")[0]
        elif option == "target" and _has_no_secret(str(value)) is None:
            shown = ""
        self._errors.append(f"--{option}{shown}: {why}")

    def _one(self, option: str, parse: Callable[[str], T], otherwise: T) -> T:
        text = str(self._options[option])
        try:
            return parse(text)
        except ValueError as error:
            self._wrong(option, text, error)
            return otherwise

    def _optional(self, option: str, parse: Callable[[str], T]) -> T | None:
        if self._options[option] is None:
            return None
        return self._one(option, parse, None)

    def _seconds(self, option: str) -> float:
        return self._one(option, values.parse_seconds, 1.0)

    def _list(self, option: str) -> list[str]:
        listed = self._options[option]
        return listed if isinstance(listed, list) else []

    def _each(self, option: str, parse: Callable[[str], T]) -> tuple[T, ...]:
        parsed: list[T] = []
        for text in self._list(option):
            try:
                parsed.append(parse(text))
            except ValueError as error:
                self._wrong(option, text, error)
        return tuple(parsed)

    def _target(self) -> Target | None:
        text, demo = self._options["target"], self._options["demo"]
        authorities = self._options["upstream-ca"]
        if self._options["upstream-insecure"] and authorities is not None:
            why = "--upstream-insecure trusts everybody; use one of the two"
            self._wrong("upstream-ca", authorities, why)
        if text is None:
            if not demo:
                self._errors.append(
                    "--target is missing: it says where requests go, such as "
                    "https://api.example.com (or use --demo)"
                )
            return None
        if demo:
            self._wrong("target", text, "--demo brings its own target; use one of the two")
        return self._optional("target", parse_target)

    def _reached(self, target: Target | None) -> Target | None:
        """Return the target as it is reached: by host and port, or at --upstream-socket."""
        path = self._options["upstream-socket"]
        if path is None:
            return target
        if self._options["demo"]:
            self._wrong("upstream-socket", path, "--demo brings its own target; use one of the two")
        socket = self._optional("upstream-socket", parse_socket)
        if target is None:
            return None
        if target.origin.socket is not None:
            why = (
                "--target names a Unix socket already; use one of the two, or --target http://NAME"
            )
            self._wrong("upstream-socket", path, why)
        return attrs.evolve(target, origin=attrs.evolve(target.origin, socket=socket))

    def _rules(self, setting: str, removing: str) -> tuple[FieldRules, list[bytes]]:
        fields: list[Field] = []
        secrets: list[bytes] = []
        removed: set[bytes] = set()
        of_responses = setting == "response-header"
        for text in self._list(setting):
            try:
                field, parts = values.parse_field(text, self._sources)
                values.spare_handshake(field[0], of_responses)
            except ValueError as error:
                self._wrong(setting, text, error)
            else:
                fields.append(field)
                secrets += parts
        for text in self._list(removing):
            try:
                name = values.parse_name(text)
                values.spare_handshake(name, of_responses)
            except ValueError as error:
                self._wrong(removing, text, error)
            else:
                removed.add(name)
        return FieldRules(tuple(fields), frozenset(removed)), secrets

    def _trusted(self) -> tuple[tuple[Network, ...], bool]:
        networks: list[Network] = []
        unix = False
        for text in self._list("trust-proxy"):
            if text == "unix":
                unix = True
                continue
            try:
                networks.append(values.parse_network(text))
            except ValueError as error:
                self._wrong("trust-proxy", text, error)
        return tuple(networks), unix

    def _listen(self) -> tuple[Listen, ...]:
        listed = self._list("listen")
        if not listed:
            port = self._one("port", values.parse_port, 0)
            interface = self._one("interface", values.parse_interface, "127.0.0.1")
            if not self._errors and self._tries:
                self._check_port(port, interface)
            return (Listen(None, port, interface),)
        for option in ("port", "interface"):
            if self._options[option] != self._options[f"default-{option}"]:
                self._wrong(
                    option, self._options[option], "--listen says it all; use one of the two"
                )
        for text in listed:
            self._try("listen", text)
        return tuple(Listen(text) for text in listed)

    def _admin(self) -> Listen | None:
        if self._options["admin"] is None:
            if self._options["metrics"]:
                self._errors.append(f"--metrics: {NO_ADMIN}, such as --admin tcp:9000")
            return None
        description = self._one("admin", values.parse_admin, "")
        if description:
            self._try("admin", description)
        return Listen(description)

    def _token(self, text: str) -> bytes:
        return values.parse_admin_token(text, self._sources)

    def _try(self, option: str, endpoint: str) -> None:
        self._sources.files.update(Path(name).absolute() for name in files_of(endpoint))
        try:
            check_endpoint(endpoint, self._check_listen, self._tries)
        except ValueError as error:
            self._wrong(option, endpoint, error)

    def _authorities(self, path: str) -> bytes:
        return read_authorities_file(self._sources.path(path))

    def _check_port(self, port: int, interface: str) -> None:
        """Try the port, so that a taken one is told before anything starts."""
        try:
            try_bind(port, interface)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                self._wrong("interface", interface, "this machine has no such address")
            else:
                why = f"cannot listen there ({os.strerror(error.errno or 0)}); choose another"
                self._wrong("port", port, why)

    def _check_sharing(self, config: Config) -> None:
        """Refuse a place to listen that several processes cannot have together."""
        for listen in config.listen:
            if config.workers > 1 and not can_be_shared(listen.description or ""):
                why = "several workers cannot share it; use tcp: or unix:, or --workers 1"
                self._wrong("listen", listen.description, why)

    def _guard_secrets(self, config: Config) -> None:
        """Keep a proxy that holds a key from being an open proxy by accident."""
        if not config.injects or self._options["open"]:
            return
        for listen in config.listen:
            if not listen.loopback:
                self._errors.append(
                    f"listening on {listen.where} would let everybody who reaches it use the "
                    "credential in --header: listen on 127.0.0.1 behind a server that "
                    "authenticates, or say --open"
                )


def read_authorities_file(path: Path) -> bytes:
    """Return the PEM text of a file of authorities.  Raises: ValueError when it holds none."""
    # Imported only where it is asked for: it costs 30 ms.
    from pyproxy.upstream.trust import read_authorities

    pem = values.read_pem(path)
    read_authorities(pem)
    return pem
