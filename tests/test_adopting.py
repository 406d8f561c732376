"""Sockets that are bound already: what an endpoint lays around connections stays."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any

import trustme
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.testing import MemoryReactor
from zope.interface.verify import verifyObject

from pyproxy.adopting import AdoptingReactor, PlaceReactor
from pyproxy.listeners import open_now
from tests.turning import Greeting, TurningTestCase, descriptors, free_port

LOOPBACK = "127.0.0.1"


class AdoptingTestCase(TurningTestCase):
    """A case with a factory, and ports that are closed at its end."""

    def setUp(self) -> None:
        """Make a directory and the factory."""
        super().setUp()
        temporary = tempfile.TemporaryDirectory(prefix="adopting-")
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)
        self.factory = self.greeting()

    def opened(self, port: Any) -> Any:
        """Check a port, and close it in the end."""
        self.assertTrue(verifyObject(IListeningPort, port))
        self.addCleanup(self.close, port)
        return port

    def close(self, port: Any) -> None:
        """Close a port."""
        closed = port.stopListening()
        if closed is not None:
            self.turn_until(lambda: closed.called)

    def endpoint(self, description: str) -> str:
        """Return an endpoint string with the files that it names."""
        pem = self.directory / "key.pem"
        leaf = trustme.CA().issue_cert("localhost")
        leaf.private_key_and_cert_chain_pem.write_to_path(str(pem))
        return description.replace("KEY", str(pem))


class AdoptingReactorTests(AdoptingTestCase):
    """What a worker is given becomes a port of whatever its endpoint says."""

    def bound(self, family: str = "AF_INET", address: Any = (LOOPBACK, 0)) -> socket.socket:
        """Return a socket that somebody else has bound."""
        theirs = socket.socket(socket.AddressFamily[family])
        self.addCleanup(theirs.close)
        theirs.bind(address)
        theirs.listen(9)
        theirs.setblocking(False)
        return theirs

    def adopt(self, description: str, theirs: socket.socket) -> Any:
        """Open an endpoint on a socket."""
        descriptor = os.dup(theirs.fileno())
        reactor = AdoptingReactor(self.reactor, theirs.family.name, descriptor)
        endpoint = serverFromString(reactor, self.endpoint(description))
        port = self.opened(open_now(endpoint, self.factory))
        self.assertRaises(OSError, os.fstat, descriptor)
        return port

    def test_families(self) -> None:
        """A socket is adopted as what it is, whatever port or path the endpoint names."""
        path = str(self.directory / "s")
        for description, family, address in (
            ("tcp:0", "AF_INET", (LOOPBACK, 0)),
            ("tcp6:1:interface=\\:\\:1", "AF_INET6", ("::1", 0)),
            ("unix:adopted", "AF_UNIX", path),
        ):
            theirs = self.bound(family, address)
            self.adopt(description, theirs)
            self.assertEqual(b"hello", self.greeted(theirs.getsockname()))

    def test_laid_around(self) -> None:
        """TLS and the PROXY protocol are laid around the connections as on any socket."""
        theirs = self.bound()
        self.adopt("ssl:443:privateKey=KEY", theirs)
        encrypted, certificate = self.encrypt(self.connect(theirs.getsockname()))
        self.assertEqual((b"hello", True), (self.hear(encrypted), bool(certificate)))
        theirs = self.bound()
        self.adopt("haproxy:tcp:0", theirs)
        client = self.connect(theirs.getsockname())
        client.send(b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 8443\r\n")
        self.assertEqual(b"hello", self.hear(client))
        transport: Any = self.factory.connections[-1].transport
        self.assertEqual(
            ("203.0.113.7", 5000), (transport.getPeer().host, transport.getPeer().port)
        )

    def test_close(self) -> None:
        """To close an adopted socket ends it for nobody else; a Unix socket's file stays."""
        path = str(self.directory / "s")
        for description, family, address in (
            ("tcp:0", "AF_INET", (LOOPBACK, 0)),
            ("unix:adopted", "AF_UNIX", path),
        ):
            theirs = self.bound(family, address)
            self.close(self.adopt(description, theirs))
            self.connect(theirs.getsockname())
            theirs.accept()[0].close()
        self.assertTrue(stat.S_ISSOCK(os.lstat(path).st_mode))

    def test_everything_else(self) -> None:
        """For the rest it is the reactor that it was made of."""
        reactor = AdoptingReactor(self.reactor, "AF_INET", -1)
        self.assertEqual(self.reactor.callLater, reactor.callLater)
        self.assertRaises(AttributeError, getattr, reactor, "listenCarefully")


