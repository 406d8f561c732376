"""What happened to an exchange, as its account has it."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost

from pyproxy.account import Account, closed_by
from pyproxy.errors import (
    BadRequest,
    ConnectionRefused,
    ConnectionTerminated,
    ConnectTimeout,
    ResponseIncomplete,
)
from pyproxy.policy.instead import FixedAnswer
from pyproxy.policy.routing import Limits
from pyproxy.semantics.trace_context import parse
from tests.accounting import keep
from tests.cache.kit import FRESH, CacheTestCase, answer, asked
from tests.ingress.test_websocket import (
    CLOSE,
    HANDSHAKE,
    MASKED_CLOSE,
    MASKED_TEXT,
    SWITCHING,
    TEXT,
)
from tests.memory import OK, UPSTREAM_PORT, Stage, StageTestCase, request, response

LIMITS = Limits(connect=3.0, first_byte=20.0, idle=10.0, upload=5.0)
CHUNKED = response(b"Transfer-Encoding: chunked")
UPLOAD = request(b"POST /up HTTP/1.1", b"Transfer-Encoding: chunked")
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class AccountTestCase(StageTestCase):
    """A case with a proxy that keeps accounts."""

    def setUp(self) -> None:
        """Set the stage."""
        self.begin()

    def begin(self, **settings: object) -> None:
        """Set a stage with other settings."""
        self.scene: Stage = self.stage(**{"limits": LIMITS, "client_limit": 4.0, **settings})
        self.network = self.scene.network
        self.accounts, self.closed = keep(self.scene.site)

    def wait(self, seconds: float) -> float:
        """Let time go by; return the time that it is then."""
        self.network.pass_time(seconds, 0.25)
        return self.network.seconds()

    def last(self) -> Account:
        """Return the account that was closed last; nothing is open."""
        self.network.settle()
        self.assertEqual({}, self.accounts.open)
        return self.closed[-1]


class MilestoneTests(AccountTestCase):
    """When what happened."""

    def test_get(self) -> None:
        """Each step of a plain exchange has its time, and the facts are there."""
        self.wait(10)
        client = self.scene.client()
        began = self.wait(1)
        client.deliver(request(b"GET /a?b=1 HTTP/1.1", b"User-Agent: curl", b"Referer: http://a"))
        (account,) = self.accounts.open.values()
        connected = self.network.seconds()
        self.network.settle()
        responded = self.wait(2)
        self.scene.answer(response(b"Content-Length: 4"))
        first = self.wait(3)
        self.scene.upstream.deliver(b"ab")
        last = self.wait(2)
        self.scene.upstream.deliver(b"cd")
        self.assertIs(account, self.last())
        self.assertEqual(
            (began, began, began, connected, responded, first, last, last),
            (
                account.began,
                account.passed,
                account.asked,
                account.connected,
                account.responded,
                account.first,
                account.last,
                account.ended,
            ),
        )
        self.assertEqual(
            (1, "/", b"GET", b"/a?b=1", b"front.test", b"http", b"192.0.2.1", b"curl", b"http://a"),
            (
                account.number,
                account.route,
                account.method,
                account.target,
                account.host,
                account.scheme,
                account.client,
                account.user_agent,
                account.referer,
            ),
        )
        self.assertEqual(
            (200, 4, 0, f"http://127.0.0.1:{UPSTREAM_PORT}", "", "", False, False, 1),
            (
                account.status,
                account.sent,
                account.received,
                account.peer,
                account.closed_by,
                account.error,
                account.reused,
                account.websocket,
                account.attempts,
            ),
        )

    def test_open(self) -> None:
        """What is open can be looked at: its status, and what was sent so far."""
        self.scene.client(request())
        self.scene.answer(response(b"Content-Length: 9", content=b"four"))
        (account,) = self.accounts.open.values()
        self.assertEqual((200, 4, None), (account.status, account.sent, account.ended))

    def test_reused(self) -> None:
        """A connection that has answered before."""
        client = self.scene.client(request())
        self.scene.answer()
        client.deliver(request())
        self.network.settle()
        self.scene.answer()
        self.assertEqual([False, True], [account.reused for account in self.closed])
        self.assertEqual([1, 2], [account.number for account in self.closed])

    def test_sent_again(self) -> None:
        """A kept connection that was closed costs another attempt."""
        client = self.scene.client(request())
        self.scene.answer()
        client.deliver(request())
        self.scene.upstream.lose()
        self.network.settle()
        self.scene.answer()
        account = self.last()
        self.assertEqual((2, False, 200), (account.attempts, account.reused, account.status))

    def test_octets_without_coding(self) -> None:
        """Content is counted, both ways; its coding is not."""
        self.scene.client(UPLOAD + b"5\r\nhello\r\n0\r\n\r\n")
        self.scene.answer(CHUNKED + b"3\r\nyes\r\n0\r\n\r\n")
        account = self.last()
        self.assertEqual((5, 3), (account.received, account.sent))

    def test_no_content(self) -> None:
        """What has no content has no first octet of it."""
        self.scene.client(request(b"HEAD / HTTP/1.1"))
        self.scene.answer(response(b"Content-Length: 9"))
        account = self.last()
        self.assertEqual((0, None, None), (account.sent, account.first, account.last))
        self.assertIsNotNone(account.responded)

    def test_instead(self) -> None:
        """Where no upstream is asked."""
        self.begin(instead=FixedAnswer(200, (), b"hello"), access_log=False)
        self.scene.client(request())
        account = self.last()
        self.assertEqual(
            (200, 5, "", None), (account.status, account.sent, account.peer, account.asked)
        )
        self.assertIsNotNone(account.passed)
        self.assertFalse(account.logged)

    def test_believed_client(self) -> None:
        """The address that a proxy in front vouches for."""
        trusted = (ip_network("192.0.2.0/24"),)
        self.begin(trusted=trusted)
        self.accounts.trusted = trusted
        peer = IPv4Address("TCP", "192.0.2.9", 1)
        self.scene.client(request(b"GET / HTTP/1.1", b"X-Forwarded-For: 198.51.100.7"), peer=peer)
        self.scene.answer()
        self.assertEqual(b"198.51.100.7", self.last().client)


class EndTests(AccountTestCase):
    """Who closed, and why."""

    def assert_ended(self, closed: str, error: str, status: int) -> Account:
        """Check the end of the last exchange."""
        account = self.last()
        self.assertEqual(
            (closed, error, status), (account.closed_by, account.error, account.status)
        )
        return account

    def test_client_before_the_head(self) -> None:
        """A client that leaves before it was sent anything."""
        self.scene.client(request()).lose()
        account = self.assert_ended("client", "", 0)
        self.assertIsNone(account.responded)

    def test_client_in_content(self) -> None:
        """A client that leaves in the middle; what it was sent stands."""
        client = self.scene.client(request())
        self.scene.answer(CHUNKED + b"3\r\nyes\r\n")
        client.lose(ConnectionLost)
        self.assertEqual(3, self.assert_ended("client", "", 200).sent)

    def test_no_connection(self) -> None:
        """No connection comes about in time."""
        del self.network.listening[UPSTREAM_PORT]
        self.scene.client(request())
        self.wait(4)
        self.assert_ended("proxy", "connection_timeout", 504)

    def test_upstream_before_the_head(self) -> None:
        """A connection that ends without an answer."""
        self.scene.client(request())
        self.scene.upstream.lose()
        account = self.assert_ended("upstream", "connection_terminated", 502)
        self.assertIsNotNone(account.connected)

    def test_upstream_in_content(self) -> None:
        """A connection that ends in the middle."""
        self.scene.client(request())
        self.scene.answer(CHUNKED + b"3\r\nyes\r\n")
        self.scene.upstream.lose()
        self.assertEqual(3, self.assert_ended("upstream", "http_response_incomplete", 200).sent)

    def test_limit(self) -> None:
        """A limit that is over is the proxy's doing."""
        self.scene.client(request())
        self.wait(25)
        self.assert_ended("proxy", "http_response_timeout", 504)

    def test_no_request(self) -> None:
        """What is refused before anybody knows what it is."""
        self.scene.client(b"nonsense\r\n\r\n")
        account = self.assert_ended("proxy", "http_request_error", 400)
        self.assertEqual((b"", "", None), (account.method, account.route, account.passed))

    def test_no_route(self) -> None:
        """A target that nobody serves."""
        self.begin(prefix=b"/api")
        self.scene.client(request(b"GET /other HTTP/1.1"))
        account = self.assert_ended("proxy", "destination_not_found", 404)
        self.assertEqual((b"/other", ""), (account.target, account.route))

    def test_two_reasons(self) -> None:
        """Who was said first outranks what follows; the same is closed once."""
        self.scene.client(request())
        (account,) = self.accounts.open.values()
        account.closed_by = "operator"
        self.scene.upstream.lose()
        self.network.settle()
        account.end(0, 0, None, True)
        self.assertEqual([account], self.closed)
        self.assertEqual(("operator", 502), (account.closed_by, account.status))

    def test_classes(self) -> None:
        """By the class of the error."""
        for error, left, who in (
            (None, False, ""),
            (None, True, "client"),
            (ConnectionRefused(""), False, "upstream"),
            (ConnectionTerminated(""), False, "upstream"),
            (ResponseIncomplete(""), True, "upstream"),
            (ConnectTimeout(""), False, "proxy"),
            (BadRequest(""), True, "proxy"),
        ):
            self.assertEqual(who, closed_by(error, left), error)

    def test_failing_sink(self) -> None:
        """A sink that fails is logged; the others go on, and so does the exchange."""

        def fail(account: Account) -> None:
            raise ValueError("a defect")

        self.accounts.sinks = (fail, *self.accounts.sinks)
        client = self.scene.client(request())
        self.scene.answer()
        self.assertEqual(OK, client.take())
        self.assertEqual(200, self.last().status)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))


