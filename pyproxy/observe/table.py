"""The rows of all processes as one table, put together from what each of them tells."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import attrs

from pyproxy.observe.board_rows import MOVING
from pyproxy.observe.book import Book, Document
from pyproxy.observe.hour import Hour, together


@attrs.define(eq=False)
class _Told:
    """What a process has told last.  Attributes: epoch, which life of the process it was."""

    epoch: int
    version: int
    counts: Document
    hour: Document


@attrs.define(eq=False)
class Table:
    """The rows of all processes; each is named by its process and the number that it has there.

    Attributes: silent, the processes that have not answered the last time.
    """

    silent: tuple[int, ...] = ()
    _book: Book[str] = attrs.Factory(lambda: Book[str](MOVING))
    _told: dict[int, _Told] = attrs.Factory(dict)
    _hour: Document | None = None
    _hour_changed: int = 0

    @property
    def version(self) -> int:
        """Of what stands here now."""
        return self._book.version

    @property
    def seen(self) -> dict[int, tuple[int, int]]:
        """What each process has told last: its epoch and version."""
        return {number: (one.epoch, one.version) for number, one in self._told.items()}

    def place(self, name: str) -> tuple[int, int, int] | None:
        """Return the process of a row, its epoch, and the row's number there; None without it."""
        if name not in self._book:
            return None
        process, number = map(int, name.split("-"))
        return process, self._told[process].epoch, number

    def take(self, answers: Mapping[int, Document], silent: Collection[int]) -> None:
        """Take what processes tell; those that neither tell nor are silent are no more."""
        self._book.step()
        self.silent = tuple(sorted(silent))
        for process in [one for one in self._told if one not in answers and one not in silent]:
            self._forget(process)
        for process, answer in answers.items():
            self._take(process, answer)
        if self._hour is None or any(answer["hour"] is not None for answer in answers.values()):
            hours = [one.hour for one in self._told.values()]
            self._hour = together(hours) if hours else None
            self._hour_changed = self.version

    def _take(self, process: int, answer: Document) -> None:
        book, told = self._book, self._told.get(process)
        if answer["reset"]:
            self._forget(process)
            told = None
        for name in answer["gone"]:
            book.remove(f"{process}-{name}")
        for row in answer["rows"]:
            name = f"{process}-{row['number']}"
            fixed = {key: value for key, value in row.items() if key not in MOVING}
            book.open(name, {**fixed, "id": name}, [row[key] for key in MOVING])
        for number, moving in answer["moved"].items():
            name = f"{process}-{number}"
            if name in book:
                book.move(name, moving)
        for row in answer["ended"]:
            name = f"{process}-{row['number']}"
            book.remove(name)
            book.end({**row, "id": name})
        hour = answer["hour"]
        if hour is None:
            hour = Hour().shown(0.0) if told is None else told.hour
        self._told[process] = _Told(answer["epoch"], answer["version"], answer["counts"], hour)

    def _forget(self, process: int) -> None:
        self._told.pop(process, None)
        begin = f"{process}-"
        for name in self._book.names:
            if name.startswith(begin):
                self._book.remove(name)

    def news(self, since: int | None) -> Document:
        """Return what has changed, as ``Book.news`` does, with sums over all processes.

        ``hidden`` exchanges are open and have no row.
        """
        told = list(self._told.values())
        routes: dict[str, int] = {}
        for one in told:
            for name, count in one.counts["routes"].items():
                routes[name] = routes.get(name, 0) + count
        counts = {
            "open": sum(one.counts["open"] for one in told),
            "hidden": sum(one.counts["hidden"] for one in told),
            "routes": routes,
            "silent": list(self.silent),
        }
        news = self._book.news(since)
        changed = since is None or news["reset"] or self._hour_changed > since
        return {**news, "counts": counts, "hour": self._hour if changed else None}