class PlaceReactorTests(AdoptingTestCase):
    """Where this process listens already it listens on the same socket."""

    def port(self, number: int = 0, interface: str = LOOPBACK, factory: Any = None) -> Any:
        """Listen."""
        factory = factory or Greeting(b"old")
        return self.opened(self.reactor.listenTCP(number, factory, 50, interface))

    def listen(self, reactor: PlaceReactor, description: str) -> Any:
        """Open an endpoint."""
        endpoint = serverFromString(reactor, self.endpoint(description))
        return self.opened(open_now(endpoint, self.factory))

    def assert_same(self, one: Any, other: Any) -> None:
        """Fail unless two ports have one socket."""
        inodes = {os.fstat(port.fileno()).st_ino for port in (one, other)}
        self.assertEqual(1, len(inodes))

    def test_same_place(self) -> None:
        """A place is a port on an interface; all interfaces have two names."""
        for interface, endpoint in (
            (LOOPBACK, "tcp:{}:interface=127.0.0.1"),
            ("", "tcp:{}"),
            ("", "tcp:{}:interface=0.0.0.0"),
            ("0.0.0.0", "tcp:{}"),
            ("::1", "tcp6:{}:interface=\\:\\:1"),
            (LOOPBACK, "ssl:{}:interface=127.0.0.1:privateKey=KEY"),
            ("", "haproxy:ssl:{}:privateKey=KEY"),
        ):
            old = self.port(interface=interface)
            reactor = PlaceReactor(self.reactor, [self.port(), old], set())
            new = self.listen(reactor, endpoint.format(old.getHost().port))
            self.assert_same(old, new)
            self.assertEqual([old], reactor.taken)

    def test_adopted_place(self) -> None:
        """A socket that was taken once can be taken again from whoever has it."""
        old = self.port(interface="")
        for _ in range(3):
            reactor = PlaceReactor(self.reactor, [old], set())
            new = self.listen(reactor, f"tcp:{old.getHost().port}")
            self.assert_same(old, new)
            old = new

    def test_once(self) -> None:
        """A socket goes to one place; where it went from, nothing is open for another."""
        old = self.port()
        reactor = PlaceReactor(self.reactor, [old], set())
        number = old.getHost().port
        self.listen(reactor, f"tcp:{number}:interface={LOOPBACK}")
        endpoint = serverFromString(reactor, f"tcp:{number}:interface={LOOPBACK}")
        failed = endpoint.listen(self.factory)
        self.assertIn("in use", str(self.failureResultOf(failed).value))
        self.assertEqual([old], reactor.taken)

    def test_other_place(self) -> None:
        """Another port, another interface, and what is no TCP, are opened anew."""
        old = self.port()
        path = str(self.directory / "s")
        unix = self.opened(self.reactor.listenUNIX(path, Greeting()))
        reactor = PlaceReactor(self.reactor, [unix, old], set())
        other = self.listen(reactor, f"tcp:{free_port()}:interface={LOOPBACK}")
        elsewhere = self.listen(reactor, f"tcp:{old.getHost().port}:interface=127.0.0.2")
        self.listen(reactor, f"unix:{path}2")
        self.assertEqual([], reactor.taken)
        self.assertEqual(3, len({os.fstat(one.fileno()).st_ino for one in (old, other, elsewhere)}))

    def test_systemd(self) -> None:
        """A descriptor of systemd's is good once: closed then, its number may be anybody's."""
        spent: set[int] = set()
        theirs = socket.create_server((LOOPBACK, 0))
        self.addCleanup(theirs.close)
        number = os.dup(theirs.fileno())
        first = AdoptedStreamServerEndpoint(
            PlaceReactor(self.reactor, [], spent), number, socket.AF_INET
        )
        port = self.opened(open_now(first, self.factory))
        self.assertRaises(OSError, os.fstat, number)
        with tempfile.TemporaryFile() as other:
            os.dup2(other.fileno(), number)
            again = AdoptedStreamServerEndpoint(
                PlaceReactor(self.reactor, [port], spent), number, socket.AF_INET
            )
            error = self.assertRaises(ValueError, open_now, again, self.factory)
            self.assertIn("restart the proxy", str(error))
            inodes = [os.fstat(one).st_ino for one in (other.fileno(), number)]
            self.assertEqual(1, len(set(inodes)))
            if number != other.fileno():
                os.close(number)
        self.assertEqual(b"hello", self.greeted(theirs.getsockname()))

    def test_certificate_first(self) -> None:
        """What is wrong with a certificate is found before the socket is touched."""

        class Broken:
            """A certificate that OpenSSL refuses."""

            def getContext(self) -> Any:
                """Refuse."""
                raise ValueError("ee key too small")

        old = self.port()
        reactor = PlaceReactor(self.reactor, [old], set())
        before = descriptors()
        number = old.getHost().port
        for place in (number, 0):
            self.assertRaises(
                ValueError, reactor.listenSSL, place, self.factory, Broken(), 50, LOOPBACK
            )
        self.assertEqual(([], before), (reactor.taken, descriptors()))

    def test_everything_else(self) -> None:
        """For the rest it is the reactor that it was made of."""
        memory = MemoryReactor()
        reactor = PlaceReactor(memory, [], set())
        self.assertEqual(memory.connectTCP, reactor.connectTCP)
        reactor.listenTCP(80, self.factory, 7, LOOPBACK)
        options = PrivateCertificate.loadPEM(
            trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.bytes()
        ).options()
        reactor.listenSSL(443, self.factory, options, 8, LOOPBACK)
        self.assertEqual([(80, self.factory, 7, LOOPBACK)], memory.tcpServers)
        self.assertEqual([(443, self.factory, options, 8, LOOPBACK)], memory.sslServers)
