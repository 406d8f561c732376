"""Two clients with credentials of their own never see what was made for the other one."""

from __future__ import annotations

import re
from typing import cast

import attrs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pyproxy.policy.cache_policy import CachePolicy
from tests.cache.kit import CacheTestCase, Told, answer, read, unchunked
from tests.memory import MemoryTransport, request, response

EXAMPLES = 300
STEPS = 30

PUBLIC = (b"public", b"s-maxage", b"must-revalidate")
"""Directives with which an answer to Authorization may be shared.  Spec: RFC 9111 3.5."""

CONTROLS = (
    b"",
    b"max-age=60",
    b"max-age=0",
    b"no-cache",
    b"no-store",
    b"private",
    b"private, max-age=60",
    b"public, max-age=60",
    b"s-maxage=60",
    b"max-age=60, must-revalidate",
    b"max-age=5, stale-while-revalidate=60",
    b"max-age=5, stale-if-error=60",
    b"public, max-age=5, stale-while-revalidate=60, stale-if-error=60",
    b'max-age=60, no-cache="set-cookie"',
    b"max-age=60, no-transform",
)

WISHES = (
    b"no-cache",
    b"no-store",
    b"max-age=0",
    b"max-stale",
    b"only-if-cached",
    b"min-fresh=30",
    b"stale-if-error=600",
)

SPECIAL = (b"Range: bytes=0-9", b'If-None-Match: "e1"', b'If-Match: "e1"')

VARIES = (b"Authorization", b"Cookie", b"Accept-Language", b"Cookie, Accept-Language", b"*")

_made_for = re.compile(rb"made for (\w*)/(\w*)/(\w*);").match


@attrs.frozen
class Asked:
    """A request that waits for its answer."""

    client: int
    connection: MemoryTransport
    authorization: bytes
    cookie: bytes
    language: bytes
    whole: bool


@attrs.frozen
class Made:
    """What the upstream has answered.

    Attributes:
        varies: by which of the request's fields, in lower case.
    """

    shared: bool
    varies: frozenset[bytes]


def whole(told: Told) -> bytes | None:
    """Return the content of a response, None when it is not whole."""
    if told.status == 304:
        return b""
    if told.fields.get(b"transfer-encoding") == b"chunked":
        content, rest = unchunked(told.content)
        return None if rest is None else content
    length = int(told.fields.get(b"content-length", 0))
    return told.content if len(told.content) == length else None


def gone(connection: MemoryTransport) -> bool:
    """Tell whether the proxy has closed a client's connection."""
    return connection.lost is not None or connection.disconnecting or connection.half_closed


class Case(CacheTestCase):
    """The stage of one run."""

    __test__ = False

    def runTest(self) -> None:
        """Nothing: the machine plays."""


