"""The access log, written by a real channel over a transport in memory."""

from __future__ import annotations

import re
from ipaddress import ip_network

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from pyproxy.errors import BadResponse
from pyproxy.ingress.request import ClientRequest
from pyproxy.ingress.seams import Terms
from pyproxy.ingress.site import ProxySite
from pyproxy.observe.access_log import AccessLog
from pyproxy.observe.masking import Mask
from pyproxy.relay.limits import Sweeper

COMBINED = re.compile(
    r'\S+ - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "[^"]*" \d{3} (?:\d+|-) "[^"]*" '
    r'"[^"]*" \d+\.\d{3}(?: \S+ \S+ "[^"]*")?'
).fullmatch
"""httpd's combined format, the seconds, and the id, type and detail of an error."""

CLIENT = IPv4Address("TCP", "192.0.2.1", 50000)
TRUSTED = (ip_network("10.0.0.0/8"),)
PROXY = IPv4Address("TCP", "10.0.0.1", 50000)


class HalfClosable(StringTransport):
    """A transport in memory whose writing side can be closed alone."""

    def loseWriteConnection(self) -> None:
        """Take the end of writing for the end."""
        self.loseConnection()


class Answers(Resource):
    """Answers every path with five octets, but ``/wait`` never and ``/fail`` with an error."""

    isLeaf = True

    def render(self, request: Request) -> bytes | int:
        """Answer."""
        if request.path == b"/wait":
            return NOT_DONE_YET
        if request.path == b"/fail":
            assert isinstance(request, ClientRequest)
            request.refuse(BadResponse('it said "\u00e4\n" and sekret'))
            return NOT_DONE_YET
        return b"hello"


