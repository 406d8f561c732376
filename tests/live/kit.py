"""Give the live tests a proxy process, scripted upstreams and raw sockets.

Everything blocks, and every wait ends after ``PATIENCE`` seconds.  The readers of messages here are
written for the tests alone: they share no code with the proxy, so they cannot share its mistakes.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import queue
import re
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import attrs

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE = 10.0
"""Seconds that any single wait of a test may last on a busy machine."""

PROMPT = 3.0
"""Seconds from one end's leaving to the other's knowing.

It takes 0.1 on a machine at rest, and 5 where only the limit for a last word brings it about.
"""

SETTLE_LIMIT = 1.0
"""Seconds for an upstream to read what an earlier test left."""

START_LIMIT = 30.0
"""Seconds that ``twistd`` may take until it listens."""

MIB = 1024 * 1024
READ_SIZE = 65536
TROUBLE = re.compile(
    r"Traceback \(most recent call last\)|Unhandled [Ee]rror|Unhandled in Deferred"
)


class Closed(EOFError):
    """The peer ended the connection before the message was whole; ``octets`` came until then."""

    def __init__(self, octets: bytes, *, reset: bool = False) -> None:
        super().__init__(f"closed {'by RST ' if reset else ''}after {len(octets)} octets")
        self.octets = octets
        self.reset = reset


T = TypeVar("T")


def eventually(look: Callable[[], T], limit: float = PATIENCE) -> T:
    """Call ``look`` until it returns something true; return that, or the last answer."""
    end = time.monotonic() + limit
    while not (seen := look()) and time.monotonic() < end:
        time.sleep(0.01)
    return seen


def heed_interrupts(case: unittest.TestCase) -> None:
    """Let processes that a test starts heed SIGINT; a shell's job in the background does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    case.addCleanup(signal.signal, signal.SIGINT, before)


# -- messages ---------------------------------------------------------------------------------


@attrs.frozen
class Head:
    """A start line and its fields, as octets, in the order of the wire."""

    octets: bytes
    start_line: bytes
    fields: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def parse(cls, octets: bytes) -> Head:
        """Split a head that ends with an empty line; keep names as written."""
        lines = octets.removesuffix(b"\r\n\r\n").split(b"\r\n")
        fields = []
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            fields.append((name, value.strip(b" \t")))
        return cls(octets, lines[0], tuple(fields))

    def values(self, name: bytes) -> list[bytes]:
        """Return every value of a field, in order."""
        return [value for each, value in self.fields if each.lower() == name.lower()]

    def value(self, name: bytes) -> bytes | None:
        """Return the only value of a field, or None; fail when it is repeated."""
        values = self.values(name)
        if len(values) > 1:
            raise AssertionError(f"{name!r} came {len(values)} times: {values}")
        return values[0] if values else None

    def names(self) -> list[bytes]:
        """Return the names of all fields in lower case, in order."""
        return [name.lower() for name, _ in self.fields]

    @property
    def status(self) -> int:
        """The status code of a response head."""
        found = re.fullmatch(rb"HTTP/1\.[01] (\d{3})(?: .*)?", self.start_line)
        if found is None:
            raise AssertionError(f"no status line: {self.start_line!r}")
        return int(found[1])

    @property
    def method(self) -> bytes:
        """The method of a request head."""
        return self.start_line.split(b" ")[0]

    @property
    def target(self) -> bytes:
        """The target of a request head."""
        return self.start_line.split(b" ")[1]

    @property
    def chunked(self) -> bool:
        """Tell whether the content is in chunks."""
        return any(
            value.lower().endswith(b"chunked") for value in self.values(b"transfer-encoding")
        )


@attrs.frozen
class Response:
    """A whole response; ``body`` is without chunk framing."""

    head: Head
    body: bytes
    chunks: tuple[bytes, ...] = ()
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    interim: tuple[Head, ...] = ()

    @property
    def status(self) -> int:
        """The final status code."""
        return self.head.status

    def value(self, name: bytes) -> bytes | None:
        """Return the only value of a field of the head, or None."""
        return self.head.value(name)


