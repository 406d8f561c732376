"""A question to the upstream for everybody who asks the same, and what its answer is for whom."""

from __future__ import annotations

from typing import Any

from twisted.internet import error

from pyproxy.policy.routing import Limits
from pyproxy.semantics.stored import StoredResponse
from tests.cache.kit import (
    FRESH,
    CacheTestCase,
    answer,
    asked,
    bounded,
    caching,
    read,
)
from tests.memory import UPSTREAM_PORT, MemoryTransport, response

NOT_MODIFIED = b"304 Not Modified"
TAGGED = (FRESH, b'ETag: "1"')
AUTHORIZED = b"Authorization: Bearer one"


def unchanged(*fields: bytes) -> bytes:
    """Return the octets of a 304."""
    return response(*fields, status_line=b"HTTP/1.1 304 Not Modified")


class OneForManyTests(CacheTestCase):
    """Who asks the same at the same time is answered by one fetch."""

    def test_all_wait(self) -> None:
        """All get all of the one response, also who comes in mid-content."""
        self.start()
        clients = [self.client(asked()) for _ in range(5)]
        upstream, _ = self.question()
        whole = answer(FRESH, content=b"0123456789")
        self.deliver(upstream, whole[:-5])
        clients += [self.client(asked()) for _ in range(5)]
        self.assert_asked(0)
        self.deliver(upstream, whole[-5:])
        for number, client in enumerate(clients):
            told = read(client.take())
            self.assertEqual((200, b"0123456789"), (told.status, told.content))
            said = b"fwd=uri-miss; fwd-status=200; " + (b"collapsed" if number else b"stored")
            self.assertEqual(said, told.cache)
        (route,) = self.routes()
        counts = route.counts
        self.assertEqual(
            (1, 9, 0, 1), (counts.misses, counts.collapsed, counts.hits, counts.stored)
        )

    def test_head_decides(self) -> None:
        """What may not be kept goes to who asked first; the others are sent on at once."""
        for reason, fields in (
            ("no-store", [b"Cache-Control: no-store"]),
            ("private", [b"Cache-Control: private, max-age=60"]),
            ("set-cookie", [b"Set-Cookie: a=1"]),
            ("no-lifetime", [b"X: 1"]),
            ("vary", [FRESH, b"Vary: *"]),
        ):
            with self.subTest(reason):
                self.start()
                clients = [self.client(asked()) for _ in range(3)]
                upstream, _ = self.question()
                whole = answer(*fields)
                self.deliver(upstream, whole[:-5])
                # The head is there, the content is not.
                self.assert_asked(2)
                told = read(clients[0].take())
                self.assertIn(b"detail=" + reason.encode(), told.cache)
                self.assertEqual([b"", b""], [client.take() for client in clients[1:]])
                later = self.client(asked())
                self.assert_asked(3)
                for other in self.questions:
                    other.take()
                    self.deliver(other, answer(*fields, content=b"other"))
                for client in [*clients[1:], later]:
                    self.assertEqual(b"other", read(client.take()).content)
                self.deliver(upstream, whole[-5:])
                self.assertEqual(b"hello", clients[0].take())
                self.assertEqual((0, []), (self.entries, self.fetches))

    def test_not_for_good(self) -> None:
        """A key whose answer is kept after all is shared again."""
        self.start()
        self.ask(answer(b"Cache-Control: no-store"))
        one, two = self.client(asked()), self.client(asked())
        self.assert_asked(2)
        first, second = self.questions
        for upstream in (first, second):
            upstream.take()
            self.deliver(upstream, answer(b"Cache-Control: max-age=1"))
        self.wait(2.0)
        three, four = self.client(asked()), self.client(asked())
        self.answer(answer(FRESH))
        for client in (one, two, three, four):
            self.assertEqual(b"hello", read(client.take()).content)

    def test_varies(self) -> None:
        """Who is not chosen by what the response varies on is sent on."""
        self.start()
        german, english = b"Accept-Language: de", b"Accept-Language: en"
        clients = [self.client(asked(one)) for one in (german, english, german)]
        upstream, _ = self.question()
        self.deliver(upstream, answer(FRESH, b"Vary: Accept-Language", content=b"gut"))
        self.assertEqual(b"gut", read(clients[0].take()).content)
        self.assertEqual(b"gut", read(clients[2].take()).content)
        question = self.answer(answer(FRESH, b"Vary: Accept-Language", content=b"good"))
        self.assertIn(english, question)
        self.assertEqual(b"good", read(clients[1].take()).content)
        self.assertEqual(2, self.entries)
        self.assertEqual(b"gut", self.get(german).content)
        self.assertEqual(b"good", self.get(english).content)

    def test_stale_at_once(self) -> None:
        """What has to be validated before each use serves who asked first; nobody waits for it."""
        for control in (b"no-cache", b"max-age=0"):
            self.start()
            octets = answer(b"Cache-Control: " + control, b'ETag: "1"')
            clients = [self.client(asked()) for _ in range(3)]
            self.answer(octets)
            self.assert_asked(2)
            for upstream in self.questions:
                upstream.take()
                self.deliver(upstream, octets)
            self.assertEqual(1, self.entries)
            clients += [self.client(asked()) for _ in range(3)]
            self.assert_asked(3)
            for upstream in self.questions:
                self.assertIn(b'\r\nIf-None-Match: "1"\r\n', upstream.take())
                self.deliver(upstream, unchanged())
            for client in clients:
                self.assertEqual(b"hello", read(client.take()).content)

    def test_leader_leaves(self) -> None:
        """Who asked first does not end it for the others by leaving."""
        self.start()
        leader, other = self.client(asked()), self.client(asked())
        upstream, _ = self.question()
        self.leave(leader)
        self.assertIsNone(upstream.lost)
        self.deliver(upstream, answer(FRESH))
        self.assertEqual(b"hello", read(other.take()).content)
        self.assertEqual(1, self.entries)

    def test_leader_leaves_and_nothing_is_kept(self) -> None:
        """Then the others ask, each for itself, also when the answer may not be kept."""
        self.start()
        leader, *others = (self.client(asked()) for _ in range(3))
        upstream, _ = self.question()
        self.leave(leader)
        self.deliver(upstream, answer(b"Cache-Control: no-store"))
        self.assertIsNotNone(upstream.lost)
        self.assert_asked(2)
        for one in self.questions:
            one.take()
            self.deliver(one, answer(b"Cache-Control: no-store"))
        for client in others:
            self.assertEqual(b"hello", read(client.take()).content)

    def test_waiting_leave(self) -> None:
        """Who waits may leave at any time."""
        self.start()
        leader, *others = (self.client(asked()) for _ in range(3))
        upstream, _ = self.question()
        self.leave(others[0])
        self.deliver(upstream, answer(FRESH)[:-5])
        self.leave(others[1])
        self.deliver(upstream, b"hello")
        self.assertEqual(b"hello", read(leader.take()).content)
        self.assertEqual(1, self.entries)

    def test_all_leave(self) -> None:
        """With the last of them the fetch ends."""
        self.start()
        clients = [self.client(asked()) for _ in range(3)]
        upstream, _ = self.question()
        for client in clients:
            self.assertIsNone(upstream.lost)
            self.leave(client)
        self.assertIsNotNone(upstream.lost)
        self.assertEqual([], self.fetches)

    def test_who_does_not_wait(self) -> None:
        """Nobody waits who could not be served by the answer, or wants one for itself."""
        for method, *fields in (
            (b"HEAD",),
            (b"GET", b"Range: bytes=0-1"),
            (b"GET", b'If-None-Match: "1"'),
            (b"GET", b"If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT"),
            (b"GET", b'If-Match: "1"'),
            (b"GET", b"Cache-Control: no-store"),
            (b"GET", b"Cache-Control: no-cache"),
            (b"GET", b"Pragma: no-cache"),
        ):
            with self.subTest((method, fields)):
                self.start()
                leader = self.client(asked())
                upstream, _ = self.question()
                self.deliver(upstream, answer(FRESH)[:-5])
                other = self.client(asked(*fields, method=method))
                self.assert_asked(1)
                second, question = self.question()
                for field in fields:
                    self.assertIn(field, question)
                length = b"Content-Length: 5"
                content = b"" if method == b"HEAD" else b"other"
                self.deliver(second, response(FRESH, length, content=content))
                self.assertEqual(content, read(other.take()).content)
                self.deliver(upstream, b"hello")
                self.assertEqual(b"hello", read(leader.take()).content)
                self.assertEqual([], self.fetches)

    def test_they_keep_nobody_waiting(self) -> None:
        """Nor does anybody wait for them."""
        for fields in (
            (b"Range: bytes=0-1",),
            (b'If-None-Match: "1"',),
            (b"Cache-Control: no-store",),
            (b"Cache-Control: no-cache",),
        ):
            self.start()
            clients = [self.client(asked(*fields)), self.client(asked())]
            self.assert_asked(2)
            for client in clients:
                self.leave(client)

    def test_interim(self) -> None:
        """Interim responses go to who asked first."""
        self.start()
        leader, other = self.client(asked()), self.client(asked())
        upstream, _ = self.question()
        hints = response(b"Link: </a>", status_line=b"HTTP/1.1 103 Early Hints")
        self.deliver(upstream, hints)
        self.assertEqual(103, read(leader.value()).status)
        self.assertEqual(b"", other.value())
        self.deliver(upstream, hints + answer(FRESH))
        told = read(read(read(leader.take()).rest).rest)
        self.assertEqual((200, b"hello"), (told.status, told.content))
        self.assertEqual(200, read(other.take()).status)
        self.assertEqual(b"hello", self.get().content)

    def test_interim_for_nobody(self) -> None:
        """With nobody there any more they are dropped."""
        self.start()
        leader, other = self.client(asked()), self.client(asked())
        upstream, _ = self.question()
        self.leave(leader)
        self.deliver(upstream, response(status_line=b"HTTP/1.1 103 Early Hints") + answer(FRESH))
        self.assertEqual(b"hello", read(other.take()).content)

    def test_unreachable(self) -> None:
        """All who wait are told when no answer comes."""
        self.start()
        clients = [self.client(asked()) for _ in range(3)]
        upstream, _ = self.question()
        self.leave(upstream)
        for number, client in enumerate(clients):
            told = read(client.take())
            self.assertEqual(502, told.status)
            said = b"fwd=uri-miss" + (b"; collapsed" if number else b"")
            self.assertEqual(said, told.cache)
        self.assertEqual([], self.fetches)

    def test_slow_upstream(self) -> None:
        """Each waits as long as its route says, and says what it waited for."""
        self.start(limits=Limits(first_byte=2.0))
        leader = self.client(asked())
        self.wait(1.5)
        other = self.client(asked())
        self.wait(1.8)
        told = read(leader.take())
        self.assertEqual((504, b"fwd=uri-miss"), (told.status, told.cache))
        self.assertEqual(b"", other.value())
        self.wait(1.8)
        told = read(other.take())
        self.assertEqual((504, b"fwd=uri-miss; collapsed"), (told.status, told.cache))
        self.assertEqual(([], []), (self.fetches, self.open))

    def test_authorized(self) -> None:
        """Who waits behind another's Authorization gets its answer where that may be shared."""
        for control, shared in ((b"max-age=60", False), (b"public, max-age=60", True)):
            self.start()
            leader, other = self.client(asked(AUTHORIZED)), self.client(asked())
            self.answer(answer(b"Cache-Control: " + control, content=b"for one"))
            self.assertEqual(b"for one", read(leader.take()).content)
            if shared:
                self.assertEqual(b"for one", read(other.take()).content)
            else:
                self.assertNotIn(AUTHORIZED, self.answer(answer(FRESH, content=b"for all")))
                self.assertEqual(b"for all", read(other.take()).content)

    def test_login(self) -> None:
        """A connection that asks for a login is the leader's; nobody else waits for it."""
        self.start()
        leader, other = self.client(asked()), self.client(asked())
        login = answer(b"WWW-Authenticate: Negotiate", status=b"401 Unauthorized")
        first = self.open[0]
        self.answer(login)
        self.assertEqual(401, read(leader.take()).status)
        second, _ = self.question()
        self.assertIsNot(first, second)
        self.deliver(second, login)
        self.assertEqual(401, read(other.take()).status)

    def test_many(self) -> None:
        """A thousand clients are one request."""
        self.start()
        clients = [self.client(asked()) for _ in range(1000)]
        self.answer(answer(FRESH))
        self.assertEqual({200}, {read(client.take()).status for client in clients})
        for client in clients:
            client.lose()


