"""Logins that belong to a connection stay with the client who made them (invariant 4)."""

from __future__ import annotations

from pyproxy.semantics.forwarding import FieldRules
from pyproxy.upstream import pool
from tests.memory import (
    OK,
    MemoryTransport,
    Stage,
    StageTestCase,
    request,
    response,
    status_of,
)
from tests.upstream.test_receiving import KEY, SWITCHING

NTLM = b"Authorization: NTLM TlRMTVNTUAABAAAA"
NEGOTIATE = b"authorization: negotiate YII="
BEARER = b"Authorization: Bearer NTLM"


def challenge(scheme: bytes = b"NTLM", *fields: bytes) -> bytes:
    """Return a 401 that offers a scheme."""
    return response(
        b"WWW-Authenticate: " + scheme,
        b"Content-Length: 2",
        *fields,
        status_line=b"HTTP/1.1 401 No",
        content=b"no",
    )


class LoginTestCase(StageTestCase):
    """A case with clients whose connections are logged in."""

    def setUp(self) -> None:
        """Set the stage."""
        self.scene: Stage = self.stage()
        self.network = self.scene.network

    def ask(self, client: MemoryTransport, *fields: bytes, answered: bytes = OK) -> int:
        """Make an exchange; return the number of the upstream connection that it went over."""
        client.take()
        client.deliver(request(b"GET / HTTP/1.1", *fields))
        self.network.settle()
        asked = [bool(one.value()) for one in self.network.opened]
        self.assertEqual(1, sum(asked))
        number = asked.index(True)
        upstream = self.network.opened[number]
        upstream.take()
        upstream.deliver(answered)
        self.network.settle()
        return number

    def lost(self) -> list[bool]:
        """Tell of each connection to the upstream whether it was closed."""
        self.network.settle()
        return [one.lost is not None for one in self.network.opened]


class BondTests(LoginTestCase):
    """A connection on which Negotiate or NTLM was seen belongs to one client."""

    def test_credentials(self) -> None:
        """What a client's login is seen on nobody else uses, also without a field of its own."""
        for login in ((NTLM,), (NEGOTIATE,), (BEARER, NTLM)):
            self.setUp()
            alice, bob = self.scene.client(), self.scene.client()
            self.assertEqual(0, self.ask(alice, *login))
            self.assertEqual(1, self.ask(bob))
            self.assertEqual(0, self.ask(alice))
            self.assertEqual(1, self.ask(self.scene.client()))
            self.assertEqual(0, self.ask(alice, BEARER))

    def test_challenge(self) -> None:
        """So it is from the upstream's challenge on: 401, 407, or behind a success."""
        for answered in (
            challenge(),
            challenge(b'Basic realm="x", Negotiate'),
            challenge().replace(b"401", b"407").replace(b"WWW", b"Proxy"),
            response(b"WWW-Authenticate: Negotiate oYG=", b"Content-Length: 2", content=b"ok"),
        ):
            self.setUp()
            alice, bob = self.scene.client(), self.scene.client()
            self.assertEqual(0, self.ask(bob))
            self.assertEqual(0, self.ask(alice, answered=answered))
            self.assertEqual(1, self.ask(bob))
            self.assertEqual(0, self.ask(alice))

    def test_other_schemes(self) -> None:
        """Whoever logs in with each request shares connections."""
        alice, bob = self.scene.client(), self.scene.client()
        self.assertEqual(0, self.ask(alice, BEARER))
        self.assertEqual(0, self.ask(bob, answered=challenge(b"Basic")))
        self.assertEqual(0, self.ask(alice))

    def test_three_steps(self) -> None:
        """The steps of a login go over one connection, with those of others between them."""
        alice, bob = self.scene.client(), self.scene.client()
        self.assertEqual(0, self.ask(alice, answered=challenge()))
        self.assertEqual(1, self.ask(bob, answered=challenge()))
        self.assertEqual(0, self.ask(alice, NTLM, answered=challenge(b"NTLM TlRMTVNTUAAC")))
        self.assertEqual(1, self.ask(bob, NTLM, answered=challenge(b"NTLM TlRMTVNTUAAC")))
        self.assertEqual(0, self.ask(alice, NTLM))
        self.assertEqual(1, self.ask(bob, NTLM))
        self.assertEqual(0, self.ask(alice))

    def test_new_connection(self) -> None:
        """A login begins on a connection that has served nobody."""
        self.assertEqual(0, self.ask(self.scene.client()))
        self.assertEqual(1, self.ask(self.scene.client(), NTLM))
        self.assertEqual(0, self.ask(self.scene.client()))

    def test_full_pool(self) -> None:
        """However many connections are kept for everybody, a login keeps its own."""
        self.patch(pool, "MAX_IDLE_CONNECTIONS", 1)
        self.ask(self.scene.client())
        client = self.scene.client()
        self.assertEqual(1, self.ask(client, NTLM, answered=challenge(b"NTLM TlRMTVNTUAAC")))
        self.assertEqual(1, self.ask(client, NTLM))
        self.assertEqual(([False, False], None), (self.lost(), client.lost))

    def test_undue_content(self) -> None:
        """An answer to HEAD does not part a client from its login."""
        client = self.scene.client()
        self.ask(client, NTLM)
        client.deliver(request(b"HEAD / HTTP/1.1"))
        self.network.settle()
        self.scene.answer(response(b"Content-Length: 10"))
        self.assertEqual(0, self.ask(client))

    def test_keep_alive(self) -> None:
        """Nor is a login used in the last second that its connection is kept."""
        client = self.scene.client()
        self.ask(client, NTLM, answered=response(b"Keep-Alive: timeout=5", b"Content-Length: 0"))
        self.network.advance(4)
        self.assertEqual(1, self.ask(client))
        self.assertTrue(self.lost()[0])