class WebSocketTests(AccountTestCase):
    """A WebSocket outlives its exchange."""

    def open(self) -> Account:
        """Open one; return its account."""
        self.client = self.scene.client(HANDSHAKE)
        self.scene.answer(SWITCHING)
        self.assertEqual([], self.closed)
        (account,) = self.accounts.open.values()
        self.assertTrue(account.websocket)
        self.assertEqual(101, account.status)
        self.wait(5)
        self.client.deliver(MASKED_TEXT)
        self.scene.upstream.deliver(TEXT + TEXT)
        return account

    def test_good_end(self) -> None:
        """Closed when both ends are; octets with their frames."""
        account = self.open()
        self.client.deliver(MASKED_CLOSE)
        self.scene.upstream.deliver(CLOSE)
        self.scene.upstream.lose()
        self.client.lose()
        self.assertIs(account, self.last())
        self.assertEqual("", account.closed_by)
        self.assertEqual(len(MASKED_TEXT + MASKED_CLOSE), account.received)
        self.assertEqual(len(TEXT + TEXT + CLOSE), account.sent)
        self.assertEqual((1, 2), (account.messages_received, account.messages_sent))
        self.assertEqual(self.network.seconds(), account.ended)

    def test_watched_frames(self) -> None:
        """Messages are counted where frames pass one by one, too."""
        self.begin(limits=Limits(max_message=1000))
        account = self.open()
        self.client.lose(ConnectionLost)
        self.scene.upstream.lose()
        self.last()
        self.assertEqual((1, 2), (account.messages_received, account.messages_sent))

    def test_ends(self) -> None:
        """One side that leaves without a word."""
        self.open()
        self.client.lose(ConnectionLost)
        self.scene.upstream.lose()
        self.assertEqual("client", self.last().closed_by)
        self.begin()
        self.open()
        self.scene.upstream.lose()
        self.client.lose()
        account = self.last()
        self.assertEqual(
            ("upstream", "http_response_incomplete"), (account.closed_by, account.error)
        )

    def test_unlogged(self) -> None:
        """Kept also where the access log has no line."""
        self.begin(access_log=False)
        self.open()
        self.client.lose(ConnectionLost)
        self.scene.upstream.lose()
        self.assertFalse(self.last().logged)
        self.assertEqual([], self.scene.logged)


