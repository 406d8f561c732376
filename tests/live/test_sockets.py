"""Abrupt ends of every kind leave no socket, no memory and no traceback behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import attrs

from tests.live.kit import (
    MIB,
    OK,
    Closed,
    LiveTestCase,
    RawClient,
    Script,
    Wire,
    answer,
    chunk,
    eventually,
    request,
)

ROUNDS = 18
"""Times that each kind of end happens; there are more than 300 ends in all."""

GROWTH = 4 * MIB
"""Memory that an allocator may keep; 300 leaked exchanges with their buffers take more."""

BEGUN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"data: 1\n\n")
UPLOAD = request(b"POST / HTTP/1.1", b"Content-Length: 200000") + bytes(70000)

LEAVE: tuple[tuple[str, Callable[[Wire], None]], ...] = (("FIN", Wire.close), ("RST", Wire.reset))


def wait(wire: Wire) -> None:
    """As an upstream: read a head, say nothing, stay until the proxy closes."""
    wire.read_head()
    wire.wait_closed()
    wire.close()


def begin(wire: Wire) -> None:
    """As an upstream: begin a response that does not end."""
    wire.read_head()
    wire.send(BEGUN)
    wire.wait_closed()
    wire.close()


@attrs.frozen
class End:
    """One kind of abrupt end.

    Attributes:
        sent: what the client sends.
        script: what the upstream does.
        sees: octets that the client waits for before it leaves; it reads to the end without any.
        reaches: the request reaches the upstream, and the client waits for that.
    """

    name: str
    sent: bytes
    script: Script = wait
    sees: bytes | None = b""
    reaches: bool = True


BY_CLIENT = (
    End("before the head", b"", reaches=False),
    End("in the head", request()[:-7], reaches=False),
    End("in the upload", UPLOAD),
    End("before the response", request()),
    End("in the response", request(), begin, b"data: 1\n\n"),
    End("in a pipeline", request() * 3, begin, b"data: 1\n\n"),
)


def by_upstream(leave: Callable[[Wire], None]) -> tuple[End, ...]:
    """Return the ends that an upstream brings about."""

    def at_once(wire: Wire) -> None:
        leave(wire)

    def in_upload(wire: Wire) -> None:
        wire.read_head()
        leave(wire)

    def in_head(wire: Wire) -> None:
        wire.read_head()
        wire.send(OK[:20])
        leave(wire)

    def in_response(wire: Wire) -> None:
        wire.read_head()
        wire.send(BEGUN)
        leave(wire)

    return (
        End("before the head was read", request(), at_once, None),
        End("in the upload", UPLOAD, in_upload, None),
        End("in the head", request(), in_head, None),
        End("in the response", request(), in_response, None),
    )


class AbruptEndTests(LiveTestCase):
    """A proxy that has seen 300 broken exchanges is as it was before."""

    proxy_arguments = (
        *("--first-byte-timeout", "0.4", "--idle-timeout", "0.4"),
        *("--upload-timeout", "0.4", "--client-timeout", "0.8", "--no-access-log"),
    )

    def rest(self) -> int:
        """Return how many sockets are open once nothing is under way; idle connections count."""
        self.upstream.drop_connections()
        counts = [-1, -2, -3]

        def steady() -> bool:
            time.sleep(0.1)
            counts.append(self.proxy.open_sockets())
            return len(set(counts[-4:])) == 1

        self.assertTrue(eventually(steady), f"the number of sockets does not settle: {counts}")
        return counts[-1]

    def run_ends(self, ends: tuple[End, ...], leave: Callable[[Wire], None], rounds: int) -> int:
        """Let every kind of end happen so often; return how many there were."""
        count = 0
        for end in ends:
            self.upstream.script = end.script
            for _ in range(rounds):
                seen = len(self.upstream.heads)
                self.end_once(end, leave, seen)
                count += 1
        return count

    def end_once(self, end: End, leave: Callable[[Wire], None], seen: int) -> None:
        """Run one exchange to its abrupt end."""
        client = RawClient(self.proxy.port)
        client.send(end.sent)
        if end.sees is None:
            # The client may be told by a 502, by a cut or by a reset: all are ends.
            with suppress(Closed):
                client.read_to_end() if end.name == "in the response" else client.read_head()
        elif end.sees:
            client.read_until(end.sees)
        elif end.reaches:
            self.assertTrue(eventually(lambda: len(self.upstream.heads) > seen), end.name)
        leave(client)

    def test_nothing_is_left(self) -> None:
        """After more than 300 abrupt ends: as many sockets, about as much memory, no traceback."""
        for _, leave in LEAVE:  # what the interpreter and the allocator keep for good
            self.run_ends(BY_CLIENT, leave, 2)
            self.run_ends(by_upstream(leave), Wire.close, 2)
        sockets, memory = self.rest(), self.proxy.rss()
        count = 0
        for _, leave in LEAVE:
            count += self.run_ends(BY_CLIENT, leave, ROUNDS)
            count += self.run_ends(by_upstream(leave), Wire.close, ROUNDS)
        self.assertGreater(count, 300)
        self.assertEqual(sockets, self.rest(), f"sockets after {count} ends")
        self.assertLess(self.proxy.rss() - memory, GROWTH)
        self.upstream.script = answer()
        self.assertEqual(200, self.ask().status)
        self.assertNotIn("Traceback", self.log())

    def test_limits_leave_nothing(self) -> None:
        """Exchanges that a time limit ends, all kinds at once, leave nothing either."""
        sockets = self.rest()

        def script(wire: Wire) -> None:
            (begin if wire.read_head().target == b"/begun" else wait_closed)(wire)

        def wait_closed(wire: Wire) -> None:
            wire.wait_closed()
            wire.close()

        def begin(wire: Wire) -> None:
            wire.send(BEGUN)
            wait_closed(wire)

        self.upstream.script = script
        kinds = (request()[:-7], UPLOAD, request(), request(b"GET /begun HTTP/1.1"))
        clients = []
        for octets in kinds * 10:
            client = RawClient(self.proxy.port)
            client.send(octets)
            clients.append(client)
        for client in clients:
            client.wait_closed()
            client.close()
        self.assertEqual(sockets, self.rest())
        self.assertNotIn("Traceback", self.log())