class ValidationTests(CacheTestCase):
    """What is stale is asked about.  Spec: RFC 9111 4.3."""

    def store(self, *fields: bytes, **parts: Any) -> None:
        """Have a response stored that is stale in a moment."""
        self.start()
        self.ask(answer(*fields, **parts))
        self.wait(61.0)

    def test_conditions(self) -> None:
        """By its validators, whichever it has."""
        date = b"Thu, 01 Jan 2026 00:00:00 GMT"
        for fields, conditions in (
            ([b'ETag: "1"'], [b'If-None-Match: "1"']),
            ([b"Last-Modified: " + date], [b"If-Modified-Since: " + date]),
            (
                [b'ETag: W/"1"', b"Last-Modified: " + date],
                [b'If-None-Match: W/"1"', b"If-Modified-Since: " + date],
            ),
            ([], []),
        ):
            self.store(FRESH, *fields)
            client = self.client(asked())
            upstream, question = self.question()
            lines = [line for line in question.split(b"\r\n") if line.startswith(b"If-")]
            self.assertEqual(conditions, lines)
            self.deliver(upstream, unchanged(FRESH) if fields else answer(FRESH))
            told = read(client.take())
            self.assertEqual((200, b"hello"), (told.status, told.content))
            self.assertEqual(b"hello", self.get().content)

    def test_all_who_wait(self) -> None:
        """A 304 serves all who waited, and whoever comes."""
        self.store(*TAGGED)
        clients = [self.client(asked()) for _ in range(3)]
        self.answer(unchanged(b"Cache-Control: max-age=30", b"X-New: yes"))
        for number, client in enumerate(clients):
            told = read(client.take())
            self.assertEqual(
                (200, b"hello", b"yes"), (told.status, told.content, told.fields[b"x-new"])
            )
            said = b"collapsed" if number else b"stored"
            self.assertEqual(b"fwd=stale; fwd-status=304; " + said, told.cache)
            self.assertEqual(b"0", told.fields[b"age"])
        self.assertEqual(b"hit; ttl=30", self.get().cache)
        (route,) = self.routes()
        self.assertEqual((1, 2), (route.counts.validated, route.counts.collapsed))

    def test_replaced(self) -> None:
        """A 200 takes its place, for all who waited too."""
        self.store(*TAGGED)
        clients = [self.client(asked()) for _ in range(3)]
        self.answer(answer(FRESH, b'ETag: "2"', content=b"new"))
        for client in clients:
            self.assertEqual(b"new", read(client.take()).content)
        self.assertEqual((1, b"new"), (self.entries, self.get().content))

    def test_replaced_by_what_is_not_kept(self) -> None:
        """A 200 that may not be kept serves who asked first only."""
        self.store(*TAGGED)
        leader, other = self.client(asked()), self.client(asked())
        self.answer(answer(b"Cache-Control: private", content=b"one's"))
        self.assertEqual(b"one's", read(leader.take()).content)
        self.answer(answer(b"Cache-Control: private", content=b"other's"))
        self.assertEqual(b"other's", read(other.take()).content)

    def test_clients_conditions(self) -> None:
        """A client's own conditions are answered from the stored response, after a 304 too."""
        for wait in (0.0, 61.0):
            self.start()
            self.ask(answer(*TAGGED))
            for field, status, content in (
                (b'If-None-Match: "1"', 304, b""),
                (b'If-None-Match: W/"1"', 304, b""),
                (b'If-None-Match: "2"', 200, b"hello"),
                (b"Range: bytes=1-2", 206, b"el"),
                (b"Range: bytes=9-", 416, b""),
            ):
                self.wait(wait)
                client = self.client(asked(field))
                if wait:
                    question = self.answer(unchanged())
                    self.assertNotIn(b"Range", question)
                    self.assertEqual(1, question.count(b"If-None-Match"))
                told = read(client.take())
                self.assertEqual((status, content), (told.status, told.content), field)
                self.leave(client)

    def test_whole_for_conditions(self) -> None:
        """Who asked conditionally gets what has replaced the stale response."""
        self.store(*TAGGED)
        clients = [
            self.client(asked(b'If-None-Match: "1"')),
            self.client(asked(b"Range: bytes=0-1")),
        ]
        self.answer(answer(FRESH, b'ETag: "2"', content=b"new"))
        for client in clients:
            told = read(client.take())
            self.assertEqual((200, b"new"), (told.status, told.content))

    def test_without_validator(self) -> None:
        """What has no validator is asked for anew; a client's conditions are its own then."""
        self.store(FRESH)
        client = self.client(asked(b'If-None-Match: "1"'))
        other = self.client(asked())
        self.assert_asked(2)
        for upstream in self.questions:
            conditional = b"If-None-Match" in upstream.take()
            self.deliver(upstream, unchanged() if conditional else answer(FRESH, content=b"new"))
        self.assertEqual(304, read(client.take()).status)
        self.assertEqual(b"new", read(other.take()).content)

    def test_preconditions(self) -> None:
        """If-Match and If-Unmodified-Since are the origin's to evaluate.  Spec: RFC 9110 13.1."""
        self.start()
        self.ask(answer(*TAGGED))
        for field in (b'If-Match: "2"', b"If-Unmodified-Since: Thu, 01 Jan 2026 00:00:00 GMT"):
            told = self.ask(answer(status=b"412 Precondition Failed"), field)
            self.assertEqual((412, b"fwd=bypass; fwd-status=412"), (told.status, told.cache))

    def test_private_now(self) -> None:
        """A 304 that makes it private serves who asked first, with its fields; nobody else."""
        self.store(*TAGGED)
        leader, other = self.client(asked()), self.client(asked())
        self.answer(unchanged(b"Cache-Control: private", b"Connection: X-Hop", b"X-Hop: 1"))
        told = read(leader.take())
        self.assertEqual((200, b"hello"), (told.status, told.content))
        self.assertEqual(b"private", told.fields[b"cache-control"])
        self.assertNotIn(b"x-hop", told.fields)
        self.assertEqual(b"fwd=stale; fwd-status=304", told.cache)
        self.assertEqual(0, self.entries)
        self.assertNotIn(b"If-None-Match", self.answer(answer(FRESH, content=b"new")))
        self.assertEqual(b"new", read(other.take()).content)

    def test_several(self) -> None:
        """Variants are asked about together; the 304 says which is meant.  Spec: RFC 9111 4.3.4."""
        self.start()
        german, english = b"Accept-Language: de", b"Accept-Language: en"
        vary = b"Vary: Accept-Language"
        self.ask(answer(FRESH, vary, b'ETag: "g"', content=b"gut"), german)
        self.ask(answer(FRESH, vary, b'ETag: "e"', content=b"good"), english)
        self.wait(61.0)
        client, other = self.client(asked(german)), self.client(asked(english))
        question = self.answer(unchanged(FRESH, vary, b'ETag: "g"'))
        self.assertRegex(question, rb'\r\nIf-None-Match: ("g", "e"|"e", "g")\r\n')
        self.assertEqual(b"gut", read(client.take()).content)
        self.answer(answer(FRESH, vary, content=b"better"))
        self.assertEqual(b"better", read(other.take()).content)
        self.assertEqual(b"better", self.get(english).content)
        self.assertEqual(2, self.entries)

    def test_about_nothing(self) -> None:
        """A 304 about nothing that is stored has the response asked for, once for all."""
        self.start()
        vary = b"Vary: Accept-Language"
        for language in (b"de", b"en"):
            tag = b'ETag: "%b"' % language
            self.ask(answer(FRESH, vary, tag), b"Accept-Language: " + language)
        self.wait(61.0)
        clients = [self.client(asked(b"Accept-Language: de")) for _ in range(3)]
        self.answer(unchanged(b'ETag: "other"'))
        self.assertNotIn(b"If-None-Match", self.answer(answer(FRESH, vary, content=b"new")))
        for client in clients:
            self.assertEqual(b"new", read(client.take()).content)

    def test_removed_meanwhile(self) -> None:
        """What was invalidated while it was validated is served to nobody."""
        self.store(*TAGGED)
        clients = [self.client(asked()) for _ in range(3)]
        upstream, _ = self.question()
        told = self.ask(answer(), method=b"DELETE")
        self.assertEqual(200, told.status)
        self.assertEqual(0, self.entries)
        self.deliver(upstream, unchanged())
        self.assertNotIn(b"If-None-Match", self.answer(answer(FRESH, content=b"new")))
        for client in clients:
            self.assertEqual(b"new", read(client.take()).content)
        self.assertEqual(b"new", self.get().content)

    def test_reload_of_a_browser(self) -> None:
        """max-age=0 has it validated, no-cache too, although it is fresh."""
        for field in (b"Cache-Control: max-age=0", b"Cache-Control: no-cache", b"Pragma: no-cache"):
            self.start()
            self.ask(answer(*TAGGED))
            self.wait(1.0)
            client = self.client(asked(field))
            self.answer(unchanged())
            told = read(client.take())
            self.assertEqual((200, b"hello"), (told.status, told.content))
            self.assertEqual(b"fwd=request; fwd-status=304; stored", told.cache)

    def test_too_many_variants(self) -> None:
        """Clients choose how many variants there are; the route says how many are kept."""
        self.start()
        (route,) = self.routes()
        for number in range(route.policy.max_variants + 10):
            self.ask(answer(FRESH, b"Vary: X"), b"X: %d" % number)
            self.wait(1.0)
        self.assertLessEqual(self.entries, route.policy.max_variants)


