"""The configuration as one set of tables: what may stand in a file, and what it becomes.

From these classes come the check, the reference, the schema for editors and the defaults.  The
command line is a shorthand for a file with one upstream and one route.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from pyproxy.config import value_kinds as kinds
from pyproxy.config.cache_tables import Cache, RouteCache
from pyproxy.config.kinds import Named, Several, Switch, Table, Tables, key
from pyproxy.config.value_kinds import FieldsToSet
from pyproxy.observe.json_log import COMBINED
from pyproxy.policy.matching import Condition
from pyproxy.semantics.origins import WebOrigin
from pyproxy.semantics.urls import Target


@attrs.frozen
class Listener:
    """A place where clients connect."""

    endpoint: str = key(
        kinds.ENDPOINT,
        "A Twisted endpoint string: `tcp:8000:interface=127.0.0.1`, `unix:/run/pyproxy.sock`, "
        "`ssl:8443:privateKey=key.pem:certKey=cert.pem`, `systemd:domain=INET:index=0`.",
    )


@attrs.frozen
class Upstream:
    """Where requests go, and how it is reached and trusted."""

    target: Target | None = key(
        kinds.TARGET,
        "The upstream's URL: http or https, a host, optionally a port and a base path.  Required "
        "unless `demo` is true.",
        default=None,
    )
    upstream_socket: str | None = key(
        kinds.SOCKET, "Unix socket at which the target's host is reached.", default=None
    )
    demo: bool = key(
        kinds.FLAG, "Use a demo upstream inside the proxy in place of a target.", default=False
    )
    connect_timeout: float = key(kinds.SECONDS, "To an open connection, TLS included.", default=5.0)
    upstream_ca: str | None = key(
        kinds.FILE,
        "PEM file of the authorities to trust, in place of the system's.",
        default=None,
    )
    upstream_insecure: bool = key(
        kinds.FLAG, "Check no certificate.  For trying things out only.", default=False
    )
    set_headers: FieldsToSet = key(
        kinds.REQUEST_FIELDS,
        "Fields to write into every request, in place of any that the client sent.  `${NAME}` "
        "stands for an environment variable, `@FILE` for the content of a file.",
        default=FieldsToSet(),
        shown="none",
    )
    remove_headers: tuple[bytes, ...] = key(
        Several(kinds.REQUEST_NAME), "Fields to take out of every request.", default=()
    )


@attrs.frozen
class RouteOptions:
    """What a route does with what passes; `defaults` has what it does not say."""

    set_headers: FieldsToSet | None = key(
        kinds.REQUEST_FIELDS, "Fields to write into requests, after the upstream's.", default=None
    )
    remove_headers: tuple[bytes, ...] | None = key(
        Several(kinds.REQUEST_NAME), "Fields to take out of requests.", default=None
    )
    set_response_headers: FieldsToSet | None = key(
        kinds.RESPONSE_FIELDS, "Fields to write into responses.", default=None
    )
    remove_response_headers: tuple[bytes, ...] | None = key(
        Several(kinds.RESPONSE_NAME), "Fields to take out of responses.", default=None
    )
    preserve_host: bool | None = key(
        kinds.FLAG, "Send the `Host` that the client asked for.", default=None, shown="false"
    )
    stream_hints: bool | None = key(
        kinds.FLAG,
        "Ask the next hop to pass event streams on at once.",
        default=None,
        shown="true",
    )
    access_log: bool | None = key(
        kinds.FLAG, "Write a line for each request.", default=None, shown="true"
    )
    first_byte_timeout: float | None = key(
        kinds.SECONDS,
        "From the end of a request to the head of its response.",
        default=None,
        shown="300",
    )
    idle_timeout: float | None = key(
        kinds.SECONDS, "Between two pieces of a response.", default=None, shown="300"
    )
    upload_timeout: float | None = key(
        kinds.SECONDS, "Between two pieces of a request's content.", default=None, shown="60"
    )
    max_body: int | None = key(
        kinds.SIZE, "Refuse more content than this in a request.", default=None, shown="off"
    )
    ws_max_message: int | None = key(
        kinds.SOME_SIZE,
        "Close a WebSocket whose message has more than this on the wire.",
        default=None,
        shown="off",
    )
    ws_idle_timeout: float | None = key(
        kinds.SECONDS,
        "Close a WebSocket in which nothing came from either end for so long.",
        default=None,
        shown="off",
    )
    ws_ping: float | None = key(
        kinds.SECONDS,
        "Send a Ping to both ends of a WebSocket that often.",
        default=None,
        shown="off",
    )
    allow_host: tuple[bytes, ...] | None = key(
        Several(kinds.HOST),
        "With a credential: hosts by which the proxy may be asked, `*.suffix` or `any`.",
        default=None,
    )
    allow_origin: tuple[WebOrigin, ...] | None = key(
        Several(kinds.ORIGIN),
        "With a credential: origins whose web pages may use the proxy.",
        default=None,
    )
    usage: bool | None = key(
        kinds.FLAG,
        "Watch what a model answers: how it ended, when it began to speak, what it took.",
        default=None,
        shown="false",
    )
    server_timing: bool | None = key(
        kinds.FLAG,
        "Tell clients in `Server-Timing` how long each part took.",
        default=None,
        shown="false",
    )
    cache: RouteCache | bool | None = key(
        Switch(RouteCache),
        "Keep responses, and serve them again, as a shared cache (RFC 9111).  A table says more "
        "than `true`.",
        default=None,
        shown="false",
    )

    def over(self, defaults: RouteOptions) -> dict[str, Any]:
        """Return every option: this one's, else that of the defaults, else None."""
        return {
            field.name: mine
            if (mine := getattr(self, field.name)) is not None
            else getattr(defaults, field.name)
            for field in attrs.fields(RouteOptions)
        }


