"""What a request passes on a route that caches."""

from __future__ import annotations

import attrs
from twisted.internet import error

from pyproxy.policy.matching import Match
from pyproxy.policy.routing import Limits
from pyproxy.semantics.forwarding import FieldRules
from tests.cache.kit import (
    FRESH,
    TWO,
    CacheTestCase,
    answer,
    asked,
    caching,
    passing,
    read,
    together,
)
from tests.memory import UPSTREAM_PORT, request, response

AUTHORIZED = b"Authorization: Bearer one"


class StatusTests(CacheTestCase):
    """Each answer says what the cache did.  Spec: RFC 9211 2."""

    def test_hit(self) -> None:
        """For how long it stays fresh, and how old it is."""
        self.start()
        self.ask(answer(FRESH))
        for wait, left, age in ((0.0, b"60", b"0"), (10.5, b"49", b"10")):
            self.wait(wait)
            told = self.get()
            self.assertEqual((b"hit; ttl=" + left, age), (told.cache, told.fields[b"age"]))

    def test_why(self) -> None:
        """Why the upstream was asked."""
        vary = b"Vary: X"
        for stored, wait, octets, said in (
            ((), 0.0, asked(), b"fwd=uri-miss; fwd-status=200; detail=no-lifetime"),
            (
                (FRESH, vary),
                0.0,
                asked(b"X: 1"),
                b"fwd=vary-miss; fwd-status=200; detail=no-lifetime",
            ),
            ((FRESH,), 61.0, asked(), b"fwd=stale; fwd-status=200; detail=no-lifetime"),
            (
                (FRESH,),
                0.0,
                asked(b"Cache-Control: no-cache"),
                b"fwd=request; fwd-status=200; detail=no-lifetime",
            ),
            ((FRESH,), 0.0, asked(b"Range: bytes=0-1,3-4"), b"fwd=partial; fwd-status=200"),
            ((), 0.0, asked(method=b"OPTIONS"), b"fwd=method; fwd-status=200"),
            ((), 0.0, asked(method=b"DELETE"), b"fwd=method; fwd-status=200"),
            ((), 0.0, asked(method=b"PROPFIND"), b"fwd=method; fwd-status=200"),
            (
                (),
                0.0,
                request(b"GET / HTTP/1.1", b"Content-Length: 2", content=b"ab"),
                b"fwd=bypass; fwd-status=200",
            ),
            ((), 0.0, asked(b"Authorization: Negotiate abc"), b"fwd=bypass; fwd-status=200"),
            (
                (),
                0.0,
                asked(b"Cache-Control: no-store"),
                b"fwd=uri-miss; fwd-status=200; detail=no-store-asked",
            ),
        ):
            with self.subTest(said):
                self.start()
                if stored:
                    self.ask(answer(*stored))
                self.wait(wait)
                client = self.client(octets)
                self.answer(answer())
                self.assertEqual(said, read(client.take()).cache)

    def test_head(self) -> None:
        """HEAD is answered by a stored response to GET, and passes without one."""
        self.start()
        told = self.ask(response(FRESH, b"Content-Length: 5"), method=b"HEAD")
        self.assertEqual((b"fwd=uri-miss; fwd-status=200", b""), (told.cache, told.content))
        self.assertEqual(0, self.entries)
        self.ask(answer(FRESH))
        client = self.client(asked(method=b"HEAD"))
        told = read(client.take())
        self.assertEqual((b"hit; ttl=60", b"5"), (told.cache, told.fields[b"content-length"]))
        self.assertEqual((b"", b""), (told.content, told.rest))

    def test_errors(self) -> None:
        """Errors of the proxy's own say it too, of what the cache only lets pass as well."""
        for method, said in (
            (b"GET", b"fwd=uri-miss"),
            (b"HEAD", b"fwd=uri-miss"),
            (b"PUT", b"fwd=method"),
        ):
            self.start(limits=Limits(first_byte=1.0))
            client = self.client(asked(method=method))
            self.wait(2.0)
            told = read(client.take())
            self.assertEqual((504, said), (told.status, told.cache))
            self.network.listening[UPSTREAM_PORT] = error.ConnectionRefusedError()
            told = self.get(method=method)
            self.assertEqual((502, said), (told.status, told.cache))

    def test_only_if_cached(self) -> None:
        """What only a stored response may answer asks nobody.  Spec: RFC 9111 5.2.1.7."""
        self.start()
        told = self.get(b"Cache-Control: only-if-cached")
        self.assertEqual((504, b"detail=only-if-cached"), (told.status, told.cache))
        self.assertEqual([], self.open)
        self.ask(answer(FRESH))
        self.assertEqual(b"hello", self.get(b"Cache-Control: only-if-cached").content)
        self.wait(61.0)
        self.assertEqual(504, self.get(b"Cache-Control: only-if-cached").status)
        self.assert_asked(0)

    def test_chain(self) -> None:
        """It stands behind what caches closer to the upstream have said."""
        self.start()
        told = self.ask(answer(FRESH, b"Cache-Status: other; hit"))
        self.assertEqual(
            b"other; hit, pyproxy; fwd=uri-miss; fwd-status=200; stored",
            told.fields[b"cache-status"],
        )
        self.assertEqual(b"other; hit, pyproxy; hit; ttl=60", self.get().fields[b"cache-status"])


