"""Looking at every entry of a cache on disk, a few at a time, for people who ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from pyproxy.cache.disk.access import Access
from pyproxy.cache.disk.file import Read
from pyproxy.cache.disk.find import Changes, Find, Looked, look_at
from pyproxy.cache.disk.folder import Folder
from pyproxy.cache.disk.names import FOLDERS
from pyproxy.cache.seams import Chosen
from pyproxy.semantics.stored import StoredResponse

SLICE = 100
"""Files that are read before others have their turn."""

Told = tuple[str, Read, StoredResponse]
"""A file by its name, what was read of it, and its head as it is now."""


async def walk(
    access: Access,
    folder: Folder,
    changes: Changes,
    seen: Callable[[Looked], Looked],
    chosen: Chosen,
) -> AsyncIterator[Sequence[Told]]:
    """Yield those that are chosen, of all that are there now.  Raises: Away, OSError.

    Args: seen, which is told of each look.
    """
    for number in range(FOLDERS):
        names = await access.ask(folder.listed, number)
        for start in range(0, len(names), SLICE):
            find = changes.begin(Find(None))
            try:
                looked = await access.ask(look_at, folder, names[start : start + SLICE])
            finally:
                changes.finds.discard(find)
            some: list[Told] = []
            for name, known in seen(looked).entries:
                head = find.head(known)
                if head is not None and chosen(known.key, head):
                    some.append((name, known, head))
            yield some