def chunk(octets: bytes) -> bytes:
    """Return the octets framed as one chunk."""
    return b"%x\r\n%s\r\n" % (len(octets), octets)


END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


# -- connections ------------------------------------------------------------------------------


class Wire:
    """One end of a connection: blocking reads with a limit, and nothing read ahead is lost."""

    def __init__(
        self,
        sock: socket.socket,
        on_head: Callable[[bytes], None] | None = None,
        on_body: Callable[[bytes], None] | None = None,
    ) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self.open = True
        self.busy = False
        self._kept = bytearray()
        self._on_head = on_head
        self._on_body = on_body

    # reading

    def read_some(self) -> bytes:
        """Return what is there or comes next; empty when the peer has closed.

        Raises: Closed on RST, TimeoutError when nothing comes.
        """
        if self._kept:
            octets = bytes(self._kept)
            self._kept.clear()
            return octets
        try:
            return self.sock.recv(READ_SIZE)
        except TimeoutError:
            raise
        except OSError as error:
            raise Closed(b"", reset=True) from error

    def _fill(self) -> None:
        """Wait for more octets behind those that are kept."""
        kept = bytes(self._kept)
        try:
            more = self.sock.recv(READ_SIZE)
        except TimeoutError:
            raise
        except OSError as error:
            raise Closed(kept, reset=True) from error
        if not more:
            raise Closed(kept)
        self._kept += more

    def _take(self, size: int) -> bytes:
        octets = bytes(self._kept[:size])
        del self._kept[:size]
        return octets

    def read_until(self, mark: bytes) -> bytes:
        """Return the octets up to and with the mark."""
        while (at := self._kept.find(mark)) < 0:
            self._fill()
        return self._take(at + len(mark))

    def read_exactly(self, size: int) -> bytes:
        """Return just so many octets."""
        while len(self._kept) < size:
            self._fill()
        return self._take(size)

    def discard(self, size: int) -> None:
        """Read so many octets and drop them."""
        while size:
            if not self._kept:
                self._fill()
            size -= len(self._take(size))

    def read_head(self) -> Head:
        """Return the next head."""
        octets = self.read_until(b"\r\n\r\n")
        if self._on_head is not None:
            self._on_head(octets)
        return Head.parse(octets)

    def read_chunk(self) -> bytes:
        """Return the content of the next chunk; empty for the last one, before its trailers."""
        size = int(self.read_until(b"\r\n").split(b";")[0], 16)
        octets = self.read_exactly(size)
        if size and self.read_exactly(2) != b"\r\n":
            raise AssertionError("a chunk does not end where its size says")
        return octets

    def read_trailers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Return the trailers that follow the last chunk."""
        trailers = []
        while line := self.read_until(b"\r\n").removesuffix(b"\r\n"):
            name, _, value = line.partition(b":")
            trailers.append((name, value.strip(b" \t")))
        return tuple(trailers)

    def read_chunks(self) -> tuple[list[bytes], tuple[tuple[bytes, bytes], ...]]:
        """Return all chunks of a message, and its trailers."""
        chunks = []
        while octets := self.read_chunk():
            chunks.append(octets)
        return chunks, self.read_trailers()

    def read_to_end(self) -> bytes:
        """Return everything until the peer closes in order; Closed on RST."""
        octets = bytearray()
        while more := self.read_some():
            octets += more
        return bytes(octets)

    def read_body(self, head: Head) -> bytes:
        """Return the content of a request, with chunk framing taken off."""
        if head.chunked:
            body = b"".join(self.read_chunks()[0])
        else:
            body = self.read_exactly(int(head.value(b"content-length") or b"0"))
        if self._on_body is not None:
            self._on_body(body)
        return body

    def read_response(self, method: bytes = b"GET") -> Response:
        """Return a whole response, and the interim ones before it.

        Raises: Closed when it ends before its framing says so.
        Spec: RFC 9112 6.3.
        """
        interim: list[Head] = []
        while (head := self.read_head()).status < 200 and head.status != 101:
            interim.append(head)
        chunks: list[bytes] = []
        trailers: tuple[tuple[bytes, bytes], ...] = ()
        if method == b"HEAD" or head.status in (101, 204, 304):
            body = b""
        elif head.chunked:
            chunks, trailers = self.read_chunks()
            body = b"".join(chunks)
        elif (length := head.value(b"content-length")) is not None:
            body = self.read_exactly(int(length))
        else:
            body = self.read_to_end()
        return Response(head, body, tuple(chunks), trailers, tuple(interim))

    def quiet(self, seconds: float) -> bool:
        """Tell whether nothing at all (octets or close) comes for so long."""
        return not self._kept and not self.readable(seconds)

    def readable(self, seconds: float) -> bool:
        """Tell whether octets or a close are there within a time."""
        if self._kept or (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()):
            return True
        try:
            return bool(select.select([self.sock], [], [], seconds)[0])
        except (OSError, ValueError):
            return True

    def wait_closed(self, limit: float = PATIENCE) -> float:
        """Drop what comes until the peer closes; return the ``time.monotonic()`` of FIN or RST.

        Raises: TimeoutError when the peer stays.
        """
        end = time.monotonic() + limit
        self._kept.clear()
        while (left := end - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                if not self.sock.recv(READ_SIZE):
                    return time.monotonic()
            except TimeoutError:
                break
            except OSError:
                return time.monotonic()
        raise TimeoutError(f"the peer had not closed after {limit} s")

    def wait_hangup(self, limit: float = PATIENCE) -> float:
        """Read nothing, wait for the peer's end; return its ``time.monotonic()``.

        It is a RST, or a FIN where the kernel had room for all that came before it: that a busy
        peer has nothing more to write for a moment does not mean that it could not.
        Raises: TimeoutError when none comes.
        """
        poll = select.poll()
        poll.register(self.sock, getattr(select, "POLLRDHUP", 0))
        if not poll.poll(limit * 1000):
            raise TimeoutError(f"no end within {limit} s")
        return time.monotonic()

    # writing

    def send(self, octets: bytes) -> None:
        """Send all the octets; Closed when the peer has gone."""
        try:
            self.sock.sendall(octets)
        except TimeoutError:
            raise
        except OSError as error:
            raise Closed(b"", reset=True) from error

    def send_until_blocked(
        self, octets: bytes, most: int, pause: float = 0.5, *, to_proxy: bool = False
    ) -> int:
        """Send copies until nothing moves for ``pause`` seconds or ``most`` octets have gone.

        A reader that did not get to it for so long is no blocked one.  ``to_proxy``: the peer is a
        proxy, and nothing may move either while it answers others.
        Returns: how many octets went.
        """
        sent = 0
        view = memoryview(octets)
        at = 0
        try:
            while sent < most:
                self.sock.settimeout(pause)
                try:
                    done = self.sock.send(view[at:])
                except TimeoutError:
                    if to_proxy and self._moves():
                        continue
                    break
                sent += done
                at = (at + done) % len(octets)
        except OSError as error:
            raise Closed(b"", reset=True) from error
        finally:
            self.sock.settimeout(PATIENCE)
        return sent

    def _moves(self) -> bool:
        """Tell whether the kernel gets rid of octets while the peer, a proxy, answers others.

        With each answer its loop has turned, and every connection that it reads has had its turn.
        """
        before = self._unsent()
        for _ in range(5):
            with Wire(socket.socket(self.sock.family)) as other:
                other.sock.connect(self.sock.getpeername())
                other.send(b"GET / HTTP/1.1\r\n\r\n")  # it refuses this one by itself
                other.read_head()
        return self._unsent() != before

    def _unsent(self) -> int:
        octets = fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(octets, sys.byteorder)

    def finish(self) -> None:
        """Send FIN and keep reading."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close in order."""
        self.open = False
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def reset(self) -> None:
        """Close with RST."""
        self.open = False
        with suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class RawClient(Wire):
    """A client's end of a connection to the proxy."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(sock)


Script = Callable[[Wire], None]


def answer(response: bytes = OK) -> Script:
    """Return a script that reads one request and sends a fixed response; its head only to HEAD."""

    def script(wire: Wire) -> None:
        head = wire.read_head()
        wire.read_body(head)
        wire.send(response.partition(END)[0] + END if head.method == b"HEAD" else response)

    return script


def answer_and_close(response: bytes) -> Script:
    """Return a script that reads one request, sends fixed octets and closes."""

    def script(wire: Wire) -> None:
        wire.read_body(wire.read_head())
        wire.send(response)
        wire.close()

    return script


def place(address: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """Return family and place of an address, or of the path of a Unix socket."""
    if address.startswith("/"):
        return socket.AF_UNIX, address
    flags = socket.AI_NUMERICHOST
    family, _, _, _, where = socket.getaddrinfo(address, port, 0, socket.SOCK_STREAM, 0, flags)[0]
    return family, where


class ScriptedUpstream:
    """A server whose ``script`` runs, in a thread, whenever a connection has octets to read.

    A script that returns leaves the connection open for a next request, which the script of that
    moment serves; a script that is done with the connection closes it.  A script may be replaced
    at any time.  What a script asserts fails the test in ``check``.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
        port: int = 0,
        address: str = "127.0.0.1",
    ) -> None:
        """Listen.  Args: address may be the path of a Unix socket, or have a zone."""
        self.script: Script = script or answer()
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.failures: list[BaseException] = []
        self.handshake_failures: list[OSError] = []
        self._tls = tls
        self._wires: list[Wire] = []
        self._last_peer: object = None
        self._lock = threading.Lock()
        family, where = place(address, port)
        self._listener = socket.socket(family)
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(where)
        self._listener.listen(64)
        self.port: int = 0 if family == socket.AF_UNIX else self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The origin of this server."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Head]:
        """The heads that were read, parsed."""
        return [Head.parse(octets) for octets in list(self.heads)]

    @property
    def request(self) -> Head:
        """The only request; waits for it."""
        eventually(lambda: self.heads)
        (head,) = self.requests
        return head

    def forget(self) -> None:
        """Drop the records and take the first script again; connections stay.

        What an earlier test sent is let in first, so that it is not taken for a later test's.
        """
        self._settle()
        self.script = answer()
        self.heads.clear()
        self.bodies.clear()
        self.failures.clear()
        self.handshake_failures.clear()
        self.connections = 0

    def _settle(self) -> None:
        """Wait until nothing waits to be accepted, and no connection has octets to read."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as marker:
            name = marker.getsockname()
            eventually(lambda: self._last_peer == name)
        # A script of an earlier test may rightly wait for longer than this.
        eventually(self._at_rest, SETTLE_LIMIT)

    def _at_rest(self) -> bool:
        with self._lock:
            wires = list(self._wires)
        return not any(wire.open and (wire.busy or wire.readable(0)) for wire in wires)

    def drop_connections(self) -> None:
        """Close every connection that is open."""
        with self._lock:
            wires, self._wires = self._wires, []
        for wire in wires:
            wire.close()

    def shout(self, octets: bytes) -> None:
        """Send octets, unasked, on every connection that is open."""
        with self._lock:
            wires = [wire for wire in self._wires if wire.open]
        for wire in wires:
            wire.send(octets)

    def check(self) -> None:
        """Raise the first thing that a script asserted in vain."""
        if self.failures:
            raise self.failures[0]

    def close(self) -> None:
        """Stop listening and drop all connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self.close()
        if kind is None:
            self.check()

    def _accept(self) -> None:
        while True:
            try:
                sock, self._last_peer = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(PATIENCE)
        if self._tls is not None:
            try:
                sock = self._tls.wrap_socket(sock, server_side=True)
            except OSError as error:
                self.handshake_failures.append(error)
                sock.close()
                return
        wire = Wire(sock, self.heads.append, self.bodies.append)
        with self._lock:
            self._wires.append(wire)
        try:
            while wire.open and wire.readable(3600):
                wire.busy = True
                self.script(wire)
                wire.busy = False
        except Closed:
            pass  # the proxy may close whenever it likes; a test that minds looks itself
        except Exception as error:  # noqa: BLE001 - a thread's failure is raised by check()
            if wire.open:
                self.failures.append(error)
        finally:
            wire.close()