class ErrorTests(CacheTestCase):
    """What is stale in place of an error.  Spec: RFC 5861 4."""

    LENIENT = b"Cache-Control: max-age=60, stale-if-error=600"

    def begin(self, *fields: bytes) -> None:
        """Have a response stored that is stale."""
        self.start()
        self.ask(answer(*fields))
        self.wait(61.0)

    def test_errors(self) -> None:
        """Instead of the errors that are the upstream's, whose connection is free again."""
        for status, stale in ((500, True), (502, True), (503, True), (504, True), (404, False)):
            for validator in ([b'ETag: "1"'], []):
                self.begin(self.LENIENT, *validator)
                clients = [self.client(asked()) for _ in range(3)]
                self.answer(answer(FRESH, content=b"error", status=b"%d Error" % status))
                for number, client in enumerate(clients):
                    told = read(client.take())
                    if not stale:
                        self.assertEqual((status, b"error"), (told.status, told.content))
                        continue
                    self.assertEqual((200, b"hello"), (told.status, told.content))
                    said = b"fwd=stale; fwd-status=%d; " % status
                    said += b"collapsed; " if number else b""
                    self.assertEqual(said + b"detail=stale-if-error", told.cache)
                self.assertEqual(1, len(self.open))
                self.assertEqual([], self.fetches)

    def test_endless_error(self) -> None:
        """Nobody waits for the content of an error that nobody gets."""
        self.begin(self.LENIENT)
        client = self.client(asked())
        upstream, _ = self.question()
        self.deliver(upstream, response(status_line=b"HTTP/1.1 503 Unavailable", content=b"x"))
        self.assertEqual(b"hello", read(client.take()).content)
        self.assertIsNotNone(upstream.lost)

    def test_without_it(self) -> None:
        """Without the directive, or too late, the error goes to who asked."""
        for control in (
            b"max-age=60",
            b"max-age=60, stale-if-error=0",
            b"max-age=1, stale-if-error=9",
        ):
            self.begin(b"Cache-Control: " + control, b'ETag: "1"')
            client = self.client(asked())
            self.answer(answer(status=b"503 Unavailable"))
            told = read(client.take())
            self.assertEqual(503, told.status)
            self.assertIn(b"fwd=stale; fwd-status=503", told.cache)

    def test_silent(self) -> None:
        """Instead of the 504 of an upstream that does not answer, and it is asked no more."""
        for control, status in ((self.LENIENT, 200), (b"Cache-Control: max-age=60", 504)):
            self.start(limits=Limits(first_byte=20.0))
            self.ask(answer(control))
            self.wait(61.0)
            clients = [self.client(asked()) for _ in range(2)]
            upstream, _ = self.question()
            self.wait(23.0)
            for client in clients:
                self.assertEqual(status, read(client.take()).status)
            self.assertIsNotNone(upstream.lost)
            self.assertEqual([], self.fetches)

    def test_unreachable(self) -> None:
        """Instead of what the proxy would have to say itself."""
        for field, status in ((b"X: 1", 200), (b"Cache-Control: max-age=1, no-cache", 502)):
            self.begin(self.LENIENT)
            self.network.listening[UPSTREAM_PORT] = error.ConnectionRefusedError()
            for upstream in self.open:
                self.leave(upstream)
            clients = [self.client(asked(field)) for _ in range(2)]
            for client in clients:
                self.assertEqual(status, read(client.take()).status)
            self.assertEqual([], self.fetches)

    def test_unreachable_without_it(self) -> None:
        """All are told: 502."""
        self.begin(FRESH, b'ETag: "1"')
        clients = [self.client(asked()) for _ in range(3)]
        upstream, _ = self.question()
        self.leave(upstream)
        for client in clients:
            told = read(client.take())
            self.assertEqual(502, told.status)
            self.assertTrue(told.cache.startswith(b"fwd=stale"))

    def test_client_allows_it(self) -> None:
        """The client's own stale-if-error counts too."""
        self.begin(FRESH)
        client = self.client(asked(b"Cache-Control: stale-if-error=100"))
        self.answer(answer(status=b"503 Unavailable"))
        self.assertEqual(b"hello", read(client.take()).content)

    def test_each_for_itself(self) -> None:
        """Who waits and allows it is not asked for by who does not, and the other way round."""
        self.begin(FRESH)
        leader = self.client(asked(b"Cache-Control: stale-if-error=100"))
        other = self.client(asked())
        self.answer(answer(status=b"503 Unavailable"))
        self.assertEqual(200, read(leader.take()).status)
        self.answer(answer(status=b"503 Unavailable"))
        self.assertEqual(503, read(other.take()).status)

    def test_removed(self) -> None:
        """What was invalidated meanwhile stands in for nothing."""
        self.begin(self.LENIENT)
        client = self.client(asked())
        upstream, _ = self.question()
        self.ask(answer(), method=b"POST")
        self.deliver(upstream, answer(status=b"503 Unavailable"))
        self.assertEqual(503, read(client.take()).status)

    def test_other_variant(self) -> None:
        """Only what a request chooses stands in for its error."""
        self.begin(self.LENIENT, b"Vary: X")
        client = self.client(asked(b"X: 2"))
        self.answer(answer(status=b"503 Unavailable"))
        self.assertEqual(503, read(client.take()).status)


