"""Places to listen: all or none, and a change of one refuses no connection."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface import implementer

from pyproxy.config.endpoints import files_of
from pyproxy.config.schema import Listen
from pyproxy.listeners import (
    DemoUpstream,
    Listeners,
    Place,
    accept_waiting,
    all_or_nothing,
    board_address,
    open_now,
)
from pyproxy.workers.handover import Bound
from tests.turning import Greeting, TurningTestCase, descriptors, free_port

LOOPBACK = "127.0.0.1"


def at(port: int, more: str = "") -> Listen:
    """Return a place on loopback, by an endpoint string."""
    return Listen(f"{more}tcp:{port}:interface={LOOPBACK}")


HAND_OVER = """
import os, socket, sys
theirs = socket.create_server(("127.0.0.1", 0))
os.dup2(theirs.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="web")
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
"""Becomes a program that has a socket as systemd hands it over: sd_listen_fds(3)."""

CHANGE = """
import os
from twisted.internet import reactor
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from pyproxy.config.schema import Listen
from pyproxy.listeners import Listeners, leave

listeners = Listeners(reactor, Factory())
(place,), _ = listeners.take([Listen("systemd:domain=INET:index=0")])
number = place.port.getHost().port
assert listeners.take([place.listen]) == ([], [])
other = os.open("/dev/null", os.O_RDONLY)
assert other == 3, other
try:
    listeners.take([Listen("haproxy:systemd:domain=INET:index=0")])
except CannotListenError as error:
    print(error)
os.fstat(other)
assert listeners.places == [place] and place.port.getHost().port == number
"""
"""Takes systemd's socket, and tries to take it anew when its descriptor is somebody else's."""


class ListenersTestCase(TurningTestCase):
    """A case with places on real sockets."""

    def setUp(self) -> None:
        """Make listeners that greet, a directory, and hear the log."""
        super().setUp()
        temporary = tempfile.TemporaryDirectory(prefix="listeners-")
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)
        self.factory = self.greeting()
        self.opened: list[Any] = []
        self.listeners = Listeners(self.reactor, self.factory, self.opened.append)
        self.addCleanup(self.stop)
        self.events = EventLoggingObserver.createWithCleanup(
            self,  # type: ignore[arg-type]
            globalLogPublisher,
        )

    def stop(self) -> None:
        """Close every place."""
        for closed in self.listeners.stop():
            self.turn_until(lambda closed=closed: closed.called)  # type: ignore[misc]
        self.assertEqual([], self.listeners.places)

    def take(self, *listens: Listen) -> tuple[list[Place], list[Place]]:
        """Take places; those that are no more are left."""
        fresh, gone = self.listeners.take(listens)
        self.leave(gone)
        return fresh, gone

    def refuse(self, *listens: Listen) -> str:
        """Take places that cannot be had; nothing may have changed then.  Returns: why."""
        places, before = list(self.listeners.places), descriptors()
        why = self.why(listens)
        self.turn()
        # Older Twisted leaves a socket that could not be bound to the collector.
        gc.collect()
        self.assertEqual(places, self.listeners.places)
        self.assertEqual(before, descriptors(), "a socket is left open")
        return why

    def why(self, listens: Sequence[Listen]) -> str:
        """Return why places cannot be had; the error itself may hold a socket."""
        return str(self.assertRaises(CannotListenError, self.listeners.take, listens))