@attrs.frozen
class Redirect:
    """A redirect in place of an upstream."""

    to: bytes = key(kinds.LOCATION, "Where to: a URL or a path.")
    status: int = key(kinds.REDIRECTION, "301, 302, 303, 307 or 308.", default=308)
    keep_path: bool = key(
        kinds.FLAG, "Put the rest of the path, and the query, behind it.", default=False
    )


@attrs.frozen
class Answer:
    """A fixed answer in place of an upstream."""

    status: int = key(kinds.STATUS, "From 200 to 599.", default=200)
    text: str = key(kinds.TEXT, "The content.", default="")
    headers: FieldsToSet = key(
        kinds.RESPONSE_FIELDS,
        "More fields; Content-Type is text/plain unless it is among them.",
        default=FieldsToSet(),
        shown="none",
    )


@attrs.frozen
class Route(RouteOptions):
    """Which requests, and where they go: to exactly one of upstream, redirect and answer."""

    EXACTLY_ONE_OF: ClassVar[tuple[str, ...]] = ("upstream", "redirect", "answer")

    host: bytes | None = key(
        kinds.ROUTE_HOST,
        "The host that is asked for: a name, or `*.suffix`.  Any without this key.",
        default=None,
    )
    path: bytes = key(
        kinds.PATH,
        "The path, and all below it; the target's path takes its place.",
        default=b"",
        shown="/",
    )
    exact: bool = key(kinds.FLAG, "That path alone, and nothing below it.", default=False)
    methods: tuple[bytes, ...] = key(
        Several(kinds.METHOD), "Requests of these methods.  Any without this key.", default=()
    )
    fields: tuple[Condition, ...] = key(
        kinds.CONDITIONS,
        'Requests with these fields: a member of the field is this, or `"*"` for any value.',
        default=(),
    )
    upstream: str | None = key(kinds.NAME, "The name of an upstream.", default=None)
    base: bytes | None = key(
        kinds.BASE, "The path that takes this one's place, instead of the target's.", default=None
    )
    redirect: Redirect | None = key(Table(Redirect), "A redirect.", default=None)
    answer: Answer | None = key(Table(Answer), "A fixed answer.", default=None)


