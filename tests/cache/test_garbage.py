"""What a request at the cache made is free as soon as it ends: docs/adr/0007 says what it costs."""

from __future__ import annotations

from collections.abc import Callable

from tests.cache.kit import FRESH, CacheTestCase, answer, asked
from tests.memory import MemoryTransport, response
from tests.test_budget import left_over


class GarbageTests(CacheTestCase):
    """Only the collector of cycles frees what refers to itself: nothing may."""

    def exchange(self, octets: bytes, *answers: bytes, before: bytes = b"") -> Callable[[], None]:
        """Return what makes an exchange; the connections are there already."""
        self.start()
        self.proxy.site.logs = False
        client = self.client(asked(target=b"/first"))
        self.answer(answer(FRESH))
        client.take()
        if before:
            self.deliver(client, asked())
            self.answer(before)
            client.take()
            self.wait(5.0)
        upstream: MemoryTransport = self.open[0]

        def work() -> None:
            client.deliver(octets)
            for one in answers:
                upstream.deliver(one)
            upstream.clear()
            self.assertTrue(client.value())
            client.clear()

        return work

    def test_kinds(self) -> None:
        """Hits, misses, what is not stored, what is validated."""
        first = asked(target=b"/first")
        chunked = response(FRESH, b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n"
        unchanged = response(FRESH, status_line=b"HTTP/1.1 304 Not Modified")
        stale = answer(b"Cache-Control: max-age=1", b'ETag: "1"')
        behind = answer(b"Cache-Control: max-age=1, stale-while-revalidate=600", b'ETag: "1"')
        on_error = answer(b"Cache-Control: max-age=1, stale-if-error=600")
        for name, octets, answers, before in (
            ("hit", first, (), b""),
            ("hit, the long way", asked(b"Range: bytes=1-2", target=b"/first"), (), b""),
            ("miss", asked(), (answer(FRESH),), b""),
            ("miss in parts", asked(), (answer(FRESH)[:-2], b"lo"), b""),
            ("miss in chunks", asked(), (chunked,), b""),
            ("not stored", asked(), (answer(),), b""),
            ("passed", asked(method=b"OPTIONS"), (answer(),), b""),
            ("unsafe", asked(method=b"DELETE"), (answer(),), b""),
            ("validated", asked(), (unchanged,), stale),
            ("replaced", asked(), (answer(FRESH),), stale),
            ("behind", asked(), (unchanged,), behind),
            ("on error", asked(), (answer(status=b"503 Away"),), on_error),
        ):
            with self.subTest(name):
                work = self.exchange(octets, *answers, before=before)
                self.assertEqual(0, left_over(work), name)
