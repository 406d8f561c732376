"""A route that caches, as its clients and its upstream see it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import threading
import time

from tests.live.caches import CacheTestCase, fresh, is_hit, page, pages, told
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
from tests.live.websocket import open_pair, read_frame, text

AGO = b"Wed, 01 Jan 2020 00:00:00 GMT"


def digest(client: RawClient) -> bytes:
    """Read a response, which nobody could hold; return the SHA-256 of its content."""
    found = hashlib.sha256()
    head = client.read_head()
    if head.chunked:
        while octets := client.read_chunk():
            found.update(octets)
        client.read_trailers()
    else:
        left = int(head.value(b"content-length") or b"0")
        while left > 0:
            octets = client.read_some()
            found.update(octets)
            left -= len(octets) or left
    return found.digest()


class KeepingTests(CacheTestCase):
    """What is kept, and served again."""

    def test_hit(self) -> None:
        """What may be kept is asked for once, and comes with its age (RFC 9111 4, 5.1)."""
        self.upstream.script = answer(fresh(b"content", b'ETag: "e"', b"X-Mine: yes"))
        first = self.get()
        self.assertEqual("fwd=uri-miss; fwd-status=200; stored", told(first))
        self.assertIsNone(first.value(b"age"))
        for _ in range(3):
            again = self.assert_kept()
            self.assertEqual((200, b"content"), (again.status, again.body))
            self.assertRegex(told(again), r"\Ahit; ttl=\d\d\Z")
            self.assertRegex((again.value(b"age") or b"").decode(), r"\A\d\Z")
            for name in (b"etag", b"x-mine", b"cache-control", b"content-length"):
                self.assertEqual(first.value(name), again.value(name), name)
            self.assertIsNotNone(again.value(b"date"))
        self.assertEqual(1, self.asked())

    def test_stream_of_a_miss(self) -> None:
        """A response that is being stored comes as it would without a cache: at once."""
        goes_on = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n")
            wire.send(b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b"first"))
            self.assertTrue(goes_on.wait(PATIENCE))
            wire.send(chunk(b"second") + LAST_CHUNK)

        self.upstream.script = script
        with self.proxy.client() as client:
            client.send(request(b"GET %b HTTP/1.1" % self.page))
            self.assertEqual(200, client.read_head().status)
            self.assertEqual(b"first", client.read_chunk())
            goes_on.set()
            self.assertEqual(([b"second"], ()), client.read_chunks())
        again = self.assert_kept()
        self.assertEqual((b"11", b"firstsecond"), (again.value(b"content-length"), again.body))

    def test_not_kept(self) -> None:
        """Nothing is kept that does not say so, or forbids it (RFC 9111 3)."""
        for fields in (
            (),
            (b"Cache-Control: no-store, max-age=60",),
            (b"Cache-Control: private, max-age=60",),
            (b"Cache-Control: max-age=60", b"Vary: *"),
            (b"Last-Modified: " + AGO,),
        ):
            with self.subTest(fields):
                target = b"%b/%d" % (self.page, hash(fields) & 0xFFFF)
                self.upstream.script = answer(page(b"x", *fields))
                for _ in range(2):
                    response = self.assert_asks(target=target)
                    self.assertNotIn("stored", told(response))

    def test_broken_content(self) -> None:
        """What breaks off reaches the client as far as it came, and is not kept (RFC 9111 3.3)."""
        for framing, octets in (
            (b"Content-Length: 10", b"half"),
            (b"Transfer-Encoding: chunked", chunk(b"half")),
        ):
            with self.subTest(framing):

                def script(wire: Wire, framing: bytes = framing, octets: bytes = octets) -> None:
                    wire.read_head()
                    wire.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n")
                    wire.send(framing + b"\r\n\r\n" + octets)
                    wire.close()

                self.upstream.script = script
                with self.assertRaises(Closed) as broken:
                    self.get()
                self.assertIn(b"half", broken.exception.octets or b"half")
                self.upstream.script = answer(page(b"whole"))
                self.assertEqual(b"whole", self.assert_asks().body)

    def test_until_close(self) -> None:
        """A response that ends with its connection is whole then, and is kept."""

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.0 200 OK\r\nCache-Control: max-age=60\r\n\r\nall of it")
            wire.close()

        self.upstream.script = script
        self.assertEqual(b"all of it", self.get().body)
        self.assertEqual(b"all of it", self.assert_kept().body)

    def test_event_stream(self) -> None:
        """Events come one by one, and are not kept whatever they say."""
        goes_on = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n")
            wire.send(b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for event in (b"data: 1\n\n", b"data: 2\n\n"):
                wire.send(chunk(event))
                self.assertTrue(goes_on.wait(PATIENCE))
            wire.send(LAST_CHUNK)

        self.upstream.script = script
        for _ in range(2):
            goes_on.clear()
            with self.proxy.client() as client:
                client.send(request(b"GET %b HTTP/1.1" % self.page))
                (said,) = client.read_head().values(b"cache-status")
                self.assertIn(b"detail=event-stream", said)
                self.assertEqual(b"data: 1\n\n", client.read_chunk())
                goes_on.set()
                self.assertEqual(([b"data: 2\n\n"], ()), client.read_chunks())
        self.assertEqual(2, self.asked())

    def test_websocket(self) -> None:
        """A WebSocket passes a route that caches."""
        with open_pair(self.proxy, self.upstream, target=self.page) as pair:
            pair.client.send(text(b"hello").masked().octets)
            self.assertEqual(b"hello", read_frame(pair.upstream).payload)
            pair.upstream.send(text(b"back").octets)
            self.assertEqual(b"back", read_frame(pair.client).payload)

    def test_sizes(self) -> None:
        """Contents of every size come back as they were."""
        for size in (0, 1, 65535, 65536, 65537, 3 * MIB + 17):
            with self.subTest(size):
                content = bytes(range(251)) * (size // 251 + 1)
                content = content[:size]
                target = b"%b/%d" % (self.page, size)
                self.upstream.script = answer(fresh(content))
                self.assertTrue(self.get(target).body == content)
                self.assertTrue(self.assert_kept(target=target).body == content)
                self.assertTrue(self.assert_kept(target=target).body == content)

    def test_large(self) -> None:
        """10 MiB and 100 MiB are more than one entry may have; they flow and are not kept."""
        block = bytes(range(256)) * 256
        for count, length in ((10, True), (10, False), (100, True), (100, False)):
            with self.subTest(count=count, length=length):

                def script(wire: Wire, count: int = count, length: bool = length) -> None:
                    wire.read_head()
                    wire.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n")
                    if length:
                        wire.send(b"Content-Length: %d\r\n\r\n" % (count * MIB))
                    else:
                        wire.send(b"Transfer-Encoding: chunked\r\n\r\n")
                    for _ in range(16 * count):
                        wire.send(block if length else chunk(block))
                    if not length:
                        wire.send(LAST_CHUNK)

                self.upstream.script = script
                target = b"%b/%d/%d" % (self.page, count, length)
                expected = hashlib.sha256(block * 16 * count).digest()
                before = self.proxy.rss()
                self.proxy.reset_peak()
                for asked in (1, 2):
                    with self.proxy.client() as client:
                        client.send(request(b"GET %b HTTP/1.1" % target))
                        self.assertEqual(expected, digest(client))
                    self.assertEqual(asked, self.asked())
                self.upstream.forget()
                # Without a length up to ``entry``, 8 MiB, may have been kept for a while.
                self.assertLess(self.proxy.peak_rss() - before, 24 * MIB)

    def test_access_log(self) -> None:
        """A hit has a line like any other request, with its status and its length."""
        self.upstream.script = answer(fresh(b"content"))
        self.get()
        self.assert_kept()
        self.assert_kept()
        line = re.escape(f'"GET {self.page.decode()} HTTP/1.1" 200 7 "-" "-" ') + r"0\.\d{3}\n"
        found = eventually(lambda: len(re.findall(line, self.log())) == 3)
        self.assertTrue(found, self.log())

    def test_kept_connection(self) -> None:
        """Hits and misses follow each other on one connection, also when they come at once."""
        self.upstream.script = answer(fresh(b"kept"))
        self.get()
        other = self.page + b"/other"
        with self.proxy.client() as client:
            lines = (self.page, other, self.page, self.page, other)
            client.send(b"".join(request(b"GET %b HTTP/1.1" % line) for line in lines))
            said = [told(client.read_response()).split(";")[0] for _ in lines]
        self.assertEqual(["hit", "fwd=uri-miss", "hit", "hit", "hit"], said)


class AskingTests(CacheTestCase):
    """Requests that want something else than the whole."""

    def setUp(self) -> None:
        """Have something stored."""
        super().setUp()
        self.content = bytes(range(256)) * 512
        fields = (b'ETag: "tag"', b"Last-Modified: " + AGO, b"Content-Type: image/png")
        self.upstream.script = answer(fresh(self.content, *fields))
        self.get()

    def test_head(self) -> None:
        """A stored response answers HEAD, with the same fields and without content."""
        response = self.get(method=b"HEAD")
        self.assertTrue(is_hit(response))
        self.assertEqual(b"%d" % len(self.content), response.value(b"content-length"))
        self.assertEqual(1, self.asked())

    def test_head_of_nothing(self) -> None:
        """HEAD for what is not stored passes, and is not stored."""
        other = self.page + b"/other"
        for _ in range(2):
            self.assertEqual("fwd=uri-miss; fwd-status=200", told(self.get(other, method=b"HEAD")))
        self.assertEqual(self.content, self.assert_asks(target=other).body)

    def test_range(self) -> None:
        """A stored response answers for each of its parts (RFC 9110 14)."""
        length = len(self.content)
        for said, start, end in (
            (b"0-0", 0, 1),
            (b"100-199", 100, 200),
            (b"65530-65545", 65530, 65546),
            (b"131000-", 131000, length),
            (b"-5", length - 5, length),
            (b"0-999999999", 0, length),
        ):
            with self.subTest(said):
                response = self.assert_kept(b"Range: bytes=" + said)
                self.assertEqual((206, self.content[start:end]), (response.status, response.body))
                told_range = b"bytes %d-%d/%d" % (start, end - 1, length)
                self.assertEqual(told_range, response.value(b"content-range"))
        beyond = self.assert_kept(b"Range: bytes=131072-")
        self.assertEqual((416, b"bytes */131072"), (beyond.status, beyond.value(b"content-range")))

    def test_if_range(self) -> None:
        """A part of another representation is not mixed in (RFC 9110 13.1.5)."""
        asks = b"Range: bytes=0-9"
        self.assertEqual(206, self.assert_kept(asks, b'If-Range: "tag"').status)
        self.assertEqual(200, self.assert_kept(asks, b'If-Range: "other"').status)
        self.assertEqual(200, self.assert_kept(asks, b'If-Range: W/"tag"').status)

    def test_several_ranges(self) -> None:
        """Several ranges at once are the upstream's to answer."""
        self.upstream.script = answer(page(b"parts", status=b"206 Partial Content"))
        response = self.assert_asks(b"Range: bytes=0-1,5-6")
        self.assertEqual((206, b"parts"), (response.status, response.body))
        self.assertTrue(told(response).startswith("fwd=partial"))
        self.assertEqual(self.content, self.assert_kept().body)

    def test_curl(self) -> None:
        """Curl takes a download up where it has stopped."""
        url = f"http://127.0.0.1:{self.proxy.port}{self.page.decode()}"
        command = ["curl", "-s", "-S", "--max-time", "10", "-H", "Host: front.example"]
        for span, expected in (("1000-1999", self.content[1000:2000]), ("-7", self.content[-7:])):
            done = subprocess.run([*command, "-r", span, url], capture_output=True, check=True)
            self.assertEqual(expected, done.stdout)
        done = subprocess.run([*command, "-C", "131000", url], capture_output=True, check=True)
        self.assertEqual(self.content[131000:], done.stdout)
        self.assertEqual(1, self.asked())

    def test_range_of_nothing(self) -> None:
        """A part that the upstream sends is not stored, neither as a part nor as the whole."""
        other = self.page + b"/other"
        part = page(
            b"0123",
            b"Cache-Control: max-age=60",
            b"Content-Range: bytes 0-3/10",
            status=b"206 Partial Content",
        )
        self.upstream.script = answer(part)
        for _ in range(2):
            self.assertEqual(206, self.assert_asks(b"Range: bytes=0-3", target=other).status)
        self.upstream.script = answer(fresh(b"0123456789"))
        self.assertEqual(b"0123456789", self.assert_asks(target=other).body)
        self.assertEqual(b"0123456789", self.assert_kept(target=other).body)

    def test_conditions(self) -> None:
        """Who has it already is told so (RFC 9111 4.3.2)."""
        for condition in (
            b'If-None-Match: "tag"',
            b'If-None-Match: "a", W/"tag"',
            b"If-None-Match: *",
            b"If-Modified-Since: " + AGO,
        ):
            with self.subTest(condition):
                response = self.assert_kept(condition)
                self.assertEqual((304, b'"tag"'), (response.status, response.value(b"etag")))
        self.assertEqual(200, self.assert_kept(b'If-None-Match: "other"').status)

    def test_guard(self) -> None:
        """Preconditions that only the origin may evaluate go there (RFC 9110 13.1.1)."""
        self.upstream.script = answer(page(b"no", status=b"412 Precondition Failed"))
        self.assertEqual(412, self.assert_asks(b'If-Match: "other"').status)
        self.assert_kept()

    def test_only_if_cached(self) -> None:
        """Nobody is asked for who wants what is stored only (RFC 9111 5.2.1.7)."""
        only = b"Cache-Control: only-if-cached"
        self.assert_kept(only)
        other = self.get(self.page + b"/other", only)
        self.assertEqual((504, "detail=only-if-cached"), (other.status, told(other)))
        self.assertEqual(1, self.asked())

    def test_no_cache(self) -> None:
        """A client that wants it from the origin gets it from there (RFC 9111 5.2.1.4)."""
        self.upstream.script = answer(fresh(b"new"))
        for wish in (b"Cache-Control: no-cache", b"Pragma: no-cache", b"Cache-Control: max-age=0"):
            self.assertEqual(b"new", self.assert_asks(wish).body)
        self.assertEqual(b"new", self.assert_kept().body)

    def test_unsafe(self) -> None:
        """An unsafe request that did something lets go of what is stored (RFC 9111 4.4)."""
        self.upstream.script = answer(page(b"no", status=b"403 Forbidden"))
        self.assertEqual("fwd=method; fwd-status=403", told(self.get(method=b"DELETE")))
        self.assert_kept()
        self.upstream.script = answer(fresh(b"new"))
        self.get(method=b"POST")
        self.assertEqual(b"new", self.assert_asks().body)


