"""The agent: opens and reuses connections, and sends again only what is safe."""

from __future__ import annotations

import errno
from typing import Any, cast

import attrs
import treq
import trustme
from treq.client import HTTPClient
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHostnameResolver,
)
from twisted.protocols import tls
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pyproxy.demo import demo_site
from pyproxy.errors import (
    CertificateRefused,
    ConnectFailed,
    ConnectionRefused,
    ConnectionTerminated,
    ConnectTimeout,
    Exhausted,
    InternalError,
    NameNotResolved,
    ProxyError,
    ResponseIncomplete,
)
from pyproxy.policy.routing import Peer
from pyproxy.relay.transports import IProxyReactor
from pyproxy.semantics.messages import ResponseHead
from pyproxy.semantics.urls import Origin, parse_target
from pyproxy.sides import UpstreamResponse
from pyproxy.upstream.agent import Awaited, ForwardingAgent
from pyproxy.upstream.manners import TRUSTED_AFTER
from pyproxy.upstream.pool import SHOWN_SECONDS
from tests.memory import OK, UPSTREAM_PORT, Names, Stage, StageTestCase, response
from tests.upstream.kit import Content, Receiver
from tests.upstream.test_trust import Server

ORIGIN = Origin("http", "127.0.0.1", UPSTREAM_PORT, b"127.0.0.1:9000")
HOST = [(b"Host", b"h")]
DEMO_PORT = 9001
SILENT_PORT = 9002


@implementer(IBodyProducer)
class Whole:
    """Content that is there at once."""

    def __init__(self, octets: bytes) -> None:
        self.length = len(octets)
        self._octets = octets

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write it all."""
        consumer.write(self._octets)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It was written."""

    def resumeProducing(self) -> None:
        """It was written."""

    def stopProducing(self) -> None:
        """It was written."""


class AgentTestCase(StageTestCase):
    """A case with an agent whose upstream the test plays."""

    def setUp(self) -> None:
        """Set the stage."""
        self.scene: Stage = self.stage()
        self.network, self.agent = self.scene.network, self.scene.agent

    def send(
        self,
        method: bytes = b"GET",
        content: IBodyProducer | None = None,
        port: int = UPSTREAM_PORT,
    ) -> Deferred[Any]:
        """Send a request."""
        origin = attrs.evolve(ORIGIN, port=port)
        return self.ask_agent(self.agent, Awaited(Peer(origin), method, b"/", HOST, content))

    def ask_agent(self, agent: ForwardingAgent, asking: Awaited) -> Deferred[Any]:
        """Send a request through an agent."""
        agent.send(asking.request)
        self.network.settle()
        return asking.response

    def exchange(self) -> None:
        """Do one exchange, so that a connection is kept."""
        answered = self.send()
        self.scene.answer()
        self.successResultOf(treq.content(self.successResultOf(answered)))


class Told(Awaited):
    """Notes all that it is told, in order."""

    def __init__(self, method: bytes = b"GET") -> None:
        super().__init__(Peer(ORIGIN), method, b"/", HOST, None)
        self.told: list[object] = []

    def interim(self, head: ResponseHead) -> None:
        """Note it."""
        self.told.append(head.status)

    def responded(self, response: UpstreamResponse) -> None:
        """Note it."""
        self.told.append(response.head.status)

    def unanswered(self, error: ProxyError) -> None:
        """Note it."""
        self.told.append(type(error))


