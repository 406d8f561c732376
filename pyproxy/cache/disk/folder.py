"""The folder of a cache on disk, which several processes share.

All that changes it goes through one thread of each process, in order.  Nobody keeps an index: a
file that is there under its name is an entry, and when it was last asked for stands in its times.

What leaves is chosen as by CLOCK, over samples.  A file's time of change is its place in the queue;
its time of access is later than that once it was asked for.  Files of some sub-folders, which are a
sample of all since names are digests, are looked at from the oldest on: who was asked for goes to
the end of the queue, anybody else leaves.  There is room before a file gets its name: so the bound
is exceeded by no more than what other processes are just storing.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence

import attrs

from pyproxy.cache.disk.file import Aside, mark_in, opened
from pyproxy.cache.disk.names import (
    FOLDERS,
    TALLY,
    TMP,
    VARIED,
    Names,
    check_folder,
    is_entry,
    is_left_over,
    is_varied,
    make_folders,
    room_of,
)
from pyproxy.cache.disk.tally import Tally
from pyproxy.semantics.stored import StoredResponse

LEFT_OVER_SECONDS = 3600
"""After so long a file that nobody writes to any more is no longer being written."""

SAMPLE = 64
"""Files that are looked at, at least, to find one that leaves."""

MAX_SPARED = 4096
"""Files that may be spared for one that is stored; the next leaves although it was asked for."""

MAX_VARIANTS = 64
"""Entries of one key that are kept."""


@attrs.frozen
class Seen:
    """A file that was looked at.  Attributes: changed, visited, as times in nanoseconds."""

    name: str
    octets: int
    changed: int
    visited: int


@attrs.define(eq=False)
class Folder:
    """The folder.

    Attributes:
        bound: octets that all entries may take.
        evicted: entries that had to leave, of those that this process has removed.
        left_over: files removed that a process has left half written.
    """

    path: str
    bound: int
    tally: Tally
    evicted: int = 0
    left_over: int = 0
    _next: int = attrs.Factory(lambda: os.getpid() % FOLDERS)
    _oldest: list[Seen] = attrs.Factory(list)

    @classmethod
    def at(cls, path: str, bound: int) -> Folder:
        """Take a folder over.  Raises: Unfit."""
        check_folder(path)
        make_folders(path)
        return cls(path, bound, Tally.at(os.path.join(path, TALLY)))

    def place(self, name: str) -> str:
        """Return the path of an entry."""
        return f"{self.path}/{name}"

    def aside(self) -> Aside:
        """Return what writes a new file."""
        name = f"{os.getpid()}-{os.urandom(16).hex()}"
        return Aside(os.path.join(self.path, TMP, name))

    # changing

    def keep(self, aside: Aside, key: bytes, head: StoredResponse) -> None:
        """Finish a file and give it its name, in the place of what has it.  Raises: OSError."""
        try:
            aside.finish(key, head)
            name = Names.of(key).one(head.varies)
            octets = room_of(name, aside.size)
            self.make_room(octets)
            with self.tally.locked():
                had = self._octets(name)
                self._rename(aside.path, name)
                self.tally.add(_folder_of(name), octets - (had or 0), int(had is None))
            if had is None and head.varies:
                self._trim(key)
        except OSError:
            aside.discard()
            raise

    def _rename(self, path: str, name: str) -> None:
        place = self.place(name)
        try:
            os.rename(path, place)
        except FileNotFoundError:
            if VARIED not in name:
                raise
            os.makedirs(os.path.dirname(place), 0o700, exist_ok=True)
            os.rename(path, place)

    def _octets(self, name: str) -> int | None:
        try:
            return room_of(name, os.lstat(self.place(name)).st_size)
        except FileNotFoundError:
            return None

    def remove(self, name: str, mark: bytes | None = None, inode: int | None = None) -> bool:
        """Remove an entry.  Args: mark or inode, of the only file that is meant.

        Raises: OSError.
        """
        place = self.place(name)
        with self.tally.locked():
            if mark is not None:
                handle = opened(place)
                if handle is None or mark_in(handle) != mark:
                    return False
            had = self._octets(name)
            if had is None or inode not in (None, os.lstat(place).st_ino):
                return False
            try:
                os.unlink(place)
            except FileNotFoundError:
                # The lock was not to be had, and somebody was faster.
                return False
            self.tally.add(_folder_of(name), -had, -1)
        if VARIED in name:
            _remove_if_empty(os.path.dirname(place))
        return True

    def _trim(self, key: bytes) -> None:
        """Have no more than MAX_VARIANTS entries of a key; the oldest leave."""
        names = self.names_of(key)
        if len(names) > MAX_VARIANTS:
            seen = [known for name in names if (known := self._see(name))]
            seen.sort(key=lambda known: known.changed)
            for known in seen[: len(seen) - MAX_VARIANTS]:
                self.remove(known.name)

    def remove_all(self, files: Sequence[tuple[str, bytes]]) -> int:
        """Remove files by name and mark; return how many were there.  Raises: OSError."""
        return sum(self.remove(name, mark) for name, mark in files)

    def remove_key(self, key: bytes) -> None:
        """Remove all entries of a key.  Raises: OSError."""
        for name in self.names_of(key):
            self.remove(name)

    def names_of(self, key: bytes) -> list[str]:
        """Return the names that entries of a key may have, those of variants only if they exist."""
        names = Names.of(key)
        variants = _listed(self.place(names.varied))
        return [names.plain, *(f"{names.varied}/{name}" for name in variants if is_entry(name))]

    # evicting

    def make_room(self, octets: int) -> None:
        """Let entries leave until so much more fits, if there are any.  Raises: OSError."""
        tries = 0
        self.tally.look()
        while self.tally.octets + octets > self.bound:
            if not self._oldest and not self._sample():
                return
            seen = self._oldest.pop()
            now = self._see(seen.name)
            tries += 1
            if now is None:
                continue
            if tries < MAX_SPARED and now.changed != seen.changed:
                # It is another one, or has gone to the end of the queue.
                continue
            if tries < MAX_SPARED and now.visited > now.changed:
                self._spare(now.name)
            elif self.remove(now.name):
                self.evicted += 1

    def _spare(self, name: str) -> None:
        stamp = time.time_ns()
        try:
            os.utime(self.place(name), ns=(stamp, stamp), follow_symlinks=False)
        except FileNotFoundError:
            # Somebody else has removed it.
            return

    def _sample(self) -> bool:
        """Look for the oldest in some sub-folders; tell whether there are any."""
        sample: list[Seen] = []
        for _ in range(FOLDERS):
            number, self._next = self._next, (self._next + 1) % FOLDERS
            if self.tally.counts[number]:
                sample += self.count(number)
            if len(sample) >= SAMPLE:
                break
        sample.sort(key=lambda seen: seen.changed, reverse=True)
        self._oldest = sample[-max(1, len(sample) // 4) :] if sample else []
        return bool(sample)

    def _see(self, name: str) -> Seen | None:
        try:
            known = os.lstat(self.place(name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(known.st_mode):
            return None
        return Seen(name, room_of(name, known.st_size), known.st_mtime_ns, known.st_atime_ns)

    # counting

    def count(self, number: int) -> list[Seen]:
        """Count a sub-folder anew, and return what is in it.  Raises: OSError."""
        with self.tally.locked():
            found = [seen for name in self.names_in(number) if (seen := self._see(name))]
            self.tally.put(number, sum(seen.octets for seen in found), len(found))
        return found

    def names_in(self, number: int) -> Iterator[str]:
        """Yield the names of the entries in a sub-folder; foreign files are none."""
        folder = f"{number:02x}"
        for name in _listed(self.place(folder)):
            if is_entry(name) and name.startswith(folder):
                yield f"{folder}/{name}"
            elif is_varied(name) and name.startswith(folder):
                path = f"{folder}/{name}"
                variants = _listed(self.place(path))
                if not variants:
                    _remove_if_empty(self.place(path))
                yield from (f"{path}/{each}" for each in variants if is_entry(each))

    def listed(self, number: int) -> list[str]:
        """Return the names of the entries in a sub-folder.  Raises: OSError."""
        return list(self.names_in(number))

    def sweep(self) -> None:
        """Remove what processes have left half written.  Raises: OSError."""
        folder = os.path.join(self.path, TMP)
        for name in os.listdir(folder):
            match = is_left_over(name)
            path = os.path.join(folder, name)
            try:
                if match and (
                    not _lives(int(match[1]))
                    or time.time() - os.lstat(path).st_mtime > LEFT_OVER_SECONDS
                ):
                    os.unlink(path)
                    self.left_over += 1
            except FileNotFoundError:
                # Its process has finished it meanwhile, or another has swept it.
                continue


def _folder_of(name: str) -> int:
    return int(name[:2], 16)


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remove_if_empty(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        # Somebody has put a file there, or has removed it.
        return


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