class TwoClients(RuleBasedStateMachine):
    """Two clients ask in any order; the upstream marks each content with whom it was made for."""

    def __init__(self) -> None:
        super().__init__()
        self.case = Case()
        self.case.start(cache=CachePolicy(heuristic=False))
        self.waiting: list[Asked] = []
        self.made: dict[bytes, Made] = {}
        self.number = 0
        self.logged = EventLoggingObserver.createWithCleanup(
            cast(TestCase, self.case), globalLogPublisher
        )

    # the clients

    @rule(
        client=st.sampled_from((0, 1)),
        authorized=st.booleans(),
        cookie=st.booleans(),
        language=st.booleans(),
        wish=st.sampled_from((b"",) * 12 + WISHES),
        special=st.sampled_from((b"",) * 12 + SPECIAL),
        method=st.sampled_from((b"GET",) * 10 + (b"HEAD", b"POST")),
        path=st.sampled_from((b"/a", b"/a", b"/a", b"/b")),
    )
    def ask(
        self,
        client: int,
        authorized: bool,
        cookie: bool,
        language: bool,
        wish: bytes,
        special: bytes,
        method: bytes,
        path: bytes,
    ) -> None:
        """Ask as one of them."""
        who = b"one" if client == 0 else b"two"
        fields = []
        if authorized:
            fields.append(b"Authorization: Bearer " + who)
        if cookie:
            fields.append(b"Cookie: id=" + who)
        if language:
            fields.append(b"Accept-Language: " + who)
        if wish:
            fields.append(b"Cache-Control: " + wish)
        if special:
            fields.append(special)
        octets = request(b"%b %b HTTP/1.1" % (method, path), *fields)
        connection = self.case.client(octets)
        asked = Asked(
            client,
            connection,
            who if authorized else b"",
            who if cookie else b"",
            who if language else b"",
            method == b"GET",
        )
        self.waiting.append(asked)
        self.look()

    @precondition(lambda self: self.waiting)
    @rule(place=st.integers(0, 20))
    def leave(self, place: int) -> None:
        """Let one leave."""
        asked = self.waiting.pop(place % len(self.waiting))
        self.case.leave(asked.connection)
        self.look()

    # the upstream

    def question(self, place: int) -> tuple[MemoryTransport, bytes]:
        """Take one of the requests that have come."""
        questions = self.case.questions
        upstream = questions[place % len(questions)]
        return upstream, upstream.take()

    def field(self, question: bytes, name: bytes) -> bytes:
        """Return the last word of a field's value."""
        found = re.search(rb"\r\n%b: (?:Bearer |id=)?(\w+)\r\n" % name, question)
        return found[1] if found else b""

    @precondition(lambda self: self.case.questions)
    @rule(
        place=st.integers(0, 20),
        control=st.sampled_from((b"max-age=60", b"public, max-age=60") * 4 + CONTROLS),
        breaks=st.sampled_from((False, False, False, True)),
        etag=st.sampled_from((b"", b'"e1"', b'"e2"')),
        vary=st.sampled_from((b"",) * 3 + VARIES),
        sets_cookie=st.booleans(),
        status=st.sampled_from((b"200 OK",) * 4 + (b"404 Not Found", b"503 Away")),
        chunked=st.booleans(),
        part=st.sampled_from((0, 0, 1, 5)),
    )
    def respond(
        self,
        place: int,
        control: bytes,
        breaks: bool,
        etag: bytes,
        vary: bytes,
        sets_cookie: bool,
        status: bytes,
        chunked: bool,
        part: int,
    ) -> None:
        """Answer one of the requests, marked with the credentials that it came with."""
        upstream, question = self.question(place)
        if b"If-None-Match" in question and etag and etag in question and not breaks:
            self.unchanged(upstream, control, etag)
            return
        self.number += 1
        names = (b"Authorization", b"Cookie", b"Accept-Language")
        whom = b"/".join(self.field(question, name) for name in names)
        content = b"made for %b; number %d." % (whom, self.number)
        fields = [b"X-Number: %d" % self.number]
        if control:
            fields.append(b"Cache-Control: " + control)
        if etag:
            fields.append(b"ETag: " + etag)
        if vary:
            fields.append(b"Vary: " + vary)
        if sets_cookie:
            fields.append(b"Set-Cookie: for=" + whom.replace(b"/", b"-"))
        shared = any(word in control for word in PUBLIC)
        varies = frozenset(vary.lower().split(b", ")) if vary else frozenset()
        self.made[b"%d" % self.number] = Made(shared, varies)
        if question.startswith(b"HEAD"):
            octets = answer(*fields, status=status)[:-5]
        elif chunked:
            head = response(
                *fields, b"Transfer-Encoding: chunked", status_line=b"HTTP/1.1 " + status
            )
            octets = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
        else:
            octets = answer(*fields, content=content, status=status)
        self.case.deliver(upstream, octets[: len(octets) - part])
        if part and breaks:
            self.case.leave(upstream)
        elif part:
            self.look()
            self.case.deliver(upstream, octets[len(octets) - part :])
        self.look()

    def unchanged(self, upstream: MemoryTransport, control: bytes, etag: bytes) -> None:
        """Answer that nothing has changed, perhaps with other directives."""
        fields = [b"ETag: " + etag]
        if control and not any(word in control for word in PUBLIC):
            # Whether it may be shared is what the first response said, or less.
            fields.append(b"Cache-Control: " + control)
        line = b"HTTP/1.1 304 Not Modified"
        self.case.deliver(upstream, response(*fields, status_line=line))
        self.look()

    @precondition(lambda self: self.case.questions)
    @rule(place=st.integers(0, 20))
    def fail(self, place: int) -> None:
        """Close the connection instead of an answer."""
        upstream, _ = self.question(place)
        self.case.leave(upstream)
        self.look()

    @rule(seconds=st.sampled_from((1.0, 10.0, 61.0)))
    def wait(self, seconds: float) -> None:
        """Let time go by."""
        self.case.network.advance(seconds)
        self.case.network.settle()
        self.look()

    # what holds

    def look(self) -> None:
        """Look at what the clients were answered."""
        waiting, self.waiting = self.waiting, []
        for asked in waiting:
            octets = asked.connection.value()
            if not octets:
                self.waiting.append(asked)
                continue
            told = read(octets)
            content = whole(told) if asked.whole else told.content
            if content is not None:
                self.check(asked, attrs.evolve(told, content=content))
            elif not gone(asked.connection):
                self.waiting.append(asked)
                continue
            asked.connection.lose()
        self.case.network.settle()

    def check(self, asked: Asked, told: Told) -> None:
        """Check that an answer is none that was made for the other client only."""
        self.case.assertIn(told.status, (200, 206, 304, 404, 416, 500, 502, 503, 504))
        self.case.assertNotEqual(500, told.status)
        self.case.assertIn(b"cache-status", told.fields)
        mark = _made_for(told.content)
        if mark is None:
            return
        authorization, cookie, language = mark.groups()
        made = self.made[told.fields[b"x-number"]]
        if authorization and authorization != asked.authorization:
            self.case.assertTrue(made.shared, told)
        for name, theirs, own in (
            (b"authorization", authorization, asked.authorization),
            (b"cookie", cookie, asked.cookie),
            (b"accept-language", language, asked.language),
        ):
            if name in made.varies:
                self.case.assertEqual(theirs, own, (name, told))
        if b"*" in made.varies:
            own = b"/".join((asked.authorization, asked.cookie, asked.language))
            self.case.assertEqual(b"/".join(mark.groups()), own)

    @invariant()
    def asked_about(self) -> None:
        """Nobody waits while no request is with the upstream."""
        if self.waiting:
            self.case.assertTrue(self.case.questions or self.case.fetches, self.waiting)

    def teardown(self) -> None:
        """Answer what is left: no request remains without an answer, and nothing leaks."""
        for _ in range(100):
            if not self.case.questions:
                break
            upstream, question = self.question(0)
            octets = answer(b"Cache-Control: no-store", b"X-Number: 0", content=b"end")
            self.case.deliver(upstream, octets[:-3] if question.startswith(b"HEAD") else octets)
            self.look()
        self.case.assertEqual([], self.waiting)
        self.case.assertEqual([], self.case.fetches)
        self.case.doCleanups()
        self.case.assertEqual([], [event for event in self.logged if "log_failure" in event])


class TwoClientsTests(SynchronousTestCase):
    """The machine runs."""

    def test_machine(self) -> None:
        """Whatever the clients ask and the upstream answers."""
        run_state_machine_as_test(
            TwoClients,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
