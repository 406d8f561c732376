"""From a TOML file to a Config, or to every error at once, each with its line and key."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs

from pyproxy.config.cache_tables import Cache, RouteCache
from pyproxy.config.endpoints import Check, can_be_shared, check_endpoint, files_of
from pyproxy.config.kinds import Sources
from pyproxy.config.loader import NO_ADMIN, ConfigError, read_authorities_file
from pyproxy.config.places import Places
from pyproxy.config.schema import CacheConfig, Config, Listen, LogConfig, RouteConfig
from pyproxy.config.tables import Answer, Log, Root, Route, Upstream
from pyproxy.config.value_kinds import FieldsToSet
from pyproxy.config.walker import KeyPath, Walker, shown_path, unknown
from pyproxy.observe.output import LogPlace
from pyproxy.policy.cache_policy import CachePolicy
from pyproxy.policy.instead import FixedAnswer, Instead, Redirection
from pyproxy.policy.matching import Match
from pyproxy.policy.routing import Limits
from pyproxy.semantics.forwarding import FieldRules
from pyproxy.semantics.urls import Target

T = TypeVar("T")

MOST_PROBLEMS = 50
"""Problems that are told at once: each costs reading the file several times."""

MAX_LOG_BYTES = 100 * 1024 * 1024
"""Octets after which an access log's file is put aside, unless it says otherwise."""

KEPT_LOGS = 10
"""Files that were put aside and are kept."""

MAX_FILE_BYTES = 16 * 1024 * 1024
"""Octets of a configuration file: a hundred thousand routes."""


def load_file(
    path: Path,
    environment: Mapping[str, str],
    check_listen: Check,
    listen: tuple[Listen, ...] | None = None,
    tries: bool = True,
) -> Config:
    """Read a configuration file.

    Args: where to listen, in place of the file's listeners, which are not looked at then; tries,
        whether their ports are tried.
    Raises: ConfigError.
    """
    text = read_text(path)
    document = read_document(path, text)
    sources = Sources(path.parent, environment, {path.absolute()})
    reader = FileReader(Walker(sources), check_listen, listen, tries)
    config = reader.read(document)
    if config is None:
        places = Places(text)
        problems = reader.walker.problems
        found = [(places.line(one.path), one) for one in problems[:MOST_PROBLEMS]]
        more = len(problems) - len(found)
        raise ConfigError(
            [
                f"{path}:{line or '?'}: {shown_path(one.path)}"
                f"{'' if one.value is None else f' = {one.value}'}: {one.why}"
                for line, one in sorted(found, key=lambda pair: pair[0])
            ]
            + ([f"{path}: {more} more of the same kind are not shown"] if more else []),
            sources.files,
        )
    return config


def read_text(path: Path) -> str:
    """Return the text of a configuration file.  Raises: ConfigError."""
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_FILE_BYTES + 1)
        if len(octets) > MAX_FILE_BYTES:
            raise ConfigError([f"{path}: it has more than {MAX_FILE_BYTES} bytes"])
        return octets.decode("utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: it cannot be read ({error.strerror})"]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: it is no UTF-8"]) from error