class AskingTests(AgentTestCase):
    """Who asks is told once, and not at all once it asks no more."""

    def ask(self, asking: Told) -> None:
        """Send a request."""
        self.agent.send(asking.request)
        self.network.settle()

    def test_told_in_order(self) -> None:
        """Interim responses, then the final one."""
        asking = Told()
        self.ask(asking)
        connection: Any = asking.request.connection
        self.assertIs(self.scene.upstream, connection.transport)
        self.assertIsNone(asking.request.opening)
        self.scene.answer(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.scene.answer(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
        self.assertEqual([100, 103, 200], asking.told)

    def test_told_of_a_loss(self) -> None:
        """A request that was lost is told once, with why."""
        asking = Told()
        self.ask(asking)
        self.scene.upstream.lose()
        self.network.settle()
        self.assertEqual([ConnectionTerminated], asking.told)

    def test_withdrawn(self) -> None:
        """While the connection is opened, before the response, before the second try's: silence."""
        del self.network.listening[UPSTREAM_PORT]
        opening = Told()
        self.ask(opening)
        self.assertIsNotNone(opening.request.opening)
        opening.request.withdraw()
        self.network.settle()
        self.assertTrue(self.network.connectors[-1].stoppedConnecting)
        self.network.listening[UPSTREAM_PORT] = None
        waiting = Told()
        self.ask(waiting)
        waiting.request.withdraw()
        self.network.settle()
        self.assertIsNotNone(self.scene.upstream.lost)
        self.exchange()
        again = Told()
        self.ask(again)
        del self.network.listening[UPSTREAM_PORT]
        self.scene.upstream.lose()
        self.network.settle()
        self.assertIsNone(again.request.connection)
        again.request.withdraw()
        self.network.settle()
        self.assertTrue(self.network.connectors[-1].stoppedConnecting)
        self.assertEqual([], opening.told + waiting.told + again.told)

    def test_withdrawn_twice(self) -> None:
        """To withdraw what is over, or was never sent, does nothing."""
        asking = Told()
        asking.request.withdraw()
        self.ask(asking)
        self.scene.upstream.lose()
        self.network.settle()
        asking.request.withdraw()
        asking.request.withdraw()
        self.assertEqual([ConnectionTerminated], asking.told)

    def test_a_defect(self) -> None:
        """What nobody foresaw in a connect is logged, and told as an error of the proxy's."""
        self.network.listening[UPSTREAM_PORT] = ZeroDivisionError("a defect")
        asking = Told()
        self.ask(asking)
        self.assertEqual([InternalError], asking.told)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class UndueContentTests(AgentTestCase):
    """Answers to HEAD that declare a length, in a burst."""

    def burst(self, count: int) -> None:
        """Ask by HEAD, one after the other."""
        for _ in range(count):
            answered = self.send(b"HEAD")
            self.scene.answer(response(b"Content-Length: 5"))
            self.successResultOf(answered).deliverBody(Receiver())

    def test_waits_once(self) -> None:
        """What would take one connection too many waits for a verdict, then goes on an old one."""
        self.burst(TRUSTED_AFTER)
        self.assertEqual(TRUSTED_AFTER, len(self.network.opened))
        answered = self.send(b"HEAD")
        self.network.advance(SHOWN_SECONDS)
        self.assertEqual(TRUSTED_AFTER, len(self.network.opened))
        asked = [one for one in self.network.opened if one.value()]
        asked[0].deliver(response(b"Content-Length: 5"))
        self.assertEqual(200, self.successResultOf(answered).code)

    def test_verdict_against_it(self) -> None:
        """Against an origin that was caught meanwhile, it goes on a new one."""
        self.burst(TRUSTED_AFTER)
        answered = self.send()
        self.network.opened[0].deliver(b"stray")
        self.network.advance(SHOWN_SECONDS)
        self.network.settle()
        self.assertEqual(TRUSTED_AFTER + 1, len(self.network.opened))
        self.scene.answer(OK)
        self.assertEqual(200, self.successResultOf(answered).code)

    def test_withdrawn(self) -> None:
        """Who leaves meanwhile is not sent for."""
        self.burst(TRUSTED_AFTER)
        asking = Awaited(Peer(ORIGIN), b"GET", b"/", HOST, None)
        self.ask_agent(self.agent, asking)
        asking.request.withdraw()
        self.network.advance(SHOWN_SECONDS)
        self.network.settle()
        self.assertFalse(any(b"GET" in one.value() for one in self.network.opened))


class SecondTryTests(AgentTestCase):
    """Nothing is sent twice (invariant 5); trap, twisted.web client: retries are never silent."""

    def heads_sent(self, method: bytes, content: bool, reused: bool, replied: bool) -> int:
        """Let a connection die under a request; return how often the request went out."""
        self.scene = self.stage()
        self.network, self.agent = self.scene.network, self.scene.agent
        if reused:
            self.exchange()
        answered = self.send(method, Content(3) if content else None)
        dying = self.scene.upstream
        if replied:
            dying.deliver(b"H")
        dying.lose(ConnectionLost)
        self.network.settle()
        again = self.scene.upstream is not dying
        if again:
            self.scene.answer(OK)
            self.assertEqual(200, self.successResultOf(answered).code)
        else:
            error = ResponseIncomplete if replied else ConnectionTerminated
            self.failureResultOf(answered, error)
        first = dying.value().count(b" / HTTP/1.1\r\n")
        self.assertEqual(1, first)
        return 2 if again else 1

    def test_table(self) -> None:
        """Method, content, reused, replied: only one kind of request goes out a second time."""
        for method in (b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"POST", b"PATCH", b"get"):
            for content in (False, True):
                for reused in (False, True):
                    for replied in (False, True):
                        safe = method not in (b"POST", b"PATCH", b"get") and not content
                        expected = 2 if safe and reused and not replied else 1
                        self.assertEqual(
                            expected,
                            self.heads_sent(method, content, reused, replied),
                            (method, content, reused, replied),
                        )

    def test_once(self) -> None:
        """The second try is the last."""
        self.exchange()
        answered = self.send()
        self.scene.upstream.lose()
        self.network.settle()
        self.assertEqual(2, len(self.network.opened))
        self.scene.upstream.lose()
        self.network.settle()
        self.failureResultOf(answered, ConnectionTerminated)
        self.assertEqual(2, len(self.network.opened))

    def test_on_a_new_connection(self) -> None:
        """The second try takes no other kept connection: that could be stale as well."""
        one, other = self.send(), self.send()
        for transport in self.network.opened:
            transport.deliver(OK)
        for answered in (one, other):
            self.successResultOf(treq.content(self.successResultOf(answered)))
        answered = self.send()
        self.network.opened[1].lose()
        self.network.settle()
        self.assertEqual(3, len(self.network.opened))
        self.scene.answer()
        self.successResultOf(answered)


class ReuseTests(AgentTestCase):
    """Connections are kept per origin."""

    def test_reuse(self) -> None:
        """One after the other they share a connection; at once they do not."""
        self.exchange()
        self.exchange()
        self.assertEqual(1, len(self.network.opened))
        self.send()
        self.send()
        self.assertEqual(2, len(self.network.opened))

    def test_unix_socket(self) -> None:
        """A Unix socket is an origin of its own, also beside a host of the same name.

        Trap, Twisted's Unix sockets: say that they are TCP, and take its options in old versions.
        """
        origins = [parse_target("unix:/run/x.sock").origin, parse_target("unix:/run/y.sock").origin]
        for origin in (*origins, *origins):
            self.network.listening[str(origin.socket)] = None
            answered = self.ask_agent(self.agent, Awaited(Peer(origin), b"GET", b"/", HOST, None))
            asked = next(one for one in self.network.opened if one.value())
            asked.take()
            asked.deliver(OK)
            self.network.settle()
            self.successResultOf(treq.content(self.successResultOf(answered)))
        self.assertEqual(2, len(self.network.opened))
        self.assertFalse(any(transport.no_delay for transport in self.network.opened))

    def test_origins_do_not_share(self) -> None:
        """Another port is another origin."""
        self.network.listening[UPSTREAM_PORT + 5] = None
        self.exchange()
        self.send(port=UPSTREAM_PORT + 5)
        self.assertEqual(2, len(self.network.opened))

    def test_cancelled(self) -> None:
        """A cancelled request's connection is closed and never used again."""
        answered = self.send()
        answered.cancel()
        self.failureResultOf(answered, CancelledError)
        self.network.settle()
        self.assertIsNotNone(self.scene.upstream.lost)
        self.exchange()
        self.assertEqual(2, len(self.network.opened))

    def test_close(self) -> None:
        """Closing the agent closes what it keeps."""
        self.exchange()
        self.agent.close()
        self.network.settle()
        self.assertIsNotNone(self.scene.upstream.lost)


class ConnectTests(AgentTestCase):
    """A connection that does not come about."""

    def refused(self, cause: Exception) -> ProxyError:
        """Let a connect fail; return what becomes of it."""
        self.network.listening[UPSTREAM_PORT] = cause
        answered = self.send()
        return cast(ProxyError, self.failureResultOf(answered, ProxyError).value)

    def test_failures(self) -> None:
        """Each kind of failure is its own error, safe to send again, from its cause."""
        for cause, kind in (
            (error.ConnectionRefusedError(), ConnectionRefused),
            (error.TimeoutError(), ConnectTimeout),
            (error.NoRouteError(), ConnectFailed),
            (error.ConnectError(), ConnectFailed),
            (OSError(71, "Protocol error"), ConnectFailed),
            (error.ConnectBindError(24, "Too many open files"), Exhausted),
            (OSError(24, "Too many open files"), Exhausted),
            (error.ConnectError(99, "Cannot assign requested address"), ConnectFailed),
        ):
            told = self.refused(cause)
            self.assertIs(kind, type(told))
            self.assertTrue(told.retry_safe)
            self.assertIsNotNone(told.__cause__)

    def test_unix_socket(self) -> None:
        """What ails a Unix socket is told in words that fit one; over TCP they would not."""
        origin = parse_target("unix:/run/x.sock").origin
        for number, words in (
            (errno.ENOENT, "does not exist (ENOENT)"),
            (errno.ENOTDIR, "does not exist (ENOTDIR)"),
            (errno.EACCES, "may not use the upstream's Unix socket (EACCES)"),
            (errno.EPROTOTYPE, "cannot be reached (EPROTOTYPE)"),
        ):
            self.network.listening["/run/x.sock"] = error.ConnectError(number)
            answered = self.ask_agent(self.agent, Awaited(Peer(origin), b"GET", b"/", HOST, None))
            self.assertIn(words, self.failureResultOf(answered, ConnectFailed).value.detail)
            self.assertNotIn("socket", self.refused(error.ConnectError(number)).detail)

    def test_reason_is_named(self) -> None:
        """The text says what kind of failure it was."""
        self.assertIn("NoRouteError", self.refused(error.NoRouteError()).detail)
        refused = self.refused(error.ConnectError(99, "Cannot assign requested address"))
        self.assertIn("EADDRNOTAVAIL", refused.detail)

    def test_no_name(self) -> None:
        """A name without an address."""
        self.failureResultOf(self.ask_by_name(Names([])), NameNotResolved)

    def test_limit_of_a_name(self) -> None:
        """A resolver that does not answer: the wait is part of the connect, and has its limit."""
        answered = self.ask_by_name(Names(None))
        self.network.pass_time(4.9, 0.1)
        self.assertNoResult(answered)
        self.network.pass_time(0.3, 0.1)
        self.failureResultOf(answered, ConnectTimeout)
        self.assertEqual([], self.network.connectors)

    def ask_by_name(self, resolver: IHostnameResolver) -> Deferred[Any]:
        """Send a request to an origin that has a name."""
        network: Any = self.network
        if hasattr(network, "installNameResolver"):
            network.installNameResolver(resolver)
        else:
            network.nameResolver = resolver
        origin = Origin("http", "nowhere.test", 80, b"nowhere.test")
        return self.ask_agent(self.agent, Awaited(Peer(origin), b"GET", b"/", [], None))

    def test_limit(self) -> None:
        """Nobody answers: the limit ends the wait, and nothing is left behind."""
        answered = self.send(port=SILENT_PORT)
        self.network.pass_time(4.9, 0.1)
        self.assertNoResult(answered)
        self.network.pass_time(0.3, 0.1)
        self.failureResultOf(answered, ConnectTimeout)
        calls = [call for call in self.network.getDelayedCalls() if call.getTime() > 7]
        self.assertEqual([], calls)

    def test_cancelled(self) -> None:
        """Who leaves during the connect ends it."""
        answered = self.send(port=SILENT_PORT)
        answered.cancel()
        self.failureResultOf(answered, CancelledError)
        self.assertTrue(self.network.connectors[-1].stoppedConnecting)


class TlsTests(AgentTestCase):
    """Connections over TLS: nothing is sent before the upstream has proved who it is."""

    authority = trustme.CA()

    def ask(self, name: str, insecure: bool = False) -> Deferred[Any]:
        """Ask a server whose certificate names somebody."""
        # wrapClientTLS takes no clock, and would write with the real reactor's.
        self.patch(tls, "_get_default_clock", lambda: self.network)
        self.server = Server(self.authority.issue_cert(name))
        self.network.listening[UPSTREAM_PORT] = tls.TLSMemoryBIOFactory(
            self.server, False, demo_site(self.network), self.network
        )
        agent = ForwardingAgent(cast(IProxyReactor, self.network), self.scene.sweeper)
        origin = attrs.evolve(ORIGIN, scheme="https")
        peer = Peer(origin, 5.0, self.authority.cert_pem.bytes(), insecure)
        return self.ask_agent(agent, Awaited(peer, b"GET", b"/v1/models", HOST, None))

    def test_trusted(self) -> None:
        """A certificate for the target's address."""
        self.assertEqual(200, self.successResultOf(self.ask("127.0.0.1")).code)

    def test_refused(self) -> None:
        """A certificate for somebody else: its reason is told, and not an octet was sent."""
        failure = self.failureResultOf(self.ask("127.0.0.2"), CertificateRefused)
        self.assertIn("it is not for 127.0.0.1", str(failure.value))
        self.assertIsNotNone(self.scene.upstream.lost)

    def test_insecure(self) -> None:
        """The same, if the operator said so."""
        self.assertEqual(200, self.successResultOf(self.ask("127.0.0.2", insecure=True)).code)


class ProbeTests(AgentTestCase):
    """Everywhere but on the forwarding path plain treq is right: the agent serves it."""

    def setUp(self) -> None:
        """Put a real site on the network."""
        super().setUp()
        self.network.listening[DEMO_PORT] = demo_site(self.network)
        self.client = HTTPClient(self.agent)

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Ask the site with treq; return the response with its content collected."""
        answered = self.client.request(method, f"http://127.0.0.1:{DEMO_PORT}{path}", **options)
        self.network.settle()
        return self.successResultOf(answered)

    def test_interface(self) -> None:
        """It is an agent."""
        self.assertTrue(verifyObject(IAgent, self.agent))

    def test_get(self) -> None:
        """A list of models."""
        content = treq.json_content(self.ask("GET", "/v1/models"))
        self.network.settle()
        self.assertEqual("list", self.successResultOf(content)["object"])

    def test_post(self) -> None:
        """Content with a length, and the query, arrive."""
        # Bytes would be read by a cooperator of the real reactor.
        content = treq.json_content(self.ask("POST", "/echo/a?b=c", data=Whole(b"hello")))
        self.network.settle()
        echoed = self.successResultOf(content)
        self.assertEqual("POST", echoed["method"])
        self.assertIn("/echo/a?b=c", str(echoed))

    def test_host(self) -> None:
        """A Host is added when there is none."""
        answered = self.agent.request(b"GET", b"http://127.0.0.1:9000/a?b#c", Headers({}))
        self.network.settle()
        asked = self.scene.answer()
        self.assertEqual(b"GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:9000\r\n\r\n", asked)
        self.successResultOf(answered)

    def test_content_of_unknown_length(self) -> None:
        """It goes out in chunks."""
        content = Content()
        self.agent.request(b"POST", b"http://127.0.0.1:9000/", None, content)
        self.network.settle()
        self.assertIn(b"\r\nTransfer-Encoding: chunked\r\n", self.scene.upstream.value())
        self.assertTrue(verifyObject(IBodyProducer, content))