class AccessLogTests(SynchronousTestCase):
    """Every request that ended has a line."""

    def setUp(self) -> None:
        """Make a site that logs."""
        self.clock = Clock()
        self.clock.advance(1_000_000_000.5)
        self.log = AccessLog(self.clock, Mask.of([b"sekret"]), TRUSTED)

    def send(self, octets: bytes, peer: IAddress = CLIENT, leave_after: float = -1.0) -> list[str]:
        """Send octets on a new connection; return the lines that were logged."""
        lines: list[str] = []
        sweeper = Sweeper(self.clock, 1.0)
        terms = Terms(60.0, TRUSTED, False, lambda request: lines.append(self.log.line(request)))
        site = ProxySite(Answers(), self.clock, sweeper, terms)
        channel = site.buildProtocol(None)
        channel.makeConnection(HalfClosable(peerAddress=peer))
        channel.dataReceived(octets)
        if leave_after >= 0:
            self.clock.advance(leave_after)
            channel.connectionLost(Failure(connectionDone.value))
        return lines

    def test_line(self) -> None:
        """A line has the combined format, and the seconds behind it."""
        [line] = self.send(
            b"GET /a?b HTTP/1.1\r\nHost: h\r\nReferer: http://r/\r\nUser-Agent: agent/1\r\n\r\n"
        )
        self.assertEqual(
            '192.0.2.1 - - [09/Sep/2001:01:46:40 +0000] "GET /a?b HTTP/1.1" 200 5 "http://r/" '
            '"agent/1" 0.000',
            line,
        )
        self.assertTrue(COMBINED(line))

    def test_what_is_missing(self) -> None:
        """A hyphen stands for what a request does not have."""
        [line] = self.send(b"HEAD / HTTP/1.0\r\n\r\n", UNIXAddress(None))
        self.assertTrue(COMBINED(line), line)
        self.assertTrue(line.startswith("- - - ["), line)
        self.assertIn('"HEAD / HTTP/1.0" 200 - "-" "-"', line)

    def test_each_request(self) -> None:
        """Each request of a connection has its own line, in their order."""
        head = b" HTTP/1.1\r\nHost: h\r\n\r\n"
        lines = self.send(b"GET /1" + head + b"GET /2" + head)
        self.assertEqual(["GET /1", "GET /2"], [line.split('"')[1][:6] for line in lines])

    def test_client_behind_a_trusted_proxy(self) -> None:
        """The client is the one that a trusted proxy names, in whatever spelling.  RFC 7239 6."""
        for field, client in (
            (b"X-Forwarded-For: 192.0.2.7", "192.0.2.7"),
            (b"X-Forwarded-For: 192.0.2.7:51008", "192.0.2.7"),
            (b"X-Forwarded-For: [2001:db8::1]:443", "2001:db8::1"),
            (b'Forwarded: for="[2001:db8::1]:443"', "2001:db8::1"),
            (b"Forwarded: for=192.0.2.7;proto=https", "192.0.2.7"),
            (b"Forwarded: for=_hidden", "10.0.0.1"),
            (b"X-Forwarded-For: unknown", "10.0.0.1"),
        ):
            octets = b"GET / HTTP/1.1\r\nHost: h\r\n" + field + b"\r\n\r\n"
            [line] = self.send(octets, PROXY)
            self.assertTrue(line.startswith(f"{client} - - ["), line)
            [line] = self.send(octets)
            self.assertTrue(line.startswith("192.0.2.1 - - ["), line)

    def test_repeated_fields(self) -> None:
        """Repeated fields are shown joined.  RFC 9110 5.3."""
        [line] = self.send(b"GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: a\r\nuser-agent: b\r\n\r\n")
        self.assertIn('"a, b"', line)

    def test_client_that_left(self) -> None:
        """A client that left before its response is logged as 499, with its time."""
        [line] = self.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n", leave_after=2.25)
        self.assertIn('" 499 - "-" "-" 2.250', line)
        self.assertTrue(line.endswith(" client_closed"), line)

    def test_what_is_no_request(self) -> None:
        """What is no request is logged without a request line, with the reason."""
        [line] = self.send(b"nonsense sekret\r\n\r\n")
        self.assertTrue(COMBINED(line), line)
        self.assertIn('"-" 400 ', line)
        self.assertIn(" http_request_error ", line)
        self.assertNotIn("sekret", line)

    def test_error(self) -> None:
        """An error of the proxy's own is logged with the request's id, its type and its detail."""
        [line] = self.send(b"GET /fail HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertTrue(COMBINED(line), line)
        self.assertIn(" 502 ", line)
        ending = r'[0-9a-f]{8}-[0-9a-f]{6} http_protocol_error "it said \\x22.* and \*\*\*"$'
        self.assertTrue(re.search(ending, line), line)

    def test_no_credential(self) -> None:
        """Neither an injected secret nor a client's own key is logged, wherever it stands."""
        [line] = self.send(
            b"GET /sekret?api_key=hidden&a=b HTTP/1.1\r\nHost: h\r\n"
            b"Referer: http://u:hidden@r/?token=hidden\r\nUser-Agent: sk-hidden-hidden sekret\r\n"
            b"Authorization: Bearer hidden\r\nCookie: a=hidden\r\n\r\n"
        )
        self.assertNotIn("hidden", line)
        self.assertNotIn("sekret", line)
        self.assertIn('"GET /***?api_key=***&a=b HTTP/1.1"', line)

    def test_nothing_breaks_the_line(self) -> None:
        """Quotes, backslashes and octets beyond ASCII are escaped: no client forges a line."""
        [line] = self.send(
            b'GET /"\\\xff HTTP/1.1\r\nHost: h\r\nUser-Agent: "\t\x1b" 200'.replace(
                b"\x1b", b"\x80"
            )
            + b"\r\n\r\n"
        )
        self.assertTrue(COMBINED(line), line)
        self.assertTrue(line.isascii() and line.isprintable(), line)
        self.assertIn("/\\x22\\x5c\\xff", line)

    def test_time(self) -> None:
        """The time is that of the end of the request, to the second."""
        octets = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
        times = []
        for seconds in (0.25, 0.25, 86400.0):
            [line] = self.send(octets)
            times.append(line.split("[")[1].split("]")[0])
            self.clock.advance(seconds)
        [line] = self.send(octets)
        times.append(line.split("[")[1].split("]")[0])
        self.assertEqual(
            [
                "09/Sep/2001:01:46:40 +0000",
                "09/Sep/2001:01:46:40 +0000",
                "09/Sep/2001:01:46:41 +0000",
                "10/Sep/2001:01:46:41 +0000",
            ],
            times,
        )

    def test_twisted_logger(self) -> None:
        """The line goes to twistd's log as it is, braces of a target included."""
        site = ProxySite(
            Answers(), self.clock, Sweeper(self.clock, 1.0), Terms(access_log=self.log)
        )
        channel = site.buildProtocol(None)
        channel.makeConnection(HalfClosable(peerAddress=CLIENT))
        with capturedLogs() as events:
            channel.dataReceived(b"GET /{target} HTTP/1.1\r\nHost: h\r\n\r\n")
        [event] = [each for each in events if each.get("log_namespace") == "pyproxy.access"]
        self.assertIn("GET /{target} HTTP/1.1", event["line"])
        self.assertEqual("{line}", event["log_format"])
