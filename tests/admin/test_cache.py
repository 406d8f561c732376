"""The cache at the admin site."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher

from pyproxy.admin.cache import EXTRA
from pyproxy.admin.channel import MAX_CONTENT
from pyproxy.life.desk import ASK_LIMIT, PURGE_LIMIT, NobodyAnswers
from tests.admin.kit import AdminTestCase
from tests.cache_desk import desk_of
from tests.demo.kit import Answer

URLS = ("http://h/a", "http://h/b", "http://i/a")
JSON = "Content-Type: application/json"
ENTRIES = "/api/cache/entries"
PURGE = "/api/cache/purge"


class CacheTestCase(AdminTestCase):
    """A case with a site and a cache with three entries."""

    def setUp(self) -> None:
        """Have a cache."""
        super().setUp()
        self.desk = desk_of(*URLS)
        self.served.desk = self.desk

    def purge(self, what: Any, *lines: str, **more: Any) -> Answer:
        """Ask for a purge."""
        content = what if isinstance(what, bytes) else json.dumps(what).encode()
        return self.ask("POST", PURGE, *(lines or (JSON,)), content=content, **more)


class FiguresTests(CacheTestCase):
    """``/api/cache``."""

    def test_figures(self) -> None:
        """They are the desk's own."""
        answer = self.ask("GET", "/api/cache")
        self.assertEqual((200, self.desk.counts()), (answer.status, answer.json))
        self.assertEqual("application/json", answer.field("Content-Type"))
        self.assertTrue(answer.content.endswith(b"\n"))

    def test_head(self) -> None:
        """HEAD gets the fields that GET gets, and nothing behind them."""
        got, connection = self.ask("GET", "/api/cache"), self.connect()
        head = connection.ask("HEAD", "/api/cache")
        self.assertEqual((got.status, got.fields), (head.status, head.fields))
        self.assertTrue(connection.transport.value().endswith(b"\r\n\r\n"))

    def test_no_cache(self) -> None:
        """Without one it is 404, and how there would be one."""
        self.served.desk = None
        for answer in (
            self.ask("GET", "/api/cache"),
            self.ask("GET", f"{ENTRIES}?tag=a"),
            self.purge({"tag": "a"}),
        ):
            self.assertEqual(404, answer.status)
            self.assertIn("cache = true", answer.json["detail"])


class EntriesTests(CacheTestCase):
    """``/api/cache/entries``."""

    def urls(self, query: str) -> list[str]:
        """Return the URLs of the entries that are found."""
        answer = self.ask("GET", f"{ENTRIES}?{query}")
        self.assertEqual(200, answer.status, answer.content)
        return [entry["url"] for entry in answer.json["entries"]]

    def test_found(self) -> None:
        """By URL, by what it begins with, by tag; as many as are wanted."""
        self.assertEqual(["http://h/a"], self.urls(f"url={quote('http://h/a', safe='')}"))
        self.assertEqual(["http://h/a", "http://h/b"], self.urls("prefix=http://h/"))
        self.assertEqual(["http://h/a", "http://i/a"], self.urls("tag=a"))
        self.assertEqual(["http://h/a"], self.urls("tag=a&limit=1"))
        self.assertEqual([], self.urls("tag=z"))

    def test_odd_urls(self) -> None:
        """Whatever a URL holds, it is found by its octets, percent-encoded."""
        odd = "http://h/a%20b;c?d=e&f=+g"
        self.desk.stored[odd] = ()
        self.assertEqual([odd], self.urls(f"url={quote(odd, safe='')}"))

    def test_wrong(self) -> None:
        """What cannot be asked is 400, with what would be right."""
        for query, right in (
            ("", "exactly one of url, prefix and tag"),
            ("url=a&tag=b", "exactly one of"),
            ("url=a&url=b", "url stands there twice"),
            ("url=", "url is empty"),
            ("key=a", "exactly one of"),
            ("&".join(f"a{number}=b" for number in range(20)), "exactly one of"),
            ("url=a&limit=0", "a number from 1 to 1000"),
            ("url=a&limit=1001", "a number from 1 to 1000"),
            ("url=a&limit=-1", "a number from 1 to 1000"),
            ("url=a&limit=" + "9" * 5000, "a number from 1 to 1000"),
        ):
            answer = self.ask("GET", f"{ENTRIES}?{query}")
            self.assertEqual(400, answer.status, query)
            self.assertIn(right, answer.json["detail"])

    def test_secrets(self) -> None:
        """What looks like a credential is masked, wherever it stands."""
        self.condition.config = attrs.evolve(
            self.condition.config,
            routes=(attrs.evolve(self.condition.config.routes[0], secrets=(b"sekret",)),),
        )
        self.desk.stored["http://h/c?api_key=very-secret"] = ("sekret", "plain")
        (entry,) = self.ask("GET", f"{ENTRIES}?tag=plain").json["entries"]
        self.assertEqual("http://h/c?api_key=***", entry["url"])
        self.assertEqual([["Cache-Tag", "***,plain"]], entry["fields"])