class InvalidationTests(CacheTestCase):
    """What an unsafe request may have changed is served no more.  Spec: RFC 9111 4.4."""

    def stored(self, *targets: bytes) -> set[bytes]:
        """Return which of some targets are served from the store."""
        found = set()
        for target in targets:
            client = self.client(asked(b"Cache-Control: only-if-cached", target=target))
            if read(client.take()).status == 200:
                found.add(target)
            self.leave(client)
        return found

    def test_targets(self) -> None:
        """Its own target, and what Location and Content-Location name at the same origin."""
        others = (b"/a", b"/b", b"/c")
        for status, fields, gone in (
            (b"200 OK", [], {b"/a"}),
            (b"204 No Content", [], {b"/a"}),
            (b"303 See Other", [b"Location: /b"], {b"/a", b"/b"}),
            (b"201 Created", [b"Location: b", b"Content-Location: c"], set(others)),
            (b"201 Created", [b"Location: http://127.0.0.1:9000/b"], {b"/a", b"/b"}),
            (b"201 Created", [b"Location: http://front.test/b"], {b"/a", b"/b"}),
            (b"201 Created", [b"Location: http://other.test/b"], {b"/a"}),
            (b"400 Bad Request", [b"Location: /b"], set()),
            (b"404 Not Found", [], set()),
            (b"500 Error", [], set()),
        ):
            for method in (b"POST", b"PUT", b"DELETE", b"PATCH", b"UNKNOWN"):
                with self.subTest((status, fields, method)):
                    self.start()
                    for target in others:
                        self.ask(answer(FRESH), target=target)
                    client = self.client(asked(target=b"/a", method=method))
                    start = b"HTTP/1.1 " + status
                    length = () if status[:3] == b"204" else (b"Content-Length: 0",)
                    self.answer(response(*fields, *length, status_line=start))
                    self.assertEqual(status[:3], b"%d" % read(client.take()).status)
                    self.assertEqual(set(others) - gone, self.stored(*others))

    def test_safe(self) -> None:
        """Safe methods change nothing."""
        self.start()
        self.ask(answer(FRESH))
        for method in (b"HEAD", b"OPTIONS", b"PROPFIND"):
            client = self.client(asked(method=method))
            for upstream in self.questions:
                upstream.take()
                self.deliver(upstream, answer())
            self.leave(client)
        self.assertEqual({b"/"}, self.stored(b"/"))

    def test_under_way(self) -> None:
        """What is being fetched meanwhile is not stored, wherever it stands; who waits gets it."""
        whole = answer(FRESH)
        for begun in (b"", whole[:-2]):
            self.start()
            client = self.client(asked())
            upstream, _ = self.question()
            self.deliver(upstream, begun)
            self.ask(answer(), method=b"POST")
            later = self.client(asked())
            self.answer(answer(b"Cache-Control: max-age=9", content=b"later"))
            self.assertEqual(b"later", read(later.take()).content)
            self.deliver(upstream, whole[len(begun) :])
            self.assertEqual(b"hello", read(client.take()).content)
            self.assertEqual((1, b"later"), (self.entries, self.get().content))
            self.assertEqual([], self.fetches)

    def test_under_way_for_itself(self) -> None:
        """So is what is fetched for one client only."""
        self.start()
        client = self.client(asked(b"Cache-Control: no-cache"))
        upstream, _ = self.question()
        self.ask(answer(), method=b"POST")
        self.deliver(upstream, answer(FRESH))
        self.assertEqual(b"hello", read(client.take()).content)
        self.assertEqual(0, self.entries)

    def test_variants(self) -> None:
        """All variants go."""
        self.start()
        for number in range(3):
            self.ask(answer(FRESH, b"Vary: X"), b"X: %d" % number)
        self.ask(answer(), method=b"POST")
        self.assertEqual(0, self.entries)

    def test_upload(self) -> None:
        """A request with content passes as it comes, and invalidates in the end."""
        self.start()
        self.ask(answer(FRESH))
        client = self.client(request(b"PUT / HTTP/1.1", b"Content-Length: 6", content=b"abc"))
        upstream, question = self.question()
        self.assertEqual(b"abc", question[-3:])
        self.assertEqual({b"/"}, self.stored(b"/"))
        self.deliver(client, b"def")
        self.deliver(upstream, answer())
        self.assertEqual(b"fwd=method; fwd-status=200", read(client.take()).cache)
        self.assertEqual(set(), self.stored(b"/"))


