"""Which of many rules a request meets: by host, path, method and fields, in a fixed order.

The order of the rules themselves never counts: the most specific one wins.

1. the host: named whole, then by the longest ``*.suffix``, then by none;
2. the path: named whole, then by the longest prefix;
3. the method: named, then any;
4. the fields: those with more conditions first, then by their names in the order of the alphabet.

A rule that a request does not meet in its method or fields gives way to the next one, down to the
rules without a host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

import attrs

from pyproxy.semantics.fields import list_members
from pyproxy.semantics.messages import RequestHead

PRESENT = b"*"
"""The value of a condition that any value of the field meets."""


@attrs.frozen
class Condition:
    """What one field of a request has to be.

    Attributes:
        name: of the field, in lower case.
        value: of one of its members without parameters, in lower case; or PRESENT.
    """

    name: bytes
    value: bytes = PRESENT

    def holds(self, head: RequestHead) -> bool:
        """Tell whether a request meets it."""
        values = [
            field[1]
            for field, name in zip(head.fields, head.names, strict=True)
            if name == self.name
        ]
        if self.value == PRESENT:
            return bool(values)
        members = (member.partition(b";")[0].rstrip().lower() for member in list_members(values))
        return self.value in members


@attrs.frozen
class Match:
    """What a request has to be like.

    Attributes:
        host: a name in lower case, ``*.`` and what it ends with, or empty for any.
        path: of the target: begins with ``/`` and ends with none, or is empty for every path.
        exact: the path as a whole, its final slash too, and nothing below it.
        methods: one of these, or any when there is none.
        conditions: all of these, in the order of their names.
    """

    host: bytes = b""
    path: bytes = b""
    exact: bool = False
    methods: frozenset[bytes] = frozenset()
    conditions: tuple[Condition, ...] = ()

    def accepts(self, head: RequestHead) -> bool:
        """Tell whether method and fields of a request are what they have to be."""
        return (not self.methods or head.method in self.methods) and self.holds_for(head)

    def holds_for(self, head: RequestHead) -> bool:
        """Tell whether the fields of a request are what they have to be."""
        return all(condition.holds(head) for condition in self.conditions)

    @property
    def path_alone(self) -> bool:
        """Whether nothing counts but the path and what is below it."""
        return not (self.host or self.exact or self.methods or self.conditions)

    @property
    def rank(self) -> tuple[object, ...]:
        """Where it stands among those of the same host and path: the lower, the earlier."""
        return (not self.methods, -len(self.conditions), self.conditions_key)

    @property
    def conditions_key(self) -> tuple[tuple[bytes, bytes], ...]:
        """Its conditions, as they are compared."""
        return tuple((one.name, one.value) for one in self.conditions)

    def meets(self, other: Match) -> bool:
        """Tell whether some request would be as much this one's as another's."""
        same_place = (self.host, self.path, self.exact) == (other.host, other.path, other.exact)
        methods = self.methods & other.methods or (not self.methods and not other.methods)
        return same_place and bool(methods) and self.conditions_key == other.conditions_key


class Matched(Protocol):
    """What has a match; ``routing.Route`` is one."""

    @property
    def match(self) -> Match:
        """What a request has to be like."""


T = TypeVar("T", bound=Matched)


@attrs.define
class _Paths(Generic[T]):
    """The rules of one host, by their paths.

    Attributes:
        longest: octets of the longest prefix; of a longer path no more is looked at.
    """

    exact: dict[bytes, list[T]] = attrs.Factory(dict)
    prefixes: dict[bytes, list[T]] = attrs.Factory(dict)
    longest: int = 0

    def add(self, rule: T) -> None:
        """Put a rule in its place."""
        match = rule.match
        if not match.exact:
            self.longest = max(self.longest, len(match.path))
        rules = (self.exact if match.exact else self.prefixes).setdefault(match.path, [])
        rules.append(rule)
        rules.sort(key=lambda one: one.match.rank)

    def at(self, path: bytes) -> Iterator[T]:
        """Give the rules for a path, the most specific first."""
        if self.exact and path in self.exact:
            yield from self.exact[path]
        prefixes = self.prefixes
        path = path[: self.longest + 1]
        while True:
            if path in prefixes:
                yield from prefixes[path]
            if not path:
                return
            path = path[: path.rindex(b"/")]


class MatchIndex(Generic[T]):
    """Finds the most specific rule for a request by a few look-ups, however many there are."""

    def __init__(self, rules: Iterable[T]) -> None:
        self._hosts: dict[bytes, _Paths[T]] = {}
        for rule in rules:
            self._hosts.setdefault(rule.match.host, _Paths()).add(rule)

    def candidates(self, host: bytes, path: bytes) -> Iterator[T]:
        """Give the rules for a host and a path, the most specific first.

        Args: host in lower case, without port and final dot; path without query, begins with ``/``.
        """
        hosts = self._hosts
        if host in hosts:
            yield from hosts[host].at(path)
        rest = host
        while b"." in rest:
            rest = rest[rest.index(b".") + 1 :]
            wide = b"*." + rest
            if wide in hosts:
                yield from hosts[wide].at(path)
        if host and b"" in hosts:
            yield from hosts[b""].at(path)

    def find(self, head: RequestHead, host: bytes, path: bytes) -> T | None:
        """Return the most specific rule that a request meets, or None."""
        for rule in self.candidates(host, path):
            if rule.match.accepts(head):
                return rule
        return None