class PurgeTests(CacheTestCase):
    """``/api/cache/purge``."""

    def test_purge(self) -> None:
        """By URL, by what it begins with, by tag; how many there were is answered."""
        for what, count, left in (
            ({"url": "http://h/b"}, 1, {"http://h/a", "http://i/a"}),
            ({"prefix": "http://h/"}, 1, {"http://i/a"}),
            ({"tag": "a"}, 1, set()),
            ({"tag": "a"}, 0, set()),
        ):
            answer = self.purge(what)
            self.assertEqual((200, {"purged": count}), (answer.status, answer.json))
            self.assertEqual(left, set(self.desk.stored))

    def test_charset(self) -> None:
        """JSON may be declared with a parameter."""
        line = "Content-Type: Application/JSON; charset=utf-8"
        self.assertEqual({"purged": 2}, self.purge({"tag": "a"}, line).json)

    def test_wrong(self) -> None:
        """What cannot be asked is refused, and nothing is purged."""
        wrong: tuple[Any, ...] = (
            b"",
            b"{",
            b"[" * 30_000,
            b"[]",
            b"\xff",
            {},
            [],
            "http://h/a",
            {"url": "http://h/a", "tag": "a"},
            {"urls": ["http://h/a"]},
            {"url": ["http://h/a"]},
            {"url": ""},
            {"url": None},
            b'{"url": "\\ud800"}',
        )
        for content in wrong:
            answer = self.purge(content)
            self.assertEqual(400, answer.status, content)
            self.assertIn("exactly one of url, prefix and tag", answer.json["detail"])
        self.assertEqual(3, len(self.desk.stored))

    def test_too_long(self) -> None:
        """Content is kept up to a bound; the connection serves on."""
        connection = self.connect()
        for length, status in ((MAX_CONTENT, 200), (MAX_CONTENT + 1, 413), (10 * MAX_CONTENT, 413)):
            content = json.dumps({"url": "x"}).encode().ljust(length)
            self.assertEqual(status, connection.ask("POST", PURGE, JSON, content=content).status)

    def test_not_json(self) -> None:
        """A form is refused: any page could send it."""
        for line in ("X-A: b", "Content-Type: text/plain", "Content-Type: multipart/form-data"):
            self.assertEqual(415, self.purge({"tag": "a"}, line).status)
        self.assertEqual(3, len(self.desk.stored))

    def test_foreign_pages(self) -> None:
        """A page of another site purges nothing, nor does one by another name."""
        for lines, host, status in (
            ((JSON, "Origin: https://evil.example"), "127.0.0.1:9000", 403),
            ((JSON, "Origin: null"), "127.0.0.1:9000", 403),
            ((JSON, "Sec-Fetch-Site: cross-site"), "127.0.0.1:9000", 403),
            ((JSON,), "evil.example", 421),
        ):
            self.assertEqual(status, self.purge({"tag": "a"}, *lines, host=host).status)
        self.assertEqual(3, len(self.desk.stored))

    def test_methods(self) -> None:
        """It goes with POST alone; what is only read goes with GET and HEAD."""
        for path, methods, allowed in (
            (PURGE, ("GET", "HEAD", "DELETE", "OPTIONS"), "POST"),
            (ENTRIES, ("POST", "DELETE", "OPTIONS"), "GET, HEAD"),
            ("/api/cache", ("POST", "DELETE", "OPTIONS"), "GET, HEAD"),
        ):
            for method in methods:
                answer = self.ask(method, path)
                self.assertEqual((405, allowed), (answer.status, answer.field("Allow")))


class LaterTests(CacheTestCase):
    """Answers that come later, or not at all."""

    def setUp(self) -> None:
        """Have a cache that takes its time, and hear the log."""
        super().setUp()
        self.desk.hold = Deferred()
        self.events = EventLoggingObserver.createWithCleanup(
            self,  # type: ignore[arg-type]
            globalLogPublisher,
        )

    def test_later(self) -> None:
        """What comes later is answered then."""
        connection = self.connect()
        connection.send(b"GET /api/cache/entries?tag=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual(b"", connection.transport.value())
        assert self.desk.hold is not None
        self.desk.hold.callback([])
        self.assertTrue(connection.transport.value().startswith(b"HTTP/1.1 200 "))
        self.assertEqual(200, connection.ask("GET", "/healthz").status)

    def test_too_late(self) -> None:
        """A cache that does not answer is 504 in time."""
        content = b'{"tag": "a"}'
        length = f"Content-Length: {len(content)}\r\n".encode()
        for request, limit in (
            (b"GET /api/cache/entries?tag=a HTTP/1.1\r\nHost: localhost\r\n\r\n", ASK_LIMIT),
            (
                b"POST /api/cache/purge HTTP/1.1\r\nHost: localhost\r\n"
                + f"{JSON}\r\n".encode()
                + length
                + b"\r\n"
                + content,
                PURGE_LIMIT,
            ),
        ):
            self.desk.hold = Deferred()
            connection = self.connect()
            connection.send(request)
            self.clock.advance(limit + EXTRA - 0.1)
            self.assertEqual(b"", connection.transport.value())
            self.clock.advance(0.2)
            self.assertTrue(connection.transport.value().startswith(b"HTTP/1.1 504 "))

    def test_client_leaves(self) -> None:
        """Nobody is answered who has left, and nothing is logged of it."""
        connection = self.connect()
        connection.send(b"GET /api/cache/entries?tag=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.leave()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual([], list(self.events))

    def test_failure(self) -> None:
        """A cache that fails is 500, and a line in the log."""
        self.desk.hold, self.desk.error = None, KeyError("a")
        self.assertEqual(500, self.ask("GET", f"{ENTRIES}?tag=a").status)
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))

    def test_nobody(self) -> None:
        """Where no process answers it is 503, and which were asked."""
        self.desk.hold, self.desk.error = None, NobodyAnswers("no worker answers: 1, 2")
        answer = self.purge({"tag": "a"})
        self.assertEqual((503, "no worker answers: 1, 2"), (answer.status, answer.json["detail"]))