class AtOnceTests(CacheTestCase):
    """The short way answers as the long way does, and nothing that it must not."""

    def both(self, *fields: bytes, target: bytes = b"/", minor: int = 1) -> tuple[bytes, bytes]:
        """Return the octets of a hit the short way and the long way."""
        octets = asked(*fields, target=target, minor=minor)
        client = self.client(octets)
        self.leave(client)
        answers = []
        for at_hand in (True, False):
            if not at_hand:
                for entry in self.cache.store.hot.values():
                    entry.ready = None
            client = self.client(octets)
            answers.append(client.take())
            self.leave(client)
        self.assert_asked(0)
        return answers[0], answers[1]

    def at_hand(self) -> bool:
        """Tell whether what is stored is at hand."""
        ready = [entry.ready for entry in self.cache.store.hot.values()]
        return any(hasattr(one, "reply") for one in ready)

    def test_same_octets(self) -> None:
        """For each response and each request."""
        rules = FieldRules(((b"X-Mine", b"1"), (b"Server", b"front")), frozenset({b"x-gone"}))
        for settings in (
            {},
            {"response_rules": rules},
            {"response_rules": FieldRules(((b"Age", b"0"),))},
            {"response_rules": FieldRules((), frozenset({b"cache-status"}))},
            {"response_rules": FieldRules((), frozenset({b"age", b"date"}))},
            {"secrets": (b"very-secret",), "allowed_hosts": (b"front.test",)},
            {"preserve_host": True},
            {"path": "/base"},
        ):
            for fields, content in (
                ([FRESH], b"hello"),
                ([FRESH], b""),
                ([FRESH, b"Cache-Status: other; hit"], b"hello"),
                ([FRESH, b"Cache-Status: "], b"hello"),
                ([FRESH, b"Age: 5", b"X-Gone: 1", b"Server: back"], b"hello"),
                ([FRESH, b"Connection: X-Hop", b"X-Hop: 1", b"Keep-Alive: timeout=5"], b"hello"),
                ([FRESH, b"Location: http://127.0.0.1:9000/base/x"], b"hello"),
                ([FRESH, b"Location: http://front.test/x"], b"hello"),
                ([FRESH, b"Set-Cookie: a=1; Path=/base"], b"hello"),
                ([FRESH, b"X-Echo: very-secret", b"X-very-secret: 1"], b"very-secret"),
                ([FRESH, b"Vary: Accept"], b"hello"),
                ([FRESH, b"Content-Type: text/plain", b'ETag: "1"'], bytes(5000)),
            ):
                with self.subTest((settings, fields)):
                    self.start(**settings)
                    self.ask(answer(*fields, content=content))
                    self.wait(2.0)
                    for minor in (1, 0):
                        for more in ((), (b"User-Agent: x",), (b"Connection: close",)):
                            at_hand, long_way = self.both(*more, minor=minor)
                            self.assertEqual(long_way, at_hand)
                            self.assertEqual(content, read(at_hand).content)

    def test_statuses(self) -> None:
        """Whatever the status."""
        for status in (b"200 Fine", b"203 Other", b"301 Moved", b"404 Not Found", b"410 Gone"):
            self.start()
            self.ask(answer(FRESH, status=status))
            at_hand, long_way = self.both()
            self.assertEqual(long_way, at_hand)
            self.assertTrue(at_hand.startswith(b"HTTP/1.1 " + status + b"\r\n"))
            self.assertTrue(self.at_hand())

    def test_secret_in_reason(self) -> None:
        """A secret is masked in the reason phrase too."""
        self.start(secrets=(b"very-secret",), allowed_hosts=(b"front.test",))
        self.ask(answer(FRESH, status=b"200 very-secret"))
        at_hand, long_way = self.both()
        self.assertEqual(long_way, at_hand)
        self.assertNotIn(b"very-secret", at_hand)

    def test_long_way(self) -> None:
        """Requests that ask for something special go the long way."""
        self.start()
        self.ask(answer(FRESH, b'ETag: "1"'))
        self.get()
        self.assertTrue(self.at_hand())
        for field, status in (
            (AUTHORIZED, 200),
            (b"Range: bytes=0-0", 206),
            (b'If-None-Match: "1"', 304),
            (b"If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT", 304),
        ):
            self.assertEqual(status, self.get(field).status)

    def test_authorized(self) -> None:
        """What is stored for all is for who has a credential too, unless it varies on that."""
        self.start()
        self.ask(answer(FRESH, b"Vary: Authorization"))
        self.get()
        told = self.ask(answer(content=b"one"), AUTHORIZED)
        self.assertEqual(b"one", told.content)

    def test_never_stale(self) -> None:
        """It ends with its lifetime."""
        self.start()
        self.ask(answer(FRESH))
        self.get()
        self.assertTrue(self.at_hand())
        self.wait(59.9)
        self.assertEqual(b"hit; ttl=0", self.get().cache)
        self.wait(0.2)
        self.assertEqual(b"new", self.ask(answer(FRESH, content=b"new")).content)

    def test_not_after_invalidation(self) -> None:
        """Nor is it served once it was invalidated, replaced or updated."""
        self.start()
        self.ask(answer(FRESH))
        self.get()
        self.ask(answer(), method=b"POST")
        self.assertEqual(b"two", self.ask(answer(FRESH, b'ETag: "1"', content=b"two")).content)
        self.assertEqual(b"two", self.get().content)
        self.ask(answer(FRESH, content=b"three"), b"Cache-Control: no-cache")
        self.assertEqual(b"three", self.get().content)
        self.ask(answer(FRESH, b'ETag: "1"', content=b"four"), b"Cache-Control: no-cache")
        self.assertEqual(b"four", self.get().content)
        unchanged = response(FRESH, b"X-New: 1", status_line=b"HTTP/1.1 304 Not Modified")
        self.ask(unchanged, b"Cache-Control: max-age=0, no-cache")
        self.assertEqual(b"1", self.get().fields[b"x-new"])

    def test_varies(self) -> None:
        """It is for who is chosen by it, in any spelling."""
        self.start()
        self.ask(answer(FRESH, b"Vary: Accept-Language"), b"Accept-Language: de, en")
        for field in (b"Accept-Language: de,en", b"accept-language: DE,  EN"):
            self.assertEqual(b"hello", self.get(field).content)
        self.assertTrue(self.at_hand())
        told = self.ask(answer(content=b"other"), b"Accept-Language: en")
        self.assertEqual(b"other", told.content)
        self.assertEqual(b"other", self.ask(answer(content=b"other")).content)

    def test_varies_on_what_is_nominated(self) -> None:
        """A field that the client nominates does not reach the upstream: it chooses nothing."""
        self.start()
        vary, german = b"Vary: Accept-Language", b"Accept-Language: de"
        self.ask(answer(FRESH, vary, content=b"gut"), german)
        self.get(german)
        self.assertTrue(self.at_hand())
        hidden = b"Connection: Accept-Language"
        self.assertEqual(
            b"any", self.ask(answer(FRESH, vary, content=b"any"), german, hidden).content
        )
        self.assertEqual(b"any", self.get(german, hidden).content)
        self.assertEqual(b"gut", self.get(german, b"Connection: keep-alive").content)

    def test_varies_on_what_the_route_sets(self) -> None:
        """The upstream sees the route's value, whatever the client says."""
        self.start(request_rules=FieldRules(((b"X-Tenant", b"7"),)))
        self.ask(answer(FRESH, b"Vary: X-Tenant"), b"X-Tenant: 1")
        for field in (b"X-Tenant: 7", b"X-Tenant: 8", b"Y: 1"):
            self.assertEqual(b"hello", self.get(field).content)
            self.assertEqual(b"hello", self.get(field).content)

    def test_two_routes(self) -> None:
        """Two routes may share an entry; each has its own answer of it."""
        one = caching(response_rules=FieldRules(((b"X-Route", b"one"),)))
        two = caching(response_rules=FieldRules(((b"X-Route", b"two"),)))
        self.start(together(one, two))
        self.ask(answer(FRESH), target=b"/x")
        self.assertEqual(1, self.entries)
        for _ in range(3):
            for target, name in ((b"/x", b"one"), (b"/1/x", b"two"), (b"/1/x", b"two")):
                told = self.get(target=target)
                self.assertEqual((name, b"hello"), (told.fields[b"x-route"], told.content))
        self.assert_asked(0)

    def test_hosts(self) -> None:
        """What one host was answered is not for another."""
        self.start()
        self.ask(answer(FRESH))
        octets = asked().replace(b"front.test", b"other.test")
        client = self.client(octets)
        self.answer(answer(FRESH, content=b"other"))
        self.assertEqual(b"other", read(client.take()).content)
        self.assertEqual(b"hello", self.get().content)

    def test_absolute_form(self) -> None:
        """A target in absolute-form outranks Host, the short way too."""
        self.start()
        self.ask(answer(FRESH))
        self.get()
        target = b"http://other.test/"
        told = self.ask(answer(FRESH, content=b"other"), target=target)
        self.assertEqual(b"other", told.content)
        self.assertEqual(b"other", self.get(target=target).content)

    def test_poison(self) -> None:
        """Fields that frameworks take for the URL or the method choose another answer."""
        self.start()
        self.ask(answer(FRESH))
        self.get()
        told = self.ask(answer(FRESH, content=b"bad"), b"X-Original-URL: /admin")
        self.assertEqual(b"bad", told.content)
        self.assertEqual(b"hello", self.get().content)