class EndTests(LoginTestCase):
    """It ends with the client's connection, and a login that ends is not pretended."""

    def test_client_leaves(self) -> None:
        """Whenever the client goes, its connections go at once; others' stay."""
        bob = self.scene.client()
        self.ask(bob)
        alice = self.scene.client()
        self.assertEqual(1, self.ask(alice, NTLM))
        alice.lose()
        self.assertEqual([False, True], self.lost())
        busy = self.scene.client(request(b"GET / HTTP/1.1", NTLM))
        self.scene.upstream.take()
        busy.lose()
        self.assertEqual([False, True, True], self.lost())
        self.assertEqual(0, self.ask(bob))

    def test_last_request(self) -> None:
        """Also a client that is sent away after its last request."""
        self.ask(self.scene.client(), NTLM, b"Connection: close")
        self.assertEqual([True], self.lost())

    def test_login_lost_while_idle(self) -> None:
        """A client whose login ended between two requests is disconnected, and begins anew."""
        client = self.scene.client()
        self.ask(client, NTLM)
        self.scene.upstream.lose()
        self.network.settle()
        self.assertIsNotNone(client.lost)

    def test_login_lost_under_a_request(self) -> None:
        """A request that is lost with its login is not sent again, and its client begins anew."""
        for line in (b"GET / HTTP/1.1", b"POST / HTTP/1.1"):
            self.setUp()
            client = self.scene.client()
            self.ask(client, NTLM)
            client.take()
            client.deliver(request(line))
            self.scene.upstream.lose()
            self.network.settle()
            self.assertEqual(1, len(self.network.opened))
            self.assertEqual(502, status_of(client.value()))
            self.assertIn(b"Connection: close\r\n", client.value())

    def test_idle_limits(self) -> None:
        """It is kept for as long as its client, and no client for ever."""
        client = self.scene.client()
        self.ask(client, NTLM)
        self.network.pass_time(40, 1)
        self.assertEqual([False], self.lost())
        self.network.pass_time(80, 1)
        self.assertIsNotNone(client.lost)
        self.assertEqual([True], self.lost())

    def test_last_response(self) -> None:
        """Whose connection ends with a response is disconnected behind it, and told if in time."""
        for answered, told in (
            (challenge(b"NTLM TlRMTVNTUAAC", b"Connection: close"), True),
            (response(b"Connection: close", b"Content-Length: 2", content=b"no"), True),
            (response(content=b"no"), False),
            (challenge(b"NTLM TlRMTVNTUAAC", b"Keep-Alive: timeout=1"), False),
            (response(b"Keep-Alive: max=0", b"Content-Length: 2", content=b"no"), False),
            (response(b"Content-Length: 2", content=b"no and more"), False),
        ):
            self.setUp()
            client, other = self.scene.client(), self.scene.client()
            self.ask(other)
            self.ask(client, NTLM, answered=answered)
            if b"Content-Length" not in answered:
                self.network.opened[1].lose()
            self.assertEqual([False, True], self.lost(), answered)
            self.assertIn(b"no", client.value())
            self.assertEqual(told, b"Connection: close\r\n" in client.value(), answered)
            self.assertEqual((True, None), (client.lost is not None, other.lost), answered)

    def test_found_gone(self) -> None:
        """A request that comes when its connection is over already begins on another one."""
        client = self.scene.client()
        self.ask(client, NTLM)
        self.scene.upstream.kernel[1].close()
        self.assertEqual(1, self.ask(client, answered=challenge()))
        self.assertEqual(([True, False], None), (self.lost(), client.lost))


class WebSocketTests(LoginTestCase):
    """A WebSocket may be opened with a login."""

    def test_switch(self) -> None:
        """It takes both connections with it; nothing of the bond is left behind."""
        client = self.scene.client()
        self.ask(client, NTLM, answered=challenge())
        client.take()
        opening = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
        key = b"Sec-WebSocket-Key: " + KEY
        client.deliver(request(b"GET / HTTP/1.1", NTLM, *opening, key))
        self.network.settle()
        self.scene.answer(SWITCHING)
        self.assertEqual(101, status_of(client.take()))
        self.assertEqual(([False], None), (self.lost(), client.lost))
        client.lose()
        self.network.pass_time(10, 1)
        self.assertEqual([True], self.lost())


class OperatorTests(LoginTestCase):
    """What the operator adds is the same for everybody."""

    def test_injected(self) -> None:
        """It binds nothing by itself; the upstream's challenge does."""
        rules = FieldRules(((b"Authorization", b"Negotiate YII="),))
        self.scene = self.stage(request_rules=rules)
        self.network = self.scene.network
        alice, bob = self.scene.client(), self.scene.client()
        self.assertEqual(0, self.ask(alice))
        self.assertEqual(0, self.ask(bob, answered=challenge(b"Negotiate")))
        self.assertEqual(1, self.ask(alice))
