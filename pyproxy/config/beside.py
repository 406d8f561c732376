"""What may stand on the command line beside ``--config``, and where everything else goes.

The file has all the rest, so that nothing is said in two places.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pyproxy.config.endpoints import Check
from pyproxy.config.file import load_file
from pyproxy.config.loader import ConfigError, Loader
from pyproxy.config.schema import Config

BESIDE = frozenset({"config", "port", "interface", "listen", "check", "print-config", "watch"})
"""Options that go with --config: the listeners' take the place of the file's."""

IN_THE_FILE = {
    "target": "target under [upstreams.NAME]",
    "upstream-socket": "upstream_socket under [upstreams.NAME]",
    "upstream-ca": "upstream_ca under [upstreams.NAME]",
    "upstream-insecure": "upstream_insecure = true under [upstreams.NAME]",
    "connect-timeout": "connect_timeout under [upstreams.NAME]",
    "demo": "demo = true under [upstreams.NAME]",
    "prefix": "path under [[routes]]",
    "header": "set_headers under [upstreams.NAME], [[routes]] or [defaults]",
    "remove-header": "remove_headers under [upstreams.NAME], [[routes]] or [defaults]",
    "response-header": "set_response_headers under [[routes]] or [defaults]",
    "remove-response-header": "remove_response_headers under [[routes]] or [defaults]",
    "no-stream-hints": "stream_hints = false under [[routes]] or [defaults]",
    "no-access-log": "access_log = false under [[routes]] or [defaults]",
    "trust-proxy": "trust_proxy at its top",
    "client-timeout": "client_timeout at its top",
    "workers": "workers at its top",
    "open": "open = true at its top",
    "admin": "admin at its top",
    "drain-timeout": "drain_timeout at its top",
    "drain-delay": "drain_delay at its top",
}
"""Where in the file an option goes; any other goes under [[routes]] or [defaults] by its name."""


def load_with_overrides(
    options: Mapping[str, object],
    environment: Mapping[str, str],
    check_listen: Check,
    tries: bool = True,
) -> Config:
    """Read the file that --config names, and listen where the options beside it say.

    Args: tries, whether ports are tried too.
    Raises: ConfigError.
    """
    errors = [
        f"--{name}: with --config it goes into the file, as {_place(name)}"
        for name, value in options.items()
        if name not in BESIDE and _is_given(name, value, options)
    ]
    if errors:
        raise ConfigError(errors)
    listen = None
    if any(_is_given(name, options[name], options) for name in ("port", "interface", "listen")):
        listen = Loader(options, environment, check_listen, tries).listen()
    path = Path(str(options["config"])).absolute()
    return load_file(path, environment, check_listen, listen, tries)


def _is_given(name: str, value: object, options: Mapping[str, object]) -> bool:
    """Tell whether an option was said."""
    if name.startswith("default-"):
        return False
    return value not in (None, [], 0) and value != options.get(f"default-{name}")


def _place(name: str) -> str:
    key = name.replace("-", "_")
    return IN_THE_FILE.get(name, f"{key} under [[routes]] or [defaults]")
