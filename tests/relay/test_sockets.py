"""What the kernel knows of a connection, asked over a socket pair."""

from __future__ import annotations

import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet import tcp
from twisted.internet.interfaces import ISSLTransport, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, directlyProvides

from pyproxy.relay import sockets
from pyproxy.relay.sockets import (
    KEEPALIVE_SECONDS,
    SilenceCheck,
    acknowledge,
    end_tls,
    half_close,
    hand_over,
    has_left,
    not_sent,
    tune,
    unsent,
)
from tests.memory import CLIENT, PROXY, Network


class Layer:
    """TLS over a transport, as far as its descriptor goes."""

    def __init__(self, transport: object) -> None:
        self.transport = transport


def secured(transport: object) -> Any:
    """Return TLS over a transport."""
    layer = Layer(transport)
    directlyProvides(layer, ISSLTransport)
    return layer


class Holder:
    """A transport that is TCP, as far as its handle goes."""

    def __init__(self, handle: socket.socket) -> None:
        self.handle = handle

    def getHandle(self) -> socket.socket:
        """Return the socket."""
        return self.handle


class TuneTests(SynchronousTestCase):
    """How a client's socket is set up."""

    def tuned(self, family: int) -> socket.socket:
        """Return a socket that was set up, through TLS."""
        handle = socket.socket(family, socket.SOCK_STREAM)
        self.addCleanup(handle.close)
        transport = Holder(handle)
        directlyProvides(transport, ITCPTransport)
        tune(secured(transport), 2.5)
        return handle

    def test_tcp(self) -> None:
        """Small segments leave at once, and a vanished peer is noticed.

        Trap, Twisted TCP: TCP_NODELAY is set on this side too.
        """
        handle = self.tuned(socket.AF_INET)
        self.assertTrue(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self.assertTrue(handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            self.assertEqual(2500, handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
            idle = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            self.assertEqual(KEEPALIVE_SECONDS, idle)

    def test_for_ever(self) -> None:
        """A limit of years is no error: the kernel keeps milliseconds in 31 bits."""
        handle = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.addCleanup(handle.close)
        transport = Holder(handle)
        directlyProvides(transport, ITCPTransport)
        tune(secured(transport), 1e9)
        self.assertTrue(handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def test_unix(self) -> None:
        """Unix sockets have none of these, though Twisted says that they are TCP."""
        handle = self.tuned(socket.AF_UNIX)
        self.assertFalse(handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))


class KernelTests(SynchronousTestCase):
    """The reactor need not have noticed yet what the kernel knows."""

    def setUp(self) -> None:
        """Make a transport over one end of a socket pair."""
        network = Network()
        self.addCleanup(network.close)
        self.transport: Any = network.transport(PROXY, CLIENT)
        self.ours, self.theirs = self.transport.kernel

    def test_quiet(self) -> None:
        """A peer that is there and says nothing."""
        for transport in (self.transport, secured(secured(self.transport))):
            self.assertFalse(has_left(transport))
            self.assertTrue(SilenceCheck(transport).holds())
            self.assertEqual(0, unsent(transport))

    def test_left_behind_unread_octets(self) -> None:
        """A close that unread octets hide from a reader."""
        self.theirs.sendall(b"unread")
        self.assertFalse(has_left(self.transport))
        self.theirs.close()
        self.assertTrue(has_left(secured(self.transport)))

    def test_not_silent(self) -> None:
        """Octets that nobody asked for, and a close."""
        self.theirs.sendall(b"unasked")
        self.assertFalse(SilenceCheck(self.transport).holds())
        self.ours.recv(100)
        self.theirs.close()
        self.assertFalse(SilenceCheck(self.transport).holds())

    def test_silent_until(self) -> None:
        """One that is asked again and again notices octets, their being read, and a close."""
        check = SilenceCheck(secured(self.transport))
        self.assertTrue(check.holds())
        self.theirs.sendall(b"unasked")
        self.assertFalse(check.holds())
        self.ours.recv(100)
        self.assertTrue(check.holds())
        self.theirs.close()
        self.assertFalse(check.holds())
        self.assertFalse(check.holds())

    def test_closed_after_a_check(self) -> None:
        """A connection that was closed here is not silent, although it was before."""
        check = SilenceCheck(self.transport)
        self.assertTrue(check.holds())
        self.ours.close()
        self.assertFalse(check.holds())

    def test_unsent(self) -> None:
        """Octets that the peer has not taken are counted until it takes them."""
        self.ours.sendall(bytes(1000))
        self.assertGreaterEqual(unsent(self.transport), 1000)
        self.theirs.recv(1000)
        self.assertEqual(0, unsent(self.transport))

    def test_not_sent(self) -> None:
        """Octets for which the peer has no room are counted, those on their way are not."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname(), 5)
            theirs, _ = listener.accept()
        self.addCleanup(theirs.close)
        self.transport.close_kernel()
        self.transport._kernel = ours, theirs
        ours.setblocking(False)
        ours.send(bytes(1000))
        self.assertEqual(0, not_sent(secured(self.transport)))
        sent = 1000
        try:
            while True:
                sent += ours.send(bytes(65536))
        except BlockingIOError:
            pass
        waiting = not_sent(self.transport)
        self.assertTrue(0 < waiting < sent, (waiting, sent))
        self.assertLessEqual(waiting, unsent(self.transport))

    def test_not_sent_elsewhere(self) -> None:
        """Of a Unix socket nothing is known; its FIN waits for nobody."""
        self.ours.sendall(bytes(1000))
        self.assertEqual(0, not_sent(self.transport))

    def test_closed(self) -> None:
        """A closed transport has no descriptor any more."""
        self.transport.lose()
        self.assertTrue(has_left(self.transport))
        self.assertFalse(SilenceCheck(self.transport).holds())
        self.assertEqual(0, unsent(self.transport))
        self.assertEqual(0, not_sent(self.transport))


class AcknowledgeTests(SynchronousTestCase):
    """Octets that were read are acknowledged at once, once or from then on."""

    def connected(self, family: int, address: Any) -> tuple[Any, socket.socket]:
        """Return a transport of Twisted's that has read octets, and the peer's socket."""
        listening = socket.socket(family)
        listening.bind(address)
        listening.listen()
        ours = socket.socket(family)
        ours.connect(listening.getsockname())
        theirs, _ = listening.accept()
        for end in (listening, ours, theirs):
            self.addCleanup(end.close)
        nobody: Any = None
        reactor: Any = MemoryReactorClock()
        transport = tcp.Server(ours, Speaker(), ("h", 1), nobody, 1, reactor)
        if family == socket.AF_INET:
            # As a connection is that has asked and was answered.
            ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        theirs.sendall(b"octets")
        ours.recv(100)
        return transport, theirs

    def prompt(self, transport: Any) -> int:
        """Return whether a socket acknowledges by itself what is read.  Spec: tcp(7)."""
        known: int = transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)
        return known

    def test_tcp(self) -> None:
        """The peer has its acknowledgement, also through TLS, and will have later ones."""
        for wrap in (lambda transport: transport, secured):
            transport, theirs = self.connected(socket.AF_INET, ("127.0.0.1", 0))
            acknowledge(wrap(transport))
            self.assertEqual(1, self.prompt(transport))
            peer: Any = theirs
            self.assertEqual(0, unsent(peer))

    def test_once(self) -> None:
        """One that does not last leaves later octets to the kernel's habit."""
        left = set()
        for _ in range(5):
            transport, theirs = self.connected(socket.AF_INET, ("127.0.0.1", 0))
            acknowledge(transport, lasting=False)
            peer: Any = theirs
            self.assertEqual(0, unsent(peer))
            left.add(self.prompt(transport))
        # Where this process is held up for 40 ms, nothing is due any more.
        self.assertIn(0, left)

    def test_unix(self) -> None:
        """A Unix socket has nothing to acknowledge, and is left as it is."""
        transport, _ = self.connected(socket.AF_UNIX, "")
        acknowledge(transport)
        self.assertEqual(0, transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def test_closed(self) -> None:
        """So is a socket that is closed, or that its transport has let go of."""
        transport, _ = self.connected(socket.AF_INET, ("127.0.0.1", 0))
        transport.socket.close()
        acknowledge(transport)
        del transport.socket
        acknowledge(transport)

    def test_unknown(self) -> None:
        """Where the kernel has no such option nothing is set."""
        transport, _ = self.connected(socket.AF_INET, ("127.0.0.1", 0))
        self.patch(sockets, "QUICKACK", None)
        acknowledge(transport)
        self.assertEqual(0, self.prompt(transport))


class Speaker(Protocol):
    """A protocol that notes what it reads."""

    def __init__(self) -> None:
        self.read = b""

    def dataReceived(self, data: bytes) -> None:
        """Take note."""
        self.read += data


class WrapperTestCase(SynchronousTestCase):
    """A case with a transport of Twisted's, plain or under a wrapper."""

    def setUp(self) -> None:
        """Connect a transport of Twisted's over a real socket."""
        reactor: Any = MemoryReactorClock()
        ours, self.theirs = socket.socketpair()
        for end in (ours, self.theirs):
            end.setblocking(False)
            self.addCleanup(end.close)
        server: Any = None
        self.first, self.second = Speaker(), Speaker()
        self.socket: Any = tcp.Server(ours, self.first, ("h", 1), server, 1, reactor)
        self.reactor = reactor

    def wrapped(self) -> ProtocolWrapper:
        """Put a wrapper of Twisted's (TLS, PROXY) between the socket and the protocol."""
        factory = WrappingFactory(Factory.forProtocol(Speaker))
        wrapper = ProtocolWrapper(factory, self.first)
        self.socket.protocol = wrapper
        wrapper.makeConnection(self.socket)
        return wrapper

    def arrives(self, octets: bytes) -> None:
        """Let octets arrive."""
        self.theirs.send(octets)
        self.socket.doRead()


class HandOverTests(WrapperTestCase):
    """Another protocol takes a connection over, whatever lies on the socket."""

    def test_plain(self) -> None:
        """The socket itself speaks to the new protocol."""
        self.first.makeConnection(self.socket)
        self.arrives(b"1")
        hand_over(self.socket, self.second)
        self.arrives(b"2")
        self.assertEqual((b"1", b"2"), (self.first.read, self.second.read))
        self.assertIs(self.second, self.socket.protocol)

    def test_wrapped(self) -> None:
        """The wrapper speaks to it, and the socket goes on to speak to the wrapper."""
        wrapper: Any = self.wrapped()
        self.assertIs(wrapper, self.first.transport)
        self.arrives(b"1")
        hand_over(wrapper, self.second)
        self.arrives(b"2")
        self.assertEqual((b"1", b"2"), (self.first.read, self.second.read))
        self.assertIs(wrapper, self.socket.protocol)
        self.assertIs(self.second, wrapper.wrappedProtocol)


class EndTlsTests(SynchronousTestCase):
    """TLS's good-bye, where there is any TLS left; that itself is ``test_trust``'s."""

    def test_nothing_to_say(self) -> None:
        """A plain connection, and one whose TLS or socket is gone, are closed at once."""
        network = Network()
        self.addCleanup(network.close)
        for is_secure, is_lost in ((False, False), (False, True), (True, True)):
            below = network.transport(CLIENT, PROXY)
            transport: Any = below
            if is_secure:
                transport = secured(below)
                transport.getHandle = lambda: None
                transport.abortConnection = below.abortConnection
            if is_lost:
                below.lose()
            end_tls(transport)
            self.assertTrue(below.disconnected)

    def test_no_room(self) -> None:
        """A good-bye that the kernel has no room for is not waited for: nobody watches that."""
        network = Network()
        self.addCleanup(network.close)
        for waiting in (b"", b"octets"):
            below: Any = network.transport(CLIENT, PROXY)
            below.dataBuffer = waiting
            transport = secured(below)
            transport.getHandle = lambda: SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
            end_tls(transport)
            self.assertEqual((bool(waiting), True), (below.disconnected, below.disconnecting))


class HalfCloseTests(WrapperTestCase):
    """A FIN behind what was written."""

    def assert_fin_behind(self, transport: Any) -> None:
        """Check that octets, then a FIN arrive, and that the socket is still read."""
        transport.write(b"last")
        half_close(transport)
        for _ in range(3):
            self.socket.doWrite()
        self.assertEqual(b"last", self.theirs.recv(100))
        self.assertEqual(b"", self.theirs.recv(100))
        self.assertTrue(self.socket.connected)
        self.arrives(b"answer")
        self.assertEqual(b"answer", self.first.read)

    def test_plain(self) -> None:
        """One half is closed, the other is read on."""
        self.first.makeConnection(self.socket)
        self.assert_fin_behind(self.socket)

    def test_wrapped(self) -> None:
        """So it is through a wrapper that is no TLS."""
        self.assert_fin_behind(self.wrapped())

    def test_secure(self) -> None:
        """TLS has no halves: its close says good-bye and waits for the answer by itself."""
        wrapper: Any = self.wrapped()
        alsoProvides(wrapper, ISSLTransport)
        half_close(wrapper)
        self.assertTrue(wrapper.disconnecting)
        self.assertFalse(self.socket._writeDisconnecting)