class BehindTests(CacheTestCase):
    """What is stale is served at once and validated behind.  Spec: RFC 5861 3."""

    CONTROL = b"Cache-Control: max-age=60, stale-while-revalidate=600"

    def begin(self, *fields: bytes, **settings: Any) -> MemoryTransport:
        """Have a stale response served; returns where the upstream is asked meanwhile."""
        self.start(**settings)
        self.ask(answer(self.CONTROL, *fields))
        self.wait(70.0)
        told = self.get()
        self.assertEqual((200, b"hello", b"hit; ttl=-10"), (told.status, told.content, told.cache))
        self.assertEqual(1, len(self.fetches))
        return self.open[-1]

    def test_once(self) -> None:
        """There is one validation for all."""
        upstream = self.begin(b'ETag: "1"')
        for _ in range(3):
            self.assertEqual(b"hello", self.get().content)
        self.assert_asked(1)
        self.assertIn(b'\r\nIf-None-Match: "1"\r\n', self.answer(unchanged(self.CONTROL)))
        self.assertEqual(b"hit; ttl=60", self.get().cache)
        self.assertEqual([], self.fetches)
        self.assertIsNone(upstream.lost)

    def test_replaced(self) -> None:
        """A new response takes its place; it is fetched to its end although nobody waits."""
        for validator in ([b'ETag: "1"'], []):
            upstream = self.begin(*validator)
            whole = answer(FRESH, content=b"new")
            self.deliver(upstream, whole[:-2])
            self.wait(1.0)
            self.deliver(upstream, whole[-2:])
            self.assertEqual(b"new", self.get().content)
            self.assertEqual([], self.fetches)

    def test_clients_conditions(self) -> None:
        """The question has none of the client's conditions."""
        self.start()
        self.ask(answer(self.CONTROL))
        self.wait(70.0)
        told = self.get(b"Range: bytes=0-1", b'If-None-Match: "x"')
        self.assertEqual(206, told.status)
        _, question = self.question()
        self.assertNotIn(b"Range", question)
        self.assertNotIn(b"If-None-Match", question)

    def test_joined(self) -> None:
        """Who may not have the stale one waits for the validation."""
        upstream = self.begin(b'ETag: "1"')
        client = self.client(asked(b"Cache-Control: max-age=30"))
        self.assert_asked(1)
        self.deliver(upstream, unchanged(FRESH))
        self.assertEqual(
            (200, b"hello"), (read(client.value()).status, read(client.take()).content)
        )

    def test_error(self) -> None:
        """An error changes nothing; the next client has it validated again."""
        upstream = self.begin()
        upstream.take()
        self.deliver(upstream, answer(status=b"503 Unavailable"))
        self.assertEqual([], self.fetches)
        self.assertEqual(b"hello", self.get().content)
        self.assert_asked(1)

    def test_unreachable(self) -> None:
        """Nor does an upstream that is not there."""
        upstream = self.begin()
        self.leave(upstream)
        self.assertEqual([], self.fetches)
        self.assertEqual(b"hello", self.get().content)

    def test_broken_off(self) -> None:
        """A new response that breaks off leaves the old one."""
        upstream = self.begin()
        self.deliver(upstream, answer(FRESH, content=b"new")[:-1])
        self.leave(upstream)
        self.assertEqual(([], 1), (self.fetches, self.entries))
        self.assertEqual(b"hello", self.get().content)

    def test_not_kept(self) -> None:
        """A new response that may not be kept is not read; no connection is left."""
        upstream = self.begin()
        self.deliver(upstream, answer(b"Cache-Control: no-store")[:-1])
        self.assertIsNotNone(upstream.lost)
        self.assertEqual([], self.fetches)

    def test_limits(self) -> None:
        """The limits are kept for it: the first octet's, and that of silence in the content."""
        for begun in (b"", answer(FRESH)[:-1]):
            upstream = self.begin(limits=Limits(first_byte=2.0, idle=2.0))
            self.deliver(upstream, begun)
            self.wait(1.0)
            self.assertIsNone(upstream.lost)
            self.wait(4.0)
            self.assertIsNotNone(upstream.lost)
            self.assertEqual([], self.fetches)

    def test_interims_without_end(self) -> None:
        """An upstream that only sends interim responses is not waited for either."""
        upstream = self.begin(limits=Limits(first_byte=2.0, idle=2.0))
        for _ in range(12):
            self.deliver(upstream, response(status_line=b"HTTP/1.1 102 Processing"))
            self.wait(0.5)
        self.assertIsNotNone(upstream.lost)
        self.assertEqual([], self.fetches)

    def test_login(self) -> None:
        """An upstream that asks for a login is nobody's then: its connection ends."""
        upstream = self.begin()
        self.deliver(upstream, answer(b"WWW-Authenticate: NTLM", status=b"401 Unauthorized"))
        self.assertIsNotNone(upstream.lost)
        self.assertEqual([], self.fetches)

    def test_end_of_the_proxy(self) -> None:
        """It ends with the proxy; what is left is looked at in the end of each test."""
        self.begin()

    def test_reload(self) -> None:
        """It goes on by its own route when another configuration is taken."""
        upstream = self.begin(b'ETag: "1"')
        self.take(caching())
        self.deliver(upstream, unchanged(self.CONTROL))
        self.assertEqual(b"hit; ttl=60", self.get().cache)


