"""The board of one process, and the table of several."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.account import Account
from pyproxy.carrier import Flow
from pyproxy.observe.board import MOST_ROWS, Board
from pyproxy.observe.board_rows import MOST_SHOWN, PATIENCE, QUEUED
from pyproxy.observe.book import MOST_ENDED, Document
from pyproxy.observe.masking import Mask
from pyproxy.observe.table import Table
from pyproxy.semantics.dialects.reading import Usage
from tests.observe.ended import over

NOW = 1000.0
EPOCH = 7


@attrs.define(eq=False)
class Carried:
    """An exchange that flows as a test says.  Attributes: stops, how often it was ended."""

    now: Flow = Flow()
    stops: int = 0

    def flow(self) -> Flow:
        """Return how it flows."""
        return self.now

    def stop(self) -> None:
        """Take note."""
        self.stops += 1


@attrs.define
class Kept:
    """Who keeps accounts."""

    open: dict[int, Account] = attrs.Factory(dict)


class BoardTestCase(SynchronousTestCase):
    """A case with a process of which a board is kept."""

    def setUp(self) -> None:
        """Begin."""
        self.now = NOW
        self.kept = Kept()
        self.board = Board(self.kept, lambda: self.now, EPOCH, Mask.of([b"the-secret"]))
        self.carried: dict[int, Carried] = {}

    def begin(self, number: int = 1, **facts: Any) -> Account:
        """Open an exchange of which the head is there."""
        carried = self.carried[number] = Carried()
        begun = {"responded": None, "connected": None, "ended": None, "status": 0, **facts}
        account = over(number=number, carrier=carried, **begun)
        self.kept.open[number] = account
        return account

    def end(self, number: int, **facts: Any) -> None:
        """Close its account."""
        account = self.kept.open.pop(number)
        account.ended = self.now
        for name, value in facts.items():
            setattr(account, name, value)
        self.board.ended(account)

    def look(self, seen: Document | None = None) -> Document:
        """Look, behind what was seen."""
        last = None if seen is None else (seen["epoch"], seen["version"])
        return self.board.look(last)

    def row(self, number: int = 1) -> Document:
        """Return the row of an exchange."""
        rows: list[Document] = self.look()["rows"]
        (row,) = [row for row in rows if row["number"] == number]
        return row


class RowTests(BoardTestCase):
    """The row of an exchange that is open."""

    def test_states(self) -> None:
        """The state says what is waited for, milestone by milestone."""
        account = self.begin()
        for name, state in (
            ("passed", "being prepared"),
            ("asked", "waiting for a connection"),
            ("connected", "waiting for the answer"),
            ("responded", "waiting for the content"),
        ):
            setattr(account, name, NOW)
            self.assertEqual(state, self.row()["state"])
        self.carried[1].now = Flow(sent=10)
        self.assertEqual(("streaming", ""), (self.row()["state"], self.row()["slow"]))
        account.websocket = True
        self.assertEqual("open", self.row()["state"])

    def test_slow_client(self) -> None:
        """A client is slow for whom octets have waited at every look for so long."""
        self.begin(passed=NOW, asked=NOW, connected=NOW, responded=NOW)
        flow = Flow(sent=10, to_client=5)
        self.carried[1].now = flow
        self.assertEqual("", self.row()["slow"])
        self.now += QUEUED
        self.assertEqual(
            ("client", "waiting for the client"), (self.row()["slow"], self.row()["state"])
        )
        self.carried[1].now = attrs.evolve(flow, to_client=0)
        self.row()
        self.carried[1].now = flow
        self.assertEqual("", self.row()["slow"])

    def test_slow_upstream(self) -> None:
        """An upstream is slow that says nothing for so long, or takes nothing."""
        self.begin(passed=NOW, asked=NOW, connected=NOW)
        self.assertEqual("", self.row()["slow"])
        self.now += PATIENCE
        self.assertEqual("upstream", self.row()["slow"])
        self.kept.open[1].responded = self.now
        self.carried[1].now = Flow(sent=1)
        self.assertEqual("", self.row()["slow"])
        self.now += PATIENCE
        self.assertEqual(
            ("upstream", "waiting for more"), (self.row()["slow"], self.row()["state"])
        )
        self.begin(2, passed=NOW, asked=NOW)
        self.carried[2].now = Flow(to_upstream=1)
        self.row(2)
        self.now += QUEUED
        self.assertEqual("waiting for the upstream to read", self.row(2)["state"])

    def test_silent_websocket(self) -> None:
        """A WebSocket in which nothing is said is nobody's fault."""
        self.begin(websocket=True, passed=NOW, asked=NOW, connected=NOW, responded=NOW)
        self.now += 10 * PATIENCE
        self.assertEqual("", self.row()["slow"])

    def test_figures(self) -> None:
        """Times count from the head; tokens are the usage's, or else the pieces so far."""
        account = self.begin(first=NOW + 0.25, output_events=3, events=5, model="m", peer="p")
        self.carried[1].now = Flow(1, 2, 3, 4)
        row = self.row()
        self.assertEqual((0.25, 3, 5, "m", "p"), tuple(row[n] for n in _FIGURES))
        flow = ("received", "sent", "to_client", "to_upstream")
        self.assertEqual((1, 2, 3, 4), tuple(row[name] for name in flow))
        account.usage, account.first_token = Usage(output_tokens=99), NOW + 0.5
        self.assertEqual((0.5, 99), (self.row()["first"], self.row()["tokens"]))

    def test_what_others_have_said(self) -> None:
        """Octets from outside are masked, cut and made text; all of it can be written as JSON."""
        self.begin(
            target=b"/a?key=sk-abcdefghijkl&x=" + b"y" * 5000,
            host=b"\xff<script>",
            model="the-secret " + "m" * 5000,
            client=b"",
        )
        row = self.row()
        self.assertNotIn("sk-abc", row["target"])
        self.assertNotIn("the-secret", row["model"])
        self.assertEqual((MOST_SHOWN, MOST_SHOWN), (len(row["target"]), len(row["model"])))
        self.assertEqual(("\ufffd<script>", "local"), (row["host"], row["client"]))
        json.dumps(row)


