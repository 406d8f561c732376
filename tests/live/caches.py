"""Give the live tests of the cache a proxy whose route keeps responses, and pages to keep.

What is stored outlives a test, since the tests of a class share a proxy: each asks for URLs of its
own (``self.page``).
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import selectors
import shutil
import signal
import socket
import tempfile
import time
import unittest
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs

from tests.live.kit import (
    PATIENCE,
    READ_SIZE,
    Head,
    LiveTestCase,
    Proxy,
    RawClient,
    Response,
    Script,
    ScriptedUpstream,
    Wire,
    eventually,
    free_port,
    request,
)

ROUTE = """
drain_timeout = 0
{top}
[[listeners]]
endpoint = "tcp:0:interface=127.0.0.1"
[upstreams.origin]
target = "{target}"
[cache]
{cache}
[[routes]]
path = "/"
upstream = "origin"
cache = {policy}
"""
"""A file whose only route caches."""

_numbers = itertools.count(1)


def page(content: bytes = b"ok", *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """Return a response that says just these fields, and its length."""
    lines = [b"HTTP/1.1 " + status, *fields, b"Content-Length: %d" % len(content)]
    return b"\r\n".join([*lines, b"", content])


def fresh(content: bytes = b"ok", *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """Return a response that may be kept for a minute."""
    return page(content, b"Cache-Control: max-age=60", *fields, status=status)


def pages(answers: Iterable[bytes] | Mapping[bytes, bytes]) -> Script:
    """Return a script that gives one response after the other, or by target."""
    by_target = answers if isinstance(answers, Mapping) else None
    left = iter(() if by_target is not None else answers)

    def script(wire: Wire) -> None:
        head = wire.read_head()
        wire.read_body(head)
        octets = next(left) if by_target is None else by_target[head.target]
        if head.method == b"HEAD":
            octets = octets.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        wire.send(octets)

    return script


def echo(say: Callable[[Head], bytes]) -> Script:
    """Return a script that makes each response of its request."""

    def script(wire: Wire) -> None:
        head = wire.read_head()
        wire.read_body(head)
        wire.send(say(head))

    return script


def told(response: Response) -> str:
    """Return what the cache says that it did, without its name; fail when it says nothing."""
    said = response.value(b"cache-status")
    if said is None:
        raise AssertionError(f"no Cache-Status: {response.head.octets!r}")
    return said.decode("ascii").removeprefix("pyproxy; ")


def is_hit(response: Response) -> bool:
    """Tell whether a response was served without a question."""
    return told(response).split(";")[0] == "hit"


class CacheTestCase(LiveTestCase):
    """A case whose tests share a proxy that caches.

    Attributes:
        cache: bounds of the store.
        policy: what the route says.
        top: more of the file, before its tables.
        disk: whether responses are kept in a directory.
    """

    cache: ClassVar[str] = 'memory = "64m"\nentry = "8m"'
    policy: ClassVar[str] = "true"
    top: ClassVar[str] = ""
    disk: ClassVar[bool] = False

    @classmethod
    def configured(cls, target: str) -> str:
        """Return the file."""
        if cls.disk:
            directory = tempfile.mkdtemp(prefix="kept-")
            atexit.register(shutil.rmtree, directory, True)
            cls.cache = f'disk = "{directory}"\nentry = "8m"'
        return ROUTE.format(target=target, cache=cls.cache, policy=cls.policy, top=cls.top)

    def setUp(self) -> None:
        """Have a URL of one's own."""
        super().setUp()
        self.page = b"/%d" % next(_numbers)

    def get(
        self, target: bytes | None = None, *fields: bytes, method: bytes = b"GET", body: bytes = b""
    ) -> Response:
        """Ask for the test's own page, or for another."""
        line = b"%b %b HTTP/1.1" % (method, self.page if target is None else target)
        return self.ask(line, *fields, body=body)

    def asked(self) -> int:
        """Return how many requests the upstream has got."""
        return len(self.upstream.heads)

    def assert_kept(self, *fields: bytes, target: bytes | None = None) -> Response:
        """Check that a request is answered without a question."""
        before = self.asked()
        response = self.get(target, *fields)
        self.assertTrue(is_hit(response), response.head.octets)
        self.assertEqual(before, self.asked())
        return response

    def assert_asks(self, *fields: bytes, target: bytes | None = None) -> Response:
        """Check that a request comes to the upstream."""
        before = self.asked()
        response = self.get(target, *fields)
        self.assertFalse(is_hit(response), response.head.octets)
        self.assertEqual(before + 1, self.asked())
        return response


