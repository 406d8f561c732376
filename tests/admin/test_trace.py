"""An exchange followed at the admin site: what is asked, who may, and what is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed

from pyproxy.account import Account
from pyproxy.admin.site import AdminSite
from pyproxy.admin.trace import INTERVAL, MOST_READERS, SILENCE, wanted_of
from pyproxy.life.board import BoardAsked, TraceLeave, TraceLook
from pyproxy.life.desk import Document, NobodyAnswers
from pyproxy.observe.masking import Mask
from pyproxy.observe.tracing import KEPT, Tracers, Wanted
from tests.admin.kit import AdminTestCase, Connection, Served
from tests.admin.test_board import Desk
from tests.observe.ended import over

ELSEWHERE = IPv4Address("TCP", "192.0.2.1", 9000)
NOTHING: Document = {"epoch": 7, "lost": False, "began": None, "steps": [], "over": False}


@attrs.define
class Source:
    """Who keeps accounts."""

    on_begin: Any = None

    def begin(self, **facts: Any) -> Account:
        """Begin one."""
        account = over(ended=None, connected=None, responded=None, **facts)
        if self.on_begin is not None:
            self.on_begin(account, _Head())
        return account


@attrs.define
class _Head:
    fields: list[tuple[bytes, bytes]] = attrs.Factory(list)


def follow(connection: Connection, query: str = "") -> Connection:
    """Ask to follow."""
    connection.send(f"GET /api/trace{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def told(connection: Connection) -> list[tuple[str, Any]]:
    """Return the events that were told; they are forgotten with that."""
    octets = connection.transport.value()
    connection.transport.clear()
    text = octets.decode()
    found = []
    for block in text.split("event: ")[1:]:
        name, data = block.split("\n")[:2]
        found.append((name, json.loads(data.removeprefix("data: "))))
    return found


class TraceTestCase(AdminTestCase):
    """A case with one process of which exchanges can be followed."""

    def setUp(self) -> None:
        """Keep accounts."""
        super().setUp()
        self.clock.advance(1000)
        self.source = Source()
        desk = self.served.board = Desk()
        desk.tracers = Tracers(self.source, self.clock.seconds, 7, Mask)

    def again(self) -> None:
        """Let all processes be asked once more."""
        self.clock.advance(INTERVAL)


class PageTests(TraceTestCase):
    """What is asked."""

    def test_query(self) -> None:
        """A query names each thing once at most."""
        self.assertEqual(Wanted(), wanted_of(b""))
        self.assertEqual(
            Wanted(b"POST", b"/a b", b"h", "r"),
            wanted_of(b"method=post&path=/a%20b&host=h&route=r"),
        )
        for query in (b"path=a&path=b", b"other=1", b"path", b"a=b&" * 20, b"\xff=1"):
            self.assertIsNone(wanted_of(query), query)
        self.assertEqual(400, self.ask("GET", "/api/trace?x=y").status)

    def test_method(self) -> None:
        """It is read."""
        self.assertEqual(405, self.ask("POST", "/api/trace").status)

    def test_elsewhere(self) -> None:
        """Beyond this machine it needs a token, and no page of another site reads it."""
        answer = self.connect(ELSEWHERE).ask("GET", "/api/trace")
        self.assertEqual(403, answer.status)
        answer = self.ask("GET", "/api/trace", "Origin: http://other.example")
        self.assertEqual(403, answer.status)

    def test_full(self) -> None:
        """There is a bound of readers; one who leaves makes room."""
        readers = [follow(self.connect()) for _ in range(MOST_READERS)]
        self.assertEqual(503, self.ask("GET", "/api/trace").status)
        readers[0].leave()
        last = follow(self.connect())
        self.assertEqual([("waiting", {})], told(last))


class StreamTests(TraceTestCase):
    """What is told."""

    def test_steps(self) -> None:
        """Steps as they come; the stream ends with the exchange, and the connection goes on."""
        reader = follow(self.connect(), "?path=/a")
        self.assertEqual([("waiting", {})], told(reader))
        self.source.begin(target=b"/b")
        account = self.source.begin(target=b"/a")
        self.again()
        ((name, step),) = told(reader)
        self.assertEqual(("step", "began", 1), (name, step["milestone"], step["process"]))
        account.responded = 1000.5
        self.again()
        self.assertEqual(["responded"], [step["milestone"] for _, step in told(reader)])
        account.ended = 1001.0
        self.again()
        self.assertEqual(["step", "over"], [name for name, _ in told(reader)])
        self.assertEqual(200, reader.ask("GET", "/healthz").status)
        self.assertEqual([], self.clock.getDelayedCalls()[1:])

    def test_silence(self) -> None:
        """While nothing comes something is said now and then, and the processes do not forget."""
        reader = follow(self.connect())
        told(reader)
        for _ in range(int(2 * (SILENCE + KEPT) / INTERVAL)):
            self.again()
        octets = reader.transport.value()
        self.assertIn(b": waiting\n\n", octets)
        self.assertNotIn(b"event:", octets)
        self.source.begin()
        self.again()
        self.assertEqual("step", told(reader)[0][0])

    def test_leaves(self) -> None:
        """Behind a reader who has left nobody is asked any more."""
        reader = follow(self.connect())
        self.assertIsNotNone(self.source.on_begin)
        reader.leave()
        self.assertIsNone(self.source.on_begin)

    def test_no_board(self) -> None:
        """Where nobody keeps accounts that is said."""
        self.served.board = None
        self.assertEqual("lost", told(follow(self.connect()))[0][0])

    def test_site_ends(self) -> None:
        """When the site ends that is said."""
        reader = follow(self.connect())
        told(reader)
        self.site.stopFactory()
        self.assertEqual([("lost", {"why": "The proxy ends."})], told(reader))


@attrs.define
class Several(Served):
    """A service that answers for its boards as a test says."""

    answer: Callable[[BoardAsked], Deferred[Document | None]] = attrs.field(kw_only=True)

    def ask_board(self, asked: BoardAsked) -> Deferred[Document | None]:
        """Answer."""
        return self.answer(asked)


class WorkersTests(AdminTestCase):
    """Several processes, as they answer."""

    def setUp(self) -> None:
        """Have two that know nothing."""
        super().setUp()
        self.asked: list[BoardAsked] = []
        self.answers: dict[int, Document] = {1: NOTHING, 2: NOTHING}
        self.silent: list[int] = []
        self.trouble: Exception | None = None
        self.site = AdminSite(self.condition, Several(answer=self.answer), self.clock)

    def answer(self, asked: BoardAsked) -> Deferred[Document | None]:
        """Answer as the test says."""
        self.asked.append(asked)
        if self.trouble is not None:
            return fail(self.trouble)
        return succeed({"processes": self.answers, "silent": self.silent})

    def follow(self) -> Connection:
        """Follow, and begin to wait."""
        reader = follow(self.connect())
        self.assertEqual([("waiting", {})], told(reader))
        return reader

    def found(self, began: float, *steps: str, **more: Any) -> Document:
        """Return what a process answers that has one."""
        return {**NOTHING, "began": began, "steps": [{"step": one} for one in steps], **more}

    def again(self) -> None:
        """Ask once more."""
        self.clock.advance(INTERVAL)

    def test_first(self) -> None:
        """Of two exchanges the one that began first is followed, and the other process told."""
        reader = self.follow()
        self.answers = {1: self.found(2.0, "late"), 2: self.found(1.0, "early")}
        self.again()
        self.assertEqual([("step", {"step": "early", "process": 2})], told(reader))
        self.answers = {1: {}, 2: self.found(1.0)}
        self.again()
        look = self.asked[-1]
        assert isinstance(look, TraceLook)
        self.assertEqual((1, (2, 7)), (look.told, look.chosen))

    def test_silent(self) -> None:
        """A process that is silent may answer the next time; one that has gone does not."""
        reader = self.follow()
        self.answers = {2: self.found(1.0, "one")}
        self.again()
        told(reader)
        self.answers, self.silent = {1: {}}, [2]
        self.again()
        self.trouble = NobodyAnswers("none")
        self.again()
        self.assertEqual([], told(reader))
        self.trouble, self.silent = None, []
        self.again()
        self.assertEqual(["lost"], [name for name, _ in told(reader)])
        self.assertIsInstance(self.asked[-1], TraceLeave)

    def test_lost(self) -> None:
        """A process that was started again has it no more."""
        reader = self.follow()
        self.answers = {2: self.found(1.0, "one")}
        self.again()
        self.answers = {2: {**NOTHING, "lost": True}}
        self.again()
        self.assertEqual(["step", "lost"], [name for name, _ in told(reader)])
        count = len(self.asked)
        self.again()
        self.assertEqual(count, len(self.asked))

    def test_broken(self) -> None:
        """What nobody has thought of is logged, and ends the stream."""
        reader = self.follow()
        self.trouble = ZeroDivisionError()
        self.again()
        self.assertEqual(["lost"], [name for name, _ in told(reader)])
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