class TraceTests(AccountTestCase):
    """To which trace a request belongs."""

    def asked(self, *fields: bytes) -> tuple[Account, bytes]:
        """Return the account of a request, and what the upstream got."""
        self.scene.client(request(b"GET / HTTP/1.1", *fields))
        asked = self.scene.answer()
        return self.last(), asked.lower()

    def test_passed_on(self) -> None:
        """A trace that is there goes on, as it came."""
        self.accounts.begins_traces = True
        account, asked = self.asked(b"TraceParent: " + TRACE, b"tracestate: a=1")
        self.assertEqual(parse(TRACE), account.trace)
        self.assertFalse(account.trace_begun)
        self.assertIn(b"traceparent: " + TRACE, asked)
        self.assertIn(b"tracestate: a=1", asked)

    def test_none(self) -> None:
        """None is begun unasked."""
        account, asked = self.asked()
        self.assertIsNone(account.trace)
        self.assertNotIn(b"traceparent", asked)
        account, asked = self.asked(b"traceparent: x")
        self.assertIsNone(account.trace)
        self.assertIn(b"traceparent: x", asked)

    def test_begun(self) -> None:
        """Where there is none that is valid, one is begun, and the upstream gets that alone."""
        self.accounts.begins_traces = True
        for fields in (
            (),
            (b"traceparent: x", b"tracestate: a=1"),
            (b"traceparent: " + TRACE,) * 2,
        ):
            account, asked = self.asked(*fields)
            trace = account.trace
            assert trace is not None
            self.assertTrue(account.trace_begun)
            self.assertEqual(1, asked.count(b"traceparent: "))
            self.assertIn(b"traceparent: " + trace.field_value, asked)
            self.assertNotIn(b"tracestate", asked)
        traces = [account.trace.trace_id for account in self.closed if account.trace]
        self.assertEqual(3, len(set(traces)))


