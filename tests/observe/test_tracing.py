"""Exchanges that somebody follows, of one process, with accounts as they are kept."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.account import Account
from pyproxy.errors import ConnectFailed
from pyproxy.observe.accounts import Accounts
from pyproxy.observe.book import Document
from pyproxy.observe.masking import Mask
from pyproxy.observe.steps import MOST_FIELDS, value_of
from pyproxy.observe.tracing import (
    KEPT,
    MOST_CANDIDATES,
    MOST_TRACERS,
    Tracers,
    Wanted,
    path_of,
)
from pyproxy.semantics.forwarding import Hop
from pyproxy.semantics.messages import RequestHead

EPOCH = 7
ANY = Wanted()


@attrs.define
class Begun:
    """A request of which the head is there."""

    head: RequestHead
    asked_host: bytes = b"h:80"
    hop: Hop = Hop(b"192.0.2.1", b"http", b"h", False, b"192.0.2.2")
    began_at: float = 0.0
    request_id: str = "r-1"


class TracingTestCase(SynchronousTestCase):
    """A case with a process that keeps accounts."""

    def setUp(self) -> None:
        """Follow nothing."""
        self.clock = Clock()
        self.accounts = Accounts(self.clock)
        self.tracers = Tracers(
            self.accounts, self.clock.seconds, EPOCH, lambda: Mask.of([b"the-secret"])
        )

    def begin(self, target: bytes = b"/a", method: bytes = b"GET", **more: Any) -> Account:
        """Open an exchange."""
        fields = more.pop("fields", [(b"Host", b"h")])
        head = RequestHead(method, target, 1, fields)
        return self.accounts.begin(Begun(head, began_at=self.clock.seconds(), **more))

    def look(self, name: str = "me", wanted: Wanted = ANY, told: int = 0, **more: Any) -> Document:
        """Follow."""
        return self.tracers.look(name, wanted, told, more.get("epoch"))

    def names(self, *arguments: Any, **more: Any) -> list[str]:
        """Follow; return the milestones of the steps."""
        return [step["milestone"] for step in self.look(*arguments, **more)["steps"]]


class WantedTests(TracingTestCase):
    """Which exchange is followed."""

    def test_nobody(self) -> None:
        """While nobody waits nothing is looked at, and no fields are kept."""
        self.assertIsNone(self.begin().noted)
        self.assertIsNone(self.accounts.on_begin)
        self.look()
        self.assertIsNotNone(self.accounts.on_begin)
        self.assertIsNotNone(self.begin().noted)
        self.assertIsNone(self.accounts.on_begin)
        self.assertIsNone(self.begin().noted)

    def test_next(self) -> None:
        """What had begun before is not the next one; the first one behind it is."""
        self.begin(b"/before")
        self.assertIsNone(self.look()["began"])
        self.clock.advance(1)
        self.begin(b"/first")
        self.begin(b"/second")
        found = self.look()
        self.assertEqual(1.0, found["began"])
        self.assertEqual("/first", found["steps"][0]["facts"]["target"])

    def test_matches(self) -> None:
        """Method, path and host have to be as wanted, as far as they are."""
        for wanted, good in (
            (ANY, True),
            (Wanted(method=b"GET"), True),
            (Wanted(method=b"POST"), False),
            (Wanted(path=b"/a"), True),
            (Wanted(path=b"/b"), False),
            (Wanted(host=b"H"), True),
            (Wanted(host=b"h:80"), True),
            (Wanted(host=b"other"), False),
            (Wanted(method=b"GET", path=b"/a", host=b"h"), True),
        ):
            self.tracers.leave("me")
            self.look(wanted=wanted)
            self.begin()
            self.assertEqual(good, self.look(wanted=wanted)["began"] is not None, wanted)

    def test_route(self) -> None:
        """A route is known later: the first exchange that has it is the one."""
        wanted = Wanted(route="/b")
        self.look(wanted=wanted)
        unknown, other, mine = self.begin(), self.begin(), self.begin(b"/mine")
        other.route, mine.route = "/a", "/b"
        self.assertIsNone(self.look(wanted=wanted)["began"])
        unknown.end(404, 0, None, left=False)
        found = self.look(wanted=wanted)
        self.assertEqual("/mine", found["steps"][0]["facts"]["target"])

    def test_candidates(self) -> None:
        """No more exchanges are kept than there is room for."""
        wanted = Wanted(route="/b")
        self.look(wanted=wanted)
        begun = [self.begin() for _ in range(MOST_CANDIDATES + 3)]
        self.assertEqual(MOST_CANDIDATES, sum(one.noted is not None for one in begun))
        self.assertIsNone(self.accounts.on_begin)
        for one in begun:
            one.route = "/a"
        self.look(wanted=wanted)
        self.assertIsNotNone(self.accounts.on_begin)

    def test_path(self) -> None:
        """A target may be of any form."""
        for target, path in (
            (b"/a?b", b"/a?b"),
            (b"http://h/a", b"/a"),
            (b"http://h", b"/"),
            (b"*", b"*"),
            (b"/a?u=http://x/b", b"/a?u=http://x/b"),
            (b"", b""),
        ):
            self.assertEqual(path, path_of(target))


class FollowingTests(TracingTestCase):
    """How it goes on."""

    def test_steps(self) -> None:
        """Each step is told once, in its order, with what is known by then."""
        self.look()
        account = self.begin()
        self.assertEqual(["began"], self.names())
        self.clock.advance(0.25)
        account.passed = account.asked = self.clock.seconds()
        account.route, account.peer = "/a", "http://p"
        self.assertEqual(["passed", "asked"], self.names(told=1))
        account.connected, account.last, account.status = 0.5, 0.75, 200
        account.first = account.first_token = account.last_token = account.responded = 0.5
        told = self.names(told=3)
        self.assertEqual(["connected", "responded", "first", "first_token"], told)
        account.end(200, 5, None, left=False)
        found = self.look(told=7, epoch=EPOCH)
        self.assertTrue(found["over"])
        last = [step["milestone"] for step in found["steps"]]
        self.assertEqual(["last_token", "last", "ended"], last)
        self.assertEqual(0.25, self.look()["steps"][1]["since"])
        self.assertEqual("ended", found["steps"][-1]["facts"]["how"])

    def test_again(self) -> None:
        """What is written to another connection is told again."""
        self.look()
        account = self.begin()
        account.connected = 1.0
        self.look()
        account.connected, account.attempts, account.reused = 2.0, 2, False
        self.assertEqual(["connected"], self.names(told=2))
        self.assertEqual(2, self.look()["steps"][-1]["facts"]["attempts"])

    def test_error(self) -> None:
        """An end that is no good one says why, without a credential."""
        self.look()
        account = self.begin()
        account.end(502, 0, ConnectFailed("no the-secret"), left=False)
        facts = self.look()["steps"][-1]["facts"]
        self.assertEqual("upstream", facts["closed_by"])
        self.assertIn("upstream: ", facts["how"])
        self.assertNotIn("the-secret", str(facts))

    def test_fields(self) -> None:
        """Fields are masked by their names, and by what they hold; there is a bound of them."""
        self.look()
        fields = [(b"X-Api-Key", b"1"), (b"X-A", b"has the-secret"), (b"X-B", b"b")]
        account = self.begin(fields=fields + [(b"X", b"")] * MOST_FIELDS)
        shown = self.look()["steps"][0]["fields"]["from the client"]
        self.assertEqual([["X-Api-Key", "***"], ["X-A", "has ***"], ["X-B", "b"]], shown[:3])
        self.assertEqual(MOST_FIELDS, len(shown))
        assert account.noted is not None
        account.noted.responded, account.responded = ((b"Set-Cookie", b"a=b"),), 1.0
        fields_of = self.look(told=1)["steps"][0]["fields"]
        self.assertEqual({"from the upstream": [["Set-Cookie", "***"]]}, fields_of)

    def test_credentials(self) -> None:
        """Names of fields that carry credentials are known by a part of them."""
        for name in (b"Authorization", b"Cookie", b"X-Goog-Api-Key", b"x-session-id"):
            self.assertEqual("***", value_of(name, b"v", Mask()))
        self.assertEqual("v", value_of(b"Accept", b"v", Mask()))

    def test_several(self) -> None:
        """Several follow at one time, also the same one."""
        self.look("one")
        self.look("two", Wanted(path=b"/b"))
        self.look("three")
        self.begin()
        self.assertIsNone(self.look("two", Wanted(path=b"/b"))["began"])
        self.assertEqual(["began"], self.names("one"))
        self.assertEqual(["began"], self.names("three"))


class LeavingTests(TracingTestCase):
    """Who follows no more."""

    def test_leave(self) -> None:
        """Who leaves waits for nothing any more; twice is no harm."""
        self.look()
        for _ in range(2):
            self.tracers.leave("me")
            self.assertIsNone(self.accounts.on_begin)

    def test_forgotten(self) -> None:
        """Who does not ask for a while is forgotten, by the next request at the latest."""
        self.look()
        self.clock.advance(KEPT + 1)
        self.assertIsNone(self.begin().noted)
        self.assertIsNone(self.accounts.on_begin)

    def test_lost(self) -> None:
        """Whose exchange is not here any more is told so."""
        self.assertTrue(self.look(epoch=EPOCH)["lost"])
        self.look()
        self.begin()
        self.assertTrue(self.look(epoch=EPOCH + 1)["lost"])
        self.assertFalse(self.look(epoch=EPOCH)["lost"])

    def test_bound(self) -> None:
        """One too many takes the place of the oldest."""
        for number in range(MOST_TRACERS + 1):
            self.look(str(number))
        self.assertTrue(self.look("0", epoch=EPOCH)["lost"])
        self.assertFalse(self.look("1", epoch=EPOCH)["lost"])
