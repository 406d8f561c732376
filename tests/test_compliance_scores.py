"""What is made of the results of the public tests of HTTP caches."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from compliance.cache import chosen
from compliance.caches import CACHES, SUBJECT, caching_route
from compliance.scores import (
    KNOWN,
    Kind,
    Outcome,
    Results,
    Scores,
    outcome,
    read_suite,
    rst,
    text,
    with_dependencies,
)

FAILED = ["Assertion", "Response 2 comes from cache"]
SETUP = ["Setup", "Response 1 status is 502, not 200"]
UNMENDED = "stale-close-no-cache"

SUITE = read_suite(
    [
        {
            "name": "Freshness",
            "id": "fresh",
            "tests": [
                {"id": "none", "name": "Stores", "kind": "check"},
                {"id": "reuse", "name": "Reuses", "kind": "optimal", "depends_on": ["none"]},
                {"id": "stale", "name": "Validates", "depends_on": ["reuse"]},
                {"id": "page", "name": "In a page", "browser_only": True},
            ],
        },
        {
            "name": "Storing Respones",
            "id": "store",
            "tests": [
                {"id": "private", "name": "Leaves out", "kind": "required"},
                {"id": UNMENDED, "name": "Impossible", "kind": "required"},
            ],
        },
    ]
)
ALL: Results = dict.fromkeys(SUITE, True)


def scores(**results: Results) -> Scores:
    """Return the scores of some caches in all tests."""
    return Scores(SUITE, list(SUITE), results)


class SuiteTests(SynchronousTestCase):
    """What is read from the definitions."""

    def test_definitions(self) -> None:
        """A test without a kind is required; those for browsers alone are left out."""
        self.assertEqual(["none", "reuse", "stale", "private", UNMENDED], list(SUITE))
        kinds = [each.kind for each in SUITE.values()]
        required = Kind.REQUIRED
        self.assertEqual([Kind.QUESTION, Kind.OPTIONAL, required, required, required], kinds)
        self.assertEqual(("reuse",), SUITE["stale"].depends_on)
        self.assertEqual("Storing Responses", SUITE["private"].group)

    def test_unknown_kind(self) -> None:
        """A kind that a newer package may have is not counted as another one."""
        group = {"name": "", "id": "", "tests": [{"id": "a", "name": "", "kind": "new"}]}
        self.assertRaises(ValueError, read_suite, [group])

    def test_dependencies(self) -> None:
        """What a test depends on runs with it, and what that depends on."""
        self.assertEqual(["none", "reuse", "stale"], with_dependencies(SUITE, ["stale"]))
        self.assertEqual(["none", "private"], with_dependencies(SUITE, ["private", "none"]))

    def test_chosen(self) -> None:
        """Groups and tests are chosen by name; without any, all are."""
        self.assertEqual(list(SUITE), chosen(SUITE, [], []))
        self.assertEqual(["none", "private", UNMENDED], chosen(SUITE, ["store"], ["none"]))
        self.assertRaises(LookupError, chosen, SUITE, ["store", "sture"], [])
        self.assertRaises(LookupError, chosen, SUITE, [], ["nune"])


class OutcomeTests(SynchronousTestCase):
    """What came out of one test."""

    def test_alone(self) -> None:
        """The package reports true, or a kind of error and its message."""
        for result, expected in (
            (True, Outcome.PASSED),
            (FAILED, Outcome.FAILED),
            (SETUP, Outcome.NOT_SET_UP),
            (["Setup", "retry"], Outcome.RETRIED),
            (["FetchError", "socket hang up"], Outcome.FAILED),
            (False, Outcome.FAILED),
        ):
            self.assertIs(expected, outcome(SUITE, {"private": result}, "private"), result)
        self.assertIs(Outcome.NOT_RUN, outcome(SUITE, {}, "private"))

    def test_dependent(self) -> None:
        """A test says nothing when one that it depends on, at whatever remove, did not pass."""
        for broken in ("none", "reuse"):
            for result in (FAILED, SETUP, None):
                found = outcome(SUITE, {**ALL, broken: result}, "stale")
                self.assertIs(Outcome.DEPENDENT, found)
        self.assertIs(Outcome.FAILED, outcome(SUITE, {**ALL, "stale": FAILED}, "stale"))


class ScoresTests(SynchronousTestCase):
    """What is counted, and what the proxy is to blame for."""

    def test_known(self) -> None:
        """The known tests are no failures, whatever comes out of them."""
        for result in (FAILED, SETUP, True):
            self.assertEqual([], scores(a={**ALL, UNMENDED: result}).failures("a"))
        self.assertEqual([UNMENDED], scores(a={**ALL, UNMENDED: SETUP}).failures("a", ()))
        self.assertEqual(5, len(KNOWN))

    def test_failures(self) -> None:
        """A required test has to pass: not to fail, not to be kept from telling, but to pass."""
        for test, result in (("private", FAILED), ("private", SETUP), ("private", None)):
            self.assertEqual([test], scores(a={**ALL, test: result}).failures("a"))
        self.assertEqual(["stale"], scores(a={**ALL, "none": FAILED}).failures("a"))

    def test_optional(self) -> None:
        """An optional test that fails is missed and no failure; a question is neither."""
        found = scores(a={**ALL, "reuse": FAILED, "stale": True})
        self.assertEqual(["reuse"], found.missed("a", Kind.OPTIONAL))
        self.assertEqual(["stale"], found.failures("a"))

    def test_why(self) -> None:
        """A result is told with its message, or with the tests that it hangs on."""
        found = scores(a={"none": True, "reuse": FAILED, "stale": True, "private": SETUP})
        for test, why in (
            ("none", "passed"),
            ("reuse", "failed: Response 2 comes from cache"),
            ("stale", "depends on reuse"),
            ("private", "not set up: Response 1 status is 502, not 200"),
            (UNMENDED, "not run"),
        ):
            self.assertEqual(why, found.why("a", test))

    def test_rows(self) -> None:
        """A table has all tests of a kind, then each group that has some, for every cache."""
        found = scores(a=ALL, b={**ALL, "private": FAILED, "reuse": FAILED})
        self.assertEqual(
            [
                ("group", "tests", "a", "b"),
                ("all", "3", "3", "1"),
                ("Freshness", "1", "1", "0"),
                ("Storing Responses", "2", "2", "1"),
            ],
            found.rows(Kind.REQUIRED),
        )
        self.assertEqual(
            [("group", "tests", "a", "b"), ("all", "1", "1", "0"), ("Freshness", "1", "1", "0")],
            found.rows(Kind.OPTIONAL),
        )

    def test_chosen_alone(self) -> None:
        """What ran only for the sake of another test is not counted."""
        found = Scores(SUITE, ["stale"], {"a": {"none": True, "reuse": True, "stale": FAILED}})
        self.assertEqual(["stale"], found.failures("a"))
        self.assertEqual([("group", "tests", "a"), ("all", "0", "0")], found.rows(Kind.OPTIONAL))

    def test_written(self) -> None:
        """Both forms have both tables."""
        found = scores(nginx=ALL)
        self.assertIn("  all                      3        3\n", text(found))
        written = rst(found, ["http-cache-tests 1.0; nginx 1.22.1."])
        for words in (
            ".. list-table:: Required tests passed\n   :header-rows: 1\n\n   * - group\n",
            "   * - Storing Responses\n     - 2\n     - 2\n",
            ".. list-table:: Optional tests passed\n",
        ):
            self.assertIn(words, written)
        self.assertTrue(written.endswith("\n\nhttp-cache-tests 1.0; nginx 1.22.1.\n"))


class CacheTests(SynchronousTestCase):
    """How the caches are started."""

    def setUp(self) -> None:
        """Give each a directory."""
        temporary = tempfile.TemporaryDirectory(prefix="compliance-")
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)

    def test_route(self) -> None:
        """The proxy's file has a route with the cache, or with what is asked for in its place."""
        for cache, expected in (
            (CACHES[0], {"cache": True}),
            (caching_route(["cache = false", "buffer = 1"]), {"cache": False, "buffer": 1}),
        ):
            self.assertEqual(SUBJECT, cache.name)
            command = cache.command("twistd", self.directory, 1, 2)
            document = tomllib.loads(Path(command[-1]).read_text())
            route = {"path": "/", "upstream": "origin", **expected}
            self.assertEqual([route], document["routes"])
            self.assertEqual("tcp:2:interface=127.0.0.1", document["listeners"][0]["endpoint"])

    def test_loopback(self) -> None:
        """Every cache listens on loopback alone, and has its upstream there."""
        for cache in CACHES:
            directory = self.directory / cache.name
            directory.mkdir()
            command = cache.command(cache.program, directory, 30001, 30002)
            files = (each.read_text() for each in directory.iterdir())
            settings = " ".join([*map(str, command), *files])
            self.assertRegex(settings, r"127\.0\.0\.1(:| parent )30001\b")
            self.assertRegex(settings, r"(127\.0\.0\.1|tcp):30002\b")
            self.assertNotIn("0.0.0.0", settings)
