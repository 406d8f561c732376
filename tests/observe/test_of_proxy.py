"""Which accounts a whole proxy keeps, and what it tells of them, before and after a reload."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher

from pyproxy.config.schema import Config, LogConfig
from pyproxy.observe.output import LogPlace
from pyproxy.observe.twistd_log import ACCESS
from pyproxy.policy.instead import FixedAnswer
from pyproxy.semantics.forwarding import FieldRules
from tests.cache.kit import FRESH, CacheTestCase, answer, caching, passing
from tests.memory import OK, request, response
from tests.observe.test_access_log import COMBINED

PLAIN = passing()
JSON = LogConfig("json")


def logging(log: LogConfig, config: Config = PLAIN) -> Config:
    """Return a configuration that logs."""
    return attrs.evolve(config, log=log)


def with_route(config: Config = PLAIN, **settings: Any) -> Config:
    """Return a configuration whose route has settings."""
    (route,) = config.routes
    return attrs.evolve(config, routes=(attrs.evolve(route, **settings),))


class LogTestCase(CacheTestCase):
    """A case whose access log is heard."""

    def setUp(self) -> None:
        """Hear it."""
        self.observer = EventLoggingObserver.createWithCleanup(
            self,  # type: ignore[arg-type]
            globalLogPublisher,
        )

    def lines(self) -> list[str]:
        """Return the lines of the access log so far."""
        events = [event for event in self.observer if event["log_namespace"] == ACCESS]
        return [event["line"] for event in events]


class WhichLogTests(LogTestCase):
    """Combined, JSON or a format; in twistd's log or in a file."""

    def test_default(self) -> None:
        """The combined format, and no account."""
        self.start(PLAIN)
        self.ask(OK)
        self.assertIsNone(self.proxy.site.accounts)
        (line,) = self.lines()
        self.assertIsNotNone(COMBINED(line))

    def test_json(self) -> None:
        """JSON alone."""
        self.start(logging(JSON))
        self.ask(OK)
        (line,) = self.lines()
        facts = json.loads(line)
        self.assertEqual(
            (200, 2, "/", "GET"), tuple(facts[n] for n in ("status", "sent", "route", "method"))
        )

    def test_format(self) -> None:
        """A format alone."""
        self.start(logging(LogConfig("{status} {target}")))
        self.ask(OK)
        self.assertEqual(["200 /"], self.lines())

    def test_combined_of_watched(self) -> None:
        """The combined format stays the same where accounts are kept."""
        self.start(with_route(usage=True))
        self.ask(OK)
        (line,) = self.lines()
        self.assertIsNotNone(COMBINED(line))

    def test_unlogged(self) -> None:
        """A route without a log."""
        self.start(logging(JSON, with_route(access_log=False, usage=True)))
        self.ask(OK)
        self.assertEqual([], self.lines())

    def test_file(self) -> None:
        """Lines go where the process has the file."""
        for log in (LogConfig("json", LogPlace("/x", 1, 1)), LogConfig(place=LogPlace("/x", 1, 1))):
            self.start(logging(log))
            lines: list[str] = []
            self.proxy._to_file = lines.append
            self.take(logging(log))
            self.ask(OK)
            self.assertEqual(([], 1), (self.lines(), len(lines)))

    def test_reload(self) -> None:
        """Another log from then on, for what was open too; nothing has two lines."""
        self.start(PLAIN)
        before = self.client(request())
        self.take(logging(JSON))
        accounts = self.proxy.site.accounts
        after = self.client(request())
        for upstream in self.questions:
            upstream.take()
            self.deliver(upstream, OK)
        for client in (before, after):
            self.assertTrue(client.take())
        self.assertEqual([2, 2], [json.loads(line)["sent"] for line in self.lines()])
        self.take(logging(LogConfig("{status}")))
        self.assertIs(accounts, self.proxy.site.accounts)
        self.ask(OK)
        self.assertEqual("200", self.lines()[-1])
        last = self.client(request())
        self.take(PLAIN)
        self.assertIsNone(self.proxy.site.accounts)
        self.answer(OK)
        self.assertTrue(last.take())
        self.ask(OK)
        self.assertEqual(5, len(self.lines()))
        for line in self.lines()[-2:]:
            self.assertIsNotNone(COMBINED(line))

    def test_nobody_any_more(self) -> None:
        """An account is closed although nobody logs anything from now on."""
        self.start(logging(JSON))
        accounts = self.proxy._accounts
        assert accounts is not None
        client = self.client(request())
        self.assertEqual(1, len(accounts.open))
        self.take(with_route(access_log=False))
        self.answer(OK)
        self.assertTrue(client.take())
        self.assertEqual(({}, []), (accounts.open, self.lines()))

    def test_secrets_of_before(self) -> None:
        """What is open is logged without the secrets that it began with."""
        rules = FieldRules((((b"X-Key"), b"sekret-one"),))
        self.start(
            logging(
                JSON,
                with_route(
                    request_rules=rules, secrets=(b"sekret-one",), allowed_hosts=(b"front.test",)
                ),
            )
        )
        client = self.client(request(b"GET /sekret-one HTTP/1.1"))
        self.take(logging(JSON))
        self.answer(OK)
        self.assertTrue(client.take())
        (line,) = self.lines()
        self.assertNotIn("sekret", line)
        self.assertIn('"target":"/***"', line)


class ServerTimingTests(LogTestCase):
    """How long each part took, as clients are told."""

    def test_parts(self) -> None:
        """Until it was asked for, connected, answered."""
        self.start(with_route(server_timing=True))
        client = self.client()
        client.deliver(request())
        self.wait(0.25)
        self.wait(0.5)
        self.answer(response(b"Content-Length: 2", b"Server-Timing: db;dur=1", content=b"ok"))
        head = client.take()
        self.assertIn(b"\r\nServer-Timing: db;dur=1\r\n", head)
        self.assertIn(
            b"\r\nServer-Timing: proxy;dur=0.0, connect;dur=50.0, upstream;dur=700.0\r\n", head
        )

    def test_cache(self) -> None:
        """Of the cache, each time."""
        self.start(with_route(caching(), server_timing=True))
        told = self.ask(answer(FRESH))
        self.assertEqual(
            b"proxy;dur=0.0, connect;dur=0.0, upstream;dur=0.0", told.fields[b"server-timing"]
        )
        for _ in range(3):
            told = self.get()
            self.assertEqual(b"proxy;dur=0.0, cache;dur=0.0", told.fields[b"server-timing"])
            self.assertIn(b"hit", told.cache)

    def test_off(self) -> None:
        """Nobody is told unasked, nor where no upstream is asked."""
        self.start(logging(JSON))
        self.assertNotIn(b"server-timing", self.ask(OK).fields)
        self.start(with_route(server_timing=True, instead=FixedAnswer(200, (), b"")))
        self.assertNotIn(b"server-timing", self.get().fields)


class TraceTests(LogTestCase):
    """Which trace a line belongs to."""

    def test_begun(self) -> None:
        """The one that the upstream was given."""
        self.start(logging(LogConfig("json", trace=True)))
        client = self.client(request())
        asked = self.answer(OK)
        self.assertTrue(client.take())
        facts = json.loads(self.lines()[0])
        wanted = f"traceparent: 00-{facts['trace_id']}-{facts['parent_id']}-02\r\n"
        self.assertIn(wanted.encode(), asked)

    def test_in_the_combined_format(self) -> None:
        """It is begun whatever the log is."""
        self.start(logging(LogConfig(trace=True)))
        self.client(request())
        self.assertIn(b"traceparent: 00-", self.answer(OK))