class TakeTests(ListenersTestCase):
    """What is open becomes what is wanted."""

    def test_start(self) -> None:
        """Every place is open, in order, has a number of its own, and is told of."""
        one, two = free_port(), free_port()
        fresh, gone = self.take(at(one), Listen(port=two))
        self.assertEqual((fresh, []), (self.listeners.places, gone))
        self.assertEqual([at(one), Listen(port=two)], [place.listen for place in fresh])
        self.assertEqual([place.port for place in fresh], self.opened)
        self.assertEqual(2, len({place.number for place in fresh}))
        for port in (one, two):
            self.assertEqual(b"hello", self.greeted((LOOPBACK, port)))

    def test_start_half(self) -> None:
        """A place that is somebody else's: the others are closed again, and nobody is told."""
        other = Listeners(self.reactor, Greeting())
        (taken,), _ = other.take([at(0)])
        self.addCleanup(self.leave, [taken])
        free = free_port()
        self.refuse(at(free), at(taken.port.getHost().port))
        self.assertTrue(self.refuses((LOOPBACK, free)))
        self.assertEqual([], self.opened)

    def test_reload_half(self) -> None:
        """The same later on: what was open still is, by the very same port."""
        other = Listeners(self.reactor, Greeting(b"other"))
        (taken,), _ = other.take([at(0)])
        self.addCleanup(self.leave, [taken])
        kept, free = free_port(), free_port()
        self.take(at(kept))
        self.refuse(at(free), at(kept, "haproxy:"), at(taken.port.getHost().port))
        self.assertTrue(self.refuses((LOOPBACK, free)))
        self.assertEqual(b"hello", self.greeted((LOOPBACK, kept)))
        self.assertEqual(b"other", self.greeted((LOOPBACK, taken.port.getHost().port)))
        self.assertEqual(1, len(self.opened))

    def test_kept(self) -> None:
        """A place that stays is the very same, in whatever order it is named."""
        one, two, three = free_port(), free_port(), free_port()
        (first, second), _ = self.take(at(one), at(two))
        fresh, gone = self.take(at(three), at(two), at(one))
        self.assertEqual(([three], []), ([place.port.getHost().port for place in fresh], gone))
        self.assertEqual([*fresh, second, first], self.listeners.places)
        self.assertEqual(3, len(self.opened))

    def test_any_port(self) -> None:
        """A place on a port of the system's choice keeps that."""
        (place,), _ = self.take(at(0))
        self.assertEqual(([], []), self.take(at(0)))
        self.assertEqual([place], self.listeners.places)

    def test_gone(self) -> None:
        """A place that is named no more accepts until it is left; its number comes no more."""
        one, two = free_port(), free_port()
        (first, second), _ = self.take(at(one), at(two))
        fresh, gone = self.listeners.take([at(two)])
        self.assertEqual(([], [first]), (fresh, gone))
        self.assertEqual(b"hello", self.greeted((LOOPBACK, one)))
        self.leave(gone)
        self.assertTrue(self.refuses((LOOPBACK, one)))
        self.assertEqual(b"hello", self.greeted((LOOPBACK, two)))
        (again,), _ = self.take(at(one), at(two))
        self.assertNotIn(again.number, (first.number, second.number))

    def test_twice(self) -> None:
        """One place cannot be had twice, at a reload as little as at the start."""
        one, two = free_port(), free_port()
        self.refuse(at(one), at(one))
        self.take(at(one))
        self.refuse(at(one), at(one))
        self.refuse(at(one), at(one, "haproxy:"))
        self.refuse(at(one, "haproxy:"), at(one))
        self.refuse(at(one, "haproxy:"), Listen(port=one))
        self.refuse(at(two), at(two))
        self.assertEqual(b"hello", self.greeted((LOOPBACK, one)))

    def test_interface(self) -> None:
        """A port on other interfaces is another place."""
        one = free_port()
        self.take(at(one))
        fresh, gone = self.take(at(one), Listen(port=one, interface="127.0.0.2"))
        self.assertEqual((1, []), (len(fresh), gone))
        self.assertEqual(b"hello", self.greeted(("127.0.0.2", one)))
        # The kernel has one of the two: all interfaces, or one of them.
        self.refuse(Listen(f"tcp:{one}"))

    def test_stop(self) -> None:
        """In the end nothing is open."""
        one = free_port()
        self.take(at(one), Listen(f"unix:{self.directory}/s"))
        self.stop()
        self.assertTrue(self.refuses((LOOPBACK, one)))
        self.assertEqual([], os.listdir(self.directory))