_FIGURES = ("first", "tokens", "events", "model", "peer")


class LookTests(BoardTestCase):
    """What somebody is told who looks again."""

    def test_changes(self) -> None:
        """Only what has changed is told."""
        self.begin(1)
        self.begin(2)
        seen = self.look()
        self.carried[2].now = Flow(sent=5)
        self.begin(3)
        news = self.look(seen)
        self.assertEqual(["2"], list(news["moved"]))
        self.assertEqual([3], [row["number"] for row in news["rows"]])
        self.end(1)
        news = self.look(news)
        self.assertEqual([1], news["gone"])
        self.assertEqual([1], [row["number"] for row in news["ended"]])
        self.assertIsNotNone(news["hour"])
        again = self.look(news)
        self.assertIsNone(again["hour"])
        self.assertFalse(again["rows"] or again["moved"] or again["gone"] or again["ended"])

    def test_another_life(self) -> None:
        """What was seen in another life of the process is void."""
        self.begin()
        seen = self.look()
        self.assertTrue(self.board.look((EPOCH + 1, seen["version"]))["reset"])

    def test_bounds(self) -> None:
        """So many rows; what is open beyond is counted, and has one when there is room."""
        for number in range(MOST_ROWS + 5):
            self.begin(number)
        seen = self.look()
        self.assertEqual(MOST_ROWS, len(seen["rows"]))
        self.assertEqual(
            {"open": MOST_ROWS + 5, "hidden": 5, "routes": {"/": MOST_ROWS + 5}}, seen["counts"]
        )
        self.end(0)
        self.assertEqual([MOST_ROWS], [row["number"] for row in self.look(seen)["rows"]])

    def test_ended_meanwhile(self) -> None:
        """What ends while nobody looks is kept in bounds, and counted all the same."""
        for number in range(3 * MOST_ENDED):
            self.begin(number)
            self.end(number)
        news = self.look()
        self.assertEqual(MOST_ENDED, len(news["ended"]))
        self.assertEqual(3 * MOST_ENDED, sum(news["hour"]["duration"]))

    def test_how_it_ended(self) -> None:
        """It is said how each one ended, and whether that was well."""
        for facts, good, how in (
            ({}, True, "ended"),
            ({"outcome": "ended"}, True, "ended"),
            ({"outcome": "truncated"}, False, "truncated"),
            ({"status": 503}, False, "answered 503"),
            ({"status": 404}, True, "ended"),
            ({"closed_by": "client"}, False, "the client left"),
            ({"closed_by": "proxy", "error": "http_response_timeout"}, False, _TIMEOUT),
            ({"closed_by": "operator", "error": "http_request_denied"}, False, "stopped here"),
        ):
            with self.subTest(facts=facts):
                self.begin(status=200)
                self.end(1, **facts)
                row = self.look()["ended"][-1]
                self.assertEqual((good, how), (row["good"], row["how"]))