class PurgeTests(CacheTestCase):
    """What is purged while it is fetched is not stored.  Purges see key and head."""

    def purge(self, tag: bytes) -> None:
        """Purge by a tag."""

        def chosen(key: bytes, head: StoredResponse) -> bool:
            return tag in head.tags

        self.cache.spoil(chosen)
        done = self.cache.store.purge(chosen)
        done.addErrback(self.fail)

    def test_before_and_after_the_head(self) -> None:
        """Both before its head has come and after."""
        for begun in (b"", answer(FRESH, b"Cache-Tag: a, b")[:-1]):
            for tag, kept in ((b"a", 0), (b"c", 1)):
                self.start()
                early = self.client(asked())
                upstream, _ = self.question()
                self.deliver(upstream, begun)
                self.purge(tag)
                late = self.client(asked())
                for one in self.questions:
                    one.take()
                    self.deliver(one, answer(b"Cache-Control: no-store", content=b"later"))
                self.deliver(upstream, answer(FRESH, b"Cache-Tag: a, b")[len(begun) :])
                self.assertEqual(b"hello", read(early.take()).content)
                for one in self.questions:
                    one.take()
                    self.deliver(one, answer(b"Cache-Control: no-store", content=b"later"))
                told = read(late.take())
                self.assertEqual(b"hello" if kept else b"later", told.content)
                self.assertEqual(kept, self.entries)
                self.assertEqual([], self.fetches)


class MemoryTests(CacheTestCase):
    """Many fetches share one bound."""

    def test_bound(self) -> None:
        """What is stored and what is being fetched stay within it, whatever clients do."""
        bound = 200_000
        self.start(bounded(caching(), memory=bound, entry=100_000))
        clients = []
        for number in range(30):
            client = self.client(asked(target=b"/%d" % number))
            clients.append(client)
            upstream, _ = self.question()
            self.deliver(upstream, response(FRESH, content=bytes(12_000)))
            self.assertLessEqual(self.used, bound)
        for upstream in self.open:
            self.leave(upstream)
            self.assertLessEqual(self.used, bound)
        self.assertGreater(self.entries, 5)
        for client in clients:
            self.assertEqual(200, read(client.take()).status)
            self.leave(client)