@attrs.frozen
class Log:
    """What is written of requests, and where."""

    access: str = key(
        kinds.ACCESS,
        "`combined`, `json` (an object a line), or a format with facts in braces, such as "
        '`"{client} {status} {duration}"`.',
        default=COMBINED,
    )
    file: str | None = key(
        kinds.FILE,
        "A file for the lines, in place of twistd's log; SIGUSR1 opens it anew.",
        default=None,
        shown="off",
    )
    max_size: int | None = key(
        kinds.SOME_SIZE,
        "Bytes after which the file is put aside, and another begun.",
        default=None,
        shown="100m",
    )
    keep: int | None = key(
        kinds.KEEP,
        "How many of those that were put aside are kept.",
        default=None,
        shown="10",
    )
    trace: bool = key(
        kinds.FLAG,
        "Begin a trace (W3C Trace Context) for a request that has none.",
        default=False,
    )


@attrs.frozen
class Root:
    """The whole file."""

    routes: tuple[Route, ...] = key(Tables(Route, least=1), "What is served.")
    listeners: tuple[Listener, ...] = key(
        Tables(Listener, least=1),
        "Where clients connect.",
        default=(Listener("tcp:8000:interface=127.0.0.1"),),
        shown="tcp:8000:interface=127.0.0.1",
    )
    upstreams: dict[str, Upstream] = key(
        Named(Upstream), "Where requests go, by names of your choice.", default=dict
    )
    defaults: RouteOptions = key(
        Table(RouteOptions), "Options of all routes.", default=RouteOptions(), shown="none"
    )
    cache: Cache = key(Table(Cache), "Where responses are kept.", default=Cache(), shown="none")
    log: Log = key(Table(Log), "What is written of requests.", default=Log(), shown="none")
    open: bool = key(
        kinds.FLAG,
        "Listen beyond loopback although a credential is added.",
        default=False,
    )
    trust_proxy: tuple[Any, ...] = key(
        Several(kinds.NETWORK),
        "Networks of proxies whose `X-Forwarded-*` and `Forwarded` are believed; `unix` for those "
        "on Unix sockets.",
        default=(),
    )
    client_timeout: float = key(
        kinds.SECONDS,
        "For a whole request head to arrive, and for an idle connection to be used again.",
        default=75.0,
    )
    admin: str | None = key(
        kinds.ADMIN,
        "Where health, readiness and the configuration in use are told: a Twisted endpoint, on "
        "loopback unless it names an interface.",
        default=None,
        shown="off",
    )
    admin_token: bytes | None = key(
        kinds.ADMIN_TOKEN,
        "What has to be shown at the admin site, to see its board from another machine and to see "
        "anything but health and readiness: `@FILE`, or `${VARIABLE}`.",
        default=None,
        shown="none: the board is for this machine alone",
    )
    metrics: bool = key(
        kinds.FLAG,
        "Count what passes, and tell it at `/metrics` of the admin site, for Prometheus.  Needs "
        "`admin`.",
        default=False,
    )
    drain_timeout: float = key(
        kinds.WAIT,
        "After SIGTERM: for open requests and WebSockets to end by themselves; 0 ends them at "
        "once.",
        default=30.0,
    )
    drain_delay: float = key(
        kinds.WAIT,
        "After SIGTERM, before the drain: go on accepting while `/readyz` says no already, so that "
        "load balancers look elsewhere.",
        default=0.0,
    )
    unready_on_failed_reload: bool = key(
        kinds.FLAG, "Let `/readyz` say no while the last reload has failed.", default=False
    )
    workers: int = key(
        kinds.WORKERS, "Processes that share the listeners; `auto` is one a CPU.", default=1
    )