_TIMEOUT = "proxy: http_response_timeout"


class StopTests(BoardTestCase):
    """The operator ends what is open."""

    def test_one(self) -> None:
        """One exchange is ended, and its account says by whom."""
        account = self.begin(4)
        self.assertEqual(1, self.board.stop(EPOCH, 4))
        self.assertEqual((1, "operator"), (self.carried[4].stops, account.closed_by))

    def test_gone(self) -> None:
        """What is not open, or was in another life, is not ended."""
        self.begin(4)
        self.assertEqual((0, 0), (self.board.stop(EPOCH, 5), self.board.stop(EPOCH + 1, 4)))
        self.assertEqual(0, self.carried[4].stops)

    def test_route(self) -> None:
        """All of a route are ended, and no other."""
        for number, route in ((1, "/a"), (2, "/b"), (3, "/a")):
            self.begin(number, route=route)
        self.assertEqual(2, self.board.stop_all("/a"))
        self.assertEqual([1, 0, 1], [one.stops for one in self.carried.values()])


class TableTests(BoardTestCase):
    """The rows of all processes."""

    def setUp(self) -> None:
        """Begin, with nothing known."""
        super().setUp()
        self.table = Table()

    def gather(self, *processes: int, silent: tuple[int, ...] = ()) -> None:
        """Ask processes, all of which are the same."""
        seen = self.table.seen
        answers = {number: self.board.look(seen.get(number)) for number in processes}
        self.table.take(json.loads(json.dumps(answers), object_hook=_numbered), silent)

    def names(self) -> set[str]:
        """Return the rows that are shown."""
        return {row["id"] for row in self.table.news(None)["rows"]}

    def test_names(self) -> None:
        """A row is named by its process and its number there, and led back to them."""
        self.begin(4)
        self.gather(1)
        self.assertEqual({"1-4"}, self.names())
        self.assertEqual((1, EPOCH, 4), self.table.place("1-4"))
        for name in ("1-5", "2-4", "x", ""):
            self.assertIsNone(self.table.place(name))

    def test_news(self) -> None:
        """What has changed in a process has changed here, and nothing else has."""
        self.begin(4)
        self.gather(1)
        seen = self.table.news(None)
        self.carried[4].now = Flow(sent=9)
        self.gather(1)
        news = self.table.news(seen["version"])
        self.assertEqual((["1-4"], [], False), (list(news["moved"]), news["rows"], news["reset"]))
        self.end(4)
        self.gather(1)
        news = self.table.news(news["version"])
        self.assertEqual((["1-4"], ["1-4"]), (news["gone"], [row["id"] for row in news["ended"]]))
        self.assertEqual(1, sum(news["hour"]["duration"]))

    def test_silent(self) -> None:
        """A process that does not answer keeps its rows; one that is no more loses them."""
        self.begin(4)
        self.gather(1)
        self.gather(silent=(1,))
        news = self.table.news(None)
        self.assertEqual(({"1-4"}, [1]), (self.names(), news["counts"]["silent"]))
        self.gather()
        self.assertEqual(set(), self.names())
        self.assertEqual(0, self.table.news(None)["counts"]["open"])

    def test_another_life(self) -> None:
        """Of a process that was started anew nothing stays."""
        self.begin(4)
        self.gather(1)
        self.kept = Kept()
        self.board = Board(self.kept, lambda: self.now, EPOCH + 1)
        self.begin(5)
        self.gather(1)
        self.assertEqual({"1-5"}, self.names())
        self.assertEqual((1, EPOCH + 1, 5), self.table.place("1-5"))


def _numbered(found: dict[str, Any]) -> dict[Any, Any]:
    """Return what was JSON as a parent has it: processes by number."""
    if found and all(name.isdigit() and isinstance(one, dict) for name, one in found.items()):
        return {int(name): one for name, one in found.items()}
    return found