def read_document(path: Path, text: str) -> dict[str, Any]:
    """Return the document in a file.  Raises: ConfigError with the line of the first fault."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}:{_line_of(error, text)}: it is no TOML: {error}"]) from error


def _line_of(error: tomllib.TOMLDecodeError, text: str) -> int:
    """Return the line that an error names; it has no attribute for it before Python 3.14."""
    words = str(error).replace(",", " ").replace(")", " ").split()
    if "line" in words:
        return int(words[words.index("line") + 1])
    return text.count("\n") + 1


@attrs.define
class FileReader:
    """Makes a Config of a document, and remembers in its walker what was wrong."""

    walker: Walker
    _check_listen: Check
    _listen_there: tuple[Listen, ...] | None = None
    _tries: bool = True

    def read(self, document: Mapping[str, Any]) -> Config | None:
        """Return the configuration; None when anything was wrong."""
        root = self.walker.table(Root, document)
        if root is None:
            return None
        upstreams: Mapping[str, Upstream | None] = root.upstreams
        targets = {
            name: None if one is None else self._target(name, one)
            for name, one in upstreams.items()
        }
        listen = self._listen(root, "listeners" in document)
        admin = self._admin(root)
        routes = [
            self._route(number, route, root, targets) for number, route in _present(root.routes)
        ]
        self._check_twins(root.routes)
        self._check_posts(("defaults",), root.defaults.cache)
        cache = self._store(root.cache)
        log = self._log(root.log)
        if self.walker.problems:
            return None
        config = Config(
            routes=tuple(route for route in routes if route is not None),
            listen=listen,
            trusted=tuple(network for network in root.trust_proxy if network is not None),
            trust_unix=None in root.trust_proxy,
            client_limit=root.client_timeout,
            workers=root.workers,
            admin=admin,
            admin_token=root.admin_token,
            metrics=root.metrics,
            drain_timeout=root.drain_timeout,
            drain_delay=root.drain_delay,
            unready_on_failed_reload=root.unready_on_failed_reload,
            cache=cache,
            log=log,
            files=frozenset(self.walker.sources.files),
        )
        self._guard_secrets(config, root.open)
        return None if self.walker.problems else config

    # listeners

    def _listen(self, root: Root, is_said: bool) -> tuple[Listen, ...]:
        if self._listen_there is not None:
            return self._listen_there
        seen: set[str] = set()
        for number, listener in _present(root.listeners):
            path = ("listeners", number, "endpoint")
            if listener.endpoint in seen and ":0" not in listener.endpoint:
                self.walker.also_wrong(path, "it stands there twice", listener.endpoint)
                continue
            seen.add(listener.endpoint)
            self._try(
                listener.endpoint,
                path,
                "" if is_said else " (the default: the file has no [[listeners]])",
            )
            if root.workers > 1 and not can_be_shared(listener.endpoint):
                self.walker.also_wrong(path, "several workers cannot share it; use tcp: or unix:")
        return tuple(Listen(listener.endpoint) for _, listener in _present(root.listeners))

    def _admin(self, root: Root) -> Listen | None:
        if root.admin is None:
            if root.metrics:
                self.walker.also_wrong(("metrics",), NO_ADMIN)
            return None
        self._try(root.admin, ("admin",))
        return Listen(root.admin)

    def _try(self, endpoint: str, path: KeyPath, more: str = "") -> None:
        self.walker.sources.files.update(Path(name).absolute() for name in files_of(endpoint))
        try:
            check_endpoint(endpoint, self._check_listen, self._tries)
        except ValueError as error:
            self.walker.also_wrong(path, f"{error}{more}", endpoint)

    def _guard_secrets(self, config: Config, is_open: bool) -> None:
        """Keep a proxy that holds a key from being an open proxy by accident."""
        if is_open or not config.injects:
            return
        for number, listen in enumerate(config.listen):
            if not listen.loopback:
                self.walker.also_wrong(
                    ("listeners", number, "endpoint"),
                    f"listening on {listen.where} would let everybody who reaches it use the "
                    "credential in set_headers: listen on 127.0.0.1 behind a server that "
                    "authenticates, or say open = true",
                )

    # upstreams

    def _target(self, name: str, upstream: Upstream) -> Target | None:
        """Return the target of an upstream, None for the demo."""
        path = ("upstreams", name)
        target, socket = upstream.target, upstream.upstream_socket
        if upstream.demo and (target is not None or socket is not None):
            self.walker.also_wrong(
                (*path, "demo"), "the demo brings its own target; use one of the two"
            )
        elif target is None and not upstream.demo:
            self.walker.also_wrong((*path, "target"), "it is missing: it says where requests go")
        if upstream.upstream_ca is not None and upstream.upstream_insecure:
            why = "upstream_insecure trusts everybody; use one of the two"
            self.walker.also_wrong((*path, "upstream_ca"), why)
        if target is None or socket is None:
            return target
        if target.origin.socket is not None:
            why = "the target names a Unix socket already; use one of the two"
            self.walker.also_wrong((*path, "upstream_socket"), why)
        return attrs.evolve(target, origin=attrs.evolve(target.origin, socket=socket))

    def _authorities(self, name: str, upstream: Upstream) -> bytes | None:
        if upstream.upstream_ca is None or upstream.upstream_insecure:
            return None
        try:
            return read_authorities_file(self.walker.sources.path(upstream.upstream_ca))
        except ValueError as error:
            self.walker.also_wrong(
                ("upstreams", name, "upstream_ca"), str(error), upstream.upstream_ca
            )
            return None

    # routes

    def _route(
        self, number: int, route: Route, root: Root, targets: Mapping[str, Target | None]
    ) -> RouteConfig | None:
        path = ("routes", number)
        options = route.over(root.defaults)
        instead = _instead(route)
        upstream, target = Upstream(), None
        if route.upstream is not None:
            if route.upstream not in targets:
                if any(problem.path == ("upstreams",) for problem in self.walker.problems):
                    return None
                self.walker.also_wrong(
                    (*path, "upstream"), _unknown_upstream(route.upstream, targets), route.upstream
                )
                return None
            known: Upstream | None = root.upstreams[route.upstream]
            if known is None:
                return None
            upstream, target = known, targets[route.upstream]
        if route.base is not None:
            if target is None:
                self.walker.also_wrong((*path, "base"), "it takes the place of a target's path")
                return None
            target = attrs.evolve(target, base=route.base)
        request = upstream.set_headers + (options["set_headers"] or FieldsToSet())
        response = options["set_response_headers"] or FieldsToSet()
        removed = upstream.remove_headers + (options["remove_headers"] or ())
        return RouteConfig(
            target=target,
            match=_match(route),
            instead=instead,
            request_rules=FieldRules(request.fields, frozenset(removed)),
            response_rules=FieldRules(
                response.fields, frozenset(options["remove_response_headers"] or ())
            ),
            secrets=request.secrets,
            preserve_host=bool(options["preserve_host"]),
            limits=_limits(options, upstream.connect_timeout),
            authorities=self._authorities(route.upstream or "", upstream),
            insecure=upstream.upstream_insecure,
            stream_hints=options["stream_hints"] is not False,
            access_log=options["access_log"] is not False,
            allowed_hosts=options["allow_host"] or (),
            allowed_origins=options["allow_origin"] or (),
            cache=self._cache(path, route, options["cache"]),
            usage=bool(options["usage"]) and instead is None,
            server_timing=bool(options["server_timing"]) and instead is None,
        )

    # the log

    def _log(self, log: Log) -> LogConfig:
        """Return what is written of requests; the file is opened by whoever serves."""
        if log.file is None:
            for name in ("max_size", "keep"):
                if getattr(log, name) is not None:
                    self.walker.also_wrong(
                        ("log", name), "it is for a file of its own; name one with file"
                    )
            return LogConfig(log.access, None, log.trace)
        path = (self.walker.sources.directory / log.file).absolute()
        if path.is_dir() or not path.parent.is_dir():
            self.walker.also_wrong(
                ("log", "file"), "it has to be a file in a directory that is there", log.file
            )
        elif not os.access(path if path.exists() else path.parent, os.W_OK):
            self.walker.also_wrong(("log", "file"), "it cannot be written", log.file)
        return LogConfig(
            log.access,
            LogPlace(str(path), log.max_size or MAX_LOG_BYTES, log.keep or KEPT_LOGS),
            log.trace,
        )

    # the cache

    def _cache(
        self, path: KeyPath, route: Route, said: RouteCache | bool | None
    ) -> CachePolicy | None:
        """Return what the cache may do on a route; what [defaults] say is for upstreams only."""
        if route.redirect is not None or route.answer is not None:
            if route.cache:
                self.walker.also_wrong(
                    (*path, "cache"), "there is nothing to keep: no upstream is asked here"
                )
            return None
        self._check_posts(path, route.cache)
        return said.policy if isinstance(said, RouteCache) else None

    def _check_posts(self, path: KeyPath, said: RouteCache | bool | None) -> None:
        post = said.post if isinstance(said, RouteCache) else None
        if post is not None and post.pace is not None and not post.events:
            self.walker.also_wrong(
                (*path, "cache", "post", "pace"),
                "it is for event streams, which are not stored; say events = true too",
            )

    def _store(self, cache: Cache) -> CacheConfig:
        """Return where responses are kept."""
        small = CacheConfig(memory=cache.memory)
        entry = min(small.entry, cache.memory) if cache.entry is None else cache.entry
        if entry > cache.memory:
            self.walker.also_wrong(
                ("cache", "entry"), "no response of that size is kept: memory is less"
            )
        if cache.disk is None and cache.disk_size is not None:
            self.walker.also_wrong(
                ("cache", "disk_size"), "it is for a directory; name one with disk"
            )
        if cache.disk is not None and cache.redis is not None:
            self.walker.also_wrong(
                ("cache", "redis"),
                "responses are kept in one place: on this machine's disk, or in redis for several "
                "machines; use one of the two",
            )
        redis = cache.redis
        return CacheConfig(
            memory=cache.memory,
            entry=entry,
            disk=cache.disk,
            disk_size=small.disk_size if cache.disk_size is None else cache.disk_size,
            redis=None if redis is None else redis.url,
            redis_shown=None if redis is None else redis.shown,
            secrets=() if redis is None else redis.secrets,
        )

    def _check_twins(self, routes: tuple[Route, ...]) -> None:
        """Refuse two routes for the same requests: neither would be the more specific one."""
        seen: dict[object, list[tuple[int, Match]]] = {}
        for number, route in _present(routes):
            match = _match(route)
            place = seen.setdefault((match.host, match.path, match.exact), [])
            twin = next((other for other, one in place if match.meets(one)), None)
            if twin is not None:
                self.walker.also_wrong(
                    ("routes", number), f"it is for the same requests as routes[{twin}]"
                )
            place.append((number, match))


def _present(tables: Sequence[T | None]) -> Iterator[tuple[int, T]]:
    """Give the tables that could be read at all, each with its place among all."""
    for number, table in enumerate(tables):
        if table is not None:
            yield number, table


def _match(route: Route) -> Match:
    """Return what a request has to be like; a final slash counts in an exact path only."""
    path = route.path or b"/" if route.exact else route.path.rstrip(b"/")
    return Match(route.host or b"", path, route.exact, frozenset(route.methods), route.fields)


def _limits(options: Mapping[str, Any], connect: float) -> Limits:
    """Return limits; those that nobody gave are the defaults."""
    names = {
        "first_byte": "first_byte_timeout",
        "idle": "idle_timeout",
        "upload": "upload_timeout",
        "max_content": "max_body",
        "ws_idle": "ws_idle_timeout",
        "ws_ping": "ws_ping",
        "max_message": "ws_max_message",
    }
    given = {limit: options[name] for limit, name in names.items() if options[name] is not None}
    return Limits(connect=connect, **given)


def _instead(route: Route) -> Instead | None:
    if route.redirect is not None:
        what = route.redirect
        return Redirection(what.to, what.status, what.keep_path)
    if route.answer is None:
        return None
    return _answer(route.answer)


def _answer(answer: Answer) -> FixedAnswer:
    fields = answer.headers.fields
    content = answer.text.encode("utf-8")
    if content and not any(name.lower() == b"content-type" for name, _ in fields):
        fields = ((b"Content-Type", b"text/plain; charset=utf-8"), *fields)
    return FixedAnswer(answer.status, fields, content)


def _unknown_upstream(name: str, known: Mapping[str, object]) -> str:
    what = "there is no upstream of that name"
    return unknown(what, name, known) if known else f"{what}; describe it under [upstreams.{name}]"
