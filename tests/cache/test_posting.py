"""Answers to POST that a route lets the cache keep."""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.web.iweb import IBodyProducer
from zope.interface.verify import verifyObject

from pyproxy.cache.seams import Store
from pyproxy.held import Held, Reading
from pyproxy.policy.routing import Limits
from pyproxy.semantics.forwarding import FieldRules
from tests.cache.kit import FRESH, CacheTestCase, answer, asked, caching, read, together
from tests.cache.posts import ASKED, HIT, JSON, STORED, PostTestCase, keeping, post
from tests.memory import request, response

COOKIE = b"Set-Cookie: sid=1"


class KeptTests(PostTestCase):
    """The same question has the same answer for a while."""

    def test_again(self) -> None:
        """What was answered once is there, as long as the route says; Cache-Status says so."""
        self.start(cache=keeping())
        first = self.ask_post(reply=answer(b"X-One: 1", content=b"one"))
        self.assertEqual((200, b"one", STORED), (first.status, first.content, first.cache))
        again = self.have()
        self.assertEqual((200, b"one", HIT), (again.status, again.content, again.cache))
        self.assertEqual((b"1", b"0"), (again.fields[b"x-one"], again.fields[b"age"]))
        self.wait(59)
        self.assertIn(b"hit; ttl=", self.have().cache)
        self.wait(2)
        late = self.ask_post()
        self.assertEqual(b"fwd=stale; fwd-status=200; stored; detail=post", late.cache)
        self.assertEqual((HIT, 1), (self.have().cache, self.entries))

    def test_off(self) -> None:
        """Without the operator's word nothing of it is kept.  RFC 9110 9.3.3."""
        self.start()
        for _ in range(2):
            told = self.ask_post(reply=answer(FRESH))
            self.assertEqual(b"fwd=method; fwd-status=200", told.cache)
        self.assertEqual(0, self.entries)

    def test_other_methods(self) -> None:
        """It is for POST alone."""
        self.start(cache=keeping())
        for method in (b"PUT", b"PATCH", b"DELETE", b"post"):
            self.assert_passes(
                request(method + b" / HTTP/1.1", JSON, b"Content-Length: 2", content=b"{}"),
                b"fwd=method; fwd-status=200",
            )

    def test_meaning(self) -> None:
        """JSON with the same meaning is the same question, in another order too."""
        self.start(cache=keeping())
        self.ask_post()
        self.assertEqual(HIT, self.have(content=b'{ "input": "\\u0078", "model": "m" }').cache)
        self.assertEqual(STORED, self.ask_post(content=b'{"model":"m","input":"y"}').cache)

    def test_unchanged(self) -> None:
        """The request reaches the upstream octet by octet as it came."""
        self.start(cache=keeping())
        content = b' { "b":1.0,\r\n"a" : "\\u00e9" }\n'
        for octets in (post(content, b"X-One:  1"), post(b"\xff\0\r\n" * 999, kind=b"X-None: 1")):
            head, _, asked_content = octets.partition(b"\r\n\r\n")
            client = self.client(octets)
            sent = self.answer(answer())
            self.assertEqual(asked_content, sent.partition(b"\r\n\r\n")[2])
            for line in head.split(b"\r\n")[2:]:
                self.assertIn(line.replace(b"  ", b" "), sent.split(b"\r\n"))
            self.leave(client)

    def test_in_pieces(self) -> None:
        """The content may come in any pieces; the upstream is asked once it is there."""
        self.start(cache=keeping())
        octets = post()
        for cut in (1, len(octets) - len(ASKED), len(octets) - 1):
            client = self.client(octets[:cut])
            self.assert_asked(0)
            self.deliver(client, octets[cut:])
            if cut == 1:
                self.answer(answer(content=b"one"))
            self.assertEqual(b"one", read(client.take()).content)
            self.leave(client)

    def test_pipelined(self) -> None:
        """The next request on the connection is the next one's, whoever answers the first."""
        self.start(cache=keeping())
        self.ask_post()
        client = self.client(post() + post() + asked(target=b"/x"))
        first = read(client.take())
        self.assertEqual((HIT, b"one"), (first.cache, first.content))
        self.answer(answer(content=b"get"))
        second = read(first.rest)
        self.assertEqual((HIT, b"one"), (second.cache, second.content))
        self.assertEqual(b"get", read(client.take()).content)

    def test_no_content(self) -> None:
        """A POST without content is a question too."""
        self.start(cache=keeping())
        for fields in ((), (b"Content-Length: 0",)):
            client = self.client(request(b"POST / HTTP/1.1", *fields))
            if not fields:
                self.answer(answer(content=b"one"))
            self.assertEqual(b"one", read(client.take()).content)
            self.leave(client)

    def test_target(self) -> None:
        """The target is a part of the question, with a credential that it has."""
        self.start(cache=keeping(shared=True))
        self.ask_post(target=b"/embed?key=one")
        self.assertEqual(HIT, self.have(target=b"/embed?key=one").cache)
        self.assertEqual(STORED, self.ask_post(target=b"/embed?key=two").cache)

    def test_named(self) -> None:
        """Fields that the route names tell answers apart, others do not."""
        self.start(cache=keeping(fields=(b"x-tier",)))
        self.ask_post(b"X-Tier: a", b"X-Other: 1")
        self.assertEqual(HIT, self.have(b"x-tier: a", b"X-Other: 2").cache)
        self.assertEqual(STORED, self.ask_post(b"X-Tier: b").cache)

    def test_ignored(self) -> None:
        """Members that the route leaves out tell no answers apart."""
        self.start(cache=keeping(ignore=("/user",)))
        self.ask_post(content=b'{"a":1,"user":"x"}')
        self.assertEqual(HIT, self.have(content=b'{"user":"y","a":1}').cache)
        self.assertEqual(STORED, self.ask_post(content=b'{"a":2,"user":"x"}').cache)

    def test_encodings(self) -> None:
        """Nobody gets a coding that it does not take, though the upstream names no Vary."""
        self.start(cache=keeping())
        self.ask_post(b"Accept-Encoding: gzip", reply=answer(b"Content-Encoding: gzip"))
        plain = self.ask_post(reply=answer(content=b"plain"))
        self.assertNotIn(b"content-encoding", plain.fields)
        self.assertEqual(b"gzip", self.have(b"Accept-Encoding: GZIP").fields[b"content-encoding"])

    def test_vary(self) -> None:
        """What the upstream does name tells answers apart beyond the key.  RFC 9111 4.1."""
        self.start(cache=keeping())
        self.ask_post(b"X-Lang: a", reply=answer(b"Vary: X-Lang", content=b"a"))
        told = self.ask_post(b"X-Lang: b", reply=answer(b"Vary: X-Lang", content=b"b"))
        self.assertEqual(b"fwd=vary-miss; fwd-status=200; stored; detail=post", told.cache)
        self.assertEqual(b"a", self.have(b"X-Lang: a").content)
        self.assertEqual(b"b", self.have(b"X-Lang: b").content)

    def test_large(self) -> None:
        """A long answer comes whole, from the upstream and from the store."""
        self.start(cache=keeping())
        content = bytes(range(256)) * 1000
        self.ask_post(reply=answer(content=content))
        client = self.client(post())
        self.assertEqual(content, read(self.rest_of(client)).content)
        self.leave(client)


