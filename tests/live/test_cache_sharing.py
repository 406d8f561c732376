"""Many clients at once: one question for all, each at its own pace."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.live.caches import (
    CacheFileTestCase,
    CacheTestCase,
    Crowd,
    fresh,
    is_hit,
    page,
    told,
    whole,
)
from tests.live.kit import (
    LAST_CHUNK,
    MIB,
    PATIENCE,
    Closed,
    RawClient,
    Wire,
    answer,
    chunk,
    eventually,
    request,
)

BLOCK = bytes(range(256)) * 256
"""64 KiB."""


class Gate:
    """An upstream's script that sends one response in parts, each when it is told to."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts
        self._steps = threading.Semaphore(0)
        self.gone = threading.Event()

    def step(self, count: int = 1) -> None:
        """Let more parts go."""
        self._steps.release(count)

    def __call__(self, wire: Wire) -> None:
        """Send them; set ``gone`` if nobody wants the rest."""
        wire.read_head()
        for part in self._parts:
            while not self._steps.acquire(timeout=0.02):
                if wire.readable(0):
                    self.gone.set()
                    wire.close()
                    return
            try:
                wire.send(part)
            except Closed:
                self.gone.set()
                return


def head(*fields: bytes) -> bytes:
    """Return the head of a response that may be kept."""
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Cache-Control: max-age=60", *fields, b"", b""])


