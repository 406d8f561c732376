"""NTLM and Negotiate through the proxy: they work, and nobody has another's login (invariant 4)."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable

from tests.live.kit import LiveTestCase, RawClient, Wire, answer, eventually, request

CLIENTS = 8
ROUNDS = 25
BYSTANDERS = 4


def token(scheme: bytes, text: str) -> bytes:
    """Return a scheme with a token."""
    return scheme + b" " + base64.b64encode(text.encode())


def step(field: bytes) -> list[str]:
    """Return the words of a token."""
    return base64.b64decode(field.partition(b" ")[2]).decode().split()


class Server:
    """Logs connections in, in three steps, as Windows does: whoever comes next is that user.

    Attributes:
        confused: steps that came on another connection than the step before.
    """

    def __init__(self, scheme: bytes = b"NTLM") -> None:
        self.scheme = scheme
        self.users: dict[Wire, str] = {}
        self.asked: dict[Wire, str] = {}
        self.confused: list[str] = []

    def serve(self, wire: Wire) -> None:
        """Answer one request: 401 with the next step, or the name of who is logged in."""
        head = wire.read_head()
        wire.read_body(head)
        credentials = head.value(b"authorization") or b""
        challenge = None
        if credentials.startswith(self.scheme + b" "):
            self.users.pop(wire, None)
            kind, name = step(credentials)
            if kind == "negotiate":
                self.asked[wire] = name
                challenge = token(self.scheme, f"challenge {name}")
            elif self.asked.pop(wire, None) == name:
                self.users[wire] = name
            else:
                self.confused.append(name)
        elif head.target == b"/private" and wire not in self.users:
            challenge = self.scheme
        if challenge is None:
            name = self.users.get(wire, "nobody")
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(name) + name.encode())
        else:
            wire.send(
                b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: %b\r\nContent-Length: 2\r\n\r\nno"
                % challenge
            )


def ask(client: RawClient, target: bytes, *fields: bytes) -> tuple[int, bytes, bytes]:
    """Make an exchange; return status, content and challenge."""
    client.send(request(b"GET " + target + b" HTTP/1.1", *fields))
    response = client.read_response()
    return response.status, response.body, response.value(b"www-authenticate") or b""


def log_in(client: RawClient, name: str) -> None:
    """Go through the three steps.  Raises: AssertionError where one goes wrong."""
    status, _, scheme = ask(client, b"/private")
    if status != 401 or scheme not in (b"NTLM", b"Negotiate"):
        raise AssertionError(f"no challenge for {name}: {status}")
    field = b"Authorization: " + token(scheme, f"negotiate {name}")
    status, _, challenge = ask(client, b"/private", field)
    if status != 401 or step(challenge) != ["challenge", name]:
        raise AssertionError(f"another's challenge for {name}: {challenge!r}")
    field = b"Authorization: " + token(scheme, f"authenticate {name}")
    found = ask(client, b"/private", field)
    if found[:2] != (200, name.encode()):
        raise AssertionError(f"{name} was not logged in: {found}")


class LoginTests(LiveTestCase):
    """A server that logs connections in, behind one pool."""

    def setUp(self) -> None:
        """Let the upstream log connections in."""
        super().setUp()
        self.upstream.drop_connections()
        self.server = Server()
        self.upstream.script = self.server.serve

    def test_two_clients(self) -> None:
        """A client without credentials never gets the answer of one who is logged in."""
        for scheme in (b"NTLM", b"Negotiate"):
            with self.subTest(scheme):
                self.server = Server(scheme)
                self.upstream.script = self.server.serve
                self.assert_apart((401, b"no", scheme))

    def test_proxy_challenge(self) -> None:
        """A challenge by 407 binds its connection as well, although it is for nobody behind us."""
        refusal = b"HTTP/1.1 407 No\r\nProxy-Authenticate: %b\r\nContent-Length: 2\r\n\r\nno"
        for scheme in (b"NTLM", b"Negotiate"):
            with self.subTest(scheme), self.proxy.client() as alice, self.proxy.client() as bob:
                self.upstream.drop_connections()
                self.upstream.script = answer(refusal % scheme)
                self.upstream.connections = 0
                self.assertEqual((407, b"no", b""), ask(alice, b"/"))
                self.upstream.script = answer()
                for _ in range(2):
                    self.assertEqual((200, b"ok", b""), ask(bob, b"/"))
                    self.assertEqual((200, b"ok", b""), ask(alice, b"/"))
                self.assertEqual(2, self.upstream.connections)

    def assert_apart(self, refused: tuple[int, bytes, bytes]) -> None:
        """Check that each of two clients is who it says.  Args: what one without a login gets."""
        with self.proxy.client() as alice, self.proxy.client() as bob:
            log_in(alice, "alice")
            for _ in range(3):
                self.assertEqual((200, b"alice", b""), ask(alice, b"/private"))
                self.assertEqual(refused, ask(bob, b"/private"))
                self.assertEqual((200, b"nobody", b""), ask(bob, b"/public"))
            log_in(bob, "bob")
            self.assertEqual((200, b"alice", b""), ask(alice, b"/private"))
            self.assertEqual((200, b"bob", b""), ask(bob, b"/public"))
        with self.proxy.client() as carol:
            self.assertEqual((200, b"nobody", b""), ask(carol, b"/public"))
        self.assertEqual([], self.server.confused)

    def test_end(self) -> None:
        """The login ends with its client's connection, and the other way round."""
        with self.proxy.client() as alice:
            log_in(alice, "alice")
            (wire,) = self.server.users
        self.assertTrue(eventually(lambda: not wire.open))
        with self.proxy.client() as bob:
            log_in(bob, "bob")
            self.upstream.drop_connections()
            bob.wait_closed()

    def test_pool_under_load(self) -> None:
        """Many log in and come again, among others who do not: each sees its own, always."""
        wrong: list[str] = []

        def user(number: int) -> None:
            for turn in range(ROUNDS // 5):
                name = f"user-{number}-{turn}"
                with self.proxy.client() as client:
                    log_in(client, name)
                    for _ in range(ROUNDS):
                        found = ask(client, b"/private")
                        if found[:2] != (200, name.encode()):
                            wrong.append(f"{name}: {found}")

        def bystander(number: int) -> None:
            with self.proxy.client() as client:
                for _ in range(ROUNDS * 5):
                    found = ask(client, b"/public")
                    if found[:2] != (200, b"nobody"):
                        wrong.append(f"bystander {number}: {found}")

        def noting(work: Callable[[int], None], number: int) -> None:
            try:
                work(number)
            except Exception as error:  # noqa: BLE001 - a thread's failure is told below
                wrong.append(repr(error))

        threads = [
            threading.Thread(target=noting, args=(work, number), daemon=True)
            for work, count in ((user, CLIENTS), (bystander, BYSTANDERS))
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(([], []), (wrong, self.server.confused))
        self.assertFalse(any(thread.is_alive() for thread in threads))
