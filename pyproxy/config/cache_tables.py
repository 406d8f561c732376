"""What a file may say of the cache: of the store as a whole, and of each route's part."""

from __future__ import annotations

import re
from typing import Any

import attrs

from pyproxy.config import value_kinds as kinds
from pyproxy.config import values
from pyproxy.config.kinds import Kind, Several, Sources, Table, key
from pyproxy.policy.cache_policy import MAX_VARIANTS, PACES, WHOLE, CachePolicy, PostPolicy
from pyproxy.semantics.fields import is_token
from pyproxy.semantics.forwarding import HOP_BY_HOP
from pyproxy.semantics.secrets import MASK
from pyproxy.sharing.redis_place import place_of

MOST_VARIANTS = 10_000
"""More stored responses of one URL than anybody has use for."""

_NOT_IN_KEY = HOP_BY_HOP | {b"content-length", b"host", b"trailer"}
"""Request fields that belong to one message, or are part of every key already."""

_is_pointer = re.compile(r"(?:/(?:[^~/]|~[01])*)+").fullmatch


@attrs.frozen
class RedisUrl:
    """Where a Redis server is.

    Attributes:
        url: with its password.
        shown: as it was written, without a password that was written out.
        secrets: its password.
    """

    url: str = attrs.field(repr=False)
    shown: str = ""
    secrets: tuple[bytes, ...] = attrs.field(default=(), repr=False)


def parse_redis(text: str, sources: Sources) -> RedisUrl:
    """Parse the URL of a Redis server; ``${NAME}`` and ``@FILE`` expand in it.

    Raises: ValueError, which never quotes it.
    """
    octets, _ = values.expand(text, sources)
    url = octets.decode("utf-8", "surrogateescape")
    password = place_of(url).password
    secrets = (password.encode("utf-8", "surrogateescape"),) if password else ()
    return RedisUrl(url, shown_redis(text), secrets)


def shown_redis(text: str) -> str:
    """Return what a file says of a Redis server, without a password that was written out."""
    if text.startswith("@"):
        return text
    before, at, place = text.rpartition("@")
    user, colon, password = before.removeprefix(scheme := _scheme_of(before)).partition(":")
    if not at or not colon or not password or values.is_named(password):
        return text
    return f"{scheme}{user}:{MASK.decode('ascii')}@{place}"


def _scheme_of(text: str) -> str:
    return text[: text.find("://") + 3] if "://" in text else ""


def _redis(value: Any, sources: Sources) -> RedisUrl:
    if not isinstance(value, str):
        raise ValueError("it has to be a string")
    return parse_redis(value, sources)


def _bound(text: str) -> int:
    size = values.parse_size(text)
    if size == 0:
        raise ValueError("it has to be more than 0 bytes")
    return size


def _directory(value: str) -> str:
    if not value.startswith("/") or "\0" in value:
        raise ValueError("it has to be the path of a directory, from / on")
    return value


def _key_field(value: str) -> bytes:
    name = value.encode("utf-8", "surrogateescape").lower()
    if not is_token(name):
        raise ValueError("it has to be a field name, such as Accept-Language")
    if name in _NOT_IN_KEY:
        raise ValueError("it belongs to one message or connection, or is in every key already")
    return name


def _pointer(value: str) -> str:
    if _is_pointer(value) is None:
        raise ValueError("it has to be a JSON Pointer, such as /metadata/user")
    return value


def _pace(value: str) -> str:
    if value not in PACES:
        raise ValueError(f"it has to be {' or '.join(PACES)}")
    return value


_SIZE = kinds.number_or_text("size", _bound, 1, 10**15 - 1, pattern=kinds.SIZE_PATTERN)
_REDIS = Kind(
    "URL", {"type": "string", "pattern": "^(?:rediss?://|unix:/|@|.*[$][{])"}, _redis, secret=True
)
_DIRECTORY = kinds.text("path", _directory, pattern="^/")
_KEY_FIELD = kinds.text("field name", _key_field, pattern=kinds.TOKEN_PATTERN)
_POINTER = kinds.text("JSON Pointer", _pointer, pattern="^(?:/(?:[^~/]|~[01])*)+$")
_PACE = kinds.text("pace", _pace, enum=list(PACES))


@attrs.frozen
class Cache:
    """Where the responses of all routes with `cache` are kept."""

    memory: int = key(
        _SIZE,
        "Bytes of memory that stored responses may take; workers divide them.",
        default=256 * 1024**2,
        shown="256m",
    )
    entry: int | None = key(
        _SIZE,
        "Bytes that the content of one stored response may have; no more than `memory`.",
        default=None,
        shown="8m",
    )
    disk: str | None = key(
        _DIRECTORY,
        "A directory in which responses are kept, over restarts and for all workers together.  A "
        "restart changes it.",
        default=None,
        shown="off",
    )
    disk_size: int | None = key(
        _SIZE, "Bytes that the directory may take.", default=None, shown="10g"
    )
    redis: RedisUrl | None = key(
        _REDIS,
        "A Redis server that keeps responses for several machines: "
        "`redis://:${PASSWORD}@HOST:6379/0`, `rediss://` for TLS, `unix:///run/redis.sock`, or "
        "`@FILE` with such a URL.  A restart changes it.",
        default=None,
        shown="off",
    )


@attrs.frozen
class RoutePost:
    """How answers to POST are stored: by URL, content and some fields."""

    ttl: float = key(kinds.SECONDS, "An answer is fresh for so long.")
    fields: tuple[bytes, ...] = key(
        Several(_KEY_FIELD), "Request fields that tell answers apart too.", default=()
    )
    whole: int = key(
        _SIZE,
        "Bytes of content that are read for the key; requests with more pass.",
        default=WHOLE,
        shown="1m",
    )
    ignore: tuple[str, ...] = key(
        Several(_POINTER),
        "Members of JSON content that tell no answers apart, as JSON Pointers: `/metadata/user`.",
        default=(),
    )
    shared: bool = key(
        kinds.FLAG,
        "Serve what one client's credential brought to clients with others too.",
        default=False,
    )
    events: bool = key(kinds.FLAG, "Store event streams too.", default=False)
    pace: Any = key(
        _PACE,
        "With `events`: send stored ones `at-once`, or `as-recorded`, with their pauses.",
        default=None,
        shown="at-once",
    )

    @property
    def policy(self) -> PostPolicy:
        """What it says, as a fact."""
        return PostPolicy(
            self.ttl,
            tuple(sorted(set(self.fields))),
            self.whole,
            self.ignore,
            self.shared,
            self.events,
            self.pace or PACES[0],
        )


@attrs.frozen
class RouteCache:
    """What the cache may do on a route; `cache = true` is this with nothing in it."""

    heuristic: bool = key(
        kinds.FLAG,
        "Keep responses fresh for a while that do not say for how long (RFC 9111 4.2.2).",
        default=False,
    )
    finish: bool = key(
        kinds.FLAG,
        "Fetch a response to its end when every client has left.",
        default=False,
    )
    post: RoutePost | None = key(
        Table(RoutePost), "Store answers to POST.", default=None, shown="off"
    )
    max_variants: int = key(
        kinds.count("number", MOST_VARIANTS),
        "Stored responses of one URL that `Vary` tells apart.",
        default=MAX_VARIANTS,
    )

    @property
    def policy(self) -> CachePolicy:
        """What it says, as a fact."""
        post = None if self.post is None else self.post.policy
        return CachePolicy(self.heuristic, self.finish, post, self.max_variants)