class RouteTests(CacheTestCase):
    """Who shares what."""

    def test_credentials(self) -> None:
        """Routes that add different credentials share nothing; the same ones do."""

        def adding(value: bytes | None) -> FieldRules:
            return FieldRules(((b"Authorization", value),) if value else ())

        values = (b"Bearer one", b"Bearer two", None, b"Bearer one")
        self.start(together(*(caching(request_rules=adding(value)) for value in values)))
        seen = []
        for number, value in enumerate(values):
            target = b"/x" if number == 0 else b"/%d/x" % number
            client = self.client(asked(target=target))
            for upstream in self.questions:
                question = upstream.take()
                self.assertEqual(value is not None and value in question, value is not None)
                self.deliver(upstream, answer(FRESH, content=value or b"none"))
                seen.append(number)
            self.assertEqual(value or b"none", read(client.take()).content)
        self.assertEqual([0, 1, 2], seen)

    def test_other_fields(self) -> None:
        """Nor do those that remove different fields, or lead to other upstreams or paths."""
        configs = (
            caching(),
            caching(request_rules=FieldRules((), frozenset({b"cookie"}))),
            caching(preserve_host=True),
            caching(TWO),
            caching(path="/base"),
        )
        self.start(together(*configs))
        for number in range(len(configs)):
            target = b"/x" if number == 0 else b"/%d/x" % number
            told = self.ask(answer(FRESH, content=b"%d" % number), target=target)
            self.assertEqual(b"%d" % number, told.content)
        self.assertEqual(len(configs), self.entries)

    def test_replaced_authorization(self) -> None:
        """A client's Authorization that does not reach the upstream does not matter."""
        for rules in (
            FieldRules(((b"Authorization", b"Bearer ours"),)),
            FieldRules((), frozenset({b"authorization"})),
        ):
            self.start(request_rules=rules)
            self.assertNotIn(b"one", self.cached_question(AUTHORIZED))
            self.assertEqual(b"hello", self.get().content)
            self.assertEqual(b"hello", self.get(b"Authorization: Bearer two").content)

    def cached_question(self, *fields: bytes) -> bytes:
        """Have a response stored, and return what was asked."""
        client = self.client(asked(*fields))
        question = self.answer(answer(FRESH))
        self.leave(client)
        return question

    def test_without_cache(self) -> None:
        """A route without a cache has no step, and nothing in its answers."""
        self.start(together(caching(), passing()))
        table = self.proxy._resource.table
        self.assertEqual([True, False], [route.step is not None for route in table.routes])
        for _ in range(2):
            told = self.ask(answer(FRESH), target=b"/1/x")
            self.assertNotIn(b"cache-status", told.fields)
        self.assertEqual(0, self.entries)
        self.start(passing())
        self.assertIsNone(self.proxy._shared)
        self.assertNotIn(b"cache-status", self.ask(answer(FRESH)).fields)

    def test_reload(self) -> None:
        """A reload keeps entries and counts, also while nothing caches."""
        self.start()
        self.ask(answer(FRESH))
        self.get()
        (before,) = self.routes()
        self.take(caching(response_rules=FieldRules(((b"X-New", b"1"),))))
        (after,) = self.routes()
        self.assertIsNot(before, after)
        self.assertIs(before.counts, after.counts)
        told = self.get()
        self.assertEqual((b"hello", b"1"), (told.content, told.fields[b"x-new"]))
        self.assertEqual((1, 2), (after.counts.misses, after.counts.hits))
        self.take(passing())
        self.ask(answer(FRESH, content=b"passes"))
        self.take(caching())
        self.assertEqual(b"hello", self.get().content)

    def test_first_by_reload(self) -> None:
        """A reload may be the first that caches."""
        self.start(passing())
        self.ask(answer(FRESH))
        self.take(caching())
        self.ask(answer(FRESH))
        self.assertEqual(b"hello", self.get().content)

    def test_reload_of_bounds(self) -> None:
        """Smaller bounds hold at once."""
        self.start()
        for number in range(10):
            self.ask(answer(FRESH, content=bytes(10_000)), target=b"/%d" % number)
        small = caching()
        self.take(attrs.evolve(small, cache=attrs.evolve(small.cache, memory=50_000, entry=20_000)))
        self.assertLessEqual(self.used, 50_000)
        self.assertGreater(self.entries, 0)

    def test_fetch_over_a_reload(self) -> None:
        """What is being fetched goes on, and who asks by the new routes joins."""
        self.start()
        whole = answer(FRESH)
        one = self.client(asked())
        upstream, _ = self.question()
        self.deliver(upstream, whole[:-2])
        self.take(caching())
        two = self.client(asked())
        self.assert_asked(0)
        self.deliver(upstream, whole[-2:])
        for client in (one, two):
            self.assertEqual(b"hello", read(client.take()).content)

    def test_matches(self) -> None:
        """A route for one method only counts for itself."""
        config = caching()
        (route,) = config.routes
        gets = attrs.evolve(route, match=Match(methods=frozenset({b"GET"})))
        self.start(attrs.evolve(config, routes=(gets, route)))
        self.ask(answer(FRESH))
        self.get()
        hits = [route.counts.hits for route in self.routes()]
        self.assertEqual([1, 0], hits)
