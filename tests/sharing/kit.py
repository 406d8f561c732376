"""A real Redis in a process of its own, for tests; and something else in its place."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from pyproxy.sharing.redis import RedisClient
from pyproxy.sharing.redis_place import RedisPlace

SERVER = shutil.which("redis-server")
NO_SERVER = "no redis-server is installed (Debian: apt-get install redis-server)"

PATIENCE = 20.0
"""Seconds that any single wait of a test may last on a busy machine."""

T = TypeVar("T")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Server:
    """A Redis that keeps its port while it comes and goes."""

    def __init__(self, *options: str) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.port = free_port()
        self.path = str(Path(self.directory.name) / "redis.sock")
        self.options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def place(self) -> RedisPlace:
        """Where it is."""
        return RedisPlace("127.0.0.1", self.port)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        fixed = ["--port", str(self.port), "--unixsocket", self.path, "--bind", "127.0.0.1"]
        fixed += ["--save", "", "--appendonly", "no", "--dir", self.directory.name]
        self._process = subprocess.Popen(
            [str(SERVER), *fixed, *self.options],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as wire:
                    wire.sendall(b"PING\r\n")
                    if wire.recv(64):
                        return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("redis-server does not start")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self._process is not None:
            os.kill(self._process.pid, number)

    def stop(self) -> None:
        """End it, however it is."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(PATIENCE)
            self._process = None

    def clean(self) -> None:
        """End it and remove its files."""
        self.stop()
        self.directory.cleanup()


def the_reactor() -> Any:
    """Return the reactor that the tests run on."""
    from twisted.internet import reactor

    return reactor


class Speaker(Protocol):
    """Something in a Redis' place."""

    def send(self, octets: bytes) -> None:
        """Send octets, if there still is somebody."""
        if self.transport is not None:
            self.transport.write(octets)


def story(test: Any) -> Any:
    """Make a test of a coroutine."""

    def run(case: TestCase) -> Deferred[None]:
        told: Coroutine[Any, Any, None] = test(case)
        return Deferred.fromCoroutine(told)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class RedisTestCase(TestCase):
    """A case with clients that are closed at its end."""

    timeout = 60

    def client(self, place: RedisPlace, **options: Any) -> RedisClient:
        """Return a client that is started."""
        client = RedisClient(the_reactor(), place, **options)
        client.start()
        self.addCleanup(self._close, client)
        return client

    def _close(self, client: RedisClient) -> Deferred[None]:
        client.close()
        # A connection that is aborted is lost in the reactor's next turn.
        return deferLater(the_reactor(), 0.01, lambda: None)

    def server(self, *options: str) -> Server:
        """Return a Redis that runs."""
        server = Server(*options)
        self.addCleanup(server.clean)
        server.start()
        return server

    async def pause(self, seconds: float) -> None:
        """Let others have their turn."""
        await deferLater(the_reactor(), seconds, lambda: None)

    async def until(self, look: Callable[[], T], limit: float = PATIENCE) -> T:
        """Wait until ``look`` returns something true."""
        end = time.monotonic() + limit
        while not (seen := look()):
            if time.monotonic() > end:
                raise AssertionError("it has not come about")
            await self.pause(0.005)
        return seen

    def impostor(self, protocol: type[Speaker]) -> RedisPlace:
        """Let something else listen in a Redis' place."""
        port = the_reactor().listenTCP(0, Factory.forProtocol(protocol), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return RedisPlace("127.0.0.1", port.getHost().port)
