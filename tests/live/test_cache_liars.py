"""Upstreams that lie to a cache, and clients that want too much of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tests.live.caches import (
    CacheFileTestCase,
    CacheTestCase,
    Crowd,
    echo,
    fresh,
    is_hit,
    page,
    pages,
    told,
)
from tests.live.kit import (
    LAST_CHUNK,
    MIB,
    Closed,
    Proxy,
    RawClient,
    Wire,
    answer,
    chunk,
    eventually,
    request,
)

FLAT = 4.0
"""How much more than at the beginning a request may cost later, on a busy machine."""


def cpu_seconds(proxy: Proxy) -> float:
    """Return how long a process has run; other processes do not count."""
    text = Path(f"/proc/{proxy.pid}/schedstat").read_text()
    return int(text.split()[0]) / 1e9


class LiarTests(CacheTestCase):
    """What an upstream says does not hold, or is too much."""

    def test_too_short(self) -> None:
        """A length that is less than what comes: nobody gets more, and nothing else is mixed up."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(fresh(b"01234") + b"56789" + fresh(b"evil"))

        self.upstream.script = script
        self.assertEqual(b"01234", self.get().body)
        self.upstream.script = answer(fresh(b"other"))
        self.assertEqual(b"other", self.get(self.page + b"/other").body)
        self.assertEqual(b"01234", self.get().body)

    def test_too_long(self) -> None:
        """A length that is more than what comes: it is broken off, and not kept."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(fresh(b"0123456789")[:-5])
            wire.close()

        self.upstream.script = script
        with self.assertRaises(Closed):
            self.get()
        self.upstream.script = answer(fresh(b"whole"))
        self.assertEqual(b"whole", self.assert_asks().body)

    def test_second_response(self) -> None:
        """A response that nobody asked for is not kept as the answer to the next request."""
        self.upstream.script = answer(fresh(b"first") + fresh(b"evil"))
        self.get()
        self.upstream.script = answer(fresh(b"clean"))
        self.assertEqual(b"clean", self.assert_asks(target=self.page + b"/next").body)

    def test_304_of_nothing(self) -> None:
        """A 304 to a request without a condition is not kept, and makes nothing fresh."""
        news = b'HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\nETag: "x"\r\n\r\n'
        self.upstream.script = answer(news)
        self.assertIn(self.get().status, (304, 502))
        self.upstream.script = answer(fresh(b"clean"))
        self.assertEqual(b"clean", self.assert_asks().body)

    def test_304_of_another(self) -> None:
        """A 304 about another representation does not end in a loop."""
        stale = page(b"old", b"Cache-Control: no-cache", b'ETag: "a"')
        other = b'HTTP/1.1 304 Not Modified\r\nETag: "b"\r\n\r\n'
        self.upstream.script = pages([stale, other, *[fresh(b"new")] * 2])
        self.get()
        self.assertIn(self.get().body, (b"old", b"new"))
        self.assertLessEqual(self.asked(), 3)

    def test_304_that_makes_private(self) -> None:
        """A 304 may take back what was for all."""
        stale = page(b"mine", b"Cache-Control: max-age=0", b'ETag: "a"')
        news = b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nCache-Control: private\r\n\r\n'
        self.upstream.script = pages([stale, news, page(b"other")])
        self.get()
        self.assertEqual(b"mine", self.get().body)
        self.assertEqual(b"other", self.assert_asks().body)

    def test_ages(self) -> None:
        """An age that cannot be makes nothing fresher than it is (RFC 9111 5.1)."""
        for age in (b"9" * 30, b"100", b"-1000", b"abc", b"1e9", b"0x10", b"", b"100, 0"):
            with self.subTest(age):
                self.page += b"x"
                self.upstream.script = answer(fresh(b"ok", b"Age: " + age))
                self.get()
                response = self.get()
                if is_hit(response):
                    self.assertGreaterEqual(int(response.value(b"age") or b"-1"), 0)
                    left = re.search(r"ttl=(\d+)", told(response))
                    assert left is not None
                    self.assertLessEqual(int(left[1]), 60)

    def test_dates(self) -> None:
        """Nor does a date of the future, or one that is none."""
        for date in (
            b"Fri, 31 Dec 9999 23:59:59 GMT",
            b"Thu, 01 Jan 1970 00:00:00 GMT",
            b"yesterday",
            b"",
            b"Mon, 99 Foo 2026 99:99:99 GMT",
        ):
            with self.subTest(date):
                self.page += b"x"
                self.upstream.script = answer(fresh(b"ok", b"Date: " + date))
                self.get()
                response = self.get()
                self.assertEqual(200, response.status)
                if is_hit(response):
                    left = re.search(r"ttl=(\d+)", told(response))
                    assert left is not None
                    self.assertLessEqual(int(left[1]), 60)

    def test_lifetimes(self) -> None:
        """Lifetimes that cannot be read, or contradict, are none; long ones are bounded."""
        for said, hit in (
            (b"max-age=" + b"9" * 1000, True),
            (b"max-age=-1", False),
            (b"max-age=1.5", False),
            (b"max-age=abc", False),
            (b"max-age=0, max-age=60", False),
            (b"max-age=60, s-maxage=0", False),
            (b'max-age="60"', True),
            (b"max-age =60", False),
        ):
            with self.subTest(said[:30]):
                self.page += b"x"
                self.upstream.script = answer(page(b"ok", b"Cache-Control: " + said))
                self.get()
                self.assertEqual(hit, is_hit(self.get()))

    def test_long_fields(self) -> None:
        """Fields of any length that fits into a head are stored or not; the next is served."""
        for field in (
            b"Cache-Control: max-age=60, " + b"x=y, " * 11_000,
            b'Cache-Control: max-age=60, x="' + b"\\" * 60_000,
            b"Cache-Control: " + b"," * 60_000,
            b"Cache-Tag: " + b",".join(b"t%d" % number for number in range(10_000)),
            b"Vary: " + b", ".join(b"X-%d" % number for number in range(5000)),
            b'ETag: "' + b"e" * 60_000 + b'"',
            b"CDN-Cache-Control: " + b'a=(1 2);b="c", ' * 3500,
            b"Age: " + b"1, " * 20_000,
            b"Expires: " + b"x" * 60_000,
            b"Set-Cookie: " + b"c" * 60_000,
        ):
            with self.subTest(field[:20]):
                self.page += b"x"
                self.upstream.script = answer(fresh(b"ok", field))
                before = cpu_seconds(self.proxy)
                for _ in range(3):
                    response = self.get()
                    self.assertEqual((200, b"ok"), (response.status, response.body))
                # It takes milliseconds; what is not linear takes minutes.
                self.assertLess(cpu_seconds(self.proxy) - before, 5.0)

    def test_too_long_a_head(self) -> None:
        """A head that is too long is an error, not kept; nobody reads one that has no end."""
        for field in (b"Cache-Control: " + b"x" * 200_000, b"Cache-Tag: " + b"t," * 100_000):
            self.upstream.script = answer(fresh(b"ok", field))
            self.assertEqual(502, self.get().status)
        self.upstream.script = answer(fresh(b"ok", *[b"X-%d: y" % n for n in range(20_000)]))
        self.assertEqual(502, self.get().status)
        sent = []

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\n")
            try:
                for number in range(1_000_000):
                    sent.append(number)
                    wire.send(b"X-%d: %b\r\n" % (number, b"y" * 1000))
            except Closed:
                return

        self.upstream.script = script
        self.assertEqual(502, self.get().status)
        self.assertLess(len(sent), 50_000)
        self.upstream.script = answer(fresh(b"clean"))
        self.assertEqual(b"clean", self.assert_asks().body)

    def test_many_tags(self) -> None:
        """A page is found by each of the tags that are known of it."""
        tags = b",".join(b"t%d" % number for number in range(5000))
        self.upstream.script = answer(fresh(b"ok", b"Cache-Tag: " + tags))
        self.get()
        self.assert_kept()

    def test_endless_chunks(self) -> None:
        """Chunks of one octet are stored as what they say."""
        content = bytes(range(256)) * 40
        octets = b"".join(chunk(bytes([octet])) for octet in content) + LAST_CHUNK
        begun = (
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        self.upstream.script = answer(begun + octets)
        self.assertEqual(content, self.get().body)
        self.assertEqual(content, self.assert_kept().body)

    def test_trailers(self) -> None:
        """Trailers are not merged into the fields that are stored (RFC 9110 6.5.1)."""
        begun = (
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        trailers = b"Cache-Control: max-age=999\r\nSet-Cookie: a=b\r\nX-Late: yes\r\n\r\n"
        self.upstream.script = answer(begun + chunk(b"ok") + b"0\r\n" + trailers)
        self.get()
        kept = self.assert_kept()
        self.assertEqual([b"max-age=60"], kept.head.values(b"cache-control"))
        self.assertEqual([], kept.head.values(b"set-cookie"))


class BoundTests(CacheFileTestCase):
    """However many there are, memory stays in its bound and a request costs as much as before."""

    def ask_all(self, client: RawClient, targets: Iterable[bytes], *fields: bytes) -> None:
        """Ask for pages, fifty at a time."""
        batch: list[bytes] = []
        for target in targets:
            batch.append(request(b"GET %b HTTP/1.1" % target, *fields))
            if len(batch) == 50:
                self.exchange(client, batch)
                batch = []
        self.exchange(client, batch)

    def exchange(self, client: RawClient, batch: list[bytes]) -> None:
        """Send requests at once, read their responses."""
        client.send(b"".join(batch))
        for _ in batch:
            self.assertEqual(200, client.read_response().status)

    def cost(self, client: RawClient, targets: Iterable[bytes]) -> float:
        """Return the CPU seconds that the proxy needs to answer."""
        before = cpu_seconds(self.proxy)
        self.ask_all(client, targets)
        return cpu_seconds(self.proxy) - before

    def test_many_urls(self) -> None:
        """20,000 long URLs of one beginning: the bound holds, the last cost as much as the first.

        Keys with one hash cannot be made: octets are hashed with a secret of the process.
        """
        self.upstream.script = answer(fresh(b"x" * 200))
        self.write('memory = "24m"\nentry = "1m"')
        proxy = self.start()
        stem = b"/" + b"a" * 1000 + b"/"
        with proxy.client() as client:
            self.ask_all(client, [b"/warm/%d" % number for number in range(500)])
            before = proxy.rss()
            costs = [
                self.cost(client, [stem + b"%d" % (number + first) for number in range(2000)])
                for first in range(0, 20_000, 2000)
            ]
            hits = [
                self.cost(client, [stem + b"%d" % number] * 500)
                for number in (19_999, 19_500, 19_000)
            ]
        self.assertLess(costs[-1], FLAT * costs[0], costs)
        self.assertLess(max(hits) / 500, FLAT * costs[0] / 2000, (hits, costs))
        store = self.tell()["store"]
        self.assertLessEqual(store["bytes"], 24 * MIB)
        self.assertGreater(store["evicted"], 1000)
        # The bound counts octets.  Keys of more than 512 leave holes in the C library's heap, which
        # are half as much again; shorter ones leave none.
        self.assertLess(proxy.rss() - before, 2 * 24 * MIB)

    def test_many_contents(self) -> None:
        """10,000 pages of 8 KiB in 4 MiB."""
        self.upstream.script = echo(lambda head: fresh(head.target * (8192 // len(head.target))))
        self.write('memory = "4m"\nentry = "1m"')
        proxy = self.start()
        with proxy.client() as client:
            self.ask_all(client, [b"/warm/%d" % number for number in range(500)])
            before = proxy.rss()
            self.ask_all(client, [b"/%d" % number for number in range(10_000)])
        self.assertLessEqual(self.tell()["store"]["bytes"], 4 * MIB)
        self.assertLess(proxy.rss() - before, 8 * MIB)
        self.assertIn(b"/77", self.get(b"/77").body)

    def test_variants(self) -> None:
        """2,000 values of a field that ``Vary`` names: 64 are kept, and each costs as the first."""
        self.upstream.script = echo(lambda head: fresh(b"x" * 1000, b"Vary: X-Any"))
        self.write()
        proxy = self.start()

        def ask(first: int) -> float:
            before = cpu_seconds(proxy)
            line = b"GET /page HTTP/1.1"
            batch = [request(line, b"X-Any: %d" % (first + number)) for number in range(50)]
            with proxy.client() as client:
                for octets in batch:
                    self.exchange(client, [octets])
            return cpu_seconds(proxy) - before

        for number in (1, 2):
            ask(100_000 * number)
        costs = [ask(first) for first in range(0, 2000, 50)]
        self.assertLessEqual(self.tell()["store"]["entries"], 64)
        self.assertLess(sum(costs[-5:]), FLAT * sum(costs[:5]), costs)

    def test_variants_by_name(self) -> None:
        """A response that names another field each time does not add up either."""
        numbers = iter(range(100_000))
        self.upstream.script = echo(lambda head: fresh(b"ok", b"Vary: X-%d" % next(numbers)))
        self.write()
        proxy = self.start()
        with proxy.client() as client:
            for _ in range(500):
                octets = request(b"GET /page HTTP/1.1", b"Cache-Control: no-cache")
                self.exchange(client, [octets])
        self.assertLessEqual(self.tell()["store"]["entries"], 64)

    def test_long_vary(self) -> None:
        """500 names in ``Vary``, and a client that sends them all."""
        names = [b"X-%d" % number for number in range(500)]
        self.upstream.script = answer(fresh(b"ok", b"Vary: " + b", ".join(names)))
        self.write()
        proxy = self.start()
        with proxy.client() as client:
            plain = self.cost(client, [b"/page"] * 200)
            before = cpu_seconds(proxy)
            self.ask_all(client, [b"/page"] * 50, *[name + b": y" for name in names[:100]])
            full = cpu_seconds(proxy) - before
        self.assertLess(plain, 10.0)
        self.assertLess(full, 10.0)

    def test_leaving_at_once(self) -> None:
        """1,000 requests whose clients leave at once leave nothing behind."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.wait_closed()
            wire.close()

        self.upstream.script = script
        self.write()
        proxy = self.start()
        sockets = proxy.open_sockets()
        for kind in (b"same", b"%d"):
            for begin in range(0, 500, 100):
                clients = [proxy.client() for _ in range(100)]
                for number, client in enumerate(clients, begin):
                    target = b"/" + (kind % number if b"%" in kind else kind)
                    client.send(request(b"GET %b HTTP/1.1" % target))
                for client in clients:
                    client.reset()
        self.assertTrue(eventually(lambda: proxy.open_sockets() <= sockets + 1))
        self.upstream.script = answer(fresh(b"ok"))
        self.assertEqual(b"ok", self.get(b"/same").body)
        self.assertTrue(is_hit(self.get(b"/same")))
        store = self.tell()["store"]
        self.assertEqual(1, store["entries"])
        self.assertLess(store["bytes"], 10_000)

    def test_leaving_in_the_middle(self) -> None:
        """Nor do those that leave while content comes: what was reserved for it is given back."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 500000\r\n")
            wire.send(b"\r\n" + b"x" * 400_000)
            wire.wait_closed()
            wire.close()

        self.upstream.script = script
        self.write('memory = "4m"\nentry = "1m"')
        proxy = self.start()
        for number in range(60):
            with proxy.client() as client:
                client.send(request(b"GET /%d HTTP/1.1" % number))
                client.read_head()
                client.discard(100_000)
                client.reset()
        self.assertTrue(eventually(lambda: self.tell()["store"]["bytes"] == 0), self.tell())

    def test_readers_of_what_is_gone(self) -> None:
        """Slow readers of pages that were evicted meanwhile get them whole."""
        self.upstream.script = echo(lambda head: fresh(head.target[:2] * 200_000))
        self.write('memory = "1m"\nentry = "1m"')
        proxy = self.start()
        clients = []
        for number in range(20):
            target = b"/%c" % (97 + number)
            self.get(target)
            client = self.enterContext(proxy.client(receive_buffer=4096))
            client.send(request(b"GET %b HTTP/1.1" % target))
            client.read_head()
            clients.append((client, target))
        self.assertTrue(eventually(lambda: self.tell()["store"]["bytes"] <= MIB))
        for client, target in clients:
            self.assertTrue(client.read_exactly(400_000) == target * 200_000)

    def test_heads_between(self) -> None:
        """HEAD and GET of what is stored, in any order on one connection, keep their framing."""
        self.upstream.script = pages({b"/a": fresh(b"a" * 100_000), b"/b": fresh(b"b")})
        self.write()
        proxy = self.start()
        methods = (b"HEAD", b"GET", b"GET", b"HEAD", b"HEAD", b"GET")
        with proxy.client() as client:
            for target, content in (
                (b"/a", b"a" * 100_000),
                (b"/b", b"b"),
                (b"/a", b"a" * 100_000),
            ):
                client.send(b"".join(request(b"%b %b HTTP/1.1" % (m, target)) for m in methods))
                for method in methods:
                    response = client.read_response(method)
                    self.assertEqual(b"%d" % len(content), response.value(b"content-length"))
                    self.assertTrue(response.body == (b"" if method == b"HEAD" else content))

    def test_one_for_many_leaving(self) -> None:
        """Half of a crowd leaves while all wait for the same; the others are served."""
        self.upstream.script = answer(fresh(b"x" * 100_000))
        self.write()
        proxy = self.start()
        with Crowd(proxy.port, 300) as crowd, Crowd(proxy.port, 300) as leaving:
            for one in (leaving, crowd):
                one.send(request(b"GET /page HTTP/1.1"))
            for sock in leaving.socks:
                sock.close()
            crowd.read(lambda got: len(got) > 100_000)
        self.assertLessEqual(len(self.upstream.heads), 2)
        self.assertTrue(is_hit(self.get(b"/page")))
