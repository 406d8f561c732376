"""What the public tests of HTTP caches say of each cache, counted and set in tables.

Pure: definitions and results come in as data.  The rules are those of the package's own pages
(``lib/display.mjs`` of ``http-cache-tests``), so the figures can be compared with published ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

import attrs


class Kind(Enum):
    """What it means when a test does not pass."""

    REQUIRED = "required"
    """The cache does what a specification forbids, or not what it demands."""
    OPTIONAL = "optimal"
    """The cache asks the upstream where it did not have to."""
    QUESTION = "check"
    """Nothing: either answer is right."""


class Outcome(Enum):
    """What came out of one test of one cache."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_SET_UP = "not set up"
    """It went wrong before the point in question."""
    RETRIED = "retried"
    """The cache sent a request twice, so the answer says nothing."""
    DEPENDENT = "dependent"
    """A test that it depends on did not pass."""
    NOT_RUN = "not run"


Results = Mapping[str, object]
"""What the package reports by the test's id: true, or the kind of error and its message."""


@attrs.frozen
class Definition:
    """The definition of a test.

    Attributes:
        group: the title of the tests that it stands among.
        group_id: their name on the command line.
        depends_on: ids of tests without which it says nothing.
    """

    id: str
    title: str
    group: str
    group_id: str
    kind: Kind
    depends_on: tuple[str, ...] = ()


Suite = Mapping[str, Definition]
"""Definitions by id, in the order of the package."""

_STALE_CLOSE = (
    "the upstream closes the connection without an answer, and yet the answer to that request has "
    "to be a 200 with the number that the upstream gave it"
)

KNOWN: Mapping[str, str] = {
    "stale-close-must-revalidate": _STALE_CLOSE,
    "stale-close-proxy-revalidate": _STALE_CLOSE,
    "stale-close-no-cache": _STALE_CLOSE,
    "stale-close-s-maxage=2": _STALE_CLOSE,
    "headers-store-Transfer-Encoding": (
        "the upstream sends a transfer coding that nobody has asked for (random letters) and keeps "
        "the connection open: the content can neither be decoded nor does it end (RFC 9112, 6.3 "
        "and 7), and yet it has to be stored as if there were none"
    ),
}
"""Required tests that the proxy need not pass, each with the reason."""


def read_suite(groups: Iterable[Mapping[str, Any]]) -> Suite:
    """Return the tests in the package's definitions, less those for browsers alone."""
    return {
        str(test["id"]): Definition(
            id=str(test["id"]),
            title=str(test["name"]),
            group=str(group["name"]).replace("Respones", "Responses"),
            group_id=str(group["id"]),
            kind=Kind(test.get("kind", Kind.REQUIRED.value)),
            depends_on=tuple(map(str, test.get("depends_on", ()))),
        )
        for group in groups
        for test in group["tests"]
        if not test.get("browser_only")
    }


def with_dependencies(suite: Suite, chosen: Iterable[str]) -> list[str]:
    """Return ids and those of all tests that they depend on, in the order of the package."""
    wanted: set[str] = set()
    left = list(chosen)
    while left:
        if (each := left.pop()) not in wanted:
            wanted.add(each)
            left += suite[each].depends_on
    return [each for each in suite if each in wanted]


def outcome(suite: Suite, results: Results, test: str) -> Outcome:
    """Return what came out of a test, with regard to those that it depends on."""
    if (result := results.get(test)) is None:
        return Outcome.NOT_RUN
    needed = suite[test].depends_on
    if any(outcome(suite, results, each) is not Outcome.PASSED for each in needed):
        return Outcome.DEPENDENT
    match result:
        case True:
            return Outcome.PASSED
        case ["Setup", "retry"]:
            return Outcome.RETRIED
        case ["Setup", *_]:
            return Outcome.NOT_SET_UP
        case _:
            return Outcome.FAILED


@attrs.frozen
class Scores:
    """The outcome of the chosen tests for each cache, by the cache's name in the order of tables.

    Attributes:
        chosen: ids of the tests that count; what was run for their sake alone does not.
    """

    suite: Suite
    chosen: Sequence[str]
    results: Mapping[str, Results]

    def outcome(self, cache: str, test: str) -> Outcome:
        """Return what came out of a test."""
        return outcome(self.suite, self.results[cache], test)

    def why(self, cache: str, test: str) -> str:
        """Return the outcome in words: with the message, or the tests that it depends on."""
        found = self.outcome(cache, test)
        if found is Outcome.DEPENDENT:
            return f"depends on {', '.join(self._culprits(cache, test))}"
        match self.results[cache].get(test):
            case [_, message]:
                return f"{found.value}: {message}"
            case _:
                return str(found.value)

    def _culprits(self, cache: str, test: str) -> list[str]:
        return [
            each
            for each in self.suite[test].depends_on
            if self.outcome(cache, each) is not Outcome.PASSED
        ]

    def tests(self, kind: Kind, group_id: str | None = None) -> list[str]:
        """Return the chosen tests of a kind, of all groups or one."""
        return [
            each
            for each in self.chosen
            if self.suite[each].kind is kind and group_id in (None, self.suite[each].group_id)
        ]

    def passed(self, cache: str, tests: Iterable[str]) -> list[str]:
        """Return those of some tests that a cache has passed."""
        return [each for each in tests if self.outcome(cache, each) is Outcome.PASSED]

    def missed(self, cache: str, kind: Kind) -> list[str]:
        """Return the tests of a kind that a cache has not passed, for whatever reason."""
        return [
            each for each in self.tests(kind) if self.outcome(cache, each) is not Outcome.PASSED
        ]

    def failures(self, cache: str, known: Collection[str] = tuple(KNOWN)) -> list[str]:
        """Return the required tests that a cache has not passed, but for the known ones.

        A test that another one keeps from telling anything is among them.
        """
        return [each for each in self.missed(cache, Kind.REQUIRED) if each not in known]

    def rows(self, kind: Kind) -> list[tuple[str, ...]]:
        """Return a table of the tests of a kind that were passed: its head, all, each group."""
        groups = {self.suite[each].group_id: self.suite[each].group for each in self.tests(kind)}
        counted = [("all", self.tests(kind))]
        counted += [(title, self.tests(kind, each)) for each, title in groups.items()]
        lines: list[tuple[str, ...]] = [("group", "tests", *self.results)]
        for title, tests in counted:
            passed = (str(len(self.passed(each, tests))) for each in self.results)
            lines.append((title, str(len(tests)), *passed))
        return lines


TITLES = ((Kind.REQUIRED, "Required tests passed"), (Kind.OPTIONAL, "Optional tests passed"))


def text(scores: Scores) -> str:
    """Return the tables for a terminal."""
    lines: list[str] = []
    for kind, title in TITLES:
        rows = scores.rows(kind)
        width = max(len(row[0]) for row in rows)
        lines += ["", title, ""]
        for first, *others in rows:
            lines.append(f"  {first:<{width}}" + "".join(f" {each:>8}" for each in others))
    return "\n".join(lines) + "\n"


def rst(scores: Scores, remarks: Sequence[str]) -> str:
    """Return the tables for the documentation, with what was compared below them."""
    lines = [".. Written by ``python -m compliance.cache``: do not edit.", ""]
    for kind, title in TITLES:
        lines += [f".. list-table:: {title}", "   :header-rows: 1", ""]
        for row in scores.rows(kind):
            lines += [f"   {'  -' if at else '* -'} {cell}" for at, cell in enumerate(row)]
        lines.append("")
    return "\n".join([*lines, *remarks]) + "\n"
