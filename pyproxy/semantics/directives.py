"""Directives of Cache-Control, and of the targeted fields that may stand in its place.

Spec: RFC 9111 5.2, RFC 9213.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import cast

import attrs
import http_sf

from pyproxy.semantics.fields import is_token, list_members
from pyproxy.semantics.forwarded import unquoted

MAX_SECONDS = 2**31
"""What is longer is as long as this.  Spec: RFC 9111 1.2.2."""

_is_seconds = re.compile(rb"\d+").fullmatch

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_is_directive = re.compile(
    rb"%b(?:=(?:%b|\"(?:[^\"\\]|\\.)*+\"))?" % (_TOKEN, _TOKEN), re.DOTALL
).fullmatch
_words = re.compile(_TOKEN).findall

_MEANT: dict[bytes, tuple[bytes, bytes | None]] = {
    b"max-age": (b"max-age", b"?"),
    b"must-revalidate": (b"proxy-revalidate", None),
    b"no-cache": (b"no-cache", None),
    b"no-store": (b"no-store", None),
    b"private": (b"private", None),
    b"proxy-revalidate": (b"proxy-revalidate", None),
    b"s-maxage": (b"max-age", b"?"),
}
"""What the words in a member that is no directive are taken for: what forbids, never what allows.

A lifetime cannot be read there; ``must-revalidate`` and ``s-maxage`` themselves would allow it to
be stored what was asked with a credential.
"""

_NAMING = frozenset({b"no-cache", b"private"})
"""Directives whose arguments name fields, in a quoted string.  Spec: RFC 9111 5.2.2.4, 5.2.2.7."""


@attrs.frozen
class Directives:
    """Directives by name, each with its arguments; None for one without."""

    found: dict[bytes, list[bytes | None]]

    def __contains__(self, name: bytes) -> bool:
        return name in self.found

    def __bool__(self) -> bool:
        return bool(self.found)

    def seconds(self, name: bytes) -> int | None:
        """Return a directive's seconds, None without the directive.

        One that cannot be read counts as 0, and of several the least, so that a response is rather
        stale than wrongly fresh.  Spec: RFC 9111 4.2.1.
        """
        arguments = self.found.get(name)
        if arguments is None:
            return None
        return min(_seconds(argument) for argument in arguments)

    def everything(self, name: bytes) -> bool:
        """Tell whether ``private`` or ``no-cache`` is there without naming fields."""
        return any(not _names(argument) for argument in self.found.get(name, ()))

    def fields(self, name: bytes) -> frozenset[bytes]:
        """Return the fields that ``private`` or ``no-cache`` names, in lower case."""
        return frozenset().union(*(_names(argument) for argument in self.found.get(name, ())))


def _seconds(argument: bytes | None) -> int:
    if argument is None or _is_seconds(argument) is None:
        return 0
    # With zeros in front it is no longer than without them.
    digits = argument.lstrip(b"0") or b"0"
    return MAX_SECONDS if len(digits) > 10 else min(int(digits), MAX_SECONDS)


def _names(argument: bytes | None) -> frozenset[bytes]:
    """Return the field names of an argument; none when not all of it are such."""
    names = list_members([argument or b""])
    if not all(map(is_token, names)):
        return frozenset()
    return frozenset(name.lower() for name in names)


NO_DIRECTIVES = Directives({})


def read_directives(lines: Iterable[bytes]) -> Directives:
    """Read the lines of Cache-Control.  What has no name that is a token is left out.

    A member that is no directive (semicolons, white space, a quoted string without its end) may
    hide some that forbid: they count wherever they stand in it.
    Source: nginx, which looks for ``private`` and ``no-store`` anywhere in the field.
    """
    found: dict[bytes, list[bytes | None]] = {}
    for member in list_members(lines):
        name, equals, argument = member.partition(b"=")
        name = name.lower()
        if is_token(name):
            # Who writes ``private=1`` or ``private=true`` names no field.
            named = name not in _NAMING or argument[:1] == b'"'
            found.setdefault(name, []).append(unquoted(argument) if equals and named else None)
        if _is_directive(member) is None:
            for word in _words(member):
                meant = _MEANT.get(word.lower())
                if meant is not None:
                    found.setdefault(meant[0], []).append(meant[1])
    return Directives(found)


def read_targeted(lines: Iterable[bytes]) -> Directives | None:
    """Read the lines of a targeted field, a dictionary of structured fields.

    Returns: None for one that cannot be parsed or is empty: the next has its turn.
    A value of another type than its directive's counts as one that cannot be read.
    Spec: RFC 9213 2.1, RFC 9651 3.2.
    """
    try:
        parsed = http_sf.parse(b", ".join(lines), tltype="dictionary")
    except ValueError:
        return None
    members = cast("dict[str, object]", parsed)
    found: dict[bytes, list[bytes | None]] = {}
    for key, member in members.items():
        value = member[0] if isinstance(member, tuple) else member
        if value is not False:
            name = key.encode("ascii")
            named = name not in _NAMING or type(value) is str
            found[name] = [_argument(value) if named else None]
    return Directives(found) if found else None


def _argument(value: object) -> bytes | None:
    if value is True:
        return None
    if type(value) is int:
        return b"%d" % value
    # A string is right for names of fields only, and a token for neither.
    if type(value) is str and not value.isdigit():
        return value.encode("ascii")
    return b"?"