# -- the process ------------------------------------------------------------------------------


REACTOR = [f"--reactor={name}"] if (name := os.environ.get("PYPROXY_LIVE_REACTOR")) else []
"""With this variable every live test runs on another reactor than the default one."""


class Proxy:
    """A ``twistd -n pyproxy`` process with its log.

    ``arguments`` follow the plugin's name.  Without a file among them ``--port 0`` is added, unless
    there is a port or an endpoint, and no drain, unless there is one.  Leaving the context ends
    the process and fails on a traceback in its log.
    """

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        tracebacks: bool = False,
    ) -> None:
        self._arguments = arguments
        if not any(each.startswith(("--port", "--listen", "--config")) for each in arguments):
            self._arguments = ("--port", "0", *arguments)
        if not any(each.startswith(("--drain-timeout", "--config")) for each in arguments):
            self._arguments = ("--drain-timeout", "0", *self._arguments)
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            **(environment or {}),
        }
        self._tracebacks = tracebacks
        self._lines: list[str] = []
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._directory = ""
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def start(self) -> Self:
        """Start the process and wait until it listens."""
        self._directory = tempfile.mkdtemp(prefix="live-")
        twistd = Path(sys.executable).with_name("twistd")
        self._process = subprocess.Popen(
            [
                sys.executable,
                str(twistd),
                "-n",
                "--pidfile=",
                *REACTOR,
                "pyproxy",
                *self._arguments,
            ],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
        )
        threading.Thread(target=self._read_log, daemon=True).start()
        listening = self.wait_log(r"Listening on \S+", START_LIMIT)
        if listening is None:
            status = self.stop()
            raise AssertionError(f"twistd did not listen (status {status}):\n{self.log()}")
        if found := re.search(r"Listening on https?://[^\s/]+:(\d+)", self.log()):
            self.port = int(found[1])
        return self

    @property
    def pid(self) -> int:
        """The process's number."""
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    def log(self) -> str:
        """Return all that the process has printed so far."""
        return "".join(self._lines)

    def wait_log(self, pattern: str, limit: float = PATIENCE) -> str | None:
        """Return the first text in the log that matches, waiting for it; None at the limit."""
        end = time.monotonic() + limit
        while (found := re.search(pattern, self.log())) is None:
            if (left := end - time.monotonic()) <= 0 or self._process is None:
                return None
            with suppress(queue.Empty):
                self._news.get(timeout=min(left, 0.2))
            if self._process.poll() is not None and re.search(pattern, self.log()) is None:
                return None
        return found[0]

    def rss(self) -> int:
        """Return the resident memory in octets."""
        return self._memory("VmRSS")

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", status)
        if found is None:
            raise AssertionError(f"no {name}")
        return int(found[1]) * 1024

    def reset_peak(self) -> None:
        """Let ``peak_rss`` begin at the present memory."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak_rss(self) -> int:
        """Return the highest resident memory, in octets, since ``reset_peak``."""
        return self._memory("VmHWM")

    def open_sockets(self) -> int:
        """Count the sockets that the process holds."""
        count = 0
        for each in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(OSError):
                count += os.readlink(each).startswith("socket:")
        return count

    def client(self, *, receive_buffer: int | None = None) -> RawClient:
        """Connect a client."""
        return RawClient(self.port, receive_buffer=receive_buffer)

    def ask(self, octets: bytes, method: bytes = b"GET") -> Response:
        """Send octets on a new connection and return the one response."""
        with self.client() as client:
            client.send(octets)
            return client.read_response(method)

    def stop(self) -> int:
        """End the process by SIGTERM, by SIGKILL after a limit; return its status."""
        if self._process is None:
            raise RuntimeError("not started")
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        eventually(lambda: self._log_ended, 2)
        shutil.rmtree(self._directory, ignore_errors=True)
        return status

    def check_log(self, since: int = 0) -> None:
        """Fail when the log, from an offset on, has a traceback."""
        text = self.log()[since:]
        if not self._tracebacks and TROUBLE.search(text):
            raise AssertionError(f"the proxy logged a traceback:\n{text}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        status = self.stop()
        if kind is not None:
            return
        self.check_log()
        if status not in (0, -signal.SIGTERM):
            raise AssertionError(f"twistd ended with status {status}:\n{self.log()}")

    _log_ended = False

    def _read_log(self) -> None:
        if self._process is None or self._process.stdout is None:
            return
        with self._process.stdout as lines:
            for line in lines:
                self._lines.append(line)
                self._news.put(None)
        self._log_ended = True


# -- test cases -------------------------------------------------------------------------------


class _Shared:
    """The proxy and upstream that the tests of one class share; one pair lives at a time.

    ``setUpClass`` would be the place for this, but ``trial`` does not call it.
    """

    owner: type[LiveTestCase] | None = None
    proxy: Proxy
    upstream: ScriptedUpstream

    @classmethod
    def lend(cls, owner: type[LiveTestCase]) -> None:
        if cls.owner is owner:
            return
        cls.end()
        cls.upstream = ScriptedUpstream()
        target = cls.upstream.url + owner.base
        arguments = [each.format(port=cls.upstream.port) for each in owner.proxy_arguments]
        text = owner.configured(target)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "pyproxy.toml"
            path.write_text(text)
            place = ("--config", str(path)) if text else ("--target", target)
            cls.proxy = Proxy(*place, *arguments, environment=owner.environment)
            cls.proxy.start()
        cls.owner = owner

    @classmethod
    def end(cls) -> None:
        if cls.owner is None:
            return
        cls.owner = None
        cls.proxy.stop()
        cls.upstream.close()


atexit.register(_Shared.end)


class LiveTestCase(unittest.TestCase):
    """A case whose tests share one proxy in front of one scripted upstream."""

    proxy_arguments: ClassVar[tuple[str, ...]] = ()
    base: ClassVar[str] = ""
    environment: ClassVar[Mapping[str, str]] = {}
    tracebacks: ClassVar[bool] = False
    maxDiff = None

    @classmethod
    def configured(cls, target: str) -> str:
        """Return the text of a configuration file, if the proxy is to have one."""
        return ""

    def setUp(self) -> None:
        """Lend the shared pair, without what earlier tests left."""
        _Shared.lend(type(self))
        self.proxy = _Shared.proxy
        self.upstream = _Shared.upstream
        self.upstream.forget()
        self._log_start = len(self.proxy.log())
        self.addCleanup(self._check)

    def _check(self) -> None:
        self.upstream.check()
        self.proxy.check_log(self._log_start)

    def log(self) -> str:
        """Return what the proxy logged since this test began."""
        return self.proxy.log()[self._log_start :]

    def ask(
        self,
        start_line: bytes = b"GET / HTTP/1.1",
        *fields: bytes,
        body: bytes = b"",
        host: bytes | None = b"front.example",
    ) -> Response:
        """Send one request of these lines on a new connection and return the response."""
        return self.proxy.ask(
            request(start_line, *fields, body=body, host=host),
            start_line.split(b" ")[0],
        )


def request(
    start_line: bytes = b"GET / HTTP/1.1",
    *fields: bytes,
    body: bytes = b"",
    host: bytes | None = b"front.example",
) -> bytes:
    """Return the octets of a request; Host comes first, Content-Length is not added."""
    lines = [
        start_line,
        *([] if host is None else [b"Host: " + host]),
        *fields,
        b"",
        b"",
    ]
    return b"\r\n".join(lines) + body


@contextmanager
def upstream_and_proxy(
    script: Script | None = None,
    *arguments: str,
    base: str = "",
    tls: ssl.SSLContext | None = None,
    receive_buffer: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[ScriptedUpstream, Proxy]]:
    """Run a pair for one test that needs arguments or scripts of its own."""
    with (
        ScriptedUpstream(script, tls=tls, receive_buffer=receive_buffer) as upstream,
        Proxy("--target", upstream.url + base, *arguments, environment=environment) as proxy,
    ):
        yield upstream, proxy


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
