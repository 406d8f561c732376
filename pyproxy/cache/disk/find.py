"""Looking up in a cache on disk, while what is found changes.

A change is heeded from the moment it is asked for, although the disk has it later.  ``Changes``
knows those that are under way, and tells the lookups that are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import attrs
from twisted.internet.interfaces import IDelayedCall

from pyproxy.cache.disk.block import Torn
from pyproxy.cache.disk.file import Read, opened, read, visit
from pyproxy.cache.disk.folder import Folder
from pyproxy.cache.seams import Found
from pyproxy.semantics.stored import StoredResponse


@attrs.frozen
class Looked:
    """What a look at files has found.  Attributes: torn, names and inodes of what is no entry."""

    entries: list[tuple[str, Read]] = attrs.Factory(list)
    torn: list[tuple[str, int]] = attrs.Factory(list)


@attrs.define(eq=False)
class Find:
    """A lookup that waits for the disk, or another look at it.

    Attributes:
        key: None for a look at entries of any key.
        over: it was answered.
        forgotten: keys whose entries are gone, whatever the disk says.
        removed: marks of files that are.
        heads: those that files have now.
    """

    key: bytes | None
    found: Found | None = None
    timer: IDelayedCall | None = None
    over: bool = False
    forgotten: set[bytes] = attrs.Factory(set)
    removed: set[bytes] = attrs.Factory(set)
    heads: dict[bytes, StoredResponse] = attrs.Factory(dict)

    def head(self, known: Read) -> StoredResponse | None:
        """Return the head of a file as it is now, None when it is gone."""
        if known.mark in self.removed or known.key in self.forgotten:
            return None
        return self.heads.get(known.mark, known.head)


@attrs.define(eq=False)
class Changes:
    """Changes that the disk does not have yet.

    Attributes:
        finds: lookups under way.
    """

    finds: set[Find] = attrs.Factory(set)
    _forgotten: dict[bytes, int] = attrs.Factory(dict)
    _removed: dict[bytes, int] = attrs.Factory(dict)
    _heads: dict[bytes, StoredResponse] = attrs.Factory(dict)

    def begin(self, find: Find) -> Find:
        """Have a lookup under way."""
        find.forgotten.update(self._forgotten)
        find.removed.update(self._removed)
        find.heads.update(self._heads)
        self.finds.add(find)
        return find

    def forget(self, key: bytes) -> None:
        """Have no entries of a key, until ``forgot``."""
        _more(self._forgotten, key)
        for find in self.finds:
            find.forgotten.add(key)

    def forgot(self, key: bytes) -> None:
        """Know that the disk has none either."""
        _less(self._forgotten, key)

    def remove(self, marks: Iterable[bytes]) -> None:
        """Have files no more, until they are ``gone``."""
        for mark in marks:
            _more(self._removed, mark)
            for find in self.finds:
                find.removed.add(mark)

    def gone(self, marks: Iterable[bytes]) -> None:
        """Know that the disk has them no more either."""
        for mark in marks:
            _less(self._removed, mark)

    def refresh(self, mark: bytes, head: StoredResponse) -> None:
        """Have another head for a file, until it is ``refreshed``."""
        self._heads[mark] = head
        for find in self.finds:
            find.heads[mark] = head

    def refreshed(self, mark: bytes, head: StoredResponse) -> None:
        """Know that the disk has the head."""
        if self._heads.get(mark) is head:
            del self._heads[mark]


def _more(counts: dict[bytes, int], name: bytes) -> None:
    counts[name] = counts.get(name, 0) + 1


def _less(counts: dict[bytes, int], name: bytes) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]


def look(folder: Folder, find: Find) -> Looked:
    """Read the entries of a key.  Raises: OSError."""
    looked = Looked()
    if find.over or find.key is None:
        return looked
    for name in folder.names_of(find.key):
        _look(folder, name, looked, find.key)
    return looked


def look_at(folder: Folder, names: Iterable[str]) -> Looked:
    """Read the heads of files.  Raises: OSError."""
    looked = Looked()
    for name in names:
        _look(folder, name, looked)
    return looked


def _look(folder: Folder, name: str, looked: Looked, key: bytes | None = None) -> None:
    handle = opened(folder.place(name))
    if handle is None:
        return
    try:
        known = read(handle, whole=key is not None)
        if key is not None and known.key != key:
            raise Torn("it has another key")
    except Torn:
        looked.torn.append((name, os.fstat(handle.number).st_ino))
        return
    if key is not None:
        visit(handle)
    else:
        known = attrs.evolve(known, handle=None)
    looked.entries.append((name, known))
