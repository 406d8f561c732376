"""treq's response type without treq's conveniences."""

from __future__ import annotations

import gzip
from typing import Any

import treq
from treq.response import _Response

from pyproxy.policy.routing import Peer
from pyproxy.semantics.urls import Origin
from pyproxy.upstream.agent import Awaited
from pyproxy.upstream.client import ForwardingClient
from pyproxy.upstream.response import ForwardedResponse
from tests.memory import UPSTREAM_PORT, Stage, StageTestCase, response

ORIGIN = Origin("http", "127.0.0.1", UPSTREAM_PORT, b"127.0.0.1:9000")


class ForwardingClientTests(StageTestCase):
    """Responses are treq's; nothing is kept, decoded or followed."""

    def setUp(self) -> None:
        """Make a client over an agent."""
        self.scene: Stage = self.stage()
        self.client = ForwardingClient(self.scene.agent)

    def send(self, octets: bytes, *fields: tuple[bytes, bytes]) -> tuple[bytes, ForwardedResponse]:
        """Send a request and answer it; return what went out, and the response."""
        asking = Awaited(Peer(ORIGIN), b"GET", b"/", [(b"Host", b"h"), *fields], None)
        self.client.send(asking.request)
        self.scene.network.settle()
        asked = self.scene.answer(octets)
        answer: Any = self.successResultOf(asking.response)
        self.assertIsInstance(answer, ForwardedResponse)
        return asked, answer

    def test_is_a_treq_response(self) -> None:
        """Treq's own functions read it."""
        _, answer = self.send(
            response(b"Content-Type: application/json", b"Content-Length: 8", content=b'{"a": 1}')
        )
        self.assertIsInstance(answer, _Response)
        self.assertEqual(200, answer.code)
        self.assertEqual([b"8"], answer.headers.getRawHeaders(b"content-length"))
        self.assertEqual({"a": 1}, self.successResultOf(treq.json_content(answer)))

    def test_no_cookies_are_kept(self) -> None:
        """Trap, treq: one jar for all calls gives A's cookie to B (FIELD 10)."""
        _, answer = self.send(response(b"Set-Cookie: session=of-a; Path=/", b"Content-Length: 0"))
        self.successResultOf(treq.content(answer))
        self.assertEqual(0, len(list(answer.cookies())))
        asked, other = self.send(response(b"Content-Length: 0"))
        self.assertNotIn(b"ookie", asked)
        self.assertEqual(0, len(list(other.cookies())))

    def test_nothing_is_decoded(self) -> None:
        """Trap, treq: gzip is neither asked for nor taken off (FIELD 3)."""
        packed = gzip.compress(b"hello")
        asked, answer = self.send(
            response(b"Content-Encoding: gzip", b"Content-Length: %d" % len(packed), content=packed)
        )
        self.assertNotIn(b"ccept", asked)
        self.assertEqual(packed, self.successResultOf(treq.content(answer)))

    def test_redirects_are_not_followed(self) -> None:
        """Trap, treq: a redirect is the client's."""
        _, answer = self.send(
            response(b"Location: /b", b"Content-Length: 0", status_line=b"HTTP/1.1 302 Found")
        )
        self.assertEqual((302, []), (answer.code, answer.history()))
        self.assertEqual(1, len(self.scene.network.opened))

    def test_nothing_is_buffered(self) -> None:
        """Trap, treq: content reaches its receiver read by read."""
        _, answer = self.send(response(b"Content-Length: 6", content=b"abc"))
        seen: list[bytes] = []
        collected = treq.collect(answer, seen.append)
        self.assertEqual([b"abc"], seen)
        self.scene.upstream.deliver(b"def")
        self.assertEqual([b"abc", b"def"], seen)
        self.successResultOf(collected)

    def test_facts_of_the_wire(self) -> None:
        """Head, connection options and trailers are there as they came."""
        _, answer = self.send(
            response(
                b"x-Order: 1",
                b"Transfer-Encoding: chunked",
                b"Connection: X-Hop",
                content=b"0\r\nX-T: 1\r\n\r\n",
            )
        )
        self.successResultOf(treq.content(answer))
        self.assertEqual((b"x-Order", b"1"), answer.head.fields[0])
        self.assertEqual([b"x-hop"], answer.options)
        self.assertEqual([(b"X-T", b"1")], answer.trailers)