class CacheFileTestCase(unittest.TestCase):
    """A case with a proxy of its own, whose file and admin site it has."""

    workers = 1

    def setUp(self) -> None:
        """Start an upstream; the proxy is started by the test."""
        self.upstream = self.enterContext(ScriptedUpstream())
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = Path(directory) / "pyproxy.toml"
        self.admin = free_port()

    def write(self, cache: str = 'memory = "64m"', policy: str = "true", top: str = "") -> None:
        """Write the file."""
        top = f'workers = {self.workers}\nadmin = "tcp:{self.admin}"\n{top}'
        self.path.write_text(
            ROUTE.format(target=self.upstream.url, cache=cache, policy=policy, top=top)
        )

    def start(self) -> Proxy:
        """Start the proxy with the file."""
        self.proxy = self.enterContext(Proxy("--config", str(self.path)))
        return self.proxy

    def reload(self) -> None:
        """Reload, and wait until that is over."""
        before = self.proxy.log().count("Reloaded: ")
        os.kill(self.proxy.pid, signal.SIGHUP)
        done = eventually(lambda: self.proxy.log().count("Reloaded: ") > before)
        self.assertTrue(done, self.proxy.log())

    def get(self, target: bytes = b"/", *fields: bytes) -> Response:
        """Ask on a new connection."""
        return self.proxy.ask(request(b"GET %b HTTP/1.1" % target, *fields))

    def tell(self, target: bytes = b"/api/cache", content: Any = None) -> dict[str, Any]:
        """Ask the admin site."""
        if content is None:
            octets = request(b"GET %b HTTP/1.1" % target, host=b"127.0.0.1")
        else:
            body = json.dumps(content).encode()
            fields = (b"Content-Type: application/json", b"Content-Length: %d" % len(body))
            line = b"POST %b HTTP/1.1" % target
            octets = request(line, *fields, body=body, host=b"127.0.0.1")
        with RawClient(self.admin) as client:
            client.send(octets)
            response = client.read_response()
        self.assertEqual(200, response.status, response.body)
        answered = json.loads(response.body)
        assert isinstance(answered, dict)
        return answered

    def route(self) -> dict[str, Any]:
        """Return the figures of the only route."""
        (figures,) = self.tell()["routes"].values()
        assert isinstance(figures, dict)
        return figures


@attrs.define(eq=False)
class Crowd:
    """Many clients that ask the same, in one thread.

    Attributes:
        got: octets of each so far.
        open: how many have not come to the end of what they wait for.
    """

    port: int
    count: int
    receive_buffer: int | None = None
    socks: list[socket.socket] = attrs.Factory(list)
    got: list[bytearray] = attrs.Factory(list)
    open: int = 0

    def __enter__(self) -> Crowd:
        for _ in range(self.count):
            sock = socket.socket()
            self.socks.append(sock)
            if self.receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
            sock.settimeout(PATIENCE)
            sock.connect(("127.0.0.1", self.port))
            sock.setblocking(False)
            self.got.append(bytearray())
        return self

    def __exit__(self, *exc: object) -> None:
        for sock in self.socks:
            sock.close()

    def send(self, octets: bytes) -> None:
        """Send the same, short octets from each."""
        for sock in self.socks:
            sock.send(octets)

    def read(self, enough: Callable[[bytearray], bool], limit: float = 6 * PATIENCE) -> None:
        """Read until every client has enough; it may close then.

        Raises: TimeoutError.
        """
        end = time.monotonic() + limit
        with selectors.DefaultSelector() as selector:
            for number, sock in enumerate(self.socks):
                selector.register(sock, selectors.EVENT_READ, number)
            self.open = len(self.socks)
            while self.open:
                if time.monotonic() > end:
                    raise TimeoutError(f"{self.open} of {self.count} clients still wait")
                for key, _ in selector.select(1.0):
                    got = self.got[key.data]
                    octets = key.fileobj.recv(READ_SIZE)  # type: ignore[union-attr]
                    got += octets
                    if not octets or enough(got):
                        selector.unregister(key.fileobj)
                        self.open -= 1


def whole(got: bytearray) -> bool:
    """Tell whether a response with a length is there."""
    head, mark, content = got.partition(b"\r\n\r\n")
    length = Head.parse(bytes(head + mark)).value(b"content-length") if mark else None
    return length is not None and len(content) >= int(length)