class SystemdTests(SynchronousTestCase):
    """Sockets that systemd has opened."""

    def test_once(self) -> None:
        """One stays as long as its endpoint does; it cannot be opened anew, and nothing breaks."""
        ended = subprocess.run(
            [sys.executable, "-c", HAND_OVER, CHANGE],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((0, ""), (ended.returncode, ended.stderr))
        self.assertIn("a reload cannot open a socket of systemd anew; restart", ended.stdout)


class SameSocketTests(ListenersTestCase):
    """What is laid around a place's connections changes; its socket does not."""

    def assert_same_socket(self, before: Listen, after: Listen, address: Any) -> None:
        """Change a place; its connections of all moments are served."""
        self.take(before)
        waiting = self.connect(address)
        inode = os.fstat(self.listeners.places[0].port.fileno()).st_ino
        (fresh,), (gone,) = self.listeners.take([after])
        self.assertEqual(inode, os.fstat(fresh.port.fileno()).st_ino)
        between = self.connect(address)
        accept_waiting([gone])
        self.leave([gone])
        later = self.connect(address)
        for client in (waiting, between, later):
            self.assertEqual(b"hello", self.hear(client))
        self.assertEqual([fresh], self.listeners.places)
        self.take()
        self.assertTrue(self.refuses(address))

    def test_other_words(self) -> None:
        """Who waits, who comes meanwhile and who comes later: all are served."""
        for before, after in (
            ("tcp:{}:interface=127.0.0.1", "tcp:{}:interface=127.0.0.1:backlog=9"),
            ("tcp:{}", "tcp:{}:interface=0.0.0.0"),
            ("tcp:{}:interface=0.0.0.0", "tcp:port={}"),
        ):
            port = free_port()
            listens = Listen(before.format(port)), Listen(after.format(port))
            self.assert_same_socket(*listens, (LOOPBACK, port))

    def test_option_and_endpoint(self) -> None:
        """A port and an interface are the same place as the endpoint string that says so."""
        port = free_port()
        self.assert_same_socket(Listen(port=port), at(port), (LOOPBACK, port))
        self.assert_same_socket(at(port), Listen(port=port), (LOOPBACK, port))
        self.assert_same_socket(
            Listen(port=port, interface=""), Listen(f"tcp:{port}"), (LOOPBACK, port)
        )

    def test_ipv6(self) -> None:
        """IPv6 is no other."""
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            port = probe.getsockname()[1]
        text = f"tcp6:{port}:interface=\\:\\:1"
        self.assert_same_socket(Listen(text), Listen(port=port, interface="::1"), ("::1", port))

    def test_again_and_again(self) -> None:
        """A socket outlives any number of changes, and the last one closes it."""
        port = free_port()
        for number in range(1, 6):
            fresh, gone = self.take(Listen(f"tcp:{port}:interface=127.0.0.1:backlog={number}"))
            self.assertEqual((1, min(1, number - 1)), (len(fresh), len(gone)))
            self.assertEqual(b"hello", self.greeted((LOOPBACK, port)))
        self.take()
        self.assertTrue(self.refuses((LOOPBACK, port)))


class CertificateTests(ListenersTestCase):
    """A place under TLS: what its files hold counts, not only what they are named."""

    authority = trustme.CA()

    def setUp(self) -> None:
        """Write a key and its certificate."""
        super().setUp()
        self.key = self.directory / "a:key.pem"
        self.chain = self.directory / "chain.pem"
        self.number = free_port()
        key = str(self.key).replace(":", "\\:")
        self.listen = Listen(
            f"ssl:{self.number}:interface={LOOPBACK}:privateKey={key}:certKey={self.chain}"
        )
        self.first = self.issue()

    def issue(self) -> trustme.LeafCert:
        """Write another key and certificate."""
        leaf = self.authority.issue_cert("localhost")
        leaf.private_key_pem.write_to_path(str(self.key))
        leaf.cert_chain_pems[0].write_to_path(str(self.chain))
        return leaf

    def assert_shown(self, leaf: trustme.LeafCert) -> None:
        """Fail unless a client is shown a certificate."""
        certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
        shown = self.certificate((LOOPBACK, self.number))
        self.assertEqual(certificate.public_bytes(Encoding.DER), shown)

    def test_same(self) -> None:
        """Files that hold the same are no change, however often they are written."""
        self.take(self.listen)
        self.assert_shown(self.first)
        self.key.write_bytes(self.key.read_bytes())
        self.assertEqual(([], []), self.take(self.listen))
        self.assertEqual({str(self.key), str(self.chain)}, files_of(self.listen.description or ""))

    def test_renewed(self) -> None:
        """Another certificate is shown on the same socket; who is connected stays so."""
        self.take(self.listen)
        open_before, _ = self.encrypt(self.connect((LOOPBACK, self.number)))
        self.assertEqual(b"hello", self.hear(open_before))
        second = self.issue()
        waiting = self.connect((LOOPBACK, self.number))
        (fresh,), (gone,) = self.listeners.take([self.listen])
        between = self.connect((LOOPBACK, self.number))
        accept_waiting([gone])
        self.leave([gone])
        self.assert_shown(second)
        for client in (waiting, between):
            encrypted, _ = self.encrypt(client)
            self.assertEqual(b"hello", self.hear(encrypted))
        self.factory.connections[0].transport.write(b"still here")  # type: ignore[union-attr]
        self.assertEqual(b"still here", self.hear(open_before))
        self.assertEqual([fresh], self.listeners.places)
        self.assertEqual(([], []), self.take(self.listen))

    def test_key_is_not_shown(self) -> None:
        """A place keeps its key to see whether that changes; no traceback shows it (promise 4)."""
        (place,), _ = self.take(self.listen)
        bound = Bound(1, place.listen, "AF_INET", place.files)
        self.assertIn(str(self.number), repr(place))
        for shown in (repr(place), repr(bound)):
            self.assertNotIn("PRIVATE", shown)

    def test_plain_becomes_secure(self) -> None:
        """TLS comes and goes on the same socket."""
        self.take(at(self.number))
        self.assertEqual(b"hello", self.greeted((LOOPBACK, self.number)))
        self.take(self.listen)
        self.assert_shown(self.first)
        self.take(Listen(port=self.number))
        self.assertEqual(b"hello", self.greeted((LOOPBACK, self.number)))

    def test_unreadable(self) -> None:
        """Files that may not be read any more change nothing, and that is said."""
        (place,), _ = self.take(self.listen)
        self.key.unlink()
        # Nobody may read it, not even root.
        self.key.symlink_to("/proc/sys/net/ipv4/route/flush")
        self.assertEqual(([], []), self.take(self.listen))
        self.assertEqual([place], self.listeners.places)
        self.assert_shown(self.first)
        said = [str(formatEvent(event)) for event in self.events]
        (warning,) = [text for text in said if "keeps its certificate" in text]
        self.assertIn(self.key.name, warning)

    def test_gone(self) -> None:
        """A file that is gone is told, as a wrong one is: a renewal may have failed."""
        (place,), _ = self.take(self.listen)
        self.key.unlink()
        self.assertIn(self.key.name, self.refuse(self.listen))
        self.assertEqual([place], self.listeners.places)
        self.assert_shown(self.first)

    def test_missing_at_start(self) -> None:
        """Files that were never there are a place that cannot be had."""
        self.chain.unlink()
        self.assertIn("chain.pem", self.refuse(self.listen))

    def test_no_certificate(self) -> None:
        """What is no certificate, or another key's: nothing changes until it is right again."""
        self.take(self.listen)
        stranger = trustme.CA().issue_cert("localhost").private_key_pem
        for path, octets in (
            (self.chain, b"no certificate"),
            (self.chain, b""),
            (self.key, b"no key"),
            (self.key, stranger.bytes()),
        ):
            before = path.read_bytes()
            path.write_bytes(octets)
            self.assertIn(str(self.number), self.refuse(at(0), self.listen))
            self.assert_shown(self.first)
            path.write_bytes(before)
            self.assertEqual(([], []), self.take(self.listen))
        second = self.issue()
        self.take(self.listen)
        self.assert_shown(second)

    def test_too_weak(self) -> None:
        """What OpenSSL refuses only when TLS is laid around the socket changes nothing either."""
        self.take(self.listen)
        key = rsa.generate_private_key(65537, 1024)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        try:
            SSL.Context(SSL.TLS_METHOD).use_certificate(X509.from_cryptography(certificate))
        except SSL.Error:
            pass
        else:
            raise SkipTest("this OpenSSL takes keys of 1024 bits")
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.key.write_bytes(pem)
        self.chain.write_bytes(certificate.public_bytes(Encoding.PEM))
        self.refuse(self.listen)
        self.assert_shown(self.first)


class UnixTests(ListenersTestCase):
    """Unix sockets."""

    def setUp(self) -> None:
        """Name two sockets."""
        super().setUp()
        self.one, self.two = (str(self.directory / name) for name in "ab")

    def test_comes_and_goes(self) -> None:
        """One that stays is the same; one that goes takes its file along."""
        self.take(Listen(f"unix:{self.one}"))
        inode = os.stat(self.one).st_ino
        fresh, gone = self.take(Listen(f"unix:{self.one}"), Listen(f"unix:{self.two}"))
        self.assertEqual((1, []), (len(fresh), gone))
        for path in (self.one, self.two):
            self.assertEqual(b"hello", self.greeted(path))
        self.take(Listen(f"unix:{self.one}"))
        self.assertTrue(self.refuses(self.two))
        self.assertFalse(os.path.lexists(self.two))
        self.assertEqual(inode, os.stat(self.one).st_ino)
        self.assertEqual(b"hello", self.greeted(self.one))

    def test_other_words(self) -> None:
        """A file cannot be made twice: other words for the same one change nothing."""
        self.take(Listen(f"unix:{self.one}"))
        for text in (f"unix:{self.one}:mode=600", f"haproxy:unix:{self.one}"):
            self.refuse(Listen(text))
            self.assertEqual(b"hello", self.greeted(self.one))


class AcceptWaitingTests(ListenersTestCase):
    """Connections that the kernel has made are not reset by the close of their place."""

    CLIENTS = 150
    """More than Twisted accepts in one turn."""

    def test_waiting(self) -> None:
        """All that wait are served, though the place is closed in the same turn."""
        for listen, address in self.places():
            self.take(listen)
            clients = [self.connect(address) for _ in range(self.CLIENTS)]
            _, gone = self.listeners.take([])
            accept_waiting(gone)
            self.leave(gone)
            self.assertTrue(self.refuses(address))
            self.assertEqual([b"hello"] * self.CLIENTS, [self.hear(one) for one in clients])

    def places(self) -> Iterator[tuple[Listen, Any]]:
        """Yield places, and how a client names them."""
        port = free_port()
        yield Listen(port=port), (LOOPBACK, port)
        path = f"{self.directory}/s"
        yield Listen(f"unix:{path}:backlog={self.CLIENTS}"), path

    def test_turns(self) -> None:
        """A port that leaves connections to others takes them all the same."""
        port = free_port()
        (place,), _ = self.take(at(port))
        place.port.doRead = lambda: None
        client = self.connect((LOOPBACK, port))
        self.turn()
        self.assertEqual([], self.factory.connections)
        accept_waiting([place])
        self.assertEqual(b"hello", self.hear(client))

    def test_nobody(self) -> None:
        """Without anybody who waits nothing happens; other kinds of ports are left alone."""
        (place,), _ = self.take(at(0))
        accept_waiting([place, Place(9, Listen(), object(), {})])
        self.assertEqual([], self.factory.connections)


@implementer(IStreamServerEndpoint)
class Slow:
    """An endpoint that is not ready at once."""

    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        """Never be ready."""
        return Deferred()


class OpeningTests(SynchronousTestCase):
    """How one place is opened, and what becomes of an error."""

    def test_not_ready(self) -> None:
        """A port that may open later is none."""
        self.assertRaises(RuntimeError, open_now, Slow(), Factory())

    def test_gives_up(self) -> None:
        """Who cannot listen is told so, before the error goes on; other errors are no matter."""
        told: list[CannotListenError] = []
        error = CannotListenError("", 1, OSError(98, "Address already in use"))

        def listen() -> None:
            raise error

        self.assertIs(
            error, self.assertRaises(CannotListenError, all_or_nothing, listen, told.append)
        )
        self.assertEqual([error], told)
        self.assertRaises(ZeroDivisionError, all_or_nothing, lambda: 1 / 0, told.append)
        self.assertEqual(1, len(told))


class DemoUpstreamTests(TurningTestCase):
    """The demo upstream."""

    def test_once(self) -> None:
        """It listens on loopback when it is asked for, once, and answers."""
        demo = DemoUpstream(self.reactor)
        self.assertEqual([], demo.stop())
        for _ in range(2):
            target = demo.start()
            self.assertEqual(target, demo.start())
            address = (LOOPBACK, target.origin.port)
            client = self.connect(address)
            client.send(b"GET /v1/models HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")
            self.assertEqual(b"HTTP/1.1 200 OK", self.hear(client)[:15])
            (closed,) = demo.stop()
            self.turn_until(lambda closed=closed: closed.called)  # type: ignore[misc]
            self.assertTrue(self.refuses(address))

    def test_board(self) -> None:
        """Its page leads to the admin site, where that has a port that is known."""
        for description, address in (
            ("tcp:8001:interface=127.0.0.1", "http:8001"),
            ("tcp6:port=8001", "http:8001"),
            ("ssl:8443:privateKey=key.pem", "https:8443"),
            ("tcp:0:interface=127.0.0.1", ""),
            ("unix:/run/tcp:8001", ""),
        ):
            self.assertEqual(address, board_address(Listen(description)), description)
        self.assertEqual("", board_address(None))
