"""Real sockets on loopback, served by the real reactor, which the test turns by hand."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase

from pyproxy.listeners import Place, leave

PATIENCE = 10.0
"""Seconds that any single wait may last on a busy machine."""

T = TypeVar("T")


class Greeter(Protocol):
    """A connection that is greeted with the name of its factory."""

    def connectionMade(self) -> None:
        """Greet."""
        factory: Any = self.factory
        factory.connections.append(self)
        self.transport.write(factory.greeting)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Be forgotten."""
        factory: Any = self.factory
        factory.connections.remove(self)


class Greeting(Factory):
    """Greets who connects; so it is seen who serves a place.

    Attributes: connections, those that are open, the oldest first.
    """

    noisy = False
    protocol = Greeter

    def __init__(self, greeting: bytes = b"hello") -> None:
        self.greeting = greeting
        self.connections: list[Greeter] = []

    def close(self) -> None:
        """End every connection."""
        for connection in list(self.connections):
            connection.transport.abortConnection()  # type: ignore[union-attr]


class TurnedReactor:
    """The real reactor, with threads of its own: Twisted's begin when it runs."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool: ThreadPool | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def getThreadPool(self) -> ThreadPool:
        """Return threads that have begun."""
        if self._pool is None:
            self._pool = ThreadPool(0, 1)
            self._pool.start()
        return self._pool

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.stop()


class TurningTestCase(SynchronousTestCase):
    """A case with a real reactor, and clients of its ports.

    Attributes: reactor, which runs only while ``turn_until`` waits.
    """

    def setUp(self) -> None:
        """Take the reactor: what Twisted lays around connections finds it by itself."""
        from twisted.internet import reactor

        self.reactor: Any = TurnedReactor(reactor)
        self.addCleanup(self.reactor.close)
        self.addCleanup(self.turn)

    def turn(self, times: int = 5) -> None:
        """Turn the reactor a few times."""
        for _ in range(times):
            self.reactor.iterate(0)

    def turn_until(self, look: Callable[[], T]) -> T:
        """Turn the reactor until something is true; return that."""
        end = time.monotonic() + PATIENCE
        while not (seen := look()):
            if time.monotonic() > end:
                self.fail(f"in vain: {look}")
            self.reactor.iterate(0.01)
        return seen

    def greeting(self) -> Greeting:
        """Make a factory whose connections end with the test."""
        factory = Greeting()
        self.addCleanup(factory.close)
        return factory

    def connect(self, address: Any) -> socket.socket:
        """Connect, without a turn of the reactor.  Raises: OSError when nobody listens."""
        family = socket.AF_INET
        if isinstance(address, str):
            family = socket.AF_UNIX
        elif ":" in address[0]:
            family = socket.AF_INET6
        client = socket.socket(family)
        self.addCleanup(client.close)
        client.settimeout(PATIENCE)
        client.connect(address)
        client.setblocking(False)
        return client

    def hear(self, client: socket.socket) -> bytes:
        """Return what a client is told; empty when its connection was ended."""
        heard: list[bytes] = []

        def look() -> bool:
            try:
                heard.append(client.recv(65536))
            except (BlockingIOError, ssl.SSLWantReadError):
                return False
            except ConnectionResetError:
                heard.append(b"")
            return True

        self.turn_until(look)
        return heard[0]

    def greeted(self, address: Any) -> bytes:
        """Connect, and return what one is greeted with."""
        return self.hear(self.connect(address))

    def encrypt(self, client: socket.socket) -> tuple[ssl.SSLSocket, bytes]:
        """Speak TLS with whoever it is.  Returns: the connection, and the certificate as DER."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        encrypted = context.wrap_socket(client, do_handshake_on_connect=False)
        self.addCleanup(encrypted.close)

        def look() -> bool:
            try:
                encrypted.do_handshake()
            except ssl.SSLWantReadError:
                return False
            return True

        self.turn_until(look)
        return encrypted, encrypted.getpeercert(True) or b""

    def certificate(self, address: Any) -> bytes:
        """Connect, and return the certificate that is shown, as DER."""
        return self.encrypt(self.connect(address))[1]

    def refuses(self, address: Any) -> bool:
        """Tell whether nobody listens at an address."""
        try:
            self.connect(address).close()
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        return False

    def leave(self, places: Sequence[Place]) -> None:
        """Close places, and wait for that."""
        for closed in leave(places):
            self.turn_until(lambda closed=closed: closed.called)  # type: ignore[misc]
            self.successResultOf(closed)


def free_port() -> int:
    """Return a TCP port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def descriptors() -> set[str]:
    """Return what this process has open, each as the kernel names it."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:
            continue
    return found