class CacheTests(CacheTestCase):
    """What a cache did with a request."""

    def test_said(self) -> None:
        """In a word: why the upstream was asked, or that it was not."""
        self.start()
        _, closed = keep(self.proxy.site)
        self.ask(answer(FRESH))
        for _ in range(2):
            self.get()
        self.get(b"Cache-Control: only-if-cached", target=b"/other")
        self.assertEqual(
            [("uri-miss", 200), ("hit", 200), ("hit", 200), ("only-if-cached", 504)],
            [(account.cache, account.status) for account in closed],
        )
        missed, hit, at_once, _ = closed
        self.assertIsNotNone(missed.connected)
        for account in (hit, at_once):
            self.assertIsNone(account.connected)
            self.assertEqual(5, account.sent)
            self.assertIsNotNone(account.first)

    def test_validated_behind(self) -> None:
        """What is asked with nobody waiting is in nobody's account."""
        self.start()
        _, closed = keep(self.proxy.site)
        self.ask(answer(b"Cache-Control: max-age=1, stale-while-revalidate=60", b'ETag: "a"'))
        self.wait(2)
        self.get()
        self.assertEqual("hit", closed[-1].cache)
        self.assertIsNone(closed[-1].connected)
        self.answer(response(status_line=b"HTTP/1.1 304 Not Modified"))

    def test_passed(self) -> None:
        """What the cache lets pass keeps its coding."""
        self.start()
        _, closed = keep(self.proxy.site)
        client = self.client(asked(method=b"DELETE"))
        self.answer(CHUNKED + b"3\r\nyes\r\n0\r\n\r\n")
        self.assertTrue(client.take().endswith(b"3\r\nyes\r\n0\r\n\r\n"))
        self.assertEqual(("method", 3), (closed[0].cache, closed[0].sent))
