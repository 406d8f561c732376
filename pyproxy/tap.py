"""The command line: ``twistd pyproxy`` and its options."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from twisted.application.service import IService, MultiService
from twisted.python import usage

from pyproxy import __version__
from pyproxy.collector import importing
from pyproxy.config.endpoints import is_of_systemd
from pyproxy.config.loader import ConfigError, Loader
from pyproxy.config.schema import Config
from pyproxy.descriptors import raise_descriptor_limit

if TYPE_CHECKING:
    from pyproxy.life.condition import Serving
    from pyproxy.life.reloading import Loaded
    from pyproxy.listeners import GiveUp
    from pyproxy.pid_file import PidFile


class Options(usage.Options):
    """The options of ``twistd pyproxy``; ``config`` holds what they say."""

    synopsis = "--target URL [options] | --config FILE"
    # Without one the help ends with the docstring of whichever script was started.
    longdesc = ""

    optParameters: ClassVar[list[list[object]]] = [
        ["config", "c", None, "TOML file with everything; only --port and --listen go beside it."],
        ["target", "t", None, "Where requests go: http(s)://HOST[:PORT][/PATH] or unix:/SOCKET."],
        ["port", "p", "8000", "TCP port to listen on; 0 lets the system choose."],
        ["interface", "i", "127.0.0.1", "Address to listen on; empty for all IPv4 interfaces."],
        ["prefix", None, "/", "Path that is served; the target's path takes its place."],
        ["connect-timeout", None, "5", "Seconds to open a connection to the target."],
        ["first-byte-timeout", None, "300", "Seconds to wait for a response to begin."],
        ["idle-timeout", None, "300", "Seconds in which nothing moves inside a response."],
        ["upload-timeout", None, "60", "Seconds in which nothing moves inside an upload."],
        ["client-timeout", None, "75", "Seconds for a request's head, and for idle connections."],
        ["max-body", None, None, "Bytes a request's content may have (64k, 10m); off by default."],
        ["ws-max-message", None, None, "Bytes a WebSocket's message may have; off by default."],
        [
            "ws-idle-timeout",
            None,
            None,
            "Close a WebSocket after so many silent seconds; off by default.",
        ],
        [
            "ws-ping",
            None,
            None,
            "Seconds between pings to both ends of a WebSocket; none by default.",
        ],
        ["upstream-socket", None, None, "Unix socket at which the target's host is reached."],
        [
            "admin",
            None,
            None,
            "Endpoint of the admin site (tcp:9000 is on loopback); off by default.",
        ],
        [
            "admin-token",
            None,
            None,
            "What has to be shown at the admin site: @FILE or ${VARIABLE}; none by default.",
        ],
        [
            "drain-timeout",
            None,
            "30",
            "Seconds after SIGTERM in which open requests may end; 0: none.",
        ],
        [
            "drain-delay",
            None,
            "0",
            "Seconds after SIGTERM in which it still accepts, but is not ready.",
        ],
        ["workers", None, "1", "Processes that share the listening sockets; auto: one a CPU."],
        [
            "upstream-ca",
            None,
            None,
            "PEM file of the authorities to trust instead of the system's.",
        ],
    ]

    optFlags: ClassVar[list[list[object]]] = [
        ["preserve-host", None, "Send the client's Host to the target instead of the target's."],
        ["upstream-insecure", None, "Do not verify the target's certificate."],
        ["demo", None, "Forward to an embedded demo upstream instead of a target."],
        ["open", None, "Listen beyond loopback although a credential is added."],
        ["no-stream-hints", None, "Do not ask the next hop to pass event streams on at once."],
        ["no-access-log", None, "Write no line for each request."],
        ["metrics", None, "Count what passes, and tell it at /metrics of the admin site."],
        ["watch", None, "Reload when the configuration's file, or one that it names, changes."],
        ["check", None, "Say whether the configuration can be used, and end; nothing starts."],
        ["print-config", None, "Print the configuration as a file, without secrets, and end."],
    ]

    _repeatable = (
        "listen",
        "header",
        "remove-header",
        "response-header",
        "remove-response-header",
        "trust-proxy",
        "allow-host",
        "allow-origin",
    )

    config: Config
    pid_file: PidFile | None = None
    _wrong = False
    _directory = Path()
    """To which names of files are relative, also when twistd goes elsewhere (``--rundir``)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        for name in self._repeatable:
            self[name] = []

    def opt_listen(self, description: str) -> None:
        """Twisted endpoint to listen on, instead of port and interface (repeatable)."""
        self["listen"].append(description)

    def opt_header(self, field: str) -> None:
        """Field to set in requests, 'Name: value'; ${VARIABLE} and @FILE expand (repeatable)."""
        self["header"].append(field)

    def opt_remove_header(self, name: str) -> None:
        """Field to remove from requests (repeatable)."""
        self["remove-header"].append(name)

    def opt_response_header(self, field: str) -> None:
        """Field to set in responses, 'Name: value'; ${VARIABLE} and @FILE expand (repeatable)."""
        self["response-header"].append(field)

    def opt_remove_response_header(self, name: str) -> None:
        """Field to remove from responses (repeatable)."""
        self["remove-response-header"].append(name)

    def opt_trust_proxy(self, network: str) -> None:
        """CIDR block, or 'unix', whose Forwarded and X-Forwarded-* are believed (repeatable)."""
        self["trust-proxy"].append(network)

    def opt_allow_host(self, name: str) -> None:
        """Host to ask by when a credential is added: NAME, *.SUFFIX or 'any' (repeatable)."""
        self["allow-host"].append(name)

    def opt_allow_origin(self, origin: str) -> None:
        """Origin of web pages that may use it when it adds a credential (repeatable)."""
        self["allow-origin"].append(origin)

    def opt_version(self) -> None:
        """Show the version and end."""
        sys.stdout.write(f"pyproxy {__version__}\n")
        sys.exit(0)

    def parseArgs(self, *arguments: str) -> None:
        """Refuse what is no option."""
        if arguments:
            raise usage.UsageError(
                f"{arguments[0]}: only options are expected; the target goes with --target"
            )

    def postOptions(self) -> None:
        """Make the configuration.  Raises: UsageError that names every option that is wrong."""
        choose_reactor()
        self._directory = Path.cwd()
        if self["config"] is not None:
            self["config"] = str(self._directory / self["config"])
        try:
            self.config = self.load(tries=not (self["check"] or self["print-config"]))
        except ConfigError as error:
            if self["check"]:
                # Some versions of twistd end with 0 after an error in usage.
                sys.stderr.write(f"{error}\n")
                sys.exit(1)
            self._wrong = True
            raise usage.UsageError(str(error)) from error
        if self["print-config"]:
            from pyproxy.config.printing import printer

            sys.stdout.write(printer(self)(self.config))
        if self["check"] or self["print-config"]:
            sys.exit(0)
        # twistd itself looks at the file when all options are read.
        if name := (getattr(self, "parent", None) or {}).get("pidfile"):
            from pyproxy.pid_file import PidFile

            self.pid_file = PidFile(name)
            self.pid_file.clear()

    def load(self, tries: bool = True, held: frozenset[str | None] = frozenset()) -> Config:
        """Return the configuration that the options, or the file that they name, describe.

        Args: tries, whether ports are tried too; held, endpoints that are open already and may be
            what could not be read again.
        Raises: ConfigError.
        """

        def check_endpoint(description: str) -> None:
            if description not in held:
                _check_endpoint(description, bool(self["check"]))

        defaults = {f"default-{row[0]}": row[2] for row in self.optParameters}
        options = {**self, **defaults}
        if self["config"] is None:
            return Loader(options, os.environ, check_endpoint, tries, self._directory).load()
        # Imported where it is asked for: the short way needs none of it.
        from pyproxy.config.beside import load_with_overrides

        return load_with_overrides(options, os.environ, check_endpoint, tries)

    def load_again(self, present: Config) -> Loaded:
        """Return what the options, and the files that they name, describe now.

        Raises: ConfigError.
        """
        places = [*present.listen, *([present.admin] if present.admin else [])]
        config = self.load(False, frozenset(place.description for place in places))
        return self.loaded(config, present.admin is not None)

    def loaded(self, config: Config, shown: bool) -> Loaded:
        """Return a configuration, and how it is printed.  Args: whether an admin site shows it."""
        from pyproxy.life.reloading import Loaded

        if not shown:
            return Loaded(config, lambda config: "")
        from pyproxy.config.printing import printer

        return Loaded(config, printer(self))

    def getUsage(self, width: int | None = None) -> str:
        """Return the help; beside an error only where to find it, so that the error is seen."""
        if self._wrong:
            return "Options are explained by: twistd pyproxy --help\n"
        return super().getUsage(width)


