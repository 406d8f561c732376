"""What files of a cache on disk are called, and whether a folder may hold one.

No octet of a client's is in a name.  Entries whose response has no ``Vary`` are looked for by one
name; those that it tells apart stand together in a folder of their key's.
"""

from __future__ import annotations

import os
import re
import stat

import attrs

from pyproxy.cache.packing import digest_of
from pyproxy.semantics.stored import Varies

FOLDERS = 256
"""Sub-folders: one for each first octet of a key's digest."""

TALLY = "tally"
"""The file that has the octets and the count of each sub-folder."""

TMP = "tmp"
"""The folder of files that are being written."""

BLOCK = 4096
"""Octets that a file system gives at once, as most do."""

VARIED = ".v"
"""The end of the name of a folder with the variants of one key."""

is_entry = re.compile(r"[0-9a-f]{32}").fullmatch
is_varied = re.compile(r"[0-9a-f]{32}\.v").fullmatch
is_left_over = re.compile(r"([0-9]{1,10})-[0-9a-f]{32}").fullmatch

_OWN = frozenset({TALLY, TMP, *(f"{number:02x}" for number in range(FOLDERS))})


class Unfit(Exception):
    """A folder cannot hold a cache; the text names the option and says what to do."""


@attrs.frozen
class Names:
    """Names of the entries of one key, below the store's folder."""

    plain: str
    varied: str

    @classmethod
    def of(cls, key: bytes) -> Names:
        """Return the names of a key."""
        digest = digest_of(key).hex()
        plain = f"{digest[:2]}/{digest}"
        return cls(plain, plain + VARIED)

    def one(self, varies: Varies) -> str:
        """Return the name of one entry."""
        if not varies:
            return self.plain
        parts = [part for name, value in varies for part in (name, value)]
        # Each with its length, so that no two lists of them are the same octets.
        told = [b"-" if part is None else b"%d:%b" % (len(part), part) for part in parts]
        return f"{self.varied}/{digest_of(*told).hex()}"


def room_of(name: str, octets: int) -> int:
    """Return what a file takes: whole blocks, and one more where it needs a folder."""
    blocks = -(-octets // BLOCK) + (VARIED in name)
    return blocks * BLOCK


def check_folder(path: str) -> None:
    """See whether a folder may hold a cache.  Raises: Unfit."""

    def refuse(why: str) -> Unfit:
        return Unfit(f"cache.disk: {path} {why}")

    remedy = "make it with `install -d -m 0700 -o USER`"
    try:
        known = os.stat(path)
        if not stat.S_ISDIR(known.st_mode):
            raise refuse(f"is no folder; {remedy}")
        if known.st_uid != os.geteuid():
            raise refuse(f"belongs to another user ({known.st_uid}); {remedy}")
        if known.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise refuse("can be written by others; take that from them with `chmod 0700`")
        foreign = sorted(set(os.listdir(path)) - _OWN)
    except FileNotFoundError as error:
        raise refuse(f"does not exist; {remedy}") from error
    except OSError as error:
        raise refuse(f"cannot be read ({error.strerror})") from error
    if foreign:
        raise refuse(f"holds what is not the cache's, as `{foreign[0]}`; name a folder of its own")


def make_folders(path: str) -> None:
    """Make the folders within.  Raises: Unfit."""
    try:
        for name in sorted(_OWN - {TALLY}):
            os.makedirs(os.path.join(path, name), 0o700, exist_ok=True)
    except OSError as error:
        raise Unfit(f"cache.disk: {path} cannot be written ({error.strerror})") from error