class AgingTests(CacheTestCase):
    """What is stored and stale."""

    def test_validation(self) -> None:
        """What is stale is asked about; a 304 makes it fresh, with the fields of it."""
        stale = page(b"content", b"Cache-Control: max-age=0", b'ETag: "a"', b"X-Seen: 1")
        said = (b'ETag: "a"', b"Cache-Control: max-age=60", b"X-Seen: 2")
        news = b"\r\n".join([b"HTTP/1.1 304 Not Modified", *said, b"", b""])
        self.upstream.script = pages([stale, news])
        self.get()
        second = self.get()
        self.assertEqual((200, b"content"), (second.status, second.body))
        self.assertEqual("fwd=stale; fwd-status=304; stored", told(second))
        self.assertEqual(b"2", second.value(b"x-seen"))
        self.assertEqual([b'"a"'], self.upstream.requests[1].values(b"if-none-match"))
        self.assertEqual(b"2", self.assert_kept().value(b"x-seen"))

    def test_validation_fails(self) -> None:
        """Another representation takes the place of what is stale."""
        stale = page(b"old", b"Cache-Control: no-cache", b"Last-Modified: " + AGO)
        self.upstream.script = pages([stale, fresh(b"new")])
        self.get()
        second = self.get()
        self.assertEqual((b"new", "fwd=stale; fwd-status=200; stored"), (second.body, told(second)))
        self.assertEqual([AGO], self.upstream.requests[1].values(b"if-modified-since"))
        self.assertEqual(b"new", self.assert_kept().body)

    def test_condition_of_a_client(self) -> None:
        """A client's condition is answered by what a validation has confirmed."""
        stale = page(b"content", b"Cache-Control: max-age=0", b'ETag: "a"')
        news = b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n'
        self.upstream.script = pages([stale, news, news])
        self.get()
        self.assertEqual(200, self.get(None, b'If-None-Match: "other"').status)
        self.assertEqual(304, self.get(None, b'If-None-Match: "a"').status)
        self.assertEqual([b'"a"'], self.upstream.requests[1].values(b"if-none-match"))

    def test_stale_while_revalidate(self) -> None:
        """What is stale is served at once, and asked about behind that (RFC 5861 3)."""
        window = b"Cache-Control: max-age=0, stale-while-revalidate=60"
        self.upstream.script = answer(page(b"old", window))
        self.get()
        goes_on = threading.Event()

        def script(wire: Wire) -> None:
            wire.read_head()
            self.assertTrue(goes_on.wait(PATIENCE))
            wire.send(fresh(b"new"))

        self.upstream.script = script
        for _ in range(5):
            response = self.get()
            self.assertEqual(b"old", response.body)
            self.assertRegex(told(response), r"\Ahit; ttl=-?\d+\Z")
        goes_on.set()
        self.assertTrue(eventually(lambda: self.get().body == b"new"))
        self.assertEqual(2, self.asked())

    def test_stale_while_revalidate_goes_wrong(self) -> None:
        """An error behind a stale response reaches nobody, and the next asks again."""
        window = b"Cache-Control: max-age=0, stale-while-revalidate=60"
        self.upstream.script = answer(page(b"old", window))
        self.get()

        def script(wire: Wire) -> None:
            wire.read_head()
            wire.close()

        self.upstream.script = script
        for _ in range(3):
            self.upstream.heads.clear()
            self.assertEqual(b"old", self.get().body)
            self.assertTrue(eventually(self.asked))
        self.upstream.script = answer(fresh(b"new"))
        self.assertTrue(eventually(lambda: self.get().body == b"new"))

    def test_stale_if_error(self) -> None:
        """Errors, and no response at all, are covered where that is allowed (RFC 5861 4)."""
        window = b"Cache-Control: max-age=0, stale-if-error=60"
        self.upstream.script = answer(page(b"old", window, b'ETag: "a"'))
        self.get()
        self.upstream.script = answer(page(b"trouble", status=b"503 Service Unavailable"))
        self.assertEqual((200, b"old"), (self.get().status, self.get().body))

        def gone(wire: Wire) -> None:
            wire.read_head()
            wire.close()

        self.upstream.script = gone
        covered = self.get()
        self.assertEqual((200, b"old"), (covered.status, covered.body))
        self.assertTrue(told(covered))

    def test_no_stale_for_must_revalidate(self) -> None:
        """What must be validated is not served when it cannot be (RFC 9111 5.2.2.2)."""
        said = b"Cache-Control: max-age=0, must-revalidate, stale-if-error=60"
        self.upstream.script = answer(page(b"old", said, b'ETag: "a"'))
        self.get()

        def gone(wire: Wire) -> None:
            wire.read_head()
            wire.close()

        self.upstream.script = gone
        response = self.get()
        self.assertEqual((502, "fwd=stale"), (response.status, told(response)))

    def test_expiry(self) -> None:
        """After its time it is asked for again, and not before."""
        self.upstream.script = answer(page(b"ok", b"Cache-Control: max-age=1"))
        first = time.monotonic()
        self.get()
        asked = self.asked()
        self.assertTrue(eventually(lambda: self.get() and self.asked() > asked))
        # Ages count in whole seconds of a clock that may have been read just before the request.
        self.assertGreater(time.monotonic() - first, 0.9)

    def test_vary(self) -> None:
        """Variants are kept side by side (RFC 9111 4.1)."""

        def script(wire: Wire) -> None:
            head = wire.read_head()
            language = head.value(b"accept-language") or b"none"
            wire.send(fresh(language, b"Vary: Accept-Language"))

        self.upstream.script = script
        for language in (b"de", b"en", b"fr"):
            self.assertEqual(language, self.assert_asks(b"Accept-Language: " + language).body)
        self.assertEqual(b"none", self.assert_asks().body)
        for language in (b"de", b"en", b"fr"):
            self.assertEqual(language, self.assert_kept(b"Accept-Language: " + language).body)
        self.assertEqual(b"none", self.assert_kept().body)
        miss = self.get(None, b"Accept-Language: it")
        self.assertEqual("fwd=vary-miss; fwd-status=200; stored", told(miss))