def choose_reactor() -> None:
    """Make our own reactor that of this process, on Linux, unless another was asked for.

    ``twistd --reactor=NAME`` has installed one before our options are read.
    """
    if sys.platform == "linux" and "twisted.internet.reactor" not in sys.modules:
        with importing():
            from pyproxy.reactors.epoll import install

        install()


def _check_endpoint(description: str, only_checks: bool) -> None:
    """Raise when an endpoint string cannot be used.

    Args: only_checks, whether nothing will start: then systemd's sockets need not be there.
    """
    from twisted.internet import reactor
    from twisted.internet.endpoints import serverFromString

    try:
        serverFromString(reactor, description)
    except LookupError:
        if not (only_checks and is_of_systemd(description)):
            raise


def makeService(options: Options) -> IService:
    """Make the service that the options describe."""
    from twisted.internet import reactor

    raise_descriptor_limit()
    give_up = _giving_up(options)
    whole = MultiService()
    # First the pid file: who does not get that opens no port.
    if options.pid_file is not None:
        options.pid_file.setServiceParent(whole)  # type: ignore[no-untyped-call]
    serving = _serving(options.config, reactor, give_up)
    with importing():
        from pyproxy.life.service import LifeService

    life = LifeService(
        cast("Serving", serving),
        options.loaded(options.config, options.config.admin is not None),
        options.load_again,
        reactor,
        give_up,
        os.environ,
        bool(options["watch"]),
    )
    # It heeds signals before the first port is open, and tells until the last is closed.
    for service in (life, serving):
        service.setServiceParent(whole)
    return whole


def _serving(config: Config, reactor: Any, give_up: GiveUp) -> Any:
    """Return what serves, in one process or in several."""
    if config.workers > 1:
        with importing():
            from pyproxy.workers.service import WorkersService

        return WorkersService(config, reactor, give_up)
    with importing():
        from pyproxy.service import ProxyService

    return ProxyService(config, reactor, give_up)


def _giving_up(options: Options) -> GiveUp:
    """Return how to end when the proxy cannot listen.

    In the foreground a traceback would hide the one line that matters.  A daemon has to raise:
    twistd then tells its parent, which would wait for ever otherwise.
    """
    twistd = getattr(options, "parent", None) or {}

    def give_up(error: Exception) -> None:
        if twistd.get("nodaemon"):
            pid_file = twistd.get("pidfile")
            if pid_file and os.path.exists(pid_file):
                os.remove(pid_file)
            raise SystemExit(f"pyproxy: {error}")

    return give_up