class PassedTests(PostTestCase):
    """What passes without a look."""

    METHOD = b"fwd=method; fwd-status=200"

    def test_beyond_the_bound(self) -> None:
        """Content with more octets than the route reads passes, and is not held up."""
        self.start(cache=keeping(whole=10))
        octets = post(b"x" * 11)
        self.assert_passes(octets, self.METHOD)
        client = self.client(octets[:-5])
        _, sent = self.question()
        self.assertTrue(sent.endswith(b"\r\n\r\nxxxxxx"))
        self.leave(client)
        self.ask_post(content=b"x" * 10)
        self.assertEqual(HIT, self.have(content=b"x" * 10).cache)

    def test_chunked(self) -> None:
        """Content in chunks may have any length."""
        self.start(cache=keeping())
        self.assert_passes(
            request(b"POST / HTTP/1.1", JSON, b"Transfer-Encoding: chunked")
            + b"2\r\n{}\r\n0\r\n\r\n",
            self.METHOD,
        )

    def test_expect(self) -> None:
        """Content that waits to be asked for is asked for by the upstream.  RFC 9110 10.1.1."""
        self.start(cache=keeping())
        octets = post(ASKED, b"Expect: 100-continue")
        client = self.client(octets[: -len(ASKED)])
        upstream, sent = self.question()
        self.assertIn(b"\r\nExpect: 100-continue\r\n", sent)
        self.deliver(upstream, b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(b"HTTP/1.1 100 Continue\r\n\r\n", client.take())
        self.deliver(client, ASKED)
        self.assertEqual(ASKED, upstream.take())
        self.deliver(upstream, answer())
        self.assertEqual(self.METHOD, read(client.take()).cache)

    def test_conditions(self) -> None:
        """Whether, or for what part, it is to be done, only the origin tells.  RFC 9110 13.1."""
        self.start(cache=keeping())
        self.ask_post()
        for field in (
            b'If-Match: "x"',
            b"If-None-Match: *",
            b"If-Unmodified-Since: Wed, 01 Jan 2025 12:00:00 GMT",
            b"If-Modified-Since: Wed, 01 Jan 2025 12:00:00 GMT",
            b"Range: bytes=0-0",
        ):
            self.assert_passes(post(ASKED, field), self.METHOD)

    def test_login(self) -> None:
        """A login that belongs to a connection is nobody else's.  RFC 4559 6."""
        self.start(cache=keeping(shared=True))
        self.assert_passes(
            post(ASKED, b"Authorization: Negotiate YQ=="), b"fwd=bypass; fwd-status=200"
        )
        self.assertEqual(0, self.entries)


class SharingTests(PostTestCase):
    """Whose answers are whose."""

    CREDENTIALS = (
        *(b"Authorization: Bearer %b", b"Cookie: sid=%b", b"X-Api-Key: %b", b"api-key: %b"),
        *(b"x-goog-api-key: %b", b"OpenAI-Organization: %b", b"X-Forwarded-User: %b"),
        *(b"xi-api-key: %b", b"cf-aig-authorization: %b", b"x-portkey-virtual-key: %b"),
    )

    def test_bound(self) -> None:
        """An answer is for the credential that brought it.  RFC 9111 3.5."""
        self.start(cache=keeping())
        self.ask_post(reply=answer(b"Cache-Control: private", content=b"nobody's"))
        for field in self.CREDENTIALS:
            one, two = (field % name for name in (b"one", b"two"))
            for mine in (one, two):
                told = self.ask_post(mine, reply=answer(b"Cache-Control: private", content=mine))
                self.assertEqual(STORED, told.cache)
            for mine in (one, two):
                self.assertEqual(mine, self.have(mine).content)
        self.assertEqual(b"nobody's", self.have().content)

    def test_shared(self) -> None:
        """Where the operator says so, all have it, but what is said to be for one."""
        self.start(cache=keeping(shared=True))
        for field in self.CREDENTIALS:
            content = b'{"input":"%b"}' % field
            private = answer(b"Cache-Control: private")
            told = self.ask_post(field % b"one", content=content, reply=private)
            self.assertEqual(b"fwd=uri-miss; fwd-status=200; detail=private", told.cache)
            self.ask_post(field % b"one", content=content)
            self.assertEqual(HIT, self.have(field % b"two", content=content).cache)
            self.assertEqual(HIT, self.have(content=content).cache)

    def test_no_more_shared(self) -> None:
        """After a reload nobody gets what was stored while all shared."""
        self.start(cache=keeping(shared=True, ignore=("/user",)))
        self.ask_post(b"Authorization: Bearer one", content=b'{"user":"one"}')
        self.assertEqual(HIT, self.have(content=b"{}").cache)
        self.take(caching(cache=keeping(ignore=("/user",))))
        self.assertEqual(STORED, self.ask_post(content=b"{}").cache)
        self.take(caching(cache=keeping(shared=True)))
        self.assertEqual(STORED, self.ask_post(content=b"{}").cache)

    def test_other_terms(self) -> None:
        """Two routes to one upstream share what they have the same terms for."""
        configs = [caching(cache=keeping(shared=shared)) for shared in (True, True, False)]
        self.start(together(*configs))
        self.ask_post(b"X-Api-Key: one")
        self.assertEqual(HIT, self.have(target=b"/1/").cache)
        self.assertEqual(STORED, self.ask_post(target=b"/2/").cache)

    def test_injected(self) -> None:
        """Who asks with another credential of the operator's shares nothing."""
        configs = [
            caching(
                cache=keeping(shared=True),
                request_rules=FieldRules(((b"Authorization", b"Bearer " + key),)),
            )
            for key in (b"sk-one", b"sk-two", b"sk-one")
        ]
        self.start(together(*configs))
        self.ask_post()
        self.assertEqual(STORED, self.ask_post(target=b"/1/").cache)
        self.assertEqual(HIT, self.have(target=b"/2/").cache)

    def test_injected_and_bound(self) -> None:
        """The operator's key goes to the upstream, and clients do not share all the same."""
        rules = FieldRules(((b"Authorization", b"Bearer sk-operator"),))
        self.start(cache=keeping(), request_rules=rules)
        self.ask_post(b"Authorization: Bearer one")
        self.assertEqual(STORED, self.ask_post(b"Authorization: Bearer two").cache)
        self.assertEqual(HIT, self.have(b"Authorization: Bearer one").cache)

    def test_cookies(self) -> None:
        """A cookie is for who was given it, and never kept.  RFC 6265 3."""
        for shared in (False, True):
            self.start(cache=keeping(shared=shared))
            one, two = self.client(post()), self.client(post())
            self.answer(answer(COOKIE, b"set-cookie2: x", content=b"one"))
            first, second = read(one.take()), read(two.take())
            self.assertEqual(b"sid=1", first.fields[b"set-cookie"])
            for told in (second, self.have()):
                self.assertEqual(b"one", told.content)
                self.assertFalse({b"set-cookie", b"set-cookie2"} & set(told.fields))


class NotKeptTests(PostTestCase):
    """What is not stored."""

    def test_answers(self) -> None:
        """Errors, what shall not be stored, what varies by anything, streams without a word."""
        self.start(cache=keeping())
        stream = b"Content-Type: text/event-stream"
        for reply, why in (
            (answer(FRESH, status=b"500 No"), b"500; detail=status"),
            (answer(FRESH, status=b"429 No"), b"429; detail=status"),
            (answer(FRESH, status=b"400 No"), b"400; detail=status"),
            (answer(FRESH, status=b"201 Made"), b"201; detail=status"),
            (answer(b"Cache-Control: no-store"), b"200; detail=no-store"),
            (answer(b"Vary: *"), b"200; detail=vary"),
            (answer(stream), b"200; detail=event-stream"),
        ):
            for _ in range(2):
                self.assertEqual(
                    b"fwd=uri-miss; fwd-status=" + why, self.ask_post(reply=reply).cache
                )
        self.assertEqual(0, self.entries)

    def test_asked(self) -> None:
        """A client that does not want it stored; what is stored may serve it.  RFC 9111 5.2.1.5."""
        self.start(cache=keeping())
        told = self.ask_post(b"Cache-Control: no-store")
        self.assertEqual(b"fwd=uri-miss; fwd-status=200; detail=no-store-asked", told.cache)
        self.assertEqual(STORED, self.ask_post().cache)
        self.assertEqual(HIT, self.have(b"Cache-Control: no-store").cache)

    def test_broken_off(self) -> None:
        """What breaks off is not stored, and the client is told."""
        self.start(cache=keeping())
        client = self.client(post())
        upstream, _ = self.question()
        self.deliver(upstream, response(b"Content-Length: 9", content=b"half"))
        self.leave(upstream)
        self.assertIsNotNone(client.lost)
        self.assertEqual(0, self.entries)
        self.assertEqual(STORED, self.ask_post().cache)

    def test_no_upstream(self) -> None:
        """When no answer comes, all who wait are told, and it is asked for anew."""
        self.start(cache=keeping())
        clients = [self.client(post()), self.client(post())]
        upstream, _ = self.question()
        self.leave(upstream)
        self.assertEqual([502, 502], [read(client.take()).status for client in clients])
        self.assertEqual(STORED, self.ask_post().cache)


class WishesTests(PostTestCase):
    """What clients ask of the cache."""

    def test_no_cache(self) -> None:
        """It is asked anew, and what comes takes the place of what was stored."""
        self.start(cache=keeping())
        self.ask_post()
        for field in (b"Cache-Control: no-cache", b"Pragma: no-cache", b"Cache-Control: max-age=0"):
            self.wait(1)
            new = self.ask_post(field, reply=answer(content=field))
            self.assertEqual(b"fwd=request; fwd-status=200; stored; detail=post", new.cache)
            self.assertEqual((field, HIT), (self.have().content, self.have().cache))
            self.assertEqual(1, self.entries)

    def test_not_replaced(self) -> None:
        """An error in place of an answer leaves what is stored."""
        self.start(cache=keeping())
        self.ask_post()
        told = self.ask_post(b"Cache-Control: no-cache", reply=answer(status=b"503 No"))
        self.assertEqual(503, told.status)
        self.assertEqual(b"one", self.have().content)

    def test_only_if_cached(self) -> None:
        """What is stored, or 504.  RFC 9111 5.2.1.7."""
        self.start(cache=keeping())
        told = self.have(b"Cache-Control: only-if-cached")
        self.assertEqual((504, b"detail=only-if-cached"), (told.status, told.cache))
        self.ask_post()
        self.assertEqual(HIT, self.have(b"Cache-Control: only-if-cached").cache)

    def test_stale(self) -> None:
        """Nothing stale is served, whoever would take it: its lifetime is the operator's."""
        self.start(cache=keeping())
        generous = b"Cache-Control: max-age=9, stale-if-error=99, stale-while-revalidate=99"
        self.ask_post(reply=answer(generous, b'ETag: "x"'))
        self.wait(61)
        client = self.client(post(ASKED, b"Cache-Control: max-stale, stale-if-error=99"))
        sent = self.answer(answer(status=b"500 No"))
        self.assertNotIn(b"If-None-Match", sent)
        self.assertEqual(500, read(client.take()).status)


class OneForManyTests(PostTestCase):
    """One question to the upstream for all who ask the same meanwhile."""

    COLLAPSED = b"fwd=uri-miss; fwd-status=200; collapsed"

    def test_one(self) -> None:
        """All get the one answer."""
        self.start(cache=keeping())
        clients = [self.client(post()) for _ in range(5)]
        self.answer(answer(content=b"one"))
        told = [read(client.take()) for client in clients]
        self.assertEqual([b"one"] * 5, [one.content for one in told])
        self.assertEqual([STORED, *[self.COLLAPSED] * 4], [one.cache for one in told])

    def test_not_another(self) -> None:
        """Who asks with another credential, or something else, asks for itself."""
        self.start(cache=keeping())
        self.client(post())
        self.client(post(ASKED, b"X-Api-Key: two"))
        self.client(post(b"{}"))
        self.assert_asked(3)

    def test_first_leaves(self) -> None:
        """The upstream goes on to be asked for the others, with the whole content."""
        self.start(cache=keeping())
        first, second = self.client(post()), self.client(post())
        self.leave(first)
        self.assertTrue(self.answer(answer(content=b"one")).endswith(ASKED))
        self.assertEqual(b"one", read(second.take()).content)

    def test_not_for_all(self) -> None:
        """What is not stored is for who asked first; the others ask, each with its content."""
        self.start(cache=keeping())
        clients = [self.client(post()) for _ in range(3)]
        self.answer(answer(status=b"429 No"))
        self.assertEqual(429, read(clients[0].take()).status)
        self.assert_asked(2)
        for upstream in self.questions:
            self.assertTrue(upstream.take().endswith(b"\r\n\r\n" + ASKED))
            self.deliver(upstream, answer(content=b"own"))
        self.assertEqual([b"own"] * 2, [read(one.take()).content for one in clients[1:]])

    def test_all_leave(self) -> None:
        """Nobody is asked for nobody."""
        self.start(cache=keeping())
        clients = [self.client(post()) for _ in range(3)]
        upstream, _ = self.question()
        for client in clients:
            self.leave(client)
        self.assertIsNotNone(upstream.lost)
        self.assertEqual([], self.fetches)


class ReadingTests(PostTestCase):
    """The content is read first."""

    def test_cut_off(self) -> None:
        """An upload that ends too early asks nothing, and leaves nothing."""
        self.start(cache=keeping())
        for cut in (1, len(ASKED) - 1):
            client = self.client(post()[:-cut])
            self.leave(client)
            self.assert_asked(0)
        self.assertEqual(0, self.proxy._sweeper.watched)
        self.assertEqual(([], []), (self.network.opened, self.fetches))

    def test_slow(self) -> None:
        """An upload in which nothing moves ends as every other does."""
        self.start(cache=keeping(), limits=Limits(upload=3, first_byte=30))
        client = self.client(post()[:-1])
        self.wait(2)
        self.assertEqual(b"", client.take())
        self.wait(4)
        self.assertEqual(408, read(client.take()).status)
        self.assert_asked(0)

    def test_slow_but_moving(self) -> None:
        """One in which something moves goes on, however long it takes all together."""
        self.start(cache=keeping(), limits=Limits(upload=3, first_byte=3))
        octets = post(b"12345")
        client = self.client(octets[:-5])
        for octet in octets[-5:]:
            self.wait(2)
            self.deliver(client, bytes([octet]))
        self.answer(answer(content=b"one"))
        self.assertEqual(b"one", read(client.take()).content)

    def test_too_large(self) -> None:
        """The route's bound for content is above all."""
        self.start(cache=keeping(), limits=Limits(max_content=5))
        self.assertEqual(413, self.have(content=b"123456").status)

    def test_while_it_is_looked_up(self) -> None:
        """A proxy that ends takes no harm from an upload that has only begun."""
        self.start(cache=keeping())
        client = self.client(post()[:-1])
        self.assertIsNone(client.lost)

    def test_fails(self) -> None:
        """What fails while it is looked up is logged, and the client is told."""
        self.start(cache=keeping())
        self.cache.store = cast(Store, Broken())
        self.assertEqual(500, self.have().status)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class InvalidationTests(PostTestCase):
    """A POST that was answered changes what GET has.  RFC 9111 4.4."""

    def test_get(self) -> None:
        """GET of the same URL is asked anew, once the upstream has answered a POST."""
        self.start(cache=keeping())
        for reply, changes in ((answer(status=b"500 No"), False), (answer(), True)):
            self.ask(answer(FRESH, content=b"get"), b"Cache-Control: no-cache")
            self.assertEqual(b"get", self.get().content)
            self.ask_post(reply=reply)
            if changes:
                self.assertEqual(b"new", self.ask(answer(FRESH, content=b"new")).content)
            else:
                self.assertEqual(b"get", self.get().content)

    def test_location(self) -> None:
        """What the answer names is asked anew too."""
        self.start(cache=keeping())
        self.ask(answer(FRESH), target=b"/made")
        self.ask_post(reply=answer(b"Content-Location: /made"))
        self.ask(answer(FRESH), target=b"/made")

    def test_hit(self) -> None:
        """An answer out of the store changes nothing, and no answer to POST goes."""
        self.start(cache=keeping())
        self.ask_post()
        self.ask_post(content=b"{}")
        self.ask(answer(FRESH, content=b"get"))
        self.assertEqual([HIT, HIT], [self.have().cache, self.have(content=b"{}").cache])
        self.assertEqual(b"get", self.get().content)

    def test_get_is_another(self) -> None:
        """GET and POST of one URL have nothing of each other."""
        self.start(cache=keeping())
        client = self.client(request(b"POST / HTTP/1.1"))
        self.answer(answer(FRESH, content=b"post"))
        self.leave(client)
        self.assertEqual(b"get", self.ask(answer(FRESH, content=b"get")).content)


class SeamTests(CacheTestCase):
    """What stands in for the parts of an exchange."""

    def test_interfaces(self) -> None:
        """Content that is there is a producer; a reading is a consumer, and can be paused."""
        self.assertTrue(verifyObject(IBodyProducer, Held(b"x")))
        reading = Reading(object(), lambda octets: None)  # type: ignore[arg-type]
        self.assertTrue(verifyObject(IConsumer, reading))
        self.assertTrue(verifyObject(IPushProducer, reading.source))
        self.assertEqual(0, reading.unsent())

    def test_producer(self) -> None:
        """It has a producer from the beginning."""
        reading = Reading(object(), lambda octets: None)  # type: ignore[arg-type]
        with self.assertRaises(NotImplementedError):
            reading.registerProducer(None, True)
        with self.assertRaises(NotImplementedError):
            reading.unregisterProducer()

    def test_held(self) -> None:
        """Content that is there is written at once, as often as it is asked for."""
        held, taken = Held(b"octets"), Taken()
        for _ in range(2):
            done: Deferred[None] = held.startProducing(taken)  # type: ignore[arg-type]
            self.successResultOf(done)
            held.pauseProducing()
            held.resumeProducing()
            held.stopProducing()
        self.assertEqual([b"octets"] * 2, taken.octets)
        self.assertEqual(6, held.length)


class Broken:
    """A store that fails."""

    def find(self, key: bytes, found: object) -> None:
        """Fail."""
        raise ZeroDivisionError

    def close(self) -> None:
        """There is nothing."""


class Taken:
    """Takes what is written."""

    def __init__(self) -> None:
        self.octets: list[bytes] = []

    def write(self, octets: bytes) -> None:
        """Take octets."""
        self.octets.append(octets)