class ManyTests(CacheFileTestCase):
    """A thousand clients."""

    CLIENTS = 1000
    GROWS = 32 * MIB
    """Octets by which the proxy may grow for all of them and what they get."""

    def test_one_for_many(self) -> None:
        """1,000 clients ask for 1 MiB: the upstream is asked once, and the proxy stays small."""
        content = BLOCK * 16
        gate = Gate(head(b"Content-Length: %d" % MIB), content[: MIB // 2], content[MIB // 2 :])
        self.write()
        proxy = self.start()
        self.upstream.script = answer(fresh(BLOCK))
        for _ in range(20):
            self.get(b"/warm")
        self.upstream.script = gate
        with Crowd(proxy.port, self.CLIENTS) as crowd:
            before = proxy.rss()
            proxy.reset_peak()
            crowd.send(request(b"GET /one HTTP/1.1"))
            # They are all there when somebody who came later is answered.
            self.assertTrue(is_hit(self.get(b"/warm")))
            gate.step(2)
            crowd.read(lambda got: len(got) > MIB // 2)
            gate.step()
            crowd.read(whole)
            grown = proxy.peak_rss() - before
            for got in crowd.got:
                self.assertTrue(got.endswith(content) and got.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertEqual(1, [asked.target for asked in self.upstream.requests].count(b"/one"))
        self.assertLess(grown, self.GROWS)
        figures = self.route()
        self.assertEqual(self.CLIENTS - 1, figures["collapsed"])
        self.assertTrue(is_hit(self.get(b"/one")))

    def test_many_slow(self) -> None:
        """1,000 clients that read nothing of 1 MiB that is stored hold no copy of it each."""
        self.write()
        proxy = self.start()
        self.upstream.script = answer(fresh(BLOCK * 16))
        for _ in range(3):
            self.get()
        before = proxy.rss()
        with Crowd(proxy.port, self.CLIENTS, receive_buffer=65536) as crowd:
            crowd.send(request())
            crowd.read(lambda got: len(got) > 0)
            self.assertTrue(is_hit(self.get()))
            self.assertLess(proxy.rss() - before, self.GROWS)
            crowd.read(whole)
            for got in crowd.got:
                self.assertTrue(got.endswith(BLOCK))
        self.assertEqual(1, len(self.upstream.heads))


class SharingTests(CacheTestCase):
    """Clients that share one fetch."""

    def setUp(self) -> None:
        """Have clients that are closed at the end."""
        super().setUp()
        self.clients = self.enterContext(ExitStack())

    def client(self, *fields: bytes, receive_buffer: int | None = None) -> RawClient:
        """Ask for the test's page."""
        client = self.clients.enter_context(self.proxy.client(receive_buffer=receive_buffer))
        client.send(request(b"GET %b HTTP/1.1" % self.page, *fields))
        return client

    @contextmanager
    def gate(self, *parts: bytes) -> Iterator[Gate]:
        """Let the upstream send parts."""
        gate = Gate(*parts)
        self.upstream.script = gate
        try:
            yield gate
        finally:
            gate.step(100)

    def settle(self) -> None:
        """Wait until the proxy has seen what was sent to it."""
        for _ in range(3):
            self.proxy.ask(request(b"GET / HTTP/1.1", b"Cache-Control: only-if-cached"))

    def test_statuses(self) -> None:
        """Cache-Status says who has asked and who has waited (RFC 9211)."""
        with self.gate(fresh(b"for all")) as gate:
            clients = [self.client()]
            self.assertTrue(eventually(lambda: self.asked() == 1))
            clients += [self.client() for _ in range(5)]
            self.settle()
            gate.step()
            responses = [client.read_response() for client in clients]
        self.assertEqual(1, self.asked())
        self.assertEqual({b"for all"}, {response.body for response in responses})
        self.assertEqual("fwd=uri-miss; fwd-status=200; stored", told(responses[0]))
        for response in responses[1:]:
            self.assertEqual("fwd=uri-miss; fwd-status=200; collapsed", told(response))

    def test_late(self) -> None:
        """Who comes in the middle gets all of it, from its beginning."""
        with self.gate(head(b"Content-Length: 10"), b"01234", b"56789") as gate:
            first = self.client()
            gate.step(2)
            self.assertEqual(200, first.read_head().status)
            self.assertEqual(b"01234", first.read_exactly(5))
            second = self.client()
            self.assertEqual(200, second.read_head().status)
            self.assertEqual(b"01234", second.read_exactly(5))
            gate.step()
            self.assertEqual(b"56789", first.read_exactly(5))
            self.assertEqual(b"56789", second.read_exactly(5))
        self.assertEqual(1, self.asked())

    def test_slow(self) -> None:
        """A client that reads nothing slows neither the others nor the upstream."""
        content = BLOCK * 64
        with self.gate(head(b"Content-Length: %d" % len(content)), content) as gate:
            slow = self.client(receive_buffer=4096)
            gate.step()
            slow.read_head()
            others = [self.client() for _ in range(3)]
            gate.step()
            for other in others:
                self.assertTrue(other.read_response().body == content)
            self.assertTrue(self.assert_kept().body == content)
            self.assertTrue(slow.read_exactly(len(content)) == content)
        self.assertEqual(1, self.asked())

    def test_slow_beyond_the_bound(self) -> None:
        """Of what outgrows ``entry`` a client that lags too far behind the others is broken off."""
        block = chunk(BLOCK)
        with self.gate(head(b"Transfer-Encoding: chunked"), *[block * 16] * 20, LAST_CHUNK) as gate:
            slow = self.client(receive_buffer=4096)
            gate.step()
            slow.read_head()
            quick = self.client()
            gate.step(21)
            self.assertEqual(20 * MIB, len(b"".join(read_chunks(quick))))
            with self.assertRaises(Closed):
                for _ in read_chunks(slow):
                    pass
        self.assertFalse(is_hit(self.get(self.page, b"Cache-Control: only-if-cached")))

    def test_alone_beyond_the_bound(self) -> None:
        """Who reads alone what outgrows ``entry`` paces the upstream, as without a cache."""
        sent = []

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(head(b"Transfer-Encoding: chunked"))
            sent.append(wire.send_until_blocked(chunk(BLOCK), 64 * MIB, 1.0))

        self.upstream.script = script
        before = self.proxy.rss()
        self.client(receive_buffer=4096).read_head()
        self.assertTrue(eventually(lambda: sent, 30.0))
        # ``entry`` is 8 MiB; the kernel's buffers take the rest.
        self.assertLess(sent[0], 24 * MIB)
        self.assertLess(self.proxy.rss() - before, 16 * MIB)

    def test_leaving(self) -> None:
        """Who has asked first may leave: the others get their response."""
        with self.gate(head(b"Content-Length: 10"), b"01234", b"56789") as gate:
            first = self.client()
            self.assertTrue(eventually(lambda: self.asked() == 1))
            others = [self.client() for _ in range(2)]
            self.settle()
            first.reset()
            self.settle()
            gate.step(2)
            self.assertEqual(200, others[0].read_head().status)
            others[0].reset()
            self.settle()
            gate.step()
            self.assertEqual(b"0123456789", others[1].read_response().body)
            self.assertFalse(gate.gone.is_set())
        self.assertEqual(1, self.asked())
        self.assert_kept()

    def test_all_leave(self) -> None:
        """When all have left the fetch ends, and nothing is kept of it."""
        for parts in (0, 2):
            with (
                self.subTest(parts),
                self.gate(head(b"Content-Length: 10"), b"01234", b"56789") as gate,
            ):
                clients = [self.client() for _ in range(3)]
                if parts:
                    gate.step(parts)
                    for client in clients:
                        client.read_head()
                else:
                    self.settle()
                for client in clients:
                    client.reset()
                self.assertTrue(gate.gone.wait(PATIENCE))
        self.upstream.script = answer(fresh(b"anew"))
        self.assertEqual(b"anew", self.assert_asks().body)

    def test_not_for_all(self) -> None:
        """What may not be shared goes to who asked; the others ask for themselves, and at once."""
        mine = page(b"mine", b"Cache-Control: private, max-age=60")
        with self.gate(mine) as gate:
            clients = [self.client()]
            self.assertTrue(eventually(lambda: self.asked() == 1))
            clients += [self.client() for _ in range(4)]
            self.settle()
            self.assertEqual(1, self.asked())
            gate.step()
            self.assertEqual(b"mine", clients[0].read_response().body)
            self.assertTrue(eventually(lambda: self.asked() == 5))
            gate.step(4)
            for client in clients[1:]:
                self.assertEqual(b"mine", client.read_response().body)
            # It is known now: nobody waits for anybody.
            clients = [self.client() for _ in range(3)]
            self.assertTrue(eventually(lambda: self.asked() == 8))

    def test_other_variant(self) -> None:
        """Who is not served by what somebody else's question brought asks for itself."""

        def script(wire: Wire) -> None:
            asked = wire.read_head()
            self.go.wait(PATIENCE)
            wire.send(fresh(asked.value(b"accept-language") or b"", b"Vary: Accept-Language"))

        self.go = threading.Event()
        self.upstream.script = script
        first = self.client(b"Accept-Language: de")
        self.assertTrue(eventually(lambda: self.asked() == 1))
        others = [self.client(b"Accept-Language: " + name) for name in (b"de", b"en", b"fr")]
        self.settle()
        self.go.set()
        self.assertEqual(b"de", first.read_response().body)
        self.assertEqual([b"de", b"en", b"fr"], [one.read_response().body for one in others])
        self.assertEqual(3, self.asked())

    def test_no_response(self) -> None:
        """All who wait are told that there is none."""

        def script(wire: Wire) -> None:
            wire.read_head()
            self.go.wait(PATIENCE)
            wire.close()

        self.go = threading.Event()
        self.upstream.script = script
        clients = [self.client() for _ in range(3)]
        self.assertTrue(eventually(lambda: self.asked() == 1))
        self.settle()
        self.go.set()
        for client in clients:
            self.assertEqual(502, client.read_response().status)

    def test_broken_content(self) -> None:
        """All who read are told that the content is broken off."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(head(b"Content-Length: 10") + b"half")
            self.go.wait(PATIENCE)
            wire.close()

        self.go = threading.Event()
        self.upstream.script = script
        clients = [self.client() for _ in range(3)]
        for client in clients:
            client.read_head()
            self.assertEqual(b"half", client.read_exactly(4))
        self.go.set()
        for client in clients:
            with self.assertRaises(Closed):
                client.read_exactly(6)
        self.assertEqual(1, self.asked())


class FinishTests(SharingTests):
    """A route that finishes what nobody waits for any more; all else is as before."""

    policy = "{ finish = true }"

    def test_all_leave(self) -> None:
        """It is fetched to its end and kept."""
        with self.gate(head(b"Content-Length: 10"), b"01234", b"56789") as gate:
            client = self.client()
            gate.step(2)
            client.read_head()
            client.reset()
            self.settle()
            gate.step()
        self.assertTrue(eventually(lambda: is_hit(self.get())))
        self.assertFalse(gate.gone.is_set())
        self.assertEqual(b"0123456789", self.assert_kept().body)
        self.assertEqual(1, self.asked())

    def test_all_leave_before_the_head(self) -> None:
        """It does not matter how far it was."""
        with self.gate(fresh(b"late")) as gate:
            client = self.client()
            self.assertTrue(eventually(lambda: self.asked() == 1))
            client.reset()
            self.settle()
            gate.step()
            self.assertTrue(eventually(lambda: is_hit(self.get())))
        self.assertEqual(1, self.asked())


def read_chunks(client: RawClient) -> Iterator[bytes]:
    """Give the chunks of a response as they come."""
    client.read_head()
    while octets := client.read_chunk():
        yield octets
    client.read_trailers()
